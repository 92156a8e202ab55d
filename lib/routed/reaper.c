/* reaper.c - death watch, heartbeats, drains, sweeps. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "atomics.h"
#include "clock.h"
#include "error.h"
#include "liveness.h"
#include "log.h"
#include "pidfd.h"
#include "ring.h"
#include "routed.h"

#define DRAIN_FIRST (2 * NS_PER_MS)
#define DRAIN_LAST (250 * NS_PER_MS)
#define SWEEP_PAUSE (5 * NS_PER_MS)
/* Descriptors that no watch may take. */
enum { DESCRIPTORS_APART = 4 };

/* ---- death watch ----------------------------------------------------------------- */

/* The event ends with its watch, before the slot is given away again, so that it
 * brings no later tenant's news. */
static void drain_in(struct routed *r, uint64_t ns)
{
	struct timeval when = { 0, (suseconds_t)(ns / 1000) };

	if (r->drain != NULL)
		event_add(r->drain, &when);
}

static void on_exit_of(evutil_socket_t fd, short what, void *arg)
{
	struct watch *w = arg;

	(void)fd;
	(void)what;
	/* The pidfd stays readable; what it had to say has been heard. */
	event_del(w->exit);
	w->exited = true;
	w->routed->exits = true;
	drain_in(w->routed, 0);
}

/*
 * What a process needs to be watched has run out.  Whoever cannot be watched is
 * not let in; every other reason (an old kernel, a process that is gone, a
 * /proc that hides it) leaves its lock and its heart to tell.
 */
static bool ran_out(int cause)
{
	return cause == EMFILE || cause == ENFILE || cause == ENOMEM;
}

static int cannot_watch(int cause)
{
	struct rlimit limit = { 0, 0 };

	getrlimit(RLIMIT_NOFILE, &limit);
	if (cause == EMFILE)
		return error_set(ZCP_E_REFUSED, "the daemon cannot watch "
		    "another process: %s (it may have %llu descriptors and "
		    "needs one for each process: ulimit -n, LimitNOFILE=)",
		    strerror(cause), (unsigned long long)limit.rlim_cur);
	return error_set(ZCP_E_REFUSED, "the daemon cannot watch another "
	    "process: %s%s", strerror(cause), cause == ENFILE ?
	    " (sysctl fs.file-max)" : "");
}

/* Are there more?  Looks at a process must be possible still, and each takes
 * one for a while.  0, or why not. */
static int no_spare_descriptors(int like)
{
	int spare[DESCRIPTORS_APART], n = 0, cause = 0;

	while (n < DESCRIPTORS_APART && cause == 0)
		if ((spare[n] = fcntl(like, F_DUPFD_CLOEXEC, 0)) >= 0)
			n++;
		else
			cause = errno;
	for (int i = 0; i < n; i++)
		close(spare[i]);
	return cause;
}

static int pidfd_of(struct watch *w, const struct participant *p)
{
	uint64_t start;
	int rc, cause;

	w->pidfd = pidfd_of_process((pid_t)p->pid);
	if (w->pidfd < 0)
		return ran_out(errno) ? cannot_watch(errno) : 0;
	if ((cause = no_spare_descriptors(w->pidfd)) != 0) {
		close(w->pidfd);
		w->pidfd = -1;
		return cannot_watch(cause);
	}
	/* Behind the descriptor, which cannot change its process: the pid may
	 * have been given to another one before. */
	rc = process_look((pid_t)p->pid, &start);
	cause = errno;
	if (rc == 1 && start == p->start_time)
		return 0;
	close(w->pidfd);
	w->pidfd = -1;
	return rc < 0 && ran_out(cause) ? cannot_watch(cause) : 0;
}

static int watch_process(struct routed *r, struct watch *w,
    const struct participant *p)
{
	uint64_t here = 0;
	int rc;

	/* Invisible: its lock and its heart will tell. */
	if (p->pid == 0 || p->pid_namespace == 0 ||
	    pid_namespace_here(&here) < 0 || p->pid_namespace != here)
		return 0;
	if ((rc = pidfd_of(w, p)) < 0 || w->pidfd < 0)
		return rc;
	w->exit = event_new(r->base, w->pidfd, EV_READ, on_exit_of, w);
	if (w->exit == NULL)
		return error_set(ZCP_E_SYS, "out of memory");
	if (event_add(w->exit, NULL) < 0)
		return error_sys("cannot wait for the end of process %u",
		    p->pid);
	return 0;
}

