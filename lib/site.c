#include "site.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "error.h"
#include "topic.h"

/* How often making is tried again beside others that make and remove. */
enum { TRIES = 100 };

/* ---- directories --------------------------------------------------------------- */

void site_what(const char *path, char what[64])
{
	struct stat st;
	const char *kind;

	if (lstat(path, &st) < 0) {
		snprintf(what, 64, "%s", errno == ENOENT ? "nothing" :
		    "something that cannot be looked at");
		return;
	}
	kind = S_ISDIR(st.st_mode) ? "directory" : S_ISLNK(st.st_mode) ?
	    "symbolic link" : S_ISSOCK(st.st_mode) ? "socket" :
	    S_ISFIFO(st.st_mode) ? "fifo" : "file";
	snprintf(what, 64, "a %s of uid %u", kind, (unsigned)st.st_uid);
}

/*
 * 1: a directory of `uid` that nobody else may write to; 0: there is none of
 * that user's.  A process whose umask is odd may just have made it: this
 * user's own is given its mode.
 */
static int check_dir(const char *path, uid_t uid)
{
	struct stat st;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : error_sys("cannot look at %s",
		    path);
	if (!S_ISDIR(st.st_mode) || st.st_uid != uid)
		return 0;
	if (st.st_mode & 0022)
		return error_set(ZCP_E_PERM, "other users may write to %s "
		    "(mode %03o): refused (chmod 700 %s, and look whose the "
		    "files in it are)", path, (unsigned)st.st_mode & 0777,
		    path);
	if (uid == geteuid() && (st.st_mode & 0700) != 0700 &&
	    chmod(path, 0700) < 0)
		return error_sys("cannot give %s mode 700", path);
	return 1;
}

/* Makes one, whatever the umask is. */
static int make_dir(const char *path)
{
	if (mkdir(path, 0700) < 0)
		return -1;
	return chmod(path, 0700);
}

/* ---- the user's ---------------------------------------------------------------- */

static void home_name(char path[64], uid_t uid, int i)
{
	if (i == 0)
		snprintf(path, 64, SEGMENT_DIR "/zcp-%u", (unsigned)uid);
	else
		snprintf(path, 64, SEGMENT_DIR "/zcp-%u.%d", (unsigned)uid, i);
}

/* The place in the row of the user's next directory, from name i on; SITE_ROW:
 * there is none. */
static int home_next(char path[64], uid_t uid, int i)
{
	for (; i < SITE_ROW; i++) {
		int rc;

		home_name(path, uid, i);
		if ((rc = check_dir(path, uid)) != 0)
			return rc < 0 ? rc : i;
	}
	return SITE_ROW;
}

static int all_planted(uid_t uid)
{
	char path[64], what[64];

	home_name(path, uid, 0);
	site_what(path, what);
	return error_set(ZCP_E_PERM, "all %d names that this user's directory "
	    "may have, %s to .%d, are in use by others (the first is %s): ask "
	    "their owners, or root, to remove one", SITE_ROW, path,
	    SITE_ROW - 1, what);
}

/* Makes the first name that is free; SITE_ROW: none is. */
static int home_new(char path[64], uid_t uid)
{
	for (int i = 0; i < SITE_ROW; i++) {
		home_name(path, uid, i);
		if (make_dir(path) == 0)
			return i;
		if (errno != EEXIST)
			return error_sys("cannot make the directory %s", path);
	}
	return SITE_ROW;
}

/*
 * Two programs that start at once while somebody plants and removes names may
 * make two.  Each looks at the whole row when it has made one, and removes it
 * again where there is another: the later one to look sees both.
 */
static bool home_only(const char *made, uid_t uid)
{
	char other[64];

	for (int i = 0; i < SITE_ROW; i++) {
		home_name(other, uid, i);
		if (strcmp(other, made) != 0 && check_dir(other, uid) == 1)
			return false;
	}
	return true;
}

