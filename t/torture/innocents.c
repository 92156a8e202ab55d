#include "innocents.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "atomics.h"
#include "participant.h"
#include "world.h"

enum { SLOTS = 16, TURNS = 8, MORE = 40 };	/* messages: kept by some, and beyond */

static const struct trait {
	const char *name;
	bool reads, lends, closes, stops;
} traits[INNOCENTS] = {
	[INNOCENT_SOURCE] = { .name = "source", .lends = true },
	[INNOCENT_HOLDER] = { .name = "holder", .reads = true, .lends = true },
	[INNOCENT_IDLE] = { .name = "idle" },
	[INNOCENT_OFFERS] = { .name = "offers" },
	[INNOCENT_CLOSED] = { .name = "closed", .reads = true, .lends = true,
	    .closes = true },
	[INNOCENT_STOPPED] = { .name = "stopped", .reads = true, .lends = true,
	    .stops = true },
	[INNOCENT_HIDDEN] = { "hidden", true, true, true, true },
};

/* ---- in each of them ------------------------------------------------------------ */

/* A command is a byte; the answer to any of them is this. */
struct answer {
	uint32_t slot;
	uint64_t incarnation;
	unsigned places;
	uint64_t place[PIECES];		/* offsets in the segment of the chunks */
};

enum command { READ_ALL = 'r', SEND_MORE = 's', TAKE = 't', GIVE_BACK = 'g',
	HIDE = 'h', END = 'e' };

struct self {
	enum innocent_name who;
	const struct trait *trait;
	int line;
	zcp *bus;
	zcp_pub *pub;			/* the source's is on "s" */
	zcp_sub *sub, *victim;		/* of "s"; of "v" */
	zcp_chunk chunk;
	zcp_msg kept, taken;
	unsigned char lent[PIECE], read[PIECE];
	uint64_t turn;
};

static uint64_t written_at(const struct self *s)
{
	return (uint64_t)((char *)s->chunk.data -
	    (char *)s->bus->d.data_write.base);
}

static uint64_t read_at(const struct self *s, const zcp_msg *msg)
{
	return (uint64_t)((const char *)msg->data -
	    (char *)s->bus->d.data.base);
}

static void reply(struct self *s)
{
	struct answer a = { .slot = s->bus->slot,
	    .incarnation = s->bus->incarnation };

	if (s->chunk.data != NULL)
		a.place[a.places++] = written_at(s);
	if (s->kept.data != NULL)
		a.place[a.places++] = read_at(s, &s->kept);
	if (s->taken.data != NULL)
		a.place[a.places++] = read_at(s, &s->taken);
	if (write(s->line, &a, sizeof(a)) != sizeof(a))
		_exit(3);
}

zcp *open_patiently(const zcp_options *o)
{
	zcp *bus = NULL;
	int rc = -1;

	for (int i = 0; i < 20 && rc < 0; i++)
		rc = zcp_open(&bus, o);
	need(rc);
	return bus;
}

static void open_all(struct self *s)
{
	zcp_options o = { .name = s->trait->name };
	zcp_pub_options p = { .slots = SLOTS };
	zcp_sub_options lossy = { .lossy = 1, .depth = TURNS };
	char topic[32];

	s->bus = open_patiently(&o);
	snprintf(topic, sizeof(topic), "%s", s->trait->name);
	if (s->trait->lends || s->who == INNOCENT_OFFERS)
		need(zcp_offer(s->bus, s->who == INNOCENT_SOURCE ? "s" : topic,
		    &p, &s->pub));
	if (s->trait->reads)
		need(zcp_subscribe(s->bus, "s", &lossy, &s->sub));
	if (s->who == INNOCENT_HOLDER)
		need(zcp_subscribe(s->bus, "v", NULL, &s->victim));
	if (!s->trait->lends)
		return;
	need(zcp_loan(s->pub, PIECE, &s->chunk, PATIENCE));
	payload_write(s->chunk.data, VICTIM, s->who, PIECE);
	memcpy(s->lent, s->chunk.data, PIECE);
}

/* Each keeps another message. */
static void read_all(struct self *s)
{
	zcp_msg msg;

	while (s->kept.data == NULL) {
		int rc = zcp_take(s->sub, &msg);

		need(rc);
		if (rc == 0) {
			need(zcp_wait(s->sub, PATIENCE));
		} else if (s->turn++ != (uint64_t)s->who) {
			zcp_release(s->sub, &msg);
		} else {
			memcpy(s->read, msg.data, PIECE);
			s->kept = msg;
		}
	}
}

static void send_some(struct self *s, int count)
{
	unsigned char message[PIECE];

	for (int i = 0; i < count; i++, s->turn++) {
		payload_write(message, WORLD, s->turn, PIECE);
		need(zcp_send(s->pub, message, PIECE, 0, PATIENCE));
	}
}

