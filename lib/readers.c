#include "readers.h"

#include <stdlib.h>
#include <string.h>

#include "atomics.h"
#include "error.h"

enum { RETRIES = 1000 };

/* ---- links ----------------------------------------------------------------- */

static bool grow(void **array, uint32_t *room, uint32_t want, size_t each)
{
	uint32_t to = *room ? *room : 8;
	void *bigger;

	while (to < want)
		to *= 2;
	if (to == *room)
		return true;
	if ((bigger = realloc(*array, to * each)) == NULL)
		return false;
	*array = bigger;
	*room = to;
	return true;
}

int link_list_load(struct link_list *list, const struct domain *d,
    uint32_t port)
{
	const struct port *p = &d->ports[port];

	for (int i = 0; i < RETRIES; i++) {
		uint64_t generation = fact_load(&p->generation);
		uint64_t extent = fact_load(&p->links);
		uint32_t first = extent_first(extent);
		uint32_t count = extent_count(extent);

		if (count > d->max_links ||
		    first > d->max_links - count)
			return error_set(ZCP_E_DAMAGED,
			    "port %u: its links lie outside of the table", port);
		if (!grow((void **)&list->link, &list->room, count,
		    sizeof(*list->link)))
			return error_set(ZCP_E_SYS, "out of memory");
		for (uint32_t k = 0; k < count; k++)
			list->link[k] = fact_load(&d->links[first + k]);
		fact_recheck();
		if (fact_load(&p->generation) == generation) {
			list->count = count;
			list->generation = generation;
			return 0;
		}
	}
	return error_set(ZCP_E_BUSY, "port %u: its links keep changing", port);
}

void link_list_free(struct link_list *list)
{
	free(list->link);
	*list = (struct link_list){ 0 };
}

/* ---- resolved readers ------------------------------------------------------ */

/* 1 resolved, 0 gone or damaged (the generation tells which), < 0 failure. */
static int resolve(struct reader *r, struct domain *d, uint64_t link)
{
	uint32_t index = link_port(link), cursors, holds;
	const struct port *p;
	struct subscription *s;
	uint64_t incarnation, offset;
	int rc;

	if (index >= d->max_ports)
		return 0;
	p = &d->ports[index];
	incarnation = p->incarnation;
	offset = p->offset;
	cursors = p->slots;
	holds = p->history;
	*r = (struct reader){ .link = link, .participant = p->participant,
	    .depth = p->depth, .holds = holds };
	if (fact_load32(&p->serial) != link_serial(link) ||
	    p->kind != PORT_SUBSCRIBER || link_cursor(link) >= cursors)
		return 0;
	if ((rc = peer_get(d, r->participant, incarnation, &r->peer)) < 0)
		return error_in(rc, "cannot look at reader %u", index);
	s = peer_subscription(r->peer, offset, cursors, holds);
	if (s == NULL) {
		peer_put(d, r->peer);
		return 0;
	}
	r->dead = peer_cut(r->peer);
	r->subscription = s;
	r->cursor = subscription_cursor(s, holds, link_cursor(link));
	return 1;
}

static void put_all(struct reader *reader, uint32_t count, struct domain *d)
{
	for (uint32_t i = 0; i < count; i++)
		peer_put(d, reader[i].peer);
	free(reader);
}

/* Readers found dead stay dead in the new set: serials are not reused. */
static void carry_deaths(struct reader *to, uint32_t count,
    const struct reader_set *from)
{
	for (uint32_t k = 0; k < from->count; k++)
		for (uint32_t i = 0; from->reader[k].dead && i < count; i++)
			if (link_serial(to[i].link) ==
			    link_serial(from->reader[k].link))
				to[i].dead = true;
}

/*
 * Looked at behind the list and before its generation: the daemon opens the
 * gate before it takes the first redeemer off the list, so no set says both
 * "gated" and "nobody" about one who was there.
 */
static bool gate_closed(const struct domain *d, uint32_t port)
{
	const struct port *p = &d->ports[port];

	return fact_load32(&p->gated) && fact_load32(&p->state) == PORT_OPEN;
}

int reader_set_load(struct reader_set *set, struct domain *d, uint32_t port)
{
	for (int attempt = 0; attempt < RETRIES; attempt++) {
		struct reader *reader;
		uint32_t count = 0;
		bool gated;
		int rc = link_list_load(&set->links, d, port);

		if (rc < 0)
			return rc;
		reader = calloc(set->links.count + 1, sizeof(*reader));
		if (reader == NULL)
			return error_set(ZCP_E_SYS, "out of memory");
		rc = 1;
		for (uint32_t i = 0; i < set->links.count && rc > 0; i++)
			if ((rc = resolve(&reader[count], d,
			    set->links.link[i])) > 0)
				count++;
		gated = gate_closed(d, port);
		fact_recheck();
		if (fact_load(&d->ports[port].generation) !=
		    set->links.generation) {
			put_all(reader, count, d);
			continue;
		}
		if (rc <= 0) {
			put_all(reader, count, d);
			return rc < 0 ? rc : error_set(ZCP_E_DAMAGED,
			    "port %u: a link names no reader", port);
		}
		carry_deaths(reader, count, set);
		put_all(set->reader, set->count, d);
		set->reader = reader;
		set->count = count;
		set->generation = set->links.generation;
		set->gated = gated;
		set->expected = gated ||
		    fact_load32(&d->ports[port].unlinked) != 0;
		return 0;
	}
	return error_set(ZCP_E_BUSY, "port %u: its readers keep changing", port);
}

void reader_set_free(struct reader_set *set, struct domain *d)
{
	put_all(set->reader, set->count, d);
	link_list_free(&set->links);
	*set = (struct reader_set){ 0 };
}

