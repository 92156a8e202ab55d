#!/usr/bin/env bats
# zcp-gc: what dead processes left comes back, and nothing else goes.
load helper

kill_routed() {
    local pid
    pid=$(routed_pid)
    kill -KILL "$pid"
    eventually eval "! kill -0 $pid 2>/dev/null"
}

segments() { find /dev/shm -name "zcp.*.$ZCP_DOMAIN.*" | wc -l; }

# A reader, and a publisher that dies with a daemon before it; $reader.
die_without_daemon() {
    start_routed
    reader t
    spawn zcp-pub t < <(yes)
    local publisher=$!
    eventually test -s "$WORK/out"
    kill_routed
    kill -KILL "$publisher"
    wait "$publisher" || true
}

garbage='chunks of .* would be freed, zcp-pub \(pid [0-9]+\) on t/default/default: (on loan to a publisher|published by one) that died'

@test "where there is no daemon it does what one would do" {
    die_without_daemon
    # On loan, or published and, in a moment, read.
    eventually eval 'zcp-gc -n | grep -qE "$garbage"'
    run -0 zcp-gc -n
    assert_line --regexp "zcp-pub \(pid [0-9]+\) would be forgotten: it died"
    # It only looked.
    run -0 zcp-gc -n
    assert_line --partial "would be forgotten"
    # What the reader has yet to read is kept until it has.
    eventually eval 'zcp-gc >>"$WORK/gc"; grep -q "forgotten: it died" "$WORK/gc"'
    assert_equal "$(zcp-gc)" ""
    run -0 zcp-gc -v
    assert_output "zcp-gc: domain $ZCP_DOMAIN: nothing to take back"
    start_routed
    all_free
    status_has "participants=1"
    status_has "publishers=0"
    kill -0 "$reader"
}

@test "JSON has a reason for each thing" {
    die_without_daemon
    eventually eval 'zcp-gc -n | grep -qE "$garbage"'
    zcp-gc -n -J >"$WORK/json"
    run jq -r 'select(.what == "participant") | "\(.domain) \(.name) \(.why) \(.done)"' "$WORK/json"
    assert_output "$ZCP_DOMAIN zcp-pub it died false"
    run jq -es 'any(.what == "chunks" and .count * .size == .bytes and .topic == "t/default/default" and .pid > 0)' "$WORK/json"
    assert_success
    run jq -r 'select(.what == "socket") | .file' "$WORK/json"
    assert_output "$ZCP_RUNTIME_DIR/$ZCP_DOMAIN.sock"
    run jq -r 'select(.bytes) | "\(.bytes) \(.why)"' <(zcp-gc -J)
    assert_line --regexp "(on loan to a publisher|published by one) that died"
    start_routed
}

@test "a domain that nobody uses is removed, with its socket" {
    die_without_daemon
    kill -KILL "$reader"
    wait "$reader" || true
    [ "$(segments)" -gt 0 ]
    run -0 zcp-gc -n
    assert_line --regexp "/dev/shm/zcp.*mgmt would be removed, .*: nobody uses the domain"
    [ "$(segments)" -gt 0 ]
    run -0 zcp-gc -d "$ZCP_DOMAIN"
    assert_line --regexp "/dev/shm/zcp.*mgmt removed, .*: nobody uses the domain"
    assert_line --partial "$ZCP_DOMAIN.sock removed"
    assert_equal "$(segments)" 0
    run -0 zcp-gc
    assert_output ""
}

@test "history is kept for as long as it is retained" {
    start_routed
    zcp-pub --retain=1h state -m up
    zcp-routed --stop
    run -0 zcp-gc
    refute_output --partial removed
    [ "$(segments)" -gt 0 ]
    start_routed
    run zcp-sub -c 1 state
    assert_output up
    zcp-pub --retain=1ms state -m down
    zcp-routed --stop
    # The older one belongs to the topic's history no more.
    eventually eval 'zcp-gc -q; [ "$(segments)" = 0 ]'
}

@test "beside a daemon it disturbs nobody" {
    start_routed
    reader -e t
    spawn zcp-pub t < <(seq 2000000)
    local publisher=$!
    while kill -0 "$publisher" 2>/dev/null; do
        run -0 zcp-gc
        refute_output --partial removed
        refute_output --partial forgotten
    done
    ends_with 0 "$reader"
    run cmp "$WORK/out" <(seq 2000000)
    assert_success
    eventually all_free
}

