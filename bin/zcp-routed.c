/* zcp-routed - the route daemon. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "atomics.h"
#include "background.h"
#include "cli.h"
#include "clock.h"
#include "control.h"
#include "error.h"
#include "log.h"
#include "routed/routed.h"
#include "topic.h"
#include "units.h"
#include "zcp.h"

static int foreground, dry_run, status_wanted, stop_wanted, no_waitv;
static char **pool_texts;
static char *heartbeat_text, *on_stall_text, *fences_text, *level_text;
static char *token_file, *idle_text, *log_file;
static int log_fd = -1;
static char *slow_after_text, *held_after_text;
static int slow_lag;
static int max_participants, max_topics, max_ports, max_links, max_holds;
static int max_requests;

static struct poptOption options[] = {
	{ "foreground", 'f', POPT_ARG_NONE, &foreground, 0,
	    "stay in the foreground, one line on stdout when ready", NULL },
	{ "background", 'b', POPT_ARG_VAL, &foreground, 0,
	    "leave the foreground when ready (the default)", NULL },
	{ "dry-run", '\0', POPT_ARG_NONE, &dry_run, 0,
	    "create and verify the segments, print their sizes, remove them",
	    NULL },
	{ "status", '\0', POPT_ARG_NONE, &status_wanted, 0,
	    "print the running daemon's status", NULL },
	{ "stop", '\0', POPT_ARG_NONE, &stop_wanted, 0,
	    "end the running daemon and wait until it has ended", NULL },
	{ "private", '\0', POPT_ARG_STRING | POPT_ARGFLAG_OPTIONAL, &idle_text,
	    0, "as clients start it where they find none: ends TIME (10s) "
	    "after the last participant; one that runs will do", "TIME" },
	{ "pool", 'p', POPT_ARG_ARGV, &pool_texts, 0, "COUNT chunks of SIZE "
	    "bytes (repeatable; default 128:100 1K:50 4K:20 64K:32)",
	    "SIZE:COUNT" },
	{ "heartbeat", '\0', POPT_ARG_STRING, &heartbeat_text, 0,
	    "participants' heartbeat period (default 1s); silent for three, "
	    "they are stalled", "TIME" },
	{ "on-stall", '\0', POPT_ARG_STRING, &on_stall_text, 0,
	    "demote (default): do not wait for a stalled reader; wait; kill",
	    "WHAT" },
	{ "slow-lag", '\0', POPT_ARG_INT, &slow_lag, 0,
	    "a reliable reader that is so much of a ring behind (default 75)",
	    "PERCENT" },
	{ "slow-after", '\0', POPT_ARG_STRING, &slow_after_text, 0,
	    "for so long is counted slow, and logged (default 5s)", "TIME" },
	{ "held-after", '\0', POPT_ARG_STRING, &held_after_text, 0,
	    "a chunk that is held for so long is counted, and logged (default "
	    "30s)", "TIME" },
	{ "fences", '\0', POPT_ARG_STRING, &fences_text, 0,
	    "asymmetric (default, membarrier) or symmetric", "HOW" },
	{ "no-waitv", '\0', POPT_ARG_NONE, &no_waitv, 0,
	    "do without futex_waitv, as on old kernels", NULL },
	{ "max-participants", '\0', POPT_ARG_INT, &max_participants, 0,
	    "processes attached at once (default 256)", "N" },
	{ "max-topics", '\0', POPT_ARG_INT, &max_topics, 0,
	    "topics and patterns (default 1024)", "N" },
	{ "max-ports", '\0', POPT_ARG_INT, &max_ports, 0,
	    "publishers and subscriptions (default 2048)", "N" },
	{ "max-links", '\0', POPT_ARG_INT, &max_links, 0,
	    "entries in the lists of who reads whom (default 16384)", "N" },
	{ "max-holds", '\0', POPT_ARG_INT, &max_holds, 0,
	    "room for holds in the subscriptions of one participant (default "
	    "4194304, or 1024 for each port)", "N" },
	{ "max-requests", '\0', POPT_ARG_INT, &max_requests, 0,
	    "control requests a second of one process (default 10000)", "N" },
	{ "token-file", '\0', POPT_ARG_STRING, &token_file, 0,
	    "serve only clients that show the token in FILE ($ZCP_TOKEN)",
	    "FILE" },
	{ "log-level", '\0', POPT_ARG_STRING, &level_text, 0,
	    "error, warn (default in the background), info (in the "
	    "foreground) or debug", "LEVEL" },
	{ "log-file", '\0', POPT_ARG_STRING, &log_file, 0,
	    "append the log to FILE once clients are served (default: standard "
	    "error in the foreground, syslog in the background)", "FILE" },
	CLI_COMMON,
	POPT_AUTOHELP
	POPT_TABLEEND
};

/* ---- settings -------------------------------------------------------------------- */

