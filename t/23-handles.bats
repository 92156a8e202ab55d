#!/usr/bin/env bats
# Handles: references through a pipe, not payload.
load helper

# A publisher of handles that stays: $publisher, its handles in $WORK/handles.
publisher_of_handles() {
    open_input
    # A fifo, since a publisher whose output nobody reads ends.
    spawn zcp-pub --handles "$@" h <"$WORK/input" >"$WORK/handles"
    publisher=$!
}

handles_are_there() { [ "$(wc -l <"$WORK/handles")" -ge "$1" ]; }

handle() { sed -n "$1p" "$WORK/handles"; }

@test "references go through the pipe, and payload is what comes out" {
    start_routed
    seq 100000 >"$WORK/in"
    run bash -c "set -o pipefail; timeout 60 zcp-pub --handles h '$WORK/in' | zcp-sub --handles | cmp - '$WORK/in'"
    assert_success
    eventually status_has "publishers=0"
    eventually all_free
}

@test "large messages move as references" {
    start_routed
    head -c 3000000 /dev/urandom >"$WORK/in"
    run bash -c "set -o pipefail; zcp-pub --handles -F raw:60000 h '$WORK/in' | tee '$WORK/handles' | zcp-sub -F raw --handles | cmp - '$WORK/in'"
    assert_success
    assert_equal "$(wc -l <"$WORK/handles")" 50
    [ "$(wc -c <"$WORK/handles")" -lt 6000 ]
    eventually all_free
}

@test "a filter may leave handles out; what it leaves out is given up" {
    start_routed
    # One that keeps more lines back than the ring has would wait for ever.
    run timeout 30 bash -c "set -o pipefail; seq 1000 | zcp-pub --handles h | awk 'NR % 100 == 0' | zcp-sub --handles"
    assert_success
    assert_equal "$output" "$(seq 100 100 1000)"
    eventually all_free
}

@test "zcp-pub stays until all is redeemed; nothing goes before a first redeemer has come" {
    start_routed
    spawn zcp-pub --handles h -m one -m two >"$WORK/handles"
    local publisher=$!
    eventually handles_are_there 2
    # Nobody subscribes to it.
    run -3 zcp-sub -I 100ms h
    kill -0 "$publisher"
    run zcp-sub --handles <"$WORK/handles"
    assert_success
    assert_output $'one\ntwo'
    ends_with 0 "$publisher"
}

@test "zcp-pub ends when nobody reads its handles any more" {
    start_routed
    run timeout 20 bash -c 'seq 100000 | zcp-pub --handles h | head -n 1; exit "${PIPESTATUS[1]}"'
    assert_equal "$status" 141
    assert_output --regexp "^zcp:$ZCP_DOMAIN:[0-9a-f.]+:[0-9a-f]{16}\$"
    eventually all_free
    run timeout 20 bash -c 'zcp-pub --handles h -m one -m two | true; exit "${PIPESTATUS[0]}"'
    [ "$status" = 0 ] || [ "$status" = 141 ]
    eventually all_free
}

@test "handles that nobody redeems are given up, and said so" {
    start_routed
    run -1 timeout 60 bash -c 'set -o pipefail; seq 9 | zcp-pub --handles h | grep nothing | zcp-sub --handles'
    assert_output --partial "nobody has redeemed a handle: 9 messages are given up"
    eventually all_free
}

@test "a filter that holds everything back is told whom zcp-pub waits for" {
    start_routed
    open_input
    seq 5000 >"$WORK/in"
    spawn zcp-pub --handles h "$WORK/in" >"$WORK/input" 2>"$WORK/err"
    eventually grep -q "waits for a first redeemer of its handles" "$WORK/err"
}

@test "a forged, stale or doubled handle is an error that shows it; the others are redeemed" {
    start_routed
    publisher_of_handles
    printf 'one\ntwo\nthree\n' >&8
    eventually handles_are_there 3
    local first second third
    first=$(handle 1) second=$(handle 2) third=$(handle 3)
    run -1 zcp-sub --handles <<<"$first
nonsense
$first
${second/%?/}
${second%:*}:00000000
$third
$second"
    assert_line "one"
    assert_line "three"
    assert_line --partial "cannot redeem handle nonsense: it is not a zcp handle"
    assert_line --partial "cannot redeem handle $first: redeemed already, or passed over"
    assert_line --partial "cannot redeem handle ${second/%?/}:"
    assert_line --partial "cannot redeem handle ${second%:*}:00000000: forged or mistyped"
    assert_line --partial "cannot redeem handle $second: redeemed already, or passed over"
    kill -TERM "$publisher"
    ends_with 143 "$publisher"
    eventually status_has "publishers=0"
    run -1 zcp-sub --handles <<<"$third"
    assert_output --partial "cannot redeem handle $third: stale: its publisher has gone"
    run -1 zcp-sub --handles -d "other.$$" <<<"$third"
    assert_output --partial "it is of domain $ZCP_DOMAIN, not other.$$"
    zcp-routed --stop -d "other.$$"
}

