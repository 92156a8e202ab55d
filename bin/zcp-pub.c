/*
 * zcp-pub - publish standard input.
 *
 * Input is read straight into a loaned chunk; what is whole in it is
 * published in place, as several messages of one chunk, and what is not is
 * carried over to the next one.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"
#include "framing.h"
#include "zcp.h"

enum {
	STREAM_CHUNK = 65536,
	INLINE_MOST = 32,
	PARTS = 4096,
	SLOTS = 1024,
	HISTORY_MOST = 1 << 19,
};
#define SECOND INT64_C(1000000000)

static char *framing_text, *wait_text, *wait_time_text, *history_text,
    *retain_text;
static char **messages;
static int nul, drop;
static long long count = INT64_MIN;	/* not given */

static struct poptOption options[] = {
	{ "framing", 'F', POPT_ARG_STRING, &framing_text, 0,
	    "line (default), nul, raw, raw:SIZE or u32be", "FRAMING" },
	{ "null", '0', POPT_ARG_NONE, &nul, 0, "the same as -F nul", NULL },
	{ "message", 'm', POPT_ARG_ARGV, &messages, 0,
	    "publish TEXT instead of reading input (repeatable)", "TEXT" },
	{ "count", 'n', POPT_ARG_LONGLONG, &count, 0,
	    "stop after N messages", "N" },
	{ "wait", 'w', POPT_ARG_STRING, &wait_text, 0,
	    "first wait until N readers have joined", "N" },
	{ "timeout", 'W', POPT_ARG_STRING, &wait_time_text, 0,
	    "wait for them at most so long (10s, 250ms)", "TIME" },
	{ "history", '\0', POPT_ARG_STRING, &history_text, 0,
	    "keep the last N messages for readers that come later", "N" },
	{ "retain", '\0', POPT_ARG_STRING | POPT_ARGFLAG_OPTIONAL,
	    &retain_text, 0, "keep them after the end, too, for TIME (1h); "
	    "without --history the last one", "TIME" },
	{ "drop", '\0', POPT_ARG_NONE, &drop, 0,
	    "never wait for a reader or for memory: drop and count", NULL },
	CLI_COMMON,
	POPT_AUTOHELP
	POPT_TABLEEND
};

struct stream {
	zcp_pub *pub;
	struct framing framing;
	const char *source;		/* its name, for messages */
	size_t largest;
	zcp_chunk chunk;		/* being filled */
	zcp_chunk spare;		/* with --drop: the one after it */
	size_t start, fill;		/* [start, fill) is not published yet */
	char *carry;			/* what goes to the next chunk */
	size_t carried, carry_room;
	zcp_part part[PARTS];
	size_t parts;
	uint64_t sent, dropped;
};

/* ---- publishing ------------------------------------------------------------------ */

static bool enough(const struct stream *s)
{
	return count != INT64_MIN && s->sent + s->dropped >= (uint64_t)count;
}

/* Waiting goes on through signals: what was read is delivered. */
static bool go_on(const struct stream *s, int rc)
{
	char who[160];

	if (rc == -ZCP_E_INTR)
		return true;
	if (rc != -ZCP_E_TIMEOUT)
		return false;
	if (!cli.verbose)
		return true;
	if (zcp_pub_blocker(s->pub, who, sizeof(who)))
		cli_note("waits for %s", who);
	else
		cli_note("waits for memory, which all topics share: %s",
		    zcp_errmsg());
	return true;
}

static bool dropped(struct stream *s, int rc, size_t n)
{
	if (!drop || (rc != -ZCP_E_NOMEM && rc != -ZCP_E_TIMEOUT))
		return false;
	s->dropped += n;
	return true;
}

