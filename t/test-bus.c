/* Publishing, taking, reclaiming: one process, a real daemon, three modes. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "scene.h"

/* ---- messages ------------------------------------------------------------------- */

START_TEST(messages_of_every_size_arrive_as_they_were_sent)
{
	static const size_t sizes[] = { 0, 1, 31, 32, 33, 128, 129, 4096 };
	char message[4096];
	zcp_sub *sub;
	zcp_pub *pub;

	start(_i);
	sub = subscribe(ZCP_RELIABLE);
	pub = offer(0, 0);
	for (size_t i = 0; i < sizeof(message); i++)
		message[i] = (char)(i * 31 + 7);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		zcp_msg msg;

		must(zcp_send(pub, message, sizes[i], (uint32_t)i, PATIENCE));
		ck_assert_int_eq(take_wait(sub, &msg), 1);
		ck_assert_uint_eq(msg.size, sizes[i]);
		ck_assert_uint_eq(msg.kind, i);
		ck_assert_uint_eq(msg.seq, i);
		ck_assert_int_eq(memcmp(msg.data, message, sizes[i]), 0);
		zcp_release(sub, &msg);
	}
	zcp_stop_offer(&pub);
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

START_TEST(a_reader_that_was_first_misses_nothing_of_a_long_stream)
{
	enum { COUNT = 20000 };
	zcp_sub *sub;
	zcp_pub *pub;

	start(_i);
	sub = subscribe(ZCP_RELIABLE);
	pub = offer(64, 0);
	for (uint64_t sent = 0, got = 0; got < COUNT;) {
		zcp_msg msg;
		char m[100] = { 0 };
		int rc;

		memcpy(m, &sent, sizeof(sent));
		/* Sometimes in the slot, sometimes in a chunk. */
		if (sent < COUNT) {
			rc = zcp_send(pub, m, sent % 3 ? 8 : 100, 0, 0);
			if (rc > 0)
				sent++;
			else
				ck_assert(rc == -ZCP_E_TIMEOUT ||
				    rc == -ZCP_E_NOMEM);
		}
		if (sent % 5 == 0 || sent == COUNT)
			while ((rc = zcp_take(sub, &msg)) > 0) {
				ck_assert_uint_eq(number(&msg), got);
				got++;
				zcp_release(sub, &msg);
			}
	}
	zcp_stop_offer(&pub);
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

START_TEST(several_messages_of_one_chunk_are_one_unit_of_memory)
{
	zcp_part parts[] = { { 0, 10 }, { 10, 20 }, { 30, 0 }, { 100, 28 } };
	zcp_chunk chunk;
	zcp_msg msg[4];
	zcp_sub *sub;
	zcp_pub *pub;

	start(_i);
	sub = subscribe(ZCP_RELIABLE);
	pub = offer(8, 0);
	must(zcp_loan(pub, 128, &chunk, 0));
	for (int i = 0; i < 128; i++)
		((char *)chunk.data)[i] = (char)i;
	ck_assert_int_eq(zcp_publish_parts(pub, &chunk, parts, 4, PATIENCE), 4);
	ck_assert_ptr_null(chunk.data);
	for (int i = 0; i < 4; i++) {
		ck_assert_int_eq(take_wait(sub, &msg[i]), 1);
		ck_assert_uint_eq(msg[i].size, parts[i].length);
		ck_assert(msg[i].size == 0 ||
		    ((const char *)msg[i].data)[0] == (char)parts[i].offset);
	}
	ck_assert_uint_eq(pool_number(128, "published"), 1);
	for (int i = 0; i < 4; i++)
		zcp_release(sub, &msg[i]);
	zcp_stop_offer(&pub);
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

START_TEST(more_parts_than_the_ring_has_slots_go_out_as_readers_make_room)
{
	enum { PARTS = 50 };
	zcp_part parts[PARTS];
	zcp_chunk chunk;
	zcp_sub *sub;
	zcp_pub *pub;
	zcp_msg msg;
	int done;

	start(_i);
	sub = subscribe(ZCP_RELIABLE);
	pub = offer(8, 0);
	must(zcp_loan(pub, 1000, &chunk, 0));
	for (uint32_t i = 0; i < PARTS; i++) {
		uint64_t n = i;

		parts[i] = (zcp_part){ i * 8, 8 };
		memcpy((char *)chunk.data + i * 8, &n, 8);
	}
	done = zcp_publish_parts(pub, &chunk, parts, PARTS, 0);
	ck_assert_int_eq(done, 8);
	ck_assert_ptr_nonnull(chunk.data);
	/* The rest of that chunk comes first. */
	ck_assert_int_eq(zcp_send(pub, "x", 1, 0, 0), -ZCP_E_BUSY);
	for (uint64_t got = 0; got < PARTS; got++) {
		ck_assert_int_eq(take_wait(sub, &msg), 1);
		ck_assert_uint_eq(number(&msg), got);
		zcp_release(sub, &msg);
		if (done < PARTS) {
			int rc = zcp_publish_parts(pub, &chunk, parts + done,
			    (size_t)(PARTS - done), 0);

			ck_assert(rc > 0 || rc == -ZCP_E_TIMEOUT);
			done += rc > 0 ? rc : 0;
		}
	}
	ck_assert_ptr_null(chunk.data);
	zcp_stop_offer(&pub);
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

START_TEST(the_rest_of_a_chunk_may_be_discarded)
{
	zcp_part parts[20];
	zcp_chunk chunk;
	zcp_sub *sub;
	zcp_pub *pub;

	start(_i);
	sub = subscribe(ZCP_RELIABLE);
	pub = offer(8, 0);
	must(zcp_loan(pub, 1000, &chunk, 0));
	for (uint32_t i = 0; i < 20; i++) {
		uint64_t n = i;

		parts[i] = (zcp_part){ i * 8, 8 };
		memcpy((char *)chunk.data + i * 8, &n, 8);
	}
	ck_assert_int_eq(zcp_publish_parts(pub, &chunk, parts, 20, 0), 8);
	zcp_discard(pub, &chunk);
	for (uint64_t i = 0; i < 8; i++)
		expect(sub, i);
	send_number(pub, 99, 100);
	expect(sub, 99);
	zcp_stop_offer(&pub);
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

/* ---- waiting ------------------------------------------------------------------------ */

struct late {
	zcp_pub *pub;
	uint64_t count;
};

static void *publish_slowly(void *arg)
{
	struct late *late = arg;

	for (uint64_t i = 0; i < late->count; i++) {
		usleep(2000);
		send_number(late->pub, i, i % 2 ? 8 : 200);
	}
	return NULL;
}

START_TEST(a_sleeping_reader_is_woken_by_each_message)
{
	struct late late = { .count = 200 };
	pthread_t thread;
	zcp_sub *sub;

	start(_i);
	sub = subscribe(ZCP_RELIABLE);
	late.pub = offer(0, 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, publish_slowly,
	    &late), 0);
	for (uint64_t i = 0; i < late.count; i++)
		expect(sub, i);
	pthread_join(thread, NULL);
	zcp_stop_offer(&late.pub);
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

static void *take_slowly(void *arg)
{
	for (uint64_t i = 0; i < 200; i++) {
		if (i % 16 == 0)
			usleep(3000);
		expect(arg, i);
	}
	return NULL;
}

START_TEST(a_publisher_sleeps_until_its_reader_makes_room)
{
	pthread_t thread;
	zcp_pub_info info;
	zcp_sub *sub;
	zcp_pub *pub;

	start(_i);
	sub = subscribe(ZCP_RELIABLE);
	pub = offer(8, 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, take_slowly, sub), 0);
	for (uint64_t i = 0; i < 200; i++)
		send_number(pub, i, 200);
	pthread_join(thread, NULL);
	zcp_pub_status(pub, &info);
	ck_assert_uint_eq(info.messages, 200);
	ck_assert_uint_gt(info.waits, 0);
	zcp_stop_offer(&pub);
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

START_TEST(a_timeout_is_kept_and_named)
{
	zcp_sub *sub;
	zcp_pub *pub;
	uint64_t before;
	zcp_msg msg;
	char who[128];

	start(_i);
	sub = subscribe(ZCP_RELIABLE);
	pub = offer(8, 0);
	/* The publisher is news, once. */
	ck_assert_int_eq(zcp_wait(sub, PATIENCE), 1);
	ck_assert_int_eq(zcp_take(sub, &msg), 0);
	before = clock_ns();
	ck_assert_int_eq(zcp_wait(sub, 20 * NS_PER_MS), 0);
	ck_assert_uint_ge(clock_ns() - before, 20 * NS_PER_MS);
	for (uint64_t i = 0; i < 8; i++)
		send_number(pub, i, 8);
	ck_assert_int_eq(zcp_send(pub, "x", 1, 0, 0), -ZCP_E_TIMEOUT);
	before = clock_ns();
	ck_assert_int_eq(zcp_send(pub, "x", 1, 0, 20 * NS_PER_MS),
	    -ZCP_E_TIMEOUT);
	ck_assert_uint_ge(clock_ns() - before, 20 * NS_PER_MS);
	ck_assert_ptr_nonnull(strstr(zcp_errmsg(), "t/default/default"));
	ck_assert_int_eq(zcp_pub_blocker(pub, who, sizeof(who)), 1);
	ck_assert_msg(strstr(who, "test (pid") != NULL &&
	    strstr(who, "8 messages behind") != NULL, "%s", who);
	zcp_stop_offer(&pub);
	for (uint64_t i = 0; i < 8; i++)
		expect(sub, i);
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

static void *unsubscribe_soon(void *arg)
{
	zcp_sub *sub = arg;

	usleep(20000);
	zcp_unsubscribe(&sub);
	return NULL;
}

START_TEST(a_reader_that_leaves_lets_the_publisher_go_on)
{
	pthread_t thread;
	zcp_sub *sub;
	zcp_pub *pub;

	start(_i);
	sub = subscribe(ZCP_RELIABLE);
	pub = offer(8, 0);
	for (uint64_t i = 0; i < 8; i++)
		send_number(pub, i, 8);
	ck_assert_int_eq(pthread_create(&thread, NULL, unsubscribe_soon,
	    sub), 0);
	send_number(pub, 8, 8);
	pthread_join(thread, NULL);
	zcp_stop_offer(&pub);
	stop();
}
END_TEST

START_TEST(a_publisher_can_wait_for_its_audience)
{
	zcp_sub *sub;
	zcp_pub *pub;

	start(_i);
	pub = offer(0, 0);
	ck_assert_int_eq(zcp_pub_readers(pub), 0);
	ck_assert_int_eq(zcp_pub_wait_readers(pub, 1, NS_PER_MS),
	    -ZCP_E_TIMEOUT);
	sub = subscribe(ZCP_RELIABLE);
	ck_assert_int_eq(zcp_pub_wait_readers(pub, 1, PATIENCE), 1);
	zcp_stop_offer(&pub);
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

/* ---- lossy readers ------------------------------------------------------------------ */

START_TEST(lapped_reader_is_told_how_many_it_lost)
{
	uint64_t expected = 0, lost = 0;
	zcp_msg msg;
	zcp_sub *sub;
	zcp_pub *pub;
	int rc;

	start(_i);
	sub = subscribe(ZCP_LOSSY);
	pub = offer(16, 0);
	for (uint64_t i = 0; i < 1000; i++) {
		send_number(pub, i, i % 2 ? 8 : 64);
		if (i % 100 != 99)
			continue;
		while ((rc = zcp_take(sub, &msg)) != 0) {
			if (rc == -ZCP_E_LAPPED) {
				lost += msg.lost;
				expected += msg.lost;
				continue;
			}
			must(rc);
			ck_assert_uint_eq(number(&msg), expected++);
			zcp_release(sub, &msg);
		}
	}
	ck_assert_uint_eq(expected, 1000);
	ck_assert_uint_gt(lost, 0);
	zcp_stop_offer(&pub);
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

START_TEST(status_counts_a_loss_before_the_take_that_tells_of_it)
{
	zcp_sub_info before, after;
	zcp_msg msg;
	zcp_sub *sub;
	zcp_pub *pub;

	start(_i);
	sub = subscribe(ZCP_LOSSY);
	pub = offer(16, 0);
	send_number(pub, 0, 8);
	expect(sub, 0);
	for (uint64_t i = 1; i < 100; i++)
		send_number(pub, i, 8);
	must(zcp_sub_status(sub, &before));
	ck_assert_int_eq(zcp_take(sub, &msg), -ZCP_E_LAPPED);
	ck_assert_uint_eq(before.lost, msg.lost);
	must(zcp_sub_status(sub, &after));
	ck_assert_uint_eq(after.lost, msg.lost);
	zcp_stop_offer(&pub);
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

START_TEST(what_a_lossy_reader_holds_is_not_overwritten)
{
	zcp_msg msg, other;
	zcp_sub *sub;
	zcp_pub *pub;

	start(_i);
	sub = subscribe(ZCP_LOSSY);
	pub = offer(8, 0);
	send_number(pub, 4711, 100);
	ck_assert_int_eq(take_wait(sub, &msg), 1);
	/* Many times the ring and the pools. */
	for (uint64_t i = 0; i < 500; i++)
		send_number(pub, i, 100);
	ck_assert_uint_eq(number(&msg), 4711);
	zcp_release(sub, &msg);
	ck_assert_int_eq(zcp_take(sub, &other), -ZCP_E_LAPPED);
	zcp_stop_offer(&pub);
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

START_TEST(lossy_readers_leave_half_of_every_pool_alone)
{
	zcp_sub *sub;
	zcp_pub *pub;

	start(_i);
	sub = subscribe(ZCP_LOSSY);
	pub = offer(1024, 0);
	/* 16 and 8 chunks; the ring would keep 512 messages. */
	for (uint64_t i = 0; i < 300; i++)
		send_number(pub, i, 100);
	ck_assert_uint_le(pool_number(4096, "published"), 4);
	zcp_stop_offer(&pub);
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

/* ---- memory ----------------------------------------------------------------------------- */

START_TEST(the_smallest_class_that_fits_is_taken_then_the_next)
{
	zcp_chunk chunk[24];
	zcp_pub *pub;

	start(_i);
	pub = offer(0, 0);
	for (int i = 0; i < 24; i++) {
		must(zcp_loan(pub, 100, &chunk[i], 0));
		ck_assert_uint_eq(chunk[i].size, i < 16 ? 128 : 4096);
		ck_assert_uint_eq((uintptr_t)chunk[i].data % 64, 0);
	}
	ck_assert_int_eq(zcp_loan(pub, 1, &(zcp_chunk){ 0 }, 0),
	    -ZCP_E_NOMEM);
	ck_assert_ptr_nonnull(strstr(zcp_errmsg(), "t/default/default"));
	for (int i = 0; i < 24; i++)
		zcp_discard(pub, &chunk[i]);
	ck_assert_uint_eq(pool_number(128, "free"), 16);
	zcp_stop_offer(&pub);
	stop();
}
END_TEST

START_TEST(an_oversize_loan_names_its_size_and_the_largest_pool)
{
	zcp_chunk chunk;
	zcp_pub *pub;

	start(_i);
	pub = offer(0, 0);
	ck_assert_int_eq(zcp_loan(pub, 90000, &chunk, -1), -ZCP_E_TOOBIG);
	ck_assert_ptr_nonnull(strstr(zcp_errmsg(), "90000"));
	ck_assert_ptr_nonnull(strstr(zcp_errmsg(), "4096"));
	zcp_stop_offer(&pub);
	stop();
}
END_TEST

START_TEST(a_chunk_is_published_once_and_by_its_own_publisher)
{
	zcp_chunk chunk, copy;
	zcp_pub *pub, *other;

	start(_i);
	pub = offer(0, 0);
	other = offer(0, 0);
	must(zcp_loan(pub, 10, &chunk, 0));
	copy = chunk;
	ck_assert_int_eq(zcp_publish(other, &copy, 10, 0), -ZCP_E_ARG);
	ck_assert_int_eq(zcp_publish(pub, &chunk, 1000, 0), -ZCP_E_ARG);
	ck_assert_int_eq(zcp_publish(pub, &chunk, 10, 0), 1);
	ck_assert_int_eq(zcp_publish(pub, &copy, 10, 0), -ZCP_E_ARG);
	ck_assert_int_eq(zcp_publish(pub, &chunk, 10, 0), -ZCP_E_ARG);
	zcp_stop_offer(&pub);
	zcp_stop_offer(&other);
	stop();
}
END_TEST

START_TEST(loans_end_with_their_publisher)
{
	zcp_chunk chunk;
	zcp_pub *pub;

	start(_i);
	pub = offer(0, 0);
	for (int i = 0; i < 5; i++)
		must(zcp_loan(pub, 10, &chunk, 0));
	zcp_stop_offer(&pub);
	all_chunks_come_back();
	stop();
}
END_TEST

START_TEST(one_hold_more_than_agreed_is_an_error_that_names_it)
{
	zcp_sub_options o = { .holds = 3 };
	zcp_msg msg[4];
	zcp_sub *sub;
	zcp_pub *pub;

	start(_i);
	must(zcp_subscribe(bus, "t", &o, &sub));
	pub = offer(0, 0);
	for (uint64_t i = 0; i < 4; i++)
		send_number(pub, i, 100);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(take_wait(sub, &msg[i]), 1);
	ck_assert_int_eq(zcp_take(sub, &msg[3]), -ZCP_E_HOLDS);
	ck_assert_ptr_nonnull(strstr(zcp_errmsg(), "3 chunks"));
	zcp_release(sub, &msg[1]);
	ck_assert_int_eq(zcp_take(sub, &msg[3]), 1);
	ck_assert_uint_eq(number(&msg[3]), 3);
	ck_assert_uint_eq(number(&msg[0]), 0);
	zcp_release(sub, &msg[0]);
	zcp_release(sub, &msg[2]);
	zcp_release(sub, &msg[3]);
	zcp_release(sub, &msg[3]);	/* twice is harmless */
	zcp_stop_offer(&pub);
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

START_TEST(what_is_held_at_the_end_of_its_publisher_stays_readable)
{
	zcp_msg msg;
	zcp_sub *sub;
	zcp_pub *pub;

	start(_i);
	sub = subscribe(ZCP_RELIABLE);
	pub = offer(0, 0);
	send_number(pub, 7, 100);
	ck_assert_int_eq(take_wait(sub, &msg), 1);
	zcp_stop_offer(&pub);
	pub = offer(0, 0);
	for (uint64_t i = 0; i < 200; i++) {
		zcp_msg next;

		send_number(pub, i, 100);
		ck_assert_int_eq(take_wait(sub, &next), 1);
		zcp_release(sub, &next);
	}
	ck_assert_uint_eq(number(&msg), 7);
	zcp_release(sub, &msg);
	zcp_stop_offer(&pub);
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

START_TEST(a_starving_publisher_takes_what_an_idle_one_keeps)
{
	zcp_sub *sub;
	zcp_pub *idle, *pub;

	start(_i);
	sub = subscribe(ZCP_RELIABLE);
	idle = offer(1024, 0);
	for (uint64_t i = 0; i < 24; i++) {
		send_number(idle, i, 100);
		expect(sub, i);
	}
	/* All 24 chunks may still lie in the idle ring, read by everybody. */
	pub = offer(1024, 0);
	for (uint64_t i = 0; i < 100; i++) {
		send_number(pub, i, 100);
		expect(sub, i);
	}
	zcp_stop_offer(&idle);
	zcp_stop_offer(&pub);
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

/* ---- joining and ending ------------------------------------------------------------------- */

START_TEST(a_late_reader_gets_the_history_offered_and_then_what_comes)
{
	zcp_sub *sub;
	zcp_pub *pub;

	start(_i);
	pub = offer(64, 4);
	for (uint64_t i = 0; i < 50; i++)
		send_number(pub, i, i % 2 ? 8 : 100);
	sub = subscribe(ZCP_RELIABLE);
	for (uint64_t i = 46; i < 50; i++)
		expect(sub, i);
	send_number(pub, 50, 8);
	expect(sub, 50);
	zcp_stop_offer(&pub);
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

START_TEST(a_reader_may_decline_the_history)
{
	zcp_sub_options o = { .from_end = 1 };
	zcp_sub *sub;
	zcp_pub *pub;

	start(_i);
	pub = offer(64, 4);
	for (uint64_t i = 0; i < 10; i++)
		send_number(pub, i, 8);
	must(zcp_subscribe(bus, "t", &o, &sub));
	send_number(pub, 10, 8);
	expect(sub, 10);
	zcp_stop_offer(&pub);
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

START_TEST(what_a_reliable_reader_has_not_read_outlives_its_publisher)
{
	zcp_sub_info info;
	zcp_sub *sub;
	zcp_pub *pub;

	start(_i);
	sub = subscribe(ZCP_RELIABLE);
	pub = offer(0, 0);
	for (uint64_t i = 0; i < 20; i++)
		send_number(pub, i, 100);
	zcp_stop_offer(&pub);
	must(zcp_sub_status(sub, &info));
	ck_assert_uint_eq(info.publishers, 1);
	for (uint64_t i = 0; i < 20; i++)
		expect(sub, i);
	must(zcp_sub_status(sub, &info));
	ck_assert_uint_eq(info.publishers, 0);
	ck_assert_uint_eq(info.seen, 1);
	ck_assert_uint_eq(info.died, 0);
	all_chunks_come_back();
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

START_TEST(unseen_messages_are_counted)
{
	zcp_pub_info info;
	zcp_pub *pub;

	start(_i);
	pub = offer(0, 0);
	for (uint64_t i = 0; i < 5; i++)
		send_number(pub, i, 8);
	zcp_pub_status(pub, &info);
	ck_assert_uint_eq(info.unseen, 5);
	ck_assert_uint_eq(info.bytes, 40);
	zcp_stop_offer(&pub);
	stop();
}
END_TEST

START_TEST(several_publishers_are_read_each_in_its_order)
{
	enum { PUBS = 5, EACH = 300 };
	uint64_t next[PUBS] = { 0 }, total = 0;
	zcp_pub *pub[PUBS];
	zcp_msg msg;
	zcp_sub *sub;

	start(_i);
	sub = subscribe(ZCP_RELIABLE);
	for (int i = 0; i < PUBS; i++)
		pub[i] = offer(512, 0);
	for (uint64_t n = 0; n < EACH; n++)
		for (uint64_t i = 0; i < PUBS; i++)
			send_number(pub[i], i << 32 | n, 8);
	while (total < PUBS * EACH) {
		uint64_t from;

		ck_assert_int_eq(take_wait(sub, &msg), 1);
		from = number(&msg) >> 32;
		ck_assert_uint_lt(from, PUBS);
		ck_assert_uint_eq(number(&msg) & 0xffffffff, next[from]++);
		zcp_release(sub, &msg);
		/* Fair: nobody is more than a turn or two ahead. */
		if (++total == PUBS * EACH / 2)
			for (int i = 0; i < PUBS; i++)
				ck_assert_uint_gt(next[i], EACH / 4);
	}
	for (int i = 0; i < PUBS; i++)
		zcp_stop_offer(&pub[i]);
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

START_TEST(a_pattern_follows_present_and_future_topics)
{
	zcp_sub_options o = { 0 };
	zcp_pub *first, *second, *foreign;
	zcp_sub *sub;

	start(_i);
	must(zcp_offer(bus, "radar/front", NULL, &first));
	must(zcp_subscribe(bus, "radar/*", &o, &sub));
	ck_assert_int_eq(zcp_pub_wait_readers(first, 1, PATIENCE), 1);
	send_number(first, 1, 8);
	expect(sub, 1);
	must(zcp_offer(bus, "radar/rear", NULL, &second));
	must(zcp_offer(bus, "lidar/rear", NULL, &foreign));
	send_number(foreign, 99, 8);
	send_number(second, 2, 8);
	expect(sub, 2);
	zcp_stop_offer(&first);
	zcp_stop_offer(&second);
	zcp_stop_offer(&foreign);
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

START_TEST(ports_can_come_and_go_many_times_over)
{
	zcp_sub *sub;
	zcp_pub *pub;

	start(_i);
	for (uint64_t i = 0; i < 300; i++) {
		sub = subscribe(i % 2 ? ZCP_LOSSY : ZCP_RELIABLE);
		pub = offer(8u << i % 4, 0);
		send_number(pub, i, i % 3 ? 8 : 100);
		expect(sub, i);
		if (i % 5 < 2)
			zcp_unsubscribe(&sub);
		zcp_stop_offer(&pub);
		zcp_unsubscribe(&sub);
	}
	stop();
}
END_TEST

/* ---- limits ---------------------------------------------------------------------------------- */

START_TEST(a_limit_that_is_reached_is_named)
{
	struct settings s = bus_settings();
	zcp_sub_options o = { .publishers = 1 };
	zcp_pub *pub[9], *more;
	zcp_sub *sub;
	zcp *second;
	int n = 0;

	s.max_participants = 1;
	s.max_topics = 4;
	s.max_ports = 8;
	bus_start(&s);
	bus = bus_open("test");
	ck_assert_int_eq(zcp_open(&second, NULL), -ZCP_E_REFUSED);
	ck_assert_ptr_nonnull(strstr(zcp_errmsg(), "all 1 participants"));
	for (int i = 0; i < 4; i++) {
		char topic[16];

		snprintf(topic, sizeof(topic), "t%d", i);
		must(zcp_offer(bus, topic, NULL, &pub[n++]));
	}
	ck_assert_int_eq(zcp_offer(bus, "t4", NULL, &more), -ZCP_E_REFUSED);
	ck_assert_ptr_nonnull(strstr(zcp_errmsg(), "all 4 topics"));
	must(zcp_subscribe(bus, "t0", &o, &sub));
	ck_assert_int_eq(zcp_offer(bus, "t0", NULL, &more), -ZCP_E_REFUSED);
	ck_assert_msg(strstr(zcp_errmsg(), "follows 1 publishers") != NULL,
	    "%s", zcp_errmsg());
	while (n < 7)
		must(zcp_offer(bus, "t1", NULL, &pub[n++]));
	ck_assert_int_eq(zcp_offer(bus, "t1", NULL, &more), -ZCP_E_REFUSED);
	ck_assert_ptr_nonnull(strstr(zcp_errmsg(), "all 8 ports"));
	while (n > 0)
		zcp_stop_offer(&pub[--n]);
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

START_TEST(port_serials_that_wrap_pass_by_those_in_use)
{
	zcp_pub *old, *pub;
	struct domain d = { 0 };
	uint32_t serial;
	zcp_sub *sub;

	start(_i);
	sub = subscribe(ZCP_RELIABLE);
	must(domain_attach(&d, bus_domain, geteuid(), true));
	/* The next ports get the last serial, then the first ones again. */
	serial = d.m->serial_next;
	old = offer(0, 0);
	d.m->serial_next = SERIAL_MASK;
	for (uint64_t i = 0; i < 10; i++) {
		pub = offer(0, 0);
		send_number(pub, i, 100);
		expect(sub, i);
		zcp_stop_offer(&pub);
	}
	ck_assert_uint_eq(d.m->serial_epoch, 2);
	for (uint32_t i = 0, same = 0; i < d.max_ports; i++) {
		same += d.ports[i].state != PORT_FREE &&
		    d.ports[i].serial == serial;
		ck_assert_uint_le(same, 1);
	}
	domain_detach(&d);
	zcp_stop_offer(&old);
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

/* ---- handles ----------------------------------------------------------------------------------- */

static void use_parents_handles(void *arg)
{
	zcp_pub **pub = arg;
	zcp_chunk chunk;

	if (zcp_loan(*pub, 10, &chunk, 0) != -ZCP_E_FORK ||
	    strstr(zcp_errmsg(), "fork") == NULL)
		_exit(1);
	zcp_stop_offer(pub);
	zcp_close(&bus);
}

START_TEST(handles_of_a_closed_bus_are_errors_not_crashes)
{
	zcp_chunk chunk;
	zcp_msg msg;
	zcp_pub *pub;
	zcp_sub *sub;

	start(0);
	sub = subscribe(ZCP_RELIABLE);
	pub = offer(0, 0);
	send_number(pub, 1, 100);
	ck_assert_int_eq(take_wait(sub, &msg), 1);
	zcp_close(&bus);
	ck_assert_ptr_null(bus);
	ck_assert_int_eq(zcp_send(pub, "x", 1, 0, 0), -ZCP_E_ENDED);
	ck_assert_str_eq(zcp_errmsg(), "its bus has been closed");
	ck_assert_int_eq(zcp_loan(pub, 100, &chunk, 0), -ZCP_E_ENDED);
	zcp_release(sub, &msg);
	ck_assert_int_eq(zcp_take(sub, &msg), -ZCP_E_ENDED);
	ck_assert_int_eq(zcp_wait(sub, 0), -ZCP_E_ENDED);
	zcp_stop_offer(&pub);
	zcp_unsubscribe(&sub);
	ck_assert_ptr_null(pub);
	bus = bus_open("again");
	stop();
}
END_TEST

START_TEST(a_forked_child_may_not_use_its_parents_handles)
{
	zcp_pub *pub;

	start(_i);
	pub = offer(0, 0);
	join_process(in_process(use_parents_handles, &pub));
	send_number(pub, 1, 8);
	zcp_stop_offer(&pub);
	stop();
}
END_TEST

START_TEST(bad_arguments_are_refused_with_their_fault)
{
	static const struct {
		const char *topic;
		zcp_pub_options options;
		const char *fault;
	} bad[] = {
		{ "a*", { 0 }, "pattern" },
		{ "a b", { 0 }, "not allowed" },
		{ "a", { .slots = 100 }, "power of two" },
		{ "a", { .slots = 4 }, "power of two" },
		{ "a", { .slots = 64, .history = 33 }, "half" },
	};
	zcp_options o = { .domain = "a/b" };
	zcp *other;
	zcp_pub *pub;

	start(_i);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		ck_assert_int_eq(zcp_offer(bus, bad[i].topic, &bad[i].options,
		    &pub), -ZCP_E_ARG);
		ck_assert_msg(strstr(zcp_errmsg(), bad[i].fault) != NULL,
		    "%s", zcp_errmsg());
		ck_assert_ptr_null(pub);
	}
	ck_assert_int_eq(zcp_open(&other, &o), -ZCP_E_ARG);
	stop();
}
END_TEST

/* ---- taps ------------------------------------------------------------------------------------------ */

START_TEST(a_tap_sees_without_being_seen)
{
	zcp_msg msg;
	zcp_pub *pub;
	zcp_tap *tap;

	start(_i);
	pub = offer(16, 0);
	send_number(pub, 0, 8);
	must(zcp_tap_open(bus, "t", &tap));
	ck_assert_int_eq(zcp_tap_read(tap, &msg), 0);
	for (uint64_t i = 1; i < 5; i++) {
		send_number(pub, i, i % 2 ? 8 : 100);
		ck_assert_int_eq(zcp_tap_wait(tap, PATIENCE), 1);
		ck_assert_int_eq(zcp_tap_read(tap, &msg), 1);
		ck_assert_uint_eq(number(&msg), i);
	}
	ck_assert_int_eq(zcp_pub_readers(pub), 0);
	/* It holds nothing up, and is told what it missed. */
	for (uint64_t i = 0; i < 100; i++)
		send_number(pub, i, 8);
	ck_assert_int_eq(zcp_tap_read(tap, &msg), -ZCP_E_LAPPED);
	ck_assert_uint_gt(msg.lost, 0);
	zcp_tap_close(&tap);
	zcp_stop_offer(&pub);
	stop();
}
END_TEST

START_TEST(a_tap_follows_publishers_that_come_later_from_their_start)
{
	zcp_msg msg;
	zcp_pub *pub;
	zcp_tap *tap;
	int rc;

	start(_i);
	must(zcp_tap_open(bus, "t*", &tap));
	pub = offer(16, 2);
	send_number(pub, 5, 100);
	while ((rc = zcp_tap_read(tap, &msg)) == 0)
		must(zcp_tap_wait(tap, NS_PER_S));
	ck_assert_int_eq(rc, 1);
	ck_assert_uint_eq(number(&msg), 5);
	zcp_stop_offer(&pub);
	zcp_tap_close(&tap);
	stop();
}
END_TEST

/* ---- threads over one mapping ------------------------------------------------------------------------ */

struct role {
	zcp_pub *pub;
	zcp_sub *sub;
	uint64_t count, lost;
};

static void *publish_all(void *arg)
{
	struct role *r = arg;

	for (uint64_t i = 0; i < r->count; i++)
		send_number(r->pub, i, i % 4 == 0 ? 100 : 16);
	return NULL;
}

static void *take_all(void *arg)
{
	struct role *r = arg;
	uint64_t next = 0;
	zcp_msg msg;
	int rc;

	while (next < r->count) {
		rc = take_wait(r->sub, &msg);
		if (rc == -ZCP_E_LAPPED) {
			r->lost += msg.lost;
			next += msg.lost;
			continue;
		}
		must(rc);
		ck_assert_uint_eq(number(&msg), next);
		next++;
		/* Look again: what is held must not have changed. */
		ck_assert_uint_eq(number(&msg), next - 1);
		zcp_release(r->sub, &msg);
	}
	return NULL;
}

START_TEST(one_publisher_and_many_readers_at_full_speed)
{
	enum { READERS = 4, COUNT = 30000 };
	struct role publisher = { .count = COUNT }, reader[READERS];
	pthread_t thread[READERS + 1];

	start(_i);
	for (int i = 0; i < READERS; i++)
		reader[i] = (struct role){ .count = COUNT,
		    .sub = subscribe(i < 2 ? ZCP_RELIABLE : ZCP_LOSSY) };
	publisher.pub = offer(64, 0);
	for (int i = 0; i < READERS; i++)
		ck_assert_int_eq(pthread_create(&thread[i], NULL, take_all,
		    &reader[i]), 0);
	ck_assert_int_eq(pthread_create(&thread[READERS], NULL, publish_all,
	    &publisher), 0);
	pthread_join(thread[READERS], NULL);
	/* A lossy reader that sleeps at the end wants one more message. */
	for (int i = 0; i < READERS; i++)
		pthread_join(thread[i], NULL);
	for (int i = 0; i < READERS; i++) {
		ck_assert(i >= 2 || reader[i].lost == 0);
		zcp_unsubscribe(&reader[i].sub);
	}
	zcp_stop_offer(&publisher.pub);
	stop();
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("bus");

	tcase_set_timeout(t, 120);
	in_each_mode(t, messages_of_every_size_arrive_as_they_were_sent);
	in_each_mode(t, a_reader_that_was_first_misses_nothing_of_a_long_stream);
	in_each_mode(t, several_messages_of_one_chunk_are_one_unit_of_memory);
	in_each_mode(t,
	    more_parts_than_the_ring_has_slots_go_out_as_readers_make_room);
	in_each_mode(t, the_rest_of_a_chunk_may_be_discarded);
	in_each_mode(t, a_sleeping_reader_is_woken_by_each_message);
	in_each_mode(t, a_publisher_sleeps_until_its_reader_makes_room);
	in_each_mode(t, a_timeout_is_kept_and_named);
	in_each_mode(t, a_reader_that_leaves_lets_the_publisher_go_on);
	in_each_mode(t, a_publisher_can_wait_for_its_audience);
	in_each_mode(t, lapped_reader_is_told_how_many_it_lost);
	in_each_mode(t, status_counts_a_loss_before_the_take_that_tells_of_it);
	in_each_mode(t, what_a_lossy_reader_holds_is_not_overwritten);
	in_each_mode(t, lossy_readers_leave_half_of_every_pool_alone);
	in_each_mode(t, the_smallest_class_that_fits_is_taken_then_the_next);
	in_each_mode(t, an_oversize_loan_names_its_size_and_the_largest_pool);
	in_each_mode(t, a_chunk_is_published_once_and_by_its_own_publisher);
	in_each_mode(t, loans_end_with_their_publisher);
	in_each_mode(t, one_hold_more_than_agreed_is_an_error_that_names_it);
	in_each_mode(t, what_is_held_at_the_end_of_its_publisher_stays_readable);
	in_each_mode(t, a_starving_publisher_takes_what_an_idle_one_keeps);
	in_each_mode(t,
	    a_late_reader_gets_the_history_offered_and_then_what_comes);
	in_each_mode(t, a_reader_may_decline_the_history);
	in_each_mode(t,
	    what_a_reliable_reader_has_not_read_outlives_its_publisher);
	in_each_mode(t, unseen_messages_are_counted);
	in_each_mode(t, several_publishers_are_read_each_in_its_order);
	in_each_mode(t, a_pattern_follows_present_and_future_topics);
	in_each_mode(t, ports_can_come_and_go_many_times_over);
	tcase_add_test(t, a_limit_that_is_reached_is_named);
	tcase_add_test(t, port_serials_that_wrap_pass_by_those_in_use);
	tcase_add_test(t, handles_of_a_closed_bus_are_errors_not_crashes);
	tcase_add_test(t, a_forked_child_may_not_use_its_parents_handles);
	tcase_add_test(t, bad_arguments_are_refused_with_their_fault);
	in_each_mode(t, a_tap_sees_without_being_seen);
	in_each_mode(t, a_tap_follows_publishers_that_come_later_from_their_start);
	in_each_mode(t, one_publisher_and_many_readers_at_full_speed);
	return run_tests("bus", t);
}
