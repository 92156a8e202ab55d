/*
 * Damaged domains through the commands: image n is one of the corpus with a
 * few of its bytes changed, as the number n says.  zcp-shmdump, zcp-top and
 * who attaches must neither die nor hang, and say what is wrong.  While every
 * eighth is looked at, somebody goes on changing it.
 *
 *   images [FIRST [COUNT]]
 *
 * The commands' main() is called by a child; every tenth image is shown to the
 * programs in $ZCP_BIN.  $srcdir has the corpus.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../torture/xorshift.h"
#include "guard.h"
#include "image.h"
#include "images.h"
#include "visit.h"
#include "zcp.h"

enum { SEEDS_MOST = 64, DEFAULT_COUNT = 96, HOSTILE_EVERY = 8, EXEC_EVERY = 10,
	PATIENCE = 60 };	/* seconds, of processor or clock */

struct seed_image {
	uint8_t *bytes;
	size_t size;
};

static struct seed_image corpus[SEEDS_MOST];
static uint32_t seeds;
static char domain[32];
static char directory[256];	/* where its files lie */

static void die(const char *what, const char *on)
{
	fprintf(stderr, "%s %s: %s\n", what, on, strerror(errno));
	exit(1);
}

/* ---- the corpus ------------------------------------------------------------------ */

static void read_seed(const char *path)
{
	static uint8_t bytes[1 << 20];
	struct seed_image *s = &corpus[seeds++];
	FILE *f = fopen(path, "r");

	if (f == NULL)
		die("cannot open", path);
	s->size = fread(bytes, 1, sizeof(bytes), f);
	fclose(f);
	if ((s->bytes = malloc(s->size + 1)) == NULL)
		die("no memory for", path);
	memcpy(s->bytes, bytes, s->size);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void read_corpus(void)
{
	const char *source = getenv("srcdir");
	char dir[400], path[700];
	struct dirent **e;
	int n;

	snprintf(dir, sizeof(dir), "%s/t/fuzz/corpus", source ? source : ".");
	if ((n = scandir(dir, &e, NULL, by_name)) < 0)
		die("cannot read", dir);
	for (int i = 0; i < n; i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, e[i]->d_name);
		if (e[i]->d_name[0] != '.' && seeds < SEEDS_MOST)
			read_seed(path);
		free(e[i]);
	}
	free(e);
	if (seeds == 0) {
		fprintf(stderr, "%s has no images\n", dir);
		exit(1);
	}
}

static void seed_stays_whole(uint32_t i)
{
	zcp_observer *o;
	zcp_snapshot *s;

	if (!image_unpack(domain, corpus[i].bytes, corpus[i].size))
		die("cannot unpack image of", domain);
	if (zcp_observe(&o, domain, NULL) < 0 ||
	    zcp_look(o, ZCP_LOOK_CHUNKS, &s) < 0) {
		fprintf(stderr, "the corpus is of another layout (%s): make "
		    "fuzz-corpus\n", zcp_errmsg());
		exit(1);
	}
	zcp_snapshot_free(&s);
	zcp_observe_end(&o);
}

/* ---- one image --------------------------------------------------------------------- */

static void make_image(uint32_t n)
{
	uint32_t state = n * 2654435769u | 1;
	const struct seed_image *s;

	xorshift(&state);
	s = &corpus[xorshift(&state) % seeds];
	if (!image_unpack(domain, s->bytes, s->size))
		die("cannot unpack image of", domain);
	snprintf(directory, sizeof(directory), "%s", image_directory(domain));
	image_mutate(domain, &state);
}

/* Somebody who writes while others read. */
static pid_t start_writer(uint32_t n)
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (uint32_t state = n | 1;; )
			image_mutate(domain, &state);
	}
	return pid;
}

/* What a child has written. */
struct heard {
	int out, errors;
};

static struct heard listen_to_child(void)
{
	struct heard h = { memfd_create("output", MFD_CLOEXEC),
	    memfd_create("errors", MFD_CLOEXEC) };

	if (h.out < 0 || h.errors < 0)
		die("cannot make a file in", "memory");
	return h;
}

static void heard_free(struct heard *h)
{
	close(h->out);
	close(h->errors);
}

/* In the child: no input, its output in files, a bounded time. */
static void confine(const struct heard *h)
{
	struct rlimit cpu = { PATIENCE, PATIENCE + 1 };
	int nothing = open("/dev/null", O_RDWR);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setrlimit(RLIMIT_CPU, &cpu);
	alarm(2 * PATIENCE);
	dup2(nothing, STDIN_FILENO);
	dup2(h->out, STDOUT_FILENO);
	dup2(h->errors, STDERR_FILENO);
}

/* Each ends with NULL. */
enum { ARGS = 9 };
static const char *const programs[][ARGS] = {
	{ "zcp-shmdump", "-d", domain },
	{ "zcp-shmdump", "-d", domain, "-x", "-J" },
	{ "zcp-shmdump", "-d", domain, "--check", "--file", directory },
	{ "zcp-top", "-d", domain, "-b", "-n", "1", "--interval", "10ms" },
};
enum { PROGRAMS = sizeof(programs) / sizeof(programs[0]) };