static int publish(struct stream *s, zcp_chunk *chunk)
{
	size_t done = 0;
	int rc = 0;

	while (done < s->parts) {
		rc = zcp_publish_parts(s->pub, chunk, s->part + done,
		    s->parts - done, drop ? 0 : SECOND);
		if (rc > 0)
			done += (size_t)rc;
		else if (dropped(s, rc, s->parts - done) || !go_on(s, rc))
			break;
	}
	s->sent += done;
	s->parts = 0;
	zcp_discard(s->pub, chunk);
	return rc > 0 || drop ? 0 : rc;
}

static int send_small(struct stream *s, const char *data, size_t size)
{
	int rc;

	do
		rc = zcp_send(s->pub, data, size, 0, drop ? 0 : SECOND);
	while (rc < 0 && !drop && go_on(s, rc));
	if (rc == 1)
		s->sent++;
	else if (!dropped(s, rc, 1))
		return rc;
	return 0;
}

/*
 * A large chunk with little in it is not given away: a copy goes instead, if
 * there is memory for one.  *done: it went (or was dropped).
 */
static int publish_copy(struct stream *s, bool *done)
{
	size_t first = s->part[0].offset, bytes;
	const zcp_part *last = &s->part[s->parts - 1];
	zcp_chunk copy;
	int rc;

	*done = true;

	if (s->parts == 1 && last->length <= INLINE_MOST) {
		s->parts = 0;
		return send_small(s, (char *)s->chunk.data + first,
		    last->length);
	}
	bytes = last->offset + last->length - first;
	rc = zcp_loan(s->pub, bytes, &copy, 0);
	if (rc == -ZCP_E_NOMEM && !drop) {
		*done = false;
		return 0;
	}
	if (rc < 0) {
		if (!dropped(s, rc, s->parts))
			return rc;
		s->parts = 0;
		return 0;
	}
	memcpy(copy.data, (char *)s->chunk.data + first, bytes);
	for (size_t i = 0; i < s->parts; i++)
		s->part[i].offset -= (uint32_t)first;
	return publish(s, &copy);
}

static int keep(struct stream *s)
{
	size_t n = s->fill - s->start;

	if (n > s->carry_room) {
		char *bigger = realloc(s->carry, n);

		if (bigger == NULL) {
			cli_error("out of memory");
			return -ZCP_E_SYS;
		}
		s->carry = bigger;
		s->carry_room = n;
	}
	if (n > 0)
		memcpy(s->carry, (char *)s->chunk.data + s->start, n);
	s->carried = n;
	s->start = s->fill = 0;
	return 0;
}

/*
 * A chunk is given away when it is half full at least; one that drops rather
 * than waits only when it has another one to read into.
 */
static bool worth_giving(struct stream *s)
{
	if ((s->start - s->part[0].offset) * 2 <= s->chunk.size)
		return false;
	return !drop || s->spare.data != NULL ||
	    zcp_loan(s->pub, s->chunk.size, &s->spare, 0) == 0;
}

static int publish_found(struct stream *s)
{
	bool done = false;
	int rc;

	if (s->parts == 0)
		return 0;
	if (!worth_giving(s) && (rc = publish_copy(s, &done)) < 0)
		return rc;
	if (done) {
		if (s->start == s->fill)
			s->start = s->fill = 0;
		return 0;
	}
	if ((rc = keep(s)) < 0)
		return rc;
	return publish(s, &s->chunk);
}

static void add_part(struct stream *s, size_t offset, size_t length)
{
	s->part[s->parts++] = (zcp_part){ (uint32_t)offset, (uint32_t)length };
}

/* Publishes every message that is whole. */
static int cut(struct stream *s)
{
	size_t offset, length, n;
	int rc = 0;

	while (rc == 0 && s->chunk.data != NULL && !enough(s) &&
	    (n = framing_next(&s->framing, (char *)s->chunk.data + s->start,
	    s->fill - s->start, &offset, &length)) > 0) {
		add_part(s, s->start + offset, length);
		s->start += n;
		if (s->parts == PARTS || (count != INT64_MIN && s->sent + s->dropped +
		    s->parts >= (uint64_t)count))
			rc = publish_found(s);
	}
	return rc < 0 ? rc : publish_found(s);
}

