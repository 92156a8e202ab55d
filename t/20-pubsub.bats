#!/usr/bin/env bats
# zcp-pub and zcp-sub: each option, each framing, each exit status.
load helper

# A reader of topic t that writes to $WORK/out, there before its publisher.
@test "lines arrive as they were sent" {
    start_routed
    reader -e t
    seq 100000 | zcp-pub t
    wait "$reader"
    run cmp <(seq 100000) "$WORK/out"
    assert_success
}

@test "three reliable readers each get the same million lines in order" {
    start_routed
    local pids=()
    for i in 1 2 3; do
        spawn zcp-sub -e t >"$WORK/out$i"
        pids+=("$!")
    done
    seq 1000000 | zcp-pub -w 3 t
    wait "${pids[@]}"
    for i in 1 2 3; do
        run cmp <(seq 1000000) "$WORK/out$i"
        assert_success
    done
    eventually all_free
}

@test "short, long and empty lines keep their order and their length" {
    start_routed
    reader -e t
    awk 'BEGIN { srand(7); for (i = 0; i < 3000; i++) { n = int(rand() * rand() * 5000);
        s = sprintf("%d:", i); while (length(s) < n) s = s "abcdefghijklmnop";
        print (i % 17 ? s : "") } }' >"$WORK/in"
    zcp-pub t <"$WORK/in"
    wait "$reader"
    run cmp "$WORK/in" "$WORK/out"
    assert_success
}

@test "real text, with its empty lines and long ones, arrives as it was" {
    start_routed
    cat "$BATS_TEST_DIRNAME"/*.c "$BATS_TEST_DIRNAME"/../*/*.[ch] >"$WORK/text"
    for _ in $(seq 20); do cat "$WORK/text"; printf '\n\n\n'; done >"$WORK/in"
    reader -e t
    zcp-pub t <"$WORK/in"
    wait "$reader"
    run cmp "$WORK/in" "$WORK/out"
    assert_success
}

@test "the last line needs no newline" {
    start_routed
    reader -e t
    printf 'one\ntwo' | zcp-pub t
    wait "$reader"
    run cat "$WORK/out"
    assert_output $'one\ntwo'
}

@test "empty input publishes nothing" {
    start_routed
    reader -e t
    run zcp-pub -v t </dev/null
    assert_success
    assert_output --partial "0 messages"
    wait "$reader"
    [ ! -s "$WORK/out" ]
}

@test "-F nul and -0 end messages with a zero byte" {
    start_routed
    reader -0 -e t
    printf 'a b\0c\nd\0\0e' | zcp-pub -F nul t
    wait "$reader"
    run cmp <(printf 'a b\0c\nd\0\0e\0') "$WORK/out"
    assert_success
}

@test "-F raw passes any bytes through unchanged" {
    start_routed
    reader -F raw -e t
    head -c 5000000 /dev/urandom >"$WORK/in"
    zcp-pub -F raw t <"$WORK/in"
    wait "$reader"
    run cmp "$WORK/in" "$WORK/out"
    assert_success
}

@test "an archive goes through a pipeline unharmed" {
    start_routed
    mkdir "$WORK/tree"
    for i in $(seq 50); do
        head -c $((i * 997)) /dev/urandom >"$WORK/tree/$i"
    done
    reader -F raw -e t
    tar -C "$WORK" -c tree | zcp-pub -F raw t
    wait "$reader"
    mkdir "$WORK/copy"
    tar -C "$WORK/copy" -xf "$WORK/out"
    run diff -r "$WORK/tree" "$WORK/copy/tree"
    assert_success
}

@test "two publishers share a pool of a single chunk" {
    start_routed --pool 128:1
    spawn zcp-sub -c 2000 t >"$WORK/out"
    local reader=$!
    eventually status_has "subscribers=1"
    spawn zcp-pub t < <(seq -f 'the first publisher says line %g, and some more' 1000)
    local first=$!
    spawn zcp-pub t < <(seq -f 'the second publisher says line %g, and some more' 1000)
    wait "$first" "$!" "$reader"
    for who in first second; do
        run cmp <(grep "$who" "$WORK/out") \
            <(seq -f "the $who publisher says line %g, and some more" 1000)
        assert_success
    done
}

