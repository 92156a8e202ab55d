/*
 * feed.h - one reader at one ring: join, release, let go; take.c takes.
 *
 * A feed belongs to a subscription (it has a cursor and holds) and is used
 * by the subscription's thread alone.
 */
#ifndef ZCP_FEED_H
#define ZCP_FEED_H

#include "participant.h"
#include "ring.h"
#include "zcp.h"

enum feed_state {
	FEED_PENDING,		/* its publisher is not ready yet */
	FEED_JOINED,
	FEED_ENDED,		/* read to its end */
};

enum feed_end { END_NONE, END_CLOSED, END_DIED, END_DAMAGED };

/* What all feeds of one subscription share. */
struct hold_budget {
	uint32_t held, most;		/* chunks held by all of them */
};

struct feed {
	/* what every take looks at */
	struct ring *ring;
	uint64_t at;			/* next seq */
	uint64_t word;			/* of tail and cursor, but for the seq */
	uint32_t mask;
	uint32_t port, serial;		/* the publisher's */
	uint32_t index;			/* of its cursor */
	enum feed_state state;
	bool symmetric;
	struct cursor *cursor;		/* ours, in p<n> */
	const shared_u64 *over;		/* of that cursor; the daemon's */
	struct hold_budget *budget;
	uint32_t last_chunk;		/* of the entry below, or NO_CHUNK */
	uint32_t last_hold;
	uint32_t seen_chunk;		/* where the last one taken lies; places
					   do not change */
	uint32_t seen_size;
	const char *seen;
	uint32_t *users;		/* messages served by each hold */
	uint64_t free_hold[USED_WORDS];	/* private: bit set, entry is free */
	uint32_t held;			/* entries in use */
	struct domain *d;
	struct bell *room_bell;

	uint64_t link;
	uint32_t topic;
	uint32_t history;		/* what to take of its, at most */
	struct peer *peer;		/* keeps the ring mapped */
	enum feed_end end;
	bool damaged;			/* its tail is impossible */
	uint64_t joined_at;		/* where it was when it had joined */
	bool told;			/* of its end: in zcp_sub_info */
	uint64_t registration;		/* its publisher's */
	bool lined_up;			/* `before` is found out */
	uint32_t before;		/* cursor of the feed that goes first, */
	uint32_t before_serial;		/* and its serial; 0: none does */
	uint64_t joined_end;		/* a tail up to here is no loss */
	uint64_t clock;			/* stamp last seen; see merge.c */
	char topic_name[TOPIC_NAME];
	char publisher[NAME_SIZE];	/* its participant's name */
	uint32_t pid;
};

/* A feed for a link of our own subscription, with as many holds as its budget
 * has; errors leave nothing behind. */
int feed_open(struct feed *f, struct domain *d, uint64_t link,
    struct cursor *cursor, const shared_u64 *over, struct hold_budget *budget);

/*
 * Takes its place in the ring: at the start when it was there first, else at
 * the end or at most `last` before it, as far as there is history.  *lost:
 * what a reader that was there first has missed all the same.
 */
void feed_join(struct feed *f, uint32_t last, uint64_t *lost);

static inline const struct slot *slot_at(const struct feed *f, uint64_t at)
{
	return &f->ring->slot[at & f->mask];
}

/* Is this tail's ring still its port's? */
static inline bool feed_owns(const struct feed *f, uint64_t tail)
{
	return (tail & ~NUMBER_MASK) == f->word;
}

/* The tail, as a 64-bit number near `near`; is the ring still its port's? */
static inline uint64_t feed_tail(const struct feed *f, uint64_t near,
    bool *ours)
{
	uint64_t word = tail_validate(f->ring);

	*ours = feed_owns(f, word);
	return number_widen(near, word_number(word));
}

/*
 * Is this tail damaged?  Looked at again: the place may have been given to
 * another port, whose stamps are cleared behind its tail.
 */
static inline bool feed_doubts(const struct feed *f, uint64_t tail)
{
	bool ours;

	return !tail_possible(f->ring, f->mask, tail) &&
	    feed_tail(f, tail, &ours) == tail && ours;
}

/* Nothing that its publisher has written can be followed any more. */
static inline bool feed_damaged(const struct feed *f)
{
	return f->damaged || peer_cut(f->peer);
}

/* Gives back one message that was taken under hold `i`; the bit of the pool
 * whose bell is to be rung, or 0. */
static inline uint32_t feed_release(struct feed *f, uint32_t i)
{
	uint32_t pool;

	if (--f->users[i] > 0)
		return 0;
	pool = chunk_pool(hold_chunk(f->cursor, i)) % MAX_POOLS;
	hold_clear(f->cursor, i);
	f->free_hold[i / 64] |= UINT64_C(1) << i % 64;
	f->held--;
	f->budget->held--;
	if (f->last_hold == i)
		f->last_chunk = NO_CHUNK;
	return UINT32_C(1) << pool;
}

/* The ring may go, and the cursor be given to another link. */
void feed_let_go(struct feed *f);

/* Had its publisher ended when that other one registered? */
bool feed_ended_before(const struct feed *f, uint64_t registration);

/* Is there something to take, or news about the ring? */
bool feed_ready(const struct feed *f);

/* The ring is empty: has its publisher ended?  Then it is let go.  Returns how
 * many of its messages were lost: the daemon had gone past them, and the ring
 * has gone. */
uint64_t feed_look_for_end(struct feed *f);

/* Messages overwritten before they were taken, of which the next take tells. */
uint64_t feed_lost(const struct feed *f);

/* The ring is another's now, or its tail makes no sense: it is let go, and
 * counted, in the same way. */
uint64_t feed_gone(struct feed *f);

/* Gives back every hold and the place in the ring. */
void feed_close(struct feed *f);

#endif