static int by_size(const void *a, const void *b)
{
	const struct pool_setting *x = a, *y = b;

	return (x->chunk_size > y->chunk_size) - (x->chunk_size < y->chunk_size);
}

static int read_pool(const char *text, struct pool_setting *pool)
{
	const char *colon = strchr(text, ':');
	char size_text[32];
	uint64_t size, n;

	if (colon == NULL || (size_t)(colon - text) >= sizeof(size_text))
		return cli_usage("--pool %s: not SIZE:COUNT", text);
	snprintf(size_text, sizeof(size_text), "%.*s", (int)(colon - text),
	    text);
	if (!read_size(size_text, &size) || size == 0 ||
	    size > UINT32_MAX - CACHE_LINE)
		return cli_usage("--pool %s: '%s' is not a size up to 4G",
		    text, size_text);
	if (!read_size(colon + 1, &n) || n == 0 ||
	    n >= 1u << CHUNK_INDEX_BITS)
		return cli_usage("--pool %s: '%s' is not a count up to %u",
		    text, colon + 1, (1u << CHUNK_INDEX_BITS) - 1);
	pool->chunk_size = (uint32_t)((size + CACHE_LINE - 1) / CACHE_LINE *
	    CACHE_LINE);
	pool->count = (uint32_t)n;
	return CLI_OK;
}

static int read_pools(struct settings *s)
{
	int status;

	if (pool_texts == NULL)
		return CLI_OK;
	s->pools = 0;
	for (char **text = pool_texts; *text != NULL; text++) {
		if (s->pools == MAX_POOLS)
			return cli_usage("--pool %s: more than %d pools", *text,
			    MAX_POOLS);
		if ((status = read_pool(*text, &s->pool[s->pools++])) != CLI_OK)
			return status;
	}
	qsort(s->pool, s->pools, sizeof(s->pool[0]), by_size);
	for (uint32_t i = 1; i < s->pools; i++)
		if (s->pool[i].chunk_size == s->pool[i - 1].chunk_size)
			return cli_usage("--pool: two pools of %u bytes",
			    s->pool[i].chunk_size);
	return CLI_OK;
}

static int read_limit(const char *name, int given, uint32_t most, uint32_t *out)
{
	if (given == 0)
		return CLI_OK;
	if (given < 0 || (uint32_t)given > most)
		return cli_usage("--%s %d: not a number from 1 to %u", name,
		    given, most);
	*out = (uint32_t)given;
	return CLI_OK;
}

static int read_idle(struct settings *s)
{
	int64_t idle;

	if (idle_text == NULL)
		return CLI_OK;
	if (!read_time(idle_text, &idle) || idle == 0)
		return cli_usage("--private=%s: not a time (10s, 250ms)",
		    idle_text);
	s->private = true;
	s->idle = (uint64_t)idle;
	return CLI_OK;
}

