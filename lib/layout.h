/*
 * layout.h - every byte that two processes share.
 *
 * No pointers, only offsets and ids; little-endian; 64-byte alignment where
 * two processes meet.  A change that an older program would misread raises
 * LAYOUT_MAJOR; one that it may ignore raises LAYOUT_MINOR.
 *
 *   mgmt   struct mgmt, participants, topics, ports, links    daemon writes
 *   bell   struct segment_head, then bells                    everybody
 *   pool   struct segment_head, chunk words, free hints       publishers
 *   data   the chunks, one window a pool                      publishers
 *   p<n>   struct member, then rings and subscriptions        participant n
 */
#ifndef ZCP_LAYOUT_H
#define ZCP_LAYOUT_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

typedef _Atomic uint64_t shared_u64;
typedef _Atomic uint32_t shared_u32;

enum {
	LAYOUT_MAJOR = 2,
	LAYOUT_MINOR = 0,
	CACHE_LINE = 64,
	TOPIC_PART = 63,			/* bytes in one part of a topic */
	TOPIC_NAME = 3 * TOPIC_PART + 3,	/* with two slashes and the NUL */
	NAME_SIZE = 64,				/* a participant's name with NUL */
	DOMAIN_NAME = 63,
	MAX_POOLS = 16,
	INLINE_SIZE = 32,
	USED_WORDS = 6,
	MAX_HOLDS = 64 * USED_WORDS,
	MAX_RING = 1 << 20,
	MIN_RING = 8,
	DELAY_BUCKETS = 128,
	DELAY_EVERY = 64,			/* as ZCP_STAMP_SOME stamps */
};

/* "zcpbus" and the shape of the file; stored last when a segment is made. */
#define SEGMENT_MAGIC UINT64_C(0x7375627063780a01)

/* The address window of one participant's file; committed piece by piece. */
#define MEMBER_WINDOW (UINT64_C(1) << 30)

enum segment_part { PART_MGMT = 1, PART_BELL, PART_POOL, PART_DATA, PART_MEMBER };

struct segment_head {
	alignas(CACHE_LINE) shared_u64 magic;
	uint32_t part;			/* enum segment_part */
	uint16_t major, minor;
	uint64_t size;			/* bytes to map */
	uint64_t instance;		/* same in all segments of one creation */
	uint32_t uid;			/* of the daemon that made it */
	uint32_t reserved[7];
};
_Static_assert(sizeof(struct segment_head) == 64, "head is one line");

/* ---- words -------------------------------------------------------------
 *
 *   63 62 61          40 39                                   0
 *  +-----+--------------+--------------------------------------+
 *  |state| port serial  | number                               |
 *  +-----+--------------+--------------------------------------+
 *
 * A chunk word uses all three (number: the last seq that names the chunk); a
 * ring's tail and a reader's cursor are serial and seq with state 0.  Numbers
 * are compared by their signed difference modulo 2^40.
 */
enum chunk_state { CHUNK_ABSENT, CHUNK_FREE, CHUNK_LOANED, CHUNK_PUBLISHED };

#define NUMBER_BITS 40
#define SERIAL_BITS 22
#define NUMBER_MASK ((UINT64_C(1) << NUMBER_BITS) - 1)
#define SERIAL_MASK ((UINT32_C(1) << SERIAL_BITS) - 1)

static inline uint64_t word_make(enum chunk_state state, uint32_t serial,
    uint64_t number)
{
	return (uint64_t)state << 62 |
	    (uint64_t)(serial & SERIAL_MASK) << NUMBER_BITS |
	    (number & NUMBER_MASK);
}

static inline enum chunk_state word_state(uint64_t word)
{
	return (enum chunk_state)(word >> 62);
}

static inline uint32_t word_serial(uint64_t word)
{
	return (uint32_t)(word >> NUMBER_BITS) & SERIAL_MASK;
}

static inline uint64_t word_number(uint64_t word)
{
	return word & NUMBER_MASK;
}

/* a - b, as signed 40-bit numbers: right while they are within 2^39. */
static inline int64_t number_diff(uint64_t a, uint64_t b)
{
	return (int64_t)((a - b) << (64 - NUMBER_BITS)) >> (64 - NUMBER_BITS);
}

