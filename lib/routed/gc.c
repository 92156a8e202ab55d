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

/* Seconds within which whoever makes a domain has made it. */
enum { MAKING = 2 };

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

/* ---- files -------------------------------------------------------------------- */

/* "zcp.<uid>.<domain>.<part>" of this user: the domain, or false. */
static bool file_of_ours(const char *file, char domain[DOMAIN_NAME + 1])
{
	static const char *const parts[] = { "mgmt", "bell", "pool", "data" };
	const char *part = strrchr(file, '.');
	char prefix[32];
	size_t n;
	bool known;

	n = (size_t)snprintf(prefix, sizeof(prefix), "zcp.%u.",
	    (unsigned)geteuid());
	if (part == NULL || strncmp(file, prefix, n) != 0 ||
	    part <= file + n || (size_t)(part - file) - n > DOMAIN_NAME)
		return false;
	snprintf(domain, DOMAIN_NAME + 1, "%.*s", (int)((size_t)(part - file) -
	    n), file + n);
	part++;
	known = *part == 'p' && part[1] != '\0' &&
	    strspn(part + 1, "0123456789") == strlen(part + 1);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		known |= strcmp(part, parts[i]) == 0;
	return known && name_valid(domain);
}

/* Visits the domain's files in /dev/shm; stops when false. */
typedef bool visit_file(void *arg, const char *path, const struct stat *st);

static int each_file(const char *domain, visit_file *visit, void *arg)
{
	char path[SEGMENT_PATH + 256], of[DOMAIN_NAME + 1];
	struct dirent *entry;
	bool go_on = true;
	struct stat st;
	DIR *dir = opendir(SEGMENT_DIR);
	int rc = 0;

	if (dir == NULL)
		return error_sys("cannot list " SEGMENT_DIR);
	while (go_on && rc == 0 && (errno = 0, entry = readdir(dir)) != NULL) {
		if (!file_of_ours(entry->d_name, of) ||
		    strcmp(of, domain) != 0)
			continue;
		snprintf(path, sizeof(path), SEGMENT_DIR "/%s", entry->d_name);
		if (lstat(path, &st) == 0)
			go_on = visit(arg, path, &st);
		else if (errno != ENOENT)
			rc = error_sys("cannot stat %s", path);
	}
	/* A list that was cut short is none. */
	if (rc == 0 && go_on && errno != 0)
		rc = error_sys("cannot list " SEGMENT_DIR);
	closedir(dir);
	return rc;
}

static bool tell_file(void *arg, const char *path, const struct stat *st)
{
	struct gc *g = arg;

	g->tell(g->arg, &(struct gc_item){ .what = GC_SEGMENT,
	    .domain = g->domain, .file = path,
	    .bytes = (uint64_t)st->st_blocks * 512,
	    .why = "nobody uses the domain" });
	return true;
}

/* 1: locked by a member or a daemon; 0: not; < 0: could not look. */
static int file_locked(const char *path)
{
	struct look_at look;
	pid_t holder;
	int rc;

	if (look_begin(&look, path, O_RDONLY) < 0)
		return errno == ENOENT ? 0 : error_sys("cannot open %s", path);
	rc = lock_holder(look.fd, &holder);
	look_end(&look);
	return rc < 0 ? error_in(rc, "%s", path) : holder != 0;
}

/* Is any file of it in use: young, or locked?  Or why that is not known. */
static bool file_in_use(void *arg, const char *path, const struct stat *st)
{
	int *used = arg;

	if (S_ISREG(st->st_mode))
		*used = time(NULL) - st->st_mtime < MAKING ? 1 :
		    file_locked(path);
	return *used == 0;
}

