/*
 * verbs.c - the control protocol, zcp-protocol(5): one request, one reply.
 *
 * A request is obeyed whole or answered with an error: a sentence for people,
 * and a line of fields for programs, text_error().
 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "atomics.h"
#include "clock.h"
#include "control.h"
#include "error.h"
#include "liveness.h"
#include "routed.h"
#include "topic.h"

enum { FIELDS = 24 };

/* VERB:field:field, a field being key=value or a bare word. */
struct request {
	char text[4096];
	const char *field[FIELDS];
	unsigned fields;
	const struct verb *verb;
	const struct client *client;
	struct text *reply;
	bool unknown;			/* there is no such verb */
	bool later;			/* somebody else will answer */
};

/* Who may use a verb, where the domain asks for a token. */
enum access {
	BY_ALL,
	BY_TENANTS,			/* who have shown it: sender() looks */
	BY_TRUSTED,			/* who have shown it, tenants included */
};

struct verb {
	const char *name;
	int (*run)(struct routed *r, struct request *q);
	unsigned fields;		/* the last takes all that follows; 0: any */
	enum access access;
	bool ends;			/* ends something: never refused for its cost */
	bool repeats;			/* its reply has the request's nonce */
};
static const struct verb *find_verb(const char *text, size_t length);

static int parse(struct request *q, const char *text, size_t length)
{
	unsigned most;
	char *p = q->text;

	while (length > 0 && (text[length - 1] == '\n' ||
	    text[length - 1] == '\r'))
		length--;
	if (length == 0)
		return error_set(ZCP_E_ARG, "empty request");
	if (length >= sizeof(q->text))
		return error_set(ZCP_E_ARG, "request longer than %zu bytes",
		    sizeof(q->text) - 1);
	for (size_t i = 0; i < length; i++)
		if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
			return error_set(ZCP_E_ARG,
			    "byte %zu of the request is not printable", i + 1);
	memcpy(q->text, text, length);
	q->text[length] = '\0';
	q->verb = find_verb(q->text, length);
	q->unknown = q->verb == NULL;
	if (q->unknown)
		return -ZCP_E_REFUSED;
	most = q->verb->fields ? q->verb->fields : FIELDS;
	while ((p = strchr(p, ':')) != NULL) {
		if (q->fields == most && q->verb->fields != 0)
			break;
		*p++ = '\0';
		if (q->fields == FIELDS)
			return error_set(ZCP_E_ARG,
			    "request has more than %d fields", FIELDS);
		q->field[q->fields++] = p;
	}
	return 0;
}

static const char *value(const struct request *q, const char *key)
{
	size_t n = strlen(key);

	for (unsigned i = 0; i < q->fields; i++)
		if (strncmp(q->field[i], key, n) == 0 && q->field[i][n] == '=')
			return q->field[i] + n + 1;
	return NULL;
}

/* A number in a given base; `missing` when the field is not there. */
static int number(const struct request *q, const char *key, int base,
    uint64_t most, uint64_t missing, uint64_t *out)
{
	const char *text = value(q, key);
	char *end;

	if (text == NULL) {
		*out = missing;
		return 0;
	}
	errno = 0;
	*out = strtoull(text, &end, base);
	if (!isxdigit((unsigned char)*text) || *end != '\0' || errno != 0 ||
	    *out > most)
		return error_set(ZCP_E_ARG, "%s=%s is not a number up to %"
		    PRIu64, key, text, most);
	return 0;
}

static int number32(const struct request *q, const char *key, uint32_t most,
    uint32_t missing, uint32_t *out)
{
	uint64_t wide;
	int rc = number(q, key, 10, most, missing, &wide);

	*out = (uint32_t)wide;
	return rc;
}

__attribute__((format(printf, 2, 3)))
static int reply(struct request *q, const char *format, ...)
{
	char line[TEXT_LINE];
	va_list ap;

	va_start(ap, format);
	vsnprintf(line, sizeof(line), format, ap);
	va_end(ap);
	text_add(q->reply, "%s", line);
	return 0;
}

/* ---- who speaks ------------------------------------------------------------------- */

/*
 * The tenant that a request names: by the place that it has (a slot), by the
 * number that it alone was ever given (its incarnation), and by the nonce of
 * its registration (its key), as far as the request says.
 */
