/*
 * bench-latency - one way from publish to take, by size, while both poll:
 * untouched, beside a bare cache-line ping-pong and beside a bare ring of
 * slots; written and read in full, beside bare shared memory that does the
 * same; and the slow ones among many.  And what a line of its own costs any
 * message: bare lines, one each way, and bare slots beside the ping-pong, which
 * has one line for both ways.
 *
 *   bench-latency [REPEATS]
 *
 * Limit and bus take turns of some milliseconds between the same two
 * processes, for the processors of a virtual machine drift apart and together
 * within seconds.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "atomics.h"
#include "bench.h"

enum { TURNS = 9, SINGLE = 100000 };

/* ---- two ends ---------------------------------------------------------------------- */

/* What a message in a slot of a ring takes at least: its line is written word
 * by word, the first last, and read when the first shows its number. */
enum { BARE_SLOTS = 1024, WORDS = 8 };
struct bare_ring {
	_Alignas(64) _Atomic uint64_t slot[BARE_SLOTS][WORDS];
};

struct trip;
/* Both ends of what costs nothing but its lines: ns one way. */
typedef double bare_floor(struct trip *trip, uint64_t *at, bool first);

struct trip {
	struct row *row;		/* the limit, and the bus */
	size_t size;
	enum limit { LINE, SLOTS, TOUCHED } limit;	/* TOUCHED: the bus, too */
	int trips;			/* a turn */
	bare_floor *floor;
	_Atomic int ready;
	char *bare;			/* two payloads for the limit */
	_Alignas(256) _Atomic uint64_t line;
	struct bare_ring ring[2];	/* there, and back */
};

struct ends {
	zcp *bus;
	zcp_pub *pub;
	zcp_sub *sub;
	uint64_t sum;
};

static struct ends meet(struct trip *trip, const char *out, const char *in)
{
	zcp_pub_options po = { .stamp = ZCP_STAMP_NONE };
	struct ends e = { 0 };

	bench_check(zcp_open(&e.bus, NULL));
	bench_check(zcp_subscribe(e.bus, in, NULL, &e.sub));
	bench_check(zcp_offer(e.bus, out, &po, &e.pub));
	bench_meet(e.pub, e.sub);
	atomic_fetch_add(&trip->ready, 1);
	while (atomic_load(&trip->ready) % 2 != 0)
		cpu_relax();
	return e;
}

static void part(struct ends *e)
{
	volatile uint64_t sink = e->sum;

	(void)sink;
	zcp_stop_offer(&e->pub);
	zcp_unsubscribe(&e->sub);
	zcp_close(&e->bus);
}

/* Small ones by copy, larger ones in a chunk, as a user would. */
static void say(struct ends *e, const struct trip *trip, uint64_t i)
{
	static char text[64];
	zcp_chunk chunk;

	if (trip->size <= 32) {
		if (trip->limit == TOUCHED)
			bench_fill(text, trip->size, i);
		bench_check(zcp_send(e->pub, text, trip->size, 0, -1));
		return;
	}
	bench_check(zcp_loan(e->pub, trip->size, &chunk, -1));
	if (trip->limit == TOUCHED)
		bench_fill(chunk.data, trip->size, i);
	bench_check(zcp_publish(e->pub, &chunk, trip->size, -1));
}

static void hear(struct ends *e, const struct trip *trip)
{
	zcp_msg msg;
	int rc;

	while ((rc = zcp_take(e->sub, &msg)) == 0)
		cpu_relax();
	if (rc < 0)
		bench_check(rc);
	if (trip->limit == TOUCHED)
		e->sum += bench_sum(msg.data, msg.size);
	zcp_release(e->sub, &msg);
}

static inline void slot_say(struct bare_ring *ring, uint64_t i, int slots,
    int words)
{
	_Atomic uint64_t *slot = ring->slot[i % (unsigned)slots];

	for (int k = 1; k < words; k++)
		atomic_store_explicit(&slot[k], i, memory_order_relaxed);
	atomic_store_explicit(&slot[0], i + 1, memory_order_release);
}

