/*
 * routed.h - the route daemon: matches, supervises, reclaims.  One thread.
 *
 * All it knows is in the segments, written in an order that leaves something
 * true whenever it is killed; what is private here can be rebuilt from them.
 */
#ifndef ZCP_ROUTED_H
#define ZCP_ROUTED_H

#include <event2/event.h>
#include <sys/un.h>
#include <uthash.h>

#include "chain.h"
#include "clock.h"
#include "domain.h"
#include "readers.h"
#include "site.h"
#include "sweep.h"
#include "text.h"

enum { ROUTES_AT_ONCE = 8 };

enum on_stall { STALL_DEMOTE, STALL_WAIT, STALL_KILL };

struct pool_setting {
	uint32_t chunk_size, count;
};

struct settings {
	const char *domain;
	struct pool_setting pool[MAX_POOLS];
	uint32_t pools;
	uint32_t max_participants, max_topics, max_ports, max_links;
	uint64_t heartbeat;		/* ns */
	enum on_stall on_stall;
	uint32_t slow_lag;		/* percent of a ring: a reader that lags so far */
	uint64_t slow_after;		/* for so long (ns) is slow */
	uint64_t held_after;		/* ns; a chunk held for so long is told of */
	uint64_t grace;			/* ns; so long an ended ring stays for
					   readers that may lose it */
	bool symmetric, no_waitv;
	mode_t mode;
	uint32_t max_requests;		/* a second, of one process */
	uint32_t max_holds;		/* cursors times holds, of one participant;
					   0: holds_limit() says */
	const char *token;		/* clients must show it; NULL: none */
	bool private;			/* for clients that found none: another
					   daemon will do as well */
	uint64_t idle;			/* ends so long (ns) after the last
					   participant; 0: never */
};

struct settings settings_default(void);

/* What of the daemon's own goes with one participant. */
struct watch {
	struct routed *routed;
	struct event *exit;		/* its pidfd becomes readable */
	int pidfd;
	uint64_t last_beat;		/* of one that is stalled: another one is life */
	bool spared;			/* stalled, to be killed, and not ours to kill */
	struct peer *peer;
	bool exited;			/* its pidfd has said so */
	bool cut;			/* it has been told that its file was truncated */
	uint64_t blocked;		/* clock_ns() until which the slot is passed
					   over: something has its file's name */
	bool unseen;			/* it has been told that its life cannot
					   be looked at */
};

/* What never changes of a port: where its words lie and how many they are. */
struct shape {
	uint64_t offset;
	uint32_t kind;			/* 0: no such port */
	uint32_t slots, history;	/* of a subscription: cursors, holds */
};

struct topic_name {
	char name[TOPIC_NAME];
	uint32_t index;
	UT_hash_handle hh;
};

/* Which ports are worth a look. */
enum port_list { PORTS_SPARE, PORTS_OPEN, PORTS_ENDED, PORT_LISTS };

/*
 * The lock on a domain: one daemon serves it, or one program removes it.  What
 * is removed is named from the directory's descriptor, so that a directory
 * that was made anew in its place is another one.
 */
struct claim {
	struct site site;
	int dir, lock;			/* descriptors; -1: none */
};
#define CLAIM_INIT { .dir = -1, .lock = -1 }
enum claim_state {
	CLAIM_OURS,
	CLAIM_TAKEN,			/* lock_holder(claim.lock) has it */
	CLAIM_NONE,			/* there is nothing to claim */
};

/* What a tick does, and may go on with in the loop's next turn. */
enum tick_stage { TICK_DONE, TICK_BEATS, TICK_SLOW };

