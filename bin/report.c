#include "report.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "liveness.h"
#include "units.h"

enum { LAG_BAR = 8, STUCK = 200000000 };	/* ns */

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- words ---------------------------------------------------------------------- */

const char *participant_state(const zcp_participant_facts *f)
{
	switch (f->state) {
	case ZCP_PARTICIPANT_LIVE: return "live";
	case ZCP_PARTICIPANT_STALLED: return "stalled";
	case ZCP_PARTICIPANT_LEFT: return "left";
	case ZCP_PARTICIPANT_DIED: return "died";
	}
	return "?";
}

const char *port_state(const zcp_port_facts *f)
{
	switch (f->state) {
	case ZCP_PORT_OPEN: return "open";
	case ZCP_PORT_CLOSED: return f->retain && f->history ? "retained" :
	    "closed";
	case ZCP_PORT_DEAD: return "dead";
	}
	return "?";
}

const char *who(const zcp_snapshot *s, uint32_t participant)
{
	static char texts[8][96];
	static unsigned next;
	char *text = texts[next++ % 8];

	snprintf(text, sizeof(texts[0]), "%s (pid %u)",
	    s->participant[participant].name, s->participant[participant].pid);
	return text;
}

const char *who_reads(const zcp_snapshot *s, uint32_t port)
{
	return who(s, s->port[port].participant);
}

void command_of(const zcp_snapshot *s, const zcp_participant_facts *f,
    char *text, size_t size)
{
	char path[32];
	uint64_t start;
	ssize_t n;
	int fd;

	*text = '\0';
	if (s->domain.copy || f->pid == 0 || f->state > ZCP_PARTICIPANT_STALLED ||
	    process_look((pid_t)f->pid, &start) != 1 || start != f->start_time)
		return;
	snprintf(path, sizeof(path), "/proc/%u/cmdline", f->pid);
	if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
		return;
	n = read(fd, text, size - 1);
	close(fd);
	while (n > 0 && text[n - 1] == '\0')
		n--;
	for (ssize_t i = 0; i < n; i++)
		if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
			text[i] = ' ';
	text[n > 0 ? n : 0] = '\0';
}

const char *bar(double part, unsigned width)
{
	static char texts[8][BAR_MOST + 3];
	static unsigned next;
	char *text = texts[next++ % 8];
	unsigned full;

	if (width > BAR_MOST)
		width = BAR_MOST;
	part = part < 0 ? 0 : part > 1 ? 1 : part;
	full = (unsigned)(part * width + 0.5);
	/* A little is not nothing. */
	if (full == 0 && part > 0)
		full = 1;
	text[0] = '[';
	memset(text + 1, '#', full);
	memset(text + 1 + full, '.', width - full);
	strcpy(text + 1 + width, "]");
	return text;
}

/* ---- sums ------------------------------------------------------------------------ */

/* In rising order of what a person must see. */
enum mark { MARK_NONE, MARK_LOSSY, MARK_RETAINED, MARK_DRAINING, MARK_SLOW,
	MARK_DEMOTED, MARK_STALLED, MARK_BLOCKED, MARK_DEAD };
static const char *const marks[] = { "", "lossy", "retained", "draining",
    "slow", "demoted", "stalled", "blocked", "dead" };

/* A full ring is no news while messages flow: one that the reader is to take
 * has been there for long, or it takes none. */
static bool is_stuck(const struct report *r, const zcp_link_facts *f)
{
	zcp_port_rates rates;

	if (f->waiting > 0)
		return f->waiting > STUCK;
	return r->before == NULL || !zcp_rates(r->before, r->now, f->reader,
	    &rates) || rates.messages <= 0;
}

static void find_blockers(struct report *r)
{
	const zcp_snapshot *s = r->now;

	for (size_t i = 0; i < s->ports; i++)
		r->blocked_by[i] = ZCP_NONE;
	for (uint32_t i = 0; i < s->links; i++) {
		const zcp_link_facts *f = &s->link[i];
		const zcp_port_facts *p = &s->port[f->publisher];
		uint32_t *worst = &r->blocked_by[f->publisher];

		if (f->reliable && !f->demoted && f->lag > 0 &&
		    (p->waiting || f->lag >= p->slots - p->slots / 4) &&
		    is_stuck(r, f) && (*worst == ZCP_NONE ||
		    f->lag > s->link[*worst].lag))
			*worst = i;
	}
}

static enum mark mark_alone(const struct report *r, size_t port)
{
	const zcp_port_facts *p = &r->now->port[port];
	enum zcp_participant_state owner =
	    r->now->participant[p->participant].state;

