/*
 * siphash.h - SipHash-2-4: Aumasson and Bernstein, "SipHash: a fast short-input
 * PRF" (2012).  Who does not know the key can make up no text for a hash.
 */
#ifndef ZCP_SIPHASH_H
#define ZCP_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

/* The key is its 16 bytes as two little-endian words. */
uint64_t siphash(const uint64_t key[2], const void *data, size_t size);

#endif
