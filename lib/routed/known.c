/* known.c - what the daemon knows for itself, and need not read from mgmt. */
#include <stdio.h>
#include <stdlib.h>

#include "error.h"
#include "routed.h"

int known_open(struct routed *r)
{
	r->topic_at = calloc(r->d.max_topics, sizeof(*r->topic_at));
	r->shape = calloc(r->d.max_ports, sizeof(*r->shape));
	r->links = calloc(r->d.max_ports, sizeof(*r->links));
	return r->topic_at && r->shape && r->links ? 0 :
	    error_set(ZCP_E_SYS, "out of memory");
}

void known_close(struct routed *r)
{
	free(r->topic_at);
	free(r->shape);
	free(r->links);
}

const char *topic_text(const struct routed *r, uint32_t topic)
{
	return topic < r->d.max_topics && r->topic_at[topic] != NULL ?
	    r->topic_at[topic]->name : "?";
}

struct participant *owner_of_port(const struct routed *r, uint32_t port)
{
	uint32_t slot = port_owner(r, port);

	return slot < r->d.max_participants ? &r->d.participants[slot] : NULL;
}

void owner_text(const struct routed *r, uint32_t port, char text[OWNER_TEXT])
{
	const struct participant *p = owner_of_port(r, port);

	snprintf(text, OWNER_TEXT, "%.*s (pid %u)", NAME_SIZE - 1,
	    p == NULL ? "?" : p->name, p == NULL ? 0 : p->pid);
}

struct peer *port_peer(const struct routed *r, uint32_t port)
{
	uint32_t slot = port_owner(r, port);

	return slot < r->d.max_participants ? r->watch[slot].peer : NULL;
}

struct ring *port_place(const struct routed *r, uint32_t port)
{
	const struct shape *s = &r->shape[port];
	struct peer *peer = port_peer(r, port);

	return s->kind != PORT_PUBLISHER || peer == NULL ? NULL :
	    peer_ring(peer, s->offset, s->slots);
}

struct subscription *port_subscription(const struct routed *r, uint32_t port)
{
	const struct shape *s = &r->shape[port];
	struct peer *peer = port_peer(r, port);

	return s->kind != PORT_SUBSCRIBER || peer == NULL ? NULL :
	    peer_subscription(peer, s->offset, s->slots, s->history);
}

uint32_t port_cursors(const struct routed *r, uint32_t port)
{
	return r->shape[port].kind == PORT_SUBSCRIBER ? r->shape[port].slots : 0;
}