struct tenant {
	uint32_t slot;
	uint64_t incarnation, key;	/* 0: not said */
};
#define ANY_SLOT UINT32_MAX

static int read_tenant(const struct request *q, struct tenant *t)
{
	int rc;

	if ((rc = number32(q, "slot", UINT32_MAX, ANY_SLOT, &t->slot)) < 0 ||
	    (rc = number(q, "incarnation", 10, UINT64_MAX, 0,
	    &t->incarnation)) < 0 ||
	    (rc = number(q, "key", 16, UINT64_MAX, 0, &t->key)) < 0)
		return rc;
	/* UNREGISTER:3, by hand; elsewhere it may be a topic or a page. */
	if (t->slot == ANY_SLOT && q->verb->ends && q->fields > 0 &&
	    isdigit((unsigned char)q->field[0][0]))
		t->slot = (uint32_t)strtoul(q->field[0], NULL, 10);
	return 0;
}

static bool names(const struct tenant *t, const struct participant *p,
    uint32_t slot)
{
	return fact_load32(&p->state) == PARTICIPANT_LIVE &&
	    (t->slot == ANY_SLOT || t->slot == slot) &&
	    (t->incarnation == 0 || t->incarnation == p->incarnation) &&
	    (t->key == 0 || t->key == p->nonce);
}

static int nobody(const struct request *q, const struct tenant *t, bool others)
{
	if (t->incarnation != 0 && !others)
		return error_set(ZCP_E_ENDED, "the participant of incarnation "
		    "%" PRIu64 " is not registered any more: it was closed, or "
		    "the route daemon took its process for dead; close its bus "
		    "and open another one", t->incarnation);
	return error_set(ZCP_E_PERM, "process %d has not registered%s",
	    (int)q->client->pid, t->slot == ANY_SLOT ? "" : " that slot");
}

/*
 * The sender's participant: the one it names, which must be its own, or the
 * only one that its process has.  -ZCP_E_ENDED: the one it names is there no
 * more, whoever has its slot now.
 */
static int sender(struct routed *r, struct request *q, uint32_t *slot)
{
	const struct client *c = q->client;
	uint32_t found = ANY_SLOT;
	bool others = false;
	struct tenant t;
	int rc;

	if ((rc = read_tenant(q, &t)) < 0)
		return rc;
	for (uint32_t i = 0; i < r->d.max_participants; i++) {
		if (!names(&t, &r->d.participants[i], i))
			continue;
		if (!client_is(r, i, c->pid, c->uid, t.key)) {
			others = true;
			continue;
		}
		if (found != ANY_SLOT)
			return error_set(ZCP_E_ARG, "process %d has several "
			    "participants: name one (slot=N)", (int)c->pid);
		found = i;
	}
	*slot = found;
	return found != ANY_SLOT ? 0 : nobody(q, &t, others);
}

/* ---- the verbs ----------------------------------------------------------------------- */

static int do_ping(struct routed *r, struct request *q)
{
	(void)r;
	return reply(q, "PONG");
}

static int part_of(const struct routed *r, const struct request *q,
    const char **part, uint64_t *size)
{
	char path[SEGMENT_PATH];
	struct stat st;
	uint32_t slot;
	char *end;

	*part = q->fields > 0 ? q->field[0] : "data";
	if (strcmp(*part, "mgmt") == 0)
		*size = r->d.mgmt.size;
	else if (strcmp(*part, "bell") == 0)
		*size = r->d.bell.size;
	else if (strcmp(*part, "pool") == 0)
		*size = r->d.pool.size;
	else if (strcmp(*part, "data") == 0) {
		segment_path(path, r->d.dir, *part);
		if (stat(path, &st) < 0)
			return error_sys("cannot stat %s", path);
		*size = (uint64_t)st.st_size;
	} else if (**part == 'p' && isdigit((unsigned char)(*part)[1]) &&
	    (slot = (uint32_t)strtoul(*part + 1, &end, 10), *end == '\0') &&
	    slot < r->d.max_participants &&
	    fact_load32(&r->d.participants[slot].state) != PARTICIPANT_FREE)
		*size = MEMBER_WINDOW;
	else
		return error_set(ZCP_E_ARG, "no part '%s' (mgmt, bell, pool, "
		    "data, p<slot of a participant>)", *part);
	return 0;
}

