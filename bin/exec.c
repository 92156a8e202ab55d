#include "exec.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli.h"
#include "format.h"
#include "write.h"

extern char **environ;

/* The payload in a file of its own: a command that does not read it keeps
 * nobody waiting. */
static int payload_file(const zcp_msg *msg)
{
	struct iovec piece = { (void *)msg->data, msg->size };
	int fd = memfd_create("zcp-message", MFD_CLOEXEC);

	if (fd < 0)
		return -1;
	if (write_all(fd, &piece, 1) < 0 || lseek(fd, 0, SEEK_SET) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static void set_number(const char *name, uint64_t n)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, n);
	setenv(name, text, 1);
}

static void set_facts(const zcp_msg *msg, const zcp_source *source)
{
	char text[STAMP_TEXT];

	setenv("ZCP_TOPIC", source->topic, 1);
	setenv("ZCP_PUBLISHER", source->name, 1);
	set_number("ZCP_PID", source->pid);
	set_number("ZCP_SEQ", msg->seq);
	set_number("ZCP_SIZE", msg->size);
	set_number("ZCP_TYPE", msg->kind);
	stamp_time(text, msg);
	setenv("ZCP_TIME", text, 1);
	stamp_delay(text, msg);
	setenv("ZCP_DELAY", text, 1);
}

void exec_prepare(void)
{
	signal(SIGCHLD, SIG_DFL);
	if (cli.domain != NULL)
		setenv("ZCP_DOMAIN", cli.domain, 1);
}

static int spawn(const struct exec *e, int input, pid_t *pid)
{
	char *argv[] = { "sh", "-c", (char *)e->command, NULL };
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t defaults;
	int rc;

	sigemptyset(&defaults);
	sigaddset(&defaults, SIGINT);
	sigaddset(&defaults, SIGTERM);
	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_adddup2(&files, input, STDIN_FILENO);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigdefault(&attr, &defaults);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF);
	rc = posix_spawn(pid, "/bin/sh", &files, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&files);
	return rc;
}

static bool reap_one(struct exec *e, int options)
{
	unsigned i = 0;
	int status;
	pid_t pid;

	/* Through a first signal; a second one ends it all. */
	while ((pid = waitpid(-1, &status, options)) < 0 && errno == EINTR)
		;
	if (pid <= 0)
		return false;
	while (i < e->running && e->pid[i] != pid)
		i++;
	if (i == e->running)
		return true;		/* a child that it was born with */
	e->pid[i] = e->pid[--e->running];
	if (status != 0) {
		e->failed++;
		if (cli.verbose)
			cli_note("'%s' (pid %d) %s %d", e->command, (int)pid,
			    WIFEXITED(status) ? "ended with" :
			    "was ended by signal", WIFEXITED(status) ?
			    WEXITSTATUS(status) : WTERMSIG(status));
	}
	return true;
}

int exec_message(struct exec *e, const zcp_msg *msg, const zcp_source *source)
{
	int input, rc;
	pid_t pid;

	exec_reap(e);
	while (e->running >= e->most && reap_one(e, 0))
		;
	set_facts(msg, source);
	if ((input = payload_file(msg)) < 0) {
		cli_error("cannot give a message of %zu bytes to '%s': %s",
		    msg->size, e->command, strerror(errno));
		return -1;
	}
	rc = spawn(e, input, &pid);
	close(input);
	if (rc != 0) {
		cli_error("cannot run '%s': %s", e->command, strerror(rc));
		return -1;
	}
	e->started++;
	e->pid[e->running++] = pid;
	return 0;
}

void exec_reap(struct exec *e)
{
	while (e->running > 0 && reap_one(e, WNOHANG))
		;
}

void exec_wait(struct exec *e)
{
	while (e->running > 0 && reap_one(e, 0))
		;
}
