#include "measure.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "xorshift.h"

bool torture_full(void)
{
	const char *torture = getenv("ZCP_TORTURE");

	return torture != NULL && strcmp(torture, "full") == 0;
}

unsigned torture_seed(void)
{
	static unsigned value;
	const char *text = getenv("ZCP_SEED");

	if (value == 0)
		value = text != NULL ? (unsigned)strtoul(text, NULL, 0) :
		    (unsigned)getpid() ^ (unsigned)clock_ns();
	return value;
}

uint32_t torture_random(void)
{
	static uint32_t x;

	if (x == 0)
		x = torture_seed() | 1;
	return xorshift(&x);
}
