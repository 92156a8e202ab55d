/* spin.h - look a while before sleeping, for as long as that has paid. */
#ifndef ZCP_SPIN_H
#define ZCP_SPIN_H

#include <stdbool.h>
#include <stdint.h>

#define SPIN_START UINT64_C(20000)	/* ns */

/*
 * Spins until ready(arg), for at most *budget ns.  Never on a single
 * processor, where the other side could not run meanwhile.  True: ready.
 */
bool spin_until(const uint64_t *budget, uint64_t deadline,
    bool (*ready)(void *), void *arg);

/*
 * A wait that began at `began` and slept is over: had it been spun through,
 * would that have been cheap?  Then the next one is (competitive spinning:
 * Karlin, Li, Manasse and Owicki, SOSP 1991); else the budget shrinks.
 */
void spin_learn(uint64_t *budget, uint64_t began);

#endif
