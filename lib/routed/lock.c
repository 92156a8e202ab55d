/*
 * lock.c - the claim on a domain: who has its lock serves it, or removes it.
 *
 * The lock lies in the domain's directory and goes with it: whoever gets it
 * looks whether it is still the one that its name leads to.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "control.h"
#include "error.h"
#include "liveness.h"
#include "own.h"
#include "pidfd.h"
#include "routed.h"

/* How long one on its way out, or zcp-gc, may keep it. */
#define LOCK_PATIENCE ((int64_t)NS_PER_S)

static int open_lock(int dir)
{
	int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW;
	int fd = openat(dir, "lock", flags | O_CREAT, 0600);

	/* Its maker's umask, before its mode was given to it. */
	if (fd < 0 && errno == EACCES && fchmodat(dir, "lock", 0600, 0) == 0)
		fd = openat(dir, "lock", flags);
	if (fd >= 0)
		(void)!fchmod(fd, 0600);
	return fd;
}

/* 0: opened; 1: the directory has just gone. */
static int claim_open(struct claim *c)
{
	c->dir = open(c->site.dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW |
	    O_CLOEXEC);
	if (c->dir >= 0)
		c->lock = open_lock(c->dir);
	if (c->dir >= 0 && c->lock >= 0)
		return 0;
	return errno == ENOENT ? 1 : error_sys("cannot open %s/lock",
	    c->site.dir);
}

void claim_drop(struct claim *c)
{
	if (c->lock >= 0)
		close(c->lock);
	if (c->dir >= 0)
		close(c->dir);
	c->lock = c->dir = -1;
}

bool claim_holds(const struct claim *c)
{
	struct stat ours, named;
	char path[SEGMENT_PATH];

	segment_path(path, c->site.dir, "lock");
	return c->lock >= 0 && fstat(c->lock, &ours) == 0 &&
	    lstat(path, &named) == 0 && ours.st_dev == named.st_dev &&
	    ours.st_ino == named.st_ino;
}

/* CLAIM_OURS, CLAIM_TAKEN (opened, for lock_holder()) or CLAIM_NONE (it has
 * gone, try again). */
static int claim_now(struct claim *c)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int rc;

	claim_drop(c);
	if ((rc = claim_open(c)) != 0)
		return rc < 0 ? rc : CLAIM_NONE;
	if (fcntl(c->lock, F_SETLK, &lock) == 0)
		return claim_holds(c) ? CLAIM_OURS : CLAIM_NONE;
	if (errno == EINTR)
		return CLAIM_NONE;
	/* Linux says nothing else of a lock that another process has. */
	return errno == EAGAIN ? CLAIM_TAKEN :
	    error_sys("cannot lock %s/lock", c->site.dir);
}

int claim_try(struct claim *c)
{
	int rc = CLAIM_NONE;

	for (int try = 0; try < 100 && rc == CLAIM_NONE; try++) {
		if (access(c->site.dir, F_OK) < 0)
			return errno == ENOENT ? CLAIM_NONE :
			    error_sys("cannot look at %s", c->site.dir);
		rc = claim_now(c);
	}
	return rc;
}

int claim_make(struct claim *c)
{
	char domain[DOMAIN_NAME + 1];
	int rc = CLAIM_NONE;

	snprintf(domain, sizeof(domain), "%s", c->site.domain);
	for (int try = 0; try < 100 && rc == CLAIM_NONE; try++) {
		if ((rc = site_make(&c->site, domain)) < 0)
			return rc;
		rc = claim_now(c);
	}
	return rc != CLAIM_NONE ? rc : error_set(ZCP_E_BUSY, "cannot lock %s: "
	    "others make and remove it", c->site.dir);
}

int file_locked(const char *path)
{
	struct look_at look;
	pid_t holder;
	int rc;

	if (look_begin(&look, path, O_RDONLY) < 0)
		return errno == ENOENT ? 0 : error_sys("cannot open %s", path);
	rc = lock_holder(look.fd, &holder);
	look_end(&look);
	return rc < 0 ? error_in(rc, "%s", path) : holder != 0;
}

int routed_pid(const char *domain, pid_t *pid)
{
	struct site site;
	char path[SEGMENT_PATH];
	int rc = control_site(&site, domain), fd;

	*pid = 0;
	if (rc <= 0)
		return rc;
	segment_path(path, site.dir, "lock");
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return errno == ENOENT ? 0 : error_sys("cannot open %s", path);
	rc = lock_holder(fd, pid);
	close(fd);
	return rc;
}

/* It may have ended meanwhile, and its number be another's: the lock is looked at
 * again behind the descriptor. */
static int end_process(const char *domain, pid_t pid)
{
	int fd = pidfd_of_process(pid), rc;
	pid_t now = 0;

	/* A kernel, or what stands for one, that has no such descriptors. */
	if (fd < 0)
		return errno == ESRCH || (errno == ENOSYS &&
		    kill(pid, SIGTERM) == 0) ? 0 : -1;
	rc = routed_pid(domain, &now) < 0 || (now == pid &&
	    pidfd_kill(fd, SIGTERM) < 0 && errno != ESRCH) ? -1 : 0;
	close(fd);
	return rc;
}

int routed_end(const char *domain, pid_t *pid)
{
	int rc = routed_pid(domain, pid);

	if (rc < 0 || *pid <= 0)
		return rc;
	return end_process(domain, *pid) == 0 ? 0 : error_sys("cannot stop the "
	    "route daemon of domain %s (pid %d)", domain, (int)*pid);
}

/* Who has the lock, for a message. */
static const char *holder_of(int fd, char text[32])
{
	pid_t pid;

	if (lock_holder(fd, &pid) < 0 || pid == 0)
		return "its pid could not be seen";
	if (pid < 0)
		return "in another pid namespace";
	snprintf(text, 32, "pid %d", (int)pid);
	return text;
}

static bool another_serves(const char *domain)
{
	struct asking how = { 0 };
	char reply[256];

	return control_ask(domain, "PING", reply, sizeof(reply),
	    deadline_after(10 * NS_PER_MS), &how) > 0 || how.answered;
}

int lock_take(struct routed *r)
{
	uint64_t deadline = deadline_after(LOCK_PATIENCE);
	const char *domain = r->settings.domain;
	char holder[32];
	int rc;

	r->claim = (struct claim)CLAIM_INIT;
	snprintf(r->claim.site.domain, sizeof(r->claim.site.domain), "%s",
	    domain);
	while ((rc = claim_make(&r->claim)) != CLAIM_OURS) {
		if (rc < 0)
			return rc;
		if (r->settings.private && another_serves(domain))
			return 1;
		if (clock_ns() >= deadline)
			return error_set(ZCP_E_BUSY, "domain %s has a daemon "
			    "already (%s); zcp-routed --stop -d %s ends it",
			    domain, holder_of(r->claim.lock, holder), domain);
		usleep(10000);
	}
	return 0;
}
