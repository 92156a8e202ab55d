/*
 * registry.c - participants, topics and ports: the records of mgmt.
 *
 * A record is filled while its state says FREE, and its state is stored
 * last; it is freed by its state alone, first.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "atomics.h"
#include "clock.h"
#include "error.h"
#include "liveness.h"
#include "log.h"
#include "own.h"
#include "probes.h"
#include "routed.h"

/* Seconds; then it is looked again whether the name is free. */
enum { BLOCKED_FOR = 5 };

/* ---- topics --------------------------------------------------------------------- */

static int topic_index(struct routed *r, const char *name, uint32_t index)
{
	struct topic_name *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return error_set(ZCP_E_SYS, "out of memory");
	snprintf(t->name, sizeof(t->name), "%s", name);
	t->index = index;
	HASH_ADD_STR(r->topics, name, t);
	r->topic_at[index] = t;
	return 0;
}

static void topic_become(struct routed *r, uint32_t index,
    enum topic_state state)
{
	struct topic *topic = &r->d.topics[index];

	chain_remove(&r->of_kind, index);
	fact_publish32(&topic->state, state);
	chain_add(&r->of_kind, state, index);
}

static int topic_get(struct routed *r, const char *name, bool pattern)
{
	struct topic_name *t;
	struct topic *topic;
	uint32_t i;
	int rc;

	HASH_FIND_STR(r->topics, name, t);
	if (t != NULL)
		return (int)t->index;
	i = chain_first(&r->of_kind, TOPIC_FREE);
	if (i == CHAIN_END)
		return error_set(ZCP_E_REFUSED, "all %u topics are in use "
		    "(zcp-routed --max-topics)", r->d.max_topics);
	if ((rc = topic_index(r, name, i)) < 0)
		return rc;
	topic = &r->d.topics[i];
	memset(topic->name, 0, sizeof(topic->name));
	snprintf(topic->name, sizeof(topic->name), "%s", name);
	topic->publishers = topic->subscribers = 0;
	topic_become(r, i, pattern ? TOPIC_PATTERN : TOPIC_NAMED);
	return (int)i;
}

static void topic_put(struct routed *r, uint32_t index)
{
	struct topic_name *t;

	if (index == CHAIN_END || (t = r->topic_at[index]) == NULL ||
	    chain_first(&r->of_topic, index) != CHAIN_END)
		return;
	topic_become(r, index, TOPIC_FREE);
	r->topic_at[index] = NULL;
	HASH_DEL(r->topics, t);
	free(t);
}

static void topic_count(struct routed *r, uint32_t port, uint32_t index, int by)
{
	struct topic *topic = &r->d.topics[index];

	if (r->shape[port].kind == PORT_PUBLISHER)
		topic->publishers += (uint32_t)by;
	else
		topic->subscribers += (uint32_t)by;
}

/* ---- participants ------------------------------------------------------------------ */

static int find_slot(struct routed *r, uint64_t nonce, pid_t pid, uid_t uid,
    bool *repeated)
{
	uint64_t now = clock_ns();
	uint32_t blocked = 0;
	int vacant = -1;

	*repeated = false;
	for (uint32_t i = 0; i < r->d.max_participants; i++) {
		const struct participant *p = &r->d.participants[i];
		uint32_t state = fact_load32(&p->state);

		if (state == PARTICIPANT_LIVE && nonce != 0 &&
		    p->nonce == nonce && client_is(r, i, pid, uid, nonce)) {
			*repeated = true;
			return (int)i;
		}
		/* One that is watched is not free, whatever its record says. */
		if (state != PARTICIPANT_FREE || r->watch[i].routed != NULL)
			continue;
		if (r->watch[i].blocked > now)
			blocked++;
		else if (vacant < 0)
			vacant = (int)i;
	}
	if (vacant < 0 && blocked > 0)
		return error_set(ZCP_E_REFUSED, "something has the names of "
		    "the files of %u participants, and all others are in use "
		    "(ls -l %s/p*)", blocked, r->d.dir);
	return vacant >= 0 ? vacant : error_set(ZCP_E_REFUSED, "all %u "
	    "participants are in use, those that ended and left "
	    "unread messages included (zcp-routed --max-participants)",
	    r->d.max_participants);
}

