/*
 * chaos.c - under load everybody is killed, stopped and let go on, and runs out
 * of descriptors, in no order: publishers, reliable and lossy readers, starving
 * publishers, the daemon, zcp-gc.  Nothing tears, nothing comes twice, no loss
 * goes untold, nothing leaks, nobody who lives is ended.
 *
 * ZCP_CHAOS is the number of events, ZCP_SEED repeats their choice.
 */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../bus.h"
#include "log.h"
#include "measure.h"
#include "routed/gc.h"
#include "xorshift.h"

enum {
	EVENTS = 400,			/* in "make check" */
	CALM = 4,			/* readers that live to the end */
	ACTORS = 14,			/* at once */
	LIVES = 1 << 15, SOURCES = 1 << 17,
	SMALL = 24, LARGE = 1000, LARGEST = 4000,
	KEPT = 4,			/* messages, by a reader */
	LOANS = 12,			/* by one who starves */
	WORDS = 200,			/* bytes of a message to be told */
};
/* Longer than the daemon keeps an ended ring for those who have yet to read
 * it. */
#define LONG_STOP (12 * NS_PER_S)

/* ---- what they say, in memory that all share ---------------------------------------- */

enum kind { PUBLISHER, STARVING, RELIABLE, LOSSY, KINDS };
static const char *const kinds[] = { "publishers", "starving publishers",
    "reliable readers", "lossy readers" };

/* What one process has seen, in one life. */
struct life {
	atomic_int born;		/* it has its ports */
	atomic_int finish;		/* it is asked to end in order */
	atomic_uint_fast64_t sent, taken, told, refused;
	atomic_uint_fast64_t torn, doubled, untold, invented, innocent;
	char words[WORDS];
};

/* One offer: its number is in each of its messages. */
struct source {
	uint64_t offered;		/* clock before it registered */
	atomic_uint_fast64_t sent;
};

static struct shared {
	atomic_uint sources;
	atomic_uint killed;		/* publishers: each may have published one
					   that it did not come to count */
	struct source source[SOURCES];
	struct life life[LIVES];
} *shared;

static struct life *self;		/* of this process */

__attribute__((format(printf, 2, 3)))
static void wrong(atomic_uint_fast64_t *count, const char *format, ...)
{
	va_list ap;

	++*count;
	if (self->words[0] != '\0')
		return;
	va_start(ap, format);
	vsnprintf(self->words, sizeof(self->words), format, ap);
	va_end(ap);
}

/* ---- messages ------------------------------------------------------------------------- */

struct header {
	uint32_t source, size;
	uint64_t number;
};

static unsigned char fill(const struct header *h, size_t i)
{
	return (unsigned char)(h->source * 151 + h->number * 31 + i * 7);
}

static void message_write(void *to, const struct header *h)
{
	unsigned char *bytes = to;

	memcpy(bytes, h, sizeof(*h));
	for (size_t i = sizeof(*h); i < h->size; i++)
		bytes[i] = fill(h, i);
}

static bool message_whole(const void *from, size_t size, struct header *h)
{
	const unsigned char *bytes = from;

	if (size < sizeof(*h))
		return false;
	memcpy(h, bytes, sizeof(*h));
	if (h->size != size || h->source >= SOURCES)
		return false;
	for (size_t i = sizeof(*h); i < size; i++)
		if (bytes[i] != fill(h, i))
			return false;
	return true;
}

/* ---- what goes wrong without being a fault ------------------------------------------------ */

static uint32_t dice;

static uint32_t by_chance(uint32_t n)
{
	return xorshift(&dice) % n;
}

/* Time, memory, descriptors or the daemon may be missing: later.  But nobody
 * who lives is ended. */
static bool survives(int rc)
{
	if (rc == -ZCP_E_ENDED || rc == -ZCP_E_DAMAGED)
		wrong(&self->innocent, "%.190s", zcp_errmsg());
	else if (rc < 0)
		self->refused++;
	if (rc < 0)
		usleep(500);
	return self->innocent == 0;
}

static zcp *open_bus(enum kind kind)
{
	zcp_options o = { .name = kinds[kind], .timeout = NS_PER_S };
	zcp *bus = NULL;

	while (!self->finish && survives(zcp_open(&bus, &o)) && bus == NULL)
		;
	return bus;
}

/* ---- publishers --------------------------------------------------------------------------------- */

struct publisher {
	zcp *bus;
	zcp_pub *pub;
	uint32_t source;
	uint64_t number;
};

