/*
 * adopt.c - the segments that a daemon finds: made anew where nothing in them
 * is worth keeping, else taken over as they are.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "atomics.h"
#include "error.h"
#include "liveness.h"
#include "log.h"
#include "routed.h"

int domain_take(struct routed *r)
{
	int rc = domain_attach_at(&r->d, &r->claim.site, true);

	return rc < 0 ? rc : domain_map_words(&r->d);
}

bool somebody_lives(struct routed *r)
{
	for (uint32_t i = 0; i < r->d.max_participants; i++)
		if (fact_load32(&r->d.participants[i].state) ==
		    PARTICIPANT_LIVE && !participant_dead(&r->d, i))
			return true;
	return false;
}

bool something_is_left(const struct routed *r)
{
	for (uint32_t i = 0; i < r->d.max_participants; i++)
		if (fact_load32(&r->d.participants[i].state) !=
		    PARTICIPANT_FREE)
			return true;
	return false;
}

static int damaged(struct routed *r, int rc)
{
	/* For a reason of ours they are not to be removed. */
	if (rc != -ZCP_E_DAMAGED && rc != -ZCP_E_LAYOUT)
		return error_in(rc, "domain %s cannot be adopted, and is left "
		    "as it was", r->settings.domain);
	return error_in(rc, "domain %s has segments that cannot be adopted "
	    "(rm -r %s removes them, with whatever they hold)",
	    r->settings.domain, r->claim.site.dir);
}

bool worth_keeping(struct routed *r)
{
	return somebody_lives(r) || retain_pending(r);
}

/*
 * Nothing there: create.  Nobody lives and no history is retained: nothing
 * worth keeping.  Else adopt.  What is there in part was left by one that was
 * killed as it made or removed it, for we have the lock.
 */
static int find_domain(struct routed *r, bool *adopt)
{
	int rc = domain_take(r);

	*adopt = false;
	if (rc < 0 && rc != -ZCP_E_BUSY)
		return damaged(r, rc);
	*adopt = rc == 0 && worth_keeping(r);
	if (*adopt)
		return 0;
	if (r->d.name[0] != '\0')
		domain_detach(&r->d);
	if (!domain_clear(&r->claim, 0))
		return error_set(ZCP_E_BUSY, "%s was removed while it was "
		    "looked at", r->claim.site.dir);
	if ((rc = domain_create(&r->settings, &r->claim)) < 0)
		return rc;
	return domain_take(r);
}

static void wake_everybody(struct routed *r)
{
	chain_each(&r->of_state, PORTS_OPEN, i, after)
		generation_bump(r, i);
	chain_each(&r->of_state, PORTS_ENDED, i, after)
		generation_bump(r, i);
	fence_light(r->d.symmetric);
	for (uint32_t i = 0; i < bell_count(r->d.max_topics, r->d.max_ports); i++)
		bell_ring(domain_bell(&r->d, i));
	bell_announce(domain_bell(&r->d, BELL_DOMAIN));
}

static void bury_the_dead(struct routed *r)
{
	for (uint32_t i = 0; i < r->d.max_participants; i++) {
		struct participant *p = &r->d.participants[i];

		if (fact_load32(&p->state) == PARTICIPANT_LIVE)
			reap(r, i);
		/* A daemon killed between the participant and its ports. */
		if (fact_load32(&p->state) != PARTICIPANT_ENDED)
			continue;
		chain_each(&r->of_owner, i, k, after)
			port_end(r, k, fact_load32(&p->flags) &
			    PARTICIPANT_DIED);
	}
}

/* Who is the daemon now. */
static void announce(struct routed *r)
{
	fact_publish32(&r->d.m->daemon_pid, (uint32_t)getpid());
	fact_publish32(&r->d.m->on_stall, r->settings.on_stall);
}

static int adopt_tables(struct routed *r)
{
	int rc;

	/* Settings of a live domain are in its header, not ours to change. */
	r->settings.mode = r->d.m->mode;
	if ((rc = registry_watch(r)) < 0)
		return damaged(r, rc);
	announce(r);
	if ((rc = links_rebuild(r)) < 0 || (rc = registry_rebuild(r)) < 0)
		return damaged(r, rc);
	match_repair(r);
	ports_closed_unheard(r);
	bury_the_dead(r);
	wake_everybody(r);
	drain_soon(r);
	log_info("domain %s adopted, with the pools and limits it was made with",
	    r->d.name);
	return 0;
}

/* The private side of what the segments hold. */
static int open_tables(struct routed *r)
{
	int rc;

	r->watch = calloc(r->d.max_participants, sizeof(*r->watch));
	if (r->watch == NULL)
		return error_set(ZCP_E_SYS, "out of memory");
	for (uint32_t i = 0; i < r->d.max_participants; i++)
		r->watch[i].pidfd = -1;
	if ((rc = registry_open(r)) < 0 || (rc = retain_open(r)) < 0 ||
	    (rc = slow_open(r)) < 0)
		return rc;
	return 0;
}

int domain_adopt(struct routed *r)
{
	int rc = open_tables(r);

	return rc < 0 ? rc : adopt_tables(r);
}

int domain_set_up(struct routed *r)
{
	bool adopt;
	int rc;

	if ((rc = find_domain(r, &adopt)) < 0)
		return rc;
	if (adopt)
		return domain_adopt(r);
	if ((rc = open_tables(r)) < 0)
		return rc;
	announce(r);
	return links_rebuild(r);
}

bool domain_leave(struct routed *r)
{
	bool keep;

	drain(r);
	keep = something_is_left(r);
	fact_publish32(&r->d.m->daemon_pid, 0);
	if (!keep)
		domain_remove(&r->claim, r->d.m->head.instance);
	return keep;
}

void domain_let_go(struct routed *r)
{
	struct topic_name *t, *next;

	for (uint32_t i = 0; r->watch != NULL && i < r->d.max_participants;
	    i++)
		watch_remove(r, i);
	HASH_ITER(hh, r->topics, t, next) {
		HASH_DEL(r->topics, t);
		free(t);
	}
	free(r->watch);
	free(r->link_used);
	slow_close(r);
	retain_close(r);
	registry_close(r);
	free(r->serials_named);
	if (r->d.name[0] != '\0')
		domain_detach(&r->d);
}
