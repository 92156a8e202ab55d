/* wait.c - how readers wait: look, spin, sleep on the bells of their topics. */
#include "wait.h"

#include "clock.h"

bool sub_ready(struct zcp_sub *sub, uint64_t *due)
{
	const struct port *p = &sub->bus->d.ports[sub->port];
	uint64_t until;

	if (sub->untold > 0 || fact_load(&p->generation) !=
	    sub->links.generation)
		return true;
	if (sub->merge && merge_next(sub, &until) == NULL &&
	    until != UINT64_MAX) {
		if (until < *due)
			*due = until;
		return false;
	}
	for (uint32_t k = 0; k < sub->count; k++)
		if (feed_ready(sub_feed(sub, k))) {
			/* It may be an end: the next vain take looks. */
			sub->idle = 0;
			sub->polled = false;
			return true;
		}
	return false;
}

bool several_ready(const struct several *s, uint64_t *due)
{
	for (size_t i = 0; i < s->count; i++)
		if (sub_ready(s->sub[i], due))
			return true;
	return false;
}

/* ---- bells --------------------------------------------------------------------- */

static bool add_bell(struct bell **bells, unsigned *n, unsigned room,
    struct bell *bell)
{
	for (unsigned i = 0; i < *n; i++)
		if (bells[i] == bell)
			return true;
	if (*n == room)
		return false;
	bells[(*n)++] = bell;
	return true;
}

static bool add_bells(const struct zcp_sub *sub, struct bell **bells,
    unsigned *n, unsigned room)
{
	struct domain *d = &sub->bus->d;
	bool fit = sub->topic_bell == NULL ||
	    add_bell(bells, n, room, sub->topic_bell);

	for (uint32_t k = 0; k < sub->count && fit && sub->pattern; k++)
		fit = add_bell(bells, n, room, domain_bell(d,
		    bell_of_topic(sub_feed(sub, k)->topic)));
	return fit;
}

unsigned several_bells(const struct several *s, struct bell **bells,
    unsigned room, struct bell **news)
{
	struct domain *d = &s->sub[0]->bus->d;
	bool fit = d->waitv;
	unsigned n = 0;

	*news = domain_bell(d, BELL_DOMAIN);
	for (size_t i = 0; i < s->count && fit; i++)
		fit = add_bells(s->sub[i], bells, &n, room);
	if (fit)
		return n;
	/* Too many, or one is all that this kernel can wait for: every
	 * publisher looks at the domain's bell. */
	bells[0] = *news;
	*news = NULL;
	return 1;
}

/* ---- waiting --------------------------------------------------------------------- */

static bool ready_now(void *arg)
{
	uint64_t due = UINT64_MAX;

	return several_ready(arg, &due);
}

struct until {
	const struct several *s;
	uint64_t due;			/* as planned */
};

/* Or something has come that is due earlier than planned. */
static bool plan_changed(void *arg)
{
	struct until *until = arg;
	uint64_t due = until->due;

	return several_ready(until->s, &due) || due < until->due;
}

int several_wait(const struct several *s, struct spin *spin, int64_t timeout)
{
	uint64_t deadline = deadline_after(timeout), left, began;
	struct until until = { .s = s };
	struct domain *d = &s->sub[0]->bus->d;
	struct bell *bells[BELLS_MAX];
	struct sleeper sleeper = { .bells = bells, .symmetric = d->symmetric,
	    .waitv = d->waitv, .marks_alone = true, .ready = plan_changed,
	    .arg = &until };
	int rc;

	if (ready_now((void *)s) || (timeout != 0 &&
	    spin_until(spin, deadline, ready_now, (void *)s)))
		return 1;
	began = clock_ns();
	sleeper.count = several_bells(s, bells, BELLS_MAX - 1, &sleeper.unmarked);
	for (;;) {
		until.due = deadline;
		if ((rc = bus_check(s->sub[0]->bus)) < 0)
			return rc;
		if (several_ready(s, &until.due)) {
			spin_learn(spin, began);
			return 1;
		}
		if ((left = deadline_left(until.due, BELL_RECHECK)) > 0 &&
		    (rc = bell_sleep(&sleeper, left)) < 0)
			return rc;
		if (left == 0 && deadline_left(deadline, 1) == 0)
			return 0;
	}
}

int zcp_wait(zcp_sub *sub, int64_t timeout)
{
	struct several s = { &sub, 1 };
	int rc;

	if ((rc = bus_check(sub->bus)) < 0)
		return rc;
	return several_wait(&s, &sub->spin, timeout);
}
