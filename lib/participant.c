#include "participant.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "atomics.h"
#include "clock.h"
#include "control.h"
#include "guard.h"
#include "probes.h"
#include "site.h"
#include "topic.h"

/* ---- heart ------------------------------------------------------------------ */

static void *beat(void *arg)
{
	struct zcp *bus = arg;
	struct timespec next;

	pthread_setname_np(pthread_self(), "zcp-beat");
	clock_gettime(CLOCK_MONOTONIC, &next);
	pthread_mutex_lock(&bus->beat_lock);
	while (!bus->stop) {
		uint64_t at;

		news_store(&bus->member->beat, clock_ns());
		at = (uint64_t)next.tv_sec * NS_PER_S +
		    (uint64_t)next.tv_nsec + bus->d.heartbeat;
		next.tv_sec = (time_t)(at / NS_PER_S);
		next.tv_nsec = (long)(at % NS_PER_S);
		while (!bus->stop && pthread_cond_timedwait(&bus->beat_cond,
		    &bus->beat_lock, &next) != ETIMEDOUT)
			;
	}
	pthread_mutex_unlock(&bus->beat_lock);
	return NULL;
}

static int start_beating(struct zcp *bus)
{
	pthread_condattr_t attr;
	sigset_t all, old;
	int rc;

	/* The first one says that its file is open: it may be gone, or another
	 * program, before the thread has run. */
	news_store(&bus->member->beat, clock_ns());
	pthread_mutex_init(&bus->beat_lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&bus->beat_cond, &attr);
	pthread_condattr_destroy(&attr);
	/* The application's signals are handled by the application's threads;
	 * one that an access here causes comes here, or ends the process. */
	sigfillset(&all);
	sigdelset(&all, SIGBUS);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&bus->beat, NULL, beat, bus);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc != 0) {
		errno = rc;
		return error_sys("cannot start the heartbeat thread");
	}
	bus->beating = true;
	return 0;
}

static void stop_beating(struct zcp *bus)
{
	if (!bus->beating)
		return;
	pthread_mutex_lock(&bus->beat_lock);
	bus->stop = true;
	pthread_cond_signal(&bus->beat_cond);
	pthread_mutex_unlock(&bus->beat_lock);
	pthread_join(bus->beat, NULL);
}

/* ---- joining and leaving ------------------------------------------------------- */

static uint64_t instance(const struct zcp *bus)
{
	return ((struct segment_head *)bus->d.mgmt.base)->instance;
}

static int lock_file(struct zcp *bus)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	return fcntl(bus->file.kept.fd, F_SETLK, &lock) < 0 ?
	    error_sys("cannot lock %s", bus->path) : 0;
}

static int map_own(struct zcp *bus, int fd)
{
	const struct participant *p = &bus->d.participants[bus->slot];
	struct member *member;
	int rc;

	if ((rc = segment_map(&bus->own, fd, bus->path, PART_MEMBER, true,
	    p->uid, (mode_t)bus->d.m->mode & 0777, instance(bus))) < 0)
		return rc;
	guard_add(bus->own.base, bus->own.size, (struct guard_marks){
	    .cut = &bus->own.cut, .stop = &bus->born,
	    .stopped = BORN_CUT(bus) });
	member = bus->own.base;
	/* Not ours to write to before it is known to be ours. */
	if (bus->own.size != MEMBER_WINDOW ||
	    member->incarnation != bus->incarnation) {
		guard_remove(bus->own.base);
		segment_close(&bus->own);
		return error_set(ZCP_E_DAMAGED, "%s is not what the daemon "
		    "said it would be", bus->path);
	}
	bus->member = member;
	bus->committed = MEMBER_FIRST;
	bus->d.sweeping = &bus->member->sweeping;
	return 0;
}