static int read_after(const char *option, const char *text, uint64_t *after)
{
	int64_t ns;

	if (text == NULL)
		return CLI_OK;
	if (!read_time(text, &ns) || ns <= 0)
		return cli_usage("--%s %s: not a time (10s, 250ms)", option,
		    text);
	*after = (uint64_t)ns;
	return CLI_OK;
}

/* Who is in the way. */
static int read_slow(struct settings *s)
{
	int status = read_after("slow-after", slow_after_text, &s->slow_after);

	if (slow_lag < 0 || slow_lag > 100)
		return cli_usage("--slow-lag %d: 1 to 100 percent are expected",
		    slow_lag);
	if (slow_lag > 0)
		s->slow_lag = (uint32_t)slow_lag;
	return status != CLI_OK ? status : read_after("held-after",
	    held_after_text, &s->held_after);
}

static int read_words(struct settings *s)
{
	int64_t period;

	if (heartbeat_text != NULL) {
		if (!read_time(heartbeat_text, &period) ||
		    period < 10 * NS_PER_MS)
			return cli_usage("--heartbeat %s: not a time of 10ms "
			    "or more", heartbeat_text);
		s->heartbeat = (uint64_t)period;
	}
	if (on_stall_text != NULL) {
		if (strcmp(on_stall_text, "demote") == 0)
			s->on_stall = STALL_DEMOTE;
		else if (strcmp(on_stall_text, "wait") == 0)
			s->on_stall = STALL_WAIT;
		else if (strcmp(on_stall_text, "kill") == 0)
			s->on_stall = STALL_KILL;
		else
			return cli_usage("--on-stall %s: not demote, wait or "
			    "kill", on_stall_text);
	}
	if (fences_text != NULL) {
		if (strcmp(fences_text, "symmetric") != 0 &&
		    strcmp(fences_text, "asymmetric") != 0)
			return cli_usage("--fences %s: not asymmetric or "
			    "symmetric", fences_text);
		s->symmetric = fences_text[0] == 's';
	}
	if (level_text != NULL && !log_level_parse(level_text, &log_threshold))
		return cli_usage("--log-level %s: not error, warn, info or "
		    "debug", level_text);
	return CLI_OK;
}

/* The first line, without its end. */
static int read_token(const char *path, const char **token)
{
	static char line[TOKEN_MOST + 2];
	struct stat st;
	FILE *file = fopen(path, "re");

	if (file == NULL || fstat(fileno(file), &st) < 0) {
		int cause = errno;

		cli_error("cannot read the token in %s: %s", path,
		    strerror(cause));
		if (file != NULL)
			fclose(file);
		return cause == EACCES ? CLI_PERMISSION : CLI_ERROR;
	}
	if (fgets(line, sizeof(line), file) == NULL)
		line[0] = '\0';
	fclose(file);
	line[strcspn(line, "\n")] = '\0';
	if (st.st_mode & 0077) {
		cli_error("the token in %s can be read by others: chmod 600 %s",
		    path, path);
		return CLI_PERMISSION;
	}
	if (!token_valid(line))
		return cli_usage("--token-file %s: its first line is no token "
		    "(1 to %d printable characters, no colon)", path,
		    TOKEN_MOST);
	*token = line;
	return CLI_OK;
}

