"""Drops mail into a store behind the proxy's back: deliver.py NAME USER FILE... (or from Python: deliver(name, user, messages)).

Dovecot and Cyrus take it by LMTP, Courier finds a file in its maildir, GNU mailutils gets an APPEND. The ports and LIVE_DIR come from the
environment, as for serve.sh. LMTP adds header lines of its own; the other two ways keep every octet.
"""
import imaplib
import os
import pathlib
import shutil
import smtplib
import sys
import tempfile
import uuid


def deliver(name, user, messages, live_dir, imap_port, lmtp_port):
    """Delivers each message (octets with CRLF) to the INBOX of this user of this server."""
    WAYS[name](user, messages, live_dir, imap_port, lmtp_port)


def by_lmtp(user, messages, _live_dir, _imap_port, lmtp_port):
    with smtplib.LMTP("127.0.0.1", lmtp_port) as store:
        for message in messages:
            store.sendmail("sender@example.org", [user], message)


def by_file(user, messages, live_dir, _imap_port, _lmtp_port):
    """RFC-less but older than most RFCs: written to tmp, then renamed into new."""
    inbox = pathlib.Path(live_dir, "courier", "mail", user, "Maildir")
    for message in messages:
        name = f"{uuid.uuid4()}.live"
        (inbox / "tmp" / name).write_bytes(message)
        shutil.chown(inbox / "tmp" / name, "mail", "mail")
        (inbox / "tmp" / name).rename(inbox / "new" / name)


def by_append(user, messages, _live_dir, imap_port, _lmtp_port):
    with imaplib.IMAP4("127.0.0.1", imap_port) as store:
        store.login(user, "pw")
        for message in messages:
            assert store.append("INBOX", None, None, message)[0] == "OK"


WAYS = {"dovecot": by_lmtp, "dovecot-legacy": by_lmtp, "cyrus": by_lmtp, "courier": by_file, "mailutils": by_append}

if __name__ == "__main__":
    deliver(
        sys.argv[1],
        sys.argv[2],
        [pathlib.Path(file).read_bytes() for file in sys.argv[3:]],
        os.environ.get("LIVE_DIR", os.path.join(tempfile.gettempdir(), "lemonade-live")),
        int(os.environ["IMAP_PORT"]),
        int(os.environ.get("LMTP_PORT", 0)),
    )
