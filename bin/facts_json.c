#include "facts_json.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "units.h"

/* ---- printing --------------------------------------------------------------------- */

/* 15 digits are what a double has in any case: 0.1 is not printed as
 * 0.10000000000000001. */
#define JSON_FORM (JSON_COMPACT | JSON_REAL_PRECISION(15))

static bool print(json_t *o)
{
	bool written = o != NULL && json_dumpf(o, stdout, JSON_FORM) == 0 &&
	    putchar('\n') != EOF;

	json_decref(o);
	return written;
}

static void number(json_t *o, const char *key, uint64_t value)
{
	json_object_set_new(o, key, json_integer((json_int_t)value));
}

static void real(json_t *o, const char *key, double value)
{
	json_object_set_new(o, key, json_real(value));
}

/* What came out of shared memory may be no UTF-8. */
static void text(json_t *o, const char *key, const char *value)
{
	json_object_set_new(o, key, json_string(text_is_utf8(value,
	    strlen(value)) ? value : "?"));
}

static void boolean(json_t *o, const char *key, bool value)
{
	json_object_set_new(o, key, json_boolean(value));
}

static json_t *object(const char *what)
{
	json_t *o = json_object();

	text(o, "what", what);
	return o;
}

/* The participant and the topic of a port. */
static void owner(json_t *o, const zcp_snapshot *s, const zcp_port_facts *f)
{
	text(o, "name", s->participant[f->participant].name);
	number(o, "pid", s->participant[f->participant].pid);
	text(o, "topic", s->topic[f->topic].name);
}

/* ---- what there is ------------------------------------------------------------------ */

bool json_domain(const struct report *r)
{
	const zcp_domain_facts *d = &r->now->domain;
	json_t *o = object("domain");

	text(o, "domain", d->name);
	text(o, "dir", d->dir);
	number(o, "uid", d->uid);
	json_object_set_new(o, "layout", json_sprintf("%u.%u",
	    d->layout_major, d->layout_minor));
	real(o, "created", (double)d->created / 1e9);
	json_object_set_new(o, "daemon", json_integer(d->daemon));
	boolean(o, "copy", d->copy);
	number(o, "bytes", d->bytes);
	number(o, "heartbeat_ms", d->heartbeat / 1000000);
	boolean(o, "symmetric", d->symmetric);
	number(o, "participants", r->now->participants);
	number(o, "max_participants", d->max_participants);
	number(o, "topics", r->now->topics);
	number(o, "max_topics", d->max_topics);
	number(o, "ports", r->now->ports);
	number(o, "max_ports", d->max_ports);
	number(o, "max_links", d->max_links);
	number(o, "registrations", d->registrations);
	number(o, "incarnations", d->incarnations);
	number(o, "deaths", d->deaths);
	number(o, "reclaimed", d->reclaimed);
	number(o, "demotions", d->demotions);
	number(o, "refused", d->refused);
	number(o, "cut", d->cut);
	number(o, "slow", d->slow);
	number(o, "long_holds", d->long_holds);
	number(o, "damaged", d->damaged);
	return print(o);
}

bool json_pools(const struct report *r)
{
	bool written = true;

	for (size_t i = 0; i < r->now->pools && written; i++) {
		const zcp_pool_facts *f = &r->now->pool[i];
		json_t *o = object("pool");

		number(o, "pool", i);
		number(o, "size", f->chunk_size);
		number(o, "chunks", f->count);
		number(o, "free", f->free);
		number(o, "loaned", f->loaned);
		number(o, "published", f->published);
		number(o, "most", f->most);
		number(o, "empty", f->empty);
		written = print(o);
	}
	return written;
}

bool json_participants(const struct report *r)
{
	bool written = true;

	for (size_t i = 0; i < r->now->participants && written; i++) {
		const zcp_participant_facts *f = &r->now->participant[i];
		json_t *o = object("participant");
		char command[256];

		command_of(r->now, f, command, sizeof(command));
		number(o, "participant", f->slot);
		text(o, "name", f->name);
		number(o, "pid", f->pid);
		number(o, "uid", f->uid);
		number(o, "gid", f->gid);
		text(o, "state", participant_state(f));
		if (f->beat != 0 && !r->now->domain.copy)
			real(o, "beat", f->beat < r->now->time ?
			    (double)(r->now->time - f->beat) / 1e9 : 0);
		number(o, "publishers", f->publishers);
		number(o, "subscribers", f->subscribers);
		number(o, "loans", f->loans);
		number(o, "holds", f->holds);
		text(o, "command", command);
		written = print(o);
	}
	return written;
}

