/* matching.c - who is linked with whom, and the cursor of each link. */
#include <string.h>

#include "atomics.h"
#include "error.h"
#include "log.h"
#include "readers.h"
#include "routed.h"
#include "topic.h"

static struct port *port_of(const struct routed *r, uint32_t port)
{
	return &r->d.ports[port];
}

static bool is(const struct routed *r, uint32_t port, enum port_kind kind,
    enum port_state state)
{
	return fact_load32(&port_of(r, port)->state) == (uint32_t)state &&
	    r->shape[port].kind == (uint32_t)kind;
}

/* ---- a subscription's file -------------------------------------------------- */

const struct cursor *port_cursor(struct routed *r, uint32_t subscriber,
    uint32_t cursor)
{
	const struct subscription *s = subscriber >= r->d.max_ports ? NULL :
	    port_subscription(r, subscriber);

	return s == NULL || cursor >= r->shape[subscriber].slots ? NULL :
	    subscription_cursor(s, r->shape[subscriber].history, cursor);
}

static bool line_shows_holds(const struct cursor *c)
{
	uint32_t i = 0;

	return hold_next(c, MAX_HOLDS, &i);
}

bool holds_shown(struct routed *r, uint32_t port)
{
	const struct shape *shape = &r->shape[port];
	struct subscription *s = port_subscription(r, port);

	for (uint32_t i = 0; s != NULL && i < shape->slots; i++)
		if (line_shows_holds(subscription_cursor(s, shape->history, i)))
			return true;
	return false;
}

shared_u64 *port_over(struct routed *r, uint32_t subscriber,
    uint32_t cursor)
{
	const struct shape *shape;

	if (port_cursor(r, subscriber, cursor) == NULL)
		return NULL;
	shape = &r->shape[subscriber];
	return subscription_over(port_subscription(r, subscriber),
	    shape->slots, shape->history, cursor);
}

/* Has its reader yet to tell of a ring that has gone? */
static bool untold(uint64_t at, uint64_t over)
{
	return over != 0 && !cursor_let_go(at, word_serial(over));
}

/* A cursor that no link uses, that its reader has let go, and that nothing is
 * left to be told of. */
static uint32_t free_cursor(struct routed *r, uint32_t subscriber)
{
	const struct shape *shape = &r->shape[subscriber];
	struct subscription *s = port_subscription(r, subscriber);
	uint64_t e = links_of(r, subscriber);

	for (uint32_t i = 0; s != NULL && i < shape->slots; i++) {
		const struct cursor *c = subscription_cursor(s, shape->history,
		    i);
		uint64_t at = cursor_load(c);
		bool taken = (at != 0 && word_state(at) != CURSOR_LET_GO) ||
		    untold(at, over_load(port_over(r, subscriber, i))) ||
		    line_shows_holds(c);

		for (uint32_t k = 0; k < extent_count(e) && !taken; k++)
			taken = link_cursor(fact_load(
			    &r->d.links[extent_first(e) + k])) == i;
		if (!taken)
			return i;
	}
	return UINT32_MAX;
}

/* ---- links ----------------------------------------------------------------------- */

static uint32_t flags_of(struct routed *r, uint32_t publisher,
    uint32_t subscriber)
{
	const struct port *p = port_of(r, publisher), *s = port_of(r, subscriber);
	const struct participant *reader = owner_of_port(r, subscriber);
	struct subscription *sub = port_subscription(r, subscriber);
	uint32_t flags = 0;

	if (p->flags & s->flags & PORT_RELIABLE)
		flags |= LINK_RELIABLE;
	if (reader != NULL &&
	    fact_load32(&reader->flags) & PARTICIPANT_STALLED &&
	    stall_demotes(r, port_owner(r, subscriber)))
		flags |= LINK_DEMOTED;
	/* It was there, and open, before this publisher came. */
	if (s->registration < p->registration && sub != NULL &&
	    fact_load32(&sub->opened) == SUBSCRIPTION_OPEN)
		flags |= LINK_FROM_START;
	return flags;
}

static void part_from_ended(struct routed *r, uint32_t subscriber)
{
	uint64_t e = links_of(r, subscriber);

	for (uint32_t i = extent_count(e); i-- > 0;) {
		uint32_t p = link_port(fact_load(
		    &r->d.links[extent_first(e) + i]));

		if (p < r->d.max_ports && fact_load32(
		    &port_of(r, p)->state) != PORT_OPEN)
			match_part(r, p);
	}
}

/* A reader that may lose messages keeps no publisher away: it loses all of
 * this one's, and is told so. */