/* What stands at a free slot's name is no file of ours, or unlink(2) would
 * have removed it.  1: so it is. */
static int pass_over(struct routed *r, uint32_t slot, const char *path)
{
	char what[64];

	site_what(path, what);
	r->watch[slot].blocked = clock_ns() + BLOCKED_FOR * NS_PER_S;
	log_warn("%s is %s: its place is passed over for %d s (remove it)",
	    path, what, BLOCKED_FOR);
	return 1;
}

/* 1: something has the file's name, another slot will do. */
static int member_create(struct routed *r, uint32_t slot, uint64_t incarnation,
    uid_t uid, gid_t gid)
{
	uint64_t instance = ((struct segment_head *)r->d.mgmt.base)->instance;
	struct segment s = SEGMENT_INIT;
	char path[SEGMENT_PATH];
	struct member *member;
	int rc;

	member_path(&r->d, slot, path);
	unlink(path);		/* of a slot that is free: a daemon was killed here */
	if ((rc = segment_create(&s, path, PART_MEMBER, MEMBER_WINDOW,
	    MEMBER_FIRST, instance, r->settings.mode)) < 0)
		return errno == EEXIST ? pass_over(r, slot, path) : rc;
	member = s.base;
	member->incarnation = incarnation;
	member->slot = slot;
	if (uid != geteuid() && fchown(s.fd, uid, gid) < 0) {
		rc = error_sys("cannot give %s to uid %u", path, (unsigned)uid);
		unlink(path);
	} else
		segment_ready(&s);
	segment_close(&s);
	return rc;
}

/* Of what was left behind, the oldest goes; false: nothing is. */
static bool make_place(struct routed *r)
{
	retain_plan(r);
	if (!give_up_history(r, 0))
		return false;
	drain(r);
	return true;
}

static void member_remove(struct routed *r, uint32_t slot)
{
	char path[SEGMENT_PATH];

	watch_remove(r, slot);
	member_path(&r->d, slot, path);
	unlink(path);
}

/* A slot with a new file, or that of a repeated request. */
static int new_slot(struct routed *r, uint64_t nonce, pid_t pid, uid_t uid,
    gid_t gid, bool *repeated)
{
	struct participant *p;
	int slot, rc;

	do {
		slot = find_slot(r, nonce, pid, uid, repeated);
		/* Who lives goes before what was left behind. */
		while (slot < 0 && make_place(r))
			slot = find_slot(r, nonce, pid, uid, repeated);
		if (slot < 0 || *repeated)
			return slot;
		p = &r->d.participants[slot];
		p->incarnation = fact_load(&r->d.m->incarnations) + 1;
		fact_publish(&r->d.m->incarnations, p->incarnation);
		rc = member_create(r, (uint32_t)slot, p->incarnation, uid,
		    gid);
	} while (rc == 1);
	return rc < 0 ? rc : slot;
}

int participant_add(struct routed *r, const char *name, uint64_t nonce,
    pid_t pid, uid_t uid, gid_t gid)
{
	struct participant *p;
	bool repeated;
	int slot = new_slot(r, nonce, pid, uid, gid, &repeated), rc;

	if (slot < 0 || repeated)
		return slot;
	p = &r->d.participants[slot];
	p->pid = (uint32_t)pid;
	p->uid = uid;
	p->gid = gid;
	p->nonce = nonce;
	/* What cannot be read (no /proc, a hidden one) stays 0, unknown. */
	p->start_time = p->pid_namespace = 0;
	if (pid != 0 && process_look(pid, &p->start_time) != 1)
		p->start_time = 0;
	if (pid_namespace_here(&p->pid_namespace) < 0)
		p->pid_namespace = 0;
	p->registered = clock_ns();
	memset(p->name, 0, sizeof(p->name));
	snprintf(p->name, sizeof(p->name), "%s", name);
	fact_publish32(&p->flags, 0);
	/* Whom we cannot watch we do not let in. */
	if ((rc = watch_add(r, (uint32_t)slot)) < 0) {
		member_remove(r, (uint32_t)slot);
		return rc;
	}
	fact_publish32(&p->state, PARTICIPANT_LIVE);
	log_debug("participant %d: %s (pid %d) registered", slot, name,
	    (int)pid);
	return slot;
}

