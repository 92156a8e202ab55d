#include "feed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "atomics.h"
#include "error.h"

/* ---- joining ---------------------------------------------------------------- */

static void name_publisher(struct feed *f, uint32_t slot)
{
	const struct participant *p = &f->d->participants[slot];

	snprintf(f->publisher, sizeof(f->publisher), "%.*s (pid %u)",
	    NAME_SIZE - 1, p->name, p->pid);
}

int feed_open(struct feed *f, struct domain *d, uint64_t link,
    struct cursor *cursor, uint32_t holds)
{
	const struct port *p = &d->ports[link_port(link)];
	uint32_t slots = p->slots, slot = p->participant;
	uint64_t offset = p->offset;

	*f = (struct feed){ .d = d, .link = link, .port = link_port(link),
	    .serial = link_serial(link), .topic = p->topic, .mask = slots - 1,
	    .history = p->history, .cursor = cursor, .holds = holds,
	    .last_chunk = NO_CHUNK };
	if (slot >= d->m->max_participants || f->topic >= d->m->max_topics)
		return error_set(ZCP_E_DAMAGED,
		    "publisher %u: its record makes no sense", f->port);
	f->room_bell = domain_bell(d, bell_of_port(d->m, f->port));
	if ((f->peer = peer_get(d, slot, p->incarnation)) == NULL)
		return -ZCP_E_SYS;
	name_publisher(f, slot);
	/* The record may have been given to another port meanwhile. */
	fact_recheck();
	if (fact_load32(&p->serial) != f->serial ||
	    (f->ring = peer_ring(f->peer, offset, slots)) == NULL) {
		peer_put(d, f->peer);
		return error_set(ZCP_E_ENDED, "publisher %u is gone", f->port);
	}
	if ((f->users = calloc(holds, sizeof(*f->users))) == NULL) {
		peer_put(d, f->peer);
		return error_set(ZCP_E_SYS, "out of memory");
	}
	for (uint32_t i = 0; i < holds; i++)
		f->free_hold[i / 64] |= UINT64_C(1) << i % 64;
	return 0;
}

static uint64_t tail_now(const struct feed *f, uint64_t near, bool *ours)
{
	uint64_t word = tail_validate(f->ring);

	*ours = word_serial(word) == f->serial;
	return number_widen(near, word_number(word));
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

	for (;;) {
		cursor_store(f->cursor, word_make(0, f->serial, f->at));
		/* Refused: the owner fences while a listed reader has no
		 * cursor, and a take validates anyway. */
		fence_heavy(f->d->symmetric);
		tail = tail_now(f, f->at, &ours);
		if (!ours || tail <= f->at)
			break;
		f->at = tail;
	}
	if (!(link_flags(f->link) & LINK_FROM_START))
		f->joined_end = ring_end(f->ring, f->mask, f->at, f->at);
}

