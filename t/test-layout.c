/* Words, names, sets: what needs no second process. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "bell.h"
#include "clock.h"
#include "layout.h"
#include "pool.h"
#include "readers.h"
#include "ring.h"
#include "run.h"
#include "siphash.h"
#include "topic.h"
#include "zcp.h"

/* ---- words --------------------------------------------------------------------- */

START_TEST(a_word_gives_back_state_serial_and_number)
{
	uint64_t w = word_make(CHUNK_PUBLISHED, SERIAL_MASK, NUMBER_MASK - 1);

	ck_assert_int_eq(word_state(w), CHUNK_PUBLISHED);
	ck_assert_uint_eq(word_serial(w), SERIAL_MASK);
	ck_assert_uint_eq(word_number(w), NUMBER_MASK - 1);
}
END_TEST

START_TEST(numbers_compare_right_across_their_wrap)
{
	ck_assert_int_eq(number_diff(2, NUMBER_MASK), 3);
	ck_assert_int_eq(number_diff(NUMBER_MASK, 2), -3);
	ck_assert_uint_eq(number_widen((UINT64_C(7) << 40) - 5, 3),
	    (UINT64_C(7) << 40) + 3);
	ck_assert_uint_eq(number_widen((UINT64_C(7) << 40) + 3,
	    NUMBER_MASK - 4), (UINT64_C(7) << 40) - 5);
}
END_TEST

START_TEST(no_number_is_widened_to_one_that_no_stamp_can_say)
{
	ck_assert_uint_eq(number_widen(0, 3), 3);
	ck_assert_uint_eq(number_widen(0, NUMBER_MASK), NUMBER_MASK);
	ck_assert_uint_eq(number_widen(5, NUMBER_MASK - 4), NUMBER_MASK - 4);
	ck_assert_uint_eq(number_widen(0, UINT64_C(1) << 39),
	    UINT64_C(1) << 39);
	/* A damaged one claims to be beyond what a stamp can say. */
	ck_assert_uint_lt(number_widen(UINT64_MAX, 0), STAMP_BUSY);
	ck_assert_uint_lt(number_widen(STAMP_BUSY, NUMBER_MASK), STAMP_BUSY);
}
END_TEST

START_TEST(a_link_gives_back_its_four_parts)
{
	uint64_t link = link_make(0xfffff, 0xffff, SERIAL_MASK, 5);

	ck_assert_uint_eq(link_port(link), 0xfffff);
	ck_assert_uint_eq(link_cursor(link), 0xffff);
	ck_assert_uint_eq(link_serial(link), SERIAL_MASK);
	ck_assert_uint_eq(link_flags(link), 5);
}
END_TEST

/* ---- hashes --------------------------------------------------------------------- */

/* The vectors that its authors published: the bytes 0, 1, 2, ... under the key
 * of the bytes 0 to 15. */
START_TEST(siphash_gives_the_published_values)
{
	static const struct { size_t size; uint64_t hash; } vectors[] = {
		{ 0, UINT64_C(0x726fdb47dd0e0e31) },
		{ 1, UINT64_C(0x74f839c593dc67fd) },
		{ 2, UINT64_C(0x0d6c8009d9a94f5a) },
		{ 3, UINT64_C(0x85676696d7fb7e2d) },
		{ 4, UINT64_C(0xcf2794e0277187b7) },
		{ 5, UINT64_C(0x18765564cd99a68d) },
		{ 6, UINT64_C(0xcbc9466e58fee3ce) },
		{ 7, UINT64_C(0xab0200f58b01d137) },
		{ 8, UINT64_C(0x93f5f5799a932462) },
		{ 15, UINT64_C(0xa129ca6149be45e5) },
		{ 16, UINT64_C(0x3f2acc7f57c29bdb) },
		{ 63, UINT64_C(0x958a324ceb064572) },
	};
	unsigned char bytes[64];
	uint64_t key[2];

	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (unsigned char)i;
	memcpy(key, bytes, sizeof(key));
	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++)
		ck_assert_uint_eq(siphash(key, bytes, vectors[i].size),
		    vectors[i].hash);
}
END_TEST

