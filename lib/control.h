/* control.h - the client's end of the control protocol, zcp-protocol(5). */
#ifndef ZCP_CONTROL_H
#define ZCP_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/un.h>

enum {
	CONTROL_REQUEST = 4096,
	CONTROL_REPLY = 8192,		/* what socat reads at once; longer ones
					   come in pages */
};


struct site;

/* How a daemon is asked, and what is learned on the way. */
struct asking {
	const struct site *at;	/* the daemon of this one; NULL: look for one */
	bool start;		/* where there is none, start one */
	uint64_t nonce;		/* of the request, which its reply repeats; or 0 */
	bool unsure;		/* an attempt was sent and not answered: it may
				   have been obeyed, though a later one is refused */
	bool answered;		/* by a daemon, if only with an error */
	uid_t uid;		/* of the daemon that answered, */
	const char *runtime;	/* and the runtime directory that makes its
				   domain's site (NULL: none) */
	uint32_t needed;	/* the number of that name in its error, or 0 */
};

/*
 * One request, one reply.  Looks for the daemon, sends, and repeats until
 * `deadline` (clock_ns), so a request must be one that may be repeated: it
 * carries a nonce or has no effect.  A daemon that says BUSY is asked again after
 * a pause.  Returns the reply's length; the reply is NUL-terminated.  An error's
 * code is the daemon's (-ZCP_E_REFUSED where it names none), its message the
 * daemon's sentence; nobody answers: -ZCP_E_NODAEMON; -ZCP_E_PERM; -ZCP_E_INTR.
 */
int control_ask(const char *domain, const char *request, char *reply,
    size_t size, uint64_t deadline, struct asking *how);

/* The same of a daemon that is there, or is not. */
int control_call(const char *domain, const char *request, char *reply,
    size_t size, uint64_t deadline);

/* ---- reply.c ------------------------------------------------------------------ */

/* Is it, by the nonce that it repeats, a reply to the request of this one? */
bool control_answers(const char *reply, uint64_t nonce);

/* The length of a reply, or the error that it tells of; *how: its fields. */
int control_answer(char *reply, int length, struct asking *how);

/* The number in a reply's field `key`; false: there is none such. */
bool control_number(const char *reply, const char *key, uint64_t most,
    uint64_t *number);

/* ---- control.c ---------------------------------------------------------------- */

/* Where this environment's domain lies; where there is none, the system's, whose
 * socket is in /run/zcp.  Returns as site_here(). */
int control_site(struct site *s, const char *domain);

/*
 * Shows the domain's token, if there is one to show: NULL is $ZCP_TOKEN.  The
 * daemon remembers the process.  Errors as control_ask(), -ZCP_E_ARG.
 */
int control_show(const char *domain, const char *token, uint64_t deadline,
    struct asking *how);

/*
 * Says what the next daemon would find out by itself: one attempt, and a
 * short wait until the daemon has done it.
 */
void control_farewell(const struct site *at, const char *request);

/* Sends without waiting for anything; losses do not matter to the caller. */
void control_hint(const struct site *at, const char *request);

/* 64 random bits that tell a repeated request from a new one. */
uint64_t control_nonce(void);

#endif
