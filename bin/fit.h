/* fit.h - the columns of a table that a screen has room for. */
#ifndef ZCP_FIT_H
#define ZCP_FIT_H

#include "table.h"

enum { FIT_MOST = 16 };

struct fit {
	unsigned column[FIT_MOST];	/* as they are shown; the first is 0 */
	unsigned width[FIT_MOST];
	unsigned columns;
};

/* What is to be shown. */
struct choice {
	const unsigned *by;		/* columns by importance, without 0 */
	unsigned count;
	bool ordered;			/* show them in that order, not the table's */
	unsigned shift;			/* skip so many of the table's columns; the
					   most important one stays */
};

/*
 * Column 0 is always there, and gets narrower before any other goes.  Where
 * the whole table fits, all of it is shown.
 */
void fit_columns(struct fit *fit, const struct table *t,
    const struct choice *choice, unsigned room);

/* One line, as table_line() makes it. */
void fit_line(const struct fit *fit, const struct table *t, long row,
    bool unicode, char *line, size_t size);

#endif
