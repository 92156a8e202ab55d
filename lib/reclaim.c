/*
 * reclaim.c - the owner's part of reclaiming, zcp-design(7): limit, tail,
 * fence, holds, chunks; in batches, never per publish.
 */
#include <inttypes.h>
#include <stdio.h>

#include "guard.h"
#include "liveness.h"
#include "probes.h"
#include "publisher.h"

int readers_refresh(struct zcp_pub *pub)
{
	struct domain *d = &pub->bus->d;
	const struct port *port = &d->ports[pub->port];

	if (fact_load(pub->generation) == pub->readers.generation)
		return 0;
	if (fact_load32(&port->serial) != pub->serial ||
	    fact_load32(&port->state) != PORT_OPEN)
		return port_ended(pub->bus, "publisher of", pub->topic);
	return reader_set_load(&pub->readers, d, pub->port);
}

uint64_t reclaimable(struct zcp_pub *pub)
{
	struct ring_view view = pub_view(pub);

	if (readers_refresh(pub) < 0)
		return pub->tail;
	return readers_limits(&pub->readers, &view).kept;
}

void readers_bury(struct zcp_pub *pub)
{
	for (uint32_t i = 0; i < pub->readers.count; i++) {
		struct reader *r = &pub->readers.reader[i];
		enum fate fate;

		if (r->dead)
			continue;
		fate = participant_fate(&pub->bus->d, r->participant);
		r->dead = fate_ended(fate);
		if (fate == FATE_UNSEEN)
			pub_note_blind(pub, zcp_errmsg());
	}
}

void pub_note_blind(struct zcp_pub *pub, const char *why)
{
	snprintf(pub->blind, sizeof(pub->blind), "%s", why);
}

const char *pub_blind(const struct zcp_pub *pub, char text[BLIND_SIZE])
{
	snprintf(text, BLIND_SIZE, "%s%s", pub->blind[0] ? "; " : "",
	    pub->blind);
	return text;
}

/*
 * A reclaim serves this many loans before the next one is due: what a small
 * stock can take in, so that its cost (readers, holds, perhaps a fence) is
 * shared by many.
 */
enum { RECLAIM_LEAST = 8, RECLAIM_MOST = 512 };

bool reclaim_due(const struct zcp_pub *pub, uint32_t pool)
{
	uint32_t every = pub->stock[pool].most;

	if (every < RECLAIM_LEAST)
		every = RECLAIM_LEAST;
	if (every > RECLAIM_MOST)
		every = RECLAIM_MOST;
	return pub->published_all - pub->reclaimed_at >= every;
}

/* ---- chunks -------------------------------------------------------------------- */

static struct pools *pools_of(struct zcp_pub *pub)
{
	return &pub->bus->d.pools;
}

/* What is free again, pool by pool, for one look at each bell. */
static void note_free(struct zcp_pub *pub, uint32_t id)
{
	pub->freed |= UINT32_C(1) << chunk_pool(id);
}

static void ring_freed(struct zcp_pub *pub)
{
	if (pub->freed != 0)
		domain_ring_pools(&pub->bus->d, pub->freed);
	pub->freed = 0;
}

/* Nobody holds it: to the stock while the pool has plenty, else free. */
EVERY void collect(struct zcp_pub *pub, uint32_t id, uint64_t word)
{
	struct stock *stock = &pub->stock[chunk_pool(id)];
	uint32_t n = stock->count;

	if (n < stock->most) {
		if (word_change(pool_word(pools_of(pub), id), word,
		    pub->loaned)) {
			stock->id[n] = id;
			stock->count = n + 1;
		}
	} else if (pool_free(pools_of(pub), id, word))
		note_free(pub, id);
}

static void stock_shrink(struct zcp_pub *pub, struct stock *stock)
{
	while (stock->count > stock->most) {
		uint32_t id = stock->id[--stock->count];

		if (pool_free(pools_of(pub), id, pub->loaned))
			note_free(pub, id);
	}
}

/*
 * How much a publisher may keep of a pool: its share of a quarter; a sixteenth
 * of all while seven eighths are free, as they are where most publishers are
 * idle; and nothing while less than a quarter is free or somebody sleeps for
 * it.  The stocks of all together stay below half of the pool.
 */
