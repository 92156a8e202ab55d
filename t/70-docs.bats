#!/usr/bin/env bats
# What is written down holds: options, examples, completion.
load helper

SRC=$BATS_TEST_DIRNAME/..

page() { find "$SRC/man" -name "$1.[0-9]"; }

@test "every option has its place in the man page, and no other is there" {
    for command in zcp-pub zcp-sub zcp-gc zcp-routed zcp-shmdump zcp-top; do
        local long
        for long in $("$command" --help | grep -oE -- '--[a-z][a-z-]+' | sort -u); do
            run grep -cE -- "(Fl|,) -${long#--}( |$|\$)" "$(page $command)"
            assert_equal "$command $long: $((output > 0))" "$command $long: 1"
        done
        for long in $(grep -oE '^\.It Fl .*' "$(page $command)" | grep -oE -- '-[a-z][a-z-]+' | grep -v '^-[a-z]$'); do
            "$command" --help | grep -qE -- "-$long\b" || fail "$command: $long is only in the man page"
        done
    done
}

@test "every test that the design page names is there, and run" {
    local name names
    names=$(sed -n '/^\.Sh WHAT MAY RUN/,/^\.Sh SEE/s/^\.Li \([a-z_]*\).*/\1/p' "$(page zcp-design)")
    [ "$(wc -l <<<"$names")" -ge 30 ]
    for name in $names; do
        [ "$(cat "$SRC"/t/test-*.c | grep -c "$name")" -ge 2 ] || fail "no test $name"
    done
}

@test "the README's examples work when pasted" {
    # The lines indented by four spaces that name a command, but the first two.
    sed -n '/^A message; /,/From C/p' "$SRC/README" | sed -n 's/^    //p' >"$WORK/examples"
    run timeout 60 bash -c ". '$WORK/examples' 3>&-; wait"
    assert_output --partial "hello, world"
    echo "$output"		# shown when one of these fails
    # tar's own words may stand before one of them.
    assert_equal "$(grep -c '1000000$' <<<"$output")" 3
    assert_output --partial "usr/share/doc"
    assert_output --partial "domain=$ZCP_DOMAIN"
    assert_line closed
    assert_line --partial '"payload":"{\"open\":true}"}'
    assert_line 9
    leftovers_allowed=1		# the state that is retained
}

@test "the man pages' examples work" {
    start_routed
    spawn zcp-sub -c 2 state/robot >"$WORK/a"
    local first=$!
    spawn zcp-sub -c 1 -W 10s 'state/*' >"$WORK/b"
    local second=$!
    eventually status_has "subscribers=2"
    zcp-pub -w 2 -m ready state/robot
    wait "$second"
    zcp-pub -m again state/robot
    wait "$first"
    run cat "$WORK/a" "$WORK/b"
    assert_output $'ready\nagain\nready'
    run zcp-routed --pool 128:1000 --pool 1M:64 --dry-run
    assert_success
    spawn bash -c 'zcp-sub -F raw -e backup >"$0/backup.tar" && echo complete' "$WORK" >"$WORK/said"
    local reader=$!
    tar c -C "$SRC" man 2>/dev/null | zcp-pub -F raw -w 1 backup
    wait "$reader"
    run cat "$WORK/said"
    assert_output complete
    run tar tf "$WORK/backup.tar"
    assert_output --partial "zcp-pub.1"
    spawn zcp-sub -0 -e files >"$WORK/names"
    reader=$!
    find "$SRC/man" -print0 | zcp-pub -w 1 -0 files
    wait "$reader"
    run cmp "$WORK/names" <(find "$SRC/man" -print0)
    assert_success
    (cd "$WORK" && zcp-routed -q -d lab.$$ && zcp-routed -d lab.$$ --status && zcp-routed -d lab.$$ --stop)
}

@test "bash completes options, values and topics that exist" {
    start_routed
    spawn zcp-sub radar/front/objects
    eventually status_has "subscribers=1"
    # shellcheck disable=SC1091
    . "$SRC/contrib/completion/zcp.bash"
    _zcp zcp-pub --fr --fr
    assert_equal "${COMPREPLY[*]}" "--framing"
    _zcp zcp-sub u -F
    assert_equal "${COMPREPLY[*]}" "u32be"
    _zcp zcp-sub rad zcp-sub
    assert_equal "${COMPREPLY[*]}" "radar/front/objects"
    _zcp zcp-routed --on --on
    assert_equal "${COMPREPLY[*]}" "--on-stall"
    _zcp zcp-sub b -o
    assert_equal "${COMPREPLY[*]}" "beginning"
    _zcp zcp-pub fr -F
    assert_equal "${COMPREPLY[*]}" "frame"
    _zcp zcp-sub radar/f --exclude
    assert_equal "${COMPREPLY[*]}" "radar/front/objects"
}

