/* zcp-pub - publish standard input, files or texts. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"
#include "framing.h"
#include "progress.h"
#include "replay.h"
#include "sender.h"
#include "stream.h"
#include "units.h"

/* A chunk of a stream holds some hundred lines, and several are to be on the
 * way. */
enum { SLOTS = 1024, STREAM_SLOTS = 8192, HISTORY_MOST = 1 << 19 };
#define REDEEM_LAST (10 * SECOND)

static char *wait_text, *wait_time_text, *history_text, *retain_text,
    *rate_text, *repeat_text, *interval_text, *timed_text, *kind_text,
    *count_text, *drain_text, *timeout_publish_text;
static char **messages;
static int drop, tee, handles;

static struct poptOption options[] = {
	FRAMING_OPTIONS,
	{ "message", 'm', POPT_ARG_ARGV, &messages, 0,
	    "publish TEXT, before the files if any, instead of standard input "
	    "(repeatable)", "TEXT" },
	{ "count", 'n', POPT_ARG_STRING, &count_text, 0,
	    "stop after N messages", "N" },
	{ "rate", 'r', POPT_ARG_STRING, &rate_text, 0,
	    "at most so many messages a second, evenly (1000/s, 10/min)",
	    "RATE" },
	{ "repeat", '\0', POPT_ARG_STRING | POPT_ARGFLAG_OPTIONAL,
	    &repeat_text, 0, "publish all of it N times (without N: until "
	    "ended)", "N" },
	{ "interval", '\0', POPT_ARG_STRING, &interval_text, 0,
	    "so long from one time to the next (implies --repeat)", "TIME" },
	{ "timed", '\0', POPT_ARG_STRING | POPT_ARGFLAG_OPTIONAL, &timed_text,
	    0, "-F frame: with the recording's spacing, SPEED times as fast "
	    "(1)", "SPEED" },
	{ "type", '\0', POPT_ARG_STRING, &kind_text, 0,
	    "the messages' user type, 0 (default) to 65535", "N" },
	{ "tee", 'T', POPT_ARG_NONE, &tee, 0,
	    "write what is published to standard output, too", NULL },
	{ "wait", 'w', POPT_ARG_STRING, &wait_text, 0,
	    "first wait until N readers have joined", "N" },
	{ "timeout", 'W', POPT_ARG_STRING, &wait_time_text, 0,
	    "wait for them at most so long (10s, 250ms); with --handles, for "
	    "a first redeemer at the end (10s)", "TIME" },
	{ "history", '\0', POPT_ARG_STRING, &history_text, 0,
	    "keep the last N messages for readers that come later", "N" },
	{ "retain", '\0', POPT_ARG_STRING | POPT_ARGFLAG_OPTIONAL,
	    &retain_text, 0, "keep them after the end, too, for TIME (1h); "
	    "without --history the last one", "TIME" },
	{ "drop", '\0', POPT_ARG_NONE, &drop, 0,
	    "never wait for a reader or for memory: drop and count", NULL },
	{ "timeout-publish", '\0', POPT_ARG_STRING, &timeout_publish_text, 0,
	    "end with status 3 when a message has found no room for TIME",
	    "TIME" },
	{ "drain", '\0', POPT_ARG_STRING, &drain_text, 0,
	    "after a first INT, TERM or HUP go on publishing what was read "
	    "for at most TIME (default 1s)", "TIME" },
	{ "handles", '\0', POPT_ARG_NONE, &handles, 0,
	    "print a handle a message, for zcp-sub --handles, instead of "
	    "routing", NULL },
	CLI_COMMON,
	POPT_AUTOHELP
	POPT_TABLEEND
};

static const struct cli_optional optional[] = {
	{ "--retain", "--retain=1h" },
	{ "--repeat", "--repeat=0" },
	{ "--timed", "--timed=1" },
	{ NULL, NULL }
};

/* What the options say, checked. */
static struct {
	struct framing framing;
	zcp_pub_options pub;
	uint64_t rounds;		/* times that all is published */
	int64_t interval;		/* ns between them, start to start */
	double speed;
	uint64_t readers;
	int64_t readers_timeout;
} chosen;

