/*
 * tracer.h - a victim process that is run instruction by instruction, and
 * stopped, killed or let go at any of them (ptrace).
 */
#ifndef T_TRACER_H
#define T_TRACER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct victim {
	pid_t pid;
	pid_t thread[8];	/* all of its threads; the first is stepped */
	unsigned threads;
	bool ended;		/* it has exited, and was waited for */
	int status;		/* as of waitpid() */
	pid_t stranger;		/* another child that ended meanwhile, or 0 */
	int stranger_status;
};

/* In the victim: where what is tested begins, and where it ends. */
void victim_mark(void);

/* Starts role(arg) in a process of its own, which runs until it calls
 * victim_mark(); then it is stopped, its other threads are not. */
void victim_start(struct victim *v, void (*role)(void *), void *arg);

/* One instruction; false: it has come to its next mark, or has ended. */
bool victim_step(struct victim *v);

/*
 * The addresses of the instructions from here to its next mark, which it then
 * has reached; *pcs to be freed.  Their number.
 */
unsigned victim_trace(struct victim *v, uint64_t **pcs);

/*
 * As `count` steps would, for one whose siblings took these; but it runs to
 * the last instruction that is new on the way, and steps from there.
 */
bool victim_step_many(struct victim *v, unsigned count, const uint64_t *pcs,
    unsigned known);

/* To its next system call's entry or exit; false as above, or when another
 * child of this process has ended. */
bool victim_step_call(struct victim *v);

/* Its system call, where victim_step_call() has stopped; false: at an exit. */
struct call {
	long number;
	uint64_t arg[6];
};
bool victim_call(struct victim *v, struct call *call);

/* At an entry: the kernel never sees the call, which answers -error; the
 * victim stands at the exit then.  False as victim_step_call(). */
bool victim_fail_call(struct victim *v, int error);

/* A string in its memory; cut off where it does not fit or cannot be read. */
void victim_text(struct victim *v, uint64_t at, char *text, size_t size);

/* Lets it run to its next mark, or to its end. */
void victim_run(struct victim *v);

/* Lets it run without waiting for it; victim_halt() stops it where it is then,
 * or in the system call in which it sleeps. */
void victim_let_go(struct victim *v);
void victim_halt(struct victim *v);

/* Stops its other threads, too, so that its heart is silent; and lets all of
 * them go on, the first one not before victim_step*() or victim_run(). */
void victim_freeze(struct victim *v);
void victim_thaw(struct victim *v);

void victim_kill(struct victim *v);	/* -9, and it is gone */

#endif
