/*
 * wait.h - several subscriptions of one bus that are waited for together.
 */
#ifndef ZCP_WAIT_H
#define ZCP_WAIT_H

#include "subscriber.h"

struct several {
	struct zcp_sub *const *sub;
	size_t count;
};

/* May a take have something to give or to tell?  *due: see merge_next(). */
bool sub_ready(struct zcp_sub *sub, uint64_t *due);

/* Is one of them ready?  *due: when one will be for lack of news. */
bool several_ready(const struct several *s, uint64_t *due);

/* The bells to sleep on, at most `room`, and the one to sleep on unmarked
 * (or NULL).  Returns how many. */
unsigned several_bells(const struct several *s, struct bell **bells,
    unsigned room, struct bell **news);

/* Spins, then sleeps, until one is ready: 1, 0 (time), -ZCP_E_INTR. */
int several_wait(const struct several *s, struct spin *spin, int64_t timeout);

/* ---- pollable.c: a descriptor that is readable while one is ready --------- */

struct pollable;

/* NULL with a message.  The helper thread starts with it. */
struct pollable *pollable_open(struct domain *d);
void pollable_close(struct pollable **pollable);
/* < 0: where the application has closed it, and there can be no other. */
int pollable_fd(struct pollable *pollable);

/*
 * Nothing was left to take: readable again from the next news on.  While it
 * is armed already this changes nothing.
 */
void pollable_arm(struct pollable *pollable, const struct several *s);

/* No longer armed: the thread looks at nothing more.  Readable then. */
void pollable_recall(struct pollable *pollable);

#endif
