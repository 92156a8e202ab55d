#include "error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MESSAGE_SIZE = 1024 };

static _Thread_local char message[MESSAGE_SIZE] = "no error";

/* As much of it as fits. */
static void append(const char *text)
{
	strncat(message, text, sizeof(message) - strlen(message) - 1);
}

int error_set(enum zcp_error code, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(message, sizeof(message), format, ap);
	va_end(ap);
	return -(int)code;
}

int error_sys(const char *format, ...)
{
	int cause = errno;
	va_list ap;

	va_start(ap, format);
	vsnprintf(message, sizeof(message), format, ap);
	va_end(ap);
	append(": ");
	append(strerror(cause));
	errno = cause;
	return cause == EACCES || cause == EPERM ? -ZCP_E_PERM : -ZCP_E_SYS;
}

int error_in(int rc, const char *format, ...)
{
	char below[MESSAGE_SIZE];
	va_list ap;

	memcpy(below, message, sizeof(below));
	va_start(ap, format);
	vsnprintf(message, sizeof(message), format, ap);
	va_end(ap);
	append(": ");
	append(below);
	return rc;
}

const char *zcp_errmsg(void)
{
	return message;
}

const char *zcp_strerror(int code)
{
#define TEXT(name, value, text) case value: return text;
	switch (code < 0 ? -code : code) {
	case 0: return "no error";
	ZCP_ERRORS(TEXT)
	}
#undef TEXT
	return "unknown error";
}
