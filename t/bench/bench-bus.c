/*
 * bench-bus - the bus beside the raw limits of the machine, in one run:
 * latency, messages a second, the cost of publishing by subscribers.
 * Interleaved with the limits, repeated, medians.
 *
 *   bench-bus [REPEATS]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "atomics.h"
#include "bench.h"

enum { TURNS = 15, TRIPS = 20000 };

/*
 * Between the same two processes, limit and bus by turns of some milliseconds,
 * for the processors drift apart and together within seconds.  Where each
 * direction has a line of its own, as in any pair of rings, the machine allows
 * no more than the two-line ping-pong.
 */

/* ---- latency ---------------------------------------------------------------------- */

struct trip {
	struct row *row;		/* the limit, and the bus */
	size_t size;			/* of the chunk; 0: 32 bytes by copy */
	_Atomic int ready;
	_Alignas(256) _Atomic uint64_t line;
};

struct ends {
	zcp *bus;
	zcp_pub *pub;
	zcp_sub *sub;
};

static struct ends meet(struct trip *trip, const char *out, const char *in)
{
	zcp_pub_options po = { .stamp = ZCP_STAMP_NONE };
	struct ends e;

	bench_check(zcp_open(&e.bus, NULL));
	bench_check(zcp_subscribe(e.bus, in, NULL, &e.sub));
	bench_check(zcp_offer(e.bus, out, &po, &e.pub));
	bench_check(zcp_pub_wait_readers(e.pub, 1, 5000000000));
	atomic_fetch_add(&trip->ready, 1);
	while (atomic_load(&trip->ready) != 2)
		cpu_relax();
	return e;
}

static void part(struct ends *e)
{
	zcp_stop_offer(&e->pub);
	zcp_unsubscribe(&e->sub);
	zcp_close(&e->bus);
}

static void say(struct ends *e, const struct trip *trip)
{
	static const char text[32] = "thirty-two bytes of a message..";
	zcp_chunk chunk;

	if (trip->size == 0) {
		bench_check(zcp_send(e->pub, text, sizeof(text), 0, -1));
		return;
	}
	bench_check(zcp_loan(e->pub, trip->size, &chunk, -1));
	bench_check(zcp_publish(e->pub, &chunk, trip->size, -1));
}

static void hear(struct ends *e)
{
	zcp_msg msg;
	int rc;

	while ((rc = zcp_take(e->sub, &msg)) == 0)
		cpu_relax();
	bench_check(rc);
	zcp_release(e->sub, &msg);
}

static double trip_ping(void *arg)
{
	struct trip *trip = arg;
	struct ends e = meet(trip, "ping", "pong");

	for (int turn = 0; turn < TURNS; turn++) {
		double limit = bench_ping(&trip->line, TRIPS);
		uint64_t t = 0;

		for (int i = -TRIPS / 10; i < TRIPS; i++) {
			if (i == 0)
				t = bench_ns();
			say(&e, trip);
			hear(&e);
		}
		row_add(trip->row, (double)(bench_ns() - t) / TRIPS / 2, limit);
	}
	part(&e);
	return 0;
}

static void trip_pong(void *arg)
{
	struct trip *trip = arg;
	struct ends e = meet(trip, "pong", "ping");

	for (int turn = 0; turn < TURNS; turn++) {
		bench_pong(&trip->line, TRIPS);
		for (int i = -TRIPS / 10; i < TRIPS; i++) {
			hear(&e);
			say(&e, trip);
		}
	}
	part(&e);
}

static void latency(struct row *row, size_t size)
{
	struct trip *trip = bench_shared(sizeof(*trip));

	trip->row = row;
	trip->size = size;
	bench_pair(trip_ping, trip_pong, trip);
	munmap(trip, sizeof(*trip));
}

/* ---- throughput --------------------------------------------------------------------- */

enum { MESSAGES = 5000000, BATCH = 64 };

struct stream {
	enum { INLINE, CHUNK_EACH, BATCHED } how;
};

