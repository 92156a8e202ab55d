#include "framing.h"

#include <string.h>

#include "cli.h"

bool framing_parse(const char *text, struct framing *f)
{
	uint64_t record;

	*f = (struct framing){ FRAMING_DELIMITED, '\n', 0 };
	if (strcmp(text, "line") == 0)
		return true;
	if (strcmp(text, "nul") == 0) {
		f->delimiter = '\0';
		return true;
	}
	if (strcmp(text, "raw") == 0) {
		f->kind = FRAMING_RAW;
		return true;
	}
	if (strcmp(text, "u32be") == 0) {
		f->kind = FRAMING_U32BE;
		return true;
	}
	if (strncmp(text, "raw:", 4) == 0 && cli_size(text + 4, &record) &&
	    record > 0 && record <= UINT32_MAX) {
		f->kind = FRAMING_RECORDS;
		f->record = (uint32_t)record;
		return true;
	}
	return false;
}

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
		if ((end = memchr(data, f->delimiter, size)) == NULL)
			return 0;
		*length = (size_t)(end - data);
		return *length + 1;
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
	}
	return 0;
}