static void beyond_cursors(struct routed *r, uint32_t publisher,
    uint32_t subscriber)
{
	struct port *s = port_of(r, subscriber);
	uint32_t n = fact_load32(&s->unfollowed);
	char who[OWNER_TEXT];

	fact_publish32(&s->unfollowed, n + 1);
	if (n > 0)
		return;
	owner_text(r, subscriber, who);
	log_warn("%s follows %u publishers of %s, as many as it asked for; it "
	    "will miss %s and what comes", who, port_cursors(r, subscriber),
	    port_topic_text(r, subscriber), port_topic_text(r, publisher));
}

/*
 * Has this publisher to be let in, though there is no cursor for it: a reader
 * that may lose messages keeps nobody away; nor does one that is stopped, and
 * has yet to be told of rings that have gone, for which its cursors stay.
 */
static bool may_miss(struct routed *r, uint32_t subscriber)
{
	const struct participant *reader = owner_of_port(r, subscriber);

	if (!(port_of(r, subscriber)->flags & PORT_RELIABLE))
		return true;
	return reader != NULL &&
	    fact_load32(&reader->flags) & PARTICIPANT_STALLED &&
	    stall_demotes(r, port_owner(r, subscriber)) &&
	    extent_count(links_of(r, subscriber)) <
	    port_cursors(r, subscriber);
}

static int link_ports(struct routed *r, uint32_t publisher,
    uint32_t subscriber)
{
	struct port *s = port_of(r, subscriber);
	uint32_t cursor = free_cursor(r, subscriber), flags;
	char who[OWNER_TEXT];
	int rc;

	if (cursor == UINT32_MAX) {
		/* Some may belong to history that has been read. */
		part_from_ended(r, subscriber);
		cursor = free_cursor(r, subscriber);
	}
	if (cursor == UINT32_MAX && may_miss(r, subscriber)) {
		fact_publish32(&port_of(r, publisher)->unlinked, 1);
		if (!(s->flags & PORT_RELIABLE))
			beyond_cursors(r, publisher, subscriber);
		return 0;
	}
	if (cursor == UINT32_MAX) {
		owner_text(r, subscriber, who);
		return error_set(ZCP_E_REFUSED, "the subscription of %s to %s "
		    "follows %u publishers already, as many as it asked for "
		    "(zcp_sub_options.publishers)", who,
		    port_topic_text(r, subscriber), port_cursors(r, subscriber));
	}
	flags = flags_of(r, publisher, subscriber);
	/* Told, and never again mistaken for the new one's. */
	over_store(port_over(r, subscriber, cursor), 0);
	/* The publisher's list first: it must wait before it is read. */
	if ((rc = link_add(r, publisher, link_make(subscriber, cursor,
	    fact_load32(&s->serial), flags))) < 0)
		return rc;
	rc = link_add(r, subscriber, link_make(publisher, cursor,
	    fact_load32(&port_of(r, publisher)->serial), flags));
	if (rc < 0)
		link_remove(r, publisher, subscriber);
	return rc;
}

static void tell(struct routed *r, uint32_t publisher)
{
	/* Readers that sleep on the topic, patterns that sleep on any news. */
	if (port_topic(r, publisher) < r->d.max_topics)
		bell_announce(domain_bell(&r->d,
		    bell_of_topic(port_topic(r, publisher))));
	bell_announce(domain_bell(&r->d, BELL_DOMAIN));
}

/* Whose topics match: do they meet?  A publisher that ended does while its
 * history is kept, or readers that missed it are to be told; an unlisted one
 * none but those who redeem its handles. */
static bool meet(const struct routed *r, uint32_t publisher,
    uint32_t subscriber)
{
	const struct port *p = port_of(r, publisher);
	uint32_t redeems = port_of(r, subscriber)->redeems;

	if (redeems != (p->flags & PORT_UNLISTED ?
	    fact_load32(&p->serial) : 0))
		return false;
	return is(r, subscriber, PORT_SUBSCRIBER, PORT_OPEN) &&
	    (is(r, publisher, PORT_PUBLISHER, PORT_OPEN) ||
	    retained(r, publisher) || fact_load32(&p->unlinked) != 0);
}

static int meet_topic(struct routed *r, uint32_t port, uint32_t topic,
    meeting *visit, void *arg)
{
	bool publishes = r->shape[port].kind == PORT_PUBLISHER;
	int rc;

	chain_each(&r->of_topic, topic, i, after) {
		uint32_t p = publishes ? port : i, s = publishes ? i : port;

		if (meet(r, p, s) && (rc = visit(r, p, s, arg)) < 0)
			return rc;
	}
	return 0;
}