/* ---- topics ----------------------------------------------------------------------- */

START_TEST(a_missing_part_is_default_in_a_topic_and_any_in_a_pattern)
{
	char name[TOPIC_NAME];

	ck_assert_int_eq(topic_parse("ticks", name), 0);
	ck_assert_str_eq(name, "ticks/default/default");
	ck_assert_int_eq(topic_parse("radar/front", name), 0);
	ck_assert_str_eq(name, "radar/front/default");
	ck_assert_int_eq(topic_parse("radar/*", name), 1);
	ck_assert_str_eq(name, "radar/*/*");
}
END_TEST

START_TEST(bad_topics_are_refused_with_their_fault)
{
	static const struct { const char *topic, *fault; } bad[] = {
		{ "", "empty" }, { "a//b", "empty" }, { "/a", "empty" },
		{ "a/", "empty" }, { "a/b/c/d", "three parts" },
		{ "a b", "' '" }, { "a:b", "':'" }, { "a\nb", "not allowed" },
		{ "0123456789012345678901234567890123456789012345678901234567"
		    "890123", "longer" },
	};
	char name[TOPIC_NAME];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		ck_assert_int_eq(topic_parse(bad[i].topic, name), -ZCP_E_ARG);
		ck_assert_msg(strstr(zcp_errmsg(), bad[i].fault) != NULL,
		    "'%s': %s", bad[i].topic, zcp_errmsg());
	}
}
END_TEST

START_TEST(a_pattern_matches_part_by_part)
{
	ck_assert(topic_matches("radar/*/objects", "radar/front/objects"));
	ck_assert(!topic_matches("radar/*/objects", "radar/front/raw"));
	ck_assert(!topic_matches("*/default/default", "a/b/default"));
	ck_assert(topic_matches("r?dar/[a-f]*/*", "radar/front/x"));
}
END_TEST

/* ---- held chunks ------------------------------------------------------------------- */

static const struct pools two_pools = { .count = 2,
	.pool = { { .limit = 100 }, { .limit = 10000 } } };

START_TEST(a_hold_set_has_what_was_added_and_nothing_else)
{
	struct hold_set set = { 0 };

	for (int round = 0; round < 2; round++) {
		for (uint32_t i = 0; i < 5000; i += 2)
			ck_assert(hold_set_add(&set, &two_pools, chunk_id(1, i)));
		for (uint32_t i = 0; i < 5000; i++)
			ck_assert_int_eq(hold_set_has(&set, chunk_id(1, i)),
			    i % 2 == 0);
		ck_assert_uint_eq(set.count, 2500);
		ck_assert(!hold_set_has(&set, chunk_id(0, 0)));
		hold_set_clear(&set);
		ck_assert(!hold_set_has(&set, chunk_id(1, 0)));
	}
	hold_set_free(&set);
}
END_TEST

/* Whatever a member writes where its holds are, the set stays as large as the
 * pools make it, and nothing is written beyond it. */
START_TEST(what_names_no_chunk_is_in_no_set)
{
	struct hold_set set = { 0 };

	ck_assert(hold_set_add(&set, &two_pools, chunk_id(0, 99)));
	for (uint32_t pool = 0; pool < 64; pool++)
		for (uint32_t i = 0; i < 26; i++)
			ck_assert(hold_set_add(&set, &two_pools,
			    chunk_id(pool, 99 + (1u << i))));
	for (uint32_t i = 0; i < 1000000; i++)
		ck_assert(hold_set_add(&set, &two_pools,
		    i * UINT32_C(2654435769)));
	ck_assert(!hold_set_has(&set, chunk_id(0, 100)));
	ck_assert(!hold_set_has(&set, chunk_id(1, 10000)));
	ck_assert(!hold_set_has(&set, chunk_id(2, 0)));
	ck_assert(!hold_set_has(&set, NO_CHUNK));
	ck_assert_uint_le(set.count, 100 + 10000);
	hold_set_free(&set);
}
END_TEST

static struct cursor *new_cursor(void)
{
	struct cursor *c = aligned_alloc(CACHE_LINE,
	    cursor_stride(MAX_HOLDS));

