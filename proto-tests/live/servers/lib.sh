# Paths, ports, processes and certificates of the private servers. Sourced by the scripts beside it.
#
# Everything lives in $LIVE_DIR/NAME and disappears with it: configuration, mail, logs, pid. Nothing listens outside loopback.
# Each server has three ports, IMAP_PORT, IMAPS_PORT and LMTP_PORT; unset, they follow from LIVE_PORTS (default 21000) and the name.
# Accounts are u1 to u40 (or LIVE_USERS of them), password pw; the mail of Dovecot and Courier belongs to the system user "mail".

LIVE_DIR=${LIVE_DIR:-${TMPDIR:-/tmp}/lemonade-live}
SERVERS="dovecot dovecot-legacy courier cyrus mailutils"
USERS=$(seq -f 'u%g' "${LIVE_USERS:-40}")
DEBS=$LIVE_DIR/debs
TLS=$LIVE_DIR/tls

# choose_ports NAME: sets the three ports of a server unless the caller has set them.
choose_ports() {
  local slot=0 name
  for name in $SERVERS; do [ "$name" = "$1" ] && break; slot=$((slot + 10)); done
  : "${IMAP_PORT:=$((${LIVE_PORTS:-21000} + slot))}" "${IMAPS_PORT:=$((IMAP_PORT + 1))}" "${LMTP_PORT:=$((IMAP_PORT + 2))}"
  export IMAP_PORT IMAPS_PORT LMTP_PORT
}

# make_certificates: one authority, and one key and certificate for localhost signed by it. Servers start side by side, and the
# first makes them for all.
make_certificates() (
  mkdir -p "$TLS"
  exec 9> "$TLS/lock"
  flock 9
  [ -s "$TLS/server.pem" ] && return
  ec="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
  openssl req -x509 $ec -days 3650 -subj "/CN=Live tests" -keyout "$TLS/ca.key" -out "$TLS/ca.pem" \
    -addext keyUsage=critical,keyCertSign,cRLSign 2>/dev/null
  openssl req $ec -subj "/CN=localhost" -keyout "$TLS/server.key" -out "$TLS/server.csr" 2>/dev/null
  openssl x509 -req -in "$TLS/server.csr" -CA "$TLS/ca.pem" -CAkey "$TLS/ca.key" -CAcreateserial -days 3650 \
    -extfile <(printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n') -out "$TLS/server.crt" 2>/dev/null
  cat "$TLS/server.crt" "$TLS/server.key" > "$TLS/server.pem"
  chmod 644 "$TLS"/*          # test keys; daemons drop to other users before they read them
)

is_alive() { [ -s "$1" ] && kill -0 "$(cat "$1")" 2>/dev/null; }

# in_background PIDFILE LOG COMMAND...: a session of its own, so that Ctrl-C at the terminal ends it through stop, in order.
in_background() {
  local pidfile=$1 log=$2; shift 2
  setsid "$@" > "$log" 2>&1 < /dev/null &
  echo $! > "$pidfile"
}

# in_private_root GROUP SCRIPT: runs SCRIPT as root of a copy-on-write view of / with the packages of GROUP unpacked over it.
# It is the init of a process namespace: when its pid file is stopped, all that it started is gone, and so is the view.
in_private_root() {
  mkdir -p "$HOME_DIR/root"
  export PRIVATE_ROOT=$HOME_DIR/root PACKAGES=$DEBS/$1 SCRIPT=$2
  in_background "$PIDFILE" "$HOME_DIR/log" unshare --mount --propagation private --pid --fork --kill-child bash -euc '
    mount -t tmpfs tmpfs "$PRIVATE_ROOT"; cd "$PRIVATE_ROOT"; mkdir upper work view
    mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work view
    mkdir -p "view$LIVE_DIR" view/run
    mount --bind "$LIVE_DIR" "view$LIVE_DIR"; mount --rbind /dev view/dev; mount -t proc proc view/proc; mount -t tmpfs tmpfs view/run
    for deb in "$PACKAGES"/*.deb; do dpkg-deb --fsys-tarfile "$deb" | tar -x --keep-directory-symlink -C view; done
    exec chroot view bash -euc "ldconfig; cd /; . \"\$SCRIPT\"; while sleep 3600; do :; done"'
}

# stop_server: TERM, up to 5 s, then KILL, to this one process. A private root has no more to say and is ended at once:
# unshare ignores TERM, and with it goes the whole process namespace.
stop_server() {
  if is_alive "$PIDFILE"; then
    local pid; pid=$(cat "$PIDFILE")
    if [ ! -d "$HOME_DIR/root" ]; then
      kill "$pid" 2>/dev/null || true
      for _ in $(seq 50); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
    fi
    kill -KILL "$pid" 2>/dev/null || true
  fi
  rm -f "$PIDFILE"
}

# wait_for_port PORT: until something greets there, at most 30 s.
wait_for_port() {
  for _ in $(seq 300); do
    if [ "$({ exec 3<>"/dev/tcp/127.0.0.1/$1" && timeout 2 head -c 4 <&3; } 2>/dev/null)" = "* OK" ]; then return; fi
    is_alive "$PIDFILE" || break
    sleep 0.1
  done
  echo "nothing answers on port $1" >&2
  tail -20 "$HOME_DIR/log" >&2
  return 1
}
