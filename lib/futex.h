/* futex.h - the system calls on which processes sleep and wake each other. */
#ifndef ZCP_FUTEX_H
#define ZCP_FUTEX_H

#include <linux/futex.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "layout.h"

#ifndef __NR_futex_waitv
#define __NR_futex_waitv 449
#endif

/* Ours, because the headers of Linux 5.10 lack it; the kernel's layout. */
struct waiter {
	uint64_t value;
	uint64_t address;
	uint32_t flags;
	uint32_t reserved;
};
#define WAITER_32 2u	/* FUTEX_32, shared */

/* A test build has its own, as atomics.h says. */
#ifdef ZCP_STEPPED
#include "stepped_futex.h"
#else
/* Wakes all. */
static inline void futex_wake(shared_u32 *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

/* For a time; < 0 with errno. */
static inline long futex_wait(shared_u32 *word, uint32_t value,
    const struct timespec *timeout)
{
	return syscall(SYS_futex, word, FUTEX_WAIT, value, timeout, NULL, 0);
}

/* On any of them, until a moment of CLOCK_MONOTONIC; < 0 with errno. */
static inline long futex_wait_any(const struct waiter *waiters, unsigned count,
    const struct timespec *until)
{
	return syscall(__NR_futex_waitv, waiters, count, 0, until,
	    CLOCK_MONOTONIC);
}
#endif

#endif