struct routed {
	struct settings settings;
	struct claim claim;
	struct domain d;
	struct watch *watch;		/* by participant slot */
	struct topic_name *topics;	/* by full name */
	struct topic_name **topic_at;	/* by index; NULL where there is none */
	struct shape *shape;		/* by port */
	uint64_t *links;		/* by port: the extent of its list */
	struct chain of_topic;		/* ports by topic */
	struct chain of_owner;		/* ports by participant */
	struct chain of_state;		/* ports by enum port_list */
	struct chain of_kind;		/* topics by enum topic_state */
	uint32_t publishers;		/* open ones */
	uint32_t ports_most;		/* that were ever in use: the first so many */
	uint8_t *link_used;		/* which entries of the links table */
	uint32_t link_rover;		/* where the last free run was found */
	uint32_t *keep;			/* by port: messages retained after its end */
	uint64_t *drained_to;		/* by port: tail at the last drain() */
	uint32_t *ended;		/* retain_plan()'s: ports */
	uint64_t *budget;		/* retain_plan()'s: by topic */
	uint64_t *lags_since;		/* by port: ns; 0: it keeps up */
	struct held *held;		/* by port, cursor and entry */
	bool pool_empty[MAX_POOLS];	/* and it has been told */
	uint32_t ticks;
	uint64_t holds_all;		/* holds_count() of all subscriptions */
	uint64_t turn_ends;		/* ns; 0: there is nobody to give way to */
	enum tick_stage stage;		/* of the tick that is under way */
	uint32_t beats_next;		/* slot that is looked at next */
	uint32_t slow_next;		/* port */
	bool exits;			/* a pidfd has said something */
	uint64_t *serials_named;	/* bitmap, while serials wrap */
	struct event_base *base;
	struct event *socket, *tick, *drain, *more;
	int fd;
	ino_t socket_inode;		/* of claim.site.socket, as we bound it */
	char aside[SOCKET_PATH];	/* see retire() */
	uint64_t started, last_tick, last_sweep;
	uint64_t idle_since;		/* nobody is registered; 0: somebody is */
	uint64_t drain_since;		/* ns */
	bool sweep_wanted;		/* a pool runs low */
	char unswept[256];		/* why the last sweep freed nothing; or "" */
	uint64_t sweep_size;		/* of a loan that waits; 0: none */
	struct known_client *clients;	/* by pid */
	pid_t route[ROUTES_AT_ONCE];	/* children that publish a text, or 0 */
	sweep_visit *visit;		/* told of each piece of garbage, or NULL */
	void *visit_arg;
};

/* ---- create.c ------------------------------------------------------------ */

/* The sizes of the segments that the settings ask for. */
struct sizes {
	uint64_t mgmt, bell, pool, data;	/* reserved; mgmt, bell and pool
						   are committed whole */
	uint64_t data_committed;
};
struct sizes domain_sizes(const struct settings *s);

/* Makes the segments of a domain that has none; errors leave none. */
int domain_create(const struct settings *s, const struct claim *c);

/*
 * Removes the domain's segments; with an `instance` other than 0 only those of
 * that creation.  False: the claim does not hold any more, nothing is removed.
 */
bool domain_clear(const struct claim *c, uint64_t instance);
/* The same, and then the lock and the directory, if nothing else is in it. */
void domain_remove(const struct claim *c, uint64_t instance);
/* Has the directory that is claimed no mgmt? */
bool domain_absent(const struct claim *c);
/* "p7" */
bool part_of_member(const char *name);

/* ---- turns --------------------------------------------------------------- */

/*
 * What one callback of the loop takes, about: what is left goes on in the next,
 * so that requests are answered in between.  A sweep, a drain and an answer are
 * not divided; holds_limit() bounds them.
 */
#define TURN (50 * NS_PER_MS)

static inline void turn_begin(struct routed *r)
{
	r->turn_ends = clock_ns() + TURN;
}
static inline bool turn_over(const struct routed *r)
{
	return r->turn_ends != 0 && clock_ns() > r->turn_ends;
}

/* ---- known.c ------------------------------------------------------------- */

/*
 * What the daemon knows of the directory for itself.  It alone writes mgmt, so
 * what it finds there of what it has written is either the same or damaged:
 * nothing that is used as an index, an offset or a size is read back.
 */
int known_open(struct routed *r);
void known_close(struct routed *r);

/* CHAIN_END where there is no such port. */
static inline uint32_t port_owner(const struct routed *r, uint32_t port)
{
	return chain_of(&r->of_owner, port);
}
static inline uint32_t port_topic(const struct routed *r, uint32_t port)
{
	return chain_of(&r->of_topic, port);
}

/* Its list of links as one word, within the table. */
static inline uint64_t links_of(const struct routed *r, uint32_t port)
{
	return r->links[port];
}

