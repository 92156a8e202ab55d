#include "domain.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "atomics.h"
#include "error.h"
#include "guard.h"
#include "own.h"
#include "site.h"
#include "topic.h"

int domain_name(const char **name)
{
	if (*name == NULL && ((*name = getenv("ZCP_DOMAIN")) == NULL ||
	    **name == '\0'))
		*name = "default";
	return name_valid(*name) ? 0 : error_set(ZCP_E_ARG, "domain '%s': a "
	    "name has 1 to 63 of A-Z a-z 0-9 . _ -", *name);
}

#define HEARTBEAT_LEAST UINT64_C(1000000)		/* ns: 1 ms */
#define HEARTBEAT_MOST (UINT64_C(1) << 60)

/* ---- attaching ----------------------------------------------------------- */

static bool fits(const struct segment *s, uint64_t offset, uint64_t count,
    uint64_t each)
{
	return offset % CACHE_LINE == 0 && offset <= s->size &&
	    count <= (s->size - offset) / each;
}

/*
 * What the tables are and where, loaded once: what is checked here is what is
 * used, though the file may change under us.
 */
static int load_shape(struct domain *d)
{
	const volatile struct mgmt *m = d->m;
	char *base = d->mgmt.base;
	uint64_t participants = m->participants, topics = m->topics;
	uint64_t ports = m->ports, links = m->links;

	d->max_participants = m->max_participants;
	d->max_topics = m->max_topics;
	d->max_ports = m->max_ports;
	d->max_links = m->max_links;
	d->heartbeat = m->heartbeat;
	d->pools.count = m->pools;
	if (d->pools.count == 0 || d->pools.count > MAX_POOLS ||
	    d->max_ports >= 1u << LINK_PORT_BITS ||
	    !fits(&d->mgmt, participants, d->max_participants,
	    sizeof(struct participant)) ||
	    !fits(&d->mgmt, topics, d->max_topics, sizeof(struct topic)) ||
	    !fits(&d->mgmt, ports, d->max_ports, sizeof(struct port)) ||
	    !fits(&d->mgmt, links, d->max_links, sizeof(uint64_t)) ||
	    (!d->watched && !fits(&d->bell, sizeof(struct segment_head),
	    bell_count(d->max_topics, d->max_ports), sizeof(struct bell))))
		return error_set(ZCP_E_DAMAGED, "domain %s: the tables of its "
		    "mgmt segment lie outside of it", d->name);
	/* A heart that beats without a pause leaves time for nothing else, and
	 * one that may be silent for no time is dead. */
	if (d->heartbeat < HEARTBEAT_LEAST || d->heartbeat > HEARTBEAT_MOST)
		return error_set(ZCP_E_DAMAGED, "domain %s: the heartbeat "
		    "period in its mgmt segment is impossible", d->name);
	d->participants = (struct participant *)(base + participants);
	d->topics = (struct topic *)(base + topics);
	d->ports = (struct port *)(base + ports);
	d->links = (shared_u64 *)(base + links);
	return 0;
}

static int load_pool(struct domain *d, uint32_t i)
{
	const volatile struct pool_descriptor *desc = &d->m->pool[i];
	struct pool *pool = &d->pools.pool[i];

	pool->desc = &d->m->pool[i];
	pool->chunk_size = desc->chunk_size;
	pool->limit = desc->limit;
	d->pool_at[i] = (struct pool_place){ desc->words, desc->hints,
	    desc->data };
	if (pool->chunk_size == 0 || pool->chunk_size % CACHE_LINE != 0 ||
	    pool->limit == 0 || pool->limit >= 1u << CHUNK_INDEX_BITS)
		return error_set(ZCP_E_DAMAGED, "domain %s: pool %u of its "
		    "mgmt segment is impossible", d->name, i);
	return 0;
}

int domain_tables(struct domain *d)
{
	int rc;

	if (d->mgmt.size < sizeof(struct mgmt))
		return error_set(ZCP_E_DAMAGED,
		    "domain %s: its mgmt segment is too small", d->name);
	d->m = d->mgmt.base;
	if ((rc = load_shape(d)) < 0)
		return rc;
	d->bells = d->watched ? NULL : (struct bell *)((char *)d->bell.base +
	    sizeof(struct segment_head));
	d->symmetric = d->m->flags & DOMAIN_SYMMETRIC;
	d->waitv = !d->watched && !(d->m->flags & DOMAIN_NO_WAITV) &&
	    bell_waitv_works();
	for (uint32_t i = 0; i < d->pools.count && rc == 0; i++)
		rc = load_pool(d, i);
	return rc;
}

static int open_part(struct domain *d, struct segment *s, const char *part,
    enum segment_part kind, bool writable)
{
	char path[SEGMENT_PATH];
	/* Subscribers may not write mgmt, whatever their user. */
	mode_t mode = d->m == NULL ? 0644 : (mode_t)d->m->mode & 0777;
	int rc;

