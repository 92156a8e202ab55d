/*
 * merge.c - several publishers' messages in the order of their stamps.
 *
 * A k-way merge that waits: the earliest message goes out when every
 * publisher has one to compare, or when it is `merge` nanoseconds old, so
 * that a silent publisher delays nobody for longer.  A message without a
 * stamp counts as late as the last stamped one before it in its ring.
 */
#include "clock.h"
#include "subscriber.h"

/* When the next message of a ring was published; false: none waits. */
static bool peek(const struct feed *f, uint64_t *time)
{
	const struct slot *slot = slot_at(f, f->at);

	switch (stamp_says(slot_stamp(slot), f->at)) {
	case SLOT_EMPTY:
		return false;
	case SLOT_OVERTAKEN:
		*time = 0;		/* a loss is told at once */
		return true;
	case SLOT_MESSAGE:
		break;
	}
	*time = slot_get(&slot->time);
	if (*time == 0)
		*time = f->clock;
	return true;
}

/* A publisher that has nothing now, but may still have the earliest. */
static bool silent(const struct zcp_sub *sub)
{
	uint64_t time;

	for (uint32_t k = 0; k < sub->count; k++)
		if (sub_feed(sub, k)->state == FEED_JOINED &&
		    !peek(sub_feed(sub, k), &time))
			return true;
	return false;
}

struct feed *merge_next(struct zcp_sub *sub, uint64_t *due)
{
	struct feed *first = NULL;
	uint64_t earliest = UINT64_MAX;
	bool all = true;

	*due = UINT64_MAX;
	for (uint32_t k = 0; k < sub->count; k++) {
		struct feed *f = sub_feed(sub, k);
		uint64_t time;

		if (f->state != FEED_JOINED || sub_holds_back(sub, f))
			continue;
		if (!peek(f, &time)) {
			all = false;
		} else if (time < earliest) {
			earliest = time;
			first = f;
		}
	}
	if (first == NULL || all)
		return first;
	sub_look_for_ends(sub);
	if (!silent(sub))
		return first;
	*due = earliest + sub->merge;
	if (*due > clock_ns())
		return NULL;
	*due = UINT64_MAX;
	return first;
}
