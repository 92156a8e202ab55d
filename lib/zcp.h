/*
 * zcp.h - publish and subscribe through shared memory, without copies.
 *
 * One header, C11 and C++.  See zcp(7) for the ideas and zcp(3) for examples.
 *
 * Results: 0 or more is a result, a negative number is -ZCP_E_..., and
 * zcp_errmsg() then tells what was attempted, on what, and why it failed.
 *
 * Times are nanoseconds.  A timeout of 0 never blocks, a negative one never
 * ends.
 *
 * Threads: a bus may be used by many threads to open and close ports; a
 * publisher, subscription or tap by one thread at a time.  After fork() the
 * child may use none of its parent's handles (-ZCP_E_FORK).
 */
#ifndef ZCP_H
#define ZCP_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ZCP_API __attribute__((visibility("default")))
#define ZCP_RESULT __attribute__((warn_unused_result))

#define ZCP_ERRORS(X)							\
	X(ARG,      1, "invalid argument")				\
	X(SYS,      2, "system call failed")				\
	X(NOMEM,    3, "no free chunk is large enough")			\
	X(LAYOUT,   4, "segment layout not supported")			\
	X(NODAEMON, 5, "no route daemon answers")			\
	X(REFUSED,  6, "the route daemon refused")			\
	X(TIMEOUT,  7, "timed out")					\
	X(LAPPED,   8, "messages were lost")				\
	X(HOLDS,    9, "too many messages are held")			\
	X(TOOBIG,  10, "larger than the largest chunk")			\
	X(DAMAGED, 11, "shared memory is damaged")			\
	X(PERM,    12, "permission denied")				\
	X(FORK,    13, "handle belongs to the parent process")		\
	X(INTR,    14, "interrupted by a signal")			\
	X(ENDED,   15, "the port has been ended")			\
	X(BUSY,    16, "in use")					\
	X(TYPE,    17, "message of another type")			\
	X(HANDLE,  18, "handle is forged, stale or redeemed")
#define ZCP_ERROR_NAME(name, value, text) ZCP_E_##name = (value),
enum zcp_error { ZCP_OK = 0, ZCP_ERRORS(ZCP_ERROR_NAME) };
#undef ZCP_ERROR_NAME

/* A process's attachment to one domain. */
typedef struct zcp zcp;
typedef struct zcp_pub zcp_pub;
typedef struct zcp_sub zcp_sub;
typedef struct zcp_tap zcp_tap;

/*
 * zcp_errmsg - why the last failing call of this thread failed.
 * Never NULL; valid until this thread's next failing call.
 */
ZCP_API const char *zcp_errmsg(void);

/* zcp_strerror - the fixed text of a code, with or without its minus. */
ZCP_API const char *zcp_strerror(int code);

/* zcp_version - "MAJOR.MINOR.PATCH" of the library that runs. */
ZCP_API const char *zcp_version(void);

/* ---- the bus ------------------------------------------------------------ */

typedef struct zcp_options {
	const char *domain;	/* NULL: $ZCP_DOMAIN, else "default" */
	const char *name;	/* the participant's; NULL: the command's; what
				   a name cannot hold becomes _ */
	int64_t timeout;	/* how long to look for a daemon; 0: 5 s */
	const char *token;	/* of a domain that asks for one; NULL: $ZCP_TOKEN */
	int autostart;		/* 1: where no daemon answers, start a private
				   one as a child process (zcp-routed --private,
				   $ZCP_ROUTED or as found in $PATH), now and
				   whenever a port is opened */
	int guard;		/* 1: survive when another process truncates its
				   own file, or one of the domain; installs a
				   handler of SIGBUS for the whole process */
} zcp_options;

/*
 * zcp_open - attach this process to a domain.
 *   options  may be NULL; copied
 * Registers with the daemon, maps the segments and starts the thread that
 * beats this process's heart (all signals but SIGBUS blocked in it).  Keeps one
 * descriptor, which the application may close.  Returns 0 and a
 * bus that the caller closes with zcp_close(); -ZCP_E_ARG (the domain's name),
 * -ZCP_E_NODAEMON, -ZCP_E_PERM (a token, another user's segment),
 * -ZCP_E_REFUSED (a limit, named), -ZCP_E_BUSY (the daemon will not hear this
 * process for now), -ZCP_E_LAYOUT (another version, both named),
 * -ZCP_E_DAMAGED, -ZCP_E_SYS.  Any thread.
 */
ZCP_API int zcp_open(zcp **bus, const zcp_options *options)
    ZCP_RESULT __attribute__((nonnull(1)));

/*
 * zcp_close - end the participant, its ports first.
 * Its publishers, subscriptions, sets and taps are to be closed before: those
 * that are not answer -ZCP_E_ENDED from now on, and their memory stays.  What
 * reliable readers have not yet read stays readable.  *bus becomes NULL; NULL is
 * allowed.  In a forked child this and the calls that end a port only forget the
 * handle.
 */
