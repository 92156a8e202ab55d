# Completion of the zcp commands for bash: options, and topics that exist.
_zcp_topics() {
    zcp-routed --status 2>/dev/null | sed -n 's/^port=.* topic=\([^ ]*\) .*/\1/p' | sort -u
}

_zcp() {
    local command=$1 word=$2 previous=$3 words
    COMPREPLY=()
    case $previous in
    -F | --framing) words="line nul raw raw: file u32be frame" ;;
    -o | --offset) words="beginning end -1 -10s" ;;
    --order) words="time" ;;
    --color) words="auto always never" ;;
    --exclude) words=$(_zcp_topics) ;;
    --exec)
        mapfile -t COMPREPLY < <(compgen -c -- "$word")
        return
        ;;
    --on-stall) words="demote wait kill" ;;
    --sort) words="topic pubs subs msg/s bytes/s lag lost" ;;
    --columns) words="pubs subs msg/s bytes/s lag lost mark" ;;
    --until) words="$(_zcp_topics | sed 's/$/:subscribers/') participants topics free" ;;
    --filter) words=$(_zcp_topics) ;;
    --file)
        mapfile -t COMPREPLY < <(compgen -d -- "$word")
        return
        ;;
    --log-file)
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
        return
        ;;
    --fences) words="asymmetric symmetric" ;;
    --log-level) words="error warn info debug" ;;
    -n | --count | -c | -w | --wait | -W | --timeout | -m | --message | -d | --domain | --name | -p | --pool | \
        --heartbeat | --history | --max-* | -D | --delimiter | -f | --format | -P | --jobs | -I | --idle | \
        -r | --rate | --interval | --type | --sample | --rate-limit | --truncate | --token-file | \
        --slow-* | --held-after | -i | --drain | --timeout-publish) return ;;
    *)
        case $word in
        -*)
            words=$("${command##*/}" --help 2>/dev/null |
                grep -oE -- '(^ +|, )--?[a-z0-9?][a-z-]*' | tr -d ' ,')
            ;;
        *)
            case ${command##*/} in
            zcp-routed | zcp-gc | zcp-top) ;;
            zcp-shmdump) words="domain pools participants topics ports links chunks totals blocked" ;;
            *) words=$(_zcp_topics) ;;
            esac
            ;;
        esac
        ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}
complete -o default -F _zcp zcp-pub zcp-sub zcp-gc zcp-routed zcp-shmdump zcp-top
