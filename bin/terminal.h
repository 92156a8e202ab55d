/* terminal.h - a screen of top.h on a real terminal, through curses. */
#ifndef ZCP_TERMINAL_H
#define ZCP_TERMINAL_H

#include "top.h"

/* Can the terminal on standard output show a screen? */
bool terminal_able(void);

/* Takes the terminal over; `colored`: with colours, where it has any.  False:
 * it is not one that curses knows, and nothing was changed. */
bool terminal_open(bool colored);
void terminal_close(void);

/* Does it show more than ASCII? */
bool terminal_unicode(void);

/* Room for as many lines as there are now; the lines stay the terminal's. */
struct screen *terminal_screen(void);
void terminal_draw(const struct screen *screen);

/* A key as top_key() wants it; 0 when there is none within so many
 * milliseconds; -1 when the size has changed. */
int terminal_key(int ms);

#endif
