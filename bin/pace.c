#include "pace.h"

#include <poll.h>
#include <time.h>

#include "cli.h"
#include "progress.h"
#include "units.h"

/* Who is late by more catches up no further: no burst after a long wait. */
#define LATE_MOST (SECOND / 20)

void pace_set(struct pace *p, double rate)
{
	p->every = (int64_t)(SECOND / rate);
	p->due = 0;
}

bool pace_until(int64_t when)
{
	int64_t left;

	while (!cli_signal() && (left = when - now_ns()) > 0) {
		struct pollfd p = { .fd = cli_signal_fd(), .events = POLLIN };
		struct timespec t;

		if (left > SECOND / 2)
			left = SECOND / 2;
		t = (struct timespec){ left / SECOND, left % SECOND };
		ppoll(&p, 1, &t, NULL);
		progress_tick();
	}
	return !cli_signal();
}

bool pace_next(struct pace *p)
{
	int64_t now;

	if (p->every == 0)
		return !cli_signal();
	now = now_ns();
	if (p->due == 0 || now - p->due > LATE_MOST)
		p->due = now;
	if (!pace_until(p->due))
		return false;
	p->due += p->every;
	return true;
}
