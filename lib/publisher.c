#include "publisher.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "spin.h"
#include "topic.h"

enum { DEFAULT_SLOTS = 1024, STAMP_SOME = 64, CHUNKS_APART = 24 };

/* ---- offering ------------------------------------------------------------------ */

static int check_options(const zcp_pub_options *o, uint32_t *slots)
{
	*slots = o->slots ? o->slots : DEFAULT_SLOTS;
	if (*slots < MIN_RING || *slots > MAX_RING || (*slots & (*slots - 1)))
		return error_set(ZCP_E_ARG, "a ring has %d to %d slots, a power "
		    "of two, not %u", MIN_RING, MAX_RING, *slots);
	if (o->history > *slots / 2)
		return error_set(ZCP_E_ARG, "a history of %u is more than half "
		    "of a ring of %u slots", o->history, *slots);
	return 0;
}

static int pub_allocate(struct zcp_pub *pub)
{
	pub->last = malloc(pub->slots * sizeof(*pub->last));
	pub->pending = malloc(pub->slots * sizeof(*pub->pending));
	if (pub->topic == NULL || pub->last == NULL || pub->pending == NULL)
		return error_set(ZCP_E_SYS, "out of memory");
	memset(pub->last, 0xff, pub->slots * sizeof(*pub->last));
	return 0;
}

/* The ring is ready for readers but for its serial, which comes with the
 * registration; until then no cursor can belong to it. */
static void ring_prepare(struct zcp_pub *pub)
{
	struct ring *ring = (struct ring *)((char *)pub->bus->own.base +
	    pub->place->offset);

	tail_found(ring, 0);
	want_store(ring, 0);
	fact_publish32(&ring->closed, 0);
	news_store(&ring->head, 0);
	news_store(&ring->bytes, 0);
	news_store(&ring->unseen, 0);
	news_store(&ring->waits, 0);
	ring->slots = pub->slots;
	for (uint32_t i = 0; i < pub->slots; i++)
		slot_put(&ring->slot[i].stamp, 0);
	pub->ring = ring;
}

static int pub_register(struct zcp_pub *pub)
{
	struct domain *d = &pub->bus->d;
	char what[TOPIC_NAME + 128];
	int rc;

	snprintf(what, sizeof(what), "PUBLISHER:%s:slots=%" PRIu32
	    ":history=%" PRIu32 ":reliable=%d", pub->topic, pub->slots,
	    pub->history, !pub->lossy);
	if ((rc = port_register(pub->bus, what, pub->place)) < 0)
		return rc;
	pub->port = (uint32_t)rc;
	pub->serial = pub->place->serial;
	pub->generation = &d->ports[pub->port].generation;
	pub->readers.generation = UINT64_MAX;
	if (d->ports[rc].topic >= d->m->max_topics)
		return error_set(ZCP_E_DAMAGED,
		    "port %d: its record makes no sense", rc);
	pub->topic_bell = domain_bell(d, bell_of_topic(d->ports[rc].topic));
	pub->domain_bell = domain_bell(d, BELL_DOMAIN);
	pub->room_bell = domain_bell(d, bell_of_port(d->m, pub->port));
	/* Ports start a few lines of chunk words apart. */
	for (uint32_t i = 0; i < d->pools.count; i++)
		pub->stock[i].from = pub->serial * CHUNKS_APART;
	tail_found(pub->ring, word_make(0, pub->serial, 0));
	/* Readers that found the ring not founded yet may sleep. */
	fence_light(d->symmetric);
	bell_ring(pub->topic_bell);
	bell_ring(pub->domain_bell);
	return 0;
}

static void pub_free(struct zcp_pub *pub)
{
	reader_set_free(&pub->readers, &pub->bus->d);
	hold_set_free(&pub->holds);
	free(pub->last);
	free(pub->pending);
	free(pub->topic);
	free(pub);
}

