/*
 * sender.h - messages onto the bus, as the options of zcp-pub say: waiting or
 * dropping, counted, at a pace.
 */
#ifndef ZCP_SENDER_H
#define ZCP_SENDER_H

#include <stdbool.h>

#include "pace.h"
#include "zcp.h"

/* One sender a process: several publishers may share it. */
struct sending {
	bool drop;			/* never wait */
	bool handles;			/* print them */
	uint32_t kind;
	uint64_t limit;			/* messages in all */
	int64_t drain;			/* ns for which what was read is offered
					   after a signal; < 0: for ever */
	int64_t timeout;		/* ns for which a message is offered; < 0:
					   for ever */
	struct pace pace;
	uint64_t sent, dropped;
};
extern struct sending sending;

/* How many may still be sent. */
uint64_t sending_left(void);

/*
 * Each returns 0 or an error of the library; what --drop drops is no error.
 * After a signal they go on for sending.drain, since what was read is to be
 * delivered; then, or after sending.timeout, they give up: -ZCP_E_TIMEOUT.
 */
int send_copy(zcp_pub *pub, const void *data, size_t size, uint32_t kind);
/* The chunk is gone afterwards. */
int send_parts(zcp_pub *pub, zcp_chunk *chunk, const zcp_part *parts,
    size_t count);
int send_loan(zcp_pub *pub, size_t size, zcp_chunk *chunk);

/* Says why one of them failed, and returns the exit status.  `left`: messages
 * that were read and are given up with the one that failed. */
int send_failed(int rc, uint64_t left);

/* Dropping is allowed and `rc` a reason for it: counts `count` messages. */
bool send_dropped(int rc, size_t count);

/* With --handles: until all are redeemed, or nobody reads standard output any
 * more, or nobody has come for so long (ns; standard output is no file).  An
 * exit status. */
int send_until_redeemed(zcp_pub *pub, int64_t patience);

#endif
