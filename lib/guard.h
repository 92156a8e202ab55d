/*
 * guard.h - survive a mapped file that somebody truncates.
 *
 * Who may write to a file may cut it short while others read it, which is
 * SIGBUS in each of them.  In a guarded range all that lies behind the first
 * page found missing reads as zeros from then on, which no check takes for
 * anything in order, and the range is marked, so that whoever looks there can
 * say whose file it was.
 *
 * Any thread; add and remove take no lock, and the handler only looks.
 */
#ifndef ZCP_GUARD_H
#define ZCP_GUARD_H

#include <stdint.h>

/*
 * Installs the process's SIGBUS handler, once, however often it is called; 0 or
 * an error.  What is not in a guarded range goes to the handler that was there
 * before.
 */
int guard_install(void);

/* How often any range was hit so far. */
extern unsigned guard_hit_count;
static inline unsigned guard_hits(void)
{
	return *(const volatile unsigned *)&guard_hit_count;
}

/* What is stored where a range was hit; either may be NULL. */
struct guard_marks {
	unsigned *cut;			/* becomes 1 */
	unsigned *stop;			/* becomes `stopped` */
	unsigned stopped;
};

/*
 * From now on [base, base + size) is guarded in this process (not in its
 * children); no effect before guard_install().  Out of memory it is not: then
 * it is as in a process without a guard.
 */
void guard_add(void *base, uint64_t size, struct guard_marks marks);
/* Before it is unmapped, and before the marks go. */
void guard_remove(void *base);

#endif
