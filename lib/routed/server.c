/*
 * server.c - one daemon a domain: lock, adoption, socket, loop, and the way
 * out.
 */
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
#include "liveness.h"
#include "log.h"
#include "routed.h"

enum { DRAIN_BATCH = 256 };

/* ---- the lock -------------------------------------------------------------------- */

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

int routed_pid(const char *domain, pid_t *pid)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd = lock_open(domain, 0), rc = 0;

	*pid = 0;
	if (fd < 0)
		return errno == ENOENT ? 0 : fd;
	if (fcntl(fd, F_GETLK, &lock) < 0)
		rc = error_sys("cannot ask for the lock of domain %s", domain);
	else if (lock.l_type != F_UNLCK)
		*pid = lock.l_pid;
	close(fd);
	return rc;
}

static bool another_serves(const char *domain)
{
	char reply[64];
	int rc = control_call(domain, "PING", reply, sizeof(reply),
	    deadline_after(10 * NS_PER_MS));

	return rc > 0 || rc == -ZCP_E_REFUSED;
}

/*
 * A daemon that is on its way out gives the lock back within a second; one
 * that serves is as good as a private one of ours (1).
 */
static int lock_take(struct routed *r)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	uint64_t deadline = deadline_after(NS_PER_S);
	pid_t pid = 0;

	if ((r->lock = lock_open(r->settings.domain, 1)) < 0)
		return r->lock;
	while (fcntl(r->lock, F_SETLK, &lock) < 0) {
		if (errno != EAGAIN && errno != EACCES && errno != EINTR)
			return error_sys("cannot lock domain %s",
			    r->settings.domain);
		if (r->settings.private && another_serves(r->settings.domain))
			return 1;
		if (clock_ns() >= deadline) {
			struct flock held = lock;

			if (fcntl(r->lock, F_GETLK, &held) == 0)
				pid = held.l_pid;
			return error_set(ZCP_E_BUSY, "domain %s has a daemon "
			    "already (pid %d); zcp-routed --stop -d %s ends it",
			    r->settings.domain, (int)pid, r->settings.domain);
		}
		usleep(10000);
	}
	return 0;
}

/* ---- the segments ------------------------------------------------------------------ */

/*
 * The lock in the runtime directory keeps a second daemon away that looks for
 * it there; one with another runtime directory finds the same segments, and
 * this lock on them.
 */
static int lock_segments(struct routed *r, int fd)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	struct flock held = lock;

	if (fcntl(fd, F_SETLK, &lock) == 0)
		return 0;
	if (fcntl(fd, F_GETLK, &held) < 0 || held.l_type == F_UNLCK)
		held.l_pid = 0;
	return error_set(ZCP_E_REFUSED, "the segments of domain %s are in use "
	    "by a daemon with another runtime directory (pid %d): choose "
	    "another domain (-d), or end that daemon", r->settings.domain,
	    (int)held.l_pid);
}

static int open_domain(struct routed *r)
{
	int rc = domain_attach(&r->d, r->settings.domain, geteuid(), true);

	if (r->d.mgmt.fd >= 0 && (rc == 0 || rc == -ZCP_E_BUSY)) {
		int locked = lock_segments(r, r->d.mgmt.fd);

		if (locked < 0)
			return locked;
	}
	return rc < 0 ? rc : domain_map_words(&r->d);
}

static bool absent(const struct settings *s)
{
	char path[SEGMENT_PATH];

	segment_path(path, geteuid(), s->domain, "mgmt");
	return access(path, F_OK) < 0 && errno == ENOENT;
}

static bool somebody_lives(const struct routed *r)
{
	for (uint32_t i = 0; i < r->d.m->max_participants; i++)
		if (fact_load32(&r->d.participants[i].state) ==
		    PARTICIPANT_LIVE && !participant_dead(&r->d, i))
			return true;
	return false;
}

static bool something_is_left(const struct routed *r)
{
	for (uint32_t i = 0; i < r->d.m->max_participants; i++)
		if (fact_load32(&r->d.participants[i].state) !=
		    PARTICIPANT_FREE)
			return true;
	return false;
}