/*
 * Everybody on the other side: of the port's own topic, and for a publisher
 * of the patterns that match it, for a pattern of the topics that it matches.
 */
int meet_all(struct routed *r, uint32_t port, meeting *visit, void *arg)
{
	uint32_t topic = port_topic(r, port);
	const char *name = topic_text(r, topic);
	bool pattern = topic != CHAIN_END &&
	    chain_of(&r->of_kind, topic) == TOPIC_PATTERN;
	enum topic_state others = pattern ? TOPIC_NAMED : TOPIC_PATTERN;
	int rc;

	if (topic == CHAIN_END)
		return 0;
	if (!pattern && (rc = meet_topic(r, port, topic, visit, arg)) < 0)
		return rc;
	if (!pattern && r->shape[port].kind == PORT_SUBSCRIBER)
		return 0;
	chain_each(&r->of_kind, others, i, after) {
		const char *other = topic_text(r, i);

		if (topic_matches(pattern ? name : other,
		    pattern ? other : name) &&
		    (rc = meet_topic(r, port, i, visit, arg)) < 0)
			return rc;
	}
	return 0;
}

static int count_one(struct routed *r, uint32_t publisher, uint32_t subscriber,
    void *arg)
{
	(void)r;
	(void)publisher;
	(void)subscriber;
	++*(uint32_t *)arg;
	return 0;
}

/* An error has the number of those that are there as "needed". */
static int enough_cursors(struct routed *r, uint32_t subscriber)
{
	uint32_t n = 0;

	meet_all(r, subscriber, count_one, &n);
	if (n == 0 && port_of(r, subscriber)->redeems != 0)
		return error_set(ZCP_E_REFUSED, "the publisher that gave the "
		    "handle has gone");
	if (n <= port_cursors(r, subscriber))
		return 0;
	error_set(ZCP_E_REFUSED, "%u publishers are there, those that ended "
	    "and left their history included, and the subscription follows %u "
	    "at most (zcp_sub_options.publishers; by hand cursors=%u)", n,
	    port_cursors(r, subscriber), n);
	error_number("needed", n);
	return -ZCP_E_REFUSED;
}

static int link_one(struct routed *r, uint32_t publisher, uint32_t subscriber,
    void *arg)
{
	(void)arg;
	/* Who reads history lets it go, which nobody tells. */
	if (!is(r, publisher, PORT_PUBLISHER, PORT_OPEN))
		drain_soon(r);
	return link_ports(r, publisher, subscriber);
}

int match_port(struct routed *r, uint32_t port)
{
	bool publishes = r->shape[port].kind == PORT_PUBLISHER;
	int rc;

	if ((!publishes && (rc = enough_cursors(r, port)) < 0) ||
	    (rc = meet_all(r, port, link_one, NULL)) < 0) {
		unmatch_port(r, port);
		return rc;
	}
	if (publishes)
		tell(r, port);
	return 0;
}

/* A first redeemer that joined goes: its publisher is like any other now. */
static void open_gate(struct routed *r, uint32_t publisher,
    uint32_t subscriber, uint64_t link)
{
	const struct cursor *c = port_cursor(r, subscriber, link_cursor(link));
	struct port *p = port_of(r, publisher);

	if (c != NULL && word_serial(cursor_load(c)) ==
	    fact_load32(&p->serial))
		fact_publish32(&p->gated, 0);
}

void unmatch_port(struct routed *r, uint32_t port)
{
	struct port *p = port_of(r, port);
	uint64_t e;

	while (extent_count(e = links_of(r, port)) > 0) {
		uint64_t link = fact_load(&r->d.links[extent_first(e)]);
		uint32_t other = link_port(link);

		if (other < r->d.max_ports) {
			if (p->redeems != 0)
				open_gate(r, other, port, link);
			link_remove(r, other, port);
			/* A publisher may have waited for this reader. */
			if (r->shape[port].kind == PORT_SUBSCRIBER)
				bell_announce(domain_bell(&r->d,
				    bell_of_port(r->d.max_topics, other)));
		}
		link_remove(r, port, other);
	}
	if (r->shape[port].kind == PORT_PUBLISHER)
		tell(r, port);
}

