/* liveness.h - the one test that tells the dead from the living. */
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
 * unheard); or it cannot be seen and its heart has been silent for three
 * periods.  A process that closed all its descriptors drops the lock and is
 * alive, stopped or not; one that is stopped keeps it.  When in doubt: alive.
 */
enum fate { FATE_ALIVE, FATE_LEFT, FATE_DIED };
enum fate participant_fate(const struct domain *d, uint32_t slot);

static inline bool participant_dead(const struct domain *d, uint32_t slot)
{
	return participant_fate(d, slot) != FATE_ALIVE;
}

/* Clock ticks after boot at which `pid` started; 0 when there is no such
 * process or it is a zombie. */
uint64_t process_start_time(pid_t pid);

/* Which other process has the lock on a file: 0 none, -1 one of another pid
 * namespace. */
pid_t lock_holder(int fd);

/* The inode of this process's pid namespace; 0 unknown. */
uint64_t pid_namespace_here(void);

/* Periods of silence after which a heart counts as late, and as stalled. */
enum { LATE_PERIODS = 2, SILENT_PERIODS = 3 };

#endif
