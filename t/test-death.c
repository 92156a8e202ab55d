/* kill -9 of a publisher, a reader, the daemon: the others go on. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "atomics.h"
#include "bus.h"
#include "control.h"

static struct settings settings;

static void start(void)
{
	settings = bus_settings();
	settings.heartbeat = 50 * NS_PER_MS;
	bus_start(&settings);
}

/* A child says over this pipe how far it has come. */
static int said[2];

static void say(char c)
{
	if (write(said[1], &c, 1) != 1)
		_exit(2);
}

static void hear(char expected)
{
	char c;

	ck_assert_int_eq(read(said[0], &c, 1), 1);
	ck_assert_int_eq(c, expected);
}

static zcp *child_bus(const char *name)
{
	zcp_options o = { .name = name };
	zcp *bus;

	need(zcp_open(&bus, &o));
	return bus;
}

/* ---- a publisher dies -------------------------------------------------------------- */

static void publish_loan_and_stay(void *arg)
{
	zcp *bus = child_bus("victim");
	zcp_chunk chunk;
	zcp_pub *pub;

	(void)arg;
	need(zcp_offer(bus, "t", NULL, &pub));
	for (int i = 0; i < 5; i++)
		need(zcp_send(pub, "a message that takes a chunk of its own",
		    40, 0, 0));
	for (int i = 0; i < 5; i++)
		need(zcp_loan(pub, 100, &chunk, 0));
	say('p');
	pause();
}

START_TEST(dead_publishers_loans_return_to_their_pool)
{
	pid_t pid;

	start();
	ck_assert_int_eq(pipe(said), 0);
	pid = in_process(publish_loan_and_stay, NULL);
	hear('p');
	ck_assert_uint_eq(pool_number(128, "loaned"), 5);
	kill_process(pid);
	all_chunks_come_back();
	ck_assert_uint_eq(status_number("deaths"), 1);
	bus_stop();
}
END_TEST

static bool nothing_drains(void *arg)
{
	(void)arg;
	return status_number("participants") <= 1 &&
	    status_number("draining") == 0;
}

/* A daemon, a reader, and in the process that is returned a publisher, which
 * has come as far as `word`. */
static pid_t read_one_who_stays(zcp **bus, zcp_sub **sub,
    void (*role)(void *), char word)
{
	pid_t pid;

	start();
	ck_assert_int_eq(pipe(said), 0);
	*bus = bus_open("reader");
	must(zcp_subscribe(*bus, "t", NULL, sub));
	pid = in_process(role, NULL);
	hear(word);
	return pid;
}

START_TEST(what_a_dead_publisher_had_published_is_read_to_its_end)
{
	zcp_sub_info info;
	zcp_sub *sub;
	zcp_msg msg;
	pid_t pid;
	zcp *bus;

	pid = read_one_who_stays(&bus, &sub, publish_loan_and_stay, 'p');
	kill_process(pid);
	for (int i = 0; i < 5; i++) {
		ck_assert_int_eq(take_wait(sub, &msg), 1);
		ck_assert_uint_eq(msg.size, 40);
		zcp_release(sub, &msg);
	}
	do
		must(zcp_sub_status(sub, &info));
	while (info.publishers > 0 && zcp_wait(sub, NS_PER_S) >= 0);
	ck_assert_uint_eq(info.died, 1);
	ck_assert_msg(strstr(info.died_name, "victim (pid ") != NULL, "%s",
	    info.died_name);
	all_chunks_come_back();
	eventually(nothing_drains, NULL, "the dead publisher's port is gone");
	zcp_unsubscribe(&sub);
	zcp_close(&bus);
	bus_stop();
}
END_TEST

static void close_and_stay(void *arg)
{
	zcp *bus = child_bus("orderly");
	zcp_pub *pub;

	(void)arg;
	need(zcp_offer(bus, "t", NULL, &pub));
	need(zcp_send(pub, "x", 1, 0, 0));
	hear('k');		/* the daemon is dead by now */
	zcp_stop_offer(&pub);
	say('c');
	pause();
}

