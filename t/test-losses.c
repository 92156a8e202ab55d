/*
 * Every message that was published is taken, or told to be lost, once: also
 * where its publisher ended while its reader was stopped, or looked elsewhere,
 * for longer than an ended ring stays.
 */
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "scene.h"

static struct settings settings;

/* Ended rings stay for a moment only; silence is seen soon. */
static void start_hasty(int mode)
{
	settings = mode_settings(mode);
	settings.grace = 20 * NS_PER_MS;
	settings.heartbeat = 50 * NS_PER_MS;
	bus_start(&settings);
	bus = bus_open("test");
}

static bool nothing_drains(void *arg)
{
	(void)arg;
	return status_number("draining") == 0;
}

static void offers_are_forgotten(void)
{
	eventually(nothing_drains, NULL, "what has ended is forgotten");
}

/* Offers on "t", publishes messages [from, to), ends. */
static void come_and_go(uint64_t from, uint64_t to)
{
	zcp_pub *pub = offer(16, 0);

	for (uint64_t n = from; n < to; n++)
		send_number(pub, n, n % 2 ? 8 : 100);
	zcp_stop_offer(&pub);
}

struct tally {
	uint64_t taken, lost;
};

/* All there is, in ascending order. */
static void take_all(zcp_sub *sub, struct tally *t)
{
	uint64_t next = t->taken + t->lost;
	zcp_msg msg;
	int rc;

	while ((rc = zcp_take(sub, &msg)) != 0) {
		if (rc == -ZCP_E_LAPPED) {
			t->lost += msg.lost;
			continue;
		}
		must(rc);
		ck_assert_uint_ge(number(&msg), next);
		next = number(&msg) + 1;
		t->taken++;
		zcp_release(sub, &msg);
	}
}

/* A vain look need not be one for ends; then all is known. */
static struct tally tally(zcp_sub *sub)
{
	struct tally t = { 0, 0 };
	zcp_sub_info info;

	for (int i = 0; i < 2; i++) {
		take_all(sub, &t);
		must(zcp_sub_status(sub, &info));
	}
	ck_assert_uint_ge(info.lost, t.lost);
	return t;
}

/* ---- a reader that may lose, and looks elsewhere ------------------------------------ */

