/* zcp-top - a domain at work: topics, participants, pools. */
#include <locale.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "condition.h"
#include "facts_json.h"
#include "guard.h"
#include "terminal.h"
#include "units.h"

static int batch, json, tree, count;
static char *interval_text, *until_text, *timeout_text, *filter, *sort,
    *columns;

static struct poptOption options[] = {
	{ "batch", 'b', POPT_ARG_NONE, &batch, 0,
	    "print reports instead of a screen (as where stdout is no "
	    "terminal)", NULL },
	{ "columns", '\0', POPT_ARG_STRING, &columns, 0,
	    "show these columns on the screen: titles, with commas between "
	    "them (default: as many as there is room for)", "TITLES" },
	{ "count", 'n', POPT_ARG_INT, &count, 0,
	    "end after so many reports", "N" },
	{ "filter", '\0', POPT_ARG_STRING, &filter, 0,
	    "show what has this word in its name, or matches this pattern",
	    "TEXT" },
	{ "interval", 'i', POPT_ARG_STRING, &interval_text, 0,
	    "time between two looks (default 1s)", "TIME" },
	{ "json", 'J', POPT_ARG_NONE, &json, 0,
	    "print reports of one JSON object a line", NULL },
	{ "sort", '\0', POPT_ARG_STRING, &sort, 0,
	    "sort topics by the column of this title", "COLUMN" },
	{ "tree", 't', POPT_ARG_NONE, &tree, 0,
	    "show the publishers and readers of each topic", NULL },
	{ "until", '\0', POPT_ARG_STRING, &until_text, 0,
	    "end when this is true, [TOPIC:]QUANTITY OP NUMBER", "CONDITION" },
	{ "timeout", 'W', POPT_ARG_STRING, &timeout_text, 0,
	    "end after so long, with status 3 if --until is not true", "TIME" },
	CLI_COMMON,
	POPT_AUTOHELP
	POPT_TABLEEND
};

static struct top top = { .interval = 1 };
static struct condition until;
static int64_t deadline;		/* ns; 0 none */
static zcp_observer *observer;
static zcp_snapshot *now, *before;

/* ---- looking ---------------------------------------------------------------------------- */

static int look(void)
{
	zcp_snapshot *next;
	int rc = zcp_look(observer, 0, &next);

	if (rc < 0)
		return cli_failed(rc);
	zcp_snapshot_free(&before);
	before = now;
	now = next;
	return CLI_OK;
}

static bool time_is_over(void)
{
	return deadline != 0 && now_ns() >= deadline;
}

/* Until the next look, the end of time, or a signal. */
static void wait_a_while(void)
{
	struct pollfd signals = { .fd = cli_signal_fd(), .events = POLLIN };
	int64_t ms = (int64_t)(top.interval * 1000);

	if (deadline != 0 && (deadline - now_ns()) / 1000000 + 1 < ms)
		ms = (deadline - now_ns()) / 1000000 + 1;
	poll(&signals, 1, ms < 0 ? 0 : (int)ms);
}

static int open_domain(void)
{
	int rc = guard_install();

	if (rc == 0)
		rc = zcp_observe(&observer, cli.domain, NULL);
	return rc < 0 ? cli_failed(rc) : CLI_OK;
}

/* ---- waiting for a condition --------------------------------------------------------------- */

static bool holds(void)
{
	struct report r;
	bool yes;

	if (until_text == NULL)
		return false;
	report_begin(&r, now, before);
	yes = condition_holds(&until, &r);
	report_end(&r);
	return yes;
}

/* A domain may only come to be what is waited for. */
static int open_when_there(void)
{
	int rc;

	while ((rc = zcp_observe(&observer, cli.domain, NULL)) ==
	    -ZCP_E_NODAEMON || rc == -ZCP_E_BUSY) {
		if (cli_signal())
			return CLI_OK;
		if (time_is_over()) {
			cli_error("timed out: %s", zcp_errmsg());
			return CLI_TIMEOUT;
		}
		wait_a_while();
	}
	return rc < 0 ? cli_failed(rc) : CLI_OK;
}

static int timed_out(void)
{
	cli_error("timed out before this was true: %s", until_text);
	return CLI_TIMEOUT;
}

static int wait_until(void)
{
	int status = open_when_there();

	while (status == CLI_OK && !cli_signal()) {
		if ((status = look()) != CLI_OK || holds())
			return status;
		if (time_is_over())
			return timed_out();
		wait_a_while();
	}
	return status;
}

/* ---- reports -------------------------------------------------------------------------------- */

static bool print_table(struct table *t)
{
	if (t->rows > 0)
		putchar('\n');
	table_print(t, stdout);
	table_free(t);
	return !ferror(stdout);
}

static bool print_text(const struct report *r)
{
	report_domain(r, stdout);
	return print_table(top_topics(&top, r)) &&
	    print_table(report_participants(r)) &&
	    print_table(report_pools(r));
}

static bool print_json(const struct report *r)
{
	return json_domain(r) && json_topics(r) && json_ports(r) &&
	    json_participants(r) && json_pools(r);
}

static int print_report(void)
{
	struct report r;
	bool written;

	report_begin(&r, now, before);
	written = json ? print_json(&r) : print_text(&r);
	report_end(&r);
	return written && fflush(stdout) == 0 ? CLI_OK : CLI_ERROR;
}

