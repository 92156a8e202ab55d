#include "owners.h"

#include <stdio.h>
#include <stdlib.h>

#include "atomics.h"
#include "names.h"
#include "readers.h"

enum { NAMED = 3 };

/* ---- counting ------------------------------------------------------------------- */

/* Chunks by the port that owns them; the last entry: by nobody. */
static uint32_t count_owned(const struct domain *d, uint32_t class,
    uint32_t *owned)
{
	struct names names;
	uint32_t all = 0;

	if (names_load(&names, d) < 0)
		return 0;
	for (uint32_t p = class; p < d->pools.count; p++) {
		const struct pool *pool = &d->pools.pool[p];

		all += pool_count(pool);
		for (uint32_t i = 0; i < pool_count(pool); i++) {
			uint64_t word = word_load(&pool->word[i]);
			uint32_t port = names_find(&names, word_serial(word));

			if (word_state(word) >= CHUNK_LOANED)
				owned[port < d->max_ports ? port :
				    d->max_ports]++;
		}
	}
	names_free(&names);
	return all;
}

/* 0, or why it cannot be looked at. */
static int holds_of(struct domain *d, uint32_t port, uint32_t class,
    uint32_t *held)
{
	const struct port *p = &d->ports[port];
	uint32_t cursors = p->slots, holds = p->history, n = 0;
	struct subscription *s;
	struct peer *peer;
	int rc = peer_get(d, p->participant, p->incarnation, &peer);

	if (rc < 0)
		return peer_gone(rc) ? 0 : rc;
	s = peer_subscription(peer, p->offset, cursors, holds);
	for (uint32_t i = 0; s != NULL && i < cursors; i++) {
		const struct cursor *c = subscription_cursor(s, holds, i);

		for (uint32_t k = 0; hold_next(c, holds, &k); k++)
			n += chunk_pool(hold_chunk(c, k)) >= class;
	}
	peer_put(d, peer);
	*held = n;
	return 0;
}

/* How many subscriptions could not be looked at; zcp_errmsg() says why. */
static uint32_t count_held(struct domain *d, uint32_t class, uint32_t *held)
{
	uint32_t unseen = 0;

	for (uint32_t i = 0; i < d->max_ports; i++)
		if (fact_load32(&d->ports[i].state) == PORT_OPEN &&
		    d->ports[i].kind == PORT_SUBSCRIBER)
			unseen += holds_of(d, i, class, &held[i]) < 0;
	return unseen;
}

/* ---- telling --------------------------------------------------------------------- */

static uint32_t largest(const uint32_t *count, uint32_t n)
{
	uint32_t worst = 0;

	for (uint32_t i = 1; i < n; i++)
		if (count[i] > count[worst])
			worst = i;
	return worst;
}

static size_t tell_port(const struct domain *d, uint32_t port, char *text,
    size_t size)
{
	const struct port *p = &d->ports[port];
	const struct participant *owner;

	if (port >= d->max_ports || p->participant >= d->max_participants ||
	    p->topic >= d->max_topics)
		return (size_t)snprintf(text, size, "nobody");
	owner = &d->participants[p->participant];
	return (size_t)snprintf(text, size, "%.*s (pid %u) on %.*s",
	    NAME_SIZE - 1, owner->name, owner->pid, TOPIC_NAME - 1,
	    d->topics[p->topic].name);
}

/* The largest first; they are used up. */
static size_t tell(const struct domain *d, uint32_t *count, const char *what,
    char *text, size_t size)
{
	size_t n = 0;

	for (int i = 0; i < NAMED && n + TOPIC_NAME + NAME_SIZE + 64 < size;
	    i++) {
		uint32_t port = largest(count, d->max_ports + 1);

		if (count[port] == 0)
			break;
		n += (size_t)snprintf(text + n, size - n, "%s%u %s ",
		    i ? ", " : "", count[port], what);
		n += tell_port(d, port, text + n, size - n);
		count[port] = 0;
	}
	return n;
}

void owners_text(struct domain *d, uint32_t class, char *text, size_t size)
{
	uint32_t *owned = calloc(d->max_ports + 1, sizeof(*owned));
	uint32_t *held = calloc(d->max_ports + 1, sizeof(*held)), all, unseen;
	char more[512];
	size_t n = 0;

	text[0] = '\0';
	if (owned != NULL && held != NULL) {
		all = count_owned(d, class, owned);
		unseen = count_held(d, class, held);
		n = (size_t)snprintf(text, size, "of %u chunks ", all);
		n += tell(d, owned, "are of", text + n, size - n);
		if (tell(d, held, "held by", more, sizeof(more)) > 0 &&
		    n < size)
			n += (size_t)snprintf(text + n, size - n, "; %s", more);
		if (unseen > 0 && n < size)
			snprintf(text + n, size - n, "; what %u subscriptions "
			    "hold is unknown (%s)", unseen, zcp_errmsg());
	}
	free(owned);
	free(held);
}
