#include "publisher.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "probes.h"
#include "topic.h"

enum { DEFAULT_SLOTS = 1024, STAMP_SOME = 64, CHUNKS_APART = 24 };

/* ---- offering ------------------------------------------------------------------ */

static int check_options(const zcp_pub_options *o, uint32_t *slots)
{
	*slots = o->slots ? o->slots : DEFAULT_SLOTS;
	if (*slots < MIN_RING || *slots > MAX_RING || (*slots & (*slots - 1)))
		return error_set(ZCP_E_ARG, "a ring has %d to %d slots, a power "
		    "of two, not %u", MIN_RING, MAX_RING, *slots);
	if (o->retain != 0 && o->history == 0)
		return error_set(ZCP_E_ARG, "a history of 0 messages cannot be "
		    "retained");
	if (o->unlisted && (o->history != 0 || o->lossy))
		return error_set(ZCP_E_ARG, "an unlisted publisher is reliable "
		    "and keeps no history");
	if (o->history > *slots / 2)
		return error_set(ZCP_E_ARG, "a history of %u is more than half "
		    "of a ring of %u slots", o->history, *slots);
	return 0;
}

static int pub_allocate(struct zcp_pub *pub)
{
	uint32_t pools = pub->bus->d.pools.count;

	pub->last = malloc(pub->slots * sizeof(*pub->last));
	pub->pending = malloc(pub->slots * sizeof(*pub->pending));
	pub->stocks = malloc((size_t)pools * STOCK_MAX * sizeof(*pub->stocks));
	if (pub->topic == NULL || pub->last == NULL || pub->pending == NULL ||
	    pub->stocks == NULL)
		return error_set(ZCP_E_SYS, "out of memory");
	for (uint32_t i = 0; i < pools; i++)
		pub->stock[i].id = &pub->stocks[i * STOCK_MAX];
	memset(pub->last, 0xff, pub->slots * sizeof(*pub->last));
	return 0;
}

