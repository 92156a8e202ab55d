#!/usr/bin/env bats
# zcp-pub and zcp-sub as daily tools: each option beyond the first ones.
load helper

# What the topic's history holds.
history_of() { zcp-sub -I 0 "$@"; }

# ---- zcp-pub ----

@test "-D cuts at any text, escapes included" {
    printf 'a--b-c----d' | zcp-pub --history 9 --retain -D -- t
    run history_of -f '[%s]' t
    assert_output '[a][b-c][][d]'
    printf 'x\r\ny\r\nz' | zcp-pub --history 9 --retain -D '\r\n' u
    run history_of -f '[%s]' u
    assert_output '[x][y][z]'
    printf 'p\1q\1' | zcp-pub --history 9 --retain -D '\x01' v
    run history_of -D '\t|' v
    assert_output $'p\t|q\t|'
    leftovers_allowed=1
}

@test "a delimiter that lies across the end of the largest chunk is found" {
    start_routed
    local n
    for n in 65532 65533 65534 65535 65536; do
        reader -e -f '%S ' t
        { head -c "$n" /dev/zero | tr '\0' x; printf 'ENDrest'; } | zcp-pub -D END t
        wait "$reader"
        run cat "$WORK/out"
        assert_output "$n 4 "
        eventually status_has "subscribers=0"
    done
    run zcp-pub -D END t < <(head -c 65537 /dev/zero | tr '\0' x)
    assert_equal "$status" 1
    assert_output --partial "largest pool holds 65536"
}

@test "-F file makes each file one message" {
    printf 'one\ntwo\n' >"$WORK/a"
    head -c 65536 /dev/urandom >"$WORK/b"
    : >"$WORK/empty"
    echo three | zcp-pub --history 9 --retain -F file t "$WORK/a" "$WORK/empty" "$WORK/b" -
    run history_of -f '%S ' t
    assert_output "8 0 65536 6 "
    head -c 65537 /dev/urandom >"$WORK/c"
    run -1 zcp-pub -F file t "$WORK/c"
    assert_output --partial "65537 bytes"
    leftovers_allowed=1
}

@test "-m goes before files, and neither reads standard input" {
    echo file >"$WORK/a"
    echo ignored | zcp-pub --history 9 --retain t -m one "$WORK/a" -m two
    run history_of t
    assert_output $'one\ntwo\nfile'
    leftovers_allowed=1
}

@test "-r spaces messages evenly" {
    seq 100 | zcp-pub --history 9 --retain -r 50/s -n 6 t
    run history_of -J t
    # Sixth after first: five fiftieths of a second, or more; never at once.
    run jq -s 'length == 6 and (.[5].time - .[0].time) >= 0.0999
        and ([range(5) as $i | .[$i + 1].time - .[$i].time] | min) > 0' <<<"$output"
    assert_output true
    leftovers_allowed=1
}

@test "-r takes messages of any size that fits" {
    start_routed --pool 1500K:6
    head -c 1400000 /dev/urandom >"$WORK/in"
    reader -c 1 -F raw t
    timeout 20 zcp-pub -F file -r 10/s t "$WORK/in"
    wait "$reader"
    cmp "$WORK/in" "$WORK/out"
    reader -c 1 t
    timeout 20 zcp-pub -r 10/s t < <(tr -d '\n' <"$WORK/in"; echo)
    wait "$reader"
    run cmp <(tr -d '\n' <"$WORK/in"; echo) "$WORK/out"
    assert_success
}

@test "a signal ends a pace at once" {
    start_routed
    reader -e t
    spawn zcp-pub -r 1/h t -m one -m two
    local publisher=$!
    eventually grep -q one "$WORK/out"
    kill -TERM "$publisher"
    ends_with 143 "$publisher"
    wait "$reader"
    run cat "$WORK/out"
    assert_output one
}

@test "--repeat publishes files, texts and seekable input again" {
    seq 2 >"$WORK/a"
    zcp-pub --history 20 --retain --repeat=3 t -m x "$WORK/a" - <"$WORK/a"
    run history_of -f '%s ' t
    assert_output "x 1 2 1 2 x 1 2 1 2 x 1 2 1 2 "
    run -1 zcp-pub --repeat=2 t < <(echo x)
    assert_output --partial "cannot read standard input again"
    # Nothing, for ever, is done soon.
    run -0 timeout 10 zcp-pub --repeat t /dev/null
    leftovers_allowed=1
}

