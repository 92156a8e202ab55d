#include "error.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MESSAGE_SIZE = 1024, NUMBERS_SIZE = 128 };

static _Thread_local char message[MESSAGE_SIZE] = "no error";
static _Thread_local char numbers[NUMBERS_SIZE];

/* As much of it as fits. */
static void append(const char *text)
{
	strncat(message, text, sizeof(message) - strlen(message) - 1);
}

int error_set(enum zcp_error code, const char *format, ...)
{
	va_list ap;

	numbers[0] = '\0';
	va_start(ap, format);
	vsnprintf(message, sizeof(message), format, ap);
	va_end(ap);
	return -(int)code;
}

int error_sys(const char *format, ...)
{
	int cause = errno;
	va_list ap;

	numbers[0] = '\0';
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

void error_number(const char *key, uint64_t number)
{
	size_t n = strlen(numbers);

	snprintf(numbers + n, sizeof(numbers) - n, " %s=%" PRIu64, key, number);
}

const char *error_numbers(void)
{
	return numbers;
}

const char *error_name(int code)
{
#define NAME(name, value, text) case value: return #name;
	switch (code < 0 ? -code : code) {
	ZCP_ERRORS(NAME)
	}
#undef NAME
	return "REFUSED";
}

int error_code(const char *name, size_t length)
{
#define CODE(known, value, text)					\
	if (strlen(#known) == length && memcmp(name, #known, length) == 0) \
		return value;
	ZCP_ERRORS(CODE)
#undef CODE
	return 0;
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
