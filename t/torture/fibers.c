#include "fibers.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#include "clock.h"
#include "futex.h"
#include "stepped.h"
#include "stepped_futex.h"
#include "xorshift.h"

enum { STACK = 512 * 1024, BUFFER = 64, WORDS = 128, RESTS_MOST = 20 };
#define STEPS_MOST UINT64_C(3000000)

/* A store on its way; word NULL: a release fence, which none passes. */
struct store {
	volatile void *word;
	unsigned size;
	uint64_t value;
	bool release;
};

struct fiber {
	const char *name;
	void (*role)(void *);
	void *arg;
	ucontext_t context;
	char *stack;
	struct store buffer[BUFFER];
	unsigned stores;
	enum { READY, SLEEPING, WAITING, RESTING, DONE, KILLED } state;
	bool (*until)(void *);		/* waits for this */
	void *until_arg;
	uint64_t sleeps_on[WORDS];	/* places */
	unsigned words;
	bool overslept, rester;
	uint64_t steps;
	uint64_t stalled_until;		/* of all steps */
	uint32_t pauses;
};

uint64_t stepped_kill_at, stepped_count;

static struct fiber fibers[FIBERS];
static int count;
static __thread struct fiber *current;
static ucontext_t scheduler;
static struct course course;
static uint32_t state;
static uint64_t steps, oversleeps;
static struct fiber *locked_by;
static bool stalled;			/* course.stall has been */
static unsigned rests;			/* turns in a row that only resters had */

/* A run is its seed. */
uint32_t fibers_random(void)
{
	return xorshift(&state);
}

/*
 * Fibers have a time of their own, so that a run is the same each time: a
 * tenth of a microsecond a step, and what was overslept.
 */