/* "?" where there is none. */
const char *topic_text(const struct routed *r, uint32_t topic);
static inline const char *port_topic_text(const struct routed *r,
    uint32_t port)
{
	return topic_text(r, port_topic(r, port));
}

/* "name (pid N)" of a port's owner. */
enum { OWNER_TEXT = NAME_SIZE + 24 };
void owner_text(const struct routed *r, uint32_t port, char text[OWNER_TEXT]);

/* The participant that owns it, or NULL; its file, or NULL. */
struct participant *owner_of_port(const struct routed *r, uint32_t port);
struct peer *port_peer(const struct routed *r, uint32_t port);

/* The words of a port in its owner's file; NULL where it is another kind of
 * port, or the file is not there. */
struct ring *port_place(const struct routed *r, uint32_t port);
struct subscription *port_subscription(const struct routed *r, uint32_t port);
/* How many cursor lines a subscription has; 0: it is none. */
uint32_t port_cursors(const struct routed *r, uint32_t port);

/* ---- links.c ------------------------------------------------------------- */

int links_rebuild(struct routed *r);
/* Each bumps the port's generation before and after. */
int link_add(struct routed *r, uint32_t port, uint64_t link);
void link_remove(struct routed *r, uint32_t port, uint32_t other);
void link_remove_exact(struct routed *r, uint32_t port, uint64_t link);
void link_flag(struct routed *r, uint32_t port, uint32_t other,
    uint32_t flags, bool on);
void links_release(struct routed *r, uint32_t port);
void generation_bump(struct routed *r, uint32_t port);

/* ---- registry.c ---------------------------------------------------------- */

/* What a client asked to register, checked for form. */
struct registration {
	char topic[TOPIC_NAME];
	bool pattern;
	enum port_kind kind;
	uint32_t participant, slots, history, depth, flags;
	uint32_t redeems;		/* a publisher's serial, or 0 */
	uint64_t offset, nonce, retain;
};

/* How many holds the subscriptions of one participant may have room for: what
 * a sweep has to look at on its behalf. */
uint32_t holds_limit(const struct settings *s);

int registry_open(struct routed *r);	/* private lists, empty */
void registry_close(struct routed *r);
/* At an adoption: all that is there, or nothing is changed and it fails. */
int registry_watch(struct routed *r);
int registry_rebuild(struct routed *r);	/* after that */
int participant_add(struct routed *r, const char *name, uint64_t nonce,
    pid_t pid, uid_t uid, gid_t gid);
/* Its ports close, or die; it is forgotten once they have drained. */
void participant_end(struct routed *r, uint32_t slot, bool died);
/* The last step: nothing of it is left. */
void participant_forget(struct routed *r, uint32_t slot);
int port_add(struct routed *r, const struct registration *want);
void port_end(struct routed *r, uint32_t port, bool died);
void ports_closed_unheard(struct routed *r);
/* The last step: unlinked, its topic perhaps gone, its record free. */
void port_forget(struct routed *r, uint32_t port);

/* ---- serials.c ----------------------------------------------------------- */

/* A serial that no port and no chunk word names; 0 with a message when a
 * sweep that began before serials wrapped is still under way. */
uint32_t serial_new(struct routed *r);
/* Does a chunk word name it? */
bool serial_named(const struct routed *r, uint32_t serial);

/* ---- matching.c ---------------------------------------------------------- */

/* Links a new port with all that it matches; an error names the limit that
 * is reached, and then it is linked with none. */
int match_port(struct routed *r, uint32_t port);
void unmatch_port(struct routed *r, uint32_t port);
/* A stalled participant's reliable subscriptions are passed over, or again
 * waited for. */
void match_demote(struct routed *r, uint32_t slot, bool on);
/* After adoption: completes or removes what a killed daemon left half done. */
void match_repair(struct routed *r);
/* What is done with each pair that meets; 0, or why to stop. */
typedef int meeting(struct routed *r, uint32_t publisher, uint32_t subscriber,
    void *arg);
