#include "gc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "atomics.h"
#include "control.h"
#include "error.h"
#include "guard.h"
#include "liveness.h"
#include "own.h"
#include "routed.h"
#include "topic.h"

/* Garbage of one publisher, of one kind, in one pool. */
struct heap {
	struct {
		uint32_t port, pool, why;
	} key;
	uint32_t count;
	bool died;
	char name[NAME_SIZE], topic[TOPIC_NAME];
	uint32_t pid;
	UT_hash_handle hh;
};

struct gc {
	struct routed r;
	const char *domain;
	bool dry;
	gc_tell *tell;
	void *arg;
	struct heap *heaps;
	bool *there;			/* participants, as they were found */
	char unseen[512];		/* what could not be looked at, first */
};

static void note_unseen(struct gc *g, const char *why)
{
	if (g->unseen[0] == '\0')
		snprintf(g->unseen, sizeof(g->unseen), "%s", why);
}

/* For those who are told: NULL where it has none. */
static const char *runtime_of(const struct gc *g)
{
	const char *runtime = g->r.claim.site.runtime;

	return runtime[0] == '\0' ? NULL : runtime;
}

/* ---- files -------------------------------------------------------------------- */

/* A segment, or another file that a domain's directory has? */
static bool file_of_domain(const char *name)
{
	static const char *const parts[] = { "mgmt", "bell", "pool", "data" };

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		if (strcmp(name, parts[i]) == 0)
			return true;
	return part_of_member(name);
}

/* Visits the domain's segments; stops when false. */
typedef bool visit_file(void *arg, const char *path, const struct stat *st);

static int each_file(const struct gc *g, visit_file *visit, void *arg)
{
	const char *in = g->r.claim.site.dir;
	char path[SEGMENT_PATH + 256];
	struct dirent *entry;
	bool go_on = true;
	struct stat st;
	DIR *dir = opendir(in);
	int rc = 0;

	if (dir == NULL)
		return errno == ENOENT ? 0 : error_sys("cannot list %s", in);
	while (go_on && rc == 0 && (errno = 0, entry = readdir(dir)) != NULL) {
		if (!file_of_domain(entry->d_name))
			continue;
		snprintf(path, sizeof(path), "%s/%s", in, entry->d_name);
		if (lstat(path, &st) == 0)
			go_on = visit(arg, path, &st);
		else if (errno != ENOENT)
			rc = error_sys("cannot stat %s", path);
	}
	/* A list that was cut short is none. */
	if (rc == 0 && go_on && errno != 0)
		rc = error_sys("cannot list %s", in);
	closedir(dir);
	return rc;
}

static bool tell_file(void *arg, const char *path, const struct stat *st)
{
	struct gc *g = arg;

	g->tell(g->arg, &(struct gc_item){ .what = GC_SEGMENT,
	    .domain = g->domain, .runtime = runtime_of(g), .file = path,
	    .bytes = (uint64_t)st->st_blocks * 512,
	    .why = "nobody uses the domain" });
	return true;
}

/* Is any file of it locked?  Or why that is not known. */
static bool file_in_use(void *arg, const char *path, const struct stat *st)
{
	int *used = arg;

	if (S_ISREG(st->st_mode))
		*used = file_locked(path);
	return *used == 0;
}

/* A socket without a daemon.  In a runtime directory that several users have,
 * the lock of this one's domain says nothing of another one's daemon. */
static void remove_socket(struct gc *g, const char *path)
{
	struct stat st;

	if (path[0] == '\0' || lstat(path, &st) < 0 ||
	    !S_ISSOCK(st.st_mode) || st.st_uid != geteuid())
		return;
	if (g->dry || unlink(path) == 0)
		g->tell(g->arg, &(struct gc_item){ .what = GC_SOCKET,
		    .domain = g->domain, .runtime = runtime_of(g),
		    .file = path, .why = "no daemon listens at it" });
}

/* "gone" says of a domain that stays that it will be served again. */
static void remove_sockets(struct gc *g, bool stays)
{
	char aside[SOCKET_PATH];

	site_aside(&g->r.claim.site, aside);
	remove_socket(g, g->r.claim.site.socket);
	if (!stays)
		remove_socket(g, aside);
}