int watch_add(struct routed *r, uint32_t slot)
{
	struct participant *p = &r->d.participants[slot];
	struct watch *w = &r->watch[slot];
	int rc;

	w->routed = r;
	w->pidfd = -1;
	if ((rc = peer_get(&r->d, slot, p->incarnation, &w->peer)) < 0)
		return rc;
	/* gc looks once, and has no loop; who has ended needs no watch. */
	return r->base == NULL ||
	    fact_load32(&p->state) == PARTICIPANT_ENDED ? 0 :
	    watch_process(r, w, p);
}

void watch_remove(struct routed *r, uint32_t slot)
{
	struct watch *w = &r->watch[slot];

	if (w->exit != NULL)
		event_free(w->exit);
	if (w->pidfd >= 0)
		close(w->pidfd);
	peer_put(&r->d, w->peer);
	*w = (struct watch){ .pidfd = -1 };
}

static void reap_one(struct routed *r, uint32_t slot)
{
	struct watch *w = &r->watch[slot];
	enum fate fate;

	if (fact_load32(&r->d.participants[slot].state) != PARTICIPANT_LIVE)
		return;
	fate = w->exited ? participant_fate_exited(&r->d, slot) :
	    participant_fate(&r->d, slot);
	/* Once for as long as it is so. */
	if (fate == FATE_UNSEEN && !w->unseen)
		log_warn("%s: it counts as alive", zcp_errmsg());
	w->unseen = fate == FATE_UNSEEN;
	if (fate_ended(fate))
		participant_end(r, slot, fate == FATE_DIED);
}

void reap(struct routed *r, uint32_t slot)
{
	reap_one(r, slot);
	if (fact_load32(&r->d.participants[slot].state) == PARTICIPANT_ENDED)
		drain(r);
}

/* Those whose pidfds have spoken; a drain follows. */
static void reap_exited(struct routed *r)
{
	uint32_t slot = 0;

	for (; r->exits && slot < r->d.max_participants; slot++) {
		if (r->watch[slot].exited)
			reap_one(r, slot);
		if (turn_over(r))
			break;
	}
	r->exits = r->exits && slot < r->d.max_participants;
	if (r->exits)
		drain_in(r, 0);
}

/* ---- heartbeats --------------------------------------------------------------------- */

/*
 * Through the descriptor of that very process.  The number that was recorded may
 * be somebody else's: in this pid namespace, when another daemon recorded it in
 * its own; or by now.
 */
static bool kill_stalled(struct routed *r, uint32_t slot)
{
	const struct participant *p = &r->d.participants[slot];
	int fd = r->watch[slot].pidfd;

	if (fd >= 0 && (pidfd_kill(fd, SIGKILL) == 0 || errno == ESRCH))
		return true;
	log_warn("participant %u: %s is demoted and not killed: %s", slot,
	    p->name, fd >= 0 ? strerror(errno) : "this daemon has not "
	    "identified its process, which runs in another pid namespace or "
	    "has ended");
	return false;
}

bool stall_demotes(const struct routed *r, uint32_t slot)
{
	return r->settings.on_stall == STALL_DEMOTE ||
	    (r->settings.on_stall == STALL_KILL && r->watch[slot].spared);
}

void stall_noted(struct routed *r, uint32_t slot)
{
	struct watch *w = &r->watch[slot];

	if (w->peer != NULL)
		w->last_beat = news_load(&w->peer->member->beat);
}

static void stall(struct routed *r, uint32_t slot, uint64_t silence)
{
	struct participant *p = &r->d.participants[slot];

	stall_noted(r, slot);
	fact_publish32(&p->flags, PARTICIPANT_STALLED);
	log_warn("participant %u: %.63s (pid %u) stalled, no heartbeat for "
	    "%.1f s", slot, p->name, p->pid, (double)silence / 1e9);
	r->watch[slot].spared = r->settings.on_stall == STALL_KILL &&
	    !kill_stalled(r, slot);
	if (stall_demotes(r, slot)) {
		news_add(&r->d.m->demotions, 1);
		match_demote(r, slot, true);
	}
}

static void revive(struct routed *r, uint32_t slot)
{
	struct participant *p = &r->d.participants[slot];

	fact_publish32(&p->flags, 0);
	r->watch[slot].spared = false;
	log_info("participant %u: %.63s (pid %u) beats again", slot, p->name,
	    p->pid);
	match_demote(r, slot, false);
}

/* Its words are zeros from now on: a reader that gates nobody, a publisher whose
 * ring is at its end. */
