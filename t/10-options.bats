#!/usr/bin/env bats
# What every command does with its options.
load helper

@test "--help and --usage print to stdout and end with 0" {
    for command in zcp-pub zcp-sub zcp-gc zcp-routed zcp-shmdump zcp-top; do
        run --separate-stderr "$command" --help
        assert_success
        assert_output --partial "Usage: $command"
        assert_output --partial "--domain"
        run --separate-stderr "$command" --usage
        assert_success
        assert_output --partial "$command"
    done
}

@test "--version names the command and the release" {
    for command in zcp-pub zcp-sub zcp-gc zcp-routed zcp-shmdump zcp-top; do
        run "$command" --version
        assert_success
        assert_output --regexp "^$command \(zcp\) [0-9]+\.[0-9]+\.[0-9]+$"
    done
}

@test "an unknown option ends with 2 and names itself" {
    for command in zcp-pub zcp-sub zcp-gc zcp-routed zcp-shmdump zcp-top; do
        run "$command" --no-such-option
        assert_equal "$status" 2
        assert_output --partial "--no-such-option"
        assert_output --partial "Try '$command --help'"
    done
}

@test "an option without its value ends with 2" {
    run zcp-pub t -n
    assert_equal "$status" 2
    run zcp-sub t -c
    assert_equal "$status" 2
}

@test "a missing topic ends with 2" {
    run zcp-pub
    assert_equal "$status" 2
    assert_output --partial "no TOPIC"
    run zcp-sub
    assert_equal "$status" 2
    assert_output --partial "no TOPIC"
}

@test "values that make no sense end with 2 and name the option" {
    local bad=(
        "zcp-pub t -F nonsense" "zcp-pub t -F raw:0" "zcp-pub t -F raw:x"
        "zcp-pub t -n -5" "zcp-pub t -n -1" "zcp-sub t -c -1" "zcp-sub -F raw:3 t"
        "zcp-sub --tap --reliable t" "zcp-pub t -w many" "zcp-pub t -W 1s"
        "zcp-pub t -w 1 -W soon" "zcp-pub t -0 -F raw" "zcp-pub t -D x -0"
        "zcp-pub t -D \\q" "zcp-pub t -r fast" "zcp-pub t -r 0" "zcp-pub t --repeat=x"
        "zcp-pub t --interval soon" "zcp-pub t --timed" "zcp-pub -F frame --timed=0"
        "zcp-pub -F frame --timed -r 5" "zcp-pub t --type 65536" "zcp-pub -F frame -T"
        "zcp-pub -F frame -m x" "zcp-pub -F frame --type 3" "zcp-pub t -T --handles"
        "zcp-pub --retain 2s t -m x" "zcp-pub --repeat 3 -m x" "zcp-pub t --handles --drop" "zcp-pub t --handles -w 1" "zcp-pub t --color=red"
        "zcp-sub t -F nonsense" "zcp-sub t -c -5" "zcp-sub t -W soon"
        "zcp-sub t -0 -F raw" "zcp-sub t --drop --reliable"
        "zcp-sub --tap a b" "zcp-sub --tap -e a" "zcp-sub --tap -o end a"
        "zcp-sub t -f x -J" "zcp-sub t -x -0" "zcp-sub t -F file" "zcp-sub t -f %z"
        "zcp-sub t -f \\q" "zcp-sub t -P 2" "zcp-sub t --exec true -P 0"
        "zcp-sub t -I soon" "zcp-sub t -o middle" "zcp-sub t -o 5" "zcp-sub t --order size"
        "zcp-sub t -f %" "zcp-sub t --exclude=" "zcp-sub t --sample 0" "zcp-sub t --rate-limit x" "zcp-sub t --truncate x"
        "zcp-sub --handles t" "zcp-sub --handles -e"
        "zcp-routed --private=0" "zcp-routed --private=x"
        "zcp-routed --pool 12" "zcp-routed --pool 0:5" "zcp-routed --pool 1K:x"
        "zcp-routed --pool 1K:5 --pool 1K:6" "zcp-routed --fences none"
        "zcp-routed --heartbeat 1ms" "zcp-routed --on-stall cry"
        "zcp-routed --max-ports -1" "zcp-routed --log-level loud"
        "zcp-routed operand" "zcp-routed -d a/b"
    )
    for line in "${bad[@]}"; do
        # shellcheck disable=SC2086
        run $line
        assert_equal "$line: $status" "$line: 2"
        assert_output --partial "Try '"
    done
}

@test "bad topics and domains end with 2 and say what is allowed" {
    start_routed
    run zcp-pub 'a b' -m x
    assert_equal "$status" 2
    assert_output --partial "' ' is not allowed"
    run zcp-pub 'a/b/c/d' -m x
    assert_equal "$status" 2
    assert_output --partial "more than three parts"
    run zcp-pub 'a*' -m x
    assert_equal "$status" 2
    assert_output --partial "pattern"
    run zcp-sub 'a/['
    assert_equal "$status" 2
    assert_output --partial "'[' is not closed"
    run zcp-sub 'a//b'
    assert_equal "$status" 2
    assert_output --partial "empty"
    run zcp-sub -d 'x/y' t
    assert_equal "$status" 2
    assert_output --partial "domain 'x/y'"
}

@test "closed descriptors and a full disk are named" {
    start_routed
    run timeout 10 bash -c 'zcp-pub t <&-'
    assert_equal "$status" 1
    assert_output --partial "cannot read standard input: Bad file descriptor"
    run bash -c 'zcp-routed --status >/dev/full'
    assert_equal "$status" 1
    assert_output --partial "cannot write standard output"
    run bash -c 'zcp-sub --help >/dev/full'
    assert_equal "$status" 1
}

@test "without a daemon, and none to be started, clients end with 69 and say how to start one" {
    # shellcheck disable=SC2034
    for command in "zcp-pub t -m x --no-autostart" "zcp-sub t --no-autostart"; do
        # shellcheck disable=SC2086
        run $command
        assert_equal "$status" 69
        assert_output --partial "zcp-routed -d $ZCP_DOMAIN"
    done
    run zcp-routed --status
    assert_equal "$status" 69
    run zcp-routed --stop
    assert_equal "$status" 69
}
