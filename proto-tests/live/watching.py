#!/usr/bin/env python3
"""Who looks after mailboxes while nobody is there, where that is not as simple as in handover.py: before Dovecot.

    $ proto-tests/live/watching.py
    sealed: watched (sealed); behind a kill told of two; with another password asleep
    left: told of what came behind LOGOUT, behind IDLE, and behind a look
    ...
    12 passed, 0 failed

`sealed`: the secret is kept, and outlives a kill; one that is refused does not. `left`: the client logs in by CRAM-MD5, so that nobody else could:
the connection that it leaves behind is gone on with.
"""
import base64
import contextlib
import hmac
import imaplib
import os
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True

from handover import DEFAULT, KEY, OUTBAND, SECONDS, Device, deliver, sign_in, watched
from stage import Stage, Tally, ended_early, options, say

WATCH = "/private/vendor/lemonade/notify/watch"


def main():
    chosen = options(__doc__.splitlines()[0]).parse_args()
    tally = Tally()
    with Stage() as stage, tempfile.TemporaryDirectory() as folder, stage.part() as part:
        server = part.server("dovecot")
        sealed(part, server, chosen.proxy, folder, tally)
        left(part, server, chosen.proxy, folder, tally)
    say(f"{tally.passed} passed, {tally.failed} failed")
    sys.exit(1 if tally.failed or not tally.passed else 0)


def provision(wire, device, more=""):
    wire.ok("SELECT INBOX")
    address = f"127.0.0.1:{device.port}|{KEY}"
    wire.ok(f'SETMETADATA "" ({DEFAULT}/channel "UDP=EXTENDED" {DEFAULT}/address "{address}"{more})')


def status(wire):
    """What the device reads of how it stands."""
    lines = wire.ok(f'GETMETADATA "" {WATCH}/status')
    return next((line.split(b'"')[3].decode() for line in lines if b"watch/status" in line and line.startswith(b"*")), "")


def sealed(part, server, program, folder, tally):
    key = f"{folder}/seal.key"
    with open(key, "wb") as file:
        file.write(base64.b64encode(os.urandom(32)) + b"\n")
    more = OUTBAND.format(watch=f'watch = "sealed"\nseal_key_file = "{key}"')
    proxy = part.proxy(server, "imap", program, more)
    with contextlib.closing(Device(program, folder)) as device:
        wire = sign_in(proxy, "u1")
        provision(wire, device, f' {WATCH}/mode "sealed"')
        watched(proxy, "sealed")
        tally.check("sealed: status", status(wire), "watched (sealed)")
        tally.check("sealed: it is read only", b"NO" in wire.say(f'SETMETADATA "" ({WATCH}/status "x")')[1], True)
        wire.ok("LOGOUT")
        deliver(server, "u1", "one")
        first = device.notice()
        tally.check("sealed: away", first.get("subject"), "one")
        # Who has been told and does not react is told again after an hour.
        react(proxy)
        proxy.kill()
        deliver(server, "u1", "two")
        proxy.start(fresh=False)
        second = device.notice()
        tally.check("sealed: behind a kill", second.get("subject"), "two")
        stored = b"".join(open(entry.path, "rb").read() for entry in os.scandir(proxy.state) if entry.name.startswith("store"))
        tally.check("sealed: what is stored does not show it", b"\0pw" in stored, False)

        react(proxy)
        proxy.kill()
        passwords(server, "other")
        proxy.start(fresh=False)
        asleep = device.notice()
        tally.check("sealed: with another password", (bool(asleep), asleep.get("subject")), (True, None))
        passwords(server, "pw")
        wire = sign_in(proxy, "u1")
        watched(proxy, "sealed")
        tally.check("sealed: signed in again", status(wire), "watched (sealed)")
        say(f"sealed: watched; behind a kill told of {second.get('subject')}; with another password asleep")
    proxy.stop()


def react(proxy):
    """The device signs in, and that is known."""
    sign_in(proxy, "u1").ok("LOGOUT")
    wait_until(lambda: '"state": "SENT"' not in queue(proxy))


def wait_until(fact):
    until = time.monotonic() + SECONDS
    while not fact() and time.monotonic() < until:
        time.sleep(0.02)


def passwords(server, word):
    with open(server.folder / server.name / "passwd") as file:
        lines = file.read().splitlines()
    with open(server.folder / server.name / "passwd", "w") as file:
        file.writelines(line.split(":")[0] + ":{PLAIN}" + word + "\n" for line in lines)


class Cram:
    """A client whose secret the proxy never sees."""

    def __init__(self, proxy, user):
        self.session = imaplib.IMAP4("127.0.0.1", proxy.port, timeout=30)
        answer = lambda challenge: f"{user} {hmac.new(b'pw', challenge, 'md5').hexdigest()}"
        assert self.session.authenticate("CRAM-MD5", answer)[0] == "OK"
        self.ok('ID ("device-id" "phone")')

    def ok(self, line):
        name, _, rest = line.partition(" ")
        imaplib.Commands.setdefault(name, ("AUTH", "SELECTED"))
        status, _ = self.session._simple_command(name, *([rest] if rest else []))
        assert status == "OK", line

    def idle(self):
        self.session.send(b"i IDLE\r\n")
        while not self.session.readline().startswith(b"+"):
            pass

    def drop(self):
        self.session.shutdown()


def queue(proxy):
    return subprocess.run([proxy.program, "queue", "list", "--state", str(proxy.state)], capture_output=True, text=True).stdout


def left(part, server, program, folder, tally):
    proxy = part.proxy(server, "imap", program, OUTBAND.format(watch=""))
    with contextlib.closing(Device(program, folder)) as device:
        cram = Cram(proxy, "u2")
        provision(cram, device)
        # What a session leaves is taken where somebody takes it.
        wait_until(lambda: '"present": true' in queue(proxy))
        told = []
        cram.session.logout()
        for number, leave in enumerate([None, Cram.idle, lambda cram: cram.ok("NOOP")]):
            if leave:
                cram = Cram(proxy, "u2")
                cram.ok("SELECT INBOX")
                cram.ok("NOOP")
                leave(cram)
                cram.drop()
            watched(proxy, "left")
            deliver(server, "u2", f"left {number}")
            notice = device.notice()
            told.append(notice.get("subject"))
        tally.check("left: told", told, ["left 0", "left 1", "left 2"])
        say(f"left: told of {', '.join(map(str, told))}")
    proxy.stop()


if __name__ == "__main__":
    ended_early(main)
