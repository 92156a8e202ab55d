#!/usr/bin/env bats
# Members in pid namespaces of their own, as in containers that share /dev/shm
# and the runtime directory.
load helper

# In a new pid namespace, with a /proc of its own; killed with the shell.
contained() {
    if [ "$(id -u)" = 0 ]; then
        spawn unshare --pid --fork --mount-proc --kill-child "$@"
    else
        spawn unshare --user --map-current-user --pid --fork --mount-proc --kill-child "$@"
    fi
}

# Some versions of bats fail a file whose setup_file skips.
setup_file() {
    unshare --pid --fork --mount-proc true 2>/dev/null ||
        unshare --user --map-current-user --pid --fork --mount-proc true 2>/dev/null ||
        export no_namespaces=1
}

eval "helper_$(declare -f setup)"
setup() {
    helper_setup
    [ -z "${no_namespaces:-}" ] || skip "needs pid namespaces (unshare)"
}

# The process in the namespace whose unshare has this pid.
inner() { cat "/proc/$1/task/$1/children"; }

@test "daemon, publisher and reader each in a pid namespace of its own" {
    contained zcp-routed -f -q --heartbeat 100ms
    eventually status_has "domain="
    contained zcp-sub -e t >"$WORK/out"
    local reader=$!
    eventually status_has "subscribers=1"
    contained zcp-pub t < <(seq 300000)
    ends_with 0 "$reader"
    run cmp "$WORK/out" <(seq 300000)
    assert_success
    eventually all_free
    eventually status_has "participants=0"
    zcp-routed --stop
}

# The number here of process $2 of the namespace whose unshare has the pid $1.
host_pid() {
    local pid
    for pid in $(pgrep --ns "$(inner "$1")" --nslist pid .); do
        if [ "$(awk '/^NSpid:/ { print $NF }' "/proc/$pid/status")" = "$2" ]; then
            echo "$pid"
        fi
    done
}

# A daemon that adopts the domain in a namespace where the first numbers belong
# to processes that have nothing to do with it: $successor.
crowded_successor() {
    # shellcheck disable=SC2016
    contained bash -c 'for i in $(seq 60); do sleep 1000 & done
        exec zcp-routed -f --heartbeat 50ms "$@"' bash "$@" >"$WORK/successor" 2>&1
    successor=$!
    eventually grep -q adopted "$WORK/successor"
}

# Daemon, reader and publisher, under way: $daemon, $reader, $publisher.
contained_scene() {
    contained zcp-routed -f -q --heartbeat 50ms
    daemon=$!
    eventually status_has "domain="
    contained zcp-sub t >"$WORK/out"
    reader=$!
    eventually status_has "subscribers=1"
    contained zcp-pub t < <(yes)
    publisher=$!
    eventually test -s "$WORK/out"
}

@test "deaths in other namespaces than the daemon's are found by lock and silence" {
    contained_scene
    # Nobody is taken for dead while it lives.
    status_has "deaths=0"
    kill -KILL "$(inner "$publisher")"
    eventually status_has "deaths=1"
    eventually status_has "publishers=0"
    kill -KILL "$(inner "$reader")"
    eventually status_has "deaths=2"
    eventually all_free
    eventually status_has "participants=0"
    zcp-routed --stop
}

@test "a stopped reader in another namespace is demoted, and comes back" {
    contained zcp-routed -f -q --heartbeat 50ms
    eventually status_has "domain="
    contained zcp-sub -v -e t >"$WORK/out" 2>"$WORK/err"
    local reader=$!
    eventually status_has "subscribers=1"
    kill -STOP "$(inner "$reader")"
    eventually status_has "state=stalled"
    # More than ring and pools hold: it is waited for no longer.
    zcp-pub t < <(seq 1000000)
    kill -CONT "$(inner "$reader")"
    wait "$reader" || true
    local got
    got=$(wc -l <"$WORK/out")
    [ "$got" -lt 1000000 ]
    assert_equal "$(sed -n 's/.*: \([0-9]*\) messages, \([0-9]*\) lost.*/\1 \2/p' "$WORK/err")" \
        "$got $((1000000 - got))"
    eventually all_free
    zcp-routed --stop
}

@test "zcp-gc in one namespace, the dead in another" {
    contained_scene
    kill -KILL "$(inner "$daemon")" "$(inner "$publisher")"
    # Its pid says nothing here: the lock is free, and the heart gets silent.
    eventually eval 'zcp-gc >>"$WORK/gc"; grep -q "forgotten: it died" "$WORK/gc"'
    kill -0 "$reader"
    kill -KILL "$(inner "$reader")"
    eventually eval 'zcp-gc >>"$WORK/gc"; [ -z "$(segments)" ]'
}

