/*
 * stream.h - a byte stream onto one topic.
 *
 * Input is read straight into a loaned chunk; what is whole in it is
 * published in place, as several messages of one chunk, and what is not is
 * carried over to the next one.  Messages that go at a pace are copied: each
 * at its time.
 */
#ifndef ZCP_STREAM_H
#define ZCP_STREAM_H

#include "framing.h"
#include "sender.h"

enum { STREAM_PARTS = 4096 };

struct stream {
	zcp_pub *pub;
	struct framing framing;
	bool tee;			/* all that is sent to stdout, too */
	const char *source;		/* its name, for messages */
	size_t largest;
	bool copies;			/* `chunk` is private memory */
	zcp_chunk chunk;		/* being filled */
	zcp_chunk spare;		/* with --drop: the one after it */
	size_t start, fill;		/* [start, fill) is not published yet */
	size_t batch;			/* where the first of part[] began */
	char *carry;			/* what goes to the next chunk */
	size_t carried, carry_room;
	zcp_part part[STREAM_PARTS];
	size_t parts;
	size_t unannounced, chunks;	/* messages, since the last wake-up */
};

/* `s` is zeroed but for pub, framing and tee. */
void stream_open(struct stream *s, const zcp *bus);
void stream_close(struct stream *s);

/* Publishes a file, or standard input ("-"); an exit status. */
int stream_file(struct stream *s, const char *path);

/* Publishes one text. */
int stream_text(struct stream *s, const char *text);

#endif
