/*
 * sweep.c - the order of the steps is the proof, zcp-design(7):
 *
 *   1. the word of every chunk that is not free, and the tail of every ring;
 *   2. heavy fence: a reader that validated against an older tail has shown
 *      its hold, or will find the tail moved;
 *   3. ports and their owners, never from a cache: a word's port was
 *      registered before the word was written;
 *   4. holds;
 *   5. CAS from exactly the word that was judged.
 */
#include "sweep.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "announce.h"
#include "atomics.h"
#include "error.h"
#include "liveness.h"
#include "readers.h"
#include "ring.h"

struct suspect {
	uint32_t id;
	uint64_t word;
};

/* What is known of the port behind a serial. */
struct owner {
	uint32_t serial;
	enum port_state state;
	bool tail_known;
	uint64_t tail;			/* 40 bits, from step 1 */
	struct ring *ring;
	uint32_t slots;
	struct peer *peer;
};

struct sweeping {
	struct domain *d;
	struct suspect *suspect;
	uint32_t suspects;
	struct owner *owner;		/* per port, as of step 1, again in 3 */
	uint32_t *by_serial;		/* hash: port + 1 */
	uint32_t hash_room;
	uint8_t *verdict;		/* by participant: is it dead? */
	struct hold_set holds;
	struct hold_set named;		/* by slots of dead and closed rings */
	struct sweep_report *report;
	sweep_visit *visit;
	void *arg;
};

enum verdict { NOT_JUDGED, ALIVE, DEAD };

/* ---- step 1 ------------------------------------------------------------------ */

/* It lies in a file that we cannot look at: nothing is known of any chunk that
 * it may own or hold. */
static int cannot_look(const struct sweeping *s, uint32_t port, int rc)
{
	uint32_t slot = s->d->ports[port].participant;
	char who[WHO_SIZE] = "nobody";

	if (slot < s->d->max_participants)
		participant_who(s->d, slot, who);
	return error_in(rc, "nothing was swept, port %u of %s cannot be looked "
	    "at", port, who);
}

static int look_at_ring(struct sweeping *s, uint32_t index)
{
	const struct port *p = &s->d->ports[index];
	struct owner *o = &s->owner[index];
	uint64_t word;
	int rc;

	if (fact_load32(&p->state) == PORT_FREE || p->kind != PORT_PUBLISHER)
		return 0;
	o->serial = fact_load32(&p->serial);
	o->slots = p->slots;
	rc = peer_get(s->d, p->participant, p->incarnation, &o->peer);
	if (rc < 0)
		return peer_gone(rc) ? 0 : cannot_look(s, index, rc);
	if ((o->ring = peer_ring(o->peer, p->offset, o->slots)) == NULL)
		return 0;
	word = tail_load(o->ring);
	o->tail_known = word_serial(word) == o->serial;
	o->tail = word_number(word);
	return 0;
}

static int list_suspects(struct sweeping *s)
{
	struct pools *pools = &s->d->pools;
	uint32_t total = 0;

	for (uint32_t p = 0; p < pools->count; p++)
		total += pool_count(&pools->pool[p]);
	s->suspect = malloc((total + 1) * sizeof(*s->suspect));
	if (s->suspect == NULL)
		return error_set(ZCP_E_SYS, "out of memory");
	for (uint32_t p = 0; p < pools->count; p++) {
		uint32_t count = pool_count(&pools->pool[p]);

		for (uint32_t i = 0; i < count && s->suspects < total; i++) {
			uint64_t word = word_load(&pools->pool[p].word[i]);

			if (word_state(word) >= CHUNK_LOANED)
				s->suspect[s->suspects++] = (struct suspect){
				    chunk_id(p, i), word };
		}
	}
	return 0;
}

/* ---- step 3 -------------------------------------------------------------------- */

/* Knuth's multiplicative hash: the product's high bits depend on all of the
 * serial's. */
static uint32_t hash(const struct sweeping *s, uint32_t serial)
{
	return (uint32_t)((uint64_t)(serial * UINT32_C(2654435769)) *
	    s->hash_room >> 32);
}

static void index_serial(struct sweeping *s, uint32_t index)
{
	uint32_t i = hash(s, s->owner[index].serial);

	while (s->by_serial[i] != 0) {
		/* Two ports of one serial are damage: one of them counts. */
		if (s->owner[s->by_serial[i] - 1].serial ==
		    s->owner[index].serial)
			return;
		i = (i + 1) & (s->hash_room - 1);
	}
	s->by_serial[i] = index + 1;
}

static const struct owner *find_owner(const struct sweeping *s,
    uint32_t serial)
{
	for (uint32_t i = hash(s, serial); s->by_serial[i] != 0;
	    i = (i + 1) & (s->hash_room - 1))
		if (s->owner[s->by_serial[i] - 1].serial == serial)
			return &s->owner[s->by_serial[i] - 1];
	return NULL;
}