ZCP_API void zcp_close(zcp **bus) __attribute__((nonnull));

/* zcp_largest - payload bytes of the domain's largest chunks. */
ZCP_API size_t zcp_largest(const zcp *bus) __attribute__((nonnull));

/* ---- publishing --------------------------------------------------------- */

enum zcp_stamp {
	ZCP_STAMP_SOME,		/* every 64th message: enough for statistics */
	ZCP_STAMP_NONE,
	ZCP_STAMP_EVERY,
	ZCP_STAMP_BATCH		/* one clock reading for each batch */
};

enum { ZCP_RELIABLE = 0, ZCP_LOSSY = 1 };

typedef struct zcp_pub_options {
	uint32_t slots;		/* messages in the ring, a power of two; 0: 1,024 */
	uint32_t history;	/* last messages kept for late joiners, as far
				   as half of a pool goes */
	int lossy;		/* ZCP_LOSSY: never waits for a reader */
	enum zcp_stamp stamp;
	int unlisted;		/* 1: nobody subscribes to it; its messages are
				   redeemed by their handles, zcp_handle() */
	int64_t retain;		/* ns for which the history stays after the
				   publisher's end, or death; less than 0: as
				   long as the domain */
} zcp_pub_options;

/*
 * zcp_offer - become a publisher of a topic.
 *   topic    service[/instance[/event]]; a missing part is "default"
 *   options  may be NULL; copied
 * Returns 0 and a publisher that the caller ends with zcp_stop_offer();
 * -ZCP_E_ARG, -ZCP_E_REFUSED (a limit, named), -ZCP_E_NODAEMON, -ZCP_E_SYS
 * (/dev/shm full), -ZCP_E_ENDED (the daemon has ended this participant), or
 * another code that the daemon replies with.  Any thread.
 */
ZCP_API int zcp_offer(zcp *bus, const char *topic,
    const zcp_pub_options *options, zcp_pub **pub)
    ZCP_RESULT __attribute__((nonnull(1, 2, 4)));

/*
 * zcp_stop_offer - end a publisher in order.
 * Loans that were not published go back.  Reliable readers keep what they
 * have not read.  *pub becomes NULL; NULL is allowed.
 */
ZCP_API void zcp_stop_offer(zcp_pub **pub) __attribute__((nonnull));

/* A loaned chunk: writable until it is published or discarded. */
typedef struct zcp_chunk {
	void *data;		/* 64-byte aligned shared memory */
	size_t size;		/* its capacity, bytes */
	uint32_t kind;		/* user type of the message, 0 to 65,535 */
	uint32_t id;		/* the library's */
} zcp_chunk;

/*
 * zcp_loan - borrow an empty chunk for a message of up to `size` bytes.
 * The smallest size class that fits, else the next larger one.  Waits up to
 * `timeout` while readers hold what there is.  Returns 0; -ZCP_E_TOOBIG,
 * -ZCP_E_NOMEM (timeout 0), -ZCP_E_TIMEOUT, -ZCP_E_INTR, -ZCP_E_ENDED.
 */
ZCP_API int zcp_loan(zcp_pub *pub, size_t size, zcp_chunk *chunk,
    int64_t timeout) ZCP_RESULT __attribute__((nonnull));

/*
 * zcp_publish - publish the first `length` bytes of a loaned chunk.
 * Returns 1, and the chunk is the readers': chunk->data becomes NULL.  When
 * it fails the caller still owns the chunk: -ZCP_E_TIMEOUT (a reliable reader
 * leaves no room), -ZCP_E_INTR, -ZCP_E_ARG (length, not loaned), -ZCP_E_ENDED.
 * Never allocates.
 */
ZCP_API int zcp_publish(zcp_pub *pub, zcp_chunk *chunk, size_t length,
    int64_t timeout) ZCP_RESULT __attribute__((nonnull));

/* One message within a chunk. */
typedef struct zcp_part {
	uint32_t offset;	/* from chunk->data, bytes */
	uint32_t length;
} zcp_part;

/*
 * zcp_publish_parts - publish several messages that lie in one chunk.
 * They stay one unit of memory: the chunk is free when the last of them is.
 * Returns the number published.  All `count`: the chunk is the readers'.
 * Fewer (time ran out): the caller still owns it and must next either publish
 * the rest from the same chunk or zcp_discard() it; anything else is
 * -ZCP_E_BUSY.  Errors as zcp_publish().
 */
ZCP_API int zcp_publish_parts(zcp_pub *pub, zcp_chunk *chunk,
    const zcp_part *parts, size_t count, int64_t timeout)
    ZCP_RESULT __attribute__((nonnull));