/* The lock is ours, or on a dry run nobody's. */
static int remove_all(struct gc *g)
{
	int rc = each_file(g, tell_file, g);

	if (rc < 0)
		return rc;
	remove_sockets(g, false);
	if (!g->dry)
		domain_remove(&g->r.claim, 0);
	return 0;
}

/* ---- garbage ------------------------------------------------------------------ */

static void name_owner(const struct gc *g, struct heap *h)
{
	const struct domain *d = &g->r.d;
	const struct port *p;

	if (h->key.port >= d->max_ports)
		return;
	p = &d->ports[h->key.port];
	if (p->participant < d->max_participants) {
		snprintf(h->name, sizeof(h->name), "%.*s", NAME_SIZE - 1,
		    d->participants[p->participant].name);
		h->pid = d->participants[p->participant].pid;
	}
	if (p->topic < d->max_topics)
		snprintf(h->topic, sizeof(h->topic), "%.*s", TOPIC_NAME - 1,
		    d->topics[p->topic].name);
}

/* As sweep() finds it; true: it shall go. */
static bool on_garbage(void *arg, const struct sweep_item *item)
{
	struct gc *g = arg;
	struct heap *h, of = { .key = { item->port, chunk_pool(item->id),
	    item->why } };

	HASH_FIND(hh, g->heaps, &of.key, sizeof(of.key), h);
	if (h == NULL && (h = malloc(sizeof(*h))) != NULL) {
		*h = of;
		h->died = item->died;
		name_owner(g, h);
		HASH_ADD(hh, g->heaps, key, sizeof(h->key), h);
	}
	if (h != NULL)
		h->count++;
	return !g->dry;
}

static const char *why_garbage(const struct heap *h)
{
	switch ((enum sweep_why)h->key.why) {
	case SWEPT_LOAN:
		return h->died ? "on loan to a publisher that died" :
		    "on loan to a publisher that has ended";
	case SWEPT_READ:
		return "read by all, and not taken back by its publisher yet";
	case SWEPT_ENDED:
		break;
	}
	return h->died ? "published by one that died, and read by all" :
	    "published by one that has ended, and read by all";
}

static void tell_heap(const struct gc *g, const struct heap *h)
{
	uint32_t size = g->r.d.pools.pool[h->key.pool].chunk_size;

	g->tell(g->arg, &(struct gc_item){ .what = GC_CHUNKS,
	    .domain = g->domain, .runtime = runtime_of(g),
	    .count = h->count, .size = size,
	    .bytes = (uint64_t)h->count * size, .pid = h->pid,
	    .name = h->name[0] ? h->name : NULL,
	    .topic = h->topic[0] ? h->topic : NULL, .why = why_garbage(h) });
}

static void tell_heaps(struct gc *g)
{
	struct heap *next;

	for (struct heap *h = g->heaps; h != NULL; h = next) {
		next = h->hh.next;
		tell_heap(g, h);
		HASH_DEL(g->heaps, h);
		free(h);
	}
}

static int sweep_beside(struct gc *g)
{
	struct sweep_report report;
	int rc;

	if ((rc = domain_map_words(&g->r.d)) < 0 ||
	    (rc = sweep(&g->r.d, &report, on_garbage, g)) < 0)
		return domain_removed(&g->r.d) ? 0 : rc;
	tell_heaps(g);
	if (report.unseen > 0)
		note_unseen(g, report.why);
	return 0;
}

/* ---- participants --------------------------------------------------------------- */

/* Before anything is taken back: whose place is not free. */
static int list_participants(struct gc *g)
{
	const struct domain *d = &g->r.d;

	g->there = calloc(d->max_participants, sizeof(*g->there));
	if (g->there == NULL)
		return error_set(ZCP_E_SYS, "out of memory");
	for (uint32_t i = 0; i < d->max_participants; i++)
		g->there[i] = fact_load32(&d->participants[i].state) !=
		    PARTICIPANT_FREE;
	return 0;
}

/*
 * Judged behind what was done, for one may die or fall silent meanwhile: who
 * is forgotten then has his name in his record still, as nobody registers
 * here.  `all`: also who has not ended, since the domain goes, or would end.
 */
