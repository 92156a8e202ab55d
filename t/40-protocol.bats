#!/usr/bin/env bats
# The control protocol, spoken with socat.
load helper

@test "PING, GET_SHM_PATH, GET_SHM_SIZE" {
    start_routed
    run ask PING
    assert_output PONG
    run ask GET_SHM_PATH
    assert_output "$(segment data)"
    for part in mgmt bell pool data; do
        run ask "GET_SHM_PATH:$part"
        assert_output "$(segment "$part")"
        [ -f "$output" ]
        local file=$output
        run ask "GET_SHM_SIZE:$part"
        assert_output "$(stat -c %s "$file")"
    done
    run ask GET_SHM_PATH:nonsense
    assert_output --partial "ERROR: no part 'nonsense'"
    run ask GET_SHM_PATH:p7
    assert_output --partial "ERROR: no part 'p7'"
}

@test "a trailing newline is allowed" {
    start_routed
    run ask $'PING\n'
    assert_output PONG
}

# One process that stays: a participant is a process.
talk() {
    coproc TALK { exec socat - "UNIX-SENDTO:$ZCP_RUNTIME_DIR/$ZCP_DOMAIN.sock,bind=$WORK/talk" 3>&-; }
    started+=("$TALK_PID")
}
say() {
    printf '%s' "$1" >&"${TALK[1]}"
    read -r -t 5 -N "${2:-1}" first <&"${TALK[0]}"
    rest=
    while read -r -t 0.2 -N 1 c <&"${TALK[0]}"; do rest+=$c; done
    output=$first$rest
}

@test "REGISTER, PUBLISHER, SUBSCRIBER, RELEASE, UNREGISTER by hand" {
    # A person beats no heart.
    start_routed --heartbeat 60s
    talk
    say "REGISTER:name=by-hand:nonce=1f"
    assert_output "OK:OFFSET:0:incarnation=1:nonce=1f"
    say "REGISTER:name=by-hand:nonce=1f"
    assert_output "OK:OFFSET:0:incarnation=1:nonce=1f"
    status_has "name=by-hand pid=$TALK_PID"
    # Its file is there; a place in it must have been written to.
    local file=$(segment p0)
    say "PUBLISHER:t:slots=64:offset=4096"
    assert_output --partial "ERROR: offset 4096 with 64 slots is not committed in p0"
    dd if=/dev/zero of="$file" bs=4096 seek=1 count=10 conv=notrunc status=none
    say "PUBLISHER:t:slots=64:offset=4096:nonce=2"
    assert_output "OK:PORT:0:serial=1:topic=0:nonce=2"
    say "PUBLISHER:t:slots=64:offset=4096:nonce=2"
    assert_output "OK:PORT:0:serial=1:topic=0:nonce=2"
    say "SUBSCRIBER:t*:cursors=4:holds=16:offset=16384:nonce=3"
    assert_output "OK:PORT:1:serial=2:topic=1:nonce=3"
    status_has "publishers=1"
    # It is open when its owner says so in its file; nobody waits for it before.
    status_has "kind=subscriber topic=t*.* state=opening"
    say "RELEASE:port=0"
    assert_output "OK"
    status_has "publishers=0"
    say "RELEASE"
    assert_output "OK"
    status_has "participants=1"
    status_has "publishers=0 subscribers=0"
    say "UNREGISTER"
    assert_output "OK"
    status_has "participants=0"
}

@test "an error is a sentence for people and a line of fields for programs" {
    start_routed --heartbeat 60s --max-ports 1
    run ask ROUTE
    assert_output $'ERROR: ROUTE needs a topic\ncode=ARG'
    talk
    say "REGISTER:name=by-hand"
    dd if=/dev/zero of="$(segment p0)" bs=4096 seek=1 count=10 conv=notrunc status=none
    say "PUBLISHER:t:slots=64:offset=4096"
    say "SUBSCRIBER:t:cursors=4:holds=8:offset=16384"
    run printf '%s' "$output"
    assert_line --regexp '^ERROR: all 1 ports are in use'
    assert_line code=REFUSED
    assert_equal "${#lines[@]}" 2
    # What is no verb has the one line that it always had.
    run ask DANCE
    assert_output "ERROR: Unknown command"
}