static int do_path(struct routed *r, struct request *q)
{
	char path[SEGMENT_PATH];
	const char *part;
	uint64_t size;
	int rc = part_of(r, q, &part, &size);

	if (rc < 0)
		return rc;
	segment_path(path, r->d.dir, part);
	return reply(q, "%s", path);
}

static int do_size(struct routed *r, struct request *q)
{
	const char *part;
	uint64_t size;
	int rc = part_of(r, q, &part, &size);

	return rc < 0 ? rc : reply(q, "%" PRIu64, size);
}

static int do_register(struct routed *r, struct request *q)
{
	const struct client *c = q->client;
	const char *name = value(q, "name");
	uint64_t nonce;
	int slot, rc;

	if (name == NULL && q->fields > 0 && strchr(q->field[0], '=') == NULL)
		name = q->field[0];
	if (name == NULL)
		return error_set(ZCP_E_ARG, "REGISTER needs a name");
	if (!name_valid(name))
		return error_set(ZCP_E_ARG, "name '%s': 1 to 63 of A-Z a-z "
		    "0-9 . _ -", name);
	if ((rc = number(q, "nonce", 16, UINT64_MAX, 0, &nonce)) < 0)
		return rc;
	slot = participant_add(r, name, nonce, c->pid, c->uid, c->gid);
	return slot < 0 ? slot : reply(q, "OK:OFFSET:%d:incarnation=%" PRIu64,
	    slot, r->d.participants[slot].incarnation);
}

/* A tenant that is there no more has ended as it wished. */
static int ended(struct request *q, int rc)
{
	return rc == -ZCP_E_ENDED ? reply(q, "OK") : rc;
}

static int do_unregister(struct routed *r, struct request *q)
{
	uint32_t slot;
	int rc = sender(r, q, &slot);

	if (rc < 0)
		return ended(q, rc);
	participant_end(r, slot, false);
	drain(r);
	return reply(q, "OK");
}

/* One port of the sender's; one that has another serial has ended. */
static int release_one(struct routed *r, uint32_t slot, uint32_t port,
    uint32_t serial)
{
	bool own = false;

	chain_each(&r->of_owner, slot, i, after)
		own |= i == port;
	if (own && (serial == 0 ||
	    serial == fact_load32(&r->d.ports[port].serial)))
		port_end(r, port, false);
	else if (serial == 0)
		return error_set(ZCP_E_ARG, "port %u is none of participant "
		    "%u's", port, slot);
	return 0;
}

static int do_release(struct routed *r, struct request *q)
{
	uint32_t slot, port, serial;
	int rc;

	if ((rc = sender(r, q, &slot)) < 0)
		return ended(q, rc);
	if ((rc = number32(q, "port", r->d.max_ports - 1, UINT32_MAX,
	    &port)) < 0 ||
	    (rc = number32(q, "serial", SERIAL_MASK, 0, &serial)) < 0)
		return rc;
	if (port == UINT32_MAX)
		chain_each(&r->of_owner, slot, i, after)
			port_end(r, i, false);
	else if ((rc = release_one(r, slot, port, serial)) < 0)
		return rc;
	drain(r);
	return reply(q, "OK");
}

static int add_port(struct routed *r, struct request *q,
    struct registration *want)
{
	int rc, port;

	if ((rc = sender(r, q, &want->participant)) < 0 ||
	    (rc = number(q, "nonce", 16, UINT64_MAX, 0, &want->nonce)) < 0)
		return rc;
	if (value(q, "offset") == NULL)
		return error_set(ZCP_E_ARG, "the request lacks offset=, the "
		    "place in p%u", want->participant);
	if ((rc = number(q, "offset", 10, MEMBER_WINDOW, 0,
	    &want->offset)) < 0)
		return rc;
	port = port_add(r, want);
	return port < 0 ? port : reply(q, "OK:PORT:%d:serial=%u:topic=%u", port,
	    fact_load32(&r->d.ports[port].serial), r->d.ports[port].topic);
}

