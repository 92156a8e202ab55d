/* spin.h - look a while before sleeping, for as long as that has paid. */
#ifndef ZCP_SPIN_H
#define ZCP_SPIN_H

#include <stdbool.h>
#include <stdint.h>

struct spin {
	uint64_t budget;	/* ns */
	uint32_t vain;		/* waits since the last that ended while it spun */
};

#define SPIN_START { .budget = 20000 }

/*
 * Spins until ready(arg), for about as long as the budget says.  Never on a
 * machine of one processor, where the other side could not run meanwhile.
 * True: ready.
 */
bool spin_until(struct spin *spin, uint64_t deadline, bool (*ready)(void *),
    void *arg);

/*
 * The budget is spun away, and a sleep that began at `began` is over: had all
 * of it been spun through, would that have been cheap?  Then the next wait is
 * (competitive spinning: Karlin, Li, Manasse and Owicki, SOSP 1991); else the
 * budget shrinks, and also where spinning never helps: where both sides must
 * share one processor.
 */
void spin_learn(struct spin *spin, uint64_t began);

#endif
