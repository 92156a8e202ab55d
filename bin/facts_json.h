/* facts_json.h - what an observer saw, one JSON object a line. */
#ifndef ZCP_FACTS_JSON_H
#define ZCP_FACTS_JSON_H

#include "report.h"

/* Each prints its kind of objects to stdout; false when that failed. */
bool json_domain(const struct report *r);
bool json_pools(const struct report *r);
bool json_participants(const struct report *r);
bool json_topics(const struct report *r);
bool json_ports(const struct report *r);
bool json_links(const struct report *r);
bool json_chunks(const struct report *r);
bool json_totals(const struct report *r);
bool json_blocked(const struct report *r);

#endif
