#!/usr/bin/env python3
"""offlineimap3: pull, then push a new message and a deletion, message octets compared."""
from account import Account, as_unix, check, message, need, run, scratch

need("offlineimap")
account, folder = Account(), scratch()
local = folder / "mail"
(folder / "rc").write_text(
    f"""
[general]
accounts = live
metadata = {folder}/state
socktimeout = 60
[Account live]
localrepository = near
remoterepository = far
[Repository near]
type = Maildir
localfolders = {local}
[Repository far]
type = IMAP
remotehost = {account.host}
remoteport = {account.port}
remoteuser = {account.user}
remotepass = {account.password}
ssl = no
starttls = no
auth_mechanisms = PLAIN, LOGIN
folderfilter = lambda name: name == 'INBOX'
maxconnections = 1
"""
)


def sync():
    said = run("offlineimap", "-c", str(folder / "rc"), "-o", "-u", "basic")
    check(b"ERROR" not in said, said.decode(errors="replace"))


def kept():
    return sorted(path for part in ("cur", "new") for path in (local / "INBOX" / part).iterdir())


def strip_mark(octets):
    """offlineimap marks what it uploads with a header X-OfflineIMAP where the backend has no UIDPLUS."""
    return b"".join(line for line in octets.splitlines(True) if not line.startswith(b"X-OfflineIMAP:"))


pulled = [message(f"far{number}", 4000 * number) for number in range(1, 5)]
with account.connect() as session:
    for one in pulled:
        check(session.append("INBOX", None, None, one)[0] == "OK", "append refused")
sync()
check(sorted(as_unix(path.read_bytes()) for path in kept()) == sorted(map(as_unix, pulled)), "pulled octets differ")

next(path for path in kept() if b"Subject: far1" in path.read_bytes()).unlink()
(local / "INBOX" / "new" / "1700000000.1.near").write_bytes(as_unix(message("near")))
sync()
left = b"".join(account.messages())
check(b"Subject: near\r\n" in left and b"Subject: far4\r\n" in left, "a message did not arrive")
check(b"Subject: far1\r\n" not in left, "a deleted message is still there")
