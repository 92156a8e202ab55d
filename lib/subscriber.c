#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "subscriber.h"
#include "topic.h"

enum {
	DEFAULT_HOLDS = 64,
	DEFAULT_CURSORS = 16,
	PATTERN_CURSORS = 256,
	REFRESHES = 100,		/* in one look, while the list changes */
};

/* ---- subscribing ---------------------------------------------------------------- */

static int check_options(const zcp_sub_options *o, struct zcp_sub *sub)
{
	sub->budget.most = o->holds ? o->holds : DEFAULT_HOLDS;
	sub->cursors = o->publishers ? o->publishers : sub->pattern ?
	    PATTERN_CURSORS : DEFAULT_CURSORS;
	sub->depth = o->depth;
	sub->lossy = o->lossy;
	sub->last = o->from_end ? 0 : o->last ? o->last : UINT32_MAX;
	sub->merge = o->merge > 0 ? (uint64_t)o->merge : 0;
	sub->spin = (struct spin)SPIN_START;
	if (sub->budget.most > MAX_HOLDS)
		return error_set(ZCP_E_ARG, "a subscription may hold at most "
		    "%d chunks, not %u", MAX_HOLDS, sub->budget.most);
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
	return subscription_cursor(sub->self, sub->budget.most, i);
}

static shared_u64 *own_over(const struct zcp_sub *sub, uint32_t i)
{
	return subscription_over(sub->self, sub->cursors, sub->budget.most, i);
}

static void subscription_prepare(struct zcp_sub *sub)
{
	struct subscription *self = (struct subscription *)
	    ((char *)sub->bus->own.base + sub->place->offset);

	sub->self = self;
	fact_publish32(&self->opened, SUBSCRIPTION_NEW);
	self->cursors = sub->cursors;
	self->holds = sub->budget.most;
	news_store(&self->taken, 0);
	news_store(&self->taken_bytes, 0);
	news_store(&self->lost, 0);
	for (uint32_t i = 0; i < sub->cursors; i++) {
		struct cursor *c = own_cursor(sub, i);

		cursor_store(c, 0);
		over_store(own_over(sub, i), 0);
		news_store(&c->lost, 0);
		for (unsigned w = 0; w < USED_WORDS; w++)
			fact_publish(&c->used[w], 0);
		/* Every page is written to: see segment_committed(). */
		for (uint32_t h = 0; h < sub->budget.most; h++)
			fact_publish32(&c->hold[h], 0);
	}
}

