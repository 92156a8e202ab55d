#include "sources.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "units.h"

/* ---- opening --------------------------------------------------------------------- */

static struct source *add(struct sources *s, const char *topic)
{
	struct source *bigger = realloc(s->source, (s->count + 1) *
	    sizeof(*bigger));

	if (bigger == NULL) {
		cli_error("out of memory");
		return NULL;
	}
	s->source = bigger;
	memset(&s->source[s->count], 0, sizeof(*bigger));
	s->source[s->count].topic = topic;
	return &s->source[s->count++];
}

int sources_subscribe(struct sources *s, const char *topic,
    const zcp_sub_options *options)
{
	struct source *source;
	int rc = 0;

	if (s->set == NULL && (rc = zcp_waitset_open(s->bus, &s->set)) < 0)
		return cli_failed(rc);
	if ((source = add(s, topic)) == NULL)
		return CLI_ERROR;
	source->reliable = !options->lossy;
	if ((rc = zcp_subscribe(s->bus, topic, options, &source->sub)) < 0 ||
	    (rc = zcp_waitset_add(s->set, source->sub)) < 0)
		return cli_failed(rc);
	return CLI_OK;
}

int sources_tap(struct sources *s, const char *topic)
{
	int rc = zcp_tap_open(s->bus, topic, &s->tap);

	if (rc < 0)
		return cli_failed(rc);
	return add(s, topic) == NULL ? CLI_ERROR : CLI_OK;
}

int sources_handles(struct sources *s)
{
	s->handles = true;
	return input_open(&s->in, "-");
}

void sources_close(struct sources *s)
{
	refusals_tell(&s->refusals);
	for (size_t k = 0; k < s->count; k++)
		zcp_unsubscribe(&s->source[k].sub);
	free(s->source);
	zcp_waitset_close(&s->set);
	zcp_tap_close(&s->tap);
	s->source = NULL;
	s->count = 0;
}

/* ---- taking ------------------------------------------------------------------------ */

/* A result of the library's, as sources_take() gives it. */
static int taken(struct sources *s, size_t k, const zcp_msg *msg, int rc)
{
	if (rc == -ZCP_E_HOLDS)
		return HOLDS_FULL;
	if (rc == -ZCP_E_LAPPED || (rc == -ZCP_E_DAMAGED && msg->lost > 0)) {
		s->source[k].lost += msg->lost;
		if (rc == -ZCP_E_DAMAGED)
			cli_error("%s", zcp_errmsg());
		return SOME_LOST;
	}
	if (rc == 1)
		s->last = k;
	return rc < 0 ? -cli_failed(rc) : rc;
}

/* One after the other. */
static int take_by_turns(struct sources *s, zcp_msg *msg, zcp_sub **sub)
{
	for (size_t k = 0; k < s->count; k++) {
		int rc;

		s->next = s->next + 1 < s->count ? s->next + 1 : 0;
		*sub = s->source[s->next].sub;
		if ((rc = zcp_take(*sub, msg)) != 0)
			return taken(s, s->next, msg, rc);
	}
	return NOTHING;
}

/* A small message lies in its struct. */
static void move(zcp_msg *to, const zcp_msg *from)
{
	*to = *from;
	if (from->data == from->small)
		to->data = to->small;
}

/* The earliest of what each source has next, unless one that has nothing may
 * still bring an earlier one. */
static int take_in_order(struct sources *s, zcp_msg *msg, zcp_sub **sub)
{
	struct source *first = NULL;
	bool all = true;

	for (size_t k = 0; k < s->count; k++) {
		struct source *o = &s->source[k];

		if (!o->has) {
			int rc = zcp_take(o->sub, &o->ahead);

			rc = rc == 0 ? NOTHING : taken(s, k, &o->ahead, rc);
			if (rc != TAKEN && rc != NOTHING)
				return rc;
			o->has = rc == TAKEN;
		}
		if (!o->has)
			all = false;
		else if (first == NULL || o->ahead.time < first->ahead.time)
			first = o;
	}
	if (first == NULL || (!all && first->ahead.time != 0 &&
	    now_ns() - (int64_t)first->ahead.time < s->order))
		return NOTHING;
	s->last = (size_t)(first - s->source);
	*sub = first->sub;
	move(msg, &first->ahead);
	first->has = false;
	return TAKEN;
}

