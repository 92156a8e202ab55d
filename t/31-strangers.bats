#!/usr/bin/env bats
# What another user of the machine can do to a user's bus: nothing.
load helper

# Some versions of bats fail a file whose setup_file skips.
setup_file() {
    if [ "$(id -u)" != 0 ] || ! command -v setpriv >/dev/null; then
        export no_strangers=1
        return
    fi
    # Where we are built may not be for others to look into.
    STAGE=$(mktemp -d /tmp/zcp-strangers-XXXXXX)
    export STAGE
    local bin=${ZCP_BIN:-$PWD/bin} program
    for program in zcp-pub zcp-sub; do
        cp "$bin/.libs/$program" "$STAGE" 2>/dev/null || cp "$bin/$program" "$STAGE"
    done
    cp "$bin"/zcp-{routed,gc,top} "$STAGE"
    cp "$bin"/../lib/.libs/libzcp.so.0 "$STAGE" 2>/dev/null || true
    chmod -R a+rX "$STAGE"
}

eval "helper_$(declare -f setup)"
setup() {
    helper_setup
    [ -z "${no_strangers:-}" ] || skip "needs root, and setpriv, to become other users"
}

teardown_file() { rm -rf "${STAGE:-}"; }

# Three users whom nobody else has: two with a bus, and the stranger.
one=$((600000 + BASHPID % 50000 * 3))
other=$((one + 1))
stranger=$((one + 2))

# as UID COMMAND...
as() {
    setpriv --reuid "$1" --regid "$1" --clear-groups env -u ZCP_RUNTIME_DIR -u XDG_CONFIG_HOME \
        HOME=/ LD_LIBRARY_PATH="$STAGE" PATH="$STAGE:$PATH" "${@:2}"
}

teardown() {
    local pid user
    for pid in "${started[@]}"; do
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    # What spawn knows is the shell that became them.
    for user in "$one" "$other" "$stranger"; do pkill -KILL -U "$user" -x 'stranger|socat' || true; done
    for user in "$one" "$other"; do as "$user" zcp-routed --stop 2>/dev/null || true; done
    rm -rf /dev/shm/zcp-{"$one","$other","$stranger"}* "$ZCP_RUNTIME_DIR"
}

home() { echo "/dev/shm/zcp-$one"; }

# The bus of a user works, all of it.
works() {
    as "$one" zcp-pub --retain t -m "$1" 3>&-
    run -0 as "$one" zcp-sub -e -o -1 t
    assert_output "$1"
    run -0 as "$one" zcp-top -i 20ms
    assert_line --partial "domain $ZCP_DOMAIN of uid $one"
    run -0 as "$one" zcp-routed --status
    assert_output --partial "domain=$ZCP_DOMAIN uid=$one"
}

# Kind, name: as somebody would who wants to keep the user from it.
plant() {
    case $1 in
    file) as "$stranger" touch "$2" ;;
    link) as "$stranger" ln -s "$STAGE" "$2" ;;
    fifo) as "$stranger" mkfifo "$2" ;;
    directory) as "$stranger" mkdir -m 777 "$2" ;;
    esac
}

@test "each user has a bus of that name, and none sees another's" {
    as "$one" zcp-routed -q 3>&-
    as "$other" zcp-routed -q 3>&-
    works mine
    run as "$other" zcp-routed --status
    assert_output --partial "uid=$other"
    assert_output --partial " topics=0 "
}

@test "nobody answers in the daemon's place" {
    local i served=0
    cc -O1 -o "$STAGE/stranger" "$(dirname "$BATS_TEST_FILENAME")/stranger.c"
    as "$one" zcp-routed -q 3>&-
    open_input
    spawn as "$stranger" stranger 'ERROR: I am the daemon' <&8 >"$WORK/out"
    eventually grep -q ready "$WORK/out"
    for i in $(seq 20); do
        as "$one" timeout 5 zcp-pub t -m "$i" && served=$((served + 1))
    done
    assert_equal "$served" 20
    kill -0 "${started[0]}"
}