static bool offer(struct publisher *p)
{
	static const uint32_t slots[] = { 8, 32, 128 };
	zcp_pub_options o = { .slots = slots[by_chance(3)],
	    .lossy = by_chance(8) == 0 };

	p->pub = NULL;
	p->source = shared->sources++;
	if (p->source >= SOURCES)
		return false;
	p->number = 0;
	shared->source[p->source].offered = clock_ns();
	return survives(zcp_offer(p->bus, "chaos", &o, &p->pub));
}

static void count_sent(struct publisher *p)
{
	p->number++;
	shared->source[p->source].sent++;
	self->sent++;
}

static bool send_one(struct publisher *p)
{
	static const size_t sizes[] = { SMALL, SMALL, SMALL, 100, LARGE };
	struct header h = { p->source, (uint32_t)sizes[by_chance(5)],
	    p->number };
	char message[LARGE];
	int rc;

	message_write(message, &h);
	rc = zcp_send(p->pub, message, h.size, 0, 20 * NS_PER_MS);
	if (rc == 1)
		count_sent(p);
	return survives(rc);
}

/* Loans while there is memory, and looks whether all of it stays its own. */
static bool starve(struct publisher *p)
{
	struct header h = { p->source, LARGEST, 0 }, seen;
	zcp_chunk chunk[LOANS];
	int n = 0, rc = 0;

	for (; n < LOANS && rc == 0; n += rc == 0) {
		rc = zcp_loan(p->pub, LARGEST, &chunk[n], 2 * NS_PER_MS);
		h.number = p->number + (uint64_t)n;
		if (rc == 0)
			message_write(chunk[n].data, &h);
	}
	if (!survives(rc))
		return false;
	usleep(by_chance(2000));
	for (int i = 0; i < n; i++) {
		h.number = p->number;
		if (!message_whole(chunk[i].data, LARGEST, &seen) ||
		    seen.source != p->source)
			wrong(&self->doubled, "a chunk on loan was written to "
			    "by somebody else");
		message_write(chunk[i].data, &h);
		rc = zcp_publish(p->pub, &chunk[i], LARGEST, NS_PER_MS);
		if (rc == 1)
			count_sent(p);
		zcp_discard(p->pub, &chunk[i]);
		if (!survives(rc))
			return false;
	}
	return true;
}

/* Now and then it ends in order, and offers anew. */
static void publish(enum kind kind)
{
	struct publisher p = { .bus = open_bus(kind) };

	while (p.bus != NULL && !self->finish && self->innocent == 0) {
		if (p.pub == NULL && !offer(&p))
			break;
		self->born = 1;
		if (p.pub == NULL)
			continue;
		if (kind == STARVING ? !starve(&p) : !send_one(&p))
			break;
		if (by_chance(kind == STARVING ? 50 : 2000) == 0)
			zcp_stop_offer(&p.pub);
	}
	zcp_stop_offer(&p.pub);
	zcp_close(&p.bus);
}

/* ---- readers -------------------------------------------------------------------------------------- */

struct following {
	zcp_sub *sub;
	uint64_t subscribed;		/* clock when it had */
	zcp_msg kept[KEPT];
	unsigned at;
	uint64_t *next;			/* by source */
	uint64_t missing;		/* messages, as their numbers show */
};

static void give_back(struct following *r, zcp_msg *msg)
{
	struct header h;

	if (msg->data == NULL)
		return;
	if (!message_whole(msg->data, msg->size, &h))
		wrong(&self->torn, "a message of %zu bytes changed while it "
		    "was held", msg->size);
	zcp_release(r->sub, msg);
}

static void take_in(struct following *r, zcp_msg *msg)
{
	struct header h;

	self->taken++;
	if (!message_whole(msg->data, msg->size, &h)) {
		wrong(&self->torn, "a torn message of %zu bytes", msg->size);
	} else if (h.number < r->next[h.source]) {
		wrong(&self->doubled, "message %llu of %u came after %llu",
		    (unsigned long long)h.number, h.source,
		    (unsigned long long)r->next[h.source] - 1);
	} else {
		/* Who came later than the publisher begins somewhere. */
		if (r->next[h.source] > 0 ||
		    r->subscribed < shared->source[h.source].offered)
			r->missing += h.number - r->next[h.source];
		r->next[h.source] = h.number + 1;
	}
	/* A small one lies in the struct. */
	if (msg->size <= SMALL || by_chance(4) > 0) {
		give_back(r, msg);
		return;
	}
	r->at = (r->at + 1) % KEPT;
	give_back(r, &r->kept[r->at]);
	r->kept[r->at] = *msg;
}