static int damaged(struct routed *r, int rc)
{
	return error_in(rc, "domain %s has segments that cannot be adopted "
	    "(rm " SEGMENT_DIR "/zcp.%u.%s.* removes them, with whatever "
	    "they hold)", r->settings.domain, (unsigned)geteuid(),
	    r->settings.domain);
}

/* Nothing there: create.  Nobody lives and no history is retained: nothing
 * worth keeping.  Else adopt. */
static int find_domain(struct routed *r, bool *adopt)
{
	int rc;

	*adopt = false;
	if (!absent(&r->settings)) {
		rc = open_domain(r);
		/* Somebody with another runtime directory may be making it. */
		for (int i = 0; rc == -ZCP_E_BUSY && i < 20; i++) {
			domain_detach(&r->d);
			usleep(10000);
			rc = open_domain(r);
		}
		/* Not ready for that long: its maker was killed. */
		if (rc < 0 && rc != -ZCP_E_BUSY) {
			domain_detach(&r->d);
			return rc == -ZCP_E_REFUSED ? rc : damaged(r, rc);
		}
		*adopt = rc == 0 && (somebody_lives(r) || retain_pending(r));
		if (*adopt)
			return 0;
		domain_detach(&r->d);
		domain_remove(geteuid(), r->settings.domain);
	}
	if ((rc = domain_create(&r->settings)) < 0)
		return rc;
	return open_domain(r);
}

static void wake_everybody(struct routed *r)
{
	chain_each(&r->of_state, PORTS_OPEN, i, after)
		generation_bump(r, i);
	chain_each(&r->of_state, PORTS_ENDED, i, after)
		generation_bump(r, i);
	for (uint32_t i = 0; i < bell_count(r->d.m); i++)
		bell_ring(domain_bell(&r->d, i));
	bell_announce(domain_bell(&r->d, BELL_DOMAIN));
}

static void bury_the_dead(struct routed *r)
{
	for (uint32_t i = 0; i < r->d.m->max_participants; i++) {
		struct participant *p = &r->d.participants[i];

		if (fact_load32(&p->state) == PARTICIPANT_LIVE)
			reap(r, i);
		/* A daemon killed between the participant and its ports. */
		if (fact_load32(&p->state) != PARTICIPANT_ENDED)
			continue;
		chain_each(&r->of_owner, i, k, after)
			port_end(r, k, fact_load32(&p->flags) &
			    PARTICIPANT_DIED);
	}
}

static int adopt_domain(struct routed *r)
{
	int rc;

	/* Settings of a live domain are in its header, not ours to change. */
	r->settings.mode = r->d.m->mode;
	if ((rc = links_rebuild(r)) < 0 || (rc = registry_rebuild(r)) < 0)
		return damaged(r, rc);
	match_repair(r);
	ports_closed_unheard(r);
	bury_the_dead(r);
	wake_everybody(r);
	drain_soon(r);
	log_info("domain %s adopted, with the pools and limits it was made with",
	    r->d.name);
	return 0;
}

static int set_up(struct routed *r)
{
	bool adopt;
	int rc;

	if ((rc = find_domain(r, &adopt)) < 0)
		return rc;
	r->watch = calloc(r->d.m->max_participants, sizeof(*r->watch));
	if (r->watch == NULL)
		return error_set(ZCP_E_SYS, "out of memory");
	if ((rc = registry_open(r)) < 0 || (rc = retain_open(r)) < 0)
		return rc;
	for (uint32_t i = 0; i < r->d.m->max_participants; i++)
		r->watch[i].pidfd = -1;
	fact_publish32(&r->d.m->daemon_pid, (uint32_t)getpid());
	return adopt ? adopt_domain(r) : links_rebuild(r);
}

/* ---- the socket ------------------------------------------------------------------------ */

/*
 * Bound under its final name, whose lock we hold: a name that it was renamed
 * from would stay the address that replies come from, and clients that check
 * it (socat's UNIX-SENDTO) would drop them.
 */
