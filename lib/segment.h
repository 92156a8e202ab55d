/*
 * segment.h - one shared file: made whole, opened with suspicion.
 *
 * Address space is reserved with the file's size and committed piece by
 * piece, so that a full /dev/shm is an error code and never a signal.
 */
#ifndef ZCP_SEGMENT_H
#define ZCP_SEGMENT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "layout.h"

#define SEGMENT_DIR "/dev/shm"
enum { SEGMENT_PATH = 256, SEGMENT_DIR_MOST = 160 };

struct segment {
	void *base;
	uint64_t size;
	int fd;				/* its maker's, until segment_close() */
	dev_t dev;			/* of the file that is mapped */
	ino_t ino;
	unsigned cut;			/* 1: it was found truncated, see guard.h */
};
#define SEGMENT_INIT { .base = NULL, .size = 0, .fd = -1 }

/* "<dir>/<part>", in the domain's directory (site.h). */
void segment_path(char path[SEGMENT_PATH], const char *dir, const char *part);

/*
 * Makes the file exclusively, reserves `size` bytes of which the first
 * `commit` are committed and zero, and maps it for writing.  The head is
 * filled in but for its magic: segment_ready() stores that last.
 */
int segment_create(struct segment *s, const char *path,
    enum segment_part part, uint64_t size, uint64_t commit,
    uint64_t instance, mode_t mode);
void segment_ready(struct segment *s);

/*
 * Opens and maps an existing one.  Refused, each with its reason: not owned
 * by `owner`, writable by more than `mode` allows, a link or no regular file,
 * of another layout, truncated or damaged; -ZCP_E_BUSY: not ready yet, try
 * again.  `instance` 0 accepts any, `owner` ANY_OWNER any, with any mode.
 * What is mapped needs no descriptor: none is kept.
 */
#define ANY_OWNER ((uid_t)-1)
int segment_open(struct segment *s, const char *path, enum segment_part part,
    bool writable, uid_t owner, mode_t mode, uint64_t instance);

/* The same for a descriptor that the caller keeps, in either case. */
int segment_map(struct segment *s, int fd, const char *path,
    enum segment_part part, bool writable, uid_t owner, mode_t mode,
    uint64_t instance);

/* Commits a range: -ZCP_E_SYS when /dev/shm is full. */
int segment_commit(int fd, const char *path, uint64_t offset, uint64_t bytes);

/*
 * 1: every page of the range is committed, and was written to once.  (tmpfs
 * calls a page that is only committed a hole.)  Reading a real hole would
 * allocate.  0: they are not; < 0, with errno: could not look.
 */
int segment_committed(int fd, uint64_t offset, uint64_t bytes);

/* Unmaps and closes; safe on a half-built one and twice. */
void segment_close(struct segment *s);

#endif
