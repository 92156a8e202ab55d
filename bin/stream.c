#include "stream.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "input.h"
#include "progress.h"
#include "write.h"

enum {
	STREAM_CHUNK = 65536,
	INLINE_MOST = 32,
	HANDLES = 64,
	CHUNKS_A_WAKE = 8,		/* while input is plentiful, */
	MESSAGES_A_WAKE = 2048,		/* at most */
};

/* Has said itself what is wrong. */
#define SAID (-1000)

/* Whole messages that were read and not yet offered. */
static uint64_t unsent(const struct stream *s)
{
	const char *data = s->carried > 0 ? s->carry : s->chunk.data;
	size_t at = s->carried > 0 ? 0 : s->start, offset, length, n;
	size_t end = s->carried > 0 ? s->carried : s->fill;
	uint64_t count = s->parts;

	while (data != NULL && at < end && (n = framing_next(&s->framing,
	    data + at, end - at, &offset, &length)) > 0) {
		at += n;
		count++;
	}
	return count;
}

static int failed(const struct stream *s, int rc)
{
	if (rc == -ZCP_E_TIMEOUT)
		return send_failed(rc, unsent(s));
	if (rc == -ZCP_E_TOOBIG)
		cli_error("%s: message %" PRIu64 " is too large", s->source,
		    sending.sent + sending.dropped + 1);
	return rc == SAID ? CLI_ERROR : cli_failed(rc);
}

/* ---- the chunk ------------------------------------------------------------------ */

static char *bytes(const struct stream *s)
{
	return s->chunk.data;
}

static void drop_chunk(struct stream *s)
{
	if (s->copies) {
		free(s->chunk.data);
		s->chunk.data = NULL;
	} else
		zcp_discard(s->pub, &s->chunk);
}

static int private_chunk(size_t size, zcp_chunk *chunk)
{
	*chunk = (zcp_chunk){ .data = malloc(size), .size = size };
	if (chunk->data != NULL)
		return 0;
	cli_error("out of memory");
	return SAID;
}

/* What is not published goes to the next chunk. */
static int keep(struct stream *s)
{
	size_t n = s->fill - s->start;

	if (n > s->carry_room) {
		char *bigger = realloc(s->carry, n);

		if (bigger == NULL) {
			cli_error("out of memory");
			return SAID;
		}
		s->carry = bigger;
		s->carry_room = n;
	}
	if (n > 0)
		memcpy(s->carry, bytes(s) + s->start, n);
	s->carried = n;
	s->start = s->fill = 0;
	return 0;
}

/* ---- publishing ------------------------------------------------------------------ */

/* One by one, each at its time. */
static int publish_paced(struct stream *s)
{
	size_t parts = s->parts;
	int rc = 0;

	s->parts = 0;
	for (size_t i = 0; i < parts && rc == 0; i++) {
		/* Through signals: what was read is delivered. */
		pace_next(&sending.pace);
		rc = send_copy(s->pub, bytes(s) + s->part[i].offset,
		    s->part[i].length, sending.kind);
	}
	return rc;
}

/*
 * A large chunk with little in it is not given away: a copy goes instead, if
 * there is memory for one.  *done: it went (or was dropped).
 */
static int publish_copy(struct stream *s, bool *done)
{
	size_t first = s->part[0].offset, parts = s->parts, size;
	const zcp_part *last = &s->part[parts - 1];
	zcp_chunk copy;
	int rc;

	*done = true;
	s->parts = 0;
	if (parts == 1 && last->length <= INLINE_MOST)
		return send_copy(s->pub, bytes(s) + first, last->length,
		    sending.kind);
	size = last->offset + last->length - first;
	rc = zcp_loan(s->pub, size, &copy, 0);
	if (rc == -ZCP_E_NOMEM && !sending.drop) {
		*done = false;
		s->parts = parts;
		return 0;
	}
	if (rc < 0)
		return send_dropped(rc, parts) ? 0 : rc;
	memcpy(copy.data, bytes(s) + first, size);
	for (size_t i = 0; i < parts; i++)
		s->part[i].offset -= (uint32_t)first;
	return send_parts(s->pub, &copy, s->part, parts);
}

