#include "guard.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "domain.h"
#include "error.h"

enum { ROW = 64 };

enum range_state { RANGE_FREE, RANGE_CHANGES, RANGE_GUARDED,
    RANGE_STEP = 4 };

struct range {
	_Atomic uint32_t state;		/* enum range_state, and RANGE_STEP for
					   each change of the fields */
	unsigned born;			/* fork generation */
	uintptr_t base, end;
	struct guard_marks marks;
};

/* Rows are added in front and stay, so that the handler can always walk. */
struct row {
	struct range range[ROW];
	struct row *next;
};

unsigned guard_hit_count;

static struct row *_Atomic rows;
static struct sigaction before;
static uintptr_t page;
static atomic_bool installed;

/* ---- in the handler ------------------------------------------------------------- */

static enum range_state range_state(uint32_t word)
{
	return (enum range_state)(word % RANGE_STEP);
}

/* Is it the range of that address?  It may be given to other addresses while
 * its fields are copied: they are believed if it was not. */
static bool range_has(const struct range *r, uintptr_t at, struct range *copy)
{
	uint32_t state = atomic_load_explicit(&r->state, memory_order_acquire);

	if (range_state(state) != RANGE_GUARDED)
		return false;
	copy->born = r->born;
	copy->base = r->base;
	copy->end = r->end;
	copy->marks = r->marks;
	atomic_thread_fence(memory_order_acquire);
	return atomic_load_explicit(&r->state, memory_order_relaxed) ==
	    state && copy->born == fork_generation && at >= copy->base &&
	    at < copy->end;
}

/* The range of that address; false: none.  It is being read or written to, so
 * nobody may remove it now. */
static bool range_of(uintptr_t at, struct range *range)
{
	for (struct row *row = rows; row != NULL; row = row->next)
		for (int i = 0; i < ROW; i++)
			if (range_has(&row->range[i], at, range))
				return true;
	return false;
}

/* Zeros up to the end: behind a page that is missing there is nothing. */
static bool cover(uintptr_t at)
{
	struct range r;

	if (!range_of(at, &r))
		return false;
	at &= ~(page - 1);
	if (mmap((void *)at, r.end - at, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) ==
	    MAP_FAILED)
		return false;
	if (r.marks.cut != NULL)
		*(volatile unsigned *)r.marks.cut = 1;
	if (r.marks.stop != NULL)
		*(volatile unsigned *)r.marks.stop = r.marks.stopped;
	__atomic_fetch_add(&guard_hit_count, 1, __ATOMIC_RELEASE);
	return true;
}

static void hand_on(int sig, siginfo_t *info, void *context)
{
	bool sent = info->si_code <= 0;		/* by kill(2), not by an access */

	if (before.sa_flags & SA_SIGINFO) {
		before.sa_sigaction(sig, info, context);
	} else if (before.sa_handler != SIG_DFL &&
	    before.sa_handler != SIG_IGN) {
		before.sa_handler(sig);
	} else if (!sent || before.sa_handler == SIG_DFL) {
		/* To die of: on return the access comes again. */
		signal(sig, SIG_DFL);
		if (sent)
			raise(sig);
	}
}

static void on_bus(int sig, siginfo_t *info, void *context)
{
	int error = errno;

	if (info->si_code != BUS_ADRERR || !cover((uintptr_t)info->si_addr))
		hand_on(sig, info, context);
	errno = error;
}

/* ---- outside of it ---------------------------------------------------------------- */

static int install(void)
{
	struct sigaction act;

	memset(&act, 0, sizeof(act));
	act.sa_sigaction = on_bus;
	act.sa_flags = SA_SIGINFO | SA_ONSTACK;
	page = (uintptr_t)sysconf(_SC_PAGESIZE);
	fork_watch();
	if (sigaction(SIGBUS, NULL, &before) < 0 ||
	    sigaction(SIGBUS, &act, NULL) < 0)
		return error_sys("cannot handle SIGBUS");
	installed = true;
	return 0;
}

int guard_install(void)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	int rc = 0;

	pthread_mutex_lock(&lock);
	if (!installed)
		rc = install();
	pthread_mutex_unlock(&lock);
	return rc;
}

static uint32_t become(uint32_t word, enum range_state state)
{
	return word - word % RANGE_STEP + (state == RANGE_CHANGES ?
	    RANGE_STEP : 0) + state;
}

static bool claim(struct range *r)
{
	uint32_t state = atomic_load_explicit(&r->state, memory_order_acquire);

	/* A parent's are not ours, and its mappings have gone. */
	if (range_state(state) == RANGE_CHANGES ||
	    (range_state(state) == RANGE_GUARDED && r->born == fork_generation))
		return false;
	return atomic_compare_exchange_strong_explicit(&r->state, &state,
	    become(state, RANGE_CHANGES), memory_order_acquire,
	    memory_order_relaxed);
}

static struct range *new_range(void)
{
	struct row *row;

	for (row = rows; row != NULL; row = row->next)
		for (int i = 0; i < ROW; i++)
			if (claim(&row->range[i]))
				return &row->range[i];
	if ((row = calloc(1, sizeof(*row))) == NULL)
		return NULL;
	row->range[0].state = RANGE_CHANGES;
	row->next = rows;
	while (!atomic_compare_exchange_weak(&rows, &row->next, row))
		;
	return &row->range[0];
}

void guard_add(void *base, uint64_t size, struct guard_marks marks)
{
	struct range *r = installed ? new_range() : NULL;

	if (r == NULL)
		return;
	/* Whoever sees one of these sees that it changes. */
	atomic_thread_fence(memory_order_release);
	r->born = fork_generation;
	r->base = (uintptr_t)base;
	/* The last page is mapped whole. */
	r->end = (r->base + size + page - 1) & ~(page - 1);
	r->marks = marks;
	/* Release: who sees it guarded sees its fields. */
	atomic_store_explicit(&r->state, become(r->state, RANGE_GUARDED),
	    memory_order_release);
}

void guard_remove(void *base)
{
	for (struct row *row = rows; row != NULL; row = row->next)
		for (int i = 0; i < ROW; i++) {
			struct range *r = &row->range[i];
			uint32_t state = atomic_load_explicit(&r->state,
			    memory_order_acquire);

			if (range_state(state) != RANGE_GUARDED ||
			    r->base != (uintptr_t)base ||
			    r->born != fork_generation)
				continue;
			atomic_store_explicit(&r->state, become(state,
			    RANGE_FREE), memory_order_release);
			return;
		}
}
