/*
 * sweep.h - garbage is computed: who owns a chunk, is it in a ring, does
 * anyone hold it.  Daemon, zcp-gc and a starving publisher run this.
 */
#ifndef ZCP_SWEEP_H
#define ZCP_SWEEP_H

#include "domain.h"

struct sweep_report {
	uint32_t freed;
	uint32_t loaned, published;	/* of those freed */
	uint32_t held;			/* would be garbage, but is held */
	uint32_t foreign;		/* words that name ended ports, still held or listed */
};

/*
 * One sweep over all pools.  Moves no tail.  Safe beside any number of
 * others, killed at any instruction.  Returns the number of chunks freed, or
 * an error, and then nothing was freed: -ZCP_E_SYS (memory, membarrier).
 */
int sweep(struct domain *d, struct sweep_report *report);

#endif