static inline uint64_t slot_hear(struct bare_ring *ring, uint64_t i, int slots,
    int words)
{
	_Atomic uint64_t *slot = ring->slot[i % (unsigned)slots];
	uint64_t sum = 0;

	while (atomic_load_explicit(&slot[0], memory_order_acquire) != i + 1)
		cpu_relax();
	for (int k = 1; k < words; k++)
		sum += atomic_load_explicit(&slot[k], memory_order_relaxed);
	return sum;
}

/* Both ends of two rings: ns one way. */
static inline double bare_rings(struct trip *trip, uint64_t *at, bool first,
    int slots, int words)
{
	uint64_t t = bench_ns(), sum = 0;
	volatile uint64_t sink;

	for (int i = 0; i < trip->trips; i++, ++*at) {
		if (first)
			slot_say(&trip->ring[0], *at, slots, words);
		sum += slot_hear(&trip->ring[first], *at, slots, words);
		if (!first)
			slot_say(&trip->ring[1], *at, slots, words);
	}
	sink = sum;
	(void)sink;
	return (double)(bench_ns() - t) / trip->trips / 2;
}

static double bare_slots(struct trip *trip, uint64_t *at, bool first)
{
	return bare_rings(trip, at, first, BARE_SLOTS, WORDS);
}

/* A line each way, of which a word is stored and read. */
static double bare_lines(struct trip *trip, uint64_t *at, bool first)
{
	return bare_rings(trip, at, first, 1, 1);
}

/* The limit: payload `side` written, the line turned, the other one read. */
static double bare_ping(struct trip *trip)
{
	uint64_t at = atomic_load(&trip->line), t = bench_ns(), sum = 0;
	volatile uint64_t sink;

	if (trip->limit == LINE)
		return bench_ping(&trip->line, (uint64_t)trip->trips);
	for (int i = 0; i < trip->trips; i++, at += 2) {
		bench_fill(trip->bare, trip->size, at);
		atomic_store_explicit(&trip->line, at + 1,
		    memory_order_release);
		while (atomic_load_explicit(&trip->line,
		    memory_order_acquire) != at + 2)
			cpu_relax();
		sum += bench_sum(trip->bare + trip->size, trip->size);
	}
	sink = sum;
	(void)sink;
	return (double)(bench_ns() - t) / trip->trips / 2;
}

static void bare_pong(struct trip *trip)
{
	uint64_t at = atomic_load(&trip->line) & ~UINT64_C(1), sum = 0;
	volatile uint64_t sink;

	if (trip->limit == LINE) {
		bench_pong(&trip->line, (uint64_t)trip->trips);
		return;
	}
	for (int i = 0; i < trip->trips; i++, at += 2) {
		while (atomic_load_explicit(&trip->line,
		    memory_order_acquire) != at + 1)
			cpu_relax();
		sum += bench_sum(trip->bare, trip->size);
		bench_fill(trip->bare + trip->size, trip->size, at);
		atomic_store_explicit(&trip->line, at + 2,
		    memory_order_release);
	}
	sink = sum;
	(void)sink;
}

/* ---- means of turns -------------------------------------------------------------------- */

static double mean_ping(void *arg)
{
	struct trip *trip = arg;
	struct ends e = meet(trip, "ping", "pong");
	uint64_t at = 0;

	for (int turn = 0; turn < TURNS; turn++) {
		double limit = trip->limit == SLOTS ?
		    bare_slots(trip, &at, true) : bare_ping(trip);
		uint64_t t = 0;

		for (int i = -trip->trips / 10; i < trip->trips; i++) {
			if (i == 0)
				t = bench_ns();
			say(&e, trip, (uint64_t)i);
			hear(&e, trip);
		}
		row_add(trip->row, (double)(bench_ns() - t) / trip->trips / 2,
		    limit);
	}
	part(&e);
	return 0;
}

