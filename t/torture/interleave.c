/*
 * interleave.c - the library's own code, in every order that seeds think of.
 *
 * Publishers, readers, a daemon and a sweeper are fibers over one domain; at
 * each access to shared memory another may go on, stores are seen late, and
 * one of them may be killed (fibers.h).  Whatever the order: no message is
 * torn, doubled, out of order or lost uncounted, nobody sleeps while there is
 * something for it, and in the end every chunk is free.
 *
 *   interleave [RUNS [SEED [SCENE]]]	random courses of each scene
 *   interleave systematic [SCENE]	each with one change of turns, at every
 *					step, to every role
 *   interleave directed [SCENE]	each with one role stopped at every step
 *					of its own until another writes or reads
 *					a message, and then that one stopped
 */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "atomics.h"
#include "audit.h"
#include "clock.h"
#include "fibers.h"
#include "handle.h"
#include "inline.h"
#include "log.h"
#include "participant.h"
#include "xorshift.h"
#include "zcp.h"

enum { BUSES = 4, SLOTS = 8, LARGE = 96, NEVER = -1 };

struct scene {
	const char *name;
	void (*add)(void);		/* fibers; the daemon is always there */
	bool may_lose;			/* a reliable reader may be demoted */
	bool strict;			/* nobody may need a timeout */
	bool no_kills;
	bool wraps;			/* port serials start over */
	bool moves_tails;		/* the daemon does, of live rings, too */
	bool hasty;			/* ended rings stay for nobody */
	uint32_t pool;			/* chunks */
};

static const struct scene *scene;
static struct course course;
static zcp *bus[BUSES];
static int fiber_of[BUSES];		/* by bus; -1 none */
static bool buried[BUSES];
static bool demoting;

/* ---- what is wrong --------------------------------------------------------------- */

__attribute__((format(printf, 1, 2), noreturn))
static void fail(const char *format, ...)
{
	va_list ap;

	fprintf(stderr, "%s: ", scene->name);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fprintf(stderr, "\ncourse: seed %u calm %u lazy %u weak %d kill %d "
	    "at %llu preempt %d at %llu stall %d at %llu then %d at %u\n",
	    course.seed, course.calm, course.lazy, course.weak, course.kill,
	    (unsigned long long)course.kill_at, course.preempt,
	    (unsigned long long)course.preempt_at, course.stall,
	    (unsigned long long)course.stall_at, course.then,
	    course.then_pause);
	fibers_describe();
	fflush(NULL);
	_exit(1);
}

static void need(int rc)
{
	if (rc < 0)
		fail("%s", zcp_errmsg());
}

/* ---- messages: written and read in pieces ------------------------------------------ */

struct payload {
	uint64_t seq, source, rest[LARGE / 8 - 2];
};

static void write_payload(void *to, uint64_t source, uint64_t seq,
    size_t words)
{
	uint64_t *out = to;

	for (size_t i = 0; i < words; i++) {
		out[i] = i == 0 ? seq : i == 1 ? source : seq * 31 + source + i;
		if (i % 4 == 3)
			fiber_pause();
	}
}

static uint64_t read_payload(const zcp_msg *msg, uint64_t *source)
{
	const volatile uint64_t *in = msg->data;
	uint64_t seq = in[0];

	*source = in[1];
	for (size_t i = 2; i < msg->size / 8; i++) {
		if (in[i] != seq * 31 + *source + i)
			fail("a torn message: %llu of %llu",
			    (unsigned long long)seq,
			    (unsigned long long)*source);
		if (i % 4 == 3)
			fiber_pause();
	}
	if (in[0] != seq)
		fail("message %llu changed while it was read",
		    (unsigned long long)seq);
	return seq;
}

/* ---- roles ---------------------------------------------------------------------------- */

struct role {
	int bus;
	const char *topic;		/* NULL: "t" */
	uint32_t history, depth;
	uint32_t cursors;		/* 0: as many as usual */
	uint32_t count;			/* messages that it publishes */
	int readers;			/* for which it waits before */
	bool lossy, inline_only;
	bool again;			/* one offer after another */
	bool dies;			/* before it ends its offer */
	bool stamps;			/* each message has its time */
	int64_t merge;			/* a reader: in the order of times, ns */
	int64_t retain;
	bool publishes, redeems;	/* a publisher; a redeemer */
	bool over;			/* all is offered, or redeemed */
};
static struct role roles[BUSES];

static const char *topic_of(const struct role *role)
{
	return role->topic == NULL ? "t" : role->topic;
}

static void publish_chunk(zcp_pub *pub, uint64_t source, uint64_t seq)
{
	zcp_chunk chunk;

	need(zcp_loan(pub, LARGE, &chunk, NEVER));
	write_payload(chunk.data, source, seq, LARGE / 8);
	need(zcp_publish(pub, &chunk, LARGE, NEVER));
}

static void publish_parts(zcp_pub *pub, uint64_t source, uint64_t seq)
{
	const zcp_part parts[2] = { { 0, 48 }, { 48, 48 } };
	zcp_chunk chunk;

	need(zcp_loan(pub, LARGE, &chunk, NEVER));
	write_payload(chunk.data, source, seq, 6);
	write_payload((char *)chunk.data + 48, source, seq + 1, 6);
	need(zcp_publish_parts(pub, &chunk, parts, 2, NEVER));
}