uint64_t clock_ns(void)
{
	struct timespec t;

	if (count > 0)
		return UINT64_C(1000000000) + steps * 100 +
		    oversleeps * 100000000;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* ---- memory ------------------------------------------------------------------- */

static uint64_t read_word(const volatile void *word, unsigned size)
{
	return size == 8 ?
	    atomic_load((const volatile _Atomic uint64_t *)word) :
	    atomic_load((const volatile _Atomic uint32_t *)word);
}

static void write_word(volatile void *word, unsigned size, uint64_t value)
{
	if (size == 8)
		atomic_store((volatile _Atomic uint64_t *)word, value);
	else
		atomic_store((volatile _Atomic uint32_t *)word,
		    (uint32_t)value);
}

static void take_out(struct fiber *f, unsigned i)
{
	if (f->buffer[i].word != NULL)
		write_word(f->buffer[i].word, f->buffer[i].size,
		    f->buffer[i].value);
	memmove(&f->buffer[i], &f->buffer[i + 1],
	    (--f->stores - i) * sizeof(f->buffer[0]));
}

/* May entry `i` become visible before those in front of it? */
static bool may_pass(const struct fiber *f, unsigned i)
{
	if (i == 0)
		return true;
	if (!course.weak || f->buffer[i].release || f->buffer[i].word == NULL)
		return false;
	for (unsigned k = 0; k < i; k++)
		if (f->buffer[k].word == NULL ||
		    f->buffer[k].word == f->buffer[i].word)
			return false;
	return true;
}

static void drain_one(struct fiber *f)
{
	unsigned i = fibers_random() % f->stores;

	while (!may_pass(f, i))
		i--;
	take_out(f, i);
}

static void drain_all(struct fiber *f)
{
	while (f->stores > 0)
		take_out(f, 0);
}

static void push(struct fiber *f, volatile void *word, unsigned size,
    uint64_t value, bool release)
{
	if (f->stores == BUFFER)
		take_out(f, 0);
	f->buffer[f->stores++] = (struct store){ word, size, value, release };
}

/* ---- steps ----------------------------------------------------------------------- */

static void give_turn_away(void)
{
	struct fiber *f = current;

	current = NULL;
	swapcontext(&f->context, &scheduler);
	current = f;
}

void fiber_die(void)
{
	current->state = KILLED;
	give_turn_away();
	abort();
}

static bool turn_is_over(void)
{
	if (current - fibers == course.stall && !stalled &&
	    current->steps >= course.stall_at && locked_by != current) {
		stalled = true;
		current->stalled_until = course.then >= 0 ? UINT64_MAX :
		    steps + course.stall_for;
		return true;
	}
	if (current->stalled_until > steps)
		return true;
	if (course.preempt >= 0)
		return steps == course.preempt_at;
	return fibers_random() % course.calm == 0;
}

static void step(void)
{
	struct fiber *f = current;

	if (f == NULL) {
		if (++stepped_count == stepped_kill_at)
			kill(getpid(), SIGKILL);
		return;
	}
	f->steps++;
	steps++;
	for (int i = 0; i < count; i++)
		if (fibers[i].stores > 0 &&
		    fibers_random() % course.lazy == 0)
			drain_one(&fibers[i]);
	/* In the daemon's place it is the daemon that runs, and goes on. */
	if (f - fibers == course.kill && f->steps >= course.kill_at &&
	    locked_by != f)
		fiber_die();
	if (turn_is_over() || steps > STEPS_MOST)
		give_turn_away();
}

/* The one that waited for this pause goes on, and who made it stops. */
static void hand_over(struct fiber *f)
{
	fibers[course.stall].stalled_until = 0;
	f->stalled_until = steps + course.stall_for;
}

void fiber_pause(void)
{
	if (current != NULL && current - fibers == course.then && stalled &&
	    ++current->pauses == course.then_pause)
		hand_over(current);
	step();
}

void fiber_rest(void)
{
	current->rester = true;
	current->state = RESTING;
	rests++;
	give_turn_away();
	current->state = READY;
}

void fiber_wait(bool (*until)(void *), void *arg)
{
	current->until = until;
	current->until_arg = arg;
	while (!until(arg)) {
		current->state = WAITING;
		give_turn_away();
	}
}

static void end_waits(void)
{
	for (int i = 0; i < count; i++)
		if (fibers[i].state == WAITING &&
		    fibers[i].until(fibers[i].until_arg))
			fibers[i].state = READY;
}

uint64_t stepped_load(const volatile void *word, unsigned size, int order)
{
	(void)order;
	step();
	if (current != NULL)
		for (unsigned i = current->stores; i-- > 0;)
			if (current->buffer[i].word == word)
				return current->buffer[i].value;
	return read_word(word, size);
}

void stepped_store(volatile void *word, unsigned size, uint64_t value,
    int order)
{
	step();
	if (current == NULL)
		write_word(word, size, value);
	else
		push(current, word, size, value, order != memory_order_relaxed);
}

/* Before an operation that reads and writes at once. */
static void settle(void)
{
	step();
	if (current != NULL)
		drain_all(current);
}

uint64_t stepped_or(volatile void *word, unsigned size, uint64_t bits)
{
	settle();
	return size == 8 ?
	    atomic_fetch_or((volatile _Atomic uint64_t *)word, bits) :
	    atomic_fetch_or((volatile _Atomic uint32_t *)word, (uint32_t)bits);
}

uint64_t stepped_and(volatile void *word, unsigned size, uint64_t bits)
{
	settle();
	return size == 8 ?
	    atomic_fetch_and((volatile _Atomic uint64_t *)word, bits) :
	    atomic_fetch_and((volatile _Atomic uint32_t *)word, (uint32_t)bits);
}

bool stepped_cas64(volatile void *word, uint64_t *from, uint64_t to)
{
	settle();
	return atomic_compare_exchange_strong(
	    (volatile _Atomic uint64_t *)word, from, to);
}

bool stepped_cas32(volatile void *word, uint32_t *from, uint32_t to)
{
	settle();
	return atomic_compare_exchange_strong(
	    (volatile _Atomic uint32_t *)word, from, to);
}

void stepped_fence(int order)
{
	step();
	if (current == NULL)
		return;
	if (order == memory_order_seq_cst)
		drain_all(current);
	else if (order == memory_order_release)
		push(current, NULL, 0, 0, true);
}

/* Every processor on which one of us runs passes a full fence. */
long stepped_membarrier(void)
{
	settle();
	if (current == NULL)
		return syscall(__NR_membarrier,
		    MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0);
	for (int i = 0; i < count; i++)
		drain_all(&fibers[i]);
	return 0;
}

/* ---- words that are mapped several times ---- */

static struct {
	const char *base;
	uint64_t size;
} maps[2 * FIBERS];

void fibers_map(const void *base, uint64_t size)
{
	int i = 0;

	while (maps[i].base != NULL)
		i++;
	maps[i].base = base;
	maps[i].size = size;
}

void fibers_unmap(const void *base)
{
	for (int i = 0; i < 2 * FIBERS; i++)
		if (maps[i].base == base)
			maps[i].base = NULL;
}

/* Its place, the same through whichever mapping. */
static uint64_t place_of(const volatile void *word)
{
	const char *at = (const char *)word;

	for (int i = 0; i < 2 * FIBERS; i++)
		if (maps[i].base != NULL && at >= maps[i].base &&
		    at < maps[i].base + maps[i].size)
			return (uint64_t)(at - maps[i].base);
	abort();
}

/* ---- sleeping ---------------------------------------------------------------------- */

static long sleep_now(void)
{
	current->state = SLEEPING;
	current->overslept = false;
	give_turn_away();
	if (!current->overslept)
		return 0;
	errno = ETIMEDOUT;
	return -1;
}

long futex_wait_any(const struct waiter *waiters, unsigned n,
    const struct timespec *until)
{
	settle();
	if (current == NULL || waiters == NULL)
		return syscall(__NR_futex_waitv, waiters, n, 0, until,
		    CLOCK_MONOTONIC);
	for (unsigned i = 0; i < n; i++)
		if (read_word((void *)(uintptr_t)waiters[i].address, 4) !=
		    waiters[i].value) {
			errno = EAGAIN;
			return -1;
		}
	for (unsigned i = 0; i < n; i++)
		current->sleeps_on[i] = place_of(
		    (void *)(uintptr_t)waiters[i].address);
	current->words = n;
	return sleep_now();
}

long futex_wait(shared_u32 *word, uint32_t value,
    const struct timespec *timeout)
{
	struct waiter w = { value, (uintptr_t)word, 0, 0 };

	if (current == NULL)
		return syscall(SYS_futex, word, FUTEX_WAIT, value, timeout,
		    NULL, 0);
	return futex_wait_any(&w, 1, timeout);
}

void futex_wake(shared_u32 *word)
{
	uint64_t place;

	settle();
	if (current == NULL) {
		syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
		return;
	}
	place = place_of(word);
	for (int i = 0; i < count; i++)
		for (unsigned k = 0; k < fibers[i].words; k++)
			if (fibers[i].state == SLEEPING &&
			    fibers[i].sleeps_on[k] == place)
				fibers[i].state = READY;
}

void fibers_lock(void)
{
	while (locked_by != NULL && current != NULL)
		give_turn_away();
	if (current != NULL)
		drain_all(current);
	locked_by = current;
}

/* A datagram goes either way: whoever hears of it sees what was stored. */
void fibers_unlock(void)
{
	if (current != NULL)
		drain_all(current);
	locked_by = NULL;
}

/* ---- a run ---------------------------------------------------------------------------- */

static void start(void)
{
	struct fiber *f = current;

	f->role(f->arg);
	drain_all(f);
	f->state = DONE;
	current = NULL;
	setcontext(&scheduler);
}

void fibers_begin(const struct course *c)
{
	course = *c;
	state = c->seed | 1;
	/* Seeds that are close to each other shall not begin alike. */
	for (int i = 0; i < 16; i++)
		fibers_random();
	count = 0;
	steps = oversleeps = 0;
	stalled = false;
	rests = 0;
	locked_by = NULL;
}

int fiber_add(const char *name, void (*role)(void *), void *arg)
{
	struct fiber *f = &fibers[count];
	char *stack = f->stack;

	if (stack == NULL && (stack = malloc(STACK)) == NULL)
		abort();
	*f = (struct fiber){ .name = name, .role = role, .arg = arg,
	    .stack = stack, .state = READY };
	getcontext(&f->context);
	f->context.uc_stack.ss_sp = stack;
	f->context.uc_stack.ss_size = STACK;
	makecontext(&f->context, start, 0);
	return count++;
}

static struct fiber *pick(int wanted)
{
	int found[FIBERS], n = 0;

	for (int i = 0; i < count; i++)
		if (fibers[i].state == (unsigned)wanted &&
		    fibers[i].stalled_until <= steps)
			found[n++] = i;
	/* They need not wait for nobody. */
	for (int i = 0; n == 0 && i < count; i++)
		if (fibers[i].state == (unsigned)wanted) {
			fibers[i].stalled_until = 0;
			found[n++] = i;
		}
	return n == 0 ? NULL : &fibers[found[fibers_random() % (unsigned)n]];
}

/* Turns change only where they must, and once where the course says. */
static struct fiber *first_one(void)
{
	if (steps >= course.preempt_at && locked_by == NULL &&
	    fibers[course.preempt].state == READY)
		return &fibers[course.preempt];
	for (int i = 0; i < count; i++)
		if (fibers[i].state == READY &&
		    (locked_by == NULL || locked_by == &fibers[i]))
			return &fibers[i];
	return NULL;
}

static struct fiber *ready_one(void)
{
	struct fiber *f = course.preempt >= 0 ? first_one() : pick(READY);
	struct fiber *rester = pick(RESTING);

	if (f != NULL && !f->rester)
		rests = 0;
	if (f == NULL && rests > RESTS_MOST)
		return NULL;
	/* Resters have a turn now and then, and when nobody else can. */
	if (rester != NULL && (f == NULL ||
	    (course.preempt < 0 && fibers_random() % 32 == 0)))
		return rester;
	return f;
}

/* Nobody runs: one of the sleepers oversleeps. */
static struct fiber *oversleeper(void)
{
	struct fiber *f = oversleeps == course.timeouts ? NULL :
	    pick(SLEEPING);

	if (f == NULL)
		return NULL;
	oversleeps++;
	rests = 0;
	f->overslept = true;
	f->state = READY;
	return f;
}

static bool all_done(void)
{
	for (int i = 0; i < count; i++)
		if (fibers[i].state == READY || fibers[i].state == SLEEPING ||
		    fibers[i].state == WAITING)
			return false;
	return true;
}

enum fibers_end fibers_run(void)
{
	struct fiber *f;

	while (!all_done()) {
		if (steps > STEPS_MOST)
			return FIBERS_ENDLESS;
		end_waits();
		if ((f = ready_one()) == NULL && (f = oversleeper()) == NULL)
			return FIBERS_STUCK;
		current = f;
		swapcontext(&scheduler, &f->context);
		current = NULL;
	}
	for (int i = 0; i < count; i++)
		drain_all(&fibers[i]);
	return FIBERS_DONE;
}

void fibers_describe(void)
{
	static const char *const names[] = { "ready", "sleeping", "waiting",
	    "resting", "done", "killed" };

	for (int i = 0; i < count; i++)
		fprintf(stderr, "  %d %s: %s after %llu steps\n", i,
		    fibers[i].name, names[fibers[i].state],
		    (unsigned long long)fibers[i].steps);
}

bool fiber_killed(int fiber)
{
	return fibers[fiber].state == KILLED;
}

uint64_t fibers_steps(void)
{
	return steps;
}

uint64_t fiber_steps(int fiber)
{
	return fiber < count ? fibers[fiber].steps : 0;
}