static int read_topic(const struct request *q, struct registration *want)
{
	int rc;

	if (q->fields == 0 || strchr(q->field[0], '=') != NULL)
		return error_set(ZCP_E_ARG, "the request names no topic");
	if ((rc = topic_parse(q->field[0], want->topic)) < 0)
		return rc;
	want->pattern = rc == 1;
	return 0;
}

static int read_reliable(const struct request *q, struct registration *want)
{
	uint32_t reliable;
	int rc = number32(q, "reliable", 1, 1, &reliable);

	want->flags = reliable ? PORT_RELIABLE : 0;
	return rc;
}

static int do_publisher(struct routed *r, struct request *q)
{
	struct registration want = { .kind = PORT_PUBLISHER };
	uint32_t unlisted;
	int rc;

	if ((rc = read_topic(q, &want)) < 0 ||
	    (rc = read_reliable(q, &want)) < 0 ||
	    (rc = number32(q, "slots", MAX_RING, 1024, &want.slots)) < 0 ||
	    (rc = number32(q, "history", MAX_RING, 0, &want.history)) < 0 ||
	    (rc = number(q, "retain", 10, UINT64_MAX, 0, &want.retain)) < 0 ||
	    (rc = number32(q, "unlisted", 1, 0, &unlisted)) < 0)
		return rc;
	want.flags |= unlisted ? PORT_UNLISTED : 0;
	if (want.pattern)
		return error_set(ZCP_E_ARG, "a pattern cannot be published on");
	if (want.history > want.slots / 2)
		return error_set(ZCP_E_ARG, "history %u is more than half of "
		    "%u slots", want.history, want.slots);
	return add_port(r, q, &want);
}

static int do_subscriber(struct routed *r, struct request *q)
{
	struct registration want = { .kind = PORT_SUBSCRIBER };
	int rc;

	/* In the record: slots are cursors, history is holds. */
	if ((rc = read_topic(q, &want)) < 0 ||
	    (rc = read_reliable(q, &want)) < 0 ||
	    (rc = number32(q, "cursors", 1u << LINK_CURSOR_BITS, 16,
	    &want.slots)) < 0 ||
	    (rc = number32(q, "holds", MAX_HOLDS, 64, &want.history)) < 0 ||
	    (rc = number32(q, "depth", MAX_RING, 0, &want.depth)) < 0 ||
	    (rc = number32(q, "redeems", SERIAL_MASK, 0, &want.redeems)) < 0)
		return rc;
	return add_port(r, q, &want);
}

static int do_sweep(struct routed *r, struct request *q)
{
	uint64_t size;
	int rc = number(q, "size", 10, UINT32_MAX, 0, &size);

	if (rc < 0)
		return rc;
	sweep_all(r, size);
	return reply(q, "OK");
}

/* The page that a client asks for: the number behind the verb. */
static int page(const struct request *q, uint64_t *from)
{
	char *end;

	*from = 0;
	if (q->fields == 0)
		return 0;
	errno = 0;
	*from = strtoull(q->field[0], &end, 10);
	if (!isdigit((unsigned char)*q->field[0]) || *end != '\0' || errno)
		return error_set(ZCP_E_ARG, "%s:%s: not a number",
		    q->verb->name, q->field[0]);
	return 0;
}

static int do_status(struct routed *r, struct request *q)
{
	uint64_t from;
	int rc = page(q, &from);

	if (rc == 0)
		status_text(r, from > UINT32_MAX ? UINT32_MAX :
		    (uint32_t)from, q->reply);
	return rc;
}

static int do_dump(struct routed *r, struct request *q)
{
	uint64_t from;
	int rc = page(q, &from);

	if (rc == 0)
		dump_text(r, from, q->reply);
	return rc;
}

static int do_route(struct routed *r, struct request *q)
{
	struct topic_wanted want;
	int rc;

	if (q->fields == 0)
		return error_set(ZCP_E_ARG, "ROUTE needs a topic");
	if ((rc = topic_parse(q->field[0], want.name)) < 0)
		return rc;
	want.pattern = rc == 1;
	if (q->fields == 1) {
		route_query(r, &want, q->reply);
		return 0;
	}
	if (want.pattern)
		return error_set(ZCP_E_ARG, "a pattern cannot be published on");
	q->later = true;
	return route_publish(r, q->client, &want, q->field[1]);
}

