#include "replay.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "cli.h"
#include "frame.h"
#include "input.h"
#include "progress.h"
#include "sender.h"
#include "units.h"

enum { READ_MOST = 65536 };
#define FAR 1e18		/* ns; whatever a frame says */

struct replay_topic {
	char name[FRAME_TOPIC];
	zcp_pub *pub;
	UT_hash_handle hh;
};

/* What was read and not yet sent. */
struct pending {
	struct input in;
	char *data;
	size_t start, fill, room;
	uint64_t frames;
};

static int damaged(const struct pending *p, const char *what)
{
	cli_error("%s: frame %" PRIu64 " %s (zcp-sub -F frame makes them)",
	    p->in.name, p->frames + 1, what);
	return CLI_ERROR;
}

/* ---- topics --------------------------------------------------------------------- */

static int topic_of(struct replay *r, const struct pending *p,
    const char *name, zcp_pub **pub)
{
	struct replay_topic *t;
	int rc;

	HASH_FIND_STR(r->topics, name, t);
	if (t != NULL) {
		*pub = t->pub;
		return CLI_OK;
	}
	if ((t = calloc(1, sizeof(*t))) == NULL) {
		cli_error("out of memory");
		return CLI_ERROR;
	}
	if ((rc = zcp_offer(r->bus, name, r->options, &t->pub)) < 0) {
		free(t);
		return rc == -ZCP_E_ARG ? damaged(p, "names no topic") :
		    cli_failed(rc);
	}
	strcpy(t->name, name);
	HASH_ADD_STR(r->topics, name, t);
	*pub = t->pub;
	return r->opened(t->pub);
}

/* ---- frames ---------------------------------------------------------------------- */

/* Reads on until `need` bytes are there; *there: they are. */
static int fill_up(struct pending *p, size_t need, bool *there)
{
	ssize_t n = 1;

	if (p->start > 0) {
		memmove(p->data, p->data + p->start, p->fill - p->start);
		p->fill -= p->start;
		p->start = 0;
	}
	if (need > p->room) {
		char *bigger = realloc(p->data, need + READ_MOST);

		if (bigger == NULL) {
			cli_error("out of memory");
			return CLI_ERROR;
		}
		p->data = bigger;
		p->room = need + READ_MOST;
	}
	while (p->fill < need && n > 0)
		if ((n = input_read(&p->in, p->data + p->fill,
		    p->room - p->fill)) > 0)
			p->fill += (size_t)n;
	*there = p->fill >= need;
	return n < 0 ? CLI_ERROR : CLI_OK;
}

/* The next frame's first line; *size: its length, 0 at the end of input. */
static int next_header(struct pending *p, struct frame *f, size_t *size)
{
	size_t left;
	bool there;
	int status;

	for (;;) {
		left = p->fill - p->start;
		*size = left == 0 ? 0 :
		    frame_parse(p->data + p->start, left, f);
		if (*size == FRAME_DAMAGED)
			return damaged(p, "does not begin as frames do");
		if (*size > 0)
			return CLI_OK;
		if ((status = fill_up(p, left + 1, &there)) != CLI_OK)
			return status;
		if (!there)
			return left > 0 && !cli_signal() ?
			    damaged(p, "is cut") : CLI_OK;
	}
}

/* At the distance from the first one that the recording gives it. */
static bool wait_for(struct replay *r, const struct frame *f)
{
	double after;

	if (r->speed == 0 || f->time == 0)
		return pace_next(&sending.pace);
	if (r->first == 0) {
		r->first = f->time;
		r->began = now_ns();
	}
	after = ((double)f->time - (double)r->first) / r->speed;
	return pace_until(r->began + (int64_t)(after > FAR ? FAR :
	    after < 0 ? 0 : after));
}

static int replay_one(struct replay *r, struct pending *p,
    const struct frame *f, size_t header)
{
	size_t whole = header + f->length + 1;
	zcp_chunk none;
	zcp_pub *pub = NULL;
	bool there;
	int status, rc;

	if ((status = topic_of(r, p, f->topic, &pub)) != CLI_OK)
		return status;
	if (f->kind > UINT16_MAX)
		return damaged(p, "has a type of more than 65535");
	if (f->length > zcp_largest(r->bus))
		return cli_failed(zcp_loan(pub, f->length, &none, 0));
	if (p->fill - p->start < whole) {
		if ((status = fill_up(p, whole, &there)) != CLI_OK)
			return status;
		if (!there)
			return cli_signal() ? CLI_OK : damaged(p, "is cut");
	}
	if (p->data[p->start + whole - 1] != '\n')
		return damaged(p, "does not end as frames do");
	if (!wait_for(r, f))
		return CLI_OK;
	rc = send_copy(pub, p->data + p->start + header, f->length, f->kind);
	progress_add(1, whole);
	progress_tick();
	p->start += whole;
	p->frames++;
	return rc < 0 ? send_failed(rc, 0) : CLI_OK;
}

int replay_file(struct replay *r, const char *path)
{
	struct pending p = { 0 };
	int status = input_open(&p.in, path);
	struct frame f;
	size_t header;

	if (status != CLI_OK)
		return status;
	while (status == CLI_OK && sending_left() > 0 && !cli_signal() &&
	    (status = next_header(&p, &f, &header)) == CLI_OK && header > 0)
		status = replay_one(r, &p, &f, header);
	free(p.data);
	input_close(&p.in);
	return status;
}

void replay_close(struct replay *r,
    void (*tell)(const zcp_pub *pub, const char *topic))
{
	struct replay_topic *t, *next;

	HASH_ITER(hh, r->topics, t, next) {
		HASH_DEL(r->topics, t);
		tell(t->pub, t->name);
		zcp_stop_offer(&t->pub);
		free(t);
	}
}
