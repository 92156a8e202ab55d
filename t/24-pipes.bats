#!/usr/bin/env bats
# Between other commands and before people: signals, pipes, terminals.
load helper

state_of() { sed -n 's/^State:\t\(.\).*/\1/p' "/proc/$1/status"; }
state_is() { [ "$(state_of "$1")" = "$2" ]; }
resident_kb() { awk '/^VmRSS:/ { print $2 }' "/proc/$1/status"; }
ticks_of() { awk '{ print $14 + $15 }' "/proc/$1/stat"; }

@test "backpressure reaches the producer: nobody grows, nobody spins" {
    start_routed
    mkfifo "$WORK/fifo"
    spawn bash -c 'exec zcp-sub t >"$0"' "$WORK/fifo"
    local reader=$!
    exec 9<"$WORK/fifo"
    mkfifo "$WORK/yes"
    spawn bash -c 'exec yes >"$0"' "$WORK/yes"
    local producer=$!
    spawn zcp-pub -w 1 t <"$WORK/yes"
    local publisher=$!
    # All three sleep, and go on sleeping.
    local pid
    for pid in "$reader" "$producer" "$publisher"; do
        eventually state_is "$pid" S
    done
    zcp-sub -W 300ms nothing || true
    local before=()
    for pid in "$reader" "$producer" "$publisher"; do before+=("$(ticks_of "$pid")"); done
    local memory
    memory=$(resident_kb "$publisher")
    zcp-sub -W 2s nothing || true
    local i=0
    for pid in "$reader" "$producer" "$publisher"; do
        # Two seconds of spinning were two hundred.
        [ $(($(ticks_of "$pid") - before[i++])) -lt 20 ]
    done
    [ $(($(resident_kb "$publisher") - memory)) -lt 1000 ]
    # And then it flows.
    run head -n 100000 <&9
    assert_equal "${#lines[@]}" 100000
    exec 9<&-
}

@test "a closed pipe ends an idle reader, too" {
    start_routed
    run timeout 20 bash -c 'set -o pipefail; zcp-sub quiet | true'
    assert_equal "$status" 141
    eventually status_has "participants=0"
}

@test "pipefail scripts see the first that failed" {
    start_routed
    run bash -c 'set -o pipefail; echo x | zcp-pub a//b | cat'
    assert_equal "$status" 2
    zcp-pub --retain t -m x
    run bash -c 'set -o pipefail; zcp-sub -I 0 -c 5 t | cat'
    assert_equal "$status" 3
    leftovers_allowed=1
}

@test "a reader that is stopped loses nothing it is waited for, and goes on" {
    start_routed --on-stall wait
    reader -e t
    kill -STOP "$reader"
    eventually state_is "$reader" T
    spawn zcp-pub t < <(seq 100000)
    local publisher=$!
    eventually state_is "$publisher" S
    kill -CONT "$reader"
    wait "$publisher" "$reader"
    run cmp <(seq 100000) "$WORK/out"
    assert_success
}

@test "a publisher that is stopped and continued has sent all" {
    start_routed
    reader -e t
    open_input
    spawn zcp-pub t <"$WORK/input"
    local publisher=$!
    echo one >&8
    eventually grep -q one "$WORK/out"
    kill -STOP "$publisher"
    eventually state_is "$publisher" T
    echo two >&8
    kill -CONT "$publisher"
    eventually grep -q two "$WORK/out"
    kill -TERM "$publisher"
    ends_with 143 "$publisher"
    wait "$reader"
}

@test "two signals end at once what waits for a reader" {
    start_routed
    mkfifo "$WORK/fifo"
    spawn bash -c 'exec zcp-sub t >"$0"' "$WORK/fifo"
    local reader=$!
    exec 9<"$WORK/fifo"
    spawn zcp-pub -w 1 -v t < <(seq 1000000) 2>"$WORK/err"
    local publisher=$!
    eventually grep -q "waits for" "$WORK/err"
    kill -TERM "$publisher"
    # Noted, and then what was read is delivered: to a reader that reads not.
    eventually eval "grep -q 'SigCgt:.*[02468ace]...\$' /proc/$publisher/status"
    kill -TERM "$publisher"
    ends_with 143 "$publisher"
    exec 9<&-
    ends_with 141 "$reader"
}

@test "a signal loses nothing of what was read, however long its reader takes" {
    start_routed --on-stall wait
    reader -e t
    kill -STOP "$reader"
    seq -f 'line %08g of twenty' 100000 >"$WORK/in"
    spawn zcp-pub t <"$WORK/in"
    local publisher=$! pos
    eventually state_is "$publisher" S
    zcp-sub -W 300ms nothing || true
    kill -TERM "$publisher"
    pos=$(sed -n 's/^pos:\t//p' "/proc/$publisher/fdinfo/0")
    kill -CONT "$reader"
    ends_with 143 "$publisher"
    wait "$reader"
    [ "$pos" -ge 65536 ]
    # The last line may have been read in part.
    run cmp -n "$pos" "$WORK/in" "$WORK/out"
    assert_success
    [ "$(wc -c <"$WORK/out")" -le $((pos + 1)) ]
}