static void take(struct self *s)
{
	zcp_msg msg;
	int rc;

	while ((rc = zcp_take(s->victim, &msg)) != 0) {
		if (rc == -ZCP_E_LAPPED)
			continue;
		need(rc);
		if (s->taken.data == NULL)
			s->taken = msg;
		else
			zcp_release(s->victim, &msg);
	}
}

/* 0, or which of the things that it does itself has failed. */
static int end(struct self *s)
{
	zcp_sub_info info;
	zcp_msg msg;
	int rc;

	if (s->chunk.data != NULL &&
	    memcmp(s->chunk.data, s->lent, PIECE) != 0)
		return 10;
	if (s->kept.data != NULL && memcmp(s->kept.data, s->read, PIECE) != 0)
		return 11;
	if (s->chunk.data != NULL && zcp_publish(s->pub, &s->chunk, PIECE,
	    PATIENCE) != 1)
		return 12;
	zcp_release(s->sub, &s->kept);
	for (rc = 0; s->sub != NULL; zcp_release(s->sub, &msg))
		if ((rc = zcp_take(s->sub, &msg)) != 1 &&
		    rc != -ZCP_E_LAPPED)
			break;
	if (rc < 0 || (s->sub != NULL && zcp_sub_status(s->sub, &info) < 0))
		return 13;
	if (s->victim != NULL)
		zcp_release(s->victim, &s->taken);
	if (s->pub == NULL && zcp_offer(s->bus, "x", NULL, &s->pub) < 0)
		return 14;
	zcp_stop_offer(&s->pub);
	zcp_unsubscribe(&s->sub);
	zcp_unsubscribe(&s->victim);
	zcp_close(&s->bus);
	return 0;
}

static void obey(struct self *s, char command)
{
	switch ((enum command)command) {
	case READ_ALL:
		read_all(s);
		break;
	case SEND_MORE:
		send_some(s, s->turn == 0 ? TURNS : MORE);
		break;
	case TAKE:
		take(s);
		break;
	case GIVE_BACK:
		zcp_release(s->victim, &s->taken);
		break;
	case HIDE:
		if (dup2(s->line, STDIN_FILENO) < 0)
			_exit(3);
		closefrom(STDERR_FILENO + 1);
		s->line = STDIN_FILENO;
		break;
	case END:
		_exit(end(s));
	}
}

static void live(void *arg)
{
	struct self *s = arg;
	char command;

	open_all(s);
	reply(s);
	while (read(s->line, &command, 1) == 1) {
		obey(s, command);
		reply(s);
	}
	_exit(5);
}

/* ---- around them ------------------------------------------------------------------- */

static void hear(struct innocents *in, enum innocent_name who,
    struct answer *a)
{
	ck_assert_msg(read(in->one[who].line, a, sizeof(*a)) == sizeof(*a),
	    "the %s one does not answer", traits[who].name);
}

static void tell(struct innocents *in, enum innocent_name who, char command,
    struct answer *a)
{
	ck_assert_int_eq(write(in->one[who].line, &command, 1), 1);
	hear(in, who, a);
}

static const unsigned char *chunk_at(const struct innocents *in, uint32_t id)
{
	const struct domain *d = &in->d;
	const struct pool *pool = &d->pools.pool[chunk_pool(id)];

	return (unsigned char *)d->data.base + d->pool_at[chunk_pool(id)].data +
	    (uint64_t)chunk_index(id) * pool->chunk_size;
}

static uint32_t chunk_of(const struct innocents *in, uint64_t place)
{
	uint64_t first = in->d.pool_at[0].data;

	ck_assert_uint_ge(place, first);
	return chunk_id(0, (uint32_t)((place - first) /
	    in->d.pools.pool[0].chunk_size));
}

/* What it has now is what it must have from now on. */
static void note(struct innocents *in, struct innocent *one,
    const struct answer *a)
{
	one->pieces = a->places;
	for (unsigned i = 0; i < a->places; i++) {
		struct piece *p = &one->piece[i];

		p->id = chunk_of(in, a->place[i]);
		p->word = word_load(pool_word(&in->d.pools, p->id));
		memcpy(p->bytes, chunk_at(in, p->id), PIECE);
	}
}

static uint32_t ports_of(const struct innocents *in,
    const struct innocent *one)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < in->d.max_ports; i++) {
		const struct port *p = &in->d.ports[i];

		n += fact_load32(&p->state) == PORT_OPEN &&
		    p->participant == one->slot &&
		    p->incarnation == one->incarnation;
	}
	return n;
}

static void start_one(struct innocents *in, enum innocent_name who)
{
	struct self s = { .who = who, .trait = &traits[who] };
	struct answer a;
	int ends[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0,
	    ends), 0);
	s.line = ends[1];
	in->one[who] = (struct innocent){ .line = ends[0] };
	in->one[who].pid = in_process(live, &s);
	close(ends[1]);
	hear(in, who, &a);
	in->one[who].slot = a.slot;
	in->one[who].incarnation = a.incarnation;
}

