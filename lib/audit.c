#include "audit.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "atomics.h"
#include "error.h"
#include "names.h"
#include "readers.h"
#include "ring.h"

struct auditing {
	struct domain *d;
	audit_tell *tell;
	void *arg;
	int faults;
	struct names names;
	uint64_t links;			/* that were looked at */
};

__attribute__((format(printf, 2, 3)))
static void fault(struct auditing *a, const char *format, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	a->faults++;
	a->tell(a->arg, text);
}

static const char *state_name(uint64_t word)
{
	static const char *const names[] = { "absent", "free", "loaned",
	    "published" };

	return names[word_state(word)];
}

/* ---- chunk words --------------------------------------------------------------- */

static void audit_word(struct auditing *a, uint32_t id, uint64_t word)
{
	uint32_t port = names_find(&a->names, word_serial(word));

	if (word_state(word) == CHUNK_ABSENT) {
		fault(a, "chunk %u:%u is absent, though it is committed",
		    chunk_pool(id), chunk_index(id));
	} else if (word_state(word) == CHUNK_FREE) {
		if (word != word_make(CHUNK_FREE, 0, 0))
			fault(a, "chunk %u:%u is free, and names port serial "
			    "%u", chunk_pool(id), chunk_index(id),
			    word_serial(word));
	} else if (port == UINT32_MAX) {
		fault(a, "chunk %u:%u is %s by port serial %u, which is not "
		    "there", chunk_pool(id), chunk_index(id),
		    state_name(word), word_serial(word));
	} else if (a->d->ports[port].kind != PORT_PUBLISHER) {
		fault(a, "chunk %u:%u is %s by port serial %u, which is no "
		    "publisher", chunk_pool(id), chunk_index(id),
		    state_name(word), word_serial(word));
	}
}

static void audit_pools(struct auditing *a)
{
	struct pools *pools = &a->d->pools;

	for (uint32_t p = 0; p < pools->count; p++)
		for (uint32_t i = 0; i < pool_count(&pools->pool[p]); i++)
			audit_word(a, chunk_id(p, i),
			    word_load(&pools->pool[p].word[i]));
}

/* ---- rings ---------------------------------------------------------------------- */

static void audit_message(struct auditing *a, uint32_t port, uint64_t seq,
    const struct message *m)
{
	const struct pools *pools = &a->d->pools;
	uint32_t serial = fact_load32(&a->d->ports[port].serial);
	uint64_t word;

	if (m->chunk == CHUNK_INLINE) {
		if (m->length > INLINE_SIZE)
			fault(a, "port %u, message %" PRIu64 ": %u bytes "
			    "inline", port, seq, m->length);
		return;
	}
	if (!pool_has(pools, m->chunk) || !pool_fits(
	    &pools->pool[chunk_pool(m->chunk)], m->offset, m->length)) {
		fault(a, "port %u, message %" PRIu64 " lies in no chunk", port,
		    seq);
		return;
	}
	word = word_load(pool_word(pools, m->chunk));
	if (word_state(word) != CHUNK_PUBLISHED ||
	    word_serial(word) != serial ||
	    number_diff(word_number(word), seq) < 0)
		fault(a, "port %u, message %" PRIu64 " lies in chunk %u:%u, "
		    "which is %s, serial %u, number %" PRIu64, port, seq,
		    chunk_pool(m->chunk), chunk_index(m->chunk),
		    state_name(word), word_serial(word), word_number(word));
}

static void audit_ring(struct auditing *a, uint32_t port,
    const struct ring *ring, uint32_t mask)
{
	uint64_t head = news_load(&ring->head), word = tail_load(ring);
	uint64_t tail = number_widen(head, word_number(word));
	uint64_t end = ring_end(ring, mask, tail, tail);

	if (word_serial(word) != fact_load32(&a->d->ports[port].serial))
		return;			/* not founded yet */
	if (head < tail && head + mask + 1 < tail)
		fault(a, "port %u: its tail %" PRIu64 " is beyond its head %"
		    PRIu64, port, tail, head);
	for (uint64_t seq = tail; seq < end; seq++) {
		uint64_t body[INLINE_SIZE / 8];
		struct message m;

		if (ring_get(ring, mask, seq, &m, body) == SLOT_MESSAGE)
			audit_message(a, port, seq, &m);
	}
}

/* ---- readers ----------------------------------------------------------------------- */

static void audit_holds(struct auditing *a, uint32_t port, uint32_t line,
    const struct cursor *c, uint32_t holds)
{
	for (uint32_t i = 0; hold_next(c, holds, &i); i++) {
		uint32_t id = hold_chunk(c, i);
		uint64_t word;

		if (!pool_has(&a->d->pools, id)) {
			fault(a, "port %u, cursor %u holds chunk %u:%u, which "
			    "is not there", port, line, chunk_pool(id),
			    chunk_index(id));
			continue;
		}
		word = word_load(pool_word(&a->d->pools, id));
		if (word_state(word) != CHUNK_PUBLISHED)
			fault(a, "port %u, cursor %u holds chunk %u:%u, which "
			    "is %s", port, line, chunk_pool(id),
			    chunk_index(id), state_name(word));
	}
}

