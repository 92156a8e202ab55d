/* run.h - the last line of every Check program. */
#ifndef T_RUN_H
#define T_RUN_H

#include <check.h>

/* Runs the tests of one case; what main() returns. */
int run_tests(const char *name, TCase *tests);

#endif
