#include "image.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../torture/xorshift.h"
#include "site.h"

enum {
	LINE = CACHE_LINE,
	MEMBERS = 4,			/* files p0 to p3 */
	FILES = PART_MEMBER - 1 + MEMBERS,
	RUN_MOST = 4096,
};
#define FILE_MOST (UINT64_C(1) << 31)

struct piece {
	uint8_t part, slot;
	uint16_t length;
	uint32_t line;
};
_Static_assert(sizeof(struct piece) == 8, "as in the file");

static const char *const part_name[] = {
	[PART_MGMT] = "mgmt", [PART_BELL] = "bell", [PART_POOL] = "pool",
	[PART_DATA] = "data",
};

/* One at a time. */
static const struct site *dir_of(const char *domain)
{
	static struct site site;

	if (strcmp(site.domain, domain) != 0 || site.dir[0] == '\0')
		(void)!site_here(&site, domain);
	return &site;
}

static void path_of(char path[SEGMENT_PATH], const char *domain, uint8_t part,
    uint8_t slot)
{
	char member[16];

	snprintf(member, sizeof(member), "p%u", slot);
	segment_path(path, dir_of(domain)->dir,
	    part == PART_MEMBER ? member : part_name[part]);
}

/* File i of FILES. */
static void path_at(char path[SEGMENT_PATH], const char *domain, int i)
{
	path_of(path, domain, i < PART_MEMBER - 1 ? (uint8_t)(i + 1) :
	    PART_MEMBER, i < PART_MEMBER - 1 ? 0 :
	    (uint8_t)(i - (PART_MEMBER - 1)));
}

const char *image_directory(const char *domain)
{
	return dir_of(domain)->dir;
}

void image_remove(const char *domain)
{
	char path[SEGMENT_PATH];

	if (dir_of(domain)->dir[0] == '\0')
		return;
	for (int i = 0; i < FILES; i++) {
		path_at(path, domain, i);
		unlink(path);
	}
	site_remove(dir_of(domain));
}

/* ---- packing ------------------------------------------------------------------- */

static bool is_zero(const char *line)
{
	static const char zero[LINE];

	return memcmp(line, zero, LINE) == 0;
}

static void put(FILE *to, struct piece p, const void *bytes)
{
	fwrite(&p, sizeof(p), 1, to);
	fwrite(bytes, p.length, 1, to);
}

/* The lines of one block that are not zero, as few pieces. */
static void pack_block(FILE *to, struct piece p, const char *block, size_t n)
{
	uint32_t first = p.line;

	for (size_t at = 0, end; at < n; at = end) {
		end = at + LINE;
		if (is_zero(block + at))
			continue;
		while (end < n && !is_zero(block + end))
			end += LINE;
		p.line = first + (uint32_t)(at / LINE);
		p.length = (uint16_t)(end - at);
		put(to, p, block + at);
	}
}

static bool pack_file(FILE *to, int fd, struct piece p)
{
	off_t size = lseek(fd, 0, SEEK_END), at = 0;
	char block[RUN_MOST];

	p.line = (uint32_t)(size / LINE);
	put(to, p, "");
	while ((at = lseek(fd, at, SEEK_DATA)) >= 0) {
		ssize_t n = pread(fd, block, sizeof(block), at);

		if (n <= 0)
			return false;
		memset(block + n, 0, sizeof(block) - (size_t)n);
		p.line = (uint32_t)(at / LINE);
		pack_block(to, p, block, sizeof(block));
		at += n;
	}
	return errno == ENXIO;		/* no more data */
}

bool image_pack(const char *domain, FILE *to)
{
	for (int i = 0; i < FILES; i++) {
		bool member = i >= PART_MEMBER - 1;
		struct piece p = { .part = member ? PART_MEMBER :
		    (uint8_t)(i + 1), .slot = member ?
		    (uint8_t)(i - (PART_MEMBER - 1)) : 0 };
		char path[SEGMENT_PATH];
		bool packed;
		int fd;

		path_of(path, domain, p.part, p.slot);
		if ((fd = open(path, O_RDONLY)) < 0) {
			if (errno == ENOENT && member)
				continue;
			return false;
		}
		packed = pack_file(to, fd, p);
		close(fd);
		if (!packed)
			return false;
	}
	return fflush(to) == 0;
}

/* ---- unpacking ------------------------------------------------------------------ */

/* Descriptors of the files of one domain, opened when they are first met. */
struct files {
	const char *domain;
	int fd[FILES];
};

static int file_of(struct files *f, const struct piece *p)
{
	int i = p->part == PART_MEMBER ? PART_MEMBER - 1 + p->slot :
	    p->part - 1;
	char path[SEGMENT_PATH];

	if (p->part < PART_MGMT || p->part > PART_MEMBER || i >= FILES)
		return -1;
	if (f->fd[i] < 0) {
		path_of(path, f->domain, p->part, p->slot);
		f->fd[i] = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	}
	return f->fd[i];
}