static int socket_open(struct routed *r)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int on = 1, rc;
	mode_t mask;

	if ((rc = control_path(r->path, r->settings.domain, "sock", 1)) < 0 ||
	    (rc = control_path(r->aside, r->settings.domain, "gone", 1)) < 0)
		return rc;
	r->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (r->fd < 0)
		return error_sys("cannot make a socket");
	strcpy(at.sun_path, r->path);
	unlink(r->aside);		/* of one that was killed as it retired */
	unlink(r->path);
	mask = umask(0777 & ~r->settings.mode);
	if (setsockopt(r->fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0 ||
	    bind(r->fd, (struct sockaddr *)&at, sizeof(at)) < 0)
		rc = error_sys("cannot listen at %s", r->path);
	umask(mask);
	return rc;
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
	for (int i = 0; i < DRAIN_BATCH && serve_one(arg); i++)
		;
}

/* ---- the loop ----------------------------------------------------------------------------- */

/*
 * Nobody has been registered for long enough: off the socket, and the queue
 * drained; who was in it is served on.
 */
static bool retire(struct routed *r)
{
	if (somebody_lives(r)) {
		r->idle_since = 0;
		return false;
	}
	if (r->idle_since == 0)
		r->idle_since = clock_ns();
	if (clock_ns() - r->idle_since < r->settings.idle)
		return false;
	if (rename(r->path, r->aside) < 0)
		return true;
	while (serve_one(r))
		;
	if (somebody_lives(r))
		return rename(r->aside, r->path) < 0;
	unlink(r->aside);
	return true;
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct routed *r = arg;

	(void)fd;
	(void)what;
	heartbeats(r);
	if (r->settings.idle > 0 && retire(r)) {
		log_info("ends, nobody is registered");
		event_base_loopbreak(r->base);
	}
}

static void on_drain(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
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
	uint64_t us = r->d.m->heartbeat / 1000;
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
	bool keep;

	unlink(r->path);
	while (serve_one(r))
		;
	drain(r);
	keep = something_is_left(r);
	fact_publish32(&r->d.m->daemon_pid, 0);
	if (!keep)
		domain_remove(r->d.uid, r->d.name);
	else
		log_info("segments of domain %s stay for its participants, "
		    "or for the history they left", r->d.name);
}

static void tear_down(struct routed *r)
{
	struct topic_name *t, *next;

	for (uint32_t i = 0; r->watch != NULL && i < r->d.m->max_participants;
	    i++)
		watch_remove(r, i);
	HASH_ITER(hh, r->topics, t, next) {
		HASH_DEL(r->topics, t);
		free(t);
	}
	free_event(r->socket);
	free_event(r->tick);
	free_event(r->drain);
	free(r->watch);
	free(r->link_used);
	retain_close(r);
	registry_close(r);
	clients_forget(r);
	free(r->serials_named);
	if (r->fd >= 0)
		close(r->fd);
	if (r->d.m != NULL)
		domain_detach(&r->d);
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

int routed_run(struct routed *r, const struct settings *s,
    void (*ready)(const struct routed *))
{
	struct signals signals = { 0 };
	int rc;

	*r = (struct routed){ .settings = *s, .fd = -1, .lock = -1,
	    .started = clock_ns(), .last_tick = clock_ns() };
	more_descriptors();
	if ((rc = lock_take(r)) != 0 || (rc = guard_install()) < 0)
		goto out;
	if ((r->base = event_base_new()) == NULL ||
	    (r->drain = event_new(r->base, -1, 0, on_drain, r)) == NULL) {
		rc = error_set(ZCP_E_SYS, "out of memory");
		goto out;
	}
	if ((rc = set_up(r)) < 0 || (rc = socket_open(r)) < 0 ||
	    (rc = add_events(r, &signals)) < 0)
		goto out;
	ready(r);
	if (event_base_dispatch(r->base) < 0)
		rc = error_set(ZCP_E_SYS, "the event loop failed");
	leave(r);
out:
	free_event(signals.term);
	free_event(signals.intr);
	free_event(signals.dump);
	free_event(signals.child);
	tear_down(r);
	if (r->base != NULL)
		event_base_free(r->base);
	if (r->lock >= 0)
		close(r->lock);
	return rc;
}