/*
 * zcp_send - publish a copy of `size` bytes at `data`.
 * Up to 32 bytes travel in the slot itself and take no chunk.  `data` may be
 * NULL if `size` is 0.  Returns 1, or as zcp_loan() and zcp_publish().
 */
ZCP_API int zcp_send(zcp_pub *pub, const void *data, size_t size,
    uint32_t kind, int64_t timeout) ZCP_RESULT __attribute__((nonnull(1)));

/* zcp_discard - give a loaned chunk back unpublished.  NULL data: nothing. */
ZCP_API void zcp_discard(zcp_pub *pub, zcp_chunk *chunk)
    __attribute__((nonnull));

/*
 * zcp_pub_readers - how many subscriptions will get what is published next.
 * zcp_pub_wait_readers - wait until they are at least `count`.  Returns how
 * many there are, -ZCP_E_TIMEOUT or -ZCP_E_INTR.  A subscription that is
 * younger than the publisher joins when it takes or is asked for its status:
 * two programs that read each other do not both wait here before they do.
 */
ZCP_API int zcp_pub_readers(zcp_pub *pub) ZCP_RESULT __attribute__((nonnull));
ZCP_API int zcp_pub_wait_readers(zcp_pub *pub, int count, int64_t timeout)
    ZCP_RESULT __attribute__((nonnull));

/*
 * zcp_pub_drain - wait until reliable readers have taken all that was
 * published; of an unlisted publisher, until it has been redeemed or passed
 * over.  Without such readers (any more) that is at once.  Returns 1,
 * -ZCP_E_TIMEOUT, -ZCP_E_INTR, -ZCP_E_ENDED.
 */
ZCP_API int zcp_pub_drain(zcp_pub *pub, int64_t timeout)
    ZCP_RESULT __attribute__((nonnull));

/*
 * zcp_cork - more comes at once: let who sleeps sleep on.
 * From now on what is published is there, at once, for all who look, but wakes
 * nobody until zcp_uncork(), or until the publisher itself must wait for room
 * or memory.  A wake-up for many messages rather than for each; a sleeper looks
 * by itself ten times a second at least.  Both may be called at any time, the
 * second time has no effect.  The publisher's thread.
 */
ZCP_API void zcp_cork(zcp_pub *pub) __attribute__((nonnull));
ZCP_API void zcp_uncork(zcp_pub *pub) __attribute__((nonnull));

typedef struct zcp_pub_info {
	uint64_t messages;	/* published so far */
	uint64_t bytes;		/* of payload */
	uint64_t unseen;	/* of the messages: nobody subscribed */
	uint64_t waits;		/* times a call slept for room or memory */
	uint64_t cut;		/* of the history offered: given up for memory */
} zcp_pub_info;

ZCP_API void zcp_pub_status(const zcp_pub *pub, zcp_pub_info *info)
    __attribute__((nonnull));

/*
 * zcp_pub_blocker - who keeps this publisher waiting: the reader that is
 * furthest behind.  Writes "NAME (pid PID), N messages behind" into text (of
 * an unlisted publisher also "a first redeemer of its handles"), or nothing.
 * Returns 1, or 0 when no reader is behind (memory may be short for
 * other topics' sake: it is shared by all).
 */
ZCP_API int zcp_pub_blocker(zcp_pub *pub, char *text, size_t size)
    __attribute__((nonnull));

/* ---- subscribing -------------------------------------------------------- */

typedef struct zcp_sub_options {
	uint32_t depth;		/* messages kept for a lossy reader; 0: what the
				   ring allows */
	uint32_t holds;		/* chunks that may be held at once; 0: 64 */
	uint32_t publishers;	/* that may be followed at once; 0: 16, or as
				   many as are there */
	int lossy;		/* ZCP_LOSSY: never makes a publisher wait */
	int from_end;		/* 1: do not ask for the history offered */
	uint32_t last;		/* of each publisher's history ask for so many
				   messages at most; 0: all that is offered */
	int64_t merge;		/* ns; more than 0: messages of several
				   publishers in the order of their stamps,
				   waiting so long for one that is silent */
} zcp_sub_options;

/*
 * zcp_subscribe - follow a topic, present and future publishers.
 *   topic    as for zcp_offer(); with *, ? or [] in a part it is a pattern
 *            (a missing part is then "*")
 *   options  may be NULL; copied
 * From its return on a reliable subscription misses nothing of publishers
 * that register later.  Returns 0 and a subscription that the caller ends
 * with zcp_unsubscribe(); errors as zcp_offer().  Any thread.
 */
ZCP_API int zcp_subscribe(zcp *bus, const char *topic,
    const zcp_sub_options *options, zcp_sub **sub)
    ZCP_RESULT __attribute__((nonnull(1, 2, 4)));

