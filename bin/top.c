#include "top.h"

#include <stdarg.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include "fit.h"
#include "units.h"

enum { SPARK = HISTORY + 1, PAGE = 10 };

/* Columns by importance, where there is not room for all; see topic_table(),
 * report_participants() and report_pools(). */
static const unsigned topic_columns[] = { 10, 3, 7, 9, 4, 6, 1, 2, 8, 5 };
static const unsigned participant_columns[] = { 3, 4, 1, 8, 7, 5, 6, 2, 9 };
static const unsigned pool_columns[] = { 1, 3, 2, 5, 4, 6, 7 };

/* ---- keys ------------------------------------------------------------------------- */

static unsigned columns_of(enum pane pane);

/* A key of a line that is being typed; false: the line is complete. */
static bool type_text(char *text, size_t size, int key)
{
	size_t n = strlen(text);

	if (key == '\r' || key == '\n')
		return false;
	if (key == 27) {
		text[0] = '\0';
		return false;
	}
	if ((key == 127 || key == 8) && n > 0) {
		text[n - 1] = '\0';
	} else if (key >= ' ' && key < 127 && n + 1 < size) {
		text[n] = (char)key;
		text[n + 1] = '\0';
	}
	return true;
}

static void to_first_row(struct top *top)
{
	top->scroll = top->selected = 0;
}

static void show_pane(struct top *top, unsigned pane)
{
	top->pane = pane % PANES;
	top->shift = 0;
	to_first_row(top);
}

static void change_interval(struct top *top, double by)
{
	double interval = top->interval * by;

	if (interval >= 0.1 && interval <= 60)
		top->interval = interval;
}

static void move(struct top *top, int key)
{
	switch (key) {
	case TOP_UP: top->selected--; break;
	case TOP_DOWN: top->selected++; break;
	case TOP_PAGE_UP: top->selected -= PAGE; break;
	case TOP_PAGE_DOWN: top->selected += PAGE; break;
	case TOP_HOME: top->selected = 0; break;
	case TOP_END: top->selected = 1L << 30; break;
	case TOP_LEFT: top->shift -= top->shift > 0; break;
	case TOP_RIGHT: top->shift += top->shift + 2 <
	    columns_of(top->pane); break;
	}
	if (top->selected < 0)
		top->selected = 0;
}

static void begin_typing(struct top *top, bool columns)
{
	(columns ? top->columns : top->filter)[0] = '\0';
	top->typing = !columns;
	top->typing_columns = columns;
}

bool top_key(struct top *top, int key)
{
	if (top->typing) {
		top->typing = type_text(top->filter, sizeof(top->filter), key);
		to_first_row(top);
		return true;
	}
	if (top->typing_columns) {
		top->typing_columns = type_text(top->columns,
		    sizeof(top->columns), key);
		top->shift = 0;
		return true;
	}
	if (top->help || top->detail) {
		top->help = top->detail = false;
		return key != 'q';
	}
	switch (key) {
	case 'q': return false;
	case 'h': case '?': top->help = true; break;
	case '1': case '2': case '3': show_pane(top, (unsigned)key - '1'); break;
	case '\t': show_pane(top, top->pane + 1u); break;
	case 's': top->sort[top->pane] = (top->sort[top->pane] + 1) %
	    columns_of(top->pane); break;
	case 'r': top->reverse[top->pane] = !top->reverse[top->pane]; break;
	case 't': top->tree = !top->tree; break;
	case 'p': case ' ': top->paused = !top->paused; break;
	case '/': begin_typing(top, false); break;
	case 'c': begin_typing(top, true); break;
	case '\r': case '\n': top->detail = true; break;
	case '+': change_interval(top, 0.5); break;
	case '-': change_interval(top, 2); break;
	default: move(top, key); break;
	}
	return true;
}

/* ---- histories --------------------------------------------------------------------- */

static struct history *history_of(struct top *top, const char *topic)
{
	struct history *bigger;