static int sub_register(struct zcp_sub *sub, uint32_t *needed)
{
	struct domain *d = &sub->bus->d;
	char what[TOPIC_NAME + 128];
	int rc;

	snprintf(what, sizeof(what), "SUBSCRIBER:%s:cursors=%" PRIu32
	    ":holds=%" PRIu32 ":depth=%" PRIu32 ":reliable=%d:redeems=%" PRIu32,
	    sub->topic, sub->cursors, sub->budget.most, sub->depth,
	    !sub->lossy, sub->redeems);
	rc = port_register(sub->bus, what, sub->place, needed);
	if (rc < 0)
		return rc;
	sub->port = sub->place->port;
	sub->serial = sub->place->serial;
	sub->generation = &d->ports[sub->port].generation;
	if (!sub->pattern)
		sub->topic_bell = domain_bell(d,
		    bell_of_topic(sub->place->topic));
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

static struct zcp_sub *sub_new(struct zcp *bus, const char *name, bool pattern)
{
	struct zcp_sub *sub = calloc(1, sizeof(*sub));

	if (sub == NULL) {
		error_set(ZCP_E_SYS, "out of memory");
		return NULL;
	}
	sub->bus = bus;
	sub->topic = strdup(name);
	sub->pattern = pattern;
	sub->links.generation = UINT64_MAX;
	return sub;
}

/* One try; *needed: how many publishers it would have to follow, or 0. */
static int sub_open(struct zcp_sub *sub, const zcp_sub_options *options,
    uint32_t *needed)
{
	struct zcp *bus = sub->bus;
	int rc;

	if ((rc = check_options(options, sub)) < 0 ||
	    (rc = sub_allocate(sub)) < 0 ||
	    (rc = domain_map_read(&bus->d)) < 0 ||
	    (rc = place_get(bus, subscription_bytes(sub->cursors,
	    sub->budget.most), &sub->place)) < 0)
		return rc;
	subscription_prepare(sub);
	if ((rc = sub_register(sub, needed)) == 0)
		return 0;
	/* Should the daemon have a port for it, whose reply was lost, or should
	 * it still make one: it ends it. */
	fact_publish32(&sub->self->opened, SUBSCRIPTION_CLOSED);
	place_unregistered(bus, sub->place);
	if (options->publishers != 0)
		*needed = 0;		/* as many as were asked for, no more */
	return rc;
}

int sub_start(struct zcp *bus, const char *name, bool pattern,
    uint32_t redeems, const zcp_sub_options *options, struct zcp_sub **out)
{
	zcp_sub_options o = options ? *options : (zcp_sub_options){ 0 };
	struct zcp_sub *sub;
	uint32_t needed;
	int rc;

	do {
		needed = 0;
		if ((sub = sub_new(bus, name, pattern)) == NULL)
			return -ZCP_E_SYS;
		sub->redeems = redeems;
		if ((rc = sub_open(sub, &o, &needed)) < 0)
			sub_free(sub);
		/* More are there than usual: with room for as many to come. */
		o.publishers = needed > 0x8000 ? needed : needed * 2;
	} while (needed > 0);
	if (rc < 0)
		return rc;
	bus_get(bus);
	fact_publish32(&sub->self->opened, SUBSCRIPTION_OPEN);
	if ((rc = sub_refresh(sub)) < 0)
		zcp_unsubscribe(&sub);
	*out = sub;
	return rc;
}

int zcp_subscribe(zcp *bus, const char *topic,
    const zcp_sub_options *options, zcp_sub **out)
{
	char name[TOPIC_NAME];
	int rc;

	*out = NULL;
	if ((rc = bus_check(bus)) < 0 || (rc = topic_parse(topic, name)) < 0)
		return rc;
	rc = sub_start(bus, name, rc == 1, 0, options, out);
	return rc < 0 ? error_in(rc, "cannot subscribe to %s", name) : 0;
}

/* ---- following the directory --------------------------------------------------- */

static void note_end(struct zcp_sub *sub, struct feed *f)
{
	if (f->state != FEED_ENDED || f->told)
		return;
	f->told = true;
	if (f->end == END_DIED) {
		sub->info.died++;
		snprintf(sub->info.died_name, sizeof(sub->info.died_name),
		    "%.40s (pid %u)", f->publisher, f->pid);
	}
}

static void drop(struct zcp_sub *sub, uint32_t i)
{
	note_end(sub, &sub->feed[i]);
	sub->pending -= sub->feed[i].state == FEED_PENDING;
	feed_close(&sub->feed[i]);
	sub->used[i] = false;
}

/*
 * A process that ends an offer and makes another one expects to be read in that
 * order: the feed of the later one waits for the earlier one's.  The daemon
 * notes which registration was the last when a port ended; two offers that were
 * open at a time are read by turns.
 */
static void line_up(struct zcp_sub *sub, struct feed *f)
{
	const struct feed *last = NULL;

	f->lined_up = true;
	for (uint32_t k = 0; k < sub->count; k++) {
		const struct feed *g = sub_feed(sub, k);

		if (g->peer == f->peer && g->topic == f->topic &&
		    g->state != FEED_ENDED &&
		    feed_ended_before(g, f->registration) &&
		    (last == NULL || g->registration > last->registration))
			last = g;
	}
	if (last != NULL) {
		f->before = last->index;
		f->before_serial = last->serial;
	}
}

bool sub_holds_back(struct zcp_sub *sub, struct feed *f)
{
	const struct feed *first = &sub->feed[f->before];

	if (f->before_serial == 0)
		return false;
	if (sub->used[f->before] && first->serial == f->before_serial &&
	    first->state != FEED_ENDED)
		return sub->held_back = true;
	f->before_serial = 0;
	return false;
}

static void list_feeds(struct zcp_sub *sub)
{
	sub->count = 0;
	for (uint32_t i = 0; i < sub->cursors; i++)
		if (sub->used[i])
			sub->order[sub->count++] = i;
	for (uint32_t k = 0; k < sub->count; k++)
		if (!sub_feed(sub, k)->lined_up)
			line_up(sub, sub_feed(sub, k));
	/* The feed whose turn it was may be gone; the first is next. */
	sub->turn = 0;
	sub->polled = false;
	sub->next = sub->count > 0 ? sub->count - 1 : 0;
}

/* The next take tells.  A redeemer loses nothing but what it has handles for,
 * which are stale then. */
static void note_loss(struct zcp_sub *sub, struct cursor *cursor, uint64_t n)
{
	if (sub->redeems != 0)
		return;
	news_add(&cursor->lost, n);
	sub->untold += n;
}

static void try_join(struct zcp_sub *sub, struct feed *f)
{
	uint64_t lost;

	if (f->state != FEED_PENDING)
		return;
	feed_join(f, sub->last, &lost);
	if (f->state != FEED_JOINED)
		return;
	sub->info.seen++;
	sub->pending--;
	note_loss(sub, f->cursor, lost);
}

static int follow(struct zcp_sub *sub, uint64_t link)
{
	uint32_t i = link_cursor(link);
	struct feed *f;
	int rc;

	if (i >= sub->cursors || link_port(link) >= sub->bus->d.max_ports)
		return error_set(ZCP_E_DAMAGED,
		    "subscription to %s: a link makes no sense", sub->topic);
	/* Listed once more by a daemon that took over: all is told. */
	if (cursor_let_go(cursor_load(own_cursor(sub, i)), link_serial(link)))
		return 0;
	f = &sub->feed[i];
	if (sub->used[i]) {
		if (f->serial == link_serial(link))
			return 0;
		drop(sub, i);
	}
	if ((rc = feed_open(f, &sub->bus->d, link, own_cursor(sub, i),
	    own_over(sub, i), &sub->budget)) < 0)
		return rc == -ZCP_E_ENDED ? 0 : rc;
	sub->used[i] = true;
	sub->pending++;
	try_join(sub, f);
	return 0;
}

/*
 * A publisher that came, published and went between two looks: its link has
 * gone, and all of its ring with it.  One that a feed follows is told of by
 * that feed.
 */
static void bury(struct zcp_sub *sub, uint32_t i)
{
	uint64_t over = over_load(own_over(sub, i));
	uint32_t serial = word_serial(over);
	struct cursor *cursor = own_cursor(sub, i);

	if (over == 0 || cursor_let_go(cursor_load(cursor), serial) ||
	    (sub->used[i] && sub->feed[i].serial == serial))
		return;
	if (sub->used[i])
		drop(sub, i);
	note_loss(sub, cursor, word_number(over));
	sub->info.seen++;
	if (over_state(over) == OVER_DIED) {
		sub->info.died++;
		snprintf(sub->info.died_name, sizeof(sub->info.died_name),
		    "(unknown)");
	}
	cursor_store(cursor, word_make(CURSOR_LET_GO, serial,
	    word_number(over)));
}

static bool listed(const struct zcp_sub *sub, const struct feed *f)
{
	for (uint32_t k = 0; k < sub->links.count; k++)
		if (link_serial(sub->links.link[k]) == f->serial)
			return true;
	return false;
}

static int follow_list(struct zcp_sub *sub)
{
	struct domain *d = &sub->bus->d;
	const struct port *p = &d->ports[sub->port];
	int rc = 0, damaged = 0;
	uint64_t missed;

	if (fact_load32(&p->serial) != sub->serial ||
	    fact_load32(&p->state) != PORT_OPEN)
		return port_ended(sub->bus, "subscription to", sub->topic);
	if ((rc = link_list_load(&sub->links, d, sub->port)) < 0)
		return rc;
	for (uint32_t i = 0; i < sub->cursors; i++)
		/* What is still held or unread keeps its feed. */
		if (sub->used[i] && sub->feed[i].state == FEED_ENDED &&
		    sub->feed[i].held == 0 && !listed(sub, &sub->feed[i]))
			drop(sub, i);
	for (uint32_t i = 0; i < sub->cursors; i++)
		bury(sub, i);
	missed = fact_load(&p->missed);
	sub->untold += missed - sub->missed;
	sub->missed = missed;
	for (uint32_t k = 0; k < sub->links.count && rc == 0; k++) {
		rc = follow(sub, sub->links.link[k]);
		/* Told once; the others are followed all the same. */
		if (rc == -ZCP_E_DAMAGED) {
			damaged = rc;
			rc = 0;
		}
	}
	if (rc < 0)
		sub->links.generation = UINT64_MAX;	/* try again */
	list_feeds(sub);
	return rc < 0 ? rc : damaged;
}

/*
 * A publisher may go between the look at its link and the look at its ring, and
 * then its last word is there: until the list stays the same, or whoever asks
 * whether anything is left would be told that nothing is.
 */
int sub_refresh(struct zcp_sub *sub)
{
	int rc = 0;

	for (uint32_t k = 0; k < sub->count && sub->pending > 0; k++)
		try_join(sub, sub_feed(sub, k));
	for (int pass = 0; pass < REFRESHES && rc == 0 && fact_load(
	    sub->generation) != sub->links.generation; pass++)
		rc = follow_list(sub);
	return rc;
}

void sub_look_for_ends(struct zcp_sub *sub)
{
	for (uint32_t k = 0; k < sub->count; k++) {
		struct feed *f = sub_feed(sub, k);
		bool pending = f->state == FEED_PENDING;
		uint64_t lost = feed_look_for_end(f);

		if (lost > 0)
			note_loss(sub, f->cursor, lost);
		if (f->state != FEED_ENDED || f->told)
			continue;
		if (f == sub->current)
			sub->turn = 0;
		if (pending) {
			sub->pending--;
			sub->info.seen++;
		}
		note_end(sub, f);
	}
}

void zcp_unsubscribe(zcp_sub **handle)
{
	struct zcp_sub *sub = *handle;
	struct zcp *bus;

	*handle = NULL;
	if (sub == NULL || !bus_ours(sub->bus))
		return;
	bus = sub->bus;
	if (sub->set != NULL)
		waitset_forget(sub);
	for (uint32_t i = 0; i < sub->cursors; i++)
		if (sub->used[i])
			drop(sub, i);
	fact_publish32(&sub->self->opened, SUBSCRIPTION_CLOSED);
	port_release(bus, sub->place);
	place_put(bus, sub->place);
	sub_free(sub);
	bus_put(bus);
}

void zcp_sub_source(const zcp_sub *sub, const zcp_msg *msg,
    zcp_source *source)
{
	const struct feed *f;

	*source = (zcp_source){ sub->topic, "", 0 };
	if ((uint32_t)msg->link >= sub->cursors || !sub->used[msg->link])
		return;
	f = &sub->feed[msg->link];
	*source = (zcp_source){ f->topic_name, f->publisher, f->pid };
}

/* ---- what it did ------------------------------------------------------------- */

int zcp_sub_status(zcp_sub *sub, zcp_sub_info *info)
{
	int rc;

	if ((rc = bus_check(sub->bus)) < 0 || (rc = sub_refresh(sub)) < 0)
		return rc;
	sub_look_for_ends(sub);
	*info = sub->info;
	info->unfollowed = fact_load32(
	    &sub->bus->d.ports[sub->port].unfollowed);
	info->publishers = 0;
	info->lost += sub->untold;
	for (uint32_t k = 0; k < sub->count; k++) {
		if (sub->redeems == 0)
			info->lost += feed_lost(sub_feed(sub, k));
		if (sub_feed(sub, k)->state != FEED_ENDED)
			info->publishers++;
	}
	/* A loss that is still to be told. */
	if (sub->untold > 0 && info->publishers == 0)
		info->publishers = 1;
	return 0;
}