static void tell_one(struct gc *g, uint32_t slot, bool all)
{
	const struct participant *p = &g->r.d.participants[slot];
	enum fate fate = participant_fate(&g->r.d, slot);
	bool ended = fate_ended(fate);
	uint32_t state = fact_load32(&p->state);
	struct gc_item item = { .what = GC_PARTICIPANT,
	    .domain = g->domain, .runtime = runtime_of(g), .pid = p->pid, .why = fate == FATE_DIED ? "it died" :
	    "it has left" };
	char name[NAME_SIZE];

	if (fate == FATE_UNSEEN)
		note_unseen(g, zcp_errmsg());
	/* Dead and not ended: since the others were; the next one's work. */
	if (!ended || (!all && state == PARTICIPANT_LIVE))
		return;
	if (!all && state == PARTICIPANT_ENDED) {
		item.what = GC_KEPT;
		item.why = "its messages are unread or retained";
	}
	snprintf(name, sizeof(name), "%.*s", NAME_SIZE - 1, p->name);
	item.name = name;
	g->tell(g->arg, &item);
}

static void tell_dead(struct gc *g, bool all)
{
	for (uint32_t i = 0; i < g->r.d.max_participants; i++)
		if (g->there[i])
			tell_one(g, i, all);
}

/* ---- one domain ------------------------------------------------------------------ */

/* No daemon, and the locks are ours: what it would do at its start, and at
 * its end. */
static int stand_in(struct gc *g)
{
	int rc;

	remove_sockets(g, true);
	g->r.settings.on_stall = (enum on_stall)fact_load32(
	    &g->r.d.m->on_stall);
	g->r.visit = on_garbage;
	g->r.visit_arg = g;
	if ((rc = domain_adopt(&g->r)) < 0)
		return rc;
	drain(&g->r);
	sweep_now(&g->r);
	if (g->r.unswept[0] != '\0')
		note_unseen(g, g->r.unswept);
	tell_heaps(g);
	if (!domain_leave(&g->r))
		rc = 1;
	tell_dead(g, rc == 1);
	return rc;
}

/*
 * There is no mgmt, or it is not ready: one that made or removed the domain was
 * killed.  But mgmt may have been removed by hand from under living members.
 */
static int half_a_domain(struct gc *g)
{
	int used = 0, rc = each_file(g, file_in_use, &used);

	if (rc < 0 || used < 0)
		return rc < 0 ? rc : used;
	return used > 0 ? error_set(ZCP_E_BUSY, "%s has no mgmt, and yet "
	    "somebody uses it: it is left alone", g->r.claim.site.dir) :
	    remove_all(g);
}

/* The lock is ours; 1: nothing is left of it. */
static int alone(struct gc *g)
{
	int rc = domain_take(&g->r);

	if (rc == -ZCP_E_BUSY) {
		rc = half_a_domain(g);
		return rc < 0 ? rc : 1;
	}
	if (rc < 0 || (rc = list_participants(g)) < 0)
		return rc;
	watch_hearts(&g->r.d);
	if (worth_keeping(&g->r))
		return stand_in(g);
	tell_dead(g, true);
	rc = remove_all(g);
	return rc < 0 ? rc : 1;
}

static int attach_to_look(struct gc *g)
{
	return domain_attach_at(&g->r.d, &g->r.claim.site, false);
}

static int look(struct gc *g, bool served)
{
	bool keep;
	int rc = attach_to_look(g);

	if (rc == -ZCP_E_BUSY)
		return served ? 0 : half_a_domain(g);
	if (rc < 0 || (rc = sweep_beside(g)) < 0 || served)
		return rc;
	if ((rc = list_participants(g)) < 0)
		return rc;
	watch_hearts(&g->r.d);
	keep = worth_keeping(&g->r);
	tell_dead(g, true);
	if (keep)
		remove_sockets(g, true);
	return keep ? 0 : remove_all(g);
}

static int act(struct gc *g, bool served)
{
	int rc;

	if (!served)
		rc = alone(g);
	else if ((rc = attach_to_look(g)) == 0)
		rc = sweep_beside(g);
	else if (rc == -ZCP_E_BUSY)
		rc = 0;			/* it is being made, or removed */
	return rc;
}

