/* observer.c - a domain looked at from outside: open, look, compare, check. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "audit.h"
#include "clock.h"
#include "control.h"
#include "delay.h"
#include "facts.h"
#include "participant.h"
#include "site.h"

/* ---- opening --------------------------------------------------------------------- */

/* Where it lies: a directory of copies, or this environment's domain, else the
 * system's. */
static int find_site(struct zcp_observer *o, struct site *site)
{
	char path[SEGMENT_PATH];
	int rc;

	if (o->copy[0] != '\0') {
		*site = (struct site){ .uid = ANY_OWNER };
		snprintf(site->domain, sizeof(site->domain), "%s", o->name);
		snprintf(site->dir, sizeof(site->dir), "%s", o->copy);
		segment_path(path, o->copy, "mgmt");
		if (access(o->copy, F_OK) < 0)
			return error_sys("cannot open %s", o->copy);
		return access(path, F_OK) == 0 || errno != ENOENT ? 0 :
		    error_set(ZCP_E_NODAEMON, "there is no mgmt in %s (copies "
		    "of the files of one domain are expected there)", o->copy);
	}
	if ((rc = control_site(site, o->name)) == 1)
		return 0;
	return rc < 0 ? rc : error_set(ZCP_E_NODAEMON, "there is no domain %s "
	    "in %s", o->name, site->home[0] ? site->home : SEGMENT_DIR);
}

static void detach(struct zcp_observer *o)
{
	for (uint32_t i = 0; o->peer != NULL && i < o->d.max_participants; i++)
		peer_put(&o->d, o->peer[i]);
	free(o->peer);
	free(o->memory);
	o->peer = NULL;
	o->memory = NULL;
	domain_detach(&o->d);
}

static int attach(struct zcp_observer *o)
{
	struct site site;
	int rc;

	if ((rc = find_site(o, &site)) < 0)
		return rc;
	if ((rc = domain_watch(&o->d, site.domain, site.uid, site.dir,
	    o->copy[0] != '\0')) == 0 &&
	    (rc = domain_map_words(&o->d)) == 0) {
		o->peer = calloc(o->d.max_participants + 1,
		    sizeof(*o->peer));
		o->memory = calloc(o->d.max_ports + 1, sizeof(*o->memory));
		if (o->peer == NULL || o->memory == NULL)
			rc = error_set(ZCP_E_SYS, "out of memory");
	}
	if (rc < 0)
		detach(o);
	return rc;
}

/* Made anew, perhaps; of a copy, replaced. */
static bool removed(const struct zcp_observer *o)
{
	return o->d.m == NULL || !domain_here(&o->d);
}

int zcp_observe(zcp_observer **out, const char *domain, const char *dir)
{
	struct zcp_observer *o;
	int rc;

	*out = NULL;
	if ((rc = domain_name(&domain)) < 0)
		return rc;
	if (dir != NULL && strlen(dir) >= sizeof(o->copy))
		return error_set(ZCP_E_ARG, "the directory %.40s... has more "
		    "than %d characters", dir, SEGMENT_DIR_MOST - 1);
	if ((o = calloc(1, sizeof(*o))) == NULL)
		return error_set(ZCP_E_SYS, "out of memory");
	snprintf(o->name, sizeof(o->name), "%s", domain);
	snprintf(o->copy, sizeof(o->copy), "%s", dir ? dir : "");
	if ((rc = attach(o)) < 0) {
		free(o);
		return error_in(rc, "cannot look at domain %s", domain);
	}
	*out = o;
	return 0;
}

void zcp_observe_end(zcp_observer **observer)
{
	struct zcp_observer *o = *observer;

	*observer = NULL;
	if (o == NULL)
		return;
	if (o->d.m != NULL)
		detach(o);
	free(o);
}

/* ---- looking ----------------------------------------------------------------------- */

void zcp_snapshot_free(zcp_snapshot **snapshot)
{
	zcp_snapshot *s = *snapshot;

	*snapshot = NULL;
	if (s == NULL)
		return;
	free(s->pool);
	free(s->participant);
	free(s->topic);
	free(s->port);
	free(s->link);
	free(s->chunk);
	free(s->holder);
	free(s);
}

static int look_at_all(struct look *l, unsigned what)
{
	const struct domain *d = &l->o->d;

	l->at.participant = malloc((d->max_participants + 1) * sizeof(uint32_t));
	l->at.topic = malloc((d->max_topics + 1) * sizeof(uint32_t));
	l->at.port = malloc((d->max_ports + 1) * sizeof(uint32_t));
	if (l->at.participant == NULL || l->at.topic == NULL ||
	    l->at.port == NULL)
		return error_set(ZCP_E_SYS, "out of memory");
	l->s->time = clock_ns();
	facts_domain(l);
	facts_participants(l);
	if (l->rc == 0)
		facts_topics(l);
	if (l->rc == 0)
		facts_ports(l);
	if (l->rc == 0)
		facts_links(l);
	if (l->rc == 0)
		facts_chunks(l, what);
	return l->rc;
}

static int look(struct zcp_observer *o, unsigned what, zcp_snapshot **out)
{
	struct look l = { .o = o, .s = calloc(1, sizeof(zcp_snapshot)) };
	int rc = l.s == NULL ? error_set(ZCP_E_SYS, "out of memory") :
	    what & ZCP_LOOK_PREVIEWS ? domain_map_read(&o->d) : 0;

	if (rc == 0)
		rc = look_at_all(&l, what);
	free(l.at.participant);
	free(l.at.topic);
	free(l.at.port);
	if (rc < 0)
		zcp_snapshot_free(&l.s);
	*out = l.s;
	return rc;
}

