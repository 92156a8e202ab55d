/*
 * frame.h - zcp's own framing: what recordings and ssh pipes are made of.
 *
 *   zcp1 TOPIC PUBLISHER SEQ TIME KIND LENGTH\n
 *   LENGTH bytes of payload, and a newline
 *
 * Text, so that it can be looked at; the length before the payload, so that
 * this may be anything.  TIME is nanoseconds since 1970.
 */
#ifndef ZCP_FRAME_H
#define ZCP_FRAME_H

#include <stddef.h>
#include <stdint.h>

enum { FRAME_HEADER = 384, FRAME_TOPIC = 192, FRAME_NAME = 64 };
#define FRAME_DAMAGED ((size_t)-1)

struct frame {
	char topic[FRAME_TOPIC];
	char publisher[FRAME_NAME];
	uint64_t seq;
	int64_t time;
	uint32_t kind;
	uint64_t length;
};

/* Writes the first line; its length. */
size_t frame_header(char out[FRAME_HEADER], const struct frame *f);

/* Reads it from `size` bytes; its length, 0 (more is needed) or
 * FRAME_DAMAGED. */
size_t frame_parse(const char *data, size_t size, struct frame *f);

#endif