/*
 * The daemon hears of deaths and has marked their ports; anybody else may be
 * sweeping because it is not there.  Who is dead stays dead, so once is
 * enough; a participant that has left uses its ports no more.
 */
static enum verdict judge_owner(struct sweeping *s, uint32_t slot)
{
	enum fate fate = participant_fate(s->d, slot);

	if (fate == FATE_UNSEEN && s->report->unseen++ == 0)
		snprintf(s->report->why, sizeof(s->report->why), "%s",
		    zcp_errmsg());
	return fate_ended(fate) ? DEAD : ALIVE;
}

static bool owner_dead(struct sweeping *s, const struct port *p)
{
	uint32_t slot = p->participant;

	if (s->d->owner || slot >= s->d->max_participants)
		return false;
	if (s->verdict[slot] == NOT_JUDGED)
		s->verdict[slot] = judge_owner(s, slot);
	/* Given to another one since: the port is not there any more either. */
	return s->verdict[slot] == DEAD &&
	    s->d->participants[slot].incarnation == p->incarnation;
}

/* A port that registered after step 1 cannot own a word of step 1 - unless
 * the word came late in step 1; so it is listed, with an unknown tail. */
static void look_at_port(struct sweeping *s, uint32_t index)
{
	const struct port *p = &s->d->ports[index];
	struct owner *o = &s->owner[index];
	enum port_state state = (enum port_state)fact_load32(&p->state);
	uint32_t serial = fact_load32(&p->serial);

	if (state == PORT_FREE || p->kind != PORT_PUBLISHER) {
		o->serial = 0;
		return;
	}
	if (o->serial != serial)
		o->tail_known = false;
	o->serial = serial;
	o->state = state == PORT_OPEN && owner_dead(s, p) ? PORT_DEAD : state;
	index_serial(s, index);
}

/* ---- step 4 --------------------------------------------------------------------- */

static int collect_port_holds(struct sweeping *s, uint32_t index)
{
	const struct port *p = &s->d->ports[index];
	struct subscription *sub;
	struct peer *peer;
	uint32_t state = fact_load32(&p->state);
	uint32_t cursors = once(p->slots), holds = once(p->history);
	int rc = 0;

	/* The dead hold nothing. */
	if (p->kind != PORT_SUBSCRIBER ||
	    (state != PORT_OPEN && state != PORT_CLOSED) || owner_dead(s, p))
		return 0;
	rc = peer_get(s->d, p->participant, p->incarnation, &peer);
	if (rc < 0) {
		state = fact_load32(&p->state);
		/* Its file is gone because it is; else nothing is known. */
		return state == PORT_FREE || state == PORT_DEAD ||
		    peer_gone(rc) ? 0 : cannot_look(s, index, rc);
	}
	sub = peer_subscription(peer, p->offset, cursors, holds);
	if (sub == NULL)
		rc = error_set(ZCP_E_DAMAGED,
		    "port %u: its subscription lies outside of its file", index);
	for (uint32_t c = 0; rc == 0 && c < cursors; c++)
		if (!hold_set_collect(&s->holds, &s->d->pools,
		    subscription_cursor(sub, holds, c), holds))
			rc = error_set(ZCP_E_SYS, "out of memory");
	peer_put(s->d, peer);
	return rc;
}

/*
 * The chunks that complete slots of a closed or dead ring still name, from the
 * tail of step 1 on: what has been passed since may be held by a reader whose
 * hold the fence of step 2 came too early for.  But the ring's end is looked
 * for from the tail as it is now: until it ended, its owner may have gone past
 * the older one and written over the slots there.
 */
static int collect_named(struct sweeping *s, const struct owner *o)
{
	uint32_t mask = o->slots - 1;
	uint64_t head = news_load(&o->ring->head);
	uint64_t from = number_widen(head, o->tail);
	uint64_t tail = number_widen(head, word_number(tail_load(o->ring)));
	uint64_t end = ring_end(o->ring, mask, tail, tail);

	/* No more than the ring has, whatever a damaged tail says. */
	if (end - from > (uint64_t)mask + 1)
		from = end > mask ? end - mask - 1 : 0;
	for (uint64_t seq = from; seq < end; seq++) {
		uint64_t body[INLINE_SIZE / 8];
		struct message m;

		if (ring_get(o->ring, mask, seq, &m, body) == SLOT_MESSAGE &&
		    m.chunk != CHUNK_INLINE &&
		    !hold_set_add(&s->named, &s->d->pools, m.chunk))
			return error_set(ZCP_E_SYS, "out of memory");
	}
	return 0;
}

