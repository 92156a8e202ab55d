/*
 * step.c - a process is killed, or stopped for long, at every instruction of
 * each short operation; the others must go on, nothing may tear, and all its
 * memory must come back.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../run.h"
#include "atomics.h"
#include "routed/gc.h"
#include "measure.h"
#include "tracer.h"
#include "world.h"

/* ---- victims ---------------------------------------------------------------------- */

enum {
	WORLD_SLOTS = 16, VICTIM_SLOTS = 8,
	SMALL = 24, LARGE = 100,	/* bytes: inline, and in a chunk */
	PARTS = 3, PART = 40,
	AT_ONCE = 3,			/* messages taken */
	MORE = 5,			/* messages of a victim that was let go */
	ENOUGH = 100,			/* messages: beyond what rings and pools hold */
};

/* The victim's own. */
struct part {
	zcp *bus;
	zcp_pub *pub;
	zcp_sub *sub;
	zcp_chunk chunk;
	zcp_msg msg[AT_ONCE];
	int kept;			/* of msg[] */
	char message[LARGE];
	uint64_t sent;			/* as a publisher */
	uint64_t next, got, lost;	/* as a reader */
};

struct operation {
	const char *name;
	bool reads, lossy;
	/* In the victim: before its first mark, before the second, between the
	 * second and the third (which is what is tested); and in the driver,
	 * while it stands at the first. */
	void (*prepare)(struct part *v);
	void (*between)(struct world *w);
	void (*settle)(struct part *v);
	void (*run)(struct part *v);
	uint64_t sure, most;		/* messages that the victim has published
					   before, and at most afterwards */
};

/* ---- as a publisher ---- */

static void send_written(struct part *v, size_t size)
{
	need(zcp_send(v->pub, v->message, size, 0, PATIENCE));
	v->sent++;
}

static void write_small(struct part *v)
{
	payload_write(v->message, VICTIM, v->sent, SMALL);
}

static void write_large(struct part *v)
{
	payload_write(v->message, VICTIM, v->sent, LARGE);
}

static void send_small(struct part *v)
{
	send_written(v, SMALL);
}

static void send_large(struct part *v)
{
	send_written(v, LARGE);
}

static void loan_one(struct part *v)
{
	need(zcp_loan(v->pub, LARGE, &v->chunk, 0));
}

static void loan_and_fill(struct part *v)
{
	loan_one(v);
	payload_write(v->chunk.data, VICTIM, v->sent, LARGE);
}

static void publish_loan(struct part *v)
{
	need(zcp_publish(v->pub, &v->chunk, LARGE, 0));
	v->sent++;
}

static void loan_and_fill_parts(struct part *v)
{
	loan_one(v);
	for (int i = 0; i < PARTS; i++)
		payload_write((char *)v->chunk.data + i * PART, VICTIM,
		    v->sent + (uint64_t)i, PART);
}

static void publish_all_parts(struct part *v)
{
	const zcp_part parts[PARTS] = { { 0, PART }, { PART, PART },
	    { 2 * PART, PART } };

	need(zcp_publish_parts(v->pub, &v->chunk, parts, PARTS, 0));
	v->sent += PARTS;
}

static void discard_loan(struct part *v)
{
	zcp_discard(v->pub, &v->chunk);
}

/* The first message knows its readers from then on. */
static void warm_up(struct part *v)
{
	write_small(v);
	send_small(v);
}

/* Its ring is full of chunks that its readers will have read. */
static void fill_ring(struct part *v)
{
	for (int i = 0; i < VICTIM_SLOTS; i++) {
		write_large(v);
		send_large(v);
	}
}

/* With the next one a reclaim is due. */
static void nearly_fill_ring(struct part *v)
{
	for (int i = 0; i < VICTIM_SLOTS - 1; i++) {
		write_large(v);
		send_large(v);
	}
}

static void readers_read(struct world *w)
{
	world_hears(w, VICTIM, VICTIM_SLOTS - 1);
	account_take(&w->reliable);
	account_take(&w->lossy);
}

