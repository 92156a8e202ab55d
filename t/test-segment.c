/* Shared files: what is opened, and what is refused with which reason. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "atomics.h"
#include "run.h"
#include "segment.h"
#include "zcp.h"

enum { SIZE = 64 * 1024, INSTANCE = 77 };

static char path[SEGMENT_PATH];

static void set_up(void)
{
	snprintf(path, sizeof(path), SEGMENT_DIR "/unit-segment-%d",
	    (int)getpid());
}

static void tear_down(void)
{
	unlink(path);
}

static void make(bool ready)
{
	struct segment s;

	ck_assert_int_eq(segment_create(&s, path, PART_MGMT, SIZE, SIZE,
	    INSTANCE, 0600), 0);
	if (ready)
		segment_ready(&s);
	segment_close(&s);
}

static void put(off_t offset, const void *bytes, size_t size)
{
	int fd = open(path, O_WRONLY);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(pwrite(fd, bytes, size, offset), (ssize_t)size);
	close(fd);
}

static int try_open(enum segment_part part, uint64_t instance)
{
	struct segment s = SEGMENT_INIT;
	int rc = segment_open(&s, path, part, false, geteuid(), 0600, instance);

	segment_close(&s);
	return rc;
}

static void refused(int code, const char *reason)
{
	ck_assert_int_eq(try_open(PART_MGMT, INSTANCE), -code);
	ck_assert_msg(strstr(zcp_errmsg(), reason) != NULL, "%s",
	    zcp_errmsg());
	ck_assert_msg(strstr(zcp_errmsg(), path) != NULL, "%s", zcp_errmsg());
}

START_TEST(what_was_made_ready_can_be_opened)
{
	make(true);
	ck_assert_int_eq(try_open(PART_MGMT, INSTANCE), 0);
	ck_assert_int_eq(try_open(PART_MGMT, 0), 0);
}
END_TEST

START_TEST(a_second_maker_is_refused)
{
	struct segment s;

	make(true);
	ck_assert_int_eq(segment_create(&s, path, PART_MGMT, SIZE, SIZE,
	    INSTANCE, 0600), -ZCP_E_SYS);
}
END_TEST

START_TEST(not_ready_differs_from_damaged)
{
	make(false);
	refused(ZCP_E_BUSY, "not ready");
}
END_TEST

START_TEST(random_bytes_are_no_segment)
{
	char noise[4096];

	make(true);
	for (size_t i = 0; i < sizeof(noise); i++)
		noise[i] = (char)(i * 37 + 11);
	put(0, noise, sizeof(noise));
	refused(ZCP_E_DAMAGED, "no zcp segment");
}
END_TEST

START_TEST(another_layout_is_refused_with_both_versions)
{
	uint16_t major = LAYOUT_MAJOR + 1;

	make(true);
	put(offsetof(struct segment_head, major), &major, sizeof(major));
	refused(ZCP_E_LAYOUT, "version 3.0");
	ck_assert_ptr_nonnull(strstr(zcp_errmsg(), "knows 2.x"));
}
END_TEST

START_TEST(another_minor_version_is_opened)
{
	uint16_t minor = LAYOUT_MINOR + 1;

	make(true);
	put(offsetof(struct segment_head, minor), &minor, sizeof(minor));
	ck_assert_int_eq(try_open(PART_MGMT, INSTANCE), 0);
}
END_TEST

START_TEST(a_truncated_segment_names_both_lengths)
{
	make(true);
	ck_assert_int_eq(truncate(path, SIZE / 2), 0);
	refused(ZCP_E_DAMAGED, "32768 bytes of 65536");
	ck_assert_int_eq(truncate(path, 20), 0);
	refused(ZCP_E_DAMAGED, "within its header");
}
END_TEST

START_TEST(another_part_or_creation_is_refused)
{
	make(true);
	ck_assert_int_eq(try_open(PART_BELL, INSTANCE), -ZCP_E_DAMAGED);
	ck_assert_int_eq(try_open(PART_MGMT, INSTANCE + 1), -ZCP_E_DAMAGED);
}
END_TEST

START_TEST(a_file_that_others_may_write_is_refused)
{
	make(true);
	ck_assert_int_eq(chmod(path, 0622), 0);
	refused(ZCP_E_PERM, "mode 622");
}
END_TEST

START_TEST(a_foreign_file_is_refused)
{
	struct segment s = SEGMENT_INIT;

	make(true);
	ck_assert_int_eq(segment_open(&s, path, PART_MGMT, false,
	    geteuid() + 1, 0600, INSTANCE), -ZCP_E_PERM);
	ck_assert_ptr_nonnull(strstr(zcp_errmsg(), "belongs to uid"));
}
END_TEST

START_TEST(a_link_is_not_followed)
{
	char other[SEGMENT_PATH + 8];

	make(true);
	snprintf(other, sizeof(other), "%s.other", path);
	ck_assert_int_eq(rename(path, other), 0);
	ck_assert_int_eq(symlink(other, path), 0);
	ck_assert_int_lt(try_open(PART_MGMT, INSTANCE), 0);
	unlink(other);
}
END_TEST

START_TEST(a_fifo_neither_opens_nor_blocks)
{
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	refused(ZCP_E_PERM, "not a regular file");
}
END_TEST

START_TEST(only_what_is_committed_counts_as_committed)
{
	struct segment s;

	ck_assert_int_eq(segment_create(&s, path, PART_MGMT, 1 << 20, 4096,
	    INSTANCE, 0600), 0);
	ck_assert_int_eq(segment_committed(s.fd, 0, 4096), 1);
	ck_assert_int_eq(segment_committed(s.fd, 0, 4097), 0);
	ck_assert_int_eq(segment_committed(s.fd, 65536, 1), 0);
	ck_assert_int_eq(segment_commit(s.fd, path, 65536, 8192), 0);
	/* tmpfs: committed counts once it was written to. */
	memset((char *)s.base + 65536, 0, 8192);
	ck_assert_int_eq(segment_committed(s.fd, 65536, 8192), 1);
	ck_assert_int_eq(segment_committed(s.fd, UINT64_MAX - 10, 100), 0);
	ck_assert_int_eq(segment_committed(-1, 0, 4096), -1);
	segment_close(&s);
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("segment");

	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_test(t, what_was_made_ready_can_be_opened);
	tcase_add_test(t, a_second_maker_is_refused);
	tcase_add_test(t, not_ready_differs_from_damaged);
	tcase_add_test(t, random_bytes_are_no_segment);
	tcase_add_test(t, another_layout_is_refused_with_both_versions);
	tcase_add_test(t, another_minor_version_is_opened);
	tcase_add_test(t, a_truncated_segment_names_both_lengths);
	tcase_add_test(t, another_part_or_creation_is_refused);
	tcase_add_test(t, a_file_that_others_may_write_is_refused);
	tcase_add_test(t, a_foreign_file_is_refused);
	tcase_add_test(t, a_link_is_not_followed);
	tcase_add_test(t, a_fifo_neither_opens_nor_blocks);
	tcase_add_test(t, only_what_is_committed_counts_as_committed);
	return run_tests("segment", t);
}