static int read_settings(struct settings *s)
{
	const char *from_environment = getenv("ZCP_DOMAIN");
	int status;

	*s = settings_default();
	if (cli.domain != NULL)
		s->domain = cli.domain;
	else if (from_environment != NULL && *from_environment)
		s->domain = from_environment;
	if (!name_valid(s->domain))
		return cli_usage("domain '%s': a name has 1 to 63 of A-Z a-z "
		    "0-9 . _ -", s->domain);
	s->no_waitv = no_waitv;
	/* In the background stderr is somebody's terminal. */
	if (!foreground)
		log_threshold = LOG_LEVEL_WARN;
	if (cli.quiet)
		log_threshold = LOG_LEVEL_ERROR;
	if (cli.verbose)
		log_threshold = LOG_LEVEL_DEBUG;
	if ((status = read_pools(s)) != CLI_OK ||
	    (status = read_words(s)) != CLI_OK ||
	    (status = read_slow(s)) != CLI_OK ||
	    (status = read_idle(s)) != CLI_OK ||
	    (status = read_limit("max-participants", max_participants, 65535,
	    &s->max_participants)) != CLI_OK ||
	    (status = read_limit("max-topics", max_topics, 1 << 20,
	    &s->max_topics)) != CLI_OK ||
	    (status = read_limit("max-ports", max_ports,
	    (1 << LINK_PORT_BITS) - 1, &s->max_ports)) != CLI_OK ||
	    (status = read_limit("max-links", max_links, 1 << 26,
	    &s->max_links)) != CLI_OK ||
	    (status = read_limit("max-holds", max_holds, INT32_MAX,
	    &s->max_holds)) != CLI_OK ||
	    (status = read_limit("max-requests", max_requests, 1000000,
	    &s->max_requests)) != CLI_OK ||
	    (token_file != NULL && (status = read_token(token_file,
	    &s->token)) != CLI_OK))
		return status;
	/* Old kernels, and some sandboxes, refuse membarrier. */
	if (!s->symmetric && fence_register() < 0) {
		log_warn("membarrier is refused: symmetric fences are used");
		s->symmetric = true;
	}
	return CLI_OK;
}

/* ---- what a person asks of a daemon ------------------------------------------------- */

static const char *const parts[] = { "mgmt", "bell", "pool", "data" };
enum { PARTS = sizeof(parts) / sizeof(parts[0]) };

static uint64_t committed(const char *path)
{
	struct stat st;

	return stat(path, &st) < 0 ? 0 : (uint64_t)st.st_blocks * 512;
}

static void print_part(const struct claim *c, const char *part)
{
	char path[SEGMENT_PATH];
	struct stat st;

	segment_path(path, c->site.dir, part);
	if (stat(path, &st) == 0)
		printf("%s: reserves %" PRIu64 " bytes, commits %" PRIu64 "\n",
		    part, (uint64_t)st.st_size, committed(path));
}

static uint64_t all_committed(const struct claim *c)
{
	char path[SEGMENT_PATH];
	uint64_t total = 0;

	for (int i = 0; i < PARTS; i++) {
		segment_path(path, c->site.dir, parts[i]);
		total += committed(path);
	}
	return total;
}

static int try_claimed(const struct settings *s, const struct claim *c)
{
	struct domain d = { 0 };
	int rc;

	if ((rc = domain_create(s, c)) < 0)
		return rc;
	if ((rc = domain_attach_at(&d, &c->site, true)) == 0)
		rc = domain_map_words(&d);
	if (rc == 0)
		rc = domain_map_read(&d);
	domain_detach(&d);
	if (rc < 0)
		return rc;
	for (int i = 0; i < PARTS; i++)
		print_part(c, parts[i]);
	printf("a participant: reserves %" PRIu64 " bytes, commits %d and its "
	    "ports\n", MEMBER_WINDOW, MEMBER_FIRST);
	printf("in all: commits %" PRIu64 " bytes\n", all_committed(c));
	return 0;
}

static int try_out(struct settings *s)
{
	struct claim c = CLAIM_INIT;
	int rc;

	snprintf(c.site.domain, sizeof(c.site.domain), "%.40s.dry.%d",
	    s->domain, (int)getpid());
	s->domain = c.site.domain;
	if ((rc = claim_make(&c)) == CLAIM_OURS) {
		rc = try_claimed(s, &c);
		domain_remove(&c, 0);
	}
	claim_drop(&c);
	return rc < 0 ? cli_failed(rc) : CLI_OK;
}

