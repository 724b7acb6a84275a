#!/usr/bin/env python3
"""Python's imaplib: append, fetch, store, copy, search, status, expunge; in clear, with STARTTLS, over TLS, or compressed above STARTTLS (fifth argument)."""
import sys

from account import Account, check, message

account = Account()
security = sys.argv[5] if len(sys.argv) > 5 else "none"
large = message("large", 1 << 20)
archive = account.prefix() + "Archive"

with account.connect(security) as session:
    def ok(answer):
        check(answer[0] == "OK", f"{security}: {answer}")
        return answer[1]

    ok(session.select())
    ok(session.append("INBOX", r"(\Flagged)", '"03-Nov-2026 10:00:00 +0000"', large))
    for number in range(1, 6):
        ok(session.append("INBOX", None, None, message(f"small{number}")))
    check(ok(session.select()) == [b"6"], "not six messages")
    check(ok(session.fetch("1", "(BODY.PEEK[])"))[0][1] == large, "the fetched octets differ")
    check(ok(session.fetch("1", "(BODY.PEEK[]<1000.2000>)"))[0][1] == large[1000:3000], "a partial fetch differs")
    check(len(ok(session.fetch("1:6", "(FLAGS RFC822.SIZE ENVELOPE)"))) >= 6, "not six answers")
    check(ok(session.search(None, "SUBJECT", "small3")) == [b"4"], "search by subject")
    ok(session.create(f'"{archive}"'))
    ok(session.copy("2:3", f'"{archive}"'))
    check(b"MESSAGES 2" in ok(session.status(f'"{archive}"', "(MESSAGES)"))[0], "not two copies")
    ok(session.store("2", "+FLAGS", r"(\Deleted)"))
    check(ok(session.search(None, "DELETED")) == [b"2"], "search by flag")
    ok(session.expunge())
    ok(session.noop())
    check(ok(session.search(None, "ALL")) == [b"1 2 3 4 5"], "five messages are left")
    check(b"small2" in ok(session.fetch("2", "(BODY.PEEK[HEADER])"))[0][1], "the wrong message went")
    check(any(b"Archive" in line for line in ok(session.list())), "the new mailbox is not listed")
    ok(session.uid("FETCH", "1:*", "(FLAGS)"))
    ok(session.close())
    ok(session.delete(f'"{archive}"'))
