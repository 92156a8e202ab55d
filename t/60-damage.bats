#!/usr/bin/env bats
# Damaged segments, a full /dev/shm, missing permissions.
load helper

# Leaves the segments of a domain whose daemon was killed with a member alive.
orphan() {
    start_routed
    spawn zcp-sub t
    member=$!
    eventually status_has "subscribers=1"
    # Alive, but it shall not look at what is done to its segments.
    kill -STOP "$member"
    kill -KILL "$(routed_pid)"
    leftovers_allowed=1
}

refuses() {
    run zcp-routed -f
    assert_equal "$status" 1
    assert_output --partial "$1"
    assert_output --partial "rm -r $(domain_dir) removes them"
}

@test "a daemon refuses damaged segments and says how to remove them" {
    orphan
    cp "$(segment mgmt)" "$WORK/good"
    truncate -s 1000 "$(segment mgmt)"
    refuses "is truncated"
    truncate -s 30 "$(segment mgmt)"
    refuses "truncated within its header"
    head -c 100000 /dev/urandom >"$(segment mgmt)"
    refuses "is no zcp segment"
    cp "$WORK/good" "$(segment mgmt)"
    printf '\11\0' | dd of="$(segment mgmt)" bs=1 seek=12 conv=notrunc status=none
    refuses "layout version 9.0, this program knows 2.x"
    cp "$WORK/good" "$(segment mgmt)"
    rm "$(segment pool)"
    refuses "cannot open $(segment pool)"
    kill -KILL "$member"
    rm -r "$(domain_dir)"
    start_routed
    run zcp-pub t -m x
    assert_success
}

@test "a client refuses what is not its daemon's" {
    start_routed
    leftovers_allowed=1
    mv "$(segment mgmt)" "$WORK/mgmt"
    head -c 100000 /dev/urandom >"$(segment mgmt)"
    chmod 600 "$(segment mgmt)"
    run zcp-pub t -m x
    assert_equal "$status" 1
    assert_output --partial "is no zcp segment"
    rm "$(segment mgmt)"
    ln -s "$WORK/mgmt" "$(segment mgmt)"
    run zcp-pub t -m x
    assert_equal "$status" 1
    assert_output --partial "cannot open $(segment mgmt)"
    rm "$(segment mgmt)"
    cp "$WORK/mgmt" "$(segment mgmt)"
    chmod 666 "$(segment mgmt)"
    run zcp-pub t -m x
    assert_equal "$status" 5
    assert_output --partial "mode 666"
}

@test "a second creation beside a live one is not mixed up with it" {
    start_routed
    spawn zcp-sub t
    eventually status_has "subscribers=1"
    cp "$(segment bell)" "$WORK/bell"
    zcp-routed --stop
    kill -KILL "${started[0]}"
    wait "${started[0]}" || true
    start_routed
    cp "$WORK/bell" "$(segment bell)"
    run zcp-pub t -m x
    assert_equal "$status" 1
    assert_output --partial "belongs to another creation of the domain"
    # A daemon removes what is of its own creation, zcp-gc the rest.
    zcp-routed --stop
    [ -e "$(segment bell)" ]
    [ ! -e "$(segment mgmt)" ]
    zcp-gc -q
}

@test "random bytes over every record of mgmt: an error or an end, never a hang" {
    orphan
    cp "$(segment mgmt)" "$WORK/good"
    local size
    size=$(stat -c %s "$WORK/good")
    for i in $(seq 20); do
        cp "$WORK/good" "$(segment mgmt)"
        head -c 400 /dev/urandom | dd of="$(segment mgmt)" bs=1 \
            seek=$((64 + i * 977 * 37 % (size - 500))) conv=notrunc status=none
        # It serves, or it says why not; a signal would show as 128 and more.
        run timeout -s KILL 10 bash -c 'zcp-routed -q && zcp-routed --stop'
        [ "$status" -le 69 ]
    done
    kill -KILL "$member"
}

