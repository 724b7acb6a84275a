# GNU mailutils 3.15 imap4d with maildirs, in a private root, which also holds its accounts: it knows only system users.
#
# mailbox-type is said twice because imap4d reads the site's file for the type and its own for the place.

launch() { in_private_root mailutils "$HERE/mailutils.sh"; }

inside() {
  local user id=30000 spool=$HOME_DIR/spool
  install -d -m 1777 "$spool" "$HOME_DIR/mail"
  for user in $USERS; do
    id=$((id + 1))
    useradd --uid $id --user-group --no-create-home --home-dir "$HOME_DIR/mail/$user" --password "$(openssl passwd -6 -salt live pw)" "$user"
    install -d -o "$user" -g "$user" "$HOME_DIR/mail/$user" "$spool/$user" "$spool/$user"/{cur,new,tmp}
  done
  install -m 600 "$TLS/server.key" "$HOME_DIR/server.key"
  cat > /etc/imap4d.conf <<CONF
mode daemon;
foreground no;
pidfile $HOME_DIR/imap4d.pid;
max-children 400;
timeout 1800;
mailbox { mailbox-pattern "maildir://$spool/\${user}"; mailbox-type "maildir"; };
gsasl { enable no; };
auth { authentication "generic:system"; authorization "system"; };
tls-file-checks { key-file none; cert-file none; ca-file none; };
tls { ssl-certificate-file $TLS/server.crt; ssl-key-file $HOME_DIR/server.key; };
server 127.0.0.1:$IMAP_PORT { tls-mode ondemand; };
server 127.0.0.1:$IMAPS_PORT { tls-mode connection; };
CONF
  imap4d --no-site-config --config-file=/etc/imap4d.conf
}

if [ "${SCRIPT:-}" = "$HERE/mailutils.sh" ]; then inside; fi