static int home_make(char path[64])
{
	uid_t uid = geteuid();

	for (int try = 0; try < TRIES; try++) {
		int at = home_next(path, uid, 0);

		if (at < SITE_ROW)
			return at < 0 ? at : 0;
		if ((at = home_new(path, uid)) < 0)
			return at;
		if (at < SITE_ROW && home_only(path, uid))
			return 0;
		if (at < SITE_ROW)
			rmdir(path);
		else if (try > 0)	/* nor was it a matter of a moment */
			return all_planted(uid);
		usleep((useconds_t)(clock_ns() % 1000));
	}
	return error_set(ZCP_E_BUSY, "cannot make this user's directory in "
	    SEGMENT_DIR ": others make and remove it");
}

/* ---- the domain's -------------------------------------------------------------- */

const char *site_runtime(void)
{
	const char *runtime = getenv("ZCP_RUNTIME_DIR");

	return runtime == NULL || *runtime == '\0' ? NULL : runtime;
}

int site_fix_runtime(void)
{
	const char *runtime = site_runtime();
	char full[PATH_MAX];

	if (runtime == NULL || *runtime == '/')
		return 0;
	if (make_dir(runtime) < 0 && errno != EEXIST)
		return error_sys("cannot make runtime directory %s", runtime);
	if (realpath(runtime, full) == NULL)
		return error_sys("runtime directory %s", runtime);
	return setenv("ZCP_RUNTIME_DIR", full, 1) < 0 ?
	    error_set(ZCP_E_SYS, "out of memory") : 0;
}

/* FNV-1a: names of one user's buses must differ, nobody else chooses them. */
static uint64_t hash(const char *text)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (; *text != '\0'; text++)
		h = (h ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
	return h;
}

/* The last part of the domain's directory; 0: the runtime directory is not
 * there. */
static int leaf_name(char leaf[SITE_LEAF], const char *runtime,
    const char *domain, char full[PATH_MAX])
{
	struct stat st;

	full[0] = '\0';
	if (runtime == NULL) {
		snprintf(leaf, SITE_LEAF, "%s", domain);
		return 1;
	}
	if (realpath(runtime, full) == NULL)
		return errno == ENOENT ? 0 :
		    error_sys("runtime directory %s", runtime);
	if (stat(full, &st) == 0 && !S_ISDIR(st.st_mode))
		return error_set(ZCP_E_ARG, "runtime directory %s is not a "
		    "directory ($ZCP_RUNTIME_DIR)", runtime);
	snprintf(leaf, SITE_LEAF, "%s@%016llx", domain,
	    (unsigned long long)hash(full));
	return 1;
}

static int set_socket(struct site *s, const char *runtime)
{
	int n;

	if (runtime == NULL) {
		snprintf(s->socket, sizeof(s->socket), "%.100s/sock", s->dir);
		return 0;
	}
	n = snprintf(s->socket, sizeof(s->socket), "%s/%s.sock", runtime,
	    s->domain);
	if (n >= (int)sizeof(s->socket)) {
		s->socket[0] = '\0';
		return error_set(ZCP_E_ARG, "runtime directory '%s' is too "
		    "long for a socket's path (%d bytes)", runtime,
		    SOCKET_PATH);
	}
	snprintf(s->runtime, sizeof(s->runtime), "%s", runtime);
	return 0;
}

static void set_dir(struct site *s, const char *home, const char *leaf)
{
	snprintf(s->home, sizeof(s->home), "%s", home);
	snprintf(s->dir, sizeof(s->dir), "%s/%s", home, leaf);
}

/* Something else than the domain's directory has its name. */
static int in_the_way(const char *path)
{
	char what[64];

	site_what(path, what);
	return error_set(ZCP_E_PERM, "%s is %s where a directory of this "
	    "domain belongs: remove it", path, what);
}

/* Is the domain's directory in this one of the user's? */
static int look_in(struct site *s, const char *home, const char *leaf)
{
	struct stat st;
	int rc;

	set_dir(s, home, leaf);
	if ((rc = check_dir(s->dir, s->uid)) != 0)
		return rc;
	return lstat(s->dir, &st) == 0 ? in_the_way(s->dir) : 0;
}

/*
 * In the first of the user's directories; in another one only where the
 * domain is there already, since the first was free when that one was made.
 */
