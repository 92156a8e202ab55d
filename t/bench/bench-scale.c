/*
 * bench-scale - what many cost beside one, in one run: subscribers of a
 * publisher, publishers of a reader, sleepers of a wake-up, topics and
 * processes of a domain.
 *
 *   bench-scale [REPEATS]
 */
#include <linux/futex.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

enum { PUBLISHES = 200000, RECEIVES = 400000, WAKES = 30, CYCLES = 300,
	REGISTRATIONS = 300, REQUESTS = 1000 };

/* ---- receiving, by publishers ----------------------------------------------------- */

/* All rings are filled, then read: the reader's cost alone. */
static double receive_cost(int publishers)
{
	enum { EACH = 512 };
	zcp_pub_options po = { .stamp = ZCP_STAMP_NONE };
	zcp_sub_options so = { .publishers = 64 };
	zcp_pub *pub[64];
	zcp_sub *sub;
	zcp_msg msg;
	zcp *bus;
	uint64_t t = 0, got = 0;

	bench_pin(0);
	bench_check(zcp_open(&bus, NULL));
	bench_check(zcp_subscribe(bus, "choir", &so, &sub));
	for (int i = 0; i < publishers; i++)
		bench_check(zcp_offer(bus, "choir", &po, &pub[i]));
	while (got < RECEIVES) {
		uint64_t from;

		for (int n = 0; n < EACH; n++)
			for (int i = 0; i < publishers; i++)
				bench_check(zcp_send(pub[i], "0123456789", 10,
				    0, -1));
		from = bench_ns();
		while (zcp_take(sub, &msg) == 1) {
			zcp_release(sub, &msg);
			got++;
		}
		t += bench_ns() - from;
	}
	for (int i = 0; i < publishers; i++)
		zcp_stop_offer(&pub[i]);
	zcp_unsubscribe(&sub);
	zcp_close(&bus);
	return (double)t / (double)got;
}

/* ---- waking, by sleepers ------------------------------------------------------------ */

struct dormitory {
	int sleepers;
	_Atomic uint32_t word;		/* the bare sleepers' */
	_Atomic int asleep, awake;
	_Atomic uint64_t last;		/* when the last one was awake */
	double until_last[WAKES], own[WAKES];
};

static void wide_awake(struct dormitory *d)
{
	uint64_t now = bench_ns(), last = atomic_load(&d->last);

	while (last < now && !atomic_compare_exchange_weak(&d->last, &last,
	    now))
		;
	atomic_fetch_add(&d->awake, 1);
}

static struct dormitory *dormitory_open(int sleepers,
    void (*sleeper)(struct dormitory *))
{
	struct dormitory *d = bench_shared(sizeof(*d));

	d->sleepers = sleepers;
	bench_pin(BENCH_ANYWHERE);
	fflush(NULL);
	for (int i = 0; i < d->sleepers; i++)
		if (fork() == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			sleeper(d);
			_exit(0);
		}
	return d;
}

static void wake_all(struct dormitory *d,
    void (*wake)(struct dormitory *, zcp_pub *), zcp_pub *pub)
{
	for (int i = 0; i < WAKES; i++) {
		uint64_t t;

		while (atomic_load(&d->asleep) < (i + 1) * d->sleepers)
			usleep(1000);
		usleep(20000);		/* beyond anybody's spinning */
		t = bench_ns();
		wake(d, pub);
		d->own[i] = (double)(bench_ns() - t);
		while (atomic_load(&d->awake) < (i + 1) * d->sleepers)
			usleep(200);
		d->until_last[i] = (double)(atomic_load(&d->last) - t);
	}
}

/* Back to one processor.  Until the last of them is awake; *own: until the waker may go on.  us */
static double dormitory_close(struct dormitory *d, double *own)
{
	double us;

	for (int i = 0; i < d->sleepers; i++)
		wait(NULL);
	bench_pin(0);
	*own = median(d->own, WAKES) / 1000;
	us = median(d->until_last, WAKES) / 1000;
	munmap(d, sizeof(*d));
	return us;
}

