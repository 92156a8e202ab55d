/* Damage by a member to its own words: a bit flipped in a tail, holds that it
 * made up.  Whoever reads them is told, and goes on. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "atomics.h"
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
	return run_tests("damage", t);
}
