#!/usr/bin/env bats
# zcp-shmdump and zcp-top: what lies in a domain, and what goes on in it.
load helper

# A publisher that stays, with two chunks in its ring that nobody reads.
publisher() {
    open_input
    spawn zcp-pub --history 2 radar/front/objects <&8
    publisher=$!
    printf '%0200d\n' 1 2 >&8
    eventually eval 'zcp-top --until "radar/front/objects:messages=2" -W 100ms 2>/dev/null'
}

copy() {
    mkdir -p "$WORK/copy"
    cp --sparse=always "$(domain_dir)"/{mgmt,bell,pool,data,p[0-9]*} "$WORK/copy/"
}

@test "zcp-shmdump names domain, pools, participants, topics, ports, links, chunks" {
    start_routed
    publisher
    reader 'radar/*'
    eventually eval 'zcp-shmdump links | grep -q "zcp-sub"'
    run -0 zcp-shmdump
    assert_line --regexp "^domain $ZCP_DOMAIN of uid $(id -u), daemon pid $(routed_pid); layout 2.0,"
    assert_line --regexp '^3 +65536 +32 '
    assert_line --regexp "^zcp-pub +$publisher +$(id -u) +live"
    assert_line --regexp '^radar/front/objects +1 +1 '
    assert_line --regexp '^radar\*/|^radar/\*/\*  .* pattern$'
    assert_line --regexp "publisher +radar/front/objects +zcp-pub \(pid $publisher\) +open +8192 "
    assert_line --regexp "lossy subscriber +radar/\*/\* +zcp-sub \(pid $reader\) +open"
    assert_line --regexp "radar/front/objects +zcp-sub \(pid $reader\) +lossy"
    assert_line --regexp "in ring +zcp-pub \(pid $publisher\) +radar/front/objects +1 +200"
    assert_line --regexp "^zcp-pub \(pid $publisher\) +radar/front/objects +[1-9]"
}

@test "a section, or several, can be asked for; another one is an error" {
    start_routed
    run -0 zcp-shmdump pools
    assert_line --index 0 --regexp '^POOL +SIZE'
    assert_equal "${#lines[@]}" 5
    run -0 zcp-shmdump domain topics
    assert_line --index 0 --partial "domain $ZCP_DOMAIN"
    refute_line --partial "POOL"
    run -2 zcp-shmdump pool
    assert_output --partial "pool: there is no such section"
}

@test "-x shows the first bytes of each chunk" {
    start_routed
    publisher
    run -0 zcp-shmdump -x chunks
    assert_line --partial "30 30 30 30 30 30 30 30 30 30 30 30 30 30 30 30 0000000000000000"
}

@test "JSON: every object says what it is, and the man page's recipes work" {
    start_routed
    publisher
    zcp-shmdump -J >"$WORK/json"
    run jq -r .what "$WORK/json"
    for what in domain pool participant topic publisher chunk total; do
        assert_line "$what"
    done
    run jq -r 'select(.what == "chunk" and .length == 200) | "\(.topic) \(.seq) \(.state)"' "$WORK/json"
    assert_line --regexp '^radar/front/objects [01] in ring$'
    run bash -c "zcp-shmdump -J totals | jq -r '\"\(.bytes) \(.name) \(.topic)\"'"
    assert_line --regexp '^[0-9]+ zcp-pub radar/front/objects$'
    run bash -c "zcp-shmdump -J topics | jq -r 'select(.what == \"topic\" and .subscribers == 0) | .topic'"
    assert_output "radar/front/objects"
    run bash -c "zcp-shmdump -J chunks | jq -r '.holders[] | \"\(.name) \(.pid)\"' | sort | uniq -c"
    assert_output ""
    run bash -c "zcp-top -J -n 1 -i 50ms | jq -r 'select(.what == \"topic\") | \"\(.topic) \(.messages_s)\"'"
    assert_output --regexp '^radar/front/objects 0(\.0)?$'
    # Numbers have the digits that they have, not 17.
    run bash -c "grep -oE '[0-9]+\.[0-9]+' '$WORK/json' <(zcp-top -J -n 1 -i 50ms -t) | sed 's/.*://' | awk 'length > 16'"
    assert_output ""
    run jq -es 'all(.what)' <(zcp-shmdump -J -x; zcp-top -J -n 1 -i 50ms -t)
    assert_success
}

