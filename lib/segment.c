#include "segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "atomics.h"
#include "error.h"
#include "own.h"

void segment_path(char path[SEGMENT_PATH], const char *dir, const char *part)
{
	snprintf(path, SEGMENT_PATH, "%.*s/%.16s", SEGMENT_DIR_MOST - 1, dir,
	    part);
}

static int map(struct segment *s, int fd, const char *path, bool writable)
{
	s->base = mmap(NULL, s->size, PROT_READ | (writable ? PROT_WRITE : 0),
	    MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (s->base == MAP_FAILED) {
		s->base = NULL;
		return error_sys("cannot map %llu bytes of %s",
		    (unsigned long long)s->size, path);
	}
	if (madvise(s->base, s->size, MADV_DONTFORK) < 0)
		return error_sys("cannot keep %s from forked children", path);
	return 0;
}

int segment_commit(int fd, const char *path, uint64_t offset, uint64_t bytes)
{
	int rc;

	do
		rc = fallocate(fd, 0, (off_t)offset, (off_t)bytes);
	while (rc < 0 && errno == EINTR);
	if (rc < 0)
		return error_sys("cannot commit %llu bytes of %s (is "
		    SEGMENT_DIR " full? df " SEGMENT_DIR ")",
		    (unsigned long long)bytes, path);
	return 0;
}

int segment_committed(int fd, uint64_t offset, uint64_t bytes)
{
	off_t data, hole;

	if (bytes == 0 || offset + bytes < offset)
		return 0;
	data = lseek(fd, (off_t)offset, SEEK_DATA);
	/* No data from there on, or no such place. */
	if (data < 0)
		return errno == ENXIO || errno == EINVAL ? 0 : -1;
	if (data != (off_t)offset)
		return 0;
	hole = lseek(fd, (off_t)offset, SEEK_HOLE);
	return hole < 0 ? -1 : (uint64_t)hole >= offset + bytes;
}

int segment_create(struct segment *s, const char *path,
    enum segment_part part, uint64_t size, uint64_t commit,
    uint64_t instance, mode_t mode)
{
	struct segment made = SEGMENT_INIT;
	struct segment_head *head;
	int rc;

	made.size = size;
	made.fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
	    mode);
	if (made.fd < 0)
		return error_sys("cannot create %s", path);
	if (fchmod(made.fd, mode) < 0 || ftruncate(made.fd, (off_t)size) < 0) {
		rc = error_sys("cannot give %s %llu bytes", path,
		    (unsigned long long)size);
		goto fail;
	}
	if ((rc = segment_commit(made.fd, path, 0, commit)) < 0 ||
	    (rc = map(&made, made.fd, path, true)) < 0)
		goto fail;
	head = made.base;
	head->part = part;
	head->major = LAYOUT_MAJOR;
	head->minor = LAYOUT_MINOR;
	head->size = size;
	head->instance = instance;
	head->uid = geteuid();
	*s = made;
	return 0;
fail:
	segment_close(&made);
	unlink(path);
	return rc;
}

void segment_ready(struct segment *s)
{
	struct segment_head *head = s->base;

	fact_publish(&head->magic, SEGMENT_MAGIC);
}

/* With ENODATA, to tell it from other damage. */
#define truncated(...) (errno = ENODATA, error_set(__VA_ARGS__))

/* Reads the head with pread: a mapped read of a truncated file would kill. */
static int check(struct segment *s, int fd, const struct stat *st,
    const char *path, enum segment_part part, uint64_t instance)
{
	struct segment_head head;
	ssize_t n = pread(fd, &head, sizeof(head), 0);

	if (n < 0)
		return error_sys("cannot read %s", path);
	if ((size_t)n < sizeof(head))
		return truncated(n == 0 ? ZCP_E_BUSY : ZCP_E_DAMAGED,
		    "%s is %s", path, n == 0 ? "not ready" :
		    "truncated within its header");
	if (head.magic == 0)
		return error_set(ZCP_E_BUSY, "%s is not ready", path);
	if (head.magic != SEGMENT_MAGIC)
		return error_set(ZCP_E_DAMAGED,
		    "%s is no zcp segment (its first bytes are wrong)", path);
	if (head.major != LAYOUT_MAJOR)
		return error_set(ZCP_E_LAYOUT, "%s has layout version %u.%u, "
		    "this program knows %u.x: use programs of one release",
		    path, head.major, head.minor, LAYOUT_MAJOR);
	if (head.part != (uint32_t)part)
		return error_set(ZCP_E_DAMAGED,
		    "%s holds part %u where part %d belongs", path, head.part,
		    part);
	if (instance != 0 && head.instance != instance)
		return error_set(ZCP_E_DAMAGED,
		    "%s belongs to another creation of the domain", path);
	if (head.size < sizeof(head) || (uint64_t)st->st_size < head.size)
		return truncated(ZCP_E_DAMAGED,
		    "%s is truncated: %llu bytes of %llu", path,
		    (unsigned long long)st->st_size,
		    (unsigned long long)head.size);
	s->size = head.size;
	return 0;
}

static int allowed(const struct stat *st, const char *path, uid_t owner,
    mode_t mode)
{
	if (!S_ISREG(st->st_mode))
		return error_set(ZCP_E_PERM, "%s is not a regular file", path);
	if (owner == ANY_OWNER)
		return 0;
	if (st->st_uid != owner)
		return error_set(ZCP_E_PERM, "%s belongs to uid %u, not to %u: "
		    "refused", path, (unsigned)st->st_uid, (unsigned)owner);
	if (st->st_mode & 0777 & ~mode)
		return error_set(ZCP_E_PERM, "%s has mode %03o where %03o is "
		    "the most allowed: refused", path,
		    (unsigned)st->st_mode & 0777, (unsigned)mode);
	return 0;
}

int segment_map(struct segment *s, int fd, const char *path,
    enum segment_part part, bool writable, uid_t owner, mode_t mode,
    uint64_t instance)
{
	struct segment mapped = SEGMENT_INIT;
	struct stat st;
	int rc;

	if (fstat(fd, &st) < 0)
		return error_sys("cannot stat %s", path);
	mapped.dev = st.st_dev;
	mapped.ino = st.st_ino;
	if ((rc = allowed(&st, path, owner, mode)) < 0 ||
	    (rc = check(&mapped, fd, &st, path, part, instance)) < 0)
		return rc;
	rc = map(&mapped, fd, path, writable);
	if (rc < 0)
		segment_close(&mapped);
	else
		*s = mapped;
	return rc;
}

int segment_open(struct segment *s, const char *path, enum segment_part part,
    bool writable, uid_t owner, mode_t mode, uint64_t instance)
{
	struct look_at look;
	int rc;

	if (look_begin(&look, path, writable ? O_RDWR : O_RDONLY) < 0)
		return error_sys("cannot open %s", path);
	rc = segment_map(s, look.fd, path, part, writable, owner, mode,
	    instance);
	look_end(&look);
	return rc;
}

void segment_close(struct segment *s)
{
	if (s->base != NULL)
		munmap(s->base, s->size);
	if (s->fd >= 0)
		close(s->fd);
	*s = (struct segment)SEGMENT_INIT;
}
