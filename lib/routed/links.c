/*
 * links.c - the lists that say who reads whom.
 *
 * Every port's list is an extent of one table.  A list changes by stores of
 * single words, each of which leaves a list that may be read (a link twice
 * is harmless, one missing is not), between two bumps of the port's
 * generation: whoever read meanwhile reads again.  An extent that was left
 * is used again only behind the second bump.
 */
#include <stdlib.h>
#include <string.h>

#include "atomics.h"
#include "error.h"
#include "log.h"
#include "routed.h"

static uint64_t extent_of(const struct routed *r, uint32_t port)
{
	return links_of(r, port);
}

/* In the directory, and what we know of it. */
static void publish_extent(struct routed *r, uint32_t port, uint64_t extent)
{
	r->links[port] = extent;
	fact_publish(&r->d.ports[port].links, extent);
}

void generation_bump(struct routed *r, uint32_t port)
{
	fact_change(&r->d.ports[port].generation);
}

static void mark(struct routed *r, uint64_t extent, uint8_t used)
{
	memset(r->link_used + extent_first(extent), used,
	    extent_capacity(extent));
}

int links_rebuild(struct routed *r)
{
	r->link_used = calloc(r->d.max_links, 1);
	if (r->link_used == NULL)
		return error_set(ZCP_E_SYS, "out of memory");
	for (uint32_t i = 0; i < r->d.max_ports; i++) {
		uint64_t e = fact_load(&r->d.ports[i].links);

		if (extent_first(e) > r->d.max_links ||
		    extent_capacity(e) > r->d.max_links - extent_first(e) ||
		    extent_count(e) > extent_capacity(e))
			return error_set(ZCP_E_DAMAGED, "domain %s: port %u "
			    "has a list of links that lies outside of the "
			    "table", r->d.name, i);
		if (extent_capacity(e) > 0 && memchr(r->link_used +
		    extent_first(e), 1, extent_capacity(e)) != NULL)
			return error_set(ZCP_E_DAMAGED, "domain %s: port %u "
			    "has a list of links that is another port's, too",
			    r->d.name, i);
		r->links[i] = e;
		mark(r, e, 1);
	}
	return 0;
}

static uint32_t find_run(struct routed *r, uint32_t length)
{
	uint32_t run = 0, most = r->d.max_links;

	/* Next fit: from where the last one was found, once round. */
	for (uint32_t k = 0, i = r->link_rover; k < most + length; k++, i++) {
		if (i >= most) {
			i = 0;
			run = 0;
		}
		run = r->link_used[i] ? 0 : run + 1;
		if (run == length) {
			r->link_rover = i;
			return i + 1 - length;
		}
	}
	return UINT32_MAX;
}

static uint32_t bigger(uint64_t extent)
{
	uint32_t capacity = extent_capacity(extent);

	return capacity == 0 ? 4 : capacity < 0x8000 ? capacity * 2 : 0xffff;
}

/* Copies the list to a larger extent; the old one is given back. */
static int move_list(struct routed *r, uint32_t port)
{
	uint64_t e = extent_of(r, port);
	uint32_t first = find_run(r, bigger(e));

	if (first == UINT32_MAX)
		return error_set(ZCP_E_REFUSED, "all %u links between ports "
		    "are in use (zcp-routed --max-links)", r->d.max_links);
	for (uint32_t i = 0; i < extent_count(e); i++)
		fact_publish(&r->d.links[first + i],
		    fact_load(&r->d.links[extent_first(e) + i]));
	generation_bump(r, port);
	publish_extent(r, port, extent_make(first, bigger(e),
	    extent_count(e)));
	mark(r, extent_of(r, port), 1);
	generation_bump(r, port);
	mark(r, e, 0);
	return 0;
}

int link_add(struct routed *r, uint32_t port, uint64_t link)
{
	uint64_t e = extent_of(r, port);
	int rc;

	if (extent_count(e) == 0xffff)
		return error_set(ZCP_E_REFUSED, "port %u has 65535 links, as "
		    "many as a port can have", port);
	if (extent_count(e) == extent_capacity(e)) {
		if ((rc = move_list(r, port)) < 0)
			return rc;
		e = extent_of(r, port);
	}
	generation_bump(r, port);
	fact_publish(&r->d.links[extent_first(e) + extent_count(e)], link);
	publish_extent(r, port, extent_make(extent_first(e),
	    extent_capacity(e), extent_count(e) + 1));
	generation_bump(r, port);
	return 0;
}

static void remove_at(struct routed *r, uint32_t port, uint32_t i)
{
	uint64_t e = extent_of(r, port);
	uint32_t last = extent_first(e) + extent_count(e) - 1;

	generation_bump(r, port);
	fact_publish(&r->d.links[extent_first(e) + i],
	    fact_load(&r->d.links[last]));
	publish_extent(r, port, extent_make(extent_first(e),
	    extent_capacity(e), extent_count(e) - 1));
	generation_bump(r, port);
}

static uint64_t link_at(const struct routed *r, uint32_t port, uint32_t i)
{
	return fact_load(&r->d.links[extent_first(extent_of(r, port)) + i]);
}

void link_remove(struct routed *r, uint32_t port, uint32_t other)
{
	for (uint32_t i = extent_count(extent_of(r, port)); i-- > 0;)
		if (link_port(link_at(r, port, i)) == other)
			remove_at(r, port, i);
}

void link_remove_exact(struct routed *r, uint32_t port, uint64_t link)
{
	for (uint32_t i = extent_count(extent_of(r, port)); i-- > 0;)
		if (link_at(r, port, i) == link)
			remove_at(r, port, i);
}

void link_flag(struct routed *r, uint32_t port, uint32_t other,
    uint32_t flags, bool on)
{
	uint64_t e = extent_of(r, port);

	/* A daemon killed while it removed a link leaves another one twice. */
	for (uint32_t i = 0; i < extent_count(e); i++) {
		uint64_t link = link_at(r, port, i);

		if (link_port(link) == other)
			fact_publish(&r->d.links[extent_first(e) + i],
			    on ? link | flags : link & ~(uint64_t)flags);
	}
	generation_bump(r, port);
}

void links_release(struct routed *r, uint32_t port)
{
	uint64_t e = extent_of(r, port);

	generation_bump(r, port);
	publish_extent(r, port, 0);
	generation_bump(r, port);
	mark(r, e, 0);
}
