/*
 * tap.c - watch without a place of one's own: copy, then look whether what
 * was copied was still there.  Writes nothing that a publisher reads.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "participant.h"
#include "ring.h"
#include "spin.h"
#include "topic.h"

struct tapped {
	uint32_t port, serial;
	struct peer *peer;
	const struct ring *ring;
	uint32_t mask;
	uint64_t at;
	bool founded;			/* the ring carries its serial */
	bool left;			/* the ring is damaged */
	bool first;			/* registered after the tap: from 0 */
	char topic[TOPIC_NAME];
	char name[NAME_SIZE];		/* its participant's */
	uint32_t pid;
};

struct zcp_tap {
	struct zcp *bus;
	char *topic;
	bool pattern;
	struct tapped *ring;
	uint32_t count, room, next;
	uint64_t registrations;		/* as of the last look */
	bool looked;
	char *copy;
	struct spin spin;
};

/* ---- finding rings --------------------------------------------------------- */

static bool concerns(const struct zcp_tap *tap, const struct port *p)
{
	const struct domain *d = &tap->bus->d;

	if (fact_load32(&p->state) == PORT_FREE ||
	    p->kind != PORT_PUBLISHER || p->topic >= d->max_topics ||
	    (p->flags & PORT_UNLISTED) ||
	    p->participant >= d->max_participants)
		return false;
	if (tap->pattern)
		return topic_matches(tap->topic, d->topics[p->topic].name);
	return strncmp(tap->topic, d->topics[p->topic].name, TOPIC_NAME) == 0;
}

static bool known(const struct zcp_tap *tap, uint32_t serial)
{
	for (uint32_t i = 0; i < tap->count; i++)
		if (tap->ring[i].serial == serial)
			return true;
	return false;
}

static int add(struct zcp_tap *tap, uint32_t port)
{
	struct domain *d = &tap->bus->d;
	const struct port *p = &d->ports[port];
	struct tapped t = { .port = port,
	    .serial = fact_load32(&p->serial), .mask = p->slots - 1,
	    .first = tap->looked };
	int rc;

	if (known(tap, t.serial))
		return 0;
	if (tap->count == tap->room) {
		uint32_t room = tap->room ? 2 * tap->room : 8;
		struct tapped *bigger = realloc(tap->ring,
		    room * sizeof(*bigger));

		if (bigger == NULL)
			return error_set(ZCP_E_SYS, "out of memory");
		tap->ring = bigger;
		tap->room = room;
	}
	rc = peer_get(d, p->participant, p->incarnation, &t.peer);
	if (rc == -ZCP_E_ENDED)
		return 0;		/* gone in the meantime */
	if (rc < 0)
		return error_in(rc, "cannot look at publisher %u", port);
	t.ring = peer_ring(t.peer, p->offset, t.mask + 1);
	snprintf(t.topic, sizeof(t.topic), "%.*s", TOPIC_NAME - 1,
	    d->topics[p->topic].name);
	snprintf(t.name, sizeof(t.name), "%.*s", NAME_SIZE - 1,
	    d->participants[p->participant].name);
	t.pid = d->participants[p->participant].pid;
	fact_recheck();
	if (t.ring == NULL || fact_load32(&p->serial) != t.serial)
		peer_put(d, t.peer);
	else
		tap->ring[tap->count++] = t;
	return 0;
}

/* The tail of a tapped ring; false when it is not (or no longer) ours. */
static bool tail_of(const struct tapped *t, uint64_t near, uint64_t *tail)
{
	uint64_t word = tail_validate(t->ring);

	*tail = number_widen(near, word_number(word));
	return word_serial(word) == t->serial;
}

static void found(struct tapped *t)
{
	uint64_t head = news_load(&t->ring->head), tail;

	if (t->founded || t->left || !tail_of(t, head, &tail))
		return;
	t->founded = true;
	t->at = t->first ? 0 : ring_end(t->ring, t->mask, tail, head);
}

static void forget(struct zcp_tap *tap, uint32_t i)
{
	peer_put(&tap->bus->d, tap->ring[i].peer);
	tap->ring[i] = tap->ring[--tap->count];
	tap->next = 0;
}