	for (size_t i = 0; i < top->histories; i++)
		if (strcmp(top->history[i].topic, topic) == 0)
			return &top->history[i];
	bigger = reallocarray(top->history, top->histories + 1,
	    sizeof(*bigger));
	if (bigger == NULL)
		return NULL;
	top->history = bigger;
	memset(&bigger[top->histories], 0, sizeof(*bigger));
	snprintf(bigger[top->histories].topic, sizeof(bigger->topic), "%s",
	    topic);
	return &bigger[top->histories++];
}

void top_note(struct top *top, const struct report *r)
{
	size_t kept = 0;

	for (size_t i = 0; i < top->histories; i++)
		top->history[i].seen = false;
	for (size_t i = 0; i < r->now->topics; i++) {
		struct history *h = history_of(top, r->now->topic[i].name);

		if (h == NULL)
			continue;
		memmove(h->rate, h->rate + 1, sizeof(h->rate) -
		    sizeof(h->rate[0]));
		h->rate[HISTORY - 1] = r->topic[i].messages;
		h->seen = true;
	}
	for (size_t i = 0; i < top->histories; i++)
		if (top->history[i].seen)
			top->history[kept++] = top->history[i];
	top->histories = kept;
}

void top_free(struct top *top)
{
	free(top->history);
}

/* Eight heights, of the highest that is shown. */
static void spark(const struct top *top, const char *topic, char *text)
{
	static const char *const blocks[] = { " ", "\u2581", "\u2582",
	    "\u2583", "\u2584", "\u2585", "\u2586", "\u2587", "\u2588" };
	static const char *const marks[] = { " ", ".", ".", ":", ":", "-",
	    "=", "+", "#" };
	const struct history *h = NULL;
	double most = 0;

	*text = '\0';
	for (size_t i = 0; i < top->histories && h == NULL; i++)
		if (strcmp(top->history[i].topic, topic) == 0)
			h = &top->history[i];
	for (int i = 0; h != NULL && i < HISTORY; i++)
		if (h->rate[i] > most)
			most = h->rate[i];
	for (int i = 0; most > 0 && i < HISTORY; i++) {
		int level = h->rate[i] <= 0 ? 0 :
		    1 + (int)(h->rate[i] / most * 7);

		strcat(text, (top->unicode ? blocks : marks)[level]);
	}
}

/* ---- rows, sorted and filtered ------------------------------------------------------- */

static unsigned columns_of(enum pane pane)
{
	return pane == PANE_TOPICS ? 10 : pane == PANE_PARTICIPANTS ? 10 : 8;
}

static struct table *empty_table(enum pane pane)
{
	static const zcp_snapshot nothing = { .time = 0 };
	static const struct report r = { .now = &nothing };

	return pane == PANE_TOPICS ? topic_table() :
	    pane == PANE_PARTICIPANTS ? report_participants(&r) :
	    report_pools(&r);
}

int top_column(enum pane pane, const char *title)
{
	struct table *t = empty_table(pane);
	int found = -1;

	for (unsigned i = 0; i < t->columns && found < 0; i++)
		if (strcasecmp(t->column[i].title, title) == 0)
			found = (int)i;
	table_free(t);
	return found;
}

/* The titles of top->columns that this table has. */
static unsigned chosen_columns(const char *titles, const struct table *t,
    unsigned by[FIT_MOST])
{
	char copy[COLUMNS_TEXT], *word, *rest = copy;
	unsigned n = 0;

	snprintf(copy, sizeof(copy), "%s", titles);
	while (n < FIT_MOST && (word = strsep(&rest, ",")) != NULL)
		for (unsigned i = 1; i < t->columns; i++)
			if (strcasecmp(t->column[i].title, word) == 0)
				by[n++] = i;
	return n;
}