static void bare_sleeper(struct dormitory *d)
{
	for (uint32_t n = 0; n < WAKES; n++) {
		atomic_fetch_add(&d->asleep, 1);
		while (atomic_load(&d->word) == n)
			syscall(SYS_futex, &d->word, FUTEX_WAIT, n, NULL, NULL,
			    0);
		wide_awake(d);
	}
}

static void bare_wake(struct dormitory *d, zcp_pub *none)
{
	(void)none;
	atomic_fetch_add(&d->word, 1);
	syscall(SYS_futex, &d->word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

static double bare_wake_time(int sleepers, double *own)
{
	struct dormitory *d = dormitory_open(sleepers, bare_sleeper);

	wake_all(d, bare_wake, NULL);
	return dormitory_close(d, own);
}

static void sleeper(struct dormitory *d)
{
	zcp_sub *sub;
	zcp_msg msg;
	zcp *bus;

	bench_check(zcp_open(&bus, NULL));
	bench_check(zcp_subscribe(bus, "alarm", NULL, &sub));
	for (int n = 0; n < WAKES; n++) {
		int rc;

		atomic_fetch_add(&d->asleep, 1);
		while ((rc = zcp_take(sub, &msg)) == 0)
			bench_check(zcp_wait(sub, -1));
		bench_check(rc);
		zcp_release(sub, &msg);
		wide_awake(d);
	}
	zcp_unsubscribe(&sub);
	zcp_close(&bus);
}

static void bus_wake(struct dormitory *d, zcp_pub *pub)
{
	(void)d;
	bench_check(zcp_send(pub, "wake up", 7, 0, -1));
}

static double wake_time(int sleepers, double *own)
{
	struct dormitory *d = dormitory_open(sleepers, sleeper);
	zcp_pub *pub;
	zcp *bus;

	bench_check(zcp_open(&bus, NULL));
	bench_check(zcp_offer(bus, "alarm", NULL, &pub));
	bench_check(zcp_pub_wait_readers(pub, sleepers, -1));
	wake_all(d, bus_wake, pub);
	zcp_stop_offer(&pub);
	zcp_close(&bus);
	return dormitory_close(d, own);
}

/* ---- a domain that is full of others --------------------------------------------------- */

struct topics {
	zcp *bus;
	zcp_pub **pub;
	zcp_sub **sub;
	int count;
};

static const zcp_pub_options small_pub = { .slots = 8,
    .stamp = ZCP_STAMP_NONE };
static const zcp_sub_options small_sub = { .publishers = 1, .holds = 4 };

static void topics_open(struct topics *t, int count)
{
	char topic[32];

	*t = (struct topics){ .count = count,
	    .pub = calloc((size_t)count, sizeof(zcp_pub *)),
	    .sub = calloc((size_t)count, sizeof(zcp_sub *)) };
	bench_check(zcp_open(&t->bus, NULL));
	for (int i = 0; i < count; i++) {
		snprintf(topic, sizeof(topic), "many/%d", i);
		bench_check(zcp_subscribe(t->bus, topic, &small_sub,
		    &t->sub[i]));
		bench_check(zcp_offer(t->bus, topic, &small_pub, &t->pub[i]));
	}
}

static void topics_close(struct topics *t)
{
	for (int i = 0; i < t->count; i++) {
		zcp_stop_offer(&t->pub[i]);
		zcp_unsubscribe(&t->sub[i]);
	}
	zcp_close(&t->bus);
	free(t->pub);
	free(t->sub);
}

/* A publisher and a subscription, opened and closed, beside `topics`. */
static double register_time(int count)
{
	struct topics topics;
	char topic[32];
	uint64_t t;

	topics_open(&topics, count);
	t = bench_ns();
	for (int i = 0; i < REGISTRATIONS; i++) {
		zcp_pub *p;
		zcp_sub *s;

		snprintf(topic, sizeof(topic), "one/%d", i);
		bench_check(zcp_subscribe(topics.bus, topic, &small_sub, &s));
		bench_check(zcp_offer(topics.bus, topic, &small_pub, &p));
		zcp_stop_offer(&p);
		zcp_unsubscribe(&s);
	}
	t = bench_ns() - t;
	topics_close(&topics);
	return (double)t / REGISTRATIONS / 1000;
}

/* One message, beside `count` topics that are open in the same process. */
static double topic_cost(int count)
{
	struct topics topics;
	uint64_t t, n = 0;
	zcp_msg msg;

	topics_open(&topics, count);
	t = bench_ns();
	while (n < PUBLISHES)
		for (int i = 0; i < count; i++, n++) {
			bench_check(zcp_send(topics.pub[i], "0123456789", 10,
			    0, -1));
			bench_check(zcp_take(topics.sub[i], &msg));
			zcp_release(topics.sub[i], &msg);
		}
	t = bench_ns() - t;
	topics_close(&topics);
	return (double)t / (double)n;
}

/* One message on a topic of its own, beside `count` that are idle. */
static double idle_cost(int count)
{
	struct topics topics;
	double ns;

	topics_open(&topics, count);
	ns = bench_publish_cost(1);
	topics_close(&topics);
	return ns;
}

struct presence {
	_Atomic int there, stop;
};

/* Attach, offer, publish, detach: a command's life, beside `others`. */
static double attach_time(int others)
{
	struct presence *p = bench_shared(sizeof(*p));
	zcp_pub_options po = { .slots = 8 };
	uint64_t t;

	fflush(NULL);
	for (int i = 0; i < others; i++)
		if (fork() == 0) {
			zcp *bus;

			prctl(PR_SET_PDEATHSIG, SIGKILL);
			bench_check(zcp_open(&bus, NULL));
			p->there++;
			while (!p->stop)
				usleep(20000);
			zcp_close(&bus);
			_exit(0);
		}
	while (p->there < others)
		usleep(1000);
	t = bench_ns();
	for (int i = 0; i < CYCLES; i++) {
		zcp_pub *pub;
		zcp *bus;

		bench_check(zcp_open(&bus, NULL));
		bench_check(zcp_offer(bus, "visit", &po, &pub));
		bench_check(zcp_send(pub, "x", 1, 0, -1));
		zcp_stop_offer(&pub);
		zcp_close(&bus);
	}
	t = bench_ns() - t;
	p->stop = 1;
	while (wait(NULL) > 0 && others-- > 1)
		;
	munmap(p, sizeof(*p));
	return (double)t / CYCLES / 1000;
}

/* ---- the daemon beside those who misbehave --------------------------------------------- */

enum misbehaviour { HONEST, FLOOD, SILENT };

static int request_socket(struct sockaddr_un *to)
{
	struct sockaddr_un own = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	to->sun_family = AF_UNIX;
	snprintf(to->sun_path, sizeof(to->sun_path), "%s/%s.sock",
	    getenv("ZCP_RUNTIME_DIR"), getenv("ZCP_DOMAIN"));
	if (fd < 0 || bind(fd, (struct sockaddr *)&own,
	    sizeof(sa_family_t)) < 0) {
		perror("socket");
		exit(1);
	}
	return fd;
}

/* As many requests as it can send; the silent one never reads a reply. */
static void misbehave(enum misbehaviour how)
{
	struct sockaddr_un to;
	int fd = request_socket(&to);
	char reply[8192];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		sendto(fd, "STATUS", 6, how == FLOOD ? MSG_DONTWAIT : 0,
		    (struct sockaddr *)&to, sizeof(to));
		while (how == FLOOD && recv(fd, reply, sizeof(reply),
		    MSG_DONTWAIT) > 0)
			;
	}
}

/* An honest client's PING and its answer, the median of many, us. */
static double ping_beside(enum misbehaviour how, double *worst)
{
	double sample[REQUESTS], usual;
	struct sockaddr_un to;
	int fd = request_socket(&to);
	char reply[64];
	pid_t pid = 0;

	fflush(NULL);
	if (how != HONEST && (pid = fork()) == 0)
		misbehave(how);
	usleep(100000);
	for (int i = 0; i < REQUESTS; i++) {
		uint64_t t = bench_ns();

		if (sendto(fd, "PING", 4, 0, (struct sockaddr *)&to,
		    sizeof(to)) < 0 || recv(fd, reply, sizeof(reply), 0) != 4) {
			perror("PING");
			exit(1);
		}
		sample[i] = (double)(bench_ns() - t) / 1000;
		usleep(500);
	}
	if (pid > 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	close(fd);
	usual = median(sample, REQUESTS);	/* sorts them */
	*worst = sample[REQUESTS * 99 / 100];
	return usual;
}

static void compare_pings(const char *name, const char *worst_name,
    enum misbehaviour how, int repeats)
{
	struct row usual = { .name = name, .unit = "us",
	    .against = "PING, alone" };
	struct row worst = { .name = worst_name, .unit = "us",
	    .against = "PING, alone, p99" };

	for (int i = 0; i < repeats; i++) {
		double p, p1, m = ping_beside(how, &p);
		double m1 = ping_beside(HONEST, &p1);

		row_add(&usual, m, m1);
		row_add(&worst, p, p1);
	}
	row_print(&usual);
	row_print(&worst);
}

/* ---- the table --------------------------------------------------------------------------- */

typedef double figure(int n);

static void compare(const char *name, const char *unit, const char *against,
    const char *target, figure *measure, int many, int repeats)
{
	struct row row = { .name = name, .unit = unit, .against = against,
	    .target = target };

	for (int i = 0; i < repeats; i++)
		row_add(&row, measure(many), measure(1));
	row_print(&row);
}

static void compare_wakes(const char *name, const char *own_name, int sleepers,
    int repeats)
{
	struct row last = { .name = name, .unit = "us",
	    .against = "FUTEX_WAKE, to the last" };
	struct row own = { .name = own_name, .unit = "us",
	    .against = "FUTEX_WAKE itself" };

	for (int i = 0; i < repeats; i++) {
		double p, bare_p, w = wake_time(sleepers, &p);
		double bare = bare_wake_time(sleepers, &bare_p);

		row_add(&last, w, bare);
		row_add(&own, p, bare_p);
	}
	row_print(&last);
	row_print(&own);
}

int main(int argc, char **argv)
{
	static const char *const options[] = { "--pool", "128:16384",
	    "--max-participants", "1100", "--max-topics", "10300",
	    "--max-ports", "20600", "--max-links", "100000", NULL };
	int repeats = bench_repeats(argc, argv, 3);

	bench_daemon_start(options);
	table_head();
	compare("publish, 64 subscribers", "ns", "publish, 1 subscriber",
	    "<= 1.1", bench_publish_cost, 64, repeats);
	compare("publish, 256 subscribers", "ns", "publish, 1 subscriber",
	    "<= 1.2", bench_publish_cost, 256, repeats);
	compare("publish, 1024 subscribers", "ns", "publish, 1 subscriber",
	    "<= 2", bench_publish_cost, 1024, repeats);
	compare("receive, 8 publishers", "ns", "receive, 1 publisher", "",
	    receive_cost, 8, repeats);
	compare("receive, 64 publishers", "ns", "receive, 1 publisher", "",
	    receive_cost, 64, repeats);
	compare_wakes("wake-up, 1 sleeper", "publish, 1 sleeper", 1, repeats);
	compare_wakes("wake-up, 16 sleepers", "publish, 16 sleepers", 16,
	    repeats);
	compare_wakes("wake-up, 256 sleepers", "publish, 256 sleepers", 256,
	    repeats);
	compare_wakes("wake-up, 1024 sleepers", "publish, 1024 sleepers", 1024,
	    repeats);
	compare("publish, 10000 idle topics", "ns", "the same, 1 idle topic",
	    "<= 1.1", idle_cost, 10000, repeats);
	compare("send and take, 1000 topics", "ns", "the same, 1 topic", "",
	    topic_cost, 1000, repeats);
	compare("open+close 2 ports, 10000 topics", "us", "the same, 1 topic",
	    "", register_time, 10000, 1);
	compare("attach to detach, 500 processes", "us",
	    "the same, 1 process", "", attach_time, 500, repeats);
	compare_pings("PING beside a flooding client", "the same, p99", FLOOD,
	    repeats);
	compare_pings("PING beside a silent client", "the same, p99", SILENT,
	    repeats);
	bench_daemon_stop();
	return 0;
}