static bool gone(const struct zcp_tap *tap, const struct tapped *t)
{
	const struct port *p = &tap->bus->d.ports[t->port];

	return fact_load32(&p->serial) != t->serial ||
	    fact_load32(&p->state) == PORT_FREE;
}

static int look(struct zcp_tap *tap)
{
	struct domain *d = &tap->bus->d;
	uint64_t now = fact_load(&d->m->registrations);
	int rc = 0;

	for (uint32_t i = 0; i < tap->count; i++)
		found(&tap->ring[i]);
	if (tap->looked && now == tap->registrations)
		return 0;
	for (uint32_t i = tap->count; i-- > 0;)
		if (gone(tap, &tap->ring[i]))
			forget(tap, i);
	for (uint32_t i = 0; i < d->max_ports && rc == 0; i++)
		if (concerns(tap, &d->ports[i]))
			rc = add(tap, i);
	for (uint32_t i = 0; i < tap->count; i++)
		found(&tap->ring[i]);
	tap->registrations = now;
	tap->looked = true;
	return rc;
}

/* ---- reading ------------------------------------------------------------------ */

/* The stamp of the slot that was rewritten tells how far the ring has come, were
 * it more than the 40 bits of its tail can say. */
static int passed(struct zcp_tap *tap, struct tapped *t, zcp_msg *msg)
{
	uint64_t stamp = slot_stamp(&t->ring->slot[t->at & t->mask]) &
	    ~STAMP_BUSY, tail, again;

	if (!tail_of(t, stamp > t->at ? stamp - 1 : t->at, &tail) ||
	    tail <= t->at)
		return 0;
	msg->data = NULL;
	if (!tail_possible(t->ring, t->mask, tail) &&
	    tail_of(t, tail, &again) && again == tail) {
		t->left = true;
		msg->lost = 1;
		return error_set(ZCP_E_DAMAGED, "the ring of %s (pid %u) on %s "
		    "is damaged: it is tapped no more", t->name, t->pid,
		    t->topic);
	}
	msg->lost = tail - t->at;
	t->at = tail;
	return error_set(ZCP_E_LAPPED, "%" PRIu64 " messages on %s were "
	    "overwritten before the tap saw them", msg->lost, tap->topic);
}

/* The payload, or NULL when the slot makes no sense. */
static const char *payload(const struct zcp_tap *tap, const struct message *m,
    const uint64_t *body)
{
	const struct pools *pools = &tap->bus->d.pools;

	if (m->chunk == CHUNK_INLINE)
		return m->length <= INLINE_SIZE ? (const char *)body : NULL;
	return pool_see(pools, m->chunk, m->offset, m->length);
}

static int read_one(struct zcp_tap *tap, struct tapped *t, zcp_msg *msg)
{
	uint64_t body[INLINE_SIZE / 8];
	enum slot_found found_slot;
	struct message m = { 0 };
	const char *data;
	uint64_t tail;

	if (!t->founded || t->left)
		return 0;
	found_slot = ring_get(t->ring, t->mask, t->at, &m, body);
	if (found_slot == SLOT_EMPTY)
		return 0;
	if (found_slot == SLOT_OVERTAKEN)
		return passed(tap, t, msg);
	if ((data = payload(tap, &m, body)) == NULL) {
		msg->data = NULL;
		msg->lost = 1;
		t->at++;
		return error_set(ZCP_E_DAMAGED, "a message on %s lies in no "
		    "chunk: skipped", tap->topic);
	}
	memcpy(tap->copy, data, m.length);
	/*
	 * The stamp alone does not vouch for the chunk: it stays while the
	 * chunk is reclaimed and written anew, but then the tail has moved
	 * before (loan_fence()).
	 */
	if (slot_recheck(&t->ring->slot[t->at & t->mask]) != t->at + 1 ||
	    !tail_of(t, t->at, &tail) || tail > t->at)
		return passed(tap, t, msg);
	*msg = (zcp_msg){ .data = tap->copy, .size = m.length, .seq = t->at,
	    .time = m.time, .kind = m.kind, .publisher = t->port, .hold = -1,
	    .link = (int32_t)(t - tap->ring) };
	t->at++;
	return 1;
}

