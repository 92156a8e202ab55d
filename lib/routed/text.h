/* text.h - a reply that grows line by line and never past its buffer. */
#ifndef ZCP_ROUTED_TEXT_H
#define ZCP_ROUTED_TEXT_H

#include <stddef.h>

enum { TEXT_LINE = 1024 };	/* longer than any line */

struct text {
	char *out;
	size_t size, used;
};

/* What does not fit is cut; out[] stays NUL-terminated. */
void text_add(struct text *t, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/*
 * The one form of an error in the control protocol, zcp-protocol(5): the
 * sentence of this thread's last failure, then a line of fields: the code, its
 * numbers, and the request's nonce or NULL.
 */
void text_error(struct text *t, int rc, const char *nonce);

static inline size_t text_left(const struct text *t)
{
	return t->size - t->used;
}

#endif
