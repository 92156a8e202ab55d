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
#include "error.h"
#include "own.h"

/* ---- processes ------------------------------------------------------------- */

/* kill(2) needs no descriptor, and no /proc. */
static bool no_such_process(pid_t pid)
{
	return kill(pid, 0) < 0 && errno == ESRCH;
}

/* What /proc/PID/stat says; the command may hold anything, the last ')' ends
 * it.  Then field 3, the state, 20, the number of threads, and 22. */
static int parse_stat(const char *text, uint64_t *start)
{
	const char *p = strrchr(text, ')');
	unsigned long long ticks = 0;
	long threads = 0;

	if (p == NULL || p[1] != ' ' ||
	    sscanf(p + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u "
	    "%*u %*d %*d %*d %*d %ld %*d %llu", &threads, &ticks) != 2 ||
	    ticks == 0) {
		errno = EBADMSG;
		return -1;
	}
	*start = ticks;
	/* A first thread that has ended may leave others running. */
	return (p[2] == 'Z' && threads <= 1) || p[2] == 'X' ? 0 : 1;
}

static int read_stat(const char *path, uint64_t *start)
{
	char text[1024];
	int fd = open(path, O_RDONLY | O_CLOEXEC), cause;
	ssize_t n;

	if (fd < 0)
		return -1;
	n = read(fd, text, sizeof(text) - 1);
	cause = n == 0 ? EBADMSG : errno;
	close(fd);
	if (n <= 0) {
		errno = cause;
		return -1;
	}
	text[n] = '\0';
	return parse_stat(text, start);
}

/* A /proc of another pid namespace (nsenter --pid alone, unshare --pid without
 * --mount-proc) shows other processes under the same numbers.  0, or an error
 * with errno. */
static int look_at_proc(void)
{
	char self[16] = "";

	if (readlink("/proc/self", self, sizeof(self) - 1) < 0)
		return error_sys("cannot look at /proc/self");
	if (atoi(self) == getpid())
		return 0;
	errno = EXDEV;
	return error_set(ZCP_E_SYS, "/proc is that of another pid namespace");
}

int process_look(pid_t pid, uint64_t *start)
{
	char path[32];
	int blind = look_at_proc(), rc, cause;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (blind == 0 && (rc = read_stat(path, start)) >= 0)
		return rc;
	cause = errno;
	/* It was not there, or is not any more; or /proc hides it. */
	if (no_such_process(pid))
		return 0;
	errno = cause;
	return blind < 0 ? blind : error_sys("cannot read %s", path);
}

int lock_holder(int fd, pid_t *holder)
{
	struct flock held = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	if (fcntl(fd, F_GETLK, &held) < 0)
		return error_sys("cannot ask for the lock on a file");
	*holder = held.l_type == F_UNLCK ? 0 : held.l_pid > 0 ? held.l_pid : -1;
	return 0;
}

int pid_namespace_here(uint64_t *inode)
{
	struct stat st;

	if (stat("/proc/self/ns/pid", &st) < 0)
		return error_sys("cannot look at /proc/self/ns/pid");
	*inode = st.st_ino;
	return 0;
}

/* ---- what can be seen of a participant's process ------------------------------- */

enum seen {
	SEEN_GONE,		/* no such process, or another one, or a zombie */
	SEEN_THERE,		/* it runs */
	SEEN_HIDDEN,		/* its pid means nothing in this namespace */
	SEEN_NOTHING,		/* could not look: there is a message */
};

static enum seen look_at_process(const struct participant *p)
{
	pid_t pid = (pid_t)p->pid;
	uint64_t start = 0, here = 0;
	int rc;

	/* 0: the daemon that registered it could not tell. */
	if (pid == 0 || p->pid_namespace == 0)
		return SEEN_HIDDEN;
	if (pid_namespace_here(&here) < 0)
		return SEEN_NOTHING;
	if (here != p->pid_namespace)
		return SEEN_HIDDEN;
	/* /proc was not to be read at its registration: any process of that
	 * number may be the one. */
	if (p->start_time == 0)
		return no_such_process(pid) ? SEEN_GONE : SEEN_THERE;
	if ((rc = process_look(pid, &start)) < 0)
		return SEEN_NOTHING;
	return rc == 1 && start == p->start_time ? SEEN_THERE : SEEN_GONE;
}

/* One line of /proc/PID/maps: "from-to perms offset major:minor inode path". */
static bool line_maps(const char *line, const struct stat *file)
{
	unsigned long long inode;
	unsigned major, minor;

	return sscanf(line, "%*s %*s %*s %x:%x %llu", &major, &minor,
	    &inode) == 3 && inode == file->st_ino &&
	    makedev(major, minor) == file->st_dev;
}