	segment_path(path, d->dir, part);
	rc = segment_open(s, path, kind, writable && !d->watched, d->copy ?
	    ANY_OWNER : d->uid, mode, d->m == NULL ? 0 :
	    ((struct segment_head *)d->mgmt.base)->instance);
	if (rc == 0)
		guard_add(s->base, s->size, (struct guard_marks){
		    .cut = &s->cut, .stop = d->stop, .stopped = d->stopped });
	/* They are there for as long as mgmt is ready. */
	if (rc == -ZCP_E_SYS && errno == ENOENT && d->m != NULL)
		rc = -ZCP_E_DAMAGED;
	return rc;
}

static void close_part(struct segment *s)
{
	if (s->base != NULL)
		guard_remove(s->base);
	segment_close(s);
}

static void prepare(struct domain *d, const char *name, uid_t uid,
    const char *dir)
{
	unsigned *stop = d->stop, stopped = d->stopped;

	memset(d, 0, sizeof(*d));
	d->stop = stop;
	d->stopped = stopped;
	d->mgmt = d->bell = d->pool = d->data = d->data_write =
	    (struct segment)SEGMENT_INIT;
	snprintf(d->name, sizeof(d->name), "%s", name);
	snprintf(d->dir, sizeof(d->dir), "%s", dir);
	d->uid = uid;
	pthread_mutex_init(&d->lock, NULL);
	pthread_mutex_init(&d->sweep_lock, NULL);
}

int domain_watch(struct domain *d, const char *name, uid_t uid,
    const char *dir, bool copy)
{
	int rc;

	prepare(d, name, uid, dir);
	d->watched = true;
	d->copy = copy;
	if ((rc = open_part(d, &d->mgmt, "mgmt", PART_MGMT, false)) < 0)
		return rc;
	return domain_tables(d);
}

static int attach_parts(struct domain *d, bool owner)
{
	int rc;

	if ((rc = open_part(d, &d->mgmt, "mgmt", PART_MGMT, owner)) < 0)
		return rc;
	if (d->mgmt.size < sizeof(struct mgmt))
		return error_set(ZCP_E_DAMAGED, "domain %s: its mgmt segment "
		    "is too small", d->name);
	d->m = d->mgmt.base;
	if (!(d->m->flags & DOMAIN_SYMMETRIC) && fence_register() < 0)
		return error_sys("domain %s: cannot register for membarrier "
		    "(zcp-routed --fences symmetric does without)", d->name);
	if ((rc = open_part(d, &d->bell, "bell", PART_BELL, true)) < 0)
		return rc;
	return domain_tables(d);
}

bool domain_removed(const struct domain *d)
{
	return fact_load(&d->m->head.magic) != SEGMENT_MAGIC;
}

int domain_attach(struct domain *d, const char *name, uid_t uid, bool owner)
{
	struct site site;
	int rc = site_find(&site, uid, site_runtime(), name);

	if (rc == 1)
		return domain_attach_at(d, &site, owner);
	prepare(d, name, uid, "");
	return rc < 0 ? rc : -ZCP_E_BUSY;
}

int domain_attach_at(struct domain *d, const struct site *site, bool owner)
{
	int rc;

	prepare(d, site->domain, site->uid, site->dir);
	d->site = *site;
	d->owner = owner;
	rc = attach_parts(d, owner);
	if (rc < 0 && (d->m == NULL ? rc == -ZCP_E_SYS && errno == ENOENT :
	    domain_removed(d)))
		return -ZCP_E_BUSY;
	return rc;
}

bool domain_here(const struct domain *d)
{
	char path[SEGMENT_PATH];
	struct stat st;

	segment_path(path, d->dir, "mgmt");
	return stat(path, &st) == 0 && st.st_dev == d->mgmt.dev &&
	    st.st_ino == d->mgmt.ino;
}

static void peer_free(struct peer *peer)
{
	close_part(&peer->segment);
	free(peer);
}

const char *domain_cut(const struct domain *d)
{
	return d->mgmt.cut ? "mgmt" : d->bell.cut ? "bell" :
	    d->pool.cut ? "pool" : d->data.cut || d->data_write.cut ? "data" :
	    NULL;
}

void domain_detach(struct domain *d)
{
	while (d->peers != NULL) {
		struct peer *peer = d->peers;

		d->peers = peer->next;
		peer_free(peer);
	}
	close_part(&d->data_write);
	close_part(&d->data);
	close_part(&d->pool);
	close_part(&d->bell);
	close_part(&d->mgmt);
	free(d->pulse);
	d->pulse = NULL;
	d->m = NULL;
	d->name[0] = '\0';
	pthread_mutex_destroy(&d->lock);
	pthread_mutex_destroy(&d->sweep_lock);
}

