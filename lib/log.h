/* log.h - the daemon's log: one line for each event, on stderr or to syslog. */
#ifndef ZCP_LOG_H
#define ZCP_LOG_H

#include <stdbool.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG };

extern enum log_level log_threshold;

/* "error", "warn", "info" or "debug"; false for anything else. */
bool log_level_parse(const char *text, enum log_level *level);

/* From now on to syslog, as `ident`, which must stay. */
void log_to_syslog(const char *ident);

void log_write(enum log_level level, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_write(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