/* ---- options ------------------------------------------------------------------ */

/* Are many messages read at once, and sent as fast as they come? */
static bool streams(const char *const *files)
{
	return chosen.framing.kind == FRAMING_DELIMITED && rate_text == NULL &&
	    !handles && (messages == NULL || files[0] != NULL);
}

/* --history and --retain; a ring holds twice its history. */
static int read_history(zcp_pub_options *o)
{
	uint64_t history = retain_text != NULL ? 1 : 0;

	if (history_text != NULL && (!read_size(history_text, &history) ||
	    history > HISTORY_MOST))
		return cli_usage("--history %s: not a count up to %d",
		    history_text, HISTORY_MOST);
	if (retain_text != NULL && history == 0)
		return cli_usage("--retain keeps nothing of --history 0");
	if (retain_text != NULL && (!read_time(retain_text, &o->retain) ||
	    o->retain == 0))
		return cli_usage("--retain=%s: not a time (1h, 10m)",
		    retain_text);
	o->history = (uint32_t)history;
	for (; o->slots < 2 * history; o->slots *= 2)
		;
	return CLI_OK;
}

static int read_pace(void)
{
	double rate;

	if (rate_text != NULL) {
		if (!read_rate(rate_text, &rate))
			return cli_usage("-r %s: not a rate (1000/s, 10/min)",
			    rate_text);
		pace_set(&sending.pace, rate);
	}
	chosen.rounds = 1;
	if (repeat_text != NULL && !read_size(repeat_text, &chosen.rounds))
		return cli_usage("--repeat=%s: not a count", repeat_text);
	if (interval_text != NULL && !read_time(interval_text,
	    &chosen.interval))
		return cli_usage("--interval %s: not a time (1s, 250ms)",
		    interval_text);
	if ((interval_text != NULL && repeat_text == NULL) ||
	    chosen.rounds == 0)
		chosen.rounds = UINT64_MAX;
	if (timed_text == NULL)
		return CLI_OK;
	if (chosen.framing.kind != FRAMING_FRAME)
		return cli_usage("--timed goes with -F frame, which knows the "
		    "times");
	if (rate_text != NULL)
		return cli_usage("--timed and -r exclude each other");
	if (!read_rate(timed_text, &chosen.speed) ||
	    strchr(timed_text, '/') != NULL)
		return cli_usage("--timed=%s: not a speed (1, 0.5, 10)",
		    timed_text);
	return CLI_OK;
}

static int read_numbers(void)
{
	uint64_t kind = 0;

	sending.limit = UINT64_MAX;
	if (count_text != NULL && !read_size(count_text, &sending.limit))
		return cli_usage("-n %s: not a count", count_text);
	if (kind_text != NULL && (!read_size(kind_text, &kind) ||
	    kind > UINT16_MAX))
		return cli_usage("--type %s: not a number up to %d", kind_text,
		    UINT16_MAX);
	sending.kind = (uint32_t)kind;
	if (drain_text != NULL && !read_time(drain_text, &sending.drain))
		return cli_usage("--drain %s: not a time (10s, 250ms)",
		    drain_text);
	if (timeout_publish_text != NULL && drop)
		return cli_usage("--timeout-publish and --drop exclude each "
		    "other: --drop never waits");
	if (timeout_publish_text != NULL &&
	    !read_time(timeout_publish_text, &sending.timeout))
		return cli_usage("--timeout-publish %s: not a time (10s, "
		    "250ms)", timeout_publish_text);
	if (wait_text != NULL && (!read_size(wait_text, &chosen.readers) ||
	    chosen.readers > INT32_MAX))
		return cli_usage("-w %s: not a count", wait_text);
	chosen.readers_timeout = handles ? REDEEM_LAST : -1;
	if (wait_time_text == NULL)
		return CLI_OK;
	if (wait_text == NULL && !handles)
		return cli_usage("-W %s: goes with -w or --handles",
		    wait_time_text);
	if (!read_time(wait_time_text, &chosen.readers_timeout))
		return cli_usage("-W %s: not a time (10s, 250ms)",
		    wait_time_text);
	return CLI_OK;
}

