/* Handles through the API, and what tells readers whence and publishers
 * whether: zcp_redeem(), zcp_sub_source(), zcp_pub_drain(). */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "handle.h"
#include "publisher.h"
#include "scene.h"
#include "siphash.h"
#include "torture/xorshift.h"

static zcp_pub *offer_unlisted(zcp *on)
{
	zcp_pub_options o = { .slots = 64, .unlisted = 1 };
	zcp_pub *pub;

	must(zcp_offer(on, "t", &o, &pub));
	return pub;
}

static void give(zcp_pub *pub, uint64_t seq, char text[ZCP_HANDLE_SIZE])
{
	must(zcp_handle(pub, seq, text, ZCP_HANDLE_SIZE));
}

static zcp_sub *redeemer_of(zcp_pub *pub)
{
	char handle[ZCP_HANDLE_SIZE];
	zcp_sub *sub;

	give(pub, 0, handle);
	must(zcp_redeemer(bus, handle, NULL, &sub));
	return sub;
}

static void expect_redeemed(zcp_sub *sub, zcp_pub *pub, uint64_t seq)
{
	char handle[ZCP_HANDLE_SIZE];
	zcp_msg msg;

	give(pub, seq, handle);
	ck_assert_int_eq(zcp_redeem(sub, handle, &msg), 1);
	ck_assert_uint_eq(number(&msg), seq);
	ck_assert_uint_eq(msg.seq, seq);
	zcp_release(sub, &msg);
}

static void expect_refused(zcp_sub *sub, const char *handle, const char *why)
{
	zcp_msg msg;

	ck_assert_int_eq(zcp_redeem(sub, handle, &msg), -ZCP_E_HANDLE);
	ck_assert_msg(strstr(zcp_errmsg(), why) != NULL &&
	    strstr(zcp_errmsg(), handle) != NULL, "%s", zcp_errmsg());
}

static void send_numbers(zcp_pub *pub, uint64_t from, uint64_t to)
{
	for (; from < to; from++)
		send_number(pub, from, from % 2 ? 8 : 100);
}

/* Ten messages on an unlisted publisher, and who redeems them. */
static zcp_sub *ten_handles(int mode, zcp_pub **pub)
{
	start(mode);
	*pub = offer_unlisted(bus);
	send_numbers(*pub, 0, 10);
	return redeemer_of(*pub);
}

START_TEST(a_handle_is_redeemed_in_place_and_once)
{
	char handle[ZCP_HANDLE_SIZE];
	zcp_source source;
	zcp_pub *pub;
	zcp_sub *sub = ten_handles(_i, &pub);
	zcp_msg msg;

	expect_redeemed(sub, pub, 0);
	expect_redeemed(sub, pub, 1);
	/* One that is held stays while later ones are redeemed. */
	give(pub, 2, handle);
	ck_assert_int_eq(zcp_redeem(sub, handle, &msg), 1);
	expect_redeemed(sub, pub, 5);
	ck_assert_uint_eq(number(&msg), 2);
	zcp_sub_source(sub, &msg, &source);
	ck_assert_str_eq(source.topic, "t/default/default");
	ck_assert_str_eq(source.name, "test");
	ck_assert_uint_eq(source.pid, (unsigned)getpid());
	zcp_release(sub, &msg);
	expect_refused(sub, handle, "redeemed already, or passed over");
	give(pub, 4, handle);
	expect_refused(sub, handle, "redeemed already, or passed over");
	zcp_unsubscribe(&sub);
	zcp_stop_offer(&pub);
	stop();
}
END_TEST

