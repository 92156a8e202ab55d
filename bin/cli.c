#include "cli.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "units.h"

struct cli cli;

static char *color_text;
static char defaults[4096];		/* a file that some came from, or "" */

struct poptOption cli_common[] = {
	{ "domain", 'd', POPT_ARG_STRING, &cli.domain, 0,
	    "the bus to use (default: $ZCP_DOMAIN, else \"default\")", "NAME" },
	{ "name", '\0', POPT_ARG_STRING, &cli.name, 0,
	    "the participant's name (default: the command's)", "NAME" },
	{ "quiet", 'q', POPT_ARG_NONE, &cli.quiet, 0,
	    "say nothing but errors", NULL },
	{ "verbose", 'v', POPT_ARG_NONE, &cli.verbose, 0,
	    "say more on stderr", NULL },
	{ "no-autostart", '\0', POPT_ARG_NONE, &cli.no_autostart, 0,
	    "as a client start no daemon where there is none", NULL },
	{ "color", '\0', POPT_ARG_STRING, &color_text, 0,
	    "auto (default: on a terminal), always or never", "WHEN" },
	{ "version", '\0', POPT_ARG_NONE, &cli.version, 0,
	    "print the version and exit", NULL },
	POPT_TABLEEND
};

/* ---- messages ------------------------------------------------------------------ */

static void (*before_message)(void);

void cli_before_message(void (*clear)(void))
{
	before_message = clear;
}

bool cli_colored(int fd)
{
	const char *no_color = getenv("NO_COLOR");

	if (color_text != NULL && strcmp(color_text, "auto") != 0)
		return strcmp(color_text, "always") == 0;
	return isatty(fd) && (no_color == NULL || *no_color == '\0');
}

enum { RED = 31, YELLOW = 33 };

static void say(int color, const char *format, va_list ap)
{
	char text[1280];

	if (before_message != NULL)
		before_message();
	vsnprintf(text, sizeof(text), format, ap);
	if (cli_colored(STDERR_FILENO))
		fprintf(stderr, "\033[%dm%s:\033[0m %s\n", color,
		    cli.command, text);
	else
		fprintf(stderr, "%s: %s\n", cli.command, text);
}

void cli_error(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	say(RED, format, ap);
	va_end(ap);
}

void cli_note(const char *format, ...)
{
	va_list ap;

	if (cli.quiet)
		return;
	va_start(ap, format);
	say(YELLOW, format, ap);
	va_end(ap);
}

int cli_usage(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	say(RED, format, ap);
	va_end(ap);
	fprintf(stderr, "Try '%s --help'.%s%s%s\n", cli.command,
	    *defaults ? " (" : "", defaults,
	    *defaults ? " has a say, too.)" : "");
	return CLI_USAGE;
}

int cli_open(zcp **bus)
{
	zcp_options o = { .domain = cli.domain, .name = cli.name,
	    .autostart = !cli.no_autostart, .guard = 1 };
	int rc = zcp_open(bus, &o);

	return rc < 0 ? cli_failed(rc) : CLI_OK;
}

int cli_failed(int rc)
{
	cli_error("%s", zcp_errmsg());
	switch (-rc) {
	case ZCP_E_TIMEOUT: return CLI_TIMEOUT;
	case ZCP_E_PERM: return CLI_PERMISSION;
	case ZCP_E_NODAEMON: return CLI_NO_DAEMON;
	case ZCP_E_ARG: return CLI_USAGE;
	}
	return CLI_ERROR;
}

/* ---- signals ---------------------------------------------------------------------- */

static volatile sig_atomic_t noted;
static int signal_pipe[2] = { -1, -1 };

/* Any second one ends at once. */
static void note_signal(int sig)
{
	int saved = errno;

	noted = sig;
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	signal(SIGHUP, SIG_DFL);
	if (signal_pipe[1] >= 0 && write(signal_pipe[1], "", 1) < 0)
		errno = saved;
	errno = saved;
}

void cli_catch_signals(void)
{
	struct sigaction act;

	if (pipe2(signal_pipe, O_CLOEXEC | O_NONBLOCK) < 0)
		signal_pipe[0] = signal_pipe[1] = -1;
	memset(&act, 0, sizeof(act));
	act.sa_handler = note_signal;
	sigaction(SIGTERM, &act, NULL);
	/* A script's background commands are not ended by its ^C. */
	if (signal(SIGINT, SIG_IGN) != SIG_IGN)
		sigaction(SIGINT, &act, NULL);
	/* Nor does nohup(1)'s command end with the terminal. */
	if (signal(SIGHUP, SIG_IGN) != SIG_IGN)
		sigaction(SIGHUP, &act, NULL);
}

void cli_broken_pipe(void)
{
	signal(SIGPIPE, SIG_DFL);
	raise(SIGPIPE);
}

bool cli_unread(void)
{
	struct pollfd p = { .fd = STDOUT_FILENO, .events = 0 };

	return poll(&p, 1, 0) > 0 &&
	    (p.revents & (POLLERR | POLLHUP | POLLNVAL));
}

int cli_signal(void)
{
	return noted;
}

int cli_signal_fd(void)
{
	return signal_pipe[0];
}

/* ---- before main ---------------------------------------------------------------- */

/* A closed descriptor would be given to something of ours: keep its place,
 * so that using it fails as it should. */
static void keep_standard_places(void)
{
	for (int fd = 0; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
			open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY);
}

