/*
 * domain.h - one bus as one process sees it: its segments, mapped by role,
 * and the files of its members, mapped when they are met.
 */
#ifndef ZCP_DOMAIN_H
#define ZCP_DOMAIN_H

#include <pthread.h>
#include <stdbool.h>

#include "bell.h"
#include "error.h"
#include "layout.h"
#include "pool.h"
#include "segment.h"
#include "site.h"

/* A member's file, mapped read-only (by the daemon: for writing). */
struct peer {
	uint64_t incarnation;	/* key */
	struct member *member;
	struct segment segment;
	uint32_t slot;
	unsigned users;
	struct peer *next;
};

/* Offsets of a pool's words and hints in `pool`, of its chunks in `data`. */
struct pool_place {
	uint64_t words, hints, data;
};

struct domain {
	char name[DOMAIN_NAME + 1];
	char dir[SEGMENT_DIR_MOST];	/* where its segments lie */
	struct site site;		/* of the daemon that serves it */
	uid_t uid;			/* of the daemon: owns the segments */
	struct segment mgmt, bell, pool, data, data_write;
	struct mgmt *m;
	/* copies, checked when attached */
	uint32_t max_participants, max_topics, max_ports, max_links;
	uint64_t heartbeat;		/* period, ns */
	struct pool_place pool_at[MAX_POOLS];
	struct participant *participants;
	struct topic *topics;
	struct port *ports;
	shared_u64 *links;
	struct bell *bells;
	struct pools pools;
	bool symmetric, waitv;
	bool owner;			/* the daemon: may write it all */
	bool watched;			/* from outside: nothing may be written */
	bool copy;			/* files that are nobody's any more */
	shared_u64 *sweeping;		/* where our sweeps are announced, or NULL */
	unsigned *stop, stopped;	/* set before domain_attach(): becomes that when
					   a file of the domain is found truncated */
	pthread_mutex_t lock;		/* peers, late mappings */
	pthread_mutex_t sweep_lock;	/* one sweep at a time: `sweeping` */
	struct peer *peers;
	struct pulse *pulse;		/* by participant, see liveness.h; or NULL */
};

/* *name where it is not NULL, else $ZCP_DOMAIN, else "default"; -ZCP_E_ARG. */
int domain_name(const char **name);

/*
 * Attaches: mgmt (for writing if `owner`) and bells.  -ZCP_E_BUSY: not there,
 * not ready yet, or just removed.  domain_detach() undoes it, also a failed
 * one.
 */
int domain_attach_at(struct domain *d, const struct site *site, bool owner);
void domain_detach(struct domain *d);
/* The same of the domain that `uid` has in this environment. */
int domain_attach(struct domain *d, const char *name, uid_t uid, bool owner);
/* Has it been, since then?  Who removes one says so in mgmt first. */
bool domain_removed(const struct domain *d);

/* Are its files to be found where they were?  Not in another mount namespace,
 * where they are not gone. */
bool domain_here(const struct domain *d);

/*
 * Attaches to look only: mgmt and no bells, everything read-only, guarded
 * where guard_install() was called.  `copy`: files that are nobody's any more,
 * whoever owns them.
 */
int domain_watch(struct domain *d, const char *name, uid_t uid,
    const char *dir, bool copy);

/* Builds the tables of *d over segments that are mapped already. */
int domain_tables(struct domain *d);

/* Each maps, once, what a role needs: chunk words; chunks to read; words and
 * chunks to write. */
int domain_map_words(struct domain *d);
int domain_map_read(struct domain *d);
int domain_map_write(struct domain *d);

/* Path of p<slot>. */
void member_path(const struct domain *d, uint32_t slot,
    char path[SEGMENT_PATH]);

/*
 * The file of the participant in `slot` if it still is `incarnation`; every
 * get wants a put.  0 and *out; else *out is NULL: -ZCP_E_ENDED (it was seen
 * to be gone), -ZCP_E_DAMAGED (it was seen to be no member's file any more),
 * or -ZCP_E_PERM, -ZCP_E_LAYOUT, -ZCP_E_SYS: nothing is known.  Any thread.
 */
int peer_get(struct domain *d, uint32_t slot, uint64_t incarnation,
    struct peer **out);
void peer_put(struct domain *d, struct peer *peer);

/* peer_get() said so: is there nothing in that file any more, for anybody? */
static inline bool peer_gone(int rc)
{
	return rc == -ZCP_E_ENDED || rc == -ZCP_E_DAMAGED;
}

/* Was its file found truncated?  Then its words say nothing any more. */
static inline bool peer_cut(const struct peer *peer)
{
	return *(const volatile unsigned *)&peer->segment.cut != 0;
}

/* The file of the domain that was, or NULL. */
const char *domain_cut(const struct domain *d);

/* One more user of a file that the caller has; wants a put of its own. */
struct peer *peer_share(struct domain *d, struct peer *peer);

/* Counts the forks between this process and the first one, from the first
 * call of fork_watch() on: what a parent had is not its child's. */
extern unsigned fork_generation;
void fork_watch(void);

/* Is the participant in `slot` one of this process? */
bool own_file(const struct domain *d, uint32_t slot);

/* A place in a member's file, or NULL when it would lie outside. */
struct ring *peer_ring(const struct peer *peer, uint64_t offset,
    uint32_t slots);
struct subscription *peer_subscription(const struct peer *peer,
    uint64_t offset, uint32_t cursors, uint32_t holds);
struct cursor *subscription_cursor(const struct subscription *s,
    uint32_t holds, uint32_t index);
shared_u64 *subscription_over(const struct subscription *s, uint32_t cursors,
    uint32_t holds, uint32_t index);

static inline struct bell *domain_bell(const struct domain *d, uint32_t index)
{
	return &d->bells[index];
}

/* Chunks of these pools (bit i: pool i) have come back, or a hold has gone:
 * for whoever sleeps for memory. */
static inline void domain_ring_pools(struct domain *d, uint32_t pools)
{
	fence_light(d->symmetric);
	for (; pools != 0; pools &= pools - 1)
		bell_ring(domain_bell(d, bell_of_pool(
		    (uint32_t)__builtin_ctz(pools))));
}

#endif
