/*
 * handle.c - references to messages, as lines of text.
 *
 *   zcp:DOMAIN:INSTANCE.INCARNATION.PORT.SERIAL.SEQ:CHECK
 *
 * Hexadecimal; a port's serial within one creation of the domain, and its
 * owner's incarnation, say which ring it is, for as long as serials last.
 * CHECK tells a handle that was cut or mistyped; it is no secret: a domain's
 * members trust each other.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "atomics.h"
#include "handle.h"
#include "publisher.h"
#include "subscriber.h"

/* FNV-1a, 32 bits (Fowler, Noll, Vo). */
static uint32_t checksum(const char *text, size_t n)
{
	uint32_t h = UINT32_C(2166136261);

	while (n-- > 0)
		h = (h ^ (unsigned char)*text++) * UINT32_C(16777619);
	return h;
}

static uint32_t instance_of(const struct zcp *bus)
{
	return (uint32_t)((struct segment_head *)bus->d.mgmt.base)->instance;
}

void handle_write(const struct zcp_pub *pub, uint64_t seq, char *text)
{
	int n = snprintf(text, ZCP_HANDLE_SIZE, "zcp:%s:%" PRIx32 ".%" PRIx64
	    ".%" PRIx32 ".%" PRIx32 ".%" PRIx64, pub->bus->d.name,
	    instance_of(pub->bus), pub->bus->incarnation, pub->port,
	    pub->serial, seq);

	snprintf(text + n, ZCP_HANDLE_SIZE - (size_t)n, ":%08" PRIx32,
	    checksum(text, (size_t)n));
}

int zcp_handle(const zcp_pub *pub, uint64_t seq, char *text, size_t size)
{
	if (!pub->unlisted)
		return error_set(ZCP_E_ARG, "no handle for a message on %s: its "
		    "publisher is not unlisted", pub->topic);
	if (seq >= pub->head || size < ZCP_HANDLE_SIZE)
		return error_set(ZCP_E_ARG, "no handle for message %" PRIu64
		    " on %s: %s", seq, pub->topic, seq >= pub->head ?
		    "it has not been published" : "too little room for it");
	handle_write(pub, seq, text);
	return 0;
}

/* ---- redeeming ------------------------------------------------------------- */

__attribute__((format(printf, 2, 3)))
static int refused(const char *text, const char *format, ...)
{
	char why[256];
	va_list ap;

	va_start(ap, format);
	vsnprintf(why, sizeof(why), format, ap);
	va_end(ap);
	return error_set(ZCP_E_HANDLE, "cannot redeem handle %.*s: %s",
	    ZCP_HANDLE_SIZE, text, why);
}

static int parse(const struct zcp *bus, const char *text, struct handle *h)
{
	const char *last = strrchr(text, ':');
	uint32_t check;
	int used = 0;

	if (sscanf(text, "zcp:%63[^:]:%" SCNx32 ".%" SCNx64 ".%" SCNx32 ".%"
	    SCNx32 ".%" SCNx64 ":%8" SCNx32 "%n", h->domain, &h->instance,
	    &h->incarnation, &h->port, &h->serial, &h->seq, &check,
	    &used) != 7 || text[used] != '\0')
		return refused(text, "it is none (zcp-pub --handles makes them)");
	if (checksum(text, (size_t)(last - text)) != check)
		return refused(text, "forged or mistyped: its checksum is wrong");
	if (strcmp(h->domain, bus->d.name) != 0)
		return refused(text, "it is of domain %s, not %s", h->domain,
		    bus->d.name);
	if (h->instance != instance_of(bus))
		return refused(text, "stale: domain %s has been made anew",
		    h->domain);
	return 0;
}

static int gone(const char *text)
{
	return refused(text, "stale: its publisher has gone");
}

int zcp_redeemer(zcp *bus, const char *handle, const zcp_sub_options *options,
    zcp_sub **sub)
{
	zcp_sub_options o = { .holds = options ? options->holds : 0,
	    .publishers = 1 };
	char topic[TOPIC_NAME];
	const struct port *p;
	struct handle h;
	int rc;

	*sub = NULL;
	if ((rc = bus_check(bus)) < 0 || (rc = parse(bus, handle, &h)) < 0)
		return rc;
	if (h.port >= bus->d.max_ports || h.serial == 0)
		return refused(handle, "forged: there is no such publisher");
	p = &bus->d.ports[h.port];
	if (fact_load32(&p->state) != PORT_OPEN || p->kind != PORT_PUBLISHER ||
	    p->incarnation != h.incarnation || p->topic >= bus->d.max_topics)
		return gone(handle);
	snprintf(topic, sizeof(topic), "%.*s", TOPIC_NAME - 1,
	    bus->d.topics[p->topic].name);
	fact_recheck();
	if (fact_load32(&p->serial) != h.serial)
		return gone(handle);
	if (!(p->flags & PORT_UNLISTED))
		return refused(handle, "forged: its publisher gives none");
	rc = sub_start(bus, topic, false, h.serial, &o, sub);
	if (rc == -ZCP_E_REFUSED && (fact_load32(&p->serial) != h.serial ||
	    fact_load32(&p->state) != PORT_OPEN))
		return gone(handle);
	return rc < 0 ? error_in(rc, "cannot redeem handle %s", handle) : 0;
}

int zcp_redeems(const zcp_sub *sub, const char *handle)
{
	struct handle h;

	return parse(sub->bus, handle, &h) == 0 && sub->redeems != 0 &&
	    h.serial == sub->redeems;
}

static int not_found(const char *text, enum found_at found)
{
	switch (found) {
	case AT_GIVEN_UP:
		return refused(text, "stale: its message has been overwritten");
	case AT_ENDED_RING:
		return gone(text);
	case AT_NOTHING:
	case AT_MESSAGE:
	case AT_RUIN:
		break;
	}
	return refused(text, "forged: no such message has been published");
}

int zcp_redeem(zcp_sub *sub, const char *handle, zcp_msg *msg)
{
	enum found_at found;
	struct feed *f;
	struct handle h;
	int rc;

	msg->data = NULL;
	msg->lost = 0;
	if ((rc = bus_check(sub->bus)) < 0 ||
	    (rc = parse(sub->bus, handle, &h)) < 0 ||
	    (rc = sub_refresh(sub)) < 0)
		return rc;
	if (sub->redeems == 0 || h.serial != sub->redeems)
		return refused(handle, "it is another publisher's");
	if (sub->count == 0 || (f = sub_feed(sub, 0))->state != FEED_JOINED)
		return gone(handle);
	if (h.seq < f->joined_at)
		return refused(handle, "stale: its message was given up before "
		    "this redeemer came");
	if (h.seq < f->at)
		return refused(handle, "redeemed already, or passed over");
	rc = sub_take_at(sub, f, h.seq, msg, &found);
	return rc == 0 ? not_found(handle, found) : rc;
}
