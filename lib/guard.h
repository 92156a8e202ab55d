/*
 * guard.h - survive a mapped file that its owner truncates.
 *
 * A member owns its file and may cut it short while the daemon or a tool
 * reads it.  In guarded ranges the page that is missing reads as zeros from
 * then on, which no check takes for anything in order.  For programs of one
 * thread that own their SIGBUS handler.
 */
#ifndef ZCP_GUARD_H
#define ZCP_GUARD_H

#include <stdint.h>

/* Installs the SIGBUS handler; 0 or an error. */
int guard_install(void);

/* From now on [base, base + size) is guarded; no effect before
 * guard_install(). */
void guard_add(void *base, uint64_t size);
void guard_remove(void *base);

#endif
