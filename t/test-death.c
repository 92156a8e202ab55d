/* kill -9 of a publisher, a reader, the daemon: the others go on. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "atomics.h"
#include "bus.h"
#include "control.h"
#include "liveness.h"

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

/* A child that is spoken to as well: this end of what it hears. */
static int told;

static pid_t in_conversation(void (*role)(void *))
{
	int to_child[2], from_child[2];
	pid_t pid;

	ck_assert_int_eq(pipe(to_child), 0);
	ck_assert_int_eq(pipe(from_child), 0);
	said[0] = to_child[0];
	said[1] = from_child[1];
	pid = in_process(role, NULL);
	said[0] = from_child[0];
	told = to_child[1];
	return pid;
}

static void tell(char c)
{
	ck_assert_int_eq(write(told, &c, 1), 1);
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
	zcp_sub_info info;
	zcp_sub *sub;
	zcp_msg msg;
	pid_t pid;
	zcp *bus;

	start();
	bus = bus_open("reader");
	must(zcp_subscribe(bus, "t", NULL, &sub));
	pid = in_conversation(close_and_stay);
	ck_assert_int_eq(take_wait(sub, &msg), 1);
	zcp_release(sub, &msg);
	bus_kill();
	tell('k');
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
	char path[SEGMENT_PATH], part[16];
	zcp *bus = child_bus("vandal");
	zcp_pub *pub;
	zcp_sub *sub;

	(void)arg;
	need(zcp_offer(bus, "t", NULL, &pub));
	need(zcp_subscribe(bus, "u", NULL, &sub));
	need(zcp_send(pub, "a message that takes a chunk of its own", 40, 0,
	    0));
	say('t');
	for (int i = 0; i < 32; i++) {
		snprintf(part, sizeof(part), "p%d", i);
		bus_path(path, part);
		if (access(path, F_OK) == 0 && truncate(path, 0) < 0)
			_exit(6);
	}
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
	/* It dies of SIGBUS; the daemon looks at its file all the while. */
	do
		ck_assert_uint_le(status_number("participants"), 1);
	while (waitpid(pid, NULL, WNOHANG) != pid);
	all_chunks_come_back();
	bus = bus_open("next");
	zcp_close(&bus);
	bus_stop();
}
END_TEST

/* ---- who is dead, and who only looks it ---------------------------------------------- */

static bool one_death(void *arg)
{
	(void)arg;
	return status_number("deaths") == 1;
}

static void execute_another_program(void *arg)
{
	zcp *bus = child_bus("changeling");
	zcp_pub *pub;

	(void)arg;
	need(zcp_offer(bus, "t", NULL, &pub));
	for (int i = 0; i < 5; i++) {
		zcp_chunk chunk;

		need(zcp_loan(pub, 100, &chunk, 0));
	}
	say('x');
	hear('g');
	execlp("sleep", "sleep", "60", (char *)NULL);
	_exit(5);
}

/* Same pid, same start time; it may even be the same program again. */
START_TEST(a_process_that_executes_another_program_is_no_participant)
{
	pid_t pid;

	start();
	pid = in_conversation(execute_another_program);
	hear('x');
	ck_assert_uint_eq(pool_number(128, "loaned"), 5);
	tell('g');
	all_chunks_come_back();
	eventually(one_death, NULL, "the death is counted");
	ck_assert_int_eq(kill(pid, 0), 0);
	kill_process(pid);
	bus_stop();
}
END_TEST

static void close_all_descriptors(void *arg)
{
	zcp *bus = child_bus("careless");
	zcp_pub *pub;

	(void)arg;
	need(zcp_offer(bus, "t", NULL, &pub));
	for (int fd = 3; fd < 1000; fd++)
		if (fd != said[0] && fd != said[1])
			close(fd);
	say('c');
	hear('g');
	need(zcp_send(pub, "still here", 10, 0, 0));
	say('p');
	pause();
}

static bool one_is_stalled(void *arg)
{
	static char reply[CONTROL_REPLY];

	(void)arg;
	must(control_call(bus_domain, "STATUS", reply, sizeof(reply),
	    deadline_after(PATIENCE)));
	return strstr(reply, "state=stalled") != NULL;
}