@test "a signal publishes no part of a file or record as if it were whole" {
    start_routed
    open_input
    local framing
    for framing in file raw:100 u32be; do
        reader -e t
        printf '\0\0\0\144part' >&8
        spawn zcp-pub -F "$framing" t <"$WORK/input" 2>"$WORK/said"
        local publisher=$!
        eventually status_has "publishers=1"
        eventually eval '[ "$(sed -n "s/^rchar: //p" "/proc/$publisher/io")" -ge 8 ] && state_is $publisher S'
        eventually eval '! read -t 0 -u 8'
        kill -TERM "$publisher"
        ends_with 143 "$publisher"
        wait "$reader"
        [ ! -s "$WORK/out" ]
        run cat "$WORK/said"
        assert_output --partial "8 bytes of a message that had not come whole are left out"
        eventually status_has "subscribers=0"
    done
}

@test "any second signal ends at once; an ignored one stays ignored" {
    start_routed
    open_input
    spawn env --default-signal=INT zcp-pub --handles h <"$WORK/input" >"$WORK/handles"
    local publisher=$!
    eventually status_has "publishers=1"
    seq 5000 >&8 &
    wait "$!"
    eventually state_is "$publisher" S
    kill -INT "$publisher"
    kill -TERM "$publisher" 2>/dev/null || true
    wait "$publisher" || true
    # Commands in the background of a script: SIGINT is not theirs.
    reader t
    kill -INT "$reader"
    zcp-pub t -m still
    eventually grep -q still "$WORK/out"
}

@test "where SIGPIPE is ignored a closed pipe ends them all the same" {
    start_routed
    run timeout 20 bash -c 'trap "" PIPE; seq 5000 | zcp-pub --handles h | head -n 1'
    refute [ "$status" = 124 ]
    run timeout 20 bash -c 'trap "" PIPE; zcp-sub quiet | true'
    refute [ "$status" = 124 ]
    eventually status_has "participants=0"
}

@test "bytes that are no text go through as they are, in any locale" {
    start_routed
    head -c 200000 /dev/urandom | tr -d '\n' >"$WORK/in"
    echo >>"$WORK/in"
    local locale
    for locale in C C.UTF-8 tr_TR.UTF-8; do
        eventually status_has "subscribers=0"
        reader -e -F raw t
        fold -b -w 1000 "$WORK/in" | LC_ALL=$locale zcp-pub t
        wait "$reader"
        run cmp <(fold -b -w 1000 "$WORK/in" | tr -d '\n') "$WORK/out"
        assert_success
    done
}

# ---- terminals ----

@test "on a terminal: lines appear as they come, ^C ends in order with 130" {
    start_routed
    start_terminal
    type_in 'zcp-sub t' Enter
    eventually status_has "subscribers=1"
    zcp-pub t -m first
    eventually on_screen '^first$'
    zcp-pub t -m second
    eventually on_screen '^second$'
    type_in C-c
    type_in 'echo "status $?"' Enter
    eventually on_screen '^status 130'
    eventually status_has "participants=0"
    stop_terminal
    status_has "deaths=0"
}

@test "on a terminal: a progress line with bytes, messages, rates, ETA and whom it waits for" {
    start_routed
    start_terminal
    seq 1000000 >"$WORK/in"
    mkfifo "$WORK/fifo"
    spawn bash -c 'exec zcp-sub --name sloth -e t >"$0"' "$WORK/fifo"
    local reader=$!
    exec 9<"$WORK/fifo"
    eventually status_has "subscribers=1"
    type_in "zcp-pub t <'$WORK/in'; echo \"status \$?\"" Enter
    eventually on_screen 'B 0:00:[0-9]+ \[.*/s\] .* messages \[.*/s\] [0-9]+% ETA .*, waits for sloth \(pid '"$reader"'\)'
    cat <&9 >"$WORK/out"
    exec 9<&-
    eventually on_screen '^status 0'
    # The last line says what it all came to.
    on_screen '^6\.57 MiB 0:00:.* 1\.00 M messages \[.*/s\] 100% ETA 0:00:00 *$'
    cmp "$WORK/in" "$WORK/out"
    stop_terminal
}

@test "on a terminal: ^Z and fg leave a reader where it was" {
    start_routed
    start_terminal
    type_in 'zcp-sub t' Enter
    eventually status_has "subscribers=1"
    type_in C-z
    eventually on_screen 'Stopped'
    zcp-pub t -m meanwhile
    type_in 'fg' Enter
    eventually on_screen '^meanwhile$'
    type_in C-c
    eventually status_has "participants=0"
    stop_terminal
}

@test "on a terminal: what is typed goes line by line, ^D ends it" {
    start_routed
    reader -e t
    start_terminal
    type_in 'zcp-pub t; echo "status $?"' Enter
    # What is typed earlier may be the shell's.
    eventually status_has "publishers=1"
    type_in 'hello there' Enter
    eventually grep -q 'hello there' "$WORK/out"
    type_in C-d
    eventually on_screen '^status 0'
    wait "$reader"
    stop_terminal
}
