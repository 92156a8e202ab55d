/*
 * looks.c - whatever somebody cannot look at says nothing: each system call by
 * which the dead are told from the living fails in turn, once or from then on,
 * for want of descriptors, memory or permission, or for a signal.  Nobody who
 * lives is ended, nothing of theirs is freed, a message says why; and when it
 * works again, what the dead left comes back.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "atomics.h"
#include "audit.h"
#include "innocents.h"
#include "log.h"
#include "measure.h"
#include "routed/gc.h"
#include "tracer.h"
#include "world.h"

enum { POOL = 48, RING = 8, LOANS = 2, FAILURES_TOLD = 40 };
#define HEARTBEAT (20 * NS_PER_MS)

/* ---- what fails ------------------------------------------------------------------- */

/* One call fails, or that one and all of its kind behind it. */
struct blow {
	unsigned at;			/* 1, 2, ... of the looks */
	int error;
	bool for_good;
	/* what it was */
	bool struck;
	long number;
	char call[160];
};

static const int errors[] = { EMFILE, ENFILE, EACCES, ENOMEM, EINTR };
enum { ERRORS = sizeof(errors) / sizeof(errors[0]) };

/* What a call looks at: a descriptor or a path in an argument. */
enum at { NOTHING, DESCRIPTOR, PROC_DESCRIPTOR, PATH_0, PATH_1 };

static const struct look {
	long number;
	const char *name;
	enum at at;
	bool makes;			/* a descriptor */
} looks[] = {
#ifdef SYS_open
	{ SYS_open, "open", PATH_0, true },
	{ SYS_stat, "stat", PATH_0, false },
	{ SYS_lstat, "lstat", PATH_0, false },
	{ SYS_access, "access", PATH_0, false },
#endif
	{ SYS_openat, "openat", PATH_1, true },
	{ SYS_newfstatat, "newfstatat", PATH_1, false },
	{ SYS_faccessat, "faccessat", PATH_1, false },
	{ SYS_pidfd_open, "pidfd_open", NOTHING, true },
	{ SYS_fstat, "fstat", DESCRIPTOR, false },
	{ SYS_read, "read", PROC_DESCRIPTOR, false },
	{ SYS_pread64, "pread", DESCRIPTOR, false },
	{ SYS_mmap, "mmap", NOTHING, false },
	{ SYS_fcntl, "fcntl", DESCRIPTOR, false },
	{ SYS_membarrier, "membarrier", NOTHING, false },
	{ SYS_kill, "kill", NOTHING, false },
	{ SYS_getdents64, "getdents", DESCRIPTOR, false },
	{ SYS_lseek, "lseek", DESCRIPTOR, false },
	{ SYS_fallocate, "fallocate", DESCRIPTOR, false },
	{ SYS_socket, "socket", NOTHING, true },
};
enum { LOOKS = sizeof(looks) / sizeof(looks[0]) };

static const struct look *look_of(long number)
{
	for (int i = 0; i < LOOKS; i++)
		if (looks[i].number == number)
			return &looks[i];
	return NULL;
}

static void place_of(struct victim *v, const struct look *look,
    const struct call *c, char *place, size_t size)
{
	char link[64];
	ssize_t n;

	*place = '\0';
	if (look->at == PATH_0 || look->at == PATH_1) {
		victim_text(v, c->arg[look->at == PATH_1], place, size);
	} else if (look->at != NOTHING) {
		snprintf(link, sizeof(link), "/proc/%d/fd/%d", (int)v->pid,
		    (int)c->arg[0]);
		n = readlink(link, place, size - 1);
		place[n < 0 ? 0 : n] = '\0';
	}
}

/* Which of the looks it is that this victim is about to take; NULL: none. */
static const struct look *look_now(struct victim *v, char *place, size_t size)
{
	const struct look *look;
	struct call c;

	if (!victim_call(v, &c) || (look = look_of(c.number)) == NULL)
		return NULL;
	place_of(v, look, &c, place, size);
	/* What it is told by a pipe or a socket is no look. */
	return look->at == PROC_DESCRIPTOR && strncmp(place, "/proc/", 6) != 0 ?
	    NULL : look;
}

