/* zcp-sub - print what arrives. */
#include <ctype.h>
#include <errno.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "exec.h"
#include "format.h"
#include "framing.h"
#include "output.h"
#include "sources.h"
#include "stats.h"
#include "units.h"

#define LOOK (SECOND / 10)		/* between looks at signals and clocks */
#define ORDER_WAIT (SECOND / 20)	/* for one that may be earlier */
enum {
	ROUND = 4096,			/* messages between such looks */
};

static char *time_text, *idle_text, *count_text, *format_text, *origin_text,
    *sample_text, *rate_text, *order_text, *jobs_text, *truncate_text;
static char **excluded;
static int json, hex, exit_at_end, drop, reliable, tap, handles, stats,
    fail_on_loss;
static struct exec exec;

static struct poptOption options[] = {
	FRAMING_OPTIONS,
	{ "format", 'f', POPT_ARG_STRING, &format_text, 0,
	    "print each message so: %t topic %s payload %S size %x hex %o seq "
	    "%k type %p publisher %P pid %T time %D delay, escapes as in -D",
	    "FORMAT" },
	{ "json", 'J', POPT_ARG_NONE, &json, 0,
	    "print each message as a JSON object, a line each", NULL },
	{ "hex", 'x', POPT_ARG_NONE, &hex, 0, "print a hex dump", NULL },
	{ "truncate", '\0', POPT_ARG_STRING, &truncate_text, 0,
	    "print at most SIZE bytes of each payload", "SIZE" },
	{ "exec", '\0', POPT_ARG_STRING, &exec.command, 0,
	    "run CMD for each message, with the payload on its standard input",
	    "CMD" },
	{ "jobs", 'P', POPT_ARG_STRING, &jobs_text, 0,
	    "so many of them at once (1)", "N" },
	{ "count", 'c', POPT_ARG_STRING, &count_text, 0,
	    "end after N messages", "N" },
	{ "timeout", 'W', POPT_ARG_STRING, &time_text, 0,
	    "end after TIME in all (10s, 250ms), with status 3 if nothing or "
	    "less than -c came", "TIME" },
	{ "idle", 'I', POPT_ARG_STRING, &idle_text, 0,
	    "end when nothing has come for TIME, in the same way", "TIME" },
	{ "exit", 'e', POPT_ARG_NONE, &exit_at_end, 0,
	    "end when all publishers seen have ended and all is read", NULL },
	{ "offset", 'o', POPT_ARG_STRING, &origin_text, 0,
	    "begin with all the history offered (beginning, the default), "
	    "none of it (end), the last N of each publisher (-N), or what "
	    "is not older than a time (-10s)", "WHERE" },
	{ "order", '\0', POPT_ARG_STRING, &order_text, 0,
	    "time: several publishers' messages in the order of their times",
	    "ORDER" },
	{ "exclude", '\0', POPT_ARG_ARGV, &excluded, 0,
	    "do not print what comes on topics that match (repeatable)",
	    "PATTERN" },
	{ "sample", '\0', POPT_ARG_STRING, &sample_text, 0,
	    "print every Nth message only", "N" },
	{ "rate-limit", '\0', POPT_ARG_STRING, &rate_text, 0,
	    "print at most so many a second (10/s, 1/min)", "RATE" },
	{ "drop", '\0', POPT_ARG_NONE, &drop, 0,
	    "never make a publisher wait: lose messages and count them", NULL },
	{ "reliable", '\0', POPT_ARG_NONE, &reliable, 0,
	    "lose nothing, for patterns too; status 4 if something was lost "
	    "all the same", NULL },
	{ "tap", '\0', POPT_ARG_NONE, &tap, 0,
	    "watch without taking a reader's place (one TOPIC)", NULL },
	{ "handles", '\0', POPT_ARG_NONE, &handles, 0,
	    "redeem the handles on standard input (zcp-pub --handles)", NULL },
	{ "stats", '\0', POPT_ARG_NONE, &stats, 0,
	    "rate, spacing, delay and losses on stderr, once a second", NULL },
	{ "fail-on-loss", '\0', POPT_ARG_NONE, &fail_on_loss, 0,
	    "end with status 4 if messages were lost, even where losses are "
	    "allowed (patterns, --drop, --tap)", NULL },
	CLI_COMMON,
	POPT_AUTOHELP
	POPT_TABLEEND
};