static void execute(const char *const *argv)
{
	const char *bin = getenv("ZCP_BIN");
	char path[512];

	snprintf(path, sizeof(path), "%s/%s", bin ? bin : "bin", argv[0]);
	execv(path, (char *const *)(uintptr_t)argv);
	_exit(127);
}

/* Its main(), without a start of a program; what leaks is looked for in those
 * that are started. */
static void call(const char *const *argv)
{
	const char *args[ARGS];
	int n = 0, status;

	memcpy(args, argv, sizeof(args));
	while (args[n] != NULL)
		n++;
	status = strcmp(argv[0], "zcp-top") == 0 ? zcp_top(n, args) :
	    zcp_shmdump(n, args);
	fflush(stdout);
	_exit(status);
}

static pid_t start_program(const char *const *argv, bool really,
    const struct heard *h)
{
	pid_t pid = fork();

	if (pid == 0) {
		confine(h);
		if (really)
			execute(argv);
		else
			call(argv);
	}
	return pid;
}

static pid_t start_client(const struct heard *h)
{
	pid_t pid = fork();

	if (pid == 0) {
		confine(h);
		visit_enter(domain);
		_exit(0);
	}
	return pid;
}

static bool commands(int fd)
{
	char text[4096];
	ssize_t n;

	for (off_t at = 0; (n = pread(fd, text, sizeof(text), at)) > 0; at += n)
		if (visit_commands(text, (size_t)n))
			return true;
	return false;
}

/* Ended in order: with one of the statuses that the manuals have, and a
 * message where it is not 0. */
static bool ended_well(int status, const struct heard *h)
{
	int code = WEXITSTATUS(status);

	if (!WIFEXITED(status) || commands(h->out) || commands(h->errors))
		return false;
	return code == 0 || ((code == 1 || code == 4 || code == 5 ||
	    code == 69) && lseek(h->errors, 0, SEEK_END) > 0);
}

static bool check_end(uint32_t n, const char *what, pid_t pid,
    struct heard *h)
{
	char text[4096];
	ssize_t got;
	int status = 0;
	bool well;

	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		die("cannot run", what);
	if (!(well = ended_well(status, h))) {
		got = pread(h->errors, text, sizeof(text) - 1, 0);
		text[got > 0 ? got : 0] = '\0';
		fprintf(stderr, "image %u: %s ended with %#x:\n%s\n", n, what,
		    status, text);
	}
	heard_free(h);
	return well;
}

/* What is done with image n is the next of the list at each; now and then by
 * the program itself. */
static bool run_image(uint32_t n)
{
	bool hostile = n % HOSTILE_EVERY == 0, really = n % EXEC_EVERY == 0;
	bool well;
	const char *const *dump = programs[n / HOSTILE_EVERY % (PROGRAMS - 1)];
	const char *const *top = programs[PROGRAMS - 1];
	struct heard of_dump = listen_to_child(), of_top = listen_to_child(),
	    of_client = listen_to_child();
	pid_t writer = 0, dumping, topping;

	make_image(n);
	if (hostile)
		writer = start_writer(n);
	dumping = start_program(dump, really, &of_dump);
	topping = start_program(top, really, &of_top);
	well = check_end(n, dump[3] ? dump[3] : dump[0], dumping, &of_dump);
	well &= check_end(n, top[0], topping, &of_top);
	if (hostile) {
		kill(writer, SIGKILL);
		waitpid(writer, NULL, 0);
	}
	/* It changes what it attaches to. */
	well &= check_end(n, "a client", start_client(&of_client), &of_client);
	image_remove(domain);
	return well;
}

/* ---- all of them ---------------------------------------------------------------------- */

static int run_share(uint32_t first, uint32_t count, uint32_t share,
    uint32_t shares)
{
	int failed = 0;

	snprintf(domain, sizeof(domain), "images%d", (int)getpid());
	for (uint32_t i = share; i < count; i += shares)
		failed |= !run_image(first + i);
	return failed;
}

int main(int argc, char **argv)
{
	uint32_t first = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) :
	    (uint32_t)getpid() << 8;
	uint32_t count = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) :
	    argc > 1 ? 1 : DEFAULT_COUNT;
	long shares = 2 * sysconf(_SC_NPROCESSORS_ONLN);
	int failed = 0, status;

	read_corpus();
	guard_install();
	snprintf(domain, sizeof(domain), "images%d", (int)getpid());
	for (uint32_t i = 0; i < seeds; i++)
		seed_stays_whole(i);
	image_remove(domain);
	fflush(NULL);
	for (long i = 0; i < shares; i++)
		if (fork() == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			_exit(run_share(first, count, (uint32_t)i,
			    (uint32_t)shares));
		}
	while (wait(&status) > 0)
		failed |= status != 0;
	printf("images %u to %u, %u of the corpus: %s\n", first,
	    first + count - 1, seeds, failed ? "FAILED" : "each had its answer");
	return failed;
}
