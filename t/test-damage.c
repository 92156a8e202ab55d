/* Damage by a member to its own words: a bit flipped in a tail, holds that it
 * made up.  Whoever reads them is told, and goes on. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "atomics.h"
#include "control.h"
#include "fuzz/image.h"
#include "publisher.h"
#include "scene.h"
#include "subscriber.h"

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
	ck_assert_ptr_nonnull(strstr(zcp_errmsg(), "the ring of p0 (test, pid "));
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

static void must_answer(const char *request)
{
	char reply[CONTROL_REPLY];
	uint64_t began = clock_ns();

	must(control_call(bus_domain, request, reply, sizeof(reply),
	    began + NS_PER_S));
}

/* ---- files that are cut short ---------------------------------------------------- */

static zcp *open_guarded(const char *name, int guard)
{
	zcp_options o = { .name = name, .guard = guard };
	zcp *on;

	need(zcp_open(&on, &o));
	return on;
}

static void cut_part(const char *part, off_t to)
{
	char path[SEGMENT_PATH];

	bus_path(path, part);
	ck_assert_int_eq(truncate(path, to), 0);
}

/* To nothing, or to its first page. */
static off_t cut_to(int i)
{
	return i % 2 ? MEMBER_FIRST : 0;
}

/* Its file is p0: it is the first. */
static void start_guarded(void)
{
	struct settings s = bus_settings();

	bus_start(&s);
	bus = open_guarded("test", 1);
}

struct other {
	int ready[2];
	pid_t pid;
};

/* Another process, which is at its pause() when this returns. */
static void start_other(struct other *o, void (*role)(void *))
{
	char byte;

	ck_assert_int_eq(pipe(o->ready), 0);
	o->pid = in_process(role, o);
	ck_assert_int_eq(read(o->ready[0], &byte, 1), 1);
}

static void other_ready(const struct other *o)
{
	if (write(o->ready[1], "", 1) == 1)
		for (;;)
			pause();
}

static void publish_three(void *arg)
{
	zcp *on = open_guarded("bad", 1);
	zcp_pub *pub;

	need(zcp_offer(on, "t", NULL, &pub));
	for (uint64_t n = 1; n < 4; n++)
		need(zcp_send(pub, &n, sizeof(n), 0, -1));
	other_ready(arg);
}

static void read_nothing(void *arg)
{
	zcp *on = open_guarded("bad", 1);
	zcp_sub *sub;

	need(zcp_subscribe(on, "t", NULL, &sub));
	other_ready(arg);
}

static void stop_damaged(void)
{
	zcp_close(&bus);
	bus_stop_leaving_damage();
}

static bool a_reader_is_there(void *pub)
{
	return zcp_pub_readers(pub) == 1;
}

START_TEST(a_reader_outlives_a_publisher_that_truncates_its_file)
{
	struct other bad;
	zcp_pub *good;
	zcp_sub *sub;
	zcp_msg msg;

	start_guarded();
	sub = subscribe(_i < 2 ? ZCP_RELIABLE : ZCP_LOSSY);
	good = offer_on("t");
	start_other(&bad, publish_three);
	expect(sub, 1);
	cut_part("p1", cut_to(_i));
	ck_assert_int_eq(take_wait(sub, &msg), -ZCP_E_DAMAGED);
	ck_assert_uint_ge(msg.lost, 1);
	ck_assert_ptr_nonnull(strstr(zcp_errmsg(), "p1 (bad, pid "));
	ck_assert_ptr_nonnull(strstr(zcp_errmsg(),
	    "was truncated by its owner"));
	send_number(good, 5, 100);
	expect(sub, 5);
	ck_assert_int_eq(zcp_take(sub, &msg), 0);
	must_answer("STATUS");
	/* Who comes later is told, too. */
	zcp_unsubscribe(&sub);
	sub = subscribe(ZCP_RELIABLE);
	ck_assert_int_eq(take_wait(sub, &msg), -ZCP_E_DAMAGED);
	send_number(good, 6, 8);
	expect(sub, 6);
	kill_process(bad.pid);
	zcp_unsubscribe(&sub);
	zcp_stop_offer(&good);
	stop_damaged();
}
END_TEST

START_TEST(a_publisher_outlives_a_reader_that_truncates_its_file)
{
	struct other bad;
	zcp_pub *pub;

	start_guarded();
	start_other(&bad, read_nothing);
	pub = offer_on("t");
	for (uint64_t n = 0; n < 64; n++)
		send_number(pub, n, n % 8 ? 8 : 100);
	ck_assert_int_eq(zcp_send(pub, "x", 1, 0, 0), -ZCP_E_TIMEOUT);
	cut_part("p1", cut_to(_i));
	/* It gates no more. */
	for (uint64_t n = 0; n < 1000; n++)
		send_number(pub, n, n % 8 ? 8 : 100);
	must_answer("STATUS");
	kill_process(bad.pid);
	zcp_stop_offer(&pub);
	stop_damaged();
}
END_TEST

