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

/* The handle of message `seq` of a publisher, be there such a message or not;
 * ZCP_HANDLE_SIZE bytes. */
void handle_write(const struct zcp_pub *pub, uint64_t seq, char *text);

#endif