START_TEST(nothing_goes_before_a_first_redeemer_has_come)
{
	zcp_pub *pub;
	zcp_sub *sub, *other;
	int sent = 0;

	start(_i);
	pub = offer_unlisted(bus);
	/* Subscriptions do not meet it, nor taps. */
	other = subscribe(ZCP_RELIABLE);
	while (zcp_send(pub, "12345678", 8, 0, 0) == 1)
		sent++;
	ck_assert_int_eq(sent, 64);
	ck_assert_int_eq(zcp_pub_drain(pub, 0), -ZCP_E_TIMEOUT);
	ck_assert_int_eq(zcp_pub_readers(pub), 0);
	sub = redeemer_of(pub);
	ck_assert_int_eq(zcp_pub_readers(pub), 1);
	for (int seq = 0; seq < 64; seq++) {
		char handle[ZCP_HANDLE_SIZE];
		zcp_msg msg;

		ck_assert_int_eq(zcp_pub_drain(pub, 0), -ZCP_E_TIMEOUT);
		give(pub, (uint64_t)seq, handle);
		ck_assert_int_eq(zcp_redeem(sub, handle, &msg), 1);
		zcp_release(sub, &msg);
	}
	must(zcp_pub_drain(pub, 0));
	ck_assert_int_eq(zcp_send(pub, "12345678", 8, 0, 0), 1);
	zcp_unsubscribe(&sub);
	zcp_unsubscribe(&other);
	zcp_stop_offer(&pub);
	stop();
}
END_TEST

START_TEST(after_its_last_redeemer_an_unlisted_publisher_waits_for_nobody)
{
	zcp_pub *pub;
	zcp_sub *sub = ten_handles(_i, &pub);

	expect_redeemed(sub, pub, 3);
	zcp_unsubscribe(&sub);
	must(zcp_pub_drain(pub, PATIENCE));
	send_numbers(pub, 10, 500);
	zcp_stop_offer(&pub);
	stop();
}
END_TEST

/* Opens, and waits to be killed: never has it redeemed. */
static void redeem_and_hang(void *arg)
{
	zcp_sub *sub;
	zcp_msg msg;
	int *ends = arg;
	zcp *own;
	char handle[ZCP_HANDLE_SIZE];

	if (read(ends[0], handle, sizeof(handle)) != sizeof(handle))
		_exit(4);
	own = bus_open("redeemer");
	need(zcp_redeemer(own, handle, NULL, &sub));
	need(zcp_redeem(sub, handle, &msg));
	if (write(ends[3], "", 1) != 1)
		_exit(4);
	pause();
}

START_TEST(a_killed_redeemer_gives_back_what_it_held)
{
	struct settings s = mode_settings(_i);
	char handle[ZCP_HANDLE_SIZE], byte;
	zcp_pub *pub;
	int ends[4];
	pid_t pid;

	bus_start(&s);
	ck_assert_int_eq(pipe(ends), 0);
	ck_assert_int_eq(pipe(ends + 2), 0);
	pid = in_process(redeem_and_hang, ends);
	bus = bus_open("test");
	pub = offer_unlisted(bus);
	send_numbers(pub, 0, 10);
	give(pub, 0, handle);
	ck_assert_int_eq(write(ends[1], handle, sizeof(handle)),
	    sizeof(handle));
	ck_assert_int_eq(read(ends[2], &byte, 1), 1);
	kill_process(pid);
	must(zcp_pub_drain(pub, PATIENCE));
	send_numbers(pub, 10, 200);
	zcp_stop_offer(&pub);
	stop();
	for (int i = 0; i < 4; i++)
		close(ends[i]);
}
END_TEST

/* Gives a handle, and waits to be killed. */
static void publish_and_hang(void *arg)
{
	char handle[ZCP_HANDLE_SIZE];
	int *ends = arg;
	zcp_pub *pub;

	bus = bus_open("publisher");
	pub = offer_unlisted(bus);
	need(zcp_send(pub, "a message that takes a chunk, it is so long", 43,
	    0, 0));
	need(zcp_handle(pub, 0, handle, sizeof(handle)));
	if (write(ends[1], handle, sizeof(handle)) != sizeof(handle))
		_exit(4);
	pause();
}

