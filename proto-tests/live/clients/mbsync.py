#!/usr/bin/env python3
"""mbsync (isync): two mailboxes synchronised both ways, with deletions, message octets compared."""
from account import Account, as_unix, check, message, need, run, scratch

need("mbsync")
account, folder = Account(), scratch()
local = folder / "mail"
local.mkdir()
(folder / "rc").write_text(
    f"""
IMAPAccount far
Host {account.host}
Port {account.port}
User {account.user}
Pass {account.password}
SSLType None
AuthMechs LOGIN

IMAPStore far
Account far

MaildirStore near
Path {local}/
Inbox {local}/INBOX

Channel both
Far :far:
Near :near:
Patterns INBOX
Create Both
Expunge Both
SyncState *
"""
)


def sync():
    run("mbsync", "-c", str(folder / "rc"), "-a")


def kept():
    return sorted(path for part in ("cur", "new") for path in (local / "INBOX" / part).iterdir())


def strip_mark(octets):
    """mbsync finds a stored message again by a header X-TUID that it adds."""
    return b"".join(line for line in octets.splitlines(True) if not line.startswith(b"X-TUID:"))


pulled = [message(f"far{number}", 1000 * number**3) for number in range(1, 7)]
with account.connect() as session:
    for one in pulled:
        check(session.append("INBOX", r"(\Seen)", None, one)[0] == "OK", "append refused")
sync()
check(sorted(strip_mark(path.read_bytes()) for path in kept()) == sorted(map(as_unix, pulled)), "pulled octets differ")

pushed = [message(f"near{number}", 5000) for number in range(1, 4)]
for number, one in enumerate(pushed):
    (local / "INBOX" / "new" / f"1700000000.{number}.near").write_bytes(as_unix(one))
gone = next(path for path in kept() if b"Subject: far1\n" in path.read_bytes())
gone.rename(gone.with_name(gone.name + "T"))
sync()
expected = sorted(map(as_unix, pulled[1:] + pushed))
check(sorted(strip_mark(as_unix(one)) for one in account.messages()) == expected, "pushed octets differ")
check(sorted(strip_mark(path.read_bytes()) for path in kept()) == expected, "the near side differs")