	ck_assert_ptr_nonnull(c);
	memset(c, 0, cursor_stride(MAX_HOLDS));
	return c;
}

START_TEST(shown_holds_are_collected_and_cleared_ones_are_not)
{
	struct cursor *c = new_cursor();
	struct hold_set set = { 0 };

	for (unsigned i = 0; i < MAX_HOLDS; i++)
		hold_show(c, i, chunk_id(1, 1000 + i));
	for (unsigned i = 0; i < MAX_HOLDS; i += 3)
		hold_clear(c, i);
	ck_assert(hold_set_collect(&set, &two_pools, c, MAX_HOLDS));
	for (unsigned i = 0; i < MAX_HOLDS; i++)
		ck_assert_int_eq(hold_set_has(&set, chunk_id(1, 1000 + i)),
		    i % 3 != 0);
	hold_set_free(&set);
	free(c);
}
END_TEST

/* ---- limits ---------------------------------------------------------------------------- */

struct audience {
	struct reader reader[3];
	struct subscription subscription;
	struct reader_set set;
	struct ring_view view;
};

static struct audience *audience(void)
{
	struct audience *a = aligned_alloc(CACHE_LINE,
	    (sizeof(*a) + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE);

	ck_assert_ptr_nonnull(a);
	memset(a, 0, sizeof(*a));
	for (int i = 0; i < 3; i++)
		a->reader[i] = (struct reader){ .cursor = new_cursor(),
		    .subscription = &a->subscription,
		    .link = link_make(0, 0, 9, LINK_RELIABLE) };
	a->set = (struct reader_set){ .reader = a->reader, .count = 3 };
	a->view = (struct ring_view){ .serial = 7, .tail = 100, .head = 150,
	    .slots = 64 };
	return a;
}

static void at(struct audience *a, int reader, uint64_t seq, uint32_t flags)
{
	a->reader[reader].link = link_make(0, 0, 9, flags);
	cursor_store(a->reader[reader].cursor, word_make(0, 7, seq));
}

static void dismiss(struct audience *a)
{
	for (int i = 0; i < 3; i++)
		free(a->reader[i].cursor);
	free(a);
}

START_TEST(the_slowest_reliable_reader_is_the_limit)
{
	struct audience *a = audience();

	at(a, 0, 140, LINK_RELIABLE);
	at(a, 1, 120, LINK_RELIABLE);
	at(a, 2, 130, LINK_RELIABLE);
	ck_assert_uint_eq(readers_limits(&a->set, &a->view).promised, 120);
	ck_assert_uint_eq(readers_limits(&a->set, &a->view).kept, 120);
	dismiss(a);
}
END_TEST

START_TEST(lossy_and_demoted_readers_keep_only_their_depth)
{
	struct audience *a = audience();

	at(a, 0, 145, LINK_RELIABLE);
	at(a, 1, 101, 0);
	at(a, 2, 102, LINK_RELIABLE | LINK_DEMOTED);
	a->reader[1].depth = 10;
	a->reader[2].depth = 20;
	ck_assert_uint_eq(readers_limits(&a->set, &a->view).kept, 130);
	ck_assert_uint_eq(readers_limits(&a->set, &a->view).promised, 145);
	ck_assert_uint_eq(readers_limits(&a->set, &a->view).behind, 101);
	dismiss(a);
}
END_TEST

START_TEST(history_is_kept_whatever_the_readers_have_read)
{
	struct audience *a = audience();

	for (int i = 0; i < 3; i++)
		at(a, i, 150, LINK_RELIABLE);
	a->view.history = 8;
	ck_assert_uint_eq(readers_limits(&a->set, &a->view).promised, 142);
	dismiss(a);
}
END_TEST

START_TEST(a_reader_that_was_first_gates_at_the_tail_until_it_has_joined)
{
	struct audience *a = audience();
	struct limits l;

	at(a, 0, 150, LINK_RELIABLE);
	at(a, 1, 150, LINK_RELIABLE);
	a->reader[2].link = link_make(0, 0, 9, LINK_RELIABLE | LINK_FROM_START);
	fact_publish32(&a->subscription.opened, 1);
	l = readers_limits(&a->set, &a->view);
	ck_assert_uint_eq(l.promised, 100);
	ck_assert(l.unjoined);
	/* A registration whose owner never heard of it leaves no gate. */
	fact_publish32(&a->subscription.opened, 0);
	ck_assert_uint_eq(readers_limits(&a->set, &a->view).promised, 150);
	dismiss(a);
}
END_TEST

START_TEST(a_reader_found_dead_neither_gates_nor_counts)
{
	struct audience *a = audience();

	at(a, 0, 150, LINK_RELIABLE);
	at(a, 1, 101, LINK_RELIABLE);
	at(a, 2, 150, LINK_RELIABLE);
	a->reader[1].dead = true;
	ck_assert_uint_eq(readers_limits(&a->set, &a->view).promised, 150);
	dismiss(a);
}
END_TEST

START_TEST(a_cursor_of_another_port_is_no_cursor)
{
	struct audience *a = audience();
	uint64_t c;

	cursor_store(a->reader[0].cursor, word_make(0, 8, 120));
	ck_assert(!reader_cursor(&a->reader[0], &a->view, &c));
	cursor_store(a->reader[0].cursor, word_make(0, 7, 120));
	ck_assert(reader_cursor(&a->reader[0], &a->view, &c));
	ck_assert_uint_eq(c, 120);
	/* Nonsense is brought within the ring. */
	cursor_store(a->reader[0].cursor, word_make(0, 7, 5000));
	ck_assert(reader_cursor(&a->reader[0], &a->view, &c));
	ck_assert_uint_eq(c, 150);
	dismiss(a);
}
END_TEST

/* ---- ring --------------------------------------------------------------------------------- */

enum { SLOTS = 8 };

static struct ring *new_ring(void)
{
	struct ring *ring = aligned_alloc(CACHE_LINE, ring_bytes(SLOTS));

