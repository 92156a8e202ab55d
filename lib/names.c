#include "names.h"

#include <stdlib.h>

#include "atomics.h"
#include "error.h"

static int by_serial(const void *a, const void *b)
{
	const struct named *x = a, *y = b;

	return (x->serial > y->serial) - (x->serial < y->serial);
}

int names_load(struct names *names, const struct domain *d)
{
	*names = (struct names){ .named = calloc(d->max_ports + 1ul,
	    sizeof(struct named)) };
	if (names->named == NULL)
		return error_set(ZCP_E_SYS, "out of memory");
	for (uint32_t i = 0; i < d->max_ports; i++)
		if (fact_load32(&d->ports[i].state) != PORT_FREE)
			names->named[names->count++] = (struct named){
			    fact_load32(&d->ports[i].serial), i };
	qsort(names->named, names->count, sizeof(*names->named), by_serial);
	return 0;
}

void names_free(struct names *names)
{
	free(names->named);
	*names = (struct names){ 0 };
}

uint32_t names_find(const struct names *names, uint32_t serial)
{
	struct named key = { .serial = serial }, *found = bsearch(&key,
	    names->named, names->count, sizeof(key), by_serial);

	return found == NULL ? UINT32_MAX : found->port;
}
