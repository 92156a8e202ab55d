/*
 * access.c - a process is killed at every access to shared memory, and at the
 * entry and exit of every system call, of the long operations: those of a
 * client with the daemon, a sweep, and all that daemon and zcp-gc do.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "control.h"
#include "log.h"
#include "measure.h"
#include "routed/gc.h"
#include "subscriber.h"
#include "stepped.h"
#include "tracer.h"
#include "world.h"

enum { WORLD_SLOTS = 16, ENOUGH = 100, LARGE = 100 };

enum way { BY_ACCESS, BY_CALL, WAYS };
static const char *const ways[] = { "accesses", "system calls" };

static unsigned stride(unsigned bounded)
{
	return torture_full() ? 1 : bounded;
}

/* ---- what a client does ------------------------------------------------------------ */

struct client_part {
	zcp *bus;
	zcp_pub *pub;
	zcp_sub *sub;
};

static void part_open(struct client_part *c)
{
	zcp_options o = { .name = "victim" };

	need(zcp_open(&c->bus, &o));
}

static void part_offer(struct client_part *c)
{
	zcp_pub_options o = { .slots = 8 };

	need(zcp_offer(c->bus, "t", &o, &c->pub));
}

static void part_subscribe(struct client_part *c)
{
	need(zcp_subscribe(c->bus, "t", NULL, &c->sub));
}

static void open_and_offer(struct client_part *c)
{
	part_open(c);
	part_offer(c);
}

static void open_and_subscribe(struct client_part *c)
{
	part_open(c);
	part_subscribe(c);
}

/* With a loan, a message and a hold. */
static void open_and_use(struct client_part *c)
{
	char message[LARGE];
	zcp_chunk chunk;
	zcp_msg msg;

	open_and_offer(c);
	part_subscribe(c);
	payload_write(message, VICTIM, 0, sizeof(message));
	need(zcp_send(c->pub, message, sizeof(message), 0, 0));
	need(zcp_loan(c->pub, LARGE, &chunk, 0));
	need(zcp_take(c->sub, &msg));
}

/* Until memory is short, so that the next loan sweeps. */
static void open_and_take_all(struct client_part *c)
{
	zcp_chunk chunk;

	open_and_offer(c);
	while (zcp_loan(c->pub, LARGE, &chunk, 0) == 0)
		;
}

static void loan_in_vain(struct client_part *c)
{
	zcp_chunk chunk;

	if (zcp_loan(c->pub, LARGE, &chunk, 0) == 0)
		zcp_discard(c->pub, &chunk);
}

static void part_stop_offer(struct client_part *c)
{
	zcp_stop_offer(&c->pub);
}

static void part_unsubscribe(struct client_part *c)
{
	zcp_unsubscribe(&c->sub);
}

static void part_close(struct client_part *c)
{
	zcp_close(&c->bus);
}

static void tell_nothing(void *arg, const struct gc_item *item)
{
	(void)arg;
	(void)item;
}

static void collect(struct client_part *c)
{
	(void)c;
	need(gc_domain(bus_domain, false, tell_nothing, NULL));
}

static const struct operation {
	const char *name;
	void (*prepare)(struct client_part *c);
	void (*run)(struct client_part *c);
} operations[] = {
	{ "attach", NULL, part_open },
	{ "offer", part_open, part_offer },
	{ "subscribe", part_open, part_subscribe },
	{ "stop an offer", open_and_offer, part_stop_offer },
	{ "unsubscribe", open_and_subscribe, part_unsubscribe },
	{ "detach", open_and_use, part_close },
	{ "sweep for memory", open_and_take_all, loan_in_vain },
	{ "zcp-gc beside a daemon", NULL, collect },
};
enum { OPERATIONS = sizeof(operations) / sizeof(operations[0]) };

struct aim {
	const struct operation *op;
	enum way way;
	uint64_t at;			/* 1, 2, ... */
};

static void client_lives(void *arg)
{
	const struct aim *aim = arg;
	struct client_part c = { 0 };

	if (aim->op->prepare != NULL)
		aim->op->prepare(&c);
	victim_mark();
	stepped_count = 0;
	stepped_kill_at = aim->way == BY_ACCESS ? aim->at : 0;
	aim->op->run(&c);
	stepped_kill_at = 0;
	victim_mark();
}

/* Until it is where it is to be killed; false: it has come to its end, or
 * another process has, before. */
static bool run_to_aim(struct victim *v, enum way way, uint64_t at)
{
	uint64_t n = 0;

	if (way == BY_ACCESS) {
		victim_run(v);		/* it does so itself */
		return v->ended && WIFSIGNALED(v->status);
	}
	while (n < at && victim_step_call(v))
		n++;
	return n == at;
}

