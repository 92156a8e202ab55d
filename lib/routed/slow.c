/*
 * slow.c - who is in the way: reliable readers that lag for long, chunks that
 * are held for long, pools that run empty.  Looked at once a heartbeat; each is
 * counted and logged once, when it is found.
 */
#include <stdlib.h>

#include "atomics.h"
#include "clock.h"
#include "error.h"
#include "log.h"
#include "readers.h"
#include "ring.h"
#include "routed.h"

struct held {
	uint64_t key;			/* port, cursor, entry */
	uint64_t word;			/* of the chunk, when it was first seen */
	uint64_t since;			/* ns */
	uint32_t serial;		/* of the port */
	uint32_t chunk;
	uint32_t tick;			/* when it was last seen */
	bool told;
	UT_hash_handle hh;
};

/* ---- pools -------------------------------------------------------------------------- */

void pools_look(struct routed *r)
{
	for (uint32_t i = 0; i < r->d.pools.count; i++) {
		const struct pool *pool = &r->d.pools.pool[i];
		struct pool_descriptor *desc = &r->d.m->pool[i];
		uint32_t count = pool_count(pool), used = 0;

		for (uint32_t k = 0; k < count; k++)
			used += word_state(word_load(&pool->word[k])) >=
			    CHUNK_LOANED;
		if (used > news_load(&desc->most))
			news_store(&desc->most, used);
		if (used == count && !r->pool_empty[i]) {
			news_add(&desc->empty, 1);
			log_warn("pool %u: all %u chunks of %u bytes are in "
			    "use (zcp-shmdump totals shows whose)", i, count,
			    pool->chunk_size);
			r->pool_empty[i] = true;
		} else if (used <= count - count / 8 && used < count)
			r->pool_empty[i] = false;
	}
}

/* ---- readers that lag ------------------------------------------------------------------ */

/* How far it lags at one publisher, in percent of the ring. */
static unsigned lag_at(struct routed *r, uint32_t reader, uint64_t link,
    uint64_t *lag)
{
	uint32_t port = link_port(link);
	const struct port *p = &r->d.ports[port];
	const struct cursor *c = port_cursor(r, reader, link_cursor(link));
	uint32_t slots;
	const struct ring *ring = port < r->d.max_ports ?
	    port_ring(r, p, &slots) : NULL;
	int64_t behind;
	uint64_t at;

	*lag = 0;
	if (c == NULL || ring == NULL)
		return 0;
	at = cursor_load(c);
	if (word_serial(at) != link_serial(link) ||
	    word_state(at) == CURSOR_LET_GO)
		return 0;
	behind = number_diff(news_load(&ring->head), word_number(at));
	if (behind <= 0)
		return 0;
	*lag = (uint64_t)behind;
	/* Its publisher waits for room, or for memory. */
	if (want_load(ring) & WANT_SET)
		return 100;
	return *lag >= slots ? 100 : (unsigned)(*lag * 100 / slots);
}

static unsigned worst_lag(struct routed *r, uint32_t reader, uint64_t *lag,
    uint32_t *publisher)
{
	uint64_t e = links_of(r, reader), one;
	unsigned worst = 0;

	for (uint32_t i = 0; i < extent_count(e); i++) {
		uint64_t link = fact_load(&r->d.links[extent_first(e) + i]);
		unsigned percent = link_flags(link) & LINK_RELIABLE ?
		    lag_at(r, reader, link, &one) : 0;

		if (percent > worst) {
			worst = percent;
			*lag = one;
			*publisher = link_port(link);
		}
	}
	return worst;
}

static void look_at_reader(struct routed *r, uint32_t reader, uint64_t now)
{
	struct port *p = &r->d.ports[reader];
	uint64_t *since = &r->lags_since[reader], lag = 0;
	char who[OWNER_TEXT], whom[OWNER_TEXT];
	uint32_t publisher = 0;

	if (worst_lag(r, reader, &lag, &publisher) < r->settings.slow_lag) {
		if (news_load(&p->slow_since) != 0) {
			owner_text(r, reader, who);
			log_info("%s keeps up again on %s", who,
			    port_topic_text(r, reader));
			news_store(&p->slow_since, 0);
		}
		*since = 0;
		return;
	}
	if (*since == 0)
		*since = now;
	if (news_load(&p->slow_since) != 0 ||
	    now - *since < r->settings.slow_after)
		return;
	news_store(&p->slow_since, *since);
	news_add(&r->d.m->slow, 1);
	owner_text(r, reader, who);
	owner_text(r, publisher, whom);
	log_warn("%s is slow on %s: %llu messages behind %s, whose ring has "
	    "%u, for %.1f s", who, port_topic_text(r, reader),
	    (unsigned long long)lag, whom, r->shape[publisher].slots,
	    (double)(now - *since) / 1e9);
}