START_TEST(a_port_that_was_closed_without_a_daemon_counts_as_closed)
{
	int to_child[2], from_child[2];
	zcp_sub_info info;
	zcp_sub *sub;
	zcp_msg msg;
	pid_t pid;
	zcp *bus;

	start();
	ck_assert_int_eq(pipe(to_child), 0);
	ck_assert_int_eq(pipe(from_child), 0);
	bus = bus_open("reader");
	must(zcp_subscribe(bus, "t", NULL, &sub));
	said[0] = to_child[0];
	said[1] = from_child[1];
	pid = in_process(close_and_stay, NULL);
	ck_assert_int_eq(take_wait(sub, &msg), 1);
	zcp_release(sub, &msg);
	bus_kill();
	ck_assert_int_eq(write(to_child[1], "k", 1), 1);
	said[0] = from_child[0];
	hear('c');
	kill_process(pid);
	bus_restart(&settings);
	do
		must(zcp_sub_status(sub, &info));
	while (info.publishers > 0 && zcp_wait(sub, NS_PER_S) >= 0);
	ck_assert_uint_eq(info.died, 0);
	ck_assert_uint_eq(info.seen, 1);
	zcp_unsubscribe(&sub);
	zcp_close(&bus);
	bus_stop();
}
END_TEST

static void loan_and_stay(void *arg)
{
	zcp *bus = child_bus("victim");
	zcp_chunk chunk[5];
	zcp_pub *pub;

	(void)arg;
	need(zcp_offer(bus, "t", NULL, &pub));
	need(zcp_send(pub, "unread", 6, 0, PATIENCE));
	for (int i = 0; i < 5; i++)
		need(zcp_loan(pub, 100, &chunk[i], PATIENCE));
	say('l');
	pause();
}

static bool nothing_is_loaned(void *arg)
{
	(void)arg;
	return pool_number(128, "loaned") == 0;
}

START_TEST(a_dead_publishers_loans_return_while_its_ring_is_still_unread)
{
	zcp_sub *sub;
	zcp_msg msg;
	pid_t pid;
	zcp *bus;

	pid = read_one_who_stays(&bus, &sub, loan_and_stay, 'l');
	ck_assert_uint_eq(pool_number(128, "loaned"), 5);
	kill_process(pid);
	eventually(nothing_is_loaned, NULL, "the loans to return");
	ck_assert_int_eq(take_wait(sub, &msg), 1);
	zcp_release(sub, &msg);
	zcp_unsubscribe(&sub);
	zcp_close(&bus);
	bus_stop();
}
END_TEST

/* ---- a reader dies ------------------------------------------------------------------- */

static void hold_and_stay(void *arg)
{
	zcp *bus = child_bus("victim");
	zcp_sub *sub;
	zcp_msg msg[3];

	(void)arg;
	need(zcp_subscribe(bus, "t", NULL, &sub));
	say('s');
	for (int i = 0; i < 3; i++)
		while (zcp_take(sub, &msg[i]) != 1)
			need(zcp_wait(sub, PATIENCE));
	say('h');
	pause();
}

static void fill(zcp_pub *pub, int count)
{
	for (int i = 0; i < count; i++)
		must(zcp_send(pub, "a message that takes a chunk of its own",
		    40, 0, PATIENCE));
}

/* A daemon, and a publisher whose ring is full of what a reader, in the
 * process that is returned, holds or has yet to take. */
static pid_t publish_to_one_who_holds(zcp **bus, zcp_pub **pub)
{
	zcp_pub_options o = { .slots = 8 };
	pid_t pid;

	start();
	ck_assert_int_eq(pipe(said), 0);
	*bus = bus_open("publisher");
	pid = in_process(hold_and_stay, NULL);
	hear('s');
	must(zcp_offer(*bus, "t", &o, pub));
	fill(*pub, 8);
	hear('h');
	return pid;
}

START_TEST(a_dead_reader_neither_gates_nor_holds)
{
	zcp_pub *pub;
	pid_t pid;
	zcp *bus;

	pid = publish_to_one_who_holds(&bus, &pub);
	kill_process(pid);
	/* Far beyond what ring and pools hold. */
	fill(pub, 200);
	zcp_stop_offer(&pub);
	all_chunks_come_back();
	zcp_close(&bus);
	bus_stop();
}
END_TEST

START_TEST(a_publisher_finds_a_dead_reader_without_a_daemon)
{
	zcp_pub *pub;
	pid_t pid;
	zcp *bus;

	pid = publish_to_one_who_holds(&bus, &pub);
	bus_kill();
	kill_process(pid);
	fill(pub, 200);
	bus_restart(&settings);
	zcp_stop_offer(&pub);
	all_chunks_come_back();
	ck_assert_uint_eq(status_number("deaths"), 1);
	zcp_close(&bus);
	bus_stop();
}
END_TEST