/* No ring gets that far; a damaged number may claim so. */
#define SEQ_MASK ((UINT64_C(1) << 62) - 1)

/*
 * The 64-bit seq nearest to `near` whose low 40 bits are `number`: never below
 * 0, nor far beyond SEQ_MASK, whatever either is.  So no seq + 1 looks BUSY, or
 * is the stamp of an empty slot.
 */
static inline uint64_t number_widen(uint64_t near, uint64_t number)
{
	int64_t seq = (int64_t)(near & SEQ_MASK) + number_diff(number, near);

	return (uint64_t)(seq < 0 ? seq + (INT64_C(1) << NUMBER_BITS) : seq);
}

/* ---- slot: one message, one cache line -------------------------------- */
#define STAMP_BUSY (UINT64_C(1) << 63)
#define CHUNK_INLINE UINT32_C(0xffffffff)

struct slot {
	alignas(CACHE_LINE) shared_u64 stamp;	/* seq + 1, or BUSY | seq + 1 */
	shared_u64 time;		/* CLOCK_MONOTONIC ns, 0 not stamped */
	shared_u64 place;		/* chunk id | offset << 32 */
	shared_u64 what;		/* length | kind << 32 */
	shared_u64 body[INLINE_SIZE / 8];
};
_Static_assert(sizeof(struct slot) == CACHE_LINE, "a slot is one line");
_Static_assert(offsetof(struct slot, body) == 32, "inline payload at 32");

/* chunk id: pool and index */
#define CHUNK_INDEX_BITS 26
static inline uint32_t chunk_id(uint32_t pool, uint32_t index)
{
	return pool << CHUNK_INDEX_BITS | index;
}
static inline uint32_t chunk_pool(uint32_t id)
{
	return id >> CHUNK_INDEX_BITS;
}
static inline uint32_t chunk_index(uint32_t id)
{
	return id & ((UINT32_C(1) << CHUNK_INDEX_BITS) - 1);
}

/* ---- a publisher's ring, in its participant's file -------------------- */
#define WANT_SET (UINT64_C(1) << 63)

struct ring {
	/* where owner, readers and reclaimers meet; moves a batch at a time */
	alignas(CACHE_LINE) shared_u64 tail;	/* serial | first seq kept */
	shared_u64 want;	/* WANT_SET | cursor the owner sleeps for */
	shared_u32 closed;	/* 1: the owner has ended it in order */
	uint32_t slots;		/* a power of two */
	uint32_t reserved0[10];
	/* the owner's news for observers and joiners; trusted by nobody else */
	alignas(CACHE_LINE) shared_u64 head;	/* may lag by one batch */
	shared_u64 bytes;	/* payload published */
	shared_u64 unseen;	/* published while nobody subscribed */
	shared_u64 waits;	/* times the owner slept for room or memory */
	uint64_t reserved1[4];
	struct slot slot[];
};
_Static_assert(offsetof(struct ring, slot) == 128, "slots follow two lines");

static inline uint64_t ring_bytes(uint32_t slots)
{
	return sizeof(struct ring) + (uint64_t)slots * sizeof(struct slot);
}

/* ---- a subscription, in its participant's file ------------------------ */
enum subscription_state {
	SUBSCRIPTION_NEW,	/* its owner may never have heard of it */
	SUBSCRIPTION_OPEN,	/* publishers may wait for it */
	SUBSCRIPTION_CLOSED,	/* its owner has ended it in order */
};

struct subscription {
	alignas(CACHE_LINE) shared_u32 opened;	/* enum subscription_state */
	uint32_t cursors;	/* cursor lines that follow */
	uint32_t holds;		/* hold entries behind each cursor line */
	uint32_t reserved0;
	shared_u64 taken;	/* messages */
	shared_u64 taken_bytes;
	shared_u64 lost;	/* messages overwritten before they were taken */
	uint64_t reserved1[3];
	/* from stamp to take, of 1 message in DELAY_EVERY: see delay.h */
	alignas(CACHE_LINE) shared_u32 delay[DELAY_BUCKETS];
};
_Static_assert(offsetof(struct subscription, delay) == 64,
    "what every take counts is one line");

