#!/usr/bin/env python3
"""A phone that provisions itself with imaplib: it reads what there is, says what it wants, in both dialects, and finds it again.

imaplib has no words for METADATA: `xatom` sends them. It writes no literal8 either; that one goes over the bare wire.
"""
import imaplib

from account import Account, Wire, check

account = Account()
box = account.prefix() + "Phone"
notify = "/private/vendor/lemonade/notify"


def told(session):
    """The METADATA responses that came since this was asked last."""
    parts = session.response("METADATA")[1]
    return b" ".join(b" ".join(part) if isinstance(part, tuple) else part for part in parts if part is not None)


def ok(session, name, *words):
    """A command that must succeed; the METADATA responses to it."""
    told(session)
    status, end = session.xatom(name, *words)
    check(status == "OK", f"{name} {words}: {end}")
    return told(session)


def refusal(session, name, *words):
    """The words of NO, or of BAD, which imaplib raises."""
    try:
        status, end = session.xatom(name, *words)
    except imaplib.IMAP4.error as error:
        return str(error)
    return f"{status} {end[0].decode()}"


phone, other = account.connect(), account.connect()
ok(phone, "ID", '("name" "phone" "device-id" "pixel")')
check(other.enable("METADATA")[0] == "OK", "ENABLE is refused")
offered = ok(phone, "GETMETADATA", "/notify/*", "(channel credential push integrity)")
check(b'channel.priv "NONE SMS=WAKEUP' in offered, f"what is offered: {offered}")
ok(phone, "SETMETADATA", '"INBOX"', '/notify/outband (channel.priv "SMS=WAKEUP" address.priv "+4915112345678" limit.priv "total=50")')
ok(phone, "SETMETADATA", "INBOX", f'({notify}/event/filter "NEW" {notify}/inband/msgformat "(UID FLAGS ENVELOPE)")')
check("BAD" in refusal(phone, "SETMETADATA", "INBOX", '/notify/outband (channel.priv "PIGEON=WAKEUP")'), "a pigeon")
check(refusal(phone, "SETMETADATA", '""', '/notify/outband (channel.priv "NONE")').startswith("NO [NOPERM]"), "provisioning was written")
found = ok(phone, "GETMETADATA", "(DEPTH infinity)", "INBOX", f"({notify})")
for value in (b'"SMS=WAKEUP"', b'"+4915112345678"', b'"total=50"', b'"NEW"', b'"(UID FLAGS ENVELOPE)"'):
    check(value in found, f"{value} is not in {found}")
check(not ok(other, "GETMETADATA", "(DEPTH infinity)", "INBOX", f"({notify})"), "another device sees it")

value = bytes(range(256)) * 20
Wire(account).ok(b'SETMETADATA "" (/private/filters/descriptions/octets ~{%d+}\r\n%s)' % (len(value), value))
check(value in ok(phone, "GETMETADATA", '""', "/private/filters/descriptions/octets"), "octets differ")

check(phone.create(f'"{box}"')[0] == "OK", "CREATE is refused")
ok(phone, "SETMETADATA", f'"{box}"', f'({notify}/event/filter "NONE")')
check(phone.rename(f'"{box}"', f'"{box}2"')[0] == "OK", "RENAME is refused")
check(b'"NONE"' in ok(phone, "GETMETADATA", f'"{box}2"', f"{notify}/event/filter"), "it did not follow its mailbox")
check(phone.delete(f'"{box}2"')[0] == "OK", "DELETE is refused")
check(refusal(phone, "GETMETADATA", f'"{box}2"', f"{notify}/event/filter").startswith("NO"), "a mailbox that is gone has entries")
check(phone.create(f'"{box}2"')[0] == "OK", "CREATE is refused")
check(not ok(phone, "GETMETADATA", f'"{box}2"', f"{notify}/event/filter"), "a new mailbox has entries of an old one")
check(phone.delete(f'"{box}2"')[0] == "OK", "DELETE is refused")

ok(phone, "SETMETADATA", '""', '(/private/filters/values/boss "FROM boss")')
other.noop()
check(b"/private/filters/values/boss" in told(other), "the other session was not told")