@test "a pool of one chunk carries a stream of short lines to its end" {
    start_routed --pool 64K:1
    reader -e t
    seq 100000 >"$WORK/in"
    zcp-pub t <"$WORK/in"
    wait "$reader"
    run cmp "$WORK/in" "$WORK/out"
    assert_success
}

@test "a publisher that waits for input keeps no memory from others" {
    start_routed --pool 64K:2
    open_input
    for _ in 1 2 3 4; do spawn zcp-pub idle <"$WORK/input"; done
    eventually status_has "publishers=4"
    spawn zcp-sub -e t >"$WORK/out"
    local reader=$!
    eventually status_has "subscribers=1"
    seq 100000 | zcp-pub t
    wait "$reader"
    run cmp <(seq 100000) "$WORK/out"
    assert_success
}

@test "-F raw:SIZE cuts records of that size" {
    start_routed
    reader -c 4 t
    printf 'aaabbbcccd' | zcp-pub -F raw:3 t
    wait "$reader"
    run cat "$WORK/out"
    assert_output $'aaa\nbbb\nccc\nd'
}

@test "-F u32be carries a length before each message, both ways" {
    start_routed
    reader -F u32be -e t
    printf '\0\0\0\3abc\0\0\0\0\0\0\0\5hello' >"$WORK/in"
    zcp-pub -F u32be t <"$WORK/in"
    wait "$reader"
    run cmp "$WORK/in" "$WORK/out"
    assert_success
}

@test "a cut frame is an error, what came before is delivered" {
    start_routed
    reader -F u32be -e t
    printf '\0\0\0\3abc\0\0\0\10cut' >"$WORK/in"
    run zcp-pub -F u32be t "$WORK/in"
    assert_equal "$status" 1
    assert_output --partial "$WORK/in: the last frame is cut: 7 of 12 bytes"
    wait "$reader"
    run cmp <(printf '\0\0\0\3abc') "$WORK/out"
    assert_success
}

@test "an oversize message names its size and the largest pool" {
    start_routed
    run zcp-pub t < <(head -c 90000 /dev/zero | tr '\0' x)
    assert_equal "$status" 1
    assert_output --partial "65537 bytes on t/default/default: largest pool holds 65536"
    assert_output --partial "--pool"
    run zcp-pub -F u32be t < <(printf '\0\1\137\220'; head -c 90000 /dev/zero)
    assert_equal "$status" 1
    assert_output --partial "90004 bytes"
}

@test "a message may fill the largest chunk to the last byte" {
    start_routed
    reader -e t
    { head -c 65536 /dev/zero | tr '\0' x; echo; seq 3; head -c 65536 /dev/zero | tr '\0' y; } >"$WORK/in"
    zcp-pub t <"$WORK/in"
    wait "$reader"
    run cmp <(cat "$WORK/in"; echo) "$WORK/out"
    assert_success
}

@test "a frame that announces too much is refused at once" {
    start_routed
    open_input
    printf '\377\377\377\377abcd' >&8
    run timeout 10 zcp-pub -F u32be t "$WORK/input"
    assert_equal "$status" 1
    assert_output --partial "largest pool holds 65536"
}

@test "a message larger than a stream chunk goes through a larger pool" {
    start_routed --pool 4K:16 --pool 64K:8 --pool 1M:4
    reader -e t
    { seq 10; head -c 300000 /dev/zero | tr '\0' x; echo; seq 10; } >"$WORK/in"
    zcp-pub t <"$WORK/in"
    wait "$reader"
    run cmp "$WORK/in" "$WORK/out"
    assert_success
}