/* A cursor whose reader has read all of an ended ring, or left: state 1. */
#define CURSOR_LET_GO 1

/* One reader's place in one ring; written by the reader alone. */
struct cursor {
	alignas(CACHE_LINE) shared_u64 at;	/* serial | next seq to take */
	shared_u64 lost;
	shared_u64 used[USED_WORDS];	/* bit i: hold[i] counts */
	shared_u32 hold[];		/* chunk ids */
};
_Static_assert(offsetof(struct cursor, hold) == 64, "used is on the line");

static inline uint64_t cursor_stride(uint32_t holds)
{
	return sizeof(struct cursor) +
	    ((uint64_t)holds * sizeof(uint32_t) + CACHE_LINE - 1) /
	    CACHE_LINE * CACHE_LINE;
}

/*
 * Behind the cursors: a word for each, the daemon's last word on the ring of
 * that serial, which has gone before the reader had let it go.
 *
 *   enum over_state 2 | serial 22 | end 40
 *
 * What the reader had not taken before that end is lost.  It finds the word,
 * tells, and lets the serial go in its cursor: until then the cursor serves no
 * other link.  0: none.
 */
enum over_state { OVER_NONE, OVER_CLOSED, OVER_DIED };

static inline uint64_t over_make(enum over_state state, uint32_t serial,
    uint64_t end)
{
	return word_make((enum chunk_state)state, serial, end);
}
static inline enum over_state over_state(uint64_t over)
{
	return (enum over_state)word_state(over);
}

static inline uint64_t over_offset(uint32_t cursors, uint32_t holds)
{
	return sizeof(struct subscription) + cursors * cursor_stride(holds);
}

static inline uint64_t subscription_bytes(uint32_t cursors, uint32_t holds)
{
	return over_offset(cursors, holds) +
	    ((uint64_t)cursors * sizeof(shared_u64) + CACHE_LINE - 1) /
	    CACHE_LINE * CACHE_LINE;
}

/* Has its reader let the ring of that serial go? */
static inline int cursor_let_go(uint64_t at, uint32_t serial)
{
	return word_serial(at) == serial && word_state(at) == CURSOR_LET_GO;
}

/* ---- the head of a participant's file --------------------------------- */
struct member {
	struct segment_head head;
	alignas(CACHE_LINE) uint64_t incarnation;
	uint32_t slot;
	uint32_t reserved0[13];
	alignas(CACHE_LINE) shared_u64 beat;	/* CLOCK_MONOTONIC ns */
	shared_u64 sweeping;	/* serial epoch in which a sweep began; 0 none */
	shared_u64 left;	/* 1: it has left in order, heard or unheard */
	uint64_t reserved1[5];
};
#define MEMBER_FIRST 4096	/* rings and subscriptions start here */
_Static_assert(sizeof(struct member) <= MEMBER_FIRST, "member header");

/* ---- management ------------------------------------------------------- */
enum participant_state { PARTICIPANT_FREE, PARTICIPANT_LIVE, PARTICIPANT_ENDED };
enum participant_flag { PARTICIPANT_STALLED = 1, PARTICIPANT_DIED = 2 };

struct participant {
	alignas(CACHE_LINE) shared_u32 state;
	shared_u32 flags;
	uint32_t pid;		/* in the daemon's pid namespace; 0: invisible */
	uint32_t uid, gid;
	uint32_t reserved0;
	uint64_t start_time;	/* clock ticks after boot, /proc/pid/stat */
	uint64_t pid_namespace;	/* inode */
	uint64_t incarnation;	/* never given twice in a domain's life */
	uint64_t nonce;		/* of its REGISTER */
	uint64_t registered;	/* CLOCK_MONOTONIC ns */
	char name[NAME_SIZE];
	char reserved1[64];
};
_Static_assert(sizeof(struct participant) == 192, "participant");

enum topic_state { TOPIC_FREE, TOPIC_NAMED, TOPIC_PATTERN };

