/*
 * innocents.h - those who live, each in a process of its own: readers that hold
 * a message, publishers with a chunk on loan, idle members; some have closed
 * all their descriptors, some are stopped, some are both.  Whatever somebody
 * could not look at, nothing of theirs may change.
 */
#ifndef T_INNOCENTS_H
#define T_INNOCENTS_H

#include <stdbool.h>
#include <stddef.h>

#include "../bus.h"
#include "domain.h"

enum { PIECE = 100, PIECES = 4, FAULT = 512 };	/* bytes; of each; a text's */

enum innocent_name {
	INNOCENT_SOURCE,	/* published what the others hold */
	INNOCENT_HOLDER,	/* reads topic "v", too */
	INNOCENT_IDLE,
	INNOCENT_OFFERS,	/* a publisher that never sent anything */
	INNOCENT_CLOSED,
	INNOCENT_STOPPED,
	INNOCENT_HIDDEN,	/* closed and stopped */
	INNOCENTS
};

/* A chunk that is held or on loan, as it was. */
struct piece {
	uint32_t id;
	uint64_t word;
	unsigned char bytes[PIECE];
};

struct innocent {
	pid_t pid;
	int line;			/* to it, and from it */
	uint32_t slot;
	uint64_t incarnation;
	uint32_t ports;			/* open ones */
	struct piece piece[PIECES];
	unsigned pieces;
};

struct innocents {
	struct innocent one[INNOCENTS];
	struct domain d;		/* as this process sees it */
};

/* zcp_open() in a process of its own: who has not opened its file within two of
 * these short heartbeats is let go of, and on a slow machine tries again. */
zcp *open_patiently(const zcp_options *o);

/* They register with a daemon that serves. */
void innocents_start(struct innocents *in);

/* The holder takes what has come on topic "v" and keeps the first of it. */
void innocents_take(struct innocents *in);
/* It gives that back, and reads what has come since; to the end, once the
 * publisher has ended. */
void innocents_read_on(struct innocents *in);

/*
 * Whether all of them are alive in the domain's eyes, with their ports, and
 * their chunks untouched; false: `fault` says what is not so.
 */
bool innocents_safe(struct innocents *in, char fault[FAULT]);

/* Each looks for itself, uses its loan and its subscription, and ends in order;
 * false: `fault` says who could not. */
bool innocents_end(struct innocents *in, char fault[FAULT]);

/* -9 for all of them. */
void innocents_kill(struct innocents *in);

#endif