static uint32_t stock_limit(const struct pool *pool, const struct bell *bell,
    uint32_t sharers, uint32_t has)
{
	uint32_t count = pool_count(pool), free = pool_free_estimate(pool);
	uint32_t most = count / 4 / (sharers ? sharers : 1);

	if (free < count / 4 || (bell_load(bell) & BELL_SLEEPER))
		return 0;
	if (free + has >= count - count / 8 && most < count / 16)
		most = count / 16;
	return most < STOCK_MAX ? most : STOCK_MAX;
}

static void stock_limits(struct zcp_pub *pub)
{
	struct domain *d = &pub->bus->d;
	uint32_t sharers = fact_load32(&d->m->publishers);

	for (uint32_t i = 0; i < d->pools.count; i++) {
		struct stock *stock = &pub->stock[i];

		stock->most = stock->out == 0 && stock->count == 0 ? 0 :
		    stock_limit(&d->pools.pool[i], domain_bell(d,
		    bell_of_pool(i)), sharers, stock->count);
		stock_shrink(pub, stock);
	}
}

void stock_return(struct zcp_pub *pub)
{
	for (uint32_t i = 0; i < pools_of(pub)->count; i++) {
		pub->stock[i].most = 0;
		stock_shrink(pub, &pub->stock[i]);
	}
	ring_freed(pub);
}

/* ---- the steps ------------------------------------------------------------------- */

/* What depths and history keep may not exceed half of a pool. */
static uint64_t within_half(struct zcp_pub *pub, struct limits l)
{
	uint32_t over[MAX_POOLS] = { 0 };
	bool any = false;

	for (uint32_t i = 0; i < pools_of(pub)->count; i++) {
		uint32_t half = pool_count(&pools_of(pub)->pool[i]) / 2;

		if (pub->stock[i].out > half) {
			over[i] = pub->stock[i].out - half;
			any = true;
		}
	}
	if (!any)
		return l.kept;
	for (uint64_t seq = pub->walked; seq < l.read; seq++) {
		uint32_t id = pub->last[seq & pub->mask];

		if (id != NO_CHUNK && over[chunk_pool(id)] > 0) {
			over[chunk_pool(id)]--;
			if (seq + 1 > l.kept)
				l.kept = seq + 1;
		}
	}
	return l.kept;
}

static uint64_t limit_of(struct zcp_pub *pub, struct limits l,
    enum how_far far)
{
	uint64_t limit = far == PAST_HISTORY ? l.read :
	    far == PAST_DEPTHS ? l.promised : within_half(pub, l);
	uint64_t offered = pub->head > pub->history ?
	    pub->head - pub->history : 0;

	if (limit > offered && limit > pub->tail)
		pub->cut += limit - (offered > pub->tail ? offered : pub->tail);
	return limit;
}

/*
 * What the word of the own tail says, wide.  Others move it forward, over what
 * was published: all else is damage, which must not be walked.
 */
static int own_tail(const struct zcp_pub *pub, uint64_t word, uint64_t *tail)
{
	*tail = number_widen(pub->tail, word_number(word));
	if (word == word_make(0, pub->serial, *tail) && *tail >= pub->tail &&
	    *tail <= pub->head)
		return 0;
	return error_set(ZCP_E_DAMAGED, "the tail of its ring in p%u is "
	    "damaged: it says %" PRIx64 ", which is none of %" PRIu64 " to %"
	    PRIu64 " of port serial %u (end the publisher and offer again)",
	    pub->bus->slot, word, pub->tail, pub->head, pub->serial);
}