@test "each completion knows every option, and no other" {
    local command long
    for command in zcp-pub zcp-sub zcp-gc zcp-routed zcp-shmdump zcp-top; do
        sed -n "/^$command)/,/;;/p; /^common=/,/^)/p" "$SRC/contrib/completion/_zcp" >"$WORK/zsh"
        [[ $command = zcp-@(routed|gc|shmdump|top) ]] || sed -n '/^client=/,/^)/p' "$SRC/contrib/completion/_zcp" >>"$WORK/zsh"
        "$command" --help | grep -oE -- '--[a-z][a-z-]+' | sort -u >"$WORK/options"
        for long in $(cat "$WORK/options"); do
            grep -qE -- "$long([^a-z-]|\$)" "$WORK/zsh" || fail "zsh: $command lacks $long"
        done
        for long in $(sed 's/\[.*//' "$WORK/zsh" | grep -oE -- '--[a-z][a-z-]+' | sort -u); do
            grep -qx -- "$long" "$WORK/options" || fail "zsh: $command has no $long"
        done
    done
}

@test "zsh can read its completion" {
    command -v zsh >/dev/null || skip "needs zsh"
    run zsh -n "$SRC/contrib/completion/_zcp"
    assert_success
    assert_output ""
}

@test "the library exports what its map lists and zcp.h declares" {
    local lib
    lib=$(find "$ZCP_BIN/../lib/.libs" -name 'libzcp.so.*.*' | head -n 1)
    [ -n "$lib" ] || skip "no shared library"
    run diff <(nm -D --defined-only "$lib" | sed -n 's/.* T \(zcp_[a-z_]*\).*/\1/p' | sort) \
        <(sed -n 's/^\t\(zcp_[a-z_]*\);/\1/p' "$SRC/lib/libzcp.map" | sort)
    assert_success
    for name in $(sed -n 's/^\t\(zcp_[a-z_]*\);/\1/p' "$SRC/lib/libzcp.map"); do
        grep -q "$name(" "$SRC/lib/zcp.h"
    done
}

@test "the library has the probes that its header lists, each where its arguments are" {
    local lib name
    lib=$(find "$ZCP_BIN/../lib/.libs" -name 'libzcp.so.*.*' | head -n 1)
    [ -n "$lib" ] || skip "no shared library"
    grep -q '^#define HAVE_SYS_SDT_H 1' "$ZCP_BIN/../config.h" || skip "built without sys/sdt.h"
    readelf -n "$lib" | grep -A3 'Provider: zcp' | sed -n 's/.*Name: //p' | sort -u >"$WORK/probes"
    for name in $(sed -n 's/^ \*   \([a-z]*\)  .*/\1/p' "$SRC/lib/probes.h"); do
        # The daemon's own.
        [ "$name" = death ] || grep -qx "$name" "$WORK/probes" || fail "no probe $name"
    done
    [ "$(wc -l <"$WORK/probes")" -eq 8 ]
}

@test "zcp.h compiles alone, as C11 and as C++" {
    echo '#include "zcp.h"' >"$WORK/x.c"
    "${CC:-cc}" -std=c11 -Wall -Wextra -Werror -pedantic -I"$SRC/lib" -c "$WORK/x.c" -o "$WORK/x.o"
    command -v c++ >/dev/null || skip "no C++ compiler"
    c++ -Wall -Wextra -Werror -I"$SRC/lib" -x c++ -c "$WORK/x.c" -o "$WORK/x.o"
}

# Numbers, and the domain's name, differ from run to run.
alike() {
    sed -E "s/@[0-9a-f]{16}//g; s/$ZCP_DOMAIN/default/g; s/[0-9]+/N/g" <<<"$1"
}

@test "the control protocol's session in its man page goes as it stands there" {
    # What registers here has no heart: it must not be missed on a slow machine.
    start_routed --heartbeat 20s
    coproc SOCAT { exec socat - "UNIX-SENDTO:$ZCP_RUNTIME_DIR/$ZCP_DOMAIN.sock,bind=$WORK/me" 3>&-; }
    started+=("$SOCAT_PID")
    local line asked=0 text c heard=()
    sed -n '/^\.Bd -literal/,/^\.Ed/{/^\.[BE]d/d;s/^\\&//;p}' "$(page zcp-protocol)" >"$WORK/session"
    while read -r line; do
        case $line in
        '$ dd '*)
            dd if=/dev/zero of="$(segment p0)" bs=4K seek=1 count=9 conv=notrunc status=none
            ;;
        '$ '*) ;;
        '> '*)
            assert_equal "left unshown: ${heard[*]}" "left unshown: "
            asked=$((asked + 1))
            printf '%s' "${line#> }" >&"${SOCAT[1]}"
            IFS= read -r -t 5 -d '' -N 1 text <&"${SOCAT[0]}"
            while IFS= read -r -t 0.1 -d '' -N 1 c <&"${SOCAT[0]}"; do text+=$c; done
            mapfile -t heard <<<"${text%$'\n'}"
            ;;
        ...) heard=() ;;
        *)
            [[ $(alike "${heard[0]}") = "$(alike "$line")"* ]] || fail "expected: $line, heard: ${heard[0]}"
            heard=("${heard[@]:1}")
            ;;
        esac
    done <"$WORK/session"
    [ "$asked" -ge 15 ]
}
