/*
 * pollable.c - an eventfd for poll(2), fed by a thread that sleeps on the
 * bells.
 *
 * The thread must not look at feeds, which belong to the reader's thread.  So
 * the reader hands it a list of plain facts: which slot must get which stamp,
 * which generation must change, until when.  It owns the list while armed;
 * when one of the facts has come it makes the descriptor readable and waits
 * to be armed again, by the next take that finds nothing.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "clock.h"
#include "own.h"
#include "wait.h"

/* A ring's next slot; its file stays mapped while it is listed. */
struct watched_ring {
	const struct ring *ring;
	const struct port *port;
	uint32_t mask, serial;
	uint64_t at;
	bool founded;
	struct peer *peer;
};

/* The generation of a subscription's list of publishers. */
struct watched_word {
	const shared_u64 *word;
	uint64_t value;
};

struct watch {
	struct watched_ring *ring;
	size_t rings, ring_room;
	struct watched_word *word;
	size_t words, word_room;
	uint64_t due;
};

struct pollable {
	struct domain *d;
	struct kept kept;		/* the eventfd; under lock once the thread runs */
	struct bell quit;		/* rung to get the thread out of bed */
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool armed;			/* under lock */
	/* Written under lock, and read without it by came(): who rings `quit`
	 * has stored one of them before. */
	_Atomic bool recalled, stop;
	struct watch watch;		/* the thread's while armed */
	struct bell *bells[BELLS_MAX], *news;
	unsigned bell_count;
};

/* ---- the facts -------------------------------------------------------------------- */

static bool ring_came(const struct watched_ring *r)
{
	if (fact_load32(&r->port->state) != PORT_OPEN)
		return true;
	if (!r->founded)
		return word_serial(tail_validate(r->ring)) == r->serial;
	return fact_load32(&r->ring->closed) != 0 || stamp_says(slot_stamp(
	    &r->ring->slot[r->at & r->mask]), r->at) != SLOT_EMPTY;
}

static bool came(void *arg)
{
	const struct pollable *p = arg;
	const struct watch *w = &p->watch;

	if (p->recalled || p->stop)
		return true;
	for (size_t i = 0; i < w->words; i++)
		if (fact_load(w->word[i].word) != w->word[i].value)
			return true;
	for (size_t i = 0; i < w->rings; i++)
		if (ring_came(&w->ring[i]))
			return true;
	return false;
}

static void *grown(void *array, size_t *room, size_t count, size_t size)
{
	void *bigger;

	if (count < *room)
		return array;
	if ((bigger = realloc(array, (count + 8) * 2 * size)) != NULL)
		*room = (count + 8) * 2;
	return bigger;
}

static void watch_clear(struct domain *d, struct watch *w)
{
	for (size_t i = 0; i < w->rings; i++)
		peer_put(d, w->ring[i].peer);
	w->rings = w->words = 0;
	w->due = UINT64_MAX;
}

static bool watch_feed(struct domain *d, struct watch *w, struct feed *f)
{
	struct watched_ring *r;

	if (f->state == FEED_ENDED)
		return true;
	if ((r = grown(w->ring, &w->ring_room, w->rings, sizeof(*r))) == NULL)
		return false;
	w->ring = r;
	w->ring[w->rings++] = (struct watched_ring){ .ring = f->ring,
	    .port = &d->ports[f->port], .mask = f->mask, .serial = f->serial, .at = f->at,
	    .founded = f->state == FEED_JOINED,
	    .peer = peer_share(d, f->peer) };
	return true;
}

static bool watch_sub(struct domain *d, struct watch *w, struct zcp_sub *sub)
{
	struct watched_word *word = grown(w->word, &w->word_room, w->words,
	    sizeof(*word));

	if (word == NULL)
		return false;
	w->word = word;
	w->word[w->words++] = (struct watched_word){
	    &d->ports[sub->port].generation, sub->links.generation };
	/* Where messages are held back for their order, time is the news, or
	 * that the silent one speaks. */
	for (uint32_t k = 0; k < sub->count; k++)
		if (!sub->merge || !feed_ready(sub_feed(sub, k)))
			if (!watch_feed(d, w, sub_feed(sub, k)))
				return false;
	return true;
}

/* ---- the thread ---------------------------------------------------------------------- */

/* Where the application has closed it, and has given its number to something
 * else, that is not ours to write to: pollable_fd() makes another.  With the
 * lock. */