START_TEST(a_killed_publishers_handles_are_stale_and_its_chunks_free)
{
	struct settings s = mode_settings(_i);
	char handle[ZCP_HANDLE_SIZE];
	zcp_sub *sub;
	int ends[2];
	pid_t pid;

	bus_start(&s);
	ck_assert_int_eq(pipe(ends), 0);
	pid = in_process(publish_and_hang, ends);
	ck_assert_int_eq(read(ends[0], handle, sizeof(handle)),
	    sizeof(handle));
	bus = bus_open("test");
	kill_process(pid);
	all_chunks_come_back();
	ck_assert_int_eq(zcp_redeemer(bus, handle, NULL, &sub), -ZCP_E_HANDLE);
	ck_assert_msg(strstr(zcp_errmsg(), "gone") != NULL, "%s", zcp_errmsg());
	stop();
	close(ends[0]);
	close(ends[1]);
}
END_TEST

START_TEST(handles_outlive_a_killed_daemon)
{
	struct settings s = mode_settings(_i);
	zcp_pub *pub;
	zcp_sub *sub = ten_handles(_i, &pub);

	expect_redeemed(sub, pub, 0);
	bus_kill();
	expect_redeemed(sub, pub, 1);
	bus_restart(&s);
	expect_redeemed(sub, pub, 2);
	/* The next daemon knows who waits for whom. */
	ck_assert_int_eq(zcp_pub_drain(pub, 0), -ZCP_E_TIMEOUT);
	expect_redeemed(sub, pub, 9);
	must(zcp_pub_drain(pub, PATIENCE));
	zcp_unsubscribe(&sub);
	zcp_stop_offer(&pub);
	stop();
}
END_TEST

START_TEST(what_is_no_handle_of_this_redeemers_is_refused)
{
	char handle[ZCP_HANDLE_SIZE], foreign[ZCP_HANDLE_SIZE], text[200];
	zcp_pub *pub, *listed, *another;
	zcp_sub *sub, *plain;

	start(0);
	pub = offer_unlisted(bus);
	another = offer_unlisted(bus);
	listed = offer(64, 0);
	send_numbers(pub, 0, 1);
	send_numbers(another, 0, 1);
	ck_assert_int_eq(zcp_handle(listed, 0, text, sizeof(text)),
	    -ZCP_E_ARG);
	ck_assert_int_eq(zcp_handle(pub, 1, text, sizeof(text)), -ZCP_E_ARG);
	ck_assert_int_eq(zcp_handle(pub, 0, text, 20), -ZCP_E_ARG);
	sub = redeemer_of(pub);
	plain = subscribe(ZCP_RELIABLE);
	give(pub, 0, handle);
	give(another, 0, foreign);
	ck_assert_int_eq(zcp_redeems(sub, handle), 1);
	ck_assert_int_eq(zcp_redeems(sub, foreign), 0);
	ck_assert_int_eq(zcp_redeems(plain, handle), 0);
	expect_refused(sub, foreign, "another publisher's");
	expect_refused(plain, handle, "another publisher's");
	expect_refused(sub, "", "it is not a zcp handle");
	expect_refused(sub, "zcp:x:1.2.3.4", "it is not a zcp handle");
	/* Every byte of it counts. */
	for (size_t i = 0; handle[i] != '\0'; i++) {
		strcpy(text, handle);
		text[i] = text[i] == '1' ? '2' : '1';
		expect_refused(sub, text, "");
	}
	expect_redeemed(sub, pub, 0);
	zcp_unsubscribe(&sub);
	zcp_unsubscribe(&plain);
	zcp_stop_offer(&pub);
	zcp_stop_offer(&another);
	zcp_stop_offer(&listed);
	stop();
}
END_TEST

START_TEST(a_forged_handle_is_refused_and_changes_nothing)
{
	static const uint64_t never[] = { 10, 63, 64, 74, NUMBER_MASK,
	    NUMBER_MASK + 1, NUMBER_MASK + 4, SEQ_MASK, STAMP_BUSY - 2,
	    STAMP_BUSY - 1, STAMP_BUSY, STAMP_BUSY | 3, STAMP_BUSY | 9,
	    STAMP_BUSY | 10, UINT64_MAX - 1, UINT64_MAX };
	char forged[ZCP_HANDLE_SIZE];
	zcp_pub *pub;
	zcp_sub *sub = ten_handles(_i, &pub);

	/* As a killed publisher leaves it. */
	slot_begin(&pub->ring->slot[10], 10);
	for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++) {
		handle_of(pub, never[i], forged);
		expect_refused(sub, forged, "forged: no such message");
	}
	for (uint64_t seq = 0; seq < 10; seq++)
		expect_redeemed(sub, pub, seq);
	must(zcp_pub_drain(pub, 0));
	for (uint64_t seq = 10; seq < 200; seq++) {
		send_numbers(pub, seq, seq + 1);
		handle_of(pub, UINT64_MAX - seq, forged);
		expect_refused(sub, forged, "forged: no such message");
		expect_redeemed(sub, pub, seq);
	}
	zcp_unsubscribe(&sub);
	zcp_stop_offer(&pub);
	stop();
}
END_TEST

