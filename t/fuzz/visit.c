#include "visit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "atomics.h"
#include "facts_json.h"
#include "subscriber.h"
#include "sweep.h"
#include "top.h"

static void fail(const char *what)
{
	fprintf(stderr, "%s\n", what);
	abort();
}

/* Each refusal has its message. */
static bool refused(int rc)
{
	if (rc < 0 && zcp_errmsg()[0] == '\0')
		fail("a refusal without a message");
	return rc < 0;
}

/* ---- as an observer ------------------------------------------------------------ */

bool visit_commands(const char *text, size_t size)
{
	for (size_t i = 0; i < size; i++)
		if (((unsigned char)text[i] < ' ' && text[i] != '\n') ||
		    text[i] == 0x7f)
			return true;
	return false;
}

static void check_text(const char *text, size_t size)
{
	if (visit_commands(text, size))
		fail("a character that commands a terminal");
}

static void print_table(struct table *t)
{
	table_print(t, stdout);
	table_free(t);
}

static void print_all(const struct report *r)
{
	report_domain(r, stdout);
	print_table(report_pools(r));
	print_table(report_participants(r));
	print_table(report_topics(r));
	print_table(report_ports(r));
	print_table(report_links(r));
	print_table(report_chunks(r, true));
	print_table(report_totals(r));
	print_table(report_blocked(r));
	if (!json_domain(r) || !json_pools(r) || !json_participants(r) ||
	    !json_topics(r) || !json_ports(r) || !json_links(r) ||
	    !json_chunks(r) || !json_totals(r) || !json_blocked(r))
		fail("what was seen makes no JSON");
}

static void draw_all(const struct report *r)
{
	struct line lines[24];
	struct screen screen = { lines, 24, 100 };
	struct top top = { .tree = true, .interval = 1 };

	top_note(&top, r);
	for (top.pane = 0; top.pane < PANES; top.pane++) {
		top_draw(&top, r, &screen);
		for (int i = 0; i < screen.rows; i++)
			check_text(lines[i].text, strlen(lines[i].text));
	}
	top_free(&top);
}

static void show(const zcp_snapshot *now, const zcp_snapshot *before)
{
	FILE *terminal = stdout;
	struct report r;
	char *text;
	size_t size;

	if ((stdout = open_memstream(&text, &size)) == NULL)
		fail("no memory");
	report_begin(&r, now, before);
	print_all(&r);
	draw_all(&r);
	report_end(&r);
	fclose(stdout);
	stdout = terminal;
	check_text(text, size);
	free(text);
}

static void tell(void *arg, const char *text)
{
	(void)arg;
	if (*text == '\0')
		fail("a violation without a word");
}

static void look_at(const char *domain, const char *dir)
{
	unsigned what = ZCP_LOOK_CHUNKS | ZCP_LOOK_PREVIEWS;
	zcp_snapshot *before, *now;
	zcp_observer *o;

	if (refused(zcp_observe(&o, domain, dir)))
		return;
	if (!refused(zcp_look(o, what, &before))) {
		show(before, NULL);
		if (!refused(zcp_look(o, what, &now)))
			show(now, before);
		zcp_snapshot_free(&now);
	}
	zcp_snapshot_free(&before);
	/* In copies, where one look is enough. */
	if (dir != NULL)
		refused(zcp_check(o, tell, NULL));
	zcp_observe_end(&o);
}

void visit_watch(const char *domain)
{
	look_at(domain, NULL);
	/* The same files once more, as if they were copies. */
	look_at(domain, SEGMENT_DIR "/");
}

/* ---- as a client ---------------------------------------------------------------- */

enum { CURSORS = 1, HOLDS = 4, MESSAGES = 300 };

/* A subscription without a daemon, in memory of its own. */
struct reader_here {
	struct zcp_sub sub;
	struct subscription *self;
	struct feed feed;
	bool used;
};

static void touch(const zcp_msg *msg)
{
	const volatile char *p = msg->data;

	if (msg->size > 0)
		(void)(p[0] + p[msg->size - 1]);
}

