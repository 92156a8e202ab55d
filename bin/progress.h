/* progress.h - the line that says how far it has come, on a terminal. */
#ifndef ZCP_PROGRESS_H
#define ZCP_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

/* Shown from now on if stderr is a terminal; `total` bytes are expected, 0:
 * nobody knows. */
void progress_begin(uint64_t total);
bool progress_shown(void);

/* Takes the line away, as something else is written to the terminal. */
void progress_give_way(void);

/* That much more has been published. */
void progress_add(uint64_t messages, uint64_t bytes);
/* What it waits for; NULL: for nothing (any more). */
void progress_waits(const char *what);
/* Draws the line anew when it is time for that. */
void progress_tick(void);
/* The last state, and a newline. */
void progress_end(void);

#endif