# A reader that lives and is stuck: nobody reads the full pipe that it writes
# to; $reader.  unstick lets it go on.
stuck_reader() {
    mkfifo "$WORK/full"
    exec 7<>"$WORK/full"
    dd if=/dev/zero of="$WORK/full" bs=4k count=16 oflag=nonblock status=none
    spawn zcp-sub "$@" >"$WORK/full"
    reader=$!
    eventually status_has "subscribers=1"
}
unstick() { spawn cat "$WORK/full" >"$WORK/out"; }

@test "a stuck reader is found by name, in one view of each" {
    start_routed --heartbeat 100ms --slow-after 300ms
    stuck_reader t
    # More than it may hold before it has to write.
    spawn zcp-pub t < <(seq 1000000)
    publisher=$!
    eventually eval 'zcp-top --until "slow=1" -W 100ms 2>/dev/null'
    run -0 zcp-shmdump blocked
    assert_line --regexp "^zcp-pub \(pid $publisher\) +t/default/default +zcp-sub \(pid $reader\) +[0-9]+ messages behind, of a ring of 8192$"
    run -0 zcp-top -t -i 50ms
    assert_line --regexp "> zcp-pub \(pid $publisher\).* blocked$"
    assert_line --regexp "< zcp-sub \(pid $reader\).* \[########\].* slow$"
    run -0 jq -r 'select(.what == "blocked" and .pid) | "\(.pid) \(.by.pid)"' <(zcp-shmdump -J blocked)
    assert_output "$publisher $reader"
    eventually status_has " slow=1 "
    run -0 zcp-routed --status
    assert_line --regexp "kind=subscriber .* slow_ms=[0-9]+$"
    unstick
    ends_with 0 "$publisher"
    eventually eval 'zcp-top --until "slow=0" -W 100ms 2>/dev/null'
    status_has " slow=1 "
}

@test "a stuck reader that has the port of a slow one is judged for itself" {
    start_routed --heartbeat 500ms --slow-after 1s --max-ports 2
    stuck_reader t
    spawn zcp-pub t < <(yes)
    eventually status_has " slow=1 "
    kill -KILL "$reader"
    eventually status_has "subscribers=0 draining=0"
    rm "$WORK/full"
    # Behind at the daemon's first look, with the other one's time to its name.
    stuck_reader t
    eventually status_has " slow=2 "
}

@test "a pool that runs empty and a chunk that is held for long are counted and logged once" {
    zcp-routed -f --heartbeat 50ms --held-after 200ms --pool 1K:4 --log-level warn 3>&- 2>"$WORK/log" &
    started+=("$!")
    eventually eval 'zcp-routed --status >"$WORK/status"'
    stuck_reader t
    spawn zcp-pub t < <(printf '%0600d\n' {1..50})
    eventually eval 'zcp-shmdump domain | grep -q "[1-9][0-9]* long holds"'
    eventually status_has "pool=1024 count=4 free=0 loaned=[0-9] published=[0-9] most=4 empty=1"
    run grep -c "holds chunk 0:[0-9] (1024 bytes) of t/default/default for" "$WORK/log"
    assert_output "$(zcp-shmdump -J domain | jq .long_holds)"
    run grep -c "all 4 chunks of 1024 bytes are in use" "$WORK/log"
    assert_output 1
    run -0 zcp-shmdump pools
    assert_line --regexp '^0 +1024 +4 +0 +[0-9] +[0-9] +4 +1$'
    kill -KILL "$reader"
}