	if (p->state == ZCP_PORT_DEAD || owner == ZCP_PARTICIPANT_DIED)
		return MARK_DEAD;
	if (r->blocked_by[port] != ZCP_NONE)
		return MARK_BLOCKED;
	if (owner == ZCP_PARTICIPANT_STALLED)
		return MARK_STALLED;
	if (p->state != ZCP_PORT_OPEN)
		return p->retain && p->history ? MARK_RETAINED : MARK_DRAINING;
	if (p->slow_since != 0)
		return MARK_SLOW;
	return !p->publisher && !p->reliable ? MARK_LOSSY : MARK_NONE;
}

/* Readers are marked by what they do at their publishers, too. */
static void mark_all(const struct report *r, enum mark *mark)
{
	const zcp_snapshot *s = r->now;

	for (size_t i = 0; i < s->ports; i++)
		mark[i] = mark_alone(r, i);
	for (uint32_t i = 0; i < s->links; i++) {
		const zcp_link_facts *f = &s->link[i];
		enum mark one = f->demoted ? MARK_DEMOTED :
		    r->blocked_by[f->publisher] == i ? MARK_SLOW : MARK_NONE;

		if (one > mark[f->reader])
			mark[f->reader] = one;
	}
}

static struct sum sum_of(const struct report *r, size_t port, enum mark mark)
{
	const zcp_port_facts *p = &r->now->port[port];
	struct sum sum = { .lag = p->lag, .lost = p->lost,
	    .interval_min = p->interval_min, .interval_max = p->interval_max,
	    .interval_mean = p->interval_mean, .mark = marks[mark] };
	zcp_port_rates rates;

	if (r->before == NULL || !zcp_rates(r->before, r->now, port, &rates))
		return sum;
	if (p->publisher) {
		sum.messages = rates.messages;
		sum.bytes = rates.bytes;
		/* Its stamps may be few, or those of batches. */
		if (rates.messages > 0)
			sum.interval_mean = 1e9 / rates.messages;
	} else
		sum.taken = rates.messages;
	sum.delays = rates.delays;
	sum.delay_p50 = rates.delay_p50;
	sum.delay_p99 = rates.delay_p99;
	return sum;
}

static void most(uint64_t *all, uint64_t one)
{
	if (one > *all)
		*all = one;
}

static void sum_add(struct sum *all, const struct sum *one)
{
	all->messages += one->messages;
	all->bytes += one->bytes;
	all->taken += one->taken;
	all->delays += one->delays;
	all->lost += one->lost;
	if (one->interval_min > 0 && (all->interval_min == 0 ||
	    one->interval_min < all->interval_min))
		all->interval_min = one->interval_min;
	most(&all->interval_max, one->interval_max);
	most(&all->delay_p50, one->delay_p50);
	most(&all->delay_p99, one->delay_p99);
	most(&all->lag, one->lag);
	if (one->full > all->full)
		all->full = one->full;
	/* Of several publishers together: their rates add up. */
	if (one->interval_mean > 0)
		all->interval_mean = 1 / (1 / one->interval_mean +
		    (all->interval_mean > 0 ? 1 / all->interval_mean : 0));
}

void report_begin(struct report *r, const zcp_snapshot *now,
    const zcp_snapshot *before)
{
	enum mark *port, *topic;
	double *fullest;

	*r = (struct report){ .now = now, .before = before };
	r->port = or_die(calloc(now->ports + 1, sizeof(*r->port)));
	r->topic = or_die(calloc(now->topics + 1, sizeof(*r->topic)));
	r->blocked_by = or_die(calloc(now->ports + 1, sizeof(uint32_t)));
	port = or_die(calloc(now->ports + 1, sizeof(*port)));
	topic = or_die(calloc(now->topics + 1, sizeof(*topic)));
	fullest = or_die(calloc(now->ports + 1, sizeof(*fullest)));
	find_blockers(r);
	mark_all(r, port);
	for (size_t i = 0; i < now->links; i++) {
		const zcp_link_facts *f = &now->link[i];
		double full = (double)f->lag / now->port[f->publisher].slots;

		if (full > fullest[f->reader])
			fullest[f->reader] = full;
	}
	for (size_t i = 0; i < now->ports; i++) {
		uint32_t of = now->port[i].topic;

		r->port[i] = sum_of(r, i, port[i]);
		r->port[i].full = fullest[i];
		sum_add(&r->topic[of], &r->port[i]);
		if (port[i] > topic[of])
			topic[of] = port[i];
	}
	for (size_t i = 0; i < now->topics; i++)
		r->topic[i].mark = marks[topic[i]];
	free(port);
	free(topic);
	free(fullest);
}

