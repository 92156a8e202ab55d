#!/usr/bin/env bats
# No set-up: clients start the daemon that they do not find.
load helper

@test "two commands are enough: the daemon comes by itself" {
    spawn zcp-sub -c 1 t >"$WORK/out"
    local reader=$!
    zcp-pub -w 1 t -m hello
    wait "$reader"
    run cat "$WORK/out"
    assert_output hello
    assert [ "$(routed_pid)" -gt 0 ]
}

@test "ten clients at once start one daemon" {
    local pids=() i
    for i in $(seq 10); do
        spawn zcp-sub -c 1 t >"$WORK/out$i"
        pids+=("$!")
    done
    zcp-pub -w 10 t -m hello
    wait "${pids[@]}"
    run cat "$WORK"/out*
    assert_equal "$(sort -u <<<"$output")" hello
    assert_equal "${#lines[@]}" 10
    assert_equal "$(pgrep -cf "^zcp-routed --private -b -q -d $ZCP_DOMAIN\$")" 1
}

@test "a daemon that cannot start is quoted, however often it was tried" {
    run -69 env ZCP_RUNTIME_DIR="$WORK/none/dir" zcp-pub t -m x
    assert_output --partial "cannot make runtime directory $WORK/none/dir"
    run -69 env ZCP_ROUTED=/bin/false zcp-pub t -m x
    assert_output --partial "ended without a word"
}

@test "a private daemon ends after its last participant, and leaves nothing" {
    zcp-routed --private=100ms 3>&-
    local pid
    pid=$(routed_pid)
    spawn zcp-sub -e t
    local reader=$!
    eventually status_has subscribers=1
    zcp-pub t -m x
    wait "$reader"
    eventually eval "! kill -0 $pid 2>/dev/null"
    assert_equal "$(segments)" ""
    run find "$ZCP_RUNTIME_DIR" -name '*.sock' -o -name '*.gone'
    assert_output ""
}

@test "a private daemon stays while somebody is there" {
    zcp-routed --private=500ms --heartbeat 10ms 3>&-
    reader t
    local pid
    pid=$(routed_pid)
    # Twice its time later it is the same one.
    zcp-sub -W 1s nothing || true
    assert_equal "$(routed_pid)" "$pid"
    kill -TERM "$reader"
    ends_with 143 "$reader"
    eventually eval "! kill -0 $pid 2>/dev/null"
}

@test "who comes while a private daemon retires is served" {
    local i
    for i in $(seq 20); do
        zcp-routed --private=1ms --heartbeat 10ms 3>&-
        run zcp-pub --retain t -m "$i"
        assert_success
        run zcp-sub -I 0 -o -1 t
        assert_line "$i"
    done
    leftovers_allowed=1
}

@test "another daemon will do for a private one" {
    start_routed
    local pid
    pid=$(routed_pid)
    run zcp-routed --private -f
    assert_success
    assert_output --partial "is served already"
    zcp-routed --private 3>&-
    assert_equal "$(routed_pid)" "$pid"
}

@test "retained history is found again by the next private daemon" {
    zcp-routed --private=1ms --heartbeat 10ms 3>&-
    local pid
    pid=$(routed_pid)
    zcp-pub --retain state -m last
    eventually eval "! kill -0 $pid 2>/dev/null"
    run zcp-sub -e state
    assert_output last
    leftovers_allowed=1
}

@test "a client whose daemon was killed goes on, a new port starts another" {
    spawn zcp-sub -c 2 t >"$WORK/out"
    local reader=$!
    zcp-pub -w 1 t -m one
    local pid
    pid=$(routed_pid)
    kill -KILL "$pid"
    eventually eval "! kill -0 $pid 2>/dev/null"
    zcp-pub -w 1 t -m two
    wait "$reader"
    run cat "$WORK/out"
    assert_output $'one\ntwo'
}

@test "--no-autostart starts nothing" {
    run -69 zcp-pub --no-autostart t -m x
    assert_output --partial "no route daemon answers for domain $ZCP_DOMAIN"
    run zcp-routed --status
    assert_equal "$status" 69
}

@test "a daemon that cannot be started says why" {
    ZCP_ROUTED=$WORK/nothing run -69 zcp-pub t -m x
    assert_output --partial "cannot run $WORK/nothing: No such file"
    mkdir -p "$XDG_CONFIG_HOME/zcp"
    echo 'pool = nonsense' >"$XDG_CONFIG_HOME/zcp/zcp-routed.conf"
    run -69 zcp-pub t -m x
    assert_output --partial "--pool nonsense: not SIZE:COUNT"
}

@test "defaults that keep a daemon in the foreground keep no client waiting" {
    mkdir -p "$XDG_CONFIG_HOME/zcp"
    echo foreground >"$XDG_CONFIG_HOME/zcp/zcp-routed.conf"
    run -0 timeout 60 zcp-pub t -m x
    zcp-routed --stop
    # Who starts one himself has the last word, too.
    zcp-routed --background -q 3>&-
    status_has "domain=$ZCP_DOMAIN "
}

@test "a private daemon holds no pipe open" {
    # The pipe ends when its writers do, or the test would.
    run timeout 8 bash -c 'zcp-pub t -m x 7>&1 2>&1 | cat'
    assert_success
}

@test "defaults come from the files of all and of the command, the command line has the last word" {
    # popt forgets the texts that others override.
    export ASAN_OPTIONS=detect_leaks=0
    mkdir -p "$XDG_CONFIG_HOME/zcp"
    printf '# the lab\n\ndomain = lab.%s\nname=me\n' "$$" >"$XDG_CONFIG_HOME/zcp/zcp.conf"
    printf 'count = 2\n  hex\n' >"$XDG_CONFIG_HOME/zcp/zcp-sub.conf"
    printf 'retain\nhistory = 3\n' >"$XDG_CONFIG_HOME/zcp/zcp-pub.conf"
    seq 5 | zcp-pub t
    run zcp-sub t
    assert_line --partial "publisher=me"
    assert_line --partial "|3|"
    assert_line --partial "|4|"
    refute_line --partial "|5|"
    run zcp-sub -c 1 t
    refute_line --partial "|4|"
    run zcp-routed --status
    assert_output --partial "domain=lab.$$"
    zcp-routed -d "lab.$$" --stop
    ZCP_DOMAIN=lab.$$ remove_segments
}

@test "a usage error says which defaults had a say" {
    mkdir -p "$XDG_CONFIG_HOME/zcp"
    echo json >"$XDG_CONFIG_HOME/zcp/zcp-sub.conf"
    run -2 zcp-sub -x t
    assert_output --partial "exclude each other"
    assert_output --partial "zcp-sub.conf has a say, too"
}

@test "a default that makes no sense is named with its file and line" {
    mkdir -p "$XDG_CONFIG_HOME/zcp"
    printf '\nquiet\nnonsense = 5\n' >"$XDG_CONFIG_HOME/zcp/zcp-pub.conf"
    run -2 zcp-pub t -m x
    assert_output --partial "zcp/zcp-pub.conf:3: nonsense=5: unknown option"
}
