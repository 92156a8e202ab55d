/* names.h - which port a serial names, as the directory stands. */
#ifndef ZCP_NAMES_H
#define ZCP_NAMES_H

#include "domain.h"

struct named {
	uint32_t serial, port;
};

struct names {
	struct named *named;		/* by serial */
	size_t count;
};

/* Every port that is not free.  -ZCP_E_SYS: no memory. */
int names_load(struct names *names, const struct domain *d);
void names_free(struct names *names);

/* Its index; UINT32_MAX: there is none such. */
uint32_t names_find(const struct names *names, uint32_t serial);

#endif