@test "-m publishes its texts, in order, and reads no input" {
    start_routed
    reader -c 3 t
    echo ignored | zcp-pub t -m one -m 'two words' -m ''
    wait "$reader"
    run cmp <(printf 'one\ntwo words\n\n') "$WORK/out"
    assert_success
}

@test "-n stops after so many messages" {
    start_routed
    reader -e t
    seq 1000 | zcp-pub -n 7 t
    wait "$reader"
    run cmp <(seq 7) "$WORK/out"
    assert_success
    reader -e t
    zcp-pub -n 1 t -m one -m two
    wait "$reader"
    run cat "$WORK/out"
    assert_output one
}

@test "-c ends after so many messages" {
    start_routed
    reader -c 7 t
    seq 1000 | zcp-pub t
    wait "$reader"
    run cmp <(seq 7) "$WORK/out"
    assert_success
}

@test "files are published one after the other, - is standard input" {
    start_routed
    reader -e t
    seq 1 3 >"$WORK/a"
    seq 7 9 >"$WORK/b"
    seq 4 6 | zcp-pub t "$WORK/a" - "$WORK/b"
    wait "$reader"
    run cmp <(seq 9) "$WORK/out"
    assert_success
}

@test "a file that cannot be opened is named" {
    start_routed
    run zcp-pub t "$WORK/nothing"
    assert_equal "$status" 1
    assert_output --partial "cannot open $WORK/nothing: No such file"
}

@test "-w waits for readers, -W gives up with 3" {
    start_routed
    run zcp-pub -w 1 -W 50ms t -m x
    assert_equal "$status" 3
    assert_output --partial "0 of 1 readers"
    spawn zcp-pub -w 2 t -m hello
    local publisher=$!
    spawn zcp-sub -e t >"$WORK/out1"
    local first=$!
    eventually status_has "subscribers=1"
    kill -0 "$publisher"
    spawn zcp-sub -e t >"$WORK/out2"
    wait "$publisher" "$first" "$!"
    run cat "$WORK/out1" "$WORK/out2"
    assert_output $'hello\nhello'
}

@test "-W ends a reader with 3 when nothing came, with 0 when something did" {
    start_routed
    run zcp-sub -W 50ms t
    assert_equal "$status" 3
    assert_output --partial "timed out after 0 messages"
    reader -W 300ms t
    zcp-pub t -m x
    wait "$reader"
    run cat "$WORK/out"
    assert_output x
}

@test "-W with -c ends with 3 when fewer came" {
    start_routed
    reader -W 300ms -c 2 t
    zcp-pub t -m x
    ends_with 3 "$reader"
    run cat "$WORK/out"
    assert_output x
}

@test "a publisher without a reader says with -v what is gone" {
    start_routed
    run zcp-pub -v t -m one -m two
    assert_success
    assert_output --partial "2 messages had no subscriber"
    run zcp-pub t -m one
    assert_output ""
}

@test "--drop never waits for a stopped reader, and counts" {
    start_routed
    reader t
    kill -STOP "$reader"
    run timeout 10 zcp-pub --drop t < <(seq 100000)
    assert_success
    kill -CONT "$reader"
}

@test "a lossy reader counts what it lost and --fail-on-loss ends with 4" {
    start_routed
    reader --drop --fail-on-loss -e t
    kill -STOP "$reader"
    seq 100000 | zcp-pub t
    kill -CONT "$reader"
    ends_with 4 "$reader"
    run cat "$WORK/err"
    assert_output --regexp "[0-9]+ messages lost"
    # What did come is in order, and it and the losses are all there is.
    sort -nc "$WORK/out"
    local lost
    lost=$(sed -n 's/.*: \([0-9]*\) messages lost/\1/p' "$WORK/err" | tail -n 1)
    assert_equal $(($(wc -l <"$WORK/out") + lost)) 100000
}

# Stopped for so long that nobody waits for it: $reader has lost messages.
stop_reader_and_overrun() {
    kill -STOP "$reader"
    eventually status_has 'state=stalled'
    seq 100000 | zcp-pub t
    kill -CONT "$reader"
}

