/*
 * bench-rate - messages a second from one publisher to one reader, by size,
 * way and mode, beside a bare ring of one producer and one consumer; and what
 * bare rings take whose slots are a message each, as zcp's are, alone and with
 * a line of payload elsewhere.
 *
 *   bench-rate [REPEATS]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "atomics.h"
#include "bench.h"

enum { BATCH = 64, AT_ONCE = 32 };	/* published; taken */

struct stream {
	enum { INLINE, CHUNK_EACH, BATCHED, BARE_SLOTS, BARE_PAYLOADS } how;
	size_t size;
	uint64_t messages;
	bool lossy;
	_Atomic uint64_t got;		/* by the lossy reader, when all is out */
};

/* ---- the bare ring ----------------------------------------------------------------- */

enum { SPSC_SLOTS = 4096, SPSC_MESSAGES = 10000000 };

struct spsc {
	_Alignas(256) _Atomic uint64_t head;
	_Alignas(256) _Atomic uint64_t tail;
	_Alignas(256) char slot[SPSC_SLOTS][64];
};

static double spsc_write(void *arg)
{
	struct spsc *q = arg;
	uint64_t seen = 0, t = bench_ns();

	for (uint64_t i = 0; i < SPSC_MESSAGES; i++) {
		while (i - seen == SPSC_SLOTS)
			seen = atomic_load_explicit(&q->tail,
			    memory_order_acquire);
		memset(q->slot[i % SPSC_SLOTS], (int)i, 64);
		atomic_store_explicit(&q->head, i + 1, memory_order_release);
	}
	while (atomic_load_explicit(&q->tail, memory_order_acquire) !=
	    SPSC_MESSAGES)
		cpu_relax();
	return SPSC_MESSAGES * 1e9 / (double)(bench_ns() - t);
}

static void spsc_read(void *arg)
{
	struct spsc *q = arg;
	volatile uint64_t sink;
	uint64_t sum = 0;

	for (uint64_t i = 0; i < SPSC_MESSAGES;) {
		uint64_t end = atomic_load_explicit(&q->head,
		    memory_order_acquire), word;

		for (; i < end; i++) {
			memcpy(&word, q->slot[i % SPSC_SLOTS], sizeof(word));
			sum += word;
		}
		atomic_store_explicit(&q->tail, i, memory_order_release);
	}
	sink = sum;
	(void)sink;
}

static double limit_spsc(void)
{
	struct spsc *q = bench_shared(sizeof(*q));
	double rate = bench_pair(spsc_write, spsc_read, q);

	munmap(q, sizeof(*q));
	return rate;
}

/* ---- bare slots: each has its own stamp, and a payload elsewhere or none ------- */

enum { WORDS = 8, PAYLOADS = 4096, APART = 2 };

struct slots {
	_Alignas(256) _Atomic uint64_t read;
	_Alignas(256) _Atomic uint64_t slot[SPSC_SLOTS][WORDS];
	_Alignas(256) _Atomic uint64_t line[PAYLOADS * APART][WORDS];
	bool payload;
};

static inline void line_write(_Atomic uint64_t *line, uint64_t i)
{
	for (int k = 1; k < WORDS; k++)
		atomic_store_explicit(&line[k], i, memory_order_relaxed);
}

static double slots_write(void *arg)
{
	struct slots *q = arg;
	uint64_t seen = 0, t = bench_ns();

	for (uint64_t i = 0; i < SPSC_MESSAGES; i++) {
		_Atomic uint64_t *slot = q->slot[i % SPSC_SLOTS];

		while (i - seen == SPSC_SLOTS)
			seen = atomic_load_explicit(&q->read,
			    memory_order_acquire);
		if (q->payload)
			line_write(q->line[i % PAYLOADS * APART], i);
		line_write(slot, i);
		atomic_store_explicit(&slot[0], i + 1, memory_order_release);
	}
	while (atomic_load_explicit(&q->read, memory_order_acquire) !=
	    SPSC_MESSAGES)
		cpu_relax();
	return SPSC_MESSAGES * 1e9 / (double)(bench_ns() - t);
}

