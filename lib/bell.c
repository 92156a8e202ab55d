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
	 * a sleeper has said that it has fenced: look again.
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

static int sleep_one(struct bell *bell, const struct waiter *w, uint64_t left)
{
	struct timespec t = {
		.tv_sec = (time_t)(left / NS_PER_S),
		.tv_nsec = (long)(left % NS_PER_S),
	};

	return futex_wait(&bell->word, (uint32_t)w->value, &t) < 0 &&
	    errno == EINTR ? -ZCP_E_INTR : 0;
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

/*
 * A ringer stores its news, then looks for the mark; we marked, and now look
 * for news.  With the fence one of the two sees the other.  It fences every
 * ringer, so of many sleepers only the first has to: who finds BELL_FENCED
 * knows that a ringer who overlooked the mark had stored its news before that
 * fence.  A bell without a mark needs none, as whoever rings it advances it.
 * -1: the kernel refuses it.
 */
static int fence(const struct sleeper *s, struct waiter *marked)
{
	bool shared = s->marks_alone && !s->symmetric, fenced = shared;

	for (unsigned i = 0; i < s->count; i++)
		fenced = fenced && marked[i].value & BELL_FENCED;
	if (fenced)
		return 0;
	if (fence_heavy(s->symmetric) < 0)
		return -1;
	for (unsigned i = 0; i < s->count && shared; i++)
		if (!(marked[i].value & BELL_FENCED))
			marked[i].value = bell_fenced(s->bells[i],
			    (uint32_t)marked[i].value);
	return 0;
}

static struct waiter waiter(struct bell *bell, uint32_t word)
{
	return (struct waiter){ word, (uintptr_t)&bell->word, WAITER_32, 0 };
}

int bell_sleep(const struct sleeper *s, uint64_t left)
{
	struct waiter waiters[BELLS_MAX], *marked = waiters;
	unsigned n = s->count;
	int rc;

	if (s->unmarked != NULL)
		*marked++ = waiter(s->unmarked,
		    bell_load_unmarked(s->unmarked));
	for (unsigned i = 0; i < s->count; i++)
		marked[i] = waiter(s->bells[i], bell_mark(s->bells[i]));
	/* Without the fence a short nap keeps the promise. */
	if (fence(s, marked) < 0 && left > NS_PER_MS)
		left = NS_PER_MS;
	if (s->ready(s->arg))
		return 0;
	if (left > BELL_RECHECK)
		left = BELL_RECHECK;
	n += s->unmarked != NULL;
	if (s->waitv && n > 1)
		rc = sleep_many(waiters, n, left);
	else
		rc = sleep_one(s->count > 0 ? s->bells[0] : s->unmarked,
		    s->count > 0 ? marked : waiters, left);
	if (rc < 0)
		return error_set(ZCP_E_INTR, "interrupted by a signal");
	return 0;
}
