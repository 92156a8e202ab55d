/*
 * bench-wake - one way from publish to take when the reader sleeps, beside a
 * bare FUTEX_WAKE of a process that sleeps as long; and when messages come so
 * often that it spins a while before it sleeps.
 *
 *   bench-wake [REPEATS]
 */
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "atomics.h"
#include "bench.h"

enum { WAKES = 400 };

struct bed {
	uint64_t pause;			/* between two messages, ns */
	_Atomic uint64_t woken;		/* how often */
	double ns[WAKES];		/* from the publisher to the sleeper */
	_Alignas(64) _Atomic uint32_t word;
	_Alignas(64) _Atomic uint64_t sent;	/* when */
};

static struct bed *bed_make(uint64_t pause)
{
	struct bed *bed = bench_shared(sizeof(*bed));

	bed->pause = pause;
	return bed;
}

/* The median, and no bed any more. */
static double bed_free(struct bed *bed)
{
	double ns = median(bed->ns, WAKES);

	munmap(bed, sizeof(*bed));
	return ns;
}

/* The sleeper has had the last one, and so much time has passed. */
static void lie_in_wait(const struct bed *bed, uint64_t n)
{
	uint64_t until;

	while (atomic_load(&bed->woken) < n)
		cpu_relax();
	until = bench_ns() + bed->pause;
	while (bench_ns() < until)
		cpu_relax();
}

static void note(struct bed *bed, uint64_t n, uint64_t sent)
{
	bed->ns[n] = (double)(bench_ns() - sent);
	atomic_store(&bed->woken, n + 1);
}

/* ---- the limit ------------------------------------------------------------------------ */

static double bare_wake(void *arg)
{
	struct bed *bed = arg;

	for (uint64_t n = 0; n < WAKES; n++) {
		lie_in_wait(bed, n);
		atomic_store(&bed->sent, bench_ns());
		atomic_store(&bed->word, (uint32_t)n + 1);
		syscall(SYS_futex, &bed->word, FUTEX_WAKE, 1, NULL, NULL, 0);
	}
	return 0;
}

static void bare_sleep(void *arg)
{
	struct bed *bed = arg;

	for (uint32_t n = 0; n < WAKES; n++) {
		while (atomic_load(&bed->word) == n)
			syscall(SYS_futex, &bed->word, FUTEX_WAIT, n, NULL,
			    NULL, 0);
		note(bed, n, atomic_load(&bed->sent));
	}
}

static double limit_wake(uint64_t pause)
{
	struct bed *bed = bed_make(pause);

	bench_pair(bare_wake, bare_sleep, bed);
	return bed_free(bed);
}

/* ---- the bus --------------------------------------------------------------------------- */

static double publish(void *arg)
{
	zcp_pub_options po = { .stamp = ZCP_STAMP_NONE };
	struct bed *bed = arg;
	zcp_pub *pub;
	zcp *bus;

	bench_check(zcp_open(&bus, NULL));
	bench_check(zcp_offer(bus, "wake", &po, &pub));
	bench_check(zcp_pub_wait_readers(pub, 1, 5000000000));
	for (uint64_t n = 0; n < WAKES; n++) {
		uint64_t now;

		lie_in_wait(bed, n);
		now = bench_ns();
		bench_check(zcp_send(pub, &now, sizeof(now), 0, -1));
	}
	while (zcp_pub_readers(pub) > 0)
		cpu_relax();
	zcp_stop_offer(&pub);
	zcp_close(&bus);
	return 0;
}

static void doze(void *arg)
{
	struct bed *bed = arg;
	zcp_sub *sub;
	zcp_msg msg;
	zcp *bus;

	bench_check(zcp_open(&bus, NULL));
	bench_check(zcp_subscribe(bus, "wake", NULL, &sub));
	for (uint64_t n = 0; n < WAKES; n++) {
		int rc;

		while ((rc = zcp_take(sub, &msg)) == 0)
			bench_check(zcp_wait(sub, -1));
		bench_check(rc);
		note(bed, n, *(const uint64_t *)msg.data);
		zcp_release(sub, &msg);
	}
	zcp_unsubscribe(&sub);
	zcp_close(&bus);
}

static double bus_wake(uint64_t pause)
{
	struct bed *bed = bed_make(pause);

	bench_pair(publish, doze, bed);
	return bed_free(bed);
}

/* ---- the table --------------------------------------------------------------------------- */

static const struct figure {
	uint64_t pause;
	const char *name, *target;
} figures[] = {
	{ 1000000, "to a sleeper, a message a ms", "<= 1.1" },
	{ 200000, "to a sleeper, every 200 us", "<= 1.1" },
	{ 20000, "spin, then sleep, every 20 us", "< 1" },
	{ 5000, "spin, then sleep, every 5 us", "< 1" },
};
enum { FIGURES = sizeof(figures) / sizeof(figures[0]) };

int main(int argc, char **argv)
{
	static const char *const options[] = { NULL };
	int repeats = bench_repeats(argc, argv, 5);
	static struct row row[FIGURES];

	bench_daemon_start(options);
	for (int k = 0; k < FIGURES; k++)
		row[k] = (struct row){ .name = figures[k].name, .unit = "us",
		    .against = "FUTEX_WAKE of a sleeper",
		    .target = figures[k].target };
	for (int i = 0; i < repeats; i++)
		for (int k = 0; k < FIGURES; k++)
			row_add(&row[k], bus_wake(figures[k].pause) / 1000,
			    limit_wake(figures[k].pause) / 1000);
	table_head();
	for (int k = 0; k < FIGURES; k++)
		row_print(&row[k]);
	bench_daemon_stop();
	return 0;
}