@test "an error says how many cursors a subscription needs" {
    start_routed --heartbeat 60s
    open_input
    local i
    for i in 1 2 3 4 5; do
        spawn zcp-pub "wide/$i" <"$WORK/input"
    done
    eventually status_has "publishers=5"
    talk
    say "REGISTER:name=by-hand"
    local slot
    slot=$(sed 's/OK:OFFSET:\([0-9]*\).*/\1/' <<<"$output")
    dd if=/dev/zero of="$(segment "p$slot")" bs=4096 seek=1 count=10 conv=notrunc status=none
    say "SUBSCRIBER:wide/*:cursors=4:holds=8:offset=4096:nonce=7"
    run printf '%s' "$output"
    assert_line --regexp '^ERROR: 5 publishers are there'
    assert_line "code=REFUSED needed=5 nonce=7"
}

@test "a request that names a tenant concerns no later one of its slot or port" {
    # A person beats no heart.
    start_routed --heartbeat 60s
    talk
    local shm file
    shm=$(domain_dir)
    file=$shm/p0
    say "REGISTER:name=first:nonce=a1"
    assert_output "OK:OFFSET:0:incarnation=1:nonce=a1"
    say "UNREGISTER:slot=0:incarnation=1:key=a1"
    assert_output OK
    say "REGISTER:name=second:nonce=b2"
    assert_output "OK:OFFSET:0:incarnation=2:nonce=b2"
    # The first one's requests, late or sent twice.
    say "UNREGISTER:slot=0:incarnation=1:key=a1"
    assert_output OK
    say "RELEASE:slot=0:incarnation=1:key=a1"
    assert_output OK
    dd if=/dev/zero of="$file" bs=4096 seek=1 count=10 conv=notrunc status=none
    local late
    for late in incarnation=1 incarnation=1:key=a1 incarnation=2:key=a1; do
        say "PUBLISHER:t:slots=64:offset=4096:slot=0:$late"
        run printf '%s' "$output"
        assert_line --regexp '^ERROR: the participant of incarnation [12] is not registered any more'
        assert_line code=ENDED
    done
    status_has "participants=1 .* publishers=0"
    say "PUBLISHER:t:slots=64:offset=4096:slot=0:incarnation=2:key=b2"
    assert_output "OK:PORT:0:serial=1:topic=0"
    say "RELEASE:slot=0:incarnation=2:key=b2:port=0:serial=7"
    assert_output OK
    status_has "publishers=1"
    say "RELEASE:slot=0:incarnation=2:key=b2:port=0:serial=1"
    assert_output OK
    status_has "publishers=0"
    say "RELEASE:port=5"
    assert_output --partial "ERROR: port 5 is none of participant 0's"
    # By hand, one who has but one participant need not name it.
    say UNREGISTER
    assert_output OK
    status_has "participants=0"
}

@test "a topic that begins with a digit is no slot" {
    start_routed --heartbeat 60s
    talk
    say "REGISTER:name=by-hand"
    dd if=/dev/zero of="$(segment p0)" bs=4096 seek=1 count=10 conv=notrunc status=none
    say "PUBLISHER:7up:slots=64:offset=4096"
    assert_output --partial "OK:PORT:0"
}

@test "STATUS and SWEEP" {
    start_routed
    run ask STATUS
    assert_output --partial "domain=$ZCP_DOMAIN"
    run ask STATUS:x
    assert_output --partial "ERROR: STATUS:x: not a number"
    run ask SWEEP
    assert_output OK
}

