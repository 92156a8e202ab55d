/* zcp-shmdump - what lies in a domain's shared memory, and whose it is. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "facts_json.h"
#include "guard.h"
#include "report.h"

static int check, hex, json;
static char *dir;

static struct poptOption options[] = {
	{ "check", '\0', POPT_ARG_NONE, &check, 0,
	    "verify what must hold, and explain each violation", NULL },
	{ "file", '\0', POPT_ARG_STRING, &dir, 0,
	    "look at copies of the segments in DIR, not at /dev/shm", "DIR" },
	{ "hex", 'x', POPT_ARG_NONE, &hex, 0,
	    "show the first bytes of each chunk", NULL },
	{ "json", 'J', POPT_ARG_NONE, &json, 0,
	    "one JSON object a line", NULL },
	CLI_COMMON,
	POPT_AUTOHELP
	POPT_TABLEEND
};

/* ---- sections ---------------------------------------------------------------------- */

static struct table *chunks(const struct report *r)
{
	return report_chunks(r, hex);
}

static const struct section {
	const char *name;
	struct table *(*table)(const struct report *r);
	bool (*json)(const struct report *r);
} sections[] = {
	{ "domain", NULL, json_domain },
	{ "pools", report_pools, json_pools },
	{ "participants", report_participants, json_participants },
	{ "topics", report_topics, json_topics },
	{ "ports", report_ports, json_ports },
	{ "links", report_links, json_links },
	{ "chunks", chunks, json_chunks },
	{ "totals", report_totals, json_totals },
	{ "blocked", report_blocked, json_blocked },
};
enum { SECTIONS = sizeof(sections) / sizeof(sections[0]) };

static void print_table(const struct section *s, const struct report *r,
    bool *first)
{
	struct table *t = s->table == NULL ? NULL : s->table(r);

	if (t == NULL || t->rows > 0) {
		if (!*first)
			putchar('\n');
		*first = false;
	}
	if (t == NULL) {
		report_domain(r, stdout);
		return;
	}
	table_print(t, stdout);
	table_free(t);
}

static bool wanted(const char *const *operands, const char *name)
{
	if (operands[0] == NULL)
		return true;
	for (; *operands != NULL; operands++)
		if (strcmp(*operands, name) == 0)
			return true;
	return false;
}

static int print_all(const struct report *r, const char *const *operands)
{
	bool first = true, written = true;

	for (int i = 0; i < SECTIONS && written && !cli_signal(); i++)
		if (!wanted(operands, sections[i].name))
			continue;
		else if (json)
			written = sections[i].json(r);
		else
			print_table(&sections[i], r, &first);
	return written && fflush(stdout) == 0 ? CLI_OK : CLI_ERROR;
}

static int check_operands(const char *const *operands)
{
	for (; *operands != NULL; operands++) {
		int i = 0;

		while (i < SECTIONS && strcmp(*operands, sections[i].name) != 0)
			i++;
		if (i == SECTIONS)
			return cli_usage("%s: there is no such section; they "
			    "are domain, pools, participants, topics, ports, "
			    "links, chunks, totals, blocked", *operands);
	}
	return CLI_OK;
}

/* ---- looking ------------------------------------------------------------------------ */

static void tell(void *arg, const char *text)
{
	(void)arg;
	printf("%s\n", text);
}

static int check_all(zcp_observer *observer)
{
	int rc = zcp_check(observer, tell, NULL);

	if (rc < 0)
		return cli_failed(rc);
	if (rc > 0)
		cli_note("%d violations", rc);
	else if (cli.verbose)
		cli_note("everything holds");
	return rc > 0 ? CLI_LOSS : CLI_OK;
}

static int dump(zcp_observer *observer, const char *const *operands)
{
	unsigned what = wanted(operands, "chunks") ||
	    wanted(operands, "totals") || wanted(operands, "blocked") ?
	    ZCP_LOOK_CHUNKS : 0;
	struct report r;
	zcp_snapshot *s;
	int rc, status;

	if (hex)
		what |= ZCP_LOOK_PREVIEWS;
	if ((rc = zcp_look(observer, what, &s)) < 0)
		return cli_failed(rc);
	report_begin(&r, s, NULL);
	status = print_all(&r, operands);
	report_end(&r);
	zcp_snapshot_free(&s);
	return status;
}

static int run(const char *const *operands)
{
	zcp_observer *observer;
	int rc, status;

	if ((status = check_operands(operands)) != CLI_OK)
		return status;
	if (check && (operands[0] != NULL || json || hex))
		return cli_usage("--check goes with no section, -J or -x");
	cli_catch_signals();
	if ((rc = guard_install()) < 0 ||
	    (rc = zcp_observe(&observer, cli.domain, dir)) < 0)
		return cli_failed(rc);
	status = check ? check_all(observer) : dump(observer, operands);
	zcp_observe_end(&observer);
	return status;
}

int main(int argc, const char **argv)
{
	return cli_main(argc, argv, options, "[SECTION...]", run);
}
