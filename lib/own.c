#include "own.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/stat.h>
#include <unistd.h>

#include "domain.h"

/* ---- a descriptor that is kept -------------------------------------------------- */

/* Closed, whatever errno said before. */
static int give_up(int fd)
{
	int cause = errno;

	close(fd);
	errno = cause;
	return -1;
}

int kept_take(struct kept *k, int fd)
{
	struct stat st;
	int above;

	*k = (struct kept)KEPT_NONE;
	if (fd <= STDERR_FILENO) {
		above = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
		give_up(fd);
		if ((fd = above) < 0)
			return -1;
	}
	if (fstat(fd, &st) < 0)
		return give_up(fd);
	*k = (struct kept){ .fd = fd, .dev = st.st_dev, .ino = st.st_ino };
	return 0;
}

/* The signal that would be sent anyway, named: others have named none. */
void kept_mark(struct kept *k)
{
	k->marked = fcntl(k->fd, F_SETSIG, SIGIO) == 0 &&
	    fcntl(k->fd, F_GETSIG) > 0;
}

bool kept_ours(const struct kept *k)
{
	struct stat st;

	return k->fd >= 0 && fstat(k->fd, &st) == 0 && st.st_dev == k->dev &&
	    st.st_ino == k->ino && (!k->marked || fcntl(k->fd, F_GETSIG) > 0);
}

void kept_close(struct kept *k)
{
	if (kept_ours(k))
		close(k->fd);
	*k = (struct kept)KEPT_NONE;
}

/* ---- files that this process has locked ------------------------------------------ */

static struct own_file *own_files;
static pthread_mutex_t own_lock = PTHREAD_MUTEX_INITIALIZER;

void own_begin(void)
{
	pthread_mutex_lock(&own_lock);
}

void own_end(void)
{
	pthread_mutex_unlock(&own_lock);
}

void own_add(struct own_file *own)
{
	own->born = fork_generation;
	own->next = own_files;
	own_files = own;
}

void own_remove(struct own_file *own)
{
	for (struct own_file **p = &own_files; *p != NULL; p = &(*p)->next)
		if (*p == own) {
			*p = own->next;
			break;
		}
}

bool own_has(uint64_t instance, uint64_t incarnation)
{
	bool has = false;

	own_begin();
	for (struct own_file *own = own_files; own != NULL; own = own->next)
		has |= own->instance == instance &&
		    own->incarnation == incarnation &&
		    own->born == fork_generation;
	own_end();
	return has;
}

/* The descriptor that we have locked it with, or -1. */
static int find_kept(const struct stat *st)
{
	for (struct own_file *own = own_files; own != NULL; own = own->next)
		if (own->kept.dev == st->st_dev &&
		    own->kept.ino == st->st_ino &&
		    own->born == fork_generation && kept_ours(&own->kept))
			return own->kept.fd;
	return -1;
}

/* ---- looks --------------------------------------------------------------------------- */

int look_begin(struct look_at *look, const char *path, int flags)
{
	struct stat st;
	int cause;

	own_begin();
	*look = (struct look_at){ .fd = -1 };
	/* A name does not come to lead to a file of ours in the meantime: who
	 * makes one locks it in here. */
	if (lstat(path, &st) == 0) {
		look->fd = find_kept(&st);
		look->kept = look->fd >= 0;
		if (!look->kept)
			look->fd = open(path, flags | O_NOFOLLOW | O_CLOEXEC |
			    O_NONBLOCK);
	}
	if (look->fd >= 0)
		return 0;
	cause = errno;
	own_end();
	errno = cause;
	return -1;
}

void look_end(struct look_at *look)
{
	if (!look->kept)
		close(look->fd);
	look->fd = -1;
	own_end();
}
