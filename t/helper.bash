# helper.bash - a private domain for each test; ends only what it started.
bats_require_minimum_version 1.5.0
bats_load_library bats-support
bats_load_library bats-assert

setup() {
    ZCP_RUNTIME_DIR=$(mktemp -d /tmp/zcp-bats-XXXXXX)
    export ZCP_RUNTIME_DIR
    export ZCP_DOMAIN="bats$$-$BATS_TEST_NUMBER-${BATS_SUITE_TEST_NUMBER:-0}"
    PATH="${ZCP_BIN:-$PWD/bin}:$PATH"
    WORK=$ZCP_RUNTIME_DIR/work
    mkdir "$WORK"
    # Nobody's own defaults.
    export XDG_CONFIG_HOME=$WORK/config
    unset ZCP_ROUTED NO_COLOR
    started=()
}

# Members first, so that the daemon finds nobody and removes its segments.
teardown() {
    local pid left
    [ -z "${terminal:-}" ] || stop_terminal
    for pid in "${started[@]}"; do
        [ "$(cat "/proc/$pid/comm" 2>/dev/null)" != zcp-routed ] || continue
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    zcp-routed --stop 2>/dev/null || true
    for pid in "${started[@]}"; do
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    left=$(segments)
    if [ -n "${leftovers_allowed:-}" ]; then
        remove_segments
        left=
    fi
    rm -rf "$ZCP_RUNTIME_DIR"
    [ -z "$left" ] || { echo "left in /dev/shm: $left" >&2; return 1; }
}

# The directory of this test's domain, and a file in it.
domain_dir() { echo "/dev/shm/zcp-$(id -u)/$ZCP_DOMAIN"@*; }
segment() { echo "$(domain_dir)/$1"; }

# All that there is of this test's domains.
segments() { find /dev/shm -path "/dev/shm/zcp-*/*$ZCP_DOMAIN*"; }

remove_segments() {
    rm -rf /dev/shm/zcp-*/*"$ZCP_DOMAIN"*
    rmdir /dev/shm/zcp-* 2>/dev/null || true
}

# In the background, noted for the end of the test; $! is its pid.
spawn() {
    local input
    exec {input}<&0
    "$@" <&"$input" 3>&- &
    started+=("$!")
    exec {input}<&-
}

# A fifo that is written to by >&8 and does not end while the test lasts.
open_input() {
    rm -f "$WORK/input"
    mkfifo "$WORK/input"
    exec 8<>"$WORK/input"
}

# ends_with STATUS PID: waits for a process that this test started
ends_with() {
    local ended=0
    wait "$2" || ended=$?
    assert_equal "$ended" "$1"
}

# The daemon, in the background; returns when it serves.
start_routed() {
    zcp-routed -q "$@" 3>&-
}

routed_pid() {
    zcp-routed --status 2>/dev/null 3>&- | sed -n 's/^domain=.* pid=\([0-9]*\) .*/\1/p'
}

# The only subscriber, in the background: $reader; what it says is in
# $WORK/out and $WORK/err.
reader() {
    spawn zcp-sub "$@" >"$WORK/out" 2>"$WORK/err"
    # shellcheck disable=SC2034
    reader=$!
    eventually status_has "subscribers=1"
}

# timeout(1) in our own process group.  A group of its own would make ours an
# orphaned one as it ends, where nobody else holds the session together (setsid,
# su -c, cron): with a stopped process in it the kernel hangs it up as a whole.
timeout() { command timeout --foreground "$@"; }

# eventually COMMAND...: true within ten seconds
eventually() {
    local end=$((SECONDS + 20))
    until "$@"; do
        if [ $SECONDS -ge $end ]; then
            echo "never: $*" >&2
            return 1
        fi
        sleep 0.02
    done
}

status_has() {
    zcp-routed --status 2>/dev/null | grep -q -- "$1"
}

all_free() {
    ! zcp-routed --status | grep '^pool=' | grep -qv 'loaned=0 published=0'
}

# One request in the control protocol, as a person would send it.
ask() {
    # The first datagram is the answer; socat would wait for more.
    dd bs=65536 count=1 status=none < <(
        exec 2>/dev/null 3>&-
        printf '%s' "$1" | socat -t 3 - \
            "UNIX-SENDTO:$ZCP_RUNTIME_DIR/$ZCP_DOMAIN.sock,bind=$WORK/ask.$RANDOM$RANDOM")
}

# ---- terminals ----

on_screen() {
    tmux -L "$ZCP_DOMAIN" capture-pane -pJ -t zcp >"$WORK/screen" 2>/dev/null &&
        grep -qE -- "$1" "$WORK/screen"
}

# A terminal of 120 columns, a shell in it.
start_terminal() {
    command -v tmux >/dev/null || skip "needs tmux"
    terminal=1
    tmux -L "$ZCP_DOMAIN" -f /dev/null new-session -d -s zcp -x 120 -y 24 \
        "env PS1='ready> ' PATH='$PATH' bash --norc --noprofile" 3>&- 7>&- 8>&- 9>&-
    eventually on_screen 'ready>'
}

type_in() { tmux -L "$ZCP_DOMAIN" send-keys -t zcp "$@"; }

# What runs in it has ended before: the daemon is to find nobody.
stop_terminal() {
    tmux -L "$ZCP_DOMAIN" kill-server 2>/dev/null || true
    terminal=
}