static bool read_some(struct following *r)
{
	zcp_msg msg;
	int rc;

	while ((rc = zcp_take(r->sub, &msg)) != 0) {
		if (rc == 1)
			take_in(r, &msg);
		else if (rc == -ZCP_E_LAPPED)
			self->told += msg.lost;
		else
			return survives(rc);
	}
	rc = zcp_wait(r->sub, 20 * NS_PER_MS);
	return rc == -ZCP_E_TIMEOUT || survives(rc);
}

/* All publishers have ended, and so has what they left. */
static bool all_is_read(struct following *r, zcp_sub_info *info)
{
	return self->finish && zcp_sub_status(r->sub, info) == 0 &&
	    info->publishers == 0;
}

/* Whoever published a message, and to whom: it came, or its loss was told. */
static void settle(struct following *r, const zcp_sub_info *info)
{
	uint32_t sources = shared->sources;

	for (uint32_t i = 0; i < sources && i < SOURCES; i++) {
		const struct source *s = &shared->source[i];
		bool all = r->subscribed < s->offered && info->unfollowed == 0;

		if (s->sent > r->next[i] && (all || r->next[i] > 0))
			r->missing += s->sent - r->next[i];
	}
	if (r->missing > self->told)
		wrong(&self->untold, "%llu messages are missing, %llu were "
		    "told of", (unsigned long long)r->missing,
		    (unsigned long long)self->told);
	else if (self - shared->life < CALM && info->unfollowed == 0 &&
	    self->told - r->missing > shared->killed)
		wrong(&self->invented, "%llu messages are missing, %llu were "
		    "told of", (unsigned long long)r->missing,
		    (unsigned long long)self->told);
	if (info->lost != self->told)
		wrong(&self->untold, "its status says that %llu were lost, "
		    "its takes %llu", (unsigned long long)info->lost,
		    (unsigned long long)self->told);
}

static void read_on(enum kind kind)
{
	zcp_sub_options o = { .lossy = kind == LOSSY, .publishers = 512,
	    .depth = kind == LOSSY ? 4 : 0 };
	struct following r = { .next = calloc(SOURCES, sizeof(*r.next)) };
	zcp_sub_info info = { 0 };
	zcp *bus = open_bus(kind);

	while (bus != NULL && !self->finish && r.sub == NULL &&
	    survives(zcp_subscribe(bus, "chaos", &o, &r.sub)))
		r.subscribed = clock_ns();
	self->born = 1;
	if (r.sub != NULL) {
		while (read_some(&r) && !all_is_read(&r, &info))
			;
		if (self->innocent == 0)
			settle(&r, &info);
		for (int i = 0; i < KEPT; i++)
			give_back(&r, &r.kept[i]);
	}
	zcp_unsubscribe(&r.sub);
	zcp_close(&bus);
	free(r.next);
}

/* ---- who does it to them --------------------------------------------------------------------------- */

static struct actor {
	pid_t pid;			/* 0: none */
	enum kind kind;
	unsigned life;
	bool stopped, limited;
	uint64_t until;			/* it stays stopped, clock; 0: at will */
} actors[ACTORS];

static struct settings settings;
static pid_t daemon_pid;
static bool daemon_stopped, daemon_limited;
static uint64_t daemon_rests;		/* nobody kills or stops it, clock */
static bool second_half;		/* of the events: whatever rests */
static unsigned lives;
static unsigned killed[KINDS], daemons_killed, collectors, collectors_killed,
    stops, limits, stuck;

static void actor_lives(void *arg)
{
	const struct actor *a = arg;

	log_threshold = LOG_LEVEL_ERROR;
	self = &shared->life[a->life];
	dice = torture_seed() ^ (a->life + 1) * UINT32_C(2654435769);
	if (dice == 0)
		dice = 1;
	if (a->kind == RELIABLE || a->kind == LOSSY)
		read_on(a->kind);
	else
		publish(a->kind);
}

static void bear(struct actor *a, enum kind kind)
{
	if (lives >= LIVES)
		return;
	*a = (struct actor){ .kind = kind, .life = lives++ };
	a->pid = in_process(actor_lives, a);
}

/* None of its descriptors is taken, but it gets only `more`; or as many as it
 * likes again. */
static void limit_descriptors(pid_t pid, bool lower, unsigned more)
{
	struct rlimit limit;
	char path[48];

	if (prlimit(pid, RLIMIT_NOFILE, NULL, &limit) < 0)
		return;
	limit.rlim_cur = lower ? 0 : limit.rlim_max;
	for (; lower; limit.rlim_cur++) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%u", (int)pid,
		    (unsigned)limit.rlim_cur);
		if (access(path, F_OK) < 0 && more-- == 0)
			break;
	}
	prlimit(pid, RLIMIT_NOFILE, &limit, NULL);
}

