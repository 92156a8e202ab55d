/*
 * subscriber.h - a subscription's private side: its feeds, whose turn it is,
 * and what it has yet to tell.
 */
#ifndef ZCP_SUBSCRIBER_H
#define ZCP_SUBSCRIBER_H

#include "feed.h"
#include "readers.h"
#include "spin.h"

struct zcp_sub {
	/* what every take looks at */
	struct zcp *bus;
	struct feed *current;		/* whose turn it is, while turn > 0 */
	uint32_t turn;			/* messages it still has; 0: look around */
	uint32_t idle;			/* vain looks, for the next look for ends */
	bool polled;			/* while turn > 0: current is all there is */
	const shared_u64 *generation;	/* of its links */
	struct subscription *self;
	struct hold_budget budget;
	zcp_sub_info info;

	struct place *place;
	char *topic;
	uint32_t port, serial;
	uint32_t cursors, depth;
	uint32_t last;			/* of each history: how much is wanted */
	uint32_t redeems;		/* serial of the one publisher, or 0; */
	uint32_t redeems_port;		/* its place */
	uint64_t redeems_incarnation;	/* and its participant's incarnation */
	bool lossy, pattern;
	uint64_t merge;			/* ns; 0: publishers by turns */
	struct bell *topic_bell;	/* NULL for a pattern */

	struct link_list links;
	struct feed *feed;		/* by cursor index */
	bool *used;			/* is feed[i] open? */
	uint32_t *order;		/* indices of open feeds */
	uint32_t count;
	uint32_t next;			/* of order[] */
	uint32_t pending;		/* feeds whose publisher is not ready */
	bool held_back;			/* a feed had to wait for another */
	uint64_t missed;		/* of port.missed: told */
	uint64_t untold;		/* lost, to be reported by the next take */
	struct spin spin;
	struct zcp_waitset *set;	/* it belongs to, or NULL */
};

static inline struct feed *sub_feed(const struct zcp_sub *sub, uint32_t k)
{
	return &sub->feed[sub->order[k]];
}

/* ---- subscriber.c ---------------------------------------------------------- */

/* Brings the feeds in line with the links that the daemon lists for us. */
int sub_refresh(struct zcp_sub *sub);

/* Has this one to wait for an earlier offer of the same participant, which has
 * ended but is not read to its end? */
bool sub_holds_back(struct zcp_sub *sub, struct feed *f);

/* Lets feeds go that are read to the end of an ended ring. */
void sub_look_for_ends(struct zcp_sub *sub);

/* As zcp_subscribe() does it; `redeems`: only the publisher of that serial. */
int sub_start(struct zcp *bus, const char *name, bool pattern,
    uint32_t redeems, const zcp_sub_options *options, struct zcp_sub **out);

/* ---- take.c ------------------------------------------------------------------ */

/* What a ring has at a place that somebody names. */
enum found_at {
	AT_MESSAGE,
	AT_NOTHING,		/* nothing was published there yet */
	AT_GIVEN_UP,		/* the tail has gone past it */
	AT_ENDED_RING,		/* the ring has ended, its place is another's */
	AT_RUIN,		/* the ring is damaged: it has been left */
};

/*
 * zcp_take() of message `seq` of one feed that has joined, where that is not
 * before its cursor; what lies between is passed over.  0: it is not there,
 * *found says why, and the cursor is where it was.
 */
int sub_take_at(struct zcp_sub *sub, struct feed *f, uint64_t seq,
    zcp_msg *msg, enum found_at *found);

/* ---- merge.c ----------------------------------------------------------------- */

/*
 * The feed whose message is the next by time; NULL when nothing waits, or
 * when a publisher that has nothing may still be earlier: then *due is when
 * that has been waited for long enough (CLOCK_MONOTONIC; else UINT64_MAX).
 */
struct feed *merge_next(struct zcp_sub *sub, uint64_t *due);

/* ---- waitset.c --------------------------------------------------------------- */

/* A take found nothing: the set's descriptor, if it has one, says so again. */
void waitset_drained(struct zcp_waitset *set);

/* The subscription ends: its set forgets it, or ends with it. */
void waitset_forget(struct zcp_sub *sub);

#endif
