#!/usr/bin/env bats
# zcp-routed: its options, its signals, one daemon a domain.
load helper

@test "--foreground prints one line when ready" {
    spawn zcp-routed --foreground >"$WORK/out" 2>"$WORK/err"
    local pid=$!
    eventually grep -q ready "$WORK/out"
    run cat "$WORK/out"
    assert_output "zcp-routed: domain $ZCP_DOMAIN ready (pid $pid, $ZCP_RUNTIME_DIR/$ZCP_DOMAIN.sock)"
    zcp-routed --stop
    wait "$pid"
}

@test "TERM and INT end it with 0 and remove what is unused" {
    for sig in TERM INT; do
        spawn env --default-signal=INT zcp-routed -f -q
        local pid=$!
        eventually status_has "pid=$pid "
        kill -s "$sig" "$pid"
        wait "$pid"
        assert_equal "$(segments)" ""
    done
}

@test "USR1 dumps the registered processes" {
    spawn zcp-routed -f -q 2>"$WORK/err"
    local pid=$!
    eventually status_has "pid=$pid "
    spawn zcp-sub --name listener t
    local reader=$!
    eventually status_has "subscribers=1"
    kill -USR1 "$pid"
    eventually grep -q "1 participants registered" "$WORK/err"
    run cat "$WORK/err"
    assert_output --partial "name=listener pid=$reader"
    status_has "subscribers=1"
}

@test "a second daemon is refused and names the first" {
    start_routed
    run zcp-routed -f
    assert_equal "$status" 1
    assert_output --partial "domain $ZCP_DOMAIN has a daemon already (pid $(routed_pid))"
    assert_output --partial "--stop"
    status_has "pid=$(routed_pid) "
}

@test "the same name under another runtime directory, or under none, is another bus" {
    start_routed
    reader t
    local other
    mkdir "$WORK/other"
    for other in ZCP_RUNTIME_DIR="$WORK/other" --unset=ZCP_RUNTIME_DIR; do
        env "$other" zcp-routed -q 3>&-
        run -0 env "$other" zcp-routed --status
        assert_output --partial " subscribers=0 "
        env "$other" zcp-pub t -m "for nobody here"
        run -0 env "$other" zcp-top -i 50ms
        refute_output --partial "zcp-sub"
        env "$other" zcp-routed --stop
    done
    status_has "subscribers=1"
    zcp-pub t -m here
    eventually grep -q here "$WORK/out"
    assert_equal "$(cat "$WORK/out")" here
}

@test "a daemon whose files were removed by hand leaves its successor's alone" {
    spawn zcp-routed -f -q
    local old=$!
    eventually status_has "pid=$old "
    rm -r "$(domain_dir)"
    start_routed
    zcp-pub --retain t -m kept
    kill -TERM "$old"
    ends_with 0 "$old"
    run -0 zcp-sub -e -o -1 t
    assert_output kept
    leftovers_allowed=1
}

@test "a daemon that is slow to remove its files has the lock until it has" {
    [ -z "${ZCP_SANITIZE:-}" ] || skip "a sanitizer wants to be loaded first"
    cat >"$WORK/slow.c" <<'EOF'
#define _GNU_SOURCE
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
int unlinkat(int dir, const char *name, int flags)
{
    if (strcmp(name, "data") == 0)
        sleep(2);
    return (int)syscall(SYS_unlinkat, dir, name, flags);
}
EOF
    cc -shared -fPIC -o "$WORK/slow.so" "$WORK/slow.c"
    spawn env LD_PRELOAD="$WORK/slow.so" zcp-routed -f -q
    local old=$!
    eventually status_has "pid=$old "
    kill -TERM "$old"
    eventually eval '[ ! -e "$ZCP_RUNTIME_DIR/$ZCP_DOMAIN.sock" ]'
    # A client starts one as soon as it can; what that one makes stays.
    zcp-pub --retain t -m kept 2>"$WORK/err" 3>&-
    ends_with 0 "$old"
    run -0 zcp-sub -e -o -1 t
    assert_output kept
    leftovers_allowed=1
}

@test "of ten that start at once one serves" {
    local pids=()
    for _ in $(seq 10); do
        spawn zcp-routed -f -q 2>/dev/null
        pids+=("$!")
    done
    one_left() {
        local pid left=0
        for pid in "${pids[@]}"; do
            if kill -0 "$pid" 2>/dev/null; then left=$((left + 1)); fi
        done
        [ "$left" = 1 ]
    }
    eventually one_left
    run zcp-pub -v t -m x
    assert_success
    zcp-routed --stop
    local served=0 pid
    for pid in "${pids[@]}"; do
        if wait "$pid"; then served=$((served + 1)); fi
    done
    assert_equal "$served" 1
}

@test "--dry-run says what would be reserved and leaves nothing" {
    run zcp-routed --dry-run --pool 1K:100
    assert_success
    assert_output --partial "data: reserves 106496 bytes"
    assert_output --regexp "in all: commits [0-9]+ bytes"
    assert_equal "$(segments)" ""
}

@test "the default domain commits less than 4 MiB" {
    run zcp-routed --dry-run
    assert_success
    local bytes
    bytes=$(sed -n 's/in all: commits \([0-9]*\) bytes/\1/p' <<<"$output")
    [ "$bytes" -lt 4194304 ]
}

