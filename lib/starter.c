#include "starter.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "error.h"

extern char **environ;

enum { WORDS = 512 };

/* Its signals are what a shell would have given it; its words come to us. */
static int spawn(const char *program, const char *domain, int words,
    pid_t *pid)
{
	/* In the background whatever its defaults say: we wait for it. */
	char *argv[] = { "zcp-routed", "--private", "-b", "-q", "-d",
	    (char *)domain, NULL };
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int rc;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null",
	    O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null",
	    O_WRONLY, 0);
	posix_spawn_file_actions_adddup2(&files, words, STDERR_FILENO);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK |
	    POSIX_SPAWN_SETSIGDEF);
	rc = posix_spawnp(pid, program, &files, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&files);
	return rc;
}

static int spawn_any(const char *domain, int words, pid_t *pid)
{
	const char *fixed = getenv("ZCP_ROUTED");
	int rc;

	if (fixed != NULL && *fixed)
		return spawn(fixed, domain, words, pid);
	if ((rc = spawn("zcp-routed", domain, words, pid)) == ENOENT)
		rc = spawn(BINDIR "/zcp-routed", domain, words, pid);
	return rc;
}

/* All that it says until it serves, or gives up: then it closes the pipe.
 * The first WORDS of it are kept. */
static size_t listen_to(int fd, uint64_t deadline, char text[WORDS])
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char piece[WORDS];
	size_t n = 0, some;
	uint64_t left;
	ssize_t got;

	while ((left = deadline_left(deadline, NS_PER_S)) > 0) {
		if (poll(&p, 1, (int)(left / NS_PER_MS) + 1) <= 0)
			continue;
		got = read(fd, piece, sizeof(piece));
		if (got == 0 || (got < 0 && errno != EINTR))
			break;
		some = got < 0 ? 0 : (size_t)got;
		if (some > WORDS - 1 - n)
			some = WORDS - 1 - n;
		memcpy(text + n, piece, some);
		n += some;
	}
	while (n > 0 && text[n - 1] == '\n')
		n--;
	text[n] = '\0';
	return n;
}

/* Its status; 0 where the application had the kernel forget its children. */
static int status_of(pid_t pid, uint64_t deadline)
{
	int status;
	pid_t got;

	while ((got = waitpid(pid, &status, WNOHANG)) == 0 ||
	    (got < 0 && errno == EINTR)) {
		if (clock_ns() >= deadline)
			return -1;
		usleep(1000);
	}
	return got == pid ? status : 0;
}

int starter_start(const char *domain, uint64_t deadline)
{
	char text[WORDS] = "";
	int ends[2], rc;
	size_t n;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return error_set(ZCP_E_NODAEMON, "cannot make a pipe: %s",
		    strerror(errno));
	rc = spawn_any(domain, ends[1], &pid);
	close(ends[1]);
	if (rc != 0) {
		close(ends[0]);
		return error_set(ZCP_E_NODAEMON, "cannot run %s: %s ($ZCP_ROUTED "
		    "names the program)", getenv("ZCP_ROUTED") ?
		    getenv("ZCP_ROUTED") : "zcp-routed", strerror(rc));
	}
	n = listen_to(ends[0], deadline, text);
	close(ends[0]);
	if ((rc = status_of(pid, deadline)) == 0)
		return 0;
	/* Its words may have come too late to be heard. */
	if (rc < 0 || (n == 0 && clock_ns() >= deadline))
		return error_set(ZCP_E_NODAEMON, "zcp-routed (pid %d) was not "
		    "ready in time", (int)pid);
	/* Its own errors may pass, wrong settings do not. */
	return error_set(WIFEXITED(rc) && WEXITSTATUS(rc) == 1 ? ZCP_E_BUSY :
	    ZCP_E_NODAEMON, "%s", n > 0 ? text :
	    "zcp-routed ended without a word");
}