/* zcp_unsubscribe - end it; what is still held is released.  *sub becomes
 * NULL; NULL is allowed. */
ZCP_API void zcp_unsubscribe(zcp_sub **sub) __attribute__((nonnull));

typedef struct zcp_msg {
	const void *data;	/* `size` bytes; do not copy the struct: a small
				   message lies in it */
	size_t size;
	uint64_t seq;		/* number in its publisher's ring, from 0 */
	uint64_t time;		/* CLOCK_MONOTONIC ns; 0 if not stamped */
	uint64_t lost;		/* with -ZCP_E_LAPPED */
	uint32_t kind;		/* user type */
	uint32_t publisher;	/* number of its publisher in this domain */
	int32_t hold;		/* the library's */
	int32_t link;		/* the library's */
	uint64_t small[4];	/* payload that came in the slot */
} zcp_msg;

/*
 * zcp_take - borrow the next message in place.
 *   msg->data  msg->size bytes of shared memory, readable until zcp_release()
 *   msg->time  publisher's CLOCK_MONOTONIC, nanoseconds; 0 if not stamped
 * Returns 1 message; 0 nothing waits; -ZCP_E_LAPPED when messages were lost
 * (msg->lost says how many; the next call goes on); -ZCP_E_HOLDS when the
 * number of chunks agreed on is held (nothing was taken); -ZCP_E_DAMAGED: with
 * msg->lost > 0 a message that makes no sense was skipped, or a publisher's ring
 * that makes no sense or was truncated was left (at least msg->lost messages are
 * lost, and the next call goes on); with msg->lost 0 a file of the domain is
 * damaged, and the bus must be closed;
 * -ZCP_E_ENDED when the daemon has ended the subscription.
 * Several publishers: each in its order, fair between them, or merged by time
 * where the options say so.  Never blocks, never allocates but to follow a
 * new publisher.  One thread at a time per subscription.
 */
ZCP_API int zcp_take(zcp_sub *sub, zcp_msg *msg)
    ZCP_RESULT __attribute__((nonnull));

/*
 * zcp_take_batch - up to `count` messages with one call.
 * Returns how many of msgs[] were filled in, each to be released; 0 or an
 * error as zcp_take() when there was none.  A loss behind the last message is
 * told by the next call.
 */
ZCP_API int zcp_take_batch(zcp_sub *sub, zcp_msg *msgs, size_t count)
    ZCP_RESULT __attribute__((nonnull));

/* zcp_release - give a taken message back; msg->data becomes NULL.  By the
 * thread that uses the subscription, in any order. */
ZCP_API void zcp_release(zcp_sub *sub, zcp_msg *msg) __attribute__((nonnull));
ZCP_API void zcp_release_batch(zcp_sub *sub, zcp_msg *msgs, size_t count)
    __attribute__((nonnull));

/*
 * zcp_wait - sleep until zcp_take() has something, or the set of publishers
 * changed.  Spins first, for as long as that has paid.  Returns 1, 0 when
 * time ran out, -ZCP_E_INTR.  The subscription's thread.
 */
ZCP_API int zcp_wait(zcp_sub *sub, int64_t timeout)
    ZCP_RESULT __attribute__((nonnull));

/*
 * zcp_sub_fd - a descriptor for poll(2) and its kin.
 * Readable when zcp_take() may have something: then take until it returns 0,
 * which arms it anew; do not read it.  The library's: it ends with the
 * subscription.  If the program has closed the descriptor, the next call makes
 * another one.  A helper thread feeds it.  Returns the descriptor;
 * -ZCP_E_BUSY (the subscription is in a set), -ZCP_E_SYS.  The subscription's
 * thread.
 */
ZCP_API int zcp_sub_fd(zcp_sub *sub) ZCP_RESULT __attribute__((nonnull));

/* Where a message came from. */
typedef struct zcp_source {
	const char *topic;	/* service/instance/event */
	const char *name;	/* the publisher's participant */
	uint32_t pid;		/* its process; 0: not to be seen from here */
} zcp_source;

/*
 * zcp_sub_source - the source of a message that was taken from `sub`.  Its
 * texts are the library's, valid until the next zcp_take().  The
 * subscription's thread.
 */
ZCP_API void zcp_sub_source(const zcp_sub *sub, const zcp_msg *msg,
    zcp_source *source) __attribute__((nonnull));

/* ---- handles ------------------------------------------------------------- */

/*
 * A handle is one line of text that names one message of an unlisted
 * publisher.  Who gets it redeems it: takes the message in place, as any
 * subscriber would.  Nothing is given up before a first redeemer has come;
 * it then keeps the publisher waiting like a reliable subscriber, and so do
 * others that come, each for itself, from where they came.
 */
enum { ZCP_HANDLE_SIZE = 160 };

