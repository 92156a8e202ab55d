/*
 * announce.h - who sweeps, so that no port serial comes back under a sweep.
 *
 * A sweep that stopped between its look at a word and its CAS may free what it
 * judged then if the very same word comes back; for that its serial would have
 * to be given again.  So each sweep says in which epoch of serials it began, and
 * the daemon gives none again while an earlier one is under way.  A member says
 * so in its file.  zcp-gc beside a daemon has none: it has a read lock, on a
 * byte beyond the end of the file `pool` that stands for the epoch, which the
 * kernel drops when it ends or dies.
 */
#ifndef ZCP_ANNOUNCE_H
#define ZCP_ANNOUNCE_H

#include "domain.h"
#include "own.h"

struct announcement {
	bool locked;
	struct own_file file;
};

/* Before the first word is read.  0; < 0: it could not be announced, and must
 * not be done. */
int announce_begin(struct domain *d, struct announcement *a);
void announce_end(struct domain *d, struct announcement *a);

/* 1: one that began before `epoch` is announced by a lock, the message names its
 * process; 0: none is; < 0: could not look. */
int announced_before(struct domain *d, uint32_t epoch);

#endif
