/*
 * output.h - messages out of shared memory in few large writes.
 *
 * Messages that lie side by side in a chunk, with the delimiter that they
 * had when they came in, leave as one piece, uncopied; small ones are
 * gathered in a buffer.
 */
#ifndef ZCP_OUTPUT_H
#define ZCP_OUTPUT_H

#include <sys/uio.h>

#include "framing.h"
#include "zcp.h"

enum { OUTPUT_PIECES = 256, OUTPUT_HELD = 32, OUTPUT_SMALL = 65536 };

struct output;
/* Writes one message in a form of its own, by output_copy() and
 * output_payload(). */
typedef void output_render(struct output *o, const zcp_msg *msg,
    const zcp_source *source);

struct output {
	int fd;
	struct framing framing;
	output_render *render;		/* NULL: as the framing says */
	bool by_line;			/* a terminal: flush each message */
	size_t most;			/* bytes of a payload that are shown */
	int error;			/* errno of a write that failed, or 0 */
	struct iovec piece[OUTPUT_PIECES];
	unsigned pieces;
	struct held {
		zcp_sub *sub;
		zcp_msg msg;
	} held[OUTPUT_HELD];		/* released once they are written */
	unsigned helds;
	int run;			/* held[] that the last piece lies in, or -1 */
	bool stays;			/* the message's payload is not copied */
	bool owed;			/* the last message's delimiter */
	int32_t last_link, last_hold;	/* of the last message */
	char small[OUTPUT_SMALL];
	size_t used;
};

void output_init(struct output *o, int fd, const struct framing *framing,
    output_render *render);

/* Adds messages that were taken from `sub`, and releases them there when they
 * are copied or written (NULL: they need no release).  0, or -1 with errno when
 * it had to write and could not. */
int output_add(struct output *o, zcp_sub *sub, zcp_msg *msgs, size_t count,
    const zcp_source *source);

/* How many messages may be held until it writes: one at least. */
size_t output_room(const struct output *o);

/* For a renderer: bytes of its own, and the message's. */
void output_copy(struct output *o, const void *data, size_t size);
size_t output_shown(const struct output *o, const zcp_msg *msg);
void output_payload(struct output *o, const zcp_msg *msg);

/* Writes what was added, and releases. */
int output_flush(struct output *o);

/* -F frame (frame.h). */
output_render output_frame;

#endif
