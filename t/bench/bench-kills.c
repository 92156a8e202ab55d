/*
 * bench-kills.c - kill -9 at full speed: how long until the others go on, and
 * until nothing is left of the dead.  Beside each, by turns, what the machine
 * takes when there is nothing to mend: until the two are 5000 messages on
 * though nobody died, and until the kernel has ended a process that only
 * slept.
 *
 *   bench-kills [KILLS]	of each kind; default 200
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../bus.h"
#include "atomics.h"
#include "bench.h"

static int kills = 200;

/* The limit of whoever is left: 5000 messages more. */
static const char nobody[] = "5000 messages, no death";

/* What the processes have done so far, for all to see. */
static struct progress {
	volatile uint64_t sent, got;
	volatile bool end;
} *progress;

static void publish_at_full_speed(void *arg)
{
	static char message[1000];
	zcp_options o = { .name = "publisher" };
	zcp_pub *pub;
	zcp *bus;

	(void)arg;
	need(zcp_open(&bus, &o));
	need(zcp_offer(bus, "t", NULL, &pub));
	while (!progress->end) {
		need(zcp_send(pub, message, sizeof(message), 0, -1));
		progress->sent++;
	}
	zcp_stop_offer(&pub);
	zcp_close(&bus);
}

static void read_at_full_speed(void *arg)
{
	zcp_sub_options s = { .lossy = arg != NULL };
	zcp_options o = { .name = "reader" };
	zcp_sub *sub;
	zcp_msg msg;
	zcp *bus;
	int rc;

	need(zcp_open(&bus, &o));
	need(zcp_subscribe(bus, "t", &s, &sub));
	while (!progress->end) {
		rc = zcp_take(sub, &msg);
		if (rc == 1) {
			zcp_release(sub, &msg);
			progress->got++;
		} else if (rc == 0)
			need(zcp_wait(sub, NS_PER_S / 10));
		else if (rc != -ZCP_E_LAPPED)
			need(rc);
	}
	zcp_unsubscribe(&sub);
	zcp_close(&bus);
}

/* ---- waiting, finely; but the processors are left to them ---- */

static void until(bool (*there)(void *), void *arg, const char *what)
{
	uint64_t deadline = deadline_after(PATIENCE);

	while (!there(arg)) {
		ck_assert_msg(clock_ns() < deadline, "never: %s", what);
		usleep(100);
	}
}

static bool moved(void *arg)
{
	const uint64_t *from = arg;

	return progress->got >= from[0] + 5000 && progress->sent >= from[1];
}

static void until_they_go_on(bool publisher)
{
	uint64_t from[2] = { progress->got, progress->sent +
	    (publisher ? 5000 : 0) };

	until(moved, from, "the others go on");
}

/* Looked up in memory: the daemon is not asked. */
static struct domain domain;

static bool has_participants(void *arg)
{
	uint64_t there = 0;

	for (uint32_t i = 0; i < domain.max_participants; i++)
		there += fact_load32(&domain.participants[i].state) !=
		    PARTICIPANT_FREE;
	return there == *(uint64_t *)arg;
}

static bool all_free(void *arg)
{
	(void)arg;
	for (uint32_t p = 0; p < domain.pools.count; p++)
		for (uint32_t i = 0; i < pool_count(&domain.pools.pool[p]); i++)
			if (word_state(word_load(&domain.pools.pool[p].word[i]))
			    != CHUNK_FREE)
				return false;
	return true;
}

/* ---- the machine's share ---- */

static void sleep_only(void *arg)
{
	(void)arg;
	pause();
}

static bool has_ended(void *arg)
{
	return waitpid(*(pid_t *)arg, NULL, WNOHANG) != 0;
}

/* ---- figures ---- */

/* The values are sorted: the median beside the limit's, and the slow ones. */
static void report(const char *what, const char *against, double *ms,
    double *limit)
{
	static const struct {
		const char *name;
		double part;
	} parts[] = { { "", 0.5 }, { ", p90", 0.9 }, { ", max", 1 } };
	char name[100];

	median(ms, kills);
	median(limit, kills);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		struct row row = { .name = name, .unit = "ms",
		    .against = against, .target = "value <= 10" };

		snprintf(name, sizeof(name), "%s%s", what, parts[i].name);
		row_add(&row, quantile(ms, kills, parts[i].part),
		    quantile(limit, kills, parts[i].part));
		row_print(&row);
	}
}

static double since(uint64_t began)
{
	return (double)(clock_ns() - began) / 1e6;
}

static double limit_of_going_on(void)
{
	uint64_t began = clock_ns();

	until_they_go_on(true);
	return since(began);
}

static double limit_of_ending(void)
{
	pid_t pid = in_process(sleep_only, NULL);
	uint64_t began = clock_ns();

	kill(pid, SIGKILL);
	until(has_ended, &pid, "the kernel ends a process");
	return since(began);
}

