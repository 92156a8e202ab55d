/*
 * What holds when there is much of everything, or little: nothing is lost,
 * nothing deadlocks, nothing leaks.
 *
 * ZCP_PRESSURE=full in the environment: the numbers in the second column,
 * as "make pressure" runs them.
 */
#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "scene.h"

static int scaled(int usual, int full)
{
	const char *scale = getenv("ZCP_PRESSURE");

	return scale != NULL && strcmp(scale, "full") == 0 ? full : usual;
}

static pid_t daemon_of_test;

/*
 * A domain with room for many; small chunks are plenty.  Processes are made
 * before this one opens its bus: a bus has a thread, and what a forked child
 * may do then is little.
 */
static void start_large(uint32_t participants, uint32_t topics, uint32_t ports)
{
	struct settings s = bus_settings();

	s.pool[0].count = 16384;
	s.max_participants = participants;
	s.max_topics = topics;
	s.max_ports = ports;
	s.max_links = 16 * ports;
	daemon_of_test = bus_start(&s);
}

static int descriptors_of(pid_t pid)
{
	struct dirent *entry;
	char path[64];
	DIR *dir;
	int n = 0;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	ck_assert_ptr_nonnull(dir);
	while ((entry = readdir(dir)) != NULL)
		n += entry->d_name[0] != '.';
	closedir(dir);
	return n;
}

/* As need(), of anything. */
static void need_that(bool is, const char *what)
{
	if (!is) {
		fprintf(stderr, "child %d: %s\n", (int)getpid(), what);
		_exit(4);
	}
}

static void *shared(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	ck_assert_ptr_ne(p, MAP_FAILED);
	return p;
}

/* ---- many readers ------------------------------------------------------------- */

enum { READER_PROCESSES = 8 };

struct crowd {
	int each;			/* subscriptions a process */
	int messages;
	_Atomic int ready, bad;
};

static void read_as_crowd(void *arg)
{
	struct crowd *c = arg;
	zcp_sub **sub = calloc((size_t)c->each, sizeof(*sub));
	uint64_t *next = calloc((size_t)c->each, sizeof(*next));
	zcp_options o = { .name = "crowd" };
	zcp_waitset *set;
	int ended = 0;
	zcp *mine;

	need(zcp_open(&mine, &o));
	need(zcp_waitset_open(mine, &set));
	for (int i = 0; i < c->each; i++) {
		need(zcp_subscribe(mine, "t", NULL, &sub[i]));
		need(zcp_waitset_add(set, sub[i]));
	}
	c->ready++;
	while (ended < c->each) {
		zcp_sub *ready[64];
		int n = zcp_waitset_wait(set, ready, 64, PATIENCE);

		need(n);
		need_that(n > 0, "waited in vain");
		for (int i = 0; i < n; i++) {
			zcp_msg msg;
			int k = 0, rc;

			while (sub[k] != ready[i])
				k++;
			while ((rc = zcp_take(sub[k], &msg)) == 1) {
				need_that(number(&msg) == next[k],
				    "a message is missing");
				next[k]++;
				zcp_release(sub[k], &msg);
			}
			need(rc);
			if (next[k] == (uint64_t)c->messages) {
				need(zcp_waitset_remove(set, sub[k]));
				ended++;
			}
		}
	}
	for (int i = 0; i < c->each; i++)
		zcp_unsubscribe(&sub[i]);
	zcp_waitset_close(&set);
	zcp_close(&mine);
	free(sub);
	free(next);
}

START_TEST(every_one_of_many_subscribers_gets_every_message)
{
	struct crowd *c = shared(sizeof(*c));
	pid_t pid[READER_PROCESSES];
	zcp_pub *pub;

	*c = (struct crowd){ .each = scaled(16, 1024 / READER_PROCESSES),
	    .messages = scaled(1000, 4000) };
	start_large(64, 64, 2048);
	for (int i = 0; i < READER_PROCESSES; i++)
		pid[i] = in_process(read_as_crowd, c);
	bus = bus_open("test");
	pub = offer(256, 0);
	must(zcp_pub_wait_readers(pub, READER_PROCESSES * c->each, -1));
	for (int n = 0; n < c->messages; n++)
		send_number(pub, (uint64_t)n, n % 2 ? 8 : 100);
	for (int i = 0; i < READER_PROCESSES; i++)
		join_process(pid[i]);
	zcp_stop_offer(&pub);
	munmap(c, sizeof(*c));
	stop();
}
END_TEST

/* ---- many publishers ------------------------------------------------------------ */

enum { PUBLISHER_PROCESSES = 8 };

struct choir {
	int each, messages;
};

