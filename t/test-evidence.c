/* Nobody is dead until seen dead: looks that fail, and what follows from them. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "atomics.h"
#include "bus.h"
#include "control.h"
#include "liveness.h"
#include "log.h"
#include "routed/gc.h"
#include "sweep.h"

static struct settings settings;

static void start(void)
{
	settings = bus_settings();
	settings.heartbeat = 50 * NS_PER_MS;
	bus_start(&settings);
}

/* From now on no open(2) or the like succeeds in this process; or again. */
static void descriptors(bool some)
{
	struct rlimit limit;

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = some ? limit.rlim_max : 0;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* A child is told to go on, and says when it has, with one character each. */
static int from_child[2], to_child[2];

static void pipes(void)
{
	ck_assert_int_eq(pipe(from_child), 0);
	ck_assert_int_eq(pipe(to_child), 0);
}

static void say(int fd, char c)
{
	if (write(fd, &c, 1) != 1)
		_exit(2);
}

static void hear(int fd, char expected)
{
	char c = 0;

	if (read(fd, &c, 1) != 1 || c != expected)
		_exit(4);
}

static void child_hears(char expected)
{
	char c = 0;

	ck_assert_int_eq(read(from_child[0], &c, 1), 1);
	ck_assert_int_eq(c, expected);
}

static void says(const char *word)
{
	ck_assert_msg(strstr(zcp_errmsg(), word) != NULL, "\"%s\" does not say "
	    "\"%s\"", zcp_errmsg(), word);
}

static zcp *child_bus(const char *name)
{
	zcp_options o = { .name = name };
	zcp *bus;

	need(zcp_open(&bus, &o));
	return bus;
}

/* ---- one look ------------------------------------------------------------------- */

static void sleep_on(void *arg)
{
	(void)arg;
	pause();
}

START_TEST(a_process_that_cannot_be_looked_at_is_not_gone)
{
	uint64_t start = 0, again = 0;
	pid_t pid = in_process(sleep_on, NULL);

	ck_assert_int_eq(process_look(pid, &start), 1);
	ck_assert_uint_gt(start, 0);
	descriptors(false);
	ck_assert_int_eq(process_look(pid, &again), -ZCP_E_SYS);
	ck_assert_int_eq(errno, EMFILE);
	says("Too many open files");
	descriptors(true);
	ck_assert_int_eq(process_look(pid, &again), 1);
	ck_assert_uint_eq(start, again);
	kill_process(pid);
	/* kill(2) says it, without a descriptor. */
	descriptors(false);
	ck_assert_int_eq(process_look(pid, &again), 0);
	descriptors(true);
	ck_assert_int_eq(process_look(pid, &again), 0);
}
END_TEST

static bool is_zombie(void *arg)
{
	uint64_t start;

	return process_look(*(pid_t *)arg, &start) == 0;
}

START_TEST(a_zombie_is_seen_gone_and_only_by_who_can_look)
{
	pid_t pid = in_process(sleep_on, NULL);
	uint64_t start;

	ck_assert_int_eq(kill(pid, SIGKILL), 0);
	eventually(is_zombie, &pid, "it is a zombie");
	descriptors(false);
	ck_assert_int_lt(process_look(pid, &start), 0);
	descriptors(true);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}
END_TEST

/* Number 1 here, and in this /proc somebody else. */
static void look_at_oneself(void)
{
	uint64_t start;

	if (process_look(getpid(), &start) >= 0 ||
	    strstr(zcp_errmsg(), "another pid namespace") == NULL)
		_exit(3);
	/* What needs no /proc is seen all the same. */
	_exit(process_look(30000, &start) == 0 ? 0 : 4);
}

static void in_another_pid_namespace(void *arg)
{
	pid_t pid;
	int status;

	(void)arg;
	if (unshare(CLONE_NEWPID) < 0)
		return;			/* only root may */
	if ((pid = fork()) == 0)
		look_at_oneself();
	if (waitpid(pid, &status, 0) != pid || status != 0)
		_exit(5);
}

START_TEST(a_proc_of_another_pid_namespace_tells_nothing)
{
	join_process(in_process(in_another_pid_namespace, NULL));
}
END_TEST

START_TEST(a_lock_that_cannot_be_asked_for_is_not_free)
{
	pid_t holder = 77;

	ck_assert_int_eq(lock_holder(-1, &holder), -ZCP_E_SYS);
	ck_assert_int_eq(holder, 77);
}
END_TEST

static void attach(struct domain *d)
{
	must(domain_attach(d, bus_domain, geteuid(), false));
	must(domain_map_words(d));
}

/* Whatever clock its owner goes by: in another time namespace it may be years
 * away. */
START_TEST(a_heart_is_judged_by_its_progress_not_by_its_clock)
{
	uint64_t beat = UINT64_MAX - 100;
	struct heart heart;
	struct domain d = { 0 };

	start();
	attach(&d);
	must(heart_look(&d, 3, 9, beat, &heart));
	ck_assert(!heart.known && !heart.beats);
	for (int i = 0; i < 10; i++) {
		usleep(20000);
		must(heart_look(&d, 3, 9, --beat, &heart));
		ck_assert(heart.known && heart.beats);
		ck_assert_uint_eq(heart.silence, 0);
	}
	/* Nobody looked for long: that is one period, whoever slept. */
	usleep(400000);
	must(heart_look(&d, 3, 9, beat, &heart));
	ck_assert(!heart.beats);
	ck_assert_uint_eq(heart.silence, settings.heartbeat);
	ck_assert_uint_ge(heart.age, 400 * NS_PER_MS);
	/* Another one in its place starts anew. */
	must(heart_look(&d, 3, 10, beat, &heart));
	ck_assert(!heart.known && !heart.beats);
	ck_assert_uint_eq(heart.silence, 0);
	domain_detach(&d);
	bus_stop();
}
END_TEST

/* ---- a publisher that cannot look ------------------------------------------------ */

static void hold_one_and_read_on(void *arg)
{
	zcp *bus = child_bus("reader");
	zcp_msg msg, next;
	zcp_sub *sub;
	char first;

	(void)arg;
	need(zcp_subscribe(bus, "t", NULL, &sub));
	say(from_child[1], 's');
	while (zcp_take(sub, &msg) != 1)
		need(zcp_wait(sub, PATIENCE));
	first = *(const char *)msg.data;
	say(from_child[1], 'h');
	hear(to_child[0], 'g');
	/* What it holds is what it took, and it has missed nothing. */
	if (*(const volatile char *)msg.data != first || first != 0)
		_exit(5);
	for (uint64_t seq = 1; seq < 8; seq++) {
		while (zcp_take(sub, &next) == 0)
			need(zcp_wait(sub, PATIENCE));
		if (next.seq != seq || *(const char *)next.data != (char)seq)
			_exit(6);
		zcp_release(sub, &next);
	}
	zcp_release(sub, &msg);
	zcp_unsubscribe(&sub);
	zcp_close(&bus);
}

static int send_one(zcp_pub *pub, int value, int64_t timeout)
{
	char message[100];

	memset(message, value, sizeof(message));
	return zcp_send(pub, message, sizeof(message), 0, timeout);
}

START_TEST(a_publisher_without_descriptors_passes_over_nobody)
{
	zcp_pub_options o = { .slots = 8 };
	zcp_pub *pub;
	pid_t pid;
	zcp *bus;

	start();
	pipes();
	bus = bus_open("publisher");
	pid = in_process(hold_one_and_read_on, NULL);
	child_hears('s');
	must(zcp_offer(bus, "t", &o, &pub));
	must(zcp_pub_wait_readers(pub, 1, PATIENCE));
	for (int i = 0; i < 8; i++)
		must(send_one(pub, i, PATIENCE));
	child_hears('h');
	/* The ring has room for one more: what the reader has taken. */
	must(send_one(pub, 8, PATIENCE));
	descriptors(false);
	ck_assert_int_eq(send_one(pub, 9, 300 * NS_PER_MS), -ZCP_E_TIMEOUT);
	says("cannot tell whether reader (pid ");
	says("Too many open files");
	descriptors(true);
	say(to_child[1], 'g');
	join_process(pid);
	zcp_stop_offer(&pub);
	zcp_close(&bus);
	all_chunks_come_back();
	bus_stop();
}
END_TEST

static void loan_all_and_publish_one(void *arg)
{
	zcp *bus = child_bus("glutton");
	zcp_chunk chunk[24];
	zcp_pub *pub;
	int n = 0;

	(void)arg;
	need(zcp_offer(bus, "u", NULL, &pub));
	for (; n < 24; n++) {
		need(zcp_loan(pub, 1, &chunk[n], 0));
		memset(chunk[n].data, 'A', 1);
	}
	say(from_child[1], 'f');
	hear(to_child[0], 'g');
	for (n = 0; n < 24; n++)
		if (*(char *)chunk[n].data != 'A')
			_exit(5);
	for (n = 0; n < 24; n++)
		need(zcp_publish(pub, &chunk[n], 1, 0));
	zcp_stop_offer(&pub);
	zcp_close(&bus);
}

START_TEST(a_starving_publisher_without_descriptors_frees_nothing)
{
	zcp_chunk chunk;
	zcp_pub *pub;
	pid_t pid;
	zcp *bus;

	start();
	pipes();
	bus = bus_open("starving");
	must(zcp_offer(bus, "t", NULL, &pub));
	pid = in_process(loan_all_and_publish_one, NULL);
	child_hears('f');
	descriptors(false);
	ck_assert_int_eq(zcp_loan(pub, 1, &chunk, 0), -ZCP_E_NOMEM);
	says("nothing was swept");
	says("glutton (pid ");
	says("Too many open files");
	ck_assert_int_eq(zcp_loan(pub, 1, &chunk, 50 * NS_PER_MS),
	    -ZCP_E_TIMEOUT);
	says("nothing was swept");
	descriptors(true);
	say(to_child[1], 'g');
	join_process(pid);
	zcp_stop_offer(&pub);
	zcp_close(&bus);
	all_chunks_come_back();
	bus_stop();
}
END_TEST

static void loan_and_stay(void *arg)
{
	zcp *bus = child_bus("victim");
	zcp_chunk chunk;
	zcp_pub *pub;

	(void)arg;
	need(zcp_offer(bus, "t", NULL, &pub));
	for (int i = 0; i < 5; i++)
		need(zcp_loan(pub, 100, &chunk, 0));
	say(from_child[1], 'l');
	pause();
}

/* Its ring is mapped, its process is gone, but its lock cannot be looked at. */
START_TEST(a_sweep_leaves_what_is_of_one_who_cannot_be_looked_at)
{
	struct sweep_report report;
	shared_u64 announced = 0;
	struct domain d = { 0 };
	struct peer *peer;
	pid_t pid;

	start();
	pipes();
	pid = in_process(loan_and_stay, NULL);
	child_hears('l');
	attach(&d);
	must(peer_get(&d, 0, d.participants[0].incarnation, &peer));
	bus_kill();
	kill_process(pid);
	/* Nor can it be announced, but by a member. */
	descriptors(false);
	ck_assert_int_eq(sweep(&d, &report, NULL, NULL), -ZCP_E_SYS);
	says("nothing was swept");
	d.sweeping = &announced;
	ck_assert_int_eq(sweep(&d, &report, NULL, NULL), 0);
	ck_assert_uint_eq(report.unseen, 1);
	ck_assert_ptr_nonnull(strstr(report.why,
	    "cannot tell whether victim (pid "));
	/* Nor can its ring be, without the mapping. */
	peer_put(&d, peer);
	ck_assert_int_eq(sweep(&d, &report, NULL, NULL), -ZCP_E_SYS);
	says("nothing was swept");
	descriptors(true);
	ck_assert_int_eq(sweep(&d, &report, NULL, NULL), 5);
	ck_assert_uint_eq(report.unseen, 0);
	domain_detach(&d);
	bus_restart(&settings);
	all_chunks_come_back();
	bus_stop();
}
END_TEST

/* ---- who removes files, and who is elsewhere --------------------------------------- */

START_TEST(a_file_that_is_gone_is_seen_only_where_its_domain_is)
{
	char path[SEGMENT_PATH], aside[SEGMENT_PATH + 8];
	char dir[SEGMENT_DIR_MOST];
	struct domain d = { 0 };
	struct peer *peer;
	zcp *bus;

	start();
	bus = bus_open("here");
	attach(&d);
	member_path(&d, 0, path);
	/* As in a process that has a /dev/shm of its own by now. */
	snprintf(dir, sizeof(dir), "%s", d.dir);
	snprintf(d.dir, sizeof(d.dir), "/tmp");
	ck_assert(!domain_here(&d));
	ck_assert_int_eq(peer_get(&d, 5, d.participants[0].incarnation + 7,
	    &peer), -ZCP_E_SYS);
	ck_assert_ptr_null(peer);
	snprintf(d.dir, sizeof(d.dir), "%s", dir);
	ck_assert(domain_here(&d));
	snprintf(aside, sizeof(aside), "%s.aside", path);
	ck_assert_int_eq(rename(path, aside), 0);
	ck_assert_int_eq(peer_get(&d, 5, d.participants[0].incarnation + 7,
	    &peer), -ZCP_E_ENDED);
	ck_assert_int_eq(rename(aside, path), 0);
	domain_detach(&d);
	zcp_close(&bus);
	bus_stop();
}
END_TEST

/* ---- some who live ------------------------------------------------------------------- */

static void stay(void *arg)
{
	zcp *bus = child_bus("member");
	zcp_pub *pub;

	(void)arg;
	need(zcp_offer(bus, "t", NULL, &pub));
	say(from_child[1], 'o');
	hear(to_child[0], 'g');
	need(zcp_send(pub, "x", 1, 0, 0));
	zcp_stop_offer(&pub);
	zcp_close(&bus);
}

enum { MEMBERS = 5 };

static void start_members(pid_t pid[MEMBERS])
{
	pipes();
	for (int i = 0; i < MEMBERS; i++) {
		pid[i] = in_process(stay, NULL);
		child_hears('o');
	}
}

/* Each has not been ended, and goes in order. */
static void end_members_of(const pid_t *pid, int count)
{
	ck_assert_uint_eq(status_number("deaths"), 0);
	for (int i = 0; i < count; i++)
		say(to_child[1], 'g');
	for (int i = 0; i < count; i++)
		join_process(pid[i]);
}

static void end_members(const pid_t pid[MEMBERS])
{
	end_members_of(pid, MEMBERS);
}

/* By the same name as d.dir lies another domain, whose p0 says that it has left,
 * and is nobody's. */
static void make_another(char dir[SEGMENT_DIR_MOST])
{
	char path[SEGMENT_PATH];
	uint64_t left = 1;
	int fd;

	strcpy(dir, "/tmp/zcp-another-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	segment_path(path, dir, "p0");
	ck_assert_int_ge(fd = open(path, O_CREAT | O_WRONLY, 0600), 0);
	ck_assert_int_eq(pwrite(fd, &left, sizeof(left),
	    offsetof(struct member, left)), (ssize_t)sizeof(left));
	close(fd);
}

START_TEST(a_file_of_another_domain_tells_nothing_of_a_member)
{
	char dir[SEGMENT_DIR_MOST], another[SEGMENT_DIR_MOST];
	char path[SEGMENT_PATH];
	struct domain d = { 0 };
	pid_t pid;

	start();
	pipes();
	pid = in_process(stay, NULL);
	child_hears('o');
	attach(&d);
	ck_assert_int_eq(participant_fate(&d, 0), FATE_ALIVE);
	/* As in a process that has another /dev/shm by now. */
	make_another(another);
	snprintf(dir, sizeof(dir), "%s", d.dir);
	snprintf(d.dir, sizeof(d.dir), "%s", another);
	ck_assert_int_eq(participant_fate(&d, 0), FATE_UNSEEN);
	says("is not the directory of the domain");
	snprintf(d.dir, sizeof(d.dir), "%s", dir);
	ck_assert_int_eq(participant_fate(&d, 0), FATE_ALIVE);
	segment_path(path, another, "p0");
	unlink(path);
	rmdir(another);
	domain_detach(&d);
	end_members_of(&pid, 1);
	bus_stop();
}
END_TEST

/* ---- the reason is the code ------------------------------------------------------------ */

/* Changes one member's file, asks for it, and changes it back. */
static int get_changed(struct domain *d, uint32_t slot, off_t at, size_t size,
    const void *bytes)
{
	char path[SEGMENT_PATH], before[8];
	struct peer *peer;
	int fd, rc;

	member_path(d, slot, path);
	ck_assert_int_ge(fd = open(path, O_RDWR), 0);
	ck_assert_int_eq(pread(fd, before, size, at), (ssize_t)size);
	ck_assert_int_eq(pwrite(fd, bytes, size, at), (ssize_t)size);
	rc = peer_get(d, slot, d->participants[slot].incarnation, &peer);
	ck_assert_ptr_null(peer);
	ck_assert_int_eq(pwrite(fd, before, size, at), (ssize_t)size);
	close(fd);
	return rc;
}

START_TEST(why_a_peer_cannot_be_had_is_its_code)
{
	uint64_t none = 0, odd = 77;
	uint16_t major = LAYOUT_MAJOR + 1;
	char path[SEGMENT_PATH];
	pid_t pid[MEMBERS];
	struct domain d = { 0 };
	struct peer *peer;

	start();
	start_members(pid);
	attach(&d);
	ck_assert_int_eq(get_changed(&d, 0, offsetof(struct segment_head,
	    magic), 8, &odd), -ZCP_E_DAMAGED);
	ck_assert_int_eq(get_changed(&d, 0, offsetof(struct segment_head,
	    magic), 8, &none), -ZCP_E_DAMAGED);
	ck_assert_int_eq(get_changed(&d, 0, offsetof(struct segment_head,
	    major), 2, &major), -ZCP_E_LAYOUT);
	ck_assert_int_eq(get_changed(&d, 0, offsetof(struct member,
	    incarnation), 8, &odd), -ZCP_E_ENDED);
	ck_assert_int_eq(peer_get(&d, d.max_participants, 1, &peer),
	    -ZCP_E_DAMAGED);
	/* Its own user may always read it, others' rights are refused. */
	member_path(&d, 0, path);
	ck_assert_int_eq(chmod(path, 0666), 0);
	ck_assert_int_eq(peer_get(&d, 0, d.participants[0].incarnation, &peer),
	    -ZCP_E_PERM);
	ck_assert_int_eq(chmod(path, 0600), 0);
	descriptors(false);
	ck_assert_int_eq(peer_get(&d, 0, d.participants[0].incarnation, &peer),
	    -ZCP_E_SYS);
	descriptors(true);
	must(peer_get(&d, 0, d.participants[0].incarnation, &peer));
	peer_put(&d, peer);
	domain_detach(&d);
	end_members(pid);
	bus_stop();
}
END_TEST

/* The same codes through the calls that meet a peer. */
START_TEST(a_damaged_peers_code_reaches_the_caller)
{
	const char *const topic = "t";
	char path[SEGMENT_PATH], magic[8];
	pid_t pid[MEMBERS];
	struct domain d = { 0 };
	zcp_tap *tap;
	zcp_sub *sub;
	zcp *bus;
	int fd;

	start();
	start_members(pid);
	bus = bus_open("caller");
	attach(&d);
	member_path(&d, 0, path);
	ck_assert_int_ge(fd = open(path, O_RDWR), 0);
	ck_assert_int_eq(pread(fd, magic, 8, 0), 8);
	ck_assert_int_eq(pwrite(fd, "no magic", 8, 0), 8);
	ck_assert_int_eq(zcp_subscribe(bus, topic, NULL, &sub),
	    -ZCP_E_DAMAGED);
	says("is no zcp segment");
	ck_assert_int_eq(zcp_tap_open(bus, topic, &tap), -ZCP_E_DAMAGED);
	ck_assert_int_eq(pwrite(fd, magic, 8, 0), 8);
	close(fd);
	must(zcp_subscribe(bus, topic, NULL, &sub));
	zcp_unsubscribe(&sub);
	domain_detach(&d);
	zcp_close(&bus);
	end_members(pid);
	bus_stop();
}
END_TEST

START_TEST(data_that_is_nowhere_is_an_argument_that_is_wrong)
{
	zcp_pub *pub;
	zcp_sub *sub;
	zcp_msg msg;
	zcp *bus;

	start();
	bus = bus_open("sender");
	must(zcp_subscribe(bus, "t", NULL, &sub));
	must(zcp_offer(bus, "t", NULL, &pub));
	for (size_t size = 1; size < 200; size += 7)
		ck_assert_int_eq(zcp_send(pub, NULL, size, 0, 0), -ZCP_E_ARG);
	says("the data is NULL");
	/* Nothing is nowhere. */
	ck_assert_int_eq(zcp_send(pub, NULL, 0, 3, 0), 1);
	ck_assert_int_eq(take_wait(sub, &msg), 1);
	ck_assert_uint_eq(msg.size, 0);
	ck_assert_uint_eq(msg.kind, 3);
	zcp_release(sub, &msg);
	zcp_stop_offer(&pub);
	zcp_unsubscribe(&sub);
	zcp_close(&bus);
	bus_stop();
}
END_TEST

/* ---- a daemon that cannot watch ------------------------------------------------------ */

static int count_descriptors(pid_t pid)
{
	char path[64];
	int n = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	ck_assert_ptr_nonnull(dir = opendir(path));
	for (struct dirent *entry; (entry = readdir(dir)) != NULL; )
		n += entry->d_name[0] != '.';
	closedir(dir);
	return n;
}

/* The number that it would get next. */
static int free_descriptor(pid_t pid)
{
	struct stat st;
	char path[64];
	int n = -1;

	do
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, ++n);
	while (lstat(path, &st) == 0);
	return n;
}

static void limit_descriptors(pid_t pid, rlim_t n)
{
	struct rlimit limit;

	ck_assert_int_eq(prlimit(pid, RLIMIT_NOFILE, NULL, &limit), 0);
	limit.rlim_cur = n;
	ck_assert_int_eq(prlimit(pid, RLIMIT_NOFILE, &limit, NULL), 0);
}

static bool ticked(void *arg)
{
	uint64_t until = *(uint64_t *)arg;

	return clock_ns() >= until;
}

START_TEST(a_daemon_refuses_whom_it_cannot_watch)
{
	zcp_options o = { .name = "late", .timeout = NS_PER_S };
	pid_t pid[MEMBERS], daemon;
	uint64_t until;
	zcp *bus;

	settings = bus_settings();
	settings.heartbeat = 50 * NS_PER_MS;
	daemon = bus_start(&settings);
	start_members(pid);
	for (int spare = 0; spare <= 4; spare++) {
		limit_descriptors(daemon, (rlim_t)(free_descriptor(daemon) +
		    spare));
		/* With none at all it cannot even make the member's file. */
		ck_assert_int_eq(zcp_open(&bus, &o), spare == 0 ? -ZCP_E_SYS :
		    -ZCP_E_REFUSED);
		says("Too many open files");
	}
	says("cannot watch another process");
	says("LimitNOFILE");
	/* Those that it has it goes on looking at. */
	until = clock_ns() + 5 * settings.heartbeat;
	eventually(ticked, &until, "a few ticks");
	ck_assert_uint_eq(status_number("participants"), MEMBERS);
	limit_descriptors(daemon, 1000);
	must(zcp_open(&bus, &o));
	zcp_close(&bus);
	end_members(pid);
	bus_stop();
}
END_TEST

static void stop_at_once(const struct routed *r)
{
	(void)r;
	raise(SIGTERM);
}

/* 0: it served and left; 7: it gave up. */
static void adopt_with(void *arg)
{
	const struct rlimit limit = { *(rlim_t *)arg, *(rlim_t *)arg };
	static struct routed r;
	struct settings s = settings;

	s.domain = bus_domain;
	log_threshold = LOG_LEVEL_ERROR;
	/* What it has by inheritance is not to count. */
	for (int fd = 3; fd < 100; fd++)
		close(fd);
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		_exit(3);
	_exit(routed_run(&r, &s, stop_at_once) < 0 ? 7 : 0);
}

static int status_of(pid_t pid)
{
	int status;

	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* All of mgmt, for comparison. */
static char *read_mgmt(size_t *size)
{
	char path[SEGMENT_PATH], *text;
	struct stat st;
	int fd;

	bus_path(path, "mgmt");
	ck_assert_int_ge(fd = open(path, O_RDONLY), 0);
	ck_assert_int_eq(fstat(fd, &st), 0);
	*size = (size_t)st.st_size;
	ck_assert_ptr_nonnull(text = malloc(*size));
	ck_assert_int_eq(read(fd, text, *size), st.st_size);
	close(fd);
	return text;
}

/* With 4 descriptors, 5, 6, and so on until they are enough. */
START_TEST(an_adoption_that_cannot_watch_the_living_changes_nothing)
{
	char *before, *after;
	pid_t pid[MEMBERS];
	size_t size, now;
	int failed = 0;

	start();
	start_members(pid);
	bus_kill();
	before = read_mgmt(&size);
	for (rlim_t n = 4; n < 60; n++) {
		if (status_of(in_process(adopt_with, &n)) == 0)
			break;
		after = read_mgmt(&now);
		ck_assert_uint_eq(size, now);
		ck_assert_msg(memcmp(before, after, size) == 0,
		    "with %d descriptors it changed mgmt", (int)n);
		free(after);
		failed++;
	}
	ck_assert_int_gt(failed, MEMBERS);
	ck_assert_int_lt(failed, 50);
	free(before);
	bus_restart(&settings);
	end_members(pid);
	bus_stop();
}
END_TEST

static void tell_nobody(void *arg, const struct gc_item *item)
{
	(void)arg;
	/* Nothing of it is to be forgotten or removed. */
	if (item->what != GC_SOCKET)
		_exit(9);
}

static void collect_with(void *arg)
{
	const struct rlimit limit = { *(rlim_t *)arg, *(rlim_t *)arg };

	log_threshold = LOG_LEVEL_ERROR;
	for (int fd = 3; fd < 100; fd++)
		close(fd);
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		_exit(3);
	_exit(gc_domain(bus_domain, false, tell_nobody, NULL) < 0 ? 7 : 0);
}

START_TEST(gc_forgets_no_living_member_however_few_its_descriptors)
{
	pid_t pid[MEMBERS];
	int failed = 0, rc = 7;

	start();
	start_members(pid);
	bus_kill();
	for (rlim_t n = 3; n < 40 && rc != 0; n++) {
		rc = status_of(in_process(collect_with, &n));
		ck_assert_msg(rc == 0 || rc == 7, "with %d descriptors: %d",
		    (int)n, rc);
		failed += rc == 7;
	}
	ck_assert_int_eq(rc, 0);
	ck_assert_int_gt(failed, 2);
	bus_restart(&settings);
	end_members(pid);
	bus_stop();
}
END_TEST

static bool one_death(void *arg)
{
	(void)arg;
	return status_number("deaths") == 1;
}

START_TEST(one_that_takes_long_to_open_its_file_is_not_dead)
{
	char reply[512];
	uint64_t until;

	start();
	must(control_call(bus_domain, "REGISTER:name=slow:nonce=77", reply,
	    sizeof(reply), deadline_after(PATIENCE)));
	until = clock_ns() + 6 * settings.heartbeat;
	eventually(ticked, &until, "a few ticks");
	ck_assert_uint_eq(status_number("participants"), 1);
	ck_assert_uint_eq(status_number("deaths"), 0);
	must(control_call(bus_domain, "UNREGISTER", reply, sizeof(reply),
	    deadline_after(PATIENCE)));
	bus_stop();
}
END_TEST

/* ---- descriptors that are ours, and such that are not ---------------------------------- */

enum { FILES = 40 };

/* What there is in a child's life. */
enum { PLAIN, POLLED, POLLED_BY_BOTH, LIVES };

/* Files of the application's on every number that was the library's; or its
 * eventfds. */
static void close_and_reuse(int file[FILES], int life)
{
	for (int fd = 3; fd < 1000; fd++)
		close(fd);
	for (int i = 0; i < FILES; i++) {
		if (life == POLLED_BY_BOTH) {
			need(file[i] = eventfd(0, EFD_NONBLOCK));
			continue;
		}
		file[i] = open("/tmp", O_TMPFILE | O_RDWR, 0600);
		if (file[i] < 0 || write(file[i], "precious", 8) != 8)
			_exit(5);
	}
}

static void look_at_files(const int file[FILES], int life)
{
	for (int i = 0; i < FILES; i++) {
		char text[16] = "";

		if (life == POLLED_BY_BOTH) {
			/* Nobody has written to it, or closed it. */
			if (read(file[i], text, 8) >= 0 || errno != EAGAIN)
				_exit(8);
			continue;
		}
		if (lseek(file[i], 0, SEEK_END) != 8 ||
		    pread(file[i], text, sizeof(text), 0) != 8 ||
		    memcmp(text, "precious", 8) != 0)
			_exit(6);
	}
}

static int take_one(zcp_sub *sub)
{
	zcp_msg msg;
	int rc;

	while ((rc = zcp_take(sub, &msg)) == 0)
		need(zcp_wait(sub, PATIENCE));
	if (rc == 1)
		zcp_release(sub, &msg);
	return rc;
}

/* With and without a descriptor to poll, which the helper thread feeds. */
static void close_all_and_go_on(void *arg)
{
	int life = *(int *)arg;
	zcp *bus = child_bus("closer");
	zcp_pub *pub, *late;
	int file[FILES], fd;
	zcp_sub *sub;

	need(zcp_subscribe(bus, "t", NULL, &sub));
	need(zcp_offer(bus, "t", NULL, &pub));
	if (life != PLAIN)
		need(zcp_sub_fd(sub));
	close_and_reuse(file, life);
	for (int i = 0; i < 3; i++) {
		need(zcp_send(pub, "a message that takes a chunk of its own",
		    40, 0, PATIENCE));
		need(take_one(sub));
	}
	look_at_files(file, life);
	/* Room for another port is committed in a file that was opened anew. */
	need(zcp_offer(bus, "late", NULL, &late));
	need(zcp_send(late, "x", 1, 0, 0));
	look_at_files(file, life);
	if (life != PLAIN) {
		need(fd = zcp_sub_fd(sub));
		for (int i = 0; i < FILES; i++)
			if (fd == file[i])
				_exit(7);
	}
	zcp_stop_offer(&late);
	zcp_stop_offer(&pub);
	zcp_unsubscribe(&sub);
	zcp_close(&bus);
	look_at_files(file, life);
}

START_TEST(an_applications_files_on_our_numbers_are_left_alone)
{
	start();
	for (int life = 0; life < LIVES; life++)
		join_process(in_process(close_all_and_go_on, &life));
	ck_assert_uint_eq(status_number("deaths"), 0);
	all_chunks_come_back();
	bus_stop();
}
END_TEST

static pid_t holder_of_slot(uint32_t slot)
{
	char path[SEGMENT_PATH];
	struct domain d = { 0 };
	pid_t holder;
	int fd;

	attach(&d);
	member_path(&d, slot, path);
	ck_assert_int_ge(fd = open(path, O_RDONLY), 0);
	must(lock_holder(fd, &holder));
	close(fd);
	domain_detach(&d);
	return holder;
}

static void close_all_and_offer(void *arg)
{
	zcp *bus = child_bus("closer");
	zcp_pub *pub;
	int kept[2] = { from_child[1], to_child[0] };

	(void)arg;
	for (int fd = 3; fd < 1000; fd++)
		if (fd != kept[0] && fd != kept[1])
			close(fd);
	say(kept[0], 'c');
	hear(kept[1], 'g');
	need(zcp_offer(bus, "t", NULL, &pub));
	say(kept[0], 'o');
	pause();
}

START_TEST(a_lock_that_was_lost_with_its_descriptor_is_taken_anew)
{
	pid_t pid;

	start();
	pipes();
	pid = in_process(close_all_and_offer, NULL);
	child_hears('c');
	ck_assert_int_eq(holder_of_slot(0), 0);
	say(to_child[1], 'g');
	child_hears('o');
	ck_assert_int_eq(holder_of_slot(0), pid);
	kill_process(pid);
	eventually(one_death, NULL, "its end is a death");
	bus_stop();
}
END_TEST

/* Two participants of one process read each other, and somebody in it looks on:
 * files are opened and closed all the time. */
static void look_at_each_other(void *arg)
{
	zcp *one = child_bus("one"), *two = child_bus("two");
	zcp_snapshot *snapshot;
	zcp_observer *o;
	zcp_pub *pub;
	zcp_sub *sub;

	(void)arg;
	need(zcp_subscribe(two, "t", NULL, &sub));
	need(zcp_offer(one, "t", NULL, &pub));
	need(zcp_send(pub, "x", 1, 0, 0));
	need(take_one(sub));
	need(zcp_observe(&o, NULL, NULL));
	need(zcp_look(o, ZCP_LOOK_CHUNKS, &snapshot));
	zcp_snapshot_free(&snapshot);
	zcp_observe_end(&o);
	say(from_child[1], 'l');
	pause();
}

START_TEST(a_process_that_looks_at_its_own_files_keeps_their_locks)
{
	pid_t pid;

	start();
	pipes();
	pid = in_process(look_at_each_other, NULL);
	child_hears('l');
	ck_assert_int_eq(holder_of_slot(0), pid);
	ck_assert_int_eq(holder_of_slot(1), pid);
	kill_process(pid);
	all_chunks_come_back();
	bus_stop();
}
END_TEST

static void read_on(void *arg)
{
	zcp *bus = child_bus("reader");
	zcp_sub *sub;

	(void)arg;
	need(zcp_subscribe(bus, "t", NULL, &sub));
	say(from_child[1], 'r');
	for (;;)
		need(take_one(sub));
}

START_TEST(a_client_keeps_one_descriptor_however_many_it_meets)
{
	pid_t pid[MEMBERS];
	int before, after;
	zcp_pub *pub;
	zcp *bus;

	start();
	pipes();
	for (int i = 0; i < MEMBERS; i++) {
		pid[i] = in_process(read_on, NULL);
		child_hears('r');
	}
	before = count_descriptors(getpid());
	bus = bus_open("publisher");
	must(zcp_offer(bus, "t", NULL, &pub));
	must(zcp_pub_wait_readers(pub, MEMBERS, PATIENCE));
	for (int i = 0; i < 2000; i++)
		must(send_one(pub, i, PATIENCE));
	after = count_descriptors(getpid());
	ck_assert_int_eq(after - before, 1);
	zcp_stop_offer(&pub);
	zcp_close(&bus);
	ck_assert_int_eq(count_descriptors(getpid()), before);
	for (int i = 0; i < MEMBERS; i++)
		kill_process(pid[i]);
	all_chunks_come_back();
	bus_stop();
}
END_TEST

static void open_without_streams(void *arg)
{
	zcp_pub *pub;
	zcp_sub *sub;
	zcp *bus;

	(void)arg;
	for (int fd = 0; fd < 3; fd++)
		close(fd);
	bus = child_bus("bare");
	need(zcp_offer(bus, "t", NULL, &pub));
	need(zcp_subscribe(bus, "t", NULL, &sub));
	if (zcp_sub_fd(sub) < 3)
		_exit(5);
	/* Whatever is written to the standard streams goes nowhere. */
	for (int fd = 0; fd < 3; fd++)
		if (fcntl(fd, F_GETFD) >= 0)
			_exit(6);
	zcp_unsubscribe(&sub);
	zcp_stop_offer(&pub);
	zcp_close(&bus);
}

START_TEST(what_is_kept_is_never_a_standard_stream)
{
	start();
	join_process(in_process(open_without_streams, NULL));
	bus_stop();
}
END_TEST

/* ---- a sweep that is no member's --------------------------------------------------------- */

static bool stand_still(void *arg, const struct sweep_item *item)
{
	(void)arg;
	(void)item;
	say(from_child[1], 's');
	hear(to_child[0], 'g');
	return false;
}

/* As zcp-gc sweeps beside a daemon. */
static void sweep_and_stand(void *arg)
{
	struct sweep_report report;
	struct domain d = { 0 };

	(void)arg;
	need(domain_attach(&d, bus_domain, geteuid(), false));
	need(domain_map_words(&d));
	need(sweep(&d, &report, stand_still, NULL));
	domain_detach(&d);
}

static void hold_one(void *arg)
{
	zcp *bus = child_bus("victim");
	zcp_chunk chunk;
	zcp_pub *pub;

	(void)arg;
	need(zcp_offer(bus, "t", NULL, &pub));
	need(zcp_loan(pub, 100, &chunk, 0));
	say(from_child[1], 'l');
	pause();
}

/* A sweep is under way as serials start over; it stands in its process. */
static pid_t wrap_under_a_sweep(zcp **bus)
{
	struct domain d = { 0 };
	pid_t pid;

	start();
	pipes();
	*bus = bus_open("late");
	pid = in_process(hold_one, NULL);
	child_hears('l');
	bus_kill();
	kill_process(pid);
	pid = in_process(sweep_and_stand, NULL);
	child_hears('s');
	bus_restart(&settings);
	must(domain_attach(&d, bus_domain, geteuid(), true));
	d.m->serial_next = SERIAL_MASK + 1;
	domain_detach(&d);
	return pid;
}

START_TEST(no_serial_comes_back_under_a_sweep_of_zcp_gc)
{
	zcp_pub *pub;
	zcp *bus;
	pid_t pid;

	for (int killed = 0; killed < 2; killed++) {
		pid = wrap_under_a_sweep(&bus);
		for (int i = 0; i < 3; i++) {
			ck_assert_int_lt(zcp_offer(bus, "t", NULL, &pub), 0);
			says("a sweep of zcp-gc (pid ");
		}
		if (killed) {
			kill_process(pid);
		} else {
			say(to_child[1], 'g');
			join_process(pid);
		}
		must(zcp_offer(bus, "t", NULL, &pub));
		zcp_stop_offer(&pub);
		zcp_close(&bus);
		bus_stop();
	}
}
END_TEST

/* ---- who hides ------------------------------------------------------------------------ */

static void close_all_and_hide(void *arg)
{
	zcp *bus = child_bus("hidden");
	zcp_pub *pub;

	(void)arg;
	need(zcp_offer(bus, "t", NULL, &pub));
	prctl(PR_SET_DUMPABLE, 0);
	for (int fd = 3; fd < 1000; fd++)
		if (fd != from_child[1] && fd != to_child[0])
			close(fd);
	say(from_child[1], 'c');
	hear(to_child[0], 'g');
	need(zcp_send(pub, "still here", 10, 0, 0));
	say(from_child[1], 'p');
	pause();
}

static bool one_is_stalled(void *arg)
{
	static char reply[CONTROL_REPLY];

	(void)arg;
	must(control_call(bus_domain, "STATUS", reply, sizeof(reply),
	    deadline_after(PATIENCE)));
	return strstr(reply, "state=stalled") != NULL;
}

/* No lock, no heartbeat, no list of mappings that others may read. */
START_TEST(one_that_hides_its_mappings_lives_even_when_it_is_stopped)
{
	uint64_t until;
	pid_t pid;

	/* From root nobody can hide. */
	if (geteuid() == 0)
		ck_assert_int_eq(setresuid(65534, 65534, 65534), 0);
	prctl(PR_SET_DUMPABLE, 1);
	start();
	pipes();
	pid = in_process(close_all_and_hide, NULL);
	child_hears('c');
	ck_assert_int_eq(kill(pid, SIGSTOP), 0);
	eventually(one_is_stalled, NULL, "the stopped process is stalled");
	until = clock_ns() + 5 * settings.heartbeat;
	eventually(ticked, &until, "a few ticks");
	ck_assert_uint_eq(status_number("deaths"), 0);
	ck_assert_int_eq(kill(pid, SIGCONT), 0);
	say(to_child[1], 'g');
	child_hears('p');
	kill_process(pid);
	eventually(one_death, NULL, "its end is a death");
	bus_stop();
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("evidence");

	tcase_set_timeout(t, 60);
	tcase_add_test(t, a_process_that_cannot_be_looked_at_is_not_gone);
	tcase_add_test(t, a_zombie_is_seen_gone_and_only_by_who_can_look);
	tcase_add_test(t, a_proc_of_another_pid_namespace_tells_nothing);
	tcase_add_test(t, a_lock_that_cannot_be_asked_for_is_not_free);
	tcase_add_test(t, a_heart_is_judged_by_its_progress_not_by_its_clock);
	tcase_add_test(t, a_publisher_without_descriptors_passes_over_nobody);
	tcase_add_test(t,
	    a_starving_publisher_without_descriptors_frees_nothing);
	tcase_add_test(t,
	    a_sweep_leaves_what_is_of_one_who_cannot_be_looked_at);
	tcase_add_test(t, a_file_that_is_gone_is_seen_only_where_its_domain_is);
	tcase_add_test(t, a_file_of_another_domain_tells_nothing_of_a_member);
	tcase_add_test(t, why_a_peer_cannot_be_had_is_its_code);
	tcase_add_test(t, a_damaged_peers_code_reaches_the_caller);
	tcase_add_test(t, data_that_is_nowhere_is_an_argument_that_is_wrong);
	tcase_add_test(t, a_daemon_refuses_whom_it_cannot_watch);
	tcase_add_test(t,
	    an_adoption_that_cannot_watch_the_living_changes_nothing);
	tcase_add_test(t,
	    gc_forgets_no_living_member_however_few_its_descriptors);
	tcase_add_test(t, one_that_takes_long_to_open_its_file_is_not_dead);
	tcase_add_test(t,
	    an_applications_files_on_our_numbers_are_left_alone);
	tcase_add_test(t,
	    a_lock_that_was_lost_with_its_descriptor_is_taken_anew);
	tcase_add_test(t,
	    a_process_that_looks_at_its_own_files_keeps_their_locks);
	tcase_add_test(t,
	    a_client_keeps_one_descriptor_however_many_it_meets);
	tcase_add_test(t, what_is_kept_is_never_a_standard_stream);
	tcase_add_test(t, no_serial_comes_back_under_a_sweep_of_zcp_gc);
	tcase_add_test(t,
	    one_that_hides_its_mappings_lives_even_when_it_is_stopped);
	return run_tests("evidence", t);
}
