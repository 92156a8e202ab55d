/* input.h - files and standard input, read until their end or a signal. */
#ifndef ZCP_INPUT_H
#define ZCP_INPUT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct input {
	int fd;
	const char *name;		/* for messages */
	bool waits;			/* not a regular file: it may block */
};

/* `path`, "-" for standard input; an exit status, and what is wrong said. */
int input_open(struct input *in, const char *path);
void input_close(struct input *in);

/* Would a read block now? */
bool input_empty(const struct input *in);
/* Waits until it would not, or a signal is noted; or at most so many ns. */
void input_wait(const struct input *in);
void input_wait_for(const struct input *in, int64_t most);
/* Bytes read; 0 at the end, or when a signal was noted; -1: said why. */
ssize_t input_read(const struct input *in, void *data, size_t size);

#endif
