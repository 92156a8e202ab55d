#include "output.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

enum { COPY_MOST = 256, HEADER = 4 };

void output_init(struct output *o, int fd, const struct framing *framing)
{
	memset(o, 0, sizeof(*o));
	o->fd = fd;
	o->framing = *framing;
	o->by_line = isatty(fd);
	o->run = -1;
	o->last_hold = -1;
}

zcp_msg *output_place(struct output *o)
{
	return &o->held[o->helds].msg;
}

/* ---- writing ------------------------------------------------------------------- */

static int write_all(int fd, struct iovec *piece, unsigned pieces)
{
	while (pieces > 0) {
		ssize_t n = writev(fd, piece, (int)pieces);

		if (n < 0 && errno == EAGAIN) {
			struct pollfd p = { .fd = fd, .events = POLLOUT };

			poll(&p, 1, -1);
			continue;
		}
		if (n < 0 && errno != EINTR)
			return -1;
		for (; n > 0 && (size_t)n >= piece->iov_len; piece++, pieces--)
			n -= (ssize_t)piece->iov_len;
		if (n > 0) {
			piece->iov_base = (char *)piece->iov_base + n;
			piece->iov_len -= (size_t)n;
		}
			}
	return 0;
}

/* ---- adding --------------------------------------------------------------------- */

static void put(struct output *o, const void *data, size_t size)
{
	struct iovec *last = o->pieces ? &o->piece[o->pieces - 1] : NULL;

	if (size == 0)
		return;
	if (last != NULL && o->run < 0 &&
	    (const char *)last->iov_base + last->iov_len == data)
		last->iov_len += size;
	else
		o->piece[o->pieces++] = (struct iovec){ (void *)data, size };
	o->run = -1;
}

static void copy(struct output *o, const void *data, size_t size)
{
	char *at = o->small + o->used;

	memcpy(at, data, size);
	o->used += size;
	put(o, at, size);
}

static void pay(struct output *o)
{
	if (o->owed)
		copy(o, &o->framing.delimiter, 1);
	o->owed = false;
}

int output_flush(struct output *o)
{
	int rc;

	pay(o);
	rc = write_all(o->fd, o->piece, o->pieces);
	for (unsigned i = 0; i < o->helds; i++)
		zcp_release(o->held[i].sub, &o->held[i].msg);
	o->pieces = o->helds = 0;
	o->used = 0;
	o->run = -1;
	return rc;
}

/*
 * The message lies behind the last one in the same chunk, with the delimiter
 * between them: the piece grows.  The hold that serves both stays.
 */
static bool grow(struct output *o, zcp_sub *sub, const zcp_msg *msg)
{
	const struct held *run;
	struct iovec *last;
	const char *end;

	if (o->run < 0 || !o->owed)
		return false;
	last = &o->piece[o->pieces - 1];	/* a run has a piece */
	run = &o->held[o->run];
	if (run->sub != sub || run->msg.link != msg->link ||
	    run->msg.hold != msg->hold)
		return false;
	end = (const char *)last->iov_base + last->iov_len;
	if (end + 1 != msg->data || *end != o->framing.delimiter)
		return false;
	last->iov_len += 1 + msg->size;
	return true;
}

/* Several messages in one chunk, or a large one: not worth copying.  Nothing
 * at all makes no piece. */
static bool in_place(const struct output *o, const zcp_msg *msg)
{
	return msg->hold >= 0 && msg->size > 0 && (msg->size > COPY_MOST ||
	    (msg->hold == o->last_hold && msg->link == o->last_link));
}

static bool full(const struct output *o)
{
	return o->pieces + 4 > OUTPUT_PIECES || o->helds == OUTPUT_HELD - 1 ||
	    o->used + COPY_MOST + 2 * HEADER > OUTPUT_SMALL;
}

int output_add(struct output *o, zcp_sub *sub)
{
	struct held *place = &o->held[o->helds];
	zcp_msg *msg = &place->msg;
	bool stays = in_place(o, msg), grew = grow(o, sub, msg);
	unsigned char header[HEADER] = {
		(unsigned char)(msg->size >> 24),
		(unsigned char)(msg->size >> 16),
		(unsigned char)(msg->size >> 8), (unsigned char)msg->size,
	};

	o->last_hold = msg->hold;
	o->last_link = msg->link;
	place->sub = sub;
	if (!grew) {
		pay(o);
		if (o->framing.kind == FRAMING_U32BE)
			copy(o, header, HEADER);
		if (stays || msg->size > COPY_MOST)
			put(o, msg->data, msg->size);
		else
			copy(o, msg->data, msg->size);
		o->owed = o->framing.kind == FRAMING_DELIMITED;
	}
	if (stays && !grew)
		o->run = (int)o->helds++;
	else if (sub != NULL)
		zcp_release(sub, msg);
	/* A tap's memory is the next message's. */
	return full(o) || o->by_line || (sub == NULL && msg->size > COPY_MOST)
	    ? output_flush(o) : 0;
}
