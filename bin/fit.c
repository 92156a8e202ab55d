#include "fit.h"

#include <stdlib.h>
#include <string.h>

enum {
	GAP = 2,			/* between two columns */
	NAME_LEAST = 20,		/* of column 0, */
	NAME_NARROW = 12,		/* and on a screen narrower than */
	NARROW = 60,
	LAST_LEAST = 10,		/* of a last column that is cut */
};

/* ---- choosing ---------------------------------------------------------------- */

static unsigned whole_width(const struct table *t)
{
	unsigned n = 0;

	for (unsigned i = 0; i < t->columns; i++)
		n += t->width[i] + (i ? GAP : 0);
	return n;
}

static unsigned name_least(const struct table *t, unsigned room)
{
	unsigned least = room < NARROW ? NAME_NARROW : NAME_LEAST;

	return t->width[0] < least ? t->width[0] : least;
}

static bool has(const struct fit *fit, unsigned column)
{
	for (unsigned i = 0; i < fit->columns; i++)
		if (fit->column[i] == column)
			return true;
	return false;
}

/* Takes the column in if there is room: *left shrinks. */
static bool take_in(struct fit *fit, const struct table *t, unsigned column,
    unsigned *left)
{
	unsigned width = column < t->columns ? t->width[column] : 0;
	bool cut = column + 1 == t->columns && !t->column[column].right &&
	    *left >= GAP + LAST_LEAST;

	if (column >= t->columns || fit->columns == FIT_MOST ||
	    has(fit, column) || (*left < GAP + width && !cut))
		return false;
	if (*left < GAP + width)
		width = *left - GAP;
	fit->column[fit->columns] = column;
	fit->width[fit->columns++] = width;
	*left -= GAP + width;
	return true;
}

static void in_table_order(struct fit *fit)
{
	for (unsigned i = 1; i < fit->columns; i++)
		for (unsigned k = i; k > 1 &&
		    fit->column[k] < fit->column[k - 1]; k--) {
			unsigned column = fit->column[k];
			unsigned width = fit->width[k];

			fit->column[k] = fit->column[k - 1];
			fit->width[k] = fit->width[k - 1];
			fit->column[k - 1] = column;
			fit->width[k - 1] = width;
		}
}

void fit_columns(struct fit *fit, const struct table *t,
    const struct choice *choice, unsigned room)
{
	unsigned least = name_least(t, room);
	unsigned left = room > least ? room - least : 0;

	*fit = (struct fit){ .columns = 1, .width = { least } };
	if (!choice->ordered && choice->shift == 0 && whole_width(t) <= room)
		left = room;
	if (choice->shift > 0) {
		if (choice->count > 0)
			take_in(fit, t, choice->by[0], &left);
		for (unsigned i = 1 + choice->shift; i < t->columns; i++)
			if (!take_in(fit, t, i, &left) && !has(fit, i))
				break;
	} else {
		for (unsigned i = 0; i < choice->count; i++)
			take_in(fit, t, choice->by[i], &left);
	}
	if (!choice->ordered)
		in_table_order(fit);
	/* What nobody needs is the name's. */
	fit->width[0] = least + left < t->width[0] ? least + left :
	    t->width[0];
}

/* ---- lines ---------------------------------------------------------------------- */

/* As many characters of the text, from its begin or its end. */
static const char *characters(const char *text, unsigned n)
{
	for (; *text; text++)
		if ((*text & 0xc0) != 0x80 && n-- == 0)
			break;
	return text;
}

/* Shortened in its middle: both ends of a name tell it from others. */
static void shorten(char *to, size_t size, const char *text, unsigned width,
    bool unicode)
{
	unsigned all = text_width(text), front = width / 2;
	const char *middle;

	if (all <= width || width < 3) {
		snprintf(to, size, "%.*s", (int)(characters(text, width) -
		    text), text);
		return;
	}
	middle = characters(text, front);
	snprintf(to, size, "%.*s%s%s", (int)(middle - text), text,
	    unicode ? "\u2026" : "~", characters(text, all - (width - front -
	    1)));
}

void fit_line(const struct fit *fit, const struct table *t, long row,
    bool unicode, char *line, size_t size)
{
	char cell[512];
	size_t at = 0;

	for (unsigned i = 0; i < fit->columns; i++) {
		unsigned column = fit->column[i];
		const char *text = row == TABLE_TITLES ?
		    t->column[column].title :
		    t->cell[(size_t)row * t->columns + column];
		bool right = t->column[column].right;
		int pad;

		text = text == NULL ? "" : text;
		if (i == 0)
			shorten(cell, sizeof(cell), text, fit->width[i],
			    unicode);
		else
			snprintf(cell, sizeof(cell), "%.*s", (int)(characters(
			    text, fit->width[i]) - text), text);
		pad = (int)(fit->width[i] - text_width(cell));
		at += (size_t)snprintf(line + at, at < size ? size - at : 0,
		    "%s%*s%s%*s", i ? "  " : "", right ? pad : 0, "", cell,
		    right ? 0 : pad, "");
		if (at >= size)
			at = size - 1;
	}
	while (at > 0 && line[at - 1] == ' ')
		line[--at] = '\0';
}
