/* gc_old.c - what zcp 0.1.0 left: "zcp.<uid>.<domain>.<part>" in SEGMENT_DIR. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"
#include "gc.h"
#include "routed.h"
#include "topic.h"

/* One of this user's: the domain, or false. */
static bool is_old(const char *file, char domain[DOMAIN_NAME + 1])
{
	static const char *const parts[] = { "mgmt", "bell", "pool", "data" };
	const char *part = strrchr(file, '.');
	char prefix[32];
	size_t n = (size_t)snprintf(prefix, sizeof(prefix), "zcp.%u.",
	    (unsigned)geteuid());
	bool known;

	if (part == NULL || strncmp(file, prefix, n) != 0 ||
	    part <= file + n || (size_t)(part - file) - n > DOMAIN_NAME)
		return false;
	snprintf(domain, DOMAIN_NAME + 1, "%.*s",
	    (int)((size_t)(part - file) - n), file + n);
	known = part_of_member(part + 1);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		known |= strcmp(part + 1, parts[i]) == 0;
	return known && name_valid(domain);
}

/* Calls back for each, of one domain or (NULL) of all, until it returns other
 * than 0, which is returned. */
typedef int visit_old(void *arg, const char *path, const char *domain);

static int each_old(const char *wanted, visit_old *visit, void *arg)
{
	char path[SEGMENT_PATH + 256], domain[DOMAIN_NAME + 1];
	struct dirent *entry;
	DIR *dir = opendir(SEGMENT_DIR);
	struct stat st;
	int rc = 0;

	if (dir == NULL)
		return error_sys("cannot list " SEGMENT_DIR);
	while (rc == 0 && (errno = 0, entry = readdir(dir)) != NULL) {
		if (!is_old(entry->d_name, domain) ||
		    (wanted != NULL && strcmp(wanted, domain) != 0))
			continue;
		snprintf(path, sizeof(path), SEGMENT_DIR "/%s", entry->d_name);
		if (lstat(path, &st) == 0 && S_ISREG(st.st_mode) &&
		    st.st_uid == geteuid())
			rc = visit(arg, path, domain);
	}
	/* A list that was cut short is none. */
	if (rc == 0 && errno != 0)
		rc = error_sys("cannot list " SEGMENT_DIR);
	closedir(dir);
	return rc;
}

static int in_use(void *arg, const char *path, const char *domain)
{
	(void)arg;
	(void)domain;
	return file_locked(path);
}

struct old {
	bool dry;
	gc_tell *tell;
	void *arg;
};

static int remove_old(void *arg, const char *path, const char *domain)
{
	const struct old *o = arg;
	int used = each_old(domain, in_use, NULL);
	struct stat st;

	if (used != 0)
		return used < 0 ? used : 0;
	if (stat(path, &st) == 0 && (o->dry || unlink(path) == 0))
		o->tell(o->arg, &(struct gc_item){ .what = GC_SEGMENT,
		    .domain = domain, .file = path,
		    .bytes = (uint64_t)st.st_blocks * 512,
		    .why = "zcp 0.1.0 left it, and nobody uses the domain" });
	return 0;
}

int gc_old(bool dry, gc_tell *tell, void *arg)
{
	struct old o = { dry, tell, arg };

	return each_old(NULL, remove_old, &o);
}
