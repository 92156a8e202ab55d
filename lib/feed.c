#include "feed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "atomics.h"
#include "error.h"

enum { PASSES = 100 };

/* ---- joining ---------------------------------------------------------------- */

static void name_publisher(struct feed *f, uint32_t slot)
{
	const struct participant *p = &f->d->participants[slot];

	snprintf(f->publisher, sizeof(f->publisher), "%.*s", NAME_SIZE - 1,
	    p->name);
	f->pid = p->pid;
	snprintf(f->topic_name, sizeof(f->topic_name), "%.*s", TOPIC_NAME - 1,
	    f->d->topics[f->topic].name);
}

int feed_open(struct feed *f, struct domain *d, uint64_t link,
    struct cursor *cursor, const shared_u64 *over, struct hold_budget *budget)
{
	const struct port *p = &d->ports[link_port(link)];
	uint32_t slots = p->slots, slot = p->participant;
	uint64_t offset = p->offset, incarnation = p->incarnation;
	int rc;

	*f = (struct feed){ .d = d, .link = link, .port = link_port(link),
	    .serial = link_serial(link),
	    .word = word_make(0, link_serial(link), 0),
	    .index = link_cursor(link), .topic = p->topic, .mask = slots - 1,
	    .history = p->flags & PORT_UNLISTED ? UINT32_MAX : p->history,
	    .registration = p->registration, .cursor = cursor, .over = over,
	    .budget = budget,
	    .symmetric = d->symmetric, .last_chunk = NO_CHUNK,
	    .seen_chunk = NO_CHUNK };
	if (slot >= d->max_participants || f->topic >= d->max_topics)
		return error_set(ZCP_E_DAMAGED,
		    "publisher %u: its record makes no sense", f->port);
	f->room_bell = domain_bell(d, bell_of_port(d->max_topics, f->port));
	if ((rc = peer_get(d, slot, incarnation, &f->peer)) < 0)
		/* Forgotten since it was listed, file and all? */
		return fact_load32(&p->serial) != f->serial ||
		    fact_load32(&p->state) == PORT_FREE ?
		    error_set(ZCP_E_ENDED, "publisher %u is gone", f->port) :
		    error_in(rc, "cannot look at publisher %u", f->port);
	name_publisher(f, slot);
	/* The record may have been given to another port meanwhile. */
	fact_recheck();
	if (fact_load32(&p->serial) != f->serial ||
	    (f->ring = peer_ring(f->peer, offset, slots)) == NULL) {
		peer_put(d, f->peer);
		return error_set(ZCP_E_ENDED, "publisher %u is gone", f->port);
	}
	if ((f->users = calloc(budget->most, sizeof(*f->users))) == NULL) {
		peer_put(d, f->peer);
		return error_set(ZCP_E_SYS, "out of memory");
	}
	for (uint32_t i = 0; i < budget->most; i++)
		f->free_hold[i / 64] |= UINT64_C(1) << i % 64;
	return 0;
}

/*
 * As far as the owner had published, at least: its head, or, where it died
 * within a batch, its stamps.  (The stamps of one that lives may be written
 * over while they are looked at.)  A head that its ring has no room for is not
 * believed; but the tail may be far beyond our cursor by now.
 */
static uint64_t published_by_now(const struct feed *f)
{
	bool ours;
	uint64_t head = news_load(&f->ring->head);
	uint64_t tail = feed_tail(f, head, &ours), end;

	if (!ours)
		return f->at;
	end = ring_end(f->ring, f->mask, tail, f->at);
	return head > end && head - tail <= (uint64_t)f->mask + 1 ? head : end;
}

/*
 * Stores the cursor until a look at the tail, behind a heavy fence, says that
 * nobody went past it meanwhile.  A second pass is the last: the owner waits
 * at its tail for a cursor that lies below it.
 *
 * A reclaimer that had read its limits before it could see the cursor may
 * still move the tail, but not beyond what was published by now; from the
 * ring's end on all is promised, what goes before is no loss.
 */
static void settle(struct feed *f)
{
	bool ours;
	uint64_t tail;

	/* One that runs away all the time does so from a take, too. */
	for (int pass = 0; pass < PASSES; pass++) {
		cursor_store(f->cursor, word_make(0, f->serial, f->at));
		/* Refused: the owner fences while a listed reader has no
		 * cursor, and a take validates anyway. */
		fence_heavy(f->d->symmetric);
		tail = feed_tail(f, f->at, &ours);
		if (!ours || tail <= f->at)
			break;
		f->at = tail;
	}
	f->joined_at = f->at;
	if (!(link_flags(f->link) & LINK_FROM_START))
		f->joined_end = published_by_now(f);
}

