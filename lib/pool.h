/*
 * pool.h - size classes: chunk words, free hints, and the bytes.
 *
 * A chunk's word is the whole truth about it; a hint only says where a free
 * one may be found.
 */
#ifndef ZCP_POOL_H
#define ZCP_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "atomics.h"

struct pool {
	const struct pool_descriptor *desc;
	shared_u64 *word;	/* NULL unless this process may write */
	shared_u64 *hint;
	const char *data;	/* read-only mapping, NULL if there is none */
	char *data_write;	/* for publishers */
	uint32_t chunk_size;	/* copies, checked when attached */
	uint32_t limit;
};

struct pools {
	struct pool pool[MAX_POOLS];
	uint32_t count;
};

#define NO_CHUNK UINT32_MAX

/* Committed chunks of a pool, never more than there is room for. */
static inline uint32_t pool_count(const struct pool *pool)
{
	uint32_t n = fact_load32(&pool->desc->count);

	return n < pool->limit ? n : pool->limit;
}

/*
 * A free chunk of `pool` becomes LOANED by `serial`; NO_CHUNK if none is.
 * `from` is the caller's private place to look first: publishers that start
 * apart do not contend for the cache lines of each other's chunk words.
 */
uint32_t pool_take(struct pools *pools, uint32_t pool, uint32_t serial,
    uint32_t *from);

/* `word` was judged to be garbage or ours: FREE if nothing changed it. */
bool pool_free(struct pools *pools, uint32_t id, uint64_t word);

/* About how many are free, from the hints of a part of the pool: 0 to
 * pool_count().  For decisions that may be wrong. */
uint32_t pool_free_estimate(const struct pool *pool);

/* The pool in which the id names a committed chunk, or NULL. */
static inline const struct pool *pool_of(const struct pools *pools,
    uint32_t id)
{
	const struct pool *pool = &pools->pool[chunk_pool(id) % MAX_POOLS];

	return __builtin_expect(chunk_pool(id) < pools->count &&
	    chunk_index(id) < pool_count(pool), 1) ? pool : NULL;
}

static inline bool pool_has(const struct pools *pools, uint32_t id)
{
	return pool_of(pools, id) != NULL;
}

/* Do `length` bytes at `offset` lie within a chunk of that pool? */
static inline bool pool_fits(const struct pool *pool, uint32_t offset,
    uint32_t length)
{
	return (uint64_t)offset + length <= pool->chunk_size;
}

static inline shared_u64 *pool_word(const struct pools *pools, uint32_t id)
{
	return &pools->pool[chunk_pool(id)].word[chunk_index(id)];
}

/* To write: the first byte of a chunk of that pool. */
static inline char *pool_write(const struct pool *pool, uint32_t id)
{
	return pool->data_write + (uint64_t)chunk_index(id) * pool->chunk_size;
}

/* To read: the first byte of a chunk that the pool has. */
static inline const char *pool_data(const struct pool *pool, uint32_t id)
{
	return pool->data + (uint64_t)chunk_index(id) * pool->chunk_size;
}

/* To read: `length` bytes at `offset` of a chunk; NULL where there are none. */
static inline const char *pool_see(const struct pools *pools, uint32_t id,
    uint32_t offset, uint32_t length)
{
	const struct pool *p = pool_of(pools, id);

	if (__builtin_expect(p == NULL || !pool_fits(p, offset, length), 0))
		return NULL;
	return pool_data(p, id) + offset;
}

#endif