/* A process that has no descriptors left gets none by whatever call. */
static bool of_the_kind(const struct look *look, const struct blow *b)
{
	const struct look *first = look_of(b->number);

	return look == first || (look->makes && first->makes &&
	    (b->error == EMFILE || b->error == ENFILE));
}

/* To its next mark or end, or until it is over; the blow falls on the way. */
static void run_struck(struct victim *v, struct blow *b, bool (*over)(void))
{
	unsigned n = 0;

	while (victim_step_call(v)) {
		char place[100];
		const struct look *look = look_now(v, place, sizeof(place));

		if (over != NULL && over())
			return;
		if (look == NULL || ++n < b->at)
			continue;
		if (n == b->at) {
			b->struck = true;
			b->number = look->number;
			snprintf(b->call, sizeof(b->call), "%s(%s)",
			    look->name, place);
		} else if (!b->for_good || !of_the_kind(look, b)) {
			continue;
		}
		if (!victim_fail_call(v, b->error))
			return;
	}
}

/* ---- the world ---------------------------------------------------------------------- */

/* What a victim has to say, in memory that it shares with this process. */
struct outcome {
	volatile int rounds;		/* operations done */
	int rc;
	char accused[300];		/* whom it has told of as dead, who lives */
	char message[1024];
	volatile int got;		/* messages, by a sleeper that was woken */
};

static struct world_of_looks {
	struct settings settings;
	struct innocents in;
	pid_t daemon;			/* not traced */
	struct victim routed;		/* traced */
	bool traced;
	struct outcome *out;
	int log;			/* what the traced daemon says */
	uint32_t free;			/* chunks, when only innocents are there */
	pid_t mortal;
	int mortal_says, mortal_hears;
	char fault[FAULT];		/* what is wrong; "": nothing */
} w;

__attribute__((format(printf, 1, 2)))
static void fault(const char *format, ...)
{
	va_list ap;

	if (w.fault[0] != '\0')
		return;			/* what follows, follows from that */
	va_start(ap, format);
	vsnprintf(w.fault, sizeof(w.fault), format, ap);
	va_end(ap);
}

static bool comes(bool (*condition)(void))
{
	uint64_t deadline = deadline_after(PATIENCE);

	while (!condition() && clock_ns() < deadline)
		usleep(500);
	return condition();
}

static uint32_t chunks_free(void)
{
	const struct pool *pool = &w.in.d.pools.pool[0];
	uint32_t n = 0;

	for (uint32_t i = 0; i < pool_count(pool); i++)
		n += word_state(word_load(&pool->word[i])) == CHUNK_FREE;
	return n;
}

static bool only_innocents(void)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < w.in.d.max_participants; i++)
		n += fact_load32(&w.in.d.participants[i].state) !=
		    PARTICIPANT_FREE;
	return n <= INNOCENTS && chunks_free() >= w.free;
}

static void tell_nothing(void *arg, const char *text)
{
	(void)arg;
	(void)text;
}

static bool all_in_order(void)
{
	return audit(&w.in.d, tell_nothing, NULL) == 0;
}

static void check_innocents(const char *when)
{
	char what[FAULT];

	if (!innocents_safe(&w.in, what))
		fault("%s: %.300s", when, what);
}

/* A message that says what could not be looked at, or why not. */
static bool tells(const char *text, int error)
{
	return strstr(text, strerror(error)) != NULL ||
	    strstr(text, "/proc/") != NULL || strstr(text, "/dev/shm") != NULL ||
	    (error == ENOMEM && (strstr(text, "out of memory") != NULL ||
	    strstr(text, strerror(EAGAIN)) != NULL)) ||	/* pthread_create(3) */
	    (error == EINTR && strstr(text, "interrupted") != NULL);
}

/* ---- one that dies -------------------------------------------------------------------- */

enum mortal_kind { DIES_LENDING, DIES_READING, SLEEPS, JOINS };

static void say(int fd)
{
	if (write(fd, "", 1) != 1)
		_exit(3);
}

static void hear(int fd)
{
	char byte;

	if (read(fd, &byte, 1) != 1)
		_exit(3);
}

static int mortal_line[2];