int meet_all(struct routed *r, uint32_t port, meeting *visit, void *arg);
/* Do both lists name the pair? */
bool match_linked(struct routed *r, uint32_t publisher, uint32_t subscriber);
/* Links those for which there was no cursor and now there is. */
void match_late(struct routed *r);
/* The readers linked with a publisher that have not let it go. */
uint32_t match_clinging(struct routed *r, uint32_t port);
/* Tells them that the ring, whose tail is at its end, goes. */
void match_over(struct routed *r, uint32_t port, uint64_t end);
/* A cursor line of a subscription, or NULL. */
const struct cursor *port_cursor(struct routed *r, uint32_t subscriber,
    uint32_t cursor);
/* The word beside it, see layout.h; NULL in the same way. */
shared_u64 *port_over(struct routed *r, uint32_t subscriber, uint32_t cursor);
/* Does a subscription still show holds? */
bool holds_shown(struct routed *r, uint32_t port);

/* The links of an ended publisher's readers that have let it go; true while
 * others are left. */
bool match_part(struct routed *r, uint32_t port);

/* ---- missed.c ------------------------------------------------------------ */

/* A publisher has ended: whoever was there first and had no cursor for it is
 * told how many messages it missed. */
void missed_count(struct routed *r, uint32_t port);
/* After adoption: completes what a killed daemon was counting. */
void missed_repair(struct routed *r);

/* ---- retain.c ------------------------------------------------------------ */

int retain_open(struct routed *r);
void retain_close(struct routed *r);
/* Has this publisher ended, and its history's time not? */
bool retained(const struct routed *r, uint32_t port);
/* Decides how much of each ended ring is kept: r->keep[]. */
void retain_plan(struct routed *r);
/* Is a ring's time over since then? */
bool retain_expired(const struct routed *r);
/* Before the registry is built: is there history worth an adoption? */
bool retain_pending(const struct routed *r);

/* ---- reaper.c ------------------------------------------------------------ */

/* Errors of peer_get(); -ZCP_E_REFUSED: it could not be watched. */
int watch_add(struct routed *r, uint32_t slot);
void watch_remove(struct routed *r, uint32_t slot);
void reap(struct routed *r, uint32_t slot);	/* if it is dead */
/* A publisher's ring, and how many slots it has, loaded once; NULL when it is
 * not there (any more, or yet). */
struct ring *port_ring(const struct routed *r, const struct port *p,
    uint32_t *slots);
/* A tick's look at all hearts: begins; goes on, true when it is at its end. */
void heartbeats_begin(struct routed *r);
bool heartbeats_go_on(struct routed *r);
/* It is stalled, as we or an earlier daemon found: until there is another beat
 * than the one that stands there now. */
void stall_noted(struct routed *r, uint32_t slot);
/* Are the reliable subscriptions of a stalled participant passed over? */
bool stall_demotes(const struct routed *r, uint32_t slot);
/* Drains what has ended, and sweeps; true while something is left. */
bool drain(struct routed *r);
void drain_soon(struct routed *r);
void drain_again(struct routed *r);	/* the timer's turn */
/* The oldest history goes that has a chunk of that size or more; size 0: that
 * keeps a place in the directory. */
bool give_up_history(struct routed *r, uint64_t size);
void sweep_now(struct routed *r);
/* Also takes back from the rings of live but idle owners; for a loan of
 * `size` bytes (0: none) also the oldest history that is retained. */
void sweep_all(struct routed *r, uint64_t size);

/* ---- slow.c -------------------------------------------------------------- */

int slow_open(struct routed *r);
void slow_close(struct routed *r);
/* The tick's turn: begins; goes on, true when it is at its end. */
void slow_begin(struct routed *r);
bool slow_go_on(struct routed *r);
/* Counts what is in use: now, or when a loan has failed. */
void pools_look(struct routed *r);

/* ---- clients.c ----------------------------------------------------------- */

/* Who sent a request, and where the answer goes. */
struct client {
	pid_t pid;
	uid_t uid;
	gid_t gid;
	struct sockaddr_un address;
	socklen_t address_length;
};

enum quota {
	QUOTA_LEFT,
	QUOTA_REFUSE,		/* too many requests: say so */
	QUOTA_SILENCE,		/* it has been told */
};
enum quota quota_take(struct routed *r, const struct client *client);
/* Answering it has taken since `began` (clock_ns). */
void quota_charge(struct routed *r, const struct client *client,
    uint64_t began);

