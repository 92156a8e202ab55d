#include "json.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* Bytes of the character that begins at `p`; 0: it is none. */
static size_t utf8_character(const unsigned char *p, size_t left)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t n = *p < 0x80 ? 1 : (*p & 0xe0) == 0xc0 ? 2 :
	    (*p & 0xf0) == 0xe0 ? 3 : (*p & 0xf8) == 0xf0 ? 4 : 0;
	uint32_t c;

	if (n <= 1)
		return n;
	if (n > left)
		return 0;
	c = *p & (0x7fu >> n);
	for (size_t i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3f);
	}
	/* Longer than need be, a surrogate, or beyond the last. */
	return c < least[n] || (c >= 0xd800 && c < 0xe000) || c > 0x10ffff ?
	    0 : n;
}

bool text_is_utf8(const char *data, size_t size)
{
	const unsigned char *p = (const unsigned char *)data;

	for (size_t i = 0, n; i < size; i += n)
		if ((n = utf8_character(p + i, size - i)) == 0)
			return false;
	return true;
}

static bool plain(unsigned char c)
{
	return c >= 0x20 && c != '"' && c != '\\';
}

static void escape(emit_bytes *emit, void *to, unsigned char c)
{
	static const char from[] = "\"\\\n\t\r\b\f", names[] = "\"\\ntrbf";
	const char *at = c == 0 ? NULL : strchr(from, c);
	char text[8];
	int n = at != NULL ? snprintf(text, sizeof(text), "\\%c",
	    names[at - from]) : snprintf(text, sizeof(text), "\\u%04x", c);

	emit(to, text, (size_t)n);
}

void text_json(emit_bytes *emit, void *to, const char *data, size_t size)
{
	size_t from = 0;

	emit(to, "\"", 1);
	for (size_t i = 0; i < size; i++) {
		if (plain((unsigned char)data[i]))
			continue;
		emit(to, data + from, i - from);
		escape(emit, to, (unsigned char)data[i]);
		from = i + 1;
	}
	emit(to, data + from, size - from);
	emit(to, "\"", 1);
}

void text_base64(emit_bytes *emit, void *to, const void *data, size_t size)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	    "abcdefghijklmnopqrstuvwxyz0123456789+/";
	const unsigned char *p = data;

	emit(to, "\"", 1);
	for (size_t i = 0; i < size; i += 3) {
		size_t n = size - i < 3 ? size - i : 3;
		uint32_t bits = (uint32_t)p[i] << 16 |
		    (n > 1 ? (uint32_t)p[i + 1] << 8 : 0) |
		    (n > 2 ? p[i + 2] : 0u);
		char four[4] = { digits[bits >> 18], digits[bits >> 12 & 63],
		    n > 1 ? digits[bits >> 6 & 63] : '=',
		    n > 2 ? digits[bits & 63] : '=' };

		emit(to, four, sizeof(four));
	}
	emit(to, "\"", 1);
}
