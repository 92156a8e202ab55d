/* zcp itself, by the same harness; the domain is t/bench/peers/run's. */
#include "peer.h"

#include "bench.h"

const char *const peer_name = "zcp";

static zcp *bus;
static zcp_pub *pub;
static zcp_sub *sub;

void peer_open(const char *out, const char *in)
{
	zcp_pub_options o = { .stamp = ZCP_STAMP_NONE };

	bench_check(zcp_open(&bus, NULL));
	bench_check(zcp_subscribe(bus, in, NULL, &sub));
	bench_check(zcp_offer(bus, out, &o, &pub));
	bench_meet(pub, sub);
}

void peer_close(void)
{
	zcp_stop_offer(&pub);
	zcp_unsubscribe(&sub);
	zcp_close(&bus);
}

void peer_say(const void *data, size_t size)
{
	bench_check(zcp_send(pub, data, size, 0, -1));
}

bool peer_hear(void)
{
	zcp_msg msg;
	int rc = zcp_take(sub, &msg);

	bench_check(rc);
	if (rc == 1)
		zcp_release(sub, &msg);
	return rc == 1;
}
