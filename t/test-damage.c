/* Damage by a member to its own words: a bit flipped in a tail, holds that it
 * made up.  Whoever reads them is told, and goes on. */
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "atomics.h"
#include "control.h"
#include "fuzz/image.h"
#include "publisher.h"
#include "scene.h"

/* ---- tails --------------------------------------------------------------------- */

static void flip_tail(zcp_pub *pub, unsigned bit)
{
	pub->ring->tail ^= UINT64_C(1) << bit;
}

static zcp_pub *offer_on(const char *topic)
{
	zcp_pub_options o = { .slots = 64 };
	zcp_pub *pub;

	must(zcp_offer(bus, topic, &o, &pub));
	return pub;
}

/* Those of the lowest bits may leave a tail that could be. */
START_TEST(a_publisher_whose_tail_is_damaged_says_so_at_once)
{
	zcp_pub *pub;
	int rc = 1;

	start(0);
	pub = offer_on("t");
	for (int i = 0; i < 100; i++)
		send_number(pub, 7, i % 2 ? 8 : 100);
	flip_tail(pub, (unsigned)_i);
	for (int i = 0; i < 1000 && rc == 1; i++)
		rc = zcp_send(pub, "x", 1, 0, (int64_t)PATIENCE);
	if (_i >= 7) {
		ck_assert_int_eq(rc, -ZCP_E_DAMAGED);
		ck_assert_ptr_nonnull(strstr(zcp_errmsg(),
		    "the tail of its ring in p0 is damaged"));
	} else if (rc != 1)
		ck_assert_int_eq(rc, -ZCP_E_DAMAGED);
	/* Another one of the same process does its work. */
	zcp_stop_offer(&pub);
	pub = offer_on("u");
	for (int i = 0; i < 100; i++)
		send_number(pub, 7, 100);
	zcp_stop_offer(&pub);
	stop();
}
END_TEST