static const char *const own_parts[] = { "p0", "bell", "pool", "data" };

/* An error that names the file, not a signal. */
START_TEST(who_finds_a_file_of_the_domain_truncated_says_which)
{
	const char *part = own_parts[_i];
	zcp_pub *pub;
	zcp_sub *sub;
	zcp_msg msg;
	int rc;

	start_guarded();
	sub = subscribe(ZCP_RELIABLE);
	pub = offer_on("t");
	send_number(pub, 0, 1000);
	send_number(pub, 1, 1000);
	expect(sub, 0);
	cut_part(part, 0);
	rc = zcp_take(sub, &msg);
	for (int i = 0; i < 1000 && rc >= 0; i++) {
		char text[1000] = "";

		if (rc == 1 && msg.data != NULL)
			rc = ((const volatile char *)msg.data)[999];
		rc = zcp_send(pub, text, sizeof(text), 0, 0);
		if (rc == -ZCP_E_TIMEOUT || rc == -ZCP_E_NOMEM)
			rc = zcp_take(sub, &msg);
	}
	ck_assert_int_eq(rc, -ZCP_E_DAMAGED);
	ck_assert_ptr_nonnull(strstr(zcp_errmsg(), part));
	ck_assert_ptr_nonnull(strstr(zcp_errmsg(), "was truncated"));
	zcp_unsubscribe(&sub);
	zcp_stop_offer(&pub);
	stop_damaged();
}
END_TEST

static void write_heartbeat(uint64_t period)
{
	char path[SEGMENT_PATH];
	int fd;

	bus_path(path, "mgmt");
	ck_assert_int_ge(fd = open(path, O_WRONLY), 0);
	ck_assert_int_eq(pwrite(fd, &period, sizeof(period),
	    offsetof(struct mgmt, heartbeat)), sizeof(period));
	close(fd);
}

/* Whoever believed it would beat without a pause, or bury the living. */
START_TEST(a_heartbeat_period_that_cannot_be_is_damage)
{
	struct settings s = bus_settings();
	zcp_options o = { .domain = bus_domain };
	zcp *one;

	bus_start(&s);
	write_heartbeat(0);
	ck_assert_int_eq(zcp_open(&one, &o), -ZCP_E_DAMAGED);
	ck_assert_ptr_nonnull(strstr(zcp_errmsg(), "heartbeat period"));
	write_heartbeat(UINT64_MAX);
	ck_assert_int_eq(zcp_open(&one, &o), -ZCP_E_DAMAGED);
	write_heartbeat(s.heartbeat);
	must(zcp_open(&one, &o));
	zcp_close(&one);
	bus_stop();
}
END_TEST

static void read_unguarded(void *arg)
{
	zcp *on;
	zcp_sub *sub;
	zcp_msg msg;

	signal(SIGBUS, SIG_DFL);	/* its parent's is not its own */
	on = open_guarded("victim", 0);
	need(zcp_subscribe(on, "t", NULL, &sub));
	need(take_wait(sub, &msg));
	zcp_release(sub, &msg);
	if (write(((struct other *)arg)->ready[1], "", 1) != 1)
		_exit(1);
	for (;;)
		if (zcp_take(sub, &msg) == 1)
			zcp_release(sub, &msg);
}

/* What zcp_open(3) says of a program that does not ask for the guard. */
START_TEST(without_the_guard_it_is_a_signal)
{
	struct other victim;
	zcp_pub *pub;
	int status;
	char byte;

	start_guarded();
	pub = offer_on("t");
	ck_assert_int_eq(pipe(victim.ready), 0);
	victim.pid = in_process(read_unguarded, &victim);
	eventually(a_reader_is_there, pub, "the reader");
	send_number(pub, 1, 8);
	ck_assert_int_eq(read(victim.ready[0], &byte, 1), 1);
	cut_part("p0", 0);
	ck_assert_int_eq(waitpid(victim.pid, &status, 0), victim.pid);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
	zcp_stop_offer(&pub);
	stop_damaged();
}
END_TEST

static volatile sig_atomic_t chained;

static void on_own_bus(int sig, siginfo_t *info, void *context)
{
	void *page = (void *)((uintptr_t)info->si_addr & ~(uintptr_t)4095);

	(void)sig;
	(void)context;
	chained++;
	mmap(page, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
	    0);
}