/* As somebody who has seen handles would make one up. */
static void expect_made_up(zcp_sub *sub, const char *handle,
    const uint64_t key[2])
{
	char text[ZCP_HANDLE_SIZE];
	char *colon;

	strcpy(text, handle);
	colon = strrchr(text, ':');
	colon[-1] = '5';
	sprintf(colon, ":%016" PRIx64, siphash(key, text,
	    (size_t)(colon - text)));
	expect_refused(sub, text, "forged or mistyped: its check is wrong");
}

START_TEST(nobody_without_the_domains_key_can_make_a_handle_up)
{
	static const uint64_t none[2];
	char handle[ZCP_HANDLE_SIZE], text[ZCP_HANDLE_SIZE + 20];
	uint64_t key[2], off_by_one[2];
	zcp_pub *pub;
	zcp_sub *sub = ten_handles(0, &pub);

	memcpy(key, bus->d.m->handle_key, sizeof(key));
	ck_assert(key[0] != 0 && key[1] != 0 && key[0] != key[1]);
	give(pub, 3, handle);
	expect_made_up(sub, handle, none);
	memcpy(off_by_one, key, sizeof(key));
	off_by_one[1] ^= 1;
	expect_made_up(sub, handle, off_by_one);
	/* One way to write a handle is enough. */
	strcpy(text, handle);
	strcat(text, " ");
	expect_refused(sub, text, "forged or mistyped");
	strcpy(strrchr(text, ':'), ":0x");
	strcat(text, strrchr(handle, ':') + 1);
	expect_refused(sub, text, "forged or mistyped");
	strcpy(strrchr(text, ':'), ": ");
	strcat(text, strrchr(handle, ':') + 1);
	expect_refused(sub, text, "forged or mistyped");
	expect_redeemed(sub, pub, 3);
	zcp_unsubscribe(&sub);
	zcp_stop_offer(&pub);
	stop();
	/* The next domain of that name has a key of its own. */
	start(0);
	ck_assert_int_ne(memcmp(key, bus->d.m->handle_key, sizeof(key)), 0);
	stop();
}
END_TEST

START_TEST(what_is_shown_of_a_handle_no_terminal_obeys)
{
	char text[8000];
	zcp_pub *pub;
	zcp_sub *sub = ten_handles(0, &pub);
	zcp_msg msg;

	ck_assert_int_eq(zcp_redeem(sub, "zcp:\033[2J\r\n\xc2\x9b", &msg),
	    -ZCP_E_HANDLE);
	ck_assert_ptr_nonnull(strstr(zcp_errmsg(), "zcp:?[2J????:"));
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	ck_assert_int_eq(zcp_redeem(sub, text, &msg), -ZCP_E_HANDLE);
	ck_assert_ptr_nonnull(strstr(zcp_errmsg(), "xxx...: it is not"));
	zcp_unsubscribe(&sub);
	zcp_stop_offer(&pub);
	stop();
}
END_TEST

/* Any of those at the edges, or one of them and a little. */
static uint64_t odd_number(uint32_t *x, uint64_t good)
{
	static const uint64_t odd[] = { 0, 1, SERIAL_MASK, UINT32_MAX,
	    NUMBER_MASK, SEQ_MASK, STAMP_BUSY, UINT64_MAX };
	uint64_t n = odd[xorshift(x) % 8];

	switch (xorshift(x) % 4) {
	case 0: return good + n;
	case 1: return n + xorshift(x) % 100 - 50;
	case 2: return good ^ UINT64_C(1) << xorshift(x) % 64;
	default: return good + xorshift(x) % 200 - 100;
	}
}

