/*
 * trace.c - pools and chunks as an observer sees them: every chunk that is not
 * free, who owns it, who holds it.
 */
#include <stdlib.h>
#include <string.h>

#include "atomics.h"
#include "facts.h"
#include "names.h"
#include "readers.h"
#include "ring.h"

struct trace {
	struct look *l;
	struct names names;
	uint32_t *chunk[MAX_POOLS];	/* by index: place in the snapshot + 1 */
	uint32_t count[MAX_POOLS];
	unsigned what;
};

/* The publisher of that serial that the snapshot has. */
static uint32_t port_named(const struct trace *t, uint32_t serial)
{
	uint32_t index = names_find(&t->names, serial), port = index ==
	    UINT32_MAX ? ZCP_NONE : t->l->at.port[index];

	return port != ZCP_NONE && t->l->s->port[port].publisher &&
	    t->l->s->port[port].serial == serial ? port : ZCP_NONE;
}

/* ---- chunks -------------------------------------------------------------------------- */

static void preview(struct look *l, zcp_chunk_facts *f)
{
	const char *data = pool_see(&l->o->d.pools,
	    chunk_id(f->pool, f->index), f->offset, f->length);

	if (data == NULL)
		return;
	f->preview_size = f->length < sizeof(f->preview) ? f->length :
	    sizeof(f->preview);
	memcpy(f->preview, data, f->preview_size);
}

/* Its last message, while the slot still tells. */
static void look_at_message(struct trace *t, zcp_chunk_facts *f)
{
	zcp_port_facts *p = &t->l->s->port[f->port];
	const struct ring *ring = facts_ring(t->l, p);
	uint64_t body[INLINE_SIZE / 8];
	struct message m;

	f->seq = number_widen(p->head, f->seq);
	if (ring == NULL || ring_get(ring, p->slots - 1, f->seq, &m, body) !=
	    SLOT_MESSAGE || m.chunk != chunk_id(f->pool, f->index))
		return;
	f->in_ring = f->seq >= p->tail;
	f->offset = m.offset;
	f->length = m.length;
	f->kind = m.kind;
	f->time = m.time;
	if (t->what & ZCP_LOOK_PREVIEWS)
		preview(t->l, f);
}

static void add_chunk(struct trace *t, uint32_t pool, uint32_t index,
    uint64_t word)
{
	zcp_snapshot *s = t->l->s;
	uint32_t port = port_named(t, word_serial(word));
	bool loaned = word_state(word) == CHUNK_LOANED;
	zcp_chunk_facts *f;

	if (port != ZCP_NONE) {
		s->port[port].loans += loaned;
		s->port[port].chunks += !loaned;
		s->participant[s->port[port].participant].loans += loaned;
	}
	if (!(t->what & ZCP_LOOK_CHUNKS))
		return;
	if ((f = facts_add(t->l, &s->chunk, &s->chunks, sizeof(*f))) == NULL)
		return;
	*f = (zcp_chunk_facts){ .pool = pool, .index = index, .state = loaned ?
	    ZCP_CHUNK_LOANED : ZCP_CHUNK_PUBLISHED, .serial =
	    word_serial(word), .port = port, .seq = word_number(word) };
	t->chunk[pool][index] = (uint32_t)s->chunks;
	if (!loaned && port != ZCP_NONE)
		look_at_message(t, f);
}

