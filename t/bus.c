#include "bus.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "control.h"
#include "log.h"

char bus_domain[64];
static char bus_dir[SEGMENT_DIR_MOST];
static char runtime_dir[64];
static pid_t daemon_pid;
static int ready_fd;

struct settings bus_settings(void)
{
	struct settings s = settings_default();

	s.pool[0] = (struct pool_setting){ 128, 16 };
	s.pool[1] = (struct pool_setting){ 4096, 8 };
	s.pools = 2;
	s.max_participants = 32;
	s.max_topics = 32;
	s.max_ports = 128;
	s.max_links = 2048;
	return s;
}

static void say_ready(const struct routed *r)
{
	(void)r;
	ck_assert_int_eq(write(ready_fd, "", 1), 1);
}

/* Whether each thread of this process but the first sleeps. */
static bool others_sleep(void *arg)
{
	struct dirent *entry;
	bool asleep = true;
	DIR *dir = opendir("/proc/self/task");

	(void)arg;
	ck_assert_ptr_nonnull(dir);
	while (asleep && (entry = readdir(dir)) != NULL) {
		char path[64], state = 'S';
		FILE *stat;

		if (entry->d_name[0] == '.' || atoi(entry->d_name) == getpid())
			continue;
		snprintf(path, sizeof(path), "/proc/self/task/%.20s/stat",
		    entry->d_name);
		if ((stat = fopen(path, "r")) == NULL)
			continue;
		/* The name of a thread of ours has no parenthesis. */
		asleep = fscanf(stat, "%*d (%*[^)]) %c", &state) == 1 &&
		    state == 'S';
		fclose(stat);
	}
	closedir(dir);
	return asleep;
}

/*
 * A child of fork(2) keeps each lock that another thread had at that moment,
 * and AddressSanitizer's memory is behind such locks (the C library's own are
 * let go in the child): a heart that has just begun to beat must have them no
 * more.
 */
static pid_t fork_calmly(void)
{
	pid_t pid;

	eventually(others_sleep, NULL, "the other threads sleep");
	fflush(NULL);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	return pid;
}

pid_t bus_restart(const struct settings *s)
{
	struct settings settings = *s;
	int ends[2];
	char byte;

	settings.domain = bus_domain;
	ck_assert_int_eq(pipe(ends), 0);
	daemon_pid = fork_calmly();
	if (daemon_pid == 0) {
		static struct routed r;
		int rc;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(ends[0]);
		ready_fd = ends[1];
		log_threshold = getenv("T_VERBOSE") ? LOG_LEVEL_DEBUG :
		    LOG_LEVEL_ERROR;
		rc = routed_run(&r, &settings, say_ready);
		if (rc < 0)
			fprintf(stderr, "daemon: %s\n", zcp_errmsg());
		_exit(rc < 0);
	}
	close(ends[1]);
	ck_assert_msg(read(ends[0], &byte, 1) == 1, "the daemon did not start");
	close(ends[0]);
	return daemon_pid;
}

pid_t bus_start(const struct settings *s)
{
	struct site site;
	pid_t pid;

	snprintf(bus_domain, sizeof(bus_domain), "unit%d", (int)getpid());
	snprintf(runtime_dir, sizeof(runtime_dir), "/tmp/zcp-unit-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(runtime_dir));
	setenv("ZCP_RUNTIME_DIR", runtime_dir, 1);
	setenv("ZCP_DOMAIN", bus_domain, 1);
	pid = bus_restart(s);
	must(site_here(&site, bus_domain));
	snprintf(bus_dir, sizeof(bus_dir), "%s", site.dir);
	return pid;
}

void bus_kill(void)
{
	kill_process(daemon_pid);
}

static int files_left(char *name, size_t size)
{
	struct dirent *entry;
	DIR *dir = opendir(bus_dir);
	int n = 0;

	while (dir != NULL && (entry = readdir(dir)) != NULL)
		if (strspn(entry->d_name, ".") != strlen(entry->d_name)) {
			snprintf(name, size, "%s", entry->d_name);
			n++;
		}
	if (dir == NULL)
		return 0;
	closedir(dir);
	return n + 1;			/* the directory, too */
}

void bus_end_daemon(void)
{
	int status;

	kill(daemon_pid, SIGTERM);
	ck_assert_int_eq(waitpid(daemon_pid, &status, 0), daemon_pid);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0,
	    "the daemon ended with %#x", status);
}

static void remove_runtime_dir(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", runtime_dir);
	ck_assert_int_eq(system(command), 0);
}

