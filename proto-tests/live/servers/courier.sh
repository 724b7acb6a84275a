# Courier IMAP 5 with maildirs and a userdb, in a private root: its package conflicts with dovecot-imapd.
#
# couriertcpd is started directly, because the packaged start script cuts memory to 128 MiB and reads its ports from a file it owns.
# IMAP_IDLE_TIMEOUT: its IDLE polls, by default once a minute. MAXPERIP: a proxy has one address.

launch() { in_private_root courier "$HERE/courier.sh"; }

inside() {
  export LD_LIBRARY_PATH=/usr/lib/courier-authlib
  local state=/var/lib/courier user
  getent passwd courier > /dev/null || useradd --system courier
  mkdir -p /run/courier/authdaemon $state; chown courier /run/courier/authdaemon $state
  for user in $USERS; do
    install -d -o mail -g mail "$HOME_DIR/mail" "$HOME_DIR/mail/$user"
    maildirmake.courier "$HOME_DIR/mail/$user/Maildir"
    printf '%s\tuid=%d|gid=%d|home=%s|systempw=%s\n' "$user" "$(id -u mail)" "$(id -g mail)" "$HOME_DIR/mail/$user" "$(openssl passwd -6 -salt live pw)"
  done > /etc/courier/userdb
  chown -R mail: "$HOME_DIR/mail"; chmod 700 /etc/courier/userdb
  PATH=$PATH:/usr/lib/courier makeuserdb
  sed -i 's/^authmodulelist=.*/authmodulelist="authuserdb"/' /etc/courier/authdaemonrc
  (set -a; . /etc/courier/authdaemonrc; exec /usr/lib/courier/courier-authlib/authdaemond) &

  install -o courier -m 600 "$TLS/server.pem" /etc/courier/imapd.pem
  set -a +u; . /etc/courier/imapd; . /etc/courier/imapd-ssl; set +a -u
  export IMAP_IDLE_TIMEOUT=1 IMAP_EMPTYTRASH="" TLS_CACHEFILE=""
  local tcpd="couriertcpd -address=127.0.0.1 -maxprocs=500 -maxperip=500 -nodnslookup -noidentlookup"
  local login="/usr/lib/courier/courier/imaplogin /usr/bin/imapd Maildir"
  IMAP_STARTTLS=YES $tcpd "$IMAP_PORT" $login &
  IMAP_TLS=1 $tcpd "$IMAPS_PORT" /usr/bin/couriertls -server -tcpd -user=courier $login &
}

if [ "${SCRIPT:-}" = "$HERE/courier.sh" ]; then inside; fi
