/* exec.h - a command a message, some at once. */
#ifndef ZCP_EXEC_H
#define ZCP_EXEC_H

#include <stdint.h>
#include <sys/types.h>

#include "zcp.h"

enum { EXEC_MOST = 1024 };

struct exec {
	const char *command;		/* for sh -c; NULL: none */
	unsigned most;			/* at once */
	unsigned running;
	pid_t pid[EXEC_MOST];		/* of those that run */
	uint64_t started, failed;
};

/* Before the first one: their ends are to be heard of, and commands of zcp in
 * them are to find the same bus. */
void exec_prepare(void);

/*
 * Starts it, with the payload on its standard input and the message's facts
 * in ZCP_* variables, once fewer than `most` run.  0, or -1: said why.
 */
int exec_message(struct exec *e, const zcp_msg *msg, const zcp_source *source);

/* Takes note of those that have ended; of all of them, when they have. */
void exec_reap(struct exec *e);
void exec_wait(struct exec *e);

#endif