void report_end(struct report *r)
{
	free(r->port);
	free(r->topic);
	free(r->blocked_by);
}

/* ---- domain, pools, participants ---------------------------------------------------- */

static const char *daemon_text(const zcp_domain_facts *d)
{
	static char text[64];

	if (d->copy)
		return "a copy";
	if (d->daemon == 0)
		return "no daemon";
	if (d->daemon < 0)
		return "daemon in another pid namespace";
	snprintf(text, sizeof(text), "daemon pid %d", d->daemon);
	return text;
}

void report_domain(const struct report *r, FILE *to)
{
	const zcp_domain_facts *d = &r->now->domain;
	time_t created = (time_t)(d->created / 1000000000);
	char when[32] = "?";
	struct tm tm;

	if (localtime_r(&created, &tm) != NULL)
		strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
	fprintf(to, "domain %s of uid %u, %s; layout %u.%u, created %s, "
	    "%s committed\n", d->name, d->uid, daemon_text(d),
	    d->layout_major, d->layout_minor, when,
	    show_bytes((double)d->bytes));
	fprintf(to, "%zu of %u participants (%" PRIu64 " so far), %zu of %u "
	    "topics, %zu of %u ports (%" PRIu64 " so far)\n",
	    r->now->participants, d->max_participants, d->incarnations,
	    r->now->topics, d->max_topics, r->now->ports, d->max_ports,
	    d->registrations);
	fprintf(to, "%" PRIu64 " died, %" PRIu64 " chunks reclaimed, %" PRIu64
	    " demoted, %" PRIu64 " requests refused, %" PRIu64 " messages of "
	    "history cut, %" PRIu64 " slow readers, %" PRIu64 " long holds\n",
	    d->deaths, d->reclaimed, d->demotions, d->refused, d->cut,
	    d->slow, d->long_holds);
	if (d->damaged > 0)
		fprintf(to, "%" PRIu64 " records make no sense and are left "
		    "out (zcp-shmdump --check says more)\n", d->damaged);
}

struct table *report_pools(const struct report *r)
{
	static const struct column columns[] = { { "POOL", false },
	    { "SIZE", true }, { "CHUNKS", true }, { "FREE", true },
	    { "LOANED", true }, { "PUBLISHED", true }, { "MOST", true },
	    { "EMPTY", true } };
	struct table *t = table_make(columns, COUNT(columns));

	for (size_t i = 0; i < r->now->pools; i++) {
		const zcp_pool_facts *f = &r->now->pool[i];

		table_row(t);
		table_cell(t, "%zu", i);
		table_cell(t, "%u", f->chunk_size);
		table_cell(t, "%u", f->count);
		table_cell(t, "%u", f->free);
		table_cell(t, "%u", f->loaned);
		table_cell(t, "%u", f->published);
		table_cell(t, "%u", f->most);
		table_cell(t, "%" PRIu64, f->empty);
	}
	return t;
}

static void beat_cell(struct table *t, const zcp_snapshot *s,
    const zcp_participant_facts *f)
{
	if (f->beat == 0 || s->domain.copy ||
	    f->state > ZCP_PARTICIPANT_STALLED)
		table_cell(t, "-");
	else
		table_cell(t, "%.1f s", f->beat < s->time ?
		    (double)(s->time - f->beat) / 1e9 : 0.0);
}

struct table *report_participants(const struct report *r)
{
	static const struct column columns[] = { { "PARTICIPANT", false },
	    { "PID", true }, { "UID", true }, { "STATE", false },
	    { "BEAT", true }, { "PUBS", true }, { "SUBS", true },
	    { "LOANS", true }, { "HOLDS", true }, { "COMMAND", false } };
	struct table *t = table_make(columns, COUNT(columns));

	for (size_t i = 0; i < r->now->participants; i++) {
		const zcp_participant_facts *f = &r->now->participant[i];
		char command[128];

		command_of(r->now, f, command, sizeof(command));
		table_row(t);
		table_cell(t, "%s", f->name);
		table_cell(t, "%u", f->pid);
		table_cell(t, "%u", f->uid);
		table_cell(t, "%s", participant_state(f));
		beat_cell(t, r->now, f);
		table_cell(t, "%u", f->publishers);
		table_cell(t, "%u", f->subscribers);
		table_cell(t, "%u", f->loans);
		table_cell(t, "%u", f->holds);
		table_cell(t, "%s", command);
	}
	return t;
}

