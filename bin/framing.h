/* framing.h - where one message ends and the next begins in a byte stream. */
#ifndef ZCP_FRAMING_H
#define ZCP_FRAMING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum framing_kind {
	FRAMING_DELIMITED,	/* line, nul: a byte that ends each message */
	FRAMING_RAW,		/* what one read brings */
	FRAMING_RECORDS,	/* raw:SIZE */
	FRAMING_U32BE,		/* a length before each message */
};

struct framing {
	enum framing_kind kind;
	char delimiter;
	uint32_t record;	/* bytes */
};

/* "line", "nul", "raw", "raw:SIZE", "u32be"; false: none of these. */
bool framing_parse(const char *text, struct framing *f);

/*
 * Finds the next message in `size` bytes at `data`: its payload's offset and
 * length, and how many bytes it takes in all.  0: it is not whole yet.
 */
size_t framing_next(const struct framing *f, const char *data, size_t size,
    size_t *offset, size_t *length);

/* How many bytes the message that begins at `data` will take, as far as that
 * can be known; 0: unknown. */
size_t framing_need(const struct framing *f, const char *data, size_t size);

#endif
