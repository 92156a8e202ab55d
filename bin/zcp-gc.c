/* zcp-gc - takes back what dead processes left. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli.h"
#include "log.h"
#include "routed/gc.h"
#include "topic.h"
#include "units.h"

static int dry_run, json;
static bool unwritten;
static bool all;			/* domains, whatever their runtime directory is */

static struct poptOption options[] = {
	{ "dry-run", 'n', POPT_ARG_NONE, &dry_run, 0,
	    "say what would be taken back, and leave it", NULL },
	{ "json", 'J', POPT_ARG_NONE, &json, 0,
	    "one JSON object a line for each thing", NULL },
	CLI_COMMON,
	POPT_AUTOHELP
	POPT_TABLEEND
};

/* ---- one thing, one line ------------------------------------------------------- */

static const char *const whats[] = { [GC_CHUNKS] = "chunks",
    [GC_PARTICIPANT] = "participant", [GC_SEGMENT] = "segment",
    [GC_SOCKET] = "socket", [GC_KEPT] = "kept" };

static void print_json(const struct gc_item *item)
{
	json_t *o = json_pack("{ss ss ss sb}", "domain", item->domain, "what",
	    whats[item->what], "why", item->why, "done",
	    !dry_run && item->what != GC_KEPT);

	if (item->what == GC_CHUNKS) {
		json_object_set_new(o, "count", json_integer(item->count));
		json_object_set_new(o, "size", json_integer(item->size));
	}
	if (item->runtime != NULL)
		json_object_set_new(o, "runtime_dir",
		    json_string(item->runtime));
	if (item->bytes > 0)
		json_object_set_new(o, "bytes",
		    json_integer((json_int_t)item->bytes));
	if (item->file != NULL)
		json_object_set_new(o, "file", json_string(item->file));
	if (item->name != NULL) {
		json_object_set_new(o, "name", json_string(item->name));
		json_object_set_new(o, "pid", json_integer(item->pid));
	}
	if (item->topic != NULL)
		json_object_set_new(o, "topic", json_string(item->topic));
	if (json_dumpf(o, stdout, JSON_COMPACT) < 0)
		unwritten = true;
	putchar('\n');
	json_decref(o);
}

static const char *would(const char *done, const char *would_be)
{
	return dry_run ? would_be : done;
}

static void print_text(const struct gc_item *item)
{
	if (all && item->runtime != NULL)
		printf("%s (ZCP_RUNTIME_DIR=%s): ", item->domain,
		    item->runtime);
	else
		printf("%s: ", item->domain);
	switch (item->what) {
	case GC_CHUNKS:
		printf("%u chunks of %s %s", item->count,
		    show_bytes(item->size), would("freed", "would be freed"));
		if (item->name != NULL)
			printf(", %s (pid %u)", item->name, item->pid);
		if (item->topic != NULL)
			printf(" on %s", item->topic);
		break;
	case GC_PARTICIPANT:
		printf("%s (pid %u) %s", item->name, item->pid,
		    would("forgotten", "would be forgotten"));
		break;
	case GC_SEGMENT:
		printf("%s %s, %s", item->file,
		    would("removed", "would be removed"),
		    show_bytes((double)item->bytes));
		break;
	case GC_SOCKET:
		printf("%s %s", item->file,
		    would("removed", "would be removed"));
		break;
	case GC_KEPT:
		printf("%s (pid %u) kept", item->name, item->pid);
		break;
	}
	printf(": %s\n", item->why);
}

static void tell(void *arg, const struct gc_item *item)
{
	unsigned *count = arg;

	++*count;
	if (cli.quiet)
		return;
	if (json)
		print_json(item);
	else
		print_text(item);
}

/* ---- all ------------------------------------------------------------------------ */

static int collect(const char *domain)
{
	unsigned count = 0;
	int rc = gc_domain(domain, dry_run, tell, &count);

	if (rc < 0)
		return cli_failed(rc);
	if (count == 0 && cli.verbose)
		cli_note("domain %s: nothing to take back", domain);
	return CLI_OK;
}

struct sum {
	unsigned count;			/* first: tell() is given it */
	int status;
};

static void failed(void *arg, int rc)
{
	struct sum *sum = arg;

	sum->status = cli_failed(rc);
}

static int collect_all(void)
{
	struct sum sum = { 0, CLI_OK };
	int rc;

	all = true;
	if ((rc = gc_all(dry_run, tell, failed, &sum)) < 0)
		return cli_failed(rc);
	if (sum.count == 0 && sum.status == CLI_OK && cli.verbose)
		cli_note("nothing to take back");
	return sum.status;
}

static int run(const char *const *operands)
{
	const char *domain = cli.domain;
	int status;

	if (operands[0] != NULL)
		return cli_usage("%s: no operand is expected; a domain is "
		    "named by -d", operands[0]);
	if (domain == NULL && (domain = getenv("ZCP_DOMAIN")) != NULL &&
	    *domain == '\0')
		domain = NULL;
	if (domain != NULL && !name_valid(domain))
		return cli_usage("domain '%s': a name has 1 to 63 of A-Z a-z "
		    "0-9 . _ -", domain);
	log_threshold = cli.verbose ? LOG_LEVEL_WARN : LOG_LEVEL_ERROR;
	cli_catch_signals();
	status = domain != NULL ? collect(domain) : collect_all();
	if (unwritten && status == CLI_OK)
		status = CLI_ERROR;
	return status;
}

int main(int argc, const char **argv)
{
	return cli_main(argc, argv, options, "", run);
}
