#include "facts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "atomics.h"
#include "clock.h"
#include "liveness.h"
#include "own.h"
#include "readers.h"
#include "ring.h"
#include "topic.h"

/* ---- growing ------------------------------------------------------------------- */

/* Room is the next power of two, so that the count says when more is needed. */
void *facts_add(struct look *l, void *array, size_t *count, size_t size)
{
	size_t n = *count;
	char *bigger;

	if ((n & (n - 1)) == 0) {
		bigger = reallocarray(*(char **)array, n ? 2 * n : 1, size);
		if (bigger == NULL) {
			l->rc = error_set(ZCP_E_SYS, "out of memory");
			return NULL;
		}
		*(char **)array = bigger;
	}
	(*count)++;
	return memset(*(char **)array + n * size, 0, size);
}

/* ---- the domain ------------------------------------------------------------------ */

static uint64_t bytes_of(const char *path)
{
	struct stat st;

	return stat(path, &st) < 0 ? 0 : (uint64_t)st.st_blocks * 512;
}

static uint64_t bytes_committed(const struct domain *d)
{
	static const char *const parts[] = { "mgmt", "bell", "pool", "data" };
	char path[SEGMENT_PATH];
	uint64_t bytes = 0;

	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
		segment_path(path, d->dir, parts[i]);
		bytes += bytes_of(path);
	}
	return bytes;
}

/* It has the domain's lock for as long as it lives; 0: there is none. */
static int find_daemon(const struct domain *d, pid_t *daemon)
{
	char path[SEGMENT_PATH];
	struct look_at look;
	int rc;

	segment_path(path, d->dir, "lock");
	if (look_begin(&look, path, O_RDONLY) < 0)
		return errno == ENOENT ? 0 : error_sys("cannot open %s", path);
	rc = lock_holder(look.fd, daemon);
	look_end(&look);
	return rc < 0 ? error_in(rc, "%s", path) : 0;
}

void facts_domain(struct look *l)
{
	const struct domain *d = &l->o->d;
	const struct segment_head *head = &d->m->head;
	const struct mgmt *m = d->m;
	zcp_domain_facts *f = &l->s->domain;
	pid_t daemon = 0;

	if (!d->copy)
		l->rc = find_daemon(d, &daemon);
	*f = (zcp_domain_facts){ .uid = head->uid, .layout_major = head->major,
	    .layout_minor = head->minor, .instance = head->instance,
	    .created = m->created, .heartbeat = d->heartbeat,
	    .symmetric = d->symmetric, .copy = d->copy,
	    .max_participants = d->max_participants,
	    .max_topics = d->max_topics, .max_ports = d->max_ports,
	    .max_links = d->max_links,
	    .daemon = daemon,
	    .bytes = bytes_committed(d),
	    .registrations = fact_load(&m->registrations),
	    .incarnations = fact_load(&m->incarnations),
	    .deaths = news_load(&m->deaths),
	    .reclaimed = news_load(&m->reclaimed),
	    .demotions = news_load(&m->demotions),
	    .refused = news_load(&m->refused), .cut = news_load(&m->cut),
	    .slow = news_load(&m->slow),
	    .long_holds = news_load(&m->long_holds) };
	/* Only the file of a copy knows. */
	snprintf(f->name, sizeof(f->name), "%.*s", DOMAIN_NAME,
	    d->copy ? m->domain : d->name);
	if (!name_valid(f->name))
		snprintf(f->name, sizeof(f->name), "%s", d->name);
	snprintf(f->dir, sizeof(f->dir), "%s", d->dir);
}

/* ---- participants ----------------------------------------------------------------- */

/* Its file, mapped as long as it is the same participant's. */
static struct peer *peer_of(struct look *l, uint32_t slot,
    uint64_t incarnation)
{
	struct peer **peer = &l->o->peer[slot];
	int rc;

	if (*peer != NULL && (*peer)->incarnation != incarnation) {
		peer_put(&l->o->d, *peer);
		*peer = NULL;
	}
	/* What cannot be looked at is not damaged. */
	if (*peer == NULL &&
	    (rc = peer_get(&l->o->d, slot, incarnation, peer)) == -ZCP_E_SYS)
		l->rc = rc;
	return *peer;
}

