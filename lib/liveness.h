/*
 * liveness.h - the one test that tells the dead from the living.
 *
 * Every look has three answers: seen there, seen gone, could not look.  Only
 * what was seen gone is gone: a look that failed counts as life, and is told.
 */
#ifndef ZCP_LIVENESS_H
#define ZCP_LIVENESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "domain.h"

/*
 * Dead = it says in p<n> that it has left; or the lock on p<n> is free, and:
 * the process is gone (or another has its pid, or it is a zombie); or its heart
 * is late and it maps the file no more (it executed another program, or left
 * unheard); or its pid means nothing here and its heart has been silent for
 * three periods.  A process that closed all its descriptors drops the lock and
 * is alive, stopped or not; one that is stopped keeps it.
 */
enum fate {
	FATE_ALIVE,		/* it was seen to live */
	FATE_OPEN,		/* nothing says so, and its heart was not
				   watched for long enough: counts as alive */
	FATE_UNSEEN,		/* could not look, zcp_errmsg() says at what and
				   why: counts as alive */
	FATE_LEFT,
	FATE_DIED,
};
enum fate participant_fate(struct domain *d, uint32_t slot);

/* The same for one whose process is known to have exited: its pidfd said so. */
enum fate participant_fate_exited(struct domain *d, uint32_t slot);

static inline bool fate_ended(enum fate fate)
{
	return fate == FATE_LEFT || fate == FATE_DIED;
}

static inline bool participant_dead(struct domain *d, uint32_t slot)
{
	return fate_ended(participant_fate(d, slot));
}

/* "zcp-sub (pid 7, participant 3)", for messages. */
enum { WHO_SIZE = 128 };
const char *participant_who(const struct domain *d, uint32_t slot,
    char text[WHO_SIZE]);

/*
 * 1: a process `pid` runs, and started *start clock ticks after boot; 0: seen
 * gone, or it is a zombie; < 0: could not look, with a message and errno.
 */
int process_look(pid_t pid, uint64_t *start);

/* Which other process has the lock on a file: *holder is 0 for none, -1 for one
 * of another pid namespace.  Returns 0; < 0: could not look. */
int lock_holder(int fd, pid_t *holder);

/* The inode of this process's pid namespace.  Returns 0; < 0: could not look. */
int pid_namespace_here(uint64_t *inode);

/* Periods of silence after which a heart counts as late, and as stalled. */
enum { LATE_PERIODS = 2, SILENT_PERIODS = 3 };

/*
 * A participant's heart as this process has watched it: its word `beat` is
 * compared with what an earlier call was given, so no other clock than this
 * one matters.  A time during which nobody looked is no silence: what lies
 * between two looks counts as one period at most.
 */
struct heart {
	uint64_t silence;		/* ns that were watched, without a beat */
	uint64_t age;			/* ns since this beat was first seen */
	bool known;			/* it has been looked at before */
	bool beats;			/* there was another beat then */
};

/* 0; < 0: out of memory.  Any thread. */
int heart_look(struct domain *d, uint32_t slot, uint64_t incarnation,
    uint64_t beat, struct heart *heart);

/*
 * Looks on until each participant that lives has been seen to live, or to
 * have ended, or could not be looked at: a few heartbeats at most.  For who
 * looks but once.
 */
void watch_hearts(struct domain *d);

#endif