static void mortal_lends(zcp *bus)
{
	zcp_pub_options o = { .slots = RING };
	zcp_chunk chunk;
	zcp_pub *pub;

	need(zcp_offer(bus, "d", &o, &pub));
	for (int i = 0; i < LOANS; i++)
		need(zcp_loan(pub, PIECE, &chunk, PATIENCE));
}

/* It keeps the first message of the victim's, and reads no more until told. */
static void mortal_reads(zcp *bus, bool lossy)
{
	zcp_sub_options o = { .lossy = lossy };
	zcp_sub *sub;
	zcp_msg msg;
	int rc;

	need(zcp_subscribe(bus, "v", &o, &sub));
	say(mortal_line[1]);
	if (lossy)
		return;
	while ((rc = zcp_take(sub, &msg)) == 0)
		need(zcp_wait(sub, PATIENCE));
	need(rc);
	say(mortal_line[1]);
	hear(mortal_line[1]);
	for (w.out->got = 1; (rc = zcp_take(sub, &msg)) == 1; w.out->got++)
		zcp_release(sub, &msg);
	say(mortal_line[1]);
}

static void mortal_lives(void *arg)
{
	enum mortal_kind kind = *(enum mortal_kind *)arg;
	zcp_options o = { .name = "mortal" };
	zcp *bus = open_patiently(&o);

	if (kind == DIES_LENDING || kind == DIES_READING)
		mortal_lends(bus);
	if (kind != DIES_LENDING)
		mortal_reads(bus, kind == JOINS);
	else
		say(mortal_line[1]);
	for (;;)
		pause();
}

static void mortal_start(enum mortal_kind kind)
{
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0,
	    mortal_line), 0);
	w.mortal = in_process(mortal_lives, &kind);
	close(mortal_line[1]);
	hear(mortal_line[0]);
}

static void mortal_dies(void)
{
	if (w.mortal == 0)
		return;
	kill_process(w.mortal);
	close(mortal_line[0]);
	w.mortal = 0;
}

/* ---- the daemon ------------------------------------------------------------------------- */

static void daemon_ready(const struct routed *r)
{
	(void)r;
	victim_mark();
}

static void daemon_lives(void *arg)
{
	static struct routed r;

	(void)arg;
	dup2(w.log, STDERR_FILENO);
	log_threshold = LOG_LEVEL_WARN;
	victim_mark();
	w.out->rc = routed_run(&r, &w.settings, daemon_ready);
	snprintf(w.out->message, sizeof(w.out->message), "%s", zcp_errmsg());
	_exit(w.out->rc < 0);
}

static void daemon_stop(void)
{
	int status;

	ck_assert_int_eq(kill(w.daemon, SIGSTOP), 0);
	ck_assert_int_eq(waitpid(w.daemon, &status, WUNTRACED), w.daemon);
	ck_assert(WIFSTOPPED(status));
}

static void daemon_goes_on(void)
{
	ck_assert_int_eq(kill(w.daemon, SIGCONT), 0);
}

static void log_forget(void)
{
	ck_assert_int_eq(ftruncate(w.log, 0), 0);
}

static bool log_tells(int error)
{
	static char text[65536];
	ssize_t n = pread(w.log, text, sizeof(text) - 1, 0);

	text[n < 0 ? 0 : n] = '\0';
	return tells(text, error);
}

/* ---- from nothing, and back ------------------------------------------------------------------ */

static void world_begin(bool traced)
{
	w.traced = traced;
	w.daemon = bus_start(&w.settings);
	w.settings.domain = bus_domain;
	if (traced) {
		bus_end_daemon();
		victim_start(&w.routed, daemon_lives, NULL);
		victim_run(&w.routed);
		victim_let_go(&w.routed);
	}
	innocents_start(&w.in);
	w.free = chunks_free();
	ck_assert(all_in_order());
}

/* Everybody ends in order, and nothing is left. */
static void world_end(void)
{
	char what[FAULT];

	if (!innocents_end(&w.in, what))
		fault("at the end: %.300s", what);
	if (w.traced) {
		victim_halt(&w.routed);
		victim_kill(&w.routed);
		bus_restart(&w.settings);
	}
	bus_stop();
}