/* ---- reading ------------------------------------------------------------------------ */

/* How large the next chunk must be for what was carried over, and more. */
static size_t next_size(const struct stream *s)
{
	size_t want = s->largest < STREAM_CHUNK ? s->largest : STREAM_CHUNK;
	size_t need = framing_need(&s->framing, s->carry, s->carried);

	if (need < s->carried + 1)
		need = s->carried + 1;
	if (need < want)
		return want;
	/* A message whose end is not in sight: twice as much each time. */
	if (s->carried >= want && need < 2 * s->carried &&
	    2 * s->carried <= s->largest)
		return 2 * s->carried;
	return need;
}

static int next_chunk(struct stream *s)
{
	size_t need = next_size(s);
	int rc;

	if (s->spare.data != NULL && s->spare.size >= need) {
		s->chunk = s->spare;
		s->spare.data = NULL;
		return 0;
	}
	do
		rc = zcp_loan(s->pub, need, &s->chunk, SECOND);
	while (rc < 0 && go_on(s, rc));
	return rc;
}

/* A chunk with room to read into, what was carried over in front. */
static int make_room(struct stream *s)
{
	int rc;

	if (s->chunk.data != NULL && s->fill == s->chunk.size && s->start > 0) {
		memmove(s->chunk.data, (char *)s->chunk.data + s->start,
		    s->fill - s->start);
		s->fill -= s->start;
		s->start = 0;
	}
	if (s->chunk.data != NULL) {
		if (s->fill < s->chunk.size)
			return 0;
		/* Full, and its end is not in sight: on to a larger one. */
		if ((rc = keep(s)) < 0)
			return rc;
		zcp_discard(s->pub, &s->chunk);
	}
	if ((rc = next_chunk(s)) < 0)
		return rc;
	if (s->carried > 0)
		memcpy(s->chunk.data, s->carry, s->carried);
	s->start = 0;
	s->fill = s->carried;
	s->carried = 0;
	return 0;
}

/*
 * Waits for input or a signal.  While nothing comes the chunk is given back:
 * many publishers may wait for input, and others want the memory.
 */
static int await_input(struct stream *s, int fd)
{
	struct pollfd p[2] = { { .fd = fd, .events = POLLIN },
	    { .fd = cli_signal_fd(), .events = POLLIN } };
	int rc;

	if (poll(p, 2, 0) > 0)
		return 0;
	if (s->chunk.data != NULL) {
		if ((rc = keep(s)) < 0)
			return rc;
		zcp_discard(s->pub, &s->chunk);
	}
	while (poll(p, 2, -1) < 0 && errno == EINTR && !cli_signal())
		;
	return 0;
}

/* Bytes read, 0 at the end of input or when a signal says so, or -1. */
static ssize_t read_input(struct stream *s, int fd)
{
	ssize_t n;

	do {
		if (cli_signal())
			return 0;
		n = read(fd, (char *)s->chunk.data + s->fill,
		    s->chunk.size - s->fill);
	} while (n < 0 && errno == EINTR);
	return n;
}

/*
 * A message that fills the largest chunk to the last byte is whole when its
 * delimiter comes next; one that goes on is too large.  A frame says so in
 * advance.
 */
static int look_beyond(struct stream *s, int fd)
{
	size_t left = s->fill - s->start;
	zcp_chunk none;
	size_t need;
	ssize_t n;
	char c;

	if (s->chunk.data == NULL)
		return 0;
	need = framing_need(&s->framing, (char *)s->chunk.data + s->start,
	    left);
	if (need > s->largest)
		return zcp_loan(s->pub, need, &none, 0);
	if (left < s->largest || s->framing.kind != FRAMING_DELIMITED)
		return 0;
	do
		n = read(fd, &c, 1);
	while (n < 0 && errno == EINTR && !cli_signal());
	if (n == 1 && c != s->framing.delimiter)
		return zcp_loan(s->pub, left + 1, &none, 0);
	add_part(s, s->start, left);
	s->start = s->fill;
	return publish_found(s);
}

