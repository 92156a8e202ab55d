#include "framing.h"

#include <string.h>

#include "cli.h"
#include "units.h"

static char *framing_text, *delimiter_text;
static int nul;

struct poptOption framing_options[] = {
	{ "framing", 'F', POPT_ARG_STRING, &framing_text, 0,
	    "line (default), nul, raw, u32be or frame; for input also "
	    "raw:SIZE and file", "FRAMING" },
	{ "null", '0', POPT_ARG_NONE, &nul, 0, "the same as -F nul", NULL },
	{ "delimiter", 'D', POPT_ARG_STRING, &delimiter_text, 0,
	    "DELIM ends each message (\\n \\t \\r \\0 \\a \\e \\\\ \\xHH)",
	    "DELIM" },
	POPT_TABLEEND
};

/* ---- choosing ----------------------------------------------------------------- */

static void delimited(struct framing *f, const char *delimiter, size_t size)
{
	f->kind = FRAMING_DELIMITED;
	memcpy(f->delimiter, delimiter, size);
	f->delimiter_size = size;
}

static bool parse(const char *text, bool input, struct framing *f)
{
	uint64_t record;

	if (strcmp(text, "line") == 0)
		delimited(f, "\n", 1);
	else if (strcmp(text, "nul") == 0)
		delimited(f, "", 1);
	else if (strcmp(text, "raw") == 0)
		f->kind = FRAMING_RAW;
	else if (strcmp(text, "u32be") == 0)
		f->kind = FRAMING_U32BE;
	else if (strcmp(text, "frame") == 0)
		f->kind = FRAMING_FRAME;
	else if (input && strcmp(text, "file") == 0)
		f->kind = FRAMING_FILE;
	else if (input && strncmp(text, "raw:", 4) == 0 &&
	    read_size(text + 4, &record) && record > 0 &&
	    record <= UINT32_MAX) {
		f->kind = FRAMING_RECORDS;
		f->record = (uint32_t)record;
	} else
		return false;
	return true;
}

bool framing_given(void)
{
	return framing_text != NULL || delimiter_text != NULL || nul;
}

static int by_delimiter(struct framing *f)
{
	size_t size = unescape(delimiter_text);

	if (size == (size_t)-1)
		return cli_usage("-D %s: an escape is one of \\n \\t \\r \\0 "
		    "\\a \\e \\\\ \\xHH", delimiter_text);
	if (size == 0 || size > DELIMITER_MOST)
		return cli_usage("-D: a delimiter has 1 to %d bytes",
		    DELIMITER_MOST);
	delimited(f, delimiter_text, size);
	return CLI_OK;
}

int framing_chosen(struct framing *f, bool input)
{
	*f = (struct framing){ 0 };
	if ((framing_text != NULL) + (delimiter_text != NULL) + nul > 1)
		return cli_usage("-F, -0 and -D exclude each other");
	if (delimiter_text != NULL)
		return by_delimiter(f);
	if (!parse(nul ? "nul" : framing_text ? framing_text : "line", input,
	    f))
		return cli_usage("-F %s: no such framing (line, nul, raw, %s"
		    "u32be, frame)", framing_text, input ? "raw:SIZE, file, " :
		    "");
	return CLI_OK;
}

/* ---- cutting ------------------------------------------------------------------- */

static size_t announced(const char *data)
{
	const unsigned char *p = (const unsigned char *)data;

	return (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 |
	    p[3];
}

size_t framing_need(const struct framing *f, const char *data, size_t size)
{
	switch (f->kind) {
	case FRAMING_RECORDS:
		return f->record;
	case FRAMING_U32BE:
		return size < 4 ? 4 : 4 + announced(data);
	case FRAMING_DELIMITED:
	case FRAMING_RAW:
	case FRAMING_FILE:
	case FRAMING_FRAME:
		break;
	}
	return 0;
}

size_t framing_next(const struct framing *f, const char *data, size_t size,
    size_t *offset, size_t *length)
{
	const char *end;
	size_t need;

	*offset = 0;
	*length = size;
	if (size == 0)
		return 0;
	switch (f->kind) {
	case FRAMING_DELIMITED:
		end = f->delimiter_size == 1 ?
		    memchr(data, f->delimiter[0], size) :
		    memmem(data, size, f->delimiter, f->delimiter_size);
		if (end == NULL)
			return 0;
		*length = (size_t)(end - data);
		return *length + f->delimiter_size;
	case FRAMING_RAW:
		return size;
	case FRAMING_RECORDS:
		*length = f->record;
		return size < f->record ? 0 : f->record;
	case FRAMING_U32BE:
		need = framing_need(f, data, size);
		*offset = 4;
		*length = need - 4;
		return size < need || size < 4 ? 0 : need;
	case FRAMING_FILE:
	case FRAMING_FRAME:
		break;
	}
	return 0;
}