void participant_end(struct routed *r, uint32_t slot, bool died)
{
	struct participant *p = &r->d.participants[slot];

	if (fact_load32(&p->state) != PARTICIPANT_LIVE)
		return;
	fact_publish32(&p->flags, died ? PARTICIPANT_DIED : 0);
	fact_publish32(&p->state, PARTICIPANT_ENDED);
	if (died) {
		news_add(&r->d.m->deaths, 1);
		probe2(death, p->name, p->pid);
		log_info("participant %u: %.63s (pid %u) died", slot, p->name,
		    p->pid);
	} else
		log_debug("participant %u: %.63s (pid %u) left", slot, p->name,
		    p->pid);
	chain_each(&r->of_owner, slot, i, after)
		port_end(r, i, died);
	drain_soon(r);
}

void participant_forget(struct routed *r, uint32_t slot)
{
	member_remove(r, slot);
	fact_publish32(&r->d.participants[slot].state, PARTICIPANT_FREE);
}

/* ---- ports ---------------------------------------------------------------------------- */

static int find_port(struct routed *r, const struct registration *want,
    bool *repeated)
{
	uint32_t vacant = chain_first(&r->of_state, PORTS_SPARE);

	*repeated = true;
	chain_each(&r->of_owner, want->participant, i, after)
		if (fact_load32(&r->d.ports[i].state) == PORT_OPEN &&
		    want->nonce != 0 && r->d.ports[i].nonce == want->nonce)
			return (int)i;
	*repeated = false;
	return vacant != CHAIN_END ? (int)vacant : error_set(ZCP_E_REFUSED,
	    "all %u ports are in use (zcp-routed --max-ports)",
	    r->d.max_ports);
}

uint32_t holds_limit(const struct settings *s)
{
	enum { LEAST = 1 << 22, OF_A_PORT = 16 * 64 };
	uint64_t usual = (uint64_t)s->max_ports * OF_A_PORT;

	return s->max_holds != 0 ? s->max_holds : usual < LEAST ? LEAST :
	    usual < UINT32_MAX ? (uint32_t)usual : UINT32_MAX;
}

/* A cursor's line is looked at, too, however few holds are behind it. */
static uint64_t holds_count(uint32_t kind, uint32_t cursors, uint32_t holds)
{
	enum { LEAST = 16 };

	return kind != PORT_SUBSCRIBER ? 0 :
	    (uint64_t)cursors * (holds < LEAST ? LEAST : holds);
}

static uint64_t holds_of(const struct routed *r, uint32_t port)
{
	const struct shape *s = &r->shape[port];

	return holds_count(s->kind, s->slots, s->history);
}

static int check_holds(const struct routed *r, const struct registration *want)
{
	enum { ALL = 4 };
	uint64_t has = 0, more = holds_count(want->kind, want->slots,
	    want->history);
	uint64_t limit = holds_limit(&r->settings);

	if (want->kind != PORT_SUBSCRIBER)
		return 0;
	chain_each(&r->of_owner, want->participant, i, after)
		has += holds_of(r, i);
	if (has + more > limit)
		return error_set(ZCP_E_REFUSED, "%u cursors with %u holds each "
		    "are too many beside the %" PRIu64 " holds that p%u has "
		    "room for: a participant's subscriptions may have room for "
		    "%" PRIu64 " (zcp-routed --max-holds)", want->slots,
		    want->history, has, want->participant, limit);
	return r->holds_all + more <= ALL * limit ? 0 :
	    error_set(ZCP_E_REFUSED, "%u cursors with %u holds each are too "
	    "many beside the %" PRIu64 " holds that the subscriptions of all "
	    "participants have room for: they may have room for %" PRIu64
	    ", %d times --max-holds of zcp-routed", want->slots, want->history,
	    r->holds_all, ALL * limit, ALL);
}