/* Steps 1 and 2; notes whether the holds may be believed without a fence. */
static int move_tail(struct zcp_pub *pub, enum how_far far)
{
	struct ring_view view = pub_view(pub);
	struct limits l = readers_limits(&pub->readers, &view);
	uint64_t word = tail_load(pub->ring), tail, limit;
	int rc;

	if ((rc = own_tail(pub, word, &tail)) < 0)
		return rc;
	limit = limit_of(pub, l, far);
	if (l.unjoined || tail != pub->tail)
		pub->fence_due = true;
	while (tail < limit)
		if (tail_move(pub->ring, &word,
		    word_make(0, pub->serial, limit))) {
			tail = limit;
		} else {
			if ((rc = own_tail(pub, word, &tail)) < 0)
				return rc;
			pub->fence_due = true;
		}
	pub->tail = tail;
	probe2(reclaim, pub->topic, tail);
	/* Each cursor has been loaded: it is there, or further by now. */
	if (number_diff(l.behind, tail) < 0)
		pub->fence_due = true;
	return 0;
}

static int collect_holds(struct zcp_pub *pub)
{
	hold_set_clear(&pub->holds);
	for (uint32_t i = 0; i < pub->readers.count; i++) {
		const struct reader *r = &pub->readers.reader[i];

		if (!r->dead && !hold_set_collect(&pub->holds, pools_of(pub),
		    r->cursor, r->holds))
			return error_set(ZCP_E_SYS, "out of memory");
	}
	return 0;
}

bool pending_released(struct zcp_pub *pub)
{
	if (pub->pendings == 0 || collect_holds(pub) < 0)
		return false;
	for (uint32_t i = 0; i < pub->pendings; i++)
		if (!hold_set_has(&pub->holds, pub->pending[i].id))
			return true;
	return false;
}

EVERY void judge(struct zcp_pub *pub, uint32_t id, uint64_t word)
{
	if (__builtin_expect(pub->holds.count == 0 ||
	    !hold_set_has(&pub->holds, id), 1))
		collect(pub, id, word);
	else if (pub->pendings < pub->slots)
		pub->pending[pub->pendings++] = (struct pending){ id, word };
	/* else it stays for a sweep, which judges by the same rule */
}

static void walk(struct zcp_pub *pub)
{
	uint64_t seq = pub->walked, end = pub->tail, passed = 0;
	uint32_t pendings = pub->pendings;

	pub->pendings = 0;
	for (uint32_t i = 0; i < pendings; i++)
		judge(pub, pub->pending[i].id, pub->pending[i].word);
	for (; seq < end; seq++) {
		uint32_t *last = &pub->last[seq & pub->mask];
		uint32_t id = *last;

		if (id == NO_CHUNK)
			continue;
		*last = NO_CHUNK;
		pub->stock[chunk_pool(id)].out--;
		passed++;
		judge(pub, id, pub->published | word_number(seq));
	}
	pub->walked = seq;
	pub->walked_all += passed;
}

/* Since a guard was hit somewhere: those whose files were truncated. */
static void readers_cut(struct zcp_pub *pub)
{
	pub->hits = guard_hits();
	for (uint32_t i = 0; i < pub->readers.count; i++)
		if (peer_cut(pub->readers.reader[i].peer))
			pub->readers.reader[i].dead = true;
}

int reclaim(struct zcp_pub *pub, enum how_far far)
{
	bool symmetric = pub->bus->d.symmetric;
	int rc;

	/* Before a reader is passed over in its sleep, or waited for. */
	pub_wake(pub);
	if ((rc = readers_refresh(pub)) < 0)
		return rc;
	if (pub->hits != guard_hits())
		readers_cut(pub);
	pub->reclaimed_at = pub->published_all;
	if ((rc = move_tail(pub, far)) < 0)
		return rc;
	/*
	 * A reader that joins stores its cursor, fences and looks at the tail;
	 * we moved the tail and look at the generation.  One sees the other.
	 */
	fence_full();
	if (fact_load(pub->generation) != pub->readers.generation) {
		pub->fence_due = true;
		if ((rc = readers_refresh(pub)) < 0)
			return rc;
	}
	stock_limits(pub);
	if (pub_out(pub) == 0 && pub->pendings == 0) {
		pub->walked = pub->tail;
		ring_freed(pub);
		return 0;
	}
	if (pub->fence_due && fence_heavy(symmetric) < 0)
		return error_sys("membarrier failed");
	if ((rc = collect_holds(pub)) < 0)
		return rc;
	pub->fence_due = false;
	walk(pub);
	ring_freed(pub);
	return 0;
}
