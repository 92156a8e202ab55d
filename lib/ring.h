/* ring.h - the slots of one ring: writing, copying, finding the end. */
#ifndef ZCP_RING_H
#define ZCP_RING_H

#include "atomics.h"

/*
 * What every message passes is inlined into the call that it came by, so that
 * it lives in registers; what few pass stays out of it.
 */
#define EVERY static inline __attribute__((always_inline))
#define FEW static __attribute__((noinline))

struct message {
	uint64_t time;
	uint32_t chunk, offset, length, kind;
};

enum { SLOTS_AHEAD = 4 };

enum slot_found { SLOT_EMPTY, SLOT_MESSAGE, SLOT_OVERTAKEN };

/*
 * The owner has room: tail is seen to be beyond seq - slots.  `body`:
 * INLINE_SIZE bytes for CHUNK_INLINE, else NULL.
 */
static inline void ring_put(struct ring *ring, uint32_t mask, uint64_t seq,
    const struct message *m, const uint64_t *body)
{
	struct slot *slot = &ring->slot[seq & mask];

	/* The lines of the next ones come while this one is written. */
	line_wanted(&ring->slot[(seq + SLOTS_AHEAD) & mask]);
	slot_begin(slot, seq);
	slot_put(&slot->time, m->time);
	slot_put(&slot->place, m->chunk | (uint64_t)m->offset << 32);
	slot_put(&slot->what, m->length | (uint64_t)m->kind << 32);
	if (body != NULL) {
		slot_put(&slot->body[0], body[0]);
		slot_put(&slot->body[1], body[1]);
		slot_put(&slot->body[2], body[2]);
		slot_put(&slot->body[3], body[3]);
	}
	slot_complete(slot, seq);
}
_Static_assert(INLINE_SIZE == 4 * sizeof(uint64_t), "four words of payload");

EVERY enum slot_found stamp_says(uint64_t stamp, uint64_t seq)
{
	if (stamp == seq + 1)
		return SLOT_MESSAGE;
	/* BUSY or complete, a later number has taken the place. */
	return (int64_t)((stamp & ~STAMP_BUSY) - (seq + 1)) > 0 ?
	    SLOT_OVERTAKEN : SLOT_EMPTY;
}

/* INLINE_SIZE bytes. */
EVERY void slot_body(const struct slot *slot, uint64_t *body)
{
	body[0] = slot_get(&slot->body[0]);
	body[1] = slot_get(&slot->body[1]);
	body[2] = slot_get(&slot->body[2]);
	body[3] = slot_get(&slot->body[3]);
}

/*
 * Copies message `seq` from its slot, and INLINE_SIZE bytes to `body` when the
 * chunk is CHUNK_INLINE; only believed when it says SLOT_MESSAGE.
 */
EVERY enum slot_found slot_copy(const struct slot *slot, uint64_t seq,
    struct message *m, uint64_t *body)
{
	enum slot_found found = stamp_says(slot_stamp(slot), seq);
	uint64_t place, what;

	if (found != SLOT_MESSAGE)
		return found;
	place = slot_get(&slot->place);
	what = slot_get(&slot->what);
	m->time = slot_get(&slot->time);
	m->chunk = (uint32_t)place;
	m->offset = (uint32_t)(place >> 32);
	m->length = (uint32_t)what;
	m->kind = (uint32_t)(what >> 32);
	if (m->chunk == CHUNK_INLINE)
		slot_body(slot, body);
	return slot_recheck(slot) == seq + 1 ? SLOT_MESSAGE : SLOT_OVERTAKEN;
}

static inline enum slot_found ring_get(const struct ring *ring, uint32_t mask,
    uint64_t seq, struct message *m, uint64_t *body)
{
	return slot_copy(&ring->slot[seq & mask], seq, m, body);
}

/*
 * The first seq, from `from` on, without its stamp.  `from` is a hint
 * (head lags by a batch, and is not trusted after its owner's death), `tail`
 * bounds it: at most `slots` stamps can be complete.
 */
static inline uint64_t ring_end(const struct ring *ring, uint32_t mask,
    uint64_t tail, uint64_t from)
{
	uint64_t seq = from;

	if (number_diff(from, tail) < 0 || from - tail > (uint64_t)mask + 1 ||
	    (from > tail && stamp_says(slot_stamp(
	    &ring->slot[(from - 1) & mask]), from - 1) == SLOT_EMPTY))
		seq = tail;
	while (seq - tail <= mask && stamp_says(slot_stamp(
	    &ring->slot[seq & mask]), seq) == SLOT_MESSAGE)
		seq++;
	return seq;
}

/*
 * A tail never passes what was not published: the slot before it has its stamp,
 * or that of a later message.  Who moves a tail has seen the stamps up to
 * there, and whoever loads the tail (acquire) sees them, too; so a tail for
 * which this is false, and which is still its port's when it is looked at
 * again, was never stored by anybody who keeps to the protocol.
 */
static inline bool tail_possible(const struct ring *ring, uint32_t mask,
    uint64_t tail)
{
	return tail == 0 || stamp_says(slot_stamp(
	    &ring->slot[(tail - 1) & mask]), tail - 1) != SLOT_EMPTY;
}

#endif