static void publish_inline(zcp_pub *pub, uint64_t source, uint64_t seq)
{
	uint64_t body[4];

	write_payload(body, source, seq, 4);
	need(zcp_send(pub, body, sizeof(body), 0, NEVER));
}

/* Every other course wakes sleepers for several messages. */
static void publish_some(zcp_pub *pub, const struct role *role, uint64_t seq,
    uint64_t end)
{
	while (seq < end) {
		uint32_t how = role->inline_only ? 0 : (uint32_t)(seq + course.seed) % 4;

		if (seq % 16 == 0 && course.seed % 2)
			zcp_cork(pub);
		else if (seq % 16 == 15)
			zcp_uncork(pub);
		if (how == 1 && seq + 1 < end) {
			publish_parts(pub, (uint64_t)role->bus, seq);
			seq += 2;
			continue;
		}
		if (how == 0)
			publish_inline(pub, (uint64_t)role->bus, seq);
		else
			publish_chunk(pub, (uint64_t)role->bus, seq);
		seq++;
	}
	zcp_uncork(pub);
}

/* In every other course: so that the ring's place is used again. */
static void await_forgetting(void)
{
	for (int i = 0; i < 300 && scene->hasty && course.seed % 2 &&
	    chain_first(&inline_routed.of_state, PORTS_ENDED) != CHAIN_END; i++)
		fiber_pause();
}

static void publisher(void *arg)
{
	struct role *role = arg;
	zcp_pub_options o = { .slots = SLOTS, .history = role->history,
	    .retain = role->retain, .stamp = role->stamps ? ZCP_STAMP_EVERY :
	    ZCP_STAMP_SOME };
	uint64_t half = role->count / 2;
	zcp_pub *pub;

	need(zcp_offer(bus[role->bus], topic_of(role), &o, &pub));
	if (role->readers > 0 && course.kill < 0)
		need(zcp_pub_wait_readers(pub, role->readers, NEVER));
	/* What a demoted reader misses while it joins is no loss: they are
	 * there first. */
	if (scene->hasty) {
		zcp_stop_offer(&pub);
		await_forgetting();
		need(zcp_offer(bus[role->bus], topic_of(role), &o, &pub));
	}
	if (role->again) {
		publish_some(pub, role, 0, half);
		zcp_stop_offer(&pub);
		await_forgetting();
		need(zcp_offer(bus[role->bus], topic_of(role), &o, &pub));
		publish_some(pub, role, half, role->count);
	} else
		publish_some(pub, role, 0, role->count);
	role->over = true;
	if (role->dies)
		fiber_die();
	zcp_stop_offer(&pub);
}

enum { AT_ONCE = 3 };		/* messages, of which two may be held */

struct seen {
	uint64_t next[BUSES], got, lost;
};

static void look_at(struct seen *seen, const zcp_msg *msg)
{
	uint64_t source, seq = read_payload(msg, &source);

	if (source >= BUSES || seq < seen->next[source])
		fail("message %llu of %llu came after %llu",
		    (unsigned long long)seq, (unsigned long long)source,
		    (unsigned long long)seen->next[source]);
	seen->got++;
	seen->next[source] = seq + 1;
}

/* Will nobody offer anything on this one's topic any more? */
static bool publishing_is_over(const struct role *role)
{
	/* Of one that it has no cursor for a reader hears at its end. */
	for (uint32_t i = 0; i < inline_routed.d.max_ports; i++)
		if (fact_load32(&inline_routed.d.ports[i].unlinked) != 0)
			return false;
	for (int i = 0; i < BUSES; i++)
		if (roles[i].publishes && !roles[i].over &&
		    strcmp(topic_of(&roles[i]), topic_of(role)) == 0 &&
		    !fiber_killed(fiber_of[i]))
			return false;
	return true;
}

/* What was over before is asked for first, or the last ones were missed; and
 * what is over since wakes nobody any more. */
static bool more_to_come(zcp_sub *sub, const struct role *role)
{
	zcp_sub_info info;
	bool over;

	do {
		over = publishing_is_over(role);
		need(zcp_sub_status(sub, &info));
	} while (over != publishing_is_over(role));
	return info.publishers > 0 || !over;
}

static void reader(void *arg)
{
	const struct role *role = arg;
	zcp_sub_options o = { .lossy = role->lossy, .depth = role->depth,
	    .holds = 2, .merge = role->merge, .publishers = role->cursors };
	struct seen seen = { { 0 }, 0, 0 };
	size_t at_once = 1 + (course.seed + (uint32_t)role->bus) % AT_ONCE;
	zcp_msg msg[AT_ONCE];
	zcp_sub *sub;
	int rc;

	need(zcp_subscribe(bus[role->bus], topic_of(role), &o, &sub));
	while (more_to_come(sub, role)) {
		while ((rc = zcp_take_batch(sub, msg, at_once)) != 0) {
			if (rc == -ZCP_E_LAPPED) {
				if (!role->lossy && !scene->may_lose)
					fail("a reliable reader lost %llu",
					    (unsigned long long)msg[0].lost);
				seen.lost += msg[0].lost;
				continue;
			}
			need(rc);
			for (int i = 0; i < rc; i++)
				look_at(&seen, &msg[i]);
			zcp_release_batch(sub, msg, (size_t)rc);
		}
		/* Who was killed before it offered anything wakes nobody, nor
		 * does what publishing_is_over() alone looks at. */
		if (more_to_come(sub, role))
			need(zcp_wait(sub, course.kill < 0 && !scene->hasty ?
			    NEVER : (int64_t)NS_PER_MS));
	}
	zcp_unsubscribe(&sub);
	if (roles[0].readers > 0 && seen.got + seen.lost != roles[0].count &&
	    course.kill < 0)
		fail("%llu came and %llu were lost of %u",
		    (unsigned long long)seen.got,
		    (unsigned long long)seen.lost, roles[0].count);
}

