#include "frame.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

size_t frame_header(char out[FRAME_HEADER], const struct frame *f)
{
	return (size_t)snprintf(out, FRAME_HEADER, "zcp1 %s %s %" PRIu64 " %"
	    PRId64 " %" PRIu32 " %" PRIu64 "\n", f->topic, f->publisher, f->seq,
	    f->time, f->kind, f->length);
}

size_t frame_parse(const char *data, size_t size, struct frame *f)
{
	const char *end = memchr(data, '\n', size < FRAME_HEADER ? size :
	    FRAME_HEADER);
	char line[FRAME_HEADER + 1];
	size_t length;
	int used = 0;

	if (end == NULL)
		return size >= FRAME_HEADER || strncmp(data, "zcp1 ",
		    size < 5 ? size : 5) != 0 ? FRAME_DAMAGED : 0;
	length = (size_t)(end - data);
	memcpy(line, data, length);
	line[length] = '\0';
	if (sscanf(line, "zcp1 %191s %63s %" SCNu64 " %" SCNd64 " %" SCNu32
	    " %" SCNu64 "%n", f->topic, f->publisher, &f->seq, &f->time,
	    &f->kind, &f->length, &used) != 6 || (size_t)used != length)
		return FRAME_DAMAGED;
	return length + 1;
}