START_TEST(short_timeouts_find_a_dead_reader_without_a_daemon)
{
	int rc = -ZCP_E_TIMEOUT;
	zcp_pub *pub;
	pid_t pid;
	zcp *bus;

	pid = publish_to_one_who_holds(&bus, &pub);
	bus_kill();
	kill_process(pid);
	for (int i = 0; i < 1000 && rc == -ZCP_E_TIMEOUT; i++)
		rc = zcp_send(pub, "", 0, 0, 5 * NS_PER_MS);
	must(rc);
	bus_restart(&settings);
	zcp_stop_offer(&pub);
	zcp_close(&bus);
	bus_stop();
}
END_TEST

/* ---- a reader is stopped ------------------------------------------------------------------ */

static void take_and_count(void *arg)
{
	zcp *bus = child_bus("sleeper");
	zcp_sub_info info;
	zcp_sub *sub;
	zcp_msg msg;
	uint64_t next = 0, n = 0;
	int rc;

	(void)arg;
	need(zcp_subscribe(bus, "t", NULL, &sub));
	say('s');
	do {
		while ((rc = zcp_take(sub, &msg)) == 0)
			need(zcp_wait(sub, PATIENCE));
		if (rc == -ZCP_E_LAPPED) {
			next += msg.lost;
			continue;
		}
		need(rc);
		memcpy(&n, msg.data, sizeof(n));
		if (n != next++)
			_exit(4);
		zcp_release(sub, &msg);
		if (n == 0)
			say('1');
	} while (n != 999);
	need(zcp_sub_status(sub, &info));
	if (info.lost == 0 || info.lost + info.messages != 1000)
		_exit(5);
	zcp_unsubscribe(&sub);
	zcp_close(&bus);
}

START_TEST(a_stopped_reader_is_demoted_loses_counts_and_goes_on)
{
	zcp_pub_options o = { .slots = 16 };
	zcp_pub *pub;
	pid_t pid;
	zcp *bus;

	start();
	ck_assert_int_eq(pipe(said), 0);
	bus = bus_open("publisher");
	pid = in_process(take_and_count, NULL);
	hear('s');
	must(zcp_offer(bus, "t", &o, &pub));
	for (uint64_t i = 0; i < 1000; i++) {
		char m[64] = { 0 };

		memcpy(m, &i, sizeof(i));
		must(zcp_send(pub, m, i % 2 ? 8 : 64, 0, PATIENCE));
		if (i == 0) {
			hear('1');
			ck_assert_int_eq(kill(pid, SIGSTOP), 0);
		}
		if (i == 998) {
			ck_assert_uint_eq(status_number("demotions"), 1);
			ck_assert_int_eq(kill(pid, SIGCONT), 0);
		}
	}
	join_process(pid);
	zcp_stop_offer(&pub);
	zcp_close(&bus);
	bus_stop();
}
END_TEST

/* ---- the daemon dies --------------------------------------------------------------------------- */

START_TEST(a_killed_daemon_is_replaced_under_load)
{
	zcp_sub *sub, *late;
	uint64_t sent = 0, got = 0;
	zcp_pub *pub;
	zcp_msg msg;
	zcp *bus;

	start();
	bus = bus_open("both");
	must(zcp_subscribe(bus, "t", NULL, &sub));
	must(zcp_offer(bus, "t", NULL, &pub));
	for (int round = 0; round < 10; round++) {
		bus_kill();
		for (int i = 0; i < 100; i++) {
			char m[64] = { 0 };

			memcpy(m, &sent, sizeof(sent));
			must(zcp_send(pub, m, sent % 2 ? 8 : 64, 0, PATIENCE));
			sent++;
			ck_assert_int_eq(take_wait(sub, &msg), 1);
			memcpy(m, msg.data, sizeof(got));
			ck_assert_int_eq(memcmp(m, &got, sizeof(got)), 0);
			got++;
			zcp_release(sub, &msg);
		}
		bus_restart(&settings);
		/* The new one knows the old ports. */
		must(zcp_subscribe(bus, "t", NULL, &late));
		ck_assert_int_eq(zcp_pub_wait_readers(pub, 2, PATIENCE), 2);
		zcp_unsubscribe(&late);
	}
	zcp_stop_offer(&pub);
	zcp_unsubscribe(&sub);
	all_chunks_come_back();
	zcp_close(&bus);
	bus_stop();
}
END_TEST

START_TEST(who_died_while_no_daemon_ran_is_found_at_adoption)
{
	zcp *bus;
	pid_t pid;

	start();
	ck_assert_int_eq(pipe(said), 0);
	bus = bus_open("survivor");
	pid = in_process(publish_loan_and_stay, NULL);
	hear('p');
	bus_kill();
	kill_process(pid);
	bus_restart(&settings);
	all_chunks_come_back();
	ck_assert_uint_eq(status_number("deaths"), 1);
	eventually(nothing_drains, NULL, "nothing of the dead is left");
	zcp_close(&bus);
	bus_stop();
}
END_TEST

