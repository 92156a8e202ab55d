#include "background.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli.h"
#include "log.h"

static int ready_pipe = -1;

/* ---- what a daemon does not take over from its starter --------------------- */

static void default_signals(void)
{
	sigset_t none;

	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Only root may raise a hard limit; others get the soft one up to it. */
static void raise_limit(int resource, const char *name)
{
	struct rlimit none = { RLIM_INFINITY, RLIM_INFINITY }, limit;

	if (getrlimit(resource, &limit) < 0 ||
	    setrlimit(resource, &none) == 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(resource, &limit) < 0 ||
	    limit.rlim_max != RLIM_INFINITY)
		log_warn("this daemon was started under a limit that it cannot "
		    "raise (ulimit %s): start the daemon from another shell if "
		    "it runs short", name);
}

static void default_priority(void)
{
	static cpu_set_t all;
	struct sched_param none = { 0 };

	if (sched_getscheduler(0) != SCHED_OTHER &&
	    sched_setscheduler(0, SCHED_OTHER, &none) < 0)
		log_warn("this daemon keeps the scheduling policy of the "
		    "process that started it: %s", strerror(errno));
	if (getpriority(PRIO_PROCESS, 0) != 0 &&
	    setpriority(PRIO_PROCESS, 0, 0) < 0)
		log_warn("this daemon keeps the nice value of the process that "
		    "started it (%d): %s", getpriority(PRIO_PROCESS, 0),
		    strerror(errno));
	/* The kernel takes those that there are. */
	memset(&all, 0xff, sizeof(all));
	if (sched_setaffinity(0, sizeof(all), &all) < 0)
		log_warn("this daemon keeps the processors of the process that "
		    "started it: %s", strerror(errno));
}

/* All but standard error; descriptor 3 becomes the pipe to the parent. */
static bool leave_descriptors(int pipe_end)
{
	int null = open("/dev/null", O_RDWR | O_NOCTTY);

	if (null < 0 || dup2(null, STDIN_FILENO) < 0 ||
	    dup2(null, STDOUT_FILENO) < 0)
		return false;
	ready_pipe = STDERR_FILENO + 1;
	if (pipe_end != ready_pipe && dup2(pipe_end, ready_pipe) < 0)
		return false;
	if (fcntl(ready_pipe, F_SETFD, FD_CLOEXEC) < 0)
		return false;
	/* Kernels before 5.9 do not know it; zcp needs 5.10. */
	return close_range((unsigned)ready_pipe + 1, ~0u, 0) == 0;
}

static bool leave_starter(int pipe_end)
{
	setsid();
	default_signals();
	umask(077);
	if (!leave_descriptors(pipe_end) || chdir("/") < 0) {
		cli_error("cannot start in the background: %s",
		    strerror(errno));
		return false;
	}
	raise_limit(RLIMIT_AS, "-v");
	raise_limit(RLIMIT_DATA, "-d");
	raise_limit(RLIMIT_FSIZE, "-f");
	raise_limit(RLIMIT_CPU, "-t");
	default_priority();
	return true;
}

/* ---- the two ends ------------------------------------------------------------ */

int background(int (*serve)(void *arg), void *arg)
{
	int ends[2], status = 0;
	ssize_t n;
	char byte;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0 || (pid = fork()) < 0) {
		cli_error("cannot start in the background: %s",
		    strerror(errno));
		return CLI_ERROR;
	}
	if (pid == 0)
		_exit(leave_starter(ends[1]) ? serve(arg) : CLI_ERROR);
	close(ends[1]);
	while ((n = read(ends[0], &byte, 1)) < 0 && errno == EINTR)
		;
	close(ends[0]);
	if (n == 1)
		return CLI_OK;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	cli_error("the daemon was ended by signal %d before it was ready",
	    WTERMSIG(status));
	return CLI_ERROR;
}

void background_ready(int keep_stderr)
{
	if (ready_pipe < 0)
		return;
	if (!keep_stderr) {
		log_to_syslog(cli.command);
		dup2(STDOUT_FILENO, STDERR_FILENO);	/* which is /dev/null */
	}
	if (write(ready_pipe, "", 1) < 0)
		log_warn("nobody waits for this daemon to be ready");
	close(ready_pipe);
	ready_pipe = -1;
}
