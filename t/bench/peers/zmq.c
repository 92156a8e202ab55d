/* ZeroMQ: PUSH to PULL over ipc, one pair for each direction. */
#include "peer.h"

#include <errno.h>
#include <zmq.h>

const char *const peer_name = "ZeroMQ";

static void *context, *saying, *hearing;

void peer_open(const char *out, const char *in)
{
	char to[200], from[200];

	peer_address(to, sizeof(to), out);
	peer_address(from, sizeof(from), in);
	if ((context = zmq_ctx_new()) == NULL ||
	    (saying = zmq_socket(context, ZMQ_PUSH)) == NULL ||
	    (hearing = zmq_socket(context, ZMQ_PULL)) == NULL ||
	    zmq_bind(saying, to) != 0 || zmq_connect(hearing, from) != 0)
		peer_failed("zmq_bind");
}

void peer_close(void)
{
	zmq_close(saying);
	zmq_close(hearing);
	zmq_ctx_term(context);
}

void peer_say(const void *data, size_t size)
{
	if (zmq_send(saying, data, size, 0) < 0)
		peer_failed("zmq_send");
}

bool peer_hear(void)
{
	char data[64];
	int rc = zmq_recv(hearing, data, sizeof(data), ZMQ_DONTWAIT);

	if (rc < 0 && errno != EAGAIN)
		peer_failed("zmq_recv");
	return rc >= 0;
}