/*
 * zcp_handle - the handle of message `seq` (zcp_pub_status() tells how many
 * were published, the first being 0).  Returns 0; -ZCP_E_ARG (the publisher is
 * not unlisted, seq was not published, size is less than ZCP_HANDLE_SIZE).
 */
ZCP_API int zcp_handle(const zcp_pub *pub, uint64_t seq, char *text,
    size_t size) ZCP_RESULT __attribute__((nonnull));

/*
 * zcp_redeemer - a subscription to the one publisher that a handle names.
 * The handle is not redeemed by it.  options: holds counts, the rest does
 * not; may be NULL.  Returns 0 and a subscription that the caller ends with
 * zcp_unsubscribe(); -ZCP_E_HANDLE, else errors as zcp_subscribe().
 */
ZCP_API int zcp_redeemer(zcp *bus, const char *handle,
    const zcp_sub_options *options, zcp_sub **sub)
    ZCP_RESULT __attribute__((nonnull(1, 2, 4)));

/* zcp_redeems - is the handle one of that redeemer's publisher?  1 or 0. */
ZCP_API int zcp_redeems(const zcp_sub *sub, const char *handle)
    __attribute__((nonnull));

/*
 * zcp_redeem - take the message that a handle names, as zcp_take() does.
 * Handles are redeemed in the order of their messages: those passed over are
 * given up.  Returns 1, and the message is to be released; -ZCP_E_HANDLE
 * (forged, another publisher's, redeemed or passed over, or overwritten
 * before this redeemer came), -ZCP_E_HOLDS, -ZCP_E_DAMAGED.
 */
ZCP_API int zcp_redeem(zcp_sub *sub, const char *handle, zcp_msg *msg)
    ZCP_RESULT __attribute__((nonnull));

/* ---- waiting for several ------------------------------------------------- */

/* Subscriptions of one bus that one thread waits for together. */
typedef struct zcp_waitset zcp_waitset;

/*
 * zcp_waitset_open - an empty set.  Returns 0 and a set that the caller ends
 * with zcp_waitset_close() before the bus; -ZCP_E_SYS (out of memory).
 * zcp_waitset_close - the subscriptions stay as they are.  *set becomes NULL;
 * NULL is allowed.
 */
ZCP_API int zcp_waitset_open(zcp *bus, zcp_waitset **set)
    ZCP_RESULT __attribute__((nonnull));
ZCP_API void zcp_waitset_close(zcp_waitset **set) __attribute__((nonnull));

/*
 * zcp_waitset_add, zcp_waitset_remove - a subscription is in one set at most;
 * zcp_unsubscribe() takes it out.  Return 0; -ZCP_E_ARG (another bus's; not in
 * this set), -ZCP_E_BUSY (in a set already), -ZCP_E_SYS (out of memory).
 */
ZCP_API int zcp_waitset_add(zcp_waitset *set, zcp_sub *sub)
    ZCP_RESULT __attribute__((nonnull));
ZCP_API int zcp_waitset_remove(zcp_waitset *set, zcp_sub *sub)
    ZCP_RESULT __attribute__((nonnull));

/*
 * zcp_waitset_wait - sleep until one of them has something.
 * Returns how many of ready[], at most `most`, were filled in, another one
 * first at each call; 0 when time ran out; -ZCP_E_INTR; -ZCP_E_ARG (an empty
 * set, or most is 0).
 */
ZCP_API int zcp_waitset_wait(zcp_waitset *set, zcp_sub **ready, size_t most,
    int64_t timeout) ZCP_RESULT __attribute__((nonnull));

/* zcp_waitset_fd - as zcp_sub_fd(), for all of them: readable while one may
 * have something.  It ends with the set. */
ZCP_API int zcp_waitset_fd(zcp_waitset *set) ZCP_RESULT
    __attribute__((nonnull));

typedef struct zcp_sub_info {
	uint32_t publishers;	/* followed now, ended ones not yet read included */
	uint32_t seen;		/* joined so far */
	uint32_t died;		/* of those seen, ended by death */
	uint32_t unfollowed;	/* lossy: publishers that came when as many as
				   asked for were followed; their messages are
				   missed until a place is free, and reported as
				   lost then, or at their end */
	uint64_t messages;	/* taken so far */
	uint64_t bytes;
	uint64_t lost;		/* including what the next take reports */
	char died_name[64];	/* the last that died: "name (pid N)" */
} zcp_sub_info;

/* zcp_sub_status - where the subscription stands; looks at the directory. */
ZCP_API int zcp_sub_status(zcp_sub *sub, zcp_sub_info *info)
    ZCP_RESULT __attribute__((nonnull));

/* ---- tapping ------------------------------------------------------------ */

