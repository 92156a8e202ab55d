/*
 * take.c - the one take, zcp-design(7): copy the slot, hold the chunk, look
 * at the tail, move the cursor.  Here is what every message costs a reader.
 */
#include <inttypes.h>

#include "clock.h"
#include "delay.h"
#include "probes.h"
#include "subscriber.h"

enum {
	TURN = 32,			/* messages of one publisher in a row */
	IDLE_EVERY = 16,		/* vain looks between looks for ends */
};

enum took {
	TOOK_NOTHING,
	TOOK_MESSAGE,
	TOOK_LOSS,		/* msg->lost messages were overwritten */
	TOOK_DAMAGE,		/* one message was skipped: it made no sense */
	TOOK_NO_HOLD,
	TOOK_AGAIN,		/* the cursor moved: look once more */
};

/* ---- one feed ---------------------------------------------------------------- */

EVERY uint32_t hold_new(struct feed *f, uint32_t chunk)
{
	uint32_t w = 0, i;

	if (__builtin_expect(f->budget->held >= f->budget->most, 0))
		return UINT32_MAX;
	/* One is free: all feeds together hold fewer than one feed may. */
	while (__builtin_expect(f->free_hold[w] == 0, 0))
		w++;
	i = w * 64 + (uint32_t)__builtin_ctzll(f->free_hold[w]);
	f->free_hold[w] &= f->free_hold[w] - 1;
	f->held++;
	f->budget->held++;
	hold_show(f->cursor, i, chunk);
	f->last_chunk = chunk;
	f->last_hold = i;
	return i;
}

/* Step 4: the cursor; and the owner, if it sleeps for just this. */
EVERY void advance(struct feed *f, uint64_t to)
{
	uint64_t want;

	f->at = to;
	cursor_store(f->cursor, word_make(0, f->serial, to));
	fence_light(f->symmetric);
	want = want_load(f->ring);
	if (__builtin_expect(want & WANT_SET, 0) && number_diff(to, want) >= 0)
		bell_ring(f->room_bell);
}