/* When it last beat, by our clock: as far as we have watched it; at a first
 * look its own word is all there is, whatever clock it goes by. */
static uint64_t last_beat(struct look *l, const zcp_participant_facts *f,
    uint64_t beat, bool *late)
{
	uint64_t now = l->s->time, period = l->s->domain.heartbeat;
	struct heart heart;

	if (heart_look(&l->o->d, f->slot, f->incarnation, beat, &heart) < 0) {
		l->rc = -ZCP_E_SYS;
		return 0;
	}
	*late = heart.silence >= LATE_PERIODS * period;
	if (!heart.known)
		return beat < now ? beat : now;
	return heart.age < now ? now - heart.age : 0;
}

/* A daemon that is gone says nothing of those who died after it. */
static enum zcp_participant_state state_of(struct look *l, uint32_t slot,
    uint32_t state, uint32_t flags, bool late)
{
	enum fate fate = FATE_ALIVE;

	if (state != PARTICIPANT_LIVE)
		return flags & PARTICIPANT_DIED ? ZCP_PARTICIPANT_DIED :
		    ZCP_PARTICIPANT_LEFT;
	if (!l->o->d.copy && (late || l->s->domain.daemon == 0))
		fate = participant_fate(&l->o->d, slot);
	return fate == FATE_DIED ? ZCP_PARTICIPANT_DIED :
	    fate == FATE_LEFT ? ZCP_PARTICIPANT_LEFT :
	    flags & PARTICIPANT_STALLED ? ZCP_PARTICIPANT_STALLED :
	    ZCP_PARTICIPANT_LIVE;
}

/* Names are of printable ASCII; what a damaged file has instead could command
 * the terminal that it is shown on. */
static void copy_name(char *to, const char *from, size_t size)
{
	memcpy(to, from, size);
	to[size - 1] = '\0';
	for (; *to != '\0'; to++)
		if (*to < ' ' || *to > '~')
			*to = '?';
}

static bool copy_participant(const struct participant *p, uint32_t slot,
    zcp_participant_facts *f)
{
	*f = (zcp_participant_facts){ .slot = slot, .pid = p->pid,
	    .uid = p->uid, .gid = p->gid, .incarnation = p->incarnation,
	    .start_time = p->start_time, .registered = p->registered };
	copy_name(f->name, p->name, sizeof(f->name));
	fact_recheck();
	return fact_load32(&p->state) != PARTICIPANT_FREE &&
	    p->incarnation == f->incarnation;
}

void facts_participants(struct look *l)
{
	struct domain *d = &l->o->d;
	for (uint32_t i = 0; i < d->max_participants && l->rc == 0; i++) {
		const struct participant *p = &d->participants[i];
		uint32_t state = fact_load32(&p->state);
		zcp_participant_facts copy, *f;
		char path[SEGMENT_PATH];
		struct peer *peer;
		bool late = false;

		l->at.participant[i] = ZCP_NONE;
		if (state == PARTICIPANT_FREE || !copy_participant(p, i, &copy))
			continue;
		l->at.participant[i] = (uint32_t)l->s->participants;
		if ((f = facts_add(l, &l->s->participant, &l->s->participants,
		    sizeof(*f))) == NULL)
			return;
		*f = copy;
		peer = peer_of(l, i, f->incarnation);
		f->beat = peer == NULL ? 0 : last_beat(l, f,
		    news_load(&peer->member->beat), &late);
		f->state = state_of(l, i, state, fact_load32(&p->flags), late);
		member_path(d, i, path);
		l->s->domain.bytes += bytes_of(path);
	}
}

/* ---- topics ------------------------------------------------------------------------ */

void facts_topics(struct look *l)
{
	struct domain *d = &l->o->d;

	for (uint32_t i = 0; i < d->max_topics && l->rc == 0; i++) {
		const struct topic *t = &d->topics[i];
		uint32_t state = fact_load32(&t->state);
		zcp_topic_facts *f;

		l->at.topic[i] = ZCP_NONE;
		if (state == TOPIC_FREE)
			continue;
		l->at.topic[i] = (uint32_t)l->s->topics;
		if ((f = facts_add(l, &l->s->topic, &l->s->topics,
		    sizeof(*f))) == NULL)
			return;
		f->index = i;
		f->pattern = state == TOPIC_PATTERN;
		_Static_assert(sizeof(f->name) == sizeof(t->name),
		    "a name fits");
		copy_name(f->name, t->name, sizeof(f->name));
	}
}