/* What the options say, checked. */
static struct {
	struct framing framing;
	output_render *render;
	uint64_t limit;			/* messages */
	bool counted;			/* -c was given */
	int64_t timeout, idle;		/* ns */
	uint64_t sample;
	int64_t apart;			/* ns between two, at least */
	uint64_t since;			/* ns, monotonic: nothing older */
	uint64_t most;			/* bytes of a payload */
	bool plain;			/* all of it, as it is, to the output */
	zcp_sub_options sub;
} chosen;

static struct session {
	struct sources in;
	struct output out;
	zcp_msg msg[OUTPUT_HELD];
	uint64_t seen, taken, skipped;
	int64_t deadline, last;		/* when the last message came */
	int64_t next_report, next_due;
	bool missed;			/* publishers were not followed */
	bool broken;			/* a reliable source lost messages */
} session;

/* ---- options ------------------------------------------------------------------ */

static int read_counts(void)
{
	uint64_t jobs = 1;
	double rate;

	chosen.limit = UINT64_MAX;
	chosen.counted = count_text != NULL;
	chosen.sample = 1;
	if (count_text != NULL && !read_size(count_text, &chosen.limit))
		return cli_usage("-c %s: not a count", count_text);
	for (char **p = excluded; p != NULL && *p != NULL; p++)
		if (**p == '\0')
			return cli_usage("--exclude: an empty pattern");
	if (sample_text != NULL && (!read_size(sample_text, &chosen.sample) ||
	    chosen.sample == 0))
		return cli_usage("--sample %s: not a count of 1 or more",
		    sample_text);
	if (rate_text != NULL) {
		if (!read_rate(rate_text, &rate))
			return cli_usage("--rate-limit %s: not a rate (10/s, "
			    "1/min)", rate_text);
		chosen.apart = (int64_t)(SECOND / rate);
	}
	if (jobs_text != NULL && exec.command == NULL)
		return cli_usage("-P %s: goes with --exec", jobs_text);
	if (jobs_text != NULL && (!read_size(jobs_text, &jobs) || jobs == 0 ||
	    jobs > EXEC_MOST))
		return cli_usage("-P %s: not a count from 1 to %d", jobs_text,
		    EXEC_MOST);
	exec.most = (unsigned)jobs;
	chosen.most = SIZE_MAX;
	if (truncate_text != NULL && !read_size(truncate_text, &chosen.most))
		return cli_usage("--truncate %s: not a size", truncate_text);
	return CLI_OK;
}

static int read_times(void)
{
	chosen.timeout = chosen.idle = INT64_MAX / 2;
	if (time_text != NULL && !read_time(time_text, &chosen.timeout))
		return cli_usage("-W %s: not a time (10s, 250ms)", time_text);
	if (idle_text != NULL && !read_time(idle_text, &chosen.idle))
		return cli_usage("-I %s: not a time (10s, 250ms)", idle_text);
	return CLI_OK;
}

/* A unit: of times, then. */
static bool ends_in_letter(const char *text)
{
	return isalpha((unsigned char)text[strlen(text) - 1]);
}

static int read_origin(void)
{
	uint64_t last;
	int64_t age;

	if (order_text != NULL) {
		if (strcmp(order_text, "time") != 0)
			return cli_usage("--order %s: only by time", order_text);
		chosen.sub.merge = ORDER_WAIT;
	}
	if (origin_text == NULL || strcmp(origin_text, "beginning") == 0)
		return CLI_OK;
	if (strcmp(origin_text, "end") == 0)
		chosen.sub.from_end = 1;
	else if (origin_text[0] == '-' && !ends_in_letter(origin_text) &&
	    read_size(origin_text + 1, &last) && last <= UINT32_MAX) {
		chosen.sub.last = (uint32_t)last;
		chosen.sub.from_end = last == 0;
	} else if (origin_text[0] == '-' && read_time(origin_text + 1, &age)) {
		int64_t now = now_ns();

		chosen.since = age < now ? (uint64_t)(now - age) : 0;
	} else
		return cli_usage("-o %s: not beginning, end, -N or -TIME",
		    origin_text);
	return CLI_OK;
}