/* Runs a role to where it is to be killed, and kills it there. */
static bool kill_role(void (*role)(void *), const struct aim *aim)
{
	struct victim v;
	bool killed;

	victim_start(&v, role, (void *)aim);
	killed = run_to_aim(&v, aim->way, aim->at);
	victim_kill(&v);
	return killed;
}

START_TEST(a_client_killed_at_every_access_and_call)
{
	struct aim aim = { &operations[_i / WAYS], _i % WAYS, 1 };
	struct settings settings = bus_settings();
	unsigned step = stride(aim.way == BY_ACCESS ? 2 : 5), points = 0;
	struct world w;
	bool killed;
	zcp *bus;

	bus_start(&settings);
	bus = bus_open("world");
	aim.at += torture_random() % step;
	do {
		world_open(&w, bus, WORLD_SLOTS);
		world_goes_on(&w, 4);
		killed = kill_role(client_lives, &aim);
		points += killed;
		world_goes_on(&w, ENOUGH);
		world_close(&w);
		aim.at += step;
	} while (killed);
	printf("%-24s killed at %u %s\n", aim.op->name, points, ways[aim.way]);
	zcp_close(&bus);
	bus_stop();
}
END_TEST

/* ---- what the daemon does ------------------------------------------------------------- */

/* A participant that dies with all that one can have. */
static void die_in_use(void)
{
	struct client_part c = { 0 };

	open_and_use(&c);
	kill(getpid(), SIGKILL);
}

static pid_t fork_mortal(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		die_in_use();
	}
	return pid;
}

enum { OFFERS = 4, EACH = 3 };

/* Each is taken or told to be lost, once. */
static uint64_t account_for(zcp_sub *sub, uint64_t all)
{
	uint64_t deadline = deadline_after(PATIENCE), n = 0;
	zcp_msg msg;
	int rc;

	while (n < all && clock_ns() < deadline)
		if ((rc = zcp_take(sub, &msg)) == 0) {
			need(zcp_wait(sub, NS_PER_S / 10));
		} else if (rc == -ZCP_E_LAPPED) {
			n += msg.lost;
		} else {
			need(rc);
			zcp_release(sub, &msg);
			n++;
		}
	return n;
}

/* A reader with few cursors looks elsewhere while publishers come and go, for
 * longer than their rings stay. */
static void miss_some(zcp *bus)
{
	zcp_sub_options few = { .lossy = 1, .publishers = 2 };
	zcp_pub_options o = { .slots = 8 };
	zcp_sub_info info;
	zcp_sub *sub;
	zcp_pub *pub;

	need(zcp_subscribe(bus, "u", &few, &sub));
	for (int i = 0; i < OFFERS; i++) {
		need(zcp_offer(bus, "u", &o, &pub));
		for (int k = 0; k < EACH; k++)
			need(zcp_send(pub, "x", 1, 0, 0));
		zcp_stop_offer(&pub);
	}
	if (account_for(sub, OFFERS * EACH) != OFFERS * EACH)
		_exit(5);
	need(zcp_sub_status(sub, &info));
	if (info.messages + info.lost != OFFERS * EACH)
		_exit(6);
	zcp_unsubscribe(&sub);
}

/* All that clients ask of a daemon, whichever daemon it is. */
static void busy_life(void *arg)
{
	struct client_part c = { 0 };
	struct world w;
	zcp *bus;

	(void)arg;
	fork_mortal();
	bus = bus_open("world");
	world_open(&w, bus, WORLD_SLOTS);
	world_goes_on(&w, 20);
	open_and_subscribe(&c);
	world_goes_on(&w, 4);
	part_offer(&c);
	part_stop_offer(&c);
	miss_some(c.bus);
	part_close(&c);
	while (wait(NULL) > 0)
		;
	world_goes_on(&w, ENOUGH);
	world_close(&w);
	zcp_close(&bus);
}

static struct settings daemon_settings;
static uint64_t daemon_kill_at;

static void daemon_is_ready(const struct routed *r)
{
	(void)r;
	stepped_count = 0;
	stepped_kill_at = daemon_kill_at;
	victim_mark();
}

static void daemon_lives(void *arg)
{
	static struct routed r;

	(void)arg;
	_exit(routed_run(&r, &daemon_settings, daemon_is_ready) < 0);
}

/* The daemon is killed on its way through the clients' life; the next one
 * takes over.  False: they had come to their end before. */