static void alter_text(uint32_t *x, char *text)
{
	static const char bytes[] = "0123456789abcdef.:zcp-+x \t\n\x80";
	size_t n = strlen(text), at = xorshift(x) % n;

	switch (xorshift(x) % 4) {
	case 0:
		text[at] = bytes[xorshift(x) % (sizeof(bytes) - 1)];
		break;
	case 1:
		memmove(text + at, text + at + 1, n - at);
		break;
	case 2:
		memmove(text + at + 1, text + at, n + 1 - at);
		break;
	default:
		text[at] = '\0';
	}
}

/* A handle that a member altered, and gave the check that belongs to it. */
static void alter_numbers(uint32_t *x, const struct handle *good, char *text)
{
	struct handle h = *good;

	switch (xorshift(x) % 8) {
	case 0: h.instance = (uint32_t)odd_number(x, h.instance); break;
	case 1: h.incarnation = odd_number(x, h.incarnation); break;
	case 2: h.port = (uint32_t)odd_number(x, h.port); break;
	case 3: h.serial = (uint32_t)odd_number(x, h.serial); break;
	default: h.seq = odd_number(x, h.seq);
	}
	handle_write(bus, &h, text);
}

/* The number of the message that its text names, or none of this publisher. */
static uint64_t named(zcp_pub *pub, uint64_t from, uint64_t to,
    const char *text)
{
	char handle[ZCP_HANDLE_SIZE];

	for (; from < to; from++) {
		handle_of(pub, from, handle);
		if (strcmp(handle, text) == 0)
			return from;
	}
	return UINT64_MAX;
}

START_TEST(handles_altered_at_random_give_the_message_they_name_or_none)
{
	enum { ROUNDS = 20000, AHEAD = 8 };
	uint64_t sent = 10, next = 0;
	uint32_t x = 1 + (uint32_t)_i;
	zcp_pub *pub;
	zcp_sub *sub = ten_handles(_i, &pub), *other;
	struct handle good = { .instance = (uint32_t)((struct segment_head *)
	    bus->d.m)->instance, .incarnation = bus->incarnation,
	    .port = pub->port, .serial = pub->serial };

	strcpy(good.domain, bus_domain);
	for (int i = 0; i < ROUNDS; i++) {
		char text[ZCP_HANDLE_SIZE + 8];
		uint64_t seq;
		zcp_msg msg;
		int rc;

		good.seq = next + xorshift(&x) % AHEAD;
		handle_write(bus, &good, text);
		if (i % 2)
			alter_text(&x, text);
		else
			alter_numbers(&x, &good, text);
		seq = named(pub, next, sent, text);
		rc = zcp_redeem(sub, text, &msg);
		ck_assert_msg(rc == (seq == UINT64_MAX ? -ZCP_E_HANDLE : 1),
		    "%s: %d, %s", text, rc, zcp_errmsg());
		if (rc == 1) {
			ck_assert_uint_eq(number(&msg), seq);
			zcp_release(sub, &msg);
			next = seq + 1;
		}
		/* Its publisher and its redeemer are as they were. */
		for (; sent < next + AHEAD; sent++)
			send_numbers(pub, sent, sent + 1);
		if (i % 16 == 0)
			expect_redeemed(sub, pub, next++);
		if (i % 64 == 0 && (rc = zcp_redeemer(bus, text, NULL,
		    &other)) == 0)
			zcp_unsubscribe(&other);
		ck_assert(rc == 0 || rc == 1 || rc == -ZCP_E_HANDLE);
	}
	zcp_unsubscribe(&sub);
	zcp_stop_offer(&pub);
	stop();
}
END_TEST

