/* report.h - what an observer saw, as tables for people. */
#ifndef ZCP_REPORT_H
#define ZCP_REPORT_H

#include "table.h"
#include "zcp.h"

/* What one topic, or one port, does: for the rates `before` is needed. */
struct sum {
	double messages, bytes;		/* a second, of its publishers */
	double taken;			/* messages a second, of its readers */
	uint64_t interval_min, interval_max;	/* ns; 0 unknown */
	double interval_mean;
	uint64_t delays, delay_p50, delay_p99;	/* ns; the worst reader's */
	uint64_t lag;			/* the worst reader's, messages */
	uint64_t lost;			/* so far */
	double full;			/* 0 to 1: of the ring that it lags in */
	const char *mark;		/* "", or the worst there is to say */
};

struct report {
	const zcp_snapshot *now;
	const zcp_snapshot *before;	/* NULL: no rates */
	struct sum *port, *topic;	/* by index in `now` */
	uint32_t *blocked_by;		/* by port: the link with the reliable
					   reader that keeps a publisher waiting,
					   or nearly so; ZCP_NONE */
};

/* The snapshots stay the caller's; ends the program without memory. */
void report_begin(struct report *r, const zcp_snapshot *now,
    const zcp_snapshot *before);
void report_end(struct report *r);

/* One line on the domain, and one of its counters. */
void report_domain(const struct report *r, FILE *to);

struct table *report_pools(const struct report *r);
struct table *report_participants(const struct report *r);
/* Rows of topics, with their ports' below them where that is wanted. */
struct table *topic_table(void);
void topic_row(struct table *t, const struct report *r, uint32_t topic);
void topic_port_row(struct table *t, const struct report *r, size_t port);

/* A topic a row. */
struct table *report_topics(const struct report *r);
struct table *report_ports(const struct report *r);
struct table *report_links(const struct report *r);
/* Of a look with ZCP_LOOK_CHUNKS; `hex`: with the first bytes. */
struct table *report_chunks(const struct report *r, bool hex);
/* Chunks by owner, and by topic. */
struct table *report_totals(const struct report *r);
/* Readers that keep a publisher waiting, or a chunk from coming back. */
struct table *report_blocked(const struct report *r);

/* ---- words ---- */

const char *participant_state(const zcp_participant_facts *f);
const char *port_state(const zcp_port_facts *f);
/* What keeps it: "loaned", "in ring", "held"; "left behind" by one who ended,
 * "garbage" until the next sweep. */
const char *chunk_state(const zcp_snapshot *s, const zcp_chunk_facts *f);

/* "zcp-sub (pid 123)", in one of eight static buffers. */
const char *who(const zcp_snapshot *s, uint32_t participant);
const char *who_reads(const zcp_snapshot *s, uint32_t port);

/* "[###.....]", `width` marks between the brackets, in one of eight static
 * buffers. */
enum { BAR_MOST = 64 };
const char *bar(double part, unsigned width);

/* The command line of a participant that lives, or "". */
void command_of(const zcp_snapshot *s, const zcp_participant_facts *f,
    char *text, size_t size);

/* Chunks and bytes that each port has out, largest first. */
struct total {
	uint32_t port;			/* index in the snapshot, or ZCP_NONE */
	uint32_t loaned, published, held;
	uint64_t bytes;
};
/* By publisher port; the caller frees. */
struct total *totals_by_port(const zcp_snapshot *s, size_t *count);

#endif