static int do_auth(struct routed *r, struct request *q)
{
	const char *token = value(q, "token");
	int rc;

	if (token == NULL)
		return error_set(ZCP_E_ARG, "AUTH needs token=");
	rc = client_show(r, q->client, token);
	return rc < 0 ? rc : reply(q, "OK");
}

static const struct verb verbs[] = {
	{ "PING", do_ping, 0, BY_ALL, false, false },
	{ "AUTH", do_auth, 1, BY_ALL, false, false },
	{ "GET_SHM_PATH", do_path, 0, BY_TRUSTED, false, false },
	{ "GET_SHM_SIZE", do_size, 0, BY_TRUSTED, false, false },
	{ "REGISTER", do_register, 0, BY_TRUSTED, false, true },
	{ "UNREGISTER", do_unregister, 0, BY_TENANTS, true, false },
	{ "RELEASE", do_release, 0, BY_TENANTS, true, false },
	{ "PUBLISHER", do_publisher, 0, BY_TENANTS, false, true },
	{ "SUBSCRIBER", do_subscriber, 0, BY_TENANTS, false, true },
	{ "SWEEP", do_sweep, 0, BY_TRUSTED, false, false },
	{ "ROUTE", do_route, 2, BY_TRUSTED, false, false },
	{ "STATUS", do_status, 0, BY_TRUSTED, false, false },
	{ "DUMP", do_dump, 0, BY_TRUSTED, false, false },
};

/* By what stands before the first colon or the end of the line. */
static const struct verb *find_verb(const char *text, size_t length)
{
	size_t n = 0;

	while (n < length && strchr(":\r\n", text[n]) == NULL)
		n++;
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (strlen(verbs[i].name) == n &&
		    memcmp(text, verbs[i].name, n) == 0)
			return &verbs[i];
	return NULL;
}

/* A daemon that adopted its participants has not seen them show the token;
 * they could not have registered without it. */
static int trusted(struct routed *r, struct request *q)
{
	uint32_t slot;

	return sender(r, q, &slot) == 0 ? 0 : client_trusted(r, q->client);
}

static int obey(struct routed *r, struct request *q)
{
	int rc = q->verb->access == BY_TRUSTED ? trusted(r, q) : 0;

	return rc < 0 ? rc : q->verb->run(r, q);
}

/* The nonce that a reply repeats: it may come so late that another process has
 * the name of the socket to which it goes. */
static const char *repeated(const struct request *q)
{
	const char *nonce = q->verb != NULL && q->verb->repeats ?
	    value(q, "nonce") : NULL;

	return nonce != NULL && nonce[0] != '\0' &&
	    nonce[strspn(nonce, "0123456789abcdefABCDEF")] == '\0' ?
	    nonce : NULL;
}

static void finish(const struct request *q, int rc)
{
	const char *nonce = repeated(q);

	if (rc >= 0 && nonce != NULL)
		text_add(q->reply, ":nonce=%s", nonce);
	if (rc >= 0)
		return;
	q->reply->used = 0;
	if (q->unknown)
		text_add(q->reply, "ERROR: Unknown command");
	else
		text_error(q->reply, rc, nonce);
}

bool answer(struct routed *r, const struct client *c, const char *text,
    size_t length, struct text *out)
{
	struct request q = { .client = c, .reply = out };
	const struct verb *verb = find_verb(text, length);
	uint64_t began = clock_ns();
	int rc;

	switch (verb != NULL && verb->ends ? QUOTA_LEFT : quota_take(r, c)) {
	case QUOTA_SILENCE:
		return false;
	case QUOTA_REFUSE:
		rc = error_set(ZCP_E_BUSY, "busy: process %d asks too "
		    "much, more than %u requests a second or half of this "
		    "daemon's time (zcp-routed --max-requests); what it sends "
		    "before a pause is dropped", (int)c->pid,
		    r->settings.max_requests);
		break;
	default:
		if ((rc = parse(&q, text, length)) == 0)
			rc = obey(r, &q);
		quota_charge(r, c, began);
	}
	finish(&q, rc);
	return rc < 0 || !q.later;
}