/* The last message needs no delimiter; a cut frame is an error. */
static int finish(struct stream *s)
{
	size_t left = s->fill - s->start;

	if (s->chunk.data == NULL || left == 0 || enough(s))
		return 0;
	if (s->framing.kind == FRAMING_U32BE) {
		size_t need = framing_need(&s->framing,
		    (char *)s->chunk.data + s->start, left);

		cli_error("%s: the last frame is cut: %zu of %zu bytes",
		    s->source, left, need);
		return -ZCP_E_ARG;
	}
	add_part(s, s->start, left);
	s->start = s->fill;
	return publish_found(s);
}

static int publish_stream(struct stream *s, int fd)
{
	struct stat st;
	bool waits = fstat(fd, &st) < 0 || !S_ISREG(st.st_mode);
	ssize_t n = 1;
	int rc = 0;

	while (n > 0 && !enough(s) && !cli_signal()) {
		if ((waits && (rc = await_input(s, fd)) < 0) ||
		    (rc = make_room(s)) < 0)
			return cli_failed(rc);
		if ((n = read_input(s, fd)) < 0) {
			if (errno == EAGAIN) {
				n = 1;		/* somebody else was faster */
				continue;
			}
			cli_error("cannot read %s: %s", s->source,
			    strerror(errno));
			return CLI_ERROR;
		}
		s->fill += (size_t)n;
		if ((rc = cut(s)) < 0 || (rc = look_beyond(s, fd)) < 0)
			return cli_failed(rc);
	}
	/* What a chunk that was given away left behind: whole messages too. */
	while (n == 0 && s->carried > 0 && !enough(s))
		if ((rc = make_room(s)) < 0 || (rc = cut(s)) < 0)
			return cli_failed(rc);
	if ((rc = finish(s)) == -ZCP_E_ARG)
		return CLI_ERROR;
	if (rc < 0)
		return cli_failed(rc);
	s->start = s->fill = 0;
	return CLI_OK;
}

static int publish_file(struct stream *s, const char *path)
{
	int fd = STDIN_FILENO, status;

	s->source = "standard input";
	if (strcmp(path, "-") != 0) {
		s->source = path;
		if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0) {
			bool denied = errno == EACCES;

			cli_error("cannot open %s: %s%s", path, strerror(errno),
			    errno == ENOENT ? " (-m TEXT publishes a text)" :
			    "");
			return denied ? CLI_PERMISSION : CLI_ERROR;
		}
	}
	status = publish_stream(s, fd);
	if (fd != STDIN_FILENO)
		close(fd);
	return status;
}

static int publish_messages(struct stream *s)
{
	int rc;

	for (char **m = messages; *m != NULL && !enough(s); m++)
		if ((rc = send_small(s, *m, strlen(*m))) < 0)
			return cli_failed(rc);
	return CLI_OK;
}

static int publish_all(struct stream *s, const char *const *files)
{
	static const char *const standard_input[] = { "-", NULL };
	int status = CLI_OK;

	if (messages != NULL)
		return publish_messages(s);
	if (*files == NULL)
		files = standard_input;
	for (; *files != NULL && status == CLI_OK && !enough(s) &&
	    !cli_signal(); files++)
		status = publish_file(s, *files);
	return status;
}

/* ---- the command ------------------------------------------------------------------------ */

static int await_readers(zcp_pub *pub)
{
	int64_t timeout = -1;
	uint64_t readers;
	int rc;

	if (wait_text == NULL)
		return CLI_OK;
	cli_size(wait_text, &readers);
	if (wait_time_text != NULL)
		cli_time(wait_time_text, &timeout);
	rc = zcp_pub_wait_readers(pub, (int)readers, timeout);
	if (rc == -ZCP_E_INTR && cli_signal())
		return CLI_ERROR;
	return rc < 0 ? cli_failed(rc) : CLI_OK;
}