int zcp_tap_read(zcp_tap *tap, zcp_msg *msg)
{
	int rc;

	msg->lost = 0;
	if ((rc = bus_check(tap->bus)) < 0 || (rc = look(tap)) < 0)
		return rc;
	for (uint32_t k = 0; k < tap->count; k++) {
		tap->next = (tap->next + 1) % tap->count;
		if ((rc = read_one(tap, &tap->ring[tap->next], msg)) != 0)
			return rc;
	}
	return 0;
}

void zcp_tap_source(const zcp_tap *tap, const zcp_msg *msg,
    zcp_source *source)
{
	const struct tapped *t;

	*source = (zcp_source){ tap->topic, "", 0 };
	if ((uint32_t)msg->link >= tap->count)
		return;
	t = &tap->ring[msg->link];
	*source = (zcp_source){ t->topic, t->name, t->pid };
}

/* ---- waiting -------------------------------------------------------------------- */

static bool something(void *arg)
{
	const struct zcp_tap *tap = arg;

	if (fact_load(&tap->bus->d.m->registrations) != tap->registrations)
		return true;
	for (uint32_t i = 0; i < tap->count; i++) {
		const struct tapped *t = &tap->ring[i];

		if (t->left)
			continue;
		if (t->founded ? stamp_says(slot_stamp(&t->ring->slot[t->at &
		    t->mask]), t->at) != SLOT_EMPTY :
		    word_serial(tail_validate(t->ring)) == t->serial)
			return true;
	}
	return false;
}

int zcp_tap_wait(zcp_tap *tap, int64_t timeout)
{
	struct domain *d = &tap->bus->d;
	/* Every publisher looks at the domain's bell. */
	struct bell *all = domain_bell(d, BELL_DOMAIN);
	struct sleeper sleeper = { .bells = &all, .count = 1,
	    .symmetric = d->symmetric, .waitv = d->waitv, .marks_alone = true,
	    .ready = something, .arg = tap };
	uint64_t deadline = deadline_after(timeout), left, began;
	int rc;

	if ((rc = bus_check(tap->bus)) < 0 || (rc = look(tap)) < 0)
		return rc;
	if (something(tap) || (timeout != 0 &&
	    spin_until(&tap->spin, deadline, something, tap)))
		return 1;
	began = clock_ns();
	while (!something(tap)) {
		if ((left = deadline_left(deadline, BELL_RECHECK)) == 0)
			return 0;
		if ((rc = bell_sleep(&sleeper, left)) < 0)
			return rc;
	}
	spin_learn(&tap->spin, began);
	return 1;
}

int zcp_tap_open(zcp *bus, const char *topic, zcp_tap **out)
{
	char name[TOPIC_NAME];
	struct zcp_tap *tap;
	int rc;

	*out = NULL;
	if ((rc = bus_check(bus)) < 0 || (rc = topic_parse(topic, name)) < 0)
		return rc;
	if ((tap = calloc(1, sizeof(*tap))) == NULL)
		return error_set(ZCP_E_SYS, "out of memory");
	tap->bus = bus;
	bus_get(bus);
	tap->pattern = rc == 1;
	tap->spin = (struct spin)SPIN_START;
	tap->topic = strdup(name);
	tap->copy = malloc(zcp_largest(bus) > INLINE_SIZE ?
	    zcp_largest(bus) : INLINE_SIZE);
	if (tap->topic == NULL || tap->copy == NULL)
		rc = error_set(ZCP_E_SYS, "out of memory");
	else if ((rc = domain_map_read(&bus->d)) == 0)
		rc = look(tap);
	if (rc < 0) {
		zcp_tap_close(&tap);
		return error_in(rc, "cannot tap %s", name);
	}
	*out = tap;
	return 0;
}

void zcp_tap_close(zcp_tap **handle)
{
	struct zcp_tap *tap = *handle;
	struct zcp *bus;

	*handle = NULL;
	if (tap == NULL || !bus_ours(tap->bus))
		return;
	bus = tap->bus;
	while (tap->count > 0)
		forget(tap, 0);
	free(tap->ring);
	free(tap->topic);
	free(tap->copy);
	free(tap);
	bus_put(bus);
}