/* ---- limits ------------------------------------------------------------------ */

/* What a cursor says, within [tail, head]. */
static uint64_t within_ring(const struct ring_view *view, uint64_t at)
{
	uint64_t c = number_widen(view->tail, word_number(at));

	if (number_diff(c, view->tail) < 0)
		c = view->tail;
	return c > view->head ? view->head : c;
}

bool reader_cursor(const struct reader *r, const struct ring_view *view,
    uint64_t *cursor)
{
	uint64_t at = cursor_load(r->cursor);

	if (word_serial(at) != view->serial)
		return false;
	*cursor = within_ring(view, at);
	return true;
}

static bool gates_at_start(const struct reader *r)
{
	return (link_flags(r->link) & LINK_FROM_START) &&
	    fact_load32(&r->subscription->opened) == SUBSCRIPTION_OPEN;
}

/* It has read all, or left: of this ring, not of one before in this line. */
static bool let_go(uint64_t at, const struct ring_view *view)
{
	return word_serial(at) == view->serial &&
	    word_state(at) == CURSOR_LET_GO;
}

bool reader_follows(const struct reader *r, const struct ring_view *view)
{
	uint64_t cursor;

	if (r->dead || let_go(cursor_load(r->cursor), view))
		return false;
	return reader_cursor(r, view, &cursor) ||
	    ((link_flags(r->link) & LINK_RELIABLE) && gates_at_start(r));
}

static uint64_t lossy_floor(const struct ring_view *view, uint32_t depth)
{
	uint32_t most = view->slots / 2 - view->history;

	if (depth == 0 || depth > most)
		depth = most;
	return view->head > depth ? view->head - depth : 0;
}

struct limits readers_limits(const struct reader_set *set,
    const struct ring_view *view)
{
	uint64_t end = view->head > view->history ?
	    view->head - view->history : 0;
	struct limits l = { end, end, view->head, view->head, false };
	bool gated = set->gated;

	for (uint32_t i = 0; i < set->count; i++) {
		const struct reader *r = &set->reader[i];
		uint32_t flags = link_flags(r->link);
		bool gates = (flags & LINK_RELIABLE) && !(flags & LINK_DEMOTED);
		uint64_t at = cursor_load(r->cursor), c;
		bool joined = word_serial(at) == view->serial;

		gated = gated && !joined;
		l.unjoined |= !joined;
		if (joined && number_diff(word_number(at), l.behind) < 0)
			l.behind = word_number(at);
		if (r->dead || let_go(at, view) ||
		    (!joined && !gates_at_start(r)))
			continue;
		c = joined ? within_ring(view, at) : view->tail;
		if (gates && c < l.read)
			l.read = c;
		if (!gates) {
			uint64_t floor = lossy_floor(view, r->depth);

			if (c < floor)
				c = floor;
		}
		if (c < l.kept)
			l.kept = c;
	}
	if (gated || l.read < view->tail)
		l.read = view->tail;
	if (l.read < l.promised)
		l.promised = l.read;
	if (l.promised < view->tail)
		l.promised = view->tail;
	if (gated || l.kept < view->tail)
		l.kept = view->tail;
	return l;
}

/* ---- held chunks --------------------------------------------------------------- */

static bool open_set(struct hold_set *set, const struct pools *pools)
{
	uint32_t words = 0;

	for (uint32_t i = 0; i < pools->count; i++) {
		set->first[i] = words;
		set->limit[i] = pools->pool[i].limit;
		words += (set->limit[i] + 63) / 64;
	}
	set->bit = calloc(words, sizeof(*set->bit));
	set->used = malloc(words * sizeof(*set->used));
	if (set->bit != NULL && set->used != NULL)
		return true;
	hold_set_free(set);
	return false;
}

void hold_set_clear(struct hold_set *set)
{
	for (uint32_t i = 0; i < set->words; i++)
		set->bit[set->used[i]] = 0;
	set->words = set->count = 0;
}

bool hold_set_add(struct hold_set *set, const struct pools *pools,
    uint32_t chunk)
{
	uint32_t pool = chunk_pool(chunk), index = chunk_index(chunk), word;
	uint64_t bit = UINT64_C(1) << index % 64;

	if (pool >= pools->count || index >= pools->pool[pool].limit)
		return true;
	if (set->bit == NULL && !open_set(set, pools))
		return false;
	word = set->first[pool] + index / 64;
	if (set->bit[word] & bit)
		return true;
	if (set->bit[word] == 0)
		set->used[set->words++] = word;
	set->bit[word] |= bit;
	set->count++;
	return true;
}

void hold_set_free(struct hold_set *set)
{
	free(set->bit);
	free(set->used);
	*set = (struct hold_set){ 0 };
}

bool hold_next(const struct cursor *cursor, uint32_t holds, uint32_t *i)
{
	for (; *i < holds; *i = (*i / 64 + 1) * 64) {
		uint64_t used = holds_load(cursor, *i / 64) >> *i % 64;

		if (used != 0) {
			*i += (uint32_t)__builtin_ctzll(used);
			return *i < holds;
		}
	}
	return false;
}

bool hold_set_collect(struct hold_set *set, const struct pools *pools,
    const struct cursor *cursor, uint32_t holds)
{
	for (uint32_t w = 0; w * 64 < holds; w++) {
		uint64_t used = holds_load(cursor, w);

		if (holds - w * 64 < 64)
			used &= (UINT64_C(1) << (holds - w * 64)) - 1;
		for (; used != 0; used &= used - 1)
			if (!hold_set_add(set, pools, hold_chunk(cursor,
			    w * 64 + (uint32_t)__builtin_ctzll(used))))
				return false;
	}
	return true;
}
