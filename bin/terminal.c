#include "terminal.h"

#include <curses.h>
#include <langinfo.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <term.h>
#include <unistd.h>

/* Two of term.h's macros are names of ours. */
#undef columns
#undef lines

static struct screen screen;
static SCREEN *opened;

enum { DIM = 1, WARN, ALARM, HEAD };

/* A screen needs a cursor that goes anywhere: not "dumb", as in an Emacs
 * shell. */
bool terminal_able(void)
{
	const char *move;
	int found;

	if (setupterm(NULL, STDOUT_FILENO, &found) != OK)
		return false;
	move = tigetstr("cup");
	return move != NULL && move != (char *)-1;
}

bool terminal_open(bool colored)
{
	setlocale(LC_ALL, "");
	if ((opened = newterm(NULL, stdout, stdin)) == NULL)
		return false;
	cbreak();
	noecho();
	nonl();
	curs_set(0);
	keypad(stdscr, TRUE);
	set_escdelay(25);
	if (colored && has_colors() && start_color() == OK) {
		use_default_colors();
		init_pair(DIM, COLOR_BLUE, -1);
		init_pair(WARN, COLOR_YELLOW, -1);
		init_pair(ALARM, COLOR_RED, -1);
		init_pair(HEAD, COLOR_CYAN, -1);
	}
	return true;
}

void terminal_close(void)
{
	endwin();
	delscreen(opened);
	free(screen.line);
	screen = (struct screen){ 0 };
}

bool terminal_unicode(void)
{
	return strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
}

struct screen *terminal_screen(void)
{
	struct line *line;

	if (screen.rows != LINES || screen.columns != COLS) {
		line = reallocarray(screen.line, (size_t)LINES + 1,
		    sizeof(*line));
		if (line != NULL) {
			screen.line = line;
			screen.rows = LINES;
		}
		screen.columns = COLS;
	}
	return &screen;
}

static attr_t attributes(enum look_of look)
{
	switch (look) {
	case LINE_PLAIN: return A_NORMAL;
	case LINE_HEAD: return (attr_t)COLOR_PAIR(HEAD);
	case LINE_TITLES: return A_REVERSE;
	case LINE_DIM: return (attr_t)COLOR_PAIR(DIM);
	case LINE_WARN: return (attr_t)COLOR_PAIR(WARN) | A_BOLD;
	case LINE_ALARM: return (attr_t)COLOR_PAIR(ALARM) | A_BOLD;
	}
	return A_NORMAL;
}

void terminal_draw(const struct screen *s)
{
	erase();
	for (int i = 0; i < s->rows; i++) {
		attr_t look = attributes(s->line[i].look);

		if (s->line[i].selected)
			look |= A_REVERSE;
		attrset((int)look);
		mvaddstr(i, 0, s->line[i].text);
		if (s->line[i].look == LINE_TITLES || s->line[i].selected)
			for (int c = (int)text_width(s->line[i].text);
			    c < s->columns; c++)
				mvaddch(i, c, ' ');
	}
	attrset(A_NORMAL);
	refresh();
}

int terminal_key(int ms)
{
	int key;

	timeout(ms);
	switch (key = getch()) {
	case ERR: return 0;
	case KEY_RESIZE: return -1;
	case KEY_UP: return TOP_UP;
	case KEY_DOWN: return TOP_DOWN;
	case KEY_PPAGE: return TOP_PAGE_UP;
	case KEY_NPAGE: return TOP_PAGE_DOWN;
	case KEY_LEFT: return TOP_LEFT;
	case KEY_RIGHT: return TOP_RIGHT;
	case KEY_HOME: return TOP_HOME;
	case KEY_END: return TOP_END;
	case KEY_BACKSPACE: return 127;
	case KEY_ENTER: return '\n';
	default: return key < 256 ? key : 0;
	}
}
