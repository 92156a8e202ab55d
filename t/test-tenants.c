/*
 * A message names its tenant, not its place: an end that comes late ends
 * nothing of whoever was given the slot or the port meanwhile.
 */
#include <dlfcn.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "atomics.h"
#include "control.h"
#include "error.h"
#include "publisher.h"
/* Whose PATIENCE is a test's. */
#include "bus.h"

/* ---- a thread that is late ------------------------------------------------------ */

/*
 * A thread that is to be late stands, as if it had been scheduled away, where
 * it next makes a socket (as for each request), or wakes somebody.
 */
enum lateness { IN_TIME, AT_SOCKET, AT_WAKE };
static _Thread_local enum lateness late;
static sem_t arrived, proceed;

static void stand_at(enum lateness here)
{
	if (late != here)
		return;
	late = IN_TIME;
	sem_post(&arrived);
	sem_wait(&proceed);
}

int socket(int family, int type, int protocol)
{
	stand_at(AT_SOCKET);
	return (int)syscall(SYS_socket, family, type, protocol);
}

/* The daemon ends as soon as its process has been looked for by its number; and
 * how many signals were sent through such descriptors. */
static bool ends_meanwhile;
static unsigned signals;

long syscall(long number, ...)
{
	long (*real)(long, ...) = (long (*)(long, ...))dlsym(RTLD_NEXT,
	    "syscall");
	long arg[6], n;
	va_list ap;

	va_start(ap, number);
	for (int i = 0; i < 6; i++)
		arg[i] = va_arg(ap, long);
	va_end(ap);
	if (number == SYS_futex && arg[1] == FUTEX_WAKE)
		stand_at(AT_WAKE);
	signals += number == SYS_pidfd_send_signal;
	n = real(number, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
	if (number == SYS_pidfd_open && ends_meanwhile) {
		ends_meanwhile = false;
		bus_kill();
	}
	return n;
}

static void *late_close(void *arg)
{
	zcp *bus = arg;

	late = AT_SOCKET;
	zcp_close(&bus);
	return NULL;
}

static void *late_stop_offer(void *arg)
{
	zcp_pub *pub = arg;

	late = AT_WAKE;
	/* Somebody sleeps who has to be woken, behind "closed" in its file. */
	bell_mark(pub->topic_bell);
	zcp_stop_offer(&pub);
	return NULL;
}

static void *late_unsubscribe(void *arg)
{
	zcp_sub *sub = arg;

	late = AT_SOCKET;
	zcp_unsubscribe(&sub);
	return NULL;
}

static pthread_t begin_late(void *(*end)(void *), void *arg)
{
	pthread_t thread;

	sem_init(&arrived, 0, 0);
	sem_init(&proceed, 0, 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, end, arg), 0);
	sem_wait(&arrived);
	return thread;
}

static void end_late(pthread_t thread)
{
	sem_post(&proceed);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
}

/* Whose slot is free once the first has been forgotten, not only ended. */
struct successor {
	zcp *bus;
	uint32_t slot;
};

static bool takes_slot(void *arg)
{
	struct successor *s = arg;

	s->bus = bus_open("two");
	if (s->bus->slot == s->slot)
		return true;
	zcp_close(&s->bus);
	return false;
}

/* A domain of one port gives it to the second one once the first is gone. */
struct second {
	zcp *bus;
	zcp_pub *pub;
	zcp_sub *sub;
};

static bool offers(void *arg)
{
	struct second *s = arg;

	return zcp_offer(s->bus, "two", NULL, &s->pub) == 0;
}

static bool subscribes(void *arg)
{
	struct second *s = arg;

	return zcp_subscribe(s->bus, "two", NULL, &s->sub) == 0;
}

static struct settings settings;

static void start(uint32_t ports)
{
	settings = bus_settings();
	settings.heartbeat = 50 * NS_PER_MS;
	settings.max_ports = ports;
	bus_start(&settings);
}

START_TEST(one_thread_that_closes_its_bus_late_does_not_end_anothers)
{
	struct successor second = { 0 };
	struct peer *peer;
	zcp *one, *two;
	pthread_t thread;
	zcp_pub *pub;

	start(8);
	one = bus_open("one");
	second.slot = one->slot;
	/* It says in its file that it has left, and the daemon sees it there. */
	thread = begin_late(late_close, one);
	eventually(takes_slot, &second, "the first participant is gone");
	two = second.bus;
	must(zcp_offer(two, "t", NULL, &pub));
	end_late(thread);
	ck_assert_uint_eq(status_number("participants"), 1);
	ck_assert_uint_eq(status_number("publishers"), 1);
	ck_assert_int_eq(zcp_send(pub, "x", 1, 0, 0), 1);
	/* Nor does this process forget that the slot's file is its own. */
	ck_assert(own_file(&two->d, two->slot));
	must(peer_get(&two->d, two->slot, two->incarnation, &peer));
	peer_put(&two->d, peer);
	zcp_stop_offer(&pub);
	zcp_close(&two);
	bus_stop();
}
END_TEST

