/* waitset.c - a set of subscriptions to wait for, and its descriptor. */
#include <stdlib.h>

#include "spin.h"
#include "wait.h"

struct zcp_waitset {
	struct zcp *bus;
	struct zcp_sub **sub;
	size_t count, room;
	size_t next;			/* whom zcp_waitset_wait() names first */
	bool hidden;			/* made by zcp_sub_fd(), ends with it */
	struct spin spin;
	struct pollable *pollable;	/* NULL until asked for */
};

static struct several all_of(const struct zcp_waitset *set)
{
	return (struct several){ set->sub, set->count };
}

int zcp_waitset_open(zcp *bus, zcp_waitset **out)
{
	struct zcp_waitset *set;
	int rc;

	*out = NULL;
	if ((rc = bus_check(bus)) < 0)
		return rc;
	if ((set = calloc(1, sizeof(*set))) == NULL)
		return error_set(ZCP_E_SYS, "out of memory");
	set->bus = bus;
	set->spin = (struct spin)SPIN_START;
	bus_get(bus);
	*out = set;
	return 0;
}

void zcp_waitset_close(zcp_waitset **handle)
{
	struct zcp_waitset *set = *handle;
	struct zcp *bus;

	*handle = NULL;
	if (set == NULL || !bus_ours(set->bus))
		return;
	bus = set->bus;
	for (size_t i = 0; i < set->count; i++)
		set->sub[i]->set = NULL;
	pollable_close(&set->pollable);
	free(set->sub);
	free(set);
	bus_put(bus);
}

void waitset_drained(struct zcp_waitset *set)
{
	struct several s = all_of(set);

	if (set->pollable != NULL)
		pollable_arm(set->pollable, &s);
}

/* What the descriptor waits for is no longer what the set is. */
static void changed(struct zcp_waitset *set)
{
	if (set->pollable != NULL)
		pollable_recall(set->pollable);
	waitset_drained(set);
}

int zcp_waitset_add(zcp_waitset *set, zcp_sub *sub)
{
	int rc;

	if ((rc = bus_check(set->bus)) < 0)
		return rc;
	if (sub->bus != set->bus)
		return error_set(ZCP_E_ARG, "cannot wait for subscriptions of "
		    "several buses in one set: %s is another's", sub->topic);
	if (sub->set != NULL)
		return error_set(ZCP_E_BUSY, "the subscription to %s is in a "
		    "set, or has a descriptor of its own, already", sub->topic);
	if (set->count == set->room) {
		size_t room = set->room ? 2 * set->room : 8;
		struct zcp_sub **bigger = realloc(set->sub,
		    room * sizeof(*bigger));

		if (bigger == NULL)
			return error_set(ZCP_E_SYS, "out of memory");
		set->sub = bigger;
		set->room = room;
	}
	set->sub[set->count++] = sub;
	sub->set = set;
	sub->polled = false;	/* each take that finds nothing tells the set */
	changed(set);
	return 0;
}

static void take_out(struct zcp_waitset *set, struct zcp_sub *sub)
{
	for (size_t i = 0; i < set->count; i++)
		if (set->sub[i] == sub)
			set->sub[i--] = set->sub[--set->count];
	sub->set = NULL;
	changed(set);
}

int zcp_waitset_remove(zcp_waitset *set, zcp_sub *sub)
{
	int rc;

	if ((rc = bus_check(set->bus)) < 0)
		return rc;
	if (sub->set != set)
		return error_set(ZCP_E_ARG, "the subscription to %s is not in "
		    "this set", sub->topic);
	take_out(set, sub);
	return 0;
}

void waitset_forget(struct zcp_sub *sub)
{
	struct zcp_waitset *set = sub->set;

	if (set->hidden)
		zcp_waitset_close(&set);
	else
		take_out(set, sub);
}

int zcp_waitset_wait(zcp_waitset *set, zcp_sub **ready, size_t most,
    int64_t timeout)
{
	struct several s = all_of(set);
	uint64_t due = UINT64_MAX;
	size_t n = 0;
	int rc;

	if ((rc = bus_check(set->bus)) < 0)
		return rc;
	if (set->count == 0 || most == 0)
		return error_set(ZCP_E_ARG, "cannot wait for no subscription");
	if ((rc = several_wait(&s, &set->spin, timeout)) <= 0)
		return rc;
	/* Where the last call stopped: few places starve nobody. */
	for (size_t k = 0; k < set->count && n < most; k++) {
		set->next = set->next + 1 < set->count ? set->next + 1 : 0;
		if (sub_ready(set->sub[set->next], &due))
			ready[n++] = set->sub[set->next];
	}
	return (int)n;
}

/* ---- descriptors ------------------------------------------------------------------ */

int zcp_waitset_fd(zcp_waitset *set)
{
	int rc;

	if ((rc = bus_check(set->bus)) < 0)
		return rc;
	if (set->pollable == NULL) {
		if ((set->pollable = pollable_open(&set->bus->d)) == NULL)
			return -ZCP_E_SYS;
		waitset_drained(set);
	}
	return pollable_fd(set->pollable);
}

int zcp_sub_fd(zcp_sub *sub)
{
	struct zcp_waitset *set = sub->set;
	int rc;

	if (set != NULL)
		return set->hidden ? zcp_waitset_fd(set) : error_set(ZCP_E_BUSY,
		    "the subscription to %s is in a set: ask the set for its "
		    "descriptor", sub->topic);
	if ((rc = zcp_waitset_open(sub->bus, &set)) < 0)
		return rc;
	set->hidden = true;
	if ((rc = zcp_waitset_add(set, sub)) < 0 ||
	    (rc = zcp_waitset_fd(set)) < 0)
		zcp_waitset_close(&set);
	return rc;
}