@test "--interval repeats until -n or a signal" {
    zcp-pub --history 9 --retain --interval 1ms -n 4 t -m tick
    run history_of -f '%s ' t
    assert_output "tick tick tick tick "
    reader t
    spawn zcp-pub --interval 1ms t -m tick
    local publisher=$!
    eventually eval '[ "$(wc -l <"$WORK/out")" -ge 5 ]'
    kill -TERM "$publisher"
    ends_with 143 "$publisher"
    leftovers_allowed=1
}

@test "--type is what readers see, of texts, lines and files" {
    echo line >"$WORK/a"
    zcp-pub --history 9 --retain --type 65535 t -m text "$WORK/a"
    head -c 40000 /dev/zero >"$WORK/big"
    zcp-pub --history 9 --retain --type 7 -F raw u "$WORK/big"
    run history_of -f '%k ' t
    assert_output "65535 65535 "
    run history_of -f '%k ' u
    assert_output "7 "
    leftovers_allowed=1
}

@test "-T writes what is published to standard output, too" {
    seq 100000 >"$WORK/in"
    zcp-pub -T t <"$WORK/in" >"$WORK/out"
    cmp "$WORK/in" "$WORK/out"
    run zcp-pub -T -n 2 t < <(seq 9)
    assert_output $'1\n2'
    run zcp-pub -T t -m a -m b
    assert_output $'a\nb'
    run zcp-pub -T -D , t < <(printf a,b)
    assert_output a,b
    run -1 bash -c 'seq 9 | zcp-pub -T t >/dev/full'
    assert_output --partial "cannot write standard output: No space left"
}

@test "no progress where stderr is no terminal; -v sums up" {
    run zcp-pub -v t < <(seq 1000)
    assert_output --partial "zcp-pub: t: 1000 messages, 2893 bytes"
    refute_output --partial $'\r'
}

# ---- zcp-sub ----

@test "-f prints each field, and escapes" {
    zcp-pub --name me --retain --type 3 a/b/c -m 'x y'
    run history_of -f '%t|%s|%S|%x|%o|%k|%p|%%\t\x41\n' a/b/c
    assert_output $'a/b/c|x y|3|782079|0|3|me|%\tA'
    run history_of -f '%T %D %P\n' a/b/c
    assert_output --regexp '^[0-9]+\.[0-9]{9} [0-9]+\.[0-9]{9} [0-9]+$'
    leftovers_allowed=1
}

@test "-J prints one JSON object a line, with payloads of any bytes" {
    printf '%s\0' 'plain' $'quote " back \\ tab \t bell \a' 'grün ∀ 😀' '' >"$WORK/in"
    printf '\377\376\0\355\240\200\0' >>"$WORK/in"
    zcp-pub --history 9 --retain -0 t <"$WORK/in"
    history_of -J t >"$WORK/out"
    assert_equal "$(jq -s length "$WORK/out")" 6
    # Put together again it is what went in.
    local i
    for i in $(seq 0 5); do
        jq -js --argjson i "$i" '.[$i].payload // ""' "$WORK/out"
        jq -rs --argjson i "$i" '.[$i].base64 // ""' "$WORK/out" | base64 -d
        printf '\0'
    done | cmp - "$WORK/in"
    run jq -c 'keys' "$WORK/out"
    assert_line --index 0 '["delay","payload","pid","publisher","seq","size","time","topic","type"]'
    assert_line --index 5 '["base64","delay","pid","publisher","seq","size","time","topic","type"]'
    leftovers_allowed=1
}

@test "-x prints what hexdump does" {
    head -c 1000 /dev/urandom >"$WORK/in"
    zcp-pub --retain -F file t "$WORK/in"
    history_of -x t >"$WORK/out"
    run head -n 1 "$WORK/out"
    assert_output --regexp '^t/default/default seq=0 time=[0-9.]+ publisher=zcp-pub type=0 size=1000$'
    # Back from the dump to the bytes.
    sed 1d "$WORK/out" | cut -c 11-59 | tr -d ' \n' | tr a-f A-F |
        basenc --base16 -d | cmp - "$WORK/in"
    leftovers_allowed=1
}

@test "--truncate cuts what is printed, not what is told of it" {
    head -c 300 /dev/zero | tr '\0' x >"$WORK/in"
    zcp-pub --history 9 --retain t "$WORK/in" -m short
    run history_of --truncate 7 -f '%S %s\n' t
    assert_output $'5 short\n300 xxxxxxx'
    run history_of --truncate 7 t
    assert_output $'short\nxxxxxxx'
    run bash -c "zcp-sub -I 0 -J --truncate 2 t | jq -r .payload"
    assert_output $'sh\nxx'
    zcp-pub --retain u -m 'é€x'
    run bash -c "zcp-sub -I 0 -J --truncate 4 u | jq -r .payload"
    assert_output 'é'
    leftovers_allowed=1
}