/* Something was wrong: whatever is left goes. */
static void world_clear(void)
{
	if (w.mortal != 0)
		mortal_dies();
	innocents_kill(&w.in);
	if (w.traced)
		victim_kill(&w.routed);
	else if (kill(w.daemon, 0) == 0)
		kill_process(w.daemon);
	bus_remove();
	bus_restart(&w.settings);
	bus_stop();
}

static bool settled(void)
{
	innocents_read_on(&w.in);
	return only_innocents();
}

/* The others are forgotten, and all that was theirs is free. */
static void world_settles(void)
{
	if (w.fault[0] != '\0')
		return;
	if (!comes(settled))
		fault("what the dead left was not taken back: %u of %u chunks "
		    "are free", chunks_free(), w.free);
	if (!comes(all_in_order))
		fault("an invariant is violated");
	check_innocents("at last");
}

/* ---- what a client does ------------------------------------------------------------------------ */

struct part {
	zcp *bus;
	zcp_pub *pub;
	zcp_sub *sub;
	uint64_t sent;
};

static void part_open(struct part *p)
{
	zcp_options o = { .name = "victim" };
	zcp_pub_options q = { .slots = RING };

	p->bus = open_patiently(&o);
	need(zcp_offer(p->bus, "v", &q, &p->pub));
}

static int loan_one(struct part *p)
{
	zcp_chunk chunk;
	int rc = zcp_loan(p->pub, PIECE, &chunk, 0);

	if (rc == 0)
		memset(chunk.data, 0xee, chunk.size);
	return rc;
}

static void open_and_starve(struct part *p)
{
	part_open(p);
	while (loan_one(p) == 0)
		;
}

/* Each of the messages in a chunk of its own. */
static int send_until(struct part *p, uint64_t count, int64_t timeout)
{
	char message[PIECE];
	int rc = 1;

	while (p->sent < count && rc == 1) {
		payload_write(message, VICTIM, p->sent, PIECE);
		rc = zcp_send(p->pub, message, PIECE, 0, timeout);
		p->sent += rc == 1;
	}
	return rc;
}

enum { BEFORE = 3, AFTER = BEFORE + RING - 1 };

static void open_and_send(struct part *p)
{
	part_open(p);
	need(zcp_pub_wait_readers(p->pub, 1, PATIENCE));
	need(send_until(p, BEFORE, 0));
}

static void open_and_send_to_two(struct part *p)
{
	part_open(p);
	need(zcp_pub_wait_readers(p->pub, 2, PATIENCE));
	need(send_until(p, BEFORE, 0));
}

static int send_more(struct part *p)
{
	return send_until(p, AFTER, 0);
}

static int send_past_the_dead(struct part *p)
{
	return send_until(p, AFTER, 150 * NS_PER_MS);
}

/* The ring is full for one who lives, and stays so. */
static int send_in_vain(struct part *p)
{
	return send_until(p, AFTER, 2 * NS_PER_MS);
}

/* A segment of a domain that is in use, or somebody who lives.  What a live
 * publisher has not taken back yet may go. */
static void accuse(void *arg, const struct gc_item *item)
{
	bool mortal = item->name != NULL && strcmp(item->name, "mortal") == 0;

	(void)arg;
	if (mortal || item->what == GC_SOCKET || (item->what == GC_CHUNKS &&
	    strstr(item->why, "died") == NULL))
		return;
	snprintf(w.out->accused, sizeof(w.out->accused), "%s: %s",
	    item->name != NULL ? item->name : item->file, item->why);
}

static int collect(struct part *p)
{
	(void)p;
	return gc_domain(bus_domain, false, accuse, NULL);
}

static int collect_dry(struct part *p)
{
	(void)p;
	return gc_domain(bus_domain, true, accuse, NULL);
}

static void part_close(struct part *p)
{
	zcp_unsubscribe(&p->sub);
	zcp_stop_offer(&p->pub);
	if (p->bus != NULL)
		zcp_close(&p->bus);
}

