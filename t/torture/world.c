#include "world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "audit.h"
#include "sweep.h"

/* ---- messages ------------------------------------------------------------------ */

struct header {
	uint32_t source, size;
	uint64_t seq;
};

/* A byte that depends on all: a torn message has some of another one. */
static unsigned char fill(uint32_t source, uint64_t seq, size_t i)
{
	return (unsigned char)(source * 151 + seq * 31 + i * 7);
}

void payload_write(void *to, uint32_t source, uint64_t seq, size_t size)
{
	struct header h = { source, (uint32_t)size, seq };
	unsigned char *bytes = to;

	memcpy(bytes, &h, sizeof(h));
	for (size_t i = sizeof(h); i < size; i++)
		bytes[i] = fill(source, seq, i);
}

uint64_t payload_check(const zcp_msg *msg, uint32_t *source)
{
	const unsigned char *bytes = msg->data;
	struct header h;

	if (msg->size < sizeof(h))
		return UINT64_MAX;
	memcpy(&h, bytes, sizeof(h));
	if (h.size != msg->size || h.source == 0 || h.source >= SOURCES)
		return UINT64_MAX;
	for (size_t i = sizeof(h); i < msg->size; i++)
		if (bytes[i] != fill(h.source, h.seq, i))
			return UINT64_MAX;
	*source = h.source;
	return h.seq;
}

/* ---- readers -------------------------------------------------------------------- */

static void account_one(struct account *a, zcp_msg *msg)
{
	uint32_t source = 0;
	uint64_t seq = payload_check(msg, &source);

	ck_assert_msg(seq != UINT64_MAX, "a torn message");
	ck_assert_msg(seq >= a->next[source], "message %llu of %u came after "
	    "%llu", (unsigned long long)seq, source,
	    (unsigned long long)a->next[source] - 1);
	ck_assert_msg(a->lossy || seq == a->next[source], "message %llu of %u "
	    "came where %llu was due", (unsigned long long)seq, source,
	    (unsigned long long)a->next[source]);
	a->gaps += seq - a->next[source];
	a->next[source] = seq + 1;
	ck_assert_msg(payload_check(msg, &source) == seq,
	    "a message changed while it was read");
	zcp_release(a->sub, msg);
}

uint64_t account_take(struct account *a)
{
	uint64_t n = 0;
	zcp_msg msg;
	int rc;

	while ((rc = zcp_take(a->sub, &msg)) != 0) {
		if (rc == -ZCP_E_LAPPED && a->lossy) {
			a->lost += msg.lost;
			continue;
		}
		must(rc);
		account_one(a, &msg);
		n++;
	}
	return n;
}

/* ---- the three --------------------------------------------------------------------- */

static void account_open(struct account *a, zcp *bus, bool lossy)
{
	zcp_sub_options o = { .lossy = lossy, .depth = lossy ? 4 : 0 };

	*a = (struct account){ .lossy = lossy };
	must(zcp_subscribe(bus, "t", &o, &a->sub));
}

void world_open(struct world *w, zcp *bus, uint32_t slots)
{
	zcp_pub_options o = { .slots = slots };

	*w = (struct world){ .bus = bus };
	account_open(&w->reliable, bus, false);
	account_open(&w->lossy, bus, true);
	must(zcp_offer(bus, "t", &o, &w->pub));
}

void world_goes_on(struct world *w, uint64_t count)
{
	char message[100];

	for (uint64_t i = 0; i < count; i++) {
		size_t size = w->sent % 2 ? sizeof(message) : 24;
		int rc;

		payload_write(message, WORLD, w->sent, size);
		/* Its own readers keep up: who keeps it is somebody else. */
		rc = zcp_send(w->pub, message, size, 0, 2 * NS_PER_S);
		ck_assert_msg(rc == 1, "the publisher is held up: %s",
		    zcp_errmsg());
		w->sent++;
		account_take(&w->reliable);
		if (i % 8 == 7)
			account_take(&w->lossy);
	}
	world_hears(w, WORLD, w->sent);
}

void world_hears(struct world *w, uint32_t source, uint64_t seq)
{
	uint64_t deadline = deadline_after(PATIENCE);

	while (account_take(&w->reliable),
	    w->reliable.next[source] < seq) {
		ck_assert_msg(clock_ns() < deadline, "message %llu of %u never "
		    "came", (unsigned long long)seq - 1, source);
		must(zcp_wait(w->reliable.sub, 10 * NS_PER_MS));
	}
}

static void account_close(struct account *a)
{
	uint64_t deadline = deadline_after(PATIENCE);
	zcp_sub_info info;

	do {
		account_take(a);
		must(zcp_sub_status(a->sub, &info));
		ck_assert_msg(clock_ns() < deadline,
		    "a publisher that has ended is still there");
		if (info.publishers > 0)
			must(zcp_wait(a->sub, NS_PER_MS));
	} while (info.publishers > 0);
	ck_assert_uint_eq(info.lost, a->lost);
	/* Gaps are seen only before a message that came. */
	ck_assert_uint_le(a->gaps, a->lost);
	zcp_unsubscribe(&a->sub);
}

static void tell_fault(void *arg, const char *text)
{
	(void)arg;
	fprintf(stderr, "audit: %s\n", text);
}

static bool tell_garbage(void *arg, const struct sweep_item *item)
{
	fprintf(stderr, "garbage: chunk %x, word %llx, why %d\n", item->id,
	    (unsigned long long)item->word, (int)item->why);
	++*(int *)arg;
	return false;
}

static int count_faults(struct domain *d)
{
	must(domain_attach(d, bus_domain, geteuid(), false));
	must(domain_map_words(d));
	return audit(d, tell_fault, NULL);
}

void world_look(void)
{
	struct domain d = { 0 };

	ck_assert_int_eq(count_faults(&d), 0);
	domain_detach(&d);
}

/* Nor is there any garbage. */
static void world_is_clean(void)
{
	struct sweep_report report;
	struct domain d = { 0 };
	int garbage = 0;

	ck_assert_int_eq(count_faults(&d), 0);
	must(sweep(&d, &report, tell_garbage, &garbage));
	ck_assert_int_eq(garbage, 0);
	domain_detach(&d);
}

static bool nobody_else(void *arg)
{
	(void)arg;
	return status_number("participants") == 1 &&
	    status_number("draining") == 0;
}

void world_close(struct world *w)
{
	if (w->pub != NULL)
		zcp_stop_offer(&w->pub);
	account_close(&w->reliable);
	account_close(&w->lossy);
	ck_assert_uint_eq(w->reliable.next[WORLD], w->sent);
	eventually(nobody_else, NULL, "nothing is left of the dead");
	all_chunks_come_back();
	world_is_clean();
}