const char *top_unknown_column(const char *titles, char word[COLUMNS_TEXT])
{
	char copy[COLUMNS_TEXT], *each, *rest = copy;

	snprintf(copy, sizeof(copy), "%s", titles);
	while ((each = strsep(&rest, ",")) != NULL) {
		bool known = false;

		for (int pane = 0; pane < PANES && !known; pane++)
			known = top_column((enum pane)pane, each) > 0;
		if (!known) {
			snprintf(word, COLUMNS_TEXT, "%s", each);
			return word;
		}
	}
	return NULL;
}

/* What a pane shows, as chosen or by importance. */
static void fit_pane(const struct top *top, const struct table *t,
    unsigned room, struct fit *fit)
{
	static const struct choice by_importance[PANES] = {
	    { topic_columns, sizeof(topic_columns) / sizeof(unsigned), false, 0 },
	    { participant_columns, sizeof(participant_columns) /
	    sizeof(unsigned), false, 0 },
	    { pool_columns, sizeof(pool_columns) / sizeof(unsigned), false, 0 },
	};
	struct choice choice = by_importance[top->pane];
	unsigned chosen[FIT_MOST];
	unsigned n = chosen_columns(top->columns, t, chosen);

	if (n > 0)
		choice = (struct choice){ chosen, n, true, 0 };
	choice.shift = top->shift;
	fit_columns(fit, t, &choice, room);
}

/* A word, or a pattern. */
static bool passes(const struct top *top, const char *text)
{
	return top->filter[0] == '\0' || strcasestr(text, top->filter) != NULL ||
	    fnmatch(top->filter, text, 0) == 0;
}

struct row {
	uint32_t index;			/* in the snapshot */
	double number;
	const char *text;
};

static bool descending;

static int by_key(const void *a, const void *b)
{
	const struct row *x = a, *y = b;
	int order = x->text != NULL ? strcmp(x->text, y->text) :
	    (x->number < y->number) - (x->number > y->number);

	if (order == 0)
		return (x->index > y->index) - (x->index < y->index);
	return descending ? -order : order;
}

/* What the columns of topic_table() are sorted by; numbers: largest first. */
static void topic_key(const struct report *r, unsigned column,
    struct row *row)
{
	const zcp_topic_facts *f = &r->now->topic[row->index];
	const struct sum *sum = &r->topic[row->index];
	const double keys[] = { 0, f->publishers, f->subscribers,
	    sum->messages, sum->bytes, sum->interval_mean,
	    (double)sum->delay_p99, (double)sum->lag, sum->full,
	    (double)sum->lost };

	if (column == 0 || column >= sizeof(keys) / sizeof(keys[0]))
		row->text = f->name;
	else
		row->number = keys[column];
}

static struct table *topics(const struct top *top, const struct report *r,
    uint32_t **of)
{
	const zcp_snapshot *s = r->now;
	struct row *row = calloc(s->topics + 1, sizeof(*row));
	struct table *t = topic_table();
	uint32_t n = 0;

	*of = calloc(s->topics + s->ports + 1, sizeof(**of));
	for (uint32_t i = 0; row != NULL && *of != NULL && i < s->topics; i++)
		if (passes(top, s->topic[i].name)) {
			row[n].index = i;
			topic_key(r, top->sort[PANE_TOPICS], &row[n++]);
		}
	descending = top->reverse[PANE_TOPICS];
	if (n > 0)
		qsort(row, n, sizeof(*row), by_key);
	for (uint32_t i = 0; i < n; i++) {
		(*of)[t->rows] = row[i].index + 1;
		topic_row(t, r, row[i].index);
		for (size_t p = 0; top->tree && p < s->ports; p++)
			if (s->port[p].topic == row[i].index)
				topic_port_row(t, r, p);
	}
	free(row);
	return t;
}

struct table *top_topics(const struct top *top, const struct report *r)
{
	uint32_t *of;
	struct table *t = topics(top, r, &of);

	free(of);
	return t;
}

