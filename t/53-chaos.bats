#!/usr/bin/env bats
# Everybody is killed, stopped and started again, under load and in no order:
# nothing tears, nothing is reordered, what is lost is counted, and in the end
# all memory is back.  CHAOS_SEED repeats a run, CHAOS_SECONDS lengthens it.
load helper

# "publisher number check", the check depending on both.
numbered() {
    awk -v id="$1" 'BEGIN { for (n = 0; ; n++) print id, n, (n * 7919 + id * 104729) % 1000003 }'
}

# What a reader printed: whole lines, each publisher's in order; "gaps G".
check_lines() {
    awk '
        NF != 3 || $3 != ($2 * 7919 + $1 * 104729) % 1000003 { print "torn: " $0; exit 1 }
        ($1 in next_one) && $2 < next_one[$1] { print "reordered: " $0; exit 1 }
        ($1 in next_one) { gaps += $2 - next_one[$1] }
        { next_one[$1] = $2 + 1 }
        END { print "gaps", gaps + 0 }' "$1"
}

lost_in() { sed -n 's/.* messages, \([0-9]*\) lost.*/\1/p' "$1" | tail -n 1; }

publish() {
    publishers=$((publishers + 1))
    spawn zcp-pub -q chaos < <(numbered "$publishers")
    members+=("$!")
}

# subscribe FILE OPTION...
subscribe() {
    local file=$1
    shift
    spawn zcp-sub -v "$@" chaos >"$file" 2>"$file.err"
}

pick() { picked=${members[RANDOM % ${#members[@]}]}; }

# Its place in the list is taken by the last one.
forget() {
    local rest=() one
    for one in "${members[@]}"; do [ "$one" = "$1" ] || rest+=("$one"); done
    members=("${rest[@]}")
}

# A private daemon that a member started where there was none ends soon after
# its last member: then another one is asked.
one_says() {
    zcp-routed -q --heartbeat 300ms 3>&- 2>/dev/null || true
    status_has "$1"
}

@test "chaos: kills, stops and restarts of everybody under load" {
    RANDOM=${CHAOS_SEED:-$((BASHPID % 32768))}
    echo "seed ${CHAOS_SEED:-$((BASHPID % 32768))}"
    local members=() publishers=0 readers=0 picked end reliable lossy file
    start_routed --heartbeat 300ms --pool 128:500 --pool 64K:64
    # These two are never killed or stopped; the lossy one may lose.
    subscribe "$WORK/reliable"
    reliable=$!
    subscribe "$WORK/lossy" --drop
    lossy=$!
    eventually status_has "subscribers=2"
    publish
    publish
    end=$((SECONDS + ${CHAOS_SECONDS:-5}))
    while [ $SECONDS -lt $end ]; do
        case $((RANDOM % 9)) in
        0) [ ${#members[@]} -ge 8 ] || publish ;;
        1 | 2)
            if [ ${#members[@]} -lt 8 ]; then
                readers=$((readers + 1))
                file=$WORK/reader.$readers
                if ((RANDOM % 2)); then subscribe "$file" --drop; else subscribe "$file"; fi
                members+=("$!")
            fi
            ;;
        3 | 4)
            if [ ${#members[@]} -gt 2 ]; then
                pick
                kill -KILL "$picked" 2>/dev/null || true
                wait "$picked" 2>/dev/null || true
                forget "$picked"
            fi
            ;;
        5)
            pick
            kill -STOP "$picked" 2>/dev/null || true
            sleep "$((RANDOM % 2)).$((RANDOM % 5))"
            kill -CONT "$picked" 2>/dev/null || true
            ;;
        6)
            kill -KILL "$(routed_pid)" 2>/dev/null || true
            ((RANDOM % 2)) || spawn zcp-gc -q
            zcp-routed -q --heartbeat 300ms 3>&- 2>/dev/null || true
            ;;
        7) spawn zcp-gc -q ;;
        8)
            spawn zcp-gc -q
            kill -KILL "$!" 2>/dev/null || true
            ;;
        esac
        sleep "0.0$((RANDOM % 9))"
    done
    zcp-routed -q --heartbeat 300ms 3>&- 2>/dev/null || true
    for picked in "${members[@]}"; do
        kill -KILL "$picked" 2>/dev/null || true
        wait "$picked" 2>/dev/null || true
    done
    eventually status_has "publishers=0"
    eventually status_has "draining=0"
    kill -TERM "$reliable" "$lossy"
    wait "$reliable" || true
    wait "$lossy" || true
    eventually one_says "participants=0"
    eventually all_free
    # The lines of those that were killed may end in the middle.
    for file in "$WORK"/reader.?; do
        [ -e "$file" ] || continue
        sed -i '$d' "$file"
        run check_lines "$file"
        assert_success
    done
    run check_lines "$WORK/reliable"
    assert_output "gaps 0"
    assert_equal "$(lost_in "$WORK/reliable.err")" 0
    [ "$(wc -l <"$WORK/reliable")" -gt 1000 ]
    run check_lines "$WORK/lossy"
    assert_success
    # What it lost behind a publisher's last line leaves no gap.
    [ "${output#gaps }" -le "$(lost_in "$WORK/lossy.err")" ]
    zcp-gc
    eventually one_says "participants=0"
}
