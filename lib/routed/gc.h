/*
 * gc.h - takes back what dead processes left: beside a daemon, in its place
 * where there is none, and whole domains that nobody uses.
 */
#ifndef ZCP_GC_H
#define ZCP_GC_H

#include <stdbool.h>
#include <stdint.h>

enum gc_what {
	GC_CHUNKS,		/* some of one pool, of one publisher */
	GC_PARTICIPANT,		/* with its ports and its file */
	GC_SEGMENT,		/* a file of a domain that is removed */
	GC_SOCKET,		/* that no daemon listens at */
	GC_KEPT,		/* a dead participant's, and not garbage yet */
};

/* One thing, taken back (or, on a dry run, to be); texts belong to the
 * caller of gc_tell and last as long as the call. */
struct gc_item {
	enum gc_what what;
	const char *domain;
	const char *file;		/* path; NULL: no file */
	const char *name;		/* of the participant; NULL: unknown */
	const char *topic;		/* NULL: none */
	const char *why;
	uint32_t pid;
	uint32_t count, size;		/* chunks, bytes in each */
	uint64_t bytes;			/* of memory that this gives back */
};
typedef void gc_tell(void *arg, const struct gc_item *item);

/*
 * The domains of this user that have left anything in /dev/shm or in the
 * runtime directory, sorted; to be freed, each and all.  Their number, or
 * -ZCP_E_SYS, -ZCP_E_PERM.
 */
int gc_domains(char ***names);
void gc_domains_free(char **names);

/*
 * One domain; `dry`: only looks.  Safe beside everybody else, may be killed
 * and repeated.  0, or why it could not be judged: -ZCP_E_DAMAGED,
 * -ZCP_E_LAYOUT, -ZCP_E_PERM, -ZCP_E_BUSY (somebody is making it), -ZCP_E_SYS
 * (also when some of it could not be looked at, and was left alone).
 * One thread.
 */
int gc_domain(const char *domain, bool dry, gc_tell *tell, void *arg);

#endif