int zcp_offer(zcp *bus, const char *topic, const zcp_pub_options *options,
    zcp_pub **out)
{
	const zcp_pub_options none = { 0 };
	struct zcp_pub *pub;
	char name[TOPIC_NAME];
	uint32_t slots = 0;
	int rc;

	*out = NULL;
	if (options == NULL)
		options = &none;
	if ((rc = bus_check(bus)) < 0 || (rc = topic_parse(topic, name)) < 0 ||
	    (rc = rc == 1 ? error_set(ZCP_E_ARG, "it is a pattern") :
	    check_options(options, &slots)) < 0)
		return error_in(rc, "cannot publish on '%s'", topic);
	if ((pub = calloc(1, sizeof(*pub))) == NULL)
		return error_set(ZCP_E_SYS, "out of memory");
	pub->bus = bus;
	pub->topic = strdup(name);
	pub->slots = slots;
	pub->mask = slots - 1;
	pub->history = options->history;
	pub->lossy = options->lossy;
	pub->stamp = options->stamp;
	pub->spin = SPIN_START;
	pub->partial = NO_CHUNK;
	if ((rc = pub_allocate(pub)) < 0 ||
	    (rc = domain_map_write(&bus->d)) < 0 ||
	    (rc = place_get(bus, ring_bytes(slots), &pub->place)) < 0)
		goto fail;
	ring_prepare(pub);
	if ((rc = pub_register(pub)) < 0) {
		/* Unanswered it may be registered: then its place stays taken. */
		if (rc == -ZCP_E_REFUSED)
			place_put(bus, pub->place);
		goto fail;
	}
	*out = pub;
	return 0;
fail:
	pub_free(pub);
	return error_in(rc, "cannot publish on %s", name);
}

/* What was published of a chunk is all that will be. */
static void partial_end(struct zcp_pub *pub)
{
	uint32_t id = pub->partial;
	uint64_t last = pub->head - 1, word;

	if (id == NO_CHUNK)
		return;
	pub->partial = NO_CHUNK;
	/* Above the tail until now, so nobody else has judged it. */
	word = word_make(CHUNK_PUBLISHED, pub->serial, last);
	word_publish(pool_word(&pub->bus->d.pools, id), word);
	if (last >= pub->walked) {
		pub->last[last & pub->mask] = id;
		return;
	}
	/* All that went out of it is read already. */
	pub->stock[chunk_pool(id)].out--;
	pub->out--;
	if (pub->pendings < pub->slots)
		pub->pending[pub->pendings++] = (struct pending){ id, word };
}

void zcp_stop_offer(zcp_pub **handle)
{
	struct zcp_pub *pub = *handle;
	struct domain *d;

	*handle = NULL;
	/* A forked child has not these mappings: it only forgets the handle. */
	if (pub == NULL || pub->bus->born != fork_generation)
		return;
	d = &pub->bus->d;
	partial_end(pub);
	reclaim(pub, false);
	stock_return(pub);
	/* Readers that find the ring empty now know it stays so. */
	fact_publish32(&pub->ring->closed, 1);
	fence_light(d->symmetric);
	bell_ring(pub->topic_bell);
	bell_ring(pub->domain_bell);
	port_release(pub->bus, pub->port);
	place_put(pub->bus, pub->place);
	pub_free(pub);
}

/* ---- publishing ------------------------------------------------------------------ */

static uint64_t stamp_time(const struct zcp_pub *pub, uint64_t *batch)
{
	switch (pub->stamp) {
	case ZCP_STAMP_EVERY:
		return clock_ns();
	case ZCP_STAMP_SOME:
		return pub->head % STAMP_SOME == 0 ? clock_ns() : 0;
	case ZCP_STAMP_BATCH:
		if (*batch == 0)
			*batch = clock_ns();
		return *batch;
	case ZCP_STAMP_NONE:
		break;
	}
	return 0;
}

static inline void put(struct zcp_pub *pub, struct message *m,
    uint64_t *batch)
{
	m->time = stamp_time(pub, batch);
	ring_put(pub->ring, pub->mask, pub->head, m);
	pub->head++;
	pub->bytes += m->length;
}

