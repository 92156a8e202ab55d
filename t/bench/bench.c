#include "bench.h"

#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "atomics.h"

uint64_t bench_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void bench_pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	for (int i = 0; i < CPU_SETSIZE; i++)
		if (cpu == i || cpu == BENCH_ANYWHERE)
			CPU_SET(i, &set);
	if (sched_setaffinity(0, sizeof(set), &set) < 0)
		perror("cannot pin to a processor");
}

void *bench_shared(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (p == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	return p;
}

double bench_pair(double (*self)(void *), void (*other)(void *), void *arg)
{
	double result;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid < 0) {
		perror("fork");
		exit(1);
	}
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		bench_pin(1);
		other(arg);
		_exit(0);
	}
	bench_pin(0);
	result = self(arg);
	waitpid(pid, NULL, 0);
	return result;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double median(double *sample, int n)
{
	qsort(sample, (size_t)n, sizeof(*sample), by_value);
	return n % 2 ? sample[n / 2] :
	    (sample[n / 2 - 1] + sample[n / 2]) / 2;
}

double quantile(const double *sample, int n, double part)
{
	return sample[(int)(part * (n - 1) + 0.5)];
}

void bench_check(int rc)
{
	if (rc >= 0)
		return;
	fprintf(stderr, "bench: %s\n", zcp_errmsg());
	exit(1);
}

/* ---- limits -------------------------------------------------------------------- */

enum { TRIPS = 200000 };

double bench_ping(_Atomic uint64_t *line, uint64_t trips)
{
	uint64_t at = atomic_load(line), t = bench_ns();

	for (uint64_t end = at + 2 * trips; at < end; at += 2) {
		atomic_store_explicit(line, at + 1, memory_order_release);
		while (atomic_load_explicit(line, memory_order_acquire) !=
		    at + 2)
			cpu_relax();
	}
	return (double)(bench_ns() - t) / (double)trips / 2;
}

void bench_pong(_Atomic uint64_t *line, uint64_t trips)
{
	uint64_t at = atomic_load(line) & ~UINT64_C(1);

	for (uint64_t end = at + 2 * trips; at < end; at += 2) {
		while (atomic_load_explicit(line, memory_order_acquire) !=
		    at + 1)
			cpu_relax();
		atomic_store_explicit(line, at + 2, memory_order_release);
	}
}

static double ping(void *line)
{
	return bench_ping(line, TRIPS);
}

static void pong(void *line)
{
	bench_pong(line, TRIPS);
}

double limit_ping_pong(void)
{
	void *line = bench_shared(4096);
	double ns = bench_pair(ping, pong, line);

	munmap(line, 4096);
	return ns;
}

void bench_fill(void *data, size_t size, uint64_t with)
{
	memset(data, (int)with, size);
}

uint64_t bench_sum(const void *data, size_t size)
{
	const uint64_t *word = data;
	uint64_t sum = 0, last = 0;

	for (size_t i = 0; i < size / sizeof(*word); i++)
		sum += word[i];
	memcpy(&last, (const char *)data + size - size % sizeof(last),
	    size % sizeof(last));
	return sum + last;
}

void bench_settle(void)
{
	const struct timespec pause = { 0, 50000000 };
	enum { NEAR_NS = 40, TRIES = 8 };

	for (int i = 0; i < TRIES && limit_ping_pong() > NEAR_NS; i++)
		nanosleep(&pause, NULL);
}

/* ---- a domain ---------------------------------------------------------------------- */

static pid_t daemon_pid;
static char runtime_dir[64];

void bench_daemon_start(const char *const *options)
{
	const char *argv[32] = { "zcp-routed", "-f", "-q" };
	const char *program = getenv("ZCP_ROUTED");
	zcp_options o = { .timeout = 0 };
	int n = 3;
	zcp *bus;

	strcpy(runtime_dir, "/tmp/zcp-bench-XXXXXX");
	if (mkdtemp(runtime_dir) == NULL) {
		perror("mkdtemp");
		exit(1);
	}
	setenv("ZCP_RUNTIME_DIR", runtime_dir, 1);
	setenv("ZCP_DOMAIN", strrchr(runtime_dir, '/') + 1, 1);
	for (; *options != NULL && n < 30; options++)
		argv[n++] = *options;
	argv[n] = NULL;
	fflush(NULL);
	if ((daemon_pid = fork()) == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		/* It says that it is ready, among our figures. */
		dup2(STDERR_FILENO, STDOUT_FILENO);
		execvp(program ? program : "zcp-routed", (char **)argv);
		perror("zcp-routed");
		_exit(127);
	}
	bench_check(zcp_open(&bus, &o));
	zcp_close(&bus);
}

