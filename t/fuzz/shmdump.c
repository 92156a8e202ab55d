/* zcp-shmdump, to be called. */
#define main zcp_shmdump
#include "images.h"
#include "zcp-shmdump.c"
