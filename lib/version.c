#include "config.h"
#include "zcp.h"

const char *zcp_version(void)
{
	return PACKAGE_VERSION;
}
