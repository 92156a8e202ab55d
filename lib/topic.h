/* topic.h - names of topics, patterns, domains and participants. */
#ifndef ZCP_TOPIC_H
#define ZCP_TOPIC_H

#include <stdbool.h>
#include <stddef.h>

#include "layout.h"

/*
 * The full form "service/instance/event" of what a person wrote.  A missing
 * part is "default", or "*" if the text is a pattern.  Returns 0 topic,
 * 1 pattern, or -ZCP_E_ARG with a message that names the fault.
 */
int topic_parse(const char *text, char name[TOPIC_NAME]);

/* Does a full pattern match a full topic, part by part? */
bool topic_matches(const char *pattern, const char *topic);

/* Is it [A-Za-z0-9._-], 1 to 63 bytes, and not of dots alone? */
bool name_valid(const char *text);

/* Is it a token that AUTH can carry: printable, no colon? */
enum { TOKEN_MOST = 128 };
bool token_valid(const char *text);

#endif
