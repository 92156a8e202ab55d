/* clock.h - monotonic nanoseconds and deadlines. */
#ifndef ZCP_CLOCK_H
#define ZCP_CLOCK_H

#include <stdint.h>
#include <time.h>

#define NS_PER_MS INT64_C(1000000)
#define NS_PER_S INT64_C(1000000000)

#ifdef ZCP_STEPPED
/* A test build has a time of its own, as atomics.h says. */
uint64_t clock_ns(void);
#else
static inline uint64_t clock_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}
#endif

/* The moment at which a timeout ends; negative timeouts never end. */
static inline uint64_t deadline_after(int64_t timeout)
{
	uint64_t now;

	if (timeout < 0)
		return UINT64_MAX;
	now = clock_ns();
	return (uint64_t)timeout > UINT64_MAX - now ? UINT64_MAX :
	    now + (uint64_t)timeout;
}

/* Nanoseconds until then, at most `most`; 0 when it is past. */
static inline uint64_t deadline_left(uint64_t deadline, uint64_t most)
{
	uint64_t now = clock_ns();

	if (now >= deadline)
		return 0;
	return deadline - now < most ? deadline - now : most;
}

#endif
