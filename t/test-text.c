/* What the commands read and write as text: JSON (against jansson), frames,
 * numbers, rates, escapes. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frame.h"
#include "json.h"
#include "run.h"
#include "units.h"

enum { ROUNDS = 20000, MOST = 200 };

struct text {
	char bytes[MOST * 8 + 64];
	size_t used;
};

static void add(void *to, const char *bytes, size_t size)
{
	struct text *t = to;

	ck_assert_uint_le(t->used + size, sizeof(t->bytes));
	if (size > 0)
		memcpy(t->bytes + t->used, bytes, size);
	t->used += size;
}

/* Bytes that are often text, and often nearly so. */
static size_t random_bytes(char *out)
{
	static const char *const pieces[] = { "a", "\"", "\\", "\n", "\x1f",
	    "\x7f", "\xc3\xa9", "\xe2\x88\x80", "\xf0\x9f\x98\x80", "\xc0\x80",
	    "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xc3", "\xff" };
	size_t n = 0, parts = (size_t)rand() % 40;
	size_t kinds = rand() % 4 ? 9 : sizeof(pieces) / sizeof(pieces[0]);

	while (parts-- > 0) {
		const char *piece = pieces[(size_t)rand() % kinds];

		memcpy(out + n, piece, strlen(piece));
		n += strlen(piece);
		if (rand() % 50 == 0)
			out[n++] = '\0';
	}
	return n;
}

START_TEST(json_strings_are_what_jansson_reads_back)
{
	int texts = 0;

	srand(7);
	for (int i = 0; i < ROUNDS; i++) {
		struct text t = { .used = 0 };
		char bytes[MOST];
		size_t n = random_bytes(bytes);
		json_t *parsed, *known = json_stringn(bytes, n);

		/* Both judge alike what is UTF-8. */
		ck_assert_int_eq(text_is_utf8(bytes, n), known != NULL);
		if (known == NULL)
			continue;
		text_json(add, &t, bytes, n);
		parsed = json_loadb(t.bytes, t.used, JSON_DECODE_ANY |
		    JSON_ALLOW_NUL, NULL);
		ck_assert_ptr_nonnull(parsed);
		ck_assert_int_eq(json_equal(parsed, known), 1);
		json_decref(parsed);
		json_decref(known);
		texts++;
	}
	ck_assert_int_gt(texts, ROUNDS / 2);
	ck_assert_int_lt(texts, ROUNDS);
}
END_TEST

START_TEST(base64_is_that_of_the_rfc)
{
	static const char *const vectors[][2] = { { "", "\"\"" },
	    { "f", "\"Zg==\"" }, { "fo", "\"Zm8=\"" }, { "foo", "\"Zm9v\"" },
	    { "foob", "\"Zm9vYg==\"" }, { "fooba", "\"Zm9vYmE=\"" },
	    { "foobar", "\"Zm9vYmFy\"" }, { "\xfb\xff", "\"+/8=\"" } };

	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
		struct text t = { .used = 0 };

		text_base64(add, &t, vectors[i][0], strlen(vectors[i][0]));
		add(&t, "", 1);
		ck_assert_str_eq(t.bytes, vectors[i][1]);
	}
}
END_TEST

START_TEST(a_frames_first_line_reads_back_and_no_other_text_does)
{
	struct frame f = { .topic = "a/b/c", .publisher = "me",
	    .seq = UINT64_MAX, .time = INT64_MAX, .kind = 65535,
	    .length = UINT64_MAX }, g;
	char line[FRAME_HEADER + 1];
	size_t n = frame_header(line, &f);

	ck_assert_uint_eq(frame_parse(line, n, &g), n);
	ck_assert_str_eq(g.topic, f.topic);
	ck_assert_str_eq(g.publisher, f.publisher);
	ck_assert(g.seq == f.seq && g.time == f.time && g.kind == f.kind &&
	    g.length == f.length);
	/* Cut anywhere it wants more. */
	for (size_t cut = 0; cut < n; cut++)
		ck_assert_uint_eq(frame_parse(line, cut, &g), 0);
	ck_assert_uint_eq(frame_parse("zcp2 a b 0 0 0 0\n", 17, &g),
	    FRAME_DAMAGED);
	ck_assert_uint_eq(frame_parse("zcp1 a b 0 0 0\n", 15, &g),
	    FRAME_DAMAGED);
	ck_assert_uint_eq(frame_parse("zcp1 a b 0 0 0 0 0\n", 19, &g),
	    FRAME_DAMAGED);
	ck_assert_uint_eq(frame_parse("x", 1, &g), FRAME_DAMAGED);
	memset(line, 'x', sizeof(line));
	memcpy(line, "zcp1 ", 5);
	ck_assert_uint_eq(frame_parse(line, FRAME_HEADER - 1, &g), 0);
	ck_assert_uint_eq(frame_parse(line, FRAME_HEADER, &g), FRAME_DAMAGED);
}
END_TEST

