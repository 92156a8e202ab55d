#include "topic.h"

#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

#include "error.h"

static bool plain(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	    (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
}

bool name_valid(const char *text)
{
	size_t n = 0;

	for (; text[n]; n++)
		if (!plain(text[n]) || n == TOPIC_PART)
			return false;
	return n > 0 && strspn(text, ".") < n;
}

bool token_valid(const char *text)
{
	size_t n = 0;

	for (; text[n]; n++)
		if (text[n] <= ' ' || text[n] > '~' || text[n] == ':' ||
		    n == TOKEN_MOST)
			return false;
	return n > 0;
}

/* One part of a pattern also may hold what fnmatch(3) gives a meaning. */
static int part_check(const char *text, const char *part, size_t n,
    bool pattern)
{
	if (n == 0)
		return error_set(ZCP_E_ARG, "topic '%s': a part is empty", text);
	if (n > TOPIC_PART)
		return error_set(ZCP_E_ARG,
		    "topic '%s': a part is longer than %d bytes", text,
		    TOPIC_PART);
	if (pattern && memchr(part, '[', n) != NULL &&
	    memchr(part, ']', n) == NULL)
		return error_set(ZCP_E_ARG, "topic '%s': a '[' is not closed",
		    text);
	for (size_t i = 0; i < n; i++)
		if (!plain(part[i]) &&
		    !(pattern && strchr("*?[]!^", part[i]) != NULL))
			return error_set(ZCP_E_ARG, "topic '%s': '%c' is not "
			    "allowed (A-Z a-z 0-9 . _ - and '/' between at "
			    "most three parts)", text, part[i]);
	return 0;
}

int topic_parse(const char *text, char name[TOPIC_NAME])
{
	bool pattern = strpbrk(text, "*?[") != NULL;
	const char *part = text;
	char *out = name;
	int rc;

	for (int i = 0; i < 3; i++) {
		size_t n = part ? strcspn(part, "/") : 0;

		if (i > 0)
			*out++ = '/';
		if (part == NULL) {
			out = stpcpy(out, pattern ? "*" : "default");
			continue;
		}
		if ((rc = part_check(text, part, n, pattern)) < 0)
			return rc;
		out = mempcpy(out, part, n);
		part = part[n] == '/' ? part + n + 1 : NULL;
	}
	*out = '\0';
	if (part != NULL)
		return error_set(ZCP_E_ARG, "topic '%s': more than three parts",
		    text);
	return pattern;
}

bool topic_matches(const char *pattern, const char *topic)
{
	return fnmatch(pattern, topic, FNM_PATHNAME | FNM_NOESCAPE) == 0;
}