static void open_and_close(void *arg)
{
	zcp *bus;

	(void)arg;
	say('o');
	bus = child_bus("patient");
	zcp_close(&bus);
}

START_TEST(a_client_waits_for_a_daemon_that_is_being_restarted)
{
	pid_t client;

	start();
	ck_assert_int_eq(pipe(said), 0);
	bus_kill();
	client = in_process(open_and_close, NULL);
	hear('o');
	bus_restart(&settings);
	join_process(client);
	bus_stop();
}
END_TEST

START_TEST(without_a_daemon_the_error_says_what_to_do)
{
	zcp_options o = { .timeout = 50 * NS_PER_MS };
	zcp *bus;

	start();
	bus_stop();
	ck_assert_int_eq(zcp_open(&bus, &o), -ZCP_E_NODAEMON);
	ck_assert_ptr_nonnull(strstr(zcp_errmsg(), "zcp-routed -d unit"));
}
END_TEST

/* ---- members that misbehave ------------------------------------------------------------------------- */

static void truncate_own_file(void *arg)
{
	char path[128];
	zcp *bus = child_bus("vandal");
	zcp_pub *pub;
	zcp_sub *sub;

	(void)arg;
	need(zcp_offer(bus, "t", NULL, &pub));
	need(zcp_subscribe(bus, "u", NULL, &sub));
	need(zcp_send(pub, "a message that takes a chunk of its own", 40, 0,
	    0));
	for (int i = 0; i < 32; i++) {
		snprintf(path, sizeof(path), "/dev/shm/zcp.%u.%s.p%d",
		    (unsigned)geteuid(), bus_domain, i);
		if (access(path, F_OK) == 0 && truncate(path, 0) < 0)
			_exit(6);
	}
	say('t');
	/* Its own heart now beats into nothing. */
	pause();
}

START_TEST(the_daemon_survives_a_member_that_truncates_its_file)
{
	pid_t pid;
	zcp *bus;

	start();
	ck_assert_int_eq(pipe(said), 0);
	pid = in_process(truncate_own_file, NULL);
	hear('t');
	ck_assert_uint_ge(status_number("participants"), 0);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);	/* of SIGBUS */
	all_chunks_come_back();
	bus = bus_open("next");
	zcp_close(&bus);
	bus_stop();
}
END_TEST

START_TEST(a_request_that_is_repeated_is_answered_as_before)
{
	static const char request[] = "REGISTER:name=again:nonce=abcdef";
	char first[256], second[256];

	start();
	must(control_call(bus_domain, request, first, sizeof(first),
	    deadline_after(PATIENCE)));
	must(control_call(bus_domain, request, second, sizeof(second),
	    deadline_after(PATIENCE)));
	ck_assert_str_eq(first, second);
	ck_assert_uint_eq(status_number("participants"), 1);
	must(control_call(bus_domain, "UNREGISTER", first, sizeof(first),
	    deadline_after(PATIENCE)));
	bus_stop();
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("death");

	tcase_set_timeout(t, 60);
	tcase_add_test(t, dead_publishers_loans_return_to_their_pool);
	tcase_add_test(t,
	    what_a_dead_publisher_had_published_is_read_to_its_end);
	tcase_add_test(t,
	    a_port_that_was_closed_without_a_daemon_counts_as_closed);
	tcase_add_test(t, a_dead_reader_neither_gates_nor_holds);
	tcase_add_test(t,
	    a_dead_publishers_loans_return_while_its_ring_is_still_unread);
	tcase_add_test(t, a_publisher_finds_a_dead_reader_without_a_daemon);
	tcase_add_test(t, short_timeouts_find_a_dead_reader_without_a_daemon);
	tcase_add_test(t,
	    a_stopped_reader_is_demoted_loses_counts_and_goes_on);
	tcase_add_test(t, a_killed_daemon_is_replaced_under_load);
	tcase_add_test(t, who_died_while_no_daemon_ran_is_found_at_adoption);
	tcase_add_test(t, a_client_waits_for_a_daemon_that_is_being_restarted);
	tcase_add_test(t, without_a_daemon_the_error_says_what_to_do);
	tcase_add_test(t,
	    the_daemon_survives_a_member_that_truncates_its_file);
	tcase_add_test(t, a_request_that_is_repeated_is_answered_as_before);
	return run_tests("death", t);
}