/* A socket without a daemon, in the directory where ours would make it. */
static void remove_socket(struct gc *g, const char *suffix)
{
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	struct stat st;

	if (control_path(path, g->domain, suffix, 0) < 0 ||
	    lstat(path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return;
	if (g->dry || unlink(path) == 0)
		g->tell(g->arg, &(struct gc_item){ .what = GC_SOCKET,
		    .domain = g->domain, .file = path,
		    .why = "no daemon listens at it" });
}

/* The lock is ours, or on a dry run nobody's. */
static int remove_all(struct gc *g)
{
	int rc = each_file(g->domain, tell_file, g);

	if (rc == 0 && !g->dry)
		domain_remove(geteuid(), g->domain);
	return rc;
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
	    .domain = g->domain, .count = h->count, .size = size,
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
	struct gc_item item = { .what = GC_PARTICIPANT, .domain = g->domain,
	    .pid = p->pid, .why = fate == FATE_DIED ? "it died" :
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

	g->r.settings.on_stall = (enum on_stall)fact_load32(
	    &g->r.d.m->on_stall);
	g->r.visit = on_garbage;
	g->r.visit_arg = g;
	if ((rc = domain_adopt(&g->r)) < 0)
		return rc;
	drain(&g->r);
	sweep_now(&g->r);
	tell_heaps(g);
	if (!domain_leave(&g->r))
		rc = 1;
	tell_dead(g, rc == 1);
	return rc;
}

/* Nobody has made it, or somebody did not come to the end of it. */
static int half_a_domain(struct gc *g)
{
	int used = 0, rc = each_file(g->domain, file_in_use, &used);

	if (rc < 0 || used < 0)
		return rc < 0 ? rc : used;
	return used > 0 ? error_set(ZCP_E_BUSY, "domain %s is being made, or "
	    "removed, or was cut in two: it is left alone", g->domain) :
	    remove_all(g);
}

/* The locks are ours; 1: nothing is left of it. */
static int alone(struct gc *g)
{
	int rc;

	if (domain_absent(&g->r.settings) ||
	    (rc = domain_take(&g->r, false)) == -ZCP_E_BUSY) {
		rc = half_a_domain(g);
		return rc < 0 ? rc : 1;
	}
	if (rc == -ZCP_E_REFUSED)
		return sweep_beside(g);	/* a daemon with another directory */
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
	return domain_attach(&g->r.d, g->domain, geteuid(), false);
}

static int look(struct gc *g, bool served)
{
	char path[SEGMENT_PATH];
	bool keep;
	int rc;

	if (domain_absent(&g->r.settings) ||
	    (rc = attach_to_look(g)) == -ZCP_E_BUSY)
		return served ? 0 : half_a_domain(g);
	if (rc < 0 || (rc = sweep_beside(g)) < 0)
		return rc;
	if (served)
		return 0;
	segment_path(path, geteuid(), g->domain, "mgmt");
	if ((rc = file_locked(path)) != 0)
		return rc < 0 ? rc : 0;
	if ((rc = list_participants(g)) < 0)
		return rc;
	watch_hearts(&g->r.d);
	keep = worth_keeping(&g->r);
	tell_dead(g, true);
	return keep ? 0 : remove_all(g);
}

/* As the settings say: look, or do. */
static int look_or_act(struct gc *g)
{
	bool served;
	pid_t pid;
	int rc;

	if (g->dry) {
		if ((rc = routed_pid(g->domain, &pid)) < 0)
			return rc;
		served = pid != 0;
		rc = look(g, served);
	} else {
		if ((rc = lock_try(&g->r)) < 0)
			return rc;
		served = rc == 1;
		if (!served)
			rc = alone(g);
		else if ((rc = attach_to_look(g)) == 0)
			rc = sweep_beside(g);
		else if (rc == -ZCP_E_BUSY)
			rc = 0;		/* it is being made, or removed */
	}
	if (rc >= 0 && !served) {
		remove_socket(g, "sock");
		remove_socket(g, "gone");
	}
	return rc;
}

int gc_domain(const char *domain, bool dry, gc_tell *tell, void *arg)
{
	struct gc g = { .domain = domain, .dry = dry, .tell = tell,
	    .arg = arg };
	int rc;

	g.r = (struct routed){ .settings = settings_default(), .fd = -1,
	    .lock = -1 };
	g.r.settings.domain = domain;
	if ((rc = guard_install()) == 0)
		rc = look_or_act(&g);
	free(g.there);
	domain_let_go(&g.r);
	if (g.r.lock >= 0)
		close(g.r.lock);
	/* The rest is done; what is unknown was left as it is. */
	if (rc >= 0 && g.unseen[0] != '\0')
		rc = error_set(ZCP_E_SYS, "%s: it is left alone", g.unseen);
	return rc < 0 ? error_in(rc, "domain %s", domain) : 0;
}

/* ---- all domains ------------------------------------------------------------------ */

struct names {
	char **name;
	size_t count, room;
};

static int add_name(struct names *names, const char *domain)
{
	for (size_t i = 0; i < names->count; i++)
		if (strcmp(names->name[i], domain) == 0)
			return 0;
	/* One more for the NULL behind the last. */
	if (names->count + 1 >= names->room) {
		size_t room = names->room ? 2 * names->room : 16;
		char **bigger = realloc(names->name, room * sizeof(*bigger));

		if (bigger == NULL)
			return error_set(ZCP_E_SYS, "out of memory");
		names->name = bigger;
		names->room = room;
	}
	if ((names->name[names->count] = strdup(domain)) == NULL)
		return error_set(ZCP_E_SYS, "out of memory");
	names->name[++names->count] = NULL;
	return 0;
}

/* In the runtime directory: sockets, whose daemons may be gone. */
static int add_sockets(struct names *names)
{
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	char domain[DOMAIN_NAME + 1];
	struct dirent *entry;
	DIR *dir;
	int rc = 0;

	if (control_path(path, "x", "sock", 0) < 0)
		return 0;		/* none was ever made */
	*strrchr(path, '/') = '\0';
	if ((dir = opendir(path)) == NULL)
		return 0;
	while (rc == 0 && (entry = readdir(dir)) != NULL) {
		const char *dot = strrchr(entry->d_name, '.');

		if (dot == NULL || strcmp(dot, ".sock") != 0 ||
		    dot - entry->d_name > DOMAIN_NAME)
			continue;
		snprintf(domain, sizeof(domain), "%.*s",
		    (int)(dot - entry->d_name), entry->d_name);
		if (name_valid(domain))
			rc = add_name(names, domain);
	}
	closedir(dir);
	return rc;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int gc_domains(char ***out)
{
	struct names names = { 0 };
	char domain[DOMAIN_NAME + 1];
	struct dirent *entry;
	DIR *dir = opendir(SEGMENT_DIR);
	int rc = 0;

	*out = NULL;
	if (dir == NULL)
		return error_sys("cannot list " SEGMENT_DIR);
	while (rc == 0 && (entry = readdir(dir)) != NULL)
		if (file_of_ours(entry->d_name, domain))
			rc = add_name(&names, domain);
	closedir(dir);
	if (rc == 0)
		rc = add_sockets(&names);
	if (rc < 0) {
		gc_domains_free(names.name);
		return rc;
	}
	if (names.count > 0)
		qsort(names.name, names.count, sizeof(*names.name), by_name);
	*out = names.name;
	return (int)names.count;
}

void gc_domains_free(char **names)
{
	for (char **name = names; name != NULL && *name != NULL; name++)
		free(*name);
	free(names);
}
