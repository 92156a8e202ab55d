#include "control.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "error.h"
#include "site.h"
#include "starter.h"
#include "topic.h"

#define SYSTEM_DIR "/run/zcp"
enum { ERROR_TEXT = 1024, ATTEMPT_MS = 500, RETRY_MS = 20, PAUSE_MS = 20 };
_Static_assert(SOCKET_PATH == sizeof(((struct sockaddr_un *)0)->sun_path),
    "paths are sockets' paths");

uint64_t control_nonce(void)
{
	uint64_t nonce = 0;

	while (nonce == 0)
		if (getrandom(&nonce, sizeof(nonce), 0) !=
		    (ssize_t)sizeof(nonce))
			nonce = clock_ns() ^ (uint64_t)getpid() << 40;
	return nonce;
}

/* ---- one attempt --------------------------------------------------------------- */

/* The way to a daemon. */
struct way {
	int fd;
	uid_t owner;			/* of its socket: who may answer */
	const char *runtime;		/* as in struct asking */
};

/*
 * Whose socket is it?  1: of one who may serve us; 0: there is none.  A name in
 * a directory where others may make some could be anybody's.
 */
static int socket_owner(const char *path, uid_t *owner)
{
	char parent[SOCKET_PATH];
	struct stat st, dir;

	if (lstat(path, &st) < 0)
		return errno == ENOENT || errno == ENOTDIR ? 0 :
		    error_sys("cannot look for the route daemon at %s", path);
	*owner = st.st_uid;
	if (st.st_uid == geteuid() || st.st_uid == 0)
		return 1;
	snprintf(parent, sizeof(parent), "%.*s",
	    (int)(strrchr(path, '/') - path), path);
	if (stat(parent, &dir) == 0 && dir.st_uid == st.st_uid)
		return 1;
	return error_set(ZCP_E_PERM, "%s belongs to uid %u, neither to this "
	    "user, nor to root, nor to the owner of its directory: refused "
	    "(choose another $ZCP_RUNTIME_DIR)", path, (unsigned)st.st_uid);
}

/*
 * A socket of its own for each attempt: a late reply to an earlier one cannot
 * be taken for the answer to this.  It is connected before it has a name, which
 * all can read in /proc/net/unix: the kernel lets nobody but the daemon's socket
 * send to it, at no moment.  0, or -1 with errno.
 */
static int connect_to(const char *path, struct way *way)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX },
	    self = { .sun_family = AF_UNIX };
	int on = 1, cause;

	way->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (way->fd < 0)
		return -1;
	snprintf(to.sun_path, sizeof(to.sun_path), "%s", path);
	/* SO_PASSCRED would have connect(2) give it a name first. */
	if (connect(way->fd, (struct sockaddr *)&to, sizeof(to)) == 0 &&
	    setsockopt(way->fd, SOL_SOCKET, SO_PASSCRED, &on,
	    sizeof(on)) == 0 &&
	    bind(way->fd, (struct sockaddr *)&self, sizeof(sa_family_t)) == 0)
		return 0;
	cause = errno;
	close(way->fd);
	way->fd = -1;
	errno = cause;
	return -1;
}

/* 0: sent; 1: not (errno); or an error. */
static int send_at(const char *path, const char *request, struct way *way)
{
	int rc = socket_owner(path, &way->owner);

	if (rc == 0)
		errno = ENOENT;
	if (rc <= 0)
		return rc < 0 ? rc : 1;
	if (connect_to(path, way) == 0 &&
	    send(way->fd, request, strlen(request), MSG_NOSIGNAL) >= 0)
		return 0;
	/* A daemon that starts or restarts, or whose queue is full. */
	return errno == ENOENT || errno == ECONNREFUSED || errno == EAGAIN ||
	    errno == ENOTDIR ? 1 : error_sys("cannot send to the route daemon "
	    "at %s", path);
}

static void system_path(char path[SOCKET_PATH], const char *domain,
    const char *suffix)
{
	snprintf(path, SOCKET_PATH, SYSTEM_DIR "/%.*s.%s", DOMAIN_NAME, domain,
	    suffix);
}

/* The system's daemons serve those who have no such domain of their own. */
static bool system_may_serve(const struct site *here)
{
	return here->runtime[0] == '\0' &&
	    (here->dir[0] == '\0' || access(here->dir, F_OK) < 0);
}

