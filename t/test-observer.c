/*
 * What an observer sees: of a domain at work, of copies of its segments, of
 * damaged ones; and that it changes nothing.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "atomics.h"
#include "delay.h"
#include "scene.h"

static zcp_observer *observe(const char *dir)
{
	zcp_observer *o;

	must(zcp_observe(&o, bus_domain, dir));
	return o;
}

static zcp_snapshot *look(zcp_observer *o, unsigned what)
{
	zcp_snapshot *s;

	must(zcp_look(o, what, &s));
	return s;
}

/* The one port of its kind. */
static uint32_t port_of(const zcp_snapshot *s, bool publisher)
{
	uint32_t found = ZCP_NONE;

	for (uint32_t i = 0; i < s->ports; i++)
		if (s->port[i].publisher == publisher) {
			ck_assert_uint_eq(found, ZCP_NONE);
			found = i;
		}
	ck_assert_uint_ne(found, ZCP_NONE);
	return found;
}

START_TEST(participants_topics_ports_and_links_are_seen)
{
	zcp_observer *o;
	zcp_snapshot *s;
	zcp_pub *pub;
	zcp_sub *sub;

	start(_i);
	sub = subscribe(0);
	pub = offer(16, 0);
	for (uint64_t i = 0; i < 5; i++)
		send_number(pub, i, 8);
	expect(sub, 0);
	o = observe(NULL);
	s = look(o, 0);
	ck_assert_str_eq(s->domain.name, bus_domain);
	ck_assert_int_gt(s->domain.daemon, 0);
	ck_assert_uint_gt(s->domain.bytes, 0);
	ck_assert_uint_eq(s->domain.damaged, 0);
	ck_assert_uint_eq(s->participants, 1);
	ck_assert_uint_eq(s->participant[0].pid, (unsigned)getpid());
	ck_assert_int_eq(s->participant[0].state, ZCP_PARTICIPANT_LIVE);
	ck_assert_uint_eq(s->participant[0].publishers, 1);
	ck_assert_uint_eq(s->participant[0].subscribers, 1);
	ck_assert_uint_eq(s->topics, 1);
	ck_assert_str_eq(s->topic[0].name, "t/default/default");
	ck_assert_uint_eq(s->ports, 2);
	ck_assert_uint_eq(s->port[port_of(s, true)].head, 5);
	ck_assert_uint_eq(s->port[port_of(s, true)].bytes, 5 * 8);
	ck_assert_uint_eq(s->port[port_of(s, false)].taken, 1);
	ck_assert_uint_eq(s->port[port_of(s, false)].lag, 4);
	ck_assert_uint_eq(s->links, 1);
	ck_assert(s->link[0].joined && s->link[0].reliable);
	ck_assert_uint_eq(s->link[0].at, 1);
	ck_assert_uint_eq(zcp_blocker(s, port_of(s, true)), 0);
	zcp_snapshot_free(&s);
	zcp_observe_end(&o);
	zcp_stop_offer(&pub);
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

START_TEST(a_chunk_names_its_owner_and_who_holds_it)
{
	zcp_chunk chunk;
	zcp_observer *o;
	zcp_snapshot *s;
	zcp_pub *pub;
	zcp_sub *sub;
	zcp_msg msg;

	start(_i);
	sub = subscribe(0);
	pub = offer(16, 0);
	send_number(pub, 77, 100);
	must(zcp_loan(pub, 100, &chunk, 0));
	ck_assert_int_eq(take_wait(sub, &msg), 1);
	o = observe(NULL);
	s = look(o, ZCP_LOOK_CHUNKS | ZCP_LOOK_PREVIEWS);
	ck_assert_uint_eq(s->chunks, 2);
	ck_assert_uint_eq(s->holders, 1);
	for (size_t i = 0; i < s->chunks; i++) {
		const zcp_chunk_facts *f = &s->chunk[i];

		ck_assert_uint_eq(f->port, port_of(s, true));
		if (f->state == ZCP_CHUNK_LOANED) {
			ck_assert_uint_eq(f->holders, 0);
			continue;
		}
		ck_assert_uint_eq(f->length, 100);
		ck_assert_uint_eq(f->holders, 1);
		ck_assert_uint_eq(s->holder[f->first_holder].reader,
		    port_of(s, false));
		ck_assert_uint_eq(f->preview_size, sizeof(f->preview));
		ck_assert_mem_eq(f->preview, msg.data, sizeof(f->preview));
	}
	ck_assert_uint_eq(s->participant[0].loans, 1);
	ck_assert_uint_eq(s->participant[0].holds, 1);
	ck_assert_uint_eq(s->pool[0].loaned, 1);
	ck_assert_uint_eq(s->pool[0].published, 1);
	zcp_snapshot_free(&s);
	zcp_observe_end(&o);
	zcp_discard(pub, &chunk);
	zcp_release(sub, &msg);
	zcp_stop_offer(&pub);
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

START_TEST(rates_and_delays_are_what_happened_between_two_looks)
{
	zcp_pub_options options = { .stamp = ZCP_STAMP_EVERY };
	zcp_snapshot *before, *now;
	zcp_port_rates rates;
	zcp_observer *o;
	double seconds;
	zcp_pub *pub;
	zcp_sub *sub;

	start(0);
	sub = subscribe(0);
	must(zcp_offer(bus, "t", &options, &pub));
	for (uint64_t i = 0; i < 100; i++) {
		send_number(pub, i, 8);
		expect(sub, i);
	}
	o = observe(NULL);
	before = look(o, 0);
	for (uint64_t i = 100; i < 400; i++) {
		send_number(pub, i, 8);
		expect(sub, i);
	}
	now = look(o, 0);
	seconds = (double)(now->time - before->time) / 1e9;
	ck_assert_int_eq(zcp_rates(before, now, port_of(now, true), &rates), 1);
	ck_assert_double_eq_tol(rates.messages * seconds, 300, 0.1);
	ck_assert_double_eq_tol(rates.bytes * seconds, 2400, 0.1);
	ck_assert_uint_gt(now->port[port_of(now, true)].interval_mean, 0);
	ck_assert_int_eq(zcp_rates(before, now, port_of(now, false), &rates), 1);
	ck_assert_double_eq_tol(rates.messages * seconds, 300, 0.1);
	/* 128, 192, 256, 320, 384. */
	ck_assert_uint_eq(rates.delays, 5);
	ck_assert_uint_gt(rates.delay_p50, 0);
	ck_assert_uint_ge(rates.delay_p99, rates.delay_p50);
	ck_assert_int_eq(zcp_rates(NULL, now, port_of(now, false), &rates), 1);
	ck_assert_uint_eq(rates.delays, 7);
	zcp_snapshot_free(&before);
	zcp_snapshot_free(&now);
	zcp_observe_end(&o);
	zcp_stop_offer(&pub);
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

START_TEST(a_delay_lies_below_the_bound_of_its_bucket_and_not_of_the_one_before)
{
	for (uint64_t ns = 64; ns < UINT64_C(1) << 38; ns += ns / 7 + 1) {
		unsigned i = delay_bucket(ns);

		ck_assert_uint_lt(ns, delay_bound(i));
		if (i > 0)
			ck_assert_uint_ge(ns, delay_bound(i - 1));
	}
	ck_assert_uint_eq(delay_bucket(0), 0);
	ck_assert_uint_eq(delay_bucket(UINT64_MAX), DELAY_BUCKETS - 1);
}
END_TEST

START_TEST(a_loan_that_fails_names_who_has_the_memory)
{
	zcp_chunk chunk[32];
	zcp_pub *pub, *greedy;
	zcp_sub *sub;
	zcp_msg msg;
	char text[64];
	int n = 0;

	start(_i);
	sub = subscribe(0);
	pub = offer(16, 0);
	send_number(pub, 1, 100);
	ck_assert_int_eq(take_wait(sub, &msg), 1);
	must(zcp_offer(bus, "greedy", NULL, &greedy));
	while (zcp_loan(greedy, 100, &chunk[n], 0) == 0)
		n++;
	ck_assert_int_eq(zcp_loan(pub, 100, &chunk[31], 0), -ZCP_E_NOMEM);
	snprintf(text, sizeof(text), "%d are of ", n);
	ck_assert_ptr_nonnull(strstr(zcp_errmsg(), text));
	snprintf(text, sizeof(text), "(pid %d) on greedy/default/default",
	    (int)getpid());
	ck_assert_ptr_nonnull(strstr(zcp_errmsg(), text));
	ck_assert_ptr_nonnull(strstr(zcp_errmsg(), "1 held by "));
	while (n > 0)
		zcp_discard(greedy, &chunk[--n]);
	zcp_release(sub, &msg);
	zcp_stop_offer(&greedy);
	zcp_stop_offer(&pub);
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

START_TEST(an_observer_finds_the_domain_that_was_made_anew)
{
	struct settings settings = bus_settings();
	zcp_snapshot *s = NULL;
	uint64_t instance;
	zcp_observer *o;

	start(0);
	o = observe(NULL);
	s = look(o, 0);
	instance = s->domain.instance;
	zcp_snapshot_free(&s);
	stop();
	ck_assert_int_eq(zcp_look(o, 0, &s), -ZCP_E_NODAEMON);
	ck_assert_ptr_null(s);
	bus_restart(&settings);
	s = look(o, 0);
	ck_assert_uint_ne(s->domain.instance, instance);
	ck_assert_uint_eq(s->ports, 0);
	zcp_snapshot_free(&s);
	zcp_observe_end(&o);
	bus_end_daemon();
}
END_TEST

START_TEST(a_domain_that_is_not_there_is_named)
{
	zcp_observer *o;

	ck_assert_int_eq(zcp_observe(&o, "no-such-domain", NULL),
	    -ZCP_E_NODAEMON);
	ck_assert_ptr_null(o);
	ck_assert_ptr_nonnull(strstr(zcp_errmsg(), "no-such-domain"));
	ck_assert_int_eq(zcp_observe(&o, "a/b", NULL), -ZCP_E_ARG);
	ck_assert_int_eq(zcp_observe(&o, "d", "/no/such/dir"), -ZCP_E_SYS);
}
END_TEST

/* ---- copies, and what is wrong in them ---------------------------------------------- */

static char dir[64];

/* Copies a file without its holes. */
static void copy_file(const char *from, const char *to)
{
	int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT, 0600);
	static char block[4096];
	struct stat st;
	off_t at = 0;

	ck_assert_int_ge(in, 0);
	ck_assert_int_ge(out, 0);
	ck_assert_int_eq(fstat(in, &st), 0);
	ck_assert_int_eq(ftruncate(out, st.st_size), 0);
	while ((at = lseek(in, at, SEEK_DATA)) >= 0) {
		off_t hole = lseek(in, at, SEEK_HOLE);

		for (; at < hole; at += (off_t)sizeof(block)) {
			ssize_t n = pread(in, block, sizeof(block), at);

			ck_assert_int_gt(n, 0);
			ck_assert_int_eq(pwrite(out, block, (size_t)n, at), n);
		}
	}
	close(in);
	close(out);
}

static void copy_domain(void)
{
	static const char *const parts[] = { "mgmt", "bell", "pool", "data",
	    "p0" };
	char from[SEGMENT_PATH], to[SEGMENT_PATH];

	strcpy(dir, "/tmp/zcp-unit-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		bus_path(from, parts[i]);
		segment_path(to, dir, parts[i]);
		copy_file(from, to);
	}
}

static void remove_copy(void)
{
	struct dirent *e;
	char path[512];
	DIR *d = opendir(dir);

	while ((e = readdir(d)) != NULL) {
		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		unlink(path);
	}
	closedir(d);
	rmdir(dir);
}

static void copy_a_busy_domain(void)
{
	struct busy busy;

	start_busy(&busy, 0);
	copy_domain();
	stop_busy(&busy);
}

static void tell_nobody(void *arg, const char *text)
{
	int *n = arg;

	ck_assert_uint_gt(strlen(text), 0);
	++*n;
}

START_TEST(a_copy_of_the_segments_is_looked_at_as_well)
{
	zcp_observer *o;
	zcp_snapshot *s;
	int told = 0;

	copy_a_busy_domain();
	o = observe(dir);
	s = look(o, ZCP_LOOK_CHUNKS | ZCP_LOOK_PREVIEWS);
	ck_assert_int_eq(s->domain.copy, 1);
	ck_assert_int_eq(s->domain.daemon, 0);
	ck_assert_uint_eq(s->ports, 2);
	ck_assert_uint_eq(s->links, 1);
	ck_assert_uint_eq(s->chunks, 4);
	ck_assert_uint_eq(s->holders, 1);
	ck_assert_int_eq(zcp_check(o, tell_nobody, &told), 0);
	ck_assert_int_eq(told, 0);
	zcp_snapshot_free(&s);
	zcp_observe_end(&o);
	remove_copy();
}
END_TEST

/* Opens a part of the copy for writing. */
static int open_copy(const char *part)
{
	char path[SEGMENT_PATH];
	int fd;

	segment_path(path, dir, part);
	fd = open(path, O_RDWR);
	ck_assert_int_ge(fd, 0);
	return fd;
}

START_TEST(a_word_that_names_nobody_is_a_violation)
{
	uint64_t word = word_make(CHUNK_PUBLISHED, 4711, 3);
	int fd, told = 0;
	zcp_observer *o;

	copy_a_busy_domain();
	fd = open_copy("pool");
	ck_assert_int_eq(pwrite(fd, &word, sizeof(word), 64 + 8 * 7),
	    sizeof(word));
	close(fd);
	o = observe(dir);
	ck_assert_int_eq(zcp_check(o, tell_nobody, &told), 1);
	ck_assert_int_eq(told, 1);
	zcp_observe_end(&o);
	remove_copy();
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("observer");

	tcase_set_timeout(t, 60);
	in_each_mode(t, participants_topics_ports_and_links_are_seen);
	in_each_mode(t, a_chunk_names_its_owner_and_who_holds_it);
	tcase_add_test(t, rates_and_delays_are_what_happened_between_two_looks);
	tcase_add_test(t, a_delay_lies_below_the_bound_of_its_bucket_and_not_of_the_one_before);
	in_each_mode(t, a_loan_that_fails_names_who_has_the_memory);
	tcase_add_test(t, an_observer_finds_the_domain_that_was_made_anew);
	tcase_add_test(t, a_domain_that_is_not_there_is_named);
	tcase_add_test(t, a_copy_of_the_segments_is_looked_at_as_well);
	tcase_add_test(t, a_word_that_names_nobody_is_a_violation);
	return run_tests("observer", t);
}
