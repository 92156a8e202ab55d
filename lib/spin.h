/* spin.h - look a while before sleeping, for as long as that has paid. */
#ifndef ZCP_SPIN_H
#define ZCP_SPIN_H

#include <stdbool.h>
#include <stdint.h>

#define SPIN_START UINT64_C(20000)	/* ns */

/*
 * Spins until ready(arg), for at most *budget ns, which grows when it paid
 * and shrinks when it did not.  Never on a single processor, where the other
 * side could not run meanwhile.  True: ready.
 */
bool spin_until(uint64_t *budget, uint64_t deadline, bool (*ready)(void *),
    void *arg);

#endif