/* 1: it is, in the very file that is mapped; 0: not; < 0: could not look. */
static int place_committed(struct routed *r, uint32_t slot, uint64_t offset,
    uint64_t bytes)
{
	const struct segment *mapped = &r->watch[slot].peer->segment;
	char path[SEGMENT_PATH];
	struct look_at look;
	struct stat st;
	int rc;

	member_path(&r->d, slot, path);
	if (look_begin(&look, path, O_RDONLY) < 0)
		return error_sys("cannot open %s", path);
	if (fstat(look.fd, &st) < 0)
		rc = error_sys("cannot stat %s", path);
	else if (st.st_dev != mapped->dev || st.st_ino != mapped->ino)
		rc = error_set(ZCP_E_DAMAGED, "%s is not the file any more "
		    "that participant %u was given", path, slot);
	else if ((rc = segment_committed(look.fd, offset, bytes)) < 0)
		rc = error_sys("cannot look what is committed of %s", path);
	look_end(&look);
	return rc;
}

static int check_place(struct routed *r, const struct registration *want)
{
	const struct peer *peer = r->watch[want->participant].peer;
	bool publishes = want->kind == PORT_PUBLISHER;
	uint64_t bytes = publishes ? ring_bytes(want->slots) :
	    subscription_bytes(want->slots, want->history);
	int rc;

	if (peer == NULL)
		return error_set(ZCP_E_DAMAGED, "participant %u is none that "
		    "this daemon registered", want->participant);
	if (publishes ? peer_ring(peer, want->offset, want->slots) == NULL :
	    peer_subscription(peer, want->offset, want->slots,
	    want->history) == NULL)
		return error_set(ZCP_E_ARG, "offset %" PRIu64 " with %u slots "
		    "does not lie in p%u", want->offset, want->slots,
		    want->participant);
	if ((rc = place_committed(r, want->participant, want->offset,
	    bytes)) != 1)
		return rc < 0 ? rc : error_set(ZCP_E_ARG, "offset %" PRIu64
		    " with %u slots is not committed in p%u", want->offset,
		    want->slots, want->participant);
	return 0;
}

static enum port_list list_for(uint32_t state)
{
	switch (state) {
	case PORT_FREE: return PORTS_SPARE;
	case PORT_OPEN: return PORTS_OPEN;
	default: return PORTS_ENDED;
	}
}

/* The record says it, then the private lists follow. */
static void port_become(struct routed *r, uint32_t index, uint32_t state)
{
	struct port *p = &r->d.ports[index];
	bool was_open = chain_of(&r->of_state, index) == PORTS_OPEN;

	fact_publish32(&p->state, state);
	if (index >= r->ports_most)
		r->ports_most = index + 1;
	chain_remove(&r->of_state, index);
	chain_add(&r->of_state, list_for(state), index);
	if (r->shape[index].kind == PORT_PUBLISHER) {
		r->publishers += (state == PORT_OPEN) - was_open;
		fact_publish32(&r->d.m->publishers, r->publishers);
	}
}

/* Its topic and its owner know of it. */
static void port_enlist(struct routed *r, uint32_t index, uint32_t topic,
    uint32_t slot)
{
	chain_add(&r->of_topic, topic, index);
	chain_add(&r->of_owner, slot, index);
	r->holds_all += holds_of(r, index);
	topic_count(r, index, topic, 1);
}

