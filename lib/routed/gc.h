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
	const char *runtime;		/* its $ZCP_RUNTIME_DIR; NULL: none */
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
 * One domain of this environment; `dry`: only looks.  Safe beside everybody else, may be killed
 * and repeated.  0, or why it could not be judged: -ZCP_E_DAMAGED,
 * -ZCP_E_LAYOUT, -ZCP_E_PERM, -ZCP_E_BUSY (somebody is making it), -ZCP_E_SYS
 * (also when some of it could not be looked at, and was left alone).
 * One thread.
 */
int gc_domain(const char *domain, bool dry, gc_tell *tell, void *arg);

/*
 * gc_old.c: the files of domains as zcp 0.1.0 named them, which no program finds
 * any more, if nobody has any of them locked.
 */
int gc_old(bool dry, gc_tell *tell, void *arg);

/*
 * Every domain of this user, whatever its runtime directory is, in the order of
 * their names.  One that could not be judged, with the reason as message and
 * the code in `rc`, does not keep the rest.  0, or why none could be listed.
 */
typedef void gc_failed(void *arg, int rc);
int gc_all(bool dry, gc_tell *tell, gc_failed *failed, void *arg);

#endif
