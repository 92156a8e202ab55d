/*
 * world.h - those who must not notice: a publisher, a reliable and a lossy
 * reader of topic "t" in this process, beside a victim that publishes there or
 * reads; and whether what they saw was right.
 */
#ifndef T_WORLD_H
#define T_WORLD_H

#include "../bus.h"

enum { WORLD = 1, VICTIM = 2 };		/* who sent a message */
enum { SOURCES = 3 };

/*
 * Writes message `seq` of `source`, `size` bytes (at least 16), into `to`; and
 * looks whether one that was received is whole: its seq, or UINT64_MAX.
 */
void payload_write(void *to, uint32_t source, uint64_t seq, size_t size);
uint64_t payload_check(const zcp_msg *msg, uint32_t *source);

/* What one reader has seen. */
struct account {
	zcp_sub *sub;
	bool lossy;
	uint64_t next[SOURCES];		/* seq expected of each source */
	uint64_t lost;			/* as the library has counted */
	uint64_t gaps;			/* as seen in the numbers */
};

/* Takes all that is there: each message whole, in order; a reliable reader
 * misses none.  Returns how many came. */
uint64_t account_take(struct account *a);

struct world {
	zcp *bus;
	zcp_pub *pub;
	struct account reliable, lossy;
	uint64_t sent;
};

/* Opens the three ports; `slots` for the publisher's ring. */
void world_open(struct world *w, zcp *bus, uint32_t slots);

/* The publisher sends `count` messages, and its readers take what comes:
 * nobody may wait for long. */
void world_goes_on(struct world *w, uint64_t count);

/* The reliable reader takes until `source` has sent at least `seq`. */
void world_hears(struct world *w, uint32_t source, uint64_t seq);

/* Closes the three ports; then nothing must be left of anybody: no port, no
 * chunk, and every invariant holds. */
void world_close(struct world *w);

/* Every invariant holds, whatever is still read, retained or garbage. */
void world_look(void);

#endif