@test "what is not a request is answered with its fault" {
    start_routed
    run ask NONSENSE
    assert_output "ERROR: Unknown command"
    run ask "ping"
    assert_output "ERROR: Unknown command"
    run ask $'\n'
    assert_line "ERROR: empty request"
    assert_line code=ARG
    run ask $'PI\x01NG'
    assert_output --partial "ERROR: byte 3 of the request is not printable"
    run ask "$(head -c 5000 /dev/zero | tr '\0' A)"
    assert_output --partial "ERROR: request longer than"
    run ask "$(printf 'PING%.0s:' $(seq 60))"
    assert_output --partial "ERROR: request has more than"
    run ask REGISTER
    assert_output --partial "ERROR: REGISTER needs a name"
    run ask "REGISTER:name=a b"
    assert_output --partial "ERROR: name 'a b'"
    run ask "REGISTER:name=a:nonce=xyz"
    assert_output --partial "ERROR: nonce=xyz is not a number"
    run ask "UNREGISTER"
    assert_output --partial "has not registered"
    run ask "UNREGISTER:slot=5"
    assert_output --partial "has not registered that slot"
    run ask "PUBLISHER"
    assert_output --partial "ERROR: the request names no topic"
    run ask "PUBLISHER:a*:offset=4096"
    assert_output --partial "ERROR: a pattern cannot be published on"
    run ask "PUBLISHER:a:slots=7777777777"
    assert_output --partial "ERROR: slots=7777777777 is not a number"
    run ask "PUBLISHER:a:history=600"
    assert_output --partial "ERROR: history 600 is more than half"
    run ask "SUBSCRIBER:a:holds=1000:offset=4096"
    assert_output --partial "ERROR: holds=1000 is not a number up to 384"
    run ask PING
    assert_output PONG
}

@test "nobody speaks for another process" {
    start_routed
    spawn zcp-sub t
    eventually status_has "subscribers=1"
    run ask "UNREGISTER:slot=0"
    assert_output --partial "has not registered that slot"
    run ask "RELEASE:slot=0"
    assert_output --partial "has not registered that slot"
    status_has "subscribers=1"
}

@test "a participant that goes away without a word is reaped" {
    start_routed
    run ask "REGISTER:name=brief"
    assert_output "OK:OFFSET:0:incarnation=1"
    eventually status_has "participants=0"
    eventually status_has "deaths=1"
}

@test "random datagrams disturb nobody" {
    start_routed
    spawn zcp-sub -e t >"$WORK/out"
    local reader=$!
    eventually status_has "subscribers=1"
    for i in $(seq 30); do
        head -c $((i * 131)) /dev/urandom |
            socat -u - "UNIX-SENDTO:$ZCP_RUNTIME_DIR/$ZCP_DOMAIN.sock"
    done
    seq 1000 | zcp-pub t
    wait "$reader"
    run cmp <(seq 1000) "$WORK/out"
    assert_success
}

@test "a flooding client does not keep others from being served" {
    start_routed
    # As fast as a shell pipeline can, and never reading a reply.
    spawn bash -c 'yes NONSENSE | head -c 50000000 |
        socat -b 9 -u - "UNIX-SENDTO:'"$ZCP_RUNTIME_DIR/$ZCP_DOMAIN"'.sock,bind='"$WORK"'/flood"'
    for i in $(seq 10); do
        spawn zcp-sub -c 1 "t$i" >"$WORK/out$i"
        local reader=$!
        zcp-pub -w 1 "t$i" -m "$i"
        wait "$reader"
        run cat "$WORK/out$i"
        assert_output "$i"
    done
}

# All pages of a paged verb.
all_pages() {
    local from=
    while :; do
        ask "$1${from:+:$from}" >"$WORK/page"
        grep -v '^MORE:' "$WORK/page" || true
        from=$(sed -n 's/^MORE://p' "$WORK/page")
        [ -n "$from" ] || break
    done
}