static void publish_as_choir(void *arg)
{
	const struct choir *c = arg;
	zcp_pub **pub = calloc((size_t)c->each, sizeof(*pub));
	zcp_options o = { .name = "choir" };
	zcp *mine;

	need(zcp_open(&mine, &o));
	for (int i = 0; i < c->each; i++)
		need(zcp_offer(mine, "t", NULL, &pub[i]));
	for (int i = 0; i < c->each; i++)
		need(zcp_pub_wait_readers(pub[i], 1, PATIENCE));
	for (uint64_t n = 0; n < (uint64_t)c->messages; n++)
		for (int i = 0; i < c->each; i++) {
			char message[100] = { 0 };

			memcpy(message, &n, sizeof(n));
			need(zcp_send(pub[i], message, n % 2 ? 8 : 100, 0,
			    PATIENCE));
		}
	for (int i = 0; i < c->each; i++)
		zcp_stop_offer(&pub[i]);
	zcp_close(&mine);
	free(pub);
}

START_TEST(one_reader_gets_many_publishers_each_in_its_order)
{
	struct choir c = { scaled(2, 64 / PUBLISHER_PROCESSES),
	    scaled(2000, 5000) };
	int all = c.each * PUBLISHER_PROCESSES, left = all * c.messages;
	zcp_sub_options o = { .publishers = (uint32_t)all };
	uint64_t *next = calloc(2048, sizeof(*next));
	pid_t pid[PUBLISHER_PROCESSES];
	zcp_sub *sub;

	start_large(64, 64, 2048);
	for (int i = 0; i < PUBLISHER_PROCESSES; i++)
		pid[i] = in_process(publish_as_choir, &c);
	bus = bus_open("test");
	must(zcp_subscribe(bus, "t", &o, &sub));
	for (; left > 0; left--) {
		zcp_msg msg;

		must(take_wait(sub, &msg));
		/* Ports do not come again while the others are open. */
		ck_assert_uint_eq(number(&msg), next[msg.publisher]);
		next[msg.publisher]++;
		zcp_release(sub, &msg);
	}
	for (int i = 0; i < PUBLISHER_PROCESSES; i++)
		join_process(pid[i]);
	zcp_unsubscribe(&sub);
	free(next);
	stop();
}
END_TEST

/* ---- many topics ------------------------------------------------------------------ */

START_TEST(each_of_many_topics_carries_its_own_messages)
{
	zcp_pub_options po = { .slots = 8 };
	zcp_sub_options so = { .publishers = 1, .holds = 4 };
	int topics = scaled(500, 10000);
	zcp_pub **pub = calloc((size_t)topics, sizeof(*pub));
	zcp_sub **sub = calloc((size_t)topics, sizeof(*sub));
	char topic[32];

	start_large(16, (uint32_t)topics + 1, 2 * (uint32_t)topics + 1);
	bus = bus_open("test");
	for (int i = 0; i < topics; i++) {
		snprintf(topic, sizeof(topic), "many/%d", i);
		must(zcp_subscribe(bus, topic, &so, &sub[i]));
		must(zcp_offer(bus, topic, &po, &pub[i]));
	}
	for (int i = 0; i < topics; i++)
		send_number(pub[i], (uint64_t)i, i % 2 ? 8 : 100);
	for (int i = topics; i-- > 0;)
		expect(sub[i], (uint64_t)i);
	for (int i = 0; i < topics; i++) {
		zcp_stop_offer(&pub[i]);
		zcp_unsubscribe(&sub[i]);
	}
	ck_assert_uint_eq(status_number("topics"), 0);
	free(pub);
	free(sub);
	stop();
}
END_TEST

/* ---- many processes ------------------------------------------------------------------ */

static void say_one_thing(void *arg)
{
	zcp_options o = { .name = "one-of-many", .timeout = PATIENCE };
	zcp_pub_options po = { .slots = 8 };
	zcp_sub_options so = { .publishers = 1, .holds = 4 };
	uint64_t me = (uint64_t)getpid();
	char topic[32];
	zcp_msg msg;
	zcp_sub *sub;
	zcp_pub *pub;
	zcp *mine;

	(void)arg;
	snprintf(topic, sizeof(topic), "crowd/%d", (int)getpid());
	need(zcp_open(&mine, &o));
	need(zcp_subscribe(mine, "t", &so, &sub));
	need(zcp_offer(mine, topic, &po, &pub));
	need(zcp_pub_wait_readers(pub, 1, PATIENCE));
	need(zcp_send(pub, &me, sizeof(me), 0, PATIENCE));
	/* All are here until the word is given. */
	while (zcp_take(sub, &msg) != 1)
		need(zcp_wait(sub, PATIENCE));
	zcp_release(sub, &msg);
	zcp_stop_offer(&pub);
	zcp_unsubscribe(&sub);
	zcp_close(&mine);
}