static void actor_is_killed(struct actor *a)
{
	kill_process(a->pid);
	killed[a->kind]++;
	shared->killed += a->kind == PUBLISHER || a->kind == STARVING;
	a->pid = 0;
}

static void actor_is_stopped(struct actor *a, bool stop)
{
	if (!stop && clock_ns() < a->until)
		return;
	kill(a->pid, stop ? SIGSTOP : SIGCONT);
	stops += stop;
	a->stopped = stop;
	a->until = stop && torture_random() % 16 == 0 ?
	    clock_ns() + LONG_STOP : 0;
	/* A daemon that has just begun gives everybody time anew, so that nothing
	 * of an ended publisher is ever given up. */
	if (a->until != 0 && !second_half)
		daemon_rests = a->until;
}

static void actor_is_limited(struct actor *a, bool lower)
{
	limit_descriptors(a->pid, lower, torture_random() % 4);
	limits += lower;
	a->limited = lower;
}

static void daemon_is_killed(void)
{
	bus_kill();
	daemons_killed++;
	daemon_stopped = daemon_limited = false;
}

static void tell_nothing(void *arg, const struct gc_item *item)
{
	(void)arg;
	(void)item;
}

static void collect(void *arg)
{
	(void)arg;
	log_threshold = LOG_LEVEL_ERROR;
	/* Beside a daemon that is being made it may have nothing to judge. */
	if (gc_domain(bus_domain, false, tell_nothing, NULL) < 0)
		_exit(0);
}

static void collect_or_die(bool dies)
{
	pid_t pid = in_process(collect, NULL);

	collectors++;
	if (dies) {
		usleep(torture_random() % 1000);
		kill(pid, SIGKILL);
		collectors_killed++;
	}
	waitpid(pid, NULL, 0);
}

static void daemon_event(unsigned what)
{
	bool rests = !second_half && clock_ns() < daemon_rests;

	switch (rests && what < 2 && !daemon_stopped ? 3 : what) {
	case 0:
		daemon_is_killed();
		if (torture_random() % 2)
			collect_or_die(torture_random() % 2);
		daemon_pid = bus_restart(&settings);
		break;
	case 1:
		kill(daemon_pid, daemon_stopped ? SIGCONT : SIGSTOP);
		stops += !daemon_stopped;
		daemon_stopped = !daemon_stopped;
		break;
	case 2:
		daemon_limited = !daemon_limited;
		limit_descriptors(daemon_pid, daemon_limited,
		    torture_random() % 4);
		limits += daemon_limited;
		break;
	case 3:
		collect_or_die(false);
		break;
	default:
		collect_or_die(true);
	}
}

/* The calm ones are stopped and run out of descriptors like all. */
static void event(void)
{
	unsigned n = torture_random() % ACTORS, what = torture_random() % 16;
	struct actor *a = &actors[n];

	if (a->pid == 0)
		bear(a, (enum kind)(torture_random() % KINDS));
	else if (what < 6 && n >= CALM)
		actor_is_killed(a);
	else if (what < 10)
		actor_is_stopped(a, !a->stopped);
	else if (what < 13)
		actor_is_limited(a, !a->limited);
	else
		daemon_event(torture_random() % 5);
}

static bool is_born(void *arg)
{
	const struct actor *a = arg;

	return shared->life[a->life].born != 0;
}

/* Calm readers are there before the first publisher: of every message that is
 * ever published they know whether it came. */
static void begin(void)
{
	for (unsigned i = 0; i < ACTORS; i++) {
		bear(&actors[i], i >= CALM ? (enum kind)(i % KINDS) :
		    i % 2 ? RELIABLE : LOSSY);
		eventually(is_born, &actors[i], "its ports are open");
	}
}

/* ---- the end ------------------------------------------------------------------------------------------- */