static int read_form(void)
{
	int forms = (format_text != NULL) + json + hex +
	    (exec.command != NULL), status;

	if (forms > 1)
		return cli_usage("-f, -J, -x and --exec exclude each other");
	if (forms > 0 && framing_given())
		return cli_usage("-F, -0 and -D do not go with -f, -J, -x or "
		    "--exec, which write or run as they say");
	if ((status = framing_chosen(&chosen.framing, false)) != CLI_OK)
		return status;
	if (chosen.framing.kind == FRAMING_FRAME)
		chosen.render = output_frame;
	if (json)
		chosen.render = envelope_render;
	if (hex)
		chosen.render = hexdump_render;
	if (format_text == NULL)
		return CLI_OK;
	chosen.render = format_render;
	return format_set(format_text);
}

static int check_source(const char *const *topics)
{
	if (handles && (topics[0] != NULL || tap || drop || reliable ||
	    exit_at_end || origin_text != NULL || order_text != NULL))
		return cli_usage("--handles takes what it is told on standard "
		    "input: no TOPIC, and neither -e, -o, --order, --drop, "
		    "--reliable nor --tap");
	if (!handles && topics[0] == NULL)
		return cli_usage("no TOPIC is given");
	if (drop && reliable)
		return cli_usage("--drop and --reliable exclude each other");
	if (tap && (drop || reliable))
		return cli_usage("--tap is neither --drop nor --reliable");
	if (tap && topics[1] != NULL)
		return cli_usage("--tap watches one TOPIC (or a pattern)");
	if (tap && exit_at_end)
		return cli_usage("--tap has no end to wait for (-e)");
	if (tap && (origin_text != NULL || order_text != NULL))
		return cli_usage("--tap begins with what comes, as it comes: "
		    "without -o and --order");
	return CLI_OK;
}

static int check_options(const char *const *topics)
{
	int status;

	if ((status = check_source(topics)) != CLI_OK ||
	    (status = read_form()) != CLI_OK ||
	    (status = read_counts()) != CLI_OK ||
	    (status = read_times()) != CLI_OK ||
	    (status = read_origin()) != CLI_OK)
		return status;
	chosen.plain = !stats && chosen.render == NULL &&
	    exec.command == NULL && excluded == NULL && chosen.since == 0 &&
	    chosen.sample == 1 && chosen.apart == 0;
	return CLI_OK;
}

/* ---- losses ---------------------------------------------------------------------- */

static uint64_t lost_in_all(const struct session *s)
{
	uint64_t lost = s->in.gone_lost;

	for (size_t k = 0; k < s->in.count; k++)
		lost += s->in.source[k].lost;
	return lost;
}

static void report_losses(struct session *s, bool at_end)
{
	if (!at_end && now_ns() < s->next_report)
		return;
	s->next_report = now_ns() + SECOND;
	s->broken |= s->in.gone_lost > 0;
	for (size_t k = 0; k < s->in.count; k++) {
		struct source *o = &s->in.source[k];

		if (sources_missed(o) > 0)
			cli_note("%s: %" PRIu32 " publishers are not followed, "
			    "too many came (several narrower patterns follow "
			    "more)", o->topic, o->missed);
		s->missed |= o->missed > 0;
		if (o->lost == o->reported)
			continue;
		s->broken |= o->reliable;
		if (o->reliable)
			cli_error("%s: %" PRIu64 " messages lost", o->topic,
			    o->lost);
		else
			cli_note("%s: %" PRIu64 " messages lost", o->topic,
			    o->lost);
		o->reported = o->lost;
	}
}

/* ---- delivering -------------------------------------------------------------------- */

static int write_failed(void)
{
	cli_error("cannot write standard output: %s", strerror(errno));
	return CLI_ERROR;
}

static bool is_pattern(const char *topic)
{
	return strpbrk(topic, "*?[") != NULL;
}