/* A reader of the victim's topic sleeps, or so it looks. */
static void somebody_sleeps(struct world *w)
{
	struct domain d = { 0 };

	(void)w;
	must(domain_attach(&d, bus_domain, geteuid(), false));
	for (uint32_t i = 0; i < d.max_topics; i++)
		if (fact_load32(&d.topics[i].state) == TOPIC_NAMED)
			bell_mark(domain_bell(&d, bell_of_topic(i)));
	bell_mark(domain_bell(&d, BELL_DOMAIN));
	domain_detach(&d);
}

/* ---- as a reader ---- */

/* What was taken is whole, and stays so. */
static void check_taken(struct part *v)
{
	uint64_t next = v->next;

	for (int i = 0; i < v->kept; i++) {
		uint32_t source = 0;
		uint64_t seq = payload_check(&v->msg[i], &source);

		if (seq == UINT64_MAX || source != WORLD || seq < next) {
			fprintf(stderr, "victim: took %llu of %u where %llu "
			    "was due\n", (unsigned long long)seq, source,
			    (unsigned long long)next);
			_exit(4);
		}
		next = seq + 1;
	}
}

static void give_back(struct part *v)
{
	if (v->kept == 0)
		return;
	check_taken(v);
	memcpy(&v->next, (char *)v->msg[v->kept - 1].data + 8,
	    sizeof(v->next));
	v->next++;
	zcp_release_batch(v->sub, v->msg, (size_t)v->kept);
	v->kept = 0;
}

static void take_up_to(struct part *v, size_t most)
{
	int rc = most == 1 ? zcp_take(v->sub, &v->msg[0]) :
	    zcp_take_batch(v->sub, v->msg, most);

	if (rc == -ZCP_E_LAPPED)
		v->lost += v->msg[0].lost;
	else
		need(rc);
	v->kept = rc < 0 ? 0 : rc;
	v->got += (uint64_t)v->kept;
}

static void take_one(struct part *v)
{
	take_up_to(v, 1);
}

static void take_several(struct part *v)
{
	take_up_to(v, AT_ONCE);
}

static void take_and_keep(struct part *v)
{
	take_one(v);
	if (v->kept == 0)
		_exit(5);
	check_taken(v);
}

static void take_several_and_keep(struct part *v)
{
	take_several(v);
	if (v->kept < AT_ONCE)
		_exit(5);
	check_taken(v);
}

static void take_and_give_back(struct part *v)
{
	take_and_keep(v);
	give_back(v);
}

static void release_kept(struct part *v)
{
	give_back(v);
}

static void wait_for_more(struct part *v)
{
	need(zcp_wait(v->sub, 2 * NS_PER_MS));
}

/* Inline, a chunk, inline, a chunk. */
static void world_publishes(struct world *w)
{
	world_goes_on(w, 4);
}

/* More than its ring holds. */
static void world_laps(struct world *w)
{
	world_goes_on(w, 60);
}

static void world_offers_anew(struct world *w)
{
	zcp_pub_options o = { .slots = WORLD_SLOTS };

	zcp_stop_offer(&w->pub);
	must(zcp_offer(w->bus, "t", &o, &w->pub));
	world_goes_on(w, 4);
}