START_TEST(a_late_redeemer_is_told_what_went_before_it_came)
{
	char handle[ZCP_HANDLE_SIZE];
	zcp_pub *pub;
	zcp_sub *first = ten_handles(_i, &pub), *late;

	for (uint64_t seq = 0; seq < 5; seq++)
		expect_redeemed(first, pub, seq);
	/* The tail moves when there is a reason to. */
	for (uint64_t seq = 10; seq < 69; seq++)
		send_number(pub, seq, 8);
	late = redeemer_of(pub);
	for (uint64_t seq = 0; seq < 5; seq++) {
		give(pub, seq, handle);
		expect_refused(late, handle, "stale: its message was given up "
		    "before this redeemer came");
	}
	for (uint64_t seq = 5; seq < 69; seq++) {
		expect_redeemed(late, pub, seq);
		expect_redeemed(first, pub, seq);
	}
	must(zcp_pub_drain(pub, 0));
	zcp_unsubscribe(&first);
	zcp_unsubscribe(&late);
	zcp_stop_offer(&pub);
	stop();
}
END_TEST

START_TEST(a_handle_for_which_there_is_no_hold_is_redeemed_after_a_release)
{
	zcp_sub_options one = { .holds = 1 };
	char handle[ZCP_HANDLE_SIZE];
	zcp_msg msg, next;
	zcp_pub *pub;
	zcp_sub *sub;

	start(_i);
	pub = offer_unlisted(bus);
	send_numbers(pub, 0, 10);
	give(pub, 0, handle);
	must(zcp_redeemer(bus, handle, &one, &sub));
	ck_assert_int_eq(zcp_redeem(sub, handle, &msg), 1);
	give(pub, 2, handle);
	ck_assert_int_eq(zcp_redeem(sub, handle, &next), -ZCP_E_HOLDS);
	ck_assert_ptr_null(next.data);
	expect_redeemed(sub, pub, 1);
	zcp_release(sub, &msg);
	expect_redeemed(sub, pub, 2);
	zcp_unsubscribe(&sub);
	zcp_stop_offer(&pub);
	stop();
}
END_TEST

START_TEST(a_handle_of_a_message_that_makes_no_sense_is_passed_over)
{
	char handle[ZCP_HANDLE_SIZE];
	zcp_pub *pub;
	zcp_sub *sub = ten_handles(_i, &pub);
	struct slot *slot = &pub->ring->slot[8];
	uint64_t place = slot_get(&slot->place);
	zcp_msg msg;

	slot_put(&slot->place, chunk_id(MAX_POOLS + 1, 5));
	expect_redeemed(sub, pub, 7);
	give(pub, 8, handle);
	ck_assert_int_eq(zcp_redeem(sub, handle, &msg), -ZCP_E_DAMAGED);
	ck_assert_uint_eq(msg.lost, 1);
	slot_put(&slot->place, place);
	expect_redeemed(sub, pub, 9);
	must(zcp_pub_drain(pub, 0));
	zcp_unsubscribe(&sub);
	zcp_stop_offer(&pub);
	stop();
}
END_TEST

START_TEST(an_unlisted_publisher_is_reliable_and_keeps_no_history)
{
	zcp_pub_options lossy = { .unlisted = 1, .lossy = 1 };
	zcp_pub_options history = { .unlisted = 1, .history = 5 };
	zcp_pub *pub;

	start(0);
	ck_assert_int_eq(zcp_offer(bus, "t", &lossy, &pub), -ZCP_E_ARG);
	ck_assert_int_eq(zcp_offer(bus, "t", &history, &pub), -ZCP_E_ARG);
	stop();
}
END_TEST

START_TEST(a_drain_ends_when_reliable_readers_have_taken_all)
{
	zcp_pub *pub;
	zcp_sub *reliable, *lossy;

	start(_i);
	pub = offer(64, 0);
	must(zcp_pub_drain(pub, 0));
	lossy = subscribe(ZCP_LOSSY);
	reliable = subscribe(ZCP_RELIABLE);
	send_numbers(pub, 0, 5);
	ck_assert_int_eq(zcp_pub_drain(pub, 0), -ZCP_E_TIMEOUT);
	for (uint64_t n = 0; n < 5; n++)
		expect(reliable, n);
	must(zcp_pub_drain(pub, 0));
	zcp_unsubscribe(&reliable);
	zcp_unsubscribe(&lossy);
	zcp_stop_offer(&pub);
	stop();
}
END_TEST