static void demote_port(struct routed *r, uint32_t port, bool on)
{
	uint64_t e = links_of(r, port);

	for (uint32_t i = 0; i < extent_count(e); i++) {
		uint32_t publisher = link_port(fact_load(
		    &r->d.links[extent_first(e) + i]));

		if (publisher >= r->d.max_ports)
			continue;
		link_flag(r, publisher, port, LINK_DEMOTED, on);
		bell_announce(domain_bell(&r->d,
		    bell_of_port(r->d.max_topics, publisher)));
	}
}

void match_demote(struct routed *r, uint32_t slot, bool on)
{
	chain_each(&r->of_owner, slot, i, after)
		if (is(r, i, PORT_SUBSCRIBER, PORT_OPEN))
			demote_port(r, i, on);
}

/* Has the reader of this link yet to let the ring of that serial go? */
static bool clings(struct routed *r, uint64_t link, uint32_t serial)
{
	uint32_t s = link_port(link);
	const struct cursor *c = port_cursor(r, s, link_cursor(link));
	const struct subscription *sub;
	uint64_t at;

	if (c == NULL || !is(r, s, PORT_SUBSCRIBER, PORT_OPEN))
		return false;
	at = cursor_load(c);
	if (word_serial(at) == serial)
		return word_state(at) != CURSOR_LET_GO;
	/* there first, it shall at least see us come and go */
	return (link_flags(link) & LINK_FROM_START) &&
	    (sub = port_subscription(r, s)) != NULL &&
	    fact_load32(&sub->opened) == SUBSCRIPTION_OPEN;
}

uint32_t match_clinging(struct routed *r, uint32_t port)
{
	uint64_t e = links_of(r, port);
	uint32_t serial = fact_load32(&port_of(r, port)->serial), n = 0;

	for (uint32_t i = 0; i < extent_count(e); i++)
		n += clings(r, fact_load(&r->d.links[extent_first(e) + i]),
		    serial);
	return n;
}

/*
 * The same word, however often: a daemon that was killed in between is followed
 * by one that does it again.  A reader that joins this ring just now stores its
 * cursor, fences and looks at the tail; we looked at the tail, which is at the
 * end, fence and look at the cursor: either it finds nothing to take, or we
 * find its cursor.
 */
void match_over(struct routed *r, uint32_t port, uint64_t end)
{
	uint64_t e = links_of(r, port);
	uint32_t serial = fact_load32(&port_of(r, port)->serial);
	uint64_t over = over_make(is(r, port, PORT_PUBLISHER, PORT_DEAD) ?
	    OVER_DIED : OVER_CLOSED, serial, end);

	fence_full();
	for (uint32_t i = 0; i < extent_count(e); i++) {
		uint64_t link = fact_load(&r->d.links[extent_first(e) + i]);

		if (clings(r, link, serial))
			over_store(port_over(r, link_port(link),
			    link_cursor(link)), over);
	}
}

bool match_part(struct routed *r, uint32_t port)
{
	uint32_t serial = fact_load32(&port_of(r, port)->serial);
	uint64_t e = links_of(r, port);

	for (uint32_t i = extent_count(e); i-- > 0;) {
		uint64_t link = fact_load(&r->d.links[extent_first(e) + i]);
		uint32_t s = link_port(link);
		const struct cursor *c = port_cursor(r, s, link_cursor(link));
		uint64_t at = c == NULL ? 0 : cursor_load(c);

		if (word_serial(at) == serial &&
		    word_state(at) == CURSOR_LET_GO) {
			link_remove(r, port, s);
			link_remove(r, s, port);
		}
	}
	return extent_count(links_of(r, port)) > 0;
}

/* ---- repair ------------------------------------------------------------------------- */

static bool linked(const struct routed *r, uint32_t port, uint32_t other,
    uint64_t *link)
{
	uint64_t e = port < r->d.max_ports ? links_of(r, port) : 0;

	for (uint32_t i = 0; i < extent_count(e); i++) {
		*link = fact_load(&r->d.links[extent_first(e) + i]);
		if (link_port(*link) == other &&
		    link_serial(*link) == fact_load32(
		    &port_of(r, other)->serial))
			return true;
	}
	return false;
}

bool match_linked(struct routed *r, uint32_t publisher, uint32_t subscriber)
{
	uint64_t link;

	return linked(r, publisher, subscriber, &link) &&
	    linked(r, subscriber, publisher, &link);
}

static int link_late(struct routed *r, uint32_t publisher, uint32_t subscriber,
    void *arg)
{
	bool *left = arg;

	if (match_linked(r, publisher, subscriber))
		return 0;
	if (free_cursor(r, subscriber) == UINT32_MAX ||
	    link_ports(r, publisher, subscriber) < 0)
		*left = true;
	return 0;
}