static const struct operation operations[] = {
	{ .name = "loan", .prepare = warm_up, .run = loan_one, .sure = 1,
	    .most = 1 },
	{ .name = "publish", .prepare = warm_up, .settle = loan_and_fill,
	    .run = publish_loan, .sure = 1, .most = 2 },
	{ .name = "find readers, publish", .settle = loan_and_fill,
	    .run = publish_loan, .most = 1 },
	{ .name = "publish a batch", .prepare = warm_up,
	    .settle = loan_and_fill_parts,
	    .run = publish_all_parts, .sure = 1, .most = 1 + PARTS },
	{ .name = "send inline", .prepare = warm_up, .settle = write_small,
	    .run = send_small, .sure = 1, .most = 2 },
	{ .name = "send with a chunk", .prepare = warm_up,
	    .settle = write_large, .run = send_large, .sure = 1, .most = 2 },
	{ .name = "discard", .prepare = warm_up, .settle = loan_one,
	    .run = discard_loan, .sure = 1, .most = 1 },
	{ .name = "reclaim for room", .prepare = fill_ring,
	    .between = readers_read, .settle = write_small,
	    .run = send_small,
	    .sure = VICTIM_SLOTS, .most = VICTIM_SLOTS + 1 },
	{ .name = "publish and reclaim", .prepare = nearly_fill_ring,
	    .between = readers_read, .settle = loan_and_fill,
	    .run = publish_loan,
	    .sure = VICTIM_SLOTS - 1, .most = VICTIM_SLOTS },
	{ .name = "wake", .prepare = warm_up, .between = somebody_sleeps,
	    .settle = write_small, .run = send_small, .sure = 1, .most = 2 },
	{ .name = "join and take", .reads = true,
	    .between = world_offers_anew, .run = take_one },
	{ .name = "take inline", .reads = true, .between = world_publishes,
	    .run = take_one },
	{ .name = "take a chunk", .reads = true, .between = world_publishes,
	    .settle = take_and_give_back, .run = take_one },
	{ .name = "take inline, lossy", .reads = true, .lossy = true,
	    .between = world_publishes, .run = take_one },
	{ .name = "take a chunk, lossy", .reads = true, .lossy = true,
	    .between = world_publishes, .settle = take_and_give_back,
	    .run = take_one },
	{ .name = "take when lapped", .reads = true, .lossy = true,
	    .between = world_laps, .run = take_one },
	{ .name = "take several", .reads = true, .between = world_publishes,
	    .run = take_several },
	{ .name = "take several, lossy", .reads = true, .lossy = true,
	    .between = world_publishes, .run = take_several },
	{ .name = "take several when lapped", .reads = true, .lossy = true,
	    .between = world_laps, .run = take_several },
	{ .name = "release", .reads = true, .between = world_publishes,
	    .settle = take_and_keep, .run = release_kept },
	{ .name = "release several", .reads = true, .between = world_publishes,
	    .settle = take_several_and_keep, .run = release_kept },
	{ .name = "find nothing and wait", .reads = true,
	    .run = wait_for_more },
};
enum { OPERATIONS = sizeof(operations) / sizeof(operations[0]) };

/* ---- the victim's life ------------------------------------------------------------- */

static int report[2];			/* got, lost: from a reader that was let go */

static void victim_open(struct part *v, const struct operation *op)
{
	zcp_options name = { .name = "victim" };
	zcp_pub_options o = { .slots = VICTIM_SLOTS };
	zcp_sub_options s = { .lossy = op->lossy, .depth = op->lossy ? 4 : 0 };

	need(zcp_open(&v->bus, &name));
	if (op->reads)
		need(zcp_subscribe(v->bus, "t", &s, &v->sub));
	else
		need(zcp_offer(v->bus, "t", &o, &v->pub));
}

static void read_to_the_end(struct part *v)
{
	zcp_sub_info info;

	give_back(v);
	do {
		for (take_one(v); v->kept > 0; take_one(v))
			give_back(v);
		need(zcp_sub_status(v->sub, &info));
		if (info.publishers > 0)
			need(zcp_wait(v->sub, NS_PER_MS));
	} while (info.publishers > 0);
	if (info.lost != v->lost || info.messages != v->got ||
	    write(report[1], &(uint64_t[]){ v->got, v->lost }, 16) != 16)
		_exit(6);
	zcp_unsubscribe(&v->sub);
}

