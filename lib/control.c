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
#include "starter.h"
#include "topic.h"

#define SYSTEM_DIR "/run/zcp"
enum { ERROR_TEXT = 1024, ATTEMPT_MS = 500, RETRY_MS = 20, PAUSE_MS = 20, PATH_SIZE = 108 };
_Static_assert(PATH_SIZE == sizeof(((struct sockaddr_un *)0)->sun_path),
    "paths are sockets' paths");

/* ---- where ------------------------------------------------------------------ */

static int make_path(char path[PATH_SIZE], const char *dir,
    const char *domain, const char *suffix)
{
	if (snprintf(path, PATH_SIZE, "%s/%s.%s", dir, domain, suffix) >=
	    PATH_SIZE)
		return error_set(ZCP_E_ARG, "runtime directory '%s' is too "
		    "long for a socket's path (%d bytes)", dir, PATH_SIZE);
	return 0;
}

static void user_dir(char dir[PATH_SIZE])
{
	const char *fixed = getenv("ZCP_RUNTIME_DIR");
	const char *xdg = getenv("XDG_RUNTIME_DIR");

	if (fixed != NULL && *fixed)
		snprintf(dir, PATH_SIZE, "%s", fixed);
	else if (xdg != NULL && *xdg)
		snprintf(dir, PATH_SIZE, "%s/zcp", xdg);
	else
		snprintf(dir, PATH_SIZE, "/tmp/zcp-%u", (unsigned)geteuid());
}

static int check_dir(const char *dir)
{
	struct stat st;

	if (lstat(dir, &st) < 0)
		return error_sys("runtime directory %s", dir);
	if (!S_ISDIR(st.st_mode))
		return error_set(ZCP_E_PERM,
		    "runtime directory %s is not a directory", dir);
	/* A directory that others may write to could hold anybody's socket. */
	if (getenv("ZCP_RUNTIME_DIR") == NULL &&
	    (st.st_uid != geteuid() || (st.st_mode & 0022)))
		return error_set(ZCP_E_PERM, "runtime directory %s belongs to "
		    "uid %u with mode %03o, not to this user alone: refused",
		    dir, (unsigned)st.st_uid, (unsigned)st.st_mode & 0777);
	return 0;
}

int control_path(char path[PATH_SIZE], const char *domain,
    const char *suffix, int make)
{
	char dir[PATH_SIZE];
	int rc;

	user_dir(dir);
	if (make && mkdir(dir, 0700) < 0 && errno != EEXIST)
		return error_sys("cannot make runtime directory %s", dir);
	if ((rc = check_dir(dir)) < 0)
		return rc;
	return make_path(path, dir, domain, suffix);
}

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

/* Tries the user's directory, then the system's; < 0 with errno. */
static int send_request(int fd, const char *domain, const char *request)
{
	char path[PATH_SIZE];
	int cause = ENOENT;

	if (control_path(path, domain, "sock", 0) == 0) {
		if (send_to(fd, path, request) == 0)
			return 0;
		cause = errno;
	}
	if (getenv("ZCP_RUNTIME_DIR") == NULL &&
	    make_path(path, SYSTEM_DIR, domain, "sock") == 0) {
		if (send_to(fd, path, request) == 0)
			return 0;
		if (errno != ENOENT)
			cause = errno;
	}
	errno = cause;
	return -1;
}

static int receive(int fd, char *reply, size_t size, uid_t *uid)
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
		    c->cmsg_type == SCM_CREDENTIALS && uid != NULL) {
			struct ucred cred;

			memcpy(&cred, CMSG_DATA(c), sizeof(cred));
			*uid = cred.uid;
		}
	return (int)n;
}

/* What became of a request that nobody answered. */
enum fate { NO_DAEMON, QUEUE_FULL, UNANSWERED };

/* Reply length; 0: nothing came, try again; < 0: give up. */
static int attempt(const char *domain, const char *request, char *reply,
    size_t size, uint64_t deadline, uid_t *uid, enum fate *fate)
{
	int fd = client_socket(), n = 0, ready, cause = 0;
	bool sent = true;
	uint64_t until;
	struct pollfd p;

	*fate = NO_DAEMON;
	if (fd < 0)
		return fd;
	if (send_request(fd, domain, request) < 0) {
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
	else if (ready > 0 && (n = receive(fd, reply, size, uid)) < 0)
		n = 0;
	*fate = sent ? UNANSWERED : cause == EAGAIN ? QUEUE_FULL : NO_DAEMON;
out:
	close(fd);
	return n;
}

/* Where a daemon of this user would be; others may have one elsewhere. */
static int no_daemon(const char *domain)
{
	char path[PATH_SIZE], dir[PATH_SIZE];

	user_dir(dir);
	if (make_path(path, dir, domain, "sock") < 0)
		return -ZCP_E_NODAEMON;
	return error_set(ZCP_E_NODAEMON, "no route daemon answers for domain "
	    "%s at %s (start one: zcp-routed -d %s)", domain, path, domain);
}

/* Has the system a daemon for it, which may just be restarting?  A private
 * one would split the domain. */
static bool of_the_system(const char *domain)
{
	char path[PATH_SIZE];

	return getenv("ZCP_RUNTIME_DIR") == NULL && make_path(path,
	    SYSTEM_DIR, domain, "lock") == 0 && access(path, F_OK) == 0;
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
		n = attempt(domain, request, reply, size, deadline, &how->uid,
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
	char reply[256];
	enum fate fate;

	while (attempt(domain, request, reply, sizeof(reply), deadline, NULL,
	    &fate) == 0 && fate == QUEUE_FULL && clock_ns() < deadline)
		;
}

void control_hint(const char *domain, const char *request)
{
	int fd = client_socket();

	if (fd < 0)
		return;
	send_request(fd, domain, request);
	close(fd);
}