START_TEST(many_processes_at_once_are_all_heard_and_all_hear)
{
	int count = scaled(60, 500);
	zcp_sub_options o = { .publishers = 1024 };
	pid_t *pid = calloc((size_t)count, sizeof(*pid));
	uint64_t expected = 0, heard = 0;
	zcp_sub *sub;
	zcp_pub *pub;

	start_large((uint32_t)count + 2, 1024, 4096);
	for (int i = 0; i < count; i++) {
		pid[i] = in_process(say_one_thing, NULL);
		expected += (uint64_t)pid[i];
	}
	bus = bus_open("test");
	must(zcp_subscribe(bus, "crowd/*", &o, &sub));
	pub = offer(8, 0);
	for (int i = 0; i < count; i++) {
		zcp_msg msg;

		must(take_wait(sub, &msg));
		heard += number(&msg);
		zcp_release(sub, &msg);
	}
	ck_assert_uint_eq(heard, expected);
	must(zcp_pub_wait_readers(pub, count, PATIENCE));
	send_number(pub, 1, 8);
	for (int i = 0; i < count; i++)
		join_process(pid[i]);
	zcp_stop_offer(&pub);
	zcp_unsubscribe(&sub);
	free(pid);
	stop();
}
END_TEST

START_TEST(coming_and_going_leaves_nothing)
{
	int cycles = scaled(300, 10000), before;

	start_large(32, 64, 256);
	bus = bus_open("test");
	before = descriptors_of(daemon_of_test);
	for (int i = 0; i < cycles; i++) {
		zcp *mine = bus_open("visitor");
		zcp_pub *pub;
		zcp_sub *sub;
		zcp_msg msg;

		must(zcp_subscribe(mine, "visit", NULL, &sub));
		must(zcp_offer(mine, "visit", NULL, &pub));
		send_number(pub, (uint64_t)i, 100);
		must(take_wait(sub, &msg));
		ck_assert_uint_eq(number(&msg), (uint64_t)i);
		zcp_release(sub, &msg);
		zcp_stop_offer(&pub);
		zcp_unsubscribe(&sub);
		zcp_close(&mine);
	}
	ck_assert_uint_eq(status_number("participants"), 1);
	ck_assert_uint_eq(status_number("topics"), 0);
	ck_assert_int_eq(descriptors_of(daemon_of_test), before);
	stop();
}
END_TEST

/* ---- readers come and go under load --------------------------------------------------- */

struct turnover {
	_Atomic int stop;
	_Atomic uint64_t joined, taken, bad;
};

/* Joins, checks that what it gets has no gap, leaves. */
static void *join_and_leave(void *arg)
{
	struct turnover *t = arg;

	while (!t->stop) {
		zcp_sub *sub = subscribe(ZCP_RELIABLE);
		uint64_t next = UINT64_MAX;

		for (int i = 0; i < 50 && !t->stop; i++) {
			zcp_msg msg;

			if (take_wait(sub, &msg) != 1) {
				t->bad++;
				break;
			}
			if (next != UINT64_MAX && number(&msg) != next)
				t->bad++;
			next = number(&msg) + 1;
			zcp_release(sub, &msg);
			t->taken++;
		}
		zcp_unsubscribe(&sub);
		t->joined++;
	}
	return NULL;
}

START_TEST(readers_that_join_and_leave_under_load_see_no_gap)
{
	enum { THREADS = 3 };
	uint64_t joins = (uint64_t)scaled(100, 5000);
	struct turnover t = { 0 };
	pthread_t thread[THREADS];
	zcp_pub *pub;

	start(_i);
	pub = offer(64, 8);
	for (int i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&thread[i], NULL,
		    join_and_leave, &t), 0);
	for (uint64_t n = 0; t.joined < joins; n++)
		send_number(pub, n, n % 2 ? 8 : 100);
	t.stop = 1;
	/* Those that wait for a message get one. */
	for (int i = 0; i < THREADS; i++) {
		struct timespec soon;

		do {
			send_number(pub, UINT64_MAX, 8);
			clock_gettime(CLOCK_REALTIME, &soon);
			soon.tv_nsec += 1000000;
			soon.tv_sec += soon.tv_nsec / 1000000000;
			soon.tv_nsec %= 1000000000;
		} while (pthread_timedjoin_np(thread[i], NULL, &soon) != 0);
	}
	zcp_stop_offer(&pub);
	ck_assert_uint_gt(t.taken, 0);
	/* The last message of each may be the one that ended it. */
	ck_assert_uint_le(t.bad, THREADS);
	stop();
}
END_TEST

/* ---- little memory ------------------------------------------------------------------------ */

struct hungry {
	int messages;
};

