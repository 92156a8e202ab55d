/*
 * handle.c - references to messages, as lines of text.
 *
 *   zcp:DOMAIN:INSTANCE.INCARNATION.PORT.SERIAL.SEQ:CHECK
 *
 * Hexadecimal; a port's serial within one creation of the domain, and its
 * owner's incarnation, say which ring it is, for as long as serials last.
 * CHECK is the SipHash of all that stands before its colon, under the key that
 * the domain was made with: 16 digits that none but a member can make up.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "atomics.h"
#include "handle.h"
#include "publisher.h"
#include "siphash.h"
#include "subscriber.h"

enum { CHECK_DIGITS = 16 };

static uint64_t check_of(const struct zcp *bus, const char *text, size_t n)
{
	return siphash(bus->d.m->handle_key, text, n);
}

static uint32_t instance_of(const struct zcp *bus)
{
	return (uint32_t)((struct segment_head *)bus->d.mgmt.base)->instance;
}

void handle_write(const struct zcp *bus, const struct handle *h, char *text)
{
	int n = snprintf(text, ZCP_HANDLE_SIZE, "zcp:%s:%" PRIx32 ".%" PRIx64
	    ".%" PRIx32 ".%" PRIx32 ".%" PRIx64, h->domain, h->instance,
	    h->incarnation, h->port, h->serial, h->seq);

	snprintf(text + n, ZCP_HANDLE_SIZE - (size_t)n, ":%016" PRIx64,
	    check_of(bus, text, (size_t)n));
}

void handle_of(const struct zcp_pub *pub, uint64_t seq, char *text)
{
	struct handle h = { .instance = instance_of(pub->bus),
	    .incarnation = pub->bus->incarnation, .port = pub->port,
	    .serial = pub->serial, .seq = seq };

	snprintf(h.domain, sizeof(h.domain), "%s", pub->bus->d.name);
	handle_write(pub->bus, &h, text);
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
	handle_of(pub, seq, text);
	return 0;
}

/* ---- redeeming ------------------------------------------------------------- */

/* What came in a handle's place may be anything: as much of it as an error
 * shows, and nothing that a terminal would obey. */
static void show(char shown[ZCP_HANDLE_SIZE], const char *text)
{
	size_t n;

	for (n = 0; n < ZCP_HANDLE_SIZE - 1 && text[n] != '\0'; n++)
		shown[n] = text[n] < ' ' || text[n] > '~' ? '?' : text[n];
	shown[n] = '\0';
	if (text[n] != '\0')
		strcpy(shown + n - strlen("..."), "...");
}

__attribute__((format(printf, 2, 3)))
static int refused(const char *text, const char *format, ...)
{
	char why[256], shown[ZCP_HANDLE_SIZE];
	va_list ap;

	va_start(ap, format);
	vsnprintf(why, sizeof(why), format, ap);
	va_end(ap);
	show(shown, text);
	return error_set(ZCP_E_HANDLE, "cannot redeem handle %s: %s", shown,
	    why);
}

/* Digits as handle_write() writes them. */
static bool parse_check(const char *text, uint64_t *check)
{
	if (strspn(text, "0123456789abcdef") != CHECK_DIGITS ||
	    text[CHECK_DIGITS] != '\0')
		return false;
	*check = strtoull(text, NULL, 16);
	return true;
}

/* Its domain is told apart before its check, which needs that domain's key. */
static int parse(const struct zcp *bus, const char *text, struct handle *h)
{
	uint64_t check;
	int used = 0;

	if (sscanf(text, "zcp:%63[^:]:%" SCNx32 ".%" SCNx64 ".%" SCNx32 ".%"
	    SCNx32 ".%" SCNx64 ":%n", h->domain, &h->instance,
	    &h->incarnation, &h->port, &h->serial, &h->seq, &used) != 6 ||
	    used == 0)
		return refused(text, "it is not a zcp handle (zcp-pub "
		    "--handles prints them)");
	if (strcmp(h->domain, bus->d.name) != 0)
		return refused(text, "it is of domain %s, not %s", h->domain,
		    bus->d.name);
	if (h->instance != instance_of(bus))
		return refused(text, "stale: domain %s has been made anew since, "
		    "or is another one of that name", h->domain);
	/* One comparison of one word: its time tells nothing of the right one. */
	if (!parse_check(text + used, &check) ||
	    check_of(bus, text, (size_t)used - 1) != check)
		return refused(text, "forged or mistyped: its check is wrong");
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
	if (rc < 0)
		return error_in(rc, "cannot redeem handle %s", handle);
	(*sub)->redeems_port = h.port;
	(*sub)->redeems_incarnation = h.incarnation;
	return 0;
}

/* A serial may be given again one day, to another. */
static bool gave(const struct zcp_sub *sub, const struct handle *h)
{
	return sub->redeems != 0 && h->serial == sub->redeems &&
	    h->port == sub->redeems_port &&
	    h->incarnation == sub->redeems_incarnation;
}

int zcp_redeems(const zcp_sub *sub, const char *handle)
{
	struct handle h;

	return parse(sub->bus, handle, &h) == 0 && gave(sub, &h);
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
	if (!gave(sub, &h))
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