/* After the last stamp of a call: the observers' news, and the sleepers. */
static inline void announce(struct zcp_pub *pub, uint64_t count)
{
	bool symmetric = pub->bus->d.symmetric;

	news_store(&pub->ring->head, pub->head);
	news_store(&pub->ring->bytes, pub->bytes);
	if (pub->readers.count == 0)
		news_store(&pub->ring->unseen, pub->unseen += count);
	fence_light(symmetric);
	bell_ring(pub->topic_bell);
	bell_ring(pub->domain_bell);
}

/* The list of readers is looked at with one load per call. */
static inline int before_publish(struct zcp_pub *pub, uint32_t partial)
{
	int rc;

	if ((rc = pub_check(pub)) < 0)
		return rc;
	if (__builtin_expect(pub->partial != partial, 0))
		return error_set(ZCP_E_BUSY, "publish the rest of the chunk on "
		    "%s, or discard it, first", pub->topic);
	if (__builtin_expect(fact_load(pub->generation) !=
	    pub->readers.generation, 0))
		return readers_refresh(pub);
	return 0;
}

static inline int make_room(struct zcp_pub *pub, int64_t timeout)
{
	int rc;

	if (__builtin_expect(pub_free_slots(pub) > 0, 1))
		return 0;
	if ((rc = pub_room(pub, timeout)) < 0)
		return error_in(rc, "cannot publish on %s", pub->topic);
	return 0;
}

static int check_loan(const struct zcp_pub *pub, const zcp_chunk *chunk)
{
	const struct pools *pools = &pub->bus->d.pools;
	uint64_t want = word_make(CHUNK_LOANED, pub->serial, 0);

	if (chunk->data != NULL && pool_has(pools, chunk->id) &&
	    (word_load(pool_word(pools, chunk->id)) == want ||
	    chunk->id == pub->partial))
		return 0;
	return error_set(ZCP_E_ARG, "cannot publish on %s: the chunk is not on "
	    "loan from this publisher", pub->topic);
}

static int check_parts(const struct zcp_pub *pub, const zcp_chunk *chunk,
    const zcp_part *parts, size_t count)
{
	const struct pool *pool = &pub->bus->d.pools.pool[chunk_pool(chunk->id)];

	if (chunk->kind > UINT16_MAX)
		return error_set(ZCP_E_ARG, "cannot publish on %s: type %u is "
		    "more than 65535", pub->topic, chunk->kind);
	for (size_t i = 0; i < count; i++)
		if (parts[i].offset > pool->chunk_size ||
		    parts[i].length > pool->chunk_size - parts[i].offset)
			return error_set(ZCP_E_ARG, "cannot publish on %s: "
			    "%u bytes at %u are not within the chunk of %u",
			    pub->topic, parts[i].length, parts[i].offset,
			    pool->chunk_size);
	return 0;
}

/*
 * The chunk's word names the last seq before the first stamp is stored: a
 * sweep between two stamps must not find the chunk below its tail.
 */
static void chunk_handed_over(struct zcp_pub *pub, uint32_t id, size_t count)
{
	word_publish(pool_word(&pub->bus->d.pools, id),
	    word_make(CHUNK_PUBLISHED, pub->serial, pub->head + count - 1));
	if (pub->partial == NO_CHUNK) {
		pub->stock[chunk_pool(id)].out++;
		pub->out++;
		pub->since_reclaim++;
	}
}

