/* handle.h - the parts of a handle, and its text. */
#ifndef ZCP_HANDLE_H
#define ZCP_HANDLE_H

#include "layout.h"
#include "zcp.h"

struct handle {
	char domain[DOMAIN_NAME + 1];
	uint32_t instance, port, serial;
	uint64_t incarnation, seq;
};

/* The text of a handle of that domain, be there such a message or not, with the
 * check that belongs to it; ZCP_HANDLE_SIZE bytes. */
void handle_write(const struct zcp *bus, const struct handle *h, char *text);

/* The handle of message `seq` of a publisher, published or not. */
void handle_of(const struct zcp_pub *pub, uint64_t seq, char *text);

#endif