void feed_join(struct feed *f, uint32_t last, uint64_t *lost)
{
	bool ours;
	uint64_t head = news_load(&f->ring->head);
	uint64_t tail = feed_tail(f, head, &ours), start;

	*lost = 0;
	if (!ours && !feed_damaged(f))
		return;		/* registered, but its ring is not founded yet */
	if (feed_damaged(f) || feed_doubts(f, tail)) {
		f->damaged = true;
		f->state = FEED_JOINED;	/* a take will tell */
		return;
	}
	if (link_flags(f->link) & LINK_FROM_START) {
		start = 0;
	} else {
		uint64_t end = ring_end(f->ring, f->mask, tail, head);
		uint64_t back = f->history < last ? f->history : last;

		start = end - tail > back ? end - back : tail;
	}
	f->at = start;
	f->state = FEED_JOINED;
	settle(f);
	if (link_flags(f->link) & LINK_FROM_START)
		*lost = f->at - start;
	/* A publisher may be waiting for its audience. */
	fence_light(f->d->symmetric);
	bell_ring(f->room_bell);
}

void feed_let_go(struct feed *f)
{
	cursor_store(f->cursor, word_make(CURSOR_LET_GO, f->serial, f->at));
}

/* ---- the end ------------------------------------------------------------------------ */

/* The daemon's last word on this ring; 0: there is none (yet). */
static uint64_t last_word(const struct feed *f)
{
	uint64_t over = over_load(f->over);

	return word_serial(over) == f->serial ? over : 0;
}

/*
 * How many messages of a ring that has gone were not taken, and are counted
 * from now on: the feed stands at the ring's end.
 */
static uint64_t feed_over(struct feed *f)
{
	uint64_t over = last_word(f), end, lost;

	if (over == 0)
		return 0;
	end = number_widen(f->at, word_number(over));
	if (end <= f->at)
		return 0;
	lost = end > f->joined_end ? end - f->at : 0;
	f->at = end;
	return lost;
}

static enum feed_end end_of(const struct feed *f)
{
	const struct port *p = &f->d->ports[f->port];
	uint32_t state = fact_load32(&p->state);
	bool ours = fact_load32(&p->serial) == f->serial;

	if (state == PORT_OPEN && ours && !fact_load32(&f->ring->closed))
		return END_NONE;
	/* Its record may be another's by now. */
	switch (over_state(last_word(f))) {
	case OVER_CLOSED: return END_CLOSED;
	case OVER_DIED: return END_DIED;
	case OVER_NONE: break;
	}
	return state == PORT_DEAD && ours && !fact_load32(&f->ring->closed) ?
	    END_DIED : END_CLOSED;
}

static bool founded(const struct feed *f)
{
	return word_serial(tail_validate(f->ring)) == f->serial;
}

static bool slot_waits(const struct feed *f)
{
	return stamp_says(slot_stamp(slot_at(f, f->at)), f->at) != SLOT_EMPTY;
}

bool feed_ended_before(const struct feed *f, uint64_t registration)
{
	const struct port *p = &f->d->ports[f->port];
	uint32_t state = fact_load32(&p->state);
	uint64_t behind = p->ended_behind;

	fact_recheck();
	return (state == PORT_CLOSED || state == PORT_DEAD) &&
	    fact_load32(&p->serial) == f->serial && behind < registration;
}

bool feed_ready(const struct feed *f)
{
	switch (f->state) {
	case FEED_PENDING:
		return founded(f) || feed_damaged(f) ||
		    end_of(f) != END_NONE;
	case FEED_JOINED:
		return slot_waits(f) || feed_damaged(f) ||
		    end_of(f) != END_NONE;
	case FEED_ENDED:
		break;
	}
	return false;
}

static uint64_t end_with(struct feed *f, enum feed_end end)
{
	uint64_t lost = feed_over(f);

	f->end = end;
	f->state = FEED_ENDED;
	feed_let_go(f);
	return lost;
}

uint64_t feed_gone(struct feed *f)
{
	enum feed_end end = end_of(f);

	return end_with(f, end == END_NONE ? END_CLOSED : end);
}

uint64_t feed_look_for_end(struct feed *f)
{
	enum feed_end end;

	/* A take tells of damage before the feed ends. */
	if (f->state == FEED_ENDED || feed_damaged(f) ||
	    (end = end_of(f)) == END_NONE)
		return 0;
	/* What it published before it ended is visible now, or that it never
	 * founded its ring. */
	if (f->state == FEED_JOINED ? slot_waits(f) : founded(f))
		return 0;
	/* Or its ring's place has been given again: then the last word on it is
	 * there, too. */
	return end_with(f, end);
}

uint64_t feed_lost(const struct feed *f)
{
	uint64_t tail;
	bool ours;

	if (f->state != FEED_JOINED)
		return 0;
	tail = feed_tail(f, f->at, &ours);
	return ours && tail > f->at && tail > f->joined_end &&
	    !feed_doubts(f, tail) ? tail - f->at : 0;
}

void feed_close(struct feed *f)
{
	uint32_t pools = 0;

	for (uint32_t i = 0; i < f->budget->most; i++)
		if (f->users[i] > 0) {
			f->users[i] = 1;
			pools |= feed_release(f, i);
		}
	domain_ring_pools(f->d, pools);
	feed_let_go(f);
	free(f->users);
	peer_put(f->d, f->peer);
}
