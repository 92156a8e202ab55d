/* stepped_futex.h - futex.h's calls in a test build: fibers sleep. */
#ifndef T_STEPPED_FUTEX_H
#define T_STEPPED_FUTEX_H

#include "layout.h"

struct waiter;
struct timespec;

void futex_wake(shared_u32 *word);
long futex_wait(shared_u32 *word, uint32_t value,
    const struct timespec *timeout);
long futex_wait_any(const struct waiter *waiters, unsigned count,
    const struct timespec *until);

#endif
