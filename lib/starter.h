/* starter.h - a private route daemon for clients that find none. */
#ifndef ZCP_STARTER_H
#define ZCP_STARTER_H

#include <stdint.h>

/*
 * Runs "zcp-routed --private" and waits until it says that a daemon serves,
 * this one or another client's: at most until `deadline` (clock_ns).  The
 * program is $ZCP_ROUTED, else zcp-routed in $PATH, else where it was
 * installed.  0, or -ZCP_E_NODAEMON with its own words as message;
 * -ZCP_E_BUSY: it failed, but may not the next time.
 */
int starter_start(const char *domain, uint64_t deadline);

#endif