/* ---- lines --------------------------------------------------------------------------- */

__attribute__((format(printf, 3, 4)))
static void put(struct screen *screen, int row, const char *format, ...)
{
	va_list ap;

	if (row >= screen->rows)
		return;
	va_start(ap, format);
	vsnprintf(screen->line[row].text, sizeof(screen->line[row].text),
	    format, ap);
	va_end(ap);
}

/* As many characters as the screen is wide, not bytes. */
static void cut(char *text, int columns)
{
	int n = 0;

	for (; *text; text++)
		if ((*text & 0xc0) != 0x80 && n++ == columns) {
			*text = '\0';
			return;
		}
}

static double total(const struct report *r, bool bytes)
{
	double sum = 0;

	for (size_t i = 0; i < r->now->topics; i++)
		sum += bytes ? r->topic[i].bytes : r->topic[i].messages;
	return sum;
}

static void draw_head(const struct top *top, const struct report *r,
    struct screen *screen)
{
	static const char *const panes[] = { "topics", "participants",
	    "pools" };
	const zcp_domain_facts *d = &r->now->domain;
	char daemon[32] = "no daemon", all[128] = "";

	if (d->daemon != 0)
		snprintf(daemon, sizeof(daemon), "daemon %d", d->daemon);
	put(screen, 0, "zcp-top  domain %s, %s, %zu participants, %zu topics, "
	    "%zu ports, %s   every %.3g s%s", d->name, daemon,
	    r->now->participants, r->now->topics, r->now->ports,
	    show_bytes((double)d->bytes), top->interval,
	    top->paused ? "  PAUSED" : "");
	put(screen, 1, "%s msg/s  %s/s   died %llu  demoted %llu  slow %llu  "
	    "long holds %llu  damaged %llu", show_count(total(r, false)),
	    show_bytes(total(r, true)), (unsigned long long)d->deaths,
	    (unsigned long long)d->demotions, (unsigned long long)d->slow,
	    (unsigned long long)d->long_holds,
	    (unsigned long long)d->damaged);
	for (int i = 0; i < PANES; i++)
		sprintf(all + strlen(all), i == (int)top->pane ? "[%d %s] " :
		    " %d %s  ", i + 1, panes[i]);
	if (top->typing_columns)
		put(screen, 2, "%s  columns: %s_", all, top->columns);
	else if (top->typing || top->filter[0] != '\0')
		put(screen, 2, "%s  filter: %s%s", all, top->filter,
		    top->typing ? "_" : "");
	else
		put(screen, 2, "%s  h help  q quit", all);
	if (screen->rows > 2)
		screen->line[0].look = screen->line[1].look =
		    screen->line[2].look = LINE_HEAD;
}

static enum look_of look_of_mark(const char *mark)
{
	return strcmp(mark, "dead") == 0 || strcmp(mark, "blocked") == 0 ||
	    strcmp(mark, "died") == 0 ? LINE_ALARM :
	    strcmp(mark, "slow") == 0 || strcmp(mark, "stalled") == 0 ||
	    strcmp(mark, "demoted") == 0 ? LINE_WARN :
	    strcmp(mark, "retained") == 0 || strcmp(mark, "draining") == 0 || strcmp(mark, "left") == 0 ?
	    LINE_DIM : LINE_PLAIN;
}

static const char *cell(const struct table *t, size_t row, unsigned column)
{
	const char *text = t->cell[row * t->columns + column];

	return text == NULL ? "" : text;
}

/* The selected row stays on the screen. */
static void follow_selection(struct top *top, long rows, long room)
{
	long most = rows - room;

	if (top->selected >= rows)
		top->selected = rows > 0 ? rows - 1 : 0;
	if (top->scroll > top->selected)
		top->scroll = top->selected;
	if (room > 0 && top->scroll < top->selected - room + 1)
		top->scroll = top->selected - room + 1;
	if (top->scroll > most)
		top->scroll = most > 0 ? most : 0;
}