/* ---- handles ------------------------------------------------------------------------- */

/* More of standard input behind what is left of it: 1, or NOTHING, NO_MORE,
 * minus a status. */
static int read_more(struct sources *s)
{
	ssize_t n;

	if (s->ended || input_empty(&s->in))
		return s->ended ? NO_MORE : NOTHING;
	s->fill -= s->start;
	memmove(s->line, s->line + s->start, s->fill);
	s->start = 0;
	/* No handle is that long: what comes up to its end is no good either. */
	if (s->fill == sizeof(s->line) - 1) {
		s->line[s->fill] = '\0';
		if (!s->skips)
			refusals_add(&s->refusals, s->line, "cannot redeem a "
			    "handle from standard input: the line is longer "
			    "than any handle");
		s->skips = true;
		s->fill = 0;
	}
	if ((n = input_read(&s->in, s->line + s->fill,
	    sizeof(s->line) - 1 - s->fill)) < 0)
		return -CLI_ERROR;
	s->fill += (size_t)n;
	if (n > 0)
		return 1;
	s->ended = true;
	/* The last line needs no newline. */
	if (s->fill > 0 && !cli_signal())
		s->line[s->fill++] = '\n';
	return 1;
}

/* The next line of standard input, without its end; NULL: *rc says why. */
static char *next_handle(struct sources *s, int *rc)
{
	for (;;) {
		char *line = s->line + s->start, *end;

		end = memchr(line, '\n', s->fill - s->start);
		if (end == NULL) {
			if ((*rc = read_more(s)) != 1)
				return NULL;
			continue;
		}
		s->start = (size_t)(end + 1 - s->line);
		*end = '\0';
		/* A handle does not end before its line does. */
		for (char *nul = line; (nul = memchr(nul, '\0',
		    (size_t)(end - nul))) != NULL;)
			*nul = '?';
		if (!s->skips)
			return line;
		s->skips = false;
	}
}

/* Redeemers whose publishers have ended. */
static void let_go(struct sources *s)
{
	zcp_sub_info info;

	for (size_t k = s->count; k-- > 0;)
		if (zcp_sub_status(s->source[k].sub, &info) < 0 ||
		    (info.seen > 0 && info.publishers == 0)) {
			zcp_unsubscribe(&s->source[k].sub);
			s->gone_lost += s->source[k].lost;
			s->source[k] = s->source[--s->count];
		}
}

/* The handle is the next one again. */
static void put_back(struct sources *s, const char *handle)
{
	s->start = (size_t)(handle - s->line);
	s->line[s->start + strlen(handle)] = '\n';
}

/* The redeemer for its publisher; HOLDS_FULL: all that is held must be
 * released before. */
static int redeemer_of(struct sources *s, const char *handle, size_t *k)
{
	struct source *source;
	int rc;

	for (*k = 0; *k < s->count; ++*k)
		if (zcp_redeems(s->source[*k].sub, handle))
			return 0;
	if (s->count > 0 && !s->flushed)
		return HOLDS_FULL;
	s->flushed = false;
	let_go(s);
	*k = s->count;
	if ((source = add(s, "handles")) == NULL)
		return -ZCP_E_SYS;
	source->reliable = true;
	if ((rc = zcp_redeemer(s->bus, handle, NULL, &source->sub)) < 0)
		s->count--;
	return rc;
}

