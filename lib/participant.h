/*
 * participant.h - this process in its domain: its file p<n>, the room in it,
 * and the thread that beats its heart.
 */
#ifndef ZCP_PARTICIPANT_H
#define ZCP_PARTICIPANT_H

#include <pthread.h>

#include "domain.h"
#include "error.h"
#include "own.h"

/* A piece of p<n>; when its port is gone from the directory, room again. */
struct place {
	uint64_t offset, bytes;
	uint32_t port, serial, topic;	/* of the port that last lay here */
	bool unsure;			/* a request for it went unanswered */
	struct place *next;
};

struct zcp {
	struct domain d;
	struct segment own;		/* p<n>, locked while we live */
	struct own_file file;		/* by this descriptor */
	struct member *member;
	char path[SEGMENT_PATH];
	uint32_t slot;
	uint64_t incarnation;		/* 0: not registered */
	uint64_t key;			/* of our registration, see tenant_says() */
	int64_t timeout;		/* for control calls, ns */
	bool autostart;			/* of a daemon, where there is none */
	unsigned born;			/* fork generation; BORN_CLOSED or BORN_CUT,
					   which are none */
	unsigned made;			/* fork generation */
	_Atomic uint32_t users;		/* zcp_close(), and each open handle */
	uint64_t committed;		/* bytes of p<n> */
	struct place *idle;		/* places whose ports have ended */
	struct place *abandoned;	/* nobody knows whether a port is there */
	pthread_mutex_t lock;		/* places */
	pthread_t beat;
	bool beating, stop;
	pthread_mutex_t beat_lock;
	pthread_cond_t beat_cond;
};

#define BORN_CLOSED(bus) ((bus)->made - 1)
#define BORN_CUT(bus) ((bus)->made - 2)	/* a file was found truncated */

/* Why it may not be used: closed, or another process's.  An error. */
int bus_foreign(const struct zcp *bus);

/* A handle on it was opened, or ended; the last one frees the bus. */
void bus_get(struct zcp *bus);
void bus_put(struct zcp *bus);

/* May a handle on it be ended by this process?  A forked child has not these
 * mappings: it only forgets the handle. */
static inline bool bus_ours(const struct zcp *bus)
{
	return bus->made == fork_generation;
}

static inline bool bus_closed(const struct zcp *bus)
{
	return bus->born != bus->made;
}

static inline int bus_check(const struct zcp *bus)
{
	return __builtin_expect(bus->born != fork_generation, 0) ?
	    bus_foreign(bus) : 0;
}

/* Room for a port: committed, zeroed where it was used before. */
int place_get(struct zcp *bus, uint64_t bytes, struct place **place);
/* The port that lay there is being closed (or never came to be). */
void place_put(struct zcp *bus, struct place *place);
/* Its registration failed: refused it never came to be; unanswered it may
 * have, and the place stays taken. */
void place_unregistered(struct zcp *bus, struct place *place);

/*
 * A request (its verb, and fields) of this participant, as which nobody else
 * is taken: a slot is given away again, and a pid says nothing to a daemon of
 * another pid namespace.  Returns the request's length.
 */
enum { TENANT_REQUEST = 256 };	/* bytes for one with a few numbers */
int tenant_says(const struct zcp *bus, char *request, size_t size,
    const char *what);

/* Registers a port, which the place then names: `what` is its verb and
 * arguments.  0; errors of control_ask(), and the number that one says is
 * needed. */
int port_register(struct zcp *bus, const char *what, struct place *place,
    uint32_t *needed);
void port_release(struct zcp *bus, const struct place *place);

/* Its record is not its owner's any more: the error that says so, or why the bus
 * may not be used.  `what`: "publisher of". */
int port_ended(const struct zcp *bus, const char *what, const char *topic);

#endif
