#!/usr/bin/env bats
# The library as its manual shows it: every program in the pages is compiled
# and does what it is there for.
load helper

SRC=$BATS_TEST_DIRNAME/..

setup_file() {
    EXAMPLES=$(mktemp -d /tmp/zcp-examples-XXXXXX)
    export EXAMPLES
    # A program begins with its name, and ends with its display.
    awk -v to="$EXAMPLES" '
        /^\/\* [a-z]+\.c - / { file = to "/" $2 }
        /^\.Ed/ { file = "" }
        file { gsub(/\\e/, "\\"); print > file }' "$SRC"/man/*.[1-9]
    local lib=$ZCP_BIN/../lib/.libs file
    for file in "$EXAMPLES"/*.c; do
        # shellcheck disable=SC2086
        ${CC:-cc} -std=c11 -D_POSIX_C_SOURCE=200809L -Wall -Wextra -Werror ${ZCP_SANITIZE:-} \
            -I"$SRC/lib" "$file" -o "${file%.c}" -L"$lib" -Wl,-rpath,"$(cd "$lib" && pwd)" -lzcp
    done
    PATH=$EXAMPLES:$PATH
}

teardown_file() {
    rm -rf "$EXAMPLES"
}

@test "talk and listen: a stream from one program to another" {
    start_routed
    spawn listen chat >"$WORK/heard"
    local listener=$!
    seq 1000 | talk chat
    ends_with 0 "$listener"
    run cmp "$WORK/heard" <(seq 1000)
    assert_success
}

@test "talk and zcp-sub, zcp-pub and listen understand each other" {
    start_routed
    spawn zcp-sub -e chat >"$WORK/one"
    local one=$!
    printf 'a\nb\n' | talk chat
    ends_with 0 "$one"
    spawn listen chat >"$WORK/two"
    local two=$!
    zcp-pub -w 1 chat -m c -m d
    ends_with 0 "$two"
    assert_equal "$(cat "$WORK/one" "$WORK/two")" $'a\nb\nc\nd'
}

@test "claim: messages by their handles, and a daemon that comes by itself" {
    run bash -c 'set -o pipefail; seq 1000 | zcp-pub --handles h | claim'
    assert_success
    assert_equal "$output" "$(seq 1000)"
    run -1 claim <<<nonsense
    assert_output --partial "cannot redeem handle nonsense"
}

@test "the program that a newcomer copies has at most thirty lines of code" {
    [ "$(sed -n '/^int main/,$p' "$EXAMPLES/talk.c" | grep -c .)" -le 30 ]
    [ "$(sed -n '/^int main/,$p' "$EXAMPLES/listen.c" | grep -c .)" -le 30 ]
}

@test "typed: structs in place" {
    start_routed
    run -0 typed
    assert_output $'point 3 at 1, 2\npoint 6 at 4, 5'
}

@test "attach: the domain's largest message, or that there is no daemon" {
    start_routed --pool 128:10 --pool 8K:4
    run -0 attach
    assert_output "zcp $(zcp-pub --version | sed 's/.* //'), messages of up to 8192 bytes"
    zcp-routed --stop
    run -69 attach
    assert_output --partial "no route daemon answers for domain $ZCP_DOMAIN"
}

@test "numbers and count: batches out, batches in" {
    start_routed
    spawn zcp-sub -e numbers >"$WORK/numbers"
    local reader=$!
    run -0 numbers
    ends_with 0 "$reader"
    run cmp "$WORK/numbers" <(seq 0 9999)
    assert_success
    spawn count 'tick*' >"$WORK/count"
    local counter=$!
    eventually status_has 'subscribers=1'
    zcp-pub tick -m one -m three
    ends_with 0 "$counter"
    assert_equal "$(cat "$WORK/count")" "2 messages, 8 bytes, 0 lost"
}

@test "loop: standard input and two topics in one poll" {
    start_routed
    open_input
    spawn loop <"$WORK/input" >"$WORK/out"
    local looper=$!
    eventually status_has 'subscribers=2'
    zcp-pub left -m one
    eventually grep -q 'left: one' "$WORK/out"
    echo something >&8
    zcp-pub right -m two
    eventually grep -q 'right: two' "$WORK/out"
    kill "$looper"
    ends_with 143 "$looper"
}

@test "peek: a tap over everything" {
    start_routed
    spawn peek >"$WORK/out"
    local peeker=$!
    eventually status_has 'participants=1 '
    # It may open its tap later than it registers.
    until [ "$(wc -l <"$WORK/out")" -ge 5 ]; do
        zcp-pub a/b -m text
        kill -0 "$peeker" 2>/dev/null || break
    done
    ends_with 0 "$peeker"
    run cat "$WORK/out"
    assert_line --regexp '^publisher [0-9]+, message 0: 4 bytes$'
}

@test "a typed message of another kind or size is told and skipped" {
    start_routed
    cat >"$WORK/types.c" <<'C'
#include <stdio.h>
#include <zcp.h>
struct a { uint64_t n; };
ZCP_TYPE(a, struct a, 1);
int main(void)
{
	struct a value = { 42 };
	const struct a *got;
	zcp *bus; zcp_pub *pub; zcp_sub *sub; zcp_msg msg;

	if (zcp_open(&bus, NULL) < 0 || zcp_subscribe(bus, "t", NULL, &sub) < 0 ||
	    zcp_offer(bus, "t", NULL, &pub) < 0)
		return 1;
	if (zcp_send(pub, "four", 4, 1, -1) < 0 || zcp_send(pub, &value, 8, 2, -1) < 0 ||
	    a_send(pub, &value, -1) < 0)
		return 1;
	for (int i = 0; i < 2; i++) {
		if (a_take(sub, &msg, &got) != -ZCP_E_TYPE || got != NULL)
			return 2;
		puts(zcp_errmsg());
	}
	if (a_take(sub, &msg, &got) != 1 || got->n != 42)
		return 3;
	zcp_release(sub, &msg);
	zcp_stop_offer(&pub); zcp_unsubscribe(&sub); zcp_close(&bus);
	return 0;
}
C
    local lib=$ZCP_BIN/../lib/.libs compiler
    for compiler in "${CC:-cc}" "c++ -x c++"; do
        command -v "${compiler%% *}" >/dev/null || continue
        # shellcheck disable=SC2086
        $compiler -Wall -Wextra -Werror ${ZCP_SANITIZE:-} -I"$SRC/lib" "$WORK/types.c" -o "$WORK/types" \
            -L"$lib" -Wl,-rpath,"$(cd "$lib" && pwd)" -lzcp
        run -0 "$WORK/types"
        assert_line "a message of type 1, 4 bytes, is not what was expected: type 1, 8 bytes aligned to 8"
        assert_line "a message of type 2, 8 bytes, is not what was expected: type 1, 8 bytes aligned to 8"
    done
}

@test "lags: an observer names who is behind" {
    start_routed
    reader t
    kill -STOP "$reader"
    zcp-pub t -m 1 -m 2
    run -0 lags
    assert_output "zcp-sub (pid $reader) on t/default/default: 2"
    kill -CONT "$reader"
}