/* Do the words, the hints and the chunks of each pool lie in `segment`? */
static int check_pools(const struct domain *d, const struct segment *segment,
    bool words)
{
	for (uint32_t i = 0; i < d->pools.count; i++) {
		const struct pool_place *p = &d->pool_at[i];
		uint32_t limit = d->pools.pool[i].limit;

		if (words ? !fits(segment, p->words, limit, 8) ||
		    !fits(segment, p->hints, (limit + 63) / 64, 8) :
		    !fits(segment, p->data, limit,
		    d->pools.pool[i].chunk_size))
			return error_set(ZCP_E_DAMAGED, "domain %s: pool %u "
			    "lies outside of its segments", d->name, i);
	}
	return 0;
}

static int map_words(struct domain *d)
{
	int rc;

	if (d->pool.base != NULL)
		return 0;
	if ((rc = open_part(d, &d->pool, "pool", PART_POOL, true)) < 0)
		return rc;
	if ((rc = check_pools(d, &d->pool, true)) < 0) {
		close_part(&d->pool);
		return rc;
	}
	for (uint32_t i = 0; i < d->pools.count; i++) {
		const struct pool_place *p = &d->pool_at[i];
		char *words = d->pool.base;

		d->pools.pool[i].word = (shared_u64 *)(words + p->words);
		d->pools.pool[i].hint = (shared_u64 *)(words + p->hints);
	}
	return 0;
}

static int map_data(struct domain *d, struct segment *s, bool writable)
{
	int rc;

	if (s->base != NULL)
		return 0;
	if ((rc = open_part(d, s, "data", PART_DATA, writable)) < 0)
		return rc;
	if ((rc = check_pools(d, s, false)) < 0)
		close_part(s);
	return rc;
}

int domain_map_words(struct domain *d)
{
	int rc;

	pthread_mutex_lock(&d->lock);
	rc = map_words(d);
	pthread_mutex_unlock(&d->lock);
	return rc;
}

int domain_map_read(struct domain *d)
{
	int rc;

	pthread_mutex_lock(&d->lock);
	if ((rc = map_data(d, &d->data, false)) == 0)
		for (uint32_t i = 0; i < d->pools.count; i++)
			d->pools.pool[i].data =
			    (char *)d->data.base + d->pool_at[i].data;
	pthread_mutex_unlock(&d->lock);
	return rc;
}

int domain_map_write(struct domain *d)
{
	int rc;

	pthread_mutex_lock(&d->lock);
	if ((rc = map_words(d)) == 0 &&
	    (rc = map_data(d, &d->data_write, true)) == 0)
		for (uint32_t i = 0; i < d->pools.count; i++)
			d->pools.pool[i].data_write =
			    (char *)d->data_write.base + d->pool_at[i].data;
	pthread_mutex_unlock(&d->lock);
	return rc;
}

/* ---- members' files ------------------------------------------------------ */

unsigned fork_generation;

/* A look of another thread's is not under way in the child for ever. */
static void forked(void)
{
	fork_generation++;
	own_end();
}

static void install_fork_watch(void)
{
	pthread_atfork(own_begin, own_end, forked);
}

void fork_watch(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, install_fork_watch);
}

void member_path(const struct domain *d, uint32_t slot,
    char path[SEGMENT_PATH])
{
	char part[16];

	snprintf(part, sizeof(part), "p%u", slot);
	segment_path(path, d->dir, part);
}

static uint64_t instance_of(const struct domain *d)
{
	return ((struct segment_head *)d->mgmt.base)->instance;
}

bool own_file(const struct domain *d, uint32_t slot)
{
	return own_has(instance_of(d), d->participants[slot].incarnation);
}

/* The file of a member that is still there has been truncated: zeros, as the
 * guard would make of them where it was mapped before. */