START_TEST(one_thread_that_ends_a_publisher_late_does_not_end_anothers)
{
	struct second second = { 0 };
	pthread_t thread;
	zcp_pub *first;

	start(1);
	second.bus = bus_open("app");
	must(zcp_offer(second.bus, "one", NULL, &first));
	thread = begin_late(late_stop_offer, first);
	eventually(offers, &second, "the first publisher is gone");
	end_late(thread);
	ck_assert_uint_eq(status_number("publishers"), 1);
	ck_assert_int_eq(zcp_send(second.pub, "x", 1, 0, 0), 1);
	zcp_stop_offer(&second.pub);
	zcp_close(&second.bus);
	bus_stop();
}
END_TEST

START_TEST(one_thread_that_ends_a_subscription_late_does_not_end_anothers)
{
	struct second second = { 0 };
	pthread_t thread;
	zcp_sub *first;
	zcp_msg msg;

	start(1);
	second.bus = bus_open("app");
	must(zcp_subscribe(second.bus, "one", NULL, &first));
	thread = begin_late(late_unsubscribe, first);
	eventually(subscribes, &second, "the first subscription is gone");
	end_late(thread);
	ck_assert_uint_eq(status_number("subscribers"), 1);
	ck_assert_int_eq(zcp_take(second.sub, &msg), 0);
	zcp_unsubscribe(&second.sub);
	zcp_close(&second.bus);
	bus_stop();
}
END_TEST

/* ---- a domain that was made anew ---------------------------------------------------- */

/* Slots and incarnations begin anew with it. */
START_TEST(a_request_to_a_domain_that_was_made_anew_concerns_nobody)
{
	char request[TENANT_REQUEST], reply[CONTROL_REPLY];
	zcp_options o = { .name = "two" };
	zcp *one, *two;

	start(8);
	one = bus_open("one");
	tenant_says(one, request, sizeof(request), "UNREGISTER");
	zcp_close(&one);
	bus_end_daemon();
	bus_restart(&settings);
	must(zcp_open(&two, &o));
	ck_assert_uint_eq(two->slot, 0);
	ck_assert_uint_eq(two->incarnation, 1);
	must(control_call(bus_domain, request, reply, sizeof(reply),
	    deadline_after(PATIENCE)));
	ck_assert_str_eq(reply, "OK");
	ck_assert_uint_eq(status_number("participants"), 1);
	zcp_close(&two);
	bus_stop();
}
END_TEST

START_TEST(a_participant_that_the_daemon_has_ended_is_told_so)
{
	char request[TENANT_REQUEST], reply[CONTROL_REPLY];
	zcp_pub *pub;
	zcp_sub *sub;
	zcp *bus;

	start(8);
	bus = bus_open("app");
	tenant_says(bus, request, sizeof(request), "UNREGISTER");
	must(control_call(bus_domain, request, reply, sizeof(reply),
	    deadline_after(PATIENCE)));
	ck_assert_int_eq(zcp_offer(bus, "t", NULL, &pub), -ZCP_E_ENDED);
	ck_assert_int_eq(zcp_subscribe(bus, "t", NULL, &sub), -ZCP_E_ENDED);
	ck_assert_ptr_nonnull(strstr(zcp_errmsg(), "is not registered any more"));
	zcp_close(&bus);
	bus_stop();
}
END_TEST

/* ---- replies that are somebody else's ------------------------------------------------- */

/* What the next reply to this thread says instead of what it does say. */
static _Thread_local const char *misled;

ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
	ssize_t n = syscall(SYS_recvmsg, fd, msg, flags);

	if (n > 0 && misled != NULL) {
		n = (ssize_t)strlen(misled);
		memcpy(msg->msg_iov->iov_base, misled, (size_t)n);
		misled = NULL;
	}
	return n;
}

START_TEST(a_reply_to_another_request_is_not_taken_for_ones_own)
{
	zcp_pub *pub;
	zcp *bus;

	start(8);
	bus = bus_open("app");
	misled = "OK:PORT:5:serial=77:topic=3:nonce=1";
	must(zcp_offer(bus, "t", NULL, &pub));
	ck_assert_ptr_null(misled);
	ck_assert_uint_eq(pub->port, 0);
	ck_assert_uint_eq(pub->serial, 1);
	zcp_stop_offer(&pub);
	misled = "ERROR: all 8 ports are in use\ncode=REFUSED nonce=1\n";
	must(zcp_offer(bus, "t", NULL, &pub));
	ck_assert_ptr_null(misled);
	ck_assert_uint_eq(status_number("publishers"), 1);
	zcp_stop_offer(&pub);
	zcp_close(&bus);
	bus_stop();
}
END_TEST

