/* zcp-top, to be called. */
#define main zcp_top
#include "images.h"
#include "zcp-top.c"