static int find_dir(struct site *s, const char *leaf)
{
	char home[64], first[64] = "";
	int rc;

	for (int i = 0; (i = home_next(home, s->uid, i)) < SITE_ROW; i++) {
		if (i < 0 || (rc = look_in(s, home, leaf)) != 0)
			return i < 0 ? i : rc;
		if (first[0] == '\0')
			snprintf(first, sizeof(first), "%s", home);
	}
	s->dir[0] = s->home[0] = '\0';
	if (first[0] != '\0')
		set_dir(s, first, leaf);
	return 0;
}

static int find(struct site *s, const char *runtime)
{
	char leaf[SITE_LEAF], full[PATH_MAX];
	int rc = leaf_name(leaf, runtime, s->domain, full), there;

	if (rc < 0)
		return rc;
	there = rc == 0 ? 0 : find_dir(s, leaf);
	if (there < 0 || (runtime == NULL && s->dir[0] == '\0'))
		return there;
	/* It is to be found from another working directory, too. */
	if (runtime != NULL && *runtime != '/' && full[0] != '\0')
		runtime = full;
	return (rc = set_socket(s, runtime)) < 0 ? rc : there;
}

int site_find(struct site *s, uid_t uid, const char *runtime,
    const char *domain)
{
	*s = (struct site){ .uid = uid };
	snprintf(s->domain, sizeof(s->domain), "%s", domain);
	return find(s, runtime);
}

int site_here(struct site *s, const char *domain)
{
	return site_find(s, geteuid(), site_runtime(), domain);
}

/* ---- making and removing ------------------------------------------------------- */

/* So that people and zcp-gc find the socket of a bus from its directory.  1:
 * made; 0: the directory has just gone. */
static int note_runtime(const struct site *s)
{
	char path[SEGMENT_PATH], full[PATH_MAX];

	if (s->runtime[0] == '\0')
		return 1;
	if (realpath(s->runtime, full) == NULL)
		return error_sys("runtime directory %s", s->runtime);
	segment_path(path, s->dir, "runtime");
	if (symlink(full, path) == 0 || errno == EEXIST)
		return 1;
	return errno == ENOENT ? 0 : error_sys("cannot make %s", path);
}

/* 1: made, or there; 0: it went while it was made. */
static int make_once(struct site *s, const char *leaf, const char *runtime)
{
	char home[64];
	int rc;

	if ((rc = find_dir(s, leaf)) < 0)
		return rc;
	if (rc == 0) {
		if ((rc = home_make(home)) < 0)
			return rc;
		set_dir(s, home, leaf);
		if (make_dir(s->dir) < 0 && errno != EEXIST)
			return errno == ENOENT ? 0 :
			    error_sys("cannot make the directory %s", s->dir);
		if ((rc = look_in(s, home, leaf)) <= 0)
			return rc;
	}
	if ((rc = set_socket(s, runtime)) < 0)
		return rc;
	return note_runtime(s);
}

int site_make(struct site *s, const char *domain)
{
	const char *runtime = site_runtime();
	char leaf[SITE_LEAF], full[PATH_MAX];
	int rc;

	*s = (struct site){ .uid = geteuid() };
	snprintf(s->domain, sizeof(s->domain), "%s", domain);
	if (runtime != NULL && make_dir(runtime) < 0 && errno != EEXIST)
		return error_sys("cannot make runtime directory %s", runtime);
	if ((rc = leaf_name(leaf, runtime, domain, full)) <= 0)
		return rc < 0 ? rc : error_sys("runtime directory %s",
		    runtime);
	if (runtime != NULL && *runtime != '/')
		runtime = full;
	for (int try = 0; try < TRIES; try++)
		if ((rc = make_once(s, leaf, runtime)) != 0)
			return rc < 0 ? rc : 0;
	return error_set(ZCP_E_BUSY, "cannot make the directory %s: others "
	    "make and remove it", s->dir);
}

void site_remove(const struct site *s)
{
	if (s->dir[0] != '\0' && rmdir(s->dir) == 0)
		rmdir(s->home);		/* fails while it has other domains */
}