/* A handle that is no good is told of, and counted; the next may be. */
static int take_by_handle(struct sources *s, zcp_msg *msg, zcp_sub **sub)
{
	const char *handle;
	int rc;
	size_t k;

	while ((handle = next_handle(s, &rc)) != NULL) {
		if ((rc = redeemer_of(s, handle, &k)) == HOLDS_FULL) {
			put_back(s, handle);
			s->flushed = true;
			return HOLDS_FULL;
		}
		if (rc == 0) {
			*sub = s->source[k].sub;
			rc = zcp_redeem(*sub, handle, msg);
			/* Once more, after a release. */
			if (rc == -ZCP_E_HOLDS)
				put_back(s, handle);
			if (rc != -ZCP_E_HANDLE)
				return taken(s, k, msg, rc);
		}
		if (rc != -ZCP_E_HANDLE)
			return -cli_failed(rc);
		refusals_add(&s->refusals, handle, zcp_errmsg());
	}
	if (rc == NO_MORE)
		refusals_tell(&s->refusals);
	return rc;
}

int sources_take(struct sources *s, zcp_msg *msg, size_t *count,
    zcp_sub **sub)
{
	int rc;

	/* One subscription: as short as can be. */
	if (s->count == 1 && s->set != NULL) {
		*sub = s->source[0].sub;
		rc = zcp_take_batch(*sub, msg, *count);
		if (rc > 0) {
			*count = (size_t)rc;
			return TAKEN;
		}
		return rc == 0 ? NOTHING : taken(s, 0, msg, rc);
	}
	*count = 1;
	*sub = NULL;
	if (s->handles)
		return take_by_handle(s, msg, sub);
	if (s->tap != NULL)
		return (rc = zcp_tap_read(s->tap, msg)) == 0 ? NOTHING :
		    taken(s, 0, msg, rc);
	return s->order > 0 && s->count > 1 ? take_in_order(s, msg, sub) :
	    take_by_turns(s, msg, sub);
}

uint32_t sources_missed(struct source *source)
{
	zcp_sub_info info;

	if (source->sub == NULL || zcp_sub_status(source->sub, &info) < 0 ||
	    info.unfollowed == source->missed)
		return 0;
	return source->missed = info.unfollowed;
}

void sources_look_for_losses(struct sources *s)
{
	zcp_sub_info info;

	for (size_t k = 0; k < s->count; k++) {
		struct source *o = &s->source[k];

		if (o->sub != NULL && zcp_sub_status(o->sub, &info) == 0 &&
		    info.lost > o->lost)
			o->lost = info.lost;
	}
}

void sources_origin(const struct sources *s, const zcp_msg *msg,
    zcp_source *origin)
{
	if (s->tap != NULL)
		zcp_tap_source(s->tap, msg, origin);
	else
		zcp_sub_source(s->source[s->last].sub, msg, origin);
}

/* ---- waiting --------------------------------------------------------------------------- */

static bool something_ahead(const struct sources *s)
{
	for (size_t k = 0; k < s->count; k++)
		if (s->source[k].has)
			return true;
	return false;
}

int sources_wait(struct sources *s, int64_t most)
{
	zcp_sub *ready;
	int rc;

	if (s->handles) {
		input_wait_for(&s->in, refusals_due(&s->refusals, most));
		return CLI_OK;
	}
	/* What waits for an earlier one waits no longer than it must; the
	 * others have more, which wakes nobody. */
	if (something_ahead(s)) {
		struct pollfd p = { .fd = cli_signal_fd(), .events = POLLIN };

		if (most > s->order / 4)
			most = s->order / 4;
		poll(&p, 1, (int)(most / (SECOND / 1000)) + 1);
		return CLI_OK;
	}
	rc = s->tap != NULL ? zcp_tap_wait(s->tap, most) :
	    zcp_waitset_wait(s->set, &ready, 1, most);
	return rc < 0 && rc != -ZCP_E_INTR ? cli_failed(rc) : CLI_OK;
}

int sources_ended(struct sources *s, char died[64])
{
	zcp_sub_info info;
	uint32_t seen = 0, here = 0;
	int rc;

	died[0] = '\0';
	if (something_ahead(s))
		return 0;
	for (size_t k = 0; k < s->count; k++) {
		if ((rc = zcp_sub_status(s->source[k].sub, &info)) < 0)
			return -cli_failed(rc);
		seen += info.seen;
		here += info.publishers;
		if (info.died > 0)
			memcpy(died, info.died_name, 64);
	}
	return seen > 0 && here == 0;
}