/* ---- chunks that are held ---------------------------------------------------------------- */

static void look_at_held(struct routed *r, uint32_t port, uint64_t key,
    uint32_t chunk, uint64_t now)
{
	uint32_t serial = fact_load32(&r->d.ports[port].serial);
	uint64_t word;
	struct held *h;
	char who[OWNER_TEXT];

	if (!pool_has(&r->d.pools, chunk))
		return;
	word = word_load(pool_word(&r->d.pools, chunk));
	HASH_FIND(hh, r->held, &key, sizeof(key), h);
	if (h == NULL) {
		if ((h = calloc(1, sizeof(*h))) == NULL)
			return;			/* seen later */
		h->key = key;
		HASH_ADD(hh, r->held, key, sizeof(h->key), h);
	}
	h->tick = r->ticks;
	if (h->chunk != chunk || h->word != word || h->serial != serial ||
	    h->since == 0) {
		h->serial = serial;
		h->chunk = chunk;
		h->word = word;
		h->since = now;
		h->told = false;
	}
	if (h->told || now - h->since < r->settings.held_after)
		return;
	h->told = true;
	news_add(&r->d.m->long_holds, 1);
	owner_text(r, port, who);
	log_warn("%s holds chunk %u:%u (%u bytes) of %s for %.1f s", who,
	    chunk_pool(chunk), chunk_index(chunk),
	    r->d.pools.pool[chunk_pool(chunk)].chunk_size,
	    port_topic_text(r, port),
	    (double)(now - h->since) / 1e9);
}

static void look_at_holds(struct routed *r, uint32_t port, uint64_t now)
{
	uint32_t cursors = port_cursors(r, port), holds = r->shape[port].history;
	uint32_t seen = 0;

	/* No more than it may hold in all is worth a note, whatever it shows. */
	for (uint32_t i = 0; i < cursors && seen < holds; i++) {
		const struct cursor *c = port_cursor(r, port, i);

		if (c == NULL)
			return;
		for (uint32_t k = 0; seen < holds && hold_next(c, holds, &k);
		    k++, seen++)
			look_at_held(r, port, (uint64_t)port << 32 | i << 16 |
			    k, hold_chunk(c, k), now);
	}
}

static void forget_released(struct routed *r, bool all)
{
	struct held *h, *next;

	HASH_ITER(hh, r->held, h, next)
		if (all || h->tick != r->ticks) {
			HASH_DEL(r->held, h);
			free(h);
		}
}

/* ---- all ------------------------------------------------------------------------------------ */

int slow_open(struct routed *r)
{
	r->lags_since = calloc(r->d.max_ports, sizeof(*r->lags_since));
	r->held = NULL;
	return r->lags_since != NULL ? 0 :
	    error_set(ZCP_E_SYS, "out of memory");
}

void slow_close(struct routed *r)
{
	free(r->lags_since);
	r->lags_since = NULL;
	forget_released(r, true);
}

void slow_begin(struct routed *r)
{
	r->ticks++;
	r->slow_next = 0;
	pools_look(r);
}

bool slow_go_on(struct routed *r)
{
	uint64_t now = clock_ns();

	for (; r->slow_next < r->ports_most; r->slow_next++) {
		uint32_t i = r->slow_next;

		if (turn_over(r))
			return false;
		if (chain_of(&r->of_state, i) != PORTS_OPEN ||
		    r->shape[i].kind != PORT_SUBSCRIBER)
			continue;
		look_at_reader(r, i, now);
		look_at_holds(r, i, now);
	}
	forget_released(r, false);
	return true;
}
