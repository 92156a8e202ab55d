/* room.c - how a publisher waits: for readers, or for memory. */
#include "clock.h"
#include "publisher.h"

/* Pauses between two looks at the cursors: one for so many messages that are
 * still to be read, as each look takes the line of a cursor from its reader. */
enum { APART_LEAST = 8, APART_MOST = 32, MESSAGES_A_PAUSE = 8 };

struct waiting {
	struct zcp_pub *pub;
	wait_for *ready;
};

static bool ready_now(void *arg)
{
	struct waiting *w = arg;

	return w->ready(w->pub);
}

static bool spin_ready(struct zcp_pub *pub, wait_for *ready, uint64_t deadline)
{
	struct waiting w = { pub, ready };

	return spin_until(&pub->spin, deadline, ready_now, &w);
}

/* The room bell, and for memory those of the pools: who waits for room must
 * not be woken by every chunk that a reader gives back. */
static unsigned bells_of(struct zcp_pub *pub, struct bell **bells, bool memory)
{
	struct domain *d = &pub->bus->d;
	unsigned n = 0;

	bells[n++] = pub->room_bell;
	for (uint32_t i = 0; memory && d->waitv && i < d->pools.count; i++)
		bells[n++] = domain_bell(d, bell_of_pool(i));
	return n;
}

/* Ten times a second, over however many waits: does a dead reader keep us?
 * True when without it there is nothing to wait for. */
static bool look_for_the_dead(struct zcp_pub *pub, wait_for *ready)
{
	if (clock_ns() - pub->buried < BELL_RECHECK)
		return false;
	readers_bury(pub);
	pub->buried = clock_ns();
	return ready(pub);
}

int pub_wait(struct zcp_pub *pub, uint64_t want, wait_for *ready, bool memory,
    uint64_t deadline)
{
	struct domain *d = &pub->bus->d;
	struct waiting w = { pub, ready };
	struct bell *bells[1 + MAX_POOLS];
	/* Who rings looks at what we want, too. */
	struct sleeper sleeper = { .bells = bells,
	    .count = bells_of(pub, bells, memory), .symmetric = d->symmetric,
	    .waitv = d->waitv, .ready = ready_now, .arg = &w };
	uint64_t left, began;
	int rc = 0;

	if (ready(pub) || spin_ready(pub, ready, deadline))
		return 0;
	began = clock_ns();
	news_store(&pub->ring->waits, ++pub->waits);
	want_store(pub->ring, WANT_SET | want);
	while (rc == 0 && (rc = pub_check(pub)) == 0 && !ready(pub)) {
		/* One futex knows nothing of the pools: look more often. */
		left = deadline_left(deadline, d->waitv || !memory ?
		    BELL_RECHECK : BELL_RECHECK / 10);
		if (left == 0 && !look_for_the_dead(pub, ready))
			rc = error_set(ZCP_E_TIMEOUT, "timed out");
		else if (left > 0)
			rc = bell_sleep(&sleeper, left);
		if (rc == 0 && !ready(pub))
			look_for_the_dead(pub, ready);
	}
	want_store(pub->ring, 0);
	spin_learn(&pub->spin, began);
	return rc;
}

/*
 * An eighth of the ring at once: a wake-up costs more than a message, each
 * look at a cursor takes its line from the reader, and each move of the tail
 * that of the tail.
 */
static uint64_t worthwhile(const struct zcp_pub *pub)
{
	return pub->tail + pub->slots / 8;
}

static bool moved_enough(struct zcp_pub *pub)
{
	uint64_t enough = worthwhile(pub), there, apart;

	/* What goes wrong is for the caller to find. */
	if (readers_refresh(pub) < 0 || (there = reclaimable(pub)) >= enough)
		return true;
	apart = (enough - there) / MESSAGES_A_PAUSE;
	apart = apart < APART_LEAST ? APART_LEAST :
	    apart > APART_MOST ? APART_MOST : apart;
	for (uint64_t i = 0; i < apart; i++)
		cpu_relax();
	return false;
}

static bool moved(struct zcp_pub *pub)
{
	return readers_refresh(pub) < 0 || reclaimable(pub) > pub->tail;
}

/* For an eighth of the ring while that comes soon, else for any slot. */
static int wait_for_readers(struct zcp_pub *pub, uint64_t deadline)
{
	uint64_t soon = deadline_after(PATIENCE);
	int rc = pub_wait(pub, worthwhile(pub), moved_enough,
	    false, soon < deadline ? soon : deadline);

	return rc == -ZCP_E_TIMEOUT ?
	    pub_wait(pub, pub->tail + 1, moved, false, deadline) : rc;
}

int pub_room(struct zcp_pub *pub, int64_t timeout)
{
	char blind[BLIND_SIZE];
	uint64_t deadline = 0;
	int rc;

	pub_note_blind(pub, "");
	for (;;) {
		if ((rc = reclaim(pub, AS_WISHED)) < 0)
			return rc;
		if (pub_free_slots(pub) > 0)
			return 0;
		if (timeout == 0)
			return error_set(ZCP_E_TIMEOUT, "a reliable reader "
			    "leaves no room in the ring of %u messages%s",
			    pub->slots, pub_blind(pub, blind));
		if (deadline == 0)
			deadline = deadline_after(timeout);
		if ((rc = wait_for_readers(pub, deadline)) < 0)
			return rc == -ZCP_E_TIMEOUT ? error_set(ZCP_E_TIMEOUT,
			    "timed out: a reliable reader leaves no room in "
			    "the ring of %u messages%s", pub->slots,
			    pub_blind(pub, blind)) : rc;
	}
}
