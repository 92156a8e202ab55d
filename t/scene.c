#include "scene.h"

#include <string.h>

zcp *bus;

struct settings mode_settings(int mode)
{
	struct settings s = bus_settings();

	s.symmetric = mode == 1;
	s.no_waitv = mode == 2;
	return s;
}

void start(int mode)
{
	struct settings s = mode_settings(mode);

	bus_start(&s);
	bus = bus_open("test");
}

void stop(void)
{
	zcp_close(&bus);
	all_chunks_come_back();
	bus_stop();
}

zcp_pub *offer(uint32_t slots, uint32_t history)
{
	zcp_pub_options o = { .slots = slots, .history = history };
	zcp_pub *pub;

	must(zcp_offer(bus, "t", &o, &pub));
	return pub;
}

zcp_sub *subscribe(int lossy)
{
	zcp_sub_options o = { .lossy = lossy };
	zcp_sub *sub;

	must(zcp_subscribe(bus, "t", &o, &sub));
	return sub;
}

void send_number(zcp_pub *pub, uint64_t n, size_t size)
{
	char message[4096] = { 0 };

	memcpy(message, &n, sizeof(n));
	must(zcp_send(pub, message, size, 0, PATIENCE));
}

uint64_t number(const zcp_msg *msg)
{
	uint64_t n;

	ck_assert_uint_ge(msg->size, sizeof(n));
	memcpy(&n, msg->data, sizeof(n));
	return n;
}

void expect(zcp_sub *sub, uint64_t n)
{
	zcp_msg msg;

	must(take_wait(sub, &msg));
	ck_assert_uint_eq(number(&msg), n);
	zcp_release(sub, &msg);
	ck_assert_ptr_null(msg.data);
}

void start_busy(struct busy *b, int mode)
{
	start(mode);
	b->sub = subscribe(0);
	b->pub = offer(16, 2);
	for (uint64_t i = 0; i < 6; i++)
		send_number(b->pub, i, i % 2 ? 8 : 100);
	must(zcp_loan(b->pub, 100, &b->chunk, 0));
	ck_assert_int_eq(take_wait(b->sub, &b->msg), 1);
}

void stop_busy(struct busy *b)
{
	zcp_discard(b->pub, &b->chunk);
	zcp_release(b->sub, &b->msg);
	zcp_stop_offer(&b->pub);
	zcp_unsubscribe(&b->sub);
	stop();
}