/* Comes late, reads a little, leaves. */
static void passer_by(void *arg)
{
	const struct role *role = arg;
	zcp_sub_options o = { .lossy = role->lossy, .depth = role->depth };

	for (int round = 0; round < 2; round++) {
		struct seen seen = { { 0 }, 0, 0 };
		zcp_sub *sub;
		zcp_msg msg;
		int rc;

		need(zcp_subscribe(bus[role->bus], topic_of(role), &o, &sub));
		for (int i = 0; i < 8; i++) {
			fiber_pause();
			if ((rc = zcp_take(sub, &msg)) == 1) {
				look_at(&seen, &msg);
				zcp_release(sub, &msg);
			} else if (rc == -ZCP_E_LAPPED && !role->lossy)
				fail("a reliable reader that joined lost %llu",
				    (unsigned long long)msg.lost);
			else if (rc != -ZCP_E_LAPPED)
				need(rc);
		}
		zcp_unsubscribe(&sub);
	}
}

static void sweeper(void *arg)
{
	const struct role *role = arg;
	struct sweep_report report;

	need(domain_map_words(&bus[role->bus]->d));
	for (int i = 0; i < 3; i++)
		need(sweep(&bus[role->bus]->d, &report, NULL, NULL));
}

static void tapper(void *arg)
{
	const struct role *role = arg;
	zcp_tap *tap;
	zcp_msg msg;
	uint64_t source, last = 0;

	need(zcp_tap_open(bus[role->bus], "t", &tap));
	for (int i = 0; i < 30; i++) {
		int rc = zcp_tap_read(tap, &msg);

		fiber_pause();
		if (rc == -ZCP_E_LAPPED)
			continue;
		need(rc);
		if (rc == 1) {
			uint64_t seq = read_payload(&msg, &source);

			if (seq + 1 <= last)
				fail("the tap saw %llu after %llu",
				    (unsigned long long)seq,
				    (unsigned long long)last - 1);
			last = seq + 1;
		}
	}
	zcp_tap_close(&tap);
}

/* Buries, drains, demotes: as long as the others run. */
static void daemon_role(void *arg)
{
	bool stalled = false;

	(void)arg;
	for (;;) {
		for (int i = 0; i < BUSES; i++)
			if (fiber_of[i] >= 0 && !buried[i] &&
			    fiber_killed(fiber_of[i])) {
				buried[i] = true;
				inline_died(bus[i]->slot);
			}
		if (demoting && fibers_random() % 2) {
			stalled = !stalled;
			inline_demote(bus[1]->slot, stalled);
		}
		fibers_lock();
		drain(&inline_routed);
		match_late(&inline_routed);
		if (scene->moves_tails && fibers_random() % 2) {
			inline_routed.last_sweep = 0;
			sweep_all(&inline_routed, 0);
		} else if (fibers_random() % 4 == 0)
			sweep_now(&inline_routed);
		fibers_unlock();
		fiber_rest();
	}
}

/* ---- scenes --------------------------------------------------------------------------------- */

static void parts_publisher(void *arg), redeemer(void *arg);

static void add(const char *name, void (*role)(void *), struct role r)
{
	r.publishes = role == publisher || role == parts_publisher;
	r.redeems = role == redeemer;
	roles[r.bus] = r;
	fiber_of[r.bus] = fiber_add(name, role, &roles[r.bus]);
}

static void add_all_kinds(void)
{
	add("publisher", publisher, (struct role){ .bus = 0, .count = 12 });
	add("reliable", reader, (struct role){ .bus = 1 });
	add("lossy", reader, (struct role){ .bus = 2,
	    .lossy = true, .depth = 2 });
	add("sweeper", sweeper, (struct role){ .bus = 3 });
}

static void add_demoted(void)
{
	add("publisher", publisher, (struct role){ .bus = 0, .count = 20 });
	add("demoted", reader, (struct role){ .bus = 1 });
	add("sweeper", sweeper, (struct role){ .bus = 2 });
}

static void add_joining(void)
{
	add("publisher", publisher, (struct role){ .bus = 0, .count = 20,
	    .history = 2 });
	add("passer-by", passer_by, (struct role){ .bus = 1 });
	add("lossy passer-by", passer_by, (struct role){ .bus = 2,
	    .lossy = true, .depth = 2 });
}

static void add_sleeping(void)
{
	add("publisher", publisher, (struct role){ .bus = 0, .count = 30,
	    .inline_only = true, .readers = 2 });
	add("reliable", reader, (struct role){ .bus = 1 });
	add("another", reader, (struct role){ .bus = 2 });
}