/* Its lock is gone, and its heart is silent: but it has its file. */
START_TEST(a_process_that_closed_its_descriptors_lives_even_when_it_is_stopped)
{
	zcp_sub *sub;
	zcp_msg msg;
	pid_t pid;
	zcp *bus;

	start();
	bus = bus_open("reader");
	must(zcp_subscribe(bus, "t", NULL, &sub));
	pid = in_conversation(close_all_descriptors);
	hear('c');
	ck_assert_int_eq(kill(pid, SIGSTOP), 0);
	/* Whoever is called stalled has been looked at as one who may be dead. */
	eventually(one_is_stalled, NULL, "the stopped process is stalled");
	ck_assert_uint_eq(status_number("deaths"), 0);
	ck_assert_int_eq(kill(pid, SIGCONT), 0);
	tell('g');
	hear('p');
	ck_assert_int_eq(take_wait(sub, &msg), 1);
	zcp_release(sub, &msg);
	ck_assert_uint_eq(status_number("deaths"), 0);
	kill_process(pid);
	eventually(one_death, NULL, "its end is a death");
	zcp_unsubscribe(&sub);
	zcp_close(&bus);
	bus_stop();
}
END_TEST

START_TEST(a_zombie_is_dead)
{
	pid_t pid;

	start();
	ck_assert_int_eq(pipe(said), 0);
	pid = in_process(publish_loan_and_stay, NULL);
	hear('p');
	ck_assert_int_eq(kill(pid, SIGKILL), 0);
	all_chunks_come_back();
	eventually(one_death, NULL, "the death is counted");
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	bus_stop();
}
END_TEST

static int held_open[2];

static void leave_a_child_behind(void *arg)
{
	zcp *bus = child_bus("parent");
	zcp_pub *pub;
	char c;

	(void)arg;
	need(zcp_offer(bus, "t", NULL, &pub));
	need(zcp_send(pub, "x", 1, 0, 0));
	if (fork() == 0) {
		/* With every descriptor, until the test lets go. */
		close(held_open[1]);
		say('p');
		if (read(held_open[0], &c, 1) != 0)
			_exit(2);
		_exit(0);
	}
	pause();
}

START_TEST(a_forked_child_keeps_its_dead_parent_not_alive)
{
	pid_t pid;

	start();
	ck_assert_int_eq(pipe(said), 0);
	ck_assert_int_eq(pipe(held_open), 0);
	pid = in_process(leave_a_child_behind, NULL);
	hear('p');
	kill_process(pid);
	eventually(one_death, NULL, "the death is counted");
	all_chunks_come_back();
	close(held_open[1]);
	bus_stop();
}
END_TEST

/* The daemon was away, its participant died, and another process has got the
 * pid since. */
START_TEST(a_pid_that_was_given_again_keeps_nobody_alive)
{
	struct domain d = { 0 };
	pid_t pid;

	start();
	ck_assert_int_eq(pipe(said), 0);
	pid = in_process(publish_loan_and_stay, NULL);
	hear('p');
	bus_kill();
	kill_process(pid);
	must(domain_attach(&d, bus_domain, geteuid(), true));
	ck_assert_uint_eq(d.participants[0].pid, (uint32_t)pid);
	/* One that started well before. */
	d.participants[0].pid = 1;
	ck_assert(participant_dead(&d, 0));
	domain_detach(&d);
	bus_restart(&settings);
	all_chunks_come_back();
	bus_stop();
}
END_TEST

/* ---- a starving publisher finds out by itself ---------------------------------------- */

static void take_all_memory(void *arg)
{
	zcp *bus = child_bus("glutton");
	zcp_chunk chunk;
	zcp_pub *pub;
	int n = 0;

	(void)arg;
	need(zcp_offer(bus, "u", NULL, &pub));
	while (zcp_loan(pub, 1, &chunk, 0) == 0)
		n++;
	if (n != 24)
		_exit(4);
	say('f');
	pause();
}

START_TEST(a_starving_publisher_frees_the_loans_of_the_dead_without_a_daemon)
{
	zcp_chunk chunk;
	zcp_pub *pub;
	pid_t pid;
	zcp *bus;

	start();
	ck_assert_int_eq(pipe(said), 0);
	bus = bus_open("starving");
	must(zcp_offer(bus, "t", NULL, &pub));
	pid = in_process(take_all_memory, NULL);
	hear('f');
	ck_assert_int_eq(zcp_loan(pub, 1, &chunk, 0), -ZCP_E_NOMEM);
	bus_kill();
	ck_assert_int_eq(zcp_loan(pub, 1, &chunk, 0), -ZCP_E_NOMEM);
	kill_process(pid);
	must(zcp_loan(pub, 1, &chunk, 0));
	zcp_discard(pub, &chunk);
	bus_restart(&settings);
	zcp_stop_offer(&pub);
	all_chunks_come_back();
	zcp_close(&bus);
	bus_stop();
}
END_TEST