static void publish_hungrily(void *arg)
{
	const struct hungry *h = arg;
	zcp_options o = { .name = "hungry" };
	zcp_pub *pub;
	zcp *mine;

	need(zcp_open(&mine, &o));
	need(zcp_offer(mine, "t", NULL, &pub));
	need(zcp_pub_wait_readers(pub, 1, PATIENCE));
	for (uint64_t n = 0; n < (uint64_t)h->messages; n++) {
		zcp_chunk chunk;

		need(zcp_loan(pub, 100, &chunk, PATIENCE));
		memcpy(chunk.data, &n, sizeof(n));
		need(zcp_publish(pub, &chunk, 100, PATIENCE));
	}
	zcp_stop_offer(&pub);
	zcp_close(&mine);
}

START_TEST(many_publishers_share_a_pool_that_is_smaller_than_any_ring)
{
	enum { PUBLISHERS = 6 };
	struct hungry h = { scaled(2000, 50000) };
	struct settings s = mode_settings(_i);
	uint64_t next[2048] = { 0 };
	pid_t pid[PUBLISHERS];
	zcp_sub *sub;

	s.pool[0].count = 8;
	s.pools = 1;
	bus_start(&s);
	for (int i = 0; i < PUBLISHERS; i++)
		pid[i] = in_process(publish_hungrily, &h);
	bus = bus_open("test");
	sub = subscribe(ZCP_RELIABLE);
	for (int left = PUBLISHERS * h.messages; left > 0; left--) {
		zcp_msg msg;

		must(take_wait(sub, &msg));
		ck_assert_uint_eq(number(&msg), next[msg.publisher]);
		next[msg.publisher]++;
		zcp_release(sub, &msg);
	}
	for (int i = 0; i < PUBLISHERS; i++)
		join_process(pid[i]);
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

/* ---- the scheduler against us ---------------------------------------------------------------- */

enum adversity { ONE_CPU, NICE_READER, NICE_PUBLISHER, FIFO_PUBLISHER,
	FIFO_READER, ADVERSITIES };

/* False where this user may not. */
static bool suffer(enum adversity what, bool publisher)
{
	struct sched_param fifo = { .sched_priority = 1 };
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(0, &one);
	if (sched_setaffinity(0, sizeof(one), &one) < 0)
		return false;
	switch (what) {
	case NICE_READER:
		return publisher || setpriority(PRIO_PROCESS, 0, 19) == 0;
	case NICE_PUBLISHER:
		return !publisher || setpriority(PRIO_PROCESS, 0, 19) == 0;
	case FIFO_PUBLISHER:
		return !publisher ||
		    sched_setscheduler(0, SCHED_FIFO, &fifo) == 0;
	case FIFO_READER:
		return publisher ||
		    sched_setscheduler(0, SCHED_FIFO, &fifo) == 0;
	default:
		return true;
	}
}

struct hardship {
	enum adversity what;
	int messages;
};

static void publish_in_hardship(void *arg)
{
	const struct hardship *h = arg;
	zcp_options o = { .name = "suffering" };
	zcp_pub_options po = { .slots = 64 };
	zcp_pub *pub;
	zcp *mine;

	suffer(h->what, true);
	need(zcp_open(&mine, &o));
	need(zcp_offer(mine, "t", &po, &pub));
	need(zcp_pub_wait_readers(pub, 1, PATIENCE));
	for (uint64_t n = 0; n < (uint64_t)h->messages; n++) {
		char message[100] = { 0 };

		memcpy(message, &n, sizeof(n));
		need(zcp_send(pub, message, n % 2 ? 8 : 100, 0, PATIENCE));
	}
	zcp_stop_offer(&pub);
	zcp_close(&mine);
}

START_TEST(one_processor_and_unequal_priorities_stop_nobody)
{
	struct hardship h = { (enum adversity)_i, scaled(5000, 200000) };
	struct settings settings;
	zcp_sub *sub;
	pid_t pid;

	settings = bus_settings();
	bus_start(&settings);
	pid = in_process(publish_in_hardship, &h);
	bus = bus_open("test");
	sub = subscribe(ZCP_RELIABLE);
	suffer(h.what, false);
	for (uint64_t n = 0; n < (uint64_t)h.messages; n++)
		expect(sub, n);
	join_process(pid);
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("pressure");

	tcase_set_timeout(t, scaled(120, 900));
	tcase_add_test(t, every_one_of_many_subscribers_gets_every_message);
	tcase_add_test(t, one_reader_gets_many_publishers_each_in_its_order);
	tcase_add_test(t, each_of_many_topics_carries_its_own_messages);
	tcase_add_test(t, many_processes_at_once_are_all_heard_and_all_hear);
	tcase_add_test(t, coming_and_going_leaves_nothing);
	in_each_mode(t, readers_that_join_and_leave_under_load_see_no_gap);
	in_each_mode(t,
	    many_publishers_share_a_pool_that_is_smaller_than_any_ring);
	tcase_add_loop_test(t, one_processor_and_unequal_priorities_stop_nobody,
	    0, ADVERSITIES);
	return run_tests("pressure", t);
}