void bench_daemon_stop(void)
{
	kill(daemon_pid, SIGTERM);
	waitpid(daemon_pid, NULL, 0);
	rmdir(runtime_dir);
}

void bench_meet(zcp_pub *pub, zcp_sub *sub)
{
	zcp_sub_info info;
	zcp_msg msg;
	int rc;

	do {
		bench_check(zcp_take(sub, &msg));
		bench_check(zcp_sub_status(sub, &info));
		bench_check(rc = zcp_pub_readers(pub));
		usleep(100);
	} while (rc == 0 || info.seen == 0);
}

/* ---- publishing, by subscribers ------------------------------------------------------ */

enum { PUBLISHES = 400000 };

/* A chunk each, to lossy readers that never read: every reclaim looks at all
 * of them, and at what they hold. */
double bench_publish_cost(int subscribers)
{
	zcp_pub_options po = { .stamp = ZCP_STAMP_NONE };
	zcp_sub_options so = { .lossy = ZCP_LOSSY, .publishers = 1 };
	zcp_sub **sub = calloc((size_t)subscribers, sizeof(*sub));
	zcp_chunk chunk;
	zcp_pub *pub;
	zcp *bus;
	uint64_t t = 0;

	bench_pin(0);
	bench_check(zcp_open(&bus, NULL));
	bench_check(zcp_offer(bus, "cost", &po, &pub));
	for (int i = 0; i < subscribers; i++)
		bench_check(zcp_subscribe(bus, "cost", &so, &sub[i]));
	for (int i = -PUBLISHES / 10; i < PUBLISHES; i++) {
		if (i == 0)
			t = bench_ns();
		bench_check(zcp_loan(pub, 64, &chunk, -1));
		*(volatile int *)chunk.data = i;
		bench_check(zcp_publish(pub, &chunk, 64, -1));
	}
	t = bench_ns() - t;
	for (int i = 0; i < subscribers; i++)
		zcp_unsubscribe(&sub[i]);
	zcp_stop_offer(&pub);
	zcp_close(&bus);
	free(sub);
	return (double)t / PUBLISHES;
}

/* ---- the table ------------------------------------------------------------------------- */

int bench_repeats(int argc, char **argv, int usual)
{
	int n = argc > 1 ? atoi(argv[1]) : usual;

	return n < 1 ? 1 : n > REPEATS_MOST ? REPEATS_MOST : n;
}

void row_add(struct row *row, double value, double limit)
{
	if (row->count == REPEATS_MOST)
		return;
	row->value[row->count] = value;
	row->limit[row->count] = limit;
	row->ratio[row->count++] = value / limit;
}

static bool for_programs(void)
{
	return getenv("ZCP_BENCH_TSV") != NULL;
}

void table_head(void)
{
	if (!for_programs())
		printf("%-40s %10s %-6s %-26s %10s   %5s     %s\n", "figure",
		    "median", "", "beside, in the same run", "median",
		    "ratio", "target");
}

void row_print(struct row *row)
{
	double v = median(row->value, row->count);
	double l = median(row->limit, row->count);
	double r = median(row->ratio, row->count);
	const char *target = row->target ? row->target : "";

	if (for_programs())
		printf("%s\t%s\t%.6g\t%.6g\t%.6g\t%s\t%.6g\t%.4g\t%.4g"
		    "\t%.4g\t%s\n", row->name, row->unit, v,
		    quantile(row->value, row->count, 0.25),
		    quantile(row->value, row->count, 0.75), row->against, l,
		    r, quantile(row->ratio, row->count, 0.25),
		    quantile(row->ratio, row->count, 0.75), target);
	else
		printf("%-40s %10.4g %-6s %-26s %10.4g   %5.2f x   %s\n",
		    row->name, v, row->unit, row->against, l, r, target);
	fflush(stdout);
}