@test "a reliable reader that lost messages ends with 4 by itself" {
    start_routed --heartbeat 50ms
    reader -q -e t
    stop_reader_and_overrun
    ends_with 4 "$reader"
    local lost
    lost=$(sed -n 's/.*zcp-sub: t: \([0-9]*\) messages lost/\1/p' "$WORK/err" | tail -n 1)
    assert_equal $(($(wc -l <"$WORK/out") + lost)) 100000
}

@test "a stream that was cut by a stop is not taken for complete" {
    start_routed --heartbeat 50ms
    # As zcp-sub(1) has it.
    spawn bash -c 'echo $$ >"$0/pid"; zcp-sub -F raw -e t >"$0/out" && echo complete >"$0/complete"' "$WORK"
    eventually status_has subscribers=1
    reader=$(pgrep -P "$(cat "$WORK/pid")")
    stop_reader_and_overrun
    ends_with 4 "$!"
    [ ! -e "$WORK/complete" ]
}

@test "a recording of a pattern is reliable unless it is told otherwise" {
    start_routed
    reader -F frame 'rec/*'
    status_has 'reliable=1'
    kill "$reader"
    eventually status_has subscribers=0
    reader -F frame --drop 'rec/*'
    status_has 'reliable=0'
    kill "$reader"
    eventually status_has subscribers=0
    reader 'rec/*'
    status_has 'reliable=0'
}

@test "a slow reader holds its publisher up and loses nothing" {
    start_routed
    mkfifo "$WORK/fifo"
    # The shell itself would wait for the fifo to be read.
    spawn bash -c 'exec zcp-sub -e t >"$0"' "$WORK/fifo"
    local reader=$!
    spawn zcp-pub -w 1 -v t < <(seq 300000) 2>"$WORK/err"
    local publisher=$!
    exec 9<"$WORK/fifo"
    eventually grep -q "waits for zcp-sub (pid $reader)" "$WORK/err"
    kill -0 "$publisher"
    run cmp <(seq 300000) - <&9
    exec 9<&-
    assert_success
    wait "$publisher" "$reader"
}

@test "-e names a publisher that died and ends with 1" {
    start_routed
    reader -e t
    open_input
    seq 10 >&8
    spawn zcp-pub --name doomed t <"$WORK/input"
    local publisher=$!
    eventually eval '[ "$(wc -l <"$WORK/out")" = 10 ]'
    kill -KILL "$publisher"
    ends_with 1 "$reader"
    run cat "$WORK/err"
    assert_output --partial "publisher doomed (pid $publisher) died"
}

@test "several topics and a pattern in one reader" {
    start_routed
    spawn zcp-sub -c 4 --reliable a 'radar/*' >"$WORK/out"
    local reader=$!
    eventually status_has "subscribers=2"
    zcp-pub a -m 1
    zcp-pub radar/front -m 2
    zcp-pub radar/rear -m 3
    zcp-pub lidar -m no
    zcp-pub a -m 4
    wait "$reader"
    run sort -n "$WORK/out"
    assert_output $'1\n2\n3\n4'
}

@test "--tap watches and is no reader" {
    start_routed
    spawn zcp-sub --tap -c 2 t >"$WORK/out"
    local tap=$!
    # Nobody can see when it watches; so messages come until it has seen two.
    open_input
    spawn zcp-pub -v t <"$WORK/input" 2>"$WORK/err"
    local publisher=$!
    while kill -0 "$tap" 2>/dev/null; do
        echo message >&8
        sleep 0.02
    done
    wait "$tap"
    kill -TERM "$publisher"
    ends_with 143 "$publisher"
    run cat "$WORK/out"
    assert_output $'message\nmessage'
    run cat "$WORK/err"
    assert_output --partial "had no subscriber"
}

@test "-d and ZCP_DOMAIN name the bus" {
    local domain=$ZCP_DOMAIN
    start_routed
    reader -d "$domain" -e t
    (unset ZCP_DOMAIN; zcp-pub -d "$domain" t -m x)
    wait "$reader"
    run cat "$WORK/out"
    assert_output x
}

