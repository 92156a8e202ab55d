/*
 * visit.h - all that one may do with a domain's files without its daemon.
 * What they say may be wrong in every way; what is done must not be.
 */
#ifndef T_FUZZ_VISIT_H
#define T_FUZZ_VISIT_H

#include <stdbool.h>
#include <stddef.h>

/* Is there a character in it that commands a terminal? */
bool visit_commands(const char *text, size_t size);

/* As an observer: looks, tables, JSON, screens, check.  What is printed must
 * leave a terminal alone. */
void visit_watch(const char *domain);

/* As a client of this user's: attaches, reads, counts who reads, sweeps. */
void visit_enter(const char *domain);

#endif