void bus_remove(void)
{
	struct claim c = CLAIM_INIT;

	must(site_here(&c.site, bus_domain));
	if (claim_try(&c) == CLAIM_OURS)
		domain_remove(&c, 0);
	claim_drop(&c);
}

void bus_path(char path[SEGMENT_PATH], const char *part)
{
	segment_path(path, bus_dir, part);
}

void bus_stop(void)
{
	char name[256] = "";
	int left;

	bus_end_daemon();
	remove_runtime_dir();
	left = files_left(name, sizeof(name));
	ck_assert_msg(left == 0, "%d files left, %s/%s", left, bus_dir, name);
}

void bus_stop_leaving_history(void)
{
	char name[256];

	bus_end_daemon();
	ck_assert_int_gt(files_left(name, sizeof(name)), 0);
	bus_remove();
	ck_assert_int_eq(files_left(name, sizeof(name)), 0);
	remove_runtime_dir();
}

void bus_stop_leaving_damage(void)
{
	kill(daemon_pid, SIGTERM);
	waitpid(daemon_pid, NULL, 0);
	bus_remove();
	remove_runtime_dir();
}

void must(int rc)
{
	ck_assert_msg(rc >= 0, "%s", zcp_errmsg());
}

zcp *bus_open(const char *name)
{
	zcp_options o = { .name = name };
	zcp *bus;

	must(zcp_open(&bus, &o));
	return bus;
}

pid_t in_process(void (*role)(void *), void *arg)
{
	pid_t pid = fork_calmly();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		role(arg);
		_exit(0);
	}
	return pid;
}

void need(int rc)
{
	if (rc < 0) {
		fprintf(stderr, "child %d: %s\n", (int)getpid(), zcp_errmsg());
		_exit(3);
	}
}

void join_process(pid_t pid)
{
	int status;

	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0,
	    "process %d ended with %#x", (int)pid, status);
}

void kill_process(pid_t pid)
{
	ck_assert_int_eq(kill(pid, SIGKILL), 0);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}

/* With the state of the domain, where there is a daemon to tell it. */
static void give_up(const char *what)
{
	static char reply[CONTROL_REPLY];

	if (control_call(bus_domain, "STATUS", reply, sizeof(reply),
	    deadline_after(NS_PER_S)) > 0)
		fprintf(stderr, "never: %s\n%s", what, reply);
	ck_abort_msg("never: %s", what);
}

void eventually(bool (*condition)(void *), void *arg, const char *what)
{
	uint64_t deadline = deadline_after(PATIENCE);

	while (!condition(arg)) {
		if (clock_ns() >= deadline)
			give_up(what);
		usleep(1000);
	}
}

static void status(char *reply, size_t size)
{
	must(control_call(bus_domain, "STATUS", reply, size,
	    deadline_after(PATIENCE)));
}

static uint64_t number_in(const char *line, const char *key)
{
	char pattern[64];
	const char *at;

	snprintf(pattern, sizeof(pattern), "%s=", key);
	at = strstr(line, pattern);
	ck_assert_msg(at != NULL, "no %s in %s", key, line);
	return strtoull(at + strlen(pattern), NULL, 10);
}

uint64_t status_number(const char *key)
{
	static char reply[CONTROL_REPLY];

	status(reply, sizeof(reply));
	return number_in(reply, key);
}

uint64_t pool_number(uint32_t size, const char *key)
{
	static char reply[CONTROL_REPLY];
	char pattern[32], *line;

	status(reply, sizeof(reply));
	snprintf(pattern, sizeof(pattern), "pool=%u ", size);
	line = strstr(reply, pattern);
	ck_assert_ptr_nonnull(line);
	line[strcspn(line, "\n")] = '\0';
	return number_in(line, key);
}

static bool nothing_used(void *arg)
{
	static char reply[CONTROL_REPLY];

	(void)arg;
	status(reply, sizeof(reply));
	for (char *line = reply; (line = strstr(line, "pool=")) != NULL;
	    line++)
		if (number_in(line, "count") != number_in(line, "free"))
			return false;
	return true;
}

void all_chunks_come_back(void)
{
	eventually(nothing_used, NULL, "every chunk is free");
}

int take_wait(zcp_sub *sub, zcp_msg *msg)
{
	uint64_t deadline = deadline_after(PATIENCE);
	int rc;

	while ((rc = zcp_take(sub, msg)) == 0) {
		ck_assert_msg(clock_ns() < deadline, "no message came");
		must(zcp_wait(sub, NS_PER_S));
	}
	return rc;
}