@test "nobody reads, writes, truncates, removes or asks in a user's directory" {
    local dir file
    as "$one" zcp-routed -q 3>&-
    works before
    dir=$(home)/$ZCP_DOMAIN
    assert_equal "$(stat -c %a-%u "$(home)" "$dir" | sort -u)" "700-$one"
    run as "$stranger" ls "$(home)"
    assert_failure
    for file in mgmt bell pool data p0 lock sock; do
        [ -e "$dir/$file" ]
        for try in cat "truncate -s 0" "rm -f" "mv -t /dev/shm"; do
            # shellcheck disable=SC2086
            run as "$stranger" timeout 5 $try "$dir/$file"
            assert_failure
        done
    done
    run as "$stranger" ln -s nowhere "$dir/p1"
    assert_failure
    run as "$stranger" mv "$(home)" "$(home).moved"
    assert_failure
    run as "$stranger" rm -rf "$(home)"
    assert_failure
    run as "$stranger" socat -u - "UNIX-SENDTO:$dir/sock" <<<PING
    assert_failure
    assert_output --partial "Permission denied"
    works after
}

@test "a planted name is passed over, by the daemon and by all who look for it" {
    local kind
    for kind in file link fifo directory; do
        plant "$kind" "$(home)"
        as "$one" zcp-routed -q 3>&-
        [ -d "$(home).1/$ZCP_DOMAIN" ]
        works "$kind"
        as "$stranger" rm -rf "$(home)"
        # What was found stays where it is, and is not made twice.
        works "after the $kind"
        run -1 as "$one" zcp-routed -f
        assert_output --partial "has a daemon already"
        as "$one" zcp-routed --stop
        [ -e "$(home).1" ]
        as "$one" zcp-sub -e -o -1 t >"$WORK/out"
        assert_equal "$(cat "$WORK/out")" "after the $kind"
        as "$one" zcp-routed --stop
        rm -rf "$(home).1"
    done
}

@test "when every name is planted, that is said, and who can help" {
    local i
    for i in "" .{1..15}; do plant file "$(home)$i"; done
    run -5 as "$one" zcp-routed
    assert_output --partial "all 16 names that this user's directory may have"
    assert_output --partial "a file of uid $stranger"
    assert_output --partial "ask their owners, or root"
    run as "$one" timeout 10 zcp-pub t -m x
    assert_equal "$status" 69
    assert_output --partial "all 16 names"
}

@test "a directory of this user that others may write to is refused, with what mends it" {
    as "$one" mkdir "$(home)"
    chmod 777 "$(home)"
    run -5 as "$one" zcp-routed
    assert_output --partial "other users may write to $(home) (mode 777)"
    assert_output --partial "chmod 700 $(home)"
    run -5 as "$one" zcp-pub t -m x
    assert_output --partial "chmod 700 $(home)"
    as "$one" chmod 700 "$(home)"
    as "$one" zcp-routed -q 3>&-
    works mended
}

@test "a umask that leaves nothing keeps nobody out" {
    as "$one" bash -c 'umask 777; exec zcp-routed -q' 3>&-
    works here
}

@test "whoever has a socket's name first in a common directory is not taken for the daemon" {
    local common=$WORK/common
    chmod 711 "$ZCP_RUNTIME_DIR" "$WORK"
    mkdir -m 1777 "$common"
    spawn as "$stranger" socat -u "UNIX-RECV:$common/$ZCP_DOMAIN.sock,mode=777" -
    eventually test -S "$common/$ZCP_DOMAIN.sock"
    run -5 as "$one" env ZCP_RUNTIME_DIR="$common" zcp-pub t -m x
    assert_output --partial "belongs to uid $stranger"
    run -5 as "$one" env ZCP_RUNTIME_DIR="$common" zcp-routed
    assert_output --partial "there is a socket of uid $stranger, at which a daemon may listen"
    # Nothing is left of a start that failed.
    [ ! -e "$(home)" ]
}

@test "a daemon takes no socket from another user's, where it could" {
    local common=$WORK/common
    chmod 711 "$ZCP_RUNTIME_DIR" "$WORK"
    mkdir -m 777 "$common"
    chown "$other" "$common"
    as "$other" env ZCP_RUNTIME_DIR="$common" zcp-routed -q 3>&-
    run -5 as "$one" env ZCP_RUNTIME_DIR="$common" zcp-routed
    assert_output --partial "there is a socket of uid $other, at which a daemon may listen"
    run -5 env ZCP_RUNTIME_DIR="$common" zcp-routed
    as "$other" env ZCP_RUNTIME_DIR="$common" zcp-pub t -m still
    as "$other" env ZCP_RUNTIME_DIR="$common" zcp-routed --stop
    # One that is dead is in nobody's way who can see that and remove it.
    as "$other" env ZCP_RUNTIME_DIR="$common" zcp-routed -q 3>&-
    pkill -KILL -U "$other" -x zcp-routed
    eventually eval '! pgrep -U "$other" -x zcp-routed >/dev/null'
    env ZCP_RUNTIME_DIR="$common" zcp-routed -q 3>&-
    env ZCP_RUNTIME_DIR="$common" zcp-routed --stop
}