/*
 * A chunk is given away when it is half full at least; one that drops rather
 * than waits only when it has another one to read into.
 */
static bool worth_giving(struct stream *s)
{
	if ((s->start - s->part[0].offset) * 2 <= s->chunk.size)
		return false;
	return !sending.drop || s->spare.data != NULL ||
	    zcp_loan(s->pub, s->chunk.size, &s->spare, 0) == 0;
}

static int publish_in_place(struct stream *s)
{
	size_t parts = s->parts;
	bool done = false;
	int rc;

	if (!worth_giving(s) && ((rc = publish_copy(s, &done)) < 0 || done))
		return rc;
	s->parts = 0;
	if ((rc = keep(s)) < 0)
		return rc;
	return send_parts(s->pub, &s->chunk, s->part, parts);
}

/* What is to be published, to standard output first. */
static int tee(const struct stream *s, struct iovec *piece, unsigned pieces)
{
	if (s->tee)
		progress_give_way();
	if (!s->tee || write_all(STDOUT_FILENO, piece, pieces) == 0)
		return 0;
	cli_error("cannot write standard output: %s", strerror(errno));
	return SAID;
}

static int publish_found(struct stream *s)
{
	size_t parts = s->parts, size = s->start - s->batch;
	struct iovec piece = { bytes(s) + s->batch, size };
	int rc;

	if (parts == 0)
		return 0;
	if ((rc = tee(s, &piece, 1)) < 0)
		return rc;
	rc = s->copies ? publish_paced(s) : publish_in_place(s);
	s->unannounced += parts;
	progress_add(parts, size);
	progress_tick();
	if (s->start == s->fill)
		s->start = s->fill = 0;
	return rc;
}

/* [from, start) of the chunk is a message, its payload at `offset`. */
static void add_part(struct stream *s, size_t from, size_t offset,
    size_t length)
{
	if (s->parts == 0)
		s->batch = from;
	s->part[s->parts++] = (zcp_part){ (uint32_t)offset, (uint32_t)length };
}

/* At a pace, each goes for itself; and whoever is to redeem a batch must be
 * able to make room for the rest of it. */
static size_t batch_most(const struct stream *s)
{
	size_t most = s->copies ? 1 : sending.handles ? HANDLES : STREAM_PARTS;
	uint64_t left = sending_left();

	return left < most ? (size_t)left : most;
}

/* Publishes every message that is whole. */
static int cut(struct stream *s)
{
	size_t offset, length, n, most = batch_most(s);
	int rc = 0;

	while (rc == 0 && s->chunk.data != NULL && most > 0 &&
	    !(s->copies && cli_signal()) &&
	    (n = framing_next(&s->framing, bytes(s) + s->start,
	    s->fill - s->start, &offset, &length)) > 0) {
		add_part(s, s->start, s->start + offset, length);
		s->start += n;
		if (s->parts == most) {
			rc = publish_found(s);
			most = batch_most(s);
		}
	}
	return rc < 0 ? rc : publish_found(s);
}

/* ---- reading ------------------------------------------------------------------------ */

/* How large the next chunk must be for what was carried over, and more. */
static size_t next_size(const struct stream *s)
{
	size_t want = s->largest < STREAM_CHUNK ? s->largest : STREAM_CHUNK;
	size_t need = framing_need(&s->framing, s->carry, s->carried);

	if (need < s->carried + 1)
		need = s->carried + 1;
	if (need < want)
		return want;
	/* A message whose end is not in sight: twice as much each time. */
	if (s->carried < want || need >= 2 * s->carried || need > s->largest)
		return need;
	return 2 * s->carried < s->largest ? 2 * s->carried : s->largest;
}

