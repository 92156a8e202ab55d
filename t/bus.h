/* bus.h - a private domain with a daemon of its own, for one test. */
#ifndef T_BUS_H
#define T_BUS_H

#include "run.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "clock.h"
#include "routed/routed.h"
#include "zcp.h"

#define PATIENCE (10 * NS_PER_S)

extern char bus_domain[64];

/* Settings of a small domain; a test changes what it is about. */
struct settings bus_settings(void);

/* Starts the daemon and returns when it serves. */
pid_t bus_start(const struct settings *s);
/* Another one for the same domain, after a kill. */
pid_t bus_restart(const struct settings *s);
/* Ends it, and checks that nothing is left in /dev/shm. */
void bus_stop(void);
/* Ends it, and removes the segments that it must have left for history. */
void bus_stop_leaving_history(void);
/* The same, whatever it left. */
void bus_stop_leaving_damage(void);
/* Removes the segments that a killed daemon has left. */
void bus_remove(void);
/* Path of one of its segments. */
void bus_path(char path[SEGMENT_PATH], const char *part);
/* SIGTERM; its segments stay if something in them must. */
void bus_end_daemon(void);
/* kill -9 */
void bus_kill(void);

zcp *bus_open(const char *name);

/* Runs `role` in a process of its own; it exits 0 when role() returns. */
pid_t in_process(void (*role)(void *), void *arg);
/* Its assertion: rc >= 0, else the message and its end.  Check's own would
 * end in the wrong process. */
void need(int rc);
void join_process(pid_t pid);		/* it must exit with 0 */
void kill_process(pid_t pid);		/* kill -9, and it is gone */

/* Waits, without a fixed sleep, until condition(arg) is true. */
void eventually(bool (*condition)(void *), void *arg, const char *what);

/* One number of STATUS: the first "key=N", or that of pool `size`. */
uint64_t status_number(const char *key);
uint64_t pool_number(uint32_t size, const char *key);
/* Every chunk of every pool is free again. */
void all_chunks_come_back(void);

void must(int rc);			/* rc >= 0, else the message */

/* Waits for and takes one message. */
int take_wait(zcp_sub *sub, zcp_msg *msg);

#endif