/* ---- a daemon's number ----------------------------------------------------------------- */

START_TEST(a_daemon_is_ended_by_its_lock_and_not_by_its_number)
{
	pid_t pid, found;
	int status;

	start(8);
	ends_meanwhile = true;
	signals = 0;
	must(routed_end(bus_domain, &found));
	ck_assert_uint_eq(signals, 0);
	pid = bus_restart(&settings);
	must(routed_end(bus_domain, &found));
	ck_assert_int_eq(found, pid);
	ck_assert_uint_eq(signals, 1);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0,
	    "the daemon ended with %#x", status);
	must(routed_end(bus_domain, &found));
	ck_assert_int_eq(found, 0);
	bus_restart(&settings);
	bus_stop();
}
END_TEST

/* ---- fields of replies ------------------------------------------------------------- */

START_TEST(a_number_in_a_reply_is_found_by_its_name)
{
	static const char ok[] = "OK:PORT:7:serial=12:topic=3";
	uint64_t n = 0;

	ck_assert(control_number(ok, "serial", 100, &n));
	ck_assert_uint_eq(n, 12);
	ck_assert(control_number(ok, "topic", 3, &n));
	ck_assert_uint_eq(n, 3);
	ck_assert(!control_number(ok, "topic", 2, &n));
	ck_assert(!control_number(ok, "opic", 100, &n));
	ck_assert(!control_number(ok, "PORT", 100, &n));
	ck_assert(control_number("code=REFUSED needed=17\n", "needed", 100, &n));
	ck_assert_uint_eq(n, 17);
	ck_assert(!control_number("code=REFUSED needed=17x\n", "needed", 100, &n));
	ck_assert(!control_number("code=REFUSED needed=\n", "needed", 100, &n));
	ck_assert(!control_number("code=REFUSED needed=-1\n", "needed", 100, &n));
	ck_assert(!control_number("", "needed", 100, &n));
}
END_TEST

START_TEST(an_error_of_the_daemon_keeps_its_code_and_its_numbers)
{
	struct asking how = { 0 };
	char reply[CONTROL_REPLY];

	start(8);
	ck_assert_int_eq(control_ask(bus_domain, "ROUTE", reply, sizeof(reply),
	    deadline_after(PATIENCE), &how), -ZCP_E_ARG);
	ck_assert_str_eq(zcp_errmsg(), "ROUTE needs a topic");
	ck_assert(how.answered && !how.unsure && how.needed == 0);
	ck_assert_int_eq(control_ask(bus_domain, "UNREGISTER", reply,
	    sizeof(reply), deadline_after(PATIENCE), &how), -ZCP_E_PERM);
	/* As a daemon may say that is older or newer than this library. */
	ck_assert_int_eq(control_ask(bus_domain, "DANCE", reply, sizeof(reply),
	    deadline_after(PATIENCE), &how), -ZCP_E_REFUSED);
	ck_assert_str_eq(zcp_errmsg(), "Unknown command");
	bus_stop();
}
END_TEST

START_TEST(every_code_has_a_name_and_every_name_its_code)
{
#define BOTH(name, value, text)						\
	ck_assert_int_eq(error_code(error_name(-(value)),		\
	    strlen(error_name(-(value)))), value);
	ZCP_ERRORS(BOTH)
#undef BOTH
	ck_assert_int_eq(error_code("NONE", 4), 0);
	ck_assert_int_eq(error_code("ARGUE", 3), ZCP_E_ARG);
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("tenants");

	tcase_set_timeout(t, 60);
	tcase_add_test(t,
	    one_thread_that_closes_its_bus_late_does_not_end_anothers);
	tcase_add_test(t,
	    one_thread_that_ends_a_publisher_late_does_not_end_anothers);
	tcase_add_test(t,
	    one_thread_that_ends_a_subscription_late_does_not_end_anothers);
	tcase_add_test(t,
	    a_request_to_a_domain_that_was_made_anew_concerns_nobody);
	tcase_add_test(t, a_participant_that_the_daemon_has_ended_is_told_so);
	tcase_add_test(t, a_reply_to_another_request_is_not_taken_for_ones_own);
	tcase_add_test(t, a_daemon_is_ended_by_its_lock_and_not_by_its_number);
	tcase_add_test(t, a_number_in_a_reply_is_found_by_its_name);
	tcase_add_test(t, an_error_of_the_daemon_keeps_its_code_and_its_numbers);
	tcase_add_test(t, every_code_has_a_name_and_every_name_its_code);
	return run_tests("tenants", t);
}