static void take_all(struct reader_here *r)
{
	struct feed *f = &r->feed;
	zcp_msg msg[2 * HOLDS];
	enum found_at found;
	uint64_t lost;
	int n = 0, rc = 0;

	feed_join(f, UINT32_MAX, &lost);
	for (int i = 0; i < MESSAGES && f->state == FEED_JOINED; i++) {
		rc = sub_take_at(&r->sub, f, f->at, &msg[n], &found);
		if (rc == 0)
			break;
		if (rc == 1)
			touch(&msg[n]);
		else
			refused(rc);
		if (rc == 1 && ++n == HOLDS)
			while (n > 0)
				zcp_release(&r->sub, &msg[--n]);
	}
	while (n > 0)
		zcp_release(&r->sub, &msg[--n]);
	feed_look_for_end(f);
}

/* Reads the ring of a port, as whatever kind of reader the port's index says. */
static void read_port(struct zcp *bus, uint32_t port)
{
	struct reader_here r = { .sub = { .bus = bus,
	    .budget = { .most = HOLDS }, .topic = "?", .cursors = CURSORS,
	    .feed = &r.feed, .used = &r.used }, .used = true };
	uint64_t link = link_make(port, 0,
	    fact_load32(&bus->d.ports[port].serial),
	    port % 3 == 0 ? LINK_RELIABLE | LINK_FROM_START :
	    port % 3 == 1 ? LINK_RELIABLE : 0);

	r.self = aligned_alloc(CACHE_LINE, subscription_bytes(CURSORS, HOLDS));
	if (r.self == NULL)
		fail("no memory");
	memset(r.self, 0, subscription_bytes(CURSORS, HOLDS));
	r.sub.self = r.self;
	if (!refused(feed_open(&r.feed, &bus->d, link,
	    subscription_cursor(r.self, HOLDS, 0),
	    subscription_over(r.self, CURSORS, HOLDS, 0), &r.sub.budget))) {
		take_all(&r);
		feed_close(&r.feed);
	}
	free(r.self);
}

/* As the owner of that port sees its readers. */
static void count_readers(struct zcp *bus, uint32_t port)
{
	const struct port *p = &bus->d.ports[port];
	struct ring_view view = { .serial = fact_load32(&p->serial),
	    .slots = p->slots };
	struct reader_set set = { 0 };
	struct hold_set held = { 0 };

	if (!refused(reader_set_load(&set, &bus->d, port))) {
		readers_limits(&set, &view);
		for (uint32_t i = 0; i < set.count; i++)
			hold_set_collect(&held, &bus->d.pools,
			    set.reader[i].cursor, set.reader[i].holds);
	}
	hold_set_free(&held);
	reader_set_free(&set, &bus->d);
}

static void tap_all(struct zcp *bus)
{
	zcp_tap *tap;
	zcp_msg msg;

	if (refused(zcp_tap_open(bus, "*", &tap)))
		return;
	for (int i = 0; i < MESSAGES; i++) {
		int rc = zcp_tap_read(tap, &msg);

		if (rc == 0)
			break;
		if (!refused(rc))
			touch(&msg);
	}
	zcp_tap_close(&tap);
}

void visit_enter(const char *domain)
{
	struct zcp bus = { .own = SEGMENT_INIT, .users = 1,
	    .born = fork_generation, .made = fork_generation };
	struct sweep_report report;
	struct domain *d = &bus.d;

	if (!refused(domain_attach(d, domain, geteuid(), false)) &&
	    !refused(domain_map_words(d)) && !refused(domain_map_read(d)) &&
	    !refused(domain_map_write(d))) {
		for (uint32_t i = 0; i < d->max_ports; i++)
			if (fact_load32(&d->ports[i].state) != PORT_FREE) {
				read_port(&bus, i);
				count_readers(&bus, i);
			}
		tap_all(&bus);
		refused(sweep(d, &report, NULL, NULL));
	}
	domain_detach(d);
}
