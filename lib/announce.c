#include "announce.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "atomics.h"
#include "error.h"

/* Bytes that no file has: one for each epoch. */
#define EPOCHS_AT ((off_t)1 << 40)
enum { RETRIES = 100 };

/* The daemon, and zcp-gc in its place, give serials themselves, one thing after
 * the other. */
static bool by_lock(const struct domain *d)
{
	return d->sweeping == NULL && !d->owner && !d->watched;
}

static int lock_epoch(struct announcement *a, short type, uint32_t epoch)
{
	struct flock lock = { .l_type = type, .l_whence = SEEK_SET,
	    .l_start = EPOCHS_AT + (off_t)epoch, .l_len = 1 };

	return fcntl(a->file.kept.fd, F_SETLK, &lock) < 0 ?
	    error_sys("cannot announce a sweep by a lock on the pool") : 0;
}

static int say(struct domain *d, struct announcement *a, uint32_t epoch)
{
	if (a->locked)
		return lock_epoch(a, F_RDLCK, epoch);
	if (d->sweeping != NULL)
		fact_publish(d->sweeping, epoch);
	return 0;
}

/*
 * We say the epoch, fence, and load it again; the daemon advances it, fences,
 * and looks who has said what.  One sees the other: else a serial could be given
 * again behind a look at words that nobody knew of.
 */
static int say_epoch(struct domain *d, struct announcement *a)
{
	uint32_t epoch = fact_load32(&d->m->serial_epoch), now;
	int rc;

	for (int i = 0; i < RETRIES; i++) {
		if ((rc = say(d, a, epoch)) < 0)
			return rc;
		fence_full();
		if ((now = fact_load32(&d->m->serial_epoch)) == epoch)
			return 0;
		if (a->locked)
			lock_epoch(a, F_UNLCK, epoch);
		epoch = now;
	}
	return error_set(ZCP_E_DAMAGED, "the epoch of port serials keeps "
	    "changing");
}

static int open_pool(struct domain *d, struct announcement *a)
{
	char path[SEGMENT_PATH];
	int fd;

	segment_path(path, d->dir, "pool");
	fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || kept_take(&a->file.kept, fd) < 0)
		return error_sys("cannot open %s", path);
	if (a->file.kept.dev == d->pool.dev && a->file.kept.ino == d->pool.ino)
		return 0;
	kept_close(&a->file.kept);
	return error_set(ZCP_E_BUSY, "%s has been made anew", path);
}

int announce_begin(struct domain *d, struct announcement *a)
{
	int rc = 0;

	*a = (struct announcement){ .file.kept = KEPT_NONE };
	if (by_lock(d)) {
		own_begin();
		if ((rc = open_pool(d, a)) == 0) {
			own_add(&a->file);
			a->locked = true;
		}
		own_end();
	}
	if (rc == 0 && (rc = say_epoch(d, a)) == 0)
		return 0;
	announce_end(d, a);
	return error_in(rc, "nothing was swept");
}

void announce_end(struct domain *d, struct announcement *a)
{
	if (d->sweeping != NULL)
		fact_publish(d->sweeping, 0);
	if (!a->locked)
		return;
	own_begin();
	own_remove(&a->file);
	kept_close(&a->file.kept);	/* and the lock with it */
	own_end();
	a->locked = false;
}

static int look_for_locks(struct domain *d, const char *path, uint32_t epoch)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET,
	    .l_start = EPOCHS_AT, .l_len = (off_t)epoch };
	struct look_at look;
	struct stat st;
	int rc = 0;

	if (look_begin(&look, path, O_RDWR) < 0)
		return error_sys("cannot open %s", path);
	if (fstat(look.fd, &st) < 0 || fcntl(look.fd, F_GETLK, &lock) < 0)
		rc = error_sys("cannot look for locks on %s", path);
	else if (st.st_dev != d->pool.dev || st.st_ino != d->pool.ino)
		rc = error_set(ZCP_E_DAMAGED, "%s is not the file that is "
		    "mapped", path);
	look_end(&look);
	if (rc < 0 || lock.l_type == F_UNLCK)
		return rc;
	error_set(ZCP_E_BUSY, "port serials have wrapped and a sweep of "
	    "zcp-gc (pid %d) began before: continue or end that process",
	    (int)lock.l_pid);
	return 1;
}

int announced_before(struct domain *d, uint32_t epoch)
{
	char path[SEGMENT_PATH];
	int rc;

	segment_path(path, d->dir, "pool");
	/* Between the store of the epoch and the look: see say_epoch(). */
	fence_full();
	rc = look_for_locks(d, path, epoch);
	return rc < 0 ? error_in(rc, "port serials have wrapped, and it cannot "
	    "be seen whether a sweep began before") : rc;
}