/* Part by part; in a pattern a missing part is "*". */
static bool matches(const char *pattern, const char *topic)
{
	const char *wild = is_pattern(pattern) ? "*" : "default";
	char full[512];
	int parts = 1;

	for (const char *p = pattern; *p != '\0'; p++)
		parts += *p == '/';
	snprintf(full, sizeof(full), "%.400s%s%s%s%s", pattern,
	    parts < 2 ? "/" : "", parts < 2 ? wild : "",
	    parts < 3 ? "/" : "", parts < 3 ? wild : "");
	return fnmatch(full, topic, FNM_PATHNAME) == 0;
}

/* Is this one to be printed? */
static bool passes(struct session *s, const zcp_msg *msg)
{
	zcp_source origin;
	int64_t now;

	if (msg->time != 0 && msg->time < chosen.since)
		return false;
	for (char **p = excluded; p != NULL && *p != NULL; p++) {
		sources_origin(&s->in, msg, &origin);
		if (matches(*p, origin.topic))
			return false;
	}
	if (chosen.sample > 1 && s->seen++ % chosen.sample != 0)
		return false;
	if (chosen.apart == 0)
		return true;
	if ((now = now_ns()) < s->next_due)
		return false;
	s->next_due = now + chosen.apart;
	return true;
}

static int print(struct session *s, zcp_sub *sub, size_t count,
    const zcp_source *origin)
{
	s->taken += count;
	return output_add(&s->out, sub, s->msg, count, origin) < 0 ?
	    -write_failed() : 0;
}

/* One, if it passes: 0, or minus an exit status. */
static int deliver(struct session *s, zcp_msg *msg, zcp_sub *sub)
{
	zcp_source origin;
	int rc;

	if (stats)
		stats_message(msg);
	if (!passes(s, msg)) {
		s->skipped++;
		if (sub != NULL)
			zcp_release(sub, msg);
		return 0;
	}
	if (chosen.render != NULL || exec.command != NULL)
		sources_origin(&s->in, msg, &origin);
	if (exec.command == NULL)
		return print(s, sub, 1, &origin);
	s->taken++;
	rc = exec_message(&exec, msg, &origin);
	if (sub != NULL)
		zcp_release(sub, msg);
	return rc < 0 ? -CLI_ERROR : 0;
}

/* Several messages that are printed as they are, one that must pass, or what
 * else there is to take; as sources_take(). */
static int take_some(struct session *s, size_t *count)
{
	uint64_t left = chosen.limit - s->taken;
	size_t most = output_room(&s->out);
	zcp_sub *sub;
	int rc, status;

	*count = !chosen.plain ? 1 : left < most ? (size_t)left : most;
	rc = sources_take(&s->in, s->msg, count, &sub);
	if (rc == HOLDS_FULL) {
		if (output_flush(&s->out) < 0)
			return -write_failed();
		rc = sources_take(&s->in, s->msg, count, &sub);
	}
	if (rc != TAKEN)
		return rc;
	status = chosen.plain ? print(s, sub, *count, NULL) :
	    deliver(s, s->msg, sub);
	return status < 0 ? status : TAKEN;
}

/* Takes what there is, up to a round: TAKEN (or told of a loss), NOTHING,
 * NO_MORE, or minus an exit status. */
static int take_round(struct session *s)
{
	int rc = NOTHING;
	bool some = false;

	for (size_t i = 0, n; i < ROUND && s->taken < chosen.limit; i += n) {
		if ((rc = take_some(s, &n)) != TAKEN && rc != SOME_LOST)
			break;
		some = true;
		/* A command may take long, and its end be wished. */
		if (exec.command != NULL && (cli_signal() ||
		    now_ns() >= s->deadline))
			break;
	}
	return rc < 0 ? rc : some ? TAKEN : rc;
}

/* ---- ends -------------------------------------------------------------------------- */

static int ended_status(struct session *s, const char *died)
{
	if (died[0] == '\0')
		return CLI_OK;
	cli_error("publisher %s died: the stream may be cut after %" PRIu64
	    " messages", died, s->taken);
	return CLI_ERROR;
}

static int timed_out(const struct session *s)
{
	if (s->taken > 0 && !chosen.counted && !exit_at_end)
		return CLI_OK;
	cli_note("timed out after %" PRIu64 " messages", s->taken);
	return CLI_TIMEOUT;
}

