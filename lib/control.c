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

/* A socket of its own for each attempt: a late reply to an earlier one
 * cannot be taken for the answer to this. */
static int client_socket(void)
{
	struct sockaddr_un self = { .sun_family = AF_UNIX };
	int on = 1, fd;

	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return error_sys("cannot make a socket");
	if (setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0 ||
	    bind(fd, (struct sockaddr *)&self, sizeof(sa_family_t)) < 0) {
		int rc = error_sys("cannot bind a socket");

		close(fd);
		return rc;
	}
	return fd;
}

static int send_to(int fd, const char *path, const char *request)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };

	strcpy(to.sun_path, path);
	return sendto(fd, request, strlen(request), MSG_NOSIGNAL,
	    (struct sockaddr *)&to, sizeof(to)) < 0 ? -1 : 0;
}

static void system_path(char path[SOCKET_PATH], const char *domain)
{
	snprintf(path, SOCKET_PATH, SYSTEM_DIR "/%.*s.sock", DOMAIN_NAME,
	    domain);
}

/*
 * Tries this environment's daemon, then the system's.  0: sent, 1: not (errno),
 * or why this environment has no place for the domain.
 */
static int send_request(int fd, const char *domain, const char *request,
    const char **runtime)
{
	char path[SOCKET_PATH];
	struct site site;
	int cause = ENOENT, rc = site_here(&site, domain);

	if (rc < 0)
		return rc;
	*runtime = site_runtime();
	if (site.socket[0] != '\0') {
		if (send_to(fd, site.socket, request) == 0)
			return 0;
		cause = errno;
	}
	if (*runtime == NULL) {
		*runtime = SYSTEM_DIR;
		system_path(path, domain);
		if (send_to(fd, path, request) == 0)
			return 0;
		if (errno != ENOENT)
			cause = errno;
	}
	errno = cause;
	return 1;
}

static int receive(int fd, char *reply, size_t size, struct asking *how)
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
	ssize_t n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);

	if (n < 0)
		return -1;
	reply[n] = '\0';
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c != NULL;
	    c = CMSG_NXTHDR(&msg, c))
		if (c->cmsg_level == SOL_SOCKET &&
		    c->cmsg_type == SCM_CREDENTIALS) {
			struct ucred cred;

			memcpy(&cred, CMSG_DATA(c), sizeof(cred));
			how->uid = cred.uid;
		}
	return (int)n;
}

/* What became of a request that nobody answered. */
enum fate { NO_DAEMON, QUEUE_FULL, UNANSWERED };

/* Reply length; 0: nothing came, try again; < 0: give up. */
static int attempt(const char *domain, const char *request, char *reply,
    size_t size, uint64_t deadline, struct asking *how, enum fate *fate)
{
	int fd = client_socket(), n = 0, ready, cause = 0;
	bool sent = true;
	uint64_t until;
	struct pollfd p;

	*fate = NO_DAEMON;
	if (fd < 0)
		return fd;
	if ((n = send_request(fd, domain, request, &how->runtime)) < 0)
		goto out;
	if (n == 1) {
		n = 0;
		/* A daemon that starts or restarts, or whose queue is full. */
		cause = errno;
		if (cause != ENOENT && cause != ECONNREFUSED &&
		    cause != EAGAIN && cause != ENOTDIR) {
			n = error_sys("cannot send to the route daemon of "
			    "domain %s", domain);
			goto out;
		}
		sent = false;
	}
	until = deadline_after((sent ? ATTEMPT_MS : RETRY_MS) * NS_PER_MS);
	if (until > deadline)
		until = deadline;
	p = (struct pollfd){ .fd = fd, .events = POLLIN };
	/* A request that is under way may be obeyed: its reply is waited for
	 * through signals. */
	do
		ready = poll(&p, 1, (int)((deadline_left(until, INT64_MAX) +
		    NS_PER_MS - 1) / NS_PER_MS));
	while (ready < 0 && errno == EINTR && sent);
	if (ready < 0 && errno == EINTR)
		n = error_set(ZCP_E_INTR, "interrupted by a signal");
	else if (ready > 0 && (n = receive(fd, reply, size, how)) < 0)
		n = 0;
	*fate = sent ? UNANSWERED : cause == EAGAIN ? QUEUE_FULL : NO_DAEMON;
out:
	close(fd);
	return n;
}

/* Where a daemon of this user would be; others may have one elsewhere. */
static int no_daemon(const char *domain)
{
	struct site site;
	int rc = site_here(&site, domain);

	if (rc < 0)
		return rc;
	return error_set(ZCP_E_NODAEMON, "no route daemon answers for domain "
	    "%s at %s (start one: zcp-routed -d %s)", domain,
	    site.socket[0] ? site.socket : SEGMENT_DIR, domain);
}

/* Has the system a daemon for it, which may just be restarting?  A private
 * one would split the domain. */
static bool of_the_system(const char *domain)
{
	char path[SOCKET_PATH];

	system_path(path, domain);
	return site_runtime() == NULL && access(path, F_OK) == 0;
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
			if (fate != NO_DAEMON || !how->start ||
			    of_the_system(domain))
				continue;
			rc = starter_start(domain, deadline);
			if (rc < 0)
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
	return why[0] == '\0' ? no_daemon(domain) :
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

void control_farewell(const char *domain, const char *request)
{
	uint64_t deadline = deadline_after(ATTEMPT_MS * NS_PER_MS);
	struct asking how = { 0 };
	char reply[256];
	enum fate fate;

	while (attempt(domain, request, reply, sizeof(reply), deadline, &how,
	    &fate) == 0 && fate == QUEUE_FULL && clock_ns() < deadline)
		;
}

void control_hint(const char *domain, const char *request)
{
	const char *runtime;
	int fd = client_socket();

	if (fd < 0)
		return;
	(void)send_request(fd, domain, request, &runtime);
	close(fd);
}