/* ---- topics ---------------------------------------------------------------------------- */

static void rate_cells(struct table *t, const struct report *r,
    const struct sum *sum, bool publishes)
{
	if (r->before == NULL) {
		table_cell(t, "-");
		table_cell(t, "-");
	} else {
		table_cell(t, "%s", show_count(publishes ? sum->messages :
		    sum->taken));
		table_cell(t, "%s", publishes ? show_bytes(sum->bytes) : "");
	}
	if (sum->interval_max > 0)
		table_cell(t, "%s/%s/%s", show_duration(
		    (double)sum->interval_min), show_duration(
		    sum->interval_mean), show_duration(
		    (double)sum->interval_max));
	else if (sum->interval_mean > 0)
		table_cell(t, "%s", show_duration(sum->interval_mean));
	else
		table_cell(t, "%s", publishes ? "-" : "");
	if (sum->delays > 0)
		table_cell(t, "%s/%s", show_duration((double)sum->delay_p50),
		    show_duration((double)sum->delay_p99));
	else
		table_cell(t, "-");
}

void topic_row(struct table *t, const struct report *r, uint32_t i)
{
	const zcp_topic_facts *f = &r->now->topic[i];
	const struct sum *sum = &r->topic[i];

	table_row(t);
	table_cell(t, "%s", f->name);
	table_cell(t, "%u", f->publishers);
	table_cell(t, "%u", f->subscribers);
	rate_cells(t, r, sum, true);
	table_cell(t, "%" PRIu64, sum->lag);
	table_cell(t, "%s", bar(sum->full, LAG_BAR));
	table_cell(t, "%" PRIu64, sum->lost);
	table_cell(t, "%s", f->pattern ? "pattern" : sum->mark);
}

void topic_port_row(struct table *t, const struct report *r, size_t i)
{
	const zcp_port_facts *f = &r->now->port[i];
	const struct sum *sum = &r->port[i];

	table_row(t);
	table_cell(t, "  %s %s", f->publisher ? ">" : "<",
	    who(r->now, f->participant));
	table_cell(t, "%s", "");
	table_cell(t, "%s", "");
	rate_cells(t, r, sum, f->publisher);
	if (f->publisher) {
		table_cell(t, "%s", "");
		table_cell(t, "%s", "");
		table_cell(t, "%s", "");
	} else {
		table_cell(t, "%" PRIu64, f->lag);
		table_cell(t, "%s", bar(sum->full, LAG_BAR));
		table_cell(t, "%" PRIu64, f->lost);
	}
	table_cell(t, "%s", sum->mark);
}

struct table *topic_table(void)
{
	static const struct column columns[] = { { "TOPIC", false },
	    { "PUBS", true }, { "SUBS", true }, { "MSG/S", true },
	    { "BYTES/S", true }, { "INTERVAL MIN/MEAN/MAX", true },
	    { "DELAY P50/P99", true }, { "LAG", true },
	    { "OF RING", false }, { "LOST", true },
	    { "MARK", false } };

	return table_make(columns, COUNT(columns));
}

struct table *report_topics(const struct report *r)
{
	struct table *t = topic_table();

	for (uint32_t i = 0; i < r->now->topics; i++)
		topic_row(t, r, i);
	return t;
}

/* ---- ports and links ------------------------------------------------------------------ */

struct table *report_ports(const struct report *r)
{
	static const struct column columns[] = { { "PORT", true },
	    { "SERIAL", true }, { "KIND", false }, { "TOPIC", false },
	    { "PARTICIPANT", false }, { "STATE", false }, { "SLOTS", true },
	    { "TAIL", true }, { "HEAD", true }, { "MESSAGES", true },
	    { "BYTES", true }, { "LOST", true }, { "LINKS", true } };
	struct table *t = table_make(columns, COUNT(columns));
	const zcp_snapshot *s = r->now;

