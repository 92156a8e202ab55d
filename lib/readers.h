/*
 * readers.h - who reads one ring: the publisher's list of links, resolved to
 * cursors and holds, and what follows from them for the tail.
 */
#ifndef ZCP_READERS_H
#define ZCP_READERS_H

#include <stdbool.h>
#include <stdint.h>

#include "domain.h"

/* A consistent copy of the links of one port. */
struct link_list {
	uint64_t *link;
	uint32_t count, room;
	uint64_t generation;
};

/* -ZCP_E_BUSY: it kept changing; -ZCP_E_DAMAGED; -ZCP_E_SYS: no memory. */
int link_list_load(struct link_list *list, const struct domain *d,
    uint32_t port);
void link_list_free(struct link_list *list);

struct reader {
	uint64_t link;
	struct cursor *cursor;
	const struct subscription *subscription;
	struct peer *peer;
	uint32_t participant;
	uint32_t holds;
	uint32_t depth;
	bool dead;		/* found dead by this process, or its file truncated:
				   neither gates nor holds */
};

struct reader_set {
	struct reader *reader;
	uint32_t count, room;
	uint64_t generation;
	struct link_list links;
	bool gated;		/* nothing may go before one of them has joined */
	bool expected;		/* somebody is to have what is published, be there
				   a reader yet or not */
};

/*
 * Loads the readers of publisher `port`, never from a cache.  When it fails
 * the set is what it was, and nothing may be concluded from it.
 */
int reader_set_load(struct reader_set *set, struct domain *d, uint32_t port);
void reader_set_free(struct reader_set *set, struct domain *d);

/* The ring that is judged, as its judge knows it. */
struct ring_view {
	uint32_t serial;
	uint64_t tail, head;	/* 64 bits wide */
	uint32_t history;
	uint32_t slots;
};

struct limits {
	uint64_t kept;		/* depths of lossy readers respected */
	uint64_t promised;	/* reliable readers and history alone */
	uint64_t read;		/* reliable readers alone */
	uint64_t behind;	/* where the last of all stands; its low bits */
	bool unjoined;		/* a listed reader has no cursor here yet */
};

/* How far a reclaimer may move the tail. */
struct limits readers_limits(const struct reader_set *set,
    const struct ring_view *view);

/* Where a reader stands: false while it has not joined this ring. */
bool reader_cursor(const struct reader *r, const struct ring_view *view,
    uint64_t *cursor);

/* Will it get what is published next?  It has joined, or was there first. */
bool reader_follows(const struct reader *r, const struct ring_view *view);

/* ---- held chunks --------------------------------------------------------- */

/*
 * A set of chunks, reused from one scan to the next: a bit for each that a
 * pool may have, so that what a member claims to hold costs no more than the
 * claim itself, and what names no chunk is in no set.
 */
struct hold_set {
	uint64_t *bit;			/* NULL while nothing was ever added */
	uint32_t first[MAX_POOLS];	/* word of each pool's bits */
	uint32_t limit[MAX_POOLS];	/* 0: no such pool */
	uint32_t *used;			/* words that have a bit set */
	uint32_t words;
	uint32_t count;			/* chunks in it */
};

void hold_set_clear(struct hold_set *set);
/* Ignores what names no chunk of `pools`; false: no memory. */
bool hold_set_add(struct hold_set *set, const struct pools *pools,
    uint32_t chunk);
void hold_set_free(struct hold_set *set);

static inline bool hold_set_has(const struct hold_set *set, uint32_t chunk)
{
	uint32_t pool = chunk_pool(chunk), index = chunk_index(chunk);

	return set->count > 0 && pool < MAX_POOLS && index < set->limit[pool] &&
	    set->bit[set->first[pool] + index / 64] >> index % 64 & 1;
}

/* The next entry of a cursor line that counts, from *i on, of `holds`; false:
 * there is no more. */
bool hold_next(const struct cursor *cursor, uint32_t holds, uint32_t *i);

/* Adds what one cursor line shows. */
bool hold_set_collect(struct hold_set *set, const struct pools *pools,
    const struct cursor *cursor, uint32_t holds);

#endif