/* 1: the file is mapped in there; 0: it is not; < 0: could not look. */
static int find_in_maps(const char *path, const struct stat *file)
{
	char *line = NULL;
	size_t room = 0;
	unsigned lines = 0;
	int found = 0, cause;
	FILE *maps = fopen(path, "re");

	if (maps == NULL)
		return error_sys("cannot read %s", path);
	errno = 0;
	while (!found && getline(&line, &room, maps) >= 0) {
		found = line_maps(line, file);
		lines++;
	}
	cause = errno;
	/* Nothing at all: its first thread has ended, and others run on. */
	if (!found && (!feof(maps) || ferror(maps) || lines == 0)) {
		errno = cause ? cause : ENODATA;
		found = error_sys("cannot read %s", path);
	}
	free(line);
	fclose(maps);
	return found;
}

/*
 * A process that executes another program (or the same one again) keeps its
 * pid and its start time, and loses its mappings; one that closes all its
 * descriptors keeps them.  1, 0, or < 0: could not look.
 */
static int process_maps(const struct domain *d, pid_t pid,
    const struct stat *file)
{
	struct stat ours = { .st_dev = d->mgmt.dev, .st_ino = d->mgmt.ino };
	char path[32];
	int rc;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	if ((rc = look_at_proc()) < 0 ||
	    (rc = find_in_maps(path, file)) != 0)
		return rc;
	/* Where the lists of mappings name files otherwise than stat(2) does,
	 * ours does not show what we map either. */
	rc = find_in_maps("/proc/self/maps", &ours);
	return rc == 1 ? 0 : rc < 0 ? rc : error_set(ZCP_E_SYS,
	    "/proc/self/maps does not show the files that are mapped");
}

/* ---- hearts ---------------------------------------------------------------------- */

struct pulse {
	uint64_t incarnation, beat;
	uint64_t since, looked;		/* when, by our clock */
	uint64_t silence;		/* that was watched, ns */
};

static struct heart look_at_pulse(struct pulse *p, uint64_t incarnation,
    uint64_t beat, uint64_t period)
{
	uint64_t now = clock_ns(), since = now - p->looked;
	struct heart heart = { .known = p->incarnation == incarnation };

	if (heart.known && p->beat == beat) {
		p->silence += since < period ? since : period;
		p->looked = now;
		heart.silence = p->silence;
		heart.age = now - p->since;
		return heart;
	}
	*p = (struct pulse){ incarnation, beat, now, now, 0 };
	heart.beats = heart.known;
	return heart;
}

int heart_look(struct domain *d, uint32_t slot, uint64_t incarnation,
    uint64_t beat, struct heart *heart)
{
	int rc = 0;

	pthread_mutex_lock(&d->lock);
	if (d->pulse == NULL)
		d->pulse = calloc(d->max_participants, sizeof(*d->pulse));
	if (d->pulse == NULL)
		rc = error_set(ZCP_E_SYS, "out of memory");
	else
		*heart = look_at_pulse(&d->pulse[slot], incarnation, beat,
		    d->heartbeat);
	pthread_mutex_unlock(&d->lock);
	return rc;
}

/* ---- its file ---------------------------------------------------------------------- */

/* What it says of itself. */
struct news {
	uint64_t beat, sweeping, left;
};
_Static_assert(offsetof(struct member, left) - offsetof(struct member, beat) ==
    offsetof(struct news, left), "as they lie in the file");

/* Zeros where the file is shorter than that: it says nothing. */
static int news_of(int fd, const char *path, struct news *news)
{
	ssize_t n = pread(fd, news, sizeof(*news),
	    offsetof(struct member, beat));

	if (n < 0)
		return error_sys("cannot read %s", path);
	if (n < (ssize_t)sizeof(*news))
		*news = (struct news){ 0 };
	return 0;
}

/* What is known of one participant before its file is looked at. */
struct suspicion {
	struct domain *d;
	const struct participant *p;
	uint32_t slot;
	uint64_t incarnation;
	enum seen seen;
};

/* The lock is free, and nobody can say that its process is gone: the heart,
 * and who maps the file. */
static enum fate judge_heart(const struct suspicion *s, uint64_t beat,
    const struct stat *file)
{
	uint64_t period = s->d->heartbeat;
	struct heart heart;
	int rc;

	if (heart_look(s->d, s->slot, s->incarnation, beat, &heart) < 0)
		return FATE_UNSEEN;
	if (heart.beats)
		return FATE_ALIVE;
	if (s->seen == SEEN_NOTHING)
		return FATE_UNSEEN;
	/* It has registered, and has never had its file open: who takes long
	 * to do so has not lost it. */
	if (beat == 0 && s->seen == SEEN_THERE)
		return FATE_OPEN;
	if (heart.silence < LATE_PERIODS * period)
		return FATE_OPEN;
	if (s->seen == SEEN_HIDDEN)
		return heart.silence < SILENT_PERIODS * period ? FATE_OPEN :
		    FATE_DIED;
	rc = process_maps(s->d, (pid_t)s->p->pid, file);
	return rc < 0 ? FATE_UNSEEN : rc > 0 ? FATE_ALIVE : FATE_DIED;
}