static int check_frames(void)
{
	if (messages != NULL)
		return cli_usage("-m makes no frames (-F frame)");
	if (kind_text != NULL)
		return cli_usage("--type: frames have their own (-F frame)");
	if (tee)
		return cli_usage("-T and -F frame exclude each other (tee(1) "
		    "does that)");
	if (handles)
		return cli_usage("--handles and -F frame exclude each other");
	return CLI_OK;
}

static int check_options(const char *const *operands)
{
	bool frames;
	int status;

	if ((status = framing_chosen(&chosen.framing, true)) != CLI_OK)
		return status;
	frames = chosen.framing.kind == FRAMING_FRAME;
	if (frames && (status = check_frames()) != CLI_OK)
		return status;
	if (!frames && operands[0] == NULL)
		return cli_usage("no TOPIC is given");
	if (tee && handles)
		return cli_usage("-T and --handles both want standard output");
	if (handles && (wait_text != NULL || drop || history_text != NULL ||
	    retain_text != NULL))
		return cli_usage("--handles goes without -w, --drop, --history "
		    "and --retain: nobody subscribes to them");
	sending.drop = drop;
	sending.handles = handles;
	chosen.pub.lossy = drop;
	chosen.pub.unlisted = handles;
	chosen.pub.stamp = ZCP_STAMP_BATCH;
	chosen.pub.slots = !frames && streams(operands + 1) ? STREAM_SLOTS :
	    SLOTS;
	if ((status = read_history(&chosen.pub)) != CLI_OK ||
	    (status = read_pace()) != CLI_OK)
		return status;
	return read_numbers();
}

/* ---- publishing ------------------------------------------------------------------ */

static int await_readers(zcp_pub *pub)
{
	int64_t began = now_ns(), left;
	int rc;

	if (chosen.readers == 0)
		return CLI_OK;
	do {
		left = chosen.readers_timeout < 0 ? SECOND :
		    began + chosen.readers_timeout - now_ns();
		rc = zcp_pub_wait_readers(pub, (int)chosen.readers,
		    left < 0 ? 0 : left < SECOND ? left : SECOND);
		if (rc == -ZCP_E_TIMEOUT && left >= SECOND && cli.verbose)
			cli_note("waits for %" PRIu64 " readers, %d are there",
			    chosen.readers, zcp_pub_readers(pub));
	} while ((rc == -ZCP_E_TIMEOUT && left >= SECOND) ||
	    (rc == -ZCP_E_INTR && !cli_signal()));
	if (rc == -ZCP_E_INTR)
		return CLI_ERROR;
	return rc < 0 ? cli_failed(rc) : CLI_OK;
}

/* Of all input; 0: nobody knows. */
static uint64_t total_size(const char *const *files)
{
	uint64_t total = 0;
	struct stat st;

	if (chosen.rounds > 1 || sending.limit != UINT64_MAX)
		return 0;
	for (; *files != NULL; files++) {
		if ((strcmp(*files, "-") == 0 ? fstat(STDIN_FILENO, &st) :
		    stat(*files, &st)) < 0 || !S_ISREG(st.st_mode))
			return 0;
		total += (uint64_t)st.st_size;
	}
	return total;
}

/* Standard input is read again, from where it was, only where it can be. */
static int rewind_input(const char *const *files)
{
	static off_t began = -1;

	if (began < 0)
		began = lseek(STDIN_FILENO, 0, SEEK_CUR);
	for (; *files != NULL; files++)
		if (strcmp(*files, "-") == 0 && (began < 0 ||
		    lseek(STDIN_FILENO, began, SEEK_SET) < 0)) {
			cli_error("cannot read standard input again for "
			    "--repeat, it is no file: name files, or -m TEXT");
			return CLI_ERROR;
		}
	return CLI_OK;
}

/* Is a person at the terminal to type the messages? */
static bool types_here(const char *const *files)
{
	for (; *files != NULL; files++)
		if (strcmp(*files, "-") == 0 && isatty(STDIN_FILENO))
			return true;
	return false;
}

