/* zcp-top without a terminal: what its screens show of a snapshot, what its
 * keys do, what a script may wait for. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "condition.h"
#include "run.h"
#include "top.h"

enum { ROWS = 12, COLUMNS = 132 };

static zcp_pool_facts pools[2];
static zcp_participant_facts participants[2];
static zcp_topic_facts topics[3];
static zcp_port_facts ports_before[4], ports[4];
static zcp_link_facts links[2];
static zcp_snapshot before, now;
static struct report report;
static struct line lines[ROWS];
static struct screen screen = { lines, ROWS, COLUMNS };

static void port(zcp_port_facts *p, uint32_t index, int publisher,
    uint32_t participant, uint32_t topic, uint64_t messages)
{
	*p = (zcp_port_facts){ .index = index, .serial = index + 1,
	    .publisher = publisher, .state = ZCP_PORT_OPEN, .reliable = 1,
	    .participant = participant, .topic = topic, .slots = 100,
	    .messages = messages, .bytes = messages * 10, .head = messages,
	    .taken = messages, .taken_bytes = messages * 10 };
}

/* A camera whose reader has stopped, a clock, and a pattern's reader. */
static void set_up(void)
{
	pools[0] = (zcp_pool_facts){ 128, 100, 100, 60, 10, 30, 50, 0 };
	pools[1] = (zcp_pool_facts){ 4096, 10, 10, 0, 0, 10, 10, 2 };
	participants[0] = (zcp_participant_facts){ .name = "camera",
	    .pid = 0, .state = ZCP_PARTICIPANT_LIVE, .publishers = 2 };
	participants[1] = (zcp_participant_facts){ .name = "viewer",
	    .pid = 0, .slot = 1, .state = ZCP_PARTICIPANT_STALLED,
	    .subscribers = 2, .holds = 3 };
	topics[0] = (zcp_topic_facts){ .name = "cam/front/raw", .index = 0,
	    .publishers = 1, .subscribers = 1 };
	topics[1] = (zcp_topic_facts){ .name = "clock/default/default",
	    .index = 1, .publishers = 1 };
	topics[2] = (zcp_topic_facts){ .name = "*/*/*", .index = 2,
	    .pattern = 1, .subscribers = 1 };
	port(&ports_before[0], 0, 1, 0, 0, 100);
	port(&ports_before[1], 1, 1, 0, 1, 1000);
	port(&ports_before[2], 2, 0, 1, 0, 50);
	port(&ports_before[3], 3, 0, 1, 2, 1000);
	memcpy(ports, ports_before, sizeof(ports));
	ports[0].messages = ports[0].head = 150;
	ports[1].messages = ports[1].head = 3000;
	ports[1].bytes = 30000;
	ports[2].lag = 100;
	ports[3].taken = 3000;
	ports[3].reliable = 0;
	ports[3].lost = 7;
	links[0] = (zcp_link_facts){ .publisher = 0, .reader = 2,
	    .reliable = 1, .joined = 1, .at = 50, .lag = 100 };
	links[1] = (zcp_link_facts){ .publisher = 1, .reader = 3,
	    .joined = 1, .at = 3000 };
	now = (zcp_snapshot){ .time = 2000000000, .pool = pools, .pools = 2,
	    .participant = participants, .participants = 2, .topic = topics,
	    .topics = 3, .port = ports, .ports = 4, .link = links,
	    .links = 2 };
	strcpy(now.domain.name, "test");
	now.domain.copy = 1;
	before = now;
	before.time = 1000000000;
	before.port = ports_before;
	report_begin(&report, &now, &before);
}

static void tear_down(void)
{
	report_end(&report);
}

static struct top fresh(void)
{
	return (struct top){ .interval = 1 };
}

static void type(struct top *top, const char *keys)
{
	for (; *keys; keys++)
		ck_assert(top_key(top, *keys));
}

static void draw(struct top *top)
{
	top_draw(top, &report, &screen);
}