START_TEST(a_handler_that_was_there_before_gets_what_is_not_ours)
{
	struct sigaction act = { .sa_sigaction = on_own_bus,
	    .sa_flags = SA_SIGINFO };
	int fd = memfd_create("own", 0);
	volatile char *own;

	ck_assert_int_eq(sigaction(SIGBUS, &act, NULL), 0);
	start_guarded();
	ck_assert_int_eq(ftruncate(fd, 4096), 0);
	own = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
	ck_assert_int_eq(ftruncate(fd, 0), 0);
	ck_assert_int_eq(own[0], 0);
	ck_assert_int_eq(chained, 1);
	stop();
}
END_TEST

/* ---- a file that is not kept --------------------------------------------------------- */

static bool no_locks;

int fcntl(int fd, int what, ...)
{
	va_list ap;
	long arg;

	va_start(ap, what);
	arg = va_arg(ap, long);
	va_end(ap);
	if (no_locks && what == F_SETLK) {
		errno = ENOLCK;
		return -1;
	}
	return (int)syscall(SYS_fcntl, fd, what, arg);
}

/* What the application then has in its place is its own. */
START_TEST(a_file_whose_lock_is_not_to_be_had_is_guarded_no_more)
{
	struct sigaction act = { .sa_sigaction = on_own_bus,
	    .sa_flags = SA_SIGINFO };
	zcp_options o = { .guard = 1 };
	int fd = memfd_create("own", 0);
	volatile char *own;
	zcp *refused;

	ck_assert_int_eq(sigaction(SIGBUS, &act, NULL), 0);
	start_guarded();
	no_locks = true;
	ck_assert_int_eq(zcp_open(&refused, &o), -ZCP_E_SYS);
	no_locks = false;
	own = mmap(NULL, MEMBER_WINDOW, PROT_READ, MAP_SHARED | MAP_NORESERVE,
	    fd, 0);
	ck_assert_ptr_ne((void *)own, MAP_FAILED);
	/* Where the kernel puts it, as far as it can be. */
	ck_assert_int_eq(own[0], 0);
	ck_assert_int_eq(own[MEMBER_WINDOW / 2], 0);
	ck_assert_int_eq(own[MEMBER_WINDOW - 1], 0);
	ck_assert_int_eq(chained, 3);
	stop();
}
END_TEST

/* ---- holds that are made up ------------------------------------------------------ */

/* As many as it may have room for, of every chunk and of none. */
static void hold_everything(void *arg)
{
	zcp_sub_options o = { .holds = MAX_HOLDS, .publishers = 8192 };
	zcp *on = open_guarded("hog", 1);
	zcp_sub *sub;

	need(zcp_subscribe(on, "elsewhere", &o, &sub));
	for (uint32_t i = 0; i < o.publishers; i++) {
		struct cursor *c = subscription_cursor(sub->self, o.holds, i);

		for (uint32_t h = 0; h < o.holds; h++)
			hold_show(c, h, h % 2 ? chunk_id(h % 4 / 2, i % 16) :
			    (i * o.holds + h) << 12);
	}
	other_ready(arg);
}

START_TEST(made_up_holds_keep_the_daemon_from_nothing)
{
	struct other hog;
	zcp_pub *pub;

	start_guarded();
	start_other(&hog, hold_everything);
	pub = offer_on("t");
	for (int i = 0; i < 20; i++) {
		control_hint(&bus->d.site, "SWEEP:size=4096");
		must_answer("PING");
		send_number(pub, 7, 8);
	}
	kill_process(hog.pid);
	for (int i = 0; i < 20; i++)
		must_answer(i % 2 ? "PING" : "STATUS");
	zcp_stop_offer(&pub);
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
	    a_reader_outlives_a_publisher_that_truncates_its_file, 0, 4);
	tcase_add_loop_test(t,
	    a_publisher_outlives_a_reader_that_truncates_its_file, 0, 2);
	tcase_add_loop_test(t,
	    who_finds_a_file_of_the_domain_truncated_says_which, 0, 4);
	tcase_add_test(t, made_up_holds_keep_the_daemon_from_nothing);
	tcase_add_test(t, without_the_guard_it_is_a_signal);
	tcase_add_test(t, a_heartbeat_period_that_cannot_be_is_damage);
	tcase_add_test(t,
	    a_handler_that_was_there_before_gets_what_is_not_ours);
	tcase_add_test(t,
	    a_file_whose_lock_is_not_to_be_had_is_guarded_no_more);
	tcase_add_loop_test(t,
	    a_daemon_whose_files_are_damaged_under_it_answers_within_a_second,
	    0, 8);
	return run_tests("damage", t);
}
