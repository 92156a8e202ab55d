#!/usr/bin/env bats
# kill -9 in mid-stream: the others go on, memory returns.
load helper

@test "a killed publisher: its readers get what it published, in order" {
    start_routed
    spawn zcp-sub -e t >"$WORK/out" 2>"$WORK/err"
    local reader=$!
    eventually status_has "subscribers=1"
    spawn zcp-pub t < <(seq 100000000)
    local publisher=$!
    eventually test -s "$WORK/out"
    kill -KILL "$publisher"
    ends_with 1 "$reader"
    run cmp "$WORK/out" <(seq "$(wc -l <"$WORK/out")")
    assert_success
    eventually all_free
    eventually status_has "draining=0"
}

@test "a killed reader: the publisher and the other reader go on" {
    start_routed
    spawn zcp-sub -e t >"$WORK/out"
    local reader=$!
    spawn zcp-sub -e t >"$WORK/victim"
    local victim=$!
    eventually status_has "subscribers=2"
    spawn zcp-pub t < <(seq 3000000)
    local publisher=$!
    eventually test -s "$WORK/victim"
    kill -KILL "$victim"
    wait "$publisher" "$reader"
    run cmp <(seq 3000000) "$WORK/out"
    assert_success
    eventually all_free
}

@test "a reader killed while it holds the publisher up" {
    start_routed
    mkfifo "$WORK/fifo"
    # The shell itself would wait for the fifo to be read.
    spawn bash -c 'exec zcp-sub -e t >"$0"' "$WORK/fifo"
    local victim=$!
    exec 9<"$WORK/fifo"
    eventually status_has "subscribers=1"
    spawn zcp-pub -v t < <(seq 1000000) 2>"$WORK/err"
    local publisher=$!
    eventually grep -q "waits for zcp-sub" "$WORK/err"
    kill -KILL "$victim"
    exec 9<&-
    wait "$publisher"
    eventually all_free
}

@test "a killed daemon: nothing is lost, the next one takes over" {
    start_routed
    local daemon
    daemon=$(routed_pid)
    spawn zcp-sub -e t >"$WORK/out"
    local reader=$!
    eventually status_has "subscribers=1"
    spawn zcp-pub t < <(seq 3000000)
    local publisher=$!
    eventually test -s "$WORK/out"
    kill -KILL "$daemon"
    local before
    before=$(wc -l <"$WORK/out")
    eventually eval '[ "$(wc -l <"$WORK/out")" -gt $((before + 1000)) ]'
    start_routed
    [ "$(routed_pid)" != "$daemon" ]
    wait "$publisher" "$reader"
    run cmp <(seq 3000000) "$WORK/out"
    assert_success
    eventually all_free
    eventually status_has "participants=0"
}

@test "a stopped daemon: clients go on and the next one adopts them" {
    start_routed
    spawn zcp-sub -e t >"$WORK/out"
    local reader=$!
    eventually status_has "subscribers=1"
    zcp-routed --stop
    kill -0 "$reader"
    start_routed
    status_has "subscribers=1"
    seq 1000 | zcp-pub t
    wait "$reader"
    run cmp <(seq 1000) "$WORK/out"
    assert_success
}

@test "a client that starts while the daemon is away waits for it" {
    start_routed
    zcp-routed --stop
    spawn zcp-pub t -m hello
    local publisher=$!
    spawn zcp-sub -c 1 t >"$WORK/out"
    start_routed
    wait "$publisher"
}

@test "everybody killed: the next daemon starts clean" {
    start_routed
    local daemon
    daemon=$(routed_pid)
    spawn zcp-sub t >"$WORK/out"
    local reader=$!
    eventually status_has "subscribers=1"
    spawn zcp-pub t < <(seq 100000000)
    local publisher=$!
    eventually test -s "$WORK/out"
    kill -KILL "$daemon" "$publisher" "$reader"
    start_routed
    # They may still be ending when it starts.
    eventually all_free
    eventually status_has "participants=0"
    spawn zcp-sub -e t >"$WORK/out2"
    reader=$!
    eventually status_has "subscribers=1"
    seq 10 | zcp-pub t
    wait "$reader"
    run cmp <(seq 10) "$WORK/out2"
    assert_success
}
