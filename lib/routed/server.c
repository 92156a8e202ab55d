/* server.c - the daemon: its socket, its loop, and the way out. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "atomics.h"
#include "clock.h"
#include "control.h"
#include "error.h"
#include "guard.h"
#include "log.h"
#include "routed.h"

enum { DRAIN_BATCH = 256 };

/* ---- the socket ------------------------------------------------------------------------ */

/*
 * Bound under its final name, whose lock we hold: a name that it was renamed
 * from would stay the address that replies come from, and clients that check
 * it (socat's UNIX-SENDTO) would drop them.
 */
/*
 * May a daemon of another user listen there?  In a runtime directory that users
 * have in common ours may be able to remove its socket, and must not.  A socket
 * that nobody listens at refuses the connection; one that does not let us in
 * says nothing.
 */
static bool another_user_may_listen(const struct sockaddr_un *at)
{
	struct stat st;
	int fd, rc;

	if (lstat(at->sun_path, &st) < 0 || st.st_uid == geteuid() ||
	    !S_ISSOCK(st.st_mode))
		return false;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return true;		/* could not look */
	rc = connect(fd, (const struct sockaddr *)at, sizeof(*at));
	if (rc < 0 && (errno == ECONNREFUSED || errno == ENOENT)) {
		close(fd);
		return false;
	}
	close(fd);
	return true;
}

static int socket_open(struct routed *r)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	const char *path = r->claim.site.socket;
	struct stat st;
	int on = 1, rc = 0;
	mode_t mask;

	site_aside(&r->claim.site, r->aside);
	r->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (r->fd < 0)
		return error_sys("cannot make a socket");
	strcpy(at.sun_path, path);
	if (another_user_may_listen(&at)) {
		char what[64];

		site_what(path, what);
		return error_set(ZCP_E_PERM, "cannot listen at %s: there is %s, "
		    "at which a daemon may listen (remove it if none does, or "
		    "choose another $ZCP_RUNTIME_DIR)", path, what);
	}
	unlink(r->aside);		/* of one that was killed as it retired */
	unlink(path);
	mask = umask(0777 & ~r->settings.mode);
	if (setsockopt(r->fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0 ||
	    bind(r->fd, (struct sockaddr *)&at, sizeof(at)) < 0)
		rc = error_sys("cannot listen at %s", path);
	umask(mask);
	if (rc < 0 && errno == EADDRINUSE) {
		char what[64];

		site_what(path, what);
		rc = error_set(ZCP_E_PERM, "cannot listen at %s: there is %s "
		    "that this user cannot remove (choose another "
		    "$ZCP_RUNTIME_DIR, or do without)", path, what);
	}
	r->socket_inode = rc == 0 && lstat(path, &st) == 0 ? st.st_ino : 0;
	return rc;
}

/* Who removes a domain's files by hand makes room for another daemon, whose
 * socket is not ours to move. */
static bool aside_is_ours(const struct routed *r)
{
	struct stat st;

	return lstat(r->aside, &st) == 0 && st.st_ino == r->socket_inode;
}

static bool socket_is_ours(const struct routed *r)
{
	struct stat st;

	return lstat(r->claim.site.socket, &st) == 0 &&
	    st.st_ino == r->socket_inode && claim_holds(&r->claim);
}

/* Credentials of the sender; stray descriptors are closed. */
static bool read_control(struct msghdr *msg, struct client *client)
{
	bool known = false;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL;
	    c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level != SOL_SOCKET)
			continue;
		if (c->cmsg_type == SCM_CREDENTIALS) {
			struct ucred cred;

			memcpy(&cred, CMSG_DATA(c), sizeof(cred));
			client->pid = cred.pid;
			client->uid = cred.uid;
			client->gid = cred.gid;
			known = true;
		} else if (c->cmsg_type == SCM_RIGHTS) {
			size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

			for (size_t i = 0; i < n; i++) {
				int stray;

				memcpy(&stray, CMSG_DATA(c) + i * sizeof(int),
				    sizeof(stray));
				close(stray);
			}
		}
	}
	return known;
}