# Years apart: nobody may subtract one process's clock from another's.
@test "a member in another time namespace beats, and is neither stalled nor dead" {
    local ahead=(unshare --time --monotonic 100000000 --fork --kill-child)
    local behind=(unshare --time --monotonic -$(($(cut -d. -f1 /proc/uptime) - 1)) --fork --kill-child)
    [ "$(id -u)" = 0 ] || { ahead+=(--user --map-current-user); behind+=(--user --map-current-user); }
    "${ahead[@]}" true 2>/dev/null || skip "needs time namespaces (unshare --time)"
    "${behind[@]}" true
    spawn zcp-routed -f -q --heartbeat 50ms
    eventually status_has "domain="
    spawn "${ahead[@]}" zcp-sub t >"$WORK/ahead"
    local first=$!
    spawn "${behind[@]}" zcp-sub t >"$WORK/behind"
    local second=$!
    eventually status_has "subscribers=2"
    # Ten periods, in which it would have been called silent three times over.
    for i in $(seq 20); do
        zcp-pub -m "$i" t
        status_has "state=stalled" && false
        status_has "deaths=0"
        sleep 0.025
    done
    eventually eval '[ "$(wc -l <"$WORK/ahead")" = 20 ] && [ "$(wc -l <"$WORK/behind")" = 20 ]'
    # What is told of the time since a beat is by the clock of who tells.
    run zcp-routed --status
    assert_success
    refute_output --regexp 'beat_ms=[0-9]{5,}'
    kill -KILL "$first" "$second"
    eventually status_has "participants=0"
    zcp-routed --stop
}

@test "on-stall kill ends nobody in another pid namespace than the participant's" {
    # Daemon and reader in one namespace, where the reader has a low number.
    # shellcheck disable=SC2016
    contained bash -c 'zcp-routed -f -q --heartbeat 50ms --on-stall kill & echo $! >"$1/routed"
        until zcp-routed --status; do sleep 0.02; done >/dev/null 2>&1
        zcp-sub t >"$1/out" & echo $! >"$1/reader"; wait' bash "$WORK"
    local scene=$! reader routed
    eventually status_has "subscribers=1"
    routed=$(host_pid "$scene" "$(cat "$WORK/routed")")
    reader=$(host_pid "$scene" "$(cat "$WORK/reader")")
    [ "$(cat "$WORK/reader")" -lt 60 ]
    kill -KILL "$routed"
    crowded_successor --on-stall kill
    kill -STOP "$reader"
    eventually status_has "state=stalled"
    # It is demoted instead, and the log says why.
    eventually grep -q "zcp-sub is demoted and not killed: this daemon has not identified its process" \
        "$WORK/successor"
    zcp-pub t < <(seq 100000)
    assert_equal "$(pgrep -c --ns "$(inner "$successor")" --nslist pid -x sleep)" 60
    kill -CONT "$reader"
    eventually status_has "state=live"
    kill -KILL "$reader"
    eventually status_has "participants=0"
    zcp-routed --stop
}

# A message for a publisher of frames, which opens a port for each new topic.
publish_on() { printf 'zcp1 %s/default/default x 0 0 0 2\n%s\n\n' "$1" "$2" >&8; }

# It has opened a port under one daemon ($1), which is killed, and opens another
# one under the next (the command behind $2, the publisher).
goes_on_under_the_next() {
    spawn zcp-sub 'in*' >"$WORK/out"
    local reader=$!
    eventually status_has "subscribers=1"
    publish_on in1 A
    eventually grep -q A "$WORK/out"
    kill -KILL "$1"
    "${@:3}"
    publish_on in2 B
    eventually grep -q B "$WORK/out"
    status_has "publishers=2"
    # Both end in order, and are not missed.
    kill -TERM "$2" "$reader"
    eventually status_has "participants=0 .* deaths=0"
}

@test "where the daemon sees no pids, another process is not taken for a participant" {
    contained zcp-routed -f -q --heartbeat 100ms
    eventually status_has "domain="
    spawn zcp-sub t
    local reader=$!
    eventually status_has "name=zcp-sub pid=0"
    run ask "UNREGISTER:0"
    assert_output --partial "code=PERM"
    run ask "RELEASE:slot=0"
    assert_output --partial "code=PERM"
    status_has "subscribers=1"
    # It names itself, and is heard.
    kill -TERM "$reader"
    eventually status_has "participants=0 .* deaths=0"
    zcp-routed --stop
}

@test "participants open and end ports under a daemon in a namespace that does not see them" {
    zcp-routed -q --heartbeat 100ms 3>&-
    open_input
    spawn zcp-pub -F frame <"$WORK/input"
    local publisher=$!
    eventually status_has "name=zcp-pub pid=$publisher"
    goes_on_under_the_next "$(routed_pid)" "$publisher" crowded_successor
    zcp-routed --stop
}

@test "participants open and end ports under a daemon in a namespace with other numbers" {
    open_input
    # shellcheck disable=SC2016
    contained bash -c 'zcp-routed -f -q --heartbeat 100ms & echo $! >"$1/routed"
        until zcp-routed --status; do sleep 0.02; done >/dev/null 2>&1
        zcp-pub -F frame <"$1/input" & echo $! >"$1/publisher"; wait' bash "$WORK"
    local scene=$!
    eventually status_has "name=zcp-pub"
    goes_on_under_the_next "$(host_pid "$scene" "$(cat "$WORK/routed")")" \
        "$(host_pid "$scene" "$(cat "$WORK/publisher")")" \
        zcp-routed -q --heartbeat 100ms 3>&-
    zcp-routed --stop
}