static int print_status(const struct settings *s)
{
	static char reply[CONTROL_REPLY];
	char request[64] = "STATUS";
	struct asking how = { 0 };
	char *more;
	int rc = control_show(s->domain, s->token,
	    deadline_after(2 * NS_PER_S), &how);

	if (rc < 0)
		return cli_failed(rc);
	do {
		rc = control_call(s->domain, request, reply, sizeof(reply),
		    deadline_after(2 * NS_PER_S));
		if (rc < 0)
			return cli_failed(rc);
		/* The last line, alone: there is more. */
		more = strncmp(reply, "MORE:", 5) == 0 ? reply :
		    strstr(reply, "\nMORE:");
		if (more != NULL) {
			if (*more == '\n')
				*more++ = '\0';
			snprintf(request, sizeof(request), "STATUS:%lu",
			    strtoul(more + 5, NULL, 10));
			puts(reply);
		} else
			fputs(reply, stdout);
	} while (more != NULL);
	return CLI_OK;
}

static int stop_daemon(const struct settings *s)
{
	const struct timespec pause = { 0, 10 * NS_PER_MS };
	uint64_t deadline = deadline_after(10 * NS_PER_S);
	pid_t pid, now;
	int rc;

	if ((rc = routed_end(s->domain, &pid)) < 0)
		return cli_failed(rc);
	if (pid == 0) {
		cli_error("no route daemon runs for domain %s", s->domain);
		return CLI_NO_DAEMON;
	}
	if (pid < 0) {
		cli_error("the route daemon of domain %s runs in another pid "
		    "namespace: end it there", s->domain);
		return CLI_PERMISSION;
	}
	while (routed_pid(s->domain, &now) == 0 && now == pid) {
		if (clock_ns() > deadline) {
			cli_error("the route daemon of domain %s (pid %d) does "
			    "not end", s->domain, (int)pid);
			return CLI_TIMEOUT;
		}
		nanosleep(&pause, NULL);
	}
	return CLI_OK;
}

/* ---- running ----------------------------------------------------------------------------- */

/* From here on the log goes where the options say; what went wrong before has
 * reached the starter. */
static void say_ready(const struct routed *r)
{
	if (foreground) {
		printf("zcp-routed: domain %s ready (pid %d, %s)\n",
		    r->d.name, (int)getpid(), r->claim.site.socket);
		fflush(stdout);
	}
	if (log_fd >= 0)
		dup2(log_fd, STDERR_FILENO);
	background_ready(log_fd >= 0);
}

static int open_log(void)
{
	int cause;

	if (log_file == NULL)
		return CLI_OK;
	log_fd = open(log_file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC |
	    O_NOCTTY, 0600);
	if (log_fd >= 0)
		return CLI_OK;
	cause = errno;
	cli_error("cannot open the log file %s: %s", log_file,
	    strerror(cause));
	return cause == EACCES ? CLI_PERMISSION : CLI_ERROR;
}

static int serve(void *arg)
{
	const struct settings *s = arg;
	static struct routed r;
	int rc;

	if ((rc = open_log()) != CLI_OK)
		return rc;
	if ((rc = routed_run(&r, s, say_ready)) == 1)
		cli_note("domain %s is served already", s->domain);
	return rc < 0 ? cli_failed(rc) : CLI_OK;
}

static int run(const char *const *operands)
{
	struct settings settings;
	int status, rc;

	if (operands[0] != NULL)
		return cli_usage("unexpected operand '%s'", operands[0]);
	if ((status = read_settings(&settings)) != CLI_OK)
		return status;
	if (status_wanted)
		return print_status(&settings);
	if (stop_wanted)
		return stop_daemon(&settings);
	if (dry_run)
		return try_out(&settings);
	/* In the background it leaves this working directory. */
	if ((rc = site_fix_runtime()) < 0)
		return cli_failed(rc);
	return foreground ? serve(&settings) : background(serve, &settings);
}

int main(int argc, const char **argv)
{
	static const struct cli_optional optional[] = {
		{ "--private", "--private=10s" },
		{ NULL, NULL }
	};

	cli.optional = optional;
	return cli_main(argc, argv, options, "", run);
}
