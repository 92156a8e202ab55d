#!/usr/bin/env bats
# zcp-top on terminals of several widths and kinds, and progress lines.
load helper

LONG=a-sensor-whose-name-says-all-about-it/at-the-left-of-the-rear/raw-measurements.v2

# A publisher that waits for a reader which is stopped.
stopped_reader() {
    start_routed --on-stall wait --heartbeat 100ms
    reader "$LONG"
    kill -STOP "$reader"
    spawn zcp-pub -q "$LONG" < <(seq 1000000)
    eventually eval 'zcp-top --until blocked=1 -W 100ms 2>/dev/null'
    spawn zcp-pub -q clock < <(while :; do echo tick; sleep 0.01; done)
    eventually status_has 'topic=clock'
}

resize() { tmux -L "$ZCP_DOMAIN" resize-window -t zcp -x "$1" -y 24; }

@test "zcp-top shows name, rate, lag and mark at 40, 80, 130 and 200 columns" {
    stopped_reader
    start_terminal
    type_in 'zcp-top -i 100ms' Enter
    for width in 40 80 130 200; do
        resize "$width"
        eventually on_screen "^a-sens.*v2 .* [0-9]+ .*(blocked|slow)"
        eventually on_screen '^TOPIC .* MSG/S .*LAG .*MARK'
        [ "$(LC_ALL=C.UTF-8 wc -L <"$WORK/screen")" -le "$width" ]
    done
    type_in Down Up Enter
    eventually on_screen "^TOPIC +$LONG"
    eventually on_screen "^MARK +(blocked|slow)"
    type_in x c lag Enter
    eventually on_screen '^TOPIC +LAG *$'
    type_in q
    eventually on_screen 'ready> *$'
    # Those who cannot see the screen can read the same in a report.
    run -0 zcp-top -i 20ms
    assert_line --regexp "^$LONG .*(blocked|slow)$"
}

@test "a terminal that cannot show a screen gets reports" {
    start_routed
    start_terminal
    for term in dumb ''; do
        type_in "TERM='$term' zcp-top -n 2 -i 20ms; echo \"ended \$?\"" Enter
        eventually on_screen '^ended 0'
        on_screen "^domain $ZCP_DOMAIN"
        type_in clear Enter
        eventually eval '! on_screen "^ended"'
    done
}

@test "HUP leaves the terminal as it was" {
    start_routed
    start_terminal
    type_in 'zcp-top -i 100ms' Enter
    eventually on_screen "^zcp-top  domain $ZCP_DOMAIN"
    pkill -HUP -x zcp-top -P "$(tmux -L "$ZCP_DOMAIN" list-panes -t zcp -F '#{pane_pid}')" ||
        pkill -HUP -f "zcp-top -i 100ms"
    eventually on_screen 'ready> *$'
    type_in 'echo "status $?"' Enter
    eventually on_screen 'status 129'
    run on_screen "^zcp-top  domain"
    assert_failure
}

@test "in a pipe -b prints one report, unless told otherwise" {
    start_routed
    run -0 timeout 20 zcp-top -b
    assert_equal "$(grep -c '^domain' <<<"$output")" 1
    run -0 timeout 20 zcp-top -b -n 2 -i 20ms
    assert_equal "$(grep -c '^domain' <<<"$output")" 2
    run -2 zcp-top --columns lag,weight
    assert_output --partial "there is no column 'weight'"
}

@test "a publisher in the background writes no progress and is not stopped for it" {
    start_routed
    start_terminal
    type_in 'stty tostop; yes | zcp-pub --drop t & sleep 1000' Enter
    eventually status_has 'topic=t/default/default'
    local pid
    pid=$(zcp-routed --status | sed -n 's/^participant=.* name=zcp-pub pid=\([0-9]*\) .*/\1/p')
    # Its first line would have come after half a second.
    eventually eval '[ "$(ps -o etimes= -p '"$pid"')" -ge 2 ]'
    run ps -o stat= -p "$pid"
    refute_output --regexp '^T'
    run on_screen 'messages \['
    assert_failure
    kill -KILL "$pid"
    eventually status_has 'participants=0'
}
