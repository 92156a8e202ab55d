#!/usr/bin/env bats
# zcp-gc: what dead processes left comes back, and nothing else goes.
load helper

kill_routed() {
    local pid
    pid=$(routed_pid)
    kill -KILL "$pid"
    eventually eval "! kill -0 $pid 2>/dev/null"
}

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
    [ -n "$(segments)" ]
    run -0 zcp-gc -n
    assert_line --regexp "/dev/shm/zcp-.*mgmt would be removed, .*: nobody uses the domain"
    [ -n "$(segments)" ]
    run -0 zcp-gc -d "$ZCP_DOMAIN"
    assert_line --regexp "/dev/shm/zcp-.*mgmt removed, .*: nobody uses the domain"
    assert_line --partial "$ZCP_DOMAIN.sock removed"
    assert_equal "$(segments)" ""
    run -0 zcp-gc
    assert_output ""
}

@test "history is kept for as long as it is retained" {
    start_routed
    zcp-pub --retain=1h state -m up
    zcp-routed --stop
    run -0 zcp-gc
    refute_output --partial removed
    [ -n "$(segments)" ]
    start_routed
    run zcp-sub -c 1 state
    assert_output up
    zcp-pub --retain=1ms state -m down
    zcp-routed --stop
    # The older one belongs to the topic's history no more.
    eventually eval 'zcp-gc -q; [ -z "$(segments)" ]'
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
        assert_equal "$(segments)" ""
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
    # mgmt, bell, pool, data, and the lock
    [ "$(find "$(domain_dir)" -type f | wc -l)" -eq 5 ]
}

@test "beside a daemon whose segments are not there yet it has nothing to do" {
    start_routed
    rm "$(domain_dir)"/{mgmt,bell,pool,data}
    run -0 zcp-gc
    assert_output ""
    run -0 zcp-gc -n
    assert_output ""
    zcp-routed --stop
}

@test "a domain that was left half made goes" {
    local mgmt
    start_routed
    mgmt=$(segment mgmt)
    kill_routed
    head -c 8192 /dev/zero >"$mgmt"
    run -0 zcp-gc -n
    assert_output --partial "$mgmt would be removed"
    run -0 zcp-gc
    assert_equal "$(segments)" ""
}

@test "a domain whose mgmt was removed from under its members is left alone" {
    start_routed
    spawn zcp-sub t
    eventually status_has "subscribers=1"
    kill_routed
    rm "$(segment mgmt)"
    run zcp-gc
    assert_equal "$status" 1
    assert_output --partial "has no mgmt, and yet somebody uses it"
    kill -KILL "${started[0]}"
    wait "${started[0]}" || true
    run -0 zcp-gc
    assert_equal "$(segments)" ""
}

@test "a damaged domain is named and left to its owner" {
    start_routed
    kill_routed
    local mgmt
    mgmt=$(segment mgmt)
    dd if=/dev/urandom of="$mgmt" bs=64 count=1 conv=notrunc status=none
    run zcp-gc
    assert_equal "$status" 1
    assert_output --partial "$mgmt is no zcp segment"
    [ -e "$mgmt" ]
    leftovers_allowed=1
}

@test "links and strange files in a domain's directory are not followed" {
    local dir
    start_routed
    kill_routed
    dir=$(domain_dir)
    rm "$dir"/{mgmt,bell,pool,data}
    echo precious >"$WORK/precious"
    ln -s "$WORK/precious" "$dir/mgmt"
    run zcp-gc
    assert_equal "$status" 1
    assert_output --partial "$dir/mgmt"
    assert_equal "$(cat "$WORK/precious")" precious
    rm "$dir/mgmt"
    mkdir "$dir/p1"
    touch "$dir/p1/inside" "$dir/other"
    run zcp-gc
    [ -e "$dir/p1/inside" ]
    [ -e "$dir/other" ]
    leftovers_allowed=1
}

@test "without -d and ZCP_DOMAIN it looks at every domain of the user" {
    local here=$ZCP_DOMAIN part
    for part in "$here.a" "$here.b"; do
        zcp-routed -q -d "$part" 3>&-
        ZCP_DOMAIN=$part kill_routed
    done
    run -0 env -u ZCP_DOMAIN zcp-gc -n
    assert_line --regexp "^$here.a \(ZCP_RUNTIME_DIR=$ZCP_RUNTIME_DIR\): .*would be removed"
    assert_line --regexp "^$here.b \(ZCP_RUNTIME_DIR=$ZCP_RUNTIME_DIR\): .*would be removed"
    zcp-gc -d "$here.a"
    zcp-gc -d "$here.b"
    run -2 zcp-gc -d a/b
    assert_output --partial "a/b"
    run -2 zcp-gc operand
    assert_output --partial operand
}

@test "what zcp 0.1.0 left goes, once nobody has it locked" {
    local base part
    base=/dev/shm/zcp.$(id -u).$ZCP_DOMAIN
    for part in mgmt bell pool data p0; do echo old >"$base.$part"; done
    touch "$base.other"
    # As a member of that version has its file locked.
    cat >"$WORK/lock.c" <<'EOF'
#include <fcntl.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    if (argc != 2 || fcntl(open(argv[1], O_RDWR), F_SETLK, &lock) < 0 || write(1, "locked", 6) != 6)
        return 1;
    return pause();
}
EOF
    cc -o "$WORK/lock" "$WORK/lock.c"
    spawn "$WORK/lock" "$base.p0" >"$WORK/out"
    local member=$!
    eventually grep -q locked "$WORK/out"
    run -0 env -u ZCP_DOMAIN zcp-gc
    refute_output --partial "$base"
    kill -KILL "$member"
    wait "$member" || true
    run -0 env -u ZCP_DOMAIN zcp-gc -n
    assert_output --partial "$base.mgmt would be removed"
    run -0 env -u ZCP_DOMAIN zcp-gc
    assert_output --regexp "$base.p0 removed, .*: zcp 0.1.0 left it, and nobody uses the domain"
    run bash -c "echo $base.*"
    assert_output "$base.other"
    rm "$base.other"
}
