/* peer.c - latency and rate of one message system beside the bare ping-pong,
 * turn by turn between the same two processes.  See t/bench/peers/run. */
#include "peer.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "atomics.h"
#include "bench.h"

enum { TURNS = 5, TRIPS = 5000, MESSAGES = 200000, SIZE = 64 };

struct meeting {
	struct row *latency, *rate;
	_Atomic int ready, done;
	_Alignas(256) _Atomic uint64_t line;
};

static const char data[SIZE];

void peer_failed(const char *what)
{
	fprintf(stderr, "%s: %s failed\n", peer_name, what);
	exit(1);
}

void peer_address(char *text, size_t size, const char *name)
{
	snprintf(text, size, "ipc://%s/%s", getenv("PEER_DIR"), name);
}

static void hear(void)
{
	while (!peer_hear())
		cpu_relax();
}

static void meet(struct meeting *m, const char *out, const char *in)
{
	peer_open(out, in);
	atomic_fetch_add(&m->ready, 1);
	while (atomic_load(&m->ready) < 2)
		cpu_relax();
}

/* Both leave together: some systems lose what is under way then. */
static void part(struct meeting *m)
{
	atomic_fetch_add(&m->done, 1);
	while (atomic_load(&m->done) < 2)
		cpu_relax();
	peer_close();
}

static double ping(void *arg)
{
	struct meeting *m = arg;

	meet(m, "ping", "pong");
	for (int turn = 0; turn < TURNS; turn++) {
		double limit = bench_ping(&m->line, TRIPS);
		uint64_t t = 0;

		for (int i = -TRIPS / 10; i < TRIPS; i++) {
			if (i == 0)
				t = bench_ns();
			peer_say(data, SIZE);
			hear();
		}
		row_add(m->latency, (double)(bench_ns() - t) / TRIPS / 2, limit);
	}
	for (int turn = 0; turn < TURNS; turn++) {
		uint64_t t = bench_ns();

		for (int i = 0; i < MESSAGES; i++)
			peer_say(data, SIZE);
		hear();
		row_add(m->rate, MESSAGES * 1e9 / (double)(bench_ns() - t),
		    1e9 / m->latency->limit[m->latency->count - 1]);
	}
	part(m);
	return 0;
}

static void pong(void *arg)
{
	struct meeting *m = arg;

	meet(m, "pong", "ping");
	for (int turn = 0; turn < TURNS; turn++) {
		bench_pong(&m->line, TRIPS);
		for (int i = -TRIPS / 10; i < TRIPS; i++) {
			hear();
			peer_say(data, SIZE);
		}
	}
	for (int turn = 0; turn < TURNS; turn++) {
		for (int i = 0; i < MESSAGES; i++)
			hear();
		peer_say(data, SIZE);
	}
	part(m);
}

int main(int argc, char **argv)
{
	char name[2][64];
	struct row latency = { .name = name[0], .unit = "ns",
	    .against = "cache-line ping-pong" };
	struct row rate = { .name = name[1], .unit = "1/s",
	    .against = "one line at a time" };
	int repeats = bench_repeats(argc, argv, 3);

	snprintf(name[0], sizeof(name[0]), "%s, one way, 64 B", peer_name);
	snprintf(name[1], sizeof(name[1]), "%s, msg/s, 64 B", peer_name);
	for (int i = 0; i < repeats; i++) {
		struct meeting *m = bench_shared(sizeof(*m));

		*m = (struct meeting){ .latency = &latency, .rate = &rate };
		bench_settle();
		bench_pair(ping, pong, m);
		munmap(m, sizeof(*m));
	}
	table_head();
	row_print(&latency);
	row_print(&rate);
	return 0;
}