@test "-c, -W and -I end a reader; 3 says that less came than was asked for" {
    zcp-pub --history 9 --retain t -m a -m b
    run -0 zcp-sub -c 1 t
    assert_output a
    run -0 zcp-sub -W 100ms t
    assert_output $'a\nb'
    run -0 zcp-sub -I 100ms t
    assert_output $'a\nb'
    run -3 zcp-sub -I 0 -c 3 t
    assert_output --partial "timed out after 2 messages"
    run -3 zcp-sub -I 0 nothing
    assert_output --partial "timed out after 0 messages"
    leftovers_allowed=1
}

@test "-I counts from the last message" {
    start_routed
    spawn zcp-sub -I 2s t >"$WORK/out"
    local reader=$!
    eventually status_has subscribers=1
    zcp-pub -r 2/s t -m 1 -m 2 -m 3 -m 4 -m 5 -m 6
    wait "$reader"
    run cat "$WORK/out"
    assert_output $'1\n2\n3\n4\n5\n6'
}

@test "-o begins at the beginning, the end, the last N, or a time ago" {
    zcp-pub --history 9 --retain t -m 1 -m 2 -m 3
    run history_of -o beginning t
    assert_output $'1\n2\n3'
    run -3 zcp-sub -o end -I 0 t
    refute_line 3
    run history_of -o -2 t
    assert_output $'2\n3'
    run history_of -o -1h t
    assert_output $'1\n2\n3'
    run history_of -o -5m t
    assert_output $'1\n2\n3'
    run -3 zcp-sub -I 0 -o -1ns t
    refute_line 3
    leftovers_allowed=1
}

@test "--order time merges topics and publishers by their stamps" {
    local i
    for i in 1 2 3 4 5; do
        zcp-pub --history 9 --retain "odd/$i" -m "$((2 * i - 1))"
        zcp-pub --history 9 --retain "even" -m "$((2 * i))"
    done
    run zcp-sub --order time -I 1s -c 10 'odd/*' even
    assert_output "$(seq 10)"
    leftovers_allowed=1
}

@test "--order time sleeps while one topic has much and another nothing" {
    start_routed
    spawn zcp-sub --order time busy silent >"$WORK/out"
    local reader=$! before
    eventually status_has "subscribers=2"
    spawn zcp-pub -r 500/s --repeat busy -m x
    eventually eval '[ "$(wc -l <"$WORK/out")" -gt 10 ]'
    before=$(awk '{ print $14 + $15 }' "/proc/$reader/stat")
    zcp-sub -W 2s nothing || true
    # Spinning were two hundred.
    [ $(($(awk '{ print $14 + $15 }' "/proc/$reader/stat") - before)) -lt 60 ]
}

@test "--sample prints every Nth, --rate-limit no more than so many a second" {
    seq 10 | zcp-pub --history 20 --retain t
    run history_of --sample 3 t
    assert_output $'1\n4\n7\n10'
    run zcp-sub -v -I 0 --rate-limit 1/h t
    assert_line 1
    refute_line 2
    assert_output --partial "1 messages, 0 lost, 9 not printed"
    leftovers_allowed=1
}

@test "--exclude leaves topics out of a pattern" {
    zcp-pub --retain radar/front -m front
    zcp-pub --retain radar/debug -m debug
    zcp-pub --retain radar/debug/deep -m deep
    run history_of --exclude radar/debug 'radar/*'
    assert_equal "$(sort <<<"$output")" $'deep\nfront'
    run history_of --exclude 'radar/deb*' --exclude other 'radar/*'
    assert_output front
    leftovers_allowed=1
}

@test "present and future topics, several and by pattern, in one reader" {
    start_routed
    zcp-pub --retain radar/old -m old
    spawn zcp-sub -c 4 --reliable 'radar/*' extra >"$WORK/out"
    local reader=$!
    eventually status_has subscribers=2
    zcp-pub radar/new -m new
    zcp-pub extra -m extra
    zcp-pub radar/newer/still -m newer
    wait "$reader"
    run sort "$WORK/out"
    assert_output $'extra\nnew\nnewer\nold'
    leftovers_allowed=1
}