/* ---- ports -------------------------------------------------------------------------- */

static struct peer *owner_of(struct look *l, const zcp_port_facts *f)
{
	const zcp_participant_facts *owner =
	    &l->s->participant[f->participant];

	return peer_of(l, owner->slot, owner->incarnation);
}

const struct ring *facts_ring(struct look *l, const zcp_port_facts *f)
{
	struct peer *peer = owner_of(l, f);

	return peer == NULL ? NULL :
	    peer_ring(peer, l->o->d.ports[f->index].offset, f->slots);
}

const struct subscription *facts_subscription(struct look *l,
    const zcp_port_facts *f)
{
	struct peer *peer = owner_of(l, f);

	return peer == NULL ? NULL : peer_subscription(peer,
	    l->o->d.ports[f->index].offset, f->slots, f->holds_most);
}

/* Is the port still the one that was copied? */
static bool same(const zcp_port_facts *f, const struct port *p)
{
	fact_recheck();
	return fact_load32(&p->state) != PORT_FREE &&
	    fact_load32(&p->serial) == f->serial;
}

/* The stamp of a message that is still there; 0: it has none, or is not. */
static uint64_t stamp_of(const struct ring *ring, uint32_t mask, uint64_t seq)
{
	uint64_t body[INLINE_SIZE / 8];
	struct message m;

	return ring_get(ring, mask, seq, &m, body) == SLOT_MESSAGE ? m.time : 0;
}

/*
 * Intervals of messages since the last look, from the newest stamps: all of
 * them where each message has one, else of 1 in DELAY_EVERY.  A few slots,
 * because each look at one takes its line from the publisher.
 */
static void look_at_intervals(zcp_port_facts *f, const struct ring *ring,
    uint32_t mask, uint64_t from)
{
	enum { SAMPLES = 32 };
	uint64_t last = 0, newest = 0, last_seq = 0, newest_seq = 0, step = 1;
	uint64_t seq = f->head;

	for (int n = 0; n < SAMPLES && seq >= from + step && seq > 0; n++) {
		uint64_t time = stamp_of(ring, mask, seq -= step);

		if (time == 0 && step == 1) {
			step = DELAY_EVERY;
			seq -= seq % step;
			time = seq < from ? 0 : stamp_of(ring, mask, seq);
		}
		if (time == 0)
			break;
		if (newest == 0) {
			newest = time;
			newest_seq = seq;
		} else if (last > time) {
			uint64_t each = (last - time) / (last_seq - seq);

			if (f->interval_min == 0 || each < f->interval_min)
				f->interval_min = each;
			if (each > f->interval_max)
				f->interval_max = each;
		}
		last = time;
		last_seq = seq;
	}
	if (newest > last && newest_seq > last_seq)
		f->interval_mean = (double)(newest - last) /
		    (double)(newest_seq - last_seq);
}

static void look_at_ring(struct look *l, zcp_port_facts *f,
    const struct ring *ring)
{
	struct port_memory *memory = &l->o->memory[f->index];
	uint64_t word = tail_load(ring), from;

	if (word_serial(word) != f->serial)
		return;			/* registered, and not founded yet */
	f->head = news_load(&ring->head);
	f->tail = number_widen(f->head, word_number(word));
	/* head lags by a batch, and its owner may have died within one. */
	f->head = ring_end(ring, f->slots - 1, f->tail, f->head);
	f->messages = f->head;
	f->bytes = news_load(&ring->bytes);
	f->unseen = news_load(&ring->unseen);
	f->waits = news_load(&ring->waits);
	f->waiting = (want_load(ring) & WANT_SET) != 0;
	from = memory->serial == f->serial && memory->head > f->tail ?
	    memory->head : f->tail;
	if (memory->serial == f->serial)
		look_at_intervals(f, ring, f->slots - 1, from ? from - 1 : 0);
	*memory = (struct port_memory){ f->serial, f->head };
}

