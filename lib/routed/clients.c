/*
 * clients.c - what the daemon remembers of those who send requests: what they
 * cost, so that one cannot delay the others, and whether they showed the
 * token.
 *
 * A token bucket a process (Turner 1986) of time: each request costs its
 * share of a second, or twice the time that it took to answer if that is
 * more, so that one process gets at most half of the daemon.  What is saved
 * up lasts for SAVED.
 */
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "error.h"
#include "liveness.h"
#include "routed.h"

enum { REMEMBERED = 4096, SHARE = 2 };
#define SAVED (NS_PER_S / 10)

struct known_client {
	pid_t pid;
	uint64_t since;			/* bucket last filled, ns */
	int64_t credit;			/* ns */
	bool told;			/* that it asks too much, since it last did not */
	uint64_t start_time;		/* of the process that showed the token; 0 */
	UT_hash_handle hh;
};

/* A process of another pid namespace has no number here: its user counts. */
static pid_t number_of(const struct client *client)
{
	return client->pid > 0 ? client->pid : -(pid_t)client->uid - 1;
}

/* As process_look(). */
static int start_of(const struct client *client, uint64_t *start)
{
	*start = 1;
	return client->pid > 0 ? process_look(client->pid, start) : 1;
}

static struct known_client *known(struct routed *r,
    const struct client *client)
{
	pid_t pid = number_of(client);
	struct known_client *c;

	HASH_FIND_INT(r->clients, &pid, c);
	if (c != NULL)
		return c;
	/* The one that was met first: uthash keeps that order. */
	if (HASH_COUNT(r->clients) >= REMEMBERED) {
		c = r->clients;
		HASH_DEL(r->clients, c);
		free(c);
	}
	if ((c = calloc(1, sizeof(*c))) == NULL)
		return NULL;
	c->pid = pid;
	c->credit = SAVED;
	c->since = clock_ns();
	HASH_ADD_INT(r->clients, pid, c);
	return c;
}

enum quota quota_take(struct routed *r, const struct client *client)
{
	struct known_client *c = known(r, client);
	uint64_t now;

	if (c == NULL)
		return QUOTA_LEFT;
	now = clock_ns();
	c->credit += (int64_t)(now - c->since);
	if (c->credit > SAVED)
		c->credit = SAVED;
	c->since = now;
	if (c->credit > 0) {
		c->told = c->told && c->credit < SAVED / 2;
		return QUOTA_LEFT;
	}
	news_add(&r->d.m->refused, 1);
	if (c->told)
		return QUOTA_SILENCE;
	c->told = true;
	return QUOTA_REFUSE;
}

void quota_charge(struct routed *r, const struct client *client,
    uint64_t began)
{
	struct known_client *c = known(r, client);
	int64_t price = NS_PER_S / r->settings.max_requests;
	int64_t took = (int64_t)(clock_ns() - began) * SHARE;

	if (c != NULL)
		c->credit -= took > price ? took : price;
}

/* ---- whose participant ------------------------------------------------------------ */

/*
 * Of a process that we watch we know that its number is its own, here and now:
 * it alone speaks for itself.  Else the number means something only in the pid
 * namespace in which it was recorded, which may have been another daemon's; what
 * proves the tenant then is its key, which its domain's members can read, and
 * nobody else.  The kernel tells the user in either case.
 */
bool client_is(const struct routed *r, uint32_t slot, pid_t pid, uid_t uid,
    uint64_t key)
{
	const struct participant *p = &r->d.participants[slot];
	uint64_t here = 0;

	if (p->uid != uid)
		return false;
	if (r->watch[slot].pidfd >= 0)
		return p->pid == (uint32_t)pid;
	/* 0: of another pid namespace, as which every process there shows. */
	return (pid > 0 && pid_namespace_here(&here) == 0 &&
	    p->pid_namespace == here && p->pid == (uint32_t)pid) ||
	    (key != 0 && key == p->nonce);
}

/* ---- the token ------------------------------------------------------------------ */

/* In a time that does not tell how much of it was right. */
static bool same(const char *token, const char *given)
{
	size_t n = strlen(token), m = strlen(given);
	unsigned char differs = n != m;

	for (size_t i = 0; i < m; i++)
		differs |= (unsigned char)(given[i] ^ token[n ? i % n : 0]);
	return !differs;
}

int client_show(struct routed *r, const struct client *client,
    const char *token)
{
	struct known_client *c = known(r, client);
	int rc;

	if (r->settings.token == NULL)
		return 0;
	if (!same(r->settings.token, token))
		return error_set(ZCP_E_PERM, "that is not the token of this "
		    "domain");
	if (c == NULL)
		return error_set(ZCP_E_SYS, "out of memory");
	if ((rc = start_of(client, &c->start_time)) == 1)
		return 0;
	c->start_time = 0;
	return rc < 0 ? rc : error_set(ZCP_E_PERM, "process %d is gone",
	    (int)client->pid);
}

int client_trusted(struct routed *r, const struct client *client)
{
	pid_t pid = number_of(client);
	struct known_client *c;
	uint64_t start;
	int rc;

	if (r->settings.token == NULL)
		return 0;
	HASH_FIND_INT(r->clients, &pid, c);
	/* The number may have been given to another process since. */
	if (c != NULL && c->start_time != 0) {
		if ((rc = start_of(client, &start)) < 0)
			return error_in(rc, "cannot tell whether process %d "
			    "has shown the token", (int)pid);
		if (rc == 1 && start == c->start_time)
			return 0;
	}
	return error_set(ZCP_E_PERM, "this domain asks for a token "
	    "($ZCP_TOKEN, AUTH:token=...)");
}

void clients_forget(struct routed *r)
{
	struct known_client *c, *next;

	HASH_ITER(hh, r->clients, c, next) {
		HASH_DEL(r->clients, c);
		free(c);
	}
}
