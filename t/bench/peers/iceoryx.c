/* iceoryx by its C binding; iox-roudi runs. */
#include "peer.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "iceoryx_binding_c/enums.h"
#include "iceoryx_binding_c/publisher.h"
#include "iceoryx_binding_c/runtime.h"
#include "iceoryx_binding_c/subscriber.h"
#include "iceoryx_binding_c/types.h"

const char *const peer_name = "iceoryx";

static iox_pub_storage_t pub_storage;
static iox_sub_storage_t sub_storage;
static iox_pub_t pub;
static iox_sub_t sub;

void peer_open(const char *out, const char *in)
{
	iox_pub_options_t po;
	iox_sub_options_t so;
	char name[64];

	snprintf(name, sizeof(name), "peer-%s-%d", out, (int)getpid());
	iox_runtime_init(name);
	iox_pub_options_init(&po);
	po.subscriberTooSlowPolicy = ConsumerTooSlowPolicy_WAIT_FOR_CONSUMER;
	pub = iox_pub_init(&pub_storage, "bench", "peer", out, &po);
	iox_sub_options_init(&so);
	so.queueFullPolicy = QueueFullPolicy_BLOCK_PRODUCER;
	sub = iox_sub_init(&sub_storage, "bench", "peer", in, &so);
	while (iox_sub_get_subscription_state(sub) != SubscribeState_SUBSCRIBED ||
	    !iox_pub_has_subscribers(pub))
		usleep(1000);
}

void peer_close(void)
{
	iox_pub_deinit(pub);
	iox_sub_deinit(sub);
	iox_runtime_shutdown();
}

void peer_say(const void *data, size_t size)
{
	void *chunk;

	if (iox_pub_loan_chunk(pub, &chunk, (uint32_t)size) !=
	    AllocationResult_SUCCESS)
		peer_failed("iox_pub_loan_chunk");
	memcpy(chunk, data, size);
	iox_pub_publish_chunk(pub, chunk);
}

bool peer_hear(void)
{
	const void *chunk;

	if (iox_sub_take_chunk(sub, &chunk) != ChunkReceiveResult_SUCCESS)
		return false;
	iox_sub_release_chunk(sub, chunk);
	return true;
}