static void slots_read(void *arg)
{
	struct slots *q = arg;
	volatile uint64_t sink;
	uint64_t sum = 0;

	for (uint64_t i = 0; i < SPSC_MESSAGES; i++) {
		_Atomic uint64_t *slot = q->slot[i % SPSC_SLOTS];

		while (atomic_load_explicit(&slot[0],
		    memory_order_acquire) != i + 1)
			cpu_relax();
		sum += atomic_load_explicit(&slot[1], memory_order_relaxed);
		if (q->payload)
			sum += atomic_load_explicit(
			    &q->line[i % PAYLOADS * APART][1],
			    memory_order_relaxed);
		if ((i + 1) % AT_ONCE == 0)
			atomic_store_explicit(&q->read, i + 1,
			    memory_order_release);
	}
	atomic_store_explicit(&q->read, SPSC_MESSAGES, memory_order_release);
	sink = sum;
	(void)sink;
}

static double bare_slots(bool payload)
{
	struct slots *q = bench_shared(sizeof(*q));
	double rate;

	q->payload = payload;
	rate = bench_pair(slots_write, slots_read, q);
	munmap(q, sizeof(*q));
	return rate;
}

/* ---- the bus ------------------------------------------------------------------------- */

static void put_one(zcp_pub *pub, const struct stream *s, uint64_t i)
{
	char text[32] = { 0 };
	zcp_chunk chunk;
	int rc;

	memcpy(text, &i, sizeof(i));
	if (s->how == INLINE) {
		rc = zcp_send(pub, text, s->size, 0, -1);
	} else if ((rc = zcp_loan(pub, s->size, &chunk, -1)) == 0) {
		memcpy(chunk.data, &i, sizeof(i));
		rc = zcp_publish(pub, &chunk, s->size, -1);
	}
	if (rc < 0)
		bench_check(rc);
}

static void put_many(zcp_pub *pub, const struct stream *s,
    const zcp_part *parts, uint64_t i)
{
	zcp_chunk chunk;

	bench_check(zcp_loan(pub, BATCH * s->size, &chunk, -1));
	for (uint64_t k = 0; k < BATCH; k++, i++)
		memcpy((char *)chunk.data + k * s->size, &i, sizeof(i));
	bench_check(zcp_publish_parts(pub, &chunk, parts, BATCH, -1));
}

static double stream_out(void *arg)
{
	zcp_pub_options po = { .stamp = ZCP_STAMP_NONE, .slots = 4096 };
	struct stream *s = arg;
	zcp_part parts[BATCH];
	zcp_pub *pub;
	zcp *bus;
	uint64_t t, i = 0;

	for (uint32_t k = 0; k < BATCH; k++)
		parts[k] = (zcp_part){ k * (uint32_t)s->size,
		    (uint32_t)s->size };
	bench_check(zcp_open(&bus, NULL));
	bench_check(zcp_offer(bus, "stream", &po, &pub));
	bench_check(zcp_pub_wait_readers(pub, 1, 5000000000));
	t = bench_ns();
	for (; i < s->messages; i += s->how == BATCHED ? BATCH : 1)
		if (s->how == BATCHED)
			put_many(pub, s, parts, i);
		else
			put_one(pub, s, i);
	/* The reader is done when it has left. */
	while (!s->lossy && zcp_pub_readers(pub) > 0)
		cpu_relax();
	t = bench_ns() - t;
	zcp_stop_offer(&pub);
	zcp_close(&bus);
	return (double)i * 1e9 / (double)t;
}

