#include "liveness.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "atomics.h"
#include "clock.h"

uint64_t process_start_time(pid_t pid)
{
	char path[32], text[1024], *p;
	unsigned long long start = 0;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	/* The command may hold anything; the last ')' ends it.  Then field 3,
	 * the state, and 19 fields later the start time. */
	if ((p = strrchr(text, ')')) == NULL || p[1] != ' ' || p[2] == 'Z' ||
	    p[2] == 'X')
		return 0;
	if (sscanf(p + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u "
	    "%*u %*d %*d %*d %*d %*d %*d %llu", &start) != 1)
		return 0;
	return start;
}

uint64_t pid_namespace_here(void)
{
	struct stat st;

	return stat("/proc/self/ns/pid", &st) < 0 ? 0 : st.st_ino;
}

static int open_member(const struct domain *d, uint32_t slot)
{
	char path[SEGMENT_PATH];

	member_path(d, slot, path);
	return open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
}

static uint64_t beat_of(int fd)
{
	uint64_t beat = 0;

	if (pread(fd, &beat, sizeof(beat), offsetof(struct member, beat)) !=
	    (ssize_t)sizeof(beat))
		return 0;
	return beat;
}

static bool process_gone(const struct participant *p)
{
	return p->pid != 0 && p->pid_namespace == pid_namespace_here() &&
	    process_start_time((pid_t)p->pid) != p->start_time;
}

bool participant_dead(const struct domain *d, uint32_t slot)
{
	const struct participant *p = &d->participants[slot];
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	bool locked, silent;
	uint64_t last;
	int fd;

	if (fact_load32(&p->state) != PARTICIPANT_LIVE)
		return true;
	/* Never open our own file: closing it would drop our lock. */
	if (own_file(d, slot))
		return false;
	if ((fd = open_member(d, slot)) < 0)
		return process_gone(p);
	locked = fcntl(fd, F_GETLK, &lock) < 0 || lock.l_type != F_UNLCK;
	last = beat_of(fd);
	close(fd);
	if (last < p->registered)
		last = p->registered;
	silent = clock_ns() > last + SILENT_PERIODS * d->m->heartbeat;
	return !locked && (process_gone(p) || silent);
}
