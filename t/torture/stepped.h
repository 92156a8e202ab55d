/*
 * stepped.h - the shared accesses of a test build.
 *
 * Roles run as fibers of one thread over one domain.  Every access to shared
 * memory is a step, at which another fiber may be given the turn; a store goes
 * to its fiber's buffer first, as it does in a processor, and is seen by the
 * others some steps later, in order (total store order) or, in weak runs, in
 * any order that release stores and fences allow.  Whoever runs in no fiber
 * accesses memory as usual; so do the roles of programs that make no fibers,
 * and for them stepped_kill_at says at which access they end.
 */
#ifndef T_STEPPED_H
#define T_STEPPED_H

#include <stdbool.h>
#include <stdint.h>

uint64_t stepped_load(const volatile void *word, unsigned size, int order);
void stepped_store(volatile void *word, unsigned size, uint64_t value,
    int order);
uint64_t stepped_or(volatile void *word, unsigned size, uint64_t bits);
uint64_t stepped_and(volatile void *word, unsigned size, uint64_t bits);
bool stepped_cas64(volatile void *word, uint64_t *from, uint64_t to);
bool stepped_cas32(volatile void *word, uint32_t *from, uint32_t to);
void stepped_fence(int order);
long stepped_membarrier(void);

#define STEPPED_VALUE(word) __typeof__(*(word) + 0)
#define shared_load(word, order)					\
	((STEPPED_VALUE(word))stepped_load(word, sizeof(*(word)), order))
#define shared_store(word, value, order)				\
	stepped_store(word, sizeof(*(word)), value, order)
#define shared_or(word, bits, order)					\
	((STEPPED_VALUE(word))stepped_or(word, sizeof(*(word)), bits))
#define shared_and(word, bits, order)					\
	((STEPPED_VALUE(word))stepped_and(word, sizeof(*(word)), bits))
#define shared_cas(word, from, to, order, failure)			\
	_Generic((from), uint64_t *: stepped_cas64,			\
	    uint32_t *: stepped_cas32)(word, from, to)
#define shared_fence(order) stepped_fence(order)
#define shared_compiler_fence() ((void)0)
#define shared_membarrier() stepped_membarrier()

/* Accesses of this process until it kills itself (-9); 0: never.  And how many
 * it has made. */
extern uint64_t stepped_kill_at, stepped_count;

#endif
