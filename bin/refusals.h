/* refusals.h - handles that were no good: each is told of, or counted where many
 * in a row are no good for the same reason. */
#ifndef ZCP_REFUSALS_H
#define ZCP_REFUSALS_H

#include <stdint.h>

struct refusals {
	uint64_t count;			/* all */
	uint64_t more;			/* not told of yet, for the same reason: */
	char why[256];
	char last[512];			/* what the last of them would say */
	int64_t told_at;		/* ns */
};

/* One more, and what the library says to it. */
void refusals_add(struct refusals *r, const char *handle, const char *message);

/* Tells of those that were only counted. */
void refusals_tell(struct refusals *r);

/* The same, once they have waited for a second; ns until then, at most `most`. */
int64_t refusals_due(struct refusals *r, int64_t most);

#endif
