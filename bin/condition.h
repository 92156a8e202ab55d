/* condition.h - what a script waits for: "[SUBJECT:]QUANTITY OP NUMBER". */
#ifndef ZCP_CONDITION_H
#define ZCP_CONDITION_H

#include "report.h"

struct condition {
	char subject[192];		/* a topic or pattern of topics; "": all */
	unsigned quantity;
	enum { LESS, AT_MOST, EQUAL, OTHER, AT_LEAST, MORE } op;
	double number;
};

/* False, with what is wrong in `why`. */
bool condition_read(const char *text, struct condition *c, const char **why);

/* Does it hold?  A subject that is not there has nothing: 0. */
bool condition_holds(const struct condition *c, const struct report *r);

#endif