/* Within own_begin(): nobody opens the file besides until it is listed. */
static int keep_own(struct zcp *bus)
{
	int fd = open(bus->path, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	int rc;

	if (fd < 0 || kept_take(&bus->file.kept, fd) < 0)
		return error_sys("cannot open %s", bus->path);
	if ((rc = map_own(bus, bus->file.kept.fd)) < 0) {
		kept_close(&bus->file.kept);
		return rc;
	}
	bus->file.instance = instance(bus);
	bus->file.incarnation = bus->incarnation;
	own_add(&bus->file);
	if ((rc = lock_file(bus)) == 0)
		return 0;
	own_remove(&bus->file);
	kept_close(&bus->file.kept);
	guard_remove(bus->own.base);
	segment_close(&bus->own);
	bus->member = NULL;
	bus->d.sweeping = NULL;
	return rc;
}

static int open_own(struct zcp *bus)
{
	int rc;

	member_path(&bus->d, bus->slot, bus->path);
	own_begin();
	rc = keep_own(bus);
	own_end();
	return rc;
}

/*
 * The application may have closed our descriptor, and its lock with it; what has
 * the number now is not ours to touch.  Where our file is still found by its
 * name it is opened and locked anew.
 */
static int reopen_own(struct zcp *bus)
{
	struct look_at look;
	struct kept kept;
	int rc = 0;

	if (look_begin(&look, bus->path, O_RDWR) < 0)
		return error_sys("cannot open %s again", bus->path);
	if (look.kept) {
		/* Another participant of this process has the name by now. */
		rc = error_set(ZCP_E_ENDED, "%s is not this process's any "
		    "more", bus->path);
	} else {
		look.kept = true;
		if (kept_take(&kept, look.fd) < 0)
			rc = error_sys("cannot keep %s", bus->path);
		else if (kept.dev != bus->own.dev || kept.ino != bus->own.ino) {
			kept_close(&kept);
			rc = error_set(ZCP_E_ENDED, "%s is not this process's "
			    "any more", bus->path);
		} else {
			bus->file.kept = kept;
			/* One without its lock would not be tried again. */
			if ((rc = lock_file(bus)) < 0)
				kept_close(&bus->file.kept);
		}
	}
	look_end(&look);
	return rc;
}

/* Before each use of it. */
static int check_own(struct zcp *bus)
{
	return kept_ours(&bus->file.kept) ? 0 : reopen_own(bus);
}

static void forget_own(struct zcp *bus)
{
	own_begin();
	own_remove(&bus->file);
	own_end();
}

static int attach(struct zcp *bus, const char *domain, const char *token,
    uint64_t deadline)
{
	struct asking how = { .start = bus->autostart, .uid = (uid_t)-1 };
	char reply[SEGMENT_PATH * 2];
	struct site site;
	int rc;

	if ((rc = control_show(domain, token, deadline, &how)) < 0 ||
	    (rc = control_ask(domain, "GET_SHM_PATH:mgmt", reply,
	    sizeof(reply), deadline, &how)) < 0)
		return rc;
	/* -ZCP_E_BUSY: the daemon that answered may have ended since, and
	 * removed them. */
	if ((rc = site_find(&site, how.uid, how.runtime, domain)) == 1)
		return domain_attach_at(&bus->d, &site, false);
	return rc < 0 ? rc : -ZCP_E_BUSY;
}

/* The daemon of the segments that are mapped, whatever the environment says by
 * now. */
static struct asking ask_daemon(const struct zcp *bus, uint64_t nonce)
{
	return (struct asking){
		.at = &bus->d.site,
		.start = bus->autostart && bus->d.uid == geteuid(),
		.nonce = nonce,
	};
}

int tenant_says(const struct zcp *bus, char *request, size_t size,
    const char *what)
{
	return snprintf(request, size, "%s:slot=%" PRIu32 ":incarnation=%"
	    PRIu64 ":key=%" PRIx64, what, bus->slot, bus->incarnation,
	    bus->key);
}

static int join(struct zcp *bus, const char *name, uint64_t deadline)
{
	char request[CONTROL_REQUEST], reply[CONTROL_REPLY];
	struct asking how = ask_daemon(bus, bus->key);
	int rc;

	snprintf(request, sizeof(request), "REGISTER:name=%s:nonce=%" PRIx64,
	    name, bus->key);
	if ((rc = control_ask(bus->d.name, request, reply, sizeof(reply),
	    deadline, &how)) < 0)
		return rc;
	if (sscanf(reply, "OK:OFFSET:%" SCNu32, &bus->slot) != 1 ||
	    !control_number(reply, "incarnation", UINT64_MAX,
	    &bus->incarnation))
		return error_set(ZCP_E_LAYOUT, "the route daemon answered '%s' "
		    "to REGISTER: it is of another version of zcp", reply);
	/* Another creation of the domain than the one we mapped? */
	if (bus->slot >= bus->d.max_participants ||
	    bus->d.participants[bus->slot].nonce != bus->key)
		return error_set(ZCP_E_BUSY, "the route daemon has made "
		    "domain %s anew", bus->d.name);
	/* The key may be known from an attempt whose daemon was killed since; the
	 * one that answered has found nobody, and made the domain anew. */
	if ((rc = open_own(bus)) < 0 && domain_removed(&bus->d)) {
		bus->incarnation = 0;
		return error_in(-ZCP_E_BUSY, "the domain was made anew");
	}
	return rc;
}

/* The name as given, else the command's, made to fit name_valid(). */
static void own_name(char out[NAME_SIZE], const char *name)
{
	size_t n = 0;

	if (name == NULL || *name == '\0')
		name = program_invocation_short_name;
	for (; n < TOPIC_PART && name[n]; n++) {
		out[n] = name[n];
		out[n + 1] = '\0';
		if (!name_valid(out) && strspn(out, ".") <= n)
			out[n] = '_';
	}
	out[n] = '\0';
	if (!name_valid(out))
		strcpy(out, "unnamed");
}

int zcp_open(zcp **out, const zcp_options *options)
{
	const zcp_options none = { 0 };
	const char *domain;
	char name[NAME_SIZE];
	struct zcp *bus;
	uint64_t deadline;
	int rc;

	*out = NULL;
	fork_watch();
	if (options == NULL)
		options = &none;
	domain = options->domain;
	if ((rc = domain_name(&domain)) < 0)
		return rc;
	own_name(name, options->name);
	if (options->guard && (rc = guard_install()) < 0)
		return rc;
	if ((bus = calloc(1, sizeof(*bus))) == NULL)
		return error_set(ZCP_E_SYS, "out of memory");
	bus->own = (struct segment)SEGMENT_INIT;
	bus->file.kept = (struct kept)KEPT_NONE;
	bus->d.mgmt = bus->d.bell = bus->d.pool = bus->d.data =
	    bus->d.data_write = (struct segment)SEGMENT_INIT;
	bus->born = bus->made = fork_generation;
	bus->users = 1;
	bus->d.stop = &bus->born;
	bus->d.stopped = BORN_CUT(bus);
	bus->autostart = options->autostart;
	bus->key = control_nonce();
	bus->timeout = options->timeout ? options->timeout : 5 * NS_PER_S;
	pthread_mutex_init(&bus->lock, NULL);
	deadline = deadline_after(bus->timeout);
	/* Segments that are not ready yet, or of a daemon that ended. */
	while (((rc = attach(bus, domain, options->token, deadline)) ==
	    -ZCP_E_BUSY || (rc == 0 && (rc = join(bus, name, deadline)) ==
	    -ZCP_E_BUSY)) && clock_ns() < deadline) {
		domain_detach(&bus->d);
		usleep(1000);
	}
	if (rc < 0 || (rc = start_beating(bus)) < 0) {
		zcp_close(&bus);
		return error_in(rc, "cannot open domain %s", domain);
	}
	*out = bus;
	return 0;
}

static void places_free(struct place *list)
{
	while (list != NULL) {
		struct place *place = list;

		list = place->next;
		free(place);
	}
}

int bus_foreign(const struct zcp *bus)
{
	const char *part;

	if (bus_ours(bus) && bus->born == BORN_CUT(bus)) {
		part = domain_cut(&bus->d);
		return error_set(ZCP_E_DAMAGED, "%s%s of domain %s was "
		    "truncated while this process used it: close the bus and "
		    "open another one", part ? part : "p",
		    part ? "" : strrchr(bus->path, 'p') + 1, bus->d.name);
	}
	if (bus_ours(bus))
		return error_set(ZCP_E_ENDED, "its bus has been closed");
	return error_set(ZCP_E_FORK, "this bus belongs to the parent process: "
	    "open one after fork()");
}

void bus_get(struct zcp *bus)
{
	bus->users++;
}

void bus_put(struct zcp *bus)
{
	if (--bus->users > 0)
		return;
	places_free(bus->idle);
	places_free(bus->abandoned);
	if (bus->own.base != NULL)
		guard_remove(bus->own.base);
	segment_close(&bus->own);
	kept_close(&bus->file.kept);
	domain_detach(&bus->d);
	pthread_mutex_destroy(&bus->lock);
	free(bus);
}

void zcp_close(zcp **handle)
{
	struct zcp *bus = *handle;
	char request[TENANT_REQUEST];

	*handle = NULL;
	if (bus == NULL || !bus_ours(bus))
		return;
	stop_beating(bus);
	/* Should no daemon hear it: the next one, and publishers that wait for
	 * us, will see it. */
	if (bus->member != NULL)
		fact_publish(&bus->member->left, 1);
	if (bus->incarnation != 0) {
		tenant_says(bus, request, sizeof(request), "UNREGISTER");
		control_farewell(&bus->d.site, request);
	}
	/* By then another one may have our slot, also one of this process. */
	if (bus->member != NULL)
		forget_own(bus);
	/* Handles that are still open are errors from now on, not crashes. */
	bus->born = BORN_CLOSED(bus);
	bus_put(bus);
}

size_t zcp_largest(const zcp *bus)
{
	size_t largest = 0;

	for (uint32_t i = 0; i < bus->d.pools.count; i++)
		if (bus->d.pools.pool[i].chunk_size > largest)
			largest = bus->d.pools.pool[i].chunk_size;
	return largest;
}

/* ---- room in p<n> ------------------------------------------------------------------ */

/* The daemon writes to a closed port's ring until it has let the port go. */
static bool let_go(const struct zcp *bus, const struct place *place)
{
	const struct port *port = &bus->d.ports[place->port];

	return place->serial == 0 ||
	    fact_load32(&port->state) == PORT_FREE ||
	    fact_load32(&port->serial) != place->serial;
}

static struct place *place_find(struct zcp *bus, uint64_t bytes)
{
	for (struct place **p = &bus->idle; *p != NULL; p = &(*p)->next)
		if ((*p)->bytes == bytes && let_go(bus, *p)) {
			struct place *found = *p;

			*p = found->next;
			return found;
		}
	return NULL;
}

static int place_new(struct zcp *bus, uint64_t bytes, struct place **out)
{
	struct place *place;
	int rc;

	if (bytes > MEMBER_WINDOW - bus->committed)
		return error_set(ZCP_E_REFUSED, "%s has no room for another "
		    "%llu bytes (a participant's ports share %llu)", bus->path,
		    (unsigned long long)bytes,
		    (unsigned long long)MEMBER_WINDOW);
	if ((rc = check_own(bus)) < 0 || (rc = segment_commit(
	    bus->file.kept.fd, bus->path, bus->committed, bytes)) < 0)
		return rc;
	if ((place = calloc(1, sizeof(*place))) == NULL)
		return error_set(ZCP_E_SYS, "out of memory");
	place->offset = bus->committed;
	place->bytes = bytes;
	bus->committed += bytes;
	*out = place;
	return 0;
}

int place_get(struct zcp *bus, uint64_t bytes, struct place **out)
{
	int rc = 0;

	pthread_mutex_lock(&bus->lock);
	bytes = (bytes + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
	if ((*out = place_find(bus, bytes)) == NULL)
		rc = place_new(bus, bytes, out);
	if (rc == 0)
		(*out)->serial = 0;
	pthread_mutex_unlock(&bus->lock);
	return rc;
}

static void push(struct zcp *bus, struct place **list, struct place *place)
{
	pthread_mutex_lock(&bus->lock);
	place->next = *list;
	*list = place;
	pthread_mutex_unlock(&bus->lock);
}

void place_put(struct zcp *bus, struct place *place)
{
	push(bus, &bus->idle, place);
}

void place_unregistered(struct zcp *bus, struct place *place)
{
	push(bus, place->unsure ? &bus->abandoned : &bus->idle, place);
}

/* ---- ports ----------------------------------------------------------------------------- */

int port_register(struct zcp *bus, const char *what, struct place *place,
    uint32_t *needed)
{
	char request[CONTROL_REQUEST], reply[CONTROL_REPLY];
	uint64_t nonce = control_nonce(), serial, topic;
	struct asking how = ask_daemon(bus, nonce);
	int rc, n;

	n = tenant_says(bus, request, sizeof(request), what);
	snprintf(request + n, sizeof(request) - (size_t)n, ":offset=%" PRIu64
	    ":nonce=%" PRIx64, place->offset, nonce);
	rc = control_ask(bus->d.name, request, reply, sizeof(reply),
	    deadline_after(bus->timeout), &how);
	place->unsure = how.unsure;
	*needed = how.needed;
	if (rc < 0)
		return rc;
	/* From the reply: the directory's record may be another port's by now. */
	if (sscanf(reply, "OK:PORT:%" SCNu32, &place->port) != 1 ||
	    place->port >= bus->d.max_ports ||
	    !control_number(reply, "serial", SERIAL_MASK, &serial) ||
	    !control_number(reply, "topic", bus->d.max_topics - 1, &topic)) {
		place->unsure = true;
		return error_set(ZCP_E_DAMAGED,
		    "the route daemon answered '%s' to %s", reply, what);
	}
	probe2(register, what, place->port);
	place->serial = (uint32_t)serial;
	place->topic = (uint32_t)topic;
	return 0;
}

void port_release(struct zcp *bus, const struct place *place)
{
	char request[TENANT_REQUEST];
	int n;

	if (bus_closed(bus))
		return;			/* it ended with its participant */
	n = tenant_says(bus, request, sizeof(request), "RELEASE");
	snprintf(request + n, sizeof(request) - (size_t)n, ":port=%" PRIu32
	    ":serial=%" PRIu32, place->port, place->serial);
	/* No daemon: the next one sees the port closed in p<n>. */
	control_farewell(&bus->d.site, request);
}

int port_ended(const struct zcp *bus, const char *what, const char *topic)
{
	int rc = bus_check(bus);

	return rc < 0 ? rc : error_set(ZCP_E_ENDED, "the route daemon has "
	    "ended the %s %s (it took this process for dead)", what, topic);
}