/* Does a line hold all these words, in this order? */
static bool line_has(int row, const char *words)
{
	const char *at = lines[row].text;
	char copy[256], *word, *rest = copy;

	snprintf(copy, sizeof(copy), "%s", words);
	while ((word = strsep(&rest, " ")) != NULL)
		if ((at = strstr(at, word)) == NULL)
			return false;
	return true;
}

#define ck_line(row, words)						\
	ck_assert_msg(line_has(row, words), "line %d: %s", row,		\
	    lines[row].text)

START_TEST(topics_have_rates_lag_and_marks)
{
	struct top top = fresh();

	set_up();
	draw(&top);
	ck_line(0, "domain test, no daemon, 2 participants, 3 topics, 4 ports");
	ck_line(1, "2.05 k msg/s");
	ck_line(2, "[1 topics] 2 participants 3 pools");
	ck_line(4, "TOPIC PUBS SUBS MSG/S BYTES/S INTERVAL DELAY LAG OF RING LOST");
	/* By name. */
	ck_line(5, "*/*/* 0 1 7 pattern");
	ck_line(6, "cam/front/raw 1 1 50 100 [########] 0 blocked");
	ck_line(7, "clock/default/default 1 0 2.00 k 500.0 us 0 [........]");
	ck_assert_int_eq(lines[4].look, LINE_TITLES);
	ck_assert_int_eq(lines[6].look, LINE_ALARM);
	ck_assert_int_eq(lines[7].look, LINE_PLAIN);
	ck_assert_str_eq(lines[8].text, "");
	tear_down();
}
END_TEST

START_TEST(the_tree_shows_who_publishes_and_who_reads)
{
	struct top top = fresh();

	set_up();
	type(&top, "t");
	draw(&top);
	ck_line(7, "cam/front/raw blocked");
	ck_line(8, "> camera (pid 0) 50 blocked");
	ck_line(9, "< viewer (pid 0) 0 100 [########] stalled");
	tear_down();
}
END_TEST

START_TEST(sorting_goes_by_the_next_column_and_the_other_way_round)
{
	struct top top = fresh();

	set_up();
	type(&top, "sss");
	draw(&top);
	ck_line(5, "clock");
	ck_line(6, "cam");
	type(&top, "r");
	draw(&top);
	ck_line(5, "*/*/*");
	ck_line(7, "clock");
	ck_assert_int_eq(top_column(PANE_TOPICS, "msg/s"), 3);
	ck_assert_int_eq(top_column(PANE_TOPICS, "weight"), -1);
	tear_down();
}
END_TEST

START_TEST(a_filter_is_typed_a_word_or_a_pattern)
{
	struct top top = fresh();

	set_up();
	type(&top, "/clo");
	draw(&top);
	ck_line(2, "filter: clo_");
	ck_line(5, "clock");
	ck_assert_str_eq(lines[6].text, "");
	type(&top, "\n");
	ck_assert(!top.typing);
	/* Keys are keys again. */
	type(&top, "/c*raw\n");
	draw(&top);
	ck_line(2, "filter: c*raw");
	ck_line(5, "cam/front/raw");
	type(&top, "/\033");
	draw(&top);
	ck_line(7, "clock");
	tear_down();
}
END_TEST

START_TEST(pools_have_bars)
{
	struct top top = fresh();

	set_up();
	type(&top, "3");
	draw(&top);
	ck_line(4, "POOL SIZE CHUNKS FREE LOANED PUBLISHED MOST EMPTY");
	ck_line(5, "0 128 100 60 10 30 50 0 [#### ++ .. | ..]");
	ck_line(6, "1 4096 10 0 0 10 10 2 [####");
	ck_assert_int_eq(lines[6].look, LINE_ALARM);
	tear_down();
}
END_TEST

START_TEST(participants_have_states_loans_and_holds)
{
	struct top top = fresh();

	set_up();
	type(&top, "\t");
	draw(&top);
	ck_line(5, "camera live 2 0");
	ck_line(6, "viewer stalled 0 2 0 3");
	ck_assert_int_eq(lines[6].look, LINE_WARN);
	tear_down();
}
END_TEST

