#include "liveness.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "atomics.h"
#include "clock.h"

uint64_t process_start_time(pid_t pid)
{
	char path[32], text[1024], *p;
	unsigned long long start = 0;
	long threads = 0;
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
	 * the state, 20, the number of threads, and 22, the start time. */
	if ((p = strrchr(text, ')')) == NULL || p[1] != ' ' ||
	    sscanf(p + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u "
	    "%*u %*d %*d %*d %*d %ld %*d %llu", &threads, &start) != 2)
		return 0;
	/* A first thread that has ended may leave others running. */
	return (p[2] == 'Z' && threads <= 1) || p[2] == 'X' ? 0 : start;
}

pid_t lock_holder(int fd)
{
	struct flock held = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	if (fcntl(fd, F_GETLK, &held) < 0 || held.l_type == F_UNLCK)
		return 0;
	return held.l_pid > 0 ? held.l_pid : -1;
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

/* What it says of itself. */
struct news {
	uint64_t beat, sweeping, left;
};
_Static_assert(offsetof(struct member, left) - offsetof(struct member, beat) ==
    offsetof(struct news, left), "as they lie in the file");

static struct news news_of(int fd)
{
	struct news news;

	if (pread(fd, &news, sizeof(news), offsetof(struct member, beat)) !=
	    (ssize_t)sizeof(news))
		return (struct news){ 0 };
	return news;
}

/* What can be said of the process that a participant was. */
enum seen {
	SEEN_GONE,		/* no such process, or another one, or a zombie */
	SEEN_UNMAPPED,		/* it runs, and has its own file no more */
	SEEN_MAPPED,		/* it runs, and has */
	SEEN_NOTHING,		/* it is not ours to see */
};

/* One line of /proc/PID/maps: "from-to perms offset major:minor inode path". */
static bool line_maps(const char *line, const struct stat *file)
{
	unsigned long long inode;
	unsigned major, minor;

	return sscanf(line, "%*s %*s %*s %x:%x %llu", &major, &minor,
	    &inode) == 3 && inode == file->st_ino &&
	    makedev(major, minor) == file->st_dev;
}

/*
 * A process that executes another program (or the same one again) keeps its
 * pid and its start time, and loses its mappings; one that closes all its
 * descriptors keeps them.
 */
static enum seen look_at_maps(pid_t pid, const struct stat *file)
{
	enum seen seen = SEEN_UNMAPPED;
	char path[32], *line = NULL;
	size_t room = 0;
	FILE *maps;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	if ((maps = fopen(path, "re")) == NULL)
		return SEEN_NOTHING;
	while (seen == SEEN_UNMAPPED && getline(&line, &room, maps) >= 0)
		if (line_maps(line, file))
			seen = SEEN_MAPPED;
	if (ferror(maps))
		seen = SEEN_NOTHING;
	free(line);
	fclose(maps);
	return seen;
}

static enum seen look_at_process(const struct participant *p)
{
	pid_t pid = (pid_t)p->pid;
	uint64_t start;

	if (pid == 0 || p->pid_namespace != pid_namespace_here())
		return SEEN_NOTHING;
	start = process_start_time(pid);
	if (start == 0 && kill(pid, 0) < 0 && errno == ESRCH)
		return SEEN_GONE;
	/* 0 at its registration: /proc was not to be read then. */
	if (start == p->start_time)
		return start == 0 ? SEEN_NOTHING : SEEN_MAPPED;
	return p->start_time == 0 ? SEEN_NOTHING : SEEN_GONE;
}

/* What its file says: its lock, its words, and who maps it. */
static enum fate judge(const struct domain *d, const struct participant *p,
    int fd, enum seen seen)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	struct news news = news_of(fd);
	uint64_t last, silence;
	struct stat file;

	if (news.left != 0)
		return FATE_LEFT;
	if (fcntl(fd, F_GETLK, &lock) < 0 || lock.l_type != F_UNLCK ||
	    fstat(fd, &file) < 0)
		return FATE_ALIVE;
	if (seen == SEEN_GONE)
		return FATE_DIED;
	last = news.beat > p->registered ? news.beat : p->registered;
	silence = clock_ns() - last;
	/* It may have registered just now, and not opened its file yet. */
	if ((int64_t)silence < (int64_t)(LATE_PERIODS * d->m->heartbeat))
		return FATE_ALIVE;
	if (seen == SEEN_MAPPED)
		seen = look_at_maps((pid_t)p->pid, &file);
	return seen == SEEN_UNMAPPED || (seen == SEEN_NOTHING &&
	    silence > SILENT_PERIODS * d->m->heartbeat) ? FATE_DIED :
	    FATE_ALIVE;
}

enum fate participant_fate(const struct domain *d, uint32_t slot)
{
	const struct participant *p = &d->participants[slot];
	uint64_t incarnation = p->incarnation;
	enum seen seen;
	enum fate fate;
	int fd;

	if (fact_load32(&p->state) != PARTICIPANT_LIVE)
		return fact_load32(&p->flags) & PARTICIPANT_DIED ?
		    FATE_DIED : FATE_LEFT;
	/* Never open our own file: closing it would drop our lock. */
	if (own_file(d, slot))
		return FATE_ALIVE;
	/* Before its lock: the process that is gone then had let go of it. */
	seen = look_at_process(p);
	if ((fd = open_member(d, slot)) < 0) {
		fate = seen == SEEN_GONE ? FATE_DIED : FATE_ALIVE;
	} else {
		fate = judge(d, p, fd, seen);
		close(fd);
	}
	/* Its place may have been given to another one meanwhile. */
	return fact_load32(&p->state) == PARTICIPANT_LIVE &&
	    p->incarnation == incarnation ? fate : FATE_ALIVE;
}