static void mean_pong(void *arg)
{
	struct trip *trip = arg;
	struct ends e = meet(trip, "pong", "ping");
	uint64_t at = 0;

	for (int turn = 0; turn < TURNS; turn++) {
		if (trip->limit == SLOTS)
			bare_slots(trip, &at, false);
		else
			bare_pong(trip);
		for (int i = -trip->trips / 10; i < trip->trips; i++) {
			hear(&e, trip);
			say(&e, trip, (uint64_t)i);
		}
	}
	part(&e);
}

static struct trip *trip_make(size_t size, enum limit limit)
{
	struct trip *trip = bench_shared(sizeof(*trip));

	trip->size = size;
	trip->limit = limit;
	trip->trips = 20000;
	if (limit == TOUCHED && size > 1024)
		trip->trips = size > 1 << 18 ? 20 : size > 1 << 14 ? 500 : 4000;
	trip->bare = bench_shared(2 * size);
	return trip;
}

static void trip_free(struct trip *trip)
{
	munmap(trip->bare, 2 * trip->size);
	munmap(trip, sizeof(*trip));
}

static void mean_latency(struct row *row, size_t size, enum limit limit)
{
	struct trip *trip = trip_make(size, limit);

	trip->row = row;
	bench_pair(mean_ping, mean_pong, trip);
	trip_free(trip);
}

/* ---- bare beside bare ------------------------------------------------------------------ */

static double floor_ping(void *arg)
{
	struct trip *trip = arg;
	uint64_t at = 0;

	for (int turn = 0; turn < TURNS; turn++) {
		double limit = bench_ping(&trip->line, (uint64_t)trip->trips);

		row_add(trip->row, trip->floor(trip, &at, true), limit);
	}
	return 0;
}

static void floor_pong(void *arg)
{
	struct trip *trip = arg;
	uint64_t at = 0;

	for (int turn = 0; turn < TURNS; turn++) {
		bench_pong(&trip->line, (uint64_t)trip->trips);
		trip->floor(trip, &at, false);
	}
}

static void floor_latency(struct row *row, bare_floor *floor)
{
	struct trip *trip = trip_make(sizeof(uint64_t) * WORDS, LINE);

	trip->row = row;
	trip->floor = floor;
	bench_pair(floor_ping, floor_pong, trip);
	trip_free(trip);
}

/* ---- one by one -------------------------------------------------------------------------- */

static double *samples;			/* of one side, ns */

static double single_ping(void *arg)
{
	struct trip *trip = arg;
	struct ends e = meet(trip, "ping", "pong");

	for (int i = -SINGLE / 10; i < SINGLE; i++) {
		uint64_t t = bench_ns();

		say(&e, trip, (uint64_t)i);
		hear(&e, trip);
		if (i >= 0)
			samples[i] = (double)(bench_ns() - t) / 2;
	}
	part(&e);
	return 0;
}

static void single_pong(void *arg)
{
	struct trip *trip = arg;
	struct ends e = meet(trip, "pong", "ping");

	for (int i = -SINGLE / 10; i < SINGLE; i++) {
		hear(&e, trip);
		say(&e, trip, (uint64_t)i);
	}
	part(&e);
}

static double line_ping(void *arg)
{
	struct trip *trip = arg;

	for (int i = 0; i < SINGLE; i++)
		samples[SINGLE + i] = bench_ping(&trip->line, 1);
	return 0;
}

static void line_pong(void *arg)
{
	struct trip *trip = arg;

	bench_pong(&trip->line, SINGLE);
}

static const struct part_of {
	const char *name;
	double part;
} parts[] = { { "p50", 0.5 }, { "p99", 0.99 }, { "p99.9", 0.999 },
	{ "max", 1 } };
enum { PARTS = sizeof(parts) / sizeof(parts[0]) };

static void single_latency(struct row *rows, size_t size)
{
	struct trip *trip = trip_make(size, LINE);

	bench_pair(single_ping, single_pong, trip);
	bench_pair(line_ping, line_pong, trip);
	median(samples, SINGLE);	/* sorts them */
	median(samples + SINGLE, SINGLE);
	for (int i = 0; i < PARTS; i++)
		row_add(&rows[i], quantile(samples, SINGLE, parts[i].part),
		    quantile(samples + SINGLE, SINGLE, parts[i].part));
	trip_free(trip);
}