static void hear_one(zcp_sub *sub)
{
	zcp_msg msg;
	int rc;

	while ((rc = zcp_take(sub, &msg)) == 0)
		need(zcp_wait(sub, NEVER));
	need(rc);
	zcp_release(sub, &msg);
}

/* Each message is the answer to one, by every reader: who is not woken wakes
 * nobody. */
static void player(void *arg)
{
	const struct role *role = arg;
	const char *mine = role->again ? "ping" : "pong";
	const char *other = role->again ? "pong" : "ping";
	zcp_pub *pub;
	zcp_sub *sub;

	need(zcp_offer(bus[role->bus], mine, NULL, &pub));
	need(zcp_subscribe(bus[role->bus], other, NULL, &sub));
	need(zcp_pub_wait_readers(pub, role->readers, NEVER));
	for (uint32_t i = 0; i < role->count; i++) {
		if (role->again)
			publish_inline(pub, (uint64_t)role->bus, i);
		for (int k = 0; k < role->readers; k++)
			hear_one(sub);
		if (!role->again)
			publish_inline(pub, (uint64_t)role->bus, i);
	}
	zcp_unsubscribe(&sub);
	zcp_stop_offer(&pub);
}

static void add_players(void)
{
	add("ping", player, (struct role){ .bus = 0, .count = 12,
	    .readers = 1, .again = true });
	add("pong", player, (struct role){ .bus = 1, .count = 12,
	    .readers = 1 });
}

/* Two sleep on one bell, and need one fence. */
static void add_two_answering(void)
{
	add("ping", player, (struct role){ .bus = 0, .count = 8,
	    .readers = 2, .again = true });
	add("pong", player, (struct role){ .bus = 1, .count = 8,
	    .readers = 1 });
	add("another", player, (struct role){ .bus = 2, .count = 8,
	    .readers = 1 });
}

static void add_contending(void)
{
	add("publisher", publisher, (struct role){ .bus = 0, .count = 12 });
	add("rival", publisher, (struct role){ .bus = 1, .count = 12 });
	add("reliable", reader, (struct role){ .bus = 2 });
	add("lossy", reader, (struct role){ .bus = 3,
	    .lossy = true, .depth = 2 });
}

static void add_tapped(void)
{
	add("publisher", publisher, (struct role){ .bus = 0, .count = 16 });
	add("lossy", reader, (struct role){ .bus = 1,
	    .lossy = true, .depth = 2 });
	add("tap", tapper, (struct role){ .bus = 2 });
}

static void add_again(void)
{
	add("publisher", publisher, (struct role){ .bus = 0, .count = 12,
	    .again = true });
	add("reliable", reader, (struct role){ .bus = 1 });
	add("lossy", reader, (struct role){ .bus = 2,
	    .lossy = true, .depth = 2 });
}

/* Rings go, and their places are used again, before all that may lose them have
 * read them, or have come at all. */
static void add_unread(void)
{
	add("publisher", publisher, (struct role){ .bus = 0, .count = 18,
	    .readers = 2, .again = true });
	add("demoted", reader, (struct role){ .bus = 1 });
	add("lossy", reader, (struct role){ .bus = 2,
	    .lossy = true, .depth = 2, .cursors = 1 });
}

/* Nobody reads the rival's, so that it fences for nobody: what it writes over
 * is what the sweep of the dead one's ring gave it. */
static void add_dying(void)
{
	add("publisher", publisher, (struct role){ .bus = 0, .count = 6,
	    .dies = true });
	add("rival", publisher, (struct role){ .bus = 1, .count = 40,
	    .topic = "u" });
	add("lossy", reader, (struct role){ .bus = 2,
	    .lossy = true, .depth = 2 });
}

/* One message of each of two publishers, as their times say. */
static void add_merging(void)
{
	add("publisher", publisher, (struct role){ .bus = 0, .count = 12,
	    .stamps = true });
	add("rival", publisher, (struct role){ .bus = 1, .count = 12,
	    .stamps = true });
	add("merging", reader, (struct role){ .bus = 2, .merge = 20000 });
	add("lossy", reader, (struct role){ .bus = 3, .merge = 20000,
	    .lossy = true, .depth = 2 });
}

/* Rings that ended and keep their history, while others want the memory. */
static void add_retaining(void)
{
	add("publisher", publisher, (struct role){ .bus = 0, .count = 12,
	    .again = true, .history = 3, .retain = -1 });
	add("passer-by", passer_by, (struct role){ .bus = 1 });
	add("reliable", reader, (struct role){ .bus = 2 });
	add("rival", publisher, (struct role){ .bus = 3, .count = 12,
	    .topic = "u" });
}

/* ---- chunks of many messages, some of which do not go out ---------------------------------------- */

enum { PARTS = SLOTS + 4, PART = 32 };

/* As many of them as have room, at once or by and by, and the rest perhaps
 * never. */
