#include "sender.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"
#include "progress.h"
#include "units.h"

#define REDEEM_LOOK (SECOND / 10)
#define REDEEM_GRACE SECOND		/* before it ends its output */

struct sending sending = { .drain = SECOND, .timeout = -1 };

uint64_t sending_left(void)
{
	uint64_t done = sending.sent + sending.dropped;

	return sending.limit > done ? sending.limit - done : 0;
}

/* ---- waiting ------------------------------------------------------------------- */

/* When a message is given up: INT64_MAX never. */
static int64_t give_up_at = INT64_MAX;
static int64_t signal_deadline = INT64_MAX;
static uint64_t given_up;		/* messages of the call that gave up */

/* Another message is offered from now on. */
static void offer_begins(void)
{
	if (sending.timeout >= 0)
		give_up_at = now_ns() + sending.timeout;
}

static int64_t deadline(void)
{
	if (signal_deadline == INT64_MAX && cli_signal() && sending.drain >= 0)
		signal_deadline = now_ns() + sending.drain;
	return signal_deadline < give_up_at ? signal_deadline : give_up_at;
}

/* A call waits so long before it says for whom. */
static int64_t patience(void)
{
	int64_t most = progress_shown() ? SECOND / 2 : SECOND, left;

	if (sending.drop)
		return 0;
	if (deadline() == INT64_MAX)
		return most;
	left = deadline() - now_ns();
	return left < 0 ? 0 : left < most ? left : most;
}

static void tell_wait(zcp_pub *pub)
{
	static bool told;
	char who[160];

	if (!zcp_pub_blocker(pub, who, sizeof(who)))
		strcpy(who, "memory, which all topics share "
		    "(zcp-shmdump totals shows who has it)");
	/* Nobody knows that handles are held back, unless it is said. */
	if (cli.verbose || (sending.handles && !told))
		cli_note("waits for %s", who);
	told = true;
	progress_waits(who);
	progress_tick();
}

/* Is the call to be made again? */
static bool again(zcp_pub *pub, int rc)
{
	if (rc == -ZCP_E_INTR)
		return true;
	if (rc != -ZCP_E_TIMEOUT || sending.drop)
		return false;
	/* As the next line would find. */
	if (sending.handles && cli_unread())
		cli_broken_pipe();
	/* Nobody may ever come to redeem what is left. */
	if (sending.handles && cli_signal() && zcp_pub_readers(pub) == 0)
		return false;
	if (now_ns() >= deadline())
		return false;
	tell_wait(pub);
	return true;
}

int send_failed(int rc, uint64_t left)
{
	uint64_t count = given_up + left;

	if (rc != -ZCP_E_TIMEOUT || count == 0)
		return cli_failed(rc);
	if (cli_signal())
		cli_error("gave up %" PRIu64 " message%s that had been read: %s "
		    "(--drain TIME offers them for longer)", count,
		    count == 1 ? "" : "s", zcp_errmsg());
	else
		cli_error("gave up %" PRIu64 " message%s: %s", count,
		    count == 1 ? "" : "s", zcp_errmsg());
	return CLI_TIMEOUT;
}

bool send_dropped(int rc, size_t count)
{
	if (!sending.drop || (rc != -ZCP_E_NOMEM && rc != -ZCP_E_TIMEOUT))
		return false;
	sending.dropped += count;
	return true;
}

/* ---- sending --------------------------------------------------------------------- */

/* Handles of the last `count` messages, a line each. */
static int print_handles(zcp_pub *pub, size_t count)
{
	char handle[ZCP_HANDLE_SIZE];
	zcp_pub_info info;
	int rc = 0;

	progress_give_way();
	zcp_pub_status(pub, &info);
	for (uint64_t seq = info.messages - count; seq < info.messages; seq++) {
		if ((rc = zcp_handle(pub, seq, handle, sizeof(handle))) < 0)
			return rc;
		puts(handle);
	}
	/* An error shows at the end. */
	fflush(stdout);
	return 0;
}

static int was_sent(zcp_pub *pub, size_t count)
{
	sending.sent += count;
	progress_waits(NULL);
	return sending.handles ? print_handles(pub, count) : 0;
}

int send_copy(zcp_pub *pub, const void *data, size_t size, uint32_t kind)
{
	int rc;

	offer_begins();
	do
		rc = zcp_send(pub, data, size, kind, patience());
	while (rc < 0 && again(pub, rc));
	if (rc == 1)
		return was_sent(pub, 1);
	if (send_dropped(rc, 1))
		return 0;
	given_up = 1;
	return rc;
}

int send_parts(zcp_pub *pub, zcp_chunk *chunk, const zcp_part *parts,
    size_t count)
{
	size_t done = 0;
	int rc = 0;

	chunk->kind = sending.kind;
	while (done < count) {
		if (rc >= 0)
			offer_begins();
		rc = zcp_publish_parts(pub, chunk, parts + done, count - done,
		    patience());
		if (rc > 0) {
			done += (size_t)rc;
			if ((rc = was_sent(pub, (size_t)rc)) < 0)
				break;
		} else if (send_dropped(rc, count - done)) {
			rc = 0;
			break;
		} else if (!again(pub, rc)) {
			given_up = count - done;
			break;
		}
	}
	zcp_discard(pub, chunk);
	return rc < 0 ? rc : 0;
}

int send_loan(zcp_pub *pub, size_t size, zcp_chunk *chunk)
{
	int rc;

	/* Even who drops waits for something to read into, but not for ever
	 * after a signal. */
	offer_begins();
	do
		rc = zcp_loan(pub, size, chunk, sending.drop ? SECOND :
		    patience());
	while (rc < 0 && (again(pub, rc) || (rc == -ZCP_E_TIMEOUT &&
	    sending.drop && now_ns() < deadline())));
	return rc;
}

/* What lies between, sort(1) for one, may wait for the end before it passes
 * anything on. */
static void end_output(void)
{
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

	if (null < 0)
		return;
	dup2(null, STDOUT_FILENO);
	close(null);
}

int send_until_redeemed(zcp_pub *pub, int64_t patience)
{
	int64_t began = now_ns();
	struct stat st;
	bool kept = fstat(STDOUT_FILENO, &st) == 0 && S_ISREG(st.st_mode);
	bool ended = false;
	int rc;

	while ((rc = zcp_pub_drain(pub, REDEEM_LOOK)) == -ZCP_E_TIMEOUT &&
	    !cli_unread() && !cli_signal()) {
		if (!ended && now_ns() - began > REDEEM_GRACE) {
			end_output();
			ended = true;
		}
		/* Handles in a file may be redeemed tomorrow. */
		if (!kept && now_ns() - began > patience &&
		    zcp_pub_readers(pub) == 0) {
			cli_error("nobody has redeemed a handle: %" PRIu64
			    " messages are given up", sending.sent);
			return CLI_ERROR;
		}
	}
	return rc == -ZCP_E_TIMEOUT || rc == -ZCP_E_INTR || rc > 0 ? CLI_OK :
	    cli_failed(rc);
}
