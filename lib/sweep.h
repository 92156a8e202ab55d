/*
 * sweep.h - garbage is computed: who owns a chunk, is it in a ring, does
 * anyone hold it.  Daemon, zcp-gc and a starving publisher run this.
 */
#ifndef ZCP_SWEEP_H
#define ZCP_SWEEP_H

#include "domain.h"

/* Why a chunk is garbage. */
enum sweep_why {
	SWEPT_LOAN,		/* loaned by a port that has ended */
	SWEPT_READ,		/* below the tail of a live port */
	SWEPT_ENDED,		/* of a port that has ended, and read or unnamed */
};

struct sweep_item {
	uint32_t id;
	uint64_t word;
	enum sweep_why why;
	uint32_t port;		/* whose serial the word has; UINT32_MAX: none has */
	bool died;		/* its owner did, or the port would be open */
};

/* Called for each piece of garbage; frees it when true. */
typedef bool sweep_visit(void *arg, const struct sweep_item *item);

struct sweep_report {
	uint32_t freed;
	uint32_t loaned, published;	/* of those freed */
	uint32_t held;			/* would be garbage, but is held */
	uint32_t foreign;		/* words that name ended ports, still held or listed */
	uint32_t unseen;		/* owners that could not be looked at */
	char why[256];			/* the first of them; what is theirs stayed */
};

/*
 * One sweep over all pools.  Moves no tail.  Safe beside any number of
 * others, killed at any instruction.  Who is not the daemon looks for himself
 * which owners are dead.  `visit` may be NULL.  Returns the number of chunks
 * freed, or an error that names what could not be looked at, and then nothing
 * was freed: -ZCP_E_SYS (memory, descriptors, membarrier), -ZCP_E_PERM,
 * -ZCP_E_DAMAGED.
 */
int sweep(struct domain *d, struct sweep_report *report, sweep_visit *visit,
    void *arg);

#endif
