/* status.c - what the daemon says of its domain: key=value lines. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "atomics.h"
#include "clock.h"
#include "liveness.h"
#include "log.h"
#include "routed.h"

/* Its owner has heard of it: from now on it misses nothing. */
static bool opened(const struct routed *r, uint32_t port)
{
	const struct subscription *s = port_subscription(r, port);

	return r->shape[port].kind == PORT_PUBLISHER || (s != NULL &&
	    fact_load32(&s->opened) == SUBSCRIPTION_OPEN);
}

struct counts {
	uint32_t publishers, subscribers, draining;
};

static struct counts count_ports(const struct routed *r)
{
	struct counts n = { .publishers = r->publishers };

	chain_each(&r->of_state, PORTS_OPEN, i, after)
		n.subscribers += r->shape[i].kind == PORT_SUBSCRIBER &&
		    opened(r, i);
	chain_each(&r->of_state, PORTS_ENDED, i, after)
		n.draining++;
	return n;
}

static uint32_t count_topics(const struct routed *r)
{
	uint32_t n = 0;

	chain_each(&r->of_kind, TOPIC_NAMED, i, after)
		n++;
	return n;
}

static uint32_t count_participants(const struct routed *r)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < r->d.max_participants; i++)
		n += fact_load32(&r->d.participants[i].state) ==
		    PARTICIPANT_LIVE;
	return n;
}

static void say_domain(struct routed *r, struct text *t)
{
	const struct mgmt *m = r->d.m;
	struct counts n = count_ports(r);

	text_add(t, "domain=%s uid=%u pid=%d uptime=%" PRIu64 " layout=%d.%d "
	    "fences=%s waitv=%s socket=%s\n", r->d.name, (unsigned)r->d.uid,
	    (int)getpid(), (uint64_t)((clock_ns() - r->started) / NS_PER_S),
	    LAYOUT_MAJOR, LAYOUT_MINOR,
	    r->d.symmetric ? "symmetric" : "asymmetric",
	    r->d.waitv ? "yes" : "no", r->claim.site.socket);
	text_add(t, "participants=%u topics=%u publishers=%u subscribers=%u "
	    "draining=%u deaths=%" PRIu64 " reclaimed=%" PRIu64
	    " demotions=%" PRIu64 " refused=%" PRIu64 " cut=%" PRIu64
	    " slow=%" PRIu64 " long_holds=%" PRIu64 "\n",
	    count_participants(r), count_topics(r), n.publishers,
	    n.subscribers, n.draining,
	    news_load(&m->deaths), news_load(&m->reclaimed),
	    news_load(&m->demotions), news_load(&m->refused),
	    news_load(&m->cut), news_load(&m->slow),
	    news_load(&m->long_holds));
}

static void say_pool(struct routed *r, struct text *t, uint32_t i)
{
	const struct pool *p = &r->d.pools.pool[i];
	uint32_t count = pool_count(p), state[4] = { 0 };

	for (uint32_t k = 0; k < count; k++)
		state[word_state(word_load(&p->word[k]))]++;
	text_add(t, "pool=%u count=%u free=%u loaned=%u published=%u "
	    "most=%" PRIu64 " empty=%" PRIu64 "\n", p->chunk_size, count,
	    state[CHUNK_FREE], state[CHUNK_LOANED], state[CHUNK_PUBLISHED],
	    news_load(&p->desc->most), news_load(&p->desc->empty));
}

static void say_participant(struct routed *r, struct text *t, uint32_t i)
{
	const struct participant *p = &r->d.participants[i];
	uint32_t state = fact_load32(&p->state), flags = fact_load32(&p->flags);
	struct heart heart = { 0 };

	if (state == PARTICIPANT_FREE)
		return;
	if (r->watch[i].peer != NULL)
		heart_look(&r->d, i, p->incarnation,
		    news_load(&r->watch[i].peer->member->beat), &heart);
	text_add(t, "participant=%u name=%.63s pid=%u uid=%u state=%s beat_ms=%" PRIu64
	    "\n", i, p->name, p->pid, p->uid,
	    state == PARTICIPANT_ENDED ?
	    (flags & PARTICIPANT_DIED ? "died" : "left") :
	    flags & PARTICIPANT_STALLED ? "stalled" : "live",
	    heart.age / NS_PER_MS);
}

static const char *port_state_name(uint32_t state)
{
	switch (state) {
	case PORT_OPEN: return "open";
	case PORT_CLOSED: return "closed";
	case PORT_DEAD: return "dead";
	}
	return "free";
}

static void say_port(struct routed *r, struct text *t, uint32_t i)
{
	const struct port *p = &r->d.ports[i];
	uint32_t state = fact_load32(&p->state);
	const struct shape *shape = &r->shape[i];
	const struct ring *ring = port_place(r, i);
	const struct subscription *s = port_subscription(r, i);

	if (state == PORT_FREE || shape->kind == 0)
		return;
	text_add(t, "port=%u kind=%s topic=%s participant=%u serial=%u state=%s "
	    "reliable=%d links=%u", i,
	    shape->kind == PORT_PUBLISHER ? "publisher" : "subscriber",
	    port_topic_text(r, i), port_owner(r, i),
	    fact_load32(&p->serial), state == PORT_OPEN && !opened(r, i) ?
	    "opening" : port_state_name(state),
	    (p->flags & PORT_RELIABLE) != 0,
	    extent_count(links_of(r, i)));
	if (ring != NULL)
		text_add(t, " slots=%u history=%u messages=%" PRIu64
		    " bytes=%" PRIu64 " unseen=%" PRIu64 " retained=%u",
		    shape->slots, shape->history, news_load(&ring->head),
		    news_load(&ring->bytes), news_load(&ring->unseen),
		    state == PORT_OPEN ? 0 : r->keep[i]);
	if (s != NULL)
		text_add(t, " holds=%u depth=%u messages=%" PRIu64
		    " bytes=%" PRIu64 " lost=%" PRIu64, shape->history,
		    p->depth, news_load(&s->taken),
		    news_load(&s->taken_bytes), news_load(&s->lost));
	if (shape->kind == PORT_SUBSCRIBER && news_load(&p->slow_since) != 0)
		text_add(t, " slow_ms=%" PRIu64, (clock_ns() -
		    news_load(&p->slow_since)) / NS_PER_MS);
	text_add(t, "\n");
}

/* Item 0 is the domain; then pools, participants, ports. */
static bool say_item(struct routed *r, struct text *t, uint32_t i)
{
	if (i == 0) {
		say_domain(r, t);
		return true;
	}
	if ((i -= 1) < r->d.pools.count)
		say_pool(r, t, i);
	else if ((i -= r->d.pools.count) < r->d.max_participants)
		say_participant(r, t, i);
	else if ((i -= r->d.max_participants) < r->ports_most)
		say_port(r, t, i);
	else
		return false;
	return true;
}

void status_text(struct routed *r, uint32_t from, struct text *t)
{
	for (; text_left(t) > TEXT_LINE; from++)
		if (!say_item(r, t, from))
			return;
	text_add(t, "MORE:%u\n", from);
}

void status_log_participants(struct routed *r)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < r->d.max_participants; i++) {
		char line[512] = "";
		struct text t = { line, sizeof(line), 0 };

		say_participant(r, &t, i);
		line[strcspn(line, "\n")] = '\0';
		if (line[0] != '\0') {
			log_write(LOG_LEVEL_ERROR, "%s", line);
			n++;
		}
	}
	log_write(LOG_LEVEL_ERROR, "%u participants registered", n);
}
