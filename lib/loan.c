/* loan.c - where an empty chunk comes from: stock, pool, own ring, sweep. */
#include <inttypes.h>
#include <stdio.h>

#include "clock.h"
#include "control.h"
#include "owners.h"
#include "probes.h"
#include "publisher.h"
#include "sweep.h"

/* Between two sweeps of one publisher: who dies is looked for then, process by
 * process, and where many starve the daemon sweeps for all. */
#ifdef ZCP_STEPPED
#define SWEEP_PAUSE 1			/* there time passes as it likes */
#else
#define SWEEP_PAUSE (10 * NS_PER_MS)
#endif

enum { LOANS_AHEAD = 4 };

static uint32_t from_pool(struct zcp_pub *pub, uint32_t pool)
{
	struct stock *stock = &pub->stock[pool];

	return stock->count > 0 ? stock->id[--stock->count] :
	    pool_take(&pub->bus->d.pools, pool, pub->serial, &stock->from);
}

/* The smallest size class that fits, then the next larger ones; pools are
 * sorted by chunk size. */
static uint32_t from_any(struct zcp_pub *pub, uint32_t first)
{
	uint32_t id = NO_CHUNK;

	for (uint32_t p = first; p < pub->bus->d.pools.count &&
	    id == NO_CHUNK; p++)
		id = from_pool(pub, p);
	return id;
}

/* The first size class for `size`; the number of pools if none is. */
static uint32_t class_of(const struct zcp_pub *pub, size_t size)
{
	const struct pools *pools = &pub->bus->d.pools;
	uint32_t p = 0;

	while (p < pools->count && pools->pool[p].chunk_size < size)
		p++;
	return p;
}

/* One that could not look has freed nothing, and memory may come back in other
 * ways; if it does not, the message says what was not looked at. */
static void sweep_for(struct zcp_pub *pub)
{
	struct sweep_report report;
	int rc = sweep(&pub->bus->d, &report, NULL, NULL);

	pub_note_blind(pub, rc < 0 ? zcp_errmsg() :
	    report.unseen > 0 ? report.why : "");
	pub->swept = clock_ns();
}

/* Everything but the stock that gives memory without waiting, cheapest first;
 * the history only when waiting has not helped. */
static int loan_now(struct zcp_pub *pub, uint32_t class, bool desperate,
    bool patient, uint32_t *id)
{
	int rc;

	if (reclaim_due(pub, class) && (rc = reclaim(pub, AS_WISHED)) < 0)
		return rc;
	if ((*id = from_pool(pub, class)) != NO_CHUNK)
		return 0;
	if ((rc = reclaim(pub, AS_WISHED)) < 0)
		return rc;
	if ((*id = from_any(pub, class)) != NO_CHUNK)
		return 0;
	if ((rc = reclaim(pub, desperate ? PAST_HISTORY :
	    PAST_DEPTHS)) < 0)
		return rc;
	if ((*id = from_any(pub, class)) != NO_CHUNK)
		return 0;
	/* Who waits comes here again. */
	if (patient && clock_ns() - pub->swept < (uint64_t)SWEEP_PAUSE)
		return 0;
	sweep_for(pub);
	*id = from_any(pub, class);
	return 0;
}

static int too_big(const struct zcp_pub *pub, size_t size)
{
	return error_set(ZCP_E_TOOBIG, "cannot loan %zu bytes on %s: largest "
	    "pool holds %zu (zcp-routed --pool SIZE:COUNT makes larger ones)",
	    size, pub->topic, zcp_largest(pub->bus));
}

/* Before an attempt: what comes free after this rings, because the bells are
 * marked, or is found, because of the fence. */
static void listen(struct zcp_pub *pub, uint32_t class)
{
	struct domain *d = &pub->bus->d;

	pub->class = class;
	for (uint32_t p = class; p < d->pools.count; p++)
		pub->rung[p] = bell_rung(bell_mark(domain_bell(d,
		    bell_of_pool(p))));
	fence_heavy(d->symmetric);
}

/*
 * Chunks come back by a reader that moves on, a hold of ours released, a
 * sweep; or by a hold on somebody else's chunk, which only rings.
 */
static bool memory_may_be_back(struct zcp_pub *pub)
{
	const struct domain *d = &pub->bus->d;

	if (readers_refresh(pub) < 0 || reclaimable(pub) > pub->tail ||
	    pending_released(pub))
		return true;
	for (uint32_t p = pub->class; p < d->pools.count; p++)
		if (pool_free_estimate(&d->pools.pool[p]) > 0 ||
		    bell_rung(bell_load(domain_bell(d, bell_of_pool(p)))) !=
		    pub->rung[p])
			return true;
	return false;
}

/* Looked for once a second: some try without waiting, and often. */
static const char *owners(struct zcp_pub *pub, uint32_t class)
{
	uint64_t now = clock_ns();

	if (pub->told_at == 0 || now - pub->told_at > NS_PER_S ||
	    pub->told_class != class) {
		owners_text(&pub->bus->d, class, pub->owners,
		    sizeof(pub->owners));
		pub->told_at = now;
		pub->told_class = class;
	}
	return pub->owners;
}

