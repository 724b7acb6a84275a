#!/usr/bin/env python3
"""News: mail dropped into the store behind an open session is told at NOOP (default) or while idling (fifth argument: idle).

With notify, another mailbox is open, and INBOX is watched by NOTIFY: its news come, be it soon or late.
"""
import os
import pathlib
import sys
import time

from account import SKIPPED, Account, check, message

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "servers"))
from deliver import deliver  # noqa: E402

account = Account()
ports = int(os.environ["IMAP_PORT"]), int(os.environ["LMTP_PORT"])


def drop(subject):
    deliver(os.environ["LIVE_SERVER"], account.user, [message(subject)], os.environ["LIVE_DIR"], *ports)


def line_with(session, words, seconds=10):
    """Reads lines until one has these words."""
    session.sock.settimeout(seconds)
    while words not in (line := session.readline()):
        check(line, "the connection was closed")


with account.connect() as session:
    check(session.select()[1] == [b"0"], "the mailbox is not empty")
    if sys.argv[5:] == ["idle"]:
        if "IDLE" not in session.capabilities:
            print("skipped: no IDLE is offered")
            sys.exit(SKIPPED)
        session.send(b"i IDLE\r\n")
        line_with(session, b"+")
        for number in (1, 2):
            drop(f"news{number}")
            line_with(session, f"* {number} EXISTS".encode())
        session.send(b"DONE\r\n")
        line_with(session, b"i OK")
    elif sys.argv[5:] == ["notify"]:
        if "NOTIFY" not in session.capabilities:
            print("skipped: no NOTIFY is offered")
            sys.exit(SKIPPED)
        elsewhere = account.prefix() + "Elsewhere"
        check(session.create(elsewhere)[0] == "OK" and session.select(elsewhere)[0] == "OK", f"no mailbox {elsewhere}")
        session.send(b"n NOTIFY SET (mailboxes INBOX (MessageNew MessageExpunge))\r\n")
        line_with(session, b"n OK")
        for number in (1, 2):
            drop(f"news{number}")
            line_with(session, f"MESSAGES {number}".encode(), 45)
        check(session.select()[1] == [b"2"], "INBOX has not two messages")
    else:
        limit = time.monotonic() + 10
        drop("news")
        while session.noop()[0] == "OK" and session.response("EXISTS")[1][-1] != b"1":
            check(time.monotonic() < limit, "nothing was told within 10 s")
            time.sleep(0.1)
    check(b"news" in session.fetch("*", "(BODY.PEEK[HEADER])")[1][0][1], "the new message is not there")
