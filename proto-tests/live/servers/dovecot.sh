# Dovecot 2.3, the full one and the legacy one.
#
# dovecot         all that Debian's package offers, with LMTP, QUOTA, COMPRESS and METADATA; sdbox storage
# dovecot-legacy  advertises only IMAP4rev1 UIDPLUS; maildir storage. The setting only hides: what is hidden still works when sent.
#
# login_trusted_networks, a zero failure delay and a closed anvil penalty socket: a proxy has one address, and must not be slowed for it.

launch() {
  local storage=sdbox plugins="quota imap_quota imap_zlib" capability="" metadata="imap_metadata = yes"
  if [ "$NAME" = dovecot-legacy ]; then
    storage=maildir plugins="" capability="imap_capability = IMAP4rev1 UIDPLUS" metadata=""
  fi
  mkdir "$HOME_DIR/mail"; chown mail: "$HOME_DIR/mail"
  printf '%s:{PLAIN}pw\n' $USERS > "$HOME_DIR/passwd"
  cat > "$HOME_DIR/dovecot.conf" <<CONF
instance_name = live-$NAME
base_dir = $HOME_DIR/run
state_dir = $HOME_DIR/state
log_path = $HOME_DIR/dovecot.log
listen = 127.0.0.1
protocols = imap lmtp
disable_plaintext_auth = no
auth_mechanisms = plain login cram-md5 scram-sha-1 scram-sha-256
auth_failure_delay = 0
login_trusted_networks = 127.0.0.0/8
mail_max_userip_connections = 500
default_process_limit = 1000
default_client_limit = 4000
default_vsz_limit = 0
ssl = yes
ssl_cert = <$TLS/server.crt
ssl_key = <$TLS/server.key
first_valid_uid = 1
mail_fsync = never
mail_location = $storage:~/mail
lmtp_save_to_detail_mailbox = yes
mail_attribute_dict = file:%h/dovecot-attributes
lda_mailbox_autocreate = yes
recipient_delimiter = +
$capability
passdb {
  driver = static
  args = password=master-pw user=master allow_nets=127.0.0.0/8
  master = yes
}
passdb {
  driver = passwd-file
  args = $HOME_DIR/passwd
}
userdb {
  driver = static
  args = uid=mail gid=mail home=$HOME_DIR/mail/%n
}
namespace inbox {
  inbox = yes
  separator = /
}
protocol imap {
  mail_plugins = $plugins
  $metadata
}
plugin {
  quota = count:User quota
  quota_rule = *:storage=1G
  quota_vsizes = yes
}
service imap-login {
  service_count = 0
  client_limit = 1000
  inet_listener imap {
    port = $IMAP_PORT
  }
  inet_listener imaps {
    port = $IMAPS_PORT
    ssl = yes
  }
}
service lmtp {
  inet_listener lmtp {
    port = $LMTP_PORT
  }
}
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
CONF
  relaunch
}

# With the mail that it has. One that was killed may be a zombie for a while, and its number in use.
relaunch() {
  rm -f "$HOME_DIR/run/master.pid"
  in_background "$PIDFILE" "$HOME_DIR/log" dovecot -F -c "$HOME_DIR/dovecot.conf"
}
