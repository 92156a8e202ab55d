/*
 * inline.h - the daemon as a part of this process: a request is answered by
 * whoever sends it, on the spot.
 */
#ifndef T_INLINE_H
#define T_INLINE_H

#include "routed/routed.h"

extern struct routed inline_routed;

/* Makes a domain, and the daemon's private side of it. */
void inline_start(const struct settings *settings);
/* Nobody must be left; removes the segments. */
void inline_stop(void);

/* The participant that owns a port has died (its process is ours, so that no
 * test of liveness would find out). */
void inline_died(uint32_t slot);

/* A reliable reader's participant is passed over, or again waited for. */
void inline_demote(uint32_t slot, bool on);

/* Drains and sweeps until nothing is left to do; true: nothing is left. */
bool inline_drain(void);

#endif