@test "--exec runs a command a message, with the facts in its environment" {
    zcp-pub --name me --history 9 --retain --type 4 a/b -m one -m two
    run history_of --exec 'echo "$(cat) $ZCP_TOPIC $ZCP_SEQ $ZCP_SIZE $ZCP_TYPE $ZCP_PUBLISHER"' a/b
    assert_output $'one a/b/default 0 3 4 me\ntwo a/b/default 1 3 4 me'
    run history_of --exec '[ "$ZCP_PID" -gt 0 ] && echo "$ZCP_TIME $ZCP_DELAY"' a/b
    assert_line --index 0 --regexp '^[0-9]+\.[0-9]+ [0-9]+\.[0-9]+$'
    leftovers_allowed=1
}

@test "commands of --exec find the same bus, and are heard of where SIGCHLD was ignored" {
    local domain=$ZCP_DOMAIN
    zcp-pub --retain t -m x
    run env -u ZCP_DOMAIN zcp-sub -d "$domain" -I 0 --exec 'echo "$ZCP_DOMAIN"' t
    assert_output "$domain"
    run -1 bash -c 'trap "" CHLD; exec zcp-sub -I 0 --exec "exit 3" t'
    assert_output --partial "1 of 1 commands failed"
    leftovers_allowed=1
}

@test "--exec counts failures; a command need not read its input" {
    head -c 60000 /dev/zero >"$WORK/big"
    zcp-pub --history 9 --retain -F file t "$WORK/big" "$WORK/big" "$WORK/big"
    run -1 zcp-sub -v -I 0 --exec 'exit 3' t
    assert_output --partial "3 of 3 commands failed"
    assert_output --partial "ended with 3"
    run -0 zcp-sub -I 0 --exec true t
    run -1 zcp-sub -I 0 --exec 'kill -KILL $$' t
    leftovers_allowed=1
}

@test "-W starts no command after its time; a signal waits for those that run" {
    start_routed
    seq 30 | zcp-pub --history 30 --retain t
    run zcp-sub -W 300ms --exec 'echo started; sleep 0.2; echo done' t
    [ "$(grep -c started <<<"$output")" -lt 30 ]
    assert_equal "$(grep -c started <<<"$output")" "$(grep -c 'done' <<<"$output")"
    reader --exec "echo started; sleep 0.2; echo 'done'" t
    eventually grep -q started "$WORK/out"
    kill -TERM "$reader"
    ends_with 143 "$reader"
    assert_equal "$(grep -c started "$WORK/out")" "$(grep -c 'done' "$WORK/out")"
    leftovers_allowed=1
}

@test "a line that is too long is told by its number" {
    run -1 zcp-pub t < <(echo a; echo b; head -c 70000 /dev/zero | tr '\0' x; echo; echo c)
    assert_output --partial "standard input: message 3 is too large"
}

@test "what was left behind gives way to those who live, and only where that helps" {
    start_routed --max-participants 4 --pool 128:8 --pool 64K:4
    local i
    for i in 1 2 3 4 5 6; do
        zcp-pub --retain "kept/$i" -m "state $i, which takes a chunk of the small pool"
    done
    # Four places, and a reader needs one of them.
    run zcp-sub -I 0 'kept/*'
    assert_success
    assert_equal "$(wc -l <<<"$output")" 3
    assert_line --partial "state 6"
    refute_line --partial "state 1"
    eventually status_has "participants=0"
    assert [ "$(zcp-routed --status | sed -n 's/.* cut=\([0-9]*\).*/\1/p')" -ge 3 ]
    # The large pool runs empty: the small messages would not help.
    reader --drop big
    head -c 2000000 /dev/zero | zcp-pub -F raw:60000 big
    kill -TERM "$reader"
    ends_with 143 "$reader"
    run zcp-sub -I 0 'kept/*'
    assert_line --partial "state 6"
    leftovers_allowed=1
}

@test "-P runs so many at once, and waits for the last" {
    mkfifo "$WORK/meet"
    zcp-pub --history 9 --retain t -m 1 -m 2
    # Each opens the fifo at its end: alone neither would get through.
    run -0 timeout 20 zcp-sub -I 0 -P 2 --exec "if [ \$ZCP_SEQ = 0 ]; then echo met >'$WORK/meet'; else cat '$WORK/meet'; fi" t
    assert_output met
    leftovers_allowed=1
}

