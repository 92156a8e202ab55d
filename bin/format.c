#include "format.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "json.h"
#include "units.h"

enum { FIELDS = 128, HEX_ROW = 16 };

/* ---- times ---------------------------------------------------------------------- */

static void seconds(char text[STAMP_TEXT], int64_t ns)
{
	snprintf(text, STAMP_TEXT, "%s%" PRId64 ".%09" PRId64,
	    ns < 0 ? "-" : "", (ns < 0 ? -ns : ns) / SECOND,
	    (ns < 0 ? -ns : ns) % SECOND);
}

void stamp_time(char text[STAMP_TEXT], const zcp_msg *msg)
{
	if (msg->time != 0)
		seconds(text, (int64_t)msg->time + realtime_offset());
	else
		strcpy(text, "-");
}

void stamp_delay(char text[STAMP_TEXT], const zcp_msg *msg)
{
	if (msg->time != 0)
		seconds(text, now_ns() - (int64_t)msg->time);
	else
		strcpy(text, "-");
}

/* ---- pieces --------------------------------------------------------------------- */

static void emit(void *to, const char *bytes, size_t size)
{
	output_copy(to, bytes, size);
}

static void put_text(struct output *o, const char *text)
{
	output_copy(o, text, strlen(text));
}

__attribute__((format(printf, 2, 3)))
static void print(struct output *o, const char *format, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	put_text(o, text);
}

static void put_hex(struct output *o, const zcp_msg *msg)
{
	static const char digits[] = "0123456789abcdef";
	const unsigned char *p = msg->data;

	for (size_t i = 0; i < output_shown(o, msg); i++) {
		char two[2] = { digits[p[i] >> 4], digits[p[i] & 15] };

		output_copy(o, two, sizeof(two));
	}
}

/* ---- -f -------------------------------------------------------------------------- */

/* Literal text, then a field (0: none). */
static struct {
	const char *text;
	size_t size;
	char field;
} item[FIELDS];
static unsigned items;

int format_set(char *text)
{
	const char *end = text, *at = text;
	size_t size = unescape(text);

	if (size == (size_t)-1)
		return cli_usage("-f: an escape is one of \\n \\t \\r \\0 \\a "
		    "\\e \\\\ \\xHH");
	for (end = text + size; at <= end; at++) {
		const char *percent = memchr(at, '%', (size_t)(end - at));

		if (items == FIELDS)
			return cli_usage("-f: more than %d fields", FIELDS);
		item[items].text = at;
		item[items].size = (size_t)((percent ? percent : end) - at);
		item[items].field = percent ? percent[1] : '\0';
		if (percent == NULL)
			break;
		if (percent[1] == '\0' ||
		    strchr("tsSxokpPTD%", percent[1]) == NULL)
			return cli_usage("-f: '%.2s' is no field (%%t %%s %%S "
			    "%%x %%o %%k %%p %%P %%T %%D %%%%)", percent);
		at = percent + 1;
		items++;
	}
	items++;
	return CLI_OK;
}

static void put_field(struct output *o, char field, const zcp_msg *msg,
    const zcp_source *source)
{
	char text[STAMP_TEXT];

	switch (field) {
	case 't': put_text(o, source->topic); break;
	case 's': output_payload(o, msg); break;
	case 'S': print(o, "%zu", msg->size); break;
	case 'x': put_hex(o, msg); break;
	case 'o': print(o, "%" PRIu64, msg->seq); break;
	case 'k': print(o, "%" PRIu32, msg->kind); break;
	case 'p': put_text(o, source->name); break;
	case 'P': print(o, "%" PRIu32, source->pid); break;
	case '%': put_text(o, "%"); break;
	case 'T':
		stamp_time(text, msg);
		put_text(o, text);
		break;
	case 'D':
		stamp_delay(text, msg);
		put_text(o, text);
		break;
	}
}

void format_render(struct output *o, const zcp_msg *msg,
    const zcp_source *source)
{
	for (unsigned i = 0; i < items; i++) {
		output_copy(o, item[i].text, item[i].size);
		put_field(o, item[i].field, msg, source);
	}
}

/* ---- -J -------------------------------------------------------------------------- */

void envelope_render(struct output *o, const zcp_msg *msg,
    const zcp_source *source)
{
	char time[STAMP_TEXT], delay[STAMP_TEXT];
	size_t size = output_shown(o, msg);

	stamp_time(time, msg);
	stamp_delay(delay, msg);
	/* Topics and names hold nothing that wants an escape. */
	print(o, "{\"topic\":\"%s\",\"seq\":%" PRIu64 ",\"time\":%s,\"delay\":%s,"
	    "\"publisher\":\"%s\",\"pid\":%" PRIu32 ",\"type\":%" PRIu32
	    ",\"size\":%zu,", source->topic, msg->seq,
	    msg->time ? time : "null", msg->time ? delay : "null",
	    source->name, source->pid, msg->kind, msg->size);
	/* Cut between characters, where it is text. */
	for (size_t less = 0; less < 4 && less < size && size < msg->size &&
	    !text_is_utf8(msg->data, size); less++)
		if (text_is_utf8(msg->data, size - less))
			size -= less;
	if (text_is_utf8(msg->data, size)) {
		put_text(o, "\"payload\":");
		text_json(emit, o, msg->data, size);
	} else {
		put_text(o, "\"base64\":");
		text_base64(emit, o, msg->data, size);
	}
	put_text(o, "}\n");
}

/* ---- -x -------------------------------------------------------------------------- */

static void hex_row(struct output *o, const unsigned char *p, size_t at,
    size_t n)
{
	char row[4 * HEX_ROW + 32], *out = row;

	out += sprintf(out, "%08zx ", at);
	for (size_t i = 0; i < HEX_ROW; i++) {
		if (i == HEX_ROW / 2)
			*out++ = ' ';
		out += i < n ? sprintf(out, " %02x", p[i]) :
		    sprintf(out, "   ");
	}
	out += sprintf(out, "  |");
	for (size_t i = 0; i < n; i++)
		*out++ = p[i] >= 0x20 && p[i] < 0x7f ? (char)p[i] : '.';
	out += sprintf(out, "|\n");
	output_copy(o, row, (size_t)(out - row));
}

void hexdump_render(struct output *o, const zcp_msg *msg,
    const zcp_source *source)
{
	size_t size = output_shown(o, msg);
	bool bold = cli_colored(o->fd);
	char time[STAMP_TEXT];

	stamp_time(time, msg);
	print(o, "%s%s%s seq=%" PRIu64 " time=%s publisher=%s type=%" PRIu32
	    " size=%zu\n", bold ? "\033[1m" : "", source->topic,
	    bold ? "\033[0m" : "", msg->seq, time, source->name, msg->kind,
	    msg->size);
	for (size_t i = 0; i < size; i += HEX_ROW)
		hex_row(o, (const unsigned char *)msg->data + i, i,
		    size - i < HEX_ROW ? size - i : HEX_ROW);
}