/* Stamped is the message whose seq & mask is `at`. */
static void stamp_rule(struct zcp_pub *pub, enum zcp_stamp stamp)
{
	pub->stamp = stamp;
	pub->stamp_mask = stamp == ZCP_STAMP_SOME ? STAMP_SOME - 1 : 0;
	pub->stamp_at = stamp == ZCP_STAMP_NONE;	/* no seq & 0 is 1 */
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

static int pub_register(struct zcp_pub *pub, int64_t retain)
{
	struct domain *d = &pub->bus->d;
	char what[TOPIC_NAME + 128];
	uint32_t needed;
	int rc;

	snprintf(what, sizeof(what), "PUBLISHER:%s:slots=%" PRIu32
	    ":history=%" PRIu32 ":retain=%" PRIu64 ":reliable=%d:unlisted=%d",
	    pub->topic, pub->slots, pub->history, retain < 0 ?
	    RETAIN_FOR_EVER : (uint64_t)retain, !pub->lossy, pub->unlisted);
	rc = port_register(pub->bus, what, pub->place, &needed);
	if (rc < 0)
		return rc;
	pub->port = pub->place->port;
	pub->serial = pub->place->serial;
	pub->loaned = word_make(CHUNK_LOANED, pub->serial, 0);
	pub->published = word_make(CHUNK_PUBLISHED, pub->serial, 0);
	pub->generation = &d->ports[pub->port].generation;
	pub->readers.generation = UINT64_MAX;
	pub->topic_bell = domain_bell(d, bell_of_topic(pub->place->topic));
	pub->domain_bell = domain_bell(d, BELL_DOMAIN);
	pub->room_bell = domain_bell(d, bell_of_port(d->max_topics, pub->port));
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
	free(pub->stocks);
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
	pub->unlisted = options->unlisted;
	pub->symmetric = bus->d.symmetric;
	stamp_rule(pub, options->stamp);
	pub->spin = (struct spin)SPIN_START;
	pub->partial = pub->lent = NO_CHUNK;
	if ((rc = pub_allocate(pub)) < 0 ||
	    (rc = domain_map_write(&bus->d)) < 0 ||
	    (rc = place_get(bus, ring_bytes(slots), &pub->place)) < 0)
		goto fail;
	ring_prepare(pub);
	if ((rc = pub_register(pub, options->retain)) < 0) {
		/* As a subscription is given up that nobody may have heard of. */
		fact_publish32(&pub->ring->closed, 1);
		place_unregistered(bus, pub->place);
		goto fail;
	}
	bus_get(bus);
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
	pub->walked_all++;
	if (pub->pendings < pub->slots)
		pub->pending[pub->pendings++] = (struct pending){ id, word };
}

/* What it has goes back, and its readers learn that it has ended. */
static void end_in_order(struct zcp_pub *pub)
{
	partial_end(pub);
	reclaim(pub, AS_WISHED);
	stock_return(pub);
	/* Readers that find the ring empty now know it stays so. */
	fact_publish32(&pub->ring->closed, 1);
	fence_light(pub->symmetric);
	bell_ring(pub->topic_bell);
	bell_ring(pub->domain_bell);
	port_release(pub->bus, pub->place);
}

void zcp_stop_offer(zcp_pub **handle)
{
	struct zcp_pub *pub = *handle;
	struct zcp *bus;

	*handle = NULL;
	if (pub == NULL || !bus_ours(pub->bus))
		return;
	bus = pub->bus;
	if (!bus_closed(bus))
		end_in_order(pub);
	place_put(bus, pub->place);
	pub_free(pub);
	bus_put(bus);
}

/* ---- publishing ------------------------------------------------------------------ */

/* *batch: the one reading of a call whose messages share it. */
static uint64_t stamp_time(const struct zcp_pub *pub, uint64_t *batch)
{
	if (pub->stamp != ZCP_STAMP_BATCH)
		return clock_ns();
	if (*batch == 0)
		*batch = clock_ns();
	return *batch;
}

EVERY void put(struct zcp_pub *pub, struct message *m, const uint64_t *body)
{
	uint64_t seq = pub->head;

	ring_put(pub->ring, pub->mask, seq, m, body);
	probe3(publish, pub->topic, seq, m->length);
	pub->head = seq + 1;
	pub->bytes += m->length;
}

EVERY bool stamped(const struct zcp_pub *pub)
{
	return (pub->head & pub->stamp_mask) == pub->stamp_at;
}

EVERY bool somebody_sleeps(const struct zcp_pub *pub)
{
	return (bell_load(pub->topic_bell) | bell_load(pub->domain_bell)) &
	    BELL_SLEEPER;
}

FEW void wake(struct zcp_pub *pub)
{
	pub->owes = true;
	if (!pub->corked)
		pub_wake(pub);
}

void pub_wake(struct zcp_pub *pub)
{
	if (!pub->owes)
		return;
	pub->owes = false;
	/* Who has marked itself since the fence behind the last stamp has looked
	 * at the rings since. */
	bell_ring(pub->topic_bell);
	bell_ring(pub->domain_bell);
}

void zcp_cork(zcp_pub *pub)
{
	pub->corked = true;
}

void zcp_uncork(zcp_pub *pub)
{
	pub->corked = false;
	if (pub_check(pub) == 0)
		pub_wake(pub);
}

/* After the last stamp of a call: the observers' news, and the sleepers. */
EVERY void announce(struct zcp_pub *pub, uint64_t count)
{
	struct ring *ring = pub->ring;

	head_store(ring, pub->head);
	news_store(&ring->bytes, pub->bytes);
	if (__builtin_expect(pub->readers.count == 0, 0) &&
	    !pub->readers.expected)
		news_store(&ring->unseen, pub->unseen += count);
	fence_light(pub->symmetric);
	if (__builtin_expect(somebody_sleeps(pub), 0))
		wake(pub);
}

FEW int busy(const struct zcp_pub *pub)
{
	return error_set(ZCP_E_BUSY, "publish the rest of the chunk on %s, or "
	    "discard it, first", pub->topic);
}

/*
 * Is there nothing to be done before one message that needs no time goes out?
 * The list of readers is looked at with one load per call.
 */
EVERY bool as_usual(const struct zcp_pub *pub)
{
	return __builtin_expect(pub->bus->born == fork_generation &&
	    pub->head < pub->straight && fact_load(pub->generation) ==
	    pub->readers.generation, 1);
}

/* As far as that goes, whenever something was not as usual. */
static void look_ahead(struct zcp_pub *pub)
{
	uint64_t room = pub->walked + pub->slots, stamp;

	stamp = pub->stamp == ZCP_STAMP_NONE ? room :
	    (pub->head + pub->stamp_mask) & ~pub->stamp_mask;
	pub->straight = pub->partial != NO_CHUNK ? pub->head :
	    stamp < room ? stamp : room;
}

static int before_publish(struct zcp_pub *pub, uint32_t partial)
{
	int rc;

	if ((rc = pub_check(pub)) < 0)
		return rc;
	if (pub->partial != partial)
		return busy(pub);
	return readers_refresh(pub);
}

static int make_room(struct zcp_pub *pub, int64_t timeout)
{
	int rc = pub_free_slots(pub) > 0 ? 0 : pub_room(pub, timeout);

	return rc < 0 ? error_in(rc, "cannot publish on %s", pub->topic) : 0;
}

/* The pool of a chunk that is on loan from this publisher, or NULL. */
static inline const struct pool *loaned_from(const struct zcp_pub *pub,
    const zcp_chunk *chunk)
{
	uint32_t id = chunk->id;
	const struct pool *pool = chunk->data == NULL ? NULL :
	    __builtin_expect(id == pub->lent, 1) ? pub->lent_from :
	    pool_of(&pub->bus->d.pools, id);

	return pool != NULL && __builtin_expect(word_load(
	    &pool->word[chunk_index(id)]) == pub->loaned ||
	    id == pub->partial, 1) ? pool : NULL;
}

static inline bool parts_fit(const struct pool *pool, const zcp_part *parts,
    size_t count)
{
	bool fit = true;

	for (size_t i = 0; i < count && fit; i++)
		fit = pool_fits(pool, parts[i].offset, parts[i].length);
	return fit;
}

/* What is wrong with a chunk that is about to be published. */
FEW int refuse(const struct zcp_pub *pub, const zcp_chunk *chunk,
    const zcp_part *parts, size_t count)
{
	uint32_t size;

	if (loaned_from(pub, chunk) == NULL)
		return error_set(ZCP_E_ARG, "cannot publish on %s: the chunk "
		    "is not on loan from this publisher", pub->topic);
	if (chunk->kind > UINT16_MAX)
		return error_set(ZCP_E_ARG, "cannot publish on %s: type %u is "
		    "more than 65535", pub->topic, chunk->kind);
	size = pub->bus->d.pools.pool[chunk_pool(chunk->id)].chunk_size;
	for (size_t i = 0; i < count; i++)
		if (parts[i].offset > size || parts[i].length > size -
		    parts[i].offset)
			return error_set(ZCP_E_ARG, "cannot publish on %s: "
			    "%u bytes at %u are not within the chunk of %u",
			    pub->topic, parts[i].length, parts[i].offset, size);
	return error_set(ZCP_E_ARG, "cannot publish %zu parts on %s", count,
	    pub->topic);
}

/*
 * The chunk's word names the last seq before the first stamp is stored: a
 * sweep between two stamps must not find the chunk below its tail.
 */
EVERY void hand_over(const struct zcp_pub *pub, shared_u64 *word,
    size_t count)
{
	word_publish(word, pub->published | word_number(pub->head + count - 1));
}

EVERY void count_out(struct zcp_pub *pub, struct stock *stock)
{
	stock->out++;
	pub->published_all++;
}

/* Memory for the next loans is collected now that the message is out, rather
 * than while one waits for it; what goes wrong the next loan will meet. */
FEW void tidy(struct zcp_pub *pub, uint32_t id)
{
	if (reclaim_due(pub, chunk_pool(id)))
		reclaim(pub, AS_WISHED);
}

int zcp_publish_parts(zcp_pub *pub, zcp_chunk *chunk, const zcp_part *parts,
    size_t count, int64_t timeout)
{
	struct message m = { .chunk = chunk->id, .kind = chunk->kind };
	struct stock *stock = &pub->stock[chunk_pool(m.chunk) % MAX_POOLS];
	uint64_t batch = 0, deadline = 0;
	const struct pool *pool;
	size_t done = 0;
	int rc;

	if ((rc = before_publish(pub, pub->partial == chunk->id ?
	    chunk->id : NO_CHUNK)) < 0)
		return rc;
	if ((pool = loaned_from(pub, chunk)) == NULL ||
	    chunk->kind > UINT16_MAX || count == 0 || count > INT32_MAX ||
	    !parts_fit(pool, parts, count))
		return refuse(pub, chunk, parts, count);
	while (done < count) {
		uint64_t n;

		if (timeout > 0 && deadline == 0)
			deadline = deadline_after(timeout);
		rc = make_room(pub, timeout <= 0 ? timeout :
		    (int64_t)deadline_left(deadline, INT64_MAX));
		if (rc < 0)
			break;
		if (done == 0) {
			hand_over(pub, &pool->word[chunk_index(m.chunk)],
			    count);
			if (pub->partial == NO_CHUNK)
				count_out(pub, stock);
		}
		n = pub_free_slots(pub);
		n = n < count - done ? n : count - done;
		if (done + n == count)
			pub->last[(pub->head + n - 1) & pub->mask] = chunk->id;
		pub->partial = done + n == count ? NO_CHUNK : chunk->id;
		for (uint64_t i = 0; i < n; i++, done++) {
			m.offset = parts[done].offset;
			m.length = parts[done].length;
			m.time = __builtin_expect(stamped(pub), 0) ?
			    stamp_time(pub, &batch) : 0;
			put(pub, &m, NULL);
		}
		announce(pub, n);
	}
	if (done == 0)
		return rc;
	look_ahead(pub);
	if (done == count) {
		chunk->data = NULL;
		if (stock->count == 0)
			tidy(pub, m.chunk);
	}
	return (int)done;
}

FEW int refuse_whole(const struct zcp_pub *pub, const zcp_chunk *chunk,
    size_t length)
{
	/* More than 32 bits can say fits no chunk either. */
	zcp_part part = { 0, length < UINT32_MAX ? (uint32_t)length :
	    UINT32_MAX };

	return refuse(pub, chunk, &part, 1);
}

/* The word of a chunk that may be published like that, or NULL. */
EVERY shared_u64 *fit_to_publish(const struct zcp_pub *pub,
    const zcp_chunk *chunk, size_t length)
{
	const struct pool *pool = loaned_from(pub, chunk);

	return __builtin_expect(pool != NULL && chunk->kind <= UINT16_MAX &&
	    length <= pool->chunk_size, 1) ?
	    &pool->word[chunk_index(chunk->id)] : NULL;
}

EVERY int publish_now(struct zcp_pub *pub, shared_u64 *word,
    zcp_chunk *chunk, size_t length, uint64_t time)
{
	uint32_t id = chunk->id;
	struct message m = { .chunk = id, .kind = chunk->kind,
	    .length = (uint32_t)length, .time = time };
	struct stock *stock = &pub->stock[chunk_pool(id)];

	hand_over(pub, word, 1);
	count_out(pub, stock);
	pub->last[pub->head & pub->mask] = id;
	put(pub, &m, NULL);
	announce(pub, 1);
	chunk->data = NULL;
	if (__builtin_expect(stock->count == 0, 0))
		tidy(pub, id);
	return 1;
}

FEW int publish_late(struct zcp_pub *pub, zcp_chunk *chunk, size_t length,
    int64_t timeout)
{
	shared_u64 *word;
	uint64_t batch = 0;
	int rc;

	if ((rc = before_publish(pub, NO_CHUNK)) < 0)
		return rc;
	if ((word = fit_to_publish(pub, chunk, length)) == NULL)
		return refuse_whole(pub, chunk, length);
	if ((rc = make_room(pub, timeout)) < 0)
		return rc;
	rc = publish_now(pub, word, chunk, length, stamped(pub) ?
	    stamp_time(pub, &batch) : 0);
	look_ahead(pub);
	return rc;
}

int zcp_publish(zcp_pub *pub, zcp_chunk *chunk, size_t length,
    int64_t timeout)
{
	shared_u64 *word;

	return as_usual(pub) &&
	    (word = fit_to_publish(pub, chunk, length)) != NULL ?
	    publish_now(pub, word, chunk, length, 0) :
	    publish_late(pub, chunk, length, timeout);
}

/*
 * Up to INLINE_SIZE bytes to as many, the rest zero, without a call: two moves
 * that may overlap, as in any good memcpy of small sizes.
 */
static inline void copy_small(uint64_t *body, const char *data, size_t size)
{
	char *to = (char *)body;

	if (size == INLINE_SIZE) {
		memcpy(to, data, INLINE_SIZE);
		return;
	}
	memset(to, 0, INLINE_SIZE);
	if (size >= 16) {
		memcpy(to, data, 16);
		memcpy(to + size - 16, data + size - 16, 16);
	} else if (size >= 8) {
		memcpy(to, data, 8);
		memcpy(to + size - 8, data + size - 8, 8);
	} else {
		for (size_t i = 0; i < size; i++)
			to[i] = data[i];
	}
}

EVERY int send_now(struct zcp_pub *pub, const void *data, size_t size,
    uint32_t kind, uint64_t time)
{
	struct message m = { .chunk = CHUNK_INLINE, .kind = kind,
	    .length = (uint32_t)size, .time = time };
	uint64_t body[INLINE_SIZE / 8];

	copy_small(body, data, size);
	put(pub, &m, body);
	announce(pub, 1);
	return 1;
}

FEW int send_late(struct zcp_pub *pub, const void *data, size_t size,
    uint32_t kind, int64_t timeout)
{
	uint64_t batch = 0;
	int rc;

	if ((rc = before_publish(pub, NO_CHUNK)) < 0 ||
	    (rc = make_room(pub, timeout)) < 0)
		return rc;
	rc = send_now(pub, data, size, kind, stamped(pub) ?
	    stamp_time(pub, &batch) : 0);
	look_ahead(pub);
	return rc;
}

/* The data is NULL, which only that of an empty message may be. */
FEW int send_nowhere(struct zcp_pub *pub, const void *data, size_t size,
    uint32_t kind, int64_t timeout)
{
	(void)data;
	return size == 0 ? zcp_send(pub, "", 0, kind, timeout) :
	    error_set(ZCP_E_ARG, "cannot publish on %s: the data is NULL, and "
	    "is said to have %zu bytes", pub->topic, size);
}

FEW int send_in_chunk(struct zcp_pub *pub, const void *data, size_t size,
    uint32_t kind, int64_t timeout)
{
	zcp_chunk chunk;
	int rc;

	if (kind > UINT16_MAX)
		return error_set(ZCP_E_ARG, "cannot publish on %s: type %u is "
		    "more than 65535", pub->topic, kind);
	if (__builtin_expect(data == NULL, 0))
		return send_nowhere(pub, data, size, kind, timeout);
	if ((rc = zcp_loan(pub, size, &chunk, timeout)) < 0)
		return rc;
	memcpy(chunk.data, data, size);
	chunk.kind = kind;
	if ((rc = zcp_publish(pub, &chunk, size, timeout)) < 0)
		zcp_discard(pub, &chunk);
	return rc;
}

int zcp_send(zcp_pub *pub, const void *data, size_t size, uint32_t kind,
    int64_t timeout)
{
	if (size > INLINE_SIZE || kind > UINT16_MAX || data == NULL)
		return send_in_chunk(pub, data, size, kind, timeout);
	return as_usual(pub) ? send_now(pub, data, size, kind, 0) :
	    send_late(pub, data, size, kind, timeout);
}

void zcp_discard(zcp_pub *pub, zcp_chunk *chunk)
{
	struct domain *d = &pub->bus->d;

	if (chunk->data == NULL || pub_check(pub) < 0 ||
	    !pool_has(&d->pools, chunk->id))
		return;
	if (chunk->id == pub->partial)
		partial_end(pub);
	else if (pool_free(&d->pools, chunk->id, pub->loaned))
		domain_ring_pools(d, UINT32_C(1) << chunk_pool(chunk->id));
	chunk->data = NULL;
}