static bool apply(int fd, const struct piece *p, const uint8_t *bytes)
{
	uint64_t at = (uint64_t)p->line * LINE;

	if (at > FILE_MOST)
		return true;
	if (p->length == 0)
		return ftruncate(fd, (off_t)at) == 0;
	return pwrite(fd, bytes, p->length, (off_t)at) == p->length;
}

bool image_unpack(const char *domain, const uint8_t *bytes, size_t size)
{
	struct files files = { .domain = domain };
	struct site site;
	bool room = true;

	memset(files.fd, -1, sizeof(files.fd));
	image_remove(domain);
	if (site_make(&site, domain) < 0)
		return false;
	while (room && size >= sizeof(struct piece)) {
		struct piece p;
		int fd;

		memcpy(&p, bytes, sizeof(p));
		bytes += sizeof(p);
		size -= sizeof(p);
		if (p.length > size)
			break;
		if ((fd = file_of(&files, &p)) >= 0)
			room = apply(fd, &p, bytes);
		bytes += p.length;
		size -= p.length;
	}
	for (int i = 0; i < FILES; i++)
		if (files.fd[i] >= 0)
			close(files.fd[i]);
	return room;
}

/* ---- mutating ------------------------------------------------------------------------ */

static uint32_t draw(uint32_t *seed, uint64_t below)
{
	return (uint32_t)(xorshift(seed) % (below == 0 ? 1 : below));
}

/* Small numbers, the largest, any of any width. */
static uint64_t value(uint32_t *seed)
{
	switch (draw(seed, 4)) {
	case 0:
		return UINT64_MAX >> draw(seed, 64);
	case 1:
		return draw(seed, 100);
	case 2:
		return UINT64_C(1) << draw(seed, 64);
	default:
		return (uint64_t)xorshift(seed) << draw(seed, 33);
	}
}

/* Somewhere in the file, more often near its beginning. */
static off_t place(uint32_t *seed, off_t size)
{
	uint64_t most = draw(seed, 2) ? 2048 : 65536;

	return (off_t)draw(seed, (uint64_t)size < most ? (uint64_t)size :
	    most);
}

static void change(int fd, uint32_t *seed, off_t size)
{
	off_t at = place(seed, size), from = place(seed, size) & ~7;
	uint64_t word = value(seed);
	size_t width = (size_t)1 << draw(seed, 4);
	ssize_t n = 0;

	switch (draw(seed, 3)) {
	case 0:					/* a bit */
		width = 1;
		n = pread(fd, &word, 1, at);
		word ^= UINT64_C(1) << draw(seed, 8);
		break;
	case 1:					/* a word of another place */
		width = sizeof(word);
		n = pread(fd, &word, width, from);
		break;
	default:
		break;
	}
	if (n >= 0)
		n = pwrite(fd, &word, width, at & ~(off_t)(width - 1));
	(void)n;		/* a full /dev/shm leaves it as it was */
}

/* mgmt, where most of the shape is, as often as all others. */
static int open_any(const char *domain, uint32_t *seed, char path[SEGMENT_PATH])
{
	int i = draw(seed, 2) ? 0 : (int)draw(seed, FILES);

	path_at(path, domain, i);
	return open(path, O_RDWR);
}

void image_damage(const char *domain, uint32_t *seed)
{
	char path[SEGMENT_PATH];
	int fd = open_any(domain, seed, path);
	struct stat st;

	if (fd < 0)
		return;
	if (fstat(fd, &st) == 0 && st.st_size > 0)
		change(fd, seed, st.st_size);
	close(fd);
}

static void mutate_file(int fd, uint32_t *seed)
{
	struct stat st;

	if (fstat(fd, &st) < 0 || st.st_size == 0)
		return;
	if (draw(seed, 24) == 0) {
		off_t to = draw(seed, 2) ? draw(seed, 8192) :
		    (off_t)draw(seed, (uint64_t)st.st_size * 2);

		if (ftruncate(fd, to) < 0)
			return;
		return;
	}
	for (uint32_t n = 1 + draw(seed, 8); n > 0; n--)
		change(fd, seed, st.st_size);
}

void image_mutate(const char *domain, uint32_t *seed)
{
	for (uint32_t n = 1 + draw(seed, 3); n > 0; n--) {
		char path[SEGMENT_PATH];
		int fd = open_any(domain, seed, path);

		if (draw(seed, 64) == 0)
			unlink(path);
		if (fd < 0)
			continue;
		mutate_file(fd, seed);
		close(fd);
	}
}
