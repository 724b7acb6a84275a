#!/usr/bin/env python3
"""A device that is away is told by UDP of what comes, once, and not while it is there: before real servers.

    $ proto-tests/live/handover.py --servers dovecot,courier
    dovecot linger: told of one, three, and behind a kill: to sign in
    dovecot leaves: LOGOUT 0.9 s, closed 0.7 s, reset 5.2 s, reads nothing 2.7 s
    dovecot dark: told of dark 3 after 4.9 s
    dovecot dark: told in IDLE after 12.6 s
    ...
    23 passed, 0 failed

The device is `lemonade-proxy receive --udp`, with a key: each notice that it tells of was opened, and acknowledged. That something was
not told shows in the next notice, which has the next number and speaks of the next message.

Before Dovecot, too: how long a device is waited for that has left, by how it left; among others, that it reads nothing of what it is sent
is found within twice the two seconds that it has for that. And the way to the server is frozen under who looks after the mailbox: that
is found within twice the time that it listens and waits for an answer, and nothing that came meanwhile is missed; then under a session
that idles, too, which hears of it because others have found news.
"""
import contextlib
import imaplib
import re
import select
import shlex
import socket
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
import types

sys.dont_write_bytecode = True

from stage import HERE, Stage, Tally, ended_early, options, say

sys.path.insert(0, str(HERE / "clients"))
from account import Wire
from again import Line

KEY = "a1b2c3d4:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
DEFAULT = "/private/vendor/lemonade/notify/default"
SECONDS = 20  # until a notice is given up

OUTBAND = """
[outband]
udp = true
allow = ["127.0.0.0/8"]
every = "1s"
spread = "0s"
patience = {{ debounce = "200ms", pause = "1h" }}
presence = {{ grace_closed = "200ms", grace_broken = "200ms" }}
{watch}
"""
# Each a time of its own, and both ways of not being there any more without a word within one look of a test.
LEAVES = """
[timeouts]
backend = "3s"

[outband]
udp = true
allow = ["127.0.0.0/8"]
every = "500ms"
spread = "0s"
patience = {{ debounce = "200ms", pause = "1h" }}
presence = {{ unacknowledged = "2s", grace_closed = "300ms", grace_broken = "5s" }}
{watch}
"""
# How a device leaves, and seconds from then to a notice: at least, at most.
WAYS = [("LOGOUT", 0, 2), ("closed", 0.3, 2.5), ("reset", 5, 8), ("reads nothing", 2, 4)]
LISTENS, WAITS, LATE = 1.5, 3, 5  # three times `every`, `timeouts.backend`, and what a session waits for news that others have found
MASTER = """
watch = "master"
master = {{ user = "master", password_file = "{}" }}
"""


def main():
    chosen = options(__doc__.splitlines()[0]).parse_args()
    tally = Tally()
    with Stage() as stage, tempfile.TemporaryDirectory() as folder:
        secret = f"{folder}/secret"
        with open(secret, "w") as file:
            file.write("master-pw\n")
        for name in chosen.servers.split(","):
            with stage.part() as part:
                server = part.server(name)
                for mode in ["linger"] + ["master"] * name.startswith("dovecot"):
                    watch = MASTER.format(secret) if mode == "master" else ""
                    proxy = part.proxy(server, "imap", chosen.proxy, OUTBAND.format(watch=watch))
                    walk(server, proxy, mode, f"u{1 + (mode == 'master')}", chosen.proxy, folder, tally)
                    proxy.stop()
                if name == "dovecot":
                    config = LEAVES.format(watch=MASTER.format(secret))
                    proxy = part.proxy(server, "imap", chosen.proxy, config)
                    leaves(server, proxy, chosen.proxy, folder, tally)
                    proxy.stop()
                    line = Line(server, part.ports()[0])
                    for darkness in dark, dark_there:
                        proxy = part.proxy(line, "imap", chosen.proxy, config)
                        darkness(line, proxy, chosen.proxy, folder, tally)
                        proxy.stop()
    say(f"{tally.passed} passed, {tally.failed} failed")
    sys.exit(1 if tally.failed or not tally.passed else 0)


