#include "progress.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli.h"
#include "units.h"

#define EVERY (SECOND / 2)
enum { WIDEST = 512 };

static struct {
	bool on, drawn;
	uint64_t total, messages, bytes;
	uint64_t last_messages, last_bytes;
	int64_t began, last;
	double message_rate, byte_rate;
	char waits[160];
} at;

/* A job in the background would write into what the one in front writes, and
 * be stopped where the terminal is set so (stty tostop). */
static bool in_front(void)
{
	return tcgetpgrp(STDERR_FILENO) == getpgrp();
}

static void clear(void)
{
	if (at.drawn && in_front())
		fputs("\r\033[K", stderr);
	at.drawn = false;
}

void progress_begin(uint64_t total)
{
	at.on = isatty(STDERR_FILENO) && !cli.quiet;
	at.total = total;
	at.began = at.last = now_ns();
	if (at.on)
		cli_before_message(clear);
}

void progress_give_way(void)
{
	if (!at.drawn)
		return;
	clear();
	fflush(stderr);
}

bool progress_shown(void)
{
	return at.on;
}

void progress_add(uint64_t messages, uint64_t bytes)
{
	at.messages += messages;
	at.bytes += bytes;
}

void progress_waits(const char *what)
{
	snprintf(at.waits, sizeof(at.waits), "%s", what ? what : "");
}

static unsigned columns(void)
{
	struct winsize size;

	return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 &&
	    size.ws_col > 0 ? size.ws_col : 80;
}

static void draw(int64_t now)
{
	char line[WIDEST];
	size_t n;

	if (!in_front())
		return;

	n = (size_t)snprintf(line, sizeof(line),
	    "%s %s [%s/s] %s messages [%s/s]", show_bytes((double)at.bytes),
	    show_time(now - at.began), show_bytes(at.byte_rate),
	    show_count((double)at.messages), show_count(at.message_rate));
	if (at.total > 0 && at.bytes > 0) {
		double done = (double)at.bytes / (double)at.total;

		if (done > 1)
			done = 1;
		n += (size_t)snprintf(line + n, sizeof(line) - n,
		    " %.0f%% ETA %s", done * 100, show_time((int64_t)((double)
		    (now - at.began) * (1 - done) / done)));
	}
	if (at.waits[0] != '\0')
		n += (size_t)snprintf(line + n, sizeof(line) - n,
		    ", waits for %s", at.waits);
	if (n >= sizeof(line))
		n = sizeof(line) - 1;
	if (n >= columns())
		n = columns() - 1;
	fprintf(stderr, "\r%.*s\033[K", (int)n, line);
	fflush(stderr);
	at.drawn = true;
}

/* Over the time since the last look. */
static void measure(int64_t now)
{
	double seconds = (double)(now - at.last) / SECOND;

	at.message_rate = (double)(at.messages - at.last_messages) / seconds;
	at.byte_rate = (double)(at.bytes - at.last_bytes) / seconds;
	at.last_messages = at.messages;
	at.last_bytes = at.bytes;
	at.last = now;
}

void progress_tick(void)
{
	int64_t now;

	if (!at.on || (now = now_ns()) - at.last < EVERY)
		return;
	measure(now);
	draw(now);
}

void progress_end(void)
{
	int64_t now = now_ns();

	/* What was over before a first line was due says nothing. */
	if (!at.on || (!at.drawn && now - at.began < EVERY))
		return;
	at.last = at.began;
	at.last_messages = at.last_bytes = 0;
	at.waits[0] = '\0';
	measure(now);
	draw(now);
	if (at.drawn)
		fputc('\n', stderr);
	at.drawn = at.on = false;
}