static void port_delist(struct routed *r, uint32_t index)
{
	uint32_t topic = port_topic(r, index);

	chain_remove(&r->of_topic, index);
	chain_remove(&r->of_owner, index);
	r->holds_all -= holds_of(r, index);
	if (topic != CHAIN_END)
		topic_count(r, index, topic, -1);
}

/* A ring without a serial that is closed was given up by an owner who never
 * heard of its registration. */
static bool ring_closed(const struct ring *ring, uint32_t serial)
{
	uint64_t tail = tail_load(ring);

	return (tail == 0 || word_serial(tail) == serial) &&
	    fact_load32(&ring->closed);
}

/* What its owner has said in its file, when no daemon heard it: that it ended
 * the port, or gave up waiting for the reply that would have told it of it. */
static void port_closed_unheard(struct routed *r, uint32_t index)
{
	const struct port *p = &r->d.ports[index];
	const struct subscription *s = port_subscription(r, index);
	const struct ring *ring = port_place(r, index);

	if ((ring != NULL && ring_closed(ring, fact_load32(&p->serial))) ||
	    (s != NULL && fact_load32(&s->opened) == SUBSCRIPTION_CLOSED))
		port_end(r, index, false);
}

int port_add(struct routed *r, const struct registration *want)
{
	bool repeated;
	int index = find_port(r, want, &repeated), topic, rc;
	struct port *p;
	uint32_t serial;

	while (index < 0 && make_place(r))
		index = find_port(r, want, &repeated);
	if (index < 0 || repeated)
		return index;
	if ((rc = check_holds(r, want)) < 0 || (rc = check_place(r, want)) < 0)
		return rc;
	/* What its owner has ended, it ended before it asked for this one. */
	chain_each(&r->of_owner, want->participant, i, after)
		port_closed_unheard(r, i);
	if ((serial = serial_new(r)) == 0)
		return -ZCP_E_REFUSED;
	if ((topic = topic_get(r, want->topic, want->pattern)) < 0)
		return topic;
	p = &r->d.ports[index];
	p->nonce = want->nonce;
	p->incarnation = r->d.participants[want->participant].incarnation;
	p->drained_at = p->ended_at = 0;
	p->retain = want->retain;
	p->kind = want->kind;
	p->participant = want->participant;
	p->topic = (uint32_t)topic;
	p->flags = want->flags;
	p->slots = want->slots;
	p->history = want->history;
	p->depth = want->depth;
	p->redeems = want->redeems;
	fact_publish32(&p->unfollowed, 0);
	fact_publish32(&p->unlinked, 0);
	fact_publish32(&p->missed_of, 0);
	fact_publish(&p->missed, 0);
	/* Of whoever had the place before. */
	news_store(&p->slow_since, 0);
	r->lags_since[index] = 0;
	fact_publish32(&p->gated, (want->flags & PORT_UNLISTED) != 0);
	p->offset = want->offset;
	p->registration = fact_load(&r->d.m->registrations) + 1;
	fact_publish(&p->links, 0);
	r->links[index] = 0;
	r->shape[index] = (struct shape){ want->offset, want->kind, want->slots,
	    want->history };
	fact_publish32(&p->serial, serial);
	port_become(r, (uint32_t)index, PORT_OPEN);
	port_enlist(r, (uint32_t)index, (uint32_t)topic, want->participant);
	if ((rc = match_port(r, (uint32_t)index)) < 0) {
		port_forget(r, (uint32_t)index);
		return rc;
	}
	fact_publish(&r->d.m->registrations, p->registration);
	return index;
}