static int publish_texts(struct stream *s)
{
	int status = CLI_OK;

	for (char **m = messages; m != NULL && *m != NULL &&
	    status == CLI_OK && sending_left() > 0 && !cli_signal(); m++)
		status = stream_text(s, *m);
	return status;
}

/* One time; to a topic of its own, or as the frames say. */
static int publish_once(struct stream *s, struct replay *r,
    const char *const *files)
{
	int status = s != NULL ? publish_texts(s) : CLI_OK;

	for (; *files != NULL && status == CLI_OK && sending_left() > 0 &&
	    !cli_signal(); files++)
		status = s != NULL ? stream_file(s, *files) :
		    replay_file(r, *files);
	return status;
}

static int publish_all(struct stream *s, struct replay *r,
    const char *const *files)
{
	static const char *const standard_input[] = { "-", NULL };
	int64_t next = now_ns();
	int status = CLI_OK;

	if (*files == NULL && messages == NULL)
		files = standard_input;
	if (chosen.rounds > 1 && (status = rewind_input(files)) != CLI_OK)
		return status;
	if (!types_here(files))
		progress_begin(total_size(files));
	for (uint64_t round = 0; round < chosen.rounds && status == CLI_OK &&
	    sending_left() > 0 && pace_until(next); round++) {
		uint64_t left = sending_left();

		if (round > 0 && (status = rewind_input(files)) != CLI_OK)
			break;
		if (r != NULL)
			r->first = 0;
		/* No burst after it was held up. */
		if (now_ns() - next > chosen.interval)
			next = now_ns();
		next += chosen.interval;
		status = publish_once(s, r, files);
		/* Nothing, over and over, as fast as it goes? */
		if (chosen.interval == 0 && sending_left() == left)
			break;
	}
	progress_end();
	return status;
}

/* ---- the command ------------------------------------------------------------------------ */

static void tell(const zcp_pub *pub, const char *topic)
{
	uint64_t history = chosen.pub.history;
	zcp_pub_info info;

	zcp_pub_status(pub, &info);
	if (!cli.verbose)
		return;
	cli_note("%s: %" PRIu64 " messages, %" PRIu64 " bytes", topic,
	    info.messages, info.bytes);
	if (info.cut > 0)
		cli_note("%s: %" PRIu64 " messages of the history were given "
		    "up for memory (zcp-routed --pool makes more)", topic,
		    info.cut);
	if (info.unseen > history)
		cli_note("%s: %" PRIu64 " messages had no subscriber and are "
		    "gone", topic, info.unseen - history);
}

static int run_frames(zcp *bus, const char *const *files)
{
	struct replay r = { .bus = bus, .options = &chosen.pub,
	    .opened = await_readers, .speed = chosen.speed };
	int status = publish_all(NULL, &r, files);

	replay_close(&r, tell);
	return status;
}

static int run_topic(zcp *bus, const char *topic, const char *const *files)
{
	static struct stream s;
	int status, rc;

	if ((rc = zcp_offer(bus, topic, &chosen.pub, &s.pub)) < 0)
		return cli_failed(rc);
	s.framing = chosen.framing;
	s.tee = tee;
	stream_open(&s, bus);
	if ((status = await_readers(s.pub)) == CLI_OK) {
		status = publish_all(&s, NULL, files);
		tell(s.pub, topic);
	}
	stream_close(&s);
	if (status == CLI_OK && handles)
		status = send_until_redeemed(s.pub, chosen.readers_timeout);
	zcp_stop_offer(&s.pub);
	return status;
}

static int run(const char *const *operands)
{
	int status;
	zcp *bus;

	if ((status = check_options(operands)) != CLI_OK)
		return status;
	cli_catch_signals();
	if ((status = cli_open(&bus)) != CLI_OK)
		return status;
	status = chosen.framing.kind == FRAMING_FRAME ?
	    run_frames(bus, operands) :
	    run_topic(bus, operands[0], operands + 1);
	if (sending.dropped > 0)
		cli_note("%" PRIu64 " messages dropped, no room or memory",
		    sending.dropped);
	zcp_close(&bus);
	return status;
}

int main(int argc, const char **argv)
{
	cli.optional = optional;
	return cli_main(argc, argv, options, "TOPIC [FILE...]", run);
}
