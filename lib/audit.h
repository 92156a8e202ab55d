/*
 * audit.h - is all as it must be?  Every invariant that shared memory can
 * show, in a domain where nobody is in the middle of anything; in a busy one
 * only what is found again and again is a fault.
 */
#ifndef ZCP_AUDIT_H
#define ZCP_AUDIT_H

#include "domain.h"

/* One violation, in words. */
typedef void audit_tell(void *arg, const char *text);

/*
 * Chunk words, the messages that lie in rings, cursors, holds, and the lists
 * of who reads whom.  (That nothing is garbage is sweep()'s to say.)  Returns
 * the number of violations; < 0: could not look.  Needs domain_map_words().
 */
int audit(struct domain *d, audit_tell *tell, void *arg);

#endif