@test "a full /dev/shm is an error that says so, not a signal" {
    unshare -m true 2>/dev/null || skip "no mount namespace can be made here"
    run unshare -m bash -c '
        mount -t tmpfs -o size=2m tmpfs /dev/shm || exit 99
        zcp-routed -f; echo "status $?"; ls -A /dev/shm | sed s/^/left:/'
    assert_success
    assert_output --partial "cannot commit"
    assert_output --partial "is /dev/shm full?"
    assert_output --partial "status 1"
    refute_output --partial "left:"
}

@test "a /dev/shm that fills up later refuses new ports and keeps the old ones" {
    unshare -m true 2>/dev/null || skip "no mount namespace can be made here"
    run unshare -m bash -c '
        mount -t tmpfs -o size=4m tmpfs /dev/shm || exit 99
        zcp-routed -q || exit 98
        zcp-sub -e t >"'"$WORK"'/out" & reader=$!
        until zcp-routed --status | grep -q subscribers=1; do sleep 0.02; done
        zcp-pub -w 1 t < <(seq 10; while [ ! -e "'"$WORK"'/go" ]; do sleep 0.02; done; seq 11 20) & publisher=$!
        until [ "$(wc -l <"'"$WORK"'/out")" = 10 ]; do sleep 0.02; done
        head -c 4m /dev/zero >/dev/shm/fill 2>/dev/null
        zcp-sub -W 1s u; echo "status $?"
        touch "'"$WORK"'/go"
        wait $publisher && wait $reader && echo "both ended well"
        rm /dev/shm/fill
        zcp-routed --stop'
    assert_output --partial "is /dev/shm full?"
    assert_output --partial "status 1"
    assert_output --partial "both ended well"
    run cmp <(seq 20) "$WORK/out"
    assert_success
}

member_of() {
    zcp-routed --status | sed -n "s/^participant=\([0-9]*\) name=$1 .*/\1/p"
}

@test "a command that truncates its file ends nobody else" {
    local size victim
    for size in 0 4096; do
        start_routed
        leftovers_allowed=1
        spawn zcp-sub --name reader t >"$WORK/out" 2>"$WORK/err"
        eventually status_has "name=reader"
        local reader=$!
        spawn zcp-pub --name victim t < <(echo first; sleep 30)
        victim=$!
        eventually grep -q first "$WORK/out"
        truncate -s "$size" "$(segment "p$(member_of victim)")"
        eventually grep -q "victim, pid [0-9]*) was truncated by its owner" "$WORK/err"
        zcp-pub -w 1 t -m second
        eventually grep -q second "$WORK/out"
        # The reader in its turn: its publisher does not wait for it.
        kill -STOP "$reader"
        truncate -s "$size" "$(segment "p$(member_of reader)")"
        run timeout 20 zcp-pub t -m third
        assert_success
        run zcp-routed --status
        assert_success
        run zcp-shmdump participants
        assert_success
        kill -KILL "$reader" "$victim"
        zcp-routed --stop
    done
}

@test "another user is not let in" {
    [ "$(id -u)" = 0 ] || skip "needs root to become another user"
    start_routed
    chmod 711 "$ZCP_RUNTIME_DIR" "$WORK"
    # Where we are built may not be for others to look into.
    cp "$ZCP_BIN"/.libs/zcp-pub "$ZCP_BIN"/../lib/.libs/libzcp.so.0 "$WORK"
    chmod 755 "$WORK/zcp-pub" "$WORK/libzcp.so.0"
    run setpriv --reuid=65534 --regid=65534 --clear-groups \
        env LD_LIBRARY_PATH="$WORK" "$WORK/zcp-pub" t -m x
    assert_equal "$status" 5
    assert_output --partial "Permission denied"
    run zcp-pub t -m x
    assert_success
}

@test "a daemon that goes away during a call leaves a clear error" {
    start_routed
    local pid
    pid=$(routed_pid)
    kill -STOP "$pid"
    spawn zcp-pub --no-autostart t -m x 2>"$WORK/err"
    local publisher=$!
    # Its request is in the queue when the daemon dies.
    eventually eval 'ss -xnp 2>/dev/null | grep -q "pid=$publisher" || true'
    kill -KILL "$pid"
    leftovers_allowed=1
    ends_with 69 "$publisher"
    run cat "$WORK/err"
    assert_output --partial "no route daemon answers"
}