static uint32_t publish_what_goes(zcp_pub *pub, zcp_chunk *chunk,
    const zcp_part *part, uint32_t count)
{
	uint32_t done = 0;

	while (done < count) {
		uint32_t try = 1 + fibers_random() % (count - done);
		int rc = zcp_publish_parts(pub, chunk, part + done, try,
		    fibers_random() % 2 ? NEVER : 0);

		if (rc > 0)
			done += (uint32_t)rc;
		if (rc == (int)try)
			break;
		if (rc != -ZCP_E_TIMEOUT)
			need(rc);
		if (fibers_random() % 3 == 0)
			break;
		fiber_pause();
	}
	zcp_discard(pub, chunk);
	return done;
}

static void parts_publisher(void *arg)
{
	struct role *role = arg;
	zcp_pub_options o = { .slots = SLOTS };
	zcp_pub *pub;

	need(zcp_offer(bus[role->bus], topic_of(role), &o, &pub));
	for (uint64_t seq = 0; seq < role->count;) {
		uint32_t count = 1 + fibers_random() % PARTS;
		zcp_part part[PARTS];
		zcp_chunk chunk;

		need(zcp_loan(pub, PARTS * PART, &chunk, NEVER));
		for (uint32_t i = 0; i < count; i++) {
			part[i] = (zcp_part){ i * PART, PART };
			write_payload((char *)chunk.data + i * PART,
			    (uint64_t)role->bus, seq + i, PART / 8);
		}
		seq += publish_what_goes(pub, &chunk, part, count);
	}
	role->over = true;
	zcp_stop_offer(&pub);
}

static void add_parts(void)
{
	add("parts", parts_publisher, (struct role){ .bus = 0, .count = 40 });
	add("reliable", reader, (struct role){ .bus = 1 });
	add("lossy", reader, (struct role){ .bus = 2, .lossy = true,
	    .depth = 2 });
	add("rival", parts_publisher, (struct role){ .bus = 3, .count = 40,
	    .topic = "u" });
}

/* ---- two subscriptions, waited for together ------------------------------------------------------- */

static void take_all_of(zcp_sub *sub, struct seen *seen)
{
	zcp_msg msg;
	int rc;

	while ((rc = zcp_take(sub, &msg)) == 1) {
		look_at(seen, &msg);
		zcp_release(sub, &msg);
	}
	need(rc);
}

static void set_reader(void *arg)
{
	static const char *const topics[] = { "t", "u" };
	const struct role *role = arg;
	struct seen seen[2] = { { { 0 }, 0, 0 }, { { 0 }, 0, 0 } };
	struct role of[2] = { *role, *role };
	zcp_sub *sub[2], *ready[2];
	zcp_sub_options o = { .holds = 2 };
	zcp_waitset *set;

	need(zcp_waitset_open(bus[role->bus], &set));
	for (int i = 0; i < 2; i++) {
		of[i].topic = topics[i];
		need(zcp_subscribe(bus[role->bus], topics[i], &o, &sub[i]));
		need(zcp_waitset_add(set, sub[i]));
	}
	while (more_to_come(sub[0], &of[0]) || more_to_come(sub[1], &of[1])) {
		/* Who says that there is more has to wake us for it. */
		need(zcp_waitset_wait(set, ready, 2, course.kill < 0 ? NEVER :
		    (int64_t)NS_PER_MS));
		for (int i = 0; i < 2; i++)
			take_all_of(sub[i], &seen[i]);
	}
	zcp_unsubscribe(&sub[0]);
	zcp_waitset_close(&set);
	zcp_unsubscribe(&sub[1]);
}

static void add_set(void)
{
	add("publisher", publisher, (struct role){ .bus = 0, .count = 12 });
	add("rival", publisher, (struct role){ .bus = 1, .count = 12,
	    .topic = "u" });
	add("set", set_reader, (struct role){ .bus = 2 });
}

/* ---- handles -------------------------------------------------------------------------------- */

enum { HANDLES = 24 };

/* What lies in the pipe between them, some of it made up. */
static struct {
	char text[HANDLES][ZCP_HANDLE_SIZE];
	char half_written[HANDLES][ZCP_HANDLE_SIZE];
	char last_of_all[ZCP_HANDLE_SIZE], far[ZCP_HANDLE_SIZE];
	uint32_t made;
	bool over;
} handles;

static bool redeemers_left(void)
{
	for (int i = 1; i < BUSES; i++)
		if (roles[i].redeems && !roles[i].over &&
		    !fiber_killed(fiber_of[i]))
			return true;
	return false;
}

/* Where one may be killed before it comes, nobody opens the gate. */
static int send_patiently(zcp_pub *pub, const void *data, size_t size)
{
	int rc;

	do
		rc = zcp_send(pub, data, size, 0, course.kill < 0 ? NEVER :
		    (int64_t)NS_PER_MS);
	while (rc == -ZCP_E_TIMEOUT && redeemers_left());
	return rc;
}

static void make_handles(zcp_pub *pub, uint32_t i)
{
	handle_of(pub, i, handles.text[i]);
	handle_of(pub, STAMP_BUSY | (i + 1), handles.half_written[i]);
	handle_of(pub, UINT64_MAX, handles.last_of_all);
	handle_of(pub, i + 2 * SLOTS, handles.far);
	/* Who reads them from a pipe sees what was stored before. */
	fence_full();
	handles.made = i + 1;
}

