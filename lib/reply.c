/* reply.c - what a daemon's answer says; whoever carried it here. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "control.h"
#include "error.h"

/* Fields stand behind colons in "OK:...", and in lines elsewhere. */
#define BETWEEN_FIELDS ": \n"
#define ERROR_MARK "ERROR: "

/* The value of a field, which ends before the next of BETWEEN_FIELDS. */
static const char *field(const char *text, const char *key)
{
	size_t n = strlen(key);

	for (;; text++) {
		if (strncmp(text, key, n) == 0 && text[n] == '=')
			return text + n + 1;
		text += strcspn(text, BETWEEN_FIELDS);
		if (*text == '\0')
			return NULL;
	}
}

bool control_number(const char *reply, const char *key, uint64_t most,
    uint64_t *number)
{
	const char *text = field(reply, key);
	char *end;

	if (text == NULL || *text < '0' || *text > '9')
		return false;
	errno = 0;
	*number = strtoull(text, &end, 10);
	return errno == 0 && *number <= most &&
	    strchr(BETWEEN_FIELDS, *end) != NULL;
}

bool control_answers(const char *reply, uint64_t nonce)
{
	bool error = strncmp(reply, ERROR_MARK, strlen(ERROR_MARK)) == 0;
	const char *text = error ? strchr(reply, '\n') : reply;

	/* Whoever asks too much is told so whatever it asked. */
	if (nonce == 0 || text == NULL ||
	    (text = field(text, "nonce")) == NULL)
		return true;
	return strtoull(text, NULL, 16) == nonce;
}

/* An error: its sentence is for people, and the line behind it for us. */
static int refusal(char *reply, struct asking *how)
{
	char *fields = strchr(reply, '\n');
	const char *name;
	uint64_t needed;
	int code = 0;

	if (fields != NULL) {
		*fields++ = '\0';
		if ((name = field(fields, "code")) != NULL)
			code = error_code(name, strcspn(name, BETWEEN_FIELDS));
		if (control_number(fields, "needed", UINT32_MAX, &needed))
			how->needed = (uint32_t)needed;
	}
	return error_set(code != 0 ? code : ZCP_E_REFUSED, "%s",
	    reply + strlen(ERROR_MARK));
}

int control_answer(char *reply, int length, struct asking *how)
{
	return strncmp(reply, ERROR_MARK, strlen(ERROR_MARK)) == 0 ?
	    refusal(reply, how) : length;
}
