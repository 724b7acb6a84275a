#!/usr/bin/env python3
"""Sits in IDLE with a real client library (fifth argument: aioimaplib or imapclient) while others change the mailbox behind it.

Mail is dropped into the store, a flag is set and a message expunged in a session of its own, directly at the server: each has to be
told. GNU mailutils lets others see flags and removals only when the session that made them has closed the mailbox.
"""
import asyncio
import imaplib
import os
import pathlib
import sys
import time

from account import SKIPPED, Account, check, message

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "servers"))
sys.path.insert(0, str(pathlib.Path(os.environ["LIVE_DIR"], "pip")))
from deliver import deliver  # noqa: E402

SECONDS = 45  # a look comes after 30 s at the latest; each of these follows news, so most come after 2
account = Account()
port, lmtp = int(os.environ["IMAP_PORT"]), int(os.environ["LMTP_PORT"])


def drop(subject):
    deliver(os.environ["LIVE_SERVER"], account.user, [message(subject)], os.environ["LIVE_DIR"], port, lmtp)


def change(*commands):
    """What another client does, not through the proxy."""
    with imaplib.IMAP4("127.0.0.1", port) as other:
        other.login(account.user, account.password)
        other.select()
        for command in commands:
            check(getattr(other, command[0])(*command[1:])[0] == "OK", f"{command} was refused")
        other.close()


CHANGES = [
    ("first", lambda: drop("first"), lambda told: "1 EXISTS" in told),
    ("second", lambda: drop("second"), lambda told: "2 EXISTS" in told),
    ("flag", lambda: change(("store", "1", "+FLAGS", "(\\Flagged)")), lambda told: "\\Flagged" in told),
    ("removal", lambda: change(("store", "1", "+FLAGS", "(\\Deleted)"), ("expunge",)), lambda told: "1 EXPUNGE" in told),
]


async def with_aioimaplib():
    import aioimaplib

    client = aioimaplib.IMAP4(host=account.host, port=account.port, timeout=60)
    await client.wait_hello_from_server()
    check((await client.login(account.user, account.password)).result == "OK", "no login")
    check((await client.select("INBOX")).result == "OK", "no INBOX")
    idle = await client.idle_start(timeout=600)
    for name, happens, is_told in CHANGES:
        await asyncio.to_thread(happens)
        told, until = "", time.monotonic() + SECONDS
        while not is_told(told):
            check(time.monotonic() < until, f"{name}: nothing of it was told")
            lines = await client.wait_server_push(timeout=SECONDS)
            told += " ".join(line.decode() if isinstance(line, bytes) else str(line) for line in lines) + "\n"
    client.idle_done()
    await asyncio.wait_for(idle, 10)
    await client.logout()


def with_imapclient():
    import imapclient

    client = imapclient.IMAPClient(account.host, account.port, ssl=False, use_uid=False)
    client.login(account.user, account.password)
    client.select_folder("INBOX")
    client.idle()
    for name, happens, is_told in CHANGES:
        happens()
        told, until = "", time.monotonic() + SECONDS
        while not is_told(told):
            check(time.monotonic() < until, f"{name}: nothing of it was told")
            for answer in client.idle_check(timeout=5):
                told += " ".join(flat(answer)) + "\n"
    client.idle_done()
    client.logout()


def flat(answer):
    """The words of a response that was taken apart, as they stood on the wire."""
    for part in answer:
        if isinstance(part, tuple):
            yield from flat(part)
        else:
            yield part.decode() if isinstance(part, bytes) else str(part)


try:
    asyncio.run(with_aioimaplib()) if sys.argv[5] == "aioimaplib" else with_imapclient()
except ModuleNotFoundError as missing:
    print(f"skipped: {missing}")
    sys.exit(SKIPPED)