@test "--check: everything holds; and a word that names nobody does not" {
    start_routed
    publisher
    reader 'radar/*'
    run -0 zcp-shmdump --check
    assert_output ""
    run -0 zcp-shmdump --check -v
    assert_output "zcp-shmdump: everything holds"
    copy
    run -0 zcp-shmdump --file "$WORK/copy" --check
    printf '\377\377\377\377\377\377\377\377' |
        dd of="$WORK/copy/pool" bs=1 seek=72 conv=notrunc status=none
    run -4 zcp-shmdump --file "$WORK/copy" --check
    assert_line "chunk 0:1 is published by port serial 4194303, which is not there"
    assert_line "zcp-shmdump: 1 violations"
    run -2 zcp-shmdump --check -J
    run -2 zcp-shmdump --check pools
}

@test "--file: copies of the segments are looked at as well, and damage has words" {
    start_routed
    publisher
    copy
    run -0 zcp-shmdump --file "$WORK/copy"
    assert_line --regexp "^domain $ZCP_DOMAIN of uid $(id -u), a copy;"
    assert_line --regexp "in ring +zcp-pub \(pid $publisher\) +radar/front/objects +1 +200"
    truncate -s 100 "$WORK/copy/mgmt"
    run -1 zcp-shmdump --file "$WORK/copy"
    assert_output --partial "$WORK/copy/mgmt is truncated"
    run -69 zcp-shmdump --file "$WORK"
    assert_output --partial "there is no mgmt in $WORK"
    run -1 zcp-shmdump --file "$WORK/nowhere"
    assert_output --partial "cannot open $WORK/nowhere"
}

@test "both look at a domain whose daemon is dead, and say who died since" {
    start_routed
    publisher
    kill -KILL "$(routed_pid)"
    kill -KILL "$publisher"
    wait "$publisher" || true
    run -0 zcp-shmdump domain participants
    assert_line --partial "no daemon"
    assert_line --regexp "^zcp-pub +$publisher .* died"
    run -0 zcp-top -i 50ms
    assert_line --partial "no daemon"
    assert_line --regexp '^radar/front/objects.* dead$'
    zcp-gc -q
}

@test "a domain that is not there ends with 69, and says where was looked" {
    run -69 zcp-shmdump
    assert_output --partial "there is no domain $ZCP_DOMAIN in /dev/shm"
    run -69 zcp-top
    assert_output --partial "there is no domain $ZCP_DOMAIN in /dev/shm"
    run -2 zcp-shmdump -d a/b
    run -2 zcp-top -d a/b
}

@test "zcp-top prints one report where there is no terminal, or -n with -b" {
    start_routed
    publisher
    run -0 zcp-top -i 50ms
    assert_line --index 0 --partial "domain $ZCP_DOMAIN"
    assert_line --regexp '^radar/front/objects +1 +0 +0 '
    assert_equal "$(grep -c '^domain' <<<"$output")" 1
    run -0 zcp-top -b -n 3 -i 20ms
    assert_equal "$(grep -c '^domain' <<<"$output")" 3
    run -0 zcp-top -b -W 200ms -i 20ms
    [ "$(grep -c '^domain' <<<"$output")" -ge 2 ]
    run -2 zcp-top -n -1
    run -2 zcp-top -i 1ms
    run -2 zcp-top -W never
    run -2 zcp-top radar
    assert_output --partial "--filter 'radar'"
}

@test "zcp-top: rates are what is published and taken" {
    start_routed
    reader -q t
    spawn zcp-pub -r 1000/s --repeat t -m tick
    eventually eval 'zcp-top --until "t:messages>100" -W 100ms 2>/dev/null'
    zcp-top -J -n 1 -i 1s -t >"$WORK/json"
    run jq -e 'select(.what == "topic") | .messages_s > 500 and .messages_s < 1100 and .bytes_s > 2000 and .interval_mean_us > 900 and .delay_p99_us > 0 and .delay_p99_us >= .delay_p50_us' "$WORK/json"
    assert_output true
    run jq -e 'select(.what == "subscriber") | .taken_s > 500' "$WORK/json"
    assert_output true
}

