#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "feed.h"
#include "readers.h"
#include "spin.h"
#include "topic.h"

enum {
	DEFAULT_HOLDS = 64,
	DEFAULT_CURSORS = 16,
	PATTERN_CURSORS = 256,
	TURN = 32,			/* messages of one publisher in a row */
	LOOK_EVERY = 256,		/* takes between looks at the directory */
	IDLE_EVERY = 16,		/* vain takes between looks for ends */
};

struct zcp_sub {
	struct zcp *bus;
	struct place *place;
	struct subscription *self;
	char *topic;
	uint32_t port, serial;
	uint32_t cursors, holds, depth;
	bool lossy, from_end, pattern;
	struct bell *topic_bell;	/* NULL for a pattern */

	struct link_list links;
	struct feed *feed;		/* by cursor index */
	bool *used;			/* is feed[i] open? */
	uint32_t *order;		/* indices of open feeds */
	uint32_t count;
	uint32_t next, turn;		/* fairness: whose turn, for how long */
	uint32_t takes, idle;		/* calls; in vain, since the last look */
	uint32_t pending;		/* feeds whose publisher is not ready */
	uint32_t held;
	uint64_t joined_lost;		/* found when joining, to be reported */
	uint64_t spin;
	zcp_sub_info info;
};

/* ---- subscribing ---------------------------------------------------------------- */

static int check_options(const zcp_sub_options *o, struct zcp_sub *sub)
{
	sub->holds = o->holds ? o->holds : DEFAULT_HOLDS;
	sub->cursors = o->publishers ? o->publishers : sub->pattern ?
	    PATTERN_CURSORS : DEFAULT_CURSORS;
	sub->depth = o->depth;
	sub->lossy = o->lossy;
	sub->from_end = o->from_end;
	sub->spin = SPIN_START;
	if (sub->holds > MAX_HOLDS)
		return error_set(ZCP_E_ARG, "a subscription may hold at most "
		    "%d chunks, not %u", MAX_HOLDS, sub->holds);
	if (sub->cursors > 1u << LINK_CURSOR_BITS)
		return error_set(ZCP_E_ARG, "a subscription may follow at most "
		    "%u publishers, not %u", 1u << LINK_CURSOR_BITS,
		    sub->cursors);
	return 0;
}

static int sub_allocate(struct zcp_sub *sub)
{
	sub->feed = calloc(sub->cursors, sizeof(*sub->feed));
	sub->used = calloc(sub->cursors, sizeof(*sub->used));
	sub->order = calloc(sub->cursors, sizeof(*sub->order));
	if (sub->topic == NULL || sub->feed == NULL || sub->used == NULL ||
	    sub->order == NULL)
		return error_set(ZCP_E_SYS, "out of memory");
	return 0;
}

static struct cursor *own_cursor(const struct zcp_sub *sub, uint32_t i)
{
	return subscription_cursor(sub->self, sub->holds, i);
}

static void subscription_prepare(struct zcp_sub *sub)
{
	struct subscription *self = (struct subscription *)
	    ((char *)sub->bus->own.base + sub->place->offset);

	sub->self = self;
	fact_publish32(&self->opened, SUBSCRIPTION_NEW);
	self->cursors = sub->cursors;
	self->holds = sub->holds;
	news_store(&self->taken, 0);
	news_store(&self->taken_bytes, 0);
	news_store(&self->lost, 0);
	for (uint32_t i = 0; i < sub->cursors; i++) {
		struct cursor *c = own_cursor(sub, i);

		cursor_store(c, 0);
		news_store(&c->lost, 0);
		for (unsigned w = 0; w < USED_WORDS; w++)
			fact_publish(&c->used[w], 0);
		/* Every page is written to: see segment_committed(). */
		for (uint32_t h = 0; h < sub->holds; h++)
			fact_publish32(&c->hold[h], 0);
	}
}