	for (size_t i = 0; i < s->ports; i++) {
		const zcp_port_facts *f = &s->port[i];

		table_row(t);
		table_cell(t, "%u", f->index);
		table_cell(t, "%u", f->serial);
		table_cell(t, "%s%s", f->reliable ? "" : "lossy ",
		    f->publisher ? f->unlisted ? "handles" : "publisher" :
		    "subscriber");
		table_cell(t, "%s", s->topic[f->topic].name);
		table_cell(t, "%s", who(s, f->participant));
		table_cell(t, "%s", port_state(f));
		table_cell(t, "%u", f->slots);
		if (f->publisher) {
			table_cell(t, "%" PRIu64, f->tail);
			table_cell(t, "%" PRIu64, f->head);
		} else {
			table_cell(t, "-");
			table_cell(t, "-");
		}
		table_cell(t, "%" PRIu64, f->publisher ? f->messages :
		    f->taken);
		table_cell(t, "%" PRIu64, f->publisher ? f->bytes :
		    f->taken_bytes);
		table_cell(t, "%" PRIu64, f->lost);
		table_cell(t, "%u", f->links);
	}
	return t;
}

struct table *report_links(const struct report *r)
{
	static const struct column columns[] = { { "PUBLISHER", true },
	    { "READER", true }, { "TOPIC", false }, { "READ BY", false },
	    { "KIND", false }, { "AT", true }, { "LAG", true },
	    { "LOST", true }, { "HOLDS", true }, { "WAITING", true } };
	struct table *t = table_make(columns, COUNT(columns));
	const zcp_snapshot *s = r->now;

	for (size_t i = 0; i < s->links; i++) {
		const zcp_link_facts *f = &s->link[i];

		table_row(t);
		table_cell(t, "%u", s->port[f->publisher].index);
		table_cell(t, "%u", s->port[f->reader].index);
		table_cell(t, "%s", s->topic[s->port[f->publisher].topic].name);
		table_cell(t, "%s", who_reads(s, f->reader));
		table_cell(t, "%s", f->demoted ? "demoted" : f->reliable ?
		    "reliable" : "lossy");
		if (f->let_go)
			table_cell(t, "read");
		else if (f->joined)
			table_cell(t, "%" PRIu64, f->at);
		else
			table_cell(t, "joining");
		table_cell(t, "%" PRIu64, f->lag);
		table_cell(t, "%" PRIu64, f->lost);
		table_cell(t, "%u", f->held);
		table_cell(t, "%s", f->waiting ?
		    show_duration((double)f->waiting) : "-");
	}
	return t;
}

/* ---- chunks ----------------------------------------------------------------------------- */

static const char *owner_of(const zcp_snapshot *s, const zcp_chunk_facts *f)
{
	return f->port == ZCP_NONE ? "nobody" :
	    who(s, s->port[f->port].participant);
}

static const char *topic_of(const zcp_snapshot *s, uint32_t port)
{
	return port == ZCP_NONE ? "-" : s->topic[s->port[port].topic].name;
}

const char *chunk_state(const zcp_snapshot *s,
    const zcp_chunk_facts *f)
{
	if (f->state == ZCP_CHUNK_LOANED)
		return f->port != ZCP_NONE && s->port[f->port].state ==
		    ZCP_PORT_OPEN ? "loaned" : "left behind";
	return f->in_ring ? "in ring" : f->holders ? "held" : "garbage";
}

static void holders_cell(struct table *t, const zcp_snapshot *s,
    const zcp_chunk_facts *f)
{
	char text[512] = "";
	size_t n = 0;

	for (uint32_t i = 0; i < f->holders && n < sizeof(text) - 100; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s",
		    i ? ", " : "", who_reads(s,
		    s->holder[f->first_holder + i].reader));
	table_cell(t, "%s", text);
}

static void preview_cell(struct table *t, const zcp_chunk_facts *f)
{
	enum { SHOWN = 16 };
	char text[SHOWN * 4 + 4] = "", *at = text;

	for (uint32_t i = 0; i < f->preview_size && i < SHOWN; i++)
		at += sprintf(at, "%02x ", f->preview[i]);
	for (uint32_t i = 0; i < f->preview_size && i < SHOWN; i++)
		*at++ = f->preview[i] >= ' ' && f->preview[i] < 0x7f ?
		    (char)f->preview[i] : '.';
	*at = '\0';
	table_cell(t, "%s", text);
}

struct table *report_chunks(const struct report *r, bool hex)
{
	static const struct column columns[] = { { "CHUNK", false },
	    { "SIZE", true }, { "STATE", false }, { "OWNER", false },
	    { "TOPIC", false }, { "SEQ", true }, { "LENGTH", true },
	    { "AGE", true }, { "HELD BY", false }, { "FIRST BYTES", false } };
	struct table *t = table_make(columns, COUNT(columns) - !hex);
	const zcp_snapshot *s = r->now;