@test "--stats tells rate, spacing, delay and losses; in JSON with -J" {
    start_routed
    reader -e --stats t
    seq 1000 | zcp-pub t
    wait "$reader"
    run cat "$WORK/err"
    assert_output --regexp 'zcp-sub: whole: .* msg/s, .*/s, interval .* us, delay p50 .* p99 .* us, 1000 messages, 0 lost'
    eventually status_has subscribers=0
    reader -e --stats -J t
    seq 1000 | zcp-pub t
    wait "$reader"
    run jq -c '[.stats, .messages, .lost, .delay_us.p99 > 0]' <(tail -n 1 "$WORK/err")
    assert_output '["whole",1000,0,true]'
}

@test "losses are told with their topic" {
    start_routed
    reader --drop -e t
    kill -STOP "$reader"
    seq 10000 | zcp-pub t
    kill -CONT "$reader"
    wait "$reader"
    run cat "$WORK/err"
    assert_output --regexp "zcp-sub: t: [0-9]+ messages lost"
}

@test "a recording keeps topics, types, order and spacing" {
    start_routed
    spawn zcp-sub -F frame --order time -c 5 --reliable 'rec/*' >"$WORK/recording"
    local reader=$!
    eventually status_has subscribers=1
    printf 'x\ny' >"$WORK/two-lines"
    zcp-pub --type 9 rec/a -m first
    zcp-pub rec/b -m ''
    zcp-pub -F file rec/a "$WORK/two-lines"
    zcp-pub -r 5/s rec/b -m late -m later
    wait "$reader"
    reader -c 5 --reliable --order time -J 'rec/*'
    zcp-pub -F frame --timed <"$WORK/recording"
    wait "$reader"
    run jq -r '"\(.topic) \(.type) \(.payload)"' "$WORK/out"
    assert_output $'rec/a/default 9 first\nrec/b/default 0 \nrec/a/default 0 x\ny\nrec/b/default 0 late\nrec/b/default 0 later'
    # A fifth of a second between the last two, as recorded.
    run jq -s '.[4].time - .[3].time > 0.19' "$WORK/out"
    assert_output true
    # Faster, and the recording of the replay is the recording but for times.
    eventually status_has subscribers=0
    reader -c 5 --reliable --order time -F frame 'rec/*'
    zcp-pub -F frame --timed=100 "$WORK/recording"
    wait "$reader"
    run diff <(sed 's/^\(zcp1 [^ ]*\) .* \([0-9]* [0-9]*\)$/\1 \2/' "$WORK/recording") \
        <(sed 's/^\(zcp1 [^ ]*\) .* \([0-9]* [0-9]*\)$/\1 \2/' "$WORK/out")
    assert_success
}

@test "damaged frames are named, what came before is published" {
    start_routed
    reader -c 1 good
    printf 'zcp1 good/default/default p 0 0 0 3\nabc\n' >"$WORK/good"
    { cat "$WORK/good"; echo nonsense; } >"$WORK/bad"
    run -1 zcp-pub -F frame "$WORK/bad"
    assert_output --partial "$WORK/bad: frame 2 does not begin as frames do"
    wait "$reader"
    run cat "$WORK/out"
    assert_output abc
    run -1 zcp-pub -F frame < <(head -c 38 "$WORK/good")
    assert_output --partial "standard input: frame 1 is cut"
    run -1 zcp-pub -F frame < <(printf 'zcp1 t p 0 0')
    assert_output --partial "frame 1 is cut"
    run -1 zcp-pub -F frame < <(printf 'zcp1 t p 0 0 0 1\nabc\n')
    assert_output --partial "does not end as frames do"
    run -1 zcp-pub -F frame < <(printf 'zcp1 t p 0 0 70000 1\na\n')
    assert_output --partial "type of more than 65535"
    run -1 zcp-pub -F frame < <(printf 'zcp1 t p 0 0 0 99999999999\na\n')
    assert_output --partial "largest pool holds 65536"
    run -1 zcp-pub -F frame < <(printf 'zcp1 a//b p 0 0 0 1\na\n')
    assert_output --partial "standard input: frame 1 names no topic"
    run -0 zcp-pub -F frame </dev/null
}

@test "--color paints messages and headings, NO_COLOR does not" {
    zcp-pub --retain t -m x
    run -69 zcp-pub --no-autostart --color=always -d nobody.$$ t -m x
    assert_output --partial $'\033[31mzcp-pub:\033[0m'
    run history_of -x --color=always t
    assert_output --partial $'\033[1mt/default/default\033[0m'
    run history_of -x --color=auto t
    refute_output --partial $'\033'
    leftovers_allowed=1
}
