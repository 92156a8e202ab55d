/* nng: a pair0 socket for each direction over ipc. */
#include "peer.h"

#include <nng/nng.h>
#include <nng/protocol/pair0/pair.h>
#include <unistd.h>

const char *const peer_name = "nng";

static nng_socket saying, hearing;

void peer_open(const char *out, const char *in)
{
	char to[200], from[200];

	peer_address(to, sizeof(to), out);
	peer_address(from, sizeof(from), in);
	if (nng_pair0_open(&saying) != 0 || nng_pair0_open(&hearing) != 0 ||
	    nng_listen(saying, to, NULL, 0) != 0)
		peer_failed("nng_listen");
	while (nng_dial(hearing, from, NULL, 0) != 0)
		usleep(1000);
}

void peer_close(void)
{
	nng_close(saying);
	nng_close(hearing);
}

void peer_say(const void *data, size_t size)
{
	if (nng_send(saying, (void *)data, size, 0) != 0)
		peer_failed("nng_send");
}

bool peer_hear(void)
{
	char data[64];
	size_t size = sizeof(data);
	int rc = nng_recv(hearing, data, &size, NNG_FLAG_NONBLOCK);

	if (rc != 0 && rc != NNG_EAGAIN)
		peer_failed("nng_recv");
	return rc == 0;
}
