/*
 * retain.c - history that outlives its publishers.
 *
 * It belongs to the topic: of all rings that ended there, the last N messages
 * stay, N being what the publisher that ended last had asked for; older rings
 * are trimmed first.  Each goes when its own time is over.
 */
#include <stdlib.h>

#include "atomics.h"
#include "clock.h"
#include "error.h"
#include "ring.h"
#include "routed.h"

static bool in_time(const struct port *p, uint64_t now)
{
	return p->retain == RETAIN_FOR_EVER || now < p->ended_at ||
	    now - p->ended_at < p->retain;
}

bool retained(const struct routed *r, uint32_t port)
{
	const struct port *p = &r->d.ports[port];
	uint32_t state = fact_load32(&p->state);

	return r->shape[port].kind == PORT_PUBLISHER && p->retain != 0 &&
	    p->history > 0 && (state == PORT_CLOSED || state == PORT_DEAD) &&
	    in_time(p, clock_ns());
}

bool retain_pending(const struct routed *r)
{
	for (uint32_t i = 0; i < r->d.max_ports; i++) {
		const struct port *p = &r->d.ports[i];
		uint32_t state = fact_load32(&p->state);

		if (p->kind != PORT_PUBLISHER || p->retain == 0 ||
		    p->history == 0 || state == PORT_FREE)
			continue;
		/* Its owner may have died while there was no daemon. */
		if (state == PORT_OPEN || in_time(p, clock_ns()))
			return true;
	}
	return false;
}

bool retain_expired(const struct routed *r)
{
	chain_each(&r->of_state, PORTS_ENDED, i, after)
		if (r->keep[i] > 0 && !retained(r, i))
			return true;
	return false;
}

/* Messages that lie in an ended ring. */
static uint64_t content(struct routed *r, const struct port *p)
{
	uint32_t slots;
	const struct ring *ring = port_ring(r, p, &slots);
	uint64_t head, tail;

	if (ring == NULL)
		return 0;
	head = news_load(&ring->head);
	tail = number_widen(head, word_number(tail_load(ring)));
	return ring_end(ring, slots - 1, tail, head) - tail;
}

static int newest_first(const void *a, const void *b, void *ports)
{
	const struct port *x = (struct port *)ports + *(const uint32_t *)a;
	const struct port *y = (struct port *)ports + *(const uint32_t *)b;

	if (x->ended_at != y->ended_at)
		return x->ended_at < y->ended_at ? 1 : -1;
	return x->registration < y->registration ? 1 : -1;
}

void retain_plan(struct routed *r)
{
	uint32_t count = 0;

	chain_each(&r->of_state, PORTS_ENDED, i, after) {
		r->keep[i] = 0;
		if (retained(r, i))
			r->ended[count++] = i;
	}
	qsort_r(r->ended, count, sizeof(*r->ended), newest_first, r->d.ports);
	for (uint32_t i = 0; i < count; i++)
		r->budget[port_topic(r, r->ended[i])] = UINT64_MAX;
	for (uint32_t i = 0; i < count; i++) {
		const struct port *p = &r->d.ports[r->ended[i]];
		uint64_t *budget = &r->budget[port_topic(r, r->ended[i])];
		uint64_t keep = content(r, p);

		if (*budget == UINT64_MAX)
			*budget = p->history;
		if (keep > p->history)
			keep = p->history;
		if (keep > *budget)
			keep = *budget;
		*budget -= keep;
		r->keep[r->ended[i]] = (uint32_t)keep;
	}
}

int retain_open(struct routed *r)
{
	r->keep = calloc(r->d.max_ports, sizeof(*r->keep));
	r->ended = calloc(r->d.max_ports, sizeof(*r->ended));
	r->budget = calloc(r->d.max_topics, sizeof(*r->budget));
	return r->keep && r->ended && r->budget ? 0 :
	    error_set(ZCP_E_SYS, "out of memory");
}

void retain_close(struct routed *r)
{
	free(r->keep);
	free(r->ended);
	free(r->budget);
}