static bool ends(pid_t pid)
{
	uint64_t deadline = deadline_after(3 * PATIENCE);
	int status;

	while (waitpid(pid, &status, WNOHANG) == 0) {
		if (clock_ns() >= deadline) {
			kill_process(pid);
			return false;
		}
		usleep(1000);
	}
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* All that live are let go on, and asked to end. */
static void finish(bool readers)
{
	for (unsigned i = 0; i < ACTORS; i++) {
		struct actor *a = &actors[i];

		if (a->pid == 0 || readers != (a->kind >= RELIABLE))
			continue;
		shared->life[a->life].finish = 1;
	}
	for (unsigned i = 0; i < ACTORS; i++) {
		struct actor *a = &actors[i];

		if (a->pid == 0 || readers != (a->kind >= RELIABLE))
			continue;
		if (!ends(a->pid)) {
			fprintf(stderr, "one of the %s does not end\n",
			    kinds[a->kind]);
			stuck++;
		}
		a->pid = 0;
	}
}

static void let_all_go_on(void)
{
	if (daemon_stopped)
		kill(daemon_pid, SIGCONT);
	limit_descriptors(daemon_pid, false, 0);
	for (unsigned i = 0; i < ACTORS; i++)
		if (actors[i].pid != 0) {
			kill(actors[i].pid, SIGCONT);
			limit_descriptors(actors[i].pid, false, 0);
		}
}

struct totals {
	uint64_t sent, taken, told, refused;
	uint64_t torn, doubled, untold, invented, innocent, leaked;
};

static uint64_t chunks_used(void)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < settings.pools; i++)
		n += pool_number(settings.pool[i].chunk_size, "count") -
		    pool_number(settings.pool[i].chunk_size, "free");
	return n;
}

/* Chunks that do not come back though nobody is there any more. */
static uint64_t leaked(void)
{
	uint64_t deadline = deadline_after(3 * PATIENCE), n;

	while ((n = chunks_used()) > 0 && clock_ns() < deadline)
		usleep(10000);
	return n;
}

static struct totals add_up(void)
{
	struct totals t = { 0 };

	for (unsigned i = 0; i < lives; i++) {
		const struct life *l = &shared->life[i];

		t.sent += l->sent;
		t.taken += l->taken;
		t.told += l->told;
		t.refused += l->refused;
		t.torn += l->torn;
		t.doubled += l->doubled;
		t.untold += l->untold;
		t.invented += l->invented;
		t.innocent += l->innocent;
		if (l->words[0] != '\0')
			fprintf(stderr, "life %u: %.*s\n", i, WORDS, l->words);
	}
	t.leaked = leaked();
	return t;
}

static void row(const char *what, uint64_t count)
{
	printf("%-38s %10llu\n", what, (unsigned long long)count);
}

static void table(unsigned events, const struct totals *t)
{
	row("events", events);
	for (int i = 0; i < KINDS; i++)
		printf("  %-19s killed           %10u\n", kinds[i], killed[i]);
	row("  daemons killed", daemons_killed);
	row("  zcp-gc killed", collectors_killed);
	row("  stopped", stops);
	row("  out of descriptors", limits);
	row("messages published", t->sent);
	row("messages taken", t->taken);
	row("losses told", t->told);
	row("calls that failed, and said so", t->refused);
	row("torn", t->torn);
	row("doubled", t->doubled);
	row("readers with untold losses", t->untold);
	row("readers told of losses that were none", t->invented);
	row("innocents ended", t->innocent);
	row("chunks leaked", t->leaked);
	row("processes that did not end", stuck);
}

static struct settings chaos_settings(void)
{
	struct settings s = bus_settings();

	s.pool[0] = (struct pool_setting){ 128, 128 };
	s.pool[1] = (struct pool_setting){ 1024, 64 };
	s.pool[2] = (struct pool_setting){ 4096, 32 };
	s.pools = 3;
	s.max_participants = 128;
	s.max_ports = 1024;
	s.max_links = 16384;
	s.heartbeat = 100 * NS_PER_MS;
	return s;
}

START_TEST(chaos_harms_nobody_but_its_victims)
{
	const char *text = getenv("ZCP_CHAOS");
	unsigned events = text != NULL ? (unsigned)strtoul(text, NULL, 10) :
	    EVENTS;
	struct totals t;

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ck_assert_ptr_ne(shared, MAP_FAILED);
	settings = chaos_settings();
	daemon_pid = bus_start(&settings);
	begin();
	for (unsigned i = 0; i < events; i++) {
		second_half = i >= events / 2;
		event();
		usleep(torture_random() % 8000);
	}
	let_all_go_on();
	finish(false);
	finish(true);
	t = add_up();
	table(events, &t);
	ck_assert_uint_eq(t.torn + t.doubled + t.untold + t.invented +
	    t.innocent + t.leaked + stuck, 0);
	bus_stop();
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("chaos");

	log_threshold = LOG_LEVEL_ERROR;
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("seed %u\n", torture_seed());
	tcase_set_timeout(t, 0);
	tcase_add_test(t, chaos_harms_nobody_but_its_victims);
	return run_tests("chaos", t);
}
