/* audience.c - who reads a publisher: how many, and who lags. */
#include <inttypes.h>
#include <stdio.h>

#include "clock.h"
#include "publisher.h"

int zcp_pub_readers(zcp_pub *pub)
{
	struct ring_view view = pub_view(pub);
	int rc, n = 0;

	if ((rc = pub_check(pub)) < 0 || (rc = readers_refresh(pub)) < 0)
		return rc;
	for (uint32_t i = 0; i < pub->readers.count; i++)
		n += reader_follows(&pub->readers.reader[i], &view);
	return n;
}

struct audience {
	struct zcp_pub *pub;
	int count;
};

static bool audience_there(void *arg)
{
	struct audience *a = arg;
	int n = zcp_pub_readers(a->pub);

	return n < 0 || n >= a->count;
}

int zcp_pub_wait_readers(zcp_pub *pub, int count, int64_t timeout)
{
	struct audience a = { pub, count };
	struct domain *d = &pub->bus->d;
	/* A reader that joins rings the room bell. */
	struct sleeper sleeper = { .bells = &pub->room_bell, .count = 1,
	    .symmetric = d->symmetric, .waitv = d->waitv,
	    .ready = audience_there, .arg = &a };
	uint64_t deadline = deadline_after(timeout), left;
	int rc;

	if ((rc = pub_check(pub)) < 0)
		return rc;
	pub_wake(pub);
	while ((rc = zcp_pub_readers(pub)) >= 0 && rc < count) {
		if ((left = deadline_left(deadline, BELL_RECHECK)) == 0)
			return error_set(ZCP_E_TIMEOUT, "%d of %d readers have "
			    "joined %s in time", rc, count, pub->topic);
		if ((rc = bell_sleep(&sleeper, left)) < 0)
			return rc;
	}
	return rc;
}

static bool drained(struct zcp_pub *pub)
{
	struct ring_view view = pub_view(pub);

	return readers_refresh(pub) < 0 ||
	    readers_limits(&pub->readers, &view).read == pub->head;
}

int zcp_pub_drain(zcp_pub *pub, int64_t timeout)
{
	int rc;

	if ((rc = pub_check(pub)) < 0)
		return error_in(rc, "cannot wait until %s is read", pub->topic);
	pub_wake(pub);
	if ((rc = pub_wait(pub, pub->head, drained,
	    false, deadline_after(timeout))) < 0 ||
	    (rc = readers_refresh(pub)) < 0)
		return error_in(rc, "cannot wait until %s is read", pub->topic);
	return 1;
}

void zcp_pub_status(const zcp_pub *pub, zcp_pub_info *info)
{
	*info = (zcp_pub_info){ .messages = pub->head, .bytes = pub->bytes,
	    .unseen = pub->unseen, .waits = pub->waits, .cut = pub->cut };
}

int zcp_pub_blocker(zcp_pub *pub, char *text, size_t size)
{
	struct ring_view view = pub_view(pub);
	const struct domain *d = &pub->bus->d;
	const struct reader *worst = NULL;
	uint64_t least = pub->head, cursor;

	if (size > 0)
		text[0] = '\0';
	if (pub_check(pub) < 0 || readers_refresh(pub) < 0)
		return 0;
	for (uint32_t i = 0; i < pub->readers.count; i++) {
		const struct reader *r = &pub->readers.reader[i];

		/* One that was there first and has yet to join is at the tail. */
		if (!reader_cursor(r, &view, &cursor)) {
			if (!reader_follows(r, &view))
				continue;
			cursor = pub->tail;
		}
		if (cursor < least) {
			least = cursor;
			worst = r;
		}
	}
	if (worst == NULL && pub->readers.gated && pub->readers.count == 0) {
		snprintf(text, size, "a first redeemer of its handles");
		return 1;
	}
	if (worst == NULL)
		return 0;
	snprintf(text, size, "%.*s (pid %u), %" PRIu64 " messages behind",
	    NAME_SIZE - 1, d->participants[worst->participant].name,
	    d->participants[worst->participant].pid, pub->head - least);
	return 1;
}