static int sub_register(struct zcp_sub *sub)
{
	struct domain *d = &sub->bus->d;
	char what[TOPIC_NAME + 128];
	int rc;

	snprintf(what, sizeof(what), "SUBSCRIBER:%s:cursors=%" PRIu32
	    ":holds=%" PRIu32 ":depth=%" PRIu32 ":reliable=%d", sub->topic,
	    sub->cursors, sub->holds, sub->depth, !sub->lossy);
	if ((rc = port_register(sub->bus, what, sub->place)) < 0)
		return rc;
	sub->port = (uint32_t)rc;
	sub->serial = sub->place->serial;
	if (d->ports[rc].topic >= d->m->max_topics)
		return error_set(ZCP_E_DAMAGED,
		    "port %d: its record makes no sense", rc);
	if (!sub->pattern)
		sub->topic_bell = domain_bell(d,
		    bell_of_topic(d->ports[rc].topic));
	return 0;
}

static void sub_free(struct zcp_sub *sub)
{
	link_list_free(&sub->links);
	free(sub->feed);
	free(sub->used);
	free(sub->order);
	free(sub->topic);
	free(sub);
}

static int refresh(struct zcp_sub *sub);

int zcp_subscribe(zcp *bus, const char *topic,
    const zcp_sub_options *options, zcp_sub **out)
{
	const zcp_sub_options none = { 0 };
	struct zcp_sub *sub;
	char name[TOPIC_NAME];
	int rc;

	*out = NULL;
	if ((rc = bus_check(bus)) < 0 || (rc = topic_parse(topic, name)) < 0)
		return rc;
	if ((sub = calloc(1, sizeof(*sub))) == NULL)
		return error_set(ZCP_E_SYS, "out of memory");
	sub->bus = bus;
	sub->topic = strdup(name);
	sub->pattern = rc == 1;
	if ((rc = check_options(options ? options : &none, sub)) < 0 ||
	    (rc = sub_allocate(sub)) < 0 ||
	    (rc = domain_map_read(&bus->d)) < 0 ||
	    (rc = place_get(bus, subscription_bytes(sub->cursors, sub->holds),
	    &sub->place)) < 0)
		goto fail;
	subscription_prepare(sub);
	if ((rc = sub_register(sub)) < 0) {
		/* Unanswered it may be registered: then its place stays taken. */
		if (rc == -ZCP_E_REFUSED)
			place_put(bus, sub->place);
		goto fail;
	}
	sub->links.generation = UINT64_MAX;
	fact_publish32(&sub->self->opened, SUBSCRIPTION_OPEN);
	if ((rc = refresh(sub)) < 0) {
		zcp_unsubscribe(&sub);
		return error_in(rc, "cannot subscribe to %s", name);
	}
	*out = sub;
	return 0;
fail:
	sub_free(sub);
	return error_in(rc, "cannot subscribe to %s", name);
}

/* ---- following the directory --------------------------------------------------- */

static void note_end(struct zcp_sub *sub, const struct feed *f)
{
	if (f->end == END_DIED) {
		sub->info.died++;
		snprintf(sub->info.died_name, sizeof(sub->info.died_name),
		    "%.63s", f->publisher);
	}
}

static void drop(struct zcp_sub *sub, uint32_t i)
{
	sub->held -= sub->feed[i].held;
	sub->pending -= sub->feed[i].state == FEED_PENDING;
	feed_close(&sub->feed[i]);
	sub->used[i] = false;
}

static void list_feeds(struct zcp_sub *sub)
{
	sub->count = 0;
	for (uint32_t i = 0; i < sub->cursors; i++)
		if (sub->used[i])
			sub->order[sub->count++] = i;
	sub->next = sub->turn = 0;
}

static void try_join(struct zcp_sub *sub, struct feed *f)
{
	uint64_t lost;

	if (f->state != FEED_PENDING)
		return;
	feed_join(f, sub->from_end, &lost);
	if (f->state != FEED_JOINED)
		return;
	sub->info.seen++;
	sub->pending--;
	if (lost > 0) {
		news_add(&f->cursor->lost, lost);
		sub->joined_lost += lost;
	}
}

