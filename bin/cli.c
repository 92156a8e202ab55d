#include "cli.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "zcp.h"

struct cli cli;

struct poptOption cli_common[] = {
	{ "domain", 'd', POPT_ARG_STRING, &cli.domain, 0,
	    "the bus to use (default: $ZCP_DOMAIN, else \"default\")", "NAME" },
	{ "name", '\0', POPT_ARG_STRING, &cli.name, 0,
	    "the participant's name (default: the command's)", "NAME" },
	{ "quiet", 'q', POPT_ARG_NONE, &cli.quiet, 0,
	    "say nothing but errors", NULL },
	{ "verbose", 'v', POPT_ARG_NONE, &cli.verbose, 0,
	    "say more on stderr", NULL },
	{ "version", '\0', POPT_ARG_NONE, &cli.version, 0,
	    "print the version and exit", NULL },
	POPT_TABLEEND
};

/* ---- messages ------------------------------------------------------------------ */

static void say(const char *format, va_list ap)
{
	char text[1280];

	vsnprintf(text, sizeof(text), format, ap);
	fprintf(stderr, "%s: %s\n", cli.command, text);
}

void cli_error(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	say(format, ap);
	va_end(ap);
}

void cli_note(const char *format, ...)
{
	va_list ap;

	if (cli.quiet)
		return;
	va_start(ap, format);
	say(format, ap);
	va_end(ap);
}

int cli_usage(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	say(format, ap);
	va_end(ap);
	fprintf(stderr, "Try '%s --help'.\n", cli.command);
	return CLI_USAGE;
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

/* ---- numbers --------------------------------------------------------------------- */

bool cli_size(const char *text, uint64_t *bytes)
{
	static const char units[] = "KMGT";
	const char *unit;
	unsigned long long n;
	unsigned shift = 0;
	char *end;

	if (!isdigit((unsigned char)*text))
		return false;
	errno = 0;
	n = strtoull(text, &end, 10);
	if (*end != '\0') {
		unit = strchr(units, toupper((unsigned char)*end));
		if (unit == NULL || end[1] != '\0')
			return false;
		shift = 10u * (unsigned)(unit - units + 1);
	}
	if (errno != 0 || n > UINT64_MAX >> shift)
		return false;
	*bytes = (uint64_t)n << shift;
	return true;
}

bool cli_time(const char *text, int64_t *ns)
{
	static const struct { const char *name; double ns; } units[] = {
		{ "", 1e9 }, { "s", 1e9 }, { "ms", 1e6 }, { "us", 1e3 },
		{ "ns", 1 }, { "m", 60e9 }, { "min", 60e9 }, { "h", 3600e9 },
		{ "d", 86400e9 },
	};
	char *end;
	double n;

	if (!isdigit((unsigned char)*text) && *text != '.')
		return false;
	n = strtod(text, &end);
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (strcmp(end, units[i].name) == 0 && isfinite(n) &&
		    n * units[i].ns < 9e18) {
			*ns = (int64_t)(n * units[i].ns);
			return true;
		}
	return false;
}

/* ---- signals ---------------------------------------------------------------------- */

static volatile sig_atomic_t noted;
static int signal_pipe[2] = { -1, -1 };

static void note_signal(int sig)
{
	int saved = errno;

	noted = sig;
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
	act.sa_flags = (int)SA_RESETHAND;
	sigaction(SIGINT, &act, NULL);
	sigaction(SIGTERM, &act, NULL);
}

int cli_signal(void)
{
	return noted;
}

int cli_signal_fd(void)
{
	return signal_pipe[0];
}

/* ---- main ----------------------------------------------------------------------------- */

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

void cli_optional(int argc, const char **argv, const char *option,
    const char *full)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (strcmp(argv[i], option) == 0)
			argv[i] = full;
}

int cli_main(int argc, const char **argv, const struct poptOption *options,
    const char *operands, int (*run)(const char *const *operands))
{
	static const char *const none[] = { NULL };
	const char *const *rest;
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
	while ((rc = poptGetNextOpt(context)) > 0)
		;
	if (rc < -1) {
		rc = cli_usage("%s: %s", poptBadOption(context,
		    POPT_BADOPTION_NOALIAS), poptStrerror(rc));
	} else if (cli.version) {
		printf("%s (zcp) %s\n", cli.command, zcp_version());
		rc = CLI_OK;
	} else {
		rest = (const char *const *)poptGetArgs(context);
		rc = run(rest ? rest : none);
	}
	poptFreeContext(context);
	if (noted != 0) {
		signal(noted, SIG_DFL);
		raise(noted);
	}
	return rc;
}