static int join_for(struct part *p, int64_t timeout)
{
	zcp_options o = { .name = "victim", .timeout = timeout };
	zcp_pub_options q = { .slots = RING };
	zcp_sub_options r = { .lossy = 1 };
	int rc;

	if ((rc = zcp_open(&p->bus, &o)) < 0 ||
	    (rc = zcp_offer(p->bus, "v", &q, &p->pub)) < 0 ||
	    (rc = zcp_subscribe(p->bus, "s", &r, &p->sub)) < 0)
		goto out;
	p->sent = 0;
	rc = send_until(p, 1, NS_PER_S);
out:
	snprintf(w.out->message, sizeof(w.out->message), "%s", zcp_errmsg());
	part_close(p);
	return rc;
}

/* A call that fails for good is a daemon that never answers. */
static int join(struct part *p)
{
	return join_for(p, 300 * NS_PER_MS);
}

/* ---- scenes of clients ------------------------------------------------------------------------- */

enum daemon_does { SERVES, IS_STOPPED, IS_KILLED };

static const struct scene {
	const char *name;
	unsigned every;			/* look that fails in a bounded run */
	enum mortal_kind kind;
	enum daemon_does daemon;
	void (*prepare)(struct part *p);
	int (*run)(struct part *p);
	bool holds;			/* the holder takes what it has sent */
	bool vain;			/* it cannot work while somebody sleeps */
	void (*visit)(const struct scene *s, struct blow *b);
	bool traced;
} scenes[];


static void client_lives(void *arg)
{
	const struct scene *s = arg;
	struct part p = { 0 };

	if (s->prepare != NULL)
		s->prepare(&p);
	dup2(w.log, STDERR_FILENO);
	for (;;) {
		victim_mark();
		w.out->message[0] = '\0';
		w.out->rc = s->run(&p);
		if (w.out->rc < 0 && s->run != join)
			snprintf(w.out->message, sizeof(w.out->message), "%s",
			    zcp_errmsg());
		w.out->rounds++;
	}
}

/* What is there while the victim does it. */
static void set_scene(const struct scene *s)
{
	if (s->holds)
		innocents_take(&w.in);
	if (s->kind == DIES_READING || s->kind == SLEEPS)
		hear(mortal_line[0]);
	if (s->kind == JOINS)
		mortal_start(JOINS);
	if (s->daemon == IS_STOPPED)
		daemon_stop();
	else if (s->daemon == IS_KILLED)
		bus_kill();
	if (s->kind == SLEEPS) {
		int status;

		kill(w.mortal, SIGSTOP);
		waitpid(w.mortal, &status, WUNTRACED);
	} else if (s->kind != JOINS && s->daemon != SERVES) {
		mortal_dies();
	}
}

static void end_scene(const struct scene *s, struct victim *v)
{
	victim_kill(v);
	mortal_dies();
	if (s->daemon == IS_STOPPED)
		daemon_goes_on();
	else if (s->daemon == IS_KILLED)
		w.daemon = bus_restart(&w.settings);
	world_settles();
}

/* Who slept has lost nothing, and then there is room. */
static void sleeper_wakes(const struct scene *s, struct victim *v)
{
	uint64_t most = 1 + RING;

	kill(w.mortal, SIGCONT);
	say(mortal_line[0]);
	hear(mortal_line[0]);
	if (w.out->got < (int)most - 1)
		fault("a reader that slept got %d messages, not %d",
		    w.out->got, (int)most);
	victim_run(v);
	(void)s;
	if (v->ended || w.out->rc < 0)
		fault("it does not go on when the reader has: %.200s",
		    w.out->message);
}

static void check_outcome(const struct scene *s, const struct blow *b,
    const struct victim *v)
{
	if (v->ended)
		fault("it ended with %#x", v->status);
	else if (w.out->accused[0] != '\0')
		fault("it says of %.200s", w.out->accused);
	else if (b->struck && w.out->rc < 0 && !s->vain &&
	    !tells(w.out->message, b->error))
		fault("its message does not tell: %.300s", w.out->message);
}

