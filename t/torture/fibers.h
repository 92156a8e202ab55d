/* fibers.h - the roles of a run, and the order in which they take turns. */
#ifndef T_FIBERS_H
#define T_FIBERS_H

#include <stdbool.h>
#include <stdint.h>

enum { FIBERS = 8 };

/* How a run goes; the same again from the same values. */
struct course {
	uint32_t seed;
	uint32_t calm;		/* one step in so many gives the turn away */
	uint32_t lazy;		/* a store is seen after so many steps or so */
	bool weak;		/* stores may overtake each other */
	uint64_t timeouts;	/* a sleeper may oversleep so often: the wake-up
				   that it waits for was lost */
	int kill;		/* the fiber that ends early, or -1 */
	uint64_t kill_at;	/* after so many steps of its own */
	int stall;		/* the fiber that is stopped for a while, or -1 */
	uint64_t stall_at;	/* after so many steps of its own */
	uint64_t stall_for;	/* steps of the others */
	int then;		/* >= 0: not for so many steps, but until this one
				   makes its pause `then_pause`; and now it is this
				   one that stops for stall_for steps */
	uint32_t then_pause;
	int preempt;		/* >= 0: turns change only where a fiber sleeps or
				   ends, and once after `preempt_at` steps of all,
				   to this fiber */
	uint64_t preempt_at;
};

/* Sets up; then fiber_add() those that take part, and fibers_run(). */
void fibers_begin(const struct course *course);
int fiber_add(const char *name, void (*role)(void *), void *arg);

enum fibers_end {
	FIBERS_DONE,		/* every one that was not killed has returned */
	FIBERS_STUCK,		/* all sleep, and no more may oversleep */
	FIBERS_ENDLESS,		/* too many steps */
};
enum fibers_end fibers_run(void);

bool fiber_killed(int fiber);
void fiber_die(void);			/* the one that runs, as if killed */
uint64_t fibers_steps(void);		/* accesses of all in the last run */
uint64_t fiber_steps(int fiber);	/* of one; 0 when there is none such */
uint32_t fibers_random(void);
void fibers_describe(void);		/* each one's state, on stderr */

/* The words on which fibers sleep are mapped once by each of them: those at the
 * same place in the `size` bytes at each `base` are one. */
void fibers_map(const void *base, uint64_t size);
void fibers_unmap(const void *base);

/* A step without an access: the payload is looked at in pieces. */
void fiber_pause(void);

/* Waits for something other than shared memory, as a read from a pipe does. */
void fiber_wait(bool (*until)(void *), void *arg);

/* The turn is over until others have had theirs; who does nothing but this and
 * what it finds to do (a daemon) is not waited for at the end. */
void fiber_rest(void);

/* What only one fiber at a time may do, as a daemon has but one thread. */
void fibers_lock(void);
void fibers_unlock(void);

#endif
