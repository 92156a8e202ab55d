#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

enum log_level log_threshold = LOG_LEVEL_INFO;

static const char *const names[] = { "error", "warn", "info", "debug" };

bool log_level_parse(const char *text, enum log_level *level)
{
	for (int i = 0; i <= LOG_LEVEL_DEBUG; i++)
		if (strcmp(text, names[i]) == 0) {
			*level = (enum log_level)i;
			return true;
		}
	return false;
}

static bool to_syslog;

void log_to_syslog(const char *ident)
{
	openlog(ident, LOG_PID, LOG_DAEMON);
	to_syslog = true;
}

static void write_syslog(enum log_level level, const char *format, va_list ap)
{
	static const int priority[] = { LOG_ERR, LOG_WARNING, LOG_INFO,
	    LOG_DEBUG };

	vsyslog(priority[level], format, ap);
}

void log_write(enum log_level level, const char *format, ...)
{
	char line[1024];
	struct timespec now;
	struct tm tm;
	size_t n;
	va_list ap;

	if (level > log_threshold)
		return;
	if (to_syslog) {
		va_start(ap, format);
		write_syslog(level, format, ap);
		va_end(ap);
		return;
	}
	clock_gettime(CLOCK_REALTIME, &now);
	localtime_r(&now.tv_sec, &tm);
	n = strftime(line, sizeof(line), "%F %T", &tm);
	n += (size_t)snprintf(line + n, sizeof(line) - n, ".%03ld %-5s ",
	    now.tv_nsec / 1000000, names[level]);
	va_start(ap, format);
	vsnprintf(line + n, sizeof(line) - n - 1, format, ap);
	va_end(ap);
	strcat(line, "\n");
	/* One write, so that lines of several processes do not mix. */
	if (write(STDERR_FILENO, line, strlen(line)) < 0)
		return;
}
