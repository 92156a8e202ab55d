#include "table.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

void *or_die(void *p)
{
	if (p == NULL) {
		fputs("out of memory\n", stderr);
		exit(1);
	}
	return p;
}

unsigned text_width(const char *text)
{
	unsigned n = 0;

	for (; *text; text++)
		n += (*text & 0xc0) != 0x80;
	return n;
}

struct table *table_make(const struct column *column, unsigned columns)
{
	struct table *t = or_die(calloc(1, sizeof(*t)));

	t->column = column;
	t->columns = columns;
	t->width = or_die(calloc(columns, sizeof(*t->width)));
	for (unsigned i = 0; i < columns; i++)
		t->width[i] = text_width(column[i].title);
	return t;
}

void table_free(struct table *t)
{
	for (size_t i = 0; i < t->rows * t->columns; i++)
		free(t->cell[i]);
	free(t->cell);
	free(t->width);
	free(t);
}

void table_row(struct table *t)
{
	size_t n = t->rows * t->columns;

	t->cell = or_die(reallocarray(t->cell, n + t->columns,
	    sizeof(*t->cell)));
	memset(&t->cell[n], 0, t->columns * sizeof(*t->cell));
	t->rows++;
	t->at = 0;
}

void table_cell(struct table *t, const char *format, ...)
{
	unsigned i = t->at++, width;
	char *text;
	va_list ap;

	va_start(ap, format);
	if (vasprintf(&text, format, ap) < 0)
		text = or_die(NULL);
	va_end(ap);
	width = text_width(text);
	if (width > t->width[i])
		t->width[i] = width;
	t->cell[(t->rows - 1) * t->columns + i] = text;
}

void table_line(const struct table *t, long row, char *line, size_t size)
{
	size_t at = 0;

	for (unsigned i = 0; i < t->columns; i++) {
		const char *text = row == TABLE_TITLES ? t->column[i].title :
		    t->cell[(size_t)row * t->columns + i];
		int pad;

		text = text == NULL ? "" : text;
		pad = (int)(t->width[i] - text_width(text));
		at += (size_t)snprintf(line + at, at < size ? size - at : 0,
		    "%s%*s%s%*s", i ? "  " : "",
		    t->column[i].right ? pad : 0, "", text,
		    t->column[i].right ? 0 : pad, "");
		if (at >= size)
			at = size - 1;
	}
	while (at > 0 && line[at - 1] == ' ')
		line[--at] = '\0';
}

void table_print(const struct table *t, FILE *to)
{
	char line[4096];

	if (t->rows == 0)
		return;
	for (long row = TABLE_TITLES; row < (long)t->rows; row++) {
		table_line(t, row, line, sizeof(line));
		fprintf(to, "%s\n", line);
	}
}