static void victim_lives(void *arg)
{
	const struct operation *op = arg;
	struct part v = { 0 };

	victim_open(&v, op);
	if (op->prepare != NULL)
		op->prepare(&v);
	victim_mark();
	if (op->settle != NULL)
		op->settle(&v);
	victim_mark();
	op->run(&v);
	victim_mark();
	/* Let go, it ends in order. */
	if (op->reads) {
		read_to_the_end(&v);
	} else {
		zcp_discard(v.pub, &v.chunk);
		for (int i = 0; i < MORE; i++) {
			write_large(&v);
			send_large(&v);
		}
		zcp_stop_offer(&v.pub);
	}
	zcp_close(&v.bus);
}

/* ---- the scene ------------------------------------------------------------------------ */

struct scene {
	const struct operation *op;
	struct settings settings;
	pid_t daemon;
	zcp *bus;
	struct world world;
	struct victim victim;
	uint64_t *pcs;			/* the path that a first victim took */
	unsigned known;
	uint64_t deaths;
	unsigned points, sweeps;	/* visited; second kills, inside a sweep */
	uint64_t slowest;		/* ns until the others had gone on */
};

/*
 * Silence of a reliable reader must be noticed soon; of nobody else.  Hearts
 * that beat seldom do not run into a breakpoint that is not theirs.
 */
static void scene_open(struct scene *s, int operation, bool stops)
{
	*s = (struct scene){ .op = &operations[operation],
	    .settings = bus_settings() };
	if (!stops)
		s->settings.heartbeat = 3600 * NS_PER_S;
	else if (s->op->reads && !s->op->lossy)
		s->settings.heartbeat = 100 * NS_PER_MS;
	s->daemon = bus_start(&s->settings);
	s->bus = bus_open("world");
	ck_assert_int_eq(pipe(report), 0);
}

static void scene_close(struct scene *s, const char *what)
{
	printf("%-21s %s at %u of %u instructions, %u more inside a sweep; the "
	    "others went on within %.1f ms\n", s->op->name, what, s->points,
	    s->known, s->sweeps, (double)s->slowest / 1e6);
	free(s->pcs);
	zcp_close(&s->bus);
	bus_stop();
}

/* A fresh victim, at the first instruction of the operation. */
static void scene_begin(struct scene *s)
{
	world_open(&s->world, s->bus, WORLD_SLOTS);
	victim_start(&s->victim, victim_lives, (void *)s->op);
	if (s->op->between != NULL)
		s->op->between(&s->world);
	victim_run(&s->victim);
	ck_assert(!s->victim.ended);
}

/* False: this time it came to its end before (it reads the clock). */
static bool step_to(struct scene *s, unsigned count)
{
	bool reached = victim_step_many(&s->victim, count, s->pcs, s->known);

	ck_assert_msg(!s->victim.ended, "the victim ended with %#x",
	    s->victim.status);
	return reached;
}

static void others_go_on(struct scene *s, uint64_t count)
{
	uint64_t began = clock_ns(), took;

	world_goes_on(&s->world, count);
	if ((took = clock_ns() - began) > s->slowest)
		s->slowest = took;
}

static bool death_is_counted(void *arg)
{
	return status_number("deaths") >= ((struct scene *)arg)->deaths;
}

/* What must be right of a world that has lost a victim. */
static void scene_end(struct scene *s)
{
	uint64_t seen;

	s->deaths++;
	eventually(death_is_counted, s, "the death is noticed");
	world_look();
	world_close(&s->world);
	seen = s->world.reliable.next[VICTIM];
	ck_assert_msg(seen >= s->op->sure && seen <= s->op->most,
	    "%llu messages of the victim, not %llu to %llu",
	    (unsigned long long)seen, (unsigned long long)s->op->sure,
	    (unsigned long long)s->op->most);
}

/* ---- killed at every instruction -------------------------------------------------------- */

static void tell_nothing(void *arg, const struct gc_item *item)
{
	(void)arg;
	(void)item;
}

static void sweep_as_gc(void *arg)
{
	(void)arg;
	victim_mark();
	need(gc_domain(bus_domain, false, tell_nothing, NULL));
}

/* With the daemon stopped, sweepers that are killed themselves; one that is
 * not must find the rest. */
