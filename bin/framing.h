/* framing.h - where one message ends and the next begins in a byte stream. */
#ifndef ZCP_FRAMING_H
#define ZCP_FRAMING_H

#include <popt.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum framing_kind {
	FRAMING_DELIMITED,	/* line, nul, -D: bytes that end each message */
	FRAMING_RAW,		/* what one read brings */
	FRAMING_RECORDS,	/* raw:SIZE */
	FRAMING_FILE,		/* each input is one message */
	FRAMING_U32BE,		/* a length before each message */
	FRAMING_FRAME,		/* zcp's own: see frame.h */
};

enum { DELIMITER_MOST = 63 };

struct framing {
	enum framing_kind kind;
	char delimiter[DELIMITER_MOST + 1];
	size_t delimiter_size;
	uint32_t record;	/* bytes */
};

/* -F, -0 and -D, for the tables of zcp-pub and zcp-sub. */
extern struct poptOption framing_options[];
#define FRAMING_OPTIONS { NULL, 0, POPT_ARG_INCLUDE_TABLE,		\
	framing_options, 0, NULL, NULL }

/* What they chose, or a usage error; raw:SIZE and file are for input alone. */
int framing_chosen(struct framing *f, bool input);
/* Was any of them given? */
bool framing_given(void);

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
