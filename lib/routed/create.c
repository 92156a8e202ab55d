/* create.c - the segments of a new domain, magic last. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "atomics.h"
#include "clock.h"
#include "control.h"
#include "error.h"
#include "log.h"
#include "routed.h"

struct settings settings_default(void)
{
	return (struct settings){
		.domain = "default",
		/* the seeds' 170 chunks, and some for streams */
		.pool = { { 128, 100 }, { 1024, 50 }, { 4096, 20 },
		    { 65536, 32 } },
		.pools = 4,
		.max_participants = 256, .max_topics = 1024,
		.max_ports = 2048, .max_links = 16384,
		.heartbeat = NS_PER_S,
		.slow_lag = 75, .slow_after = 5 * NS_PER_S,
		.held_after = 30 * NS_PER_S,
		.grace = 10 * NS_PER_S,
		.mode = 0600,
		.max_requests = 10000,
	};
}

static uint64_t align_up(uint64_t n, uint64_t to)
{
	return (n + to - 1) / to * to;
}

enum { PAGE = 4096 };

static uint64_t words_bytes(const struct settings *s)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < s->pools; i++)
		n += align_up(8ull * s->pool[i].count, CACHE_LINE) +
		    align_up(8ull * ((s->pool[i].count + 63) / 64), CACHE_LINE);
	return n;
}

struct sizes domain_sizes(const struct settings *s)
{
	struct sizes z = {
		.mgmt = align_up(sizeof(struct mgmt) +
		    (uint64_t)s->max_participants * sizeof(struct participant) +
		    (uint64_t)s->max_topics * sizeof(struct topic) +
		    (uint64_t)s->max_ports * sizeof(struct port) +
		    (uint64_t)s->max_links * sizeof(uint64_t), PAGE),
		.bell = align_up(sizeof(struct segment_head) +
		    bell_count(s->max_topics, s->max_ports) *
		    sizeof(struct bell), PAGE),
		.pool = align_up(sizeof(struct segment_head) + words_bytes(s),
		    PAGE),
		.data = PAGE,
	};

	for (uint32_t i = 0; i < s->pools; i++)
		z.data += align_up((uint64_t)s->pool[i].chunk_size *
		    s->pool[i].count, PAGE);
	z.data_committed = z.data;
	return z;
}

static void fill_pools(struct mgmt *m, const struct settings *s,
    struct segment *pool)
{
	uint64_t words = sizeof(struct segment_head), data = PAGE;

	for (uint32_t i = 0; i < s->pools; i++) {
		struct pool_descriptor *p = &m->pool[i];
		uint32_t count = s->pool[i].count;

		p->chunk_size = s->pool[i].chunk_size;
		p->limit = count;
		p->words = words;
		words += align_up(8ull * count, CACHE_LINE);
		p->hints = words;
		words += align_up(8ull * ((count + 63) / 64), CACHE_LINE);
		p->data = data;
		data += align_up((uint64_t)p->chunk_size * count, PAGE);
		for (uint32_t k = 0; k < count; k++) {
			char *base = pool->base;

			((shared_u64 *)(base + p->words))[k] =
			    word_make(CHUNK_FREE, 0, 0);
			((shared_u64 *)(base + p->hints))[k / 64] |=
			    UINT64_C(1) << k % 64;
		}
		fact_publish32(&p->count, count);
	}
	m->pools = s->pools;
}