/*
 * Does a process of this user, with this number, speak for participant `slot`?
 * `key`: the nonce of a registration, as the request has it; 0: it has none.
 */
bool client_is(const struct routed *r, uint32_t slot, pid_t pid, uid_t uid,
    uint64_t key);

/* The token that a client shows; -ZCP_E_PERM if it is not the domain's. */
int client_show(struct routed *r, const struct client *client,
    const char *token);
/* Has it shown the token, or is there none?  -ZCP_E_PERM if not; -ZCP_E_SYS:
 * could not look. */
int client_trusted(struct routed *r, const struct client *client);
void clients_forget(struct routed *r);

/* ---- verbs.c ------------------------------------------------------------- */

/* Answers one request in `reply`; false: there is nothing to send (now). */
bool answer(struct routed *r, const struct client *c, const char *request,
    size_t length, struct text *reply);

/* ---- route.c ------------------------------------------------------------- */

struct topic_wanted {
	char name[TOPIC_NAME];
	bool pattern;
};

void route_query(struct routed *r, const struct topic_wanted *want,
    struct text *t);
/* 0: a child publishes the text and will answer the client. */
int route_publish(struct routed *r, const struct client *client,
    const struct topic_wanted *want, const char *text);
void route_reap(struct routed *r);

/* ---- status.c ------------------------------------------------------------ */

/* Status lines from item `from` on; ends with "MORE:<next>" if they are too
 * many for one reply. */
void status_text(struct routed *r, uint32_t from, struct text *t);
void status_log_participants(struct routed *r);

/* ---- dump.c -------------------------------------------------------------- */

/* Every record, link, cursor and chunk in use, paged in the same way. */
void dump_text(struct routed *r, uint64_t from, struct text *t);

/* ---- lock.c -------------------------------------------------------------- */

/*
 * Claims the site, or what this environment has of c->site.domain and makes
 * where it is not there.  An enum claim_state (never CLAIM_NONE of
 * claim_make()), or an error.  claim_drop() undoes both, also a failed one.
 */
int claim_try(struct claim *c);
int claim_make(struct claim *c);
void claim_drop(struct claim *c);
/* Is the lock that we have still the one in the domain's directory?  Somebody
 * may have removed that by hand. */
bool claim_holds(const struct claim *c);

/*
 * One daemon a domain.  Waits a second for one that is on its way out;
 * -ZCP_E_BUSY names who has it.  1: settings.private, and another one serves.
 */
int lock_take(struct routed *r);
/* 1: another process has a lock on the file; 0: none has, or it is not there;
 * < 0: could not look. */
int file_locked(const char *path);
/* Who has the domain's lock: 0 nobody, -1 one of another pid namespace. */
int routed_pid(const char *domain, pid_t *pid);
/* Sends it SIGTERM, and nobody else who may have its number by then. */
int routed_end(const char *domain, pid_t *pid);

/* ---- adopt.c ------------------------------------------------------------- */

/* Attaches to what was claimed, for writing; -ZCP_E_BUSY: it is not there, or
 * only in part.  domain_let_go() undoes it, also a failed one. */
int domain_take(struct routed *r);
void domain_let_go(struct routed *r);
/* Has one taken anything that a next daemon should find?  Members that live,
 * history whose time is not over. */
bool somebody_lives(struct routed *r);
bool worth_keeping(struct routed *r);
bool something_is_left(const struct routed *r);
/* Takes over what was taken: the private tables, repairs, the dead. */
int domain_adopt(struct routed *r);
/* Takes and adopts, or makes it anew. */
int domain_set_up(struct routed *r);
/* The end of a daemon, or of zcp-gc in its place; false: nothing was left,
 * the segments are removed. */
bool domain_leave(struct routed *r);

/* ---- server.c ------------------------------------------------------------ */

/*
 * Runs until SIGTERM, SIGINT or the settings' idle time; `ready` is called
 * once clients are served.  1: a private one found that another serves.
 */
int routed_run(struct routed *r, const struct settings *s,
    void (*ready)(const struct routed *));

#endif
