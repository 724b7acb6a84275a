#!/usr/bin/env python3
"""curl: list, upload, search and fetch, in clear, with STARTTLS and over TLS."""
from account import Account, check, message, need, run, scratch

need("curl")
account, folder = Account(), scratch()
clear = f"imap://{account.host}:{account.port}"
secure = f"imaps://{account.host}:{account.tls_port}"


def curl(*arguments):
    return run("curl", "-sS", "-k", "--max-time", "60", "-u", f"{account.user}:{account.password}", *arguments)


sent = []
for number, address, options in [(1, clear, []), (2, clear, ["--ssl-reqd"]), (3, secure, [])]:
    check(b"INBOX" in curl(*options, f"{address}/"), "no INBOX in the list")
    sent.append(message(f"curl{number}", 20_000 * number))
    (folder / "mail").write_bytes(sent[-1])
    curl(*options, "-T", str(folder / "mail"), f"{address}/INBOX")
    found = curl(*options, f"{address}/INBOX?SUBJECT%20curl{number}")
    check(found.split() == [b"*", b"SEARCH", str(number).encode()], f"search said {found}")
    check(curl(*options, f"{address}/INBOX;MAILINDEX={number}") == sent[-1], "the fetched octets differ")
