#!/usr/bin/env bats
# How commands end: the first signal is obeyed soon, whoever does not read.
load helper

# A reader that has joined and takes nothing more, and a publisher that waits
# for it: $publisher, its words in $WORK/err.
publisher_waits() {
    reader t
    kill -STOP "$reader"
    spawn env --default-signal=INT,HUP zcp-pub -v "$@" t < <(seq 1000000) 2>"$WORK/err"
    publisher=$!
    eventually grep -q "waits for" "$WORK/err"
}

@test "the first signal ends a publisher whose reader does not read" {
    start_routed --on-stall wait
    for sig in TERM INT HUP; do
        publisher_waits
        kill -s "$sig" "$publisher"
        ends_with $((128 + $(kill -l "$sig"))) "$publisher"
        run cat "$WORK/err"
        assert_output --regexp "gave up [0-9]+ messages that had been read: .*no room in the ring"
        kill -CONT "$reader"
        kill -TERM "$reader"
        ends_with 143 "$reader"
        eventually status_has "subscribers=0"
    done
}

@test "what is given up and what was published are all that was read" {
    start_routed --on-stall wait
    publisher_waits
    kill -TERM "$publisher"
    ends_with 143 "$publisher"
    kill -CONT "$reader"
    local sent given
    sent=$(sed -n 's/.*: \([0-9]*\) messages, .* bytes$/\1/p' "$WORK/err")
    given=$(sed -n 's/.*gave up \([0-9]*\) messages.*/\1/p' "$WORK/err")
    eventually [ "$(tail -n 1 "$WORK/out")" = "$sent" ]
    [ "$given" -gt 0 ]
    assert_equal "$(wc -l <"$WORK/out")" "$sent"
}

@test "--drain says for how long what was read is offered" {
    start_routed --on-stall wait
    publisher_waits --drain 1h
    kill -TERM "$publisher"
    kill -CONT "$reader"
    ends_with 143 "$publisher"
    run cat "$WORK/err"
    refute_output --partial "gave up"
    run -2 zcp-pub --drain soon t -m x
    assert_output --partial "--drain soon: not a time"
}

@test "a publisher that waits for memory ends on a signal, too" {
    start_routed --on-stall wait --pool 64:1
    reader hog
    kill -STOP "$reader"
    zcp-pub hog -m "$(printf '%040d' 1)"
    spawn zcp-pub -v other -m "$(printf '%040d' 1)" 2>"$WORK/err"
    local waiting=$!
    eventually grep -q "waits for memory" "$WORK/err"
    kill -TERM "$waiting"
    ends_with 143 "$waiting"
    run cat "$WORK/err"
    assert_output --partial "gave up 1 message that had been read"
}

@test "--timeout-publish ends with 3 and counts what was not published" {
    start_routed --on-stall wait
    reader t
    kill -STOP "$reader"
    run -3 timeout 60 zcp-pub --timeout-publish 200ms t < <(seq 1000000)
    assert_output --regexp "gave up [0-9]+ messages: .*no room in the ring"
    run -2 zcp-pub --timeout-publish x t -m x
    assert_output --partial "--timeout-publish x: not a time"
    run -2 zcp-pub --timeout-publish 1s --drop t -m x
    assert_output --partial "exclude each other"
}