static void look_at_subscription(zcp_port_facts *f,
    const struct subscription *s)
{
	f->taken = news_load(&s->taken);
	f->taken_bytes = news_load(&s->taken_bytes);
	f->lost = news_load(&s->lost);
	_Static_assert(DELAY_BUCKETS == ZCP_DELAY_BUCKETS, "one histogram");
	for (unsigned i = 0; i < DELAY_BUCKETS; i++)
		f->delay[i] = news_load32(&s->delay[i]);
}

static bool copy_port(struct look *l, uint32_t i, zcp_port_facts *f)
{
	const struct domain *d = &l->o->d;
	const struct port *p = &d->ports[i];
	uint32_t state = fact_load32(&p->state);
	bool publisher = p->kind == PORT_PUBLISHER;

	*f = (zcp_port_facts){ .index = i, .serial = fact_load32(&p->serial),
	    .publisher = publisher, .state = state == PORT_OPEN ?
	    ZCP_PORT_OPEN : state == PORT_CLOSED ? ZCP_PORT_CLOSED :
	    ZCP_PORT_DEAD, .participant = p->participant, .topic = p->topic,
	    .reliable = (p->flags & PORT_RELIABLE) != 0,
	    .unlisted = (p->flags & PORT_UNLISTED) != 0,
	    .links = extent_count(fact_load(&p->links)),
	    .ended_at = p->ended_at, .slots = p->slots,
	    .slow_since = news_load(&p->slow_since) };
	if (publisher) {
		f->history = p->history;
		f->retain = p->retain;
	} else {
		f->holds_most = p->history;
		f->depth = p->depth;
	}
	if (state == PORT_OPEN)
		f->ended_at = 0;
	if (!same(f, p))
		return false;
	/* What names nothing makes no sense. */
	if (f->participant >= d->max_participants ||
	    l->at.participant[f->participant] == ZCP_NONE ||
	    f->topic >= d->max_topics || l->at.topic[f->topic] == ZCP_NONE ||
	    (p->kind != PORT_PUBLISHER && p->kind != PORT_SUBSCRIBER)) {
		l->s->domain.damaged++;
		return false;
	}
	f->participant = l->at.participant[f->participant];
	f->topic = l->at.topic[f->topic];
	return true;
}

/* Counted where it is named. */
static void count_port(struct look *l, const zcp_port_facts *f)
{
	zcp_participant_facts *participant =
	    &l->s->participant[f->participant];
	zcp_topic_facts *topic = &l->s->topic[f->topic];

	if (f->state != ZCP_PORT_OPEN)
		return;
	participant->publishers += f->publisher != 0;
	participant->subscribers += f->publisher == 0;
	topic->publishers += f->publisher != 0;
	topic->subscribers += f->publisher == 0;
}

static void look_at_port(struct look *l, zcp_port_facts *f)
{
	const struct subscription *subscription;
	const struct ring *ring;

	if (f->publisher) {
		if ((ring = facts_ring(l, f)) != NULL)
			look_at_ring(l, f, ring);
		else
			l->s->domain.damaged++;
	} else if (f->state != ZCP_PORT_DEAD) {
		if ((subscription = facts_subscription(l, f)) != NULL)
			look_at_subscription(f, subscription);
		else
			l->s->domain.damaged++;
	}
}

void facts_ports(struct look *l)
{
	struct domain *d = &l->o->d;

	for (uint32_t i = 0; i < d->max_ports && l->rc == 0; i++) {
		zcp_port_facts copy, *f;

		l->at.port[i] = ZCP_NONE;
		if (fact_load32(&d->ports[i].state) == PORT_FREE ||
		    !copy_port(l, i, &copy))
			continue;
		look_at_port(l, &copy);
		if (!same(&copy, &d->ports[i]))
			continue;
		l->at.port[i] = (uint32_t)l->s->ports;
		if ((f = facts_add(l, &l->s->port, &l->s->ports,
		    sizeof(*f))) == NULL)
			return;
		*f = copy;
		count_port(l, f);
	}
}

/* ---- links ---------------------------------------------------------------------------- */

/* Since when the message that it takes next has been waiting; where that one
 * has no stamp, the next that has. */
static uint64_t waiting_of(const zcp_link_facts *f, const zcp_port_facts *p,
    const struct ring *ring, uint64_t now)
{
	uint64_t seq = f->at, time = f->lag == 0 ? 0 :
	    stamp_of(ring, p->slots - 1, seq);

	if (time == 0 && f->lag > 0) {
		seq += DELAY_EVERY - 1 - (seq - 1) % DELAY_EVERY;
		time = seq < p->head ? stamp_of(ring, p->slots - 1, seq) : 0;
	}
	return time != 0 && time < now ? now - time : 0;
}

