/* What readers are promised beyond the plain stream: history that outlives
 * its publishers, batches, order by time, waiting for several. */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "publisher.h"
#include "scene.h"

/* ---- retained history --------------------------------------------------------- */

static zcp_pub *offer_retained(uint32_t history, int64_t retain)
{
	zcp_pub_options o = { .slots = 64, .history = history,
	    .retain = retain };
	zcp_pub *pub;

	must(zcp_offer(bus, "t", &o, &pub));
	return pub;
}

/* A publisher that sends these numbers and ends. */
static void leave_behind(uint32_t history, int64_t retain, uint64_t from,
    uint64_t to)
{
	zcp_pub *pub = offer_retained(history, retain);

	for (; from < to; from++)
		send_number(pub, from, from % 2 ? 8 : 100);
	zcp_stop_offer(&pub);
}

static bool nothing_drains(void *arg)
{
	(void)arg;
	return status_number("draining") == 0;
}

/* A test that leaves history has to wait for its end, or no chunk returns. */
static void stop_when_expired(void)
{
	eventually(nothing_drains, NULL, "the history to expire");
	stop();
}

enum { SHORT = 300 * NS_PER_MS };

START_TEST(who_comes_after_the_end_reads_the_retained_history)
{
	zcp_sub_info info;
	zcp_sub *sub;

	start(_i);
	leave_behind(5, SHORT, 0, 12);
	sub = subscribe(ZCP_RELIABLE);
	for (uint64_t n = 7; n < 12; n++)
		expect(sub, n);
	must(zcp_sub_status(sub, &info));
	ck_assert_uint_eq(info.seen, 1);
	ck_assert_uint_eq(info.publishers, 0);
	ck_assert_uint_eq(info.lost, 0);
	zcp_unsubscribe(&sub);
	/* It is there for the next one, too. */
	sub = subscribe(ZCP_RELIABLE);
	expect(sub, 7);
	zcp_unsubscribe(&sub);
	stop_when_expired();
}
END_TEST