START_TEST(rates_leave_a_history)
{
	struct top top = fresh();

	set_up();
	for (int i = 0; i < 3; i++)
		top_note(&top, &report);
	draw(&top);
	ck_line(7, "clock ###");
	ck_line(6, "cam ###");
	top.unicode = true;
	draw(&top);
	ck_line(7, "\u2588\u2588\u2588");
	top_free(&top);
	tear_down();
}
END_TEST

START_TEST(keys_pause_help_scroll_and_quit)
{
	struct top top = fresh();

	set_up();
	type(&top, "p");
	draw(&top);
	ck_line(0, "PAUSED");
	type(&top, " ");
	ck_assert(!top.paused);
	type(&top, "h");
	draw(&top);
	ck_line(0, "zcp-top shows a domain at work");
	type(&top, "x");
	ck_assert(!top.help);
	type(&top, "+");
	ck_assert_double_eq(top.interval, 0.5);
	type(&top, "-");
	ck_assert_double_eq(top.interval, 1);
	ck_assert(top_key(&top, TOP_END));
	draw(&top);
	ck_assert_int_eq(top.scroll, 0);	/* all of it is there */
	screen.rows = 7;
	ck_assert(top_key(&top, TOP_DOWN));
	draw(&top);
	ck_line(5, "cam");
	screen.rows = ROWS;
	ck_assert(!top_key(&top, 'q'));
	tear_down();
}
END_TEST

START_TEST(lines_end_where_the_screen_does)
{
	struct top top = fresh();

	set_up();
	screen.columns = 20;
	draw(&top);
	for (int i = 0; i < ROWS; i++)
		ck_assert_uint_le(text_width(lines[i].text), 20);
	screen.columns = COLUMNS;
	screen.rows = 2;
	draw(&top);
	screen.rows = 0;
	draw(&top);
	screen.rows = ROWS;
	tear_down();
}
END_TEST

START_TEST(a_narrow_screen_keeps_name_rate_and_mark)
{
	static const int widths[] = { 40, 60, 80, 100 };
	struct top top = fresh();

	set_up();
	for (size_t i = 0; i < sizeof(widths) / sizeof(widths[0]); i++) {
		screen.columns = widths[i];
		draw(&top);
		ck_line(4, "TOPIC MSG/S LAG MARK");
		ck_line(6, "cam 50 100 blocked");
		ck_assert_uint_le(text_width(lines[4].text), (unsigned)widths[i]);
	}
	ck_line(4, "TOPIC PUBS SUBS MSG/S BYTES/S DELAY LAG LOST MARK");
	screen.columns = COLUMNS;
	tear_down();
}
END_TEST

START_TEST(a_long_name_is_shortened_in_its_middle)
{
	struct top top = fresh();

	set_up();
	memset(topics[0].name, 'n', 180);
	memcpy(topics[0].name, "camera-of-the-left/", 19);
	memcpy(topics[0].name + 170, "/the/end", 9);
	screen.columns = 80;
	draw(&top);
	ck_line(6, "camera-of- ~ /the/end 50 100 blocked");
	top.unicode = true;
	draw(&top);
	ck_line(6, "camera-of- \u2026 /the/end");
	ck_assert_uint_le(text_width(lines[6].text), 80);
	screen.columns = COLUMNS;
	tear_down();
}
END_TEST

START_TEST(other_columns_are_to_the_right_and_some_can_be_chosen)
{
	struct top top = fresh();
	char word[COLUMNS_TEXT];

	set_up();
	screen.columns = 40;
	ck_assert(top_key(&top, TOP_RIGHT));
	ck_assert(top_key(&top, TOP_RIGHT));
	draw(&top);
	ck_line(4, "TOPIC MSG/S BYTES/S MARK");
	ck_assert(!line_has(4, "PUBS"));
	ck_assert(top_key(&top, TOP_LEFT));
	draw(&top);
	ck_line(4, "TOPIC SUBS MSG/S MARK");
	screen.columns = COLUMNS;
	type(&top, "clag,pubs");
	draw(&top);
	ck_line(2, "columns: lag,pubs_");
	type(&top, "\n");
	draw(&top);
	ck_line(4, "TOPIC LAG PUBS");
	ck_line(6, "cam 100 1");
	ck_assert(!line_has(4, "MARK"));
	ck_assert_ptr_null(top_unknown_column("lag,mark,free,state", word));
	ck_assert_str_eq(top_unknown_column("lag,weight", word), "weight");
	type(&top, "c\033");
	draw(&top);
	ck_line(4, "TOPIC PUBS SUBS MSG/S");
	tear_down();
}
END_TEST