static void say_readable(struct pollable *p)
{
	uint64_t one = 1;

	/* Full would mean readable already. */
	while (kept_ours(&p->kept) &&
	    write(p->kept.fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

/* Until one of the facts has come, or the list is wanted back. */
static void sleep_until_it_came(struct pollable *p)
{
	const struct sleeper sleeper = { .bells = p->bells,
	    .count = p->bell_count, .unmarked = p->news,
	    .symmetric = p->d->symmetric, .waitv = p->d->waitv,
	    .marks_alone = true, .ready = came, .arg = p };
	uint64_t left;

	while (!came(p) && (left = deadline_left(p->watch.due, BELL_RECHECK)) > 0)
		bell_sleep(&sleeper, left);
}

static void *feed_descriptor(void *arg)
{
	struct pollable *p = arg;

	pthread_mutex_lock(&p->lock);
	while (!p->stop) {
		if (!p->armed) {
			pthread_cond_wait(&p->cond, &p->lock);
			continue;
		}
		pthread_mutex_unlock(&p->lock);
		sleep_until_it_came(p);
		/* First disarmed, then readable: whoever finds it readable must
		 * be able to arm it, or it would spin. */
		pthread_mutex_lock(&p->lock);
		p->armed = false;
		p->recalled = false;
		pthread_cond_broadcast(&p->cond);
		say_readable(p);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

/* ---- the reader's side ------------------------------------------------------------------ */

static int make_eventfd(struct pollable *p)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (fd < 0 || kept_take(&p->kept, fd) < 0)
		return error_sys("cannot make an eventfd");
	kept_mark(&p->kept);
	return 0;
}

struct pollable *pollable_open(struct domain *d)
{
	struct pollable *p = aligned_alloc(CACHE_LINE, sizeof(*p));
	sigset_t all, before;
	int rc;

	if (p == NULL) {
		error_set(ZCP_E_SYS, "out of memory");
		return NULL;
	}
	*p = (struct pollable){ .d = d };
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->cond, NULL);
	if (make_eventfd(p) < 0)
		goto fail;
	sigfillset(&all);
	sigdelset(&all, SIGBUS);	/* of an access here */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&p->thread, NULL, feed_descriptor, p);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc == 0)
		return p;
	errno = rc;
	error_sys("cannot start the thread that feeds a descriptor");
	kept_close(&p->kept);
fail:
	pthread_cond_destroy(&p->cond);
	pthread_mutex_destroy(&p->lock);
	free(p);
	return NULL;
}

void pollable_close(struct pollable **handle)
{
	struct pollable *p = *handle;

	*handle = NULL;
	if (p == NULL)
		return;
	pthread_mutex_lock(&p->lock);
	p->stop = true;
	pthread_cond_broadcast(&p->cond);
	pthread_mutex_unlock(&p->lock);
	bell_announce(&p->quit);
	pthread_join(p->thread, NULL);
	kept_close(&p->kept);
	watch_clear(p->d, &p->watch);
	free(p->watch.ring);
	free(p->watch.word);
	pthread_cond_destroy(&p->cond);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

int pollable_fd(struct pollable *p)
{
	int rc = 0;

	pthread_mutex_lock(&p->lock);
	/* A new one is readable: whoever takes then arms it. */
	if (!kept_ours(&p->kept) && (rc = make_eventfd(p)) == 0)
		say_readable(p);
	rc = rc < 0 ? rc : p->kept.fd;
	pthread_mutex_unlock(&p->lock);
	return rc;
}

static bool watch_all(struct pollable *p, const struct several *s)
{
	bool all = true;

	watch_clear(p->d, &p->watch);
	for (size_t i = 0; i < s->count && all; i++)
		all = watch_sub(p->d, &p->watch, s->sub[i]);
	return all;
}

static void hand_over(struct pollable *p, const struct several *s)
{
	if (s->count == 0)
		return;
	p->bell_count = several_bells(s, p->bells, BELLS_MAX - 2, &p->news);
	if (p->d->waitv)
		p->bells[p->bell_count++] = &p->quit;
	pthread_mutex_lock(&p->lock);
	p->armed = true;
	pthread_cond_broadcast(&p->cond);
	pthread_mutex_unlock(&p->lock);
}

void pollable_recall(struct pollable *p)
{
	pthread_mutex_lock(&p->lock);
	p->recalled = p->armed;
	if (p->armed)
		bell_announce(&p->quit);
	while (p->armed)
		pthread_cond_wait(&p->cond, &p->lock);
	pthread_mutex_unlock(&p->lock);
}

/* False: it could not be made unreadable.  With the lock. */
static bool clear(struct pollable *p)
{
	uint64_t seen;

	return kept_ours(&p->kept) &&
	    (read(p->kept.fd, &seen, sizeof(seen)) >= 0 || errno == EAGAIN);
}

void pollable_arm(struct pollable *p, const struct several *s)
{
	uint64_t due = UINT64_MAX;
	bool armed, cleared;

	/*
	 * Armed it will say so as soon as anything differs from its list, at
	 * worst for news that has been taken meanwhile.  What it says now is
	 * left from before, and it disarms under the lock before it speaks
	 * again, so nothing new is cleared here.
	 */
	pthread_mutex_lock(&p->lock);
	armed = p->armed;
	cleared = clear(p);
	pthread_mutex_unlock(&p->lock);
	if (armed || !cleared)
		return;
	/* Looked at once more behind the list, on which is not what had come:
	 * where messages are held back for their order that is no news, but
	 * says when it is due. */
	if (several_ready(s, &due) || !watch_all(p, s) ||
	    several_ready(s, &due)) {
		pthread_mutex_lock(&p->lock);
		say_readable(p);
		pthread_mutex_unlock(&p->lock);
		return;
	}
	p->watch.due = due;
	hand_over(p, s);
}
