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
	TRIES = 1000,			/* of one take, while something moves */
};

enum took {
	TOOK_NOTHING,
	TOOK_MESSAGE,
	TOOK_LOSS,		/* msg->lost messages were overwritten */
	TOOK_DAMAGE,		/* one message was skipped: it made no sense */
	TOOK_RUIN,		/* the ring makes no sense: it has been left */
	TOOK_NO_HOLD,
	TOOK_AGAIN,		/* something moved: look once more */
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
	cursor_store(f->cursor, f->word | word_number(to));
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

/* The ring's place has been given to another port: how many of its messages
 * were lost, by the daemon's last word on it. */
FEW uint64_t ring_is_gone(struct feed *f)
{
	uint64_t lost = feed_gone(f);

	news_add(&f->cursor->lost, lost);
	return lost;
}

/*
 * How much is lost with a ring that cannot be followed is not known: at least
 * what still lies complete in it, from here on.
 */
FEW enum took leave_ruin(struct feed *f, zcp_msg *msg)
{
	uint64_t end = ring_end(f->ring, f->mask, f->at, f->at);

	msg->lost = end > f->at ? end - f->at : 1;
	news_add(&f->cursor->lost, msg->lost);
	f->state = FEED_ENDED;
	f->end = END_DAMAGED;
	feed_let_go(f);
	return TOOK_RUIN;
}

/*
 * The tail as 64 bits.  The stamp of a slot that was rewritten tells how far
 * the ring has come since, were it more than 40 bits can say.
 */
static uint64_t tail_now(const struct feed *f, uint64_t stamp, bool *ours)
{
	stamp &= ~STAMP_BUSY;
	return feed_tail(f, stamp > f->at ? stamp - 1 : f->at, ours);
}

/* The slot was rewritten, so the tail is beyond it; or the ring is gone. */
FEW enum took overtaken(struct feed *f, zcp_msg *msg)
{
	bool ours;
	uint64_t tail = tail_now(f, slot_stamp(slot_at(f, f->at)), &ours);

	if (!ours) {
		msg->lost = ring_is_gone(f);
		return msg->lost > 0 ? TOOK_LOSS : TOOK_NOTHING;
	}
	if (tail <= f->at)
		return TOOK_NOTHING;
	if (feed_doubts(f, tail))
		return leave_ruin(f, msg);
	if (tail <= f->joined_end) {
		advance(f, tail);
		return TOOK_AGAIN;
	}
	return lose(f, msg, tail);
}

FEW enum took skip_damaged(struct feed *f, uint64_t at)
{
	news_add(&f->cursor->lost, 1);
	advance(f, at + 1);
	return TOOK_DAMAGE;
}

/* Where the message lies; NULL: within no chunk, whatever its publisher wrote.
 * Several of one chunk come in a row. */
EVERY const char *find_data(struct feed *f, uint32_t chunk, uint32_t offset,
    size_t length)
{
	if (chunk != f->seen_chunk) {
		const struct pool *pool = pool_of(&f->d->pools, chunk);

		if (__builtin_expect(pool == NULL, 0))
			return NULL;
		f->seen_chunk = chunk;
		f->seen_size = pool->chunk_size;
		f->seen = pool_data(pool, chunk);
	}
	return __builtin_expect((uint64_t)offset + length <= f->seen_size, 1) ?
	    f->seen + offset : NULL;
}

/*
 * Steps 1 and 2: message `at` is copied, its chunk held.  Nothing of it may be
 * believed before validated(), but that it was complete.
 */
EVERY bool copied(struct feed *f, const struct slot *slot, uint64_t at,
    zcp_msg *msg)
{
	uint64_t place, what;
	uint32_t chunk, hold;
	const char *data;

	if (slot_stamp(slot) != at + 1)
		return false;
	place = slot_get(&slot->place);
	what = slot_get(&slot->what);
	chunk = (uint32_t)place;
	msg->size = (uint32_t)what;
	msg->kind = (uint32_t)(what >> 32);
	msg->time = slot_get(&slot->time);
	msg->seq = at;
	msg->publisher = f->port;
	msg->lost = 0;
	if (chunk == CHUNK_INLINE) {
		/* Only what its slot has, whatever its publisher wrote. */
		if (__builtin_expect((uint32_t)what > INLINE_SIZE, 0))
			return false;
		slot_body(slot, msg->small);
		msg->data = msg->small;
		msg->link = (int32_t)f->index;
		msg->hold = -1;
		return true;
	}
	data = find_data(f, chunk, (uint32_t)(place >> 32), (uint32_t)what);
	if (__builtin_expect(data == NULL, 0))
		return false;
	hold = f->last_hold;
	if (chunk != f->last_chunk &&
	    (hold = hold_new(f, chunk)) == UINT32_MAX)
		return false;
	f->users[hold]++;
	__builtin_prefetch(data);
	msg->data = data;
	msg->link = (int32_t)f->index;
	msg->hold = (int32_t)hold;
	return true;
}

EVERY bool still_there(const struct feed *f, uint64_t tail, uint64_t at)
{
	return feed_owns(f, tail) && number_diff(tail, at) <= 0;
}

/*
 * Step 3, for all from `at` on: the reclaimer moves the tail, fences, reads
 * holds; we have shown the holds and look at the tail.  A hold that was here
 * before serves as well, but the tail is looked at again: the chunk may have
 * been freed and published anew since another message of it was taken.
 *
 * What is at or above the tail was not rewritten while it was copied.  The
 * stamp, looked at last, has 64 bits: a tail that went all the way round shows.
 */
EVERY bool validated(const struct feed *f, const struct slot *slot,
    uint64_t at)
{
	uint64_t tail;

	slots_copied();
	fence_light(f->symmetric);
	tail = tail_validate(f->ring);
	return __builtin_expect(still_there(f, tail, at) &&
	    slot_stamp(slot) == at + 1, 1);
}

FEW void put_back(struct feed *f, zcp_msg *msg, size_t n)
{
	uint32_t pools = 0;

	for (size_t i = 0; i < n; i++) {
		msg[i].data = NULL;
		if (msg[i].hold >= 0)
			pools |= feed_release(f, (uint32_t)msg[i].hold);
	}
	if (pools != 0)
		domain_ring_pools(f->d, pools);
}

/* Up to `most` messages in a row: how many, or 0 and none of them is taken. */
EVERY size_t take_run(struct feed *f, zcp_msg *msg, size_t most)
{
	uint64_t at = f->at;
	const struct slot *first = slot_at(f, at);
	size_t n = 1;

	if (!copied(f, first, at, msg))
		return 0;
	while (n < most && copied(f, slot_at(f, at + n), at + n, &msg[n]))
		n++;
	if (!validated(f, first, at)) {
		put_back(f, msg, n);
		return 0;
	}
	advance(f, at + n);
	return n;
}

/* Why a message that is there cannot be taken. */
static enum took unfit(struct feed *f, const struct message *m)
{
	if (m->chunk == CHUNK_INLINE)
		return m->length > INLINE_SIZE ? TOOK_DAMAGE : TOOK_AGAIN;
	if (find_data(f, m->chunk, m->offset, m->length) == NULL)
		return TOOK_DAMAGE;
	if (m->chunk != f->last_chunk && f->budget->held >= f->budget->most)
		return TOOK_NO_HOLD;
	/* It has come, or what hindered has gone, in between. */
	return TOOK_AGAIN;
}

/* Why take_run() took nothing. */
FEW enum took hindered(struct feed *f, zcp_msg *msg)
{
	uint64_t body[INLINE_SIZE / 8];
	struct message m;
	enum took why;

	switch (slot_copy(slot_at(f, f->at), f->at, &m, body)) {
	case SLOT_EMPTY:
		return TOOK_NOTHING;
	case SLOT_OVERTAKEN:
		return overtaken(f, msg);
	case SLOT_MESSAGE:
		break;
	}
	if (!still_there(f, tail_validate(f->ring), f->at))
		return overtaken(f, msg);
	why = unfit(f, &m);
	return why == TOOK_DAMAGE ? skip_damaged(f, f->at) : why;
}

FEW enum took take_from(struct feed *f, zcp_msg *msg)
{
	enum took took = TOOK_AGAIN;

	if (f->state != FEED_JOINED)
		return TOOK_NOTHING;
	if (feed_damaged(f))
		return leave_ruin(f, msg);
	for (int i = 0; took == TOOK_AGAIN && i < TRIES; i++)
		took = take_run(f, msg, 1) ? TOOK_MESSAGE : hindered(f, msg);
	return took;
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

EVERY int counted(struct zcp_sub *sub, const struct feed *f,
    const zcp_msg *msg, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		sub->info.bytes += msg[i].size;
		if (__builtin_expect(msg[i].seq % DELAY_EVERY == 0 &&
		    msg[i].time != 0, 0))
			note_delay(sub, &msg[i]);
		probe3(take, f->topic_name, msg[i].seq, msg[i].size);
	}
	news_store(&sub->self->taken, sub->info.messages += n);
	news_store(&sub->self->taken_bytes, sub->info.bytes);
	return 1;
}

/* What a feed said, as the caller is told. */
FEW int result(struct zcp_sub *sub, const struct feed *f, zcp_msg *msg,
    enum took took)
{
	switch (took) {
	case TOOK_MESSAGE:
		return counted(sub, f, msg, 1);
	case TOOK_LOSS:
		return lost(sub, msg, msg->lost);
	case TOOK_DAMAGE:
		lost(sub, msg, 1);
		return error_set(ZCP_E_DAMAGED, "%s (pid %u) published a "
		    "message on %s that lies in no chunk: skipped",
		    f->publisher, f->pid, sub->topic);
	case TOOK_RUIN:
		sub->turn = 0;
		lost(sub, msg, msg->lost);
		return error_set(ZCP_E_DAMAGED, "%s%u (%s, pid %u) %s: it is "
		    "followed no more on %s, and at least %" PRIu64
		    " messages of it are lost", peer_cut(f->peer) ? "p" :
		    "the ring of p", f->peer->slot, f->publisher, f->pid,
		    peer_cut(f->peer) ? "was truncated by its owner" :
		    "is damaged", sub->topic, msg->lost);
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
		if (sub_holds_back(sub, f) ||
		    (took = take_from(f, msg)) == TOOK_NOTHING)
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

/* A loss that is known already, or what the feeds have. */
static int take_any(struct zcp_sub *sub, zcp_msg *msg)
{
	uint64_t n = sub->untold;

	if (__builtin_expect(n > 0, 0)) {
		sub->untold = 0;
		return lost(sub, msg, n);
	}
	return sub->merge ? take_merged(sub, msg) : take_round(sub, msg);
}

/* Is a look at its only feed, and at its list of links, a look at all? */
static bool alone(const struct zcp_sub *sub)
{
	return sub->count == 1 && sub->pending == 0 && sub->untold == 0 &&
	    sub->merge == 0 && sub->set == NULL &&
	    sub_feed(sub, 0)->state == FEED_JOINED;
}

/* The turn is over, or its feed has nothing, or a loss: look around. */
FEW int take_slow(struct zcp_sub *sub, zcp_msg *msg)
{
	bool looked = sub->turn > 0 && sub->polled;
	enum took took;
	int rc;

	msg->lost = 0;
	if ((rc = bus_check(sub->bus)) < 0)
		return rc;
	if (sub->turn > 0 && (took = take_from(sub->current, msg)) !=
	    TOOK_NOTHING) {
		sub->turn--;
		return result(sub, sub->current, msg, took);
	}
	sub->turn = 0;
	if ((rc = sub_refresh(sub)) < 0)
		return rc;
	sub->held_back = false;
	/* A poller has just looked at its only feed, if it is that still. */
	if (!(looked && sub->polled) && (rc = take_any(sub, msg)) != 0)
		return rc;
	/* One that waits for an end that is there needs not wait. */
	if (sub->held_back) {
		sub_look_for_ends(sub);
		if ((rc = take_any(sub, msg)) != 0)
			return rc;
	}
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

/*
 * While it is one publisher's turn: how many were taken of it; 0: a poller has
 * seen all there is, but for ends; negative: look around.
 */
EVERY int take_fast(struct zcp_sub *sub, zcp_msg *msg, size_t most)
{
	struct feed *f = sub->current;
	size_t n;

	if (__builtin_expect(sub->turn == 0 ||
	    sub->bus->born != fork_generation, 0))
		return -1;
	if (most > sub->turn)
		most = sub->turn;
	if ((n = take_run(f, msg, most)) > 0) {
		sub->turn -= (uint32_t)n;
		counted(sub, f, msg, n);
		return (int)n;
	}
	return sub->polled && fact_load(sub->generation) ==
	    sub->links.generation && stamp_says(slot_stamp(slot_at(f, f->at)),
	    f->at) == SLOT_EMPTY && ++sub->idle % IDLE_EVERY != 0 ? 0 : -1;
}

int zcp_take(zcp_sub *sub, zcp_msg *msg)
{
	int n = take_fast(sub, msg, 1);

	return __builtin_expect(n >= 0, 1) ? n : take_slow(sub, msg);
}

/* ---- a take at a place that somebody else has named ------------------------------ */

/*
 * Is message `seq` there?  Its number comes from outside and may be any: only
 * one that the ring has room for, of 64 bits that neither wrap nor look like
 * BUSY, is compared with a stamp.
 */
static enum found_at look_at(const struct feed *f, uint64_t seq)
{
	uint64_t stamp = slot_stamp(slot_at(f, seq)), tail;
	bool ours;

	tail = tail_now(f, stamp, &ours);
	if (!ours)
		return AT_ENDED_RING;
	if (feed_damaged(f) || feed_doubts(f, tail))
		return AT_RUIN;
	if (seq < tail)
		return AT_GIVEN_UP;
	if (seq - tail > f->mask)
		return AT_NOTHING;
	return stamp == seq + 1 ? AT_MESSAGE : AT_NOTHING;
}

/* Why it could not be copied: there is no hold for it, or its slot makes no
 * sense; unless it is there no more. */
FEW enum took not_copied(struct feed *f, uint64_t seq)
{
	uint64_t body[INLINE_SIZE / 8];
	struct message m;

	return slot_copy(slot_at(f, seq), seq, &m, body) == SLOT_MESSAGE &&
	    unfit(f, &m) == TOOK_NO_HOLD ? TOOK_NO_HOLD : TOOK_DAMAGE;
}

/*
 * The one take, but that nothing may happen to the reader unless all holds:
 * the cursor stays where it is until message `seq` is copied, held and looked
 * at again, and it never goes on at the tail, which is another message.
 */
int sub_take_at(struct zcp_sub *sub, struct feed *f, uint64_t seq,
    zcp_msg *msg, enum found_at *found)
{
	const struct slot *slot = slot_at(f, seq);
	enum took took = TOOK_MESSAGE;

	if ((*found = look_at(f, seq)) != AT_MESSAGE)
		goto refused;
	if (!copied(f, slot, seq, msg)) {
		took = not_copied(f, seq);
		if ((*found = look_at(f, seq)) != AT_MESSAGE)
			goto refused;
		if (took == TOOK_DAMAGE)
			skip_damaged(f, seq);
	} else if (!validated(f, slot, seq)) {
		put_back(f, msg, 1);
		if ((*found = look_at(f, seq)) == AT_MESSAGE)
			*found = AT_GIVEN_UP;
		goto refused;
	} else
		advance(f, seq + 1);
	return result(sub, f, msg, took);
refused:
	if (*found == AT_RUIN)
		return result(sub, f, msg, leave_ruin(f, msg));
	if (*found == AT_ENDED_RING)
		feed_gone(f);
	return 0;
}

int zcp_take_batch(zcp_sub *sub, zcp_msg *msgs, size_t count)
{
	size_t n = 0;
	int rc = 1;

	if (count > INT32_MAX)
		count = INT32_MAX;
	while (n < count && rc > 0) {
		rc = take_fast(sub, &msgs[n], count - n);
		if (rc < 0)
			rc = take_slow(sub, &msgs[n]);
		if (rc > 0)
			n += (size_t)rc;
	}
	if (n == 0)
		return rc < 0 ? rc : 0;
	/* The loss behind the last message is told by the next call. */
	if (rc == -ZCP_E_LAPPED || rc == -ZCP_E_DAMAGED) {
		sub->info.lost -= msgs[n].lost;
		sub->untold += msgs[n].lost;
		sub->turn = 0;
		/* Then its publisher goes on. */
		if (sub->count > 0)
			sub->next = (sub->next + sub->count - 1) % sub->count;
	}
	return (int)n;
}

/* Gives one back: the bit of a pool to ring, or 0. */
EVERY uint32_t give_back(struct zcp_sub *sub, zcp_msg *msg)
{
	struct feed *f;

	if (msg->data == NULL)
		return 0;
	msg->data = NULL;
	if (msg->hold < 0 || (uint32_t)msg->hold >= sub->budget.most ||
	    (uint32_t)msg->link >= sub->cursors || !sub->used[msg->link])
		return 0;
	f = &sub->feed[msg->link];
	if (f->users[msg->hold] == 0)
		return 0;
	probe2(release, f->topic_name, msg->seq);
	return feed_release(f, (uint32_t)msg->hold);
}

EVERY void release_all(struct zcp_sub *sub, zcp_msg *msgs, size_t count)
{
	uint32_t pools = 0;

	for (; count > 0 && msgs->data == NULL; count--)
		msgs++;
	if (count == 0)
		return;
	if (bus_check(sub->bus) < 0) {
		for (size_t i = 0; i < count; i++)
			msgs[i].data = NULL;
		return;
	}
	for (size_t i = 0; i < count; i++)
		pools |= give_back(sub, &msgs[i]);
	if (pools != 0)
		domain_ring_pools(&sub->bus->d, pools);
}

void zcp_release(zcp_sub *sub, zcp_msg *msg)
{
	release_all(sub, msg, 1);
}

void zcp_release_batch(zcp_sub *sub, zcp_msg *msgs, size_t count)
{
	release_all(sub, msgs, count);
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
