/* table.h - rows of text under titles, as wide as they must be; for paper and
 * for screens. */
#ifndef ZCP_TABLE_H
#define ZCP_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct column {
	const char *title;
	bool right;			/* numbers: to the right */
};

struct table {
	const struct column *column;
	unsigned columns;
	char **cell;			/* rows * columns; NULL: empty */
	size_t rows;
	unsigned at;			/* the cell of the last row that is next */
	unsigned *width;
};

/* An empty one; `column` is not copied.  Ends the program without memory. */
struct table *table_make(const struct column *column, unsigned columns);
void table_free(struct table *t);

void table_row(struct table *t);
/* The next cell of the row; "" leaves it empty. */
void table_cell(struct table *t, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

enum { TABLE_TITLES = -1 };
/* One line, without blanks or a newline at its end. */
void table_line(const struct table *t, long row, char *line, size_t size);

/* All of it; nothing when there is no row. */
void table_print(const struct table *t, FILE *to);

/* `p`, or the end of the program where there was no memory. */
void *or_die(void *p);

/* Columns that the text takes on a screen (UTF-8). */
unsigned text_width(const char *text);

#endif
