/*
 * bell.h - how the two ends of a ring wake each other, with no system call
 * while nobody sleeps.
 */
#ifndef ZCP_BELL_H
#define ZCP_BELL_H

#include <stdbool.h>
#include <stdint.h>

#include "layout.h"

enum { BELLS_MAX = 128 };	/* FUTEX_WAITV_MAX */

/* What a sleeper waits for: looks at shared memory, must not block. */
typedef bool bell_ready(void *arg);

struct sleeper {
	struct bell *const *bells;	/* to be marked */
	unsigned count;
	struct bell *unmarked;		/* announced by who rings it; or NULL */
	bool symmetric, waitv;		/* the domain's */
	/* Who has news stores it, fences lightly and looks at the mark, or
	 * advances the bell anyhow; at nothing else of ours.  Then the fence
	 * of another sleeper serves us, too. */
	bool marks_alone;
	bell_ready *ready;
	void *arg;
};

/*
 * Sleeps until one of the marked bells rings, the unmarked one changes, ready()
 * is true, `left` nanoseconds are over, or a signal comes.  The caller looks
 * for itself what happened and calls again: a wait lasts at most BELL_RECHECK,
 * so that a waker killed at the wrong instruction costs no more.  Returns 0,
 * or -ZCP_E_INTR when a signal ended it.
 */
#define BELL_RECHECK UINT64_C(100000000)
int bell_sleep(const struct sleeper *s, uint64_t left);

/* Rings if someone sleeps.  The caller has fenced between its store and this. */
void bell_wake(struct bell *bell, uint32_t seen);

static inline void bell_ring(struct bell *bell);

/* Rings whether or not someone marked it: news for unmarked sleepers. */
void bell_announce(struct bell *bell);

/* Does this kernel know futex_waitv (5.16)? */
bool bell_waitv_works(void);

#include "atomics.h"

static inline void bell_ring(struct bell *bell)
{
	uint32_t seen = bell_load(bell);

	if (__builtin_expect(seen & BELL_SLEEPER, 0))
		bell_wake(bell, seen);
}

#endif
