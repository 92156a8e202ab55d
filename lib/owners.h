/* owners.h - memory is short: who has it? */
#ifndef ZCP_OWNERS_H
#define ZCP_OWNERS_H

#include <stddef.h>

#include "domain.h"

/*
 * Of the chunks in pool `class` and those of larger ones: the ports that own
 * most of them and the subscriptions that hold most, as words:
 *   "32 chunks: 30 of zcp-pub (pid 7) on cam/a/b, ...; 4 held by x (pid 9) ..."
 * For error messages: looks at the whole domain.
 */
void owners_text(struct domain *d, uint32_t class, char *text, size_t size);

#endif