static void look_for_cut(struct routed *r, uint32_t slot)
{
	const struct participant *p = &r->d.participants[slot];
	struct watch *w = &r->watch[slot];

	if (w->cut || !peer_cut(w->peer))
		return;
	w->cut = true;
	log_warn("p%u (%.63s, pid %u) was truncated by its owner: what that "
	    "participant holds or has published counts no more", slot, p->name,
	    p->pid);
}

static void heartbeat(struct routed *r, uint32_t slot)
{
	struct participant *p = &r->d.participants[slot];
	bool stalled = fact_load32(&p->flags) & PARTICIPANT_STALLED;
	const struct member *member = r->watch[slot].peer->member;
	const struct watch *w = &r->watch[slot];
	uint64_t beat = news_load(&member->beat);
	struct heart heart;
	bool silent;

	if (heart_look(&r->d, slot, p->incarnation, beat, &heart) < 0)
		return;
	look_for_cut(r, slot);
	silent = heart.silence >= SILENT_PERIODS * r->d.heartbeat;
	/* Without a pidfd nobody else brings the news, nor of one that executes
	 * another program; and who has left, his farewell unheard, must not be
	 * punished for his silence. */
	if (heart.silence >= LATE_PERIODS * r->d.heartbeat ||
	    fact_load(&member->left) != 0 || w->exit == NULL || w->exited)
		reap_one(r, slot);
	if (fact_load32(&p->state) != PARTICIPANT_LIVE)
		return;
	if (silent && !stalled)
		stall(r, slot, heart.silence);
	else if (stalled && beat != w->last_beat)
		revive(r, slot);
}

void heartbeats_begin(struct routed *r)
{
	uint64_t now = clock_ns();
	bool on_time = now - r->last_tick < 2 * r->d.heartbeat;

	r->last_tick = now;
	ports_closed_unheard(r);
	match_late(r);
	if (retain_expired(r))
		drain_soon(r);
	/* A daemon that slept with everybody else has no say in who is late. */
	r->beats_next = on_time ? 0 : r->d.max_participants;
}

bool heartbeats_go_on(struct routed *r)
{
	for (; r->beats_next < r->d.max_participants; r->beats_next++) {
		uint32_t i = r->beats_next;

		if (turn_over(r))
			return false;
		if (fact_load32(&r->d.participants[i].state) ==
		    PARTICIPANT_LIVE && r->watch[i].peer != NULL)
			heartbeat(r, i);
	}
	return true;
}

/* ---- draining ------------------------------------------------------------------------- */

struct ring *port_ring(const struct routed *r, const struct port *p,
    uint32_t *slots)
{
	uint32_t port = (uint32_t)(p - r->d.ports);
	struct ring *ring = port_place(r, port);

	*slots = r->shape[port].slots;
	return ring == NULL || word_serial(tail_load(ring)) !=
	    fact_load32(&p->serial) ? NULL : ring;
}

struct progress {
	uint64_t tail, end;
	uint64_t promised;		/* as far as anybody is waited for */
};

/* Moves the tail of a ring that is not ours as far as its readers allow;
 * false when the ring is not there (any more, or yet). */
static bool advance_tail(struct routed *r, uint32_t index, bool past_lossy,
    struct progress *out)
{
	struct port *p = &r->d.ports[index];
	bool live = fact_load32(&p->state) == PORT_OPEN;
	uint32_t slots;
	struct ring *ring = port_ring(r, p, &slots);
	struct reader_set readers = { 0 };
	struct limits l;
	uint64_t word, head, limit;
	struct ring_view view;

	if (ring == NULL)
		return false;
	word = tail_load(ring);
	head = head_load(ring);
	view = (struct ring_view){ .serial = fact_load32(&p->serial),
	    .tail = number_widen(head, word_number(word)),
	    .history = live ? r->shape[index].history : r->keep[index],
	    .slots = slots };
	/* A live owner's head may lag, which only makes us hesitate; as does one
	 * that its ring has no room for, or that nothing was stamped before. */
	view.head = live ? head : ring_end(ring, slots - 1, view.tail, head);
	if (number_diff(view.head, view.tail) < 0 ||
	    view.head - view.tail > slots ||
	    !tail_possible(ring, slots - 1, view.head))
		view.head = view.tail;
	*out = (struct progress){ view.tail, view.head, view.tail };
	if (reader_set_load(&readers, &r->d, index) < 0)
		return true;
	l = readers_limits(&readers, &view);
	out->promised = l.promised;
	limit = past_lossy ? l.promised : l.kept;
	if (limit > view.tail && tail_move(ring, &word,
	    word_make(0, view.serial, limit)))
		out->tail = limit;
	reader_set_free(&readers, &r->d);
	return true;
}

