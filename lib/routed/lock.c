/*
 * lock.c - one daemon a domain: the lock in the runtime directory, and the
 * one on the segments themselves.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "clock.h"
#include "control.h"
#include "error.h"
#include "liveness.h"
#include "routed.h"

/* How long one on its way out, or zcp-gc, may keep it. */
#define LOCK_PATIENCE ((int64_t)NS_PER_S)

static int lock_open(const char *domain, int make)
{
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	int rc = control_path(path, domain, "lock", make), fd;

	if (rc < 0)
		return rc;
	fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW |
	    (make ? O_CREAT : 0), 0600);
	return fd < 0 ? error_sys("cannot open %s", path) : fd;
}

static int lock_now(int fd)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	return fcntl(fd, F_SETLK, &lock);
}

int routed_pid(const char *domain, pid_t *pid)
{
	int fd = lock_open(domain, 0), rc;

	*pid = 0;
	if (fd < 0)
		return errno == ENOENT ? 0 : fd;
	rc = lock_holder(fd, pid);
	close(fd);
	return rc;
}

/* For messages; 0: unknown. */
static int holder_of(int fd)
{
	pid_t pid;

	return lock_holder(fd, &pid) < 0 ? 0 : (int)pid;
}

static bool another_serves(const char *domain)
{
	struct asking how = { 0 };
	char reply[256];

	return control_ask(domain, "PING", reply, sizeof(reply),
	    deadline_after(10 * NS_PER_MS), &how) > 0 || how.answered;
}

static bool lock_is_taken(void)
{
	return errno == EAGAIN || errno == EACCES || errno == EINTR;
}

int lock_try(struct routed *r)
{
	if ((r->lock = lock_open(r->settings.domain, 1)) < 0)
		return r->lock;
	if (lock_now(r->lock) == 0)
		return 0;
	return lock_is_taken() ? 1 : error_sys("cannot lock domain %s",
	    r->settings.domain);
}

int lock_take(struct routed *r)
{
	uint64_t deadline = deadline_after(LOCK_PATIENCE);

	if ((r->lock = lock_open(r->settings.domain, 1)) < 0)
		return r->lock;
	while (lock_now(r->lock) < 0) {
		if (!lock_is_taken())
			return error_sys("cannot lock domain %s",
			    r->settings.domain);
		if (r->settings.private && another_serves(r->settings.domain))
			return 1;
		if (clock_ns() >= deadline)
			return error_set(ZCP_E_BUSY, "domain %s has a daemon "
			    "already (pid %d); zcp-routed --stop -d %s ends it",
			    r->settings.domain, holder_of(r->lock),
			    r->settings.domain);
		usleep(10000);
	}
	return 0;
}

int lock_segments(struct routed *r, bool wait)
{
	uint64_t deadline = deadline_after(wait ? LOCK_PATIENCE : 0);

	while (lock_now(r->d.mgmt.fd) < 0) {
		if (!lock_is_taken())
			return error_sys("cannot lock the segments of domain "
			    "%s", r->settings.domain);
		if (clock_ns() >= deadline)
			return error_set(ZCP_E_REFUSED, "the segments of domain "
			    "%s are in use by a daemon with another runtime "
			    "directory (pid %d): choose another domain (-d), "
			    "or end that daemon", r->settings.domain,
			    holder_of(r->d.mgmt.fd));
		usleep(10000);
	}
	return 0;
}
