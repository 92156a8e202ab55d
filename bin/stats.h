/* stats.h - rate, bandwidth, spacing, delay and loss, as they go by. */
#ifndef ZCP_STATS_H
#define ZCP_STATS_H

#include <stdbool.h>

#include "zcp.h"

/* A line on stderr once a second, in JSON if so wished; counts from now. */
void stats_begin(bool json);
bool stats_wanted(void);
void stats_message(const zcp_msg *msg);
/* Prints what is due; `lost`: so far. */
void stats_tick(uint64_t lost);
/* The whole. */
void stats_end(uint64_t lost);

#endif