/* One datagram; false when the queue is empty. */
static bool serve_one(struct routed *r)
{
	static char request[CONTROL_REQUEST + 1], reply[CONTROL_REPLY];
	union {
		char bytes[CMSG_SPACE(sizeof(struct ucred)) +
		    CMSG_SPACE(64 * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct client client;
	struct iovec iov = { request, sizeof(request) };
	struct msghdr msg = {
		.msg_name = &client.address,
		.msg_namelen = sizeof(client.address),
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	struct text text = { reply, sizeof(reply), 0 };
	ssize_t n = recvmsg(r->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC |
	    MSG_TRUNC);

	if (n < 0)
		return errno == EINTR;
	if (!read_control(&msg, &client))
		return true;
	if ((size_t)n > sizeof(request))
		n = (ssize_t)sizeof(request);	/* too long, and refused as such */
	client.address_length = msg.msg_namelen;
	reply[0] = '\0';
	if (!answer(r, &client, request, (size_t)n, &text))
		return true;
	if (strncmp(request, "AUTH", 4) != 0)	/* a secret */
		log_debug("pid %d: %.*s -> %.60s", (int)client.pid,
		    (int)(n < 80 ? n : 80), request, reply);
	/* A client that does not read its reply loses it, nobody waits. */
	if (msg.msg_namelen > sizeof(sa_family_t) &&
	    sendto(r->fd, reply, text.used, MSG_DONTWAIT | MSG_NOSIGNAL,
	    (struct sockaddr *)&client.address, msg.msg_namelen) < 0)
		log_debug("pid %d: no reply: %s", (int)client.pid,
		    strerror(errno));
	return true;
}

static void on_request(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	turn_begin(arg);
	for (int i = 0; i < DRAIN_BATCH && !turn_over(arg) && serve_one(arg);
	    i++)
		;
}

/* ---- the loop ----------------------------------------------------------------------------- */

/*
 * Nobody has been registered for long enough: off the socket, and the queue
 * drained; who was in it is served on.
 */
static bool retire(struct routed *r)
{
	const char *path = r->claim.site.socket;

	if (somebody_lives(r)) {
		r->idle_since = 0;
		return false;
	}
	if (r->idle_since == 0)
		r->idle_since = clock_ns();
	if (clock_ns() - r->idle_since < r->settings.idle)
		return false;
	if (!socket_is_ours(r) || rename(path, r->aside) < 0)
		return true;
	while (serve_one(r))
		;
	if (somebody_lives(r))
		return rename(r->aside, path) < 0;
	unlink(r->aside);
	return true;
}

/* Of a tick; true when nothing of it is left. */
static bool tick_goes_on(struct routed *r)
{
	turn_begin(r);
	if (r->stage == TICK_BEATS && heartbeats_go_on(r)) {
		r->stage = TICK_SLOW;
		slow_begin(r);
	}
	if (r->stage == TICK_SLOW && slow_go_on(r))
		r->stage = TICK_DONE;
	if (r->stage != TICK_DONE)
		event_active(r->more, EV_TIMEOUT, 0);
	return r->stage == TICK_DONE;
}

static void on_more(evutil_socket_t fd, short what, void *arg)
{
	struct routed *r = arg;

	(void)fd;
	(void)what;
	if (!tick_goes_on(r))
		return;
	/* Behind the looks, which find it. */
	if (domain_cut(&r->d) != NULL) {
		event_base_loopbreak(r->base);
		return;
	}
	if (r->settings.idle > 0 && retire(r)) {
		log_info("ends, nobody is registered");
		event_base_loopbreak(r->base);
	}
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct routed *r = arg;

	/* One that is under way goes on by itself. */
	if (r->stage != TICK_DONE)
		return;
	heartbeats_begin(r);
	r->stage = TICK_BEATS;
	on_more(fd, what, arg);
}

static void on_drain(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	turn_begin(arg);
	drain_again(arg);
}

static void on_stop(evutil_socket_t sig, short what, void *arg)
{
	struct routed *r = arg;

	(void)what;
	log_info("ends on signal %d", (int)sig);
	event_base_loopbreak(r->base);
}

static void on_dump(evutil_socket_t sig, short what, void *arg)
{
	(void)sig;
	(void)what;
	status_log_participants(arg);
}

static void on_child(evutil_socket_t sig, short what, void *arg)
{
	(void)sig;
	(void)what;
	route_reap(arg);
}

static int add_event(struct routed *r, struct event **event, int fd,
    short what, event_callback_fn callback, const struct timeval *every)
{
	*event = event_new(r->base, fd, what, callback, r);
	if (*event == NULL || ((what & ~EV_TIMEOUT) || every) ?
	    event_add(*event, every) < 0 : false)
		return error_set(ZCP_E_SYS, "out of memory");
	return 0;
}

struct signals {
	struct event *term, *intr, *dump, *child;
};

static int add_events(struct routed *r, struct signals *s)
{
	uint64_t us = r->d.heartbeat / 1000;
	struct timeval every = { (time_t)(us / 1000000),
	    (suseconds_t)(us % 1000000) };
	int rc;

	if ((rc = add_event(r, &r->socket, r->fd, EV_READ | EV_PERSIST,
	    on_request, NULL)) < 0 ||
	    (rc = add_event(r, &r->tick, -1, EV_PERSIST, on_tick,
	    &every)) < 0 ||
	    (rc = add_event(r, &s->term, SIGTERM, EV_SIGNAL | EV_PERSIST,
	    on_stop, NULL)) < 0 ||
	    (rc = add_event(r, &s->intr, SIGINT, EV_SIGNAL | EV_PERSIST,
	    on_stop, NULL)) < 0)
		return rc;
	if ((rc = add_event(r, &s->child, SIGCHLD, EV_SIGNAL | EV_PERSIST,
	    on_child, NULL)) < 0)
		return rc;
	return add_event(r, &s->dump, SIGUSR1, EV_SIGNAL | EV_PERSIST,
	    on_dump, NULL);
}

static void free_event(struct event *event)
{
	if (event != NULL)
		event_free(event);
}

/*
 * Off the socket first, so that new clients wait for the next daemon; those
 * that are in the queue are still served.  Members stay and are adopted.
 */
static void leave(struct routed *r)
{
	/* What the next turn would have done. */
	r->turn_ends = 0;
	drain_again(r);
	if (socket_is_ours(r))
		rename(r->claim.site.socket, r->aside);
	while (serve_one(r))
		;
	/* A domain that stays will be served again: whoever looks for it in
	 * the runtime directory sees that by the name. */
	if (domain_leave(r))
		log_info("segments of domain %s stay for its participants, "
		    "or for the history they left", r->d.name);
	else if (aside_is_ours(r))
		unlink(r->aside);
}

/* A participant takes two: its file and its pidfd. */
static void more_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

/*
 * What would end it without a word, or does so to a process that writes: a log
 * pipe that is gone, a file beyond its limit.  HUP is kept for a reload.
 */
static void ignore_signals(void)
{
	static const int ignored[] = { SIGHUP, SIGUSR2, SIGALRM, SIGPIPE,
	    SIGXFSZ, SIGXCPU, SIGVTALRM, SIGPROF, SIGIO, SIGPWR, SIGSTKFLT };

	for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		signal(ignored[i], SIG_IGN);
	for (int sig = SIGRTMIN; sig <= SIGRTMAX; sig++)
		signal(sig, SIG_IGN);
}

int routed_run(struct routed *r, const struct settings *s,
    void (*ready)(const struct routed *))
{
	struct signals signals = { 0 };
	int rc;

	*r = (struct routed){ .settings = *s, .fd = -1, .claim = CLAIM_INIT,
	    .started = clock_ns(), .last_tick = clock_ns() };
	more_descriptors();
	/* Its replies are signed with the one, its files belong to the other. */
	if (getuid() != geteuid() && setreuid(geteuid(), geteuid()) < 0)
		return error_sys("cannot become uid %u altogether",
		    (unsigned)geteuid());
	ignore_signals();
	if ((rc = lock_take(r)) != 0 || (rc = guard_install()) < 0)
		goto out;
	if ((r->base = event_base_new()) == NULL ||
	    (r->drain = event_new(r->base, -1, 0, on_drain, r)) == NULL ||
	    (r->more = event_new(r->base, -1, 0, on_more, r)) == NULL) {
		rc = error_sys("cannot make an event loop");
		goto out;
	}
	if ((rc = domain_set_up(r)) < 0)
		goto out;
	if ((rc = socket_open(r)) < 0 || (rc = add_events(r, &signals)) < 0) {
		domain_leave(r);
		goto out;
	}
	ready(r);
	if (event_base_dispatch(r->base) < 0)
		rc = error_set(ZCP_E_SYS, "the event loop failed");
	leave(r);
	if (domain_cut(&r->d) != NULL)
		rc = error_set(ZCP_E_DAMAGED, "%s of domain %s was truncated "
		    "while this daemon served it: its participants have to end "
		    "before another one can be made", domain_cut(&r->d),
		    r->d.name);
out:
	free_event(signals.term);
	free_event(signals.intr);
	free_event(signals.dump);
	free_event(signals.child);
	free_event(r->socket);
	free_event(r->tick);
	free_event(r->drain);
	free_event(r->more);
	domain_let_go(r);
	clients_forget(r);
	if (r->fd >= 0)
		close(r->fd);
	if (r->base != NULL)
		event_base_free(r->base);
	/* Nothing was made, or it did not come to an end. */
	if (rc < 0 && claim_holds(&r->claim) && domain_absent(&r->claim))
		domain_remove(&r->claim, 0);
	claim_drop(&r->claim);
	return rc;
}
