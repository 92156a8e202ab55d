#include "inline.h"
#include "site.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "atomics.h"
#include "control.h"
#include "error.h"
#include "fibers.h"

struct routed inline_routed;

static void need(int rc, const char *what)
{
	if (rc >= 0)
		return;
	fprintf(stderr, "%s: %s\n", what, zcp_errmsg());
	abort();
}

void inline_start(const struct settings *settings)
{
	struct routed *r = &inline_routed;

	*r = (struct routed){ .settings = *settings, .fd = -1,
	    .claim = CLAIM_INIT };
	r->settings.max_requests = UINT32_MAX;
	need(lock_take(r), "the lock");
	need(domain_set_up(r), "the domain");
}

void inline_stop(void)
{
	if (domain_leave(&inline_routed)) {
		fprintf(stderr, "participants are left\n");
		abort();
	}
	domain_let_go(&inline_routed);
	claim_drop(&inline_routed.claim);
	clients_forget(&inline_routed);
}

void inline_died(uint32_t slot)
{
	fibers_lock();
	participant_end(&inline_routed, slot, true);
	drain(&inline_routed);
	fibers_unlock();
}

void inline_demote(uint32_t slot, bool on)
{
	fibers_lock();
	fact_publish32(&inline_routed.d.participants[slot].flags,
	    on ? PARTICIPANT_STALLED : 0);
	match_demote(&inline_routed, slot, on);
	fibers_unlock();
}

bool inline_drain(void)
{
	for (int i = 0; i < 100; i++)
		if (!drain(&inline_routed)) {
			sweep_now(&inline_routed);
			return true;
		}
	return false;
}

/* ---- control.h ------------------------------------------------------------------ */

int control_ask(const char *domain, const char *request, char *reply,
    size_t size, uint64_t deadline, struct asking *how)
{
	struct client client = { .pid = getpid(), .uid = geteuid(),
	    .gid = getegid() };
	struct text text = { reply, size, 0 };

	(void)domain;
	(void)deadline;
	how->unsure = false;
	how->answered = true;
	how->uid = geteuid();
	how->runtime = site_runtime();
	reply[0] = '\0';
	fibers_lock();
	clients_forget(&inline_routed);		/* time passes as it likes here */
	answer(&inline_routed, &client, request, strlen(request), &text);
	fibers_unlock();
	return control_answer(reply, (int)text.used, how);
}

int control_call(const char *domain, const char *request, char *reply,
    size_t size, uint64_t deadline)
{
	struct asking how = { 0 };

	return control_ask(domain, request, reply, size, deadline, &how);
}

int control_show(const char *domain, const char *token, uint64_t deadline,
    struct asking *how)
{
	(void)domain;
	(void)token;
	(void)deadline;
	(void)how;
	return 0;
}

void control_farewell(const struct site *at, const char *request)
{
	char reply[256];

	control_call(at->domain, request, reply, sizeof(reply), 0);
}

void control_hint(const struct site *at, const char *request)
{
	control_farewell(at, request);
}

int control_site(struct site *s, const char *domain)
{
	return site_here(s, domain);
}

uint64_t control_nonce(void)
{
	static uint64_t nonce = 1;

	return nonce++;
}
