#!/usr/bin/env bash
# See the proxy at work on this machine alone: an old mail server, the proxy in front of it, and what to type.
#
#     ./deploy/quickstart.sh                                  a private Dovecot plays the old server
#     ./deploy/quickstart.sh --backend imap://mail.example.org    your own server; installs nothing
#
# Everything listens on loopback, keeps its files in one temporary directory and ends with Ctrl-C.
set -eu -o pipefail

usage() {
    cat <<'USAGE'
usage: quickstart.sh [--backend URL [--backend-ca FILE]] [--try] [--binary FILE]
                     [--listen ADDR] [--listen-tls ADDR] [--admin ADDR]

  --backend URL     an IMAP server of yours: imap://HOST[:PORT], imaps://HOST, imap+starttls://HOST
                    (without it, Dovecot is installed from the distribution and started privately)
  --backend-ca FILE the certificate authority of that server, if it is not a public one
  --try             run the commands instead of printing them, then end; the exit status says how it went
  --binary FILE     a lemonade-proxy that is already built
  --listen ADDR     instead of 127.0.0.1:1143 (STARTTLS)
  --listen-tls ADDR instead of 127.0.0.1:1993 (TLS from the first octet)
  --admin ADDR      instead of 127.0.0.1:9143 (health and metrics)
USAGE
}

backend='' binary='' trial='' others='' listen=127.0.0.1:1143 listen_tls=127.0.0.1:1993 admin=127.0.0.1:9143
flags=() sudo='' scratch='' policy='' dovecot_pid='' proxy_pid='' phone_pid='' phone=''
login=joe:secret

say() { printf '== %s\n' "$*"; }
die() {
    printf 'quickstart: %s\n' "$*" >&2
    exit 1
}

main() {
    options "$@"
    cd "$(dirname "${BASH_SOURCE[0]}")/.."
    trap cleanup EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    requirements
    for address in "$listen" "$listen_tls" "$admin"; do
        ! answers "$address" || die "$address is in use: choose others with --listen, --listen-tls and --admin"
    done
    [ -n "$backend" ] || install_dovecot
    [ -n "$binary" ] || build
    scratch=$(mktemp -d "${TMPDIR:-/tmp}/lemonade-quickstart.XXXXXX")
    [ -n "$backend" ] || start_dovecot
    start_phone
    start_proxy
    if [ -n "$trial" ]; then
        try
    else
        instructions
        wait -n || true
        die "a server ended by itself; its last words stand above"
    fi
}

options() {
    while [ $# -gt 0 ]; do
        case $1 in
        --try) trial=yes ;;
        -h | --help)
            usage
            exit 0
            ;;
        --backend | --backend-ca | --binary | --listen | --listen-tls | --admin)
            [ $# -ge 2 ] || die "$1 needs a value"
            case $1 in
            --backend) backend=$2 ;;
            --backend-ca) flags+=("$1" "$(realpath -- "$2")") ;;
            --binary) binary=$(realpath -- "$2") ;;
            --listen) listen=$2 others=yes ;;
            --listen-tls) listen_tls=$2 others=yes ;;
            --admin) admin=$2 flags+=("$1" "$2") ;;
            esac
            shift
            ;;
        *)
            usage >&2
            exit 2
            ;;
        esac
        shift
    done
    # Either flag replaces both listeners.
    [ -z "$others" ] || flags+=(--listen "$listen" --listen-tls "$listen_tls")
}

