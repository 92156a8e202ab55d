/* units.h - numbers, times and escapes as people write and read them. */
#ifndef ZCP_UNITS_H
#define ZCP_UNITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SECOND INT64_C(1000000000)

/* CLOCK_MONOTONIC, ns. */
int64_t now_ns(void);
/* What to add to it for CLOCK_REALTIME; as of a minute ago at most. */
int64_t realtime_offset(void);

/* "64K", "2M", "1G" (1024s); "10s", "250ms", "5us", "1.5" (seconds), "2m",
 * "1h" as nanoseconds.  False: not such a text. */
bool read_size(const char *text, uint64_t *bytes);
bool read_time(const char *text, int64_t *ns);

/* "1000", "1000/s", "10/min", "2.5/h": how many a second; from
 * one in a century to one in a nanosecond. */
bool read_rate(const char *text, double *rate);

/*
 * \n \t \r \0 \a \e \\ \xHH in place.  Returns the length, since there may be
 * zero bytes; (size_t)-1: another escape.
 */
size_t unescape(char *text);

/* "1.50 MiB", "12.3 k", "1:02:03" in a static buffer: of eight, so that one
 * call of printf may have several. */
const char *show_bytes(double bytes);
const char *show_count(double count);
const char *show_time(int64_t ns);
/* "350 ns", "12.3 us", "1.20 s": how long something took. */
const char *show_duration(double ns);

#endif