static void sweep_and_be_killed(struct scene *s)
{
	struct victim sweeper;

	for (int i = 0; i < 3; i++) {
		unsigned calls = torture_random() % 60, steps = torture_random() % 400;

		victim_start(&sweeper, sweep_as_gc, NULL);
		while (calls > 0 && victim_step_call(&sweeper))
			calls--;
		while (calls == 0 && steps > 0 && victim_step(&sweeper))
			steps--;
		victim_kill(&sweeper);
		s->sweeps++;
	}
	must(gc_domain(bus_domain, false, tell_nothing, NULL));
}

/* A first victim shows the way, and ends. */
static void scene_trace(struct scene *s)
{
	scene_begin(s);
	s->known = victim_trace(&s->victim, &s->pcs);
	ck_assert(!s->victim.ended);
	victim_kill(&s->victim);
	others_go_on(s, ENOUGH);
	scene_end(s);
	s->slowest = 0;
}

/* Every so many instructions of the operation, from a place by chance. */
static void walk(int operation, bool stops, unsigned stride,
    void (*visit)(struct scene *s, unsigned step), const char *what)
{
	struct scene s;

	scene_open(&s, operation, stops);
	scene_trace(&s);
	for (unsigned step = torture_random() % stride; step < s.known;
	    step += stride)
		visit(&s, step);
	scene_close(&s, what);
}

static void kill_at(struct scene *s, unsigned step)
{
	bool sweep = torture_random() % 8 == 0;

	scene_begin(s);
	s->points += step_to(s, step);
	if (sweep)
		ck_assert_int_eq(kill(s->daemon, SIGSTOP), 0);
	victim_kill(&s->victim);
	if (sweep)
		sweep_and_be_killed(s);
	others_go_on(s, ENOUGH);
	if (sweep)
		ck_assert_int_eq(kill(s->daemon, SIGCONT), 0);
	scene_end(s);
}

START_TEST(killed_at_every_instruction)
{
	walk(_i, false, torture_full() ? 1 : 37, kill_at, "killed");
}
END_TEST

/* ---- stopped at every instruction --------------------------------------------------------- */

static void victim_ends(struct scene *s)
{
	uint64_t told[2];

	victim_thaw(&s->victim);
	while (!s->victim.ended)
		victim_run(&s->victim);
	ck_assert_msg(WIFEXITED(s->victim.status) &&
	    WEXITSTATUS(s->victim.status) == 0, "the victim ended with %#x",
	    s->victim.status);
	if (!s->op->reads) {
		world_close(&s->world);
		ck_assert_uint_eq(s->world.reliable.next[VICTIM],
		    s->op->most + MORE);
		return;
	}
	ck_assert_int_eq(read(report[0], told, sizeof(told)), sizeof(told));
	ck_assert_msg(told[0] + told[1] == s->world.sent, "the victim took "
	    "%llu and lost %llu of %llu", (unsigned long long)told[0],
	    (unsigned long long)told[1], (unsigned long long)s->world.sent);
	world_close(&s->world);
}

static void stop_at(struct scene *s, unsigned step)
{
	scene_begin(s);
	s->points += step_to(s, step);
	victim_freeze(&s->victim);
	others_go_on(s, torture_full() ? 100000 : 10000);
	/* A reader that was stopped reads what is left, to the end. */
	if (s->op->reads)
		zcp_stop_offer(&s->world.pub);
	victim_ends(s);
}

START_TEST(stopped_at_every_instruction_and_resumed)
{
	walk(_i, true, torture_full() ? 31 : 211, stop_at, "stopped");
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("steps");

	printf("seed %u\n", torture_seed());
	tcase_set_timeout(t, 0);
	tcase_add_loop_test(t, killed_at_every_instruction, 0, OPERATIONS);
	tcase_add_loop_test(t, stopped_at_every_instruction_and_resumed, 0,
	    OPERATIONS);
	return run_tests("torture", t);
}