/* `mark`: the column that says how a row is. */
static void draw_table(struct top *top, const struct table *t, unsigned mark,
    struct screen *screen, int from)
{
	long room = screen->rows - from - 1;
	struct fit fit;

	follow_selection(top, (long)t->rows, room);
	if (from >= screen->rows)
		return;
	fit_pane(top, t, (unsigned)screen->columns, &fit);
	fit_line(&fit, t, TABLE_TITLES, top->unicode, screen->line[from].text,
	    sizeof(screen->line[from].text));
	screen->line[from].look = LINE_TITLES;
	for (long i = 0; i < room && i + top->scroll < (long)t->rows; i++) {
		struct line *line = &screen->line[from + 1 + i];

		fit_line(&fit, t, i + top->scroll, top->unicode, line->text,
		    sizeof(line->text));
		line->look = look_of_mark(cell(t, (size_t)(i + top->scroll),
		    mark));
		line->selected = i + top->scroll == top->selected;
	}
}

/* Every column of the selected row, a line each. */
static void draw_detail(struct top *top, const struct table *t,
    struct screen *screen)
{
	unsigned width = 0;
	int row = 4;

	follow_selection(top, (long)t->rows, screen->rows - 5);
	for (unsigned i = 0; i < t->columns; i++)
		if (text_width(t->column[i].title) > width)
			width = text_width(t->column[i].title);
	for (unsigned i = 0; t->rows > 0 && i < t->columns; i++)
		put(screen, row++, "%-*s  %s", (int)width,
		    t->column[i].title, cell(t, (size_t)top->selected, i));
	put(screen, row + 1, t->rows > 0 ? "Any key goes back." :
	    "There is no row.  Any key goes back.");
}

/* Behind the rows, where there is room. */
static void draw_sparks(const struct top *top, const struct report *r,
    const uint32_t *of, size_t rows, struct screen *screen, int from)
{
	int at = screen->columns - SPARK;

	for (long i = 0; i + top->scroll < (long)rows &&
	    from + 1 + i < screen->rows; i++) {
		struct line *line = &screen->line[from + 1 + i];
		uint32_t topic = of[i + top->scroll];
		char text[HISTORY * 4 + 1];
		int width = (int)text_width(line->text);

		if (topic == 0 || width >= at)
			continue;
		spark(top, r->now->topic[topic - 1].name, text);
		snprintf(line->text + strlen(line->text),
		    sizeof(line->text) - strlen(line->text), "%*s%s",
		    at - width, "", text);
	}
}

static void draw_topics(struct top *top, const struct report *r,
    struct screen *screen, int from)
{
	uint32_t *of;
	struct table *t = topics(top, r, &of);

	if (top->detail)
		draw_detail(top, t, screen);
	else
		draw_table(top, t, t->columns - 1, screen, from);
	if (of != NULL && !top->detail)
		draw_sparks(top, r, of, t->rows, screen, from);
	free(of);
	table_free(t);
}

/* The rows of another table, by its own cells. */
static struct table *sorted(const struct top *top, struct table *all)
{
	struct table *t = table_make(all->column, all->columns);
	struct row *row = calloc(all->rows + 1, sizeof(*row));
	unsigned column = top->sort[top->pane] % all->columns;
	uint32_t n = 0;

	for (uint32_t i = 0; row != NULL && i < all->rows; i++) {
		const char *key = cell(all, i, column);

		if (!passes(top, cell(all, i, 0)) &&
		    !passes(top, cell(all, i, all->columns - 1)))
			continue;
		row[n].index = i;
		if (all->column[column].right)
			row[n++].number = strtod(key, NULL);
		else
			row[n++].text = key;
	}
	descending = top->reverse[top->pane];
	if (n > 0)
		qsort(row, n, sizeof(*row), by_key);
	for (uint32_t i = 0; i < n; i++) {
		table_row(t);
		for (unsigned k = 0; k < all->columns; k++)
			table_cell(t, "%s", cell(all, row[i].index, k));
	}
	free(row);
	table_free(all);
	return t;
}