static double stream_out(void *arg)
{
	zcp_pub_options po = { .stamp = ZCP_STAMP_NONE, .slots = 4096 };
	struct stream *s = arg;
	zcp_part parts[BATCH];
	char text[32] = { 0 };
	zcp_chunk chunk;
	zcp_pub *pub;
	zcp *bus;
	uint64_t t;

	for (uint32_t i = 0; i < BATCH; i++)
		parts[i] = (zcp_part){ i * 32, 32 };
	bench_check(zcp_open(&bus, NULL));
	bench_check(zcp_offer(bus, "stream", &po, &pub));
	bench_check(zcp_pub_wait_readers(pub, 1, 5000000000));
	t = bench_ns();
	for (uint64_t i = 0; i < MESSAGES;) {
		switch (s->how) {
		case INLINE:
			memcpy(text, &i, sizeof(i));
			bench_check(zcp_send(pub, text, 32, 0, -1));
			i++;
			break;
		case CHUNK_EACH:
			bench_check(zcp_loan(pub, 64, &chunk, -1));
			memcpy(chunk.data, &i, sizeof(i));
			bench_check(zcp_publish(pub, &chunk, 64, -1));
			i++;
			break;
		case BATCHED:
			bench_check(zcp_loan(pub, BATCH * 32, &chunk, -1));
			for (uint64_t k = 0; k < BATCH; k++)
				memcpy((char *)chunk.data + k * 32, &i, 8);
			bench_check(zcp_publish_parts(pub, &chunk, parts,
			    BATCH, -1));
			i += BATCH;
			break;
		}
	}
	/* The reader is done when it has left. */
	while (zcp_pub_readers(pub) > 0)
		cpu_relax();
	t = bench_ns() - t;
	zcp_stop_offer(&pub);
	zcp_close(&bus);
	return MESSAGES * 1e9 / (double)t;
}

static void stream_in(void *arg)
{
	volatile uint64_t sink;
	uint64_t got = 0, sum = 0, word;
	zcp_msg msg;
	zcp_sub *sub;
	zcp *bus;
	int rc;

	(void)arg;
	bench_check(zcp_open(&bus, NULL));
	bench_check(zcp_subscribe(bus, "stream", NULL, &sub));
	while (got < MESSAGES) {
		if ((rc = zcp_take(sub, &msg)) == 0) {
			cpu_relax();
			continue;
		}
		bench_check(rc);
		memcpy(&word, msg.data, sizeof(word));
		sum += word;
		got++;
		zcp_release(sub, &msg);
	}
	sink = sum;
	(void)sink;
	zcp_unsubscribe(&sub);
	zcp_close(&bus);
}

static double throughput(struct stream s)
{
	return bench_pair(stream_out, stream_in, &s);
}

int main(int argc, char **argv)
{
	static const char *const options[] = { "--pool", "128:16384",
	    "--pool", "4K:256", "--pool", "64K:256", NULL };
	static struct row two_lines = { .name = "(limit: two lines)", .unit =
	    "ns", .against = "cache-line ping-pong", .target = "" };
	static struct row small = { .name = "one way, 32 bytes", .unit = "ns",
	    .against = "cache-line ping-pong", .target = "<= 1.8" };
	static struct row large = { .name = "one way, 64 KiB chunk", .unit =
	    "ns", .against = "cache-line ping-pong", .target = "<= 2" };
	static struct row in_slot = { .name = "messages/s, inline", .unit =
	    "1/s", .against = "bare SPSC ring", .target = ">= 0.4" };
	static struct row each = { .name = "messages/s, a chunk each", .unit =
	    "1/s", .against = "bare SPSC ring", .target = "" };
	static struct row batched = { .name = "messages/s, 64 a chunk", .unit =
	    "1/s", .against = "bare SPSC ring", .target = "" };
	static struct row cost = { .name = "publish, 64 subscribers", .unit =
	    "ns", .against = "publish, 1 subscriber", .target = "<= 1.2" };

	int repeats = bench_repeats(argc, argv, 5);

	bench_daemon_start(options);
	for (int i = 0; i < repeats; i++) {
		bench_settle();
		row_add(&two_lines, limit_two_lines(), limit_ping_pong());
		latency(&small, 0);
		bench_settle();
		latency(&large, 65536);
		row_add(&in_slot, throughput((struct stream){ INLINE }),
		    limit_spsc());
		row_add(&each, throughput((struct stream){ CHUNK_EACH }),
		    limit_spsc());
		row_add(&batched, throughput((struct stream){ BATCHED }),
		    limit_spsc());
		row_add(&cost, bench_publish_cost(64), bench_publish_cost(1));
	}
	table_head();
	row_print(&two_lines);
	row_print(&small);
	row_print(&large);
	row_print(&in_slot);
	row_print(&each);
	row_print(&batched);
	row_print(&cost);
	bench_daemon_stop();
	return 0;
}