START_TEST(sizes_times_and_rates_are_read_whole_or_not_at_all)
{
	static const char *const no_sizes[] = { "", "-1", "K", "1KB", "1.5K",
	    "18446744073709551616", "17179869184G", "0x10" };
	static const char *const no_times[] = { "", "-1s", "s", "1x", "1e400",
	    "300000000000" };
	static const char *const no_rates[] = { "", "0", "-1", "1/x", "1/",
	    "fast", "0/s" };
	uint64_t size;
	int64_t time;
	double rate;

	ck_assert(read_size("64K", &size) && size == 65536);
	ck_assert(read_size("2g", &size) && size == UINT64_C(1) << 31);
	ck_assert(read_time("1.5", &time) && time == SECOND * 3 / 2);
	ck_assert(read_time("250ms", &time) && time == SECOND / 4);
	ck_assert(read_time("2m", &time) && time == 120 * SECOND);
	ck_assert(read_time(".5h", &time) && time == 1800 * SECOND);
	ck_assert(read_rate("1000/s", &rate) && rate == 1000);
	ck_assert(read_rate("30/min", &rate) && rate == 0.5);
	ck_assert(read_rate("2K", &rate) && rate == 2000);
	ck_assert(read_rate("1/ms", &rate) && rate == 1000);
	for (size_t i = 0; i < sizeof(no_sizes) / sizeof(no_sizes[0]); i++)
		ck_assert_msg(!read_size(no_sizes[i], &size), "%s",
		    no_sizes[i]);
	for (size_t i = 0; i < sizeof(no_times) / sizeof(no_times[0]); i++)
		ck_assert_msg(!read_time(no_times[i], &time), "%s",
		    no_times[i]);
	for (size_t i = 0; i < sizeof(no_rates) / sizeof(no_rates[0]); i++)
		ck_assert_msg(!read_rate(no_rates[i], &rate), "%s",
		    no_rates[i]);
}
END_TEST

START_TEST(escapes_become_bytes_and_others_are_refused)
{
	char text[] = "a\\n\\t\\r\\0\\a\\e\\\\\\x41\\xfFz";
	char *bad[] = { (char[]){ "\\q" }, (char[]){ "x\\" },
	    (char[]){ "\\x4" }, (char[]){ "\\xg0" } };

	ck_assert_uint_eq(unescape(text), 11);
	ck_assert_mem_eq(text, "a\n\t\r\0\a\033\\A\xffz", 11);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_uint_eq(unescape(bad[i]), (size_t)-1);
}
END_TEST

START_TEST(numbers_are_shown_with_three_digits)
{
	ck_assert_str_eq(show_bytes(0), "0 B");
	ck_assert_str_eq(show_bytes(999), "999 B");
	ck_assert_str_eq(show_bytes(1024), "1.00 KiB");
	ck_assert_str_eq(show_bytes(123.4 * 1024 * 1024), "123 MiB");
	ck_assert_str_eq(show_count(12), "12");
	ck_assert_str_eq(show_count(12345), "12.3 k");
	ck_assert_str_eq(show_count(999999), "1.00 M");
	ck_assert_str_eq(show_time(3723 * SECOND), "1:02:03");
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("text");

	tcase_add_test(t, json_strings_are_what_jansson_reads_back);
	tcase_add_test(t, base64_is_that_of_the_rfc);
	tcase_add_test(t, a_frames_first_line_reads_back_and_no_other_text_does);
	tcase_add_test(t, sizes_times_and_rates_are_read_whole_or_not_at_all);
	tcase_add_test(t, escapes_become_bytes_and_others_are_refused);
	tcase_add_test(t, numbers_are_shown_with_three_digits);
	return run_tests("text", t);
}