static bool kill_daemon(enum way way, uint64_t at)
{
	struct victim v;
	bool killed;
	pid_t clients;
	int status;

	daemon_kill_at = way == BY_ACCESS ? at : 0;
	victim_start(&v, daemon_lives, NULL);
	clients = in_process(busy_life, NULL);
	killed = run_to_aim(&v, way, at);
	victim_kill(&v);
	bus_restart(&daemon_settings);
	if (v.stranger == clients)
		status = v.stranger_status;
	else
		ck_assert_int_eq(waitpid(clients, &status, 0), clients);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0,
	    "the clients ended with %#x", status);
	bus_end_daemon();
	return killed;
}

static void make_place(void)
{
	daemon_settings = bus_settings();
	/* Rings that went unread go soon, and cursors are given soon. */
	daemon_settings.grace = NS_PER_MS;
	daemon_settings.heartbeat = 50 * NS_PER_MS;
	daemon_settings.on_stall = STALL_WAIT;	/* a busy machine is no stop */
	/* For its runtime directory and its name. */
	bus_start(&daemon_settings);
	bus_end_daemon();
	daemon_settings.domain = bus_domain;
}

static void remove_place(void)
{
	bus_restart(&daemon_settings);
	bus_stop();
}

/* In parts: Check counts the microseconds of one test in 32 bits. */
enum { PARTS = 6 };

START_TEST(a_daemon_killed_at_every_access_and_call)
{
	enum way way = (enum way)(_i / PARTS);
	unsigned step = stride(way == BY_ACCESS ? 149 : 37), points = 0;
	unsigned part = (unsigned)_i % PARTS;
	uint64_t at = 1 + torture_random() % step + part * step;

	make_place();
	for (; kill_daemon(way, at); at += PARTS * step)
		points++;
	printf("%-24s killed at %u of about %llu %s, part %u of %d\n",
	    "a daemon at work", points, (unsigned long long)at, ways[way],
	    part + 1, PARTS);
	remove_place();
}
END_TEST

/* ---- the end of a reader that still holds ---------------------------------------------- */

enum { HOLDER_SLOTS = 8, AT_ITS_END = 90 };

/* A reader whose port ends while it holds a message, and its publisher, which
 * nobody holds up from then on. */
static void hold_and_release(void *arg)
{
	const int *turn = arg;		/* ready to write to, go to read from */
	char message[LARGE] = "", request[CONTROL_REQUEST], byte = 0;
	struct client_part c = { 0 };
	zcp_msg msg;
	int n;

	open_and_offer(&c);
	part_subscribe(&c);
	need(zcp_send(c.pub, message, sizeof(message), 0, 0));
	need(zcp_take(c.sub, &msg) == 1 ? 0 : -1);
	if (write(turn[0], &byte, 1) != 1 || read(turn[1], &byte, 1) != 1)
		_exit(4);
	n = tenant_says(c.bus, request, sizeof(request), "RELEASE");
	snprintf(request + n, sizeof(request) - (size_t)n,
	    ":port=%u:serial=%u", c.sub->port, c.sub->serial);
	need(control_call(bus_domain, request, message, sizeof(message),
	    deadline_after(PATIENCE)));
	for (n = 0; n < 3 * HOLDER_SLOTS; n++)
		need(zcp_send(c.pub, "x", 1, 0, 2 * NS_PER_S));
	zcp_close(&c.bus);
}

/* The daemon that is killed has adopted them, and nothing else to do. */
static bool kill_at_release(uint64_t at)
{
	int ready[2], go[2], turn[2], status;
	struct victim v;
	pid_t clients;
	bool killed;
	char byte = 0;

	bus_restart(&daemon_settings);
	ck_assert_int_eq(pipe(ready), 0);
	ck_assert_int_eq(pipe(go), 0);
	turn[0] = ready[1];
	turn[1] = go[0];
	clients = in_process(hold_and_release, turn);
	ck_assert_int_eq(read(ready[0], &byte, 1), 1);
	bus_kill();
	daemon_kill_at = at;
	victim_start(&v, daemon_lives, NULL);
	ck_assert_int_eq(write(go[1], &byte, 1), 1);
	killed = run_to_aim(&v, BY_ACCESS, at);
	victim_kill(&v);
	bus_restart(&daemon_settings);
	if (v.stranger == clients)
		status = v.stranger_status;
	else
		ck_assert_int_eq(waitpid(clients, &status, 0), clients);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0,
	    "killed at access %llu: the clients ended with %#x",
	    (unsigned long long)at, status);
	for (int i = 0; i < 2; i++) {
		close(ready[i]);
		close(go[i]);
	}
	bus_end_daemon();
	return killed;
}