static void stop_one(struct innocent *one)
{
	int status;

	ck_assert_int_eq(kill(one->pid, SIGSTOP), 0);
	ck_assert_int_eq(waitpid(one->pid, &status, WUNTRACED), one->pid);
	ck_assert(WIFSTOPPED(status));
}

void innocents_start(struct innocents *in)
{
	struct answer a;

	for (int i = 0; i < INNOCENTS; i++)
		start_one(in, (enum innocent_name)i);
	must(domain_attach(&in->d, bus_domain, geteuid(), false));
	must(domain_map_words(&in->d));
	must(domain_map_read(&in->d));
	tell(in, INNOCENT_SOURCE, SEND_MORE, &a);
	for (int i = 0; i < INNOCENTS; i++)
		if (traits[i].reads)
			tell(in, (enum innocent_name)i, READ_ALL, &a);
	/* Only their holds keep what they have taken. */
	tell(in, INNOCENT_SOURCE, SEND_MORE, &a);
	for (int i = 0; i < INNOCENTS; i++) {
		tell(in, (enum innocent_name)i, traits[i].closes ? HIDE : 0,
		    &a);
		note(in, &in->one[i], &a);
		in->one[i].ports = ports_of(in, &in->one[i]);
		if (traits[i].stops)
			stop_one(&in->one[i]);
	}
}

void innocents_take(struct innocents *in)
{
	struct answer a;

	tell(in, INNOCENT_HOLDER, TAKE, &a);
	note(in, &in->one[INNOCENT_HOLDER], &a);
}

void innocents_read_on(struct innocents *in)
{
	struct answer a;

	tell(in, INNOCENT_HOLDER, TAKE, &a);
	tell(in, INNOCENT_HOLDER, GIVE_BACK, &a);
	in->one[INNOCENT_HOLDER].pieces = a.places;
}

/* ---- what must be so ------------------------------------------------------------------ */

static const char *state_name(uint64_t word)
{
	static const char *const names[] = { "absent", "free", "loaned",
	    "published" };

	return names[word_state(word)];
}

static bool piece_safe(struct innocents *in, const char *name,
    const struct piece *p, char fault[FAULT])
{
	uint64_t word = word_load(pool_word(&in->d.pools, p->id));

	if (word != p->word)
		snprintf(fault, FAULT, "chunk %u that the %s one %s is %s by "
		    "serial %u now, not by %u", chunk_index(p->id), name,
		    word_state(p->word) == CHUNK_LOANED ? "has on loan" :
		    "holds", state_name(word), word_serial(word),
		    word_serial(p->word));
	else if (memcmp(chunk_at(in, p->id), p->bytes, PIECE) != 0)
		snprintf(fault, FAULT, "chunk %u of the %s one was overwritten",
		    chunk_index(p->id), name);
	else
		return true;
	return false;
}

static bool one_safe(struct innocents *in, enum innocent_name who,
    char fault[FAULT])
{
	const struct innocent *one = &in->one[who];
	const struct participant *p = &in->d.participants[one->slot];
	const char *name = traits[who].name;
	uint32_t ports = ports_of(in, one);

	for (unsigned i = 0; i < one->pieces; i++)
		if (!piece_safe(in, name, &one->piece[i], fault))
			return false;
	if (p->incarnation != one->incarnation ||
	    fact_load32(&p->state) != PARTICIPANT_LIVE)
		snprintf(fault, FAULT, "the %s one was %s", name,
		    fact_load32(&p->flags) & PARTICIPANT_DIED ?
		    "taken for dead" : "ended");
	else if (ports != one->ports)
		snprintf(fault, FAULT, "the %s one has %u ports, not %u", name,
		    ports, one->ports);
	else
		return true;
	return false;
}

bool innocents_safe(struct innocents *in, char fault[FAULT])
{
	if (domain_removed(&in->d)) {
		snprintf(fault, FAULT, "the domain was removed");
		return false;
	}
	for (int i = 0; i < INNOCENTS; i++)
		if (!one_safe(in, (enum innocent_name)i, fault))
			return false;
	return true;
}

static bool end_one(struct innocents *in, enum innocent_name who,
    char fault[FAULT])
{
	struct innocent *one = &in->one[who];
	char command = END;
	int status;

	kill(one->pid, SIGCONT);
	ck_assert_int_eq(write(one->line, &command, 1), 1);
	ck_assert_int_eq(waitpid(one->pid, &status, 0), one->pid);
	close(one->line);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return true;
	snprintf(fault, FAULT, "the %s one ended with %#x", traits[who].name,
	    status);
	return false;
}

bool innocents_end(struct innocents *in, char fault[FAULT])
{
	bool good = true;

	domain_detach(&in->d);
	for (int i = 0; i < INNOCENTS; i++)
		good = end_one(in, (enum innocent_name)i, fault) && good;
	return good;
}

void innocents_kill(struct innocents *in)
{
	domain_detach(&in->d);
	for (int i = 0; i < INNOCENTS; i++) {
		close(in->one[i].line);
		kill_process(in->one[i].pid);
	}
}
