#!/usr/bin/env bash
# serve.sh start|again|stop|ports NAME : one private server of lib.sh's list, with empty mailboxes at each start.
#
#     $ ./serve.sh start dovecot && curl imap://u1:pw@127.0.0.1:21000/ ; ./serve.sh stop dovecot
#
# Each server is a file beside this one that defines `launch`; it finds HOME_DIR, PIDFILE and the ports set.
set -eu
HERE=$(cd "$(dirname "$0")" && pwd)
. "$HERE/lib.sh"
[ $# = 2 ] || { sed -n '2,4p' "$0" >&2; exit 2; }
NAME=$2 HOME_DIR=$LIVE_DIR/$2 PIDFILE=$LIVE_DIR/$2.pid
choose_ports "$NAME"
export HERE NAME HOME_DIR USERS TLS LIVE_DIR
case $1 in
  start)
    is_alive "$PIDFILE" && exit
    . "$HERE/${NAME%-legacy}.sh"
    rm -rf "$HOME_DIR"; mkdir -p "$HOME_DIR"; chmod 755 "$LIVE_DIR" "$HOME_DIR"
    make_certificates
    launch
    wait_for_port "$IMAP_PORT"
    if declare -F populate > /dev/null; then populate; fi;;
  again)                      # one that was killed, with the mail that it has
    . "$HERE/${NAME%-legacy}.sh"
    relaunch
    wait_for_port "$IMAP_PORT";;
  stop) stop_server;;
  ports) echo "$IMAP_PORT $IMAPS_PORT $LMTP_PORT";;
  *) echo "serve.sh start|again|stop|ports NAME" >&2; exit 2;;
esac