static void issuer(void *arg)
{
	const struct role *role = arg;
	zcp_pub_options o = { .slots = SLOTS, .unlisted = 1 };
	uint64_t data[LARGE / 8];
	zcp_pub *pub;
	int rc = 1;

	need(zcp_offer(bus[role->bus], topic_of(role), &o, &pub));
	for (uint32_t i = 0; i < role->count; i++) {
		size_t words = i % 3 == 0 ? 4 : LARGE / 8;

		write_payload(data, (uint64_t)role->bus, i, words);
		if ((rc = send_patiently(pub, data, words * 8)) ==
		    -ZCP_E_TIMEOUT)
			break;
		need(rc);
		make_handles(pub, i);
		fiber_pause();
	}
	handles.over = true;
	if (rc == 1 && course.kill < 0)
		need(zcp_pub_drain(pub, NEVER));
	zcp_stop_offer(&pub);
}

static bool made_or_over(void *arg)
{
	return *(uint32_t *)arg < handles.made || handles.over ||
	    fiber_killed(fiber_of[0]);
}

static bool handle_comes(uint32_t i)
{
	fiber_wait(made_or_over, &i);
	return i < handles.made;
}

/* Whatever it says, it is refused, and nothing has happened. */
static void redeem_forged(zcp_sub *sub, uint32_t i)
{
	const char *forged = i % 3 == 0 ? handles.last_of_all : i % 3 == 1 ?
	    handles.half_written[handles.made - 1] : handles.far;
	zcp_msg msg;
	int rc = zcp_redeem(sub, forged, &msg);

	if (rc != -ZCP_E_HANDLE)
		fail("the forged handle %s gives %d", forged, rc);
}

static void check_redeemed(const zcp_msg *msg, uint64_t i)
{
	uint64_t source, seq = read_payload(msg, &source);

	if (seq != i || msg->seq != i)
		fail("handle %llu is redeemed for message %llu, %llu says its "
		    "slot", (unsigned long long)i, (unsigned long long)seq,
		    (unsigned long long)msg->seq);
}

/* The one before is held until the next is there. */
static void redeem_all(zcp_sub *sub, const struct role *role)
{
	uint32_t most = role->count > 0 ? role->count : HANDLES;
	zcp_msg msg, before = { .data = NULL };
	uint64_t before_is = 0;

	for (uint32_t i = 0; i < most && handle_comes(i); i++) {
		int rc;

		if ((course.seed + i) % 4 == 0)
			redeem_forged(sub, course.seed / 4 + i);
		/* Some are passed over. */
		if (course.seed % 5 == 0 && i % 4 == 1)
			continue;
		rc = zcp_redeem(sub, handles.text[i], &msg);
		if (rc == -ZCP_E_HANDLE && (role->lossy || scene->may_lose ||
		    course.kill >= 0))
			continue;
		need(rc);
		check_redeemed(&msg, i);
		if (before.data != NULL)
			check_redeemed(&before, before_is);
		zcp_release(sub, &before);
		before = msg;
		if (msg.data == msg.small)
			before.data = before.small;
		before_is = i;
	}
	zcp_release(sub, &before);
}

static void redeemer(void *arg)
{
	struct role *role = arg;
	zcp_sub_options o = { .holds = 2 };
	zcp_sub *sub;
	int rc = 0;

	for (int round = 0; round < (role->again ? 2 : 1); round++) {
		if (!handle_comes(0))
			break;
		rc = zcp_redeemer(bus[role->bus], handles.text[0], &o, &sub);
		/* Its publisher has ended, or been killed. */
		if (rc == -ZCP_E_HANDLE)
			break;
		need(rc);
		redeem_all(sub, role);
		zcp_unsubscribe(&sub);
	}
	role->over = true;
}

static void add_redeeming(void)
{
	memset(&handles, 0, sizeof(handles));
	add("issuer", issuer, (struct role){ .bus = 0, .count = 20 });
	add("redeemer", redeemer, (struct role){ .bus = 1 });
	add("sweeper", sweeper, (struct role){ .bus = 2 });
}

/* What one leaves or has read while the other joins, and memory is short. */
static void add_two_redeemers(void)
{
	memset(&handles, 0, sizeof(handles));
	add("issuer", issuer, (struct role){ .bus = 0, .count = 20 });
	add("redeemer", redeemer, (struct role){ .bus = 1, .lossy = true });
	add("another", redeemer, (struct role){ .bus = 2, .lossy = true,
	    .count = 3, .again = true });
	add("rival", publisher, (struct role){ .bus = 3, .count = 12,
	    .topic = "u" });
}