static int next_chunk(struct stream *s)
{
	size_t need = next_size(s);

	if (s->copies && need <= s->largest)
		return private_chunk(need, &s->chunk);
	if (s->spare.data != NULL && s->spare.size >= need) {
		s->chunk = s->spare;
		s->spare.data = NULL;
		return 0;
	}
	return send_loan(s->pub, need, &s->chunk);
}

/* A chunk with room to read into, what was carried over in front. */
static int make_room(struct stream *s)
{
	int rc;

	if (s->chunk.data != NULL && s->fill == s->chunk.size && s->start > 0) {
		memmove(s->chunk.data, bytes(s) + s->start,
		    s->fill - s->start);
		s->fill -= s->start;
		s->start = 0;
	}
	if (s->chunk.data != NULL) {
		if (s->fill < s->chunk.size)
			return 0;
		/* Full, and its end is not in sight: on to a larger one. */
		if ((rc = keep(s)) < 0)
			return rc;
		drop_chunk(s);
	}
	if ((rc = next_chunk(s)) < 0)
		return rc;
	if (s->carried > 0)
		memcpy(s->chunk.data, s->carry, s->carried);
	s->start = 0;
	s->fill = s->carried;
	s->carried = 0;
	return 0;
}

/* Is there more to come, readers that sleep are woken for several chunks; but
 * lossy ones before they are passed over, and all before a wait. */
static void more_comes(struct stream *s, bool more)
{
	if (more && !s->copies && !s->tee && !sending.drop &&
	    s->unannounced < MESSAGES_A_WAKE && ++s->chunks < CHUNKS_A_WAKE) {
		zcp_cork(s->pub);
		return;
	}
	zcp_uncork(s->pub);
	s->unannounced = s->chunks = 0;
}

/* While nothing comes the chunk is given back: many publishers may wait for
 * input, and others want the memory. */
static int await_input(struct stream *s, const struct input *in)
{
	int rc;

	if (!input_empty(in))
		return 0;
	more_comes(s, false);
	if (s->chunk.data != NULL) {
		if ((rc = keep(s)) < 0)
			return rc;
		drop_chunk(s);
	}
	input_wait(in);
	return 0;
}

/* Is this the end of input? */
static bool at_end(const struct input *in)
{
	char c;

	return input_read(in, &c, 1) <= 0;
}

/*
 * The chunk is full; does the delimiter end here?  Some of its first bytes
 * may lie in the chunk already: *length is what goes before them.
 */
static bool ends_here(struct stream *s, const struct input *in, size_t *length)
{
	const char *delimiter = s->framing.delimiter;
	size_t left = s->fill - s->start, n = 0;
	char next[DELIMITER_MOST];
	ssize_t got = 1;

	for (size_t k = s->framing.delimiter_size; k-- > 0;) {
		size_t rest = s->framing.delimiter_size - k;

		if (memcmp(bytes(s) + s->fill - k, delimiter, k) != 0)
			continue;
		while (n < rest && got > 0)
			if ((got = input_read(in, next + n, rest - n)) > 0)
				n += (size_t)got;
		*length = left - k;
		if (n == rest && memcmp(next, delimiter + k, n) == 0)
			return true;
	}
	/* At the end of input it is whole without. */
	return n == 0;
}

/*
 * A message that fills the largest chunk to the last byte is whole when its
 * delimiter comes next; one that goes on is too large.  A frame says so in
 * advance.
 */
static int look_beyond(struct stream *s, const struct input *in)
{
	size_t left = s->fill - s->start, length = left, need;
	zcp_chunk none;
	bool whole;

	if (s->chunk.data == NULL)
		return 0;
	need = framing_need(&s->framing, bytes(s) + s->start, left);
	if (need > s->largest)
		return zcp_loan(s->pub, need, &none, 0);
	if (left < s->largest || (s->framing.kind != FRAMING_DELIMITED &&
	    s->framing.kind != FRAMING_FILE))
		return 0;
	more_comes(s, false);
	whole = s->framing.kind == FRAMING_FILE ? at_end(in) :
	    ends_here(s, in, &length);
	if (cli_signal())
		return 0;
	if (!whole)
		return zcp_loan(s->pub, left + 1, &none, 0);
	add_part(s, s->start, s->start, length);
	s->start = s->fill;
	return publish_found(s);
}