static int collect_all(struct sweeping *s)
{
	uint32_t ports = s->d->max_ports;
	int rc = 0;

	for (uint32_t i = 0; i < ports && rc == 0; i++)
		rc = collect_port_holds(s, i);
	for (uint32_t i = 0; i < ports && rc == 0; i++) {
		const struct owner *o = &s->owner[i];

		if (o->serial != 0 && o->tail_known && o->state != PORT_OPEN)
			rc = collect_named(s, o);
	}
	return rc;
}

/* ---- step 5 ---------------------------------------------------------------------- */

/* Also who its owner is, as far as that is known. */
static bool garbage(const struct sweeping *s, const struct suspect *suspect,
    struct sweep_item *item)
{
	const struct owner *o = find_owner(s, word_serial(suspect->word));
	bool ended = o == NULL || o->state != PORT_OPEN;

	*item = (struct sweep_item){ .id = suspect->id, .word = suspect->word,
	    .port = o == NULL ? UINT32_MAX : (uint32_t)(o - s->owner),
	    .died = o != NULL && o->state == PORT_DEAD,
	    .why = ended ? SWEPT_ENDED : SWEPT_READ };
	if (word_state(suspect->word) == CHUNK_LOANED) {
		item->why = SWEPT_LOAN;
		return ended;
	}
	/*
	 * Published, but no ring: its owner founded it before it published,
	 * so the file has been damaged since, and no slot names anything.
	 */
	if (o != NULL && !ended && !o->tail_known)
		return false;
	if (!ended && number_diff(word_number(suspect->word), o->tail) >= 0)
		return false;
	if (ended && o != NULL && hold_set_has(&s->named, suspect->id)) {
		s->report->foreign++;
		return false;
	}
	if (hold_set_has(&s->holds, suspect->id)) {
		s->report->held++;
		return false;
	}
	return true;
}

static void count(struct sweep_report *report, uint64_t word)
{
	report->freed++;
	if (word_state(word) == CHUNK_LOANED)
		report->loaned++;
	else
		report->published++;
}

static void judge_all(struct sweeping *s)
{
	struct domain *d = s->d;
	uint32_t freed = 0;			/* bit i: of pool i */
	struct sweep_item item;

	for (uint32_t i = 0; i < s->suspects; i++) {
		const struct suspect *suspect = &s->suspect[i];

		if (!garbage(s, suspect, &item) ||
		    (s->visit != NULL && !s->visit(s->arg, &item)) ||
		    !pool_free(&d->pools, suspect->id, suspect->word))
			continue;
		count(s->report, suspect->word);
		freed |= UINT32_C(1) << chunk_pool(suspect->id);
	}
	domain_ring_pools(d, freed);
}

/* ---- all -------------------------------------------------------------------------- */

static int prepare(struct sweeping *s)
{
	uint32_t ports = s->d->max_ports;

	s->hash_room = 16;
	while (s->hash_room < 2 * ports)
		s->hash_room *= 2;
	s->owner = calloc(ports, sizeof(*s->owner));
	s->by_serial = calloc(s->hash_room, sizeof(*s->by_serial));
	s->verdict = calloc(s->d->max_participants, sizeof(*s->verdict));
	return s->owner == NULL || s->by_serial == NULL || s->verdict == NULL ?
	    error_set(ZCP_E_SYS, "out of memory") : 0;
}

int sweep(struct domain *d, struct sweep_report *report, sweep_visit *visit,
    void *arg)
{
	struct sweeping s = { .d = d, .report = report, .visit = visit,
	    .arg = arg };
	uint32_t ports = d->max_ports;
	struct announcement announced;
	int rc;

	*report = (struct sweep_report){ 0 };
	pthread_mutex_lock(&d->sweep_lock);
	if ((rc = announce_begin(d, &announced)) < 0) {
		pthread_mutex_unlock(&d->sweep_lock);
		return rc;
	}
	if ((rc = prepare(&s)) < 0 || (rc = list_suspects(&s)) < 0)
		goto out;
	for (uint32_t i = 0; i < ports; i++)
		if ((rc = look_at_ring(&s, i)) < 0)
			goto out;
	if (fence_heavy(d->symmetric) < 0) {
		rc = error_sys("membarrier failed, nothing was swept");
		goto out;
	}
	for (uint32_t i = 0; i < ports; i++)
		look_at_port(&s, i);
	if ((rc = collect_all(&s)) == 0) {
		judge_all(&s);
		rc = (int)report->freed;
	}
out:
	for (uint32_t i = 0; s.owner != NULL && i < ports; i++)
		peer_put(d, s.owner[i].peer);
	free(s.owner);
	free(s.by_serial);
	free(s.verdict);
	free(s.suspect);
	hold_set_free(&s.holds);
	hold_set_free(&s.named);
	announce_end(d, &announced);
	pthread_mutex_unlock(&d->sweep_lock);
	return rc;
}
