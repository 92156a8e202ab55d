#include "bell.h"

#include <errno.h>
#include <string.h>

#include "clock.h"
#include "error.h"
#include "futex.h"
#include "probes.h"

bool bell_waitv_works(void)
{
	/* No waiters is refused by kernels that know the call, too. */
	return futex_wait_any(NULL, 0, NULL) < 0 && errno == EINVAL;
}

void bell_wake(struct bell *bell, uint32_t seen)
{
	/*
	 * Lost the CAS: another ringer advanced the count (and wakes all), or
	 * another sleeper marked it: look again.
	 */
	while (seen & BELL_SLEEPER) {
		if (bell_advance(bell, seen)) {
			probe1(wake, bell);
			futex_wake(&bell->word);
			return;
		}
		seen = bell_load(bell);
	}
}

void bell_announce(struct bell *bell)
{
	while (!bell_advance(bell, bell_load(bell)))
		;
	futex_wake(&bell->word);
}

static int sleep_one(struct bell *bell, uint32_t word, uint64_t left)
{
	struct timespec t = {
		.tv_sec = (time_t)(left / NS_PER_S),
		.tv_nsec = (long)(left % NS_PER_S),
	};

	return futex_wait(&bell->word, word, &t) < 0 && errno == EINTR ?
	    -ZCP_E_INTR : 0;
}

static int sleep_many(struct waiter *waiters, unsigned count, uint64_t left)
{
	uint64_t end = clock_ns() + left;
	struct timespec t = {
		.tv_sec = (time_t)(end / NS_PER_S),
		.tv_nsec = (long)(end % NS_PER_S),
	};

	return futex_wait_any(waiters, count, &t) < 0 && errno == EINTR ?
	    -ZCP_E_INTR : 0;
}

int bell_sleep(struct bell *const *bells, unsigned count,
    struct bell *unmarked, uint64_t left, bool symmetric, bool waitv,
    bell_ready *ready, void *arg)
{
	struct waiter waiters[BELLS_MAX];
	unsigned n = 0;
	int rc;

	if (unmarked != NULL) {
		waiters[n] = (struct waiter){ bell_load(unmarked),
		    (uintptr_t)&unmarked->word, WAITER_32, 0 };
		n++;
	}
	for (unsigned i = 0; i < count && n < BELLS_MAX; i++, n++)
		waiters[n] = (struct waiter){ bell_mark(bells[i]),
		    (uintptr_t)&bells[i]->word, WAITER_32, 0 };
	/*
	 * A ringer stores its news, then looks for the mark; we marked, and
	 * now look for news.  With the fence one of the two sees the other;
	 * if the kernel refuses it, a short nap keeps the promise.
	 */
	if (fence_heavy(symmetric) < 0 && left > NS_PER_MS)
		left = NS_PER_MS;
	if (ready(arg))
		return 0;
	if (left > BELL_RECHECK)
		left = BELL_RECHECK;
	if (waitv && n > 1)
		rc = sleep_many(waiters, n, left);
	else
		rc = sleep_one(count ? bells[0] : unmarked,
		    (uint32_t)waiters[count && unmarked ? 1 : 0].value, left);
	if (rc < 0)
		return error_set(ZCP_E_INTR, "interrupted by a signal");
	return 0;
}