static enum took lose(struct feed *f, zcp_msg *msg, uint64_t tail)
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
FEW enum took overtaken(struct feed *f, zcp_msg *msg)
{
	uint64_t stamp = slot_stamp(&f->ring->slot[f->at & f->mask]) &
	    ~STAMP_BUSY, tail;
	bool ours;

	tail = feed_tail(f, stamp > f->at ? stamp - 1 : f->at, &ours);
	if (!ours) {
		f->state = FEED_ENDED;
		f->end = END_CLOSED;
		feed_let_go(f);
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

FEW enum took skip_damaged(struct feed *f)
{
	news_add(&f->cursor->lost, 1);
	advance(f, f->at + 1);
	return TOOK_DAMAGE;
}

EVERY enum took deliver(struct feed *f, uint64_t at, zcp_msg *msg,
    const struct message *m, int32_t hold)
{
	msg->size = m->length;
	msg->time = m->time;
	msg->kind = m->kind;
	msg->seq = at;
	msg->publisher = f->port;
	msg->lost = 0;
	msg->hold = hold;
	msg->link = (int32_t)f->index;
	probe3(take, f->topic_name, msg->seq, msg->size);
	advance(f, at + 1);
	return TOOK_MESSAGE;
}

EVERY enum took take_inline(struct feed *f, uint64_t at, zcp_msg *msg,
    const struct message *m)
{
	bool ours;

	/* Believed only within its slot, whatever its publisher wrote. */
	if (__builtin_expect(m->length > INLINE_SIZE, 0))
		return skip_damaged(f);
	/* The copy is whole; but whose ring is it by now? */
	feed_tail(f, at, &ours);
	if (__builtin_expect(!ours, 0))
		return overtaken(f, msg);
	msg->data = msg->small;
	return deliver(f, at, msg, m, -1);
}

/* Where the message lies; NULL: within no chunk, whatever its publisher wrote.
 * Several of one chunk come in a row. */
EVERY const char *find_data(struct feed *f, const struct message *m)
{
	if (m->chunk != f->seen_chunk) {
		const struct pools *pools = &f->d->pools;
		const char *seen = pool_see(pools, m->chunk, 0, 0);

		if (__builtin_expect(seen == NULL, 0))
			return NULL;
		f->seen_chunk = m->chunk;
		f->seen_size = pools->pool[chunk_pool(m->chunk)].chunk_size;
		f->seen = seen;
	}
	return __builtin_expect((uint64_t)m->offset + m->length <=
	    f->seen_size, 1) ? f->seen + m->offset : NULL;
}

EVERY enum took take_chunk(struct feed *f, const struct slot *slot,
    uint64_t at, zcp_msg *msg, const struct message *m)
{
	const char *data = find_data(f, m);
	uint32_t hold = f->last_hold;
	uint64_t tail;
	bool ours;

	if (__builtin_expect(data == NULL, 0))
		return skip_damaged(f);
	if (m->chunk != f->last_chunk &&
	    (hold = hold_new(f, m->chunk)) == UINT32_MAX)
		return TOOK_NO_HOLD;
	f->users[hold]++;
	/*
	 * Step 3: the reclaimer moves the tail, fences, reads holds; we show
	 * the hold and look at the tail.  A hold that was here before serves
	 * as well, but the tail is looked at again: the chunk may have been
	 * freed and published anew since another message of it was taken.
	 */
	fence_light(f->symmetric);
	tail = feed_tail(f, at, &ours);
	/* The stamp has 64 bits: a tail that went all the way round shows. */
	if (__builtin_expect(!ours || tail > at ||
	    slot_recheck(slot) != at + 1, 0)) {
		feed_release(f, hold);
		return overtaken(f, msg);
	}
	msg->data = data;
	return deliver(f, at, msg, m, (int32_t)hold);
}

EVERY enum took take_once(struct feed *f, zcp_msg *msg)
{
	uint64_t at = f->at;
	const struct slot *slot = &f->ring->slot[at & f->mask];
	struct message m = { 0 };

	switch (slot_copy(slot, at, &m, msg->small)) {
	case SLOT_EMPTY:
		return TOOK_NOTHING;
	case SLOT_OVERTAKEN:
		return overtaken(f, msg);
	case SLOT_MESSAGE:
		break;
	}
	return m.chunk == CHUNK_INLINE ? take_inline(f, at, msg, &m) :
	    take_chunk(f, slot, at, msg, &m);
}

EVERY enum took take_here(struct feed *f, zcp_msg *msg)
{
	enum took took;

	if (__builtin_expect(f->state != FEED_JOINED, 0))
		return TOOK_NOTHING;
	/* Each time round the cursor has moved on. */
	while ((took = take_once(f, msg)) == TOOK_AGAIN)
		;
	return took;
}

FEW enum took take_from(struct feed *f, zcp_msg *msg)
{
	return take_here(f, msg);
}

/* ---- a subscription ------------------------------------------------------------ */

static int lost(struct zcp_sub *sub, zcp_msg *msg, uint64_t n)
{
	probe2(drop, sub->topic, n);
	sub->info.lost += n;
	news_store(&sub->self->lost, sub->info.lost);
	msg->lost = n;
	msg->data = NULL;
	return error_set(ZCP_E_LAPPED, "%" PRIu64 " messages on %s were "
	    "overwritten before they were taken", n, sub->topic);
}

/* From stamp to take, for observers. */
FEW void note_delay(struct zcp_sub *sub, const zcp_msg *msg)
{
	uint64_t now = clock_ns();
	shared_u32 *count = &sub->self->delay[delay_bucket(
	    now > msg->time ? now - msg->time : 0)];

	news_store32(count, news_load32(count) + 1);
}

EVERY int counted(struct zcp_sub *sub, const zcp_msg *msg)
{
	if (__builtin_expect(msg->seq % DELAY_EVERY == 0 && msg->time != 0, 0))
		note_delay(sub, msg);
	news_store(&sub->self->taken, ++sub->info.messages);
	news_store(&sub->self->taken_bytes, sub->info.bytes += msg->size);
	return 1;
}

/* What a feed said, as the caller is told. */
FEW int result(struct zcp_sub *sub, const struct feed *f, zcp_msg *msg,
    enum took took)
{
	switch (took) {
	case TOOK_MESSAGE:
		return counted(sub, msg);
	case TOOK_LOSS:
		return lost(sub, msg, msg->lost);
	case TOOK_DAMAGE:
		lost(sub, msg, 1);
		return error_set(ZCP_E_DAMAGED, "%s (pid %u) published a "
		    "message on %s that lies in no chunk: skipped",
		    f->publisher, f->pid, sub->topic);
	case TOOK_NO_HOLD:
		return error_set(ZCP_E_HOLDS, "subscription to %s holds the "
		    "%u chunks agreed on: release one first", sub->topic,
		    sub->budget.most);
	case TOOK_NOTHING:
	case TOOK_AGAIN:
		break;
	}
	return 0;
}

/* One round over all feeds; who has something gets a turn of several. */
static int take_round(struct zcp_sub *sub, zcp_msg *msg)
{
	for (uint32_t k = 0; k < sub->count; k++) {
		struct feed *f;
		enum took took;

		sub->next = sub->next + 1 < sub->count ? sub->next + 1 : 0;
		f = sub_feed(sub, sub->next);
		if ((took = take_from(f, msg)) == TOOK_NOTHING)
			continue;
		sub->current = f;
		sub->turn = TURN - 1;
		return result(sub, f, msg, took);
	}
	return 0;
}

static int take_merged(struct zcp_sub *sub, zcp_msg *msg)
{
	uint64_t due;
	struct feed *f = merge_next(sub, &due);
	int rc;

	if (f == NULL)
		return 0;
	rc = result(sub, f, msg, take_from(f, msg));
	if (rc == 1 && msg->time != 0)
		f->clock = msg->time;
	return rc;
}

/* Is a look at its only feed, and at its list of links, a look at all? */
static bool alone(const struct zcp_sub *sub)
{
	return sub->count == 1 && sub->pending == 0 && sub->untold == 0 &&
	    sub->merge == 0 && sub->set == NULL;
}

/* The turn is over, or its feed has nothing: look around. */
FEW int take_slow(struct zcp_sub *sub, zcp_msg *msg)
{
	int rc;

	sub->turn = 0;
	if ((rc = bus_check(sub->bus)) < 0 || (rc = sub_refresh(sub)) < 0)
		return rc;
	if (__builtin_expect(sub->untold > 0, 0)) {
		uint64_t n = sub->untold;

		sub->untold = 0;
		return lost(sub, msg, n);
	}
	rc = sub->merge ? take_merged(sub, msg) : take_round(sub, msg);
	if (rc != 0)
		return rc;
	if (sub->idle++ % IDLE_EVERY == 0)
		sub_look_for_ends(sub);
	if (sub->set != NULL)
		waitset_drained(sub->set);
	sub->polled = alone(sub);
	if (sub->polled) {
		sub->current = sub_feed(sub, 0);
		sub->turn = TURN;
	}
	return 0;
}

int zcp_take(zcp_sub *sub, zcp_msg *msg)
{
	struct feed *f = sub->current;
	enum took took;

	if (__builtin_expect(sub->turn > 0 &&
	    sub->bus->born == fork_generation, 1)) {
		if (__builtin_expect((took = take_here(f, msg)) ==
		    TOOK_MESSAGE, 1)) {
			sub->turn--;
			return counted(sub, msg);
		}
		if (took != TOOK_NOTHING)
			return result(sub, f, msg, took);
		/* Who polls has seen all there is, but for ends. */
		if (sub->polled && fact_load(sub->generation) ==
		    sub->links.generation && ++sub->idle % IDLE_EVERY != 0)
			return 0;
	}
	return take_slow(sub, msg);
}

int sub_take_at(struct zcp_sub *sub, struct feed *f, uint64_t seq,
    zcp_msg *msg)
{
	if (stamp_says(slot_stamp(&f->ring->slot[seq & f->mask]), seq) !=
	    SLOT_MESSAGE)
		return 0;
	if (seq != f->at)
		advance(f, seq);
	return result(sub, f, msg, take_from(f, msg));
}

int zcp_take_batch(zcp_sub *sub, zcp_msg *msgs, size_t count)
{
	size_t n = 0;
	int rc = 0;

	while (n < count && n < INT32_MAX && (rc = zcp_take(sub, &msgs[n])) == 1)
		n++;
	if (n == 0)
		return rc;
	/* The loss behind the last message is told by the next call. */
	if (rc == -ZCP_E_LAPPED || rc == -ZCP_E_DAMAGED) {
		sub->info.lost -= msgs[n].lost;
		sub->untold += msgs[n].lost;
		sub->turn = 0;
	}
	return (int)n;
}

void zcp_release(zcp_sub *sub, zcp_msg *msg)
{
	struct feed *f;

	if (msg->data == NULL)
		return;
	msg->data = NULL;
	if (msg->hold < 0 || bus_check(sub->bus) < 0 ||
	    (uint32_t)msg->link >= sub->cursors || !sub->used[msg->link])
		return;
	f = &sub->feed[msg->link];
	if ((uint32_t)msg->hold >= sub->budget.most || f->users[msg->hold] == 0)
		return;
	probe2(release, f->topic_name, msg->seq);
	feed_release(f, (uint32_t)msg->hold);
}

void zcp_release_batch(zcp_sub *sub, zcp_msg *msgs, size_t count)
{
	for (size_t i = 0; i < count; i++)
		zcp_release(sub, &msgs[i]);
}

int zcp_msg_is(const zcp_msg *msg, size_t size, size_t align, uint32_t kind)
{
	if (msg->size == size && msg->kind == kind &&
	    ((uintptr_t)msg->data & (align - 1)) == 0)
		return 0;
	return error_set(ZCP_E_TYPE, "a message of type %u, %zu bytes, is not "
	    "what was expected: type %u, %zu bytes aligned to %zu", msg->kind,
	    msg->size, kind, size, align);
}
