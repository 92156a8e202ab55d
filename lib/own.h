/*
 * own.h - descriptors that this process keeps, and looks that leave them alone.
 *
 * An application may close any descriptor (closefrom(3), dup2(2)), and give its
 * number to a file of its own: a number that was kept is looked at before each
 * use, and left alone when it is another's by now.  And closing any descriptor
 * of a file drops this process's lock on it (fcntl(2)): so a file that is
 * locked is not opened a second time, not even for a look.
 */
#ifndef ZCP_OWN_H
#define ZCP_OWN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* ---- a descriptor that is kept -------------------------------------------- */

struct kept {
	int fd;
	dev_t dev;
	ino_t ino;
	bool marked;			/* see kept_mark() */
};
#define KEPT_NONE { .fd = -1 }

/* Keeps `fd`, as another number where it is that of a standard stream, which
 * anybody may write to.  0, or -1 with errno, and it is closed. */
int kept_take(struct kept *k, int fd);

/* For what has no inode of its own (eventfd): a mark on the open description,
 * so that another one of the kind is told apart. */
void kept_mark(struct kept *k);

/* Is the number still what was kept? */
bool kept_ours(const struct kept *k);

/* Closes it if it is. */
void kept_close(struct kept *k);

/* ---- files that this process has locked ------------------------------------ */

struct own_file {
	struct kept kept;
	uint64_t instance, incarnation;	/* of the participant whose it is */
	unsigned born;			/* fork generation */
	struct own_file *next;
};

/* No look begins or ends between these two: in there a file is opened, listed
 * and locked. */
void own_begin(void);
void own_end(void);

/* Both within them.  What is listed stays so, descriptor lost or not, until it
 * is removed. */
void own_add(struct own_file *own);
void own_remove(struct own_file *own);

/* Is the file of that participant one that this process has? */
bool own_has(uint64_t instance, uint64_t incarnation);

/* ---- looks ------------------------------------------------------------------- */

struct look_at {
	int fd;
	bool kept;			/* listed, and not to be closed */
};

/*
 * Opens a file to look at it, or gives the descriptor that this process has
 * locked it with.  0, or -1 with errno.  look_end() follows a success soon:
 * until then no other look begins.
 */
int look_begin(struct look_at *look, const char *path, int flags);
void look_end(struct look_at *look);

#endif