void port_end(struct routed *r, uint32_t index, bool died)
{
	struct port *p = &r->d.ports[index];
	bool publishes = r->shape[index].kind == PORT_PUBLISHER;
	struct ring *ring;
	uint64_t e = links_of(r, index);

	if (chain_of(&r->of_state, index) != PORTS_OPEN)
		return;
	/* It may have closed the port in order, and died (or found no daemon)
	 * before it could say so. */
	if (died && (ring = port_place(r, index)) != NULL &&
	    fact_load32(&ring->closed))
		died = false;
	p->ended_at = clock_ns();
	p->ended_behind = fact_load(&r->d.m->registrations);
	r->drained_to[index] = UINT64_MAX;	/* not looked at yet */
	port_become(r, index, died ? PORT_DEAD : PORT_CLOSED);
	generation_bump(r, index);
	missed_count(r, index);
	if (publishes) {
		bell_announce(domain_bell(&r->d,
		    bell_of_topic(port_topic(r, index))));
		bell_announce(domain_bell(&r->d, BELL_DOMAIN));
	}
	/* From now on nobody waits for this reader; its holds still count. */
	for (uint32_t i = 0; !publishes && i < extent_count(e); i++) {
		uint32_t publisher = link_port(fact_load(
		    &r->d.links[extent_first(e) + i]));

		if (publisher >= r->d.max_ports)
			continue;
		link_flag(r, publisher, index, LINK_DEMOTED, true);
		bell_announce(domain_bell(&r->d,
		    bell_of_port(r->d.max_topics, publisher)));
	}
	drain_soon(r);
}

void ports_closed_unheard(struct routed *r)
{
	chain_each(&r->of_state, PORTS_OPEN, i, after)
		port_closed_unheard(r, i);
}

void port_forget(struct routed *r, uint32_t index)
{
	uint32_t topic = port_topic(r, index);

	unmatch_port(r, index);
	links_release(r, index);
	port_delist(r, index);
	port_become(r, index, PORT_FREE);
	r->shape[index] = (struct shape){ 0 };
	generation_bump(r, index);
	topic_put(r, topic);
}

/* ---- adoption --------------------------------------------------------------------------- */

/* What a record says of a port, or an error when it makes no sense. */
static int port_shape(const struct port *p, struct shape *shape)
{
	uint32_t state = fact_load32(&p->state), serial = fact_load32(&p->serial);
	uint64_t size;

	*shape = (struct shape){ once(p->offset), once(p->kind),
	    once(p->slots), once(p->history) };
	if (shape->kind == PORT_PUBLISHER) {
		size = shape->slots < MIN_RING || shape->slots > MAX_RING ||
		    (shape->slots & (shape->slots - 1)) ? 0 :
		    ring_bytes(shape->slots);
	} else {
		size = shape->kind != PORT_SUBSCRIBER || shape->slots == 0 ||
		    shape->slots > 1u << LINK_CURSOR_BITS ||
		    shape->history == 0 || shape->history > MAX_HOLDS ? 0 :
		    subscription_bytes(shape->slots, shape->history);
	}
	return state <= PORT_DEAD && serial != 0 && serial <= SERIAL_MASK &&
	    size != 0 && shape->offset >= MEMBER_FIRST &&
	    shape->offset <= MEMBER_WINDOW - size ? 0 : -ZCP_E_DAMAGED;
}

static int rebuild_port(struct routed *r, uint32_t i)
{
	struct port *p = &r->d.ports[i];
	uint32_t topic = once(p->topic), slot = once(p->participant);
	uint32_t state = fact_load32(&p->state);

	if (topic >= r->d.max_topics || r->topic_at[topic] == NULL ||
	    slot >= r->d.max_participants ||
	    port_shape(p, &r->shape[i]) < 0)
		return error_set(ZCP_E_DAMAGED, "domain %s: the record of port "
		    "%u makes no sense", r->d.name, i);
	port_enlist(r, i, topic, slot);
	chain_remove(&r->of_state, i);
	chain_add(&r->of_state, list_for(state), i);
	r->ports_most = i + 1;
	r->publishers += r->shape[i].kind == PORT_PUBLISHER &&
	    state == PORT_OPEN;
	p->drained_at = 0;
	return 0;
}

