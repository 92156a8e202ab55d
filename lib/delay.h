/*
 * delay.h - a histogram of delays: four buckets to each power of two, from
 * 64 ns to 2^38 ns, so that a percentile is right to a fifth.  (As HDR
 * histograms do it, with two bits of mantissa.)
 */
#ifndef ZCP_DELAY_H
#define ZCP_DELAY_H

#include <stdint.h>

#include "layout.h"

enum { DELAY_LEAST = 6 };		/* log2 of the first bound, ns */

static inline unsigned delay_bucket(uint64_t ns)
{
	unsigned top, i;

	if (ns < UINT64_C(1) << DELAY_LEAST)
		return 0;
	top = 63 - (unsigned)__builtin_clzll(ns);
	i = (top - DELAY_LEAST) * 4 + (unsigned)(ns >> (top - 2) & 3);
	return i < DELAY_BUCKETS ? i : DELAY_BUCKETS - 1;
}

/* ns; those in bucket i took less. */
static inline uint64_t delay_bound(unsigned i)
{
	return (UINT64_C(5) + i % 4) << (DELAY_LEAST + i / 4 - 2);
}

#endif