static void look_at_cursor(struct look *l, zcp_link_facts *f, uint64_t link)
{
	zcp_port_facts *publisher = &l->s->port[f->publisher];
	zcp_port_facts *reader = &l->s->port[f->reader];
	const struct subscription *s = facts_subscription(l, reader);
	const struct ring *ring = facts_ring(l, publisher);
	const struct cursor *cursor;
	uint64_t at;

	if (s == NULL || ring == NULL || link_cursor(link) >= reader->slots)
		return;
	cursor = subscription_cursor((struct subscription *)s,
	    reader->holds_most, link_cursor(link));
	at = cursor_load(cursor);
	f->joined = word_serial(at) == publisher->serial;
	f->let_go = f->joined && word_state(at) == CURSOR_LET_GO;
	f->lost = news_load(&cursor->lost);
	for (uint32_t w = 0; w < USED_WORDS; w++)
		f->held += (uint32_t)__builtin_popcountll(
		    holds_load(cursor, w));
	/* One that was there first is waited for from the start on. */
	if (f->let_go || (!f->joined && !(link_flags(link) & LINK_FROM_START)))
		return;
	f->at = f->joined ? number_widen(publisher->head, word_number(at)) : 0;
	if (f->at < publisher->tail)
		f->at = publisher->tail;
	f->lag = publisher->head > f->at ? publisher->head - f->at : 0;
	f->waiting = waiting_of(f, publisher, ring, l->s->time);
	reader->lag += f->lag;
}

static void add_link(struct look *l, uint32_t publisher, uint64_t link)
{
	uint32_t port = link_port(link), reader;
	zcp_link_facts *f;

	if (port >= l->o->d.max_ports ||
	    (reader = l->at.port[port]) == ZCP_NONE ||
	    l->s->port[reader].serial != link_serial(link) ||
	    l->s->port[reader].publisher)
		return;			/* it has come or gone meanwhile */
	if ((f = facts_add(l, &l->s->link, &l->s->links, sizeof(*f))) == NULL)
		return;
	f->publisher = publisher;
	f->reader = reader;
	f->reliable = (link_flags(link) & LINK_RELIABLE) != 0;
	f->demoted = (link_flags(link) & LINK_DEMOTED) != 0;
	look_at_cursor(l, f, link);
}

static int by_value(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* Who reads a topic through a pattern reads it, too: once each. */
static void count_followers(struct look *l)
{
	zcp_snapshot *s = l->s;
	uint64_t *pair = calloc(s->links + 1, sizeof(*pair));
	size_t n = 0;

	if (pair == NULL) {
		l->rc = error_set(ZCP_E_SYS, "out of memory");
		return;
	}
	for (size_t i = 0; i < s->links; i++) {
		const zcp_port_facts *p = &s->port[s->link[i].publisher];

		if (s->port[s->link[i].reader].topic != p->topic)
			pair[n++] = (uint64_t)p->topic << 32 |
			    s->link[i].reader;
	}
	qsort(pair, n, sizeof(*pair), by_value);
	for (size_t i = 0; i < n; i++)
		if (i == 0 || pair[i] != pair[i - 1])
			s->topic[pair[i] >> 32].subscribers++;
	free(pair);
}

void facts_links(struct look *l)
{
	struct link_list list = { 0 };
	uint64_t seen = 0;

	for (uint32_t i = 0; i < l->s->ports && l->rc == 0; i++) {
		if (!l->s->port[i].publisher || l->s->port[i].links == 0)
			continue;
		if (link_list_load(&list, &l->o->d, l->s->port[i].index) < 0) {
			l->s->domain.damaged++;
			continue;
		}
		/* Lists do not overlap; in a snapshot they do but little. */
		if ((seen += list.count) > 2ul * l->o->d.max_links) {
			l->s->domain.damaged++;
			break;
		}
		for (uint32_t k = 0; k < list.count && l->rc == 0; k++)
			add_link(l, i, list.link[k]);
	}
	link_list_free(&list);
	if (l->rc == 0)
		count_followers(l);
}