START_TEST(without_retention_history_ends_with_its_publisher)
{
	zcp_sub *sub;
	zcp_msg msg;

	start(_i);
	leave_behind(5, 0, 0, 12);
	eventually(nothing_drains, NULL, "the ring to go");
	sub = subscribe(ZCP_RELIABLE);
	ck_assert_int_eq(zcp_take(sub, &msg), 0);
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

START_TEST(a_topic_keeps_the_last_n_of_all_its_closed_publishers)
{
	uint64_t seen[4];
	zcp_sub *sub;

	start(_i);
	leave_behind(4, SHORT, 0, 3);
	leave_behind(4, SHORT, 3, 6);
	leave_behind(4, SHORT, 6, 9);
	sub = subscribe(ZCP_RELIABLE);
	for (int i = 0; i < 4; i++) {
		zcp_msg msg;

		must(take_wait(sub, &msg));
		seen[i] = number(&msg);
		zcp_release(sub, &msg);
	}
	/* Publishers are read by turns, each in its order. */
	for (int i = 0; i < 4; i++)
		ck_assert_uint_ge(seen[i], 5);
	zcp_unsubscribe(&sub);
	stop_when_expired();
}
END_TEST

START_TEST(more_ended_publishers_than_usual_are_all_followed)
{
	enum { ENDED = 40 };
	uint64_t sum = 0;
	zcp_sub_info info;
	zcp_sub *sub;

	start(_i);
	for (uint64_t n = 0; n < ENDED; n++)
		leave_behind(32, 20 * NS_PER_S, n, n + 1);
	sub = subscribe(ZCP_RELIABLE);
	for (int i = 0; i < 32; i++) {
		zcp_msg msg;

		must(take_wait(sub, &msg));
		sum += number(&msg);
		zcp_release(sub, &msg);
	}
	/* Forty messages in all, of which the topic keeps the last 32. */
	ck_assert_uint_eq(sum, (8 + 39) * 32 / 2);
	must(zcp_sub_status(sub, &info));
	ck_assert_uint_eq(info.publishers, 0);
	zcp_unsubscribe(&sub);
	zcp_close(&bus);
	bus_stop_leaving_history();
}
END_TEST

START_TEST(retained_history_survives_daemons)
{
	struct settings s = mode_settings(_i);
	zcp_sub *sub;

	start(_i);
	leave_behind(3, 20 * NS_PER_S, 0, 5);
	bus_kill();
	bus_restart(&s);
	sub = subscribe(ZCP_RELIABLE);
	expect(sub, 2);
	zcp_unsubscribe(&sub);
	/* Nobody is left: only the history keeps the segments. */
	zcp_close(&bus);
	bus_end_daemon();
	bus_restart(&s);
	bus = bus_open("again");
	sub = subscribe(ZCP_RELIABLE);
	for (uint64_t n = 2; n < 5; n++)
		expect(sub, n);
	zcp_unsubscribe(&sub);
	zcp_close(&bus);
	bus_stop_leaving_history();
}
END_TEST

static void leave_and_die(void *arg)
{
	zcp_pub *pub;

	(void)arg;
	bus = bus_open("victim");
	pub = offer_retained(3, 400 * NS_PER_MS);
	for (uint64_t n = 0; n < 6; n++)
		send_number(pub, n, 64);
	kill(getpid(), SIGKILL);
}

static bool one_death(void *arg)
{
	(void)arg;
	return status_number("deaths") == 1;
}

START_TEST(history_of_a_dead_publisher_stays_and_its_death_is_told)
{
	zcp_sub_info info;
	zcp_sub *sub;
	pid_t pid;

	start(_i);
	pid = in_process(leave_and_die, NULL);
	eventually(one_death, NULL, "the death to be seen");
	sub = subscribe(ZCP_RELIABLE);
	for (uint64_t n = 3; n < 6; n++)
		expect(sub, n);
	must(zcp_sub_status(sub, &info));
	ck_assert_uint_eq(info.died, 1);
	ck_assert_ptr_nonnull(strstr(info.died_name, "victim"));
	zcp_unsubscribe(&sub);
	kill_process(pid);
	stop_when_expired();
}
END_TEST

START_TEST(cursors_of_history_that_was_read_serve_again)
{
	enum { ENDED = 12, LIVE = 12 };
	zcp_pub *pub[LIVE];
	zcp_sub *sub;
	zcp_msg msg;

	start(_i);
	for (uint64_t n = 0; n < ENDED; n++)
		leave_behind(ENDED, 20 * NS_PER_S, n, n + 1);
	sub = subscribe(ZCP_RELIABLE);
	for (int i = 0; i < ENDED; i++) {
		must(take_wait(sub, &msg));
		zcp_release(sub, &msg);
	}
	ck_assert_int_eq(zcp_take(sub, &msg), 0);
	/* It follows sixteen at once; the twelve are no longer followed. */
	for (int i = 0; i < LIVE; i++)
		pub[i] = offer(0, 0);
	for (int i = 0; i < LIVE; i++)
		zcp_stop_offer(&pub[i]);
	zcp_unsubscribe(&sub);
	zcp_close(&bus);
	bus_stop_leaving_history();
}
END_TEST

static void *leave_one_after_another(void *arg)
{
	_Atomic int *left = arg;

	for (; *left > 0; --*left)
		leave_behind(1, 20 * NS_PER_S, 1, 2);
	return NULL;
}

START_TEST(subscribing_while_history_goes_never_fails)
{
	/* However many come and go during one subscription. */
	zcp_sub_options o = { .publishers = 512 };
	_Atomic int left = 200;
	pthread_t thread;

	start(_i);
	ck_assert_int_eq(pthread_create(&thread, NULL,
	    leave_one_after_another, &left), 0);
	while (left > 0) {
		zcp_sub *sub;

		must(zcp_subscribe(bus, "t", &o, &sub));
		zcp_unsubscribe(&sub);
	}
	pthread_join(thread, NULL);
	zcp_close(&bus);
	bus_stop_leaving_history();
}
END_TEST

START_TEST(history_keeps_no_more_than_half_of_a_pool)
{
	zcp_pub_options o = { .slots = 64, .history = 32 };
	zcp_pub_info info;
	zcp_pub *pub;
	zcp_sub *sub;
	zcp_msg msg;

	start(_i);
	must(zcp_offer(bus, "t", &o, &pub));
	for (uint64_t n = 0; n < 40; n++)
		send_number(pub, n, 4000);
	zcp_pub_status(pub, &info);
	ck_assert_uint_gt(info.cut, 0);
	/* What it could not keep is gone from the front, and what is there is
	 * the last: half of eight chunks, or what came since it looked. */
	sub = subscribe(ZCP_RELIABLE);
	must(take_wait(sub, &msg));
	ck_assert_uint_ge(number(&msg), 32);
	for (uint64_t n = number(&msg) + 1; n < 40; n++)
		expect(sub, n);
	zcp_release(sub, &msg);
	zcp_unsubscribe(&sub);
	zcp_stop_offer(&pub);
	stop();
}
END_TEST

START_TEST(retained_history_gives_way_to_those_who_live)
{
	zcp_pub_options keep = { .slots = 64, .history = 32, .retain = -1 };
	static const char *const topics[] = { "old", "older", "t" };
	zcp_pub *pub;

	start(_i);
	for (int i = 0; i < 3; i++) {
		must(zcp_offer(bus, topics[i], &keep, &pub));
		for (uint64_t n = 0; n < 8; n++)
			send_number(pub, n, 4000);
		zcp_stop_offer(&pub);
	}
	ck_assert_uint_gt(status_number("cut"), 0);
	zcp_close(&bus);
	bus_stop_leaving_history();
}
END_TEST

static bool one_drains(void *arg)
{
	(void)arg;
	return status_number("draining") == 1;
}

/* The third offer's feed has the first one's cursor, and comes before the
 * second one's when a reader looks around. */
START_TEST(offers_of_one_process_are_read_in_their_order)
{
	zcp_sub_options o = { .merge = _i / MODES ? (int64_t)NS_PER_S : 0 };
	zcp_pub_options none = { .slots = 16, .stamp = ZCP_STAMP_NONE };
	zcp_sub_info info;
	zcp_pub *pub;
	zcp_sub *sub;

	start(_i % MODES);
	must(zcp_subscribe(bus, "t", &o, &sub));
	for (uint64_t n = 0; n < 6; n += 2) {
		must(zcp_offer(bus, "t", &none, &pub));
		if (n == 2) {
			expect(sub, 0);
			expect(sub, 1);
		}
		send_number(pub, n, 8);
		send_number(pub, n + 1, 100);
		zcp_stop_offer(&pub);
		if (n == 2) {
			/* It sees the first one's end, and takes nothing. */
			must(zcp_sub_status(sub, &info));
			eventually(one_drains, NULL, "the first is forgotten");
		}
	}
	for (uint64_t n = 2; n < 6; n++)
		expect(sub, n);
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

START_TEST(a_lossy_reader_that_is_full_keeps_no_publisher_away)
{
	zcp_sub_options lossy = { .publishers = 2, .lossy = 1 };
	zcp_sub_options reliable = { .publishers = 2 };
	zcp_pub *pub[3], *refused;
	zcp_sub_info info;
	zcp_sub *sub, *full;

	start(_i);
	must(zcp_subscribe(bus, "t", &lossy, &sub));
	for (int i = 0; i < 3; i++)
		pub[i] = offer(64, 0);
	must(zcp_sub_status(sub, &info));
	ck_assert_uint_eq(info.publishers, 2);
	ck_assert_uint_eq(info.unfollowed, 1);
	send_number(pub[2], 2, 8);
	send_number(pub[1], 1, 8);
	expect(sub, 1);
	/* One that is to lose nothing does: the publisher is refused. */
	zcp_stop_offer(&pub[2]);
	must(zcp_subscribe(bus, "t", &reliable, &full));
	ck_assert_int_eq(zcp_offer(bus, "t", NULL, &refused), -ZCP_E_REFUSED);
	zcp_unsubscribe(&full);
	zcp_unsubscribe(&sub);
	for (int i = 0; i < 2; i++)
		zcp_stop_offer(&pub[i]);
	stop();
}
END_TEST

/* ---- batches -------------------------------------------------------------------- */

START_TEST(a_batch_takes_what_there_is_in_order)
{
	zcp_msg msg[8];
	zcp_sub *sub;
	zcp_pub *pub;

	start(_i);
	sub = subscribe(ZCP_RELIABLE);
	pub = offer(16, 0);
	ck_assert_int_eq(zcp_take_batch(sub, msg, 8), 0);
	for (uint64_t n = 0; n < 11; n++)
		send_number(pub, n, n % 2 ? 8 : 100);
	ck_assert_int_eq(zcp_take_batch(sub, msg, 0), 0);
	ck_assert_int_eq(zcp_take_batch(sub, msg, 8), 8);
	for (uint64_t n = 0; n < 8; n++)
		ck_assert_uint_eq(number(&msg[n]), n);
	zcp_release_batch(sub, msg, 8);
	ck_assert_int_eq(zcp_take_batch(sub, msg, 8), 3);
	ck_assert_uint_eq(number(&msg[2]), 10);
	zcp_release_batch(sub, msg, 3);
	zcp_stop_offer(&pub);
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

START_TEST(a_batch_ends_where_the_holds_do)
{
	zcp_sub_options o = { .holds = 3 };
	zcp_msg msg[8];
	zcp_sub *sub;
	zcp_pub *pub;

	start(_i);
	must(zcp_subscribe(bus, "t", &o, &sub));
	pub = offer(16, 0);
	for (uint64_t n = 0; n < 6; n++)
		send_number(pub, n, 100);
	ck_assert_int_eq(zcp_take_batch(sub, msg, 8), 3);
	ck_assert_int_eq(zcp_take_batch(sub, msg + 3, 5), -ZCP_E_HOLDS);
	zcp_release_batch(sub, msg, 2);
	ck_assert_int_eq(zcp_take_batch(sub, msg + 3, 5), 2);
	for (uint64_t n = 2; n < 5; n++)
		ck_assert_uint_eq(number(&msg[n]), n);
	/* A released one is passed over. */
	zcp_release_batch(sub, msg, 5);
	ck_assert_int_eq(zcp_take_batch(sub, msg, 8), 1);
	ck_assert_uint_eq(number(&msg[0]), 5);
	zcp_release_batch(sub, msg, 1);
	zcp_stop_offer(&pub);
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

START_TEST(messages_of_one_chunk_that_are_taken_at_once_share_a_hold)
{
	const zcp_part parts[4] = { { 0, 8 }, { 8, 8 }, { 16, 8 }, { 24, 8 } };
	zcp_sub_options o = { .holds = 1 };
	zcp_chunk chunk;
	zcp_msg msg[4];
	zcp_sub *sub;
	zcp_pub *pub;

	start(_i);
	must(zcp_subscribe(bus, "t", &o, &sub));
	pub = offer(16, 0);
	must(zcp_loan(pub, 100, &chunk, 0));
	for (uint64_t n = 0; n < 4; n++)
		memcpy((char *)chunk.data + 8 * n, &n, 8);
	ck_assert_int_eq(zcp_publish_parts(pub, &chunk, parts, 4, 0), 4);
	ck_assert_int_eq(zcp_take_batch(sub, msg, 4), 4);
	for (uint64_t n = 0; n < 4; n++)
		ck_assert_uint_eq(number(&msg[n]), n);
	/* Held until the last is back. */
	zcp_release_batch(sub, msg, 3);
	send_number(pub, 4, 100);
	ck_assert_int_eq(zcp_take_batch(sub, msg, 1), -ZCP_E_HOLDS);
	zcp_release(sub, &msg[3]);
	expect(sub, 4);
	zcp_stop_offer(&pub);
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

/* Of all publishers, as a sleeper would. */
static bool marked(bool mark)
{
	struct domain d = { 0 };
	uint32_t word = 0;

	must(domain_attach(&d, bus_domain, geteuid(), false));
	if (mark)
		bell_mark(domain_bell(&d, BELL_DOMAIN));
	word = bell_load(domain_bell(&d, BELL_DOMAIN));
	domain_detach(&d);
	return word & BELL_SLEEPER;
}

/* Its publisher can write it. */
START_TEST(a_tail_that_makes_no_sense_ends_its_ring_for_the_reader)
{
	zcp_sub_info info;
	uint64_t tail;
	zcp_sub *sub;
	zcp_pub *pub;
	zcp_msg msg;

	start(_i);
	sub = subscribe(ZCP_RELIABLE);
	pub = offer(16, 0);
	send_number(pub, 0, 8);
	expect(sub, 0);
	tail = tail_load(pub->ring);
	tail_found(pub->ring, tail | UINT64_C(1) << 62);
	send_number(pub, 1, 100);
	ck_assert_int_eq(zcp_take(sub, &msg), 0);
	ck_assert_int_eq(zcp_take_batch(sub, &msg, 1), 0);
	must(zcp_sub_status(sub, &info));
	ck_assert_uint_eq(info.messages, 1);
	tail_found(pub->ring, tail);
	zcp_unsubscribe(&sub);
	zcp_stop_offer(&pub);
	stop();
}
END_TEST

START_TEST(a_corked_publisher_wakes_nobody_before_it_is_uncorked)
{
	zcp_sub *sub;
	zcp_pub *pub;

	start(_i);
	sub = subscribe(ZCP_RELIABLE);
	pub = offer(16, 0);
	send_number(pub, 0, 8);
	ck_assert(marked(true));
	zcp_cork(pub);
	send_number(pub, 1, 8);
	send_number(pub, 2, 100);
	/* It is there for who looks. */
	for (uint64_t n = 0; n < 3; n++)
		expect(sub, n);
	ck_assert(marked(false));
	zcp_uncork(pub);
	ck_assert(!marked(false));
	/* Nobody slept: nothing is owed. */
	zcp_cork(pub);
	send_number(pub, 3, 8);
	ck_assert(marked(true));
	zcp_uncork(pub);
	ck_assert(marked(false));
	send_number(pub, 4, 8);
	ck_assert(!marked(false));
	zcp_stop_offer(&pub);
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

START_TEST(a_corked_publisher_wakes_a_lossy_reader_before_it_passes_it_over)
{
	zcp_sub_options o = { .lossy = ZCP_LOSSY };
	zcp_sub *sub;
	zcp_pub *pub;

	start(_i);
	must(zcp_subscribe(bus, "t", &o, &sub));
	pub = offer(8, 0);
	send_number(pub, 0, 8);
	expect(sub, 0);
	ck_assert(marked(true));
	zcp_cork(pub);
	for (uint64_t n = 1; n < 8; n++)
		send_number(pub, n, 8);
	ck_assert(marked(false));
	/* No room is left: the tail moves. */
	send_number(pub, 8, 8);
	ck_assert(!marked(false));
	zcp_uncork(pub);
	zcp_unsubscribe(&sub);
	zcp_stop_offer(&pub);
	stop();
}
END_TEST

START_TEST(a_corked_publisher_without_room_wakes_its_readers)
{
	uint64_t n = 0;
	zcp_sub *sub;
	zcp_pub *pub;

	start(_i);
	sub = subscribe(ZCP_RELIABLE);
	pub = offer(8, 0);
	ck_assert(marked(true));
	zcp_cork(pub);
	while (zcp_send(pub, &n, sizeof(n), 0, 0) == 1)
		n++;
	ck_assert_uint_eq(n, 8);
	ck_assert(!marked(false));
	for (n = 0; n < 8; n++)
		expect(sub, n);
	zcp_stop_offer(&pub);
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

static void use_corked(void *arg)
{
	zcp_pub *pub = arg;

	if (zcp_pub_wait_readers(pub, 1, 0) != -ZCP_E_FORK ||
	    zcp_pub_drain(pub, 0) != -ZCP_E_FORK)
		_exit(1);
	zcp_uncork(pub);
}

/* It has no bell mapped that it could ring. */
START_TEST(a_forked_child_of_a_corked_publisher_is_refused)
{
	zcp_pub *pub;

	start(_i);
	pub = offer(16, 0);
	ck_assert(marked(true));
	zcp_cork(pub);
	send_number(pub, 0, 8);
	join_process(in_process(use_corked, pub));
	ck_assert(marked(false));
	zcp_uncork(pub);
	ck_assert(!marked(false));
	zcp_stop_offer(&pub);
	stop();
}
END_TEST

/* A second publisher's messages come first, then the first one's loss. */
START_TEST(a_loss_behind_a_batch_is_told_by_the_next_call)
{
	zcp_sub_options o = { .lossy = ZCP_LOSSY };
	zcp_pub *early, *late;
	uint64_t lost = 0, got = 0;
	zcp_msg msg[64];
	zcp_sub_info info;
	zcp_sub *sub;
	int rc;

	start(_i);
	must(zcp_subscribe(bus, "t", &o, &sub));
	early = offer(8, 0);
	late = offer(64, 0);
	ck_assert_int_eq(zcp_take_batch(sub, msg, 64), 0);
	for (uint64_t n = 0; n < 40; n++)
		send_number(early, n, 8);
	for (uint64_t n = 0; n < 3; n++)
		send_number(late, n, 8);
	while ((rc = zcp_take_batch(sub, msg, 64)) != 0) {
		if (rc == -ZCP_E_LAPPED) {
			lost += msg[0].lost;
			continue;
		}
		must(rc);
		got += (uint64_t)rc;
		zcp_release_batch(sub, msg, (size_t)rc);
	}
	ck_assert_uint_gt(lost, 0);
	ck_assert_uint_eq(got + lost, 43);
	must(zcp_sub_status(sub, &info));
	ck_assert_uint_eq(info.lost, lost);
	zcp_stop_offer(&early);
	zcp_stop_offer(&late);
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

/* ---- order by time ---------------------------------------------------------------- */

static zcp_pub *offer_stamped(void)
{
	zcp_pub_options o = { .slots = 64, .stamp = ZCP_STAMP_EVERY };
	zcp_pub *pub;

	must(zcp_offer(bus, "t", &o, &pub));
	return pub;
}

/* Two publishers of a reader that merges them; one of them will be silent. */
struct merged {
	zcp_sub *sub;
	zcp_pub *silent, *speaking;
};

static void merge(struct merged *m, int64_t wait)
{
	zcp_sub_options o = { .merge = wait };

	must(zcp_subscribe(bus, "t", &o, &m->sub));
	m->silent = offer_stamped();
	m->speaking = offer_stamped();
}

static void end_merged(struct merged *m)
{
	zcp_stop_offer(&m->silent);
	zcp_stop_offer(&m->speaking);
	zcp_unsubscribe(&m->sub);
}

START_TEST(merged_publishers_are_read_in_the_order_of_their_stamps)
{
	zcp_sub_options o = { .merge = 20 * NS_PER_S };
	zcp_pub *pub[3];
	zcp_sub *sub;

	start(_i);
	must(zcp_subscribe(bus, "t", &o, &sub));
	for (int i = 0; i < 3; i++)
		pub[i] = offer_stamped();
	for (uint64_t n = 0; n < 30; n++)
		send_number(pub[n * 7 % 3], n, n % 2 ? 8 : 100);
	for (int i = 0; i < 3; i++)
		zcp_stop_offer(&pub[i]);
	for (uint64_t n = 0; n < 30; n++)
		expect(sub, n);
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

START_TEST(a_silent_publisher_delays_a_merge_for_no_longer_than_asked)
{
	enum { WAIT = 50 * NS_PER_MS };
	struct merged m;
	zcp_msg msg;
	uint64_t sent;

	start(_i);
	merge(&m, WAIT);
	sent = clock_ns();
	send_number(m.speaking, 1, 8);
	ck_assert_int_eq(zcp_take(m.sub, &msg), 0);
	expect(m.sub, 1);
	ck_assert_uint_ge(clock_ns() - sent, WAIT);
	/* With something to compare there is nothing to wait for. */
	send_number(m.speaking, 2, 8);
	send_number(m.silent, 3, 8);
	ck_assert_int_eq(zcp_take(m.sub, &msg), 1);
	ck_assert_uint_eq(number(&msg), 2);
	zcp_release(m.sub, &msg);
	expect(m.sub, 3);
	end_merged(&m);
	stop();
}
END_TEST

/* ---- waiting for several ------------------------------------------------------------ */

enum { TOPICS = 5 };

struct several_topics {
	zcp_waitset *set;
	zcp_sub *sub[TOPICS];
	zcp_pub *pub[TOPICS];
};

static void open_several(struct several_topics *s)
{
	char topic[32];

	must(zcp_waitset_open(bus, &s->set));
	for (int i = 0; i < TOPICS; i++) {
		snprintf(topic, sizeof(topic), "several/%d", i);
		must(zcp_subscribe(bus, topic, NULL, &s->sub[i]));
		must(zcp_waitset_add(s->set, s->sub[i]));
		must(zcp_offer(bus, topic, NULL, &s->pub[i]));
	}
	/* The news that publishers came has to be taken first. */
	for (int i = 0; i < TOPICS; i++) {
		zcp_msg msg;

		ck_assert_int_eq(zcp_take(s->sub[i], &msg), 0);
	}
}

static void close_several(struct several_topics *s)
{
	for (int i = 0; i < TOPICS; i++) {
		zcp_stop_offer(&s->pub[i]);
		zcp_unsubscribe(&s->sub[i]);
	}
	zcp_waitset_close(&s->set);
}

START_TEST(a_waitset_names_those_that_have_something)
{
	struct several_topics s;
	zcp_sub *ready[TOPICS];

	start(_i);
	open_several(&s);
	ck_assert_int_eq(zcp_waitset_wait(s.set, ready, TOPICS, 0), 0);
	send_number(s.pub[3], 33, 8);
	ck_assert_int_eq(zcp_waitset_wait(s.set, ready, TOPICS, PATIENCE), 1);
	ck_assert_ptr_eq(ready[0], s.sub[3]);
	send_number(s.pub[1], 11, 8);
	ck_assert_int_eq(zcp_waitset_wait(s.set, ready, TOPICS, PATIENCE), 2);
	expect(s.sub[3], 33);
	expect(s.sub[1], 11);
	ck_assert_int_eq(zcp_waitset_wait(s.set, ready, TOPICS, 0), 0);
	close_several(&s);
	stop();
}
END_TEST

START_TEST(few_places_starve_nobody_in_a_waitset)
{
	bool named[TOPICS] = { false };
	struct several_topics s;

	start(_i);
	open_several(&s);
	for (int i = 0; i < TOPICS; i++)
		send_number(s.pub[i], 1, 8);
	for (int i = 0; i < TOPICS; i++) {
		zcp_sub *ready;

		ck_assert_int_eq(zcp_waitset_wait(s.set, &ready, 1, 0), 1);
		for (int k = 0; k < TOPICS; k++)
			named[k] |= ready == s.sub[k];
	}
	for (int i = 0; i < TOPICS; i++)
		ck_assert(named[i]);
	close_several(&s);
	stop();
}
END_TEST

static void *send_in_turn(void *arg)
{
	struct several_topics *s = arg;

	for (uint64_t n = 0; n < 200; n++)
		send_number(s->pub[n % TOPICS], n, 8);
	return NULL;
}

START_TEST(a_sleeping_waitset_is_woken_by_each_of_its_topics)
{
	struct several_topics s;
	pthread_t sender;

	start(_i);
	open_several(&s);
	ck_assert_int_eq(pthread_create(&sender, NULL, send_in_turn, &s), 0);
	for (int got = 0; got < 200;) {
		zcp_sub *ready[TOPICS];
		int n = zcp_waitset_wait(s.set, ready, TOPICS, PATIENCE);

		ck_assert_int_gt(n, 0);
		for (int i = 0; i < n; i++) {
			zcp_msg msg;

			while (zcp_take(ready[i], &msg) == 1) {
				zcp_release(ready[i], &msg);
				got++;
			}
		}
	}
	pthread_join(sender, NULL);
	close_several(&s);
	stop();
}
END_TEST

START_TEST(a_waitset_refuses_what_it_cannot_wait_for)
{
	zcp_waitset *set, *other;
	zcp *second;
	zcp_sub *sub, *ready;

	start(0);
	second = bus_open("second");
	must(zcp_waitset_open(bus, &set));
	must(zcp_waitset_open(second, &other));
	ck_assert_int_eq(zcp_waitset_wait(set, &ready, 1, 0), -ZCP_E_ARG);
	sub = subscribe(ZCP_RELIABLE);
	ck_assert_int_eq(zcp_waitset_add(other, sub), -ZCP_E_ARG);
	must(zcp_waitset_add(set, sub));
	ck_assert_int_eq(zcp_waitset_add(set, sub), -ZCP_E_BUSY);
	ck_assert_int_eq(zcp_sub_fd(sub), -ZCP_E_BUSY);
	ck_assert_int_eq(zcp_waitset_wait(set, &ready, 0, 0), -ZCP_E_ARG);
	must(zcp_waitset_remove(set, sub));
	ck_assert_int_eq(zcp_waitset_remove(set, sub), -ZCP_E_ARG);
	must(zcp_waitset_add(set, sub));
	zcp_unsubscribe(&sub);
	ck_assert_int_eq(zcp_waitset_wait(set, &ready, 1, 0), -ZCP_E_ARG);
	zcp_waitset_close(&set);
	zcp_waitset_close(&other);
	zcp_close(&second);
	stop();
}
END_TEST

/* ---- descriptors ---------------------------------------------------------------------- */

static bool readable(int fd, int timeout_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, timeout_ms) == 1;
}

static void take_all_there_is(zcp_sub *sub, uint64_t *next)
{
	zcp_msg msg;
	int rc;

	while ((rc = zcp_take(sub, &msg)) == 1) {
		ck_assert_uint_eq(number(&msg), (*next)++);
		zcp_release(sub, &msg);
	}
	must(rc);
}

/* What changed in the directory is news, too: drain until it is quiet. */
static void drain_descriptor(zcp_sub *sub, int fd, uint64_t *next)
{
	do
		take_all_there_is(sub, next);
	while (readable(fd, 0));
}

struct slow_sender {
	zcp_pub *pub;
	int go[2];			/* a byte asks for a message */
};

static void *send_on_demand(void *arg)
{
	struct slow_sender *s = arg;
	uint64_t n = 0;
	char byte;

	while (read(s->go[0], &byte, 1) == 1)
		send_number(s->pub, n++, 8);
	return NULL;
}

START_TEST(a_descriptor_is_readable_exactly_while_there_is_something)
{
	struct slow_sender s;
	uint64_t next = 0;
	pthread_t thread;
	zcp_sub *sub;
	int fd;

	start(_i);
	sub = subscribe(ZCP_RELIABLE);
	s.pub = offer(64, 0);
	fd = zcp_sub_fd(sub);
	must(fd);
	ck_assert_int_eq(zcp_sub_fd(sub), fd);
	drain_descriptor(sub, fd, &next);
	ck_assert_int_eq(pipe(s.go), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, send_on_demand, &s), 0);
	for (uint64_t n = 0; n < 300; n++) {
		ck_assert_int_eq(write(s.go[1], "", 1), 1);
		while (next <= n) {
			ck_assert(readable(fd, 10000));
			take_all_there_is(sub, &next);
		}
	}
	close(s.go[1]);
	pthread_join(thread, NULL);
	drain_descriptor(sub, fd, &next);
	/* Untaken it stays readable. */
	send_number(s.pub, next, 8);
	ck_assert(readable(fd, 10000));
	ck_assert(readable(fd, 0));
	drain_descriptor(sub, fd, &next);
	ck_assert_uint_eq(next, 301);
	close(s.go[0]);
	zcp_stop_offer(&s.pub);
	/* The end of a publisher is something, too. */
	ck_assert(readable(fd, 10000));
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

START_TEST(one_descriptor_serves_a_set_that_changes)
{
	struct several_topics s;
	zcp_sub *late;
	zcp_pub *pub;
	zcp_msg msg;
	int fd;

	start(_i);
	open_several(&s);
	fd = zcp_waitset_fd(s.set);
	must(fd);
	/* It sleeps by now for what the set was; then the set changes. */
	for (int i = 0; i < TOPICS; i++)
		ck_assert_int_eq(zcp_take(s.sub[i], &msg), 0);
	must(zcp_subscribe(bus, "late", NULL, &late));
	must(zcp_waitset_add(s.set, late));
	must(zcp_offer(bus, "late", NULL, &pub));
	ck_assert_int_eq(zcp_take(late, &msg), 0);
	send_number(pub, 7, 8);
	ck_assert(readable(fd, 10000));
	expect(late, 7);
	zcp_unsubscribe(&late);
	zcp_stop_offer(&pub);
	for (int i = 0; i < TOPICS; i++) {
		while (readable(fd, 0))
			for (int k = 0; k < TOPICS; k++)
				ck_assert_int_eq(zcp_take(s.sub[k], &msg), 0);
		send_number(s.pub[i], (uint64_t)i, 8);
		ck_assert(readable(fd, 10000));
		expect(s.sub[i], (uint64_t)i);
	}
	close_several(&s);
	stop();
}
END_TEST

START_TEST(a_merged_subscription_has_a_descriptor_that_knows_the_time)
{
	struct merged m;
	uint64_t next = 0;
	zcp_msg msg;
	int fd;

	start(_i);
	merge(&m, 30 * NS_PER_MS);
	fd = zcp_sub_fd(m.sub);
	must(fd);
	drain_descriptor(m.sub, fd, &next);
	send_number(m.speaking, 0, 8);
	/* At first only to say that it is held back, then for good. */
	while (zcp_take(m.sub, &msg) == 0)
		ck_assert(readable(fd, 10000));
	ck_assert_uint_eq(number(&msg), 0);
	zcp_release(m.sub, &msg);
	end_merged(&m);
	stop();
}
END_TEST

struct prompt_sender {
	zcp_pub *pub;
	_Atomic uint64_t asked;		/* messages; UINT64_MAX: no more */
};

/* Sooner or a little later after each is asked for. */
static void *send_promptly(void *arg)
{
	struct prompt_sender *s = arg;

	for (uint64_t n = 0;;) {
		uint64_t asked = s->asked;

		if (asked == UINT64_MAX)
			return NULL;
		if (asked == n) {
			sched_yield();
			continue;
		}
		for (uint64_t i = 0; i < n % 50; i++)
			cpu_relax();
		send_number(s->pub, n++, 8);
	}
}

/* Each is asked for just before the descriptor is armed, and comes while it is:
 * it is on the list of what is waited for, or known to be held back. */
START_TEST(no_merged_message_comes_unseen_between_two_looks)
{
	struct prompt_sender s = { 0 };
	struct merged m;
	uint64_t next = 0;
	pthread_t thread;
	int fd, rc;

	start(_i);
	merge(&m, NS_PER_MS / 10);
	s.pub = m.speaking;
	fd = zcp_sub_fd(m.sub);
	must(fd);
	drain_descriptor(m.sub, fd, &next);
	ck_assert_int_eq(pthread_create(&thread, NULL, send_promptly, &s), 0);
	s.asked = 1;
	while (next < 10000) {
		zcp_msg msg;

		if ((rc = zcp_take(m.sub, &msg)) == 0) {
			ck_assert(readable(fd, 10000));
			continue;
		}
		must(rc);
		ck_assert_uint_eq(number(&msg), next);
		zcp_release(m.sub, &msg);
		s.asked = ++next + 1;
	}
	s.asked = UINT64_MAX;
	pthread_join(thread, NULL);
	end_merged(&m);
	stop();
}
END_TEST

/* ---- long sleeps --------------------------------------------------------------- */

/* As if it had published until then, and its readers had let it. */
static void jump_to(zcp_pub *pub, uint64_t seq)
{
	slot_put(&pub->ring->slot[(seq - 1) & pub->mask].stamp, seq);
	pub->head = pub->walked = pub->tail = seq;
	pub->straight = 0;
	tail_found(pub->ring, word_make(0, pub->serial, seq));
}

START_TEST(who_slept_through_more_messages_than_a_tail_can_count_goes_on)
{
	static const uint64_t far[] = { (UINT64_C(1) << 39) - 5,
	    (UINT64_C(1) << 39) + 5, (UINT64_C(1) << 40) + 5,
	    (UINT64_C(7) << 40) + 5 };
	uint64_t lost_by_sub = 0, lost_by_tap = 0;
	zcp_pub *pub;
	zcp_sub *sub;
	zcp_tap *tap;
	zcp_msg msg;
	int rc;

	start(0);
	pub = offer(64, 0);
	sub = subscribe(ZCP_LOSSY);
	must(zcp_tap_open(bus, "t", &tap));
	ck_assert_int_eq(zcp_tap_read(tap, &msg), 0);
	ck_assert_int_eq(zcp_take(sub, &msg), 0);
	jump_to(pub, far[_i]);
	for (uint64_t n = 0; n < 200; n++)
		send_number(pub, far[_i] + n, 8);
	while ((rc = zcp_take(sub, &msg)) == -ZCP_E_LAPPED)
		lost_by_sub += msg.lost;
	ck_assert_int_eq(rc, 1);
	ck_assert_uint_eq(number(&msg), lost_by_sub);
	while ((rc = zcp_tap_read(tap, &msg)) == -ZCP_E_LAPPED)
		lost_by_tap += msg.lost;
	ck_assert_int_eq(rc, 1);
	ck_assert_uint_eq(number(&msg), lost_by_tap);
	zcp_tap_close(&tap);
	zcp_unsubscribe(&sub);
	zcp_stop_offer(&pub);
	stop();
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("readers");

	tcase_set_timeout(t, 120);
	in_each_mode(t, who_comes_after_the_end_reads_the_retained_history);
	in_each_mode(t, without_retention_history_ends_with_its_publisher);
	in_each_mode(t, a_topic_keeps_the_last_n_of_all_its_closed_publishers);
	in_each_mode(t, more_ended_publishers_than_usual_are_all_followed);
	in_each_mode(t, retained_history_survives_daemons);
	in_each_mode(t,
	    history_of_a_dead_publisher_stays_and_its_death_is_told);
	in_each_mode(t, cursors_of_history_that_was_read_serve_again);
	tcase_add_loop_test(t, offers_of_one_process_are_read_in_their_order,
	    0, 2 * MODES);
	in_each_mode(t, a_lossy_reader_that_is_full_keeps_no_publisher_away);
	in_each_mode(t, subscribing_while_history_goes_never_fails);
	in_each_mode(t, history_keeps_no_more_than_half_of_a_pool);
	in_each_mode(t, retained_history_gives_way_to_those_who_live);
	in_each_mode(t, a_batch_takes_what_there_is_in_order);
	in_each_mode(t,
	    a_batch_ends_where_the_holds_do);
	in_each_mode(t,
	    messages_of_one_chunk_that_are_taken_at_once_share_a_hold);
	in_each_mode(t,
	    a_corked_publisher_wakes_nobody_before_it_is_uncorked);
	in_each_mode(t,
	    a_corked_publisher_without_room_wakes_its_readers);
	in_each_mode(t, a_forked_child_of_a_corked_publisher_is_refused);
	in_each_mode(t,
	    a_tail_that_makes_no_sense_ends_its_ring_for_the_reader);
	in_each_mode(t,
	    a_corked_publisher_wakes_a_lossy_reader_before_it_passes_it_over);
	in_each_mode(t, a_loss_behind_a_batch_is_told_by_the_next_call);
	in_each_mode(t,
	    merged_publishers_are_read_in_the_order_of_their_stamps);
	in_each_mode(t,
	    a_silent_publisher_delays_a_merge_for_no_longer_than_asked);
	in_each_mode(t, a_waitset_names_those_that_have_something);
	in_each_mode(t, few_places_starve_nobody_in_a_waitset);
	in_each_mode(t, a_sleeping_waitset_is_woken_by_each_of_its_topics);
	tcase_add_test(t, a_waitset_refuses_what_it_cannot_wait_for);
	in_each_mode(t,
	    a_descriptor_is_readable_exactly_while_there_is_something);
	in_each_mode(t, one_descriptor_serves_a_set_that_changes);
	in_each_mode(t,
	    a_merged_subscription_has_a_descriptor_that_knows_the_time);
	in_each_mode(t, no_merged_message_comes_unseen_between_two_looks);
	tcase_add_loop_test(t,
	    who_slept_through_more_messages_than_a_tail_can_count_goes_on, 0, 4);
	return run_tests("readers", t);
}