static void visit_client(const struct scene *s, struct blow *b)
{
	struct victim v;

	if (s->kind != JOINS)
		mortal_start(s->kind);
	victim_start(&v, client_lives, (void *)s);
	set_scene(s);
	memset(w.out, 0, sizeof(*w.out));
	run_struck(&v, b, NULL);
	check_innocents("then");
	check_outcome(s, b, &v);
	if (w.fault[0] == '\0' && s->kind == SLEEPS) {
		sleeper_wakes(s, &v);
	} else if (w.fault[0] == '\0') {
		victim_run(&v);
		check_innocents("when it works again");
		if (v.ended || w.out->rc < 0)
			fault("the next time it fails, too: %.300s",
			    w.out->message);
	}
	end_scene(s, &v);
}

/* ---- scenes of the daemon -------------------------------------------------------------------------- */

static void visit_adoption(const struct scene *s, struct blow *b)
{
	struct victim v;

	(void)s;
	mortal_start(DIES_LENDING);
	bus_kill();
	mortal_dies();
	memset(w.out, 0, sizeof(*w.out));
	log_forget();
	victim_start(&v, daemon_lives, NULL);
	run_struck(&v, b, NULL);
	check_innocents("then");
	if (v.ended && (WIFSIGNALED(v.status) || w.out->rc >= 0))
		fault("it ended with %#x", v.status);
	else if (v.ended && !tells(w.out->message, b->error))
		fault("its message does not tell: %.300s", w.out->message);
	if (w.fault[0] == '\0' && !v.ended) {
		victim_let_go(&v);
		if (!comes(only_innocents))
			fault("it does not take back what the dead one left");
		check_innocents("when it works again");
		victim_halt(&v);
	}
	victim_kill(&v);
	w.daemon = bus_restart(&w.settings);
	world_settles();
}

static uint64_t window;
static const struct blow *falls;

/* The tick has come round twice, and the dead one is gone, or the log says why
 * it is not; or neither will ever be. */
static bool tick_is_over(void)
{
	uint64_t since = clock_ns() - window;

	return since > PATIENCE || (since > 2 * HEARTBEAT &&
	    (only_innocents() || (falls->struck && log_tells(falls->error))));
}

static void visit_tick(const struct scene *s, struct blow *b)
{
	(void)s;
	mortal_start(DIES_LENDING);
	victim_halt(&w.routed);
	log_forget();
	mortal_dies();
	window = clock_ns();
	falls = b;
	run_struck(&w.routed, b, tick_is_over);
	check_innocents("then");
	if (w.routed.ended) {
		fault("the daemon ended with %#x", w.routed.status);
		return;
	}
	if (b->struck && !only_innocents() && !log_tells(b->error))
		fault("the dead one is still there, and the log does not say "
		    "why");
	victim_let_go(&w.routed);
	world_settles();
}

static void joins_once(void *arg)
{
	struct part p = { 0 };

	(void)arg;
	w.out->rc = join_for(&p, PATIENCE);
	w.out->rounds++;
	for (;;)
		pause();
}

static bool has_joined(void)
{
	return w.out->rounds > 0;
}

static void visit_registration(const struct scene *s, struct blow *b)
{
	pid_t client;

	(void)s;
	victim_halt(&w.routed);
	log_forget();
	memset(w.out, 0, sizeof(*w.out));
	client = in_process(joins_once, NULL);
	run_struck(&w.routed, b, has_joined);
	check_innocents("then");
	if (w.routed.ended)
		fault("the daemon ended with %#x", w.routed.status);
	else if (w.out->rc < 0 && !tells(w.out->message, b->error))
		fault("the client's message does not tell: %.300s",
		    w.out->message);
	if (!w.routed.ended)
		victim_let_go(&w.routed);
	kill_process(client);
	if (w.fault[0] != '\0')
		return;
	memset(w.out, 0, sizeof(*w.out));
	client = in_process(joins_once, NULL);
	if (!comes(has_joined) || w.out->rc < 0)
		fault("the next client is refused, too: %.300s",
		    w.out->message);
	kill_process(client);
	world_settles();
}

/* ---- all of them --------------------------------------------------------------------------------------- */