int zcp_publish_parts(zcp_pub *pub, zcp_chunk *chunk, const zcp_part *parts,
    size_t count, int64_t timeout)
{
	struct message m = { .chunk = chunk->id, .kind = chunk->kind };
	uint64_t batch = 0, deadline = 0;
	size_t done = 0;
	int rc;

	if ((rc = before_publish(pub, pub->partial == chunk->id ?
	    chunk->id : NO_CHUNK)) < 0 ||
	    (rc = check_loan(pub, chunk)) < 0 ||
	    (rc = check_parts(pub, chunk, parts, count)) < 0)
		return rc;
	if (count == 0 || count > INT32_MAX)
		return error_set(ZCP_E_ARG, "cannot publish %zu parts on %s",
		    count, pub->topic);
	while (done < count) {
		uint64_t n;

		if (timeout > 0 && deadline == 0)
			deadline = deadline_after(timeout);
		rc = make_room(pub, timeout <= 0 ? timeout :
		    (int64_t)deadline_left(deadline, INT64_MAX));
		if (rc < 0)
			break;
		if (done == 0)
			chunk_handed_over(pub, chunk->id, count);
		n = pub_free_slots(pub);
		n = n < count - done ? n : count - done;
		if (done + n == count)
			pub->last[(pub->head + n - 1) & pub->mask] = chunk->id;
		pub->partial = done + n == count ? NO_CHUNK : chunk->id;
		for (uint64_t i = 0; i < n; i++, done++) {
			m.offset = parts[done].offset;
			m.length = parts[done].length;
			put(pub, &m, &batch);
		}
		announce(pub, n);
	}
	if (done == 0)
		return rc;
	if (done == count)
		chunk->data = NULL;
	return (int)done;
}

int zcp_publish(zcp_pub *pub, zcp_chunk *chunk, size_t length,
    int64_t timeout)
{
	zcp_part part = { 0, (uint32_t)length };
	struct message m = { .chunk = chunk->id, .kind = chunk->kind,
	    .length = (uint32_t)length };
	uint64_t batch = 0;
	int rc;

	if ((rc = before_publish(pub, NO_CHUNK)) < 0 ||
	    (rc = check_loan(pub, chunk)) < 0 ||
	    (rc = length > UINT32_MAX ? error_set(ZCP_E_ARG, "cannot publish "
	    "%zu bytes on %s", length, pub->topic) :
	    check_parts(pub, chunk, &part, 1)) < 0 ||
	    (rc = make_room(pub, timeout)) < 0)
		return rc;
	chunk_handed_over(pub, chunk->id, 1);
	pub->last[pub->head & pub->mask] = chunk->id;
	put(pub, &m, &batch);
	announce(pub, 1);
	chunk->data = NULL;
	return 1;
}

static int send_inline(struct zcp_pub *pub, const void *data, size_t size,
    uint32_t kind, int64_t timeout)
{
	struct message m = { .chunk = CHUNK_INLINE, .kind = kind,
	    .length = (uint32_t)size };
	uint64_t batch = 0;
	int rc;

	if ((rc = before_publish(pub, NO_CHUNK)) < 0 ||
	    (rc = make_room(pub, timeout)) < 0)
		return rc;
	if (size > 0)
		memcpy(m.body, data, size);
	put(pub, &m, &batch);
	announce(pub, 1);
	return 1;
}

int zcp_send(zcp_pub *pub, const void *data, size_t size, uint32_t kind,
    int64_t timeout)
{
	zcp_chunk chunk;
	int rc;

	if (kind > UINT16_MAX)
		return error_set(ZCP_E_ARG, "cannot publish on %s: type %u is "
		    "more than 65535", pub->topic, kind);
	if (size <= INLINE_SIZE)
		return send_inline(pub, data, size, kind, timeout);
	if ((rc = zcp_loan(pub, size, &chunk, timeout)) < 0)
		return rc;
	memcpy(chunk.data, data, size);
	chunk.kind = kind;
	if ((rc = zcp_publish(pub, &chunk, size, timeout)) < 0)
		zcp_discard(pub, &chunk);
	return rc;
}

void zcp_discard(zcp_pub *pub, zcp_chunk *chunk)
{
	struct domain *d = &pub->bus->d;

	if (chunk->data == NULL || pub_check(pub) < 0 ||
	    !pool_has(&d->pools, chunk->id))
		return;
	if (chunk->id == pub->partial)
		partial_end(pub);
	else if (pool_free(&d->pools, chunk->id,
	    word_make(CHUNK_LOANED, pub->serial, 0))) {
		fence_light(d->symmetric);
		bell_ring(domain_bell(d, bell_of_pool(chunk_pool(chunk->id))));
	}
	chunk->data = NULL;
}
