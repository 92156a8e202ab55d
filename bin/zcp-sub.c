/* zcp-sub - print what arrives. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "framing.h"
#include "output.h"
#include "zcp.h"

#define SECOND INT64_C(1000000000)
enum {
	LOOK = 100000000,		/* ns between looks at signals and clocks */
	ROUND = 4096,			/* messages between such looks */
};

static char *framing_text, *time_text;
static int nul, exit_at_end, drop, reliable, tap, fail_on_loss;
static long long count = INT64_MIN;	/* not given */

static struct poptOption options[] = {
	{ "framing", 'F', POPT_ARG_STRING, &framing_text, 0,
	    "line (default), nul, raw or u32be", "FRAMING" },
	{ "null", '0', POPT_ARG_NONE, &nul, 0, "the same as -F nul", NULL },
	{ "count", 'c', POPT_ARG_LONGLONG, &count, 0,
	    "end after N messages", "N" },
	{ "timeout", 'W', POPT_ARG_STRING, &time_text, 0,
	    "end after TIME in all (10s, 250ms), with status 3 if nothing or "
	    "less than -c came", "TIME" },
	{ "exit", 'e', POPT_ARG_NONE, &exit_at_end, 0,
	    "end when all publishers seen have ended and all is read", NULL },
	{ "drop", '\0', POPT_ARG_NONE, &drop, 0,
	    "never make a publisher wait: lose messages and count them", NULL },
	{ "reliable", '\0', POPT_ARG_NONE, &reliable, 0,
	    "lose nothing, for patterns too", NULL },
	{ "tap", '\0', POPT_ARG_NONE, &tap, 0,
	    "watch without taking a reader's place (one TOPIC)", NULL },
	{ "fail-on-loss", '\0', POPT_ARG_NONE, &fail_on_loss, 0,
	    "end with status 4 if messages were lost", NULL },
	CLI_COMMON,
	POPT_AUTOHELP
	POPT_TABLEEND
};

struct session {
	zcp *bus;
	zcp_sub **sub;
	size_t subs;
	zcp_waitset *set;
	zcp_tap *tap;
	struct output out;
	uint64_t taken, lost, reported;
	int64_t deadline, next_report;	/* ns, monotonic */
};

static int64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * SECOND + t.tv_nsec;
}

static bool enough(const struct session *s)
{
	return count != INT64_MIN && s->taken >= (uint64_t)count;
}

/* ---- losses ---------------------------------------------------------------------- */

static void report_losses(struct session *s, bool at_end)
{
	if (s->lost == s->reported || (!at_end && now() < s->next_report))
		return;
	cli_note("%" PRIu64 " messages lost", s->lost);
	s->reported = s->lost;
	s->next_report = now() + SECOND;
}

/* ---- taking ------------------------------------------------------------------------ */

static int write_failed(void)
{
	cli_error("cannot write standard output: %s", strerror(errno));
	return CLI_ERROR;
}

static int take_one(struct session *s, zcp_sub *sub)
{
	zcp_msg *msg = output_place(&s->out);

	return sub != NULL ? zcp_take(sub, msg) : zcp_tap_read(s->tap, msg);
}

/* 1 took something, 0 nothing waits, < 0 minus an exit status. */
static int take_from(struct session *s, zcp_sub *sub)
{
	int rc = take_one(s, sub);

	if (rc == -ZCP_E_HOLDS) {
		if (output_flush(&s->out) < 0)
			return -write_failed();
		rc = take_one(s, sub);
	}
	if (rc == -ZCP_E_LAPPED || rc == -ZCP_E_DAMAGED) {
		s->lost += output_place(&s->out)->lost;
		if (rc == -ZCP_E_DAMAGED)
			cli_error("%s", zcp_errmsg());
		return 1;
	}
	if (rc <= 0)
		return rc < 0 ? -cli_failed(rc) : 0;
	s->taken++;
	return output_add(&s->out, sub) < 0 ? -write_failed() : 1;
}

/* Takes what there is, up to a round; the same results. */
static int take_round(struct session *s)
{
	bool took = false;

	for (int i = 0; i < ROUND && !enough(s); i++) {
		bool some = false;
		int rc = 0;

		for (size_t k = 0; k < s->subs && !enough(s); k++) {
			if ((rc = take_from(s, s->sub[k])) < 0)
				return rc;
			some |= rc > 0;
		}
		if (s->tap != NULL && (rc = take_from(s, NULL)) < 0)
			return rc;
		some |= rc > 0;
		took |= some;
		if (!some)
			break;
	}
	return took;
}

/* ---- ends -------------------------------------------------------------------------- */

/* All publishers that were seen have ended; *died names one that died. */
static int all_ended(struct session *s, char died[64])
{
	zcp_sub_info info;
	uint32_t seen = 0, here = 0;
	int rc;

	for (size_t k = 0; k < s->subs; k++) {
		if ((rc = zcp_sub_status(s->sub[k], &info)) < 0)
			return -cli_failed(rc);
		seen += info.seen;
		here += info.publishers;
		if (info.died > 0)
			memcpy(died, info.died_name, 64);
	}
	return seen > 0 && here == 0;
}

static int ended_status(struct session *s, const char *died)
{
	if (died[0] != '\0') {
		cli_error("publisher %s died: the stream may be cut after %"
		    PRIu64 " messages", died, s->taken);
		return CLI_ERROR;
	}
	return CLI_OK;
}