static const struct scene scenes[] = {
	{ "sweep", 17, DIES_LENDING, IS_STOPPED, open_and_starve, loan_one,
	    false, false, visit_client, false },
	{ "reclaim", 1, JOINS, SERVES, open_and_send, send_more,
	    true, false, visit_client, false },
	{ "bury", 7, DIES_READING, IS_STOPPED, open_and_send_to_two,
	    send_past_the_dead, true, false, visit_client, false },
	{ "wait", 3, SLEEPS, IS_STOPPED, open_and_send_to_two, send_in_vain,
	    true, true, visit_client, false },
	{ "join", 17, DIES_LENDING, SERVES, NULL, join,
	    false, false, visit_client, false },
	{ "gc-beside", 61, DIES_LENDING, IS_STOPPED, NULL, collect,
	    false, false, visit_client, false },
	{ "gc-alone", 61, DIES_LENDING, IS_KILLED, NULL, collect,
	    false, false, visit_client, false },
	{ "gc-dry", 61, DIES_LENDING, IS_KILLED, NULL, collect_dry,
	    false, false, visit_client, false },
	{ .name = "adoption", .every = 17, .visit = visit_adoption },
	{ .name = "tick", .every = 7, .visit = visit_tick, .traced = true },
	{ .name = "registration", .every = 5, .visit = visit_registration,
	    .traced = true },
};
enum { SCENES = sizeof(scenes) / sizeof(scenes[0]) };

static unsigned failures;

static void tell_failure(const struct scene *s, const struct blow *b)
{
	if (failures++ < FAILURES_TOLD)
		printf("%s: look %u, %s = %s%s: %s\n", s->name, b->at,
		    b->struck ? b->call : "none", strerrorname_np(b->error),
		    b->for_good ? " from then on" : "", w.fault);
}

/* False: it has come to its end before. */
static bool visit(const struct scene *s, struct blow *b)
{
	w.fault[0] = '\0';
	alarm(120);			/* whoever waits for ever */
	s->visit(s, b);
	alarm(0);
	if (w.fault[0] != '\0') {
		tell_failure(s, b);
		world_clear();
		world_begin(s->traced);
	}
	return b->struck;
}

static unsigned visit_all(const struct scene *s, int error, bool for_good)
{
	unsigned step = torture_full() ? 1 : s->every, points = 0;
	struct blow b = { .at = 1 + torture_random() % step, .error = error,
	    .for_good = for_good };

	for (; visit(s, &b) && failures < FAILURES_TOLD; points++) {
		b.at += step;
		b.struck = false;
	}
	return points;
}

START_TEST(could_not_look_is_not_dead)
{
	const struct scene *s = &scenes[_i];
	unsigned once = 0, for_good = 0;

	w.settings = bus_settings();
	w.settings.pool[0] = (struct pool_setting){ 128, POOL };
	w.settings.pools = 1;
	/* A reader that sleeps must not be demoted before the daemon is stopped,
	 * however slow the machine. */
	w.settings.heartbeat = s->kind == SLEEPS ? PATIENCE : HEARTBEAT;
	w.out = mmap(NULL, sizeof(*w.out), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(w.out, MAP_FAILED);
	w.log = open("/tmp", O_TMPFILE | O_RDWR | O_APPEND | O_CLOEXEC, 0600);
	ck_assert_int_ge(w.log, 0);
	world_begin(s->traced);
	for (int i = 0; i < ERRORS; i++) {
		once += visit_all(s, errors[i], false);
		if (errors[i] != EINTR)
			for_good += visit_all(s, errors[i], true);
	}
	world_end();
	printf("%-14s %u looks failed once, %u from then on: %u of them did "
	    "harm\n", s->name, once, for_good, failures);
	ck_assert_msg(failures == 0 && w.fault[0] == '\0', "%u failed looks "
	    "did harm %s", failures, w.fault);
}
END_TEST

/* looks [SCENE] */
int main(int argc, char **argv)
{
	TCase *t = tcase_create("looks");

	log_threshold = LOG_LEVEL_ERROR;
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("seed %u\n", torture_seed());
	tcase_set_timeout(t, 0);
	for (int i = 0; i < SCENES; i++)
		if (argc < 2 || strcmp(argv[1], scenes[i].name) == 0)
			tcase_add_loop_test(t, could_not_look_is_not_dead, i,
			    i + 1);
	return run_tests("torture", t);
}
