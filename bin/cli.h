/* cli.h - what all commands share: options, numbers, errors, signals. */
#ifndef ZCP_CLI_H
#define ZCP_CLI_H

#include <popt.h>
#include <stdbool.h>
#include <stdint.h>

enum cli_status {
	CLI_OK = 0,
	CLI_ERROR = 1,
	CLI_USAGE = 2,
	CLI_TIMEOUT = 3,
	CLI_LOSS = 4,
	CLI_PERMISSION = 5,
	CLI_NO_DAEMON = 69,
};

struct cli {
	const char *command;	/* "zcp-pub" */
	char *domain;		/* NULL: the library's default */
	char *name;
	int quiet, verbose;
	int version;
};
extern struct cli cli;
extern struct poptOption cli_common[];
#define CLI_COMMON { NULL, 0, POPT_ARG_INCLUDE_TABLE, cli_common, 0,	\
	"Common options:", NULL }

/*
 * Parses, answers --help, --usage and --version, then calls
 * run(operands), a NULL-terminated list, and returns its status; a signal
 * that was noted meanwhile ends the process as it would have by default.
 */
int cli_main(int argc, const char **argv, const struct poptOption *options,
    const char *operands, int (*run)(const char *const *operands));

/*
 * An option whose argument may be left out, and else follows "=": popt would
 * take the next operand for it.  Before cli_main().
 */
void cli_optional(int argc, const char **argv, const char *option,
    const char *full);

/* "zcp-pub: message" on stderr; cli_note() only without -q. */
void cli_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void cli_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* A usage error: the message, a pointer to --help; returns CLI_USAGE. */
int cli_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Prints zcp_errmsg(); the exit status that goes with a library's result. */
int cli_failed(int rc);

/* "64K", "2M", "1G" (1024s); "10s", "250ms", "5us", "1.5" (seconds), "2m",
 * "1h" as nanoseconds.  False: not such a text. */
bool cli_size(const char *text, uint64_t *bytes);
bool cli_time(const char *text, int64_t *ns);

/* ---- signals --------------------------------------------------------------- */

/* SIGINT and SIGTERM are noted once, so that what was read is delivered; a
 * second one ends at once. */
void cli_catch_signals(void);
int cli_signal(void);		/* the noted one, or 0 */
/* A descriptor that is readable once a signal was noted. */
int cli_signal_fd(void);

#endif