/*
 * zcp_tap_open - watch a topic or pattern without being a reader.
 * A tap writes nothing, slows nobody, is not counted by anybody and may lose
 * messages.  It starts at what is published next.  Errors as zcp_offer().
 */
ZCP_API int zcp_tap_open(zcp *bus, const char *topic, zcp_tap **tap)
    ZCP_RESULT __attribute__((nonnull));
ZCP_API void zcp_tap_close(zcp_tap **tap) __attribute__((nonnull));

/*
 * zcp_tap_read - copy the next message.  msg->data is the tap's own memory,
 * valid until the next call.  Returns 1, 0 nothing waits, -ZCP_E_LAPPED
 * (msg->lost), -ZCP_E_SYS (out of memory).  Never blocks.
 */
ZCP_API int zcp_tap_read(zcp_tap *tap, zcp_msg *msg)
    ZCP_RESULT __attribute__((nonnull));

/* zcp_tap_source - as zcp_sub_source(), until the next zcp_tap_read(). */
ZCP_API void zcp_tap_source(const zcp_tap *tap, const zcp_msg *msg,
    zcp_source *source) __attribute__((nonnull));

/* zcp_tap_wait - as zcp_wait(). */
ZCP_API int zcp_tap_wait(zcp_tap *tap, int64_t timeout)
    ZCP_RESULT __attribute__((nonnull));

/* ---- observing ------------------------------------------------------------- */

/*
 * Looks at a domain from outside: maps everything read-only, registers
 * nowhere, takes no reader's place, waits for nobody, and needs no daemon.
 * What it tells of one object was true at one instant; objects are looked at
 * one after another.  Nothing that stands in shared memory is trusted: what
 * makes no sense is left out and counted (zcp_domain_facts.damaged).
 */
typedef struct zcp_observer zcp_observer;

enum zcp_participant_state {
	ZCP_PARTICIPANT_LIVE = 1,
	ZCP_PARTICIPANT_STALLED,	/* lives, and its heart is silent */
	ZCP_PARTICIPANT_LEFT,		/* in order; something of it drains */
	ZCP_PARTICIPANT_DIED,		/* its rings drain */
};
enum zcp_port_state {
	ZCP_PORT_OPEN = 1,
	ZCP_PORT_CLOSED,		/* in order; it drains, or is retained */
	ZCP_PORT_DEAD,			/* its owner died; it drains */
};
enum zcp_chunk_state { ZCP_CHUNK_LOANED = 2, ZCP_CHUNK_PUBLISHED };

#define ZCP_NONE UINT32_MAX		/* no such index */

typedef struct zcp_domain_facts {
	char name[64];
	char dir[160];			/* where its segments lie */
	uint32_t uid;			/* of the daemon that made them */
	uint32_t layout_major, layout_minor;
	uint64_t instance;		/* of this creation */
	uint64_t created;		/* CLOCK_REALTIME ns */
	uint64_t heartbeat;		/* period, ns */
	int symmetric;			/* 1: --fences symmetric */
	int copy;			/* 1: files that nobody uses */
	uint32_t max_participants, max_topics, max_ports, max_links;
	int32_t daemon;			/* its pid; 0: none; -1: one that is not
					   ours to see */
	uint64_t bytes;			/* of memory committed, all segments */
	uint64_t registrations;		/* ports opened so far */
	uint64_t incarnations;		/* participants so far */
	uint64_t deaths, reclaimed, demotions, refused, cut;
	uint64_t slow;			/* times a reliable reader was found slow */
	uint64_t long_holds;		/* times a chunk was found held for long */
	uint64_t damaged;		/* records that made no sense, this time */
} zcp_domain_facts;

typedef struct zcp_pool_facts {
	uint32_t chunk_size;		/* bytes */
	uint32_t count;			/* chunks committed; limit: room for */
	uint32_t limit;
	uint32_t free, loaned, published;
	uint32_t most;			/* in use at once, as far as was seen */
	uint64_t empty;			/* times it was found empty */
} zcp_pool_facts;

typedef struct zcp_participant_facts {
	char name[64];
	uint32_t slot, pid, uid, gid;	/* pid 0: in a namespace not the daemon's */
	enum zcp_participant_state state;
	uint64_t incarnation;
	uint64_t start_time;		/* clock ticks after boot */
	uint64_t registered;		/* CLOCK_MONOTONIC ns */
	uint64_t beat;			/* CLOCK_MONOTONIC ns of its last heartbeat;
					   from the second look on, when this
					   observer saw it; 0 unknown */
	uint32_t publishers, subscribers;
	uint32_t loans, holds;		/* chunks; holds one by one */
} zcp_participant_facts;

typedef struct zcp_topic_facts {
	char name[192];
	int pattern;
	uint32_t index;			/* as port and chunk facts name it */
	uint32_t publishers, subscribers;	/* open ones; those that read
					   it through a pattern included */
} zcp_topic_facts;

