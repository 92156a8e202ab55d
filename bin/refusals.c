#include "refusals.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "units.h"
#include "zcp.h"

/* What a message says behind the handle that it shows. */
static const char *reason(const char *handle, const char *message)
{
	static const char before[] = "cannot redeem handle ";
	size_t skipped = strlen(before) + strnlen(handle,
	    ZCP_HANDLE_SIZE - 1) + strlen(": ");

	return strncmp(message, before, strlen(before)) == 0 &&
	    strlen(message) > skipped ? message + skipped : message;
}

void refusals_add(struct refusals *r, const char *handle, const char *message)
{
	const char *why = reason(handle, message);

	if (r->count++ > 0 && strncmp(why, r->why, sizeof(r->why) - 1) == 0) {
		r->more++;
		snprintf(r->last, sizeof(r->last), "%s", message);
		return;
	}
	refusals_tell(r);
	cli_error("%s", message);
	snprintf(r->why, sizeof(r->why), "%s", why);
	r->told_at = now_ns();
}

void refusals_tell(struct refusals *r)
{
	if (r->more == 1)
		cli_error("%s", r->last);
	else if (r->more > 1)
		cli_error("cannot redeem %" PRIu64 " more handles: %s", r->more,
		    r->why);
	r->more = 0;
	r->told_at = now_ns();
}

int64_t refusals_due(struct refusals *r, int64_t most)
{
	int64_t left = r->told_at + SECOND - now_ns();

	if (r->more == 0)
		return most;
	if (left <= 0) {
		refusals_tell(r);
		return most;
	}
	return left < most ? left : most;
}
