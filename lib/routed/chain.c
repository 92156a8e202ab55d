#include "chain.h"

#include <stdlib.h>
#include <string.h>

#include "error.h"

int chain_open(struct chain *c, uint32_t lists, uint32_t indices)
{
	*c = (struct chain){ .lists = lists, .indices = indices };
	c->first = malloc(lists * sizeof(*c->first));
	c->last = malloc(lists * sizeof(*c->last));
	c->next = malloc(indices * sizeof(*c->next));
	c->prev = malloc(indices * sizeof(*c->prev));
	c->list = malloc(indices * sizeof(*c->list));
	if (c->first == NULL || c->last == NULL || c->next == NULL ||
	    c->prev == NULL || c->list == NULL)
		return error_set(ZCP_E_SYS, "out of memory");
	memset(c->first, 0xff, lists * sizeof(*c->first));
	memset(c->last, 0xff, lists * sizeof(*c->last));
	memset(c->list, 0xff, indices * sizeof(*c->list));
	return 0;
}

void chain_close(struct chain *c)
{
	free(c->first);
	free(c->last);
	free(c->next);
	free(c->prev);
	free(c->list);
	*c = (struct chain){ 0 };
}

/* What follows `i`, or is in front of the list for none; and before it. */
static uint32_t *link_after(struct chain *c, uint32_t list, uint32_t i)
{
	return i == CHAIN_END ? &c->first[list] : &c->next[i];
}

static uint32_t *link_before(struct chain *c, uint32_t list, uint32_t i)
{
	return i == CHAIN_END ? &c->last[list] : &c->prev[i];
}

void chain_add(struct chain *c, uint32_t list, uint32_t i)
{
	uint32_t last = c->last[list];

	c->prev[i] = last;
	c->next[i] = CHAIN_END;
	*link_after(c, list, last) = i;
	c->last[list] = i;
	c->list[i] = list;
}

void chain_remove(struct chain *c, uint32_t i)
{
	uint32_t list = c->list[i];

	if (list == CHAIN_END)
		return;
	c->list[i] = CHAIN_END;
	*link_after(c, list, c->prev[i]) = c->next[i];
	*link_before(c, list, c->next[i]) = c->prev[i];
}