int zcp_look(zcp_observer *o, unsigned what, zcp_snapshot **snapshot)
{
	int rc = 0;

	*snapshot = NULL;
	if (removed(o)) {
		if (o->d.m != NULL)
			detach(o);
		rc = attach(o);
	}
	if (rc == 0)
		rc = look(o, what, snapshot);
	return rc < 0 ? error_in(rc, "cannot look at domain %s", o->name) : 0;
}

/* ---- comparing --------------------------------------------------------------------- */

static const zcp_port_facts *same_port(const zcp_snapshot *s,
    const zcp_port_facts *p)
{
	size_t from = 0, to = s->ports;

	/* They come in the order of their indices. */
	while (from < to) {
		size_t mid = from + (to - from) / 2;

		if (s->port[mid].index < p->index)
			from = mid + 1;
		else
			to = mid;
	}
	return from < s->ports && s->port[from].index == p->index &&
	    s->port[from].serial == p->serial ? &s->port[from] : NULL;
}

/* The bound below which `part` of all samples lie. */
static uint64_t percentile(const uint32_t *count, uint64_t all, double part)
{
	uint64_t below = 0, wanted = (uint64_t)((double)all * part + 0.5);

	for (unsigned i = 0; i < DELAY_BUCKETS; i++) {
		below += count[i];
		if (below >= wanted && below > 0)
			return delay_bound(i);
	}
	return 0;
}

static void delays(const zcp_port_facts *was, const zcp_port_facts *is,
    zcp_port_rates *rates)
{
	uint32_t count[DELAY_BUCKETS];

	for (unsigned i = 0; i < DELAY_BUCKETS; i++) {
		count[i] = is->delay[i] - (was == NULL ? 0 : was->delay[i]);
		rates->delays += count[i];
	}
	rates->delay_p50 = percentile(count, rates->delays, 0.5);
	rates->delay_p99 = percentile(count, rates->delays, 0.99);
	rates->delay_max = percentile(count, rates->delays, 1);
}

int zcp_rates(const zcp_snapshot *before, const zcp_snapshot *now, size_t i,
    zcp_port_rates *rates)
{
	const zcp_port_facts *is = &now->port[i], *was;
	double seconds;

	*rates = (zcp_port_rates){ 0 };
	was = before != NULL && before->domain.instance ==
	    now->domain.instance ? same_port(before, is) : NULL;
	if (before != NULL && was == NULL)
		return 0;
	delays(was, is, rates);
	if (was == NULL || now->time <= before->time)
		return 1;
	seconds = (double)(now->time - before->time) / 1e9;
	rates->messages = (double)(is->publisher ?
	    is->messages - was->messages : is->taken - was->taken) / seconds;
	rates->bytes = (double)(is->publisher ? is->bytes - was->bytes :
	    is->taken_bytes - was->taken_bytes) / seconds;
	rates->lost = (double)(is->lost - was->lost) / seconds;
	return 1;
}

uint32_t zcp_blocker(const zcp_snapshot *s, size_t port)
{
	uint32_t worst = ZCP_NONE;

	for (uint32_t i = 0; i < s->links; i++) {
		const zcp_link_facts *f = &s->link[i];

		if (f->publisher == port && f->reliable && !f->demoted &&
		    f->lag > 0 && (worst == ZCP_NONE ||
		    f->lag > s->link[worst].lag))
			worst = i;
	}
	return worst;
}

/* ---- checking ---------------------------------------------------------------------- */

enum { CHECKS = 4, CHECK_PAUSE = 20000 };	/* of a domain at work; us */

struct faults {
	char **text;
	size_t count;
	bool full;
};

static void note(void *arg, const char *text)
{
	struct faults *f = arg;
	char **bigger = reallocarray(f->text, f->count + 1, sizeof(char *));
	char *copy = strdup(text);

	if (bigger != NULL)
		f->text = bigger;
	if (bigger == NULL || copy == NULL) {
		free(copy);
		f->full = true;
		return;
	}
	f->text[f->count++] = copy;
}

static void faults_free(struct faults *f)
{
	for (size_t i = 0; i < f->count; i++)
		free(f->text[i]);
	free(f->text);
	*f = (struct faults){ 0 };
}

static bool among(const struct faults *f, const char *text)
{
	for (size_t i = 0; i < f->count; i++)
		if (strcmp(f->text[i], text) == 0)
			return true;
	return false;
}

/* What is no fault in *again goes. */
static void intersect(struct faults *f, const struct faults *again)
{
	size_t kept = 0;

	for (size_t i = 0; i < f->count; i++)
		if (among(again, f->text[i]))
			f->text[kept++] = f->text[i];
		else
			free(f->text[i]);
	f->count = kept;
}

int zcp_check(zcp_observer *o, void (*tell)(void *arg, const char *text),
    void *arg)
{
	struct faults found = { 0 };
	zcp_snapshot *s;
	int rc = zcp_look(o, 0, &s), n;	/* follows a domain made anew */

	zcp_snapshot_free(&s);
	if (rc < 0)
		return rc;
	rc = audit(&o->d, note, &found);
	for (int i = 1; rc >= 0 && i < CHECKS && !o->d.copy &&
	    found.count > 0; i++) {
		struct faults again = { 0 };

		usleep(CHECK_PAUSE);
		rc = audit(&o->d, note, &again);
		if (!again.full)
			intersect(&found, &again);
		faults_free(&again);
	}
	for (size_t i = 0; rc >= 0 && i < found.count; i++)
		tell(arg, found.text[i]);
	n = rc < 0 ? rc : found.count > INT32_MAX ? INT32_MAX :
	    (int)found.count;
	faults_free(&found);
	return n;
}
