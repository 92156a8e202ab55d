/*
 * peer.h - one message system as a benchmark meets it: two ends in two
 * processes, each of which says messages on one channel and hears the other.
 */
#ifndef T_BENCH_PEER_H
#define T_BENCH_PEER_H

#include <stdbool.h>
#include <stddef.h>

extern const char *const peer_name;

/* In a process of its own; returns when the other end is there. */
void peer_open(const char *out, const char *in);
void peer_close(void);

/* Waits for room, loses nothing. */
void peer_say(const void *data, size_t size);

/* Is a message there?  Then it is read and given back. */
bool peer_hear(void);

/* "ipc://" and a socket of that name where this run has its own. */
void peer_address(char *text, size_t size, const char *name);

void peer_failed(const char *what);

#endif