class Device:
    """What waits for notices, and what it has heard."""

    def __init__(self, program, folder):
        with open(f"{folder}/keys", "w") as file:
            file.write(KEY + "\n")
        command = [program, "receive", "--udp", "127.0.0.1:0", "--key-file", f"{folder}/keys"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        self.held = b""
        self.port = int(self.line().split("port=")[1])

    def line(self):
        """The next line; none, if none comes for too long."""
        until = time.monotonic() + SECONDS
        while b"\n" not in self.held:
            if not select.select([self.process.stdout], [], [], max(0, until - time.monotonic()))[0]:
                return None
            self.held += self.process.stdout.read1()
        line, self.held = self.held.split(b"\n", 1)
        return line.decode()

    def notice(self):
        """The words of the next notice."""
        while line := self.line():
            word, *rest = shlex.split(line)
            if word == "notice":
                return dict(part.split("=", 1) for part in rest if "=" in part)
        return {}

    def close(self):
        self.process.kill()
        self.process.wait()


def walk(server, proxy, mode, user, program, folder, tally):
    label = f"{server.name} {mode}"
    with contextlib.closing(Device(program, folder)) as device:
        # Until somebody looks, what comes is not new.
        subscribed(proxy, user, device, label).ok("LOGOUT")
        deliver(server, user, "one")
        first = device.notice()
        # mailutils makes a new UIDVALIDITY whenever nobody has written to the mailbox: there is news, and nobody knows which.
        knows = server.name != "mailutils"
        tally.check(f"{label}: away", (first.get("subject"), bool(first)), ("one" if knows else None, True))

        wire = sign_in(proxy, user)
        wire.ok("SELECT INBOX")
        deliver(server, user, "two")
        while not any(b"EXISTS" in line for line in wire.ok("NOOP")):
            pass
        # Two more words of the client: it has heard that.
        wire.ok("UID SEARCH ALL")
        wire.ok("NOOP")
        wire.ok("LOGOUT")
        if knows:
            wire = sign_in(proxy, user)
            before = wire.ok("STATUS INBOX (UIDNEXT)")
            deliver(server, user, "two and a half")
            while wire.ok("STATUS INBOX (UIDNEXT)") == before:
                pass
            wire.ok("NOOP")
            wire.ok("NOOP")
            wire.ok("LOGOUT")
        deliver(server, user, "three")
        third = device.notice()
        number = str(int(first.get("seq", 0)) + 1)
        expected = ("three", number, True) if knows else (None, None, True)
        tally.check(f"{label}: there, then away", (third.get("subject"), third.get("seq"), bool(third)), expected)

        sign_in(proxy, user).ok("LOGOUT")
        watched(proxy, label)
        proxy.kill()
        deliver(server, user, "four")
        proxy.start(fresh=False)
        fourth = device.notice()
        tally.check(f"{label}: killed", fourth.get("subject"), "four" if mode == "master" else None)
        tally.check(f"{label}: killed, and told", bool(fourth), True)
        say(f"{label}: told of {first.get('subject')}, {third.get('subject')}, and behind a kill: {fourth.get('subject', 'to sign in')}")


def leaves(server, proxy, program, folder, tally):
    """A device leaves in this way or that, and a mail comes: when it is told."""
    user, took = "u3", {}
    for number in range(4):
        deliver(server, user, f"large {number}", b"x" * 78 * 13_000)
    with contextlib.closing(Device(program, folder)) as device:
        subscribed(proxy, user, device, server.name).ok("LOGOUT")
        for way, least, most in WAYS:
            wire = sign_in(proxy, user)
            wire.ok("SELECT INBOX")
            wire.ok("NOOP")
            wire.ok("NOOP")
            began = time.monotonic()
            leave(wire, way)
            deliver(server, user, way)
            subject = device.notice().get("subject")
            took[way] = time.monotonic() - began
            tally.check(f"{server.name} leaves: {way}: told", subject, way)
            tally.check(f"{server.name} leaves: {way}: {took[way]:.2f} s, {least} to {most}", least <= took[way] <= most, True)
            wire.socket.close()
    say(f"{server.name} leaves: " + ", ".join(f"{way} {seconds:.1f} s" for way, seconds in took.items()))


def leave(wire, way):
    if way == "LOGOUT":
        wire.ok("LOGOUT")
    elif way == "reads nothing":
        # Once all buffers on the way are full, its window takes nothing any more.
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.begin(*["FETCH 1:4 BODY.PEEK[]"] * 4)
    else:
        if way == "reset":
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wire.file.close()
        wire.socket.close()


def dark(line, proxy, program, folder, tally):
    """Nothing goes through between the server and who looks after the mailbox, and neither is told."""
    user = "u4"
    with contextlib.closing(Device(program, folder)) as device:
        subscribed(proxy, user, device, line.name).ok("LOGOUT")
        line.freeze()
        began = time.monotonic()
        for number in (1, 2, 3):
            deliver(line.server, user, f"dark {number}")
        notice = device.notice()
        took = time.monotonic() - began
    found = journal(proxy, "SELECT uids FROM journal WHERE what = 'new'")
    tally.check(f"{line.name} dark: told", notice.get("subject"), "dark 3")
    tally.check(f"{line.name} dark: found", found, [("1:3",)])
    tally.check(f"{line.name} dark: {took:.2f} s", took <= 2 * (LISTENS + WAITS), True)
    say(f"{line.name} dark: told of {notice.get('subject')} after {took:.1f} s")


def dark_there(line, proxy, program, folder, tally):
    """The same under a session, too, that idles: the device is there, and is told in it."""
    with contextlib.closing(Device(program, folder)) as device:
        wire = subscribed(proxy, "u5", device, line.name)
        wire.write(b"i IDLE\r\n")
        deliver(line.server, "u5", "bright")
        while b" EXISTS" not in wire.line():
            pass
        line.freeze()
        began = time.monotonic()
        deliver(line.server, "u5", "dark")
        while b" EXISTS" not in wire.line():
            pass
        took = time.monotonic() - began
        tally.check(f"{line.name} dark, there: {took:.2f} s", took <= 2 * (LISTENS + WAITS) + LATE + WAITS, True)
        wire.write(b"DONE\r\n")
        wire.finish({b"i"})
        wire.ok("NOOP")
        wire.ok("NOOP")
        wire.ok("LOGOUT")
        deliver(line.server, "u5", "light")
        tally.check(f"{line.name} dark, there: then away", device.notice().get("subject"), "light")
    sent = journal(proxy, "SELECT COUNT(*) FROM journal JOIN account ON account.id = account WHERE name = 'u5' AND what LIKE 'sent as %'")
    tally.check(f"{line.name} dark, there: sent", sent, [(1,)])
    say(f"{line.name} dark: told in IDLE after {took:.1f} s")


def journal(proxy, question):
    with contextlib.closing(sqlite3.connect(f"file:{proxy.state / 'store.sqlite'}?mode=ro", uri=True)) as store:
        return store.execute(question).fetchall()


def subscribed(proxy, user, device, label):
    """A session of a device that wants to be told, from when somebody looks."""
    wire = sign_in(proxy, user)
    wire.ok("SELECT INBOX")
    wire.ok(f'SETMETADATA "" ({DEFAULT}/channel "UDP=EXTENDED" {DEFAULT}/address "127.0.0.1:{device.port}|{KEY}")')
    watched(proxy, label)
    return wire


def sign_in(proxy, user):
    wire = Wire(types.SimpleNamespace(host="127.0.0.1", port=proxy.port, user=user, password="pw"))
    wire.ok('ID ("device-id" "phone")')
    return wire


def deliver(server, user, subject, text=b"Romeo, where are you?"):
    """As another server would: past the proxy."""
    with imaplib.IMAP4("127.0.0.1", server.port) as direct:
        direct.login(user, "pw")
        message = f"From: Juliet <juliet@example.org>\r\nSubject: {subject}\r\n\r\n".encode() + text + b"\r\n"
        assert direct.append("INBOX", None, None, message)[0] == "OK"


def watched(proxy, label):
    """Until the proxy looks after the mailbox by itself."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        said = subprocess.run([proxy.program, "queue", "list", "--state", str(proxy.state)], capture_output=True, text=True).stdout
        if re.search(r"connected", said):
            return
        time.sleep(0.05)
    say(f"{label}: nobody looks after the mailbox")


if __name__ == "__main__":
    ended_early(main)