struct topic {
	alignas(CACHE_LINE) shared_u32 state;
	uint32_t publishers, subscribers;
	uint32_t reserved0;
	char name[TOPIC_NAME];
	char reserved1[48];
};
_Static_assert(sizeof(struct topic) == 256, "topic");

enum port_kind { PORT_PUBLISHER = 1, PORT_SUBSCRIBER };
enum port_state {
	PORT_FREE,
	PORT_OPEN,
	PORT_CLOSED,	/* its owner ended it; it drains */
	PORT_DEAD,	/* its owner died; it drains */
};
#define RETAIN_FOR_EVER UINT64_MAX
enum port_flag {
	PORT_RELIABLE = 1,
	PORT_UNLISTED = 2,	/* publisher: met by redeemers of its handles */
};

struct port {
	/* read by the owner at every publish, hence a line of its own */
	alignas(CACHE_LINE) shared_u64 generation;
	shared_u64 links;	/* first << 32 | capacity << 16 | count */
	uint64_t nonce;
	uint64_t incarnation;	/* of its participant */
	uint64_t drained_at;	/* daemon: when it was first seen drained, ns */
	uint64_t ended_at;	/* CLOCK_MONOTONIC ns */
	uint64_t retain;	/* publisher: ns for which its history stays then */
	shared_u64 slow_since;	/* daemon: reliable subscriber that lags, ns */
	alignas(CACHE_LINE) shared_u32 state;
	shared_u32 serial;
	uint32_t kind;
	uint32_t participant;
	uint32_t topic;
	uint32_t flags;
	uint32_t slots;		/* publisher: ring size; subscriber: cursors */
	uint32_t history;	/* publisher: kept for joiners; subscriber: holds */
	uint32_t depth;		/* subscriber: kept for it while it is lossy */
	shared_u32 gated;	/* unlisted publisher: 1 until a redeemer was there */
	uint64_t offset;	/* of ring or subscription in p<participant> */
	uint64_t registration;	/* order of opening in the domain */
	uint32_t redeems;	/* redeemer: serial of its one publisher; or 0 */
	shared_u32 unfollowed;	/* lossy subscriber: publishers beyond its cursors */
	/* what is looked at now and then */
	alignas(CACHE_LINE) uint64_t ended_behind; /* the registration that was
				   the last when this port ended */
	shared_u64 missed;	/* subscriber: messages of publishers that it was
				   never linked with, though it was there first */
	shared_u32 missed_of;	/* serial of the last of those publishers */
	shared_u32 unlinked;	/* publisher: 1, there is such a subscriber */
	uint64_t reserved0[5];
};
_Static_assert(sizeof(struct port) == 192, "port is three lines");

/*
 * A link ties one publisher to one reader.  It stands in both ports' lists:
 * the publisher's names the reader's port and serial, the reader's names the
 * publisher's; both name the cursor line in the reader's subscription.
 *
 *   port 20 | cursor 16 | serial 22 | flags 6
 */
#define LINK_PORT_BITS 20
#define LINK_CURSOR_BITS 16
#define LINK_FLAG_BITS 6
enum link_flag {
	LINK_RELIABLE = 1,
	LINK_DEMOTED = 2,	/* reliable, but stalled: passed over like lossy */
	LINK_FROM_START = 4,	/* reader was there first: gates at 0 until it joins */
};

static inline uint64_t link_make(uint32_t port, uint32_t cursor,
    uint32_t serial, uint32_t flags)
{
	return (uint64_t)port << 44 | (uint64_t)cursor << 28 |
	    (uint64_t)(serial & SERIAL_MASK) << LINK_FLAG_BITS | flags;
}
static inline uint32_t link_port(uint64_t link)
{
	return (uint32_t)(link >> 44);
}
static inline uint32_t link_cursor(uint64_t link)
{
	return (uint32_t)(link >> 28) & 0xffff;
}
static inline uint32_t link_serial(uint64_t link)
{
	return (uint32_t)(link >> LINK_FLAG_BITS) & SERIAL_MASK;
}
static inline uint32_t link_flags(uint64_t link)
{
	return (uint32_t)link & ((1u << LINK_FLAG_BITS) - 1);
}