/* ---- topics and ports --------------------------------------------------------------- */

static void rates(json_t *o, const struct sum *sum)
{
	real(o, "messages_s", sum->messages);
	real(o, "bytes_s", sum->bytes);
	real(o, "taken_s", sum->taken);
	if (sum->interval_mean > 0)
		real(o, "interval_mean_us", sum->interval_mean / 1e3);
	if (sum->interval_max > 0) {
		real(o, "interval_min_us", (double)sum->interval_min / 1e3);
		real(o, "interval_max_us", (double)sum->interval_max / 1e3);
	}
	if (sum->delays > 0) {
		real(o, "delay_p50_us", (double)sum->delay_p50 / 1e3);
		real(o, "delay_p99_us", (double)sum->delay_p99 / 1e3);
	}
}

bool json_topics(const struct report *r)
{
	bool written = true;

	for (size_t i = 0; i < r->now->topics && written; i++) {
		const zcp_topic_facts *f = &r->now->topic[i];
		json_t *o = object(f->pattern ? "pattern" : "topic");
		const struct sum *sum = &r->topic[i];

		text(o, "topic", f->name);
		number(o, "publishers", f->publishers);
		number(o, "subscribers", f->subscribers);
		if (r->before != NULL)
			rates(o, sum);
		number(o, "lag", sum->lag);
		number(o, "lost", sum->lost);
		text(o, "mark", sum->mark);
		written = print(o);
	}
	return written;
}

static json_t *port_object(const struct report *r, size_t i)
{
	const zcp_port_facts *f = &r->now->port[i];
	json_t *o = object(f->publisher ? "publisher" : "subscriber");

	number(o, "port", f->index);
	number(o, "serial", f->serial);
	owner(o, r->now, f);
	text(o, "state", port_state(f));
	boolean(o, "reliable", f->reliable);
	number(o, "links", f->links);
	number(o, "messages", f->publisher ? f->messages : f->taken);
	number(o, "bytes", f->publisher ? f->bytes : f->taken_bytes);
	if (f->publisher) {
		number(o, "slots", f->slots);
		number(o, "history", f->history);
		number(o, "tail", f->tail);
		number(o, "head", f->head);
		number(o, "unseen", f->unseen);
		number(o, "waits", f->waits);
		boolean(o, "waiting", f->waiting);
		boolean(o, "unlisted", f->unlisted);
		number(o, "loans", f->loans);
		number(o, "chunks", f->chunks);
	} else {
		number(o, "depth", f->depth);
		number(o, "lag", f->lag);
		number(o, "lost", f->lost);
		number(o, "held", f->held);
		number(o, "holds", f->holds_most);
		real(o, "slow", f->slow_since == 0 ? 0 : (double)(
		    r->now->time - f->slow_since) / 1e9);
	}
	if (r->before != NULL)
		rates(o, &r->port[i]);
	text(o, "mark", r->port[i].mark);
	return o;
}

bool json_ports(const struct report *r)
{
	bool written = true;

	for (size_t i = 0; i < r->now->ports && written; i++)
		written = print(port_object(r, i));
	return written;
}

bool json_links(const struct report *r)
{
	const zcp_snapshot *s = r->now;
	bool written = true;

	for (size_t i = 0; i < s->links && written; i++) {
		const zcp_link_facts *f = &s->link[i];
		json_t *o = object("link");

		number(o, "publisher", s->port[f->publisher].index);
		number(o, "subscriber", s->port[f->reader].index);
		owner(o, s, &s->port[f->reader]);
		text(o, "topic", s->topic[s->port[f->publisher].topic].name);
		boolean(o, "reliable", f->reliable);
		boolean(o, "demoted", f->demoted);
		boolean(o, "joined", f->joined);
		number(o, "at", f->at);
		number(o, "lag", f->lag);
		number(o, "lost", f->lost);
		number(o, "held", f->held);
		real(o, "waiting_us", (double)f->waiting / 1e3);
		written = print(o);
	}
	return written;
}