static void look_at_pool(struct trace *t, uint32_t i)
{
	const struct pool *pool = &t->l->o->d.pools.pool[i];
	const struct pool_descriptor *desc = pool->desc;
	zcp_pool_facts *f = facts_add(t->l, &t->l->s->pool, &t->l->s->pools,
	    sizeof(*f));

	if (f == NULL)
		return;
	t->count[i] = pool_count(pool);
	*f = (zcp_pool_facts){ .chunk_size = pool->chunk_size,
	    .count = t->count[i], .limit = pool->limit,
	    .most = (uint32_t)news_load(&desc->most),
	    .empty = news_load(&desc->empty) };
	if (t->what & ZCP_LOOK_CHUNKS)
		t->chunk[i] = calloc(t->count[i] + 1, sizeof(uint32_t));
	if (t->what & ZCP_LOOK_CHUNKS && t->chunk[i] == NULL)
		t->l->rc = error_set(ZCP_E_SYS, "out of memory");
	for (uint32_t k = 0; k < t->count[i] && t->l->rc == 0; k++) {
		uint64_t word = word_load(&pool->word[k]);

		f = &t->l->s->pool[i];
		f->free += word_state(word) == CHUNK_FREE;
		f->loaned += word_state(word) == CHUNK_LOANED;
		f->published += word_state(word) == CHUNK_PUBLISHED;
		if (word_state(word) >= CHUNK_LOANED)
			add_chunk(t, i, k, word);
	}
	f = &t->l->s->pool[i];
	if (f->most < f->loaned + f->published)
		f->most = f->loaned + f->published;
}

/* ---- holders --------------------------------------------------------------------------- */

/* Reader and cursor of each link, to find the one of a cursor. */
static uint32_t link_of(const zcp_snapshot *s, uint32_t reader,
    uint32_t publisher)
{
	for (uint32_t i = 0; i < s->links; i++)
		if (s->link[i].reader == reader &&
		    s->link[i].publisher == publisher)
			return i;
	return ZCP_NONE;
}

static void add_hold(struct trace *t, uint32_t reader, uint32_t id)
{
	zcp_snapshot *s = t->l->s;
	uint32_t pool = chunk_pool(id), index = chunk_index(id), at;
	zcp_holder_facts *f;

	s->port[reader].held++;
	s->participant[s->port[reader].participant].holds++;
	if (!(t->what & ZCP_LOOK_CHUNKS) || pool >= s->pools ||
	    index >= t->count[pool] || (at = t->chunk[pool][index]) == 0)
		return;
	if ((f = facts_add(t->l, &s->holder, &s->holders, sizeof(*f))) == NULL)
		return;
	f->chunk = at - 1;
	f->reader = reader;
	f->link = s->chunk[f->chunk].port == ZCP_NONE ? ZCP_NONE :
	    link_of(s, reader, s->chunk[f->chunk].port);
}

static void look_at_holds(struct trace *t, uint32_t reader)
{
	const zcp_port_facts *p = &t->l->s->port[reader];
	const struct subscription *s = facts_subscription(t->l, p);
	uint32_t holds = p->holds_most;

	if (s == NULL)
		return;
	for (uint32_t i = 0; i < p->slots && t->l->rc == 0; i++) {
		const struct cursor *c = subscription_cursor(
		    (struct subscription *)s, holds, i);

		for (uint32_t k = 0; hold_next(c, holds, &k); k++)
			add_hold(t, reader, hold_chunk(c, k));
	}
}

static int by_chunk(const void *a, const void *b)
{
	const zcp_holder_facts *x = a, *y = b;

	return (x->chunk > y->chunk) - (x->chunk < y->chunk);
}

static void sort_holders(zcp_snapshot *s)
{
	if (s->holders > 0)
		qsort(s->holder, s->holders, sizeof(*s->holder), by_chunk);
	for (uint32_t i = 0; i < s->holders; i++) {
		zcp_chunk_facts *f = &s->chunk[s->holder[i].chunk];

		if (f->holders++ == 0)
			f->first_holder = i;
	}
}

void facts_chunks(struct look *l, unsigned what)
{
	struct trace t = { .l = l, .what = what };

	l->rc = names_load(&t.names, &l->o->d);
	for (uint32_t i = 0; i < l->o->d.pools.count && l->rc == 0; i++)
		look_at_pool(&t, i);
	for (uint32_t i = 0; i < l->s->ports && l->rc == 0; i++)
		if (!l->s->port[i].publisher &&
		    l->s->port[i].state != ZCP_PORT_DEAD)
			look_at_holds(&t, i);
	sort_holders(l->s);
	for (uint32_t i = 0; i < MAX_POOLS; i++)
		free(t.chunk[i]);
	names_free(&t.names);
}