/* popt ends the process itself after --help. */
static void check_output(void)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return;
	cli_error("cannot write standard output: %s", strerror(errno));
	_exit(CLI_ERROR);
}

/* Does it look like a number or time that was meant for the option? */
static bool looks_meant(const char *text)
{
	uint64_t size;
	int64_t time;

	return text != NULL && (read_size(text, &size) ||
	    read_time(text, &time));
}

/* Options whose argument may be left out, and else follows "=": popt would
 * take the next operand for it. */
static int expand_optional(int argc, const char **argv)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		for (const struct cli_optional *o = cli.optional;
		    o != NULL && o->option != NULL; o++) {
			if (strcmp(argv[i], o->option) != 0)
				continue;
			if (i + 1 < argc && looks_meant(argv[i + 1]))
				return cli_usage("%s %s: write %s=%s",
				    argv[i], argv[i + 1], argv[i],
				    argv[i + 1]);
			argv[i] = o->full;
		}
	return CLI_OK;
}

/* ---- defaults: one option a line ---- */

static char *trimmed(char *text)
{
	char *end = text + strlen(text);

	while (end > text && isspace((unsigned char)end[-1]))
		*--end = '\0';
	return text + strspn(text, " \t");
}

/* "name" or "name = value", as the long option of that name. */
static int read_default(char *line, const struct poptOption *options,
    const char *path, unsigned number)
{
	char option[1024], *equals = strchr(line, '=');
	const char *argv[] = { cli.command, option };
	poptContext context;
	int rc;

	if (equals != NULL) {
		*equals = '\0';
		snprintf(option, sizeof(option), "--%s=%s", trimmed(line),
		    trimmed(equals + 1));
	} else
		snprintf(option, sizeof(option), "--%s", trimmed(line));
	expand_optional(2, argv);
	context = poptGetContext(cli.command, 2, argv, options, 0);
	while ((rc = poptGetNextOpt(context)) > 0)
		;
	if (rc < -1)
		cli_error("%s:%u: %s: %s", path, number, option +
		    strlen("--"), poptStrerror(rc));
	poptFreeContext(context);
	return rc < -1 ? CLI_USAGE : CLI_OK;
}

static int read_file(const char *name, const struct poptOption *options)
{
	const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	char path[4096], *line = NULL, *text;
	unsigned number = 0;
	size_t room = 0;
	int status = CLI_OK;
	FILE *file;

	if (xdg != NULL && *xdg == '/')
		snprintf(path, sizeof(path), "%s/zcp/%s.conf", xdg, name);
	else if (home != NULL)
		snprintf(path, sizeof(path), "%s/.config/zcp/%s.conf", home,
		    name);
	else
		return CLI_OK;
	if ((file = fopen(path, "re")) == NULL) {
		/* With another user's HOME (su -m, setpriv, docker -u) they
		 * are somebody else's defaults. */
		if (errno == ENOENT || errno == ENOTDIR || errno == EACCES ||
		    errno == EPERM)
			return CLI_OK;
		cli_error("cannot read the defaults in %s: %s", path,
		    strerror(errno));
		return CLI_ERROR;
	}
	while (status == CLI_OK && getline(&line, &room, file) >= 0) {
		text = trimmed(line);
		number++;
		if (*text == '\0' || *text == '#')
			continue;
		snprintf(defaults, sizeof(defaults), "%s", path);
		status = read_default(text, options, path, number);
	}
	free(line);
	fclose(file);
	return status;
}

/* The command line comes after them, and so has the last word. */
static int read_defaults(const struct poptOption *options)
{
	int status = read_file("zcp", options);

	return status == CLI_OK ? read_file(cli.command, options) : status;
}

/* ---- main ----------------------------------------------------------------------------- */

static int parse_and_run(poptContext context,
    int (*run)(const char *const *operands))
{
	static const char *const none[] = { NULL };
	const char *const *rest;
	int rc;

	while ((rc = poptGetNextOpt(context)) > 0)
		;
	if (rc < -1)
		return cli_usage("%s: %s", poptBadOption(context,
		    POPT_BADOPTION_NOALIAS), poptStrerror(rc));
	if (color_text != NULL && strcmp(color_text, "auto") != 0 &&
	    strcmp(color_text, "always") != 0 &&
	    strcmp(color_text, "never") != 0)
		return cli_usage("--color=%s: not auto, always or never",
		    color_text);
	if (cli.version) {
		printf("%s (zcp) %s\n", cli.command, zcp_version());
		return CLI_OK;
	}
	rest = (const char *const *)poptGetArgs(context);
	return run(rest ? rest : none);
}

int cli_main(int argc, const char **argv, const struct poptOption *options,
    const char *operands, int (*run)(const char *const *operands))
{
	poptContext context;
	char usage[128];
	int rc;

	cli.command = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 :
	    argv[0];
	/* libtool's wrapper runs "lt-zcp-pub". */
	if (strncmp(cli.command, "lt-", 3) == 0)
		cli.command += 3;
	keep_standard_places();
	atexit(check_output);
	context = poptGetContext(cli.command, argc, argv, options, 0);
	snprintf(usage, sizeof(usage), "[OPTION...] %s", operands);
	poptSetOtherOptionHelp(context, usage);
	if ((rc = expand_optional(argc, argv)) == CLI_OK &&
	    (rc = read_defaults(options)) == CLI_OK)
		rc = parse_and_run(context, run);
	poptFreeContext(context);
	if (noted != 0) {
		signal(noted, SIG_DFL);
		raise(noted);
	}
	return rc;
}