@test "--pool makes the pools, smallest first" {
    start_routed --pool 8K:3 --pool 200:7
    run zcp-routed --status
    assert_output --partial "pool=256 count=7 free=7"
    assert_output --partial "pool=8192 count=3 free=3"
    refute_output --partial "pool=65536"
}

@test "--fences symmetric and --no-waitv work end to end" {
    for option in "--fences symmetric" "--no-waitv" "--fences symmetric --no-waitv"; do
        # shellcheck disable=SC2086
        start_routed $option
        spawn zcp-sub -e t >"$WORK/out"
        local reader=$!
        eventually status_has "subscribers=1"
        seq 50000 | zcp-pub t
        wait "$reader"
        run cmp <(seq 50000) "$WORK/out"
        assert_success
        zcp-routed --stop
    done
}

@test "--status shows pools, participants and ports" {
    start_routed
    spawn zcp-sub --name r t/x
    eventually status_has "subscribers=1"
    run zcp-routed --status
    assert_success
    assert_output --partial "domain=$ZCP_DOMAIN uid=$(id -u)"
    assert_output --partial "pool=128 count=100 free=100 loaned=0 published=0"
    assert_output --regexp "participant=0 name=r pid=[0-9]+ uid=[0-9]+ state=live"
    assert_output --partial "kind=subscriber topic=t/x/default participant=0"
}

@test "--status of many ports comes in pages and whole" {
    start_routed --max-links 65536
    local topics=()
    for i in $(seq 300); do topics+=("t$i"); done
    spawn zcp-sub "${topics[@]}"
    eventually status_has "subscribers=300"
    run zcp-routed --status
    assert_equal "$(grep -c kind=subscriber <<<"$output")" 300
    refute_output --partial "MORE:"
}

@test "--heartbeat and --on-stall: a stopped reader is demoted, then restored" {
    start_routed --heartbeat 50ms
    spawn zcp-sub t >"$WORK/out"
    local reader=$!
    eventually status_has "subscribers=1"
    kill -STOP "$reader"
    eventually status_has "state=stalled"
    # It no longer holds anybody up.
    timeout 10 zcp-pub t < <(seq 100000)
    kill -CONT "$reader"
    eventually status_has "state=live"
    status_has "demotions=1"
}

@test "a stopped reader stays demoted under the next daemon, until it beats" {
    start_routed --heartbeat 50ms
    spawn zcp-sub t
    local reader=$!
    eventually status_has "subscribers=1"
    kill -STOP "$reader"
    eventually status_has "demotions=1"
    kill -KILL "$(routed_pid)"
    start_routed --heartbeat 50ms
    # Twenty looks later.
    eventually status_has " uptime=1 "
    status_has "demotions=1"
    status_has "state=stalled"
    kill -CONT "$reader"
    eventually status_has "state=live"
}

@test "--on-stall wait does not demote, kill kills" {
    start_routed --heartbeat 50ms --on-stall wait
    spawn zcp-sub t
    local reader=$!
    eventually status_has "subscribers=1"
    kill -STOP "$reader"
    eventually status_has "state=stalled"
    status_has "demotions=0"
    kill -CONT "$reader"
    kill -TERM "$reader"
    wait "$reader" || true
    eventually status_has "participants=0"
    zcp-routed --stop
    start_routed --heartbeat 50ms --on-stall kill
    spawn zcp-sub t
    reader=$!
    eventually status_has "subscribers=1"
    kill -STOP "$reader"
    ends_with 137 "$reader"
    eventually status_has "deaths=1"
}

@test "a daemon killed before it killed a stalled process leaves that to the next one" {
    # As after the mark on the participant, and before the signal.
    start_routed --heartbeat 50ms --on-stall wait
    spawn zcp-sub t
    local reader=$!
    eventually status_has "subscribers=1"
    kill -STOP "$reader"
    eventually status_has "state=stalled"
    kill -KILL "$(routed_pid)"
    start_routed --heartbeat 50ms --on-stall kill
    ends_with 137 "$reader"
    eventually status_has "deaths=1"
}

@test "limits are options and are named when they are reached" {
    start_routed --max-participants 1 --max-topics 2 --max-ports 2 --max-links 8
    spawn zcp-sub t
    eventually status_has "subscribers=1"
    run zcp-pub t -m x
    assert_equal "$status" 1
    assert_output --partial "all 1 participants are in use, those that ended and left unread messages included (zcp-routed --max-participants)"
}

@test "the holds that one participant has room for are limited, by name" {
    start_routed --max-holds 1500
    spawn zcp-sub t
    eventually status_has "subscribers=1"
    run zcp-sub t u
    assert_equal "$status" 1
    assert_output --partial "16 cursors with 64 holds each are too many beside the 1024 holds that p1 has room for: a participant's subscriptions may have room for 1500 (zcp-routed --max-holds)"
}

@test "an idle daemon wakes at most twice a second" {
    start_routed
    local pid before after
    pid=$(routed_pid)
    wakes() { awk '/^voluntary_ctxt/ { print $2 }' "/proc/$pid/status"; }
    before=$(wakes)
    sleep 3
    after=$(wakes)
    [ $((after - before)) -le 6 ]
}
