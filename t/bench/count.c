/*
 * count - each operation many times over, for callgrind to count its
 * instructions: see t/bench/instructions.  Between a publisher and a reader of
 * one process, whose other end is served while nobody counts.
 */
#include <stdio.h>
#include <string.h>
#if __has_include(<valgrind/callgrind.h>)
#include <valgrind/callgrind.h>
#else
#error "callgrind.h is missing: apt-get install valgrind"
#endif

#include "bench.h"

enum { WARM = 2000, COUNTED = 20000, PARTS = 64 };

static zcp_pub *pub;
static zcp_sub *sub;
static zcp_chunk chunk;
static zcp_msg msg[PARTS];
static zcp_part parts[PARTS];
static const char text[32] = "thirty-two bytes of a message..";

static inline void must(int rc)
{
	if (rc < 0)
		bench_check(rc);
}

/* What counting costs. */
static void nothing(void)
{
}

static void send_inline(void)
{
	must(zcp_send(pub, text, sizeof(text), 0, -1));
}

static void send_chunk(void)
{
	static char large[100];

	must(zcp_send(pub, large, sizeof(large), 0, -1));
}

static void loan(void)
{
	must(zcp_loan(pub, 64, &chunk, -1));
}

static void publish(void)
{
	must(zcp_publish(pub, &chunk, 64, -1));
}

static void loan_many(void)
{
	must(zcp_loan(pub, PARTS * sizeof(text), &chunk, -1));
}

static void publish_many(void)
{
	must(zcp_publish_parts(pub, &chunk, parts, PARTS, -1));
}

static void take(void)
{
	must(zcp_take(sub, &msg[0]));
}

static void release(void)
{
	zcp_release(sub, &msg[0]);
}

static void take_many(void)
{
	for (int i = 0; i < PARTS; i++)
		must(zcp_take(sub, &msg[i]));
}

static void release_many(void)
{
	for (int i = 0; i < PARTS; i++)
		zcp_release(sub, &msg[i]);
}

static void take_batch(void)
{
	size_t n = 0;

	while (n < PARTS) {
		int rc = zcp_take_batch(sub, &msg[n], PARTS - n);

		must(rc);
		n += (size_t)rc;
	}
}

static void release_batch(void)
{
	zcp_release_batch(sub, msg, PARTS);
}

static void take_nothing(void)
{
	must(zcp_take(sub, &msg[0]));
}

/* What is done in turn, and which of it counts. */
static const struct operation {
	const char *name;
	void (*step[5])(void);
	int counted;			/* index in step */
	int messages;			/* in it */
} operations[] = {
	{ "nothing", { nothing }, 0, 1 },
	{ "send-inline", { send_inline, take, release }, 0, 1 },
	{ "take-inline", { send_inline, take, release }, 1, 1 },
	{ "send-100", { send_chunk, take, release }, 0, 1 },
	{ "loan", { loan, publish, take, release }, 0, 1 },
	{ "publish", { loan, publish, take, release }, 1, 1 },
	{ "take", { loan, publish, take, release }, 2, 1 },
	{ "release", { loan, publish, take, release }, 3, 1 },
	{ "publish-64", { loan_many, publish_many, take_many, release_many },
	    1, PARTS },
	{ "take-64", { loan_many, publish_many, take_many, release_many }, 2,
	    PARTS },
	{ "release-64", { loan_many, publish_many, take_many, release_many }, 3,
	    PARTS },
	{ "batch-64", { loan_many, publish_many, take_batch, release_batch }, 2,
	    PARTS },
	{ "unbatch-64", { loan_many, publish_many, take_batch, release_batch },
	    3, PARTS },
	{ "take-nothing", { take_nothing }, 0, 1 },
};

static void run(const struct operation *op, int times, bool counted)
{
	for (int i = 0; i < times; i++)
		for (int k = 0; k < 5 && op->step[k] != NULL; k++) {
			if (counted && k == op->counted)
				CALLGRIND_TOGGLE_COLLECT;
			op->step[k]();
			if (counted && k == op->counted)
				CALLGRIND_TOGGLE_COLLECT;
		}
}

static void count(const struct operation *op)
{
	int times = COUNTED / op->messages;

	run(op, WARM / op->messages, false);
	CALLGRIND_ZERO_STATS;
	run(op, times, true);
	CALLGRIND_DUMP_STATS_AT(op->name);
	printf("%s %d %d\n", op->name, times, op->messages);
}

int main(void)
{
	static const char *const options[] = { "--pool", "128:256", "--pool",
	    "1K:256", "--pool", "4K:256", NULL };
	zcp_pub_options po = { .stamp = ZCP_STAMP_NONE, .slots = 256 };
	zcp *bus;

	for (uint32_t i = 0; i < PARTS; i++)
		parts[i] = (zcp_part){ i * sizeof(text), sizeof(text) };
	bench_daemon_start(options);
	bench_check(zcp_open(&bus, NULL));
	bench_check(zcp_subscribe(bus, "count", NULL, &sub));
	bench_check(zcp_offer(bus, "count", &po, &pub));
	bench_check(zcp_pub_wait_readers(pub, 1, -1));
	for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++)
		count(&operations[i]);
	zcp_stop_offer(&pub);
	zcp_unsubscribe(&sub);
	zcp_close(&bus);
	bench_daemon_stop();
	return 0;
}
