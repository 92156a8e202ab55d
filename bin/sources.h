/*
 * sources.h - where zcp-sub's messages come from: subscriptions, a tap, or
 * handles on standard input.
 */
#ifndef ZCP_SOURCES_H
#define ZCP_SOURCES_H

#include <stdbool.h>
#include <stddef.h>

#include "input.h"
#include "refusals.h"
#include "zcp.h"

struct source {
	const char *topic;		/* as given */
	zcp_sub *sub;
	bool reliable;			/* it was to lose nothing */
	uint64_t lost, reported;
	uint32_t missed;		/* publishers that are not followed */
	zcp_msg ahead;			/* ordered: its next message */
	bool has;
};

struct sources {
	zcp *bus;
	struct source *source;
	size_t count, next;
	zcp_waitset *set;
	int64_t order;			/* ns to wait for an earlier one; 0: no order */
	zcp_tap *tap;
	bool handles;			/* the sources come as they are named */
	struct input in;		/* of handles */
	char line[8192];
	size_t start, fill;
	bool ended;			/* no more handles */
	bool skips;			/* the rest of a line that was too long */
	struct refusals refusals;	/* handles that were no good */
	bool flushed;			/* nothing is held: redeemers may go */
	uint64_t gone_lost;		/* by redeemers that have gone */
	size_t last;			/* source of the last message */
};

/* What a take came to; less than 0: minus an exit status. */
enum { TAKEN = 1, NOTHING = 0, SOME_LOST = 2, NO_MORE = 3, HOLDS_FULL = 4 };

/* Each opens one, and returns an exit status. */
int sources_subscribe(struct sources *s, const char *topic,
    const zcp_sub_options *options);
int sources_tap(struct sources *s, const char *topic);
int sources_handles(struct sources *s);
void sources_close(struct sources *s);

/* Takes up to *count messages of one source, and says how many; *sub: whom to
 * release them to, or NULL. */
int sources_take(struct sources *s, zcp_msg *msg, size_t *count,
    zcp_sub **sub);

/* How many publishers a source misses since the last call; 0: no more. */
uint32_t sources_missed(struct source *source);

/* Counts what each subscription has lost that no take has told of yet. */
void sources_look_for_losses(struct sources *s);

/* Where the last message came from. */
void sources_origin(const struct sources *s, const zcp_msg *msg,
    zcp_source *origin);

/* Waits for more: until then, at most `most` ns.  An exit status. */
int sources_wait(struct sources *s, int64_t most);

/* 1: all publishers that were seen have ended, and all is read; *died: one
 * that did not end in order, or "".  0: no; less than 0: minus a status. */
int sources_ended(struct sources *s, char died[64]);

#endif