/* Would what is there, if this were the end, be a message of another size
 * than was meant? */
static bool cut_short(const struct stream *s)
{
	return cli_signal() && (s->framing.kind == FRAMING_FILE ||
	    s->framing.kind == FRAMING_RECORDS ||
	    s->framing.kind == FRAMING_U32BE);
}

/* The last message needs no delimiter; a cut frame is an error. */
static int finish(struct stream *s)
{
	size_t left = s->fill - s->start;

	if (s->chunk.data == NULL || left == 0 || sending_left() == 0 ||
	    (s->copies && cli_signal()))
		return 0;
	if (cut_short(s)) {
		cli_note("%s: %zu bytes of a message that had not come whole "
		    "are left out", s->source, left);
		return 0;
	}
	if (s->framing.kind == FRAMING_U32BE) {
		size_t need = framing_need(&s->framing, bytes(s) + s->start,
		    left);

		cli_error("%s: the last frame is cut: %zu of %zu bytes",
		    s->source, left, need);
		return SAID;
	}
	add_part(s, s->start, s->start, left);
	s->start = s->fill;
	return publish_found(s);
}

static int publish_input(struct stream *s, const struct input *in)
{
	ssize_t n = 1;
	size_t room;
	int rc = 0;

	s->source = in->name;
	while (n > 0 && sending_left() > 0 && !cli_signal()) {
		if ((rc = await_input(s, in)) < 0 ||
		    (rc = make_room(s)) < 0)
			return failed(s, rc);
		room = s->chunk.size - s->fill;
		if ((n = input_read(in, bytes(s) + s->fill, room)) < 0)
			return CLI_ERROR;
		more_comes(s, (size_t)n == room);
		s->fill += (size_t)n;
		if ((rc = cut(s)) < 0 || (rc = look_beyond(s, in)) < 0)
			return failed(s, rc);
	}
	/* What a chunk that was given away left behind: whole messages too. */
	while (s->carried > 0 && sending_left() > 0 &&
	    !(s->copies && cli_signal()))
		if ((rc = make_room(s)) < 0 || (rc = cut(s)) < 0)
			return failed(s, rc);
	more_comes(s, false);
	if ((rc = finish(s)) < 0)
		return failed(s, rc);
	s->start = s->fill = 0;
	return CLI_OK;
}

/* ---- from outside --------------------------------------------------------------------- */

void stream_open(struct stream *s, const zcp *bus)
{
	s->largest = zcp_largest(bus);
	s->copies = sending.pace.every > 0;
}

void stream_close(struct stream *s)
{
	if (s->pub != NULL) {
		drop_chunk(s);
		zcp_discard(s->pub, &s->spare);
	}
	free(s->carry);
}

int stream_file(struct stream *s, const char *path)
{
	struct input in;
	uint64_t before;
	int status = input_open(&in, path);

	if (status != CLI_OK)
		return status;
	before = sending.sent + sending.dropped;
	status = publish_input(s, &in);
	/* A file that is empty is a message, too. */
	if (status == CLI_OK && s->framing.kind == FRAMING_FILE &&
	    in.fd != STDIN_FILENO && !cli_signal() && sending_left() > 0 &&
	    sending.sent + sending.dropped == before)
		status = stream_text(s, "");
	input_close(&in);
	return status;
}

int stream_text(struct stream *s, const char *text)
{
	size_t size = strlen(text);
	struct iovec piece[2] = { { (void *)text, size },
	    { s->framing.delimiter, s->framing.delimiter_size } };
	int rc;

	if (!pace_next(&sending.pace))
		return CLI_OK;
	if (tee(s, piece, 2) < 0)
		return CLI_ERROR;
	rc = send_copy(s->pub, text, size, sending.kind);
	progress_add(1, size);
	return rc < 0 ? send_failed(rc, 0) : CLI_OK;
}
