/* xorshift.h - small numbers that come again from the same seed. */
#ifndef T_XORSHIFT_H
#define T_XORSHIFT_H

#include <stdint.h>

/* Marsaglia, "Xorshift RNGs", 2003; the state must not be 0. */
static inline uint32_t xorshift(uint32_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 17;
	*x ^= *x << 5;
	return *x;
}

#endif
