#include "pool.h"

static bool claim(struct pool *p, uint32_t index, uint32_t serial)
{
	uint64_t free_word = word_make(CHUNK_FREE, 0, 0);

	return word_load(&p->word[index]) == free_word &&
	    word_change(&p->word[index], free_word,
	    word_make(CHUNK_LOANED, serial, 0));
}

/* One word of hints, those of `mask` only. */
static uint32_t take_from(struct pool *p, uint32_t word, uint64_t mask,
    uint32_t count, uint32_t serial)
{
	uint64_t bits;

	while ((bits = hint_load(&p->hint[word]) & mask) != 0) {
		uint32_t bit = (uint32_t)__builtin_ctzll(bits);

		hint_unset(&p->hint[word], UINT64_C(1) << bit);
		if (word * 64 + bit < count &&
		    claim(p, word * 64 + bit, serial))
			return word * 64 + bit;
	}
	return NO_CHUNK;
}

static uint32_t take_hinted(struct pool *p, uint32_t count, uint32_t serial,
    uint32_t *from)
{
	uint32_t words = (count + 63) / 64, start = *from % count;
	uint64_t behind = UINT64_MAX << start % 64;
	uint32_t index = take_from(p, start / 64, behind, count, serial);

	for (uint32_t k = 1; index == NO_CHUNK && k < words; k++)
		index = take_from(p, (start / 64 + k) % words, UINT64_MAX,
		    count, serial);
	if (index == NO_CHUNK)
		index = take_from(p, start / 64, ~behind, count, serial);
	if (index != NO_CHUNK)
		*from = index;
	return index;
}

uint32_t pool_take(struct pools *pools, uint32_t pool, uint32_t serial,
    uint32_t *from)
{
	struct pool *p = &pools->pool[pool];
	uint32_t count = pool_count(p), index;

	if (count == 0)
		return NO_CHUNK;
	index = take_hinted(p, count, serial, from);
	/* A killed process may have left a free chunk without its hint. */
	for (uint32_t i = 0; index == NO_CHUNK && i < count; i++)
		if (claim(p, i, serial))
			index = i;
	return index == NO_CHUNK ? NO_CHUNK : chunk_id(pool, index);
}

bool pool_free(struct pools *pools, uint32_t id, uint64_t word)
{
	struct pool *p = &pools->pool[chunk_pool(id)];
	uint32_t index = chunk_index(id);

	if (!word_change(&p->word[index], word, word_make(CHUNK_FREE, 0, 0)))
		return false;
	hint_set(&p->hint[index / 64], UINT64_C(1) << index % 64);
	return true;
}

uint32_t pool_free_estimate(const struct pool *pool)
{
	enum { SAMPLE = 64 };
	uint32_t count = pool_count(pool), words = (count + 63) / 64;
	uint32_t seen = words < SAMPLE ? words : SAMPLE, bits = 0;

	if (count == 0)
		return 0;
	/* Everywhere in it: publishers start apart. */
	for (uint32_t i = 0; i < seen; i++) {
		uint64_t w = (uint64_t)i * words / seen;

		bits += (uint32_t)__builtin_popcountll(hint_load(&pool->hint[w]));
	}
	bits = (uint32_t)((uint64_t)bits * words / seen);
	return bits < count ? bits : count;
}