@test "zcp-gc removes no socket of another user's daemon in a common directory" {
    local common=$WORK/common
    chmod 711 "$ZCP_RUNTIME_DIR" "$WORK"
    mkdir -m 700 "$common"
    chown "$one" "$common"
    as "$one" env ZCP_RUNTIME_DIR="$common" zcp-routed -q 3>&-
    # Root may, and has no such domain.
    run -0 env ZCP_RUNTIME_DIR="$common" zcp-gc -d "$ZCP_DOMAIN"
    assert_output ""
    run -0 env ZCP_RUNTIME_DIR="$common" zcp-gc -n -d "$ZCP_DOMAIN"
    assert_output ""
    as "$one" env ZCP_RUNTIME_DIR="$common" zcp-pub t -m x
    as "$one" env ZCP_RUNTIME_DIR="$common" zcp-routed --stop
}

@test "a participant's file that cannot be made costs its place alone" {
    local dir
    dir=$(home)/$ZCP_DOMAIN
    spawn as "$one" zcp-routed -f --max-participants 4 >"$WORK/out" 2>"$WORK/err"
    eventually test -S "$dir/sock"
    as "$one" mkdir -p "$dir/p0/in" "$dir/p1"
    works "past two"
    run cat "$WORK/err"
    assert_output --partial "$dir/p0 is a directory of uid $one"
}

@test "where no participant's file can be made that is said, and tried again" {
    local dir
    dir=$(home)/$ZCP_DOMAIN
    as "$one" zcp-routed -q --max-participants 1 3>&-
    as "$one" mkdir -p "$dir/p0/in"
    run -1 as "$one" zcp-pub t -m x
    assert_output --partial "something has the names of the files of 1 participants"
    assert_output --partial "ls -l $dir/p*"
    as "$one" rm -r "$dir/p0"
    eventually as "$one" zcp-pub -q t -m x
}

@test "a client that finds no daemon says where it looked, and whose it saw" {
    as "$one" zcp-routed -q 3>&-
    run -69 as "$other" zcp-pub --no-autostart t -m x
    assert_output --partial "at /dev/shm/zcp-$other/$ZCP_DOMAIN/sock or /run/zcp/$ZCP_DOMAIN.sock"
    # It cannot look there, and claims nothing.
    refute_output --partial "user $one has"
    run -69 env -u ZCP_RUNTIME_DIR zcp-pub --no-autostart t -m x
    assert_output --partial "user $one has a domain of that name"
}

@test "cron, su and a login shell of one user meet" {
    as "$one" env XDG_RUNTIME_DIR="$WORK/none" HOME=/nowhere zcp-routed -q 3>&-
    works "no XDG_RUNTIME_DIR"
    run -0 as "$one" env -i "$STAGE/zcp-routed" -d "$ZCP_DOMAIN" --status
    assert_output --partial "uid=$one"
    as "$one" env XDG_RUNTIME_DIR=relative HOME="$WORK" zcp-routed --stop
    run -69 as "$one" zcp-routed --status
}

# In a mount namespace with a /run of its own, $STAGE and what runs is root's.
@test "the system's domain is found by clients, by those who look and by --stop" {
    unshare -m true 2>/dev/null || skip "no mount namespace can be made here"
    run -0 timeout 60 unshare -m bash -c '
        set -e
        mount -t tmpfs none /run && mkdir -m 755 /run/zcp
        unset ZCP_RUNTIME_DIR
        ZCP_RUNTIME_DIR=/run/zcp zcp-routed -q
        zcp-pub --retain t -m system
        zcp-sub -I 0 t
        zcp-top -i 20ms
        zcp-shmdump topics
        zcp-routed --status
        zcp-routed --stop
        zcp-gc -q; ZCP_RUNTIME_DIR=/run/zcp zcp-pub --retain=1ms t -m ""; ZCP_RUNTIME_DIR=/run/zcp zcp-routed --stop' 3>&-
    assert_line system
    assert_line --partial "domain $ZCP_DOMAIN of uid 0"
    assert_line --regexp "^t/default/default "
    assert_line --partial "socket=/run/zcp/$ZCP_DOMAIN.sock"
}