/* How long messages took from stamp to take, of 1 message in 64: counts by
 * quarters of each power of two from 64 ns on; zcp_rates() sums them up. */
#define ZCP_DELAY_BUCKETS 128

typedef struct zcp_port_facts {
	uint32_t index, serial;
	int publisher;			/* 1, or 0: a subscription */
	enum zcp_port_state state;
	uint32_t participant;		/* index in zcp_snapshot.participant */
	uint32_t topic;			/* index in zcp_snapshot.topic */
	int reliable, unlisted;
	uint32_t links;
	uint64_t ended_at;		/* CLOCK_MONOTONIC ns; 0 it is open */
	/* of a publisher */
	uint32_t slots, history;
	uint64_t retain;		/* ns; UINT64_MAX for ever */
	uint64_t tail, head;		/* first seq that is there; next seq */
	uint64_t messages, bytes;	/* published so far */
	uint64_t unseen;		/* of those while nobody subscribed */
	uint64_t waits;			/* times it slept for room or memory */
	int waiting;			/* 1: it does so now */
	uint32_t loans;			/* chunks on loan to it */
	uint32_t chunks;		/* chunks published, not yet free */
	uint64_t interval_min, interval_max;	/* ns between messages since the
					   last look, from stamps; 0 unknown */
	double interval_mean;
	/* of a subscription */
	uint32_t depth, holds_most, held;
	uint64_t taken, taken_bytes, lost;
	uint64_t lag;			/* messages not yet taken, all publishers */
	uint64_t slow_since;		/* CLOCK_MONOTONIC ns; 0: it is not */
	uint32_t delay[ZCP_DELAY_BUCKETS];
} zcp_port_facts;

/* One reader at one publisher. */
typedef struct zcp_link_facts {
	uint32_t publisher, reader;	/* indices in zcp_snapshot.port */
	int reliable, demoted;
	int joined, let_go;		/* let_go: it has read an ended ring */
	uint64_t at;			/* next seq it takes */
	uint64_t lag, lost;
	uint64_t waiting;		/* ns since the message that it is to take
					   next was stamped; 0 unknown */
	uint32_t held;			/* chunks */
} zcp_link_facts;

/* One chunk that is not free. */
typedef struct zcp_chunk_facts {
	uint32_t pool, index;
	enum zcp_chunk_state state;
	uint32_t serial;		/* of the port that owns it */
	uint32_t port;			/* index in zcp_snapshot.port, or ZCP_NONE */
	uint64_t seq;			/* of its last message, if published */
	int in_ring;			/* its last message can still be taken */
	uint32_t offset, length, kind;	/* of that message; length 0 unknown */
	uint64_t time;			/* of that message's stamp; 0 unknown */
	uint32_t first_holder, holders;	/* in zcp_snapshot.holder */
	uint8_t preview[64];		/* of that message */
	uint32_t preview_size;
} zcp_chunk_facts;

typedef struct zcp_holder_facts {
	uint32_t chunk;			/* index in zcp_snapshot.chunk */
	uint32_t link;			/* index in zcp_snapshot.link, or ZCP_NONE */
	uint32_t reader;		/* index in zcp_snapshot.port */
} zcp_holder_facts;

typedef struct zcp_snapshot {
	uint64_t time;			/* CLOCK_MONOTONIC ns */
	zcp_domain_facts domain;
	zcp_pool_facts *pool;
	zcp_participant_facts *participant;
	zcp_topic_facts *topic;
	zcp_port_facts *port;
	zcp_link_facts *link;
	zcp_chunk_facts *chunk;		/* with ZCP_LOOK_CHUNKS */
	zcp_holder_facts *holder;	/* by chunk; with ZCP_LOOK_CHUNKS */
	size_t pools, participants, topics, ports, links, chunks, holders;
} zcp_snapshot;

/*
 * zcp_observe - open a domain to look at it.
 *   domain  NULL: $ZCP_DOMAIN, else "default"
 *   dir     NULL: the segments in use; else a directory with copies of them
 * Returns 0 and an observer that the caller ends with zcp_observe_end();
 * -ZCP_E_ARG, -ZCP_E_NODAEMON (there is no such domain), -ZCP_E_PERM,
 * -ZCP_E_LAYOUT, -ZCP_E_DAMAGED, -ZCP_E_SYS.  Any thread; the observer is
 * used by one at a time.
 */
ZCP_API int zcp_observe(zcp_observer **observer, const char *domain,
    const char *dir) ZCP_RESULT __attribute__((nonnull(1)));
ZCP_API void zcp_observe_end(zcp_observer **observer) __attribute__((nonnull));

enum { ZCP_LOOK_CHUNKS = 1, ZCP_LOOK_PREVIEWS = 2 };

