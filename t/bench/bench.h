/*
 * bench.h - what the benchmarks share: a pair of pinned processes, a clock,
 * and the raw limits of the machine measured beside each figure.
 */
#ifndef T_BENCH_H
#define T_BENCH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "zcp.h"

uint64_t bench_ns(void);
enum { BENCH_ANYWHERE = -1 };
void bench_pin(int cpu);

/* Zeroed memory that a forked child shares. */
void *bench_shared(size_t size);

/* Runs `other` on the second processor in a child process and `self` on the
 * first; both share `arg`.  Returns what self returns. */
double bench_pair(double (*self)(void *), void (*other)(void *), void *arg);

/* Two ends of a bare cache-line ping-pong: one line (0 at first), pause.  The
 * one-way time, ns. */
double bench_ping(_Atomic uint64_t *line, uint64_t trips);
void bench_pong(_Atomic uint64_t *line, uint64_t trips);

/* The same between two processes made for it. */
double limit_ping_pong(void);

/* Writes and reads every byte of a payload, as any user of it would. */
void bench_fill(void *data, size_t size, uint64_t with);
uint64_t bench_sum(const void *data, size_t size);

/* Waits a while for the two processors to be near each other: on a virtual
 * machine they drift apart for seconds, and every figure with them. */
void bench_settle(void);

/* A private daemon with these options, in a domain of its own. */
void bench_daemon_start(const char *const *options);
void bench_daemon_stop(void);
void bench_check(int rc);	/* rc >= 0, or the message and exit */

/* Sorts the sample. */
double median(double *sample, int n);
/* The value below which `part` of a sorted sample lie. */
double quantile(const double *sample, int n, double part);

/* Both ends are readers, too: a reader joins when it takes, so each does until
 * it has joined the other and was joined.  Nothing may be published yet. */
void bench_meet(zcp_pub *pub, zcp_sub *sub);

/* ns to loan and publish a chunk that so many lossy readers are passed over
 * by, who never read. */
double bench_publish_cost(int subscribers);

/* ---- the table ------------------------------------------------------------ */

enum { REPEATS_MOST = 999 };

/*
 * One figure, measured several times beside another in the same run.  Printed
 * for people, or, where $ZCP_BENCH_TSV is set, for t/bench/run: name, unit,
 * median, quartiles, what it is beside, its median, the ratio, its quartiles,
 * the target; by tabs.
 */
struct row {
	const char *name, *unit;
	const char *against;		/* the limit, or the same with one */
	const char *target;
	double value[REPEATS_MOST], limit[REPEATS_MOST], ratio[REPEATS_MOST];
	int count;
};

/* How often, from the command line; the default if it is not there. */
int bench_repeats(int argc, char **argv, int usual);
void row_add(struct row *row, double value, double limit);
void table_head(void);
void row_print(struct row *row);

#endif
