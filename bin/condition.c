#include "condition.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "topic.h"
#include "units.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- quantities ----------------------------------------------------------------------- */

/* Of a topic: sums over those that match. */
enum { PUBLISHERS, SUBSCRIBERS, MESSAGES, MESSAGES_S, BYTES_S, LAG, LOST,
	SLOW, BLOCKED, DEAD, OF_TOPICS,
	/* of the domain */
	PARTICIPANTS = OF_TOPICS, STALLED, TOPICS, PORTS, FREE, USED, DEATHS,
	DAEMON };
static const char *const names[] = { "publishers", "subscribers", "messages",
    "messages_s", "bytes_s", "lag", "lost", "slow", "blocked", "dead",
    "participants", "stalled", "topics", "ports", "free", "used", "deaths",
    "daemon" };

static bool matches(const struct condition *c, const zcp_topic_facts *f)
{
	return c->subject[0] == '\0' ? !f->pattern :
	    strcmp(c->subject, f->name) == 0 ||
	    (!f->pattern && topic_matches(c->subject, f->name));
}

static double of_port(unsigned quantity, const zcp_port_facts *p,
    const char *mark)
{
	switch (quantity) {
	case MESSAGES: return p->publisher ? (double)p->messages : 0;
	case SLOW: return strcmp(mark, "slow") == 0;
	case BLOCKED: return strcmp(mark, "blocked") == 0;
	case DEAD: return strcmp(mark, "dead") == 0;
	default: return 0;
	}
}

static double of_topic(unsigned quantity, const zcp_topic_facts *f,
    const struct sum *sum)
{
	switch (quantity) {
	case PUBLISHERS: return f->publishers;
	case SUBSCRIBERS: return f->subscribers;
	case MESSAGES_S: return sum->messages;
	case BYTES_S: return sum->bytes;
	case LAG: return (double)sum->lag;
	case LOST: return (double)sum->lost;
	default: return 0;
	}
}

static double of_topics(const struct condition *c, const struct report *r)
{
	const zcp_snapshot *s = r->now;
	double all = 0;

	for (size_t i = 0; i < s->topics; i++)
		if (matches(c, &s->topic[i]) ||
		    (s->topic[i].pattern && c->subject[0] == '\0'))
			all += of_topic(c->quantity, &s->topic[i],
			    &r->topic[i]);
	for (size_t i = 0; i < s->ports; i++)
		if (c->subject[0] == '\0' ||
		    matches(c, &s->topic[s->port[i].topic]))
			all += of_port(c->quantity, &s->port[i],
			    r->port[i].mark);
	return all;
}

static double of_domain(unsigned quantity, const zcp_snapshot *s)
{
	double n = 0;

	switch (quantity) {
	case PARTICIPANTS:
	case STALLED:
		for (size_t i = 0; i < s->participants; i++)
			n += quantity == STALLED ? s->participant[i].state ==
			    ZCP_PARTICIPANT_STALLED : s->participant[i].state <=
			    ZCP_PARTICIPANT_STALLED;
		return n;
	case FREE:
	case USED:
		for (size_t i = 0; i < s->pools; i++)
			n += quantity == FREE ? s->pool[i].free :
			    s->pool[i].loaned + s->pool[i].published;
		return n;
	case TOPICS: return (double)s->topics;
	case PORTS: return (double)s->ports;
	case DEATHS: return (double)s->domain.deaths;
	case DAEMON: return s->domain.daemon != 0;
	default: return 0;
	}
}

/* ---- reading ---------------------------------------------------------------------------- */

static const char *read_op(const char *at, struct condition *c)
{
	static const struct {
		const char *text;
		int op;
	} ops[] = { { "<=", AT_MOST }, { ">=", AT_LEAST }, { "!=", OTHER },
	    { "==", EQUAL }, { "<", LESS }, { ">", MORE }, { "=", EQUAL } };

	for (size_t i = 0; i < COUNT(ops); i++)
		if (strncmp(at, ops[i].text, strlen(ops[i].text)) == 0) {
			c->op = (unsigned)ops[i].op;
			return at + strlen(ops[i].text);
		}
	return NULL;
}

static bool read_subject(const char **text, struct condition *c,
    const char **why)
{
	const char *colon = strchr(*text, ':');
	char given[192];

	c->subject[0] = '\0';
	if (colon == NULL)
		return true;
	snprintf(given, sizeof(given), "%.*s", (int)(colon - *text), *text);
	*text = colon + 1;
	if (topic_parse(given, c->subject) >= 0)
		return true;
	*why = zcp_errmsg();
	return false;
}

bool condition_read(const char *text, struct condition *c, const char **why)
{
	size_t length;
	const char *at;
	char *end;

	if (!read_subject(&text, c, why))
		return false;
	while (*text == ' ')
		text++;
	length = strspn(text, "abcdefghijklmnopqrstuvwxyz_");
	for (c->quantity = 0; c->quantity < COUNT(names); c->quantity++)
		if (strlen(names[c->quantity]) == length &&
		    strncmp(text, names[c->quantity], length) == 0)
			break;
	*why = "quantities are publishers, subscribers, messages, messages_s, "
	    "bytes_s, lag, lost, slow, blocked, dead; and without a topic "
	    "participants, stalled, topics, ports, free, used, deaths, daemon";
	if (c->quantity == COUNT(names))
		return false;
	if (c->subject[0] != '\0' && c->quantity >= OF_TOPICS)
		return false;
	for (at = text + length; *at == ' '; at++)
		;
	*why = "it is written [TOPIC:]QUANTITY OP NUMBER, OP one of < <= = "
	    "!= >= >";
	if ((at = read_op(at, c)) == NULL)
		return false;
	c->number = strtod(at, &end);
	return end != at && *end == '\0';
}

bool condition_holds(const struct condition *c, const struct report *r)
{
	double is = c->quantity < OF_TOPICS ? of_topics(c, r) :
	    of_domain(c->quantity, r->now);

	switch (c->op) {
	case LESS: return is < c->number;
	case AT_MOST: return is <= c->number;
	case EQUAL: return is == c->number;
	case OTHER: return is != c->number;
	case AT_LEAST: return is >= c->number;
	case MORE: return is > c->number;
	}
	return false;
}
