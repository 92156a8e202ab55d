#include "chain.h"

#include <stdlib.h>
#include <string.h>

#include "error.h"

int chain_open(struct chain *c, uint32_t lists, uint32_t indices)
{
	*c = (struct chain){ .lists = lists, .indices = indices };
	c->first = malloc(lists * sizeof(*c->first));
	c->next = malloc(indices * sizeof(*c->next));
	c->prev = malloc(indices * sizeof(*c->prev));
	if (c->first == NULL || c->next == NULL || c->prev == NULL)
		return error_set(ZCP_E_SYS, "out of memory");
	memset(c->first, 0xff, lists * sizeof(*c->first));
	return 0;
}

void chain_close(struct chain *c)
{
	free(c->first);
	free(c->next);
	free(c->prev);
	*c = (struct chain){ 0 };
}

void chain_add(struct chain *c, uint32_t list, uint32_t i)
{
	uint32_t second = c->first[list];

	c->prev[i] = CHAIN_END;
	c->next[i] = second;
	if (second != CHAIN_END)
		c->prev[second] = i;
	c->first[list] = i;
}

void chain_remove(struct chain *c, uint32_t list, uint32_t i)
{
	if (c->prev[i] != CHAIN_END)
		c->next[c->prev[i]] = c->next[i];
	else
		c->first[list] = c->next[i];
	if (c->next[i] != CHAIN_END)
		c->prev[c->next[i]] = c->prev[i];
}