static int wait_for_more(struct session *s)
{
	int64_t until = s->last + chosen.idle, left;

	if (s->deadline < until)
		until = s->deadline;
	left = until - now_ns();
	if (left > LOOK)
		left = LOOK;
	if (left < 0)
		left = 0;
	exec_reap(&exec);
	/* As the next write would find. */
	if (cli_unread())
		cli_broken_pipe();
	return sources_wait(&s->in, left);
}

static int follow(struct session *s)
{
	char died[64];
	bool wrote;
	int rc;

	while (!cli_signal() && s->taken < chosen.limit) {
		if ((rc = take_round(s)) < 0)
			return -rc;
		report_losses(s, false);
		stats_tick(lost_in_all(s));
		if (rc == TAKEN)
			s->last = now_ns();
		if (now_ns() >= s->deadline && s->taken < chosen.limit)
			return timed_out(s);
		if (rc == TAKEN)
			continue;
		/* Idle: what was taken goes out now, which may take its time. */
		wrote = s->out.pieces > 0;
		if (output_flush(&s->out) < 0)
			return write_failed();
		if (wrote)
			s->last = now_ns();
		if (rc == NO_MORE)
			return CLI_OK;
		if (exit_at_end && (rc = sources_ended(&s->in, died)) != 0)
			return rc < 0 ? -rc : ended_status(s, died);
		if (now_ns() - s->last >= chosen.idle)
			return timed_out(s);
		if ((rc = wait_for_more(s)) != CLI_OK)
			return rc;
	}
	return CLI_OK;
}

/* ---- the command ----------------------------------------------------------------------- */

static int open_sources(struct session *s, const char *const *topics)
{
	bool recording = chosen.framing.kind == FRAMING_FRAME;
	zcp_sub_options o = chosen.sub;
	int status = CLI_OK;

	if (handles)
		return sources_handles(&s->in);
	if (tap)
		return sources_tap(&s->in, topics[0]);
	s->in.order = o.merge;
	for (; *topics != NULL && status == CLI_OK; topics++) {
		o.lossy = drop || (!reliable && !recording &&
		    is_pattern(*topics));
		status = sources_subscribe(&s->in, *topics, &o);
	}
	return status;
}

static int sum_up(struct session *s, int status)
{
	uint64_t lost;

	exec_wait(&exec);
	/* With as many messages as were asked for, what was lost behind them
	 * does not matter. */
	if (s->taken < chosen.limit)
		sources_look_for_losses(&s->in);
	lost = lost_in_all(s);
	report_losses(s, true);
	stats_end(lost);
	if (exec.failed > 0)
		cli_error("%" PRIu64 " of %" PRIu64 " commands failed",
		    exec.failed, exec.started);
	if (cli.verbose && s->skipped > 0)
		cli_note("%" PRIu64 " messages, %" PRIu64 " lost, %" PRIu64
		    " not printed", s->taken, lost, s->skipped);
	else if (cli.verbose)
		cli_note("%" PRIu64 " messages, %" PRIu64 " lost", s->taken,
		    lost);
	if (status == CLI_OK && (exec.failed > 0 || s->in.refusals.count > 0))
		return CLI_ERROR;
	return status == CLI_OK && (s->broken || (fail_on_loss &&
	    (lost > 0 || s->missed))) ? CLI_LOSS : status;
}

static int run(const char *const *operands)
{
	struct session *s = &session;
	int status;

	if ((status = check_options(operands)) != CLI_OK)
		return status;
	cli_catch_signals();
	if (exec.command != NULL)
		exec_prepare();
	output_init(&s->out, STDOUT_FILENO, &chosen.framing, chosen.render);
	s->out.most = chosen.most;
	s->last = now_ns();
	s->deadline = s->last + chosen.timeout;
	if ((status = cli_open(&s->in.bus)) != CLI_OK)
		return status;
	if ((status = open_sources(s, operands)) == CLI_OK) {
		if (stats)
			stats_begin(json);
		status = follow(s);
		if (output_flush(&s->out) < 0)
			status = write_failed();
		status = sum_up(s, status);
	}
	sources_close(&s->in);
	zcp_close(&s->in.bus);
	return status;
}

int main(int argc, const char **argv)
{
	return cli_main(argc, argv, options, "TOPIC...", run);
}