static void begin(void)
{
	struct settings s = bus_settings();

	s.pool[1].count = 512;
	progress->end = false;
	bus_start(&s);
	must(domain_attach(&domain, bus_domain, geteuid(), false));
	must(domain_map_words(&domain));
}

static void end(pid_t one, pid_t other)
{
	progress->end = true;
	if (one > 0)
		join_process(one);
	if (other > 0)
		join_process(other);
	domain_detach(&domain);
	bus_stop();
}

START_TEST(a_publisher)
{
	double *ms = calloc((size_t)kills, sizeof(*ms));
	double *limit = calloc((size_t)kills, sizeof(*limit));
	uint64_t one = 1;
	pid_t reader;

	begin();
	reader = in_process(read_at_full_speed, NULL);
	until(has_participants, &one, "the reader is there");
	for (int i = 0; i < kills; i++) {
		pid_t victim = in_process(publish_at_full_speed, NULL);
		uint64_t began;

		until_they_go_on(true);
		limit[i] = limit_of_ending();
		began = clock_ns();
		kill(victim, SIGKILL);
		until(has_participants, &one, "the publisher is forgotten");
		until(all_free, NULL, "every chunk is free");
		ms[i] = since(began);
		waitpid(victim, NULL, 0);
	}
	report("kill publisher, to all memory back",
	    "a process ends, no more", ms, limit);
	end(reader, 0);
	free(limit);
	free(ms);
}
END_TEST

static void kill_readers(bool lossy)
{
	double *ms = calloc((size_t)kills, sizeof(*ms));
	double *on = calloc((size_t)kills, sizeof(*on));
	double *limit = calloc((size_t)kills, sizeof(*limit));
	uint64_t two = 2;
	pid_t publisher, reader;

	begin();
	publisher = in_process(publish_at_full_speed, NULL);
	reader = in_process(read_at_full_speed, NULL);
	for (int i = 0; i < kills; i++) {
		uint64_t three = 3, began;
		pid_t victim = in_process(read_at_full_speed,
		    lossy ? "lossy" : NULL);

		until(has_participants, &three, "the victim is there");
		until_they_go_on(true);
		limit[i] = limit_of_going_on();
		began = clock_ns();
		kill(victim, SIGKILL);
		until(has_participants, &two, "the reader is forgotten");
		ms[i] = since(began);
		until_they_go_on(true);
		on[i] = since(began);
		waitpid(victim, NULL, 0);
	}
	report(lossy ? "kill lossy reader, to forgotten" :
	    "kill reader, to forgotten", nobody, ms, limit);
	report(lossy ? "kill lossy reader, to others on" :
	    "kill reader, to others on", nobody, on, limit);
	end(publisher, reader);
	free(limit);
	free(on);
	free(ms);
}

START_TEST(a_reliable_reader)
{
	kill_readers(false);
}
END_TEST

START_TEST(a_lossy_reader)
{
	kill_readers(true);
}
END_TEST

START_TEST(the_daemon)
{
	double *on = calloc((size_t)kills, sizeof(*on));
	double *back = calloc((size_t)kills, sizeof(*back));
	double *limit = calloc((size_t)kills, sizeof(*limit));
	struct settings s = bus_settings();
	pid_t publisher, reader;
	uint64_t two = 2;

	begin();
	publisher = in_process(publish_at_full_speed, NULL);
	reader = in_process(read_at_full_speed, NULL);
	until(has_participants, &two, "both are there");
	for (int i = 0; i < kills; i++) {
		uint64_t began;

		until_they_go_on(true);
		limit[i] = limit_of_going_on();
		began = clock_ns();
		bus_kill();
		until_they_go_on(true);
		on[i] = since(began);
		began = clock_ns();
		bus_restart(&s);
		until(has_participants, &two, "both are adopted");
		back[i] = since(began);
	}
	report("kill daemon, to others on", nobody, on, limit);
	report("its successor, to all adopted", nobody, back, limit);
	end(publisher, reader);
	free(on);
	free(back);
	free(limit);
}
END_TEST

int main(int argc, char **argv)
{
	TCase *t = tcase_create("kills");

	if (argc > 1 && (kills = atoi(argv[1])) < 1) {
		fprintf(stderr, "bench-kills: %s kills?\n", argv[1]);
		return 2;
	}
	progress = mmap(NULL, sizeof(*progress), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (progress == MAP_FAILED)
		return 1;
	table_head();
	tcase_set_timeout(t, 0);
	tcase_add_test(t, a_publisher);
	tcase_add_test(t, a_reliable_reader);
	tcase_add_test(t, a_lossy_reader);
	tcase_add_test(t, the_daemon);
	/* What Check says is no part of the table. */
	return run_tests("kills", t);
}