enum drained { DRAINED, DRAINING, RETAINED };

/*
 * A ring that has ended.  Once nobody is waited for, those who may lose
 * messages, and those who have yet to see the end, have settings.grace left.
 * Then its tail goes to its end: nothing more is taken, and whoever has not
 * taken all, or was there first and never came, is told where it ended.
 */
static enum drained drain_ring(struct routed *r, uint32_t index)
{
	struct port *p = &r->d.ports[index];
	uint64_t now = clock_ns();
	bool late = p->drained_at != 0 &&
	    now - p->drained_at > r->settings.grace;
	struct progress at;

	if (!advance_tail(r, index, late, &at))
		return DRAINED;
	if (at.promised != at.end) {
		p->drained_at = 0;
		return match_part(r, index) || r->keep[index] == 0 ?
		    DRAINING : RETAINED;
	}
	if (p->drained_at == 0)
		p->drained_at = now;
	if (at.tail != at.end || (!late && match_clinging(r, index) > 0))
		return DRAINING;
	match_over(r, index, at.end);
	return DRAINED;
}

/* True while it has to be looked at again. */
static bool drain_port(struct routed *r, uint32_t index)
{
	struct port *p = &r->d.ports[index];
	uint32_t state = fact_load32(&p->state);
	const struct participant *owner;

	if (state != PORT_CLOSED && state != PORT_DEAD)
		return false;
	if (r->shape[index].kind == PORT_SUBSCRIBER) {
		/* Who has left altogether reads nothing any more. */
		if (state == PORT_CLOSED && holds_shown(r, index) &&
		    (owner = owner_of_port(r, index)) != NULL &&
		    fact_load32(&owner->state) == PARTICIPANT_LIVE)
			return true;
		port_forget(r, index);
		return false;
	}
	switch (drain_ring(r, index)) {
	case RETAINED:
		return false;		/* the tick sees when its time is over */
	case DRAINING:
		return true;
	case DRAINED:
		break;
	}
	if (serial_named(r, fact_load32(&p->serial)))
		return true;
	port_forget(r, index);
	return false;
}

void sweep_now(struct routed *r)
{
	struct sweep_report report;

	if (sweep(&r->d, &report, r->visit, r->visit_arg) < 0) {
		/* Once for as long as it is so, however often it is tried. */
		if (r->unswept[0] == '\0')
			log_error("sweep: %s", zcp_errmsg());
		snprintf(r->unswept, sizeof(r->unswept), "%s", zcp_errmsg());
		return;
	}
	r->unswept[0] = '\0';
	if (report.freed > 0) {
		news_add(&r->d.m->reclaimed, report.freed);
		log_debug("swept %u chunks (%u loaned, %u published)",
		    report.freed, report.loaned, report.published);
	}
	r->last_sweep = clock_ns();
}

/*
 * Moves the tails of ended rings; true when that left chunks which only a
 * sweep frees: below a tail, or loaned by who has ended.
 */
static bool advance_ended(struct routed *r)
{
	bool garbage = false;

	chain_each(&r->of_state, PORTS_ENDED, i, after) {
		const struct port *p = &r->d.ports[i];
		struct progress at = { 0 };

		if (r->shape[i].kind != PORT_PUBLISHER)
			continue;
		if (!advance_tail(r, i, false, &at) || at.tail == at.end)
			garbage |= serial_named(r, fact_load32(&p->serial));
		else
			garbage |= at.tail != r->drained_to[i];
		r->drained_to[i] = at.tail;
	}
	return garbage;
}

bool drain(struct routed *r)
{
	bool left = false;

	if (chain_first(&r->of_state, PORTS_ENDED) != CHAIN_END) {
		retain_plan(r);
		/* First the readers that no longer count, then the rings that
		 * they kept. */
		chain_each(&r->of_state, PORTS_ENDED, i, after)
			if (r->shape[i].kind == PORT_SUBSCRIBER)
				left |= drain_port(r, i);
		if (advance_ended(r))
			sweep_now(r);
		chain_each(&r->of_state, PORTS_ENDED, i, after)
			if (r->shape[i].kind == PORT_PUBLISHER)
				left |= drain_port(r, i);
	}
	for (uint32_t i = 0; i < r->d.max_participants; i++)
		if (fact_load32(&r->d.participants[i].state) ==
		    PARTICIPANT_ENDED &&
		    chain_first(&r->of_owner, i) == CHAIN_END)
			participant_forget(r, i);
	return left;
}