/* "[##++......|...]": published, loaned, free, and the most there was. */
static void pool_bar(const zcp_pool_facts *f, char *text, unsigned width)
{
	double each = f->count ? (double)width / f->count : 0;

	text[0] = '[';
	for (unsigned i = 0; i < width; i++)
		text[1 + i] = i < f->published * each ? '#' :
		    i < (f->published + f->loaned) * each ? '+' : '.';
	if (f->most > 0 && f->most <= f->count)
		text[(unsigned)((f->most - 1) * each) + 1] = '|';
	strcpy(text + 1 + width, "]");
}

static void draw_pools(struct top *top, const struct report *r,
    struct screen *screen, int from)
{
	struct table *t = report_pools(r);
	int room;

	if (top->detail) {
		draw_detail(top, t, screen);
		table_free(t);
		return;
	}
	draw_table(top, t, 0, screen, from);
	for (size_t i = 0; i < t->rows && from + 1 + (int)i < screen->rows;
	    i++) {
		struct line *line = &screen->line[from + 1 + i];
		char text[BAR_MOST + 3];
		int width = (int)text_width(line->text);

		room = screen->columns - width - 5;
		if (room < 8)
			continue;
		pool_bar(&r->now->pool[i], text, room > BAR_MOST ? BAR_MOST :
		    (unsigned)room);
		snprintf(line->text + width, sizeof(line->text) -
		    (size_t)width, "  %s", text);
		if (r->now->pool[i].free == 0)
			line->look = LINE_ALARM;
	}
	put(screen, from + 2 + (int)t->rows, "# published  + loaned  . free  "
	    "| the most in use at once");
	table_free(t);
}

static void draw_help(struct screen *screen)
{
	static const char *const lines[] = {
	    "zcp-top shows a domain at work and touches nothing.", "",
	    "1 2 3, Tab   topics, participants, pools",
	    "t            topics with their publishers (>) and readers (<)",
	    "s, r         sort by the next column; the other way round",
	    "/            filter by a word or a pattern; Esc: everything",
	    "p, Space     pause",
	    "+, -         look twice as often; half as often",
	    "Up, Down, Page Up, Page Down, Home, End",
	    "             select a row; Enter: all of it",
	    "Left, Right  other columns, where there is no room for all",
	    "c            choose columns: titles with commas; Esc: by importance",
	    "h, ?         this text",
	    "q            quit", "",
	    "Marks: slow (keeps a publisher waiting, or lags for long),",
	    "blocked (waits for a slow reader), stalled (no heartbeat),",
	    "demoted (stalled, passed over), dead (its rings drain),",
	    "draining (ended, and still read), retained (history of one",
	    "that ended), lossy.", "",
	    "Any key goes back." };

	for (int i = 0; i < (int)(sizeof(lines) / sizeof(lines[0])); i++)
		put(screen, i, "%s", lines[i]);
}

void top_draw(struct top *top, const struct report *r, struct screen *screen)
{
	struct table *t;

	for (int i = 0; i < screen->rows; i++)
		screen->line[i] = (struct line){ .look = LINE_PLAIN };
	if (top->help) {
		draw_help(screen);
	} else {
		draw_head(top, r, screen);
		if (top->pane == PANE_TOPICS) {
			draw_topics(top, r, screen, 4);
		} else if (top->pane == PANE_POOLS) {
			draw_pools(top, r, screen, 4);
		} else {
			t = sorted(top, report_participants(r));
			if (top->detail)
				draw_detail(top, t, screen);
			else
				draw_table(top, t, 3, screen, 4);
			table_free(t);
		}
	}
	for (int i = 0; i < screen->rows; i++)
		cut(screen->line[i].text, screen->columns);
}