	for (size_t i = 0; i < s->chunks; i++) {
		const zcp_chunk_facts *f = &s->chunk[i];

		table_row(t);
		table_cell(t, "%u:%u", f->pool, f->index);
		table_cell(t, "%u", s->pool[f->pool].chunk_size);
		table_cell(t, "%s", chunk_state(s, f));
		table_cell(t, "%s", owner_of(s, f));
		table_cell(t, "%s", topic_of(s, f->port));
		if (f->state == ZCP_CHUNK_PUBLISHED)
			table_cell(t, "%" PRIu64, f->seq);
		else
			table_cell(t, "-");
		if (f->length)
			table_cell(t, "%u", f->length);
		else
			table_cell(t, "-");
		table_cell(t, "%s", f->time && f->time < s->time ?
		    show_duration((double)(s->time - f->time)) : "-");
		holders_cell(t, s, f);
		if (hex)
			preview_cell(t, f);
	}
	return t;
}

static int by_bytes(const void *a, const void *b)
{
	const struct total *x = a, *y = b;

	return (y->bytes > x->bytes) - (y->bytes < x->bytes);
}

struct total *totals_by_port(const zcp_snapshot *s, size_t *count)
{
	struct total *all = or_die(calloc(s->ports + 1, sizeof(*all)));
	size_t n = 0;

	for (size_t i = 0; i < s->ports; i++)
		all[i].port = (uint32_t)i;
	all[s->ports].port = ZCP_NONE;
	for (size_t i = 0; i < s->chunks; i++) {
		const zcp_chunk_facts *f = &s->chunk[i];
		struct total *to = &all[f->port == ZCP_NONE ? s->ports :
		    f->port];

		to->loaned += f->state == ZCP_CHUNK_LOANED;
		to->published += f->state == ZCP_CHUNK_PUBLISHED;
		to->held += f->holders > 0;
		to->bytes += s->pool[f->pool].chunk_size;
	}
	for (size_t i = 0; i <= s->ports; i++)
		if (all[i].bytes > 0)
			all[n++] = all[i];
	qsort(all, n, sizeof(*all), by_bytes);
	*count = n;
	return all;
}

struct table *report_totals(const struct report *r)
{
	static const struct column columns[] = { { "OWNER", false },
	    { "TOPIC", false }, { "CHUNKS", true }, { "BYTES", true },
	    { "LOANED", true }, { "PUBLISHED", true }, { "HELD", true } };
	struct table *t = table_make(columns, COUNT(columns));
	const zcp_snapshot *s = r->now;
	struct total *all;
	size_t n;

	all = totals_by_port(s, &n);
	for (size_t i = 0; i < n; i++) {
		table_row(t);
		table_cell(t, "%s", all[i].port == ZCP_NONE ? "nobody" :
		    who(s, s->port[all[i].port].participant));
		table_cell(t, "%s", topic_of(s, all[i].port));
		table_cell(t, "%u", all[i].loaned + all[i].published);
		table_cell(t, "%" PRIu64, all[i].bytes);
		table_cell(t, "%u", all[i].loaned);
		table_cell(t, "%u", all[i].published);
		table_cell(t, "%u", all[i].held);
	}
	free(all);
	return t;
}

/* ---- who blocks ------------------------------------------------------------------------- */

struct table *report_blocked(const struct report *r)
{
	static const struct column columns[] = { { "BLOCKED", false },
	    { "TOPIC", false }, { "BY", false }, { "BECAUSE", false } };
	struct table *t = table_make(columns, COUNT(columns));
	const zcp_snapshot *s = r->now;

	for (uint32_t i = 0; i < s->ports; i++) {
		uint32_t link = r->blocked_by[i];

		if (link == ZCP_NONE)
			continue;
		table_row(t);
		table_cell(t, "%s", who(s, s->port[i].participant));
		table_cell(t, "%s", topic_of(s, i));
		table_cell(t, "%s", who_reads(s, s->link[link].reader));
		table_cell(t, "%" PRIu64 " messages behind, of a ring of %u",
		    s->link[link].lag, s->port[i].slots);
	}
	for (uint32_t i = 0; i < s->chunks; i++) {
		const zcp_chunk_facts *f = &s->chunk[i];

		for (uint32_t k = 0; k < f->holders && !f->in_ring; k++) {
			table_row(t);
			table_cell(t, "chunk %u:%u", f->pool, f->index);
			table_cell(t, "%s", topic_of(s, f->port));
			table_cell(t, "%s", who_reads(s,
			    s->holder[f->first_holder + k].reader));
			table_cell(t, "held, and out of the ring");
		}
	}
	return t;
}
