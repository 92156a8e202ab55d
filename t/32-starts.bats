#!/usr/bin/env bats
# How the route daemon starts: it keeps nothing of its starter, and no signal
# but those documented ends it.
load helper

limit_of() { awk -v name="$2" 'index($0, name) == 1 { print $(NF - 2), $(NF - 1) }' "/proc/$1/limits"; }

@test "whoever reads what a daemon by hand prints does not wait for its end" {
    run timeout 20 bash -c 'x=$(zcp-routed 2>&1); zcp-routed | cat; echo "went on"'
    assert_output --partial "went on"
}

@test "a background daemon gives up the locks and pipes of its starter" {
    run timeout 20 bash -c 'exec 9>"$0/lock"; flock -n 9 && zcp-routed' "$WORK"
    assert_success
    run flock -n "$WORK/lock" echo free
    assert_output free
    local pid
    pid=$(routed_pid)
    # No file or pipe of anybody else's, but what every daemon has.
    run bash -c "readlink /proc/$pid/fd/* | grep -vE '^(/dev/null|/dev/shm/.*|.*\\.lock|socket:.*|anon_inode:.*|pipe:.*)\$'"
    assert_output ""
    assert_equal "$(readlink "/proc/$pid/cwd")" /
}

@test "a log that is given up, and signals that end others, do not end the daemon" {
    mkfifo "$WORK/log"
    exec 7<>"$WORK/log"
    spawn zcp-routed -f --log-level debug 2>"$WORK/log" 7>&-
    local pid=$!
    eventually status_has "pid=$pid "
    # Nobody reads the log from here on.
    exec 7>&-
    for sig in HUP USR2 ALRM PIPE XFSZ VTALRM PROF IO RTMIN RTMAX; do
        kill -s "$sig" "$pid"
        status_has "pid=$pid "
    done
    run -0 zcp-pub t -m x
    kill "$pid"
    ends_with 0 "$pid"
}

# first_client ULIMIT-OPTION: the daemon that it starts serves others.
first_client() {
    local space="ulimit $1 -v 4000000;"
    # AddressSanitizer maps more than anybody has.
    [[ ${ZCP_SANITIZE:-} != *sanitize* ]] || space=
    bash -c "$space ulimit $1 -n 64; ulimit $1 -f 100000; umask 777
        exec nice -n 5 taskset -c 0 zcp-pub t -m x"
    local pid soft hard name
    pid=$(routed_pid)
    for name in "Max address space" "Max file size" "Max open files"; do
        read -r soft hard <<<"$(limit_of "$pid" "$name")"
        assert_equal "$soft" "$hard"
    done
    assert_equal "$(limit_of "$pid" "Max file size")" "unlimited unlimited"
    assert_equal "$(taskset -cp "$pid" | sed 's/.*: //')" "$(taskset -cp $$ | sed 's/.*: //')"
    run -0 zcp-pub t -m x
}

@test "what limits the first client softly does not limit its daemon" {
    first_client -S
}

@test "root's daemon leaves hard limits and a nice value, too" {
    bash -c 'ulimit -f 100000 && ulimit -f unlimited && nice -n 5 renice -n 0 $$' >/dev/null 2>&1 ||
        skip "this user may not raise hard limits"
    first_client ""
    assert_equal "$(ps -o ni= -p "$(routed_pid)" | tr -d ' ')" 0
}

@test "--log-file takes the log once the daemon serves" {
    zcp-routed --log-file "$WORK/log" --log-level debug
    zcp-pub t -m x
    eventually grep -q "registered" "$WORK/log"
    run -1 zcp-routed -q -d "other-$ZCP_DOMAIN" --log-file "$WORK/none/log"
    assert_output --partial "cannot open the log file $WORK/none/log: No such file or directory"
}

@test "in the foreground it prints that it is ready, with -q too" {
    spawn zcp-routed -f -q >"$WORK/out"
    eventually grep -q "domain $ZCP_DOMAIN ready" "$WORK/out"
}

@test "defaults that may not be read are none" {
    mkdir -p "$XDG_CONFIG_HOME/zcp"
    echo "domain = elsewhere" >"$XDG_CONFIG_HOME/zcp/zcp.conf"
    chmod 000 "$XDG_CONFIG_HOME/zcp"
    if [ "$(id -u)" = 0 ]; then
        chmod 711 "$ZCP_RUNTIME_DIR" "$WORK" "$XDG_CONFIG_HOME"
        run setpriv --reuid 65534 --regid 65534 --clear-groups zcp-sub --version
    else
        run zcp-sub --version
    fi
    chmod 700 "$XDG_CONFIG_HOME/zcp"
    assert_success
    assert_output --partial "zcp-sub (zcp)"
}