@test "DUMP shows every record, link, cursor and chunk, page by page" {
    start_routed --pool 128:64
    open_input
    spawn zcp-sub --name reader 'many/*' >/dev/null
    spawn zcp-sub --name reader2 many/default/1 >/dev/null
    eventually status_has 'subscribers=2'
    for i in {1..20}; do
        spawn zcp-pub --name "writer$i" --history 3 "many/default/$i" <"$WORK/input"
    done
    eventually status_has 'publishers=20'
    # One of them reads this, and its history keeps the chunk.
    printf '%s\n' "$(printf 'x%.0s' {1..100})" >&8
    eventually status_has 'messages=1 bytes=100'
    all_pages DUMP >"$WORK/dump"
    run cat "$WORK/dump"
    assert_line --regexp '^domain=.* max_ports=2048 '
    assert_line --regexp '^topic=[0-9]+ name=many/\*/\* kind=pattern '
    assert_line --regexp '^participant=[0-9]+ name=writer20 pid=[0-9]+ uid=[0-9]+ '
    assert_line --regexp '^port=[0-9]+ kind=publisher .* tail=0 head=0 closed=0'
    assert_line --regexp '^link=[0-9]+:[0-9]+ cursor=[0-9]+ .* at=0 let_go=0'
    assert_line --regexp '^chunk=0:[0-9]+ size=128 state=published serial=[0-9]+ last=0$'
    assert_equal "$(grep -c '^port=.* kind=publisher .* state=1' "$WORK/dump")" 20
    # 20 of the pattern, one of the topic.
    assert_equal "$(grep -c "^link=" "$WORK/dump")" 21
    grep -q '^MORE:' <(ask DUMP)
    run ask DUMP:nonsense
    assert_line "ERROR: DUMP:nonsense: not a number"
    run ask DUMP:99999999999999999
    assert_output ''
}

@test "ROUTE says who is matched on a topic" {
    start_routed
    run ask ROUTE:radar/front
    assert_output "OK:PUBLISHERS:0:SUBSCRIBERS:0"
    open_input
    spawn zcp-sub --name wide 'radar/*' >/dev/null
    spawn zcp-sub --name other lidar >/dev/null
    spawn zcp-pub --name source radar/front <"$WORK/input"
    eventually status_has 'publishers=1 subscribers=2'
    run ask ROUTE:radar/front
    assert_line "OK:PUBLISHERS:1:SUBSCRIBERS:1"
    assert_line --regexp '^publisher=[0-9]+ topic=radar/front/default name=source pid=[0-9]+ reliable=1$'
    assert_line --regexp '^subscriber=[0-9]+ topic=radar/\*/\* name=wide pid=[0-9]+ reliable=0$'
    refute_line --partial other
    run ask ROUTE
    assert_line "ERROR: ROUTE needs a topic"
    run ask ROUTE:a/b/c/d
    assert_output --partial "ERROR: topic 'a/b/c/d': more than three parts"
}

@test "ROUTE with a text publishes it to the topic's readers" {
    start_routed
    spawn zcp-sub -c 1 lamp >"$WORK/one"
    local one=$!
    spawn zcp-sub -c 1 'la*' >"$WORK/two"
    local two=$!
    eventually status_has 'subscribers=2'
    run ask 'ROUTE:lamp:on: 100 % (ä)'
    assert_output "OK:PUBLISHED:2"
    ends_with 0 "$one"
    ends_with 0 "$two"
    assert_equal "$(cat "$WORK/one")" 'on: 100 % (ä)'
    assert_equal "$(cat "$WORK/two")" 'on: 100 % (ä)'
    run ask 'ROUTE:l*:x'
    assert_line "ERROR: a pattern cannot be published on"
    # Nobody reads: it says so, and is gone.
    run ask 'ROUTE:dark:x'
    assert_output "OK:PUBLISHED:0"
    eventually all_free
    eventually status_has 'participants=0 '
}

@test "eight texts are published at once, whoever else the daemon's children are" {
    # Those of the shell that became the daemon, and end while it serves.
    mkfifo "$WORK/go"
    # shellcheck disable=SC2016
    spawn bash -c 'for i in {1..20}; do read -r <"$1/go" & done
        exec zcp-routed -f -q --heartbeat 60s' bash "$WORK"
    local daemon=$! i texts
    children() { [ "$(wc -w <"/proc/$daemon/task/$daemon/children")" = "$1" ]; }
    eventually status_has "domain="
    exec 6<>"$WORK/go"
    printf '\n%.0s' {1..20} >&6
    eventually children 0
    exec 6>&-
    talk
    # A reader that does not join, for which each waits; and is stopped then.
    say "REGISTER:name=by-hand"
    dd if=/dev/zero of="$(segment p0)" bs=4096 seek=1 count=20 conv=notrunc status=none
    say "SUBSCRIBER:t:cursors=40:holds=8:offset=4096"
    assert_output --partial OK:PORT:0
    stopped_after_one_more() {
        printf 'ROUTE:t:x' >&"${TALK[1]}"
        pkill -STOP -P "$daemon"
        [ "$(pgrep -c -r T -P "$daemon")" = "$1" ]
    }
    eventually stopped_after_one_more 8
    for i in {1..5}; do
        stopped_after_one_more 8
        ask PING
    done
    pkill -CONT -P "$daemon"
    eventually children 0
    say PING
    texts=$output
    run printf '%s' "$texts"
    assert_output --partial "ERROR: 8 texts are being published already: send it again"
    assert_output --partial code=BUSY
}