static int report_all(void)
{
	int status = open_domain();

	/* Rates want two looks. */
	if (status == CLI_OK && (status = look()) == CLI_OK)
		wait_a_while();
	for (int n = 0; status == CLI_OK && !cli_signal(); n++) {
		if ((status = look()) != CLI_OK)
			break;
		if (n > 0 && !json)
			putchar('\n');
		if ((status = print_report()) != CLI_OK || holds() ||
		    n + 1 == count)
			break;
		if (time_is_over())
			return until_text != NULL ? timed_out() : CLI_OK;
		wait_a_while();
	}
	return status;
}

/* ---- the screen ------------------------------------------------------------------------------ */

static void draw(bool new)
{
	struct screen *screen = terminal_screen();
	struct report r;

	report_begin(&r, now, before);
	if (new)
		top_note(&top, &r);
	top_draw(&top, &r, screen);
	report_end(&r);
	terminal_draw(screen);
}

/* Keys until the next look is due; false: it is time to go. */
static bool keys_until(int64_t due)
{
	while (!cli_signal()) {
		int64_t left = (due - now_ns()) / 1000000;
		/* A signal is looked for now and then. */
		int key = terminal_key(left < 0 ? 0 : left > 100 ? 100 :
		    (int)left + 1);

		if (key > 0 && !top_key(&top, key))
			return false;
		if (key != 0)
			draw(false);
		if (now_ns() >= due)
			return true;
	}
	return false;
}

static int run_screen(void)
{
	int status, shown = 0;

	do {
		if (!top.paused || now == NULL) {
			if ((status = look()) != CLI_OK)
				return status;
			draw(true);
			shown++;
		}
		if (holds() || time_is_over() || (count > 0 && shown > count))
			break;
	} while (keys_until(now_ns() + (int64_t)(top.interval * 1e9)));
	return CLI_OK;
}

static int show(void)
{
	int status = open_domain();

	if (status != CLI_OK)
		return status;
	if (!terminal_open(cli_colored(STDOUT_FILENO))) {
		cli_error("cannot use the terminal '%s': zcp-top -b prints "
		    "reports", getenv("TERM") ? getenv("TERM") : "");
		return CLI_ERROR;
	}
	top.unicode = terminal_unicode();
	cli_before_message(terminal_close);
	status = run_screen();
	if (status == CLI_OK)
		terminal_close();
	cli_before_message(NULL);
	if (until_text != NULL && status == CLI_OK && time_is_over())
		return timed_out();
	return status;
}

/* ---- options ---------------------------------------------------------------------------------- */

static int read_options(void)
{
	int64_t ns = until_text != NULL && !batch && !json ? SECOND / 10 :
	    SECOND;
	const char *why;

	if (interval_text != NULL && (!read_time(interval_text, &ns) ||
	    ns < SECOND / 100 || ns > 3600 * SECOND))
		return cli_usage("--interval '%s': a time from 10ms to 1h is "
		    "expected", interval_text);
	top.interval = (double)ns / 1e9;
	if (timeout_text != NULL) {
		if (!read_time(timeout_text, &ns) || ns <= 0)
			return cli_usage("--timeout '%s': a time is expected, "
			    "such as 10s", timeout_text);
		deadline = now_ns() + ns;
	}
	if (until_text != NULL && !condition_read(until_text, &until, &why))
		return cli_usage("--until '%s': %s", until_text, why);
	if (filter != NULL)
		snprintf(top.filter, sizeof(top.filter), "%s", filter);
	top.tree = tree != 0;
	if (count < 0)
		return cli_usage("--count %d: more than 0 is expected", count);
	return CLI_OK;
}

static int read_columns(void)
{
	char word[COLUMNS_TEXT];
	const char *unknown;

	if (columns == NULL)
		return CLI_OK;
	if (strlen(columns) >= sizeof(top.columns))
		return cli_usage("--columns: the titles have more than %zu "
		    "characters", sizeof(top.columns) - 1);
	if ((unknown = top_unknown_column(columns, word)) != NULL)
		return cli_usage("--columns: there is no column '%s'; the "
		    "topics have pubs, subs, msg/s, bytes/s, lag, lost, mark "
		    "...", unknown);
	snprintf(top.columns, sizeof(top.columns), "%s", columns);
	return CLI_OK;
}

static int read_sort(void)
{
	int column = sort == NULL ? 0 : top_column(PANE_TOPICS, sort);

	if (column < 0)
		return cli_usage("--sort '%s': the topics have no such "
		    "column; they have topic, pubs, subs, msg/s, bytes/s, lag, "
		    "lost ...", sort);
	top.sort[PANE_TOPICS] = (unsigned)column;
	return CLI_OK;
}

static int run(const char *const *operands)
{
	int status;

	if (operands[0] != NULL)
		return cli_usage("%s: no operand is expected; --filter '%s' "
		    "shows some topics only", operands[0], operands[0]);
	if ((status = read_options()) != CLI_OK ||
	    (status = read_sort()) != CLI_OK ||
	    (status = read_columns()) != CLI_OK)
		return status;
	cli_catch_signals();
	/* One report is what a pipe wants, unless more is asked for. */
	if (!isatty(STDOUT_FILENO) && until_text == NULL && count == 0 &&
	    (!batch || (interval_text == NULL && timeout_text == NULL)))
		count = 1;
	if (until_text == NULL && !(isatty(STDOUT_FILENO) && terminal_able()))
		batch = 1;
	if (until_text != NULL && !batch && !json)
		status = wait_until();
	else
		status = batch || json ? report_all() : show();
	zcp_snapshot_free(&before);
	zcp_snapshot_free(&now);
	zcp_observe_end(&observer);
	top_free(&top);
	return status;
}

int main(int argc, const char **argv)
{
	return cli_main(argc, argv, options, "", run);
}