/* Who has its lock: nothing is made to find out. */
static int claim_look(const struct gc *g)
{
	char path[SEGMENT_PATH];
	int rc;

	segment_path(path, g->r.claim.site.dir, "lock");
	rc = file_locked(path);
	return rc < 0 ? rc : rc == 1 ? CLAIM_TAKEN : CLAIM_OURS;
}

/* A socket in the runtime directory may be all that there is: its name is
 * removed under the lock, too. */
static int only_a_socket(struct gc *g)
{
	struct stat st;
	int rc;

	if (g->r.claim.site.socket[0] == '\0' ||
	    lstat(g->r.claim.site.socket, &st) < 0 ||
	    !S_ISSOCK(st.st_mode) || st.st_uid != geteuid())
		return 0;
	if (g->dry) {
		remove_sockets(g, false);
		return 0;
	}
	if ((rc = claim_make(&g->r.claim)) != CLAIM_OURS)
		return rc < 0 ? rc : 0;
	return remove_all(g);
}

static int collect(struct gc *g)
{
	struct claim *c = &g->r.claim;
	int rc;

	if (access(c->site.dir, F_OK) < 0)
		return errno == ENOENT ? only_a_socket(g) :
		    error_sys("cannot look at %s", c->site.dir);
	rc = g->dry ? claim_look(g) : claim_try(c);
	if (rc < 0 || rc == CLAIM_NONE)
		return rc < 0 ? rc : 0;
	return g->dry ? look(g, rc == CLAIM_TAKEN) : act(g, rc == CLAIM_TAKEN);
}

static int collect_at(const struct site *site, bool dry, gc_tell *tell,
    void *arg)
{
	struct gc g = { .domain = site->domain, .dry = dry, .tell = tell,
	    .arg = arg };
	int rc;

	g.r = (struct routed){ .settings = settings_default(), .fd = -1,
	    .claim = CLAIM_INIT };
	g.r.settings.domain = site->domain;
	g.r.claim.site = *site;
	if ((rc = guard_install()) == 0)
		rc = collect(&g);
	free(g.there);
	domain_let_go(&g.r);
	claim_drop(&g.r.claim);
	/* The rest is done; what is unknown was left as it is. */
	if (rc >= 0 && g.unseen[0] != '\0')
		rc = error_set(ZCP_E_SYS, "%s: it is left alone", g.unseen);
	return rc < 0 ? error_in(rc, "domain %s", site->domain) : 0;
}

int gc_domain(const char *domain, bool dry, gc_tell *tell, void *arg)
{
	struct site site;
	int rc = site_here(&site, domain);

	return rc < 0 ? rc : collect_at(&site, dry, tell, arg);
}

/* ---- all domains ------------------------------------------------------------------ */

struct names {
	char **name;
	size_t count, room;
};

static int add_name(struct names *names, const char *name)
{
	if (names->count == names->room) {
		size_t room = names->room ? 2 * names->room : 16;
		char **bigger = realloc(names->name, room * sizeof(*bigger));

		if (bigger == NULL)
			return error_set(ZCP_E_SYS, "out of memory");
		names->name = bigger;
		names->room = room;
	}
	if ((names->name[names->count] = strdup(name)) == NULL)
		return error_set(ZCP_E_SYS, "out of memory");
	names->count++;
	return 0;
}

static void names_free(struct names *names)
{
	for (size_t i = 0; i < names->count; i++)
		free(names->name[i]);
	free(names->name);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int add_dir(void *names, const char *dir)
{
	return add_name(names, dir);
}

int gc_all(bool dry, gc_tell *tell, gc_failed *failed, void *arg)
{
	struct names names = { 0 };
	struct site site;
	int rc = site_each(add_dir, &names), one;

	if (names.count > 0)
		qsort(names.name, names.count, sizeof(*names.name), by_name);
	for (size_t i = 0; rc == 0 && i < names.count; i++) {
		if ((one = site_at(&site, names.name[i])) > 0)
			one = collect_at(&site, dry, tell, arg);
		if (one < 0)
			failed(arg, one);
	}
	names_free(&names);
	return rc < 0 ? rc : gc_old(dry, tell, arg);
}
