/*
 * chain.h - private lists over the indices of a shared table: which ports
 * belong to a topic, to a participant, have ended, are free.  An index is on
 * one list of a chain at a time.  Rebuilt at adoption; nothing of it is
 * shared.
 */
#ifndef ZCP_ROUTED_CHAIN_H
#define ZCP_ROUTED_CHAIN_H

#include <stdbool.h>
#include <stdint.h>

#define CHAIN_END UINT32_MAX

struct chain {
	uint32_t *first, *last;		/* by list */
	uint32_t *next, *prev;		/* by index */
	uint32_t *list;			/* by index: CHAIN_END where it is on none */
	uint32_t lists, indices;
};

/* -ZCP_E_SYS: out of memory; chain_close() is safe then, too. */
int chain_open(struct chain *c, uint32_t lists, uint32_t indices);
void chain_close(struct chain *c);

/* Puts `i`, which is on no list, to the end of one. */
void chain_add(struct chain *c, uint32_t list, uint32_t i);
/* Takes it off its list, if it is on one. */
void chain_remove(struct chain *c, uint32_t i);

/* The list that `i` is on, or CHAIN_END: the daemon's own knowledge of what the
 * shared table says, too. */
static inline uint32_t chain_of(const struct chain *c, uint32_t i)
{
	return c->list[i];
}

static inline uint32_t chain_first(const struct chain *c, uint32_t list)
{
	return c->first[list];
}

/* For each index of a list; it may be removed meanwhile, others not. */
#define chain_each(c, list, i, after)					\
	for (uint32_t i = (c)->first[list], after;			\
	    i != CHAIN_END && (after = (c)->next[i], true); i = after)

#endif
