/*
 * feed.h - one reader at one ring: join, take, release, let go.
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

enum feed_end { END_NONE, END_CLOSED, END_DIED };

struct feed {
	struct domain *d;
	uint64_t link;
	uint32_t port, serial;		/* the publisher's */
	uint32_t topic;
	struct peer *peer;		/* keeps the ring mapped */
	struct ring *ring;
	uint32_t mask;
	uint32_t history;		/* offered by the publisher */
	enum feed_state state;
	enum feed_end end;
	char publisher[NAME_SIZE + 24];	/* "name (pid N)" */

	struct cursor *cursor;		/* ours, in p<n> */
	uint64_t at;			/* next seq */
	uint64_t joined_end;		/* a tail up to here is no loss */
	uint32_t holds;
	uint64_t free_hold[USED_WORDS];	/* private: bit set, entry is free */
	uint32_t *users;		/* messages served by each hold */
	uint32_t held;			/* entries in use */
	uint32_t last_chunk;		/* of the entry below, or NO_CHUNK */
	uint32_t last_hold;
	struct bell *room_bell;
};

/* A feed for a link of our own subscription; errors leave nothing behind. */
int feed_open(struct feed *f, struct domain *d, uint64_t link,
    struct cursor *cursor, uint32_t holds);

/*
 * Takes its place in the ring: at the start when it was there first, else at
 * the end or at most `history` before it.  *lost: what a reader that was
 * there first has missed all the same.
 */
void feed_join(struct feed *f, bool from_end, uint64_t *lost);

enum feed_took {
	TOOK_NOTHING,
	TOOK_MESSAGE,
	TOOK_LOSS,		/* msg->lost messages were overwritten */
	TOOK_DAMAGE,		/* one message was skipped: it made no sense */
	TOOK_NO_HOLD,
	TOOK_AGAIN,		/* within feed_take(): look once more */
};

/* The one take, zcp-design(7).  `may_hold`: another hold may be used. */
enum feed_took feed_take(struct feed *f, zcp_msg *msg, bool may_hold);

/* Gives back one message that was taken under hold `hold`. */
void feed_release(struct feed *f, uint32_t hold);

/* Is there something to take, or news about the ring? */
bool feed_ready(const struct feed *f);

/* The ring is empty: has its publisher ended?  Then it is let go. */
void feed_look_for_end(struct feed *f);

/* Gives back every hold and the place in the ring. */
void feed_close(struct feed *f);

#endif
