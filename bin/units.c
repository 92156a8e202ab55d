#include "units.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- clocks ----------------------------------------------------------------- */

static int64_t clock_of(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return t.tv_sec * SECOND + t.tv_nsec;
}

int64_t now_ns(void)
{
	return clock_of(CLOCK_MONOTONIC);
}

#define OFFSET_STEP INT64_C(10000)
#define OFFSET_OLD (60 * SECOND)	/* the clock may have been set since */

int64_t realtime_offset(void)
{
	static int64_t offset, read;
	int64_t now = clock_of(CLOCK_MONOTONIC);

	/* Two readings lie some ns apart, each time others; who compares times
	 * that two processes printed wants them to be the same. */
	if (read == 0 || now - read > OFFSET_OLD) {
		offset = (clock_of(CLOCK_REALTIME) - clock_of(CLOCK_MONOTONIC) +
		    OFFSET_STEP / 2) / OFFSET_STEP * OFFSET_STEP;
		read = now;
	}
	return offset;
}

/* ---- reading ------------------------------------------------------------------ */

bool read_size(const char *text, uint64_t *bytes)
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

/* Spaces of a century, and of a nanosecond. */
#define RATE_LEAST 3e-10
#define RATE_MOST 1e9

/* Nanoseconds in a unit; 0: no such unit. */
static double unit_ns(const char *name)
{
	static const struct { const char *name; double ns; } units[] = {
		{ "s", 1e9 }, { "ms", 1e6 }, { "us", 1e3 }, { "ns", 1 },
		{ "m", 60e9 }, { "min", 60e9 }, { "h", 3600e9 },
		{ "d", 86400e9 },
	};

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (strcmp(name, units[i].name) == 0)
			return units[i].ns;
	return 0;
}

static bool read_decimal(const char *text, double *n, char **end)
{
	if (!isdigit((unsigned char)*text) && *text != '.')
		return false;
	*n = strtod(text, end);
	return *end != text && isfinite(*n);
}

bool read_time(const char *text, int64_t *ns)
{
	char *end;
	double n, unit;

	if (!read_decimal(text, &n, &end))
		return false;
	unit = *end == '\0' ? 1e9 : unit_ns(end);
	if (unit == 0 || n * unit >= 9e18)
		return false;
	*ns = (int64_t)(n * unit);
	return true;
}

bool read_rate(const char *text, double *rate)
{
	double n, unit = 1e9;
	char *end;

	if (!read_decimal(text, &n, &end))
		return false;
	if (toupper((unsigned char)*end) == 'K' || *end == 'M') {
		n *= *end == 'M' ? 1e6 : 1e3;
		end++;
	}
	if (*end == '/')
		unit = unit_ns(end + 1);
	else if (*end != '\0')
		return false;
	if (unit == 0)
		return false;
	*rate = n * 1e9 / unit;
	return *rate >= RATE_LEAST && *rate <= RATE_MOST;
}

static int hex_digit(char c)
{
	return isdigit((unsigned char)c) ? c - '0' :
	    isxdigit((unsigned char)c) ? tolower((unsigned char)c) - 'a' + 10 :
	    -1;
}

size_t unescape(char *text)
{
	static const char names[] = "ntr0ae\\", bytes[] = "\n\t\r\0\a\033\\";
	char *out = text;

	for (const char *in = text; *in != '\0'; in++) {
		const char *name;

		if (*in != '\\') {
			*out++ = *in;
			continue;
		}
		in++;
		if (*in == 'x' && hex_digit(in[1]) >= 0 &&
		    hex_digit(in[2]) >= 0) {
			*out++ = (char)(hex_digit(in[1]) * 16 +
			    hex_digit(in[2]));
			in += 2;
		} else if (*in != '\0' && (name = strchr(names, *in)) != NULL)
			*out++ = bytes[name - names];
		else
			return (size_t)-1;
	}
	*out = '\0';
	return (size_t)(out - text);
}

/* ---- showing -------------------------------------------------------------------- */

enum { BUFFERS = 8, BUFFER = 32 };

static char *buffer(void)
{
	static char buffers[BUFFERS][BUFFER];
	static unsigned next;

	return buffers[next++ % BUFFERS];
}

static const char *scaled(double n, double by, const char *const *units)
{
	char *out = buffer();

	while (n >= 999.5 && units[1] != NULL) {
		n /= by;
		units++;
	}
	snprintf(out, BUFFER, "%.*f%s", n >= 99.95 || **units == '\0' ||
	    units[0][1] == 'B' ? 0 : n >= 9.995 ? 1 : 2, n, *units);
	return out;
}

const char *show_bytes(double bytes)
{
	static const char *const units[] = { " B", " KiB", " MiB", " GiB",
	    " TiB", NULL };

	return scaled(bytes, 1024, units);
}

const char *show_count(double count)
{
	static const char *const units[] = { "", " k", " M", " G", " T", NULL };

	return scaled(count, 1000, units);
}

const char *show_time(int64_t ns)
{
	char *out = buffer();
	int64_t s = ns / SECOND;

	snprintf(out, BUFFER, "%" PRId64 ":%02d:%02d", s / 3600,
	    (int)(s / 60 % 60), (int)(s % 60));
	return out;
}

const char *show_duration(double ns)
{
	char *text = buffer();

	if (ns < 1e3)
		snprintf(text, BUFFER, "%.0f ns", ns);
	else if (ns < 1e6)
		snprintf(text, BUFFER, "%.1f us", ns / 1e3);
	else if (ns < 1e9)
		snprintf(text, BUFFER, "%.1f ms", ns / 1e6);
	else if (ns < 3600e9)
		snprintf(text, BUFFER, "%.1f s", ns / 1e9);
	else
		return show_time((int64_t)ns);
	return text;
}