/* What its file says. */
struct witness {
	struct news news;
	struct stat file;
	pid_t holder;			/* of its lock */
};

static int look_at_file(const char *path, struct witness *w)
{
	struct look_at look;
	int rc;

	if (look_begin(&look, path, O_RDONLY) < 0)
		return error_sys("cannot open %s", path);
	if ((rc = news_of(look.fd, path, &w->news)) == 0 &&
	    (rc = lock_holder(look.fd, &w->holder)) < 0)
		error_in(rc, "%s", path);
	if (rc == 0 && fstat(look.fd, &w->file) < 0)
		rc = error_sys("cannot stat %s", path);
	look_end(&look);
	return rc;
}

/* In another mount namespace the same name leads to another domain's member. */
static enum fate not_here(const struct domain *d)
{
	error_set(ZCP_E_SYS, "%s is not the directory of the domain that is "
	    "mapped", d->dir);
	return FATE_UNSEEN;
}

/* Its words, its lock, and who maps it. */
static enum fate judge(const struct suspicion *s)
{
	char path[SEGMENT_PATH];
	struct witness w;

	member_path(s->d, s->slot, path);
	errno = 0;
	if (look_at_file(path, &w) < 0)
		/* Nobody can have a lock on a file that is not there. */
		return s->seen == SEEN_GONE && errno == ENOENT &&
		    domain_here(s->d) ? FATE_DIED : FATE_UNSEEN;
	if (!domain_here(s->d))
		return not_here(s->d);
	if (w.news.left != 0)
		return FATE_LEFT;
	if (w.holder != 0)
		return FATE_ALIVE;
	return s->seen == SEEN_GONE ? FATE_DIED :
	    judge_heart(s, w.news.beat, &w.file);
}

/* ---- the verdict ------------------------------------------------------------------- */

const char *participant_who(const struct domain *d, uint32_t slot,
    char text[WHO_SIZE])
{
	const struct participant *p = &d->participants[slot];

	snprintf(text, WHO_SIZE, "%.*s (pid %u, participant %u)",
	    NAME_SIZE - 1, p->name, p->pid, slot);
	return text;
}

static enum fate fate_of(struct domain *d, uint32_t slot, bool exited)
{
	const struct participant *p = &d->participants[slot];
	struct suspicion s = { d, p, slot, p->incarnation, SEEN_GONE };
	char who[WHO_SIZE];
	enum fate fate;

	if (fact_load32(&p->state) != PARTICIPANT_LIVE)
		return fact_load32(&p->flags) & PARTICIPANT_DIED ?
		    FATE_DIED : FATE_LEFT;
	if (own_file(d, slot))
		return FATE_ALIVE;
	/* Before its lock: the process that is gone then had let go of it. */
	if (!exited)
		s.seen = look_at_process(p);
	fate = judge(&s);
	/* Its place may have been given to another one meanwhile. */
	if (fact_load32(&p->state) != PARTICIPANT_LIVE ||
	    p->incarnation != s.incarnation)
		return FATE_OPEN;
	if (fate == FATE_UNSEEN)
		error_in(0, "cannot tell whether %s lives",
		    participant_who(d, slot, who));
	return fate;
}

enum fate participant_fate(struct domain *d, uint32_t slot)
{
	return fate_of(d, slot, false);
}

enum fate participant_fate_exited(struct domain *d, uint32_t slot)
{
	return fate_of(d, slot, true);
}

/* ---- watching ------------------------------------------------------------------------ */

/* However seldom hearts beat; and what a damaged period may say. */
#define WATCH_MOST (10 * NS_PER_S)
enum { LOOKS_PER_PERIOD = 4 };

/* One more look at those of whom nothing is known; true if such are left. */
static bool watch_on(struct domain *d, bool *known)
{
	bool open = false;

	for (uint32_t i = 0; i < d->max_participants; i++)
		if (!known[i]) {
			known[i] = fact_load32(&d->participants[i].state) !=
			    PARTICIPANT_LIVE ||
			    participant_fate(d, i) != FATE_OPEN;
			open |= !known[i];
		}
	return open;
}

void watch_hearts(struct domain *d)
{
	bool *known = calloc(d->max_participants, sizeof(*known));
	uint64_t period = d->heartbeat, deadline, pause;

	if (period > WATCH_MOST)
		period = WATCH_MOST;
	deadline = clock_ns() + (SILENT_PERIODS + LATE_PERIODS) * period;
	pause = period / LOOKS_PER_PERIOD;
	/* No memory: they count as alive. */
	while (known != NULL && watch_on(d, known) && clock_ns() < deadline)
		usleep((useconds_t)(pause / 1000 + 1));
	free(known);
}
