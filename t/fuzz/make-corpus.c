/* Makes the images of the corpus: domains in states of some variety, each
 * packed into a file of the directory $ZCP_CORPUS. */
#include <stdlib.h>

#include "../scene.h"
#include "image.h"

static void pack(const char *state)
{
	const char *dir = getenv("ZCP_CORPUS");
	char path[512];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir ? dir : ".", state);
	ck_assert_ptr_nonnull(f = fopen(path, "w"));
	ck_assert(image_pack(bus_domain, f));
	fclose(f);
}

START_TEST(nobody_is_there)
{
	struct settings s = bus_settings();

	bus_start(&s);
	pack("empty");
	bus_stop();
}
END_TEST

START_TEST(messages_loans_and_holds)
{
	static const char *const state[MODES] = { "busy", "busy-symmetric",
	    "busy-no-waitv" };
	struct busy busy;

	start_busy(&busy, _i);
	pack(state[_i]);
	stop_busy(&busy);
}
END_TEST

START_TEST(many_topics_and_a_reader_who_lost)
{
	zcp_sub_options all = { .lossy = 1, .depth = 4, .publishers = 8 };
	zcp_pub_options small = { .slots = 8 };
	static const char *const topic[] = { "cam/front/raw", "cam/rear/raw",
	    "log", "imu" };
	zcp_pub *pub[4];
	zcp_sub *sub;
	zcp_msg msg;

	start(0);
	must(zcp_subscribe(bus, "*/*/*", &all, &sub));
	for (int k = 0; k < 4; k++)
		must(zcp_offer(bus, topic[k], &small, &pub[k]));
	for (int i = 0; i < 100; i++)
		must(zcp_send(pub[i % 3], "0123456789", 10, 7, PATIENCE));
	ck_assert_int_eq(zcp_take(sub, &msg), -ZCP_E_LAPPED);
	ck_assert_int_eq(take_wait(sub, &msg), 1);
	pack("lossy");
	zcp_release(sub, &msg);
	for (int k = 0; k < 4; k++)
		zcp_stop_offer(&pub[k]);
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

static void die_with_messages(void *arg)
{
	zcp *mine;
	zcp_pub *pub;

	(void)arg;
	need(zcp_open(&mine, NULL));
	need(zcp_offer(mine, "t", NULL, &pub));
	for (uint64_t i = 0; i < 5; i++)
		need(zcp_send(pub, &i, sizeof(i), 0, PATIENCE));
}

static bool one_has_died(void *arg)
{
	(void)arg;
	return status_number("deaths") == 1;
}

START_TEST(unread_messages_of_the_dead)
{
	zcp_sub *sub;

	start(0);
	sub = subscribe(0);
	join_process(in_process(die_with_messages, NULL));
	eventually(one_has_died, NULL, "the death is counted");
	pack("dead");
	for (uint64_t i = 0; i < 5; i++)
		expect(sub, i);
	zcp_unsubscribe(&sub);
	stop();
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("corpus");

	tcase_set_timeout(t, 60);
	tcase_add_test(t, nobody_is_there);
	in_each_mode(t, messages_loans_and_holds);
	tcase_add_test(t, many_topics_and_a_reader_who_lost);
	tcase_add_test(t, unread_messages_of_the_dead);
	return run_tests("corpus", t);
}