/* The reader holds chunks of one publisher; another one starves. */
START_TEST(a_starving_publisher_frees_what_the_dead_held_without_a_daemon)
{
	zcp_chunk chunk, other[32];
	int loans = 0;
	zcp_pub *pub, *starving;
	pid_t pid;
	zcp *bus;

	pid = publish_to_one_who_holds(&bus, &pub);
	must(zcp_offer(bus, "u", NULL, &starving));
	while (zcp_loan(starving, 1, &other[loans], 0) == 0)
		loans++;
	bus_kill();
	ck_assert_int_eq(zcp_loan(starving, 1, &chunk, 0), -ZCP_E_NOMEM);
	kill_process(pid);
	/* The tail is its owner's to move; a zero timeout buries nobody. */
	fill(pub, 1);
	must(zcp_loan(starving, 1, &chunk, 0));
	zcp_discard(starving, &chunk);
	while (loans > 0)
		zcp_discard(starving, &other[--loans]);
	bus_restart(&settings);
	zcp_stop_offer(&starving);
	zcp_stop_offer(&pub);
	all_chunks_come_back();
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

static uint64_t registrations(void)
{
	char reply[CONTROL_REPLY];
	const char *at;

	must(control_call(bus_domain, "DUMP", reply, sizeof(reply),
	    deadline_after(PATIENCE)));
	ck_assert_ptr_nonnull(at = strstr(reply, " registrations="));
	return strtoull(at + strlen(" registrations="), NULL, 10);
}

static bool no_port_is_left(void *arg)
{
	static char reply[CONTROL_REPLY];

	(void)arg;
	must(control_call(bus_domain, "STATUS", reply, sizeof(reply),
	    deadline_after(PATIENCE)));
	return strstr(reply, "\nport=") == NULL;
}

/* Clients that gave up hearing of their ports: the daemon was stopped, makes
 * them when it goes on, and nobody is there for the reply. */
START_TEST(a_port_whose_reply_was_lost_does_not_stay)
{
	zcp_options o = { .name = "impatient", .timeout = 100 * NS_PER_MS };
	zcp_sub *sub;
	zcp_pub *pub;
	zcp *bus;
	pid_t pid;

	start();
	pid = (pid_t)status_number("pid");
	must(zcp_open(&bus, &o));
	ck_assert_int_eq(kill(pid, SIGSTOP), 0);
	if (_i == 0)
		ck_assert_int_lt(zcp_subscribe(bus, "t", NULL, &sub), 0);
	else
		ck_assert_int_lt(zcp_offer(bus, "t", NULL, &pub), 0);
	ck_assert_int_eq(kill(pid, SIGCONT), 0);
	ck_assert_uint_ge(registrations(), 1);
	eventually(no_port_is_left, NULL, "the port has ended");
	/* And its owner may go on. */
	must(zcp_offer(bus, "t", NULL, &pub));
	must(zcp_subscribe(bus, "t", NULL, &sub));
	must(zcp_send(pub, "x", 1, 0, PATIENCE));
	zcp_stop_offer(&pub);
	zcp_unsubscribe(&sub);
	zcp_close(&bus);
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
	    a_process_that_executes_another_program_is_no_participant);
	tcase_add_test(t,
	    a_process_that_closed_its_descriptors_lives_even_when_it_is_stopped);
	tcase_add_test(t, a_zombie_is_dead);
	tcase_add_test(t, a_forked_child_keeps_its_dead_parent_not_alive);
	tcase_add_test(t, a_pid_that_was_given_again_keeps_nobody_alive);
	tcase_add_test(t,
	    a_starving_publisher_frees_the_loans_of_the_dead_without_a_daemon);
	tcase_add_test(t,
	    a_starving_publisher_frees_what_the_dead_held_without_a_daemon);
	tcase_add_test(t,
	    a_stopped_reader_is_demoted_loses_counts_and_goes_on);
	tcase_add_test(t, a_killed_daemon_is_replaced_under_load);
	tcase_add_test(t, who_died_while_no_daemon_ran_is_found_at_adoption);
	tcase_add_test(t, a_client_waits_for_a_daemon_that_is_being_restarted);
	tcase_add_test(t, without_a_daemon_the_error_says_what_to_do);
	tcase_add_test(t,
	    the_daemon_survives_a_member_that_truncates_its_file);
	tcase_add_test(t, a_request_that_is_repeated_is_answered_as_before);
	tcase_add_loop_test(t, a_port_whose_reply_was_lost_does_not_stay, 0, 2);
	return run_tests("death", t);
}