	ck_assert_ptr_nonnull(ring);
	memset(ring, 0, ring_bytes(SLOTS));
	return ring;
}

START_TEST(a_slot_is_empty_then_a_message_then_overtaken)
{
	struct message in = { .chunk = CHUNK_INLINE, .length = 8, .kind = 3,
	    .time = 99 }, out;
	uint64_t body[4] = { 42 }, copy[4];
	struct ring *ring = new_ring();

	ck_assert_int_eq(ring_get(ring, SLOTS - 1, 5, &out,
	    copy), SLOT_EMPTY);
	ring_put(ring, SLOTS - 1, 5, &in, body);
	ck_assert_int_eq(ring_get(ring, SLOTS - 1, 5, &out,
	    copy), SLOT_MESSAGE);
	ck_assert_uint_eq(copy[0], 42);
	ck_assert_uint_eq(out.kind, 3);
	ck_assert_uint_eq(out.time, 99);
	ring_put(ring, SLOTS - 1, 5 + SLOTS, &in, body);
	ck_assert_int_eq(ring_get(ring, SLOTS - 1, 5, &out,
	    copy), SLOT_OVERTAKEN);
	free(ring);
}
END_TEST

START_TEST(a_slot_that_its_writer_left_half_done_is_never_believed)
{
	struct message in = { .chunk = CHUNK_INLINE, .length = 8 }, out;
	struct ring *ring = new_ring();
	uint64_t copy[4] = { 0 };

	ring_put(ring, SLOTS - 1, 0, &in, copy);
	slot_begin(&ring->slot[0], SLOTS);
	ck_assert_int_eq(ring_get(ring, SLOTS - 1, 0, &out,
	    copy), SLOT_OVERTAKEN);
	ck_assert_int_eq(ring_get(ring, SLOTS - 1, SLOTS, &out,
	    copy), SLOT_EMPTY);
	free(ring);
}
END_TEST

START_TEST(the_end_of_a_ring_is_the_first_slot_without_its_stamp)
{
	struct message in = { .chunk = CHUNK_INLINE };
	struct ring *ring = new_ring();
	uint64_t body[4] = { 0 };

	for (uint64_t seq = 0; seq < 11; seq++)
		ring_put(ring, SLOTS - 1, seq, &in, body);
	ck_assert_uint_eq(ring_end(ring, SLOTS - 1, 6, 6), 11);
	ck_assert_uint_eq(ring_end(ring, SLOTS - 1, 6, 10), 11);
	/* A head that lies is found out. */
	ck_assert_uint_eq(ring_end(ring, SLOTS - 1, 6, 999), 11);
	ck_assert_uint_eq(ring_end(ring, SLOTS - 1, 6, 13), 11);
	free(ring);
}
END_TEST

struct race {
	struct ring *ring;
	_Atomic int stop;
};

static void *rewrite(void *arg)
{
	struct race *race = arg;

	for (uint64_t seq = 0; !atomic_load(&race->stop); seq += 1) {
		struct message m = { .chunk = CHUNK_INLINE, .length = 32,
		    .kind = (uint32_t)seq, .time = seq };
		uint64_t body[4] = { seq, seq, seq, seq };

		ring_put(race->ring, SLOTS - 1, seq, &m, body);
	}
	return NULL;
}

START_TEST(a_copy_made_during_a_rewrite_is_whole_or_refused)
{
	struct race race = { new_ring(), 0 };
	uint64_t seq = 0, whole = 0, body[4];
	uint64_t enough = deadline_after(10 * NS_PER_S);
	struct message m;
	pthread_t writer;

	ck_assert_int_eq(pthread_create(&writer, NULL, rewrite, &race), 0);
	/* Beside each other they are soon there; by turns on one processor there
	 * are few copies in each. */
	while (whole < 200000 && (whole < 100 || clock_ns() < enough)) {
		switch (ring_get(race.ring, SLOTS - 1, seq, &m, body)) {
		case SLOT_MESSAGE:
			ck_assert(m.time == seq && m.kind == (uint32_t)seq);
			for (int i = 0; i < 4; i++)
				ck_assert_uint_eq(body[i], seq);
			whole++;
			seq++;
			break;
		case SLOT_OVERTAKEN:
			/* Jump to where the writer is. */
			seq = (slot_stamp(&race.ring->slot[seq % SLOTS]) &
			    ~STAMP_BUSY);
			break;
		case SLOT_EMPTY:
			break;
		}
	}
	atomic_store(&race.stop, 1);
	pthread_join(writer, NULL);
	free(race.ring);
}
END_TEST

/* ---- pools ----------------------------------------------------------------------------------- */

enum { CHUNKS = 200 };

struct some_pool {
	struct pool_descriptor desc;
	shared_u64 word[CHUNKS], hint[(CHUNKS + 63) / 64];
	struct pools pools;
};

static struct some_pool *new_pool(void)
{
	struct some_pool *p = aligned_alloc(CACHE_LINE,
	    (sizeof(*p) + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE);

	ck_assert_ptr_nonnull(p);
	memset(p, 0, sizeof(*p));
	p->desc.count = CHUNKS;
	for (int i = 0; i < CHUNKS; i++)
		p->word[i] = word_make(CHUNK_FREE, 0, 0);
	p->pools.count = 1;
	p->pools.pool[0] = (struct pool){ .desc = &p->desc, .word = p->word,
	    .hint = p->hint, .chunk_size = 64, .limit = CHUNKS };
	return p;
}

START_TEST(free_chunks_are_found_without_any_hint)
{
	struct some_pool *p = new_pool();
	uint32_t from = 0;

	for (int i = 0; i < CHUNKS; i++)
		ck_assert_uint_ne(pool_take(&p->pools, 0, 1, &from), NO_CHUNK);
	ck_assert_uint_eq(pool_take(&p->pools, 0, 1, &from), NO_CHUNK);
	free(p);
}
END_TEST

START_TEST(a_hint_for_a_chunk_that_is_not_free_gives_nothing_away)
{
	struct some_pool *p = new_pool();
	uint32_t from = 0;

	for (int i = 0; i < CHUNKS; i++)
		p->word[i] = word_make(CHUNK_PUBLISHED, 3, 5);
	memset((void *)p->hint, 0xff, sizeof(p->hint));
	ck_assert_uint_eq(pool_take(&p->pools, 0, 1, &from), NO_CHUNK);
	free(p);
}
END_TEST

START_TEST(a_chunk_is_freed_only_from_the_word_that_was_judged)
{
	struct some_pool *p = new_pool();
	uint32_t from = 0, id = pool_take(&p->pools, 0, 1, &from);

	ck_assert(!pool_free(&p->pools, id, word_make(CHUNK_LOANED, 2, 0)));
	ck_assert(pool_free(&p->pools, id, word_make(CHUNK_LOANED, 1, 0)));
	ck_assert(!pool_free(&p->pools, id, word_make(CHUNK_LOANED, 1, 0)));
	free(p);
}
END_TEST

struct taker {
	struct some_pool *pool;
	uint32_t serial;
	uint64_t taken;
};

static void *take_and_free(void *arg)
{
	struct taker *t = arg;
	uint32_t from = 0;

	for (int i = 0; i < 100000; i++) {
		uint32_t id = pool_take(&t->pool->pools, 0, t->serial, &from);

		if (id == NO_CHUNK)
			continue;
		t->taken++;
		/* Ours alone: nobody else can have changed the word. */
		ck_assert(pool_free(&t->pool->pools, id,
		    word_make(CHUNK_LOANED, t->serial, 0)));
	}
	return NULL;
}

START_TEST(a_chunk_is_never_loaned_twice)
{
	struct some_pool *p = new_pool();
	struct taker taker[4];
	pthread_t thread[4];

	p->desc.count = 3;		/* fewer than takers: they collide */
	for (uint32_t i = 0; i < 4; i++) {
		taker[i] = (struct taker){ p, i + 1, 0 };
		ck_assert_int_eq(pthread_create(&thread[i], NULL,
		    take_and_free, &taker[i]), 0);
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(thread[i], NULL);
		ck_assert_uint_gt(taker[i].taken, 0);
	}
	for (int i = 0; i < 3; i++)
		ck_assert_uint_eq(p->word[i], word_make(CHUNK_FREE, 0, 0));
	free(p);
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("layout");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, a_word_gives_back_state_serial_and_number);
	tcase_add_test(t, numbers_compare_right_across_their_wrap);
	tcase_add_test(t, siphash_gives_the_published_values);
	tcase_add_test(t, no_number_is_widened_to_one_that_no_stamp_can_say);
	tcase_add_test(t, a_link_gives_back_its_four_parts);
	tcase_add_test(t,
	    a_missing_part_is_default_in_a_topic_and_any_in_a_pattern);
	tcase_add_test(t, bad_topics_are_refused_with_their_fault);
	tcase_add_test(t, a_pattern_matches_part_by_part);
	tcase_add_test(t, a_hold_set_has_what_was_added_and_nothing_else);
	tcase_add_test(t, what_names_no_chunk_is_in_no_set);
	tcase_add_test(t, shown_holds_are_collected_and_cleared_ones_are_not);
	tcase_add_test(t, the_slowest_reliable_reader_is_the_limit);
	tcase_add_test(t, lossy_and_demoted_readers_keep_only_their_depth);
	tcase_add_test(t, history_is_kept_whatever_the_readers_have_read);
	tcase_add_test(t,
	    a_reader_that_was_first_gates_at_the_tail_until_it_has_joined);
	tcase_add_test(t, a_reader_found_dead_neither_gates_nor_counts);
	tcase_add_test(t, a_cursor_of_another_port_is_no_cursor);
	tcase_add_test(t, a_slot_is_empty_then_a_message_then_overtaken);
	tcase_add_test(t,
	    a_slot_that_its_writer_left_half_done_is_never_believed);
	tcase_add_test(t,
	    the_end_of_a_ring_is_the_first_slot_without_its_stamp);
	tcase_add_test(t, a_copy_made_during_a_rewrite_is_whole_or_refused);
	tcase_add_test(t, free_chunks_are_found_without_any_hint);
	tcase_add_test(t,
	    a_hint_for_a_chunk_that_is_not_free_gives_nothing_away);
	tcase_add_test(t, a_chunk_is_freed_only_from_the_word_that_was_judged);
	tcase_add_test(t, a_chunk_is_never_loaned_twice);
	return run_tests("layout", t);
}