int control_site(struct site *s, const char *domain)
{
	char path[SOCKET_PATH];
	struct site here;
	uid_t owner;
	int rc = site_here(&here, domain);

	*s = here;
	if (rc != 0 || !system_may_serve(&here))
		return rc;
	system_path(path, domain, "sock");
	if ((rc = socket_owner(path, &owner)) <= 0)
		return rc;
	if ((rc = site_find(s, owner, SYSTEM_DIR, domain)) == 0)
		*s = here;
	return rc;
}

/* Asks the daemon at a site, or looks for one.  Returns as send_at(). */
static int send_request(const char *domain, const struct site *at,
    const char *request, struct way *way)
{
	char path[SOCKET_PATH];
	struct site here;
	int rc;

	if (at != NULL) {
		way->runtime = at->runtime[0] != '\0' ? at->runtime : NULL;
		return send_at(at->socket, request, way);
	}
	if ((rc = site_here(&here, domain)) < 0)
		return rc;
	way->runtime = site_runtime();
	if (here.socket[0] != '\0' &&
	    (rc = send_at(here.socket, request, way)) <= 0)
		return rc;
	if (rc == 0)
		errno = ENOENT;		/* nothing was there to be asked */
	if (!system_may_serve(&here))
		return 1;
	way->runtime = SYSTEM_DIR;
	system_path(path, domain, "sock");
	return send_at(path, request, way);
}

