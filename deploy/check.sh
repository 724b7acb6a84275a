#!/usr/bin/env bash
# Checks what stands in deploy/ and is no program: rules, dashboard, units, filter, examples, and the tables of the README.
#
#     ./deploy/check.sh                   what has no tool on this machine is skipped aloud
#     LEMONADE_PROXY=FILE ./deploy/check.sh   with this binary instead of one built by cargo
set -eu -o pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

passed=0 failed=0 skipped=0
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# check WHAT COMMAND...: one test; its output is shown when it fails.
check() {
    local what=$1
    shift
    if "$@" >"$scratch/output" 2>&1; then
        passed=$((passed + 1))
        printf 'ok      %s\n' "$what"
    else
        failed=$((failed + 1))
        printf 'NOT OK  %s\n' "$what"
        sed 's/^/        /' "$scratch/output"
    fi
}

# with TOOL CHECK...: the check, if the tool is here.
with() {
    local tool=$1
    shift
    if command -v "$tool" >/dev/null; then
        check "$@"
    else
        skipped=$((skipped + 1))
        printf 'skipped %s: no %s on this machine\n' "$1" "$tool"
    fi
}

# Every metric there is, as the source names them.
known_metrics() { grep -rhoE '"lemonade_[a-z_]+"' src/io/metrics.rs src/io/metrics | tr -d '"' | sort -u; }

# Every metric that these files name; histograms by their base name.
named_metrics() { grep -hoE 'lemonade_[a-z_]+' "$@" | sed -E 's/_(bucket|sum|count)$//' | sort -u; }

only_known_metrics() {
    known_metrics >"$scratch/known"
    [ -s "$scratch/known" ]
    named_metrics "$@" | grep -v '^lemonade_proxy$' | comm -23 - "$scratch/known" | tee "$scratch/unknown"
    [ ! -s "$scratch/unknown" ]
}

readme_names_all_metrics() {
    known_metrics >"$scratch/known"
    # shellcheck disable=SC2016
    grep -oE '^\| `lemonade_[a-z_]+`' README.md | tr -d '|` ' | sort -u | diff "$scratch/known" -
}

# The expressions of the dashboard, with Grafana's variables filled in, as rules that promtool can parse.
dashboard_parses() {
    jq -r '"groups: [{name: d, rules: [", ([.. | .expr? // empty] | to_entries[] |
        "{record: r\(.key), expr: \(.value | gsub("\\$__rate_interval"; "5m") | @json)},"), "]}]"' \
        deploy/grafana/lemonade-proxy.json >"$scratch/dashboard.yaml"
    promtool check rules "$scratch/dashboard.yaml"
}

panels_have_ids_of_their_own() { jq -e '[.panels[].id] | length > 0 and length == (unique | length)' "$1"; }

# The unit as it stands, but for the program, which need not be installed here.
units_verify() {
    cp deploy/systemd/lemonade-proxy.* "$scratch/"
    sed -i 's#^ExecStart=[^ ]*#ExecStart=/bin/true#' "$scratch/lemonade-proxy.service"
    systemd-analyze verify --man=no "$scratch"/lemonade-proxy.service "$scratch"/lemonade-proxy.socket
}

unit_is_hardened() { systemd-analyze security --offline=yes --threshold=20 "$scratch/lemonade-proxy.service"; }

# What fail2ban does with the filter, in a few lines: strip the time, or find it behind host and unit, and search.
filter_finds_the_address() {
    python3 - deploy/fail2ban/lemonade-proxy.conf deploy/fail2ban/sample.log <<'PYTHON'
import configparser, re, sys

filter = configparser.RawConfigParser()
filter.read(sys.argv[1])
regex = re.compile(filter["Definition"]["failregex"].replace("<ADDR>", r"(?P<address>[0-9a-fA-F:.]+)"))
expected = ["192.0.2.7", "2001:db8::7", "192.0.2.9"]
lines = open(sys.argv[2]).read().splitlines()
for form, write in {"file": lambda line: re.sub(r"^\S+Z", "", line), "journal": lambda line: "mx1 lemonade-proxy[811]: " + line}.items():
    found = [match["address"] for match in map(regex.search, map(write, lines)) if match]
    print(form, found)
    assert found == expected, f"{form}: expected {expected}"
PYTHON
}

fail2ban_agrees() {
    fail2ban-regex deploy/fail2ban/sample.log deploy/fail2ban/lemonade-proxy.conf | tee "$scratch/fail2ban"
    grep -q '3 matched, 3 missed' "$scratch/fail2ban"
}

program=(cargo run --quiet --locked --bin lemonade-proxy --)
[ -z "${LEMONADE_PROXY:-}" ] || program=("$LEMONADE_PROXY")

# The commands of the README about devices, as they stand there, to a proxy that has what they want.
devices_obey_the_readme() {
    printf '[account.outband]\nchannels = { SMS = ["WAKEUP"] }\n' >"$scratch/devices.toml"
    sed -n '/^lemonade-proxy \(devices\|purge\) /{s/  *#.*//;p}' README.md >"$scratch/commands"
    [ "$(wc -l <"$scratch/commands")" -ge 6 ] || return 1
    "${program[@]}" serve --config "$scratch/devices.toml" --backend imap://127.0.0.1:9 --state "$scratch/devices" \
        --listen 127.0.0.1:0 --listen-tls 127.0.0.1:0 --admin off &
    local proxy=$! result=0
    until [ -S "$scratch/devices/admin.sock" ]; do
        kill -0 "$proxy" || return 1
        sleep 0.1
    done
    while read -r _ arguments; do
        echo "lemonade-proxy $arguments"
        # shellcheck disable=SC2086
        "${program[@]}" $arguments --state "$scratch/devices" || result=1
    done <"$scratch/commands"
    kill "$proxy"
    wait "$proxy" || result=1
    return $result
}

example_is_good() { "${program[@]}" check --config "$1" --state "$scratch/state"; }

with promtool "prometheus: the scrape configuration" promtool check config deploy/prometheus/scrape.yaml
with promtool "prometheus: the alert rules, each where it must come and where it must not" \
    promtool test rules deploy/prometheus/alerts.test.yaml
with jq "grafana: every panel has an id of its own" panels_have_ids_of_their_own deploy/grafana/lemonade-proxy.json
with jq "grafana: the expressions parse" dashboard_parses
check "rules, tests and dashboard name only metrics there are" only_known_metrics \
    deploy/prometheus/alerts.yaml deploy/prometheus/alerts.test.yaml deploy/grafana/lemonade-proxy.json
check "the README names every metric, and no other" readme_names_all_metrics
with systemd-analyze "systemd: the units" units_verify
with systemd-analyze "systemd: the service is hardened" unit_is_hardened
with python3 "fail2ban: the filter finds the address, from a file and from the journal" filter_finds_the_address
with fail2ban-regex "fail2ban: fail2ban itself agrees" fail2ban_agrees
with shellcheck "shell: deploy" shellcheck deploy/*.sh
mapfile -t scripts < <(git ls-files 'proto-tests/*.sh' .ci/run)
[ ${#scripts[@]} = 0 ] || with shellcheck "shell: tests" shellcheck -x "${scripts[@]}"
with cargo-deny "cargo: licences, bans and sources" cargo-deny check licenses bans sources
for example in deploy/examples/*.toml; do
    with cargo "example: $example" example_is_good "$example"
done

with cargo "the commands of the README about devices" devices_obey_the_readme

printf '%s passed, %s failed, %s skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" = 0 ]