@test "--sort, --filter and --tree shape the topics of a report" {
    start_routed
    zcp-pub --history 5 --retain a/a/a -m 1
    zcp-pub --history 5 --retain b/b/b -m 1
    spawn zcp-sub b/b/b >"$WORK/out"
    eventually eval 'zcp-top --until "b/b/b:subscribers=1" -W 100ms 2>/dev/null'
    run -0 zcp-top -i 20ms --sort subs
    run grep -oE '^(a/a/a|b/b/b)' <<<"$output"
    assert_output $'b/b/b\na/a/a'
    run -0 zcp-top -i 20ms --filter 'a/*'
    assert_line --regexp '^a/a/a'
    refute_line --regexp '^b/b/b'
    run -0 zcp-top -i 20ms -t
    assert_line --regexp '^  < zcp-sub'
    run -2 zcp-top --sort weight
    assert_output --partial "no such column"
    leftovers_allowed=1
}

@test "--until waits for a condition, also of a domain that is yet to come" {
    spawn zcp-top --until 'participants>=1' -W 20s
    local waiter=$!
    start_routed
    reader t
    ends_with 0 "$waiter"
    run -0 zcp-top --until 't:subscribers=1'
    assert_output ""
    run -3 zcp-top --until 't:subscribers>=5' -W 150ms
    assert_output "zcp-top: timed out before this was true: t:subscribers>=5"
    run -2 zcp-top --until 't:weight>=5'
    assert_output --partial "quantities are"
    run -3 zcp-top -b --until 't:subscribers>=5' -W 100ms -i 20ms
    [ "$(grep -c '^domain' <<<"$output")" -ge 2 ]
    run -3 zcp-top -d "$ZCP_DOMAIN-none" --until 'participants>=1' -W 100ms
    assert_output --partial "there is no domain"
}

@test "zcp-top on a terminal: panes, keys, resizing, and the end" {
    start_routed
    publisher
    start_terminal
    type_in 'zcp-top -i 100ms' Enter
    eventually on_screen '^radar/front/objects +1 +0'
    on_screen "^zcp-top  domain $ZCP_DOMAIN, daemon"
    type_in t
    eventually on_screen "> zcp-pub \(pid $publisher\)"
    type_in 3
    eventually on_screen '^0 +128 +100 .*\[.*\]'
    type_in 2
    eventually on_screen "^zcp-pub +$publisher"
    type_in h
    eventually on_screen 'zcp-top shows a domain at work'
    type_in x 1 / nowhere Enter
    eventually on_screen 'filter: nowhere *$'
    run on_screen '^radar/front/objects'
    assert_failure
    type_in / Escape
    eventually on_screen '^radar/front/objects'
    type_in p
    eventually on_screen 'PAUSED'
    type_in p
    tmux -L "$ZCP_DOMAIN" resize-window -t zcp -x 60 -y 10
    eventually eval 'on_screen "^zcp-top" && [ "$(wc -l <"$WORK/screen")" -le 10 ]'
    type_in q
    eventually on_screen 'ready>'
    type_in 'zcp-top' Enter
    eventually on_screen '^radar/front/objects'
    type_in C-c
    eventually on_screen 'ready>'
    type_in 'echo "status $?"' Enter
    eventually on_screen 'status 130'
    stop_terminal
}

@test "looking changes nothing" {
    start_routed
    publisher
    zcp-routed --status | sed 's/uptime=[0-9]*//; s/beat_ms=[0-9]*//' >"$WORK/before"
    for _ in 1 2 3; do
        zcp-shmdump -x >"$WORK/dump"
        zcp-shmdump --check
        zcp-top -i 20ms >"$WORK/top"
    done
    zcp-routed --status | sed 's/uptime=[0-9]*//; s/beat_ms=[0-9]*//' >"$WORK/after"
    run diff "$WORK/before" "$WORK/after"
    assert_success
}