void match_late(struct routed *r)
{
	chain_each(&r->of_state, PORTS_OPEN, i, after) {
		bool left = false;

		if (r->shape[i].kind != PORT_PUBLISHER ||
		    fact_load32(&port_of(r, i)->unlinked) == 0)
			continue;
		meet_all(r, i, link_late, &left);
		if (!left)
			fact_publish32(&port_of(r, i)->unlinked, 0);
	}
}

/* A pair that meets: both lists name it, or neither did and now both do. */
static int repair_pair(struct routed *r, uint32_t p, uint32_t s, void *arg)
{
	uint64_t by_publisher, by_subscriber;
	bool there = linked(r, p, s, &by_publisher);
	bool back = linked(r, s, p, &by_subscriber);

	(void)arg;
	if (there && !back)
		link_add(r, s, link_make(p, link_cursor(by_publisher),
		    fact_load32(&port_of(r, p)->serial),
		    link_flags(by_publisher)));
	else if (back && !there)
		link_remove(r, s, p);
	/* History that was read and unlinked is not read again. */
	if (!there && is(r, p, PORT_PUBLISHER, PORT_OPEN) &&
	    link_ports(r, p, s) < 0)
		log_warn("after adoption: %s", zcp_errmsg());
	return 0;
}

/* A link that one side alone names, to a port that has ended. */
static void remove_one_sided(struct routed *r, uint32_t port)
{
	uint64_t e = links_of(r, port), back;

	for (uint32_t i = extent_count(e); i-- > 0;) {
		uint64_t link = fact_load(&r->d.links[extent_first(e) + i]);

		if (!linked(r, link_port(link), port, &back))
			link_remove_exact(r, port, link);
	}
}

/* Links to ports that are gone, or were given to another owner. */
static void remove_dangling(struct routed *r, uint32_t port)
{
	uint64_t e = links_of(r, port);

	for (uint32_t i = 0; i < extent_count(e);) {
		uint64_t link = fact_load(&r->d.links[extent_first(e) + i]);
		uint32_t other = link_port(link);

		if (other < r->d.max_ports &&
		    fact_load32(&port_of(r, other)->state) != PORT_FREE &&
		    fact_load32(&port_of(r, other)->serial) ==
		    link_serial(link)) {
			i++;
			continue;
		}
		link_remove_exact(r, port, link);
		e = links_of(r, port);
	}
}

/* Killed between the mark on a participant and those on its links. */
static void repair_stalled(struct routed *r, uint32_t slot)
{
	struct participant *p = &r->d.participants[slot];
	bool stalled = fact_load32(&p->flags) & PARTICIPANT_STALLED;

	if (stalled && r->settings.on_stall == STALL_KILL) {
		/* Or before the kill.  Whether it is due now the first tick looks;
		 * zcp-gc has none, and leaves all as it is. */
		if (r->base == NULL)
			return;
		fact_publish32(&p->flags, 0);
		stalled = false;
	}
	if (stalled)
		stall_noted(r, slot);
	match_demote(r, slot, stalled && stall_demotes(r, slot));
}

static void repair_demotions(struct routed *r)
{
	for (uint32_t i = 0; i < r->d.max_participants; i++)
		if (fact_load32(&r->d.participants[i].state) ==
		    PARTICIPANT_LIVE)
			repair_stalled(r, i);
	/* Killed in port_end(), between the state of a reader and the marks on its
	 * links, without which its publishers wait for as long as it holds. */
	chain_each(&r->of_state, PORTS_ENDED, i, after)
		if (port_of(r, i)->kind == PORT_SUBSCRIBER)
			demote_port(r, i, true);
}

void match_repair(struct routed *r)
{
	static const enum port_list lists[] = { PORTS_OPEN, PORTS_ENDED };

	/* Counted anew by repair_pair(). */
	chain_each(&r->of_state, PORTS_OPEN, i, after)
		fact_publish32(&port_of(r, i)->unfollowed, 0);
	for (int l = 0; l < 2; l++)
		chain_each(&r->of_state, lists[l], i, after)
			remove_dangling(r, i);
	missed_repair(r);
	for (int l = 0; l < 2; l++)
		chain_each(&r->of_state, lists[l], i, after)
			if (r->shape[i].kind == PORT_PUBLISHER)
				meet_all(r, i, repair_pair, NULL);
	for (int l = 0; l < 2; l++)
		chain_each(&r->of_state, lists[l], i, after)
			remove_one_sided(r, i);
	repair_demotions(r);
}
