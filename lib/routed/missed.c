/*
 * missed.c - messages of publishers that a reader was never linked with: it was
 * there first, but all of its cursors were in use.
 *
 * They are added up in the reader's port when such a publisher ends.  A daemon
 * that is killed meanwhile neither forgets nor doubles any: the sum as it will
 * be is written down first, with whose it is; then it is stored, with the
 * serial of the publisher that it now contains; then the note goes.  Until all
 * readers of that publisher are through, mgmt names it: the next daemon first
 * completes the note, then this publisher, then begins others.
 */
#include "atomics.h"
#include "ring.h"
#include "routed.h"

/* How many messages it has published, its owner having ended. */
static uint64_t published(const struct routed *r, uint32_t port)
{
	const struct port *p = &r->d.ports[port];
	uint32_t slots;
	const struct ring *ring = port_ring(r, p, &slots);
	uint64_t head, tail, end;

	if (ring == NULL)
		return 0;		/* it never came to it */
	head = head_load(ring);
	tail = number_widen(head, word_number(tail_load(ring)));
	end = ring_end(ring, slots - 1, tail, head);
	return number_diff(end, tail) >= 0 && end - tail <= slots &&
	    tail_possible(ring, slots - 1, end) ? end : tail;
}

static void store_sum(struct routed *r, uint32_t subscriber, uint64_t sum,
    uint32_t serial)
{
	struct port *s = &r->d.ports[subscriber];

	fact_publish(&s->missed, sum);
	fact_publish32(&s->missed_of, serial);
	generation_bump(r, subscriber);
	fact_publish32(&r->d.m->missed_port, 0);
}

static int add_to_one(struct routed *r, uint32_t publisher,
    uint32_t subscriber, void *arg)
{
	const struct port *p = &r->d.ports[publisher];
	const struct port *s = &r->d.ports[subscriber];
	const struct subscription *sub = port_subscription(r, subscriber);
	uint32_t serial = fact_load32(&p->serial);
	const uint64_t *n = arg;

	if (s->registration > p->registration || sub == NULL ||
	    fact_load32(&sub->opened) != SUBSCRIPTION_OPEN ||
	    fact_load32(&s->missed_of) == serial ||
	    match_linked(r, publisher, subscriber))
		return 0;
	fact_publish(&r->d.m->missed_after, fact_load(&s->missed) + *n);
	fact_publish32(&r->d.m->missed_port, subscriber + 1);
	store_sum(r, subscriber, fact_load(&r->d.m->missed_after), serial);
	return 0;
}

void missed_count(struct routed *r, uint32_t port)
{
	struct port *p = &r->d.ports[port];
	uint64_t n;

	if (r->shape[port].kind != PORT_PUBLISHER ||
	    fact_load32(&p->unlinked) == 0)
		return;
	n = published(r, port);
	fact_publish32(&r->d.m->missed_serial, fact_load32(&p->serial));
	if (n > 0)
		meet_all(r, port, add_to_one, &n);
	fact_publish32(&p->unlinked, 0);
	fact_publish32(&r->d.m->missed_serial, 0);
}

void missed_repair(struct routed *r)
{
	struct mgmt *m = r->d.m;
	uint32_t serial = fact_load32(&m->missed_serial);
	uint32_t noted = fact_load32(&m->missed_port);

	if (noted > 0 && noted <= r->d.max_ports)
		store_sum(r, noted - 1, fact_load(&m->missed_after), serial);
	for (int first = 1; first >= 0; first--)
		chain_each(&r->of_state, PORTS_ENDED, i, after)
			if (!first ||
			    fact_load32(&r->d.ports[i].serial) == serial)
				missed_count(r, i);
	fact_publish32(&m->missed_serial, 0);
}