static int follow(struct zcp_sub *sub, uint64_t link)
{
	uint32_t i = link_cursor(link);
	struct feed *f;
	int rc;

	if (i >= sub->cursors || link_port(link) >= sub->bus->d.m->max_ports)
		return error_set(ZCP_E_DAMAGED,
		    "subscription to %s: a link makes no sense", sub->topic);
	f = &sub->feed[i];
	if (sub->used[i]) {
		if (f->serial == link_serial(link))
			return 0;
		drop(sub, i);
	}
	if ((rc = feed_open(f, &sub->bus->d, link, own_cursor(sub, i),
	    sub->holds)) < 0)
		return rc == -ZCP_E_ENDED ? 0 : rc;
	sub->used[i] = true;
	sub->pending++;
	try_join(sub, f);
	return 0;
}

static bool listed(const struct zcp_sub *sub, const struct feed *f)
{
	for (uint32_t k = 0; k < sub->links.count; k++)
		if (link_serial(sub->links.link[k]) == f->serial)
			return true;
	return false;
}

/* Brings the feeds in line with the links that the daemon lists for us. */
static int refresh(struct zcp_sub *sub)
{
	struct domain *d = &sub->bus->d;
	const struct port *p = &d->ports[sub->port];
	int rc = 0;

	for (uint32_t k = 0; k < sub->count && sub->pending > 0; k++)
		try_join(sub, &sub->feed[sub->order[k]]);
	if (fact_load(&p->generation) == sub->links.generation)
		return 0;
	if (fact_load32(&p->serial) != sub->serial ||
	    fact_load32(&p->state) != PORT_OPEN)
		return error_set(ZCP_E_ENDED, "the route daemon has ended the "
		    "subscription to %s (it took this process for dead)",
		    sub->topic);
	if ((rc = link_list_load(&sub->links, d, sub->port)) < 0)
		return rc;
	for (uint32_t i = 0; i < sub->cursors; i++)
		/* What is still held or unread keeps its feed. */
		if (sub->used[i] && sub->feed[i].state == FEED_ENDED &&
		    sub->feed[i].held == 0 && !listed(sub, &sub->feed[i]))
			drop(sub, i);
	for (uint32_t k = 0; k < sub->links.count && rc == 0; k++)
		rc = follow(sub, sub->links.link[k]);
	if (rc < 0)
		sub->links.generation = UINT64_MAX;	/* try again */
	list_feeds(sub);
	return rc;
}

void zcp_unsubscribe(zcp_sub **handle)
{
	struct zcp_sub *sub = *handle;

	*handle = NULL;
	/* A forked child has not these mappings: it only forgets the handle. */
	if (sub == NULL || sub->bus->born != fork_generation)
		return;
	for (uint32_t i = 0; i < sub->cursors; i++)
		if (sub->used[i])
			drop(sub, i);
	fact_publish32(&sub->self->opened, SUBSCRIPTION_CLOSED);
	port_release(sub->bus, sub->port);
	place_put(sub->bus, sub->place);
	sub_free(sub);
}

/* ---- taking ----------------------------------------------------------------------- */

static int lost(struct zcp_sub *sub, zcp_msg *msg, uint64_t n)
{
	sub->info.lost += n;
	news_store(&sub->self->lost, sub->info.lost);
	msg->lost = n;
	msg->data = NULL;
	return error_set(ZCP_E_LAPPED, "%" PRIu64 " messages on %s were "
	    "overwritten before they were taken", n, sub->topic);
}

static int took(struct zcp_sub *sub, zcp_msg *msg, uint32_t i)
{
	msg->link = (int32_t)i;
	msg->lost = 0;
	news_store(&sub->self->taken, ++sub->info.messages);
	news_store(&sub->self->taken_bytes, sub->info.bytes += msg->size);
	return 1;
}