@test "who asks too much is told once and then ignored, others are served" {
    start_routed --max-requests 2
    talk
    local i
    for i in {1..20}; do
        say PING
        [ "$output" = PONG ] || break
    done
    assert_output --partial "ERROR: busy: process $TALK_PID asks too much, more than 2 requests a second"
    printf PING >&"${TALK[1]}"
    run ask PING
    assert_output PONG
    eventually status_has ' refused=[1-9]'
}

@test "a domain with a token serves those who show it" {
    (umask 077; echo open-sesame >"$WORK/token")
    start_routed --token-file "$WORK/token"
    run ask PING
    assert_output PONG
    run ask STATUS
    assert_line "ERROR: this domain asks for a token (\$ZCP_TOKEN, AUTH:token=...)"
    assert_line code=PERM
    # A foreign process has no say in when the daemon sweeps, either.
    run ask SWEEP
    assert_line "ERROR: this domain asks for a token (\$ZCP_TOKEN, AUTH:token=...)"
    run ask AUTH:token=wrong
    assert_line "ERROR: that is not the token of this domain"
    run ask AUTH
    assert_line "ERROR: AUTH needs token="
    talk
    say STATUS
    assert_output --partial "ERROR: this domain asks for a token"
    say AUTH:token=open-sesame
    assert_output OK
    say STATUS
    assert_output --partial "domain=$ZCP_DOMAIN"
    run -5 zcp-pub t -m x
    assert_output --partial "this domain asks for a token"
    ZCP_TOKEN=wrong run -5 zcp-pub t -m x
    assert_output --partial "that is not the token of this domain"
    ZCP_TOKEN='a b' run -2 zcp-pub t -m x
    assert_output --partial "not 1 to 128 printable characters"
    export ZCP_TOKEN=open-sesame
    spawn zcp-sub -c 1 t >"$WORK/out"
    eventually status_has 'subscribers=1'
    zcp-pub t -m hello
    ends_with 0 "$!"
    assert_equal "$(cat "$WORK/out")" hello
    run ask ROUTE:t:x
    assert_output --partial "ERROR: this domain asks for a token"
    say ROUTE:t:x
    assert_output "OK:PUBLISHED:0"
}

@test "a participant has shown the token, to the next daemon as well" {
    (umask 077; echo open-sesame >"$WORK/token")
    start_routed --heartbeat 60s --token-file "$WORK/token"
    talk
    say REGISTER:name=by-hand
    assert_output --partial "ERROR: this domain asks for a token"
    say AUTH:token=open-sesame
    assert_output OK
    say REGISTER:name=by-hand:nonce=1f
    assert_output --partial "OK:OFFSET:0:"
    kill -KILL "$(ZCP_TOKEN=open-sesame routed_pid)"
    start_routed --heartbeat 60s --token-file "$WORK/token"
    run ask SWEEP
    assert_output --partial "ERROR: this domain asks for a token"
    run ask SWEEP:slot=0:incarnation=1:key=1f
    assert_output --partial "ERROR: this domain asks for a token"
    say SWEEP
    assert_output OK
    say SWEEP:slot=0:incarnation=1:key=1f
    assert_output OK
}

@test "a token file that others may read, or without a token, is refused" {
    echo secret >"$WORK/token"
    chmod 644 "$WORK/token"
    run -5 zcp-routed --token-file "$WORK/token"
    assert_output --partial "can be read by others: chmod 600"
    chmod 600 "$WORK/token"
    : >"$WORK/token"
    run -2 zcp-routed --token-file "$WORK/token"
    assert_output --partial "its first line is no token"
    run -1 zcp-routed --token-file "$WORK/missing"
    assert_output --partial "cannot read the token in $WORK/missing: No such file"
}