const char *site_socket_name(const struct site *s)
{
	static _Thread_local char path[SOCKET_PATH];
	char home[64];

	if (s->socket[0] != '\0')
		return s->socket;
	home_name(home, s->uid, 0);
	snprintf(path, sizeof(path), "%.30s/%s/sock", home, s->domain);
	return path;
}

void site_others(const char *domain, char text[128])
{
	DIR *dir = opendir(SEGMENT_DIR);
	char path[SEGMENT_PATH + 256];
	struct dirent *entry;
	struct stat st;
	unsigned uid;

	text[0] = '\0';
	while (dir != NULL && text[0] == '\0' &&
	    (entry = readdir(dir)) != NULL) {
		snprintf(path, sizeof(path), SEGMENT_DIR "/%s/%s",
		    entry->d_name, domain);
		if (sscanf(entry->d_name, "zcp-%u", &uid) == 1 &&
		    uid != geteuid() && lstat(path, &st) == 0 &&
		    S_ISDIR(st.st_mode) && st.st_uid == uid)
			snprintf(text, 128, "; user %u has a domain of that "
			    "name (sudo -u '#%u' ...)", uid, uid);
	}
	if (dir != NULL)
		closedir(dir);
}

void site_aside(const struct site *s, char path[SOCKET_PATH])
{
	size_t n = strlen(s->socket);

	snprintf(path, SOCKET_PATH, "%s", s->socket);
	if (n > 4)
		strcpy(path + n - 4, "gone");
}

/* ---- all of them --------------------------------------------------------------- */

/* "<domain>" or "<domain>@<16 digits>". */
static bool leaf_valid(const char *leaf, char domain[DOMAIN_NAME + 1])
{
	size_t n = strcspn(leaf, "@");

	if (n > DOMAIN_NAME || (leaf[n] == '@' &&
	    (strlen(leaf + n + 1) != 16 ||
	    strspn(leaf + n + 1, "0123456789abcdef") != 16)))
		return false;
	snprintf(domain, DOMAIN_NAME + 1, "%.*s", (int)n, leaf);
	return name_valid(domain);
}

int site_at(struct site *s, const char *dir)
{
	char path[SEGMENT_PATH], runtime[SOCKET_PATH];
	const char *leaf = strrchr(dir, '/') + 1;
	ssize_t n;
	int rc;

	*s = (struct site){ .uid = geteuid() };
	snprintf(s->home, sizeof(s->home), "%.*s", (int)(leaf - dir) - 1, dir);
	snprintf(s->dir, sizeof(s->dir), "%s", dir);
	if (!leaf_valid(leaf, s->domain) || (rc = check_dir(dir, s->uid)) == 0)
		return 0;
	if (rc < 0)
		return rc;
	if (strchr(leaf, '@') == NULL)
		return (rc = set_socket(s, NULL)) < 0 ? rc : 1;
	segment_path(path, dir, "runtime");
	n = readlink(path, runtime, sizeof(runtime) - 1);
	if (n > 0) {
		runtime[n] = '\0';
		if ((rc = set_socket(s, runtime)) < 0)
			return rc;
	}
	return 1;
}

static int each_in(const char *home, int (*visit)(void *arg, const char *dir),
    void *arg)
{
	char path[SEGMENT_DIR_MOST], domain[DOMAIN_NAME + 1];
	struct dirent *entry;
	DIR *dir = opendir(home);
	int rc = 0;

	if (dir == NULL)
		return errno == ENOENT ? 0 : error_sys("cannot list %s", home);
	while (rc == 0 && (entry = readdir(dir)) != NULL) {
		if (!leaf_valid(entry->d_name, domain))
			continue;
		snprintf(path, sizeof(path), "%s/%.*s", home, SITE_LEAF,
		    entry->d_name);
		rc = visit(arg, path);
	}
	closedir(dir);
	return rc;
}

int site_each(int (*visit)(void *arg, const char *dir), void *arg)
{
	char home[64];
	int rc;

	for (int i = 0; (i = home_next(home, geteuid(), i)) < SITE_ROW; i++)
		if (i < 0 || (rc = each_in(home, visit, arg)) != 0)
			return i < 0 ? i : rc;
	return 0;
}