/* ---- links ------------------------------------------------------------------------- */

static bool lists(const struct link_list *list, const struct domain *d,
    uint32_t other)
{
	for (uint32_t i = 0; i < list->count; i++)
		if (link_port(list->link[i]) == other &&
		    link_serial(list->link[i]) ==
		    fact_load32(&d->ports[other].serial))
			return true;
	return false;
}

/* Has the list changed since it was loaded?  Then it will be right next time. */
static bool changed(const struct auditing *a, uint32_t port,
    const struct link_list *list)
{
	return fact_load(&a->d->ports[port].generation) != list->generation;
}

static void audit_link(struct auditing *a, uint32_t port,
    const struct link_list *list, uint64_t link)
{
	const struct domain *d = a->d;
	uint32_t other = link_port(link);
	struct link_list theirs = { 0 };

	if (other >= d->max_ports ||
	    fact_load32(&d->ports[other].state) == PORT_FREE ||
	    fact_load32(&d->ports[other].serial) != link_serial(link)) {
		if (!changed(a, port, list))
			fault(a, "port %u is linked with port %u, serial %u, "
			    "which is not there", port, other,
			    link_serial(link));
	} else if (link_list_load(&theirs, d, other) == 0 &&
	    !lists(&theirs, d, port) && !changed(a, port, list))
		fault(a, "port %u is linked with port %u, which does not know "
		    "of it", port, other);
	link_list_free(&theirs);
}

static void audit_links(struct auditing *a, uint32_t port)
{
	struct link_list list = { 0 };

	if (link_list_load(&list, a->d, port) < 0)
		fault(a, "%s", zcp_errmsg());
	/* Lists do not overlap. */
	a->links += list.count;
	if (a->links > a->d->max_links)
		fault(a, "port %u: its list of links is another one's, too",
		    port);
	for (uint32_t i = 0; i < list.count && a->links <= a->d->max_links; i++)
		audit_link(a, port, &list, list.link[i]);
	link_list_free(&list);
}

static void audit_publisher(struct auditing *a, uint32_t port,
    const struct peer *peer)
{
	const struct port *p = &a->d->ports[port];
	uint32_t slots = p->slots;
	const struct ring *ring = peer_ring(peer, p->offset, slots);

	if (ring == NULL)
		fault(a, "port %u: its ring lies outside of its file", port);
	else
		audit_ring(a, port, ring, slots - 1);
}

static void audit_subscriber(struct auditing *a, uint32_t port,
    const struct peer *peer)
{
	const struct port *p = &a->d->ports[port];
	uint32_t cursors = p->slots, holds = p->history;
	struct subscription *s = peer_subscription(peer, p->offset, cursors,
	    holds);

	if (s == NULL)
		fault(a, "port %u: its subscription lies outside of its file",
		    port);
	for (uint32_t i = 0; s != NULL && i < cursors; i++)
		audit_holds(a, port, i, subscription_cursor(s, holds, i),
		    holds);
}

static void audit_port(struct auditing *a, uint32_t port)
{
	const struct port *p = &a->d->ports[port];
	uint32_t state = fact_load32(&p->state), kind = p->kind;
	uint32_t serial = fact_load32(&p->serial);
	struct peer *peer;
	int rc;

	if (state == PORT_FREE)
		return;
	if (kind != PORT_PUBLISHER && kind != PORT_SUBSCRIBER) {
		fault(a, "port %u is neither publisher nor subscriber", port);
		return;
	}
	audit_links(a, port);
	rc = peer_get(a->d, p->participant, p->incarnation, &peer);
	/* It may have been forgotten since, file and all. */
	if (rc < 0 && fact_load32(&p->state) != PORT_FREE &&
	    fact_load32(&p->serial) == serial)
		fault(a, "port %u: %s", port, zcp_errmsg());
	if (rc < 0)
		return;
	if (kind == PORT_PUBLISHER)
		audit_publisher(a, port, peer);
	else if (state != PORT_DEAD)
		audit_subscriber(a, port, peer);
	peer_put(a->d, peer);
}

int audit(struct domain *d, audit_tell *tell, void *arg)
{
	struct auditing a = { .d = d, .tell = tell, .arg = arg };
	int rc = names_load(&a.names, d);

	if (rc < 0)
		return rc;
	audit_pools(&a);
	for (uint32_t i = 0; i < d->max_ports; i++)
		audit_port(&a, i);
	names_free(&a.names);
	return a.faults;
}
