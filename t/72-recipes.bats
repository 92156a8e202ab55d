#!/usr/bin/env bats
# Each recipe of zcp-recipes(7), pasted: no daemon is started by hand.
load helper

PAGE=$BATS_TEST_DIRNAME/../man/zcp-recipes.7

# The other host is another domain.
other_host() {
    mkdir "$WORK/bin"
    cat >"$WORK/bin/ssh" <<END
#!/bin/sh
shift
ZCP_DOMAIN=$ZCP_DOMAIN.robot exec sh -c "\$*"
END
    chmod +x "$WORK/bin/ssh"
    PATH=$WORK/bin:$PATH
}

# recipe NAME: runs it, and compares what comes out, in any order.
recipe() {
    sed -n "/^\.Ss $1\$/,/^\.Ed/{/^\.Bd/,/^\.Ed/{/^\.[BE]d/d;s/\\\\e/\\\\/g;p}}" "$PAGE" >"$WORK/recipe"
    sed -n 's/^# //p' "$WORK/recipe" | sort >"$WORK/expected"
    [ -s "$WORK/expected" ]
    cd "$WORK"
    timeout 60 bash "$WORK/recipe" >"$WORK/printed" 2>&1 3>&-
    sort "$WORK/printed" >"$WORK/heard"
    local want got
    assert_equal "$(wc -l <"$WORK/heard")" "$(wc -l <"$WORK/expected")"
    while read -r want <&4 && read -r got <&5; do
        # shellcheck disable=SC2254
        case $got in
        ${want//.../*}) ;;
        *) assert_equal "$got" "$want" ;;
        esac
    done 4<"$WORK/expected" 5<"$WORK/heard"
}

@test "every recipe of the page is run here" {
    local name
    while read -r name; do
        grep -qF "recipe '$name'" "$BATS_TEST_FILENAME" || fail "not run: $name"
    done < <(sed -n 's/^\.Ss //p' "$PAGE")
    [ "$(grep -c '^\.Ss' "$PAGE")" -ge 10 ]
}

@test "a log for several readers" { recipe 'A log for several readers'; }
@test "a tee to many consumers" { recipe 'A tee to many consumers'; }
@test "camera frames" { recipe 'Camera frames'; }
@test "JSON events through jq" { recipe 'JSON events through jq'; }
@test "another host" {
    other_host
    recipe 'Another host'
    zcp-routed -d "$ZCP_DOMAIN.robot" --stop
}
@test "a sample of a stream" { recipe 'A sample of a stream'; }
@test "record and replay" { recipe 'Record and replay'; }
@test "a command a message" { recipe 'A command a message'; }
@test "how fast is it here?" { recipe 'How fast is it here?'; }
@test "references instead of payload" { recipe 'References instead of payload'; }
@test "the last state, for whoever asks later" {
    recipe 'The last state, for whoever asks later'
    leftovers_allowed=1
}
@test "wait for something to happen" { recipe 'Wait for something to happen'; }