void drain_soon(struct routed *r)
{
	r->drain_since = clock_ns();
	drain_in(r, DRAIN_FIRST);
}

/* What has taken long may take longer: an eighth of it is not much more. */
void drain_again(struct routed *r)
{
	uint64_t pause;

	reap_exited(r);
	if (r->sweep_wanted)
		sweep_all(r, r->sweep_size);
	if (!drain(r))
		return;
	pause = (clock_ns() - r->drain_since) / 8;
	drain_in(r, pause < DRAIN_FIRST ? DRAIN_FIRST : pause > DRAIN_LAST ?
	    DRAIN_LAST : pause);
}

/* ---- a pool runs low ---------------------------------------------------------------------- */

static bool has_free(const struct routed *r, uint64_t size)
{
	for (uint32_t p = 0; p < r->d.pools.count; p++) {
		const struct pool *pool = &r->d.pools.pool[p];

		for (uint32_t i = 0; pool->chunk_size >= size &&
		    i < pool_count(pool); i++)
			if (word_state(word_load(&pool->word[i])) == CHUNK_FREE)
				return true;
	}
	return false;
}

/* Has this publisher a chunk of `size` bytes or more in its ring? */
static bool has_chunk(const struct routed *r, uint32_t serial, uint64_t size)
{
	for (uint32_t p = 0; p < r->d.pools.count; p++) {
		const struct pool *pool = &r->d.pools.pool[p];

		for (uint32_t i = 0; pool->chunk_size >= size &&
		    i < pool_count(pool); i++) {
			uint64_t word = word_load(&pool->word[i]);

			if (word_state(word) == CHUNK_PUBLISHED &&
			    word_serial(word) == serial)
				return true;
		}
	}
	return false;
}

/* Is it there for its history alone, and its owner for nothing else? */
static bool in_the_way(const struct routed *r, uint32_t port)
{
	const struct participant *owner = owner_of_port(r, port);

	return owner != NULL && fact_load32(&owner->state) ==
	    PARTICIPANT_ENDED && extent_count(links_of(r, port)) == 0;
}

/* The history that ended longest ago, of those that have such a chunk (size
 * 0: that keep a place), for good; false: there is none. */
bool give_up_history(struct routed *r, uint64_t size)
{
	struct progress at;
	struct port *oldest = NULL;
	uint32_t port;

	chain_each(&r->of_state, PORTS_ENDED, i, after)
		if (r->keep[i] > 0 && (oldest == NULL ||
		    r->d.ports[i].ended_at < oldest->ended_at) &&
		    (size == 0 ? in_the_way(r, i) : has_chunk(r,
		    fact_load32(&r->d.ports[i].serial), size)))
			oldest = &r->d.ports[i];
	if (oldest == NULL)
		return false;
	port = (uint32_t)(oldest - r->d.ports);
	log_warn("%s short: %u retained messages of %s are given up",
	    size ? "memory is" : "places for participants are",
	    r->keep[port], port_topic_text(r, port));
	news_add(&r->d.m->cut, r->keep[port]);
	oldest->retain = 0;
	r->keep[port] = 0;
	advance_tail(r, port, true, &at);
	drain_soon(r);
	return true;
}

void sweep_all(struct routed *r, uint64_t size)
{
	struct progress at;

	if (size > r->sweep_size)
		r->sweep_size = size;
	r->sweep_wanted = clock_ns() - r->last_sweep < (uint64_t)SWEEP_PAUSE;
	if (r->sweep_wanted) {
		drain_soon(r);
		return;
	}
	pools_look(r);
	retain_plan(r);
	/* Ended rings keep nothing for readers that may lose it. */
	chain_each(&r->of_state, PORTS_OPEN, i, after)
		if (r->shape[i].kind == PORT_PUBLISHER)
			advance_tail(r, i, false, &at);
	chain_each(&r->of_state, PORTS_ENDED, i, after)
		if (r->shape[i].kind == PORT_PUBLISHER)
			advance_tail(r, i, true, &at);
	sweep_now(r);
	/* Who lives goes before what was left behind. */
	while (r->sweep_size > 0 && !has_free(r, r->sweep_size) &&
	    give_up_history(r, r->sweep_size))
		sweep_now(r);
	r->sweep_size = 0;
}
