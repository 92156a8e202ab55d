#!/usr/bin/env bats
# The control protocol, spoken with socat.
load helper

@test "PING, GET_SHM_PATH, GET_SHM_SIZE" {
    start_routed
    run ask PING
    assert_output PONG
    run ask GET_SHM_PATH
    assert_output "/dev/shm/zcp.$(id -u).$ZCP_DOMAIN.data"
    for part in mgmt bell pool data; do
        run ask "GET_SHM_PATH:$part"
        assert_output "/dev/shm/zcp.$(id -u).$ZCP_DOMAIN.$part"
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
    start_routed
    talk
    say "REGISTER:name=by-hand:nonce=1f"
    assert_output "OK:OFFSET:0"
    say "REGISTER:name=by-hand:nonce=1f"
    assert_output "OK:OFFSET:0"
    status_has "name=by-hand pid=$TALK_PID"
    # Its file is there; a place in it must have been written to.
    local file="/dev/shm/zcp.$(id -u).$ZCP_DOMAIN.p0"
    say "PUBLISHER:t:slots=64:offset=4096"
    assert_output --partial "ERROR: offset 4096 with 64 slots is not committed in p0"
    dd if=/dev/zero of="$file" bs=4096 seek=1 count=10 conv=notrunc status=none
    say "PUBLISHER:t:slots=64:offset=4096:nonce=2"
    assert_output "OK:PORT:0"
    say "PUBLISHER:t:slots=64:offset=4096:nonce=2"
    assert_output "OK:PORT:0"
    say "SUBSCRIBER:t*:cursors=4:holds=16:offset=16384:nonce=3"
    assert_output "OK:PORT:1"
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
    assert_output "ERROR: empty request"
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
    assert_output "OK:OFFSET:0"
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
