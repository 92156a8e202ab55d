/*
 * route.c - ROUTE: who is matched on a topic, and a small text published to
 * them by hand.
 *
 * The text goes the way of every message: a child of the daemon becomes a
 * participant like any other, publishes, ends, and answers from the daemon's
 * socket.  So the daemon waits for nobody, and needs no ring of its own.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "atomics.h"
#include "clock.h"
#include "error.h"
#include "routed.h"
#include "topic.h"
#include "zcp.h"

enum { JOIN_MS = 500 };			/* for readers to be there */

/* ---- who is matched ---------------------------------------------------------- */

/* Of an open port. */
static bool concerns(const struct routed *r, uint32_t port,
    const struct topic_wanted *want)
{
	uint32_t topic = port_topic(r, port);
	const char *name = topic_text(r, topic);

	if (topic == CHAIN_END)
		return false;

	if (want->pattern)
		return topic_matches(want->name, name);
	return strcmp(want->name, name) == 0 ||
	    (chain_of(&r->of_kind, topic) == TOPIC_PATTERN &&
	    topic_matches(name, want->name));
}

static uint32_t count(const struct routed *r, const struct topic_wanted *want,
    uint32_t kind)
{
	uint32_t n = 0;

	chain_each(&r->of_state, PORTS_OPEN, i, after)
		n += r->shape[i].kind == kind && concerns(r, i, want);
	return n;
}

void route_query(struct routed *r, const struct topic_wanted *want,
    struct text *t)
{
	uint32_t omitted = 0;

	text_add(t, "OK:PUBLISHERS:%u:SUBSCRIBERS:%u\n",
	    count(r, want, PORT_PUBLISHER), count(r, want, PORT_SUBSCRIBER));
	chain_each(&r->of_state, PORTS_OPEN, i, after) {
		const struct port *p = &r->d.ports[i];
		const struct participant *who;

		if (!concerns(r, i, want))
			continue;
		if (text_left(t) < TEXT_LINE) {
			omitted++;
			continue;
		}
		if ((who = owner_of_port(r, i)) == NULL)
			continue;
		text_add(t, "%s=%u topic=%s name=%.63s pid=%u reliable=%d\n",
		    r->shape[i].kind == PORT_PUBLISHER ? "publisher" :
		    "subscriber", i, port_topic_text(r, i), who->name, who->pid,
		    (p->flags & PORT_RELIABLE) != 0);
	}
	if (omitted > 0)
		text_add(t, "omitted=%u\n", omitted);
}

/* ---- publishing ---------------------------------------------------------------- */

/* In the child: as any program would. */
static void publish(const char *domain, const char *topic, const char *text,
    int readers, struct text *reply)
{
	zcp_options o = { .domain = domain, .name = "route" };
	zcp_pub *pub = NULL;
	zcp *bus = NULL;
	int rc, n = 0;

	if ((rc = zcp_open(&bus, &o)) == 0 &&
	    (rc = zcp_offer(bus, topic, NULL, &pub)) == 0) {
		n = zcp_pub_wait_readers(pub, readers, JOIN_MS * NS_PER_MS);
		if (n < 0)
			n = zcp_pub_readers(pub);
		rc = zcp_send(pub, text, strlen(text), 0,
		    JOIN_MS * NS_PER_MS);
	}
	if (rc < 0)
		text_error(reply, rc, NULL);
	else
		text_add(reply, "OK:PUBLISHED:%d", n);
	zcp_stop_offer(&pub);
	if (bus != NULL)
		zcp_close(&bus);
}

static void child(struct routed *r, const struct sockaddr_un *to,
    socklen_t length, const struct topic_wanted *want, const char *text,
    int readers)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGUSR1, SIGCHLD };
	char line[2 * TEXT_LINE];
	struct text reply = { line, sizeof(line), 0 };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		signal(signals[i], SIG_DFL);
	if (r->settings.token != NULL)
		setenv("ZCP_TOKEN", r->settings.token, 1);
	publish(r->settings.domain, want->name, text, readers, &reply);
	if (length > sizeof(sa_family_t))
		sendto(r->fd, line, reply.used, MSG_DONTWAIT | MSG_NOSIGNAL,
		    (const struct sockaddr *)to, length);
	_exit(0);
}

/* Where a child of this number is noted, or (0) could be; NULL: nowhere. */
static pid_t *find_route(struct routed *r, pid_t pid)
{
	for (int i = 0; i < ROUTES_AT_ONCE; i++)
		if (r->route[i] == pid)
			return &r->route[i];
	return NULL;
}

int route_publish(struct routed *r, const struct client *client,
    const struct topic_wanted *want, const char *text)
{
	int readers = (int)count(r, want, PORT_SUBSCRIBER);
	pid_t *route = find_route(r, 0), pid;

	if (route == NULL)
		return error_set(ZCP_E_BUSY, "%d texts are being published "
		    "already: send it again", ROUTES_AT_ONCE);
	fflush(NULL);
	if ((pid = fork()) < 0)
		return error_sys("cannot publish the text");
	if (pid == 0)
		child(r, &client->address, client->address_length, want, text,
		    readers);
	*route = pid;
	return 0;
}

void route_reap(struct routed *r)
{
	pid_t pid, *route;

	/* Others may be of the program that executed this one, or, as process 1,
	 * of anybody. */
	while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
		if ((route = find_route(r, pid)) != NULL)
			*route = 0;
}