/* A reply of the daemon's user; 0: it was none. */
static int receive(const struct way *way, char *reply, size_t size)
{
	union {
		char bytes[CMSG_SPACE(sizeof(struct ucred))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { reply, size - 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	ssize_t n = recvmsg(way->fd, &msg, MSG_CMSG_CLOEXEC);
	struct ucred cred;

	if (n < 0)
		return 0;
	reply[n] = '\0';
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c != NULL;
	    c = CMSG_NXTHDR(&msg, c)) {
		if (c->cmsg_level != SOL_SOCKET ||
		    c->cmsg_type != SCM_CREDENTIALS)
			continue;
		memcpy(&cred, CMSG_DATA(c), sizeof(cred));
		if (cred.uid == way->owner)
			return (int)n;
	}
	return 0;
}

/* What became of a request that nobody answered. */
enum fate { NO_DAEMON, QUEUE_FULL, UNANSWERED };

/* Until then, or a signal where nothing is under way.  Its length, 0 for
 * nothing, -ZCP_E_INTR. */
static int wait_reply(const struct way *way, char *reply, size_t size,
    uint64_t until, bool sent)
{
	struct pollfd p = { .fd = way->fd, .events = POLLIN };
	int n = 0, ready;

	do {
		ready = poll(&p, 1, (int)((deadline_left(until, INT64_MAX) +
		    NS_PER_MS - 1) / NS_PER_MS));
		/* A request that is under way may be obeyed: its reply is
		 * waited for through signals. */
		if (ready < 0 && errno == EINTR && !sent)
			return error_set(ZCP_E_INTR, "interrupted by a signal");
		if (ready > 0)
			n = receive(way, reply, size);
	} while (n == 0 && clock_ns() < until);
	return n;
}

/* Reply length; 0: nothing came, try again; < 0: give up. */
static int attempt(const char *domain, const char *request, char *reply,
    size_t size, uint64_t deadline, struct asking *how, enum fate *fate)
{
	struct way way = { .fd = -1 };
	int n = send_request(domain, how->at, request, &way);
	bool sent = n == 0;
	uint64_t until;

	*fate = sent ? UNANSWERED : errno == EAGAIN ? QUEUE_FULL : NO_DAEMON;
	if (n >= 0) {
		until = deadline_after((sent ? ATTEMPT_MS : RETRY_MS) *
		    NS_PER_MS);
		n = wait_reply(&way, reply, size, until < deadline ? until :
		    deadline, sent);
	}
	if (n > 0) {
		how->uid = way.owner;
		how->runtime = way.runtime;
	}
	if (way.fd >= 0)
		close(way.fd);
	return n;
}

/* Where was looked, and who else has one. */
static int no_daemon(const char *domain, const struct site *at)
{
	char path[SOCKET_PATH] = "", others[128];
	struct site here;
	int rc;

	if (at != NULL)
		return error_set(ZCP_E_NODAEMON, "no route daemon answers for "
		    "domain %s at %s any more (start one: zcp-routed -d "
		    "%s)", domain, at->socket, domain);
	if ((rc = site_here(&here, domain)) < 0)
		return rc;
	if (system_may_serve(&here))
		system_path(path, domain, "sock");
	site_others(domain, others);
	return error_set(ZCP_E_NODAEMON, "no route daemon answers for domain "
	    "%s at %s%s%s (start one: zcp-routed -d %s)%s", domain,
	    site_socket_name(&here), path[0] ? " or " : "", path, domain,
	    others);
}

/* Has the system a daemon for it, which may just be restarting?  A private
 * one would split the domain. */
static bool of_the_system(const struct site *here)
{
	char path[SOCKET_PATH], aside[SOCKET_PATH];

	system_path(path, here->domain, "sock");
	system_path(aside, here->domain, "gone");
	return system_may_serve(here) &&
	    (access(path, F_OK) == 0 || access(aside, F_OK) == 0);
}

/* A daemon that is started serves this environment's site. */
static bool may_start(const char *domain, const struct asking *how)
{
	struct site here;

	return how->start && site_here(&here, domain) >= 0 &&
	    !of_the_system(&here) && (how->at == NULL ||
	    strcmp(here.socket, how->at->socket) == 0 ||
	    here.socket[0] == '\0');
}

/* ---- asking ---------------------------------------------------------------------- */

int control_ask(const char *domain, const char *request, char *reply,
    size_t size, uint64_t deadline, struct asking *how)
{
	char why[ERROR_TEXT] = "";
	enum fate fate;
	int n, rc;

	how->unsure = how->answered = false;
	how->needed = 0;
	do {
		n = attempt(domain, request, reply, size, deadline, how,
		    &fate);
		if (n < 0)
			return n;
		/* A late one, to a socket that had the name of ours before. */
		if (n > 0 && !control_answers(reply, how->nonce)) {
			fate = UNANSWERED;
			n = 0;
		}
		if (n == 0) {
			how->unsure |= fate == UNANSWERED;
			if (fate != NO_DAEMON || !may_start(domain, how))
				continue;
			rc = starter_start(domain, deadline);
			/* The last attempt may only have run out of time. */
			if (rc == -ZCP_E_BUSY || (rc < 0 && why[0] == '\0'))
				snprintf(why, sizeof(why), "%s", zcp_errmsg());
			/* Another one may be on its way, in or out. */
			if (rc < 0 && rc != -ZCP_E_BUSY)
				break;
			continue;
		}
		how->answered = true;
		rc = control_answer(reply, n, how);
		if (rc != -ZCP_E_BUSY ||
		    clock_ns() + PAUSE_MS * NS_PER_MS >= deadline)
			return rc;
		usleep(PAUSE_MS * 1000);
	} while (clock_ns() < deadline);
	return why[0] == '\0' ? no_daemon(domain, how->at) :
	    error_set(ZCP_E_NODAEMON, "no route daemon answers for domain %s, "
	    "and none could be started: %s", domain, why);
}

int control_call(const char *domain, const char *request, char *reply,
    size_t size, uint64_t deadline)
{
	struct asking how = { 0 };

	return control_ask(domain, request, reply, size, deadline, &how);
}

int control_show(const char *domain, const char *token, uint64_t deadline,
    struct asking *how)
{
	char request[TOKEN_MOST + 16], reply[256];
	int rc;

	if (token == NULL && (token = getenv("ZCP_TOKEN")) == NULL)
		return 0;
	if (!token_valid(token))
		return error_set(ZCP_E_ARG, "the token for domain %s ($ZCP_TOKEN)"
		    " is not 1 to %d printable characters without a colon",
		    domain, TOKEN_MOST);
	snprintf(request, sizeof(request), "AUTH:token=%s", token);
	rc = control_ask(domain, request, reply, sizeof(reply), deadline, how);
	return rc < 0 ? rc : 0;
}

void control_farewell(const struct site *at, const char *request)
{
	uint64_t deadline = deadline_after(ATTEMPT_MS * NS_PER_MS);
	struct asking how = { .at = at };
	char reply[256];
	enum fate fate;

	while (attempt(at->domain, request, reply, sizeof(reply), deadline,
	    &how, &fate) == 0 && fate == QUEUE_FULL && clock_ns() < deadline)
		;
}

void control_hint(const struct site *at, const char *request)
{
	struct way way = { .fd = -1 };

	(void)send_request(at->domain, at, request, &way);
	if (way.fd >= 0)
		close(way.fd);
}
