/* pace.h - messages at a rate, or at given moments; signals end a wait. */
#ifndef ZCP_PACE_H
#define ZCP_PACE_H

#include <stdbool.h>
#include <stdint.h>

struct pace {
	int64_t every;			/* ns; 0: as fast as they come */
	int64_t due;			/* of the next; 0: none has been yet */
};

/* `rate` a second. */
void pace_set(struct pace *p, double rate);

/* Waits until the next one is due; false: a signal came first. */
bool pace_next(struct pace *p);

/* Waits until `when` (now_ns()); false: a signal came first. */
bool pace_until(int64_t when);

#endif