START_TEST(what_a_busy_reader_missed_of_a_ring_whose_place_is_reused_is_told)
{
	struct tally t;
	zcp_pub *pub;
	zcp_sub *sub;

	start_hasty(_i);
	sub = subscribe(ZCP_LOSSY);
	pub = offer(16, 0);
	send_number(pub, 0, 8);
	expect(sub, 0);
	for (uint64_t n = 1; n < 7; n++)
		send_number(pub, n, n % 2 ? 8 : 100);
	zcp_stop_offer(&pub);
	offers_are_forgotten();
	pub = offer(16, 0);
	send_number(pub, 7, 8);
	t = tally(sub);
	ck_assert_uint_eq(t.taken, 1);
	ck_assert_uint_eq(t.lost, 6);
	zcp_stop_offer(&pub);
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

START_TEST(a_publisher_that_came_and_went_between_two_looks_is_told_of)
{
	zcp_sub_info info;
	struct tally t;
	zcp_sub *sub;

	start_hasty(_i);
	sub = subscribe(ZCP_LOSSY);
	for (uint64_t n = 0; n < 30; n += 10) {
		come_and_go(n, n + 10);
		offers_are_forgotten();
	}
	t = tally(sub);
	ck_assert_uint_eq(t.taken, 0);
	ck_assert_uint_eq(t.lost, 30);
	must(zcp_sub_status(sub, &info));
	ck_assert_uint_eq(info.seen, 3);
	ck_assert_uint_eq(info.publishers, 0);
	/* Its cursors serve again. */
	for (uint64_t n = 0; n < 100; n += 2) {
		come_and_go(n, n + 2);
		t = (struct tally){ n, 0 };
		take_all(sub, &t);
		ck_assert_uint_eq(t.taken + t.lost, n + 2);
		must(zcp_sub_status(sub, &info));
		ck_assert_uint_eq(info.unfollowed, 0);
	}
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

START_TEST(an_untold_loss_wakes_its_reader)
{
	struct pollfd p = { .events = POLLIN };
	zcp_sub *sub, *ready;
	zcp_waitset *set;
	zcp_msg msg[4];

	start_hasty(_i);
	sub = subscribe(ZCP_LOSSY);
	must(zcp_waitset_open(bus, &set));
	must(zcp_waitset_add(set, sub));
	p.fd = zcp_waitset_fd(set);
	must(p.fd);
	come_and_go(0, 10);
	offers_are_forgotten();
	ck_assert_int_eq(poll(&p, 1, 10000), 1);
	ck_assert_int_eq(zcp_waitset_wait(set, &ready, 1, PATIENCE), 1);
	ck_assert_ptr_eq(ready, sub);
	ck_assert_int_eq(zcp_take_batch(sub, msg, 4), -ZCP_E_LAPPED);
	ck_assert_uint_eq(msg[0].lost, 10);
	zcp_waitset_close(&set);
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

START_TEST(a_merge_and_a_pattern_are_told_of_what_came_and_went)
{
	zcp_sub_options merged = { .lossy = 1, .merge = (int64_t)NS_PER_MS };
	zcp_sub *sub, *pattern;
	struct tally t;
	zcp_pub *pub;

	start_hasty(_i);
	must(zcp_subscribe(bus, "t", &merged, &sub));
	merged.merge = 0;
	must(zcp_subscribe(bus, "*", &merged, &pattern));
	pub = offer(16, 0);
	send_number(pub, 0, 8);
	expect(sub, 0);
	expect(pattern, 0);
	send_number(pub, 1, 8);
	zcp_stop_offer(&pub);
	offers_are_forgotten();
	come_and_go(2, 6);
	offers_are_forgotten();
	t = (struct tally){ 1, 0 };
	take_all(sub, &t);
	ck_assert_uint_eq(t.lost, 5);
	t = (struct tally){ 1, 0 };
	take_all(pattern, &t);
	ck_assert_uint_eq(t.lost, 5);
	zcp_unsubscribe(&pattern);
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

static bool nobody_offers(void *arg)
{
	return status_number("publishers") == 0 && nothing_drains(arg);
}

START_TEST(what_was_lost_is_told_across_daemons)
{
	struct tally t;
	zcp_pub *pub;
	zcp_sub *sub;

	start_hasty(_i);
	sub = subscribe(ZCP_LOSSY);
	come_and_go(0, 10);
	offers_are_forgotten();
	pub = offer(16, 0);
	bus_kill();
	for (uint64_t n = 10; n < 20; n++)
		send_number(pub, n, 8);
	zcp_stop_offer(&pub);
	bus_restart(&settings);
	eventually(nobody_offers, NULL, "nobody offers any more");
	t = tally(sub);
	ck_assert_uint_eq(t.taken, 0);
	ck_assert_uint_eq(t.lost, 20);
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

/* ---- more publishers than cursors ----------------------------------------------------- */

START_TEST(what_publishers_beyond_its_cursors_published_is_told)
{
	zcp_sub_options few = { .lossy = 1, .publishers = 2 };
	zcp_sub_info info;
	zcp_pub *pub;
	zcp_sub *sub;

	start_hasty(_i);
	must(zcp_subscribe(bus, "t", &few, &sub));
	for (uint64_t n = 0; n < 60; n += 10) {
		come_and_go(n, n + 10);
		offers_are_forgotten();
	}
	ck_assert_uint_eq(tally(sub).lost, 60);
	must(zcp_sub_status(sub, &info));
	ck_assert_uint_eq(info.unfollowed, 4);
	/* One that ends while there is no daemon. */
	for (uint64_t n = 0; n < 20; n += 10) {
		come_and_go(n, n + 10);
		offers_are_forgotten();
	}
	pub = offer(16, 0);
	for (uint64_t n = 0; n < 5; n++)
		send_number(pub, n, 8);
	bus_kill();
	zcp_stop_offer(&pub);
	bus_restart(&settings);
	eventually(nobody_offers, NULL, "nobody offers any more");
	ck_assert_uint_eq(tally(sub).lost, 25);
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

static bool one_is_followed(void *arg)
{
	zcp_sub_info info;

	must(zcp_sub_status(arg, &info));
	return info.publishers == 1;
}

START_TEST(a_publisher_that_had_to_wait_for_a_cursor_is_followed_then)
{
	zcp_sub_options few = { .lossy = 1, .publishers = 1 };
	struct tally t = { 0, 0 };
	zcp_pub_info published;
	zcp_pub *pub;
	zcp_sub *sub;

	start_hasty(_i);
	must(zcp_subscribe(bus, "t", &few, &sub));
	come_and_go(0, 10);
	offers_are_forgotten();
	pub = offer(16, 0);
	for (uint64_t n = 10; n < 50; n++)
		send_number(pub, n, 8);
	take_all(sub, &t);
	ck_assert_uint_eq(t.lost, 10);
	eventually(one_is_followed, sub, "it has its cursor");
	for (uint64_t n = 50; n < 60; n++)
		send_number(pub, n, 8);
	take_all(sub, &t);
	ck_assert_uint_eq(t.taken + t.lost, 60);
	ck_assert_uint_ge(t.taken, 8);
	/* What it lost, nobody else counts. */
	zcp_pub_status(pub, &published);
	ck_assert_uint_eq(published.unseen, 0);
	zcp_stop_offer(&pub);
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

/* ---- a reader that is stopped --------------------------------------------------------- */

static int said[2];
static zcp_sub_options asked;		/* by the reader */

/* Takes until a message of three bytes comes: says "s" when it is there, "1"
 * after the first where `arg` says so, and in the end what it took and lost. */
static void take_to_the_end(void *arg)
{
	zcp_options o = { .name = "reader" };
	struct tally t = { 0, 0 };
	zcp_sub_info info;
	zcp_msg msg;
	zcp_sub *sub;
	zcp *own;
	int rc = 0;

	need(zcp_open(&own, &o));
	need(zcp_subscribe(own, "t", &asked, &sub));
	need((int)write(said[1], "s", 1));
	do {
		if ((rc = zcp_take(sub, &msg)) == 0) {
			need(zcp_wait(sub, PATIENCE));
		} else if (rc == -ZCP_E_LAPPED) {
			t.lost += msg.lost;
		} else {
			need(rc);
			zcp_release(sub, &msg);
			if (t.taken++ == 0 && arg != NULL)
				need((int)write(said[1], "1", 1));
		}
	} while (rc != 1 || msg.size != 3);
	need(zcp_sub_status(sub, &info));
	if (info.lost != t.lost || info.messages != t.taken)
		_exit(4);
	t.taken--;			/* the last word */
	need((int)write(said[1], &t, sizeof(t)));
	zcp_unsubscribe(&sub);
	zcp_close(&own);
}

static void hear(void *to, size_t size)
{
	ck_assert_int_eq(read(said[0], to, size), (ssize_t)size);
}

static bool someone_stalls(void *arg)
{
	return status_number("demotions") == *(uint64_t *)arg;
}

static void stop_process(pid_t pid, uint64_t times)
{
	ck_assert_int_eq(kill(pid, SIGSTOP), 0);
	eventually(someone_stalls, &times, "the reader is passed over");
}

static pid_t reader(bool says_first)
{
	char c;
	pid_t pid;

	ck_assert_int_eq(pipe(said), 0);
	pid = in_process(take_to_the_end, says_first ? said : NULL);
	hear(&c, 1);
	return pid;
}

/* It goes on, and all of `sent` is accounted for. */
static struct tally wake(pid_t pid, zcp_pub *pub, uint64_t sent)
{
	struct tally t;

	ck_assert_int_eq(kill(pid, SIGCONT), 0);
	must(zcp_send(pub, "end", 3, 0, PATIENCE));
	hear(&t, sizeof(t));
	join_process(pid);
	ck_assert_uint_eq(t.taken + t.lost, sent);
	close(said[0]);
	close(said[1]);
	return t;
}

START_TEST(what_a_stopped_reader_missed_of_an_offer_and_the_next_is_told)
{
	zcp_pub *pub;
	char c;
	pid_t pid;

	start_hasty(_i);
	pid = reader(true);
	pub = offer(16, 0);
	send_number(pub, 0, 8);
	hear(&c, 1);
	stop_process(pid, 1);
	for (uint64_t n = 1; n < 100; n++)
		send_number(pub, n, n % 2 ? 8 : 100);
	zcp_stop_offer(&pub);
	offers_are_forgotten();
	pub = offer(16, 0);
	for (uint64_t n = 0; n < 4; n++)
		send_number(pub, n, 8);
	ck_assert_uint_ge(wake(pid, pub, 104).lost, 99);
	zcp_stop_offer(&pub);
	stop();
}
END_TEST

START_TEST(a_publisher_that_came_and_went_while_its_reader_was_stopped_is_told_of)
{
	zcp_pub *pub;
	pid_t pid;

	start_hasty(_i);
	pid = reader(false);
	stop_process(pid, 1);
	come_and_go(0, 100);
	offers_are_forgotten();
	pub = offer(16, 0);
	wake(pid, pub, 100);
	zcp_stop_offer(&pub);
	stop();
}
END_TEST

START_TEST(a_stopped_reader_with_few_cursors_refuses_nobody_and_misses_no_count)
{
	zcp_pub *pub;
	pid_t pid;
	char c;

	start_hasty(_i);
	asked.publishers = 2;
	pid = reader(true);
	pub = offer(16, 0);
	send_number(pub, 0, 8);
	hear(&c, 1);
	stop_process(pid, 1);
	zcp_stop_offer(&pub);
	for (uint64_t n = 0; n < 100; n += 10) {
		come_and_go(n, n + 10);
		offers_are_forgotten();
	}
	/* The last word is for a reader that has a cursor again. */
	pub = offer(16, 0);
	ck_assert_int_eq(kill(pid, SIGCONT), 0);
	ck_assert_int_eq(zcp_pub_wait_readers(pub, 1, PATIENCE), 1);
	wake(pid, pub, 101);
	zcp_stop_offer(&pub);
	stop();
}
END_TEST

START_TEST(a_stopped_reader_that_is_killed_leaves_nothing)
{
	pid_t pid;

	start_hasty(_i);
	pid = reader(false);
	stop_process(pid, 1);
	come_and_go(0, 100);
	offers_are_forgotten();
	kill_process(pid);
	offers_are_forgotten();
	stop();
}
END_TEST

/* ---- a publisher that dies ---------------------------------------------------------------- */

static void publish_and_stay(void *arg)
{
	zcp_options o = { .name = "mortal" };
	zcp_pub *pub;
	zcp *own;

	(void)arg;
	need(zcp_open(&own, &o));
	need(zcp_offer(own, "t", NULL, &pub));
	for (int i = 0; i < 10; i++)
		need(zcp_send(pub, "x", 1, 0, 0));
	need((int)write(said[1], "p", 1));
	pause();
}

static bool only_we_are_left(void *arg)
{
	(void)arg;
	return status_number("deaths") == 1 && status_number("draining") == 0;
}

START_TEST(the_death_of_a_publisher_that_nobody_saw_is_told)
{
	zcp_sub_info info;
	zcp_msg msg;
	zcp_sub *sub;
	pid_t pid;
	char c;

	start_hasty(_i);
	sub = subscribe(ZCP_LOSSY);
	ck_assert_int_eq(pipe(said), 0);
	pid = in_process(publish_and_stay, NULL);
	hear(&c, 1);
	kill_process(pid);
	eventually(only_we_are_left, NULL, "the dead one is forgotten");
	ck_assert_int_eq(take_wait(sub, &msg), -ZCP_E_LAPPED);
	ck_assert_uint_eq(msg.lost, 10);
	must(zcp_sub_status(sub, &info));
	ck_assert_uint_eq(info.died, 1);
	ck_assert_uint_eq(info.seen, 1);
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("losses");

	tcase_set_timeout(t, 60);
	in_each_mode(t,
	    what_a_busy_reader_missed_of_a_ring_whose_place_is_reused_is_told);
	in_each_mode(t,
	    a_publisher_that_came_and_went_between_two_looks_is_told_of);
	in_each_mode(t, an_untold_loss_wakes_its_reader);
	in_each_mode(t, a_merge_and_a_pattern_are_told_of_what_came_and_went);
	in_each_mode(t, what_was_lost_is_told_across_daemons);
	in_each_mode(t, what_publishers_beyond_its_cursors_published_is_told);
	in_each_mode(t,
	    a_publisher_that_had_to_wait_for_a_cursor_is_followed_then);
	in_each_mode(t,
	    what_a_stopped_reader_missed_of_an_offer_and_the_next_is_told);
	in_each_mode(t,
	    a_publisher_that_came_and_went_while_its_reader_was_stopped_is_told_of);
	in_each_mode(t,
	    a_stopped_reader_with_few_cursors_refuses_nobody_and_misses_no_count);
	in_each_mode(t, a_stopped_reader_that_is_killed_leaves_nothing);
	in_each_mode(t, the_death_of_a_publisher_that_nobody_saw_is_told);
	return run_tests("losses", t);
}
