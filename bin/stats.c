#include "stats.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "units.h"

/*
 * Delays in buckets of a constant relative width: sixteen to each power of
 * two, as Tene's HdrHistogram has them.
 */
enum { STEPS_LOG = 4, STEPS = 1 << STEPS_LOG, BUCKETS = 64 * STEPS };

struct window {
	uint64_t messages, bytes, lost;
	int64_t began;
	uint64_t intervals;		/* ns, between one and the next */
	double interval_sum;
	uint64_t interval_min, interval_max;
	uint64_t delays;
	uint32_t delay[BUCKETS];
};

static struct {
	bool wanted, json;
	uint64_t last_time;		/* of the last message */
	struct window second, whole;
} at;

static unsigned bucket_of(uint64_t ns)
{
	unsigned high;

	if (ns < STEPS)
		return (unsigned)ns;
	high = 63u - (unsigned)__builtin_clzll(ns);
	return (high - STEPS_LOG + 1) * STEPS +
	    (unsigned)(ns >> (high - STEPS_LOG) & (STEPS - 1));
}

/* The middle of a bucket. */
static double bucket_ns(unsigned i)
{
	unsigned high = i / STEPS;

	return high == 0 ? i : ldexp(STEPS + i % STEPS + 0.5, (int)high - 1);
}

static double percentile(const struct window *w, double part)
{
	uint64_t want = (uint64_t)ceil((double)w->delays * part), seen = 0;
	unsigned i = 0;

	while (i < BUCKETS && (seen += w->delay[i]) < want)
		i++;
	return bucket_ns(i);
}

static void begin(struct window *w)
{
	memset(w, 0, sizeof(*w));
	w->began = now_ns();
	w->interval_min = UINT64_MAX;
}

void stats_begin(bool json)
{
	at.wanted = true;
	at.json = json;
	begin(&at.second);
	begin(&at.whole);
}

bool stats_wanted(void)
{
	return at.wanted;
}

static void count(struct window *w, const zcp_msg *msg, uint64_t interval,
    uint64_t delay)
{
	w->messages++;
	w->bytes += msg->size;
	if (interval != UINT64_MAX) {
		w->intervals++;
		w->interval_sum += (double)interval;
		if (interval < w->interval_min)
			w->interval_min = interval;
		if (interval > w->interval_max)
			w->interval_max = interval;
	}
	if (delay != UINT64_MAX) {
		w->delays++;
		w->delay[bucket_of(delay)]++;
	}
}

void stats_message(const zcp_msg *msg)
{
	uint64_t now = (uint64_t)now_ns(), when = msg->time ? msg->time : now;
	uint64_t interval = UINT64_MAX, delay = UINT64_MAX;

	if (at.last_time != 0)
		interval = when > at.last_time ? when - at.last_time : 0;
	if (msg->time != 0)
		delay = now > msg->time ? now - msg->time : 0;
	at.last_time = when;
	count(&at.second, msg, interval, delay);
	count(&at.whole, msg, interval, delay);
}

/* ---- showing -------------------------------------------------------------------- */

static const char *us(char text[32], bool known, double ns)
{
	if (known)
		snprintf(text, 32, "%.*f", ns < 99950 ? 1 : 0, ns / 1e3);
	else
		strcpy(text, at.json ? "null" : "-");
	return text;
}

static void show(const struct window *w, uint64_t lost, const char *what)
{
	double seconds = (double)(now_ns() - w->began) / SECOND;
	double messages = (double)w->messages / seconds;
	double bytes = (double)w->bytes / seconds;
	char least[32], mean[32], most[32], p50[32], p99[32];

	us(least, w->intervals > 0, (double)w->interval_min);
	us(mean, w->intervals > 0, w->interval_sum / (double)w->intervals);
	us(most, w->intervals > 0, (double)w->interval_max);
	us(p50, w->delays > 0, percentile(w, 0.5));
	us(p99, w->delays > 0, percentile(w, 0.99));
	if (at.json)
		fprintf(stderr, "{\"stats\":\"%s\",\"seconds\":%.3f,"
		    "\"messages\":%" PRIu64 ",\"bytes\":%" PRIu64
		    ",\"messages_per_second\":%.1f,\"bytes_per_second\":%.0f,"
		    "\"interval_us\":{\"min\":%s,\"mean\":%s,\"max\":%s},"
		    "\"delay_us\":{\"p50\":%s,\"p99\":%s},\"lost\":%" PRIu64
		    "}\n", what, seconds, w->messages, w->bytes, messages,
		    bytes, least, mean, most, p50, p99, lost - w->lost);
	else
		cli_note("%s: %s msg/s, %s/s, interval %s/%s/%s us, delay p50 "
		    "%s p99 %s us, %" PRIu64 " messages, %" PRIu64 " lost",
		    what, show_count(messages), show_bytes(bytes), least, mean,
		    most, p50, p99, w->messages, lost - w->lost);
}

void stats_tick(uint64_t lost)
{
	if (!at.wanted || now_ns() - at.second.began < SECOND)
		return;
	show(&at.second, lost, "second");
	begin(&at.second);
	at.second.lost = lost;
}

void stats_end(uint64_t lost)
{
	if (at.wanted)
		show(&at.whole, lost, "whole");
}