@test "several at once, some of them killed: the same end" {
    local i
    for i in 1 2 3 4 5; do
        die_without_daemon
        for _ in 1 2 3 4 5 6; do
            spawn zcp-gc -q
            spawn timeout -s KILL "0.00$((RANDOM % 9 + 1))" zcp-gc -q
        done
        wait "${started[@]: -12}" || true
        zcp-gc -q
        start_routed
        eventually all_free
        kill -KILL "$reader"
        wait "$reader" || true
        eventually status_has "participants=0"
        zcp-routed --stop
        assert_equal "$(segments)" 0
    done
}

@test "a starter waits for it, and it leaves a living daemon's domain alone" {
    local i sweepers=() starters=()
    for i in 1 2 3 4 5 6 7 8; do
        spawn zcp-gc -q
        sweepers+=("$!")
        spawn zcp-routed -q 2>/dev/null
        starters+=("$!")
        spawn zcp-gc -q
        sweepers+=("$!")
    done
    for i in "${sweepers[@]}"; do ends_with 0 "$i"; done
    # One of them serves.
    for i in "${starters[@]}"; do wait "$i" || true; done
    eventually status_has "participants=0"
    zcp-gc
    status_has "participants=0"
    [ "$(segments)" -eq 4 ]
}

@test "beside a daemon whose segments are not there yet it has nothing to do" {
    start_routed
    rm /dev/shm/zcp.*."$ZCP_DOMAIN".*
    run -0 zcp-gc
    assert_output ""
    run -0 zcp-gc -n
    assert_output ""
    zcp-routed --stop
}

@test "what is being made is left alone, what was left half made goes" {
    local mgmt
    mgmt=/dev/shm/zcp.$(id -u).$ZCP_DOMAIN.mgmt
    head -c 8192 /dev/zero >"$mgmt"
    run zcp-gc
    assert_equal "$status" 1
    assert_output --partial "is being made"
    touch -d "1 minute ago" "$mgmt"
    run -0 zcp-gc -n
    assert_output --partial "$mgmt would be removed"
    run -0 zcp-gc
    [ ! -e "$mgmt" ]
}

@test "a damaged domain is named and left to its owner" {
    start_routed
    kill_routed
    local mgmt
    mgmt=/dev/shm/zcp.$(id -u).$ZCP_DOMAIN.mgmt
    dd if=/dev/urandom of="$mgmt" bs=64 count=1 conv=notrunc status=none
    run zcp-gc
    assert_equal "$status" 1
    assert_output --partial "$mgmt is no zcp segment"
    [ -e "$mgmt" ]
    rm -f /dev/shm/zcp.*."$ZCP_DOMAIN".*
}

@test "links and strange files in /dev/shm are not followed" {
    local base
    base=/dev/shm/zcp.$(id -u).$ZCP_DOMAIN
    echo precious >"$WORK/precious"
    ln -s "$WORK/precious" "$base.mgmt"
    run zcp-gc
    assert_equal "$status" 1
    assert_output --partial "$base.mgmt"
    assert_equal "$(cat "$WORK/precious")" precious
    rm "$base.mgmt"
    mkdir "$base.p1"
    touch "$base.p1/inside"
    run zcp-gc
    [ -e "$base.p1/inside" ]
    rm -r "$base.p1"
    touch "$base.other" "/dev/shm/zcp.x.$ZCP_DOMAIN.mgmt"
    run -0 zcp-gc
    [ -e "$base.other" ]
    rm "$base.other" "/dev/shm/zcp.x.$ZCP_DOMAIN.mgmt"
}

@test "without -d and ZCP_DOMAIN it looks at every domain of the user" {
    local here=$ZCP_DOMAIN part
    for part in "$here.a" "$here.b"; do
        zcp-routed -q -d "$part" 3>&-
        ZCP_DOMAIN=$part kill_routed
    done
    run -0 env -u ZCP_DOMAIN zcp-gc -n
    assert_line --regexp "^$here.a: .*would be removed"
    assert_line --regexp "^$here.b: .*would be removed"
    zcp-gc -d "$here.a"
    zcp-gc -d "$here.b"
    run -2 zcp-gc -d a/b
    assert_output --partial "a/b"
    run -2 zcp-gc operand
    assert_output --partial operand
}
