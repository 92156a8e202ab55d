/* cli.h - what all commands share: options, numbers, errors, signals. */
#ifndef ZCP_CLI_H
#define ZCP_CLI_H

#include <popt.h>
#include <stdbool.h>
#include <stdint.h>

#include "zcp.h"

enum cli_status {
	CLI_OK = 0,
	CLI_ERROR = 1,
	CLI_USAGE = 2,
	CLI_TIMEOUT = 3,
	CLI_LOSS = 4,
	CLI_PERMISSION = 5,
	CLI_NO_DAEMON = 69,
};

/* "--retain" alone, and what it stands for: "--retain=1h". */
struct cli_optional {
	const char *option, *full;
};

struct cli {
	const char *command;	/* "zcp-pub" */
	const struct cli_optional *optional;	/* set by main(), or NULL */
	char *domain;		/* NULL: the library's default */
	char *name;
	int quiet, verbose, no_autostart;
	int version;
};
extern struct cli cli;
extern struct poptOption cli_common[];
#define CLI_COMMON { NULL, 0, POPT_ARG_INCLUDE_TABLE, cli_common, 0,	\
	"Common options:", NULL }

/*
 * Reads the defaults in ~/.config/zcp/zcp.conf and <command>.conf, and the
 * command line, answers --help, --usage and --version,
 * then calls run(operands), a NULL-terminated list, and returns its status; a signal
 * that was noted meanwhile ends the process as it would have by default.
 */
int cli_main(int argc, const char **argv, const struct poptOption *options,
    const char *operands, int (*run)(const char *const *operands));

/* "zcp-pub: message" on stderr; cli_note() only without -q. */
void cli_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void cli_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Called before each message: clears what stands on the terminal's line. */
void cli_before_message(void (*clear)(void));
/* Are colours wanted there (--color, NO_COLOR, a terminal)? */
bool cli_colored(int fd);
/* A usage error: the message, a pointer to --help; returns CLI_USAGE. */
int cli_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Prints zcp_errmsg(); the exit status that goes with a library's result. */
int cli_failed(int rc);

/* Attaches as the common options say; an exit status. */
int cli_open(zcp **bus);

/* ---- signals --------------------------------------------------------------- */

/* The first SIGINT, SIGTERM or SIGHUP is noted, so that what was read is
 * delivered; a second one ends the process at once. */
void cli_catch_signals(void);
int cli_signal(void);		/* the noted one, or 0 */
/* Ends as a write to a pipe that nobody reads would. */
void cli_broken_pipe(void);
/* Is nobody left who reads standard output, a pipe or socket? */
bool cli_unread(void);
/* A descriptor that is readable once a signal was noted. */
int cli_signal_fd(void);

#endif