void feed_join(struct feed *f, bool from_end, uint64_t *lost)
{
	bool ours;
	uint64_t head = news_load(&f->ring->head);
	uint64_t tail = tail_now(f, head, &ours), start;

	*lost = 0;
	if (!ours)
		return;		/* registered, but its ring is not founded yet */
	if (link_flags(f->link) & LINK_FROM_START) {
		start = 0;
	} else {
		uint64_t end = ring_end(f->ring, f->mask, tail, head);
		uint64_t back = from_end ? 0 : f->history;

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

/* The ring may go, and the cursor be given to another link. */
static void let_go(struct feed *f)
{
	cursor_store(f->cursor, word_make(CURSOR_LET_GO, f->serial, f->at));
}

/* ---- taking -------------------------------------------------------------------- */

static uint32_t hold_find(struct feed *f)
{
	for (uint32_t w = 0; w * 64 < f->holds; w++)
		if (f->free_hold[w] != 0)
			return w * 64 + (uint32_t)__builtin_ctzll(
			    f->free_hold[w]);
	return UINT32_MAX;
}

static uint32_t hold_new(struct feed *f, uint32_t chunk)
{
	uint32_t i = hold_find(f);

	if (i == UINT32_MAX)
		return i;
	f->free_hold[i / 64] &= ~(UINT64_C(1) << i % 64);
	f->held++;
	hold_show(f->cursor, i, chunk);
	f->last_chunk = chunk;
	f->last_hold = i;
	return i;
}

void feed_release(struct feed *f, uint32_t i)
{
	uint32_t pool;

	if (--f->users[i] > 0)
		return;
	pool = chunk_pool(hold_chunk(f->cursor, i));
	hold_clear(f->cursor, i);
	f->free_hold[i / 64] |= UINT64_C(1) << i % 64;
	f->held--;
	if (f->last_hold == i)
		f->last_chunk = NO_CHUNK;
	fence_light(f->d->symmetric);
	bell_ring(domain_bell(f->d, bell_of_pool(pool)));
}

/* Step 4: the cursor; and the owner, if it sleeps for just this. */
static inline void advance(struct feed *f, uint64_t to)
{
	uint64_t want;

	f->at = to;
	cursor_store(f->cursor, word_make(0, f->serial, to));
	fence_light(f->d->symmetric);
	want = want_load(f->ring);
	if (__builtin_expect(want & WANT_SET, 0) && number_diff(to, want) >= 0)
		bell_ring(f->room_bell);
}

static enum feed_took lose(struct feed *f, zcp_msg *msg, uint64_t tail)
{
	uint64_t lost = tail - f->at;

	news_add(&f->cursor->lost, lost);
	advance(f, tail);
	msg->lost = lost;
	return TOOK_LOSS;
}

/*
 * The slot was rewritten, so the tail is beyond it; unless the ring's place
 * has been given to another port.  The stamp tells how far the ring has come
 * since, were it more than 40 bits can say.
 */
static enum feed_took overtaken(struct feed *f, zcp_msg *msg)
{
	uint64_t stamp = slot_stamp(&f->ring->slot[f->at & f->mask]) &
	    ~STAMP_BUSY, tail;
	bool ours;

	tail = tail_now(f, stamp > f->at ? stamp - 1 : f->at, &ours);
	if (!ours) {
		f->state = FEED_ENDED;
		f->end = END_CLOSED;
		let_go(f);
		return TOOK_NOTHING;
	}
	if (tail <= f->at)
		return TOOK_NOTHING;
	if (tail <= f->joined_end) {
		advance(f, tail);
		return TOOK_AGAIN;
	}
	return lose(f, msg, tail);
}

static enum feed_took skip_damaged(struct feed *f)
{
	news_add(&f->cursor->lost, 1);
	advance(f, f->at + 1);
	return TOOK_DAMAGE;
}

/* Believed only within its chunk, whatever its publisher wrote. */
static bool place_valid(const struct pools *pools, const struct message *m)
{
	const struct pool *pool;

	if (m->chunk == CHUNK_INLINE)
		return m->length <= INLINE_SIZE;
	if (!pool_has(pools, m->chunk))
		return false;
	pool = &pools->pool[chunk_pool(m->chunk)];
	return m->offset <= pool->chunk_size &&
	    m->length <= pool->chunk_size - m->offset;
}

static enum feed_took took(struct feed *f, zcp_msg *msg,
    const struct message *m, int32_t hold)
{
	msg->size = m->length;
	msg->time = m->time;
	msg->kind = m->kind;
	msg->seq = f->at;
	msg->publisher = f->port;
	msg->hold = hold;
	advance(f, f->at + 1);
	return TOOK_MESSAGE;
}

static enum feed_took take_inline(struct feed *f, zcp_msg *msg,
    const struct message *m)
{
	bool ours;

	/* The copy is whole; but whose ring is it by now? */
	tail_now(f, f->at, &ours);
	if (!ours)
		return overtaken(f, msg);
	for (unsigned i = 0; i < INLINE_SIZE / 8; i++)
		msg->small[i] = m->body[i];
	msg->data = msg->small;
	return took(f, msg, m, -1);
}

static enum feed_took take_chunk(struct feed *f, zcp_msg *msg,
    const struct message *m, bool may_hold)
{
	const struct pool *pool = &f->d->pools.pool[chunk_pool(m->chunk)];
	uint32_t hold = f->last_hold;
	uint64_t tail;
	bool ours;

	if (m->chunk != f->last_chunk) {
		if (!may_hold)
			return TOOK_NO_HOLD;
		if ((hold = hold_new(f, m->chunk)) == UINT32_MAX)
			return TOOK_NO_HOLD;
	}
	f->users[hold]++;
	/*
	 * Step 3: the reclaimer moves the tail, fences, reads holds; we show
	 * the hold and look at the tail.  A hold that was here before serves
	 * as well, but the tail is looked at again: the chunk may have been
	 * freed and published anew since another message of it was taken.
	 */
	fence_light(f->d->symmetric);
	tail = tail_now(f, f->at, &ours);
	/* The stamp has 64 bits: a tail that went all the way round shows. */
	if (!ours || tail > f->at || slot_recheck(&f->ring->slot[f->at &
	    f->mask]) != f->at + 1) {
		feed_release(f, hold);
		return overtaken(f, msg);
	}
	msg->data = pool->data + (uint64_t)chunk_index(m->chunk) *
	    pool->chunk_size + m->offset;
	return took(f, msg, m, (int32_t)hold);
}

static enum feed_took take_once(struct feed *f, zcp_msg *msg, bool may_hold)
{
	struct message m;

	switch (ring_get(f->ring, f->mask, f->at, &m)) {
	case SLOT_EMPTY:
		return TOOK_NOTHING;
	case SLOT_OVERTAKEN:
		return overtaken(f, msg);
	case SLOT_MESSAGE:
		break;
	}
	if (__builtin_expect(!place_valid(&f->d->pools, &m), 0))
		return skip_damaged(f);
	return m.chunk == CHUNK_INLINE ? take_inline(f, msg, &m) :
	    take_chunk(f, msg, &m, may_hold);
}

enum feed_took feed_take(struct feed *f, zcp_msg *msg, bool may_hold)
{
	enum feed_took took;

	/* Each time round the cursor has moved on. */
	while ((took = take_once(f, msg, may_hold)) == TOOK_AGAIN)
		;
	return took;
}

/* ---- the end ------------------------------------------------------------------------ */

static enum feed_end end_of(const struct feed *f)
{
	const struct port *p = &f->d->ports[f->port];
	uint32_t state = fact_load32(&p->state);

	if (fact_load32(&f->ring->closed))
		return END_CLOSED;
	if (fact_load32(&p->serial) != f->serial || state == PORT_FREE)
		return END_CLOSED;
	return state == PORT_CLOSED ? END_CLOSED :
	    state == PORT_DEAD ? END_DIED : END_NONE;
}

static bool founded(const struct feed *f)
{
	return word_serial(tail_validate(f->ring)) == f->serial;
}

static bool slot_waits(const struct feed *f)
{
	return stamp_says(slot_stamp(&f->ring->slot[f->at & f->mask]),
	    f->at) != SLOT_EMPTY;
}

bool feed_ready(const struct feed *f)
{
	switch (f->state) {
	case FEED_PENDING:
		return founded(f) || end_of(f) != END_NONE;
	case FEED_JOINED:
		return slot_waits(f) || end_of(f) != END_NONE;
	case FEED_ENDED:
		break;
	}
	return false;
}

void feed_look_for_end(struct feed *f)
{
	enum feed_end end;

	if (f->state == FEED_ENDED || (end = end_of(f)) == END_NONE)
		return;
	/* What it published before it ended is visible now, or that it never
	 * founded its ring. */
	if (f->state == FEED_JOINED ? slot_waits(f) : founded(f))
		return;
	f->end = end;
	f->state = FEED_ENDED;
	let_go(f);
}

void feed_close(struct feed *f)
{
	for (uint32_t i = 0; i < f->holds; i++)
		if (f->users[i] > 0) {
			f->users[i] = 1;
			feed_release(f, i);
		}
	let_go(f);
	free(f->users);
	peer_put(f->d, f->peer);
}
