/*
 * top.h - zcp-top's screen without a terminal: what is seen, which keys do
 * what, and the lines that come of it.
 */
#ifndef ZCP_TOP_H
#define ZCP_TOP_H

#include "report.h"

enum pane { PANE_TOPICS, PANE_PARTICIPANTS, PANE_POOLS, PANES };

/* How a line looks. */
enum look_of { LINE_PLAIN, LINE_HEAD, LINE_TITLES, LINE_DIM, LINE_WARN,
	LINE_ALARM };

struct line {
	char text[512];
	enum look_of look;
	bool selected;
};

struct screen {
	struct line *line;
	int rows, columns;
};

enum { HISTORY = 16, FILTER = 64, COLUMNS_TEXT = 160 };

/* Rates of one topic, the newest last. */
struct history {
	char topic[192];
	double rate[HISTORY];
	bool seen;
};

struct top {
	enum pane pane;
	unsigned sort[PANES];		/* column; 0: as they come */
	bool reverse[PANES];
	char filter[FILTER];		/* "": all */
	char columns[COLUMNS_TEXT];	/* titles with commas; "": by importance */
	bool typing;			/* the filter is being typed, */
	bool typing_columns;		/* or the columns */
	bool paused, tree, help;
	bool detail;			/* all of the selected row is shown */
	long scroll, selected;		/* rows */
	unsigned shift;			/* columns that Right has gone past */
	double interval;		/* seconds between looks */
	bool unicode;			/* sparklines may be drawn with blocks */
	struct history *history;
	size_t histories;
};

/* Keys beyond those that are characters. */
enum { TOP_UP = 0x110000, TOP_DOWN, TOP_PAGE_UP, TOP_PAGE_DOWN, TOP_HOME,
	TOP_END, TOP_LEFT, TOP_RIGHT };

/* False: it is time to go. */
bool top_key(struct top *top, int key);

/* A new look was made: the rates go into the histories. */
void top_note(struct top *top, const struct report *r);

/* Fills screen->line, of rows lines of at most columns characters. */
void top_draw(struct top *top, const struct report *r, struct screen *screen);

/* The topics as they are sorted, filtered and unfolded. */
struct table *top_topics(const struct top *top, const struct report *r);

/* A column of a pane by its title, any case; -1: there is none such. */
int top_column(enum pane pane, const char *title);

/* The first of these titles, with commas between them, that no pane has; NULL:
 * there is none.  `word` has room for one. */
const char *top_unknown_column(const char *titles, char word[COLUMNS_TEXT]);

void top_free(struct top *top);

#endif
