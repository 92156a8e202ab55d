/*
 * bench-life - what it takes to come and to be there: programs that start, a
 * first message, memory.
 *
 *   bench-life [REPEATS]		$ZCP_ROUTED and $ZCP_BIN as in t/bench/run
 */
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

extern char **environ;

enum { STARTS = 30, PORTS = 1000, VISITS = 300 };

/* ---- programs ------------------------------------------------------------------------- */

/* From the start of a program to the first byte that it writes, ns. */
static double first_byte(char *const *argv)
{
	posix_spawn_file_actions_t actions;
	uint64_t t = bench_ns();
	int ends[2];
	pid_t pid;
	char byte;

	if (pipe(ends) < 0) {
		perror("pipe");
		exit(1);
	}
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
	posix_spawn_file_actions_addclose(&actions, ends[0]);
	if (posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ) != 0) {
		perror(argv[0]);
		exit(1);
	}
	close(ends[1]);
	if (read(ends[0], &byte, 1) != 1) {
		fprintf(stderr, "%s said nothing\n", argv[0]);
		exit(1);
	}
	t = bench_ns() - t;
	close(ends[0]);
	waitpid(pid, NULL, 0);
	posix_spawn_file_actions_destroy(&actions);
	return (double)t;
}

static double start_of(char *const *argv)
{
	double ns[STARTS];

	for (int i = 0; i < STARTS; i++)
		ns[i] = first_byte(argv);
	return median(ns, STARTS) / 1e6;
}

static void programs(struct row *row)
{
	zcp_pub_options po = { .history = 1 };
	const char *bin = getenv("ZCP_BIN");
	char path[512];
	char *sub[] = { path, "-c", "1", "greeting", NULL };
	char *echo[] = { "/bin/echo", "hello", NULL };
	zcp_pub *pub;
	zcp *bus;

	snprintf(path, sizeof(path), "%s/zcp-sub", bin ? bin : "bin");
	bench_check(zcp_open(&bus, NULL));
	bench_check(zcp_offer(bus, "greeting", &po, &pub));
	bench_check(zcp_send(pub, "hello", 5, 0, -1));
	row_add(row, start_of(sub), start_of(echo));
	zcp_stop_offer(&pub);
	zcp_close(&bus);
}

/* ---- in a program ----------------------------------------------------------------------- */

/* Attach, subscribe, take what was kept, detach. */
static double first_message(void)
{
	zcp_pub_options po = { .history = 1 };
	double us[VISITS];
	zcp_pub *pub;
	zcp *bus;

	bench_check(zcp_open(&bus, NULL));
	bench_check(zcp_offer(bus, "greeting", &po, &pub));
	bench_check(zcp_send(pub, "hello", 5, 0, -1));
	for (int i = 0; i < VISITS; i++) {
		uint64_t t = bench_ns();
		zcp *mine;
		zcp_sub *sub;
		zcp_msg msg;
		int rc;

		bench_check(zcp_open(&mine, NULL));
		bench_check(zcp_subscribe(mine, "greeting", NULL, &sub));
		while ((rc = zcp_take(sub, &msg)) == 0)
			bench_check(zcp_wait(sub, -1));
		bench_check(rc);
		us[i] = (double)(bench_ns() - t) / 1000;
		zcp_release(sub, &msg);
		zcp_unsubscribe(&sub);
		zcp_close(&mine);
	}
	zcp_stop_offer(&pub);
	zcp_close(&bus);
	return median(us, VISITS);
}

/* A datagram to a process and its answer, where both sleep: what a request to
 * the daemon cannot undercut.  us */
static void echo_server(void *arg)
{
	char byte;

	while (read(((int *)arg)[1], &byte, 1) == 1 && byte != 0)
		if (write(((int *)arg)[1], &byte, 1) != 1)
			break;
}

static double ask_echo(void *arg)
{
	double us[VISITS];
	char byte = 1;

	for (int i = 0; i < VISITS; i++) {
		uint64_t t = bench_ns();

		if (write(((int *)arg)[0], &byte, 1) != 1 ||
		    read(((int *)arg)[0], &byte, 1) != 1)
			break;
		us[i] = (double)(bench_ns() - t) / 1000;
	}
	byte = 0;
	if (write(((int *)arg)[0], &byte, 1) != 1)
		perror("write");
	return median(us, VISITS);
}

static double limit_request(void)
{
	int ends[2];
	double us;

	if (socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) < 0) {
		perror("socketpair");
		exit(1);
	}
	us = bench_pair(ask_echo, echo_server, ends);
	close(ends[0]);
	close(ends[1]);
	return us;
}

/* ---- memory ----------------------------------------------------------------------------- */

static uint64_t committed(void)
{
	zcp_observer *observer;
	zcp_snapshot *s;
	uint64_t bytes;

	bench_check(zcp_observe(&observer, NULL, NULL));
	bench_check(zcp_look(observer, 0, &s));
	bytes = s->domain.bytes;
	zcp_snapshot_free(&s);
	zcp_observe_end(&observer);
	return bytes;
}

static void memory(struct row *process, struct row *pub_row,
    struct row *sub_row)
{
	static zcp_pub *pub[PORTS];
	static zcp_sub *sub[PORTS];
	double empty = (double)committed(), one, pubs, subs;
	char topic[32];
	zcp *bus;

	bench_check(zcp_open(&bus, NULL));
	one = (double)committed();
	for (int i = 0; i < PORTS; i++) {
		snprintf(topic, sizeof(topic), "memory/%d", i);
		bench_check(zcp_offer(bus, topic, NULL, &pub[i]));
	}
	pubs = (double)committed();
	for (int i = 0; i < PORTS; i++) {
		snprintf(topic, sizeof(topic), "memory/%d", i);
		bench_check(zcp_subscribe(bus, topic, NULL, &sub[i]));
	}
	subs = (double)committed();
	row_add(process, (one - empty) / 1024, empty / 1024);
	row_add(pub_row, (pubs - one) / PORTS / 1024, 1024 * 64 / 1024.0);
	row_add(sub_row, (subs - pubs) / PORTS / 1024, 16 * 320 / 1024.0);
	for (int i = 0; i < PORTS; i++) {
		zcp_stop_offer(&pub[i]);
		zcp_unsubscribe(&sub[i]);
	}
	zcp_close(&bus);
}

int main(int argc, char **argv)
{
	static const char *const options[] = { "--max-topics", "1100",
	    "--max-ports", "2200", NULL };
	static struct row start = { .name = "zcp-sub, to its first message",
	    .unit = "ms", .against = "/bin/echo, to its first byte",
	    .target = "value <= 3" };
	static struct row first = { .name = "open to first message, in C",
	    .unit = "us", .against = "a datagram and its answer" };
	static struct row process = { .name = "memory of a process",
	    .unit = "KiB", .against = "the empty domain" };
	static struct row topic = { .name = "memory of a publisher", .unit =
	    "KiB", .against = "1024 slots of 64 bytes" };
	static struct row reader = { .name = "memory of a subscriber", .unit =
	    "KiB", .against = "16 cursors of 64 holds" };
	int repeats = bench_repeats(argc, argv, 5);

	bench_daemon_start(options);
	for (int i = 0; i < repeats; i++) {
		programs(&start);
		row_add(&first, first_message(), limit_request());
		memory(&process, &topic, &reader);
	}
	table_head();
	row_print(&start);
	row_print(&first);
	row_print(&process);
	row_print(&topic);
	row_print(&reader);
	bench_daemon_stop();
	return 0;
}