static int timed_out(const struct session *s)
{
	if (s->taken > 0 && count == INT64_MIN && !exit_at_end)
		return CLI_OK;
	cli_error("timed out after %" PRIu64 " messages", s->taken);
	return CLI_TIMEOUT;
}

static int wait_for_more(struct session *s)
{
	int64_t left = s->deadline - now();
	zcp_sub *ready;
	int rc;

	if (left > LOOK)
		left = LOOK;
	if (left < 0)
		left = 0;
	rc = s->tap != NULL ? zcp_tap_wait(s->tap, left) :
	    zcp_waitset_wait(s->set, &ready, 1, left);
	return rc < 0 && rc != -ZCP_E_INTR ? cli_failed(rc) : CLI_OK;
}

static int follow(struct session *s)
{
	char died[64] = "";
	int rc;

	while (!cli_signal() && !enough(s)) {
		if (now() >= s->deadline)
			return timed_out(s);
		if ((rc = take_round(s)) < 0)
			return -rc;
		report_losses(s, false);
		if (rc > 0)
			continue;
		/* Idle: what was taken goes out now. */
		if (output_flush(&s->out) < 0)
			return write_failed();
		if (exit_at_end && s->tap == NULL) {
			if ((rc = all_ended(s, died)) < 0)
				return -rc;
			if (rc > 0)
				return ended_status(s, died);
		}
		if ((rc = wait_for_more(s)) != CLI_OK)
			return rc;
	}
	return CLI_OK;
}

/* ---- the command ----------------------------------------------------------------------- */

static bool is_pattern(const char *topic)
{
	return strpbrk(topic, "*?[") != NULL;
}

static int subscribe(struct session *s, const char *const *topics)
{
	int rc;

	if (tap) {
		rc = zcp_tap_open(s->bus, topics[0], &s->tap);
		return rc < 0 ? cli_failed(rc) : CLI_OK;
	}
	while (topics[s->subs] != NULL)
		s->subs++;
	if ((s->sub = calloc(s->subs, sizeof(*s->sub))) == NULL) {
		cli_error("out of memory");
		return CLI_ERROR;
	}
	if ((rc = zcp_waitset_open(s->bus, &s->set)) < 0)
		return cli_failed(rc);
	for (size_t k = 0; k < s->subs; k++) {
		zcp_sub_options o = { .lossy = drop || (!reliable &&
		    is_pattern(topics[k])) };

		if ((rc = zcp_subscribe(s->bus, topics[k], &o,
		    &s->sub[k])) < 0 ||
		    (rc = zcp_waitset_add(s->set, s->sub[k])) < 0)
			return cli_failed(rc);
	}
	return CLI_OK;
}

static int check_options(const char *const *operands, struct framing *framing,
    int64_t *timeout)
{
	if (operands[0] == NULL)
		return cli_usage("no TOPIC is given");
	if (nul && framing_text != NULL)
		return cli_usage("-0 and -F exclude each other");
	if (!framing_parse(nul ? "nul" : framing_text ? framing_text : "line",
	    framing) || framing->kind == FRAMING_RECORDS)
		return cli_usage("-F %s: no such framing (line, nul, raw, "
		    "u32be)", framing_text);
	if (count != INT64_MIN && count < 0)
		return cli_usage("-c %lld: not a count", count);
	if (drop && reliable)
		return cli_usage("--drop and --reliable exclude each other");
	if (tap && (drop || reliable))
		return cli_usage("--tap is neither --drop nor --reliable");
	if (tap && operands[1] != NULL)
		return cli_usage("--tap watches one TOPIC");
	if (tap && exit_at_end)
		return cli_usage("--tap has no end to wait for (-e)");
	*timeout = INT64_MAX / 2;
	if (time_text != NULL && !cli_time(time_text, timeout))
		return cli_usage("-W %s: not a time (10s, 250ms)", time_text);
	return CLI_OK;
}

static void close_all(struct session *s)
{
	for (size_t k = 0; k < s->subs; k++)
		zcp_unsubscribe(&s->sub[k]);
	free(s->sub);
	zcp_waitset_close(&s->set);
	zcp_tap_close(&s->tap);
	zcp_close(&s->bus);
}

static int run(const char *const *operands)
{
	zcp_options open_options = { .domain = cli.domain, .name = cli.name };
	static struct session s;
	struct framing framing;
	int64_t timeout;
	int status, rc;

	if ((status = check_options(operands, &framing, &timeout)) != CLI_OK)
		return status;
	cli_catch_signals();
	output_init(&s.out, STDOUT_FILENO, &framing);
	s.deadline = now() + timeout;
	if ((rc = zcp_open(&s.bus, &open_options)) < 0)
		return cli_failed(rc);
	if ((status = subscribe(&s, operands)) == CLI_OK) {
		status = follow(&s);
		if (output_flush(&s.out) < 0)
			status = write_failed();
		report_losses(&s, true);
		if (cli.verbose)
			cli_note("%" PRIu64 " messages, %" PRIu64 " lost",
			    s.taken, s.lost);
		if (status == CLI_OK && fail_on_loss && s.lost > 0)
			status = CLI_LOSS;
	}
	close_all(&s);
	return status;
}

int main(int argc, const char **argv)
{
	return cli_main(argc, argv, options, "TOPIC...", run);
}
