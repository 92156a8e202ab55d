/*
 * dump.c - DUMP: the directory as it stands, a line a record: segments,
 * topics, participants, ports, links with their cursors, chunks in use.
 */
#include <inttypes.h>

#include "atomics.h"
#include "routed.h"

static void dump_domain(struct routed *r, struct text *t)
{
	const struct mgmt *m = r->d.m;

	text_add(t, "domain=%s uid=%u layout=%d.%d max_participants=%u "
	    "max_topics=%u max_ports=%u max_links=%u heartbeat_ms=%" PRIu64
	    " registrations=%" PRIu64 " incarnations=%" PRIu64 "\n",
	    r->d.name, (unsigned)r->d.uid, LAYOUT_MAJOR, LAYOUT_MINOR,
	    r->d.max_participants, r->d.max_topics, r->d.max_ports, r->d.max_links,
	    m->heartbeat / 1000000, fact_load(&m->registrations),
	    fact_load(&m->incarnations));
}

static void dump_topic(struct routed *r, struct text *t, uint32_t i)
{
	const struct topic *topic = &r->d.topics[i];
	uint32_t state = fact_load32(&topic->state);

	if (state != TOPIC_FREE)
		text_add(t, "topic=%u name=%.191s kind=%s publishers=%u "
		    "subscribers=%u\n", i, topic->name,
		    state == TOPIC_PATTERN ? "pattern" : "topic",
		    topic->publishers, topic->subscribers);
}

static void dump_participant(struct routed *r, struct text *t, uint32_t i)
{
	const struct participant *p = &r->d.participants[i];
	uint32_t state = fact_load32(&p->state);

	if (state != PARTICIPANT_FREE)
		text_add(t, "participant=%u name=%.63s pid=%u uid=%u gid=%u "
		    "start_time=%" PRIu64 " pid_namespace=%" PRIu64
		    " incarnation=%" PRIu64 " state=%u flags=%u\n", i,
		    p->name, p->pid, p->uid, p->gid, p->start_time,
		    p->pid_namespace, p->incarnation, state,
		    fact_load32(&p->flags));
}

static void dump_ring(struct routed *r, struct text *t, const struct port *p)
{
	uint32_t slots;
	const struct ring *ring = port_ring(r, p, &slots);

	if (ring != NULL)
		text_add(t, " tail=%" PRIu64 " head=%" PRIu64 " closed=%u",
		    word_number(tail_load(ring)), news_load(&ring->head),
		    fact_load32(&ring->closed));
}

static void dump_port(struct routed *r, struct text *t, uint32_t i)
{
	const struct port *p = &r->d.ports[i];
	uint64_t e = links_of(r, i);

	if (fact_load32(&p->state) == PORT_FREE)
		return;
	text_add(t, "port=%u kind=%s topic=%u participant=%u serial=%u "
	    "state=%u flags=%u slots=%u history=%u depth=%u offset=%" PRIu64
	    " registration=%" PRIu64 " redeems=%u gated=%u links=%u", i,
	    p->kind == PORT_PUBLISHER ? "publisher" : "subscriber", p->topic,
	    p->participant, fact_load32(&p->serial), fact_load32(&p->state),
	    p->flags, p->slots, p->history, p->depth, p->offset,
	    p->registration, p->redeems, fact_load32(&p->gated),
	    extent_count(e));
	dump_ring(r, t, p);
	text_add(t, "\n");
}

/* Entry i of the links table, if a publisher's list has it. */
static void dump_link(struct routed *r, struct text *t, uint32_t port,
    uint64_t link)
{
	const struct cursor *c = port_cursor(r, link_port(link),
	    link_cursor(link));

	text_add(t, "link=%u:%u cursor=%u serial=%u flags=%u", port,
	    link_port(link), link_cursor(link), link_serial(link),
	    link_flags(link));
	if (c != NULL)
		text_add(t, " at=%" PRIu64 " let_go=%d",
		    word_number(cursor_load(c)),
		    word_state(cursor_load(c)) == CURSOR_LET_GO);
	text_add(t, "\n");
}

static void dump_chunk(struct routed *r, struct text *t, uint32_t pool,
    uint32_t index)
{
	static const char *const names[] = { "absent", "free", "loaned",
	    "published" };
	const struct pool *p = &r->d.pools.pool[pool];
	uint64_t word = word_load(&p->word[index]);

	if (word_state(word) != CHUNK_FREE && word_state(word) != 0)
		text_add(t, "chunk=%u:%u size=%u state=%s serial=%u "
		    "last=%" PRIu64 "\n", pool, index, p->chunk_size,
		    names[word_state(word)], word_serial(word),
		    word_number(word));
}

/* One record; *from says which in which table: table << 40 | index. */
enum { DUMP_DOMAIN, DUMP_TOPICS, DUMP_PARTICIPANTS, DUMP_PORTS, DUMP_LINKS,
	DUMP_CHUNKS };	/* and a table for each further pool */

static uint64_t table_size(struct routed *r, uint64_t table)
{
	switch (table) {
	case DUMP_DOMAIN: return 1;
	case DUMP_TOPICS: return r->d.max_topics;
	case DUMP_PARTICIPANTS: return r->d.max_participants;
	case DUMP_PORTS: return r->d.max_ports;
	case DUMP_LINKS: return (uint64_t)r->d.max_ports << 16;
	default: break;
	}
	table -= DUMP_CHUNKS;
	return table < r->d.pools.count ?
	    pool_count(&r->d.pools.pool[table]) : 0;
}

/* Index of a link: port << 16 | its place in the port's list.  Returns what
 * comes next. */
static uint64_t dump_one_link(struct routed *r, struct text *t, uint64_t i)
{
	const struct port *p = &r->d.ports[i >> 16];
	uint64_t e = links_of(r, (uint32_t)(i >> 16));

	if (p->kind != PORT_PUBLISHER || (i & 0xffff) >= extent_count(e) ||
	    fact_load32(&p->state) == PORT_FREE)
		return ((i >> 16) + 1) << 16;
	dump_link(r, t, (uint32_t)(i >> 16), fact_load(
	    &r->d.links[extent_first(e) + (i & 0xffff)]));
	return i + 1;
}

static uint64_t dump_one(struct routed *r, struct text *t, uint64_t table,
    uint64_t i)
{
	switch (table) {
	case DUMP_DOMAIN: dump_domain(r, t); break;
	case DUMP_TOPICS: dump_topic(r, t, (uint32_t)i); break;
	case DUMP_PARTICIPANTS: dump_participant(r, t, (uint32_t)i); break;
	case DUMP_PORTS: dump_port(r, t, (uint32_t)i); break;
	case DUMP_LINKS: return dump_one_link(r, t, i);
	default:
		dump_chunk(r, t, (uint32_t)(table - DUMP_CHUNKS), (uint32_t)i);
	}
	return i + 1;
}

void dump_text(struct routed *r, uint64_t from, struct text *t)
{
	uint64_t table = from >> 40, i = from & ((UINT64_C(1) << 40) - 1);

	for (; table < DUMP_CHUNKS + (uint64_t)r->d.pools.count;
	    table++, i = 0)
		while (i < table_size(r, table)) {
			if (text_left(t) < TEXT_LINE) {
				text_add(t, "MORE:%" PRIu64 "\n",
				    table << 40 | i);
				return;
			}
			i = dump_one(r, t, table, i);
		}
}
