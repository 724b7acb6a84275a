#!/usr/bin/env python3
"""What Delta Chat says to a server that takes its push tokens, octet for octet as its core writes it."""
from account import Account, Wire, check

wire = Wire(Account())
check(any(b" METADATA" in line for line in wire.ok("CAPABILITY")), "METADATA is not offered")
wire.ok('ID ("name" "Delta Chat")')
wire.ok('GETMETADATA "" (/shared/comment /shared/admin /shared/vendor/deltachat/irohrelay)')
wire.ok("SELECT INBOX")
for token in (b"fcm-chat.delta:dXa9Q3", b"openpgp:hF4Dp3+/aZ=="):
    wire.ok(b'SETMETADATA "INBOX" (/private/devicetoken {%d+}\r\n%s)' % (len(token), token))
tokens = wire.ok('GETMETADATA "INBOX" (/private/devicetoken)')
check(len(tokens) == 1, f"one answer, not {tokens}")
kept = tokens[0].split(b'"')[-2].split(b" ")
check(sorted(kept) == [b"fcm-chat.delta:dXa9Q3", b"openpgp:hF4Dp3+/aZ=="], f"two tokens, not {kept}")
most = wire.ok('GETMETADATA "" (/shared/vendor/deltachat/maxsmtprecipients)')
check(any(b'"50"' in line for line in most), f"how many recipients: {most}")
