/*
 * scene.h - the usual set: a daemon, a bus, and what is said on topic "t".
 */
#ifndef T_SCENE_H
#define T_SCENE_H

#include "bus.h"

/* Every test runs in each: 0 as on a new kernel, 1 symmetric fences, 2 no
 * futex_waitv. */
enum { MODES = 3 };
#define in_each_mode(tcase, test) tcase_add_loop_test(tcase, test, 0, MODES)

extern zcp *bus;

/* A small domain in that mode; a test changes what it is about. */
struct settings mode_settings(int mode);
void start(int mode);
/* Closes the bus; every chunk must come back, and nothing be left. */
void stop(void);

zcp_pub *offer(uint32_t slots, uint32_t history);
zcp_sub *subscribe(int lossy);

/* A message of `size` bytes that begins with a number. */
void send_number(zcp_pub *pub, uint64_t n, size_t size);
uint64_t number(const zcp_msg *msg);
/* The next message, waited for and released, has this number. */
void expect(zcp_sub *sub, uint64_t n);

/* A publisher of history, six messages in chunks and in slots, a chunk on
 * loan, and a reader who holds the first: a bit of everything. */
struct busy {
	zcp_pub *pub;
	zcp_sub *sub;
	zcp_chunk chunk;
	zcp_msg msg;
};
void start_busy(struct busy *b, int mode);
void stop_busy(struct busy *b);

#endif