/* ---- the table ---------------------------------------------------------------------------- */

static const struct figure {
	size_t size;
	enum limit limit;
	const char *text, *target;
} figures[] = {
	{ 16, LINE, "16 B", "" }, { 32, LINE, "32 B", "<= 1.4" },
	{ 32, SLOTS, "32 B", "" }, { 64, LINE, "64 B", "" },
	{ 1024, LINE, "1 KiB", "" }, { 65536, LINE, "64 KiB", "<= 1.6" },
	{ 65536, SLOTS, "64 KiB", "" }, { 1 << 20, LINE, "1 MiB", "<= 1.6" },
	{ 16 << 20, LINE, "16 MiB", "" }, { 64, TOUCHED, "64 B", "<= 1.25" },
	{ 1024, TOUCHED, "1 KiB", "<= 1.25" },
	{ 4096, TOUCHED, "4 KiB", "<= 1.25" },
	{ 65536, TOUCHED, "64 KiB", "<= 1.25" },
	{ 1 << 20, TOUCHED, "1 MiB", "<= 1.25" },
};
enum { FIGURES = sizeof(figures) / sizeof(figures[0]) };
static struct row lines_row = { .name = "one way, bare line each way",
    .unit = "ns", .against = "cache-line ping-pong" };
static struct row slots_row = { .name = "one way, bare ring of slots",
    .unit = "ns", .against = "cache-line ping-pong" };
static const size_t singles[] = { 32, 65536 };
enum { SINGLES = sizeof(singles) / sizeof(singles[0]) };

static struct row mean_row[FIGURES], single_row[SINGLES][PARTS];
static char names[FIGURES + SINGLES * PARTS][64];

static void name_rows(void)
{
	static const char *const against[] = {
		[LINE] = "cache-line ping-pong", [SLOTS] = "bare ring of slots",
		[TOUCHED] = "bare shared memory",
	};
	int n = 0;

	for (int i = 0; i < FIGURES; i++, n++) {
		snprintf(names[n], sizeof(names[n]), "one way, %s%s",
		    figures[i].text,
		    figures[i].limit == TOUCHED ? " touched" : "");
		mean_row[i] = (struct row){ .name = names[n], .unit = "ns",
		    .against = against[figures[i].limit],
		    .target = figures[i].target };
	}
	for (int k = 0; k < SINGLES; k++)
		for (int i = 0; i < PARTS; i++, n++) {
			snprintf(names[n], sizeof(names[n]), "one way, %s, %s",
			    singles[k] == 32 ? "32 B" : "64 KiB",
			    parts[i].name);
			single_row[k][i] = (struct row){ .name = names[n],
			    .unit = "ns", .against = "ping-pong, one by one" };
		}
}

int main(int argc, char **argv)
{
	static const char *const options[] = { "--pool", "128:4096", "--pool",
	    "1K:1024", "--pool", "4K:512", "--pool", "64K:256", "--pool",
	    "1M:64", "--pool", "16M:16", NULL };
	int repeats = bench_repeats(argc, argv, 5);

	name_rows();
	samples = calloc(2 * SINGLE, sizeof(*samples));
	bench_daemon_start(options);
	for (int i = 0; i < repeats; i++) {
		for (int k = 0; k < FIGURES; k++) {
			bench_settle();
			mean_latency(&mean_row[k], figures[k].size,
			    figures[k].limit);
		}
		bench_settle();
		floor_latency(&lines_row, bare_lines);
		bench_settle();
		floor_latency(&slots_row, bare_slots);
		for (int k = 0; k < SINGLES; k++)
			single_latency(single_row[k], singles[k]);
	}
	table_head();
	for (int i = 0; i < FIGURES; i++)
		row_print(&mean_row[i]);
	row_print(&lines_row);
	row_print(&slots_row);
	for (int k = 0; k < SINGLES; k++)
		for (int i = 0; i < PARTS; i++)
			row_print(&single_row[k][i]);
	bench_daemon_stop();
	free(samples);
	return 0;
}