START_TEST(a_daemon_killed_as_it_ends_a_reader_leaves_no_publisher_waiting)
{
	unsigned step = stride(3), points = 0;
	uint64_t at = 1 + torture_random() % step;

	make_place();
	daemon_settings.heartbeat = 60 * NS_PER_S;	/* no tick lends a hand */
	/* The port ends first; much of what follows is looking for garbage. */
	while ((torture_full() || at <= AT_ITS_END) && kill_at_release(at)) {
		points++;
		at += step;
	}
	printf("%-24s killed at %u of about %llu accesses\n", "a reader's end",
	    points, (unsigned long long)at);
	remove_place();
}
END_TEST

/* ---- adoption, and zcp-gc in its place ---------------------------------------------------- */

static void adopt(void *arg)
{
	const struct aim *aim = arg;
	static struct routed r;

	daemon_kill_at = 0;
	victim_mark();
	stepped_count = 0;
	stepped_kill_at = aim->way == BY_ACCESS ? aim->at : 0;
	_exit(routed_run(&r, &daemon_settings, daemon_is_ready) < 0);
}

static void collect_alone(void *arg)
{
	const struct aim *aim = arg;

	victim_mark();
	stepped_count = 0;
	stepped_kill_at = aim->way == BY_ACCESS ? aim->at : 0;
	need(gc_domain(bus_domain, false, tell_nothing, NULL));
	stepped_kill_at = 0;
	victim_mark();
}

/*
 * A daemon dies, and one of its participants; whoever takes its place is
 * killed, too; the next one finds all in order, and the survivors never
 * noticed.
 */
static bool kill_successor(void (*role)(void *), const struct aim *aim)
{
	struct world w;
	bool killed;
	pid_t mortal;
	zcp *bus;

	bus_restart(&daemon_settings);
	bus = bus_open("world");
	world_open(&w, bus, WORLD_SLOTS);
	mortal = fork_mortal();
	world_hears(&w, VICTIM, 1);
	bus_kill();
	ck_assert_int_eq(waitpid(mortal, NULL, 0), mortal);
	killed = kill_role(role, aim);
	world_goes_on(&w, 8);
	bus_restart(&daemon_settings);
	world_goes_on(&w, ENOUGH);
	world_close(&w);
	zcp_close(&bus);
	bus_end_daemon();
	return killed;
}

static const struct {
	const char *name;
	void (*role)(void *);
} successors[] = { { "adoption", adopt }, { "zcp-gc alone", collect_alone } };
enum { SUCCESSORS = sizeof(successors) / sizeof(successors[0]) };

START_TEST(a_successor_killed_at_every_access_and_call)
{
	struct aim aim = { .way = _i / PARTS % WAYS };
	unsigned step = stride(aim.way == BY_ACCESS ? 53 : 5), points = 0;
	unsigned part = (unsigned)_i % PARTS, one = (unsigned)_i / PARTS / WAYS;

	make_place();
	for (aim.at = 1 + torture_random() % step + part * step;
	    kill_successor(successors[one].role, &aim); aim.at += PARTS * step)
		points++;
	printf("%-24s killed at %u %s, part %u of %d\n", successors[one].name,
	    points, ways[aim.way], part + 1, PARTS);
	remove_place();
}
END_TEST

/* Of `all` = n * PARTS indices those of one part, or (0) of every part. */
static void add_parts(TCase *t, const TTest *test, int all, int part)
{
	for (int i = 0; i < all; i++)
		if (part == 0 || i % PARTS == part - 1)
			tcase_add_loop_test(t, test, i, i + 1);
}

/* access [clients | daemon [PART] | release | successors [PART]] */
int main(int argc, char **argv)
{
	TCase *t = tcase_create("accesses");
	const char *only = argc > 1 ? argv[1] : "";
	int part = argc > 2 ? atoi(argv[2]) : 0;

	log_threshold = LOG_LEVEL_ERROR;
	printf("seed %u\n", torture_seed());
	tcase_set_timeout(t, 0);
	if (*only == '\0' || strcmp(only, "clients") == 0)
		tcase_add_loop_test(t,
		    a_client_killed_at_every_access_and_call, 0,
		    OPERATIONS * WAYS);
	if (*only == '\0' || strcmp(only, "daemon") == 0)
		add_parts(t, a_daemon_killed_at_every_access_and_call,
		    PARTS * WAYS, part);
	if (*only == '\0' || strcmp(only, "release") == 0)
		tcase_add_test(t,
		    a_daemon_killed_as_it_ends_a_reader_leaves_no_publisher_waiting);
	if (*only == '\0' || strcmp(only, "successors") == 0)
		add_parts(t, a_successor_killed_at_every_access_and_call,
		    SUCCESSORS * PARTS * WAYS, part);
	return run_tests("torture", t);
}