static int peer_stand_in(struct peer *peer)
{
	void *zeros = mmap(NULL, MEMBER_WINDOW, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (zeros == MAP_FAILED)
		return error_sys("cannot map %llu bytes of zeros",
		    (unsigned long long)MEMBER_WINDOW);
	peer->segment.base = peer->member = zeros;
	peer->segment.size = MEMBER_WINDOW;
	peer->segment.cut = 1;
	return 0;
}

static int peer_map(struct domain *d, struct peer *peer)
{
	uint64_t instance = instance_of(d);
	const struct participant *p = &d->participants[peer->slot];
	char path[SEGMENT_PATH];
	int rc;

	member_path(d, peer->slot, path);
	rc = segment_open(&peer->segment, path, PART_MEMBER, d->owner,
	    d->copy ? ANY_OWNER : p->uid, (mode_t)d->m->mode & 0777, instance);
	if (rc < 0 && errno == ENODATA && rc != -ZCP_E_SYS &&
	    p->incarnation == peer->incarnation &&
	    fact_load32(&p->state) != PARTICIPANT_FREE)
		return peer_stand_in(peer);
	if (rc < 0)
		return rc;
	guard_add(peer->segment.base, peer->segment.size,
	    (struct guard_marks){ .cut = &peer->segment.cut });
	peer->member = peer->segment.base;
	if (peer->member->incarnation != peer->incarnation)
		return error_set(ZCP_E_ENDED,
		    "%s has been given to another participant", path);
	return 0;
}

/* It failed with `rc`, for `cause`: was it seen that there is nothing? */
static int peer_reason(const struct domain *d, const struct peer *peer, int rc,
    int cause)
{
	const struct participant *p = &d->participants[peer->slot];

	if (domain_removed(d))
		return error_in(-ZCP_E_ENDED, "the domain has been removed");
	if (rc == -ZCP_E_SYS && cause == ENOENT && domain_here(d))
		return -ZCP_E_ENDED;
	/* Not ready: of the next one in that place, or emptied by its owner. */
	if (rc == -ZCP_E_BUSY)
		return p->incarnation == peer->incarnation &&
		    fact_load32(&p->state) != PARTICIPANT_FREE ?
		    -ZCP_E_DAMAGED : -ZCP_E_ENDED;
	return rc;
}

static int peer_new(struct domain *d, uint32_t slot, uint64_t incarnation,
    struct peer **out)
{
	struct peer *peer = calloc(1, sizeof(*peer));
	int rc;

	if (peer == NULL)
		return error_set(ZCP_E_SYS, "out of memory");
	peer->slot = slot;
	peer->incarnation = incarnation;
	peer->segment = (struct segment)SEGMENT_INIT;
	errno = 0;
	if ((rc = peer_map(d, peer)) < 0) {
		rc = peer_reason(d, peer, rc, errno);
		peer_free(peer);
		return rc;
	}
	peer->next = d->peers;
	d->peers = peer;
	*out = peer;
	return 0;
}

int peer_get(struct domain *d, uint32_t slot, uint64_t incarnation,
    struct peer **out)
{
	struct peer *peer;
	int rc = 0;

	*out = NULL;
	if (slot >= d->max_participants)
		return error_set(ZCP_E_DAMAGED,
		    "participant %u does not exist", slot);
	pthread_mutex_lock(&d->lock);
	for (peer = d->peers; peer != NULL; peer = peer->next)
		if (peer->incarnation == incarnation)
			break;
	if (peer == NULL)
		rc = peer_new(d, slot, incarnation, &peer);
	if (rc == 0) {
		peer->users++;
		*out = peer;
	}
	pthread_mutex_unlock(&d->lock);
	return rc;
}

struct peer *peer_share(struct domain *d, struct peer *peer)
{
	pthread_mutex_lock(&d->lock);
	peer->users++;
	pthread_mutex_unlock(&d->lock);
	return peer;
}

void peer_put(struct domain *d, struct peer *peer)
{
	if (peer == NULL)
		return;
	pthread_mutex_lock(&d->lock);
	if (--peer->users == 0) {
		for (struct peer **p = &d->peers; *p; p = &(*p)->next)
			if (*p == peer) {
				*p = peer->next;
				break;
			}
		peer_free(peer);
	}
	pthread_mutex_unlock(&d->lock);
}

static void *peer_place(const struct peer *peer, uint64_t offset,
    uint64_t bytes)
{
	if (offset % CACHE_LINE != 0 || offset < MEMBER_FIRST ||
	    offset > peer->segment.size ||
	    bytes > peer->segment.size - offset)
		return NULL;
	return (char *)peer->segment.base + offset;
}

struct ring *peer_ring(const struct peer *peer, uint64_t offset,
    uint32_t slots)
{
	if (slots < MIN_RING || slots > MAX_RING || (slots & (slots - 1)))
		return NULL;
	return peer_place(peer, offset, ring_bytes(slots));
}

struct subscription *peer_subscription(const struct peer *peer,
    uint64_t offset, uint32_t cursors, uint32_t holds)
{
	if (cursors == 0 || cursors > 1u << LINK_CURSOR_BITS || holds == 0 ||
	    holds > MAX_HOLDS)
		return NULL;
	return peer_place(peer, offset, subscription_bytes(cursors, holds));
}

struct cursor *subscription_cursor(const struct subscription *s,
    uint32_t holds, uint32_t index)
{
	return (struct cursor *)((char *)s + sizeof(*s) +
	    index * cursor_stride(holds));
}

shared_u64 *subscription_over(const struct subscription *s, uint32_t cursors,
    uint32_t holds, uint32_t index)
{
	return (shared_u64 *)((char *)s + over_offset(cursors, holds)) + index;
}