static int no_memory(struct zcp_pub *pub, size_t size, uint32_t class, int rc)
{
	char blind[BLIND_SIZE];

	return error_set(rc == -ZCP_E_TIMEOUT ? ZCP_E_TIMEOUT : ZCP_E_NOMEM,
	    "cannot loan %zu bytes on %s: %severy chunk of %u bytes or more "
	    "is loaned or waits for a reader: %s%s", size, pub->topic,
	    rc == -ZCP_E_TIMEOUT ? "timed out, " : "",
	    pub->bus->d.pools.pool[class].chunk_size, owners(pub, class),
	    pub_blind(pub, blind));
}

/* Half of what lies in the ring: chunk by chunk each would cost two switches
 * of context, a reclaim and a sweep. */
static uint64_t half_of_ring(const struct zcp_pub *pub)
{
	return pub->head - (pub->head - pub->tail) / 2;
}

static bool half_read(struct zcp_pub *pub)
{
	return readers_refresh(pub) < 0 ||
	    reclaimable(pub) >= half_of_ring(pub);
}

static int wait_for_memory(struct zcp_pub *pub, uint32_t class, size_t size,
    uint64_t deadline)
{
	uint64_t until = deadline_after(PATIENCE);
	char what[64], request[TENANT_REQUEST];
	int rc;

	/* While its own readers are at it they bring back more than others. */
	if (pub_out(pub) > 1) {
		rc = pub_wait(pub, half_of_ring(pub), half_read, false,
		    until < deadline ? until : deadline);
		if (rc != -ZCP_E_TIMEOUT)
			return rc;
	}
	until = deadline_after((int64_t)BELL_RECHECK);
	/* An idle publisher's ring is reclaimed by the daemon when asked. */
	snprintf(what, sizeof(what), "SWEEP:size=%zu", size);
	tenant_says(pub->bus, request, sizeof(request), what);
	control_hint(&pub->bus->d.site, request);
	rc = pub_wait(pub, pub->tail + 1, memory_may_be_back, true,
	    until < deadline ? until : deadline);
	if (rc == -ZCP_E_TIMEOUT && clock_ns() >= deadline)
		return no_memory(pub, size, class, rc);
	return rc == -ZCP_E_TIMEOUT ? 0 : rc;
}

/* Looked for, and waited for. */
static int find_chunk(struct zcp_pub *pub, uint32_t class, size_t size,
    int64_t timeout, uint32_t *id)
{
	bool desperate = timeout == 0;
	uint64_t deadline = 0;
	int rc;

	for (;;) {
		rc = loan_now(pub, class, desperate, timeout != 0, id);
		if (rc < 0)
			return error_in(rc, "cannot loan %zu bytes on %s",
			    size, pub->topic);
		if (*id != NO_CHUNK)
			return 0;
		if (timeout == 0)
			return no_memory(pub, size, class,
			    -ZCP_E_NOMEM);
		/* Listen first, then try once more, then sleep. */
		if (deadline == 0) {
			deadline = deadline_after(timeout);
			listen(pub, class);
			continue;
		}
		if ((rc = wait_for_memory(pub, class, size, deadline)) < 0)
			return rc;
		desperate = true;
		listen(pub, class);
	}
}

EVERY int loaned(struct zcp_pub *pub, const struct pool *pool,
    uint32_t id, size_t size, zcp_chunk *chunk)
{
	loan_fence();
	pub->lent_from = pool;
	pub->lent = id;
	*chunk = (zcp_chunk){ .data = pool_write(pool, id),
	    .size = pool->chunk_size, .id = id };
	probe3(loan, pub->topic, id, size);
	return 0;
}

/* Not in stock, or refused. */
FEW int loan_late(struct zcp_pub *pub, uint32_t class, size_t size,
    zcp_chunk *chunk, int64_t timeout)
{
	const struct pools *pools = &pub->bus->d.pools;
	uint32_t id;
	int rc;

	if ((rc = pub_check(pub)) < 0)
		return rc;
	if (class == pools->count)
		return too_big(pub, size);
	if ((rc = find_chunk(pub, class, size, timeout, &id)) < 0)
		return rc;
	return loaned(pub, &pools->pool[chunk_pool(id)], id, size, chunk);
}

int zcp_loan(zcp_pub *pub, size_t size, zcp_chunk *chunk, int64_t timeout)
{
	uint32_t class = class_of(pub, size), left;
	struct stock *stock = &pub->stock[class];
	const struct pool *pool = &pub->bus->d.pools.pool[class];

	if (__builtin_expect(pub->bus->born != fork_generation ||
	    class == pub->bus->d.pools.count || stock->count == 0, 0))
		return loan_late(pub, class, size, chunk, timeout);
	left = --stock->count;
	/* The first line of one that will be loaned soon comes meanwhile. */
	if (left >= LOANS_AHEAD)
		line_wanted(pool_write(pool, stock->id[left - LOANS_AHEAD]));
	return loaned(pub, pool, stock->id[left], size, chunk);
}
