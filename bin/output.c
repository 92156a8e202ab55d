#include "output.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "frame.h"
#include "units.h"
#include "write.h"

enum { COPY_MOST = 256, HEADER = 4 };

void output_init(struct output *o, int fd, const struct framing *framing,
    output_render *render)
{
	memset(o, 0, sizeof(*o));
	o->fd = fd;
	o->framing = *framing;
	o->render = render;
	o->by_line = isatty(fd);
	o->most = SIZE_MAX;
	o->run = -1;
	o->last_hold = -1;
}

/* ---- pieces --------------------------------------------------------------------- */

static void write_pieces(struct output *o)
{
	if (o->error == 0 && write_all(o->fd, o->piece, o->pieces) < 0)
		o->error = errno;
	o->pieces = 0;
	o->used = 0;
	o->run = -1;
}

static void put(struct output *o, const void *data, size_t size)
{
	struct iovec *last = o->pieces ? &o->piece[o->pieces - 1] : NULL;

	if (size == 0)
		return;
	if (last != NULL && o->run < 0 &&
	    (const char *)last->iov_base + last->iov_len == data)
		last->iov_len += size;
	else if (o->pieces < OUTPUT_PIECES)
		o->piece[o->pieces++] = (struct iovec){ (void *)data, size };
	else {
		write_pieces(o);
		o->piece[o->pieces++] = (struct iovec){ (void *)data, size };
	}
	o->run = -1;
}

void output_copy(struct output *o, const void *data, size_t size)
{
	const char *from = data;

	while (size > 0) {
		size_t n = OUTPUT_SMALL - o->used;

		if (n == 0 || o->pieces == OUTPUT_PIECES) {
			write_pieces(o);
			continue;
		}
		if (n > size)
			n = size;
		memcpy(o->small + o->used, from, n);
		put(o, o->small + o->used, n);
		o->used += n;
		from += n;
		size -= n;
	}
}

size_t output_shown(const struct output *o, const zcp_msg *msg)
{
	return msg->size < o->most ? msg->size : o->most;
}

void output_payload(struct output *o, const zcp_msg *msg)
{
	size_t size = output_shown(o, msg);

	if (o->stays || size > COPY_MOST)
		put(o, msg->data, size);
	else
		output_copy(o, msg->data, size);
}

static void pay(struct output *o)
{
	if (o->owed)
		output_copy(o, o->framing.delimiter, o->framing.delimiter_size);
	o->owed = false;
}

int output_flush(struct output *o)
{
	pay(o);
	write_pieces(o);
	for (unsigned i = 0; i < o->helds; i++)
		zcp_release(o->held[i].sub, &o->held[i].msg);
	o->helds = 0;
	errno = o->error;
	return o->error ? -1 : 0;
}

/* ---- messages --------------------------------------------------------------------- */

/*
 * The message lies behind the last one in the same chunk, with the delimiter
 * between them: the piece grows.  The hold that serves both stays.
 */
static bool grow(struct output *o, zcp_sub *sub, const zcp_msg *msg)
{
	size_t between = o->framing.delimiter_size;
	const struct held *run;
	struct iovec *last;
	const char *end;

	if (o->run < 0 || !o->owed || msg->size > o->most)
		return false;
	last = &o->piece[o->pieces - 1];	/* a run has a piece */
	run = &o->held[o->run];
	if (run->sub != sub || run->msg.link != msg->link ||
	    run->msg.hold != msg->hold)
		return false;
	end = (const char *)last->iov_base + last->iov_len;
	if (end + between != msg->data || *end != o->framing.delimiter[0] ||
	    (between > 1 && memcmp(end, o->framing.delimiter, between) != 0))
		return false;
	last->iov_len += between + msg->size;
	return true;
}

/* Several messages in one chunk, or a large one: not worth copying.  Nothing
 * at all makes no piece. */
static bool in_place(const struct output *o, const zcp_msg *msg)
{
	size_t size = output_shown(o, msg);

	return msg->hold >= 0 && size > 0 && (size > COPY_MOST ||
	    (o->render == NULL && msg->hold == o->last_hold &&
	    msg->link == o->last_link));
}

static void frame_it(struct output *o, const zcp_msg *msg)
{
	size_t size = output_shown(o, msg);
	unsigned char header[HEADER] = {
		(unsigned char)(size >> 24), (unsigned char)(size >> 16),
		(unsigned char)(size >> 8), (unsigned char)size,
	};

	pay(o);
	if (o->framing.kind == FRAMING_U32BE)
		output_copy(o, header, HEADER);
	output_payload(o, msg);
	o->owed = o->framing.kind == FRAMING_DELIMITED;
}

void output_frame(struct output *o, const zcp_msg *msg,
    const zcp_source *source)
{
	struct frame f = { .seq = msg->seq, .kind = msg->kind,
	    .length = output_shown(o, msg) };
	char header[FRAME_HEADER];

	snprintf(f.topic, sizeof(f.topic), "%s", source->topic);
	snprintf(f.publisher, sizeof(f.publisher), "%s", *source->name ?
	    source->name : "-");
	/* Not stamped: as it comes. */
	f.time = (msg->time ? (int64_t)msg->time : now_ns()) +
	    realtime_offset();
	output_copy(o, header, frame_header(header, &f));
	output_payload(o, msg);
	output_copy(o, "\n", 1);
}

/* Room for another message that is held, and what goes with it. */
static bool full(const struct output *o)
{
	return o->pieces + 4 > OUTPUT_PIECES || o->helds == OUTPUT_HELD - 1 ||
	    o->used + COPY_MOST + DELIMITER_MOST + HEADER > OUTPUT_SMALL;
}

/* Its payload lies in a chunk, and stays there until it is written. */
static void hold_on(struct output *o, zcp_sub *sub, zcp_msg *msg)
{
	if (o->render == NULL)
		o->run = (int)o->helds;
	o->held[o->helds++] = (struct held){ sub, *msg };
	msg->data = NULL;
}

/* True: all is to be written before another one is added. */
static bool add_one(struct output *o, zcp_sub *sub, zcp_msg *msg,
    const zcp_source *source)
{
	/* Most of a stream of lines ends here. */
	if (grow(o, sub, msg))
		return o->by_line;
	o->stays = in_place(o, msg);
	o->last_hold = msg->hold;
	o->last_link = msg->link;
	if (o->render != NULL)
		o->render(o, msg, source);
	else
		frame_it(o, msg);
	if (o->stays)
		hold_on(o, sub, msg);
	/* A tap's memory is the next message's. */
	return full(o) || o->by_line || o->error ||
	    (sub == NULL && output_shown(o, msg) > COPY_MOST);
}

int output_add(struct output *o, zcp_sub *sub, zcp_msg *msgs, size_t count,
    const zcp_source *source)
{
	int rc = 0;

	for (size_t i = 0; i < count; i++) {
		if (!add_one(o, sub, &msgs[i], source))
			continue;
		/* To write may take for ever: nothing is held meanwhile that
		 * need not be. */
		if (sub != NULL)
			zcp_release_batch(sub, msgs, i + 1);
		rc = output_flush(o);
	}
	if (sub != NULL)
		zcp_release_batch(sub, msgs, count);
	return rc;
}

size_t output_room(const struct output *o)
{
	return OUTPUT_HELD - 1 - o->helds;
}
