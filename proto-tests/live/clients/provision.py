#!/usr/bin/env python3
"""A phone that provisions itself: it reads what there is, says what it wants, in both dialects, and finds it again."""
from account import Account, Wire, check

account = Account()
box = account.prefix() + "Phone"
notify = "/private/vendor/lemonade/notify"
phone, other = Wire(account), Wire(account)

phone.ok('ID ("name" "phone" "device-id" "pixel")')
other.ok("ENABLE METADATA")
told = b" ".join(phone.ok("GETMETADATA /notify/* (channel credential push integrity)"))
check(b'channel.priv "NONE SMS=WAKEUP' in told, f"what is offered: {told}")
phone.ok('SETMETADATA "INBOX" /notify/outband (channel.priv "SMS=WAKEUP" address.priv "+4915112345678" limit.priv "total=50")')
phone.ok(f'SETMETADATA INBOX ({notify}/event/filter "NEW" {notify}/inband/msgformat "(UID FLAGS ENVELOPE)")')
check(phone.say('SETMETADATA INBOX /notify/outband (channel.priv "PIGEON=WAKEUP")')[1].startswith(b"BAD"), "a pigeon")
check(phone.say('SETMETADATA "" /notify/outband (channel.priv "NONE")')[1].startswith(b"NO [NOPERM]"), "provisioning was written")
found = b" ".join(phone.ok(f"GETMETADATA (DEPTH infinity) INBOX ({notify})"))
for value in (b'"SMS=WAKEUP"', b'"+4915112345678"', b'"total=50"', b'"NEW"', b'"(UID FLAGS ENVELOPE)"'):
    check(value in found, f"{value} is not in {found}")
check(not other.ok(f"GETMETADATA (DEPTH infinity) INBOX ({notify})"), "another device sees it")

value = bytes(range(256)) * 20
phone.ok(b'SETMETADATA "" (/private/filters/descriptions/octets ~{%d+}\r\n%s)' % (len(value), value))
check(value in phone.ok('GETMETADATA "" /private/filters/descriptions/octets')[0], "octets differ")

phone.ok(f'CREATE "{box}"')
phone.ok(f'SETMETADATA "{box}" ({notify}/event/filter "NONE")')
phone.ok(f'RENAME "{box}" "{box}2"')
check(b'"NONE"' in b" ".join(phone.ok(f'GETMETADATA "{box}2" {notify}/event/filter')), "it did not follow its mailbox")
phone.ok(f'DELETE "{box}2"')
check(phone.say(f'GETMETADATA "{box}2" {notify}/event/filter')[1].startswith(b"NO"), "a mailbox that is gone has entries")
phone.ok(f'CREATE "{box}2"')
check(not phone.ok(f'GETMETADATA "{box}2" {notify}/event/filter'), "a new mailbox has entries of an old one")
phone.ok(f'DELETE "{box}2"')

phone.ok('SETMETADATA "" (/private/filters/values/boss "FROM boss")')
check(any(b"/private/filters/values/boss" in line for line in other.ok("NOOP")), "the other session was not told")