static const struct scene scenes[] = {
	{ "take, reclaim, sweep", add_all_kinds, .pool = 16 },
	{ "demotion", add_demoted, .may_lose = true, .pool = 16 },
	{ "joining", add_joining, .pool = 4 },
	{ "sleep and wake", add_sleeping, .strict = true, .wraps = true,
	    .pool = 16 },
	{ "ping-pong", add_players, .strict = true, .no_kills = true,
	    .pool = 16 },
	{ "two answering", add_two_answering, .strict = true,
	    .no_kills = true, .pool = 16 },
	{ "little memory", add_contending, .pool = 5 },
	{ "tap", add_tapped, .pool = 6 },
	{ "a ring's place reused", add_again, .pool = 16 },
	{ "a publisher dies", add_dying, .pool = 8 },
	{ "a ring goes unread", add_unread, .may_lose = true, .hasty = true,
	    .pool = 16 },
	{ "redeeming", add_redeeming, .pool = 12 },
	{ "two redeemers", add_two_redeemers, .pool = 8 },
	{ "a demoted redeemer", add_redeeming, .may_lose = true, .pool = 12 },
	{ "parts", add_parts, .pool = 4 },
	{ "merging", add_merging, .pool = 8 },
	{ "retaining", add_retaining, .pool = 10 },
	{ "a set", add_set, .pool = 16 },
	{ "tails moved", add_all_kinds, .pool = 16, .moves_tails = true },
	{ "tails moved, contended", add_contending, .pool = 5,
	    .moves_tails = true },
	{ "tails moved, demotion", add_demoted, .may_lose = true, .pool = 16,
	    .moves_tails = true },
	{ "tails moved, joining", add_joining, .pool = 4,
	    .moves_tails = true },
	{ "tails moved, parts", add_parts, .pool = 4, .moves_tails = true },
	{ "tails moved, redeeming", add_redeeming, .pool = 12,
	    .moves_tails = true },
};
enum { SCENES = sizeof(scenes) / sizeof(scenes[0]) };

/* ---- a run ------------------------------------------------------------------------------------ */

static void open_buses(void)
{
	zcp_options o = { .domain = inline_routed.settings.domain };

	for (int i = 0; i < BUSES; i++) {
		if (bus[i] != NULL)
			continue;
		need(zcp_open(&bus[i], &o));
		fibers_map(bus[i]->d.bell.base, bus[i]->d.bell.size);
	}
}

static void close_bus(int i)
{
	if (bus[i] == NULL)
		return;
	fibers_unmap(bus[i]->d.bell.base);
	zcp_close(&bus[i]);
}

static void tell_fault(void *arg, const char *text)
{
	(void)arg;
	fprintf(stderr, "audit: %s\n", text);
}

static void check_end(void)
{
	struct domain *d = &inline_routed.d;

	for (int i = 0; i < BUSES; i++)
		if (fiber_of[i] >= 0 && fiber_killed(fiber_of[i])) {
			if (!buried[i])
				inline_died(bus[i]->slot);
			/* What the dead one had open keeps nothing any more. */
			bus[i]->users = 1;
			close_bus(i);
		}
	for (uint32_t i = 0; i < d->max_ports; i++)
		d->ports[i].retain = 0;
	if (!inline_drain())
		fail("a ring that has ended does not drain");
	if (chain_first(&inline_routed.of_state, PORTS_ENDED) != CHAIN_END ||
	    chain_first(&inline_routed.of_state, PORTS_OPEN) != CHAIN_END)
		fail("a port is left");
	for (uint32_t i = 0; i < pool_count(&d->pools.pool[0]); i++)
		if (word_state(word_load(&d->pools.pool[0].word[i])) !=
		    CHUNK_FREE)
			fail("chunk %u is not free", i);
	if (audit(d, tell_fault, NULL) != 0)
		fail("an invariant does not hold");
}

static uint64_t total_steps;

/* A new domain each time, so that a run is its course alone. */
static void make_domain(void)
{
	struct settings settings = settings_default();
	static char domain[32];

	snprintf(domain, sizeof(domain), "steps%d", (int)getpid());
	settings.domain = domain;
	settings.pool[0] = (struct pool_setting){ PARTS * PART, scene->pool };
	settings.pools = 1;
	settings.max_participants = 8;
	settings.max_topics = 4;
	settings.max_ports = 16;
	settings.max_links = 128;
	settings.heartbeat = 3600 * NS_PER_S;
	if (scene->hasty)
		settings.grace = 0;
	inline_start(&settings);
	if (scene->wraps)
		fact_publish32(&inline_routed.d.m->serial_next, SERIAL_MASK - 2);
	fibers_map(inline_routed.d.bell.base, inline_routed.d.bell.size);
	open_buses();
}

static void remove_domain(void)
{
	for (int i = 0; i < BUSES; i++)
		close_bus(i);
	inline_drain();
	fibers_unmap(inline_routed.d.bell.base);
	inline_stop();
}

static void run_course(void)
{
	memset(roles, 0, sizeof(roles));
	for (int i = 0; i < BUSES; i++) {
		fiber_of[i] = -1;
		buried[i] = false;
	}
	fibers_begin(&course);
	make_domain();
	course.timeouts = scene->strict && course.kill < 0 ? 0 : 10000;
	fibers_begin(&course);
	demoting = scene->may_lose;
	scene->add();
	fiber_add("daemon", daemon_role, NULL);
	switch (fibers_run()) {
	case FIBERS_STUCK:
		fail("everybody sleeps");
	case FIBERS_ENDLESS:
		fail("no end after %llu steps",
		    (unsigned long long)fibers_steps());
	case FIBERS_DONE:
		break;
	}
	if (demoting)
		inline_demote(bus[1]->slot, false);
	total_steps += fibers_steps();
	check_end();
	remove_domain();
}

/* A draw below `most`. */
static uint32_t draw(uint32_t *x, uint32_t most)
{
	return xorshift(x) % most;
}

