/*
 * publisher.h - a publisher's private side: what it knows of its own ring
 * and need not read from shared memory.
 */
#ifndef ZCP_PUBLISHER_H
#define ZCP_PUBLISHER_H

#include "participant.h"
#include "readers.h"
#include "ring.h"
#include "spin.h"
#include "zcp.h"

enum { BLIND_SIZE = 258 };

enum {
	STOCK_MAX = 4096,
	PATIENCE = 1000000,	/* ns to wait for much, before little is enough */
};

/* Chunks taken back from readers, LOANED, ready for the next loan. */
struct stock {
	uint32_t *id;			/* room for STOCK_MAX */
	uint32_t count, most;
	uint32_t from;			/* index at which pool_take() looks first */
	uint32_t out;			/* chunks in the ring not yet walked past */
};

/* A chunk below the tail that a reader still held when it was passed. */
struct pending {
	uint32_t id;
	uint64_t word;			/* from which it will be changed */
};

struct zcp_pub {
	/* what every publish looks at */
	struct zcp *bus;
	struct ring *ring;
	uint64_t head;			/* next seq */
	uint64_t walked;		/* chunks of [0, walked) are dealt with:
					   slots from here on are in use */
	uint64_t straight;		/* up to here there is room, nothing is
					   stamped, no chunk is partly out */
	uint64_t bytes;
	uint64_t stamp_mask, stamp_at;
	uint64_t loaned;		/* the word of a chunk on loan to us */
	uint64_t published;		/* and of one published, but for the seq */
	const struct pool *lent_from;	/* of the last loan: its pool, */
	uint32_t lent;			/* and its chunk, or NO_CHUNK */
	uint32_t mask, slots;
	uint32_t partial;		/* chunk published in part, or NO_CHUNK */
	bool symmetric;
	bool fence_due;			/* a reader may have been passed over */
	bool corked;			/* sleepers are not woken yet, */
	bool owes;			/* though they should be */
	const shared_u64 *generation;
	struct bell *topic_bell, *domain_bell, *room_bell;
	struct reader_set readers;

	struct place *place;
	char *topic;
	uint32_t port, serial;
	uint32_t history;
	bool lossy, unlisted;
	enum zcp_stamp stamp;
	uint64_t tail;			/* as last seen */
	uint64_t unseen, waits, cut;
	uint64_t buried;		/* when readers_bury() was called, ns */
	uint64_t swept;			/* when its last sweep ended, ns */
	uint32_t *last;			/* per slot: the chunk whose last seq it is */
	/* Chunks: published; of those walked past; published when the last
	 * reclaim began. */
	uint64_t published_all, walked_all, reclaimed_at;

	uint32_t freed;			/* bit i: chunks of pool i, bell to be rung */
	unsigned hits;			/* of guards, when its readers were looked at */
	struct hold_set holds;
	struct pending *pending;
	uint32_t pendings;
	struct stock stock[MAX_POOLS];
	uint32_t *stocks;		/* their room */

	uint32_t class;			/* a loan waits for this or a larger one */
	uint64_t told_at;		/* when `owners` was found out, ns */
	uint32_t told_class;		/* and for which */
	char owners[768];		/* who has the memory, for messages */
	char blind[BLIND_SIZE - 2];	/* what could not be looked at, likewise */
	uint32_t rung[MAX_POOLS];	/* pool bells' counts before its last try */

	struct spin spin;
};

static inline int pub_check(const struct zcp_pub *pub)
{
	return bus_check(pub->bus);
}

static inline uint64_t pub_free_slots(const struct zcp_pub *pub)
{
	return pub->slots - (pub->head - pub->walked);
}

/* Chunks in the ring that are not walked past. */
static inline uint64_t pub_out(const struct zcp_pub *pub)
{
	return pub->published_all - pub->walked_all;
}

/* Its ring, as those who judge readers by it want it. */
static inline struct ring_view pub_view(const struct zcp_pub *pub)
{
	return (struct ring_view){ .serial = pub->serial, .tail = pub->tail,
	    .head = pub->head, .history = pub->history, .slots = pub->slots };
}

/* ---- publisher.c ----------------------------------------------------------- */

/* Wakes those whom a corked publisher has let sleep: before it waits for them,
 * or moves the tail past them. */
void pub_wake(struct zcp_pub *pub);

/* ---- reclaim.c ------------------------------------------------------------ */

/* Without regard to what lossy readers would like kept, or the history. */
enum how_far { AS_WISHED, PAST_DEPTHS, PAST_HISTORY };

/*
 * Moves the tail as far as the readers allow and takes back what nobody
 * holds.  0, or why nothing could be concluded.
 */
int reclaim(struct zcp_pub *pub, enum how_far far);

/* Has enough been published since the last one to make it worth while for a
 * loan from `pool`? */
bool reclaim_due(const struct zcp_pub *pub, uint32_t pool);

/* How far reclaim() could go now, without doing it. */
uint64_t reclaimable(struct zcp_pub *pub);

/* Has a reader released a chunk that waited for it below the tail? */
bool pending_released(struct zcp_pub *pub);

/* Loads the readers anew if the list has changed; -ZCP_E_ENDED. */
int readers_refresh(struct zcp_pub *pub);

/* A reader keeps us waiting: is it dead, with no daemon to say so?  Then it
 * no longer counts here. */
void readers_bury(struct zcp_pub *pub);

/* "; " and what it could not look at, when it last looked for the dead and for
 * garbage; or nothing.  For messages. */
void pub_note_blind(struct zcp_pub *pub, const char *why);
const char *pub_blind(const struct zcp_pub *pub, char text[BLIND_SIZE]);

/* Gives every private chunk back. */
void stock_return(struct zcp_pub *pub);

/* ---- room.c ------------------------------------------------------------------ */

/* What a publisher waits for; true when it may go on. */
typedef bool wait_for(struct zcp_pub *pub);

/* Waits until `ready`, rung by readers that cross `want`, and if it is for
 * memory by whoever gives some back; -ZCP_E_TIMEOUT, -ZCP_E_INTR. */
int pub_wait(struct zcp_pub *pub, uint64_t want, wait_for *ready, bool memory,
    uint64_t deadline);

/* Waits for room for at least one message: 0 or an error. */
int pub_room(struct zcp_pub *pub, int64_t timeout);

#endif