START_TEST(enter_shows_all_of_the_selected_row)
{
	struct top top = fresh();

	set_up();
	screen.columns = 40;
	ck_assert(top_key(&top, TOP_DOWN));
	draw(&top);
	ck_assert(lines[6].selected);
	ck_assert(!lines[5].selected);
	type(&top, "\r");
	screen.rows = ROWS;
	draw(&top);
	ck_line(4, "TOPIC cam/front/raw");
	ck_line(5, "PUBS 1");
	ck_line(11, "LAG 100");
	type(&top, " ");
	ck_assert(!top.detail);
	ck_assert(!top.paused);
	type(&top, "3\r");
	draw(&top);
	ck_line(4, "POOL 0");
	screen.columns = COLUMNS;
	tear_down();
}
END_TEST

static bool holds(const char *text)
{
	struct condition c;
	const char *why = NULL;

	ck_assert_msg(condition_read(text, &c, &why), "%s: %s", text, why);
	return condition_holds(&c, &report);
}

START_TEST(conditions_compare_quantities)
{
	set_up();
	ck_assert(holds("cam/front/raw:subscribers>=1"));
	ck_assert(!holds("cam/front/raw:subscribers > 1"));
	ck_assert(holds("clock:messages=3000"));
	ck_assert(holds("c*:publishers==2"));
	ck_assert(holds("nowhere:publishers=0"));
	ck_assert(holds("blocked=1"));
	ck_assert(holds("participants!=3"));
	ck_assert(holds("stalled>=1"));
	ck_assert(holds("free=60"));
	ck_assert(holds("used<=50"));
	ck_assert(holds("lost<8"));
	ck_assert(holds("messages_s>2000"));
	ck_assert(holds("daemon=0"));
	tear_down();
}
END_TEST

START_TEST(conditions_that_make_no_sense_are_refused)
{
	static const char *const bad[] = { "", "lag", "lag>", "lag>x", "lag>1x",
	    "weight>1", "cam:free>1", "a/b/c/d:lag>1", "lag~1" };
	struct condition c;
	const char *why;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		why = NULL;
		ck_assert_msg(!condition_read(bad[i], &c, &why), "%s", bad[i]);
		ck_assert_ptr_nonnull(why);
	}
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("top");

	tcase_add_test(t, topics_have_rates_lag_and_marks);
	tcase_add_test(t, the_tree_shows_who_publishes_and_who_reads);
	tcase_add_test(t, sorting_goes_by_the_next_column_and_the_other_way_round);
	tcase_add_test(t, a_filter_is_typed_a_word_or_a_pattern);
	tcase_add_test(t, pools_have_bars);
	tcase_add_test(t, participants_have_states_loans_and_holds);
	tcase_add_test(t, rates_leave_a_history);
	tcase_add_test(t, keys_pause_help_scroll_and_quit);
	tcase_add_test(t, lines_end_where_the_screen_does);
	tcase_add_test(t, a_narrow_screen_keeps_name_rate_and_mark);
	tcase_add_test(t, a_long_name_is_shortened_in_its_middle);
	tcase_add_test(t, other_columns_are_to_the_right_and_some_can_be_chosen);
	tcase_add_test(t, enter_shows_all_of_the_selected_row);
	tcase_add_test(t, conditions_compare_quantities);
	tcase_add_test(t, conditions_that_make_no_sense_are_refused);
	return run_tests("top", t);
}