static int rebuild_topics(struct routed *r)
{
	uint32_t state;
	int rc = 0;

	for (uint32_t i = 0; i < r->d.max_topics && rc == 0; i++) {
		struct topic *topic = &r->d.topics[i];

		topic->publishers = topic->subscribers = 0;
		topic->name[TOPIC_NAME - 1] = '\0';
		state = fact_load32(&topic->state);
		if (state > TOPIC_PATTERN)
			return error_set(ZCP_E_DAMAGED, "domain %s: the record "
			    "of topic %u makes no sense", r->d.name, i);
		if (state != TOPIC_FREE)
			rc = topic_index(r, topic->name, i);
		chain_remove(&r->of_kind, i);
		chain_add(&r->of_kind, state, i);
	}
	for (uint32_t i = 0; i < r->d.max_ports && rc == 0; i++)
		if (fact_load32(&r->d.ports[i].state) != PORT_FREE)
			rc = rebuild_port(r, i);
	/* A daemon was killed before it counted, and answered, this one: its
	 * owner asks again. */
	for (uint32_t i = 0; i < r->d.max_ports && rc == 0; i++)
		if (port_owner(r, i) != CHAIN_END &&
		    r->d.ports[i].registration >
		    fact_load(&r->d.m->registrations))
			port_forget(r, i);
	for (uint32_t i = 0; i < r->d.max_topics && rc == 0; i++)
		topic_put(r, i);
	return rc;
}

int registry_open(struct routed *r)
{
	int rc;

	if ((rc = known_open(r)) < 0 ||
	    (rc = chain_open(&r->of_topic, r->d.max_topics, r->d.max_ports)) < 0 ||
	    (rc = chain_open(&r->of_owner, r->d.max_participants,
	    r->d.max_ports)) < 0 ||
	    (rc = chain_open(&r->of_state, PORT_LISTS, r->d.max_ports)) < 0 ||
	    (rc = chain_open(&r->of_kind, TOPIC_PATTERN + 1,
	    r->d.max_topics)) < 0)
		return rc;
	r->drained_to = malloc(r->d.max_ports * sizeof(*r->drained_to));
	if (r->drained_to == NULL)
		return error_set(ZCP_E_SYS, "out of memory");
	/* Not looked at yet: what had ended before an adoption. */
	memset(r->drained_to, 0xff, r->d.max_ports * sizeof(*r->drained_to));
	for (uint32_t i = 0; i < r->d.max_ports; i++)
		chain_add(&r->of_state, PORTS_SPARE, i);
	for (uint32_t i = 0; i < r->d.max_topics; i++)
		chain_add(&r->of_kind, TOPIC_FREE, i);
	return 0;
}

void registry_close(struct routed *r)
{
	chain_close(&r->of_topic);
	chain_close(&r->of_owner);
	chain_close(&r->of_state);
	chain_close(&r->of_kind);
	free(r->drained_to);
	known_close(r);
}

/* Whoever lives must be watched, or its holds are not seen; of what has ended
 * the rings are to be read.  Nothing has been changed so far. */
int registry_watch(struct routed *r)
{
	char who[WHO_SIZE];
	int rc;

	for (uint32_t i = 0; i < r->d.max_participants; i++) {
		if (fact_load32(&r->d.participants[i].state) ==
		    PARTICIPANT_FREE || (rc = watch_add(r, i)) == 0)
			continue;
		participant_who(&r->d, i, who);
		if (!peer_gone(rc))
			return error_in(rc, "cannot watch %s", who);
		/* Nobody can read it: registry_rebuild() ends it. */
		log_warn("%s: %s", who, zcp_errmsg());
	}
	return 0;
}

int registry_rebuild(struct routed *r)
{
	int rc = rebuild_topics(r);

	for (uint32_t i = 0; i < r->d.max_participants && rc == 0; i++) {
		r->d.participants[i].name[NAME_SIZE - 1] = '\0';
		if (fact_load32(&r->d.participants[i].state) ==
		    PARTICIPANT_LIVE && r->watch[i].peer == NULL)
			participant_end(r, i, true);
	}
	return rc;
}
