# Cyrus IMAP 3.6 with a sasldb, in a private root: its package conflicts with dovecot-imapd.
#
# Names are given with a slash and without the INBOX prefix (unixhierarchysep, altnamespace), as Debian sets them up.
# skiplist_unsafe: no fsync; this mail need not survive. conversations off: object ids differ from run to run.

launch() { in_private_root cyrus "$HERE/cyrus.sh"; }

# populate: a first login makes the INBOX (autocreate); LMTP may post to everyone's subfolders.
populate() { python3 "$HERE/cyrus_accounts.py" "$IMAP_PORT" $USERS; }

inside() {
  local user
  getent passwd cyrus > /dev/null || useradd --system --gid mail cyrus
  install -d -o cyrus -g mail /run/cyrus /run/cyrus/socket "$HOME_DIR/conf" "$HOME_DIR/spool"
  install -d "$HOME_DIR/tls"; install -o cyrus "$TLS"/server.* "$TLS/ca.pem" "$HOME_DIR/tls"
  for user in $USERS cyrus; do echo pw | saslpasswd2 -p -c -u localhost -f "$HOME_DIR/sasldb2" "$user"; done
  chown cyrus "$HOME_DIR/sasldb2"
  cat > /etc/imapd.conf <<CONF
configdirectory: $HOME_DIR/conf
defaultpartition: default
partition-default: $HOME_DIR/spool
proc_path: /run/cyrus/proc
mboxname_lockpath: /run/cyrus/lock
idlesocket: /run/cyrus/socket/idle
lmtpsocket: /run/cyrus/socket/lmtp
notifysocket: /run/cyrus/socket/notify
servername: localhost
admins: cyrus
altnamespace: yes
unixhierarchysep: yes
virtdomains: off
allowplaintext: yes
sasl_mech_list: PLAIN LOGIN
sasl_pwcheck_method: auxprop
sasl_auxprop_plugin: sasldb
sasl_sasldb_path: $HOME_DIR/sasldb2
tls_server_cert: $HOME_DIR/tls/server.crt
tls_server_key: $HOME_DIR/tls/server.key
tls_client_ca_file: $HOME_DIR/tls/ca.pem
autocreate_quota: 0
delete_mode: immediate
expunge_mode: immediate
maxlogins_per_host: 0
maxlogins_per_user: 0
imapidlepoll: 1
skiplist_unsafe: yes
CONF
  cat > /etc/cyrus.conf <<CONF
START {
  recover cmd="ctl_cyrusdb -r"
  idled cmd="idled"
}
SERVICES {
  imap cmd="imapd -U 30" listen="127.0.0.1:$IMAP_PORT" prefork=0 maxchild=500
  imaps cmd="imapd -s -U 30" listen="127.0.0.1:$IMAPS_PORT" prefork=0 maxchild=500
  lmtp cmd="lmtpd -a" listen="127.0.0.1:$LMTP_PORT" prefork=0 maxchild=20
}
EVENTS {
}
CONF
  su -s /bin/sh cyrus -c "/usr/sbin/cyrus makedirs" || true
  /usr/lib/cyrus/bin/master -D -C /etc/imapd.conf -M /etc/cyrus.conf &
}

if [ "${SCRIPT:-}" = "$HERE/cyrus.sh" ]; then inside; fi