# All that is missing or too old, in one line.
requirements() {
    local missing=() wanted version
    if [ -z "$binary" ]; then
        wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
        if ! command -v cargo >/dev/null || ! command -v rustc >/dev/null; then
            missing+=("Rust $wanted or newer (cargo and rustc; rustup installs them)")
        else
            version=$(rustc --version | cut -d' ' -f2)
            not_older "$version" "$wanted" || missing+=("Rust $wanted or newer (rustc here is $version: rustup update)")
        fi
        command -v cc >/dev/null || missing+=("a C compiler (apt-get install gcc libc6-dev)")
    fi
    if [ -n "$backend" ]; then
        [ -z "$trial" ] || command -v curl >/dev/null || missing+=("curl (apt-get install curl)")
    else
        command -v apt-get >/dev/null || missing+=("apt-get: this is not Debian or Ubuntu, use --backend URL")
        if [ "$(id -u)" != 0 ]; then
            sudo=sudo
            ready || command -v sudo >/dev/null || missing+=("sudo, or root, to install Dovecot")
        fi
    fi
    [ ${#missing[@]} = 0 ] || die "missing: $(joined "${missing[@]}")"
}

joined() {
    printf '%s' "$1"
    shift
    [ $# = 0 ] || printf '; %s' "$@"
}

not_older() { [ "$(printf '%s\n%s\n' "$2" "${1%%-*}" | sort -V | head -n 1)" = "$2" ]; }

# Does somebody listen there?
answers() {
    local host=${1%:*}
    host=${host#[}
    (exec 3<>"/dev/tcp/${host%]}/${1##*:}") 2>/dev/null
}

ready() { [ -x /usr/sbin/dovecot ] && [ -x /usr/lib/dovecot/imap ] && command -v curl >/dev/null; }

install_dovecot() {
    if ready; then
        say "Dovecot is here already"
        return
    fi
    say "installing Dovecot and curl from the distribution (it will not be started as a service)"
    local fresh=yes
    [ ! -x /usr/sbin/dovecot ] || fresh=''
    hold_services
    $sudo apt-get update -qq
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends dovecot-imapd curl >/dev/null
    if [ -n "$fresh" ] && command -v systemctl >/dev/null; then
        # Nor at the next start of the machine.
        $sudo systemctl --quiet disable dovecot.service dovecot.socket 2>/dev/null || true
    fi
    release_services
}

# Debian starts what it installs, unless this file says no.
hold_services() {
    policy=/usr/sbin/policy-rc.d
    if [ -e "$policy" ]; then $sudo mv "$policy" "$policy.before-quickstart"; fi
    printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
    $sudo chmod 755 "$policy"
}

release_services() {
    [ -n "$policy" ] || return 0
    $sudo rm -f "$policy"
    if [ -e "$policy.before-quickstart" ]; then $sudo mv "$policy.before-quickstart" "$policy"; fi
    policy=''
}

build() {
    say "building the proxy (some minutes the first time)"
    cargo build --release --locked --bin lemonade-proxy
    local target
    target=$(cargo metadata --format-version 1 --no-deps --offline | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
    binary=$target/release/lemonade-proxy
    [ -x "$binary" ] || die "cargo built no $binary"
}

start_dovecot() {
    local port=10143 user group as=()
    while answers "127.0.0.1:$port"; do port=$((port + 1)); done
    user=$(id -un) group=$(id -gn)
    if [ "$(id -u)" = 0 ]; then
        user=nobody group=nogroup
        as=(setpriv --reuid "$user" --regid "$group" --clear-groups)
    fi
    messages "$scratch/mail/joe"
    echo 'joe:{PLAIN}secret' >"$scratch/users"
    dovecot_conf "$port" "$user" "$group" >"$scratch/dovecot.conf"
    mkdir -p "$scratch/proxy"
    if [ ${#as[@]} != 0 ]; then
        chmod 711 "$scratch"
        mkdir "$scratch/run" "$scratch/state"
        touch "$scratch/dovecot.log"
        chown -R "$user:$group" "$scratch"/{mail,users,run,state,dovecot.log,dovecot.conf}
        chmod 600 "$scratch/users"
    fi
    say "starting Dovecot on 127.0.0.1:$port, with the capabilities of an old server"
    # The signal at the parent's death ends it even if this script is killed outright; a change of user would clear it.
    "${as[@]}" setpriv --pdeathsig TERM /usr/sbin/dovecot -F -c "$scratch/dovecot.conf" &
    dovecot_pid=$!
    await "$dovecot_pid" "127.0.0.1:$port" || die "Dovecot did not start: $(tail -n 3 "$scratch/dovecot.log" 2>/dev/null)"
    backend=imap://127.0.0.1:$port
}

# One user, no root, no TLS, and a server that admits to little.
dovecot_conf() {
    local port=$1 user=$2 group=$3 version
    version=$(/usr/sbin/dovecot --version | cut -d' ' -f1)
    if not_older "$version" 2.4; then
        cat <<CONF
dovecot_config_version = ${version%%-*}
dovecot_storage_version = ${version%%-*}
auth_allow_cleartext = yes
mail_driver = maildir
mail_path = ~/Maildir
mail_home = $scratch/mail/%{user}
passdb passwd-file {
  passwd_file_path = $scratch/users
}
userdb static {
  fields {
    uid = $user
    gid = $group
  }
}
CONF
    else
        cat <<CONF
disable_plaintext_auth = no
mail_location = maildir:~/Maildir
mail_home = $scratch/mail/%n
passdb {
  driver = passwd-file
  args = $scratch/users
}
userdb {
  driver = static
  args = uid=$user gid=$group
}
CONF
    fi
    cat <<CONF
protocols = imap
listen = 127.0.0.1
base_dir = $scratch/run
state_dir = $scratch/state
log_path = $scratch/dovecot.log
instance_name = lemonade-quickstart
default_internal_user = $user
default_internal_group = $group
default_login_user = $user
first_valid_uid = 1
ssl = no
imap_capability = IMAP4rev1 UIDPLUS
mail_max_userip_connections = 100
namespace inbox {
  inbox = yes
  separator = .
}
service anvil {
  chroot =
}
service imap-login {
  chroot =
  inet_listener imap {
    port = $port
  }
  inet_listener imaps {
    port = 0
  }
}
CONF
}

# Five messages in INBOX, two in Lists; the fourth is large enough to be streamed.
messages() {
    local home=$1 number
    mkdir -p "$home/Maildir"/{new,cur,tmp} "$home/Maildir/.Lists"/{new,cur,tmp}
    touch "$home/Maildir/.Lists/maildirfolder"
    echo Lists >"$home/Maildir/subscriptions"
    message "Welcome" "This mailbox lives in an old server. You read it through the proxy." >"$home/Maildir/cur/1.q.h:2,S"
    message "Lunch on Friday?" "At noon, at the usual place." >"$home/Maildir/new/2.q.h"
    message "Minutes of the meeting" "Nobody came." >"$home/Maildir/new/3.q.h"
    message "A long one" "$(seq -f 'Line %06g of a message that does not fit any buffer.' 20000)" >"$home/Maildir/new/4.q.h"
    message "Re: Lunch on Friday?" "See you there." >"$home/Maildir/new/5.q.h"
    for number in 1 2; do
        message "[list] Announcement $number" "Nothing new." >"$home/Maildir/.Lists/cur/$number.q.h:2,S"
    done
}

message() {
    printf 'From: Ann <ann@example.org>\nTo: Joe <joe@example.org>\nDate: %s\n' "$(date -R)"
    printf 'Subject: %s\nMessage-ID: <%s.%s@example.org>\n' "$1" "$RANDOM" "$RANDOM"
    printf 'MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\n%s\n' "$2"
}

# What a phone hears while it is away: each notice is a line.
start_phone() {
    mkdir -p "$scratch/proxy"
    printf 'a1b2c3d4:%s\n' "$(head -c 32 /dev/urandom | basenc --base64url)" >"$scratch/phone.key"
    setpriv --pdeathsig TERM "$binary" receive --udp 127.0.0.1:0 --key-file "$scratch/phone.key" >"$scratch/phone" &
    phone_pid=$!
    until grep -q '^listening' "$scratch/phone"; do
        kill -0 "$phone_pid" 2>/dev/null || die "nobody plays the phone"
        sleep 0.1
    done
    phone="127.0.0.1:$(sed -n 's/^listening port=//p' "$scratch/phone")|$(cat "$scratch/phone.key")"
    cat >"$scratch/proxy.toml" <<CONF
[account.outband]
channels = { UDP = ["WAKEUP", "EXTENDED"] }

[outband]
udp = true
allow = ["127.0.0.0/8"]
every = "2s"
CONF
}

start_proxy() {
    local address log=$scratch/proxy.log out
    if [ -n "$trial" ]; then exec {out}>"$log"; else exec {out}>&2; fi
    say "starting: lemonade-proxy serve --backend $backend ${flags[*]}"
    setpriv --pdeathsig TERM "$binary" serve --config "$scratch/proxy.toml" --backend "$backend" --state "$scratch/proxy" "${flags[@]}" 2>&"$out" &
    proxy_pid=$!
    for address in "$listen" "$listen_tls" "$admin"; do
        await "$proxy_pid" "$address" || die "the proxy did not open $address$([ -z "$trial" ] || echo ": $(tail -n 3 "$log")")"
    done
}

# Until somebody listens there, or the process that should is gone, or ten seconds are over.
await() {
    for _ in $(seq 100); do
        answers "$2" && return 0
        kill -0 "$1" 2>/dev/null || return 1
        sleep 0.1
    done
    return 1
}

instructions() {
    local who=$login note=''
    if [ -z "$dovecot_pid" ]; then
        who=YOU note=' (curl asks for the password)'
    fi
    cat <<TEXT

The proxy is running. Type in another terminal$note:

  what the old server offers, and what the proxy makes of it
    curl -s  $(direct) -u $who -X CAPABILITY
    curl -sk imaps://$listen_tls/ -u $who -X CAPABILITY

  by STARTTLS: which messages there are
    curl -sk --ssl-reqd imap://$listen/INBOX -u $who -X 'FETCH 1:* (FLAGS RFC822.SIZE)'

  by TLS from the first octet: read one, store another
    curl -sk 'imaps://$listen_tls/INBOX;MAILINDEX=1' -u $who
    curl -sk imaps://$listen_tls/INBOX -u $who -T FILE_WITH_A_MESSAGE

  be told while you are away: log in once more behind the first line, and wait for mail
    $binary devices set ${who%%:*} default --channel UDP=EXTENDED --address '$phone' --state $scratch/proxy
    tail -f $scratch/phone

  how it is doing
    curl -s http://$admin/readyz
    curl -s http://$admin/metrics

  any mail program: IMAP, server ${listen%:*}, user ${who%%:*}$([ "$who" = YOU ] || echo ", password ${who#*:}")
    port ${listen##*:} with STARTTLS or port ${listen_tls##*:} with TLS; the certificate is self-signed, accept it

Ctrl-C ends all of it. The log of the proxy follows.

TEXT
}

# The backend as curl names it.
direct() {
    case $backend in
    imap+starttls://*) printf -- '--ssl-reqd imap://%s/' "${backend#*://}" ;;
    *) printf '%s/' "${backend%/}" ;;
    esac
}

try() {
    local failed=0
    check "the proxy says that it is ready" ask -f "http://$admin/readyz" || failed=1
    check "it exports metrics" holds '^lemonade_' ask -f "http://$admin/metrics" || failed=1
    check "it greets by STARTTLS" holds 'IMAP4rev1' ask -k --ssl-reqd "imap://$listen/" -X CAPABILITY || failed=1
    check "it greets by TLS" holds 'IMAP4rev1' ask -k "imaps://$listen_tls/" -X CAPABILITY || failed=1
    if [ -n "$dovecot_pid" ]; then try_mailbox || failed=1; fi
    if [ "$failed" != 0 ]; then
        cat "$scratch/proxy.log" >&2
        die "something did not work"
    fi
    say "all of it works"
}

try_mailbox() {
    local failed=0 plain="imap://$listen" tls="imaps://$listen_tls" log=$scratch
    printf '   the old server:    %s' "$(ask "$backend/" -u "$login" -X CAPABILITY)"
    printf '\n   through the proxy: %s\n' "$(ask -k "$tls/" -u "$login" -X CAPABILITY)"
    check "it adds what the old server lacks" holds 'LITERAL+' ask -k "$tls/" -u "$login" -X CAPABILITY || failed=1
    check "it lists the mailboxes" holds 'Lists' ask -k --ssl-reqd "$plain/" -u "$login" || failed=1
    check "it finds the messages" holds '^\* SEARCH 1 2 3 4 5' \
        ask -k --ssl-reqd "$plain/INBOX" -u "$login" -X 'SEARCH ALL' || failed=1
    for number in 1 4; do
        ask "$backend/INBOX;MAILINDEX=$number" -u "$login" >"$log/direct"
        ask -k "$tls/INBOX;MAILINDEX=$number" -u "$login" >"$log/proxied" || true
        check "message $number is the same octet by octet ($(wc -c <"$log/direct"))" \
            same "$log/direct" "$log/proxied" || failed=1
    done
    message "Sent through the proxy" "It works." | sed 's/$/\r/' >"$log/sent"
    check "it stores a message" ask -k "$tls/INBOX" -u "$login" -T "$log/sent" || failed=1
    ask -k --ssl-reqd "$plain/INBOX;MAILINDEX=6" -u "$login" >"$log/stored" || true
    check "which comes back as it was" same "$log/sent" "$log/stored" || failed=1
    check "it refuses a wrong password" refused ask -k "$tls/" -u joe:wrong -X CAPABILITY || failed=1
    try_phone || failed=1
    return "$failed"
}

try_phone() {
    local failed=0 new=$scratch/mail/joe/Maildir/new state=(--state "$scratch/proxy")
    check "a device says where it is told" \
        "$binary" devices set joe default --channel UDP=EXTENDED --address "$phone" "${state[@]}" || failed=1
    ask -k "imaps://$listen_tls/INBOX" -u "$login" -X NOOP >/dev/null || failed=1
    check "its mailbox is looked after when it has gone" within '"connected"' "$binary" queue list "${state[@]}" || failed=1
    message "Come at once" "Romeo, where are you?" >"$new/../tmp/7.q.h"
    chown --reference "$new" "$new/../tmp/7.q.h"
    mv "$new/../tmp/7.q.h" "$new/"
    check "it is told of what comes" within 'subject="Come at once"' cat "$scratch/phone" || failed=1
    return "$failed"
}

# Until this is said, or ten seconds are over.
within() {
    local pattern=$1
    shift
    for _ in $(seq 100); do
        if "$@" | grep -- "$pattern"; then return 0; fi
        sleep 0.1
    done
    return 1
}

check() {
    local what=$1
    shift
    if "$@" >/dev/null; then
        printf '   ok      %s\n' "$what"
    else
        printf '   NOT OK  %s\n' "$what"
        return 1
    fi
}

ask() { curl -sS --max-time 20 "$@"; }

holds() {
    local pattern=$1
    shift
    "$@" | grep -- "$pattern" >/dev/null
}

same() { [ -s "$1" ] && cmp -s "$1" "$2"; }

# What curl says to a login denied, and only to that.
refused() {
    local status=0
    "$@" 2>/dev/null || status=$?
    [ "$status" = 67 ]
}

cleanup() {
    local status=$?
    trap '' INT TERM HUP
    end "$proxy_pid"
    end "$phone_pid"
    end "$dovecot_pid"
    release_services
    [ -z "$scratch" ] || rm -rf "$scratch"
    [ -z "$proxy_pid" ] || say "nothing is left running"
    exit "$status"
}

# Asks this process to end, and makes it after fifteen seconds.
end() {
    [ -n "$1" ] || return 0
    kill "$1" 2>/dev/null || true
    for _ in $(seq 150); do
        kill -0 "$1" 2>/dev/null || break
        sleep 0.1
    done
    kill -KILL "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
}

main "$@"