static int take_from(struct zcp_sub *sub, zcp_msg *msg, uint32_t i)
{
	struct feed *f = &sub->feed[i];
	uint32_t held = f->held;

	if (f->state != FEED_JOINED)
		return 0;
	switch (feed_take(f, msg, sub->held < sub->holds)) {
	case TOOK_NOTHING:
		break;
	case TOOK_MESSAGE:
		sub->held += f->held - held;
		return took(sub, msg, i);
	case TOOK_LOSS:
		return lost(sub, msg, msg->lost);
	case TOOK_DAMAGE:
		lost(sub, msg, 1);
		return error_set(ZCP_E_DAMAGED, "%s published a message on %s "
		    "that lies in no chunk: skipped", f->publisher, sub->topic);
	case TOOK_AGAIN:
		break;
	case TOOK_NO_HOLD:
		return error_set(ZCP_E_HOLDS, "subscription to %s holds the "
		    "%u chunks agreed on: release one first", sub->topic,
		    sub->holds);
	}
	return 0;
}

static void look_for_ends(struct zcp_sub *sub)
{
	for (uint32_t k = 0; k < sub->count; k++) {
		struct feed *f = &sub->feed[sub->order[k]];

		bool pending;

		if (f->state == FEED_ENDED)
			continue;
		pending = f->state == FEED_PENDING;
		feed_look_for_end(f);
		if (f->state != FEED_ENDED)
			continue;
		if (pending) {
			sub->pending--;
			sub->info.seen++;
		}
		note_end(sub, f);
	}
}

/* One round over all feeds, a turn of several messages for each. */
static int take_round(struct zcp_sub *sub, zcp_msg *msg)
{
	for (uint32_t k = 0; k < sub->count; k++) {
		int rc;

		if (sub->turn++ >= TURN) {
			sub->turn = 0;
			sub->next = sub->next + 1 < sub->count ?
			    sub->next + 1 : 0;
		}
		if ((rc = take_from(sub, msg, sub->order[sub->next])) != 0)
			return rc;
		sub->turn = TURN;
	}
	return 0;
}

int zcp_take(zcp_sub *sub, zcp_msg *msg)
{
	int rc;

	if (__builtin_expect((rc = bus_check(sub->bus)) < 0, 0))
		return rc;
	if (++sub->takes % LOOK_EVERY == 0 && (rc = refresh(sub)) < 0)
		return rc;
	if (__builtin_expect(sub->joined_lost > 0, 0)) {
		uint64_t n = sub->joined_lost;

		sub->joined_lost = 0;
		return lost(sub, msg, n);
	}
	if ((rc = take_round(sub, msg)) != 0)
		return rc;
	if (sub->idle++ % IDLE_EVERY == 0)
		look_for_ends(sub);
	return refresh(sub);
}

void zcp_release(zcp_sub *sub, zcp_msg *msg)
{
	struct feed *f;
	uint32_t held;

	if (msg->data == NULL || bus_check(sub->bus) < 0)
		return;
	msg->data = NULL;
	if (msg->hold < 0 || (uint32_t)msg->link >= sub->cursors ||
	    !sub->used[msg->link])
		return;
	f = &sub->feed[msg->link];
	if ((uint32_t)msg->hold >= f->holds || f->users[msg->hold] == 0)
		return;
	held = f->held;
	feed_release(f, (uint32_t)msg->hold);
	sub->held -= held - f->held;
}

/* ---- waiting ------------------------------------------------------------------------ */

static bool something(const struct zcp_sub *sub)
{
	if (sub->joined_lost > 0 || fact_load(
	    &sub->bus->d.ports[sub->port].generation) !=
	    sub->links.generation)
		return true;
	for (uint32_t k = 0; k < sub->count; k++)
		if (feed_ready(&sub->feed[sub->order[k]]))
			return true;
	return false;
}