@test "--name is what others see" {
    start_routed
    reader --name watcher-7 t
    run zcp-routed --status
    assert_output --partial "name=watcher-7 pid=$reader"
    run zcp-sub --name 'bad name!' -W 50ms t
    assert_equal "$status" 3
}

@test "-v sums up, -q is silent" {
    start_routed
    reader -v -e t
    run zcp-pub -v t -m abc
    assert_output --partial "1 messages, 3 bytes"
    wait "$reader"
    run cat "$WORK/err"
    assert_output --partial "1 messages, 0 lost"
    run zcp-pub -q --drop t -m abc
    assert_output ""
}

@test "SIGTERM delivers what was read and ends with 143, SIGINT with 130" {
    start_routed
    for sig in TERM INT; do
        reader -e t
        # Commands in the background of a shell ignore SIGINT; not these.
        open_input
        printf 'x\ny' >&8
        spawn env --default-signal=INT zcp-pub t <"$WORK/input"
        local publisher=$!
        eventually grep -q x "$WORK/out"
        kill -s "$sig" "$publisher"
        ends_with $([ "$sig" = TERM ] && echo 143 || echo 130) "$publisher"
        wait "$reader"
        run cat "$WORK/out"
        assert_output $'x\ny'
    done
}

@test "a reader ended by SIGTERM leaves in order" {
    start_routed
    reader t
    kill -TERM "$reader"
    ends_with 143 "$reader"
    eventually status_has "participants=0"
    status_has "deaths=0"
}

@test "a closed pipe ends the reader quietly" {
    start_routed
    spawn zcp-pub -w 1 t < <(seq 1000000)
    run bash -c 'set -o pipefail; zcp-sub t 2>'"$WORK/err"' | head -n 3'
    assert_equal "$status" 141
    assert_output $'1\n2\n3'
    [ ! -s "$WORK/err" ]
}

@test "a full disk is named" {
    start_routed
    spawn zcp-pub -w 1 t < <(seq 1000)
    run bash -c 'zcp-sub t >/dev/full'
    assert_equal "$status" 1
    assert_output --partial "cannot write standard output: No space left"
}

@test "--history serves readers that come later, while the publisher runs" {
    start_routed
    open_input
    spawn zcp-pub --history 3 t <"$WORK/input"
    printf '%s\n' one two three four five >&8
    eventually status_has 'topic=t/default/default .* messages=5'
    run zcp-sub -c 3 t
    assert_output $'three\nfour\nfive'
}

@test "--retain serves readers that come after the end; the topic keeps the last N in all" {
    start_routed
    seq 1 3 | zcp-pub --history 4 --retain=2s t
    seq 4 6 | zcp-pub --history 4 --retain=2s t
    run zcp-sub -e t
    assert_equal "$(sort <<<"$output")" $'3\n4\n5\n6'
    # Without --history the last one.
    zcp-pub --retain -m first -m last state
    run zcp-sub -e state
    assert_output last
    zcp-routed --stop
    # A daemon that finds nothing but history takes it up.
    start_routed
    run zcp-sub -e state
    assert_output last
    leftovers_allowed=1
}

@test "a time or count that makes no sense is a usage error that names it" {
    run -2 zcp-pub --history many t
    assert_output --partial "--history many: not a count up to 524288"
    run -2 zcp-pub --retain=soon t
    assert_output --partial "--retain=soon: not a time"
    run -2 zcp-pub --retain --history 0 t
    assert_output --partial "--retain keeps nothing of --history 0"
}

@test "-v does not count as gone what the history keeps" {
    start_routed
    run zcp-pub -v --history 2 t -m a -m b -m c
    assert_output --partial "t: 1 messages had no subscriber and are gone"
    run zcp-pub -v --history 4 t -m a -m b -m c
    refute_output --partial "gone"
}
