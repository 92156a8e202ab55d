/* serials.c - port serials: 22 bits that must not come back too early. */
#include <stdlib.h>
#include <string.h>

#include "announce.h"
#include "atomics.h"
#include "error.h"
#include "log.h"
#include "routed.h"

static uint64_t chunk_word(const struct routed *r, uint32_t pool, uint32_t i)
{
	return word_load(&r->d.pools.pool[pool].word[i]);
}

bool serial_named(const struct routed *r, uint32_t serial)
{
	for (uint32_t p = 0; p < r->d.pools.count; p++)
		for (uint32_t i = 0; i < pool_count(&r->d.pools.pool[p]); i++) {
			uint64_t word = chunk_word(r, p, i);

			if (word_state(word) >= CHUNK_LOANED &&
			    word_serial(word) == serial)
				return true;
		}
	return false;
}

/* One that no port can have has no place in the map. */
static void name(uint64_t *bitmap, uint32_t serial)
{
	if (serial > SERIAL_MASK)
		return;
	bitmap[serial / 64] |= UINT64_C(1) << serial % 64;
}

/* Cursors keep the serial of the ring that was read last: a new link must not
 * look as if its ring had been let go, or told of, before. */
static void name_cursors(struct routed *r, uint32_t port)
{
	const struct port *p = &r->d.ports[port];
	const struct cursor *c;

	if (fact_load32(&p->state) == PORT_FREE)
		return;
	name(r->serials_named, fact_load32(&p->missed_of));
	for (uint32_t i = 0; i < p->slots &&
	    (c = port_cursor(r, port, i)) != NULL; i++) {
		name(r->serials_named, word_serial(cursor_load(c)));
		name(r->serials_named,
		    word_serial(over_load(port_over(r, port, i))));
	}
}

/* What is in use when serials start over; later words can only name serials
 * that were given later. */
static bool collect(struct routed *r)
{
	size_t bytes = ((size_t)SERIAL_MASK + 1) / 8;

	if (r->serials_named == NULL &&
	    (r->serials_named = malloc(bytes)) == NULL)
		return false;
	memset(r->serials_named, 0, bytes);
	name(r->serials_named, 0);
	for (uint32_t i = 0; i < r->d.max_ports; i++) {
		name(r->serials_named, fact_load32(&r->d.ports[i].serial));
		name_cursors(r, i);
	}
	for (uint32_t p = 0; p < r->d.pools.count; p++)
		for (uint32_t i = 0; i < pool_count(&r->d.pools.pool[p]); i++)
			name(r->serials_named, word_serial(chunk_word(r, p, i)));
	return true;
}

/* A sweeper that stopped in an earlier epoch may still free what it judged
 * then, if the very same word came back. */
static bool old_sweep(struct routed *r, uint32_t epoch)
{
	/* Between the store of the epoch and these loads: see announce.c. */
	fence_full();
	for (uint32_t i = 0; i < r->d.max_participants; i++) {
		uint64_t since = r->watch[i].peer == NULL ? 0 :
		    fact_load(&r->watch[i].peer->member->sweeping);

		if (since != 0 && since < epoch) {
			error_set(ZCP_E_BUSY, "port serials have wrapped and "
			    "a sweep of %.63s (pid %u) began before: continue or "
			    "end that process", r->d.participants[i].name,
			    r->d.participants[i].pid);
			return true;
		}
	}
	/* Could not look: there may be one. */
	return announced_before(&r->d, epoch) != 0;
}

uint32_t serial_new(struct routed *r)
{
	struct mgmt *m = r->d.m;
	uint32_t epoch = fact_load32(&m->serial_epoch), serial;
	bool looked = false;

	for (uint32_t tries = 0; tries <= SERIAL_MASK; tries++) {
		serial = fact_load32(&m->serial_next);
		/* 0 is no serial: only damage says so. */
		if (serial == 0 || serial > SERIAL_MASK) {
			fact_publish32(&m->serial_epoch, ++epoch);
			serial = 1;
			looked = false;
			if (!collect(r))
				goto fail;
		}
		if (epoch > 1 && !looked) {
			if (old_sweep(r, epoch))
				return 0;
			/* Adopted in a later epoch: collect what is in use. */
			if (r->serials_named == NULL && !collect(r))
				goto fail;
			looked = true;
		}
		fact_publish32(&m->serial_next, serial + 1);
		if (epoch <= 1 || !(r->serials_named[serial / 64] >>
		    serial % 64 & 1))
			return serial;
	}
fail:
	error_set(ZCP_E_REFUSED, "no port serial is free");
	return 0;
}