/*
 * zcp_look - what is there now.
 *   what  ZCP_LOOK_CHUNKS: each chunk that is not free, and who holds it;
 *         ZCP_LOOK_PREVIEWS: with the first bytes of its last message
 * Follows a domain that was removed and made anew.  Returns 0 and a snapshot
 * that the caller frees with zcp_snapshot_free(); errors as zcp_observe().
 */
ZCP_API int zcp_look(zcp_observer *observer, unsigned what,
    zcp_snapshot **snapshot) ZCP_RESULT __attribute__((nonnull));
ZCP_API void zcp_snapshot_free(zcp_snapshot **snapshot)
    __attribute__((nonnull));

typedef struct zcp_port_rates {
	double messages, bytes;		/* a second: published, or taken */
	double lost;
	uint64_t delays;		/* samples of the delay */
	uint64_t delay_p50, delay_p99, delay_max;	/* ns, from stamp to take */
} zcp_port_rates;

/*
 * zcp_rates - what port `i` of `now` did since `before` (NULL: all its life,
 * without rates).  Returns 1, or 0 when it was not there then: all zero.
 */
ZCP_API int zcp_rates(const zcp_snapshot *before, const zcp_snapshot *now,
    size_t i, zcp_port_rates *rates) __attribute__((nonnull(2, 4)));

/*
 * zcp_blocker - the link that keeps publisher port `i` from going on, were its
 * ring full: the reliable reader that is furthest behind.  ZCP_NONE: nobody
 * is behind.
 */
ZCP_API uint32_t zcp_blocker(const zcp_snapshot *snapshot, size_t i)
    __attribute__((nonnull));

/*
 * zcp_check - does everything hold that must?  Calls tell(arg, text) for each
 * violation, in words.  In a domain at work several looks are taken, and only
 * what each of them finds is told.  Returns the number of violations; errors
 * as zcp_look().
 */
ZCP_API int zcp_check(zcp_observer *observer,
    void (*tell)(void *arg, const char *text), void *arg)
    ZCP_RESULT __attribute__((nonnull(1, 2)));

/* ---- typed messages ------------------------------------------------------ */

/*
 * zcp_msg_is - is this message a struct of `size` bytes, aligned to `align`,
 * of user type `kind`?  Returns 0 or -ZCP_E_TYPE, with both sides named.  Any
 * thread.
 */
ZCP_API int zcp_msg_is(const zcp_msg *msg, size_t size, size_t align,
    uint32_t kind) ZCP_RESULT __attribute__((nonnull));

#ifdef __cplusplus
#define ZCP_ALIGNOF(T) alignof(T)
#else
#define ZCP_ALIGNOF(T) _Alignof(T)
#endif

/*
 * ZCP_TYPE(name, T, kind) - the calls above for messages of one C type,
 * without pointers, whose user type on the bus is `kind` (0 to 65,535):
 *
 *   T *name_loan(pub, &chunk, timeout)      an empty T, or NULL (zcp_errmsg())
 *   int name_publish(pub, &chunk, timeout)  as zcp_publish()
 *   int name_send(pub, &value, timeout)     as zcp_send(): a copy
 *   int name_take(sub, &msg, &value)        as zcp_take(): value points to the
 *                                           T until zcp_release(sub, &msg);
 *                                           -ZCP_E_TYPE: another kind or size,
 *                                           released and skipped
 */
#define ZCP_TYPE(name, T, kind_)					\
static inline T *name##_loan(zcp_pub *pub, zcp_chunk *chunk,		\
    int64_t timeout)							\
{									\
	if (zcp_loan(pub, sizeof(T), chunk, timeout) < 0)		\
		return NULL;						\
	chunk->kind = (kind_);						\
	return (T *)chunk->data;					\
}									\
static inline int name##_publish(zcp_pub *pub, zcp_chunk *chunk,	\
    int64_t timeout)							\
{									\
	return zcp_publish(pub, chunk, sizeof(T), timeout);		\
}									\
static inline int name##_send(zcp_pub *pub, const T *value,		\
    int64_t timeout)							\
{									\
	return zcp_send(pub, value, sizeof(T), (kind_), timeout);	\
}									\
static inline int name##_take(zcp_sub *sub, zcp_msg *msg,		\
    const T **value)							\
{									\
	int rc_ = zcp_take(sub, msg);					\
									\
	*value = NULL;							\
	if (rc_ == 1 && (rc_ = zcp_msg_is(msg, sizeof(T),		\
	    ZCP_ALIGNOF(T), (kind_))) == 0) {				\
		*value = (const T *)msg->data;				\
		return 1;						\
	}								\
	if (rc_ == -ZCP_E_TYPE)						\
		zcp_release(sub, msg);					\
	return rc_;							\
}									\
typedef T name##_message

#ifdef __cplusplus
}
#endif
#endif