static void summary(const struct stream *s, const char *topic,
    uint64_t history)
{
	zcp_pub_info info;

	zcp_pub_status(s->pub, &info);
	if (s->dropped > 0)
		cli_note("%s: %" PRIu64 " messages dropped, no room or memory",
		    topic, s->dropped);
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

/* --history and --retain; a ring holds twice its history. */
static int read_history(zcp_pub_options *o)
{
	uint64_t history = retain_text != NULL ? 1 : 0;

	if (history_text != NULL && (!cli_size(history_text, &history) ||
	    history > HISTORY_MOST))
		return cli_usage("--history %s: not a count up to %d",
		    history_text, HISTORY_MOST);
	if (retain_text != NULL && history == 0)
		return cli_usage("--retain keeps nothing of --history 0");
	if (retain_text != NULL && (!cli_time(retain_text, &o->retain) ||
	    o->retain == 0))
		return cli_usage("--retain=%s: not a time (1h, 10m)",
		    retain_text);
	o->history = (uint32_t)history;
	for (o->slots = SLOTS; o->slots < 2 * history; o->slots *= 2)
		;
	return CLI_OK;
}

static int check_options(const char *const *operands, struct framing *framing)
{
	uint64_t readers;
	int64_t time;

	if (operands[0] == NULL)
		return cli_usage("no TOPIC is given");
	if (nul && framing_text != NULL)
		return cli_usage("-0 and -F exclude each other");
	if (!framing_parse(nul ? "nul" : framing_text ? framing_text : "line",
	    framing))
		return cli_usage("-F %s: no such framing (line, nul, raw, "
		    "raw:SIZE, u32be)", framing_text);
	if (messages != NULL && operands[1] != NULL)
		return cli_usage("-m and files exclude each other");
	if (count != INT64_MIN && count < 0)
		return cli_usage("-n %lld: not a count", count);
	if (wait_text != NULL && (!cli_size(wait_text, &readers) ||
	    readers > INT32_MAX))
		return cli_usage("-w %s: not a count", wait_text);
	if (wait_time_text != NULL && (wait_text == NULL ||
	    !cli_time(wait_time_text, &time)))
		return cli_usage(wait_text == NULL ? "-W %s: goes with -w" :
		    "-W %s: not a time (10s, 250ms)", wait_time_text);
	return CLI_OK;
}

static int run(const char *const *operands)
{
	zcp_options open_options = { .domain = cli.domain, .name = cli.name };
	zcp_pub_options pub_options = { .lossy = drop };
	static struct stream s;
	int status, rc;
	zcp *bus;

	if ((status = check_options(operands, &s.framing)) != CLI_OK ||
	    (status = read_history(&pub_options)) != CLI_OK)
		return status;
	cli_catch_signals();
	if ((rc = zcp_open(&bus, &open_options)) < 0)
		return cli_failed(rc);
	s.largest = zcp_largest(bus);
	if ((rc = zcp_offer(bus, operands[0], &pub_options, &s.pub)) < 0) {
		status = cli_failed(rc);
	} else if ((status = await_readers(s.pub)) == CLI_OK) {
		status = publish_all(&s, operands + 1);
		summary(&s, operands[0], pub_options.history);
	}
	if (s.pub != NULL) {
		zcp_discard(s.pub, &s.chunk);
		zcp_discard(s.pub, &s.spare);
	}
	zcp_stop_offer(&s.pub);
	zcp_close(&bus);
	free(s.carry);
	return status;
}

int main(int argc, const char **argv)
{
	cli_optional(argc, argv, "--retain", "--retain=1h");
	return cli_main(argc, argv, options, "TOPIC [FILE...]", run);
}