START_TEST(a_reader_leaves_a_ring_with_a_damaged_tail_and_tells_the_loss)
{
	zcp_pub *bad, *good;
	zcp_sub_info info;
	zcp_sub *sub;
	zcp_msg msg;

	start(0);
	sub = subscribe(_i % 2 ? ZCP_LOSSY : ZCP_RELIABLE);
	bad = offer_on("t");
	good = offer_on("t");
	send_number(bad, 1, 8);
	expect(sub, 1);
	for (uint64_t n = 2; n < 5; n++)
		send_number(bad, n, n % 2 ? 8 : 100);
	flip_tail(bad, _i < 2 ? 38 : 10);
	ck_assert_int_eq(take_wait(sub, &msg), -ZCP_E_DAMAGED);
	ck_assert_uint_eq(msg.lost, 3);
	ck_assert_ptr_nonnull(strstr(zcp_errmsg(), "the ring of test (pid "));
	send_number(good, 5, 100);
	expect(sub, 5);
	ck_assert_int_eq(zcp_take(sub, &msg), 0);
	must(zcp_sub_status(sub, &info));
	ck_assert_uint_eq(info.lost, 3);
	ck_assert_uint_eq(info.publishers, 1);
	zcp_stop_offer(&bad);
	zcp_stop_offer(&good);
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

START_TEST(who_comes_to_a_ring_with_a_damaged_tail_is_told)
{
	zcp_pub *pub;
	zcp_sub *sub;
	zcp_msg msg;

	start(0);
	pub = offer_on("t");
	send_number(pub, 1, 8);
	flip_tail(pub, 20);
	sub = subscribe(ZCP_RELIABLE);
	ck_assert_int_eq(take_wait(sub, &msg), -ZCP_E_DAMAGED);
	ck_assert_int_eq(zcp_take(sub, &msg), 0);
	zcp_unsubscribe(&sub);
	zcp_stop_offer(&pub);
	stop();
}
END_TEST

START_TEST(a_tap_leaves_a_ring_with_a_damaged_tail)
{
	zcp_pub *bad, *good;
	zcp_tap *tap;
	zcp_msg msg;

	start(0);
	bad = offer_on("t");
	good = offer_on("t");
	must(zcp_tap_open(bus, "t", &tap));
	send_number(bad, 1, 8);
	flip_tail(bad, 30);
	ck_assert_int_eq(zcp_tap_read(tap, &msg), -ZCP_E_DAMAGED);
	ck_assert_int_eq(zcp_tap_read(tap, &msg), 0);
	ck_assert_int_eq(zcp_tap_wait(tap, 0), 0);
	send_number(good, 2, 8);
	must(zcp_tap_wait(tap, (int64_t)PATIENCE));
	ck_assert_int_eq(zcp_tap_read(tap, &msg), 1);
	ck_assert_uint_eq(number(&msg), 2);
	zcp_tap_close(&tap);
	zcp_stop_offer(&bad);
	zcp_stop_offer(&good);
	stop();
}
END_TEST

/* ---- a live daemon ------------------------------------------------------------- */

enum { DAMAGES = 4000, PINGS_EVERY = 8 };

static void come_and_go(void (*work)(zcp *on))
{
	zcp_options o = { .timeout = 20 * NS_PER_MS };
	zcp *on;

	for (;;)
		if (zcp_open(&on, &o) == 0) {
			work(on);
			zcp_close(&on);
		}
}

static void publish_some(zcp *on)
{
	zcp_pub_options o = { .slots = 16, .history = 4,
	    .retain = 10 * NS_PER_MS };
	char text[200] = "";
	zcp_pub *pub;

	if (zcp_offer(on, "t", &o, &pub) < 0)
		return;
	for (int i = 0; i < 100 && zcp_send(pub, text, i % 2 ? 200 : 8, 0,
	    NS_PER_MS) >= 0; i++)
		;
	zcp_stop_offer(&pub);
}

static void read_some(zcp *on)
{
	zcp_sub_options o = { .holds = 4, .publishers = 8 };
	zcp_sub *sub;
	zcp_msg msg;

	if (zcp_subscribe(on, "*", &o, &sub) < 0)
		return;
	for (int i = 0; i < 100; i++) {
		int rc = zcp_take(sub, &msg);

		if (rc == 1)
			zcp_release(sub, &msg);
		else if (rc < 0 || zcp_wait(sub, NS_PER_MS) < 0)
			break;
	}
	zcp_unsubscribe(&sub);
}

static void publish_role(void *arg)
{
	(void)arg;
	come_and_go(publish_some);
}

static void read_role(void *arg)
{
	(void)arg;
	come_and_go(read_some);
}

static void must_live(pid_t pid, const char *who)
{
	int status;
	pid_t ended = waitpid(pid, &status, WNOHANG);

	ck_assert_msg(ended == 0, "%s ended with %#x", who, status);
}

static void must_answer(const char *request)
{
	char reply[CONTROL_REPLY];
	uint64_t began = clock_ns();

	must(control_call(bus_domain, request, reply, sizeof(reply),
	    began + NS_PER_S));
}

/*
 * Whatever is changed in its files while it works, the daemon answers within a
 * second, neither it nor its members crash, and (which a build with
 * AddressSanitizer sees) it writes into no table beyond its end.
 */
START_TEST(a_daemon_whose_files_are_damaged_under_it_answers_within_a_second)
{
	struct settings s = bus_settings();
	uint32_t seed = (uint32_t)getpid() << 4 | (uint32_t)_i | 1;
	pid_t daemon, publishers[2], reader;

	fprintf(stderr, "seed %u\n", seed);
	s.heartbeat = 20 * NS_PER_MS;
	daemon = bus_start(&s);
	for (int i = 0; i < 2; i++)
		publishers[i] = in_process(publish_role, NULL);
	reader = in_process(read_role, NULL);
	for (int i = 0; i < DAMAGES; i++) {
		image_damage(bus_domain, &seed);
		if (i % PINGS_EVERY == 0)
			must_answer(i / PINGS_EVERY % 8 == 0 ? "STATUS" :
			    i / PINGS_EVERY % 8 == 1 ? "DUMP" : "PING");
		must_live(daemon, "the daemon");
		for (int k = 0; k < 2; k++)
			must_live(publishers[k], "a publisher");
		must_live(reader, "the reader");
	}
	for (int k = 0; k < 2; k++)
		kill_process(publishers[k]);
	kill_process(reader);
	must_answer("PING");
	bus_stop_leaving_damage();
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("damage");

	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t,
	    a_publisher_whose_tail_is_damaged_says_so_at_once, 0, 64);
	tcase_add_loop_test(t,
	    a_reader_leaves_a_ring_with_a_damaged_tail_and_tells_the_loss, 0, 4);
	tcase_add_test(t, who_comes_to_a_ring_with_a_damaged_tail_is_told);
	tcase_add_test(t, a_tap_leaves_a_ring_with_a_damaged_tail);
	tcase_add_loop_test(t,
	    a_daemon_whose_files_are_damaged_under_it_answers_within_a_second,
	    0, 8);
	return run_tests("damage", t);
}