static int fill_mgmt(struct mgmt *m, const struct settings *s)
{
	struct timespec now;

	if (getrandom(m->handle_key, sizeof(m->handle_key), 0) !=
	    (ssize_t)sizeof(m->handle_key))
		return error_sys("cannot make a key for handles");

	clock_gettime(CLOCK_REALTIME, &now);
	m->created = (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
	m->flags = (s->symmetric ? DOMAIN_SYMMETRIC : 0) |
	    (s->no_waitv ? DOMAIN_NO_WAITV : 0);
	m->max_participants = s->max_participants;
	m->max_topics = s->max_topics;
	m->max_ports = s->max_ports;
	m->max_links = s->max_links;
	m->mode = s->mode;
	m->heartbeat = s->heartbeat;
	m->participants = sizeof(struct mgmt);
	m->topics = m->participants +
	    (uint64_t)s->max_participants * sizeof(struct participant);
	m->ports = m->topics + (uint64_t)s->max_topics * sizeof(struct topic);
	m->links = m->ports + (uint64_t)s->max_ports * sizeof(struct port);
	snprintf(m->domain, sizeof(m->domain), "%s", s->domain);
	fact_publish32(&m->serial_next, 1);
	fact_publish32(&m->serial_epoch, 1);
	return 0;
}

int domain_create(const struct settings *s, const struct claim *c)
{
	struct sizes z = domain_sizes(s);
	struct segment mgmt = SEGMENT_INIT, bell = SEGMENT_INIT,
	    pool = SEGMENT_INIT, data = SEGMENT_INIT;
	uint64_t instance = control_nonce();
	char path[SEGMENT_PATH];
	int rc;

	/* The management words are never for others to write. */
	segment_path(path, c->site.dir, "mgmt");
	if ((rc = segment_create(&mgmt, path, PART_MGMT, z.mgmt, z.mgmt,
	    instance, s->mode & ~(mode_t)0022)) < 0)
		return rc;
	segment_path(path, c->site.dir, "bell");
	if ((rc = segment_create(&bell, path, PART_BELL, z.bell, z.bell,
	    instance, s->mode)) < 0)
		goto out;
	segment_path(path, c->site.dir, "pool");
	if ((rc = segment_create(&pool, path, PART_POOL, z.pool, z.pool,
	    instance, s->mode)) < 0)
		goto out;
	segment_path(path, c->site.dir, "data");
	if ((rc = segment_create(&data, path, PART_DATA, z.data,
	    z.data_committed, instance, s->mode)) < 0)
		goto out;
	if ((rc = fill_mgmt(mgmt.base, s)) < 0)
		goto out;
	fill_pools(mgmt.base, s, &pool);
	segment_ready(&data);
	segment_ready(&pool);
	segment_ready(&bell);
	segment_ready(&mgmt);
out:
	segment_close(&mgmt);
	segment_close(&bell);
	segment_close(&pool);
	segment_close(&data);
	if (rc < 0)
		domain_clear(c, 0);
	return rc;
}

/* ---- removing ------------------------------------------------------------ */

/* Which creation of the domain a file belongs to; 0: it does not say. */
static uint64_t instance_of(int dir, const char *name)
{
	struct segment_head head;
	int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC |
	    O_NONBLOCK);
	bool whole;

	if (fd < 0)
		return 0;
	whole = pread(fd, &head, sizeof(head), 0) == (ssize_t)sizeof(head);
	close(fd);
	return whole ? head.instance : 0;
}

/* Not ready any more: whoever finds what a killed remover left may remove
 * the rest. */
static void unready(const struct claim *c)
{
	static const uint64_t nothing;
	int fd = openat(c->dir, "mgmt", O_WRONLY | O_NOFOLLOW | O_CLOEXEC |
	    O_NONBLOCK);

	if (fd < 0)
		return;
	if (pwrite(fd, &nothing, sizeof(nothing),
	    offsetof(struct segment_head, magic)) < 0)
		log_warn("cannot write to %s/mgmt: %s", c->site.dir,
		    strerror(errno));
	close(fd);
}

static void remove_part(const struct claim *c, const char *name,
    uint64_t instance)
{
	uint64_t its = instance == 0 ? 0 : instance_of(c->dir, name);

	if (its != 0 && its != instance)
		return;
	if (unlinkat(c->dir, name, 0) < 0 && errno != ENOENT)
		log_warn("cannot remove %s/%s: %s", c->site.dir, name,
		    strerror(errno));
}

bool part_of_member(const char *name)
{
	return *name == 'p' && name[1] != '\0' &&
	    strspn(name + 1, "0123456789") == strlen(name + 1);
}

static void remove_members(const struct claim *c, uint64_t instance)
{
	int fd = openat(c->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (dir == NULL) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((entry = readdir(dir)) != NULL)
		if (part_of_member(entry->d_name))
			remove_part(c, entry->d_name, instance);
	closedir(dir);
}

bool domain_absent(const struct claim *c)
{
	return faccessat(c->dir, "mgmt", F_OK, AT_SYMLINK_NOFOLLOW) < 0 &&
	    errno == ENOENT;
}

/* mgmt last: without it the rest is not found. */
bool domain_clear(const struct claim *c, uint64_t instance)
{
	static const char *const parts[] = { "data", "pool", "bell", "mgmt" };
	uint64_t its = instance_of(c->dir, "mgmt");

	if (!claim_holds(c) || (instance != 0 && its != 0 && its != instance)) {
		log_warn("%s is left alone: somebody has made it anew",
		    c->site.dir);
		return false;
	}
	unready(c);
	remove_members(c, instance);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		remove_part(c, parts[i], instance);
	return true;
}

/* Behind the lock the directory is anybody's: rmdir(2) fails where another
 * program has begun to make the domain anew. */
void domain_remove(const struct claim *c, uint64_t instance)
{
	static const char *const others[] = { "sock", "gone", "runtime",
	    "lock" };

	if (!domain_clear(c, instance))
		return;
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		unlinkat(c->dir, others[i], 0);
	site_remove(&c->site);
}