/* The list of one port within the links table, as one word. */
static inline uint64_t extent_make(uint32_t first, uint32_t capacity,
    uint32_t count)
{
	return (uint64_t)first << 32 | (uint64_t)capacity << 16 | count;
}
static inline uint32_t extent_first(uint64_t extent)
{
	return (uint32_t)(extent >> 32);
}
static inline uint32_t extent_capacity(uint64_t extent)
{
	return (uint32_t)(extent >> 16) & 0xffff;
}
static inline uint32_t extent_count(uint64_t extent)
{
	return (uint32_t)extent & 0xffff;
}

struct pool_descriptor {
	alignas(CACHE_LINE) shared_u32 count;	/* committed chunks */
	uint32_t chunk_size;
	uint32_t limit;		/* chunks for which there are words and window */
	uint32_t reserved0;
	uint64_t words;		/* offset in pool */
	uint64_t hints;		/* offset in pool: bit i set, chunk i may be free */
	uint64_t data;		/* offset in data */
	shared_u64 most;	/* daemon: chunks in use at once, as far as seen */
	shared_u64 empty;	/* daemon: times it was found empty */
	uint64_t reserved1;
};
_Static_assert(sizeof(struct pool_descriptor) == 64, "pool descriptor");

enum domain_flag {
	DOMAIN_SYMMETRIC = 1,	/* both sides fence: no membarrier */
	DOMAIN_NO_WAITV = 2,	/* one bell to sleep on */
};

struct mgmt {
	struct segment_head head;
	uint32_t flags;
	uint32_t pools;
	uint32_t max_participants, max_topics, max_ports, max_links;
	uint32_t mode;			/* of the files */
	shared_u32 on_stall;		/* what the last daemon does then */
	uint64_t heartbeat;		/* period, ns */
	uint64_t participants, topics, ports, links;	/* offsets */
	uint64_t created;		/* CLOCK_REALTIME ns */
	char domain[DOMAIN_NAME + 1];
	uint64_t handle_key[2];		/* random; only members can read it */
	/* the daemon's own words */
	alignas(CACHE_LINE) shared_u32 daemon_pid;
	shared_u32 serial_epoch;	/* 1, and 1 more each time serials wrap */
	shared_u32 serial_next;
	shared_u32 publishers;		/* open ports, for stocks */
	shared_u64 registrations;	/* given so far: ports */
	shared_u64 incarnations;	/* given so far: participants */
	shared_u64 deaths;		/* participants that died */
	shared_u64 reclaimed;		/* chunks the daemon's sweeps freed */
	shared_u64 demotions;
	shared_u64 refused;		/* requests beyond a client's quota */
	shared_u64 cut;			/* retained messages given up for memory */
	shared_u64 slow;		/* times a reliable reader was found slow */
	shared_u64 long_holds;		/* times a chunk was found held for long */
	/* what is being added to `missed`: see routed/missed.c */
	shared_u64 missed_after;	/* the sum, when it is added */
	shared_u32 missed_port;		/* to whose, and 1 more; 0: to nobody's */
	shared_u32 missed_serial;	/* of the publisher; 0: none */
	struct pool_descriptor pool[MAX_POOLS];
};

/* ---- bells ------------------------------------------------------------ */
struct bell {
	alignas(CACHE_LINE) shared_u32 word;	/* two marks, and a count */
};
#define BELL_SLEEPER 1u		/* someone sleeps, or is about to */
#define BELL_FENCED 2u		/* and has executed a heavy fence since */
#define BELL_STEP 4u		/* the count's */

/* Order in the file: the domain's, pools', topics', ports' (room). */
#define BELL_DOMAIN 0u
static inline uint32_t bell_of_pool(uint32_t pool)
{
	return 1 + pool;
}
static inline uint32_t bell_of_topic(uint32_t topic)
{
	return 1 + MAX_POOLS + topic;
}
static inline uint32_t bell_of_port(uint32_t max_topics, uint32_t port)
{
	return 1 + MAX_POOLS + max_topics + port;
}
static inline uint64_t bell_count(uint32_t max_topics, uint32_t max_ports)
{
	return UINT64_C(1) + MAX_POOLS + max_topics + max_ports;
}

#endif
