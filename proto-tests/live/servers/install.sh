#!/usr/bin/env bash
# install.sh [servers] [clients] [tools] [decoders] : what the live tests need from Debian, only what is missing. Root.
#
# Dovecot is installed. The other servers' packages conflict with it, so apt only says which packages each of them would bring; those are
# downloaded to $LIVE_DIR/debs/NAME and unpacked into a private root when the server starts (lib.sh).
set -eu
. "$(cd "$(dirname "$0")" && pwd)/lib.sh"
export DEBIAN_FRONTEND=noninteractive

SERVER_PACKAGES="openssl util-linux python3 dovecot-imapd dovecot-lmtpd"
CLIENT_PACKAGES="curl isync offlineimap3 mutt"
TOOL_PACKAGES="prometheus jq shellcheck"        # promtool and what else deploy/check.sh asks for
DECODER_PACKAGES="libwbxml2-utils tshark python3-cryptography kannel kannel-extras sip-tester kamailio kamailio-tls-modules python3-aiosmtpd prosody python3-slixmpp" # who else reads what we write to devices
updated=""
update() { if [ -z "$updated" ]; then apt-get update -qq; updated=yes; fi; }

# quietly PACKAGE...: installs what is missing; a policy-rc.d made for the moment keeps daemons from starting by themselves.
quietly() {
  local missing="" package policy=/usr/sbin/policy-rc.d ours=""
  for package in "$@"; do dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"; done
  [ -n "$missing" ] || return 0
  echo "installing:$missing"
  update
  if [ ! -e $policy ]; then printf '#!/bin/sh\nexit 101\n' > $policy; chmod 755 $policy; ours=yes; fi
  apt-get install -y -qq --no-install-recommends $missing > /dev/null || { [ -z "$ours" ] || rm $policy; return 1; }
  [ -z "$ours" ] || rm $policy
}

# download NAME PACKAGE...: these packages and what they need beyond what is installed, mail transports excepted (nobody sends mail here).
download() {
  local folder=$DEBS/$1 wanted; shift
  [ -e "$folder/complete" ] && return
  echo "downloading: $*"
  update
  mkdir -p "$folder"
  wanted=$(apt-get install --simulate -qq --no-install-recommends "$@" | awk '$1 == "Inst" && $2 !~ /^exim4/ { print $2 }')
  (cd "$folder" && apt-get download -qq -o APT::Sandbox::User=root $wanted)
  touch "$folder/complete"
}

[ $# -gt 0 ] || set -- servers clients tools decoders
for part in "$@"; do
  case $part in
    servers)
      quietly $SERVER_PACKAGES
      download courier courier-imap courier-authlib-userdb
      download cyrus cyrus-imapd sasl2-bin
      download mailutils mailutils-imap4d;;
    clients)
      quietly $CLIENT_PACKAGES
      if ! command -v node > /dev/null || ! command -v npm > /dev/null; then quietly nodejs npm; fi;;
    tools) quietly $TOOL_PACKAGES;;
    decoders) quietly $DECODER_PACKAGES;;
    *) echo "install.sh [servers] [clients] [tools] [decoders]" >&2; exit 2;;
  esac
done