/* ---- chunks ---------------------------------------------------------------------------- */

static json_t *holders(const zcp_snapshot *s, const zcp_chunk_facts *f)
{
	json_t *all = json_array();

	for (uint32_t i = 0; i < f->holders; i++) {
		const zcp_port_facts *reader =
		    &s->port[s->holder[f->first_holder + i].reader];
		json_t *o = json_object();

		text(o, "name", s->participant[reader->participant].name);
		number(o, "pid", s->participant[reader->participant].pid);
		number(o, "port", reader->index);
		json_array_append_new(all, o);
	}
	return all;
}

static void preview(json_t *o, const zcp_chunk_facts *f)
{
	char hex[2 * sizeof(f->preview) + 1] = "";

	for (uint32_t i = 0; i < f->preview_size; i++)
		sprintf(hex + 2 * i, "%02x", f->preview[i]);
	if (f->preview_size > 0)
		text(o, "preview", hex);
}

bool json_chunks(const struct report *r)
{
	const zcp_snapshot *s = r->now;
	bool written = true;

	for (size_t i = 0; i < s->chunks && written; i++) {
		const zcp_chunk_facts *f = &s->chunk[i];
		json_t *o = object("chunk");

		json_object_set_new(o, "chunk", json_sprintf("%u:%u", f->pool,
		    f->index));
		number(o, "size", s->pool[f->pool].chunk_size);
		text(o, "state", chunk_state(s, f));
		if (f->port != ZCP_NONE)
			owner(o, s, &s->port[f->port]);
		if (f->state == ZCP_CHUNK_PUBLISHED)
			number(o, "seq", f->seq);
		if (f->length > 0)
			number(o, "length", f->length);
		if (f->time != 0 && f->time < s->time)
			real(o, "age", (double)(s->time - f->time) / 1e9);
		json_object_set_new(o, "holders", holders(s, f));
		preview(o, f);
		written = print(o);
	}
	return written;
}

bool json_totals(const struct report *r)
{
	const zcp_snapshot *s = r->now;
	bool written = true;
	struct total *all;
	size_t n;

	all = totals_by_port(s, &n);
	for (size_t i = 0; i < n && written; i++) {
		json_t *o = object("total");

		if (all[i].port != ZCP_NONE)
			owner(o, s, &s->port[all[i].port]);
		number(o, "chunks", all[i].loaned + all[i].published);
		number(o, "bytes", all[i].bytes);
		number(o, "loaned", all[i].loaned);
		number(o, "published", all[i].published);
		number(o, "held", all[i].held);
		written = print(o);
	}
	free(all);
	return written;
}

static json_t *blocker(const zcp_snapshot *s, uint32_t reader)
{
	json_t *o = json_object();

	owner(o, s, &s->port[reader]);
	number(o, "port", s->port[reader].index);
	return o;
}

bool json_blocked(const struct report *r)
{
	const zcp_snapshot *s = r->now;
	bool written = true;

	for (uint32_t i = 0; i < s->ports && written; i++) {
		uint32_t link = r->blocked_by[i];
		json_t *o;

		if (link == ZCP_NONE)
			continue;
		o = object("blocked");
		owner(o, s, &s->port[i]);
		number(o, "port", s->port[i].index);
		json_object_set_new(o, "by", blocker(s, s->link[link].reader));
		number(o, "lag", s->link[link].lag);
		written = print(o);
	}
	for (uint32_t i = 0; i < s->holders && written; i++) {
		const zcp_chunk_facts *f = &s->chunk[s->holder[i].chunk];
		json_t *o;

		if (f->in_ring)
			continue;
		o = object("blocked");
		json_object_set_new(o, "chunk", json_sprintf("%u:%u", f->pool,
		    f->index));
		json_object_set_new(o, "by", blocker(s, s->holder[i].reader));
		written = print(o);
	}
	return written;
}