/* How often turns change, how stores are seen, who is stopped or killed. */
static void random_course(uint32_t seed, uint32_t fibers)
{
	static const uint32_t calms[] = { 1, 2, 4, 8, 16, 64, 256 };
	static const uint32_t lazies[] = { 2, 8, 64, 1024 };
	uint32_t x = seed * UINT32_C(2654435769) | 1;

	for (int i = 0; i < 8; i++)
		draw(&x, 1);
	course = (struct course){ .seed = seed, .kill = -1, .stall = -1,
	    .then = -1, .preempt = -1 };
	course.calm = calms[draw(&x, 7)];
	course.lazy = lazies[draw(&x, 4)];
	course.weak = draw(&x, 2);
	if (draw(&x, 2)) {
		course.stall = (int)draw(&x, fibers);
		course.stall_at = 1 + draw(&x, 600);
		course.stall_for = 100u << draw(&x, 6);
		if (draw(&x, 2))
			course.lazy = lazies[3];
	}
	if (draw(&x, 3) == 0 && !scene->no_kills) {
		course.kill = (int)draw(&x, fibers);
		course.kill_at = 1 + draw(&x, 600);
	}
}

static void run_random(const struct scene *s, uint64_t runs, uint32_t seed)
{
	uint64_t killed = 0;

	scene = s;
	total_steps = 0;
	for (uint64_t i = 0; i < runs; i++) {
		random_course(seed + (uint32_t)i, 4);
		run_course();
		killed += course.kill >= 0 && course.kill < FIBERS - 1 &&
		    fiber_killed(course.kill);
	}
	printf("%-24s %llu orders, %llu with a kill, %llu steps, from seed %u\n",
	    s->name, (unsigned long long)runs, (unsigned long long)killed,
	    (unsigned long long)total_steps, seed);
}

static void run_systematic(const struct scene *s)
{
	uint64_t most, runs = 1;

	scene = s;
	total_steps = 0;
	course = (struct course){ .seed = 1, .kill = -1, .stall = -1,
	    .then = -1, .calm = UINT32_MAX, .lazy = 8, .preempt = 0,
	    .preempt_at = UINT64_MAX };
	run_course();
	most = fibers_steps();
	for (int role = 0; role < 4; role++)
		for (uint64_t at = 1; at <= most; at++) {
			course.preempt = role;
			course.preempt_at = at;
			run_course();
			runs++;
		}
	printf("%-24s %llu orders with one change of turns, %llu steps\n",
	    s->name, (unsigned long long)runs,
	    (unsigned long long)total_steps);
}

/* `one` stops at each of its steps until `other` makes its pause; in another
 * order of the rest each time. */
static uint64_t run_pair(int one, int other, uint32_t pause, uint64_t most,
    uint64_t before)
{
	for (uint64_t at = 1; at <= most; at++) {
		course = (struct course){ .seed = (uint32_t)(before + at),
		    .kill = -1, .preempt = -1, .calm = 16, .lazy = 1024,
		    .weak = at % 2, .stall = one, .stall_at = at,
		    .stall_for = 3000, .then = other, .then_pause = pause };
		run_course();
	}
	return most;
}

static void run_directed(const struct scene *s)
{
	enum { PAUSES = 4 };
	uint64_t most[FIBERS], runs = 0;

	scene = s;
	total_steps = 0;
	course = (struct course){ .seed = 1, .kill = -1, .stall = -1,
	    .then = -1, .preempt = -1, .calm = 16, .lazy = 1024 };
	run_course();
	for (int i = 0; i < FIBERS; i++)
		most[i] = fiber_steps(i);
	for (int one = 0; one < FIBERS; one++)
		for (int other = 0; other < BUSES; other++)
			for (uint32_t n = 1; n <= PAUSES; n++)
				if (other != one && most[other] > 0)
					runs += run_pair(one, other, n,
					    most[one], runs);
	printf("%-24s %llu orders with two stops, %llu steps\n", s->name,
	    (unsigned long long)runs, (unsigned long long)total_steps);
}

/* Nobody spins for who could not run meanwhile. */
static void use_one_processor(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(sched_getcpu(), &set);
	sched_setaffinity(0, sizeof(set), &set);
}

int main(int argc, char **argv)
{
	bool systematic = argc > 1 && strcmp(argv[1], "systematic") == 0;
	bool directed = argc > 1 && strcmp(argv[1], "directed") == 0;
	int scene_at = systematic || directed ? 2 : 3;
	const char *wanted = argc > scene_at ? argv[scene_at] : NULL;
	uint64_t runs = argc > 1 ? strtoull(argv[1], NULL, 0) : 200;
	uint32_t seed = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 0) :
	    (uint32_t)getpid() ^ (uint32_t)clock_ns();

	log_threshold = LOG_LEVEL_ERROR;
	use_one_processor();
	fork_watch();
	for (int i = 0; i < SCENES; i++) {
		if (wanted != NULL && strcmp(wanted, scenes[i].name) != 0)
			continue;
		if (systematic)
			run_systematic(&scenes[i]);
		else if (directed)
			run_directed(&scenes[i]);
		else
			run_random(&scenes[i], runs, seed);
	}
	return 0;
}
