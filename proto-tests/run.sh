#!/usr/bin/env bash
# run.sh [--no-live] [--long] : installs from the distribution what the tests need and runs all of them.
#
#   --no-live   leaves out what needs real servers and clients, and with it every package but the build's
#   --long      ten times the differential's commands and the walk's steps, LEMONADE_LONG=1 for walks and fuzzers, any seed, and the benchmarks
#
# What is left to chance begins at a seed made of the commit: the same commit walks the same way everywhere, the next one another.
# Every step is run, also when one before it failed. The last line adds up the closing lines of all.
set -u -o pipefail
cd "$(dirname "$0")/.." || exit 2

live=yes long=""
for option in "$@"; do
  case $option in
    --no-live) live="" ;;
    --long) long=yes; export LEMONADE_LONG=1 ;;
    *) sed -n '2,5p' "$0" >&2; exit 2 ;;
  esac
done

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
passed=0 failed=0 skipped=0 broken=""
export CARGO_TERM_COLOR=never
unset RUSTC_WRAPPER
target=${CARGO_TARGET_DIR:-target}
if [ -z "${SEED:-}" ] && [ -z "$long" ] && commit=$(git rev-parse --short=8 HEAD); then
  export SEED=$((16#${commit:0:8}))
fi
printf '%s\n' "${SEED:+SEED=$SEED}"

# step NAME COMMAND...: runs it, shows what it says, counts what it counted (itself, if it counted nothing).
step() {
  local name=$1 began=$SECONDS code
  shift
  printf '== %s\n' "$name"
  "$@" 2>&1 | tee "$scratch/said"
  code=$?
  count "$code"
  [ "$code" = 0 ] || broken="$broken $name"
  printf '== %s: %s after %s s\n' "$name" "$([ "$code" = 0 ] && echo ok || echo FAILED)" "$((SECONDS - began))"
}

# count CODE: the closing lines of cargo test and of our own runners, `12 passed, 0 failed, 1 skipped`.
count() {
  local counts p f s
  counts=$(sed -nE 's/^(test result: .*\. )?([0-9]+) passed[;,] ([0-9]+) failed([;,] ([0-9]+) (ignored|skipped))?.*/\2 \3 \5/p' "$scratch/said" |
    awk '{ p += $1; f += $2; s += $3 } END { if (NR) print p, f, s + 0 }')
  read -r p f s <<< "${counts:-$(($1 == 0)) $(($1 != 0)) 0}"
  [ "$1" = 0 ] || [ "$f" != 0 ] || f=1
  passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

skip() {
  printf '== %s: skipped, %s\n' "$1" "$2"
  skipped=$((skipped + 1))
}

documentation() { RUSTDOCFLAGS="-D warnings" cargo doc --locked --profile tests --workspace --no-deps --document-private-items --quiet; }

step format cargo fmt --all --check
step build cargo build --locked --profile tests --workspace
step clippy cargo clippy --locked --profile tests --workspace --all-targets -- -D warnings
step tests env FUZZ_SECONDS="${FUZZ_SECONDS:-60}" cargo test --locked --profile tests --workspace --no-fail-fast --quiet
step documentation documentation

if [ -z "$live" ]; then
  skip live "--no-live"
elif [ "$(id -u)" != 0 ]; then
  skip live "the private servers need root"
else
  step packages proto-tests/live/servers/install.sh
  step deploy env LEMONADE_PROXY="$target/tests/lemonade-proxy" ./deploy/check.sh
  step notices proto-tests/live/emn.py --proxy "$target/tests/lemonade-proxy"
  step push proto-tests/live/push.py --proxy "$target/tests/lemonade-proxy"
  step sip proto-tests/live/sip.py --proxy "$target/tests/lemonade-proxy"
  step smpp proto-tests/live/smpp.py --proxy "$target/tests/lemonade-proxy"
  step enrol proto-tests/live/enrol.py --proxy "$target/tests/lemonade-proxy"
  step handover proto-tests/live/handover.py --proxy "$target/tests/lemonade-proxy"
  step watching proto-tests/live/watching.py --proxy "$target/tests/lemonade-proxy"
  step away proto-tests/live/away.py --proxy "$target/tests/lemonade-proxy" --steps "$([ "$long" ] && echo 2000 || echo 80)"
  kills=(--rounds 5 --messages 2000)
  [ -z "$long" ] || kills=(--rounds 50 --messages 20000)
  step lost proto-tests/live/lost.py --proxy "$target/tests/lemonade-proxy" "${kills[@]}"
  step lost-synthetic proto-tests/live/lost.py --proxy "$target/tests/lemonade-proxy" --servers synthetic "${kills[@]}"
  step lost-linger proto-tests/live/lost.py --proxy "$target/tests/lemonade-proxy" --watch linger "${kills[@]}"
  step xmpp proto-tests/live/xmpp.py --proxy "$target/tests/lemonade-proxy"
  step mms proto-tests/live/mms.py --proxy "$target/tests/lemonade-proxy"
  step feed proto-tests/live/feed.py --proxy "$target/tests/lemonade-proxy" --rounds "$([ "$long" ] && echo 60 || echo 6)"
  step transcripts proto-tests/live/transcripts.py --proxy "$target/tests/lemonade-proxy"
  step matrix proto-tests/live/run.py --proxy "$target/tests/lemonade-proxy"
  step differential proto-tests/live/differential.py --proxy "$target/tests/lemonade-proxy" --commands "$([ "$long" ] && echo 1000000 || echo 100000)"
  step walk proto-tests/live/walk.py --proxy "$target/tests/lemonade-proxy" --steps "$([ "$long" ] && echo 20000 || echo 2000)"
  step again proto-tests/live/again.py --proxy "$target/tests/lemonade-proxy"
  step kill proto-tests/live/kill.py --proxy "$target/tests/lemonade-proxy" --rounds "$([ "$long" ] && echo 120 || echo 12)"
  if [ "$long" ]; then
    step benchmark proto-tests/bench/run.py
    step benchmark-metadata proto-tests/bench/metadata.py
    step benchmark-idle proto-tests/bench/idle.py
    step benchmark-outband proto-tests/bench/outband.py
  fi
fi

[ -z "$broken" ] || printf 'failed:%s\n' "$broken"
printf '%s s in all\n%s passed, %s failed, %s skipped\n' "$SECONDS" "$passed" "$failed" "$skipped"
[ "$failed" = 0 ]