START_TEST(a_pattern_tells_the_topic_of_each_message)
{
	static const char *const topics[] = { "a/one/x", "a/two/y" };
	zcp_pub *pub[2];
	zcp_source source;
	zcp_sub *sub;
	zcp_tap *tap;
	zcp_msg msg;

	start(_i);
	must(zcp_subscribe(bus, "a/*", NULL, &sub));
	must(zcp_tap_open(bus, "a/*", &tap));
	for (int i = 0; i < 2; i++)
		must(zcp_offer(bus, topics[i], NULL, &pub[i]));
	for (int i = 0; i < 2; i++) {
		send_number(pub[i], 0, i ? 8 : 100);
		must(take_wait(sub, &msg));
		zcp_sub_source(sub, &msg, &source);
		ck_assert_str_eq(source.topic, topics[i]);
		ck_assert_str_eq(source.name, "test");
		zcp_release(sub, &msg);
		ck_assert_int_eq(zcp_tap_wait(tap, PATIENCE), 1);
		ck_assert_int_eq(zcp_tap_read(tap, &msg), 1);
		zcp_tap_source(tap, &msg, &source);
		ck_assert_str_eq(source.topic, topics[i]);
		ck_assert_uint_eq(source.pid, (unsigned)getpid());
	}
	zcp_tap_close(&tap);
	zcp_unsubscribe(&sub);
	for (int i = 0; i < 2; i++)
		zcp_stop_offer(&pub[i]);
	stop();
}
END_TEST

START_TEST(a_reader_gets_no_more_history_than_it_asks_for)
{
	zcp_sub_options two = { .last = 2 }, none = { .last = 2,
	    .from_end = 1 };
	zcp_pub *pub;
	zcp_sub *sub;
	zcp_msg msg;

	start(_i);
	pub = offer(64, 5);
	send_numbers(pub, 0, 10);
	must(zcp_subscribe(bus, "t", &two, &sub));
	expect(sub, 8);
	expect(sub, 9);
	zcp_unsubscribe(&sub);
	must(zcp_subscribe(bus, "t", &none, &sub));
	ck_assert_int_eq(zcp_take(sub, &msg), 0);
	zcp_unsubscribe(&sub);
	zcp_stop_offer(&pub);
	stop();
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("handles");

	tcase_set_timeout(t, 120);
	in_each_mode(t, a_handle_is_redeemed_in_place_and_once);
	in_each_mode(t, nothing_goes_before_a_first_redeemer_has_come);
	in_each_mode(t,
	    after_its_last_redeemer_an_unlisted_publisher_waits_for_nobody);
	in_each_mode(t, a_killed_redeemer_gives_back_what_it_held);
	in_each_mode(t,
	    a_killed_publishers_handles_are_stale_and_its_chunks_free);
	in_each_mode(t, handles_outlive_a_killed_daemon);
	tcase_add_test(t, what_is_no_handle_of_this_redeemers_is_refused);
	in_each_mode(t, a_forged_handle_is_refused_and_changes_nothing);
	tcase_add_test(t, nobody_without_the_domains_key_can_make_a_handle_up);
	in_each_mode(t,
	    handles_altered_at_random_give_the_message_they_name_or_none);
	tcase_add_test(t, what_is_shown_of_a_handle_no_terminal_obeys);
	in_each_mode(t, a_late_redeemer_is_told_what_went_before_it_came);
	in_each_mode(t,
	    a_handle_for_which_there_is_no_hold_is_redeemed_after_a_release);
	in_each_mode(t, a_handle_of_a_message_that_makes_no_sense_is_passed_over);
	tcase_add_test(t, an_unlisted_publisher_is_reliable_and_keeps_no_history);
	in_each_mode(t, a_drain_ends_when_reliable_readers_have_taken_all);
	in_each_mode(t, a_pattern_tells_the_topic_of_each_message);
	in_each_mode(t, a_reader_gets_no_more_history_than_it_asks_for);
	return run_tests("handles", t);
}
