#include "text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "error.h"

void text_add(struct text *t, const char *format, ...)
{
	va_list ap;
	int n;

	va_start(ap, format);
	n = vsnprintf(t->out + t->used, t->size - t->used, format, ap);
	va_end(ap);
	if (n > 0)
		t->used += (size_t)n < t->size - t->used ? (size_t)n :
		    t->size - t->used - 1;
}

/* One line, whatever a file's name or a request put into it. */
static void add_sentence(struct text *t, const char *sentence)
{
	size_t from = t->used;

	text_add(t, "ERROR: %s", sentence);
	for (size_t i = from; i < t->used; i++)
		if ((unsigned char)t->out[i] < ' ')
			t->out[i] = ' ';
}

void text_error(struct text *t, int rc, const char *nonce)
{
	add_sentence(t, zcp_errmsg());
	text_add(t, "\ncode=%s%s%s%s\n", error_name(rc), error_numbers(),
	    nonce ? " nonce=" : "", nonce ? nonce : "");
}