/* Several subscriptions of one bus that are waited for together. */
struct several {
	zcp_sub *const *sub;
	size_t count;
};

static bool any(void *arg)
{
	const struct several *s = arg;

	for (size_t i = 0; i < s->count; i++)
		if (something(s->sub[i])) {
			/* It may be an end: the next vain take looks. */
			s->sub[i]->idle = 0;
			return true;
		}
	return false;
}

static bool add_bell(struct bell **bells, unsigned *n, struct bell *bell)
{
	for (unsigned i = 0; i < *n; i++)
		if (bells[i] == bell)
			return true;
	if (*n == BELLS_MAX - 1)
		return false;
	bells[(*n)++] = bell;
	return true;
}

static bool add_bells(const struct zcp_sub *sub, struct bell **bells,
    unsigned *n)
{
	struct domain *d = &sub->bus->d;
	bool fit = sub->topic_bell == NULL ||
	    add_bell(bells, n, sub->topic_bell);

	for (uint32_t k = 0; k < sub->count && fit && sub->pattern; k++)
		fit = add_bell(bells, n, domain_bell(d, bell_of_topic(
		    sub->feed[sub->order[k]].topic)));
	return fit;
}

/* The topics' bells; the domain's when they are too many, or one is all that
 * this kernel can wait for. */
static unsigned bells_of(const struct several *s, struct bell **bells)
{
	struct domain *d = &s->sub[0]->bus->d;
	bool fit = d->waitv;
	unsigned n = 0;

	for (size_t i = 0; i < s->count && fit; i++)
		fit = add_bells(s->sub[i], bells, &n);
	if (fit)
		return n;
	bells[0] = domain_bell(d, BELL_DOMAIN);
	return 1;
}

static int check_several(const struct several *s)
{
	int rc = s->count ? 0 : error_set(ZCP_E_ARG,
	    "cannot wait for no subscription");

	for (size_t i = 0; i < s->count && rc == 0; i++)
		if ((rc = bus_check(s->sub[i]->bus)) == 0 &&
		    s->sub[i]->bus != s->sub[0]->bus)
			rc = error_set(ZCP_E_ARG, "cannot wait for "
			    "subscriptions of several buses in one call");
	return rc;
}

int zcp_wait_any(zcp_sub *const *subs, size_t count, int64_t timeout)
{
	struct several s = { subs, count };
	struct bell *bells[BELLS_MAX], *news;
	uint64_t deadline, left;
	struct domain *d;
	unsigned n;
	int rc;

	if ((rc = check_several(&s)) < 0)
		return rc;
	deadline = deadline_after(timeout);
	if (any(&s) || (timeout != 0 &&
	    spin_until(&subs[0]->spin, deadline, any, &s)))
		return 1;
	d = &subs[0]->bus->d;
	n = bells_of(&s, bells);
	news = domain_bell(d, BELL_DOMAIN);
	if (n == 1 && bells[0] == news)
		news = NULL;
	while (!any(&s)) {
		if ((left = deadline_left(deadline, BELL_RECHECK)) == 0)
			return 0;
		if ((rc = bell_sleep(bells, n, news, left, d->symmetric,
		    d->waitv, any, &s)) < 0)
			return rc;
	}
	return 1;
}

int zcp_wait(zcp_sub *sub, int64_t timeout)
{
	return zcp_wait_any(&sub, 1, timeout);
}

int zcp_sub_status(zcp_sub *sub, zcp_sub_info *info)
{
	int rc;

	if ((rc = bus_check(sub->bus)) < 0 || (rc = refresh(sub)) < 0)
		return rc;
	look_for_ends(sub);
	*info = sub->info;
	info->publishers = 0;
	for (uint32_t k = 0; k < sub->count; k++)
		if (sub->feed[sub->order[k]].state != FEED_ENDED)
			info->publishers++;
	/* A loss that is still to be told. */
	if (sub->joined_lost > 0 && info->publishers == 0)
		info->publishers = 1;
	return 0;
}