@test "many stale handles are one line and a count; the stream goes on" {
    start_routed
    publisher_of_handles
    seq 200 >&8
    eventually handles_are_there 200
    kill -KILL "$publisher"
    ends_with 137 "$publisher"
    eventually status_has "publishers=0"
    mv "$WORK/handles" "$WORK/stale"
    publisher_of_handles
    printf 'one\ntwo\nthree\n' >&8
    eventually handles_are_there 3
    # One is redeemed among them, and does not make them another kind.
    { head -n 100 "$WORK/stale"; handle 1; tail -n 100 "$WORK/stale"; handle 2; } >"$WORK/mixed"
    run -1 --separate-stderr zcp-sub --handles <"$WORK/mixed"
    assert_output $'one\ntwo'
    assert_equal "${#stderr_lines[@]}" 2
    assert_equal "${stderr_lines[0]}" "zcp-sub: cannot redeem handle $(head -n 1 "$WORK/stale"): stale: its publisher has gone"
    assert_equal "${stderr_lines[1]}" "zcp-sub: cannot redeem 199 more handles: stale: its publisher has gone"
    # Two are not many: each is shown.
    run -1 --separate-stderr zcp-sub --handles < <(head -n 2 "$WORK/stale")
    assert_equal "${#stderr_lines[@]}" 2
    [[ ${stderr_lines[1]} == *"handle $(sed -n 2p "$WORK/stale"): stale"* ]]
    # Where more may come, those that were only counted are told of in time.
    mkfifo "$WORK/to-reader"
    exec 7<>"$WORK/to-reader"
    spawn zcp-sub --handles <"$WORK/to-reader" 2>"$WORK/err"
    cat "$WORK/stale" >&7
    eventually grep -q "more handles: stale: its publisher has gone" "$WORK/err"
}

@test "lines that are no handles, however long and of whatever bytes, do not end the stream" {
    start_routed
    publisher_of_handles
    printf 'one\ntwo\n' >&8
    eventually handles_are_there 2
    {
        head -c 8191 /dev/zero | tr '\0' x
        echo
        head -c 100000 /dev/zero | tr '\0' x
        echo
        handle 1
        printf '\033[2J\n'
        echo "$(handle 2)"$'\001'
        printf '%s\0\n' "$(handle 2)"
        printf '\0\n\n'
        handle 2
        head -c 100000 /dev/zero | tr '\0' x
    } >"$WORK/mixed"
    run -1 --separate-stderr zcp-sub --handles <"$WORK/mixed"
    assert_output $'one\ntwo'
    [[ $stderr == *"handle $(handle 2)?: forged or mistyped"* ]]
    [[ $stderr == *"handle ?[2J: it is not a zcp handle"* ]]
    [[ $stderr == *"the line is longer than any handle"* ]]
}

@test "a handle of a domain that was made anew is stale" {
    start_routed
    publisher_of_handles
    echo one >&8
    eventually handles_are_there 1
    kill -KILL "$publisher"
    ends_with 137 "$publisher"
    eventually status_has "participants=0"
    zcp-routed --stop
    start_routed
    run -1 zcp-sub --handles <"$WORK/handles"
    assert_output --partial "stale: domain $ZCP_DOMAIN has been made anew"
}

@test "a second redeemer gets what is still there" {
    start_routed
    publisher_of_handles
    printf 'one\ntwo\n' >&8
    eventually handles_are_there 2
    mkfifo "$WORK/to-first" "$WORK/to-second"
    exec 6<>"$WORK/to-first" 7<>"$WORK/to-second"
    spawn zcp-sub --handles <"$WORK/to-first" >"$WORK/out1"
    spawn zcp-sub --handles <"$WORK/to-second" >"$WORK/out2"
    # The first takes its time: the second loses nothing that it still holds up.
    handle 1 >&6
    eventually grep -q one "$WORK/out1"
    cat "$WORK/handles" >&7
    eventually grep -q two "$WORK/out2"
    handle 2 >&6
    eventually grep -q two "$WORK/out1"
}

@test "one redeemer serves any number of publishers, one after the other" {
    start_routed --max-ports 12
    mkfifo "$WORK/to-reader"
    exec 7<>"$WORK/to-reader"
    spawn zcp-sub --handles <"$WORK/to-reader" >"$WORK/out"
    local i
    for i in $(seq 30); do
        zcp-pub --handles h -m "message $i" >"$WORK/to-reader"
    done
    eventually grep -q "message 30" "$WORK/out"
    assert_equal "$(wc -l <"$WORK/out")" 30
}

@test "a handle that was no good shows in the status, however it ends" {
    start_routed
    publisher_of_handles
    echo one >&8
    eventually handles_are_there 1
    run -1 zcp-sub --handles -c 1 < <(echo nonsense; handle 1)
    assert_line one
}

@test "killed writers and readers of handles leave nothing behind" {
    start_routed
    publisher_of_handles
    seq 1000 >&8
    eventually handles_are_there 1000
    mkfifo "$WORK/to-reader"
    exec 7<>"$WORK/to-reader"
    spawn zcp-sub --handles <"$WORK/to-reader" >"$WORK/out"
    local reader=$!
    head -n 500 "$WORK/handles" >&7
    eventually grep -q 500 "$WORK/out"
    kill -KILL "$reader"
    ends_with 137 "$reader"
    # Its publisher waits for it no longer.
    spawn seq 1001 100000 >&8
    eventually handles_are_there 5000
    kill -KILL "$publisher"
    ends_with 137 "$publisher"
    exec 8>&-
    eventually status_has "participants=0"
    eventually status_has "publishers=0"
    eventually all_free
}

@test "a daemon that is killed and started again changes nothing for handles" {
    start_routed
    publisher_of_handles
    printf 'one\ntwo\n' >&8
    eventually handles_are_there 2
    local daemon
    daemon=$(routed_pid)
    kill -KILL "$daemon"
    eventually eval "! kill -0 $daemon 2>/dev/null"
    start_routed
    run zcp-sub --handles <"$WORK/handles"
    assert_success
    assert_output $'one\ntwo'
}
