#!/usr/bin/env python3
"""What LIST can be asked (RFC 5258, 5819, 6154), and searches under a name (RFC 5466), in the words of a phone's mail program.

Through the proxy all of it has to be offered. With `native` as fifth argument what is offered is asked for, LIST-EXTENDED at least.
"""
import re
import sys

from account import SKIPPED, Account, Wire, check, message

account = Account()
wire = Wire(account)
offered = set(b" ".join(wire.ok("CAPABILITY")).decode().upper().split())
prefix = account.prefix()
separator = "." if prefix else "/"
NEEDED = {"LIST-EXTENDED", "LIST-STATUS", "SPECIAL-USE", "CREATE-SPECIAL-USE", "METADATA", "FILTERS"}
native = sys.argv[5:] == ["native"]
missing = NEEDED - offered
if native and "LIST-EXTENDED" in missing:
    print(f"skipped: not offered: {' '.join(sorted(missing))}")
    sys.exit(SKIPPED)
check(native or not missing, f"not offered: {missing}")


def name(*levels):
    return prefix + separator.join(levels)


def listed(command):
    """What LIST says: of each name its attributes, in lower case, and what stands behind it."""
    found = {}
    for line in wire.ok(command):
        if match := re.match(rb'\* LIST \(([^)]*)\) (?:"."|NIL) ("[^"]*"|[^ ]+) ?(.*)', line):
            found[match[2].strip(b'"').decode()] = set(match[1].decode().lower().split()), match[3].decode()
    return found


def status(command):
    """The items of each STATUS response."""
    lines = (re.match(rb'\* STATUS ("[^"]*"|[^ ]+) \((.*)\)', line) for line in wire.ok(command))
    return {line[1].strip(b'"').decode(): line[2].decode().split() for line in lines if line}


def store(mailbox, octets):
    tags = wire.begin(f'APPEND "{mailbox}" {{{len(octets)}}}')
    check(wire.line().startswith(b"+"), "no `+`")
    wire.write(octets + b"\r\n")
    check(wire.finish(tags)[1][0].startswith(b"OK"), "APPEND is refused")


# Two families, one of them subscribed below its head only.
for levels in (("Tree",), ("Tree", "Leaf"), ("Bush",), ("Bush", "Berry")):
    wire.ok(f'CREATE "{name(*levels)}"')
for mailbox in (name("Tree", "Leaf"), name("Bush")):
    wire.ok(f'SUBSCRIBE "{mailbox}"')

tree, leaf, bush, berry = name("Tree"), name("Tree", "Leaf"), name("Bush"), name("Bush", "Berry")
level = prefix + "%"
found = listed(f'LIST (SUBSCRIBED) "" "{prefix}*"')
check({leaf, bush} <= set(found) and not {tree, berry} & set(found), f"subscribed: {found}")
check(all("\\subscribed" in found[mailbox][0] for mailbox in (leaf, bush)), f"\\Subscribed is not said: {found}")
found = listed(f'LIST (SUBSCRIBED RECURSIVEMATCH) "" "{level}"')
check({tree, bush} <= set(found), f"RECURSIVEMATCH: {found}")
check("CHILDINFO" in found[tree][1].upper() and "SUBSCRIBED" in found[tree][1].upper(), f"CHILDINFO is not said: {found}")
check("\\subscribed" not in found[tree][0] and "CHILDINFO" not in found[bush][1].upper(), f"too much is said: {found}")
found = listed(f'LIST "" ("{tree}" "{bush}{separator}%" "INBOX") RETURN (CHILDREN SUBSCRIBED)')
check(set(found) == {tree, berry, "INBOX"}, f"several patterns: {found}")
check("\\haschildren" in found[tree][0] and "\\hasnochildren" in found[berry][0], f"CHILDREN: {found}")

if "LIST-STATUS" in offered:
    store(leaf, message("listed"))
    found = status(f'LIST "" ("{tree}" "{leaf}") RETURN (STATUS (MESSAGES UNSEEN))')
    counts = {mailbox: dict(zip(items[::2], items[1::2])) for mailbox, items in found.items()}
    check(counts == {tree: {"MESSAGES": "0", "UNSEEN": "0"}, leaf: {"MESSAGES": "1", "UNSEEN": "1"}}, f"STATUS: {counts}")

if "CREATE-SPECIAL-USE" in offered:
    drafts = name("Entwuerfe")
    wire.ok(f'CREATE "{drafts}" (USE (\\Drafts))')
    found = listed(f'LIST "" "{prefix}*" RETURN (SPECIAL-USE)')
    check("\\drafts" in found[drafts][0], f"SPECIAL-USE: {found}")
    found = listed(f'LIST (SPECIAL-USE) "" "{prefix}*"')
    check(drafts in found and tree not in found, f"those with a use: {found}")
    check(wire.say(f'CREATE "{name("Odd")}" (USE (\\Nonsense))')[1].startswith(b"NO"), "a use that nobody knows")
    check(not listed(f'LIST "" "{name("Odd")}"'), "a mailbox was made for nothing")

if {"FILTERS", "METADATA"} <= offered:
    for subject in ("boss", "joe", "boss again"):
        store("INBOX", message(subject))
    wire.ok("SELECT INBOX")
    wire.ok("STORE 3 +FLAGS (\\Flagged)")
    wire.ok('SETMETADATA "" (/private/filters/values/boss "SUBJECT boss" /private/filters/values/urgent "FILTER boss FLAGGED")')
    wire.ok('SETMETADATA "" (/private/filters/values/rest "NOT FILTER urgent")')
    for filters, numbers in (("boss", {1, 3}), ("urgent", {3}), ("rest", {1, 2})):
        lines = [line for line in wire.ok(f"SEARCH FILTER {filters}") if line.startswith(b"* SEARCH")]
        check({int(number) for line in lines for number in line.split()[2:]} == numbers, f"FILTER {filters}: {lines}")
    check(wire.say("SEARCH FILTER nobody")[1].startswith(b"NO [UNDEFINED-FILTER"), "a filter that nobody has defined")