/* Until it has the last message, or a lossy reader's publisher has ended. */
static void stream_in(void *arg)
{
	struct stream *s = arg;
	zcp_sub_options so = { .lossy = s->lossy };
	volatile uint64_t sink;
	uint64_t got = 0, sum = 0, word;
	zcp_sub_info info;
	zcp_msg msg[AT_ONCE];
	zcp_sub *sub;
	zcp *bus;

	bench_check(zcp_open(&bus, NULL));
	bench_check(zcp_subscribe(bus, "stream", &so, &sub));
	while (got < s->messages) {
		int rc = zcp_take_batch(sub, msg, AT_ONCE);

		for (int i = 0; i < rc; i++) {
			memcpy(&word, msg[i].data, sizeof(word));
			sum += word;
		}
		if (rc > 0) {
			got += (uint64_t)rc;
			zcp_release_batch(sub, msg, (size_t)rc);
			continue;
		}
		if (rc != 0 && rc != -ZCP_E_LAPPED)
			bench_check(rc);
		cpu_relax();
		if (!s->lossy || rc != 0)
			continue;
		bench_check(zcp_sub_status(sub, &info));
		if (info.seen > 0 && info.publishers == 0)
			break;
	}
	s->got = got;
	sink = sum;
	(void)sink;
	zcp_unsubscribe(&sub);
	zcp_close(&bus);
}

static double stream(const struct stream *like)
{
	struct stream *s;
	double rate;

	if (like->how >= BARE_SLOTS)
		return bare_slots(like->how == BARE_PAYLOADS);
	s = bench_shared(sizeof(*s));
	*s = *like;
	rate = bench_pair(stream_out, stream_in, s);
	munmap(s, sizeof(*s));
	return rate;
}

/* ---- the table -------------------------------------------------------------------------- */

static const struct figure {
	struct stream stream;
	const char *name, *target;
} figures[] = {
	{ { INLINE, 32, 5000000, false, 0 }, "32 B inline", ">= 0.65" },
	{ { CHUNK_EACH, 64, 3000000, false, 0 }, "64 B, a chunk each",
	    ">= 0.4" },
	{ { CHUNK_EACH, 4096, 1000000, false, 0 }, "4 KiB, a chunk each", "" },
	{ { CHUNK_EACH, 65536, 1000000, false, 0 }, "64 KiB, a chunk each",
	    "" },
	{ { BATCHED, 32, 5000000, false, 0 }, "32 B, 64 a chunk", ">= 0.5" },
	{ { BATCHED, 64, 5000000, false, 0 }, "64 B, 64 a chunk", ">= 0.5" },
	{ { INLINE, 32, 5000000, true, 0 }, "32 B inline, to a lossy one", "" },
	{ { CHUNK_EACH, 64, 3000000, true, 0 }, "64 B chunk, to a lossy one",
	    "" },
	{ { BARE_SLOTS, 0, 0, false, 0 }, "bare ring of slots", "" },
	{ { BARE_PAYLOADS, 0, 0, false, 0 }, "bare ring of slots, and a line "
	    "each", "" },
};
enum { FIGURES = sizeof(figures) / sizeof(figures[0]) };

int main(int argc, char **argv)
{
	static const char *const options[] = { "--pool", "128:16384",
	    "--pool", "4K:1024", "--pool", "64K:256", NULL };
	static struct row row[FIGURES];
	static char name[FIGURES][64];
	int repeats = bench_repeats(argc, argv, 5);

	bench_daemon_start(options);
	for (int k = 0; k < FIGURES; k++) {
		snprintf(name[k], sizeof(name[k]), "msg/s, %s",
		    figures[k].name);
		row[k] = (struct row){ .name = name[k], .unit = "1/s",
		    .against = "bare SPSC ring", .target = figures[k].target };
	}
	for (int i = 0; i < repeats; i++)
		for (int k = 0; k < FIGURES; k++) {
			bench_settle();
			row_add(&row[k], stream(&figures[k].stream),
			    limit_spsc());
		}
	table_head();
	for (int k = 0; k < FIGURES; k++)
		row_print(&row[k]);
	bench_daemon_stop();
	return 0;
}
