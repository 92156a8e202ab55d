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
	bool dead;		/* found dead by this process: neither gates nor holds */
};

struct reader_set {
	struct reader *reader;
	uint32_t count, room;
	uint64_t generation;
	struct link_list links;
	bool gated;		/* nothing may go before one of them has joined */
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

/* A set of chunk ids, open addressing, reused from one scan to the next. */
struct hold_set {
	uint32_t *slot;
	uint32_t room;		/* a power of two */
	uint32_t count;
};

void hold_set_clear(struct hold_set *set);
bool hold_set_add(struct hold_set *set, uint32_t chunk);	/* false: memory */
bool hold_set_has(const struct hold_set *set, uint32_t chunk);
void hold_set_free(struct hold_set *set);

/* The next entry of a cursor line that counts, from *i on, of `holds`; false:
 * there is no more. */
bool hold_next(const struct cursor *cursor, uint32_t holds, uint32_t *i);

/* Adds what one cursor line shows. */
bool hold_set_collect(struct hold_set *set, const struct cursor *cursor,
    uint32_t holds);

#endif
