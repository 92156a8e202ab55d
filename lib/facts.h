/*
 * facts.h - records of a watched domain, copied into a snapshot, each looked
 * at a second time so that it is of one piece.
 */
#ifndef ZCP_FACTS_H
#define ZCP_FACTS_H

#include "domain.h"
#include "error.h"
#include "zcp.h"

/* Where the tables' records are in the snapshot; ZCP_NONE: not in it. */
struct facts_index {
	uint32_t *participant, *topic, *port;
};

/* What an observer keeps of one port from look to look. */
struct port_memory {
	uint32_t serial;
	uint64_t head;
};

struct zcp_observer {
	struct domain d;
	char name[DOMAIN_NAME + 1];
	char copy[SEGMENT_DIR_MOST];	/* directory of copies; "": none */
	struct peer **peer;		/* by slot: files stay mapped */
	struct port_memory *memory;	/* by port */
};

/* What a look is made with. */
struct look {
	struct zcp_observer *o;
	zcp_snapshot *s;
	struct facts_index at;
	int rc;				/* first failure: of memory, of the system */
};

/* Each adds its kind of records, in this order. */
void facts_domain(struct look *l);
void facts_participants(struct look *l);
void facts_topics(struct look *l);
void facts_ports(struct look *l);
void facts_links(struct look *l);

/* trace.c: pools, chunks and who holds them. */
void facts_chunks(struct look *l, unsigned what);

/* One more element, zero; NULL when there is no memory (l->rc). */
void *facts_add(struct look *l, void *array, size_t *count, size_t size);

/* A port's ring or subscription, of the shape that *f has; NULL where it is
 * not (any more). */
const struct ring *facts_ring(struct look *l, const zcp_port_facts *f);
const struct subscription *facts_subscription(struct look *l,
    const zcp_port_facts *f);

#endif
