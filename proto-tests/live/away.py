#!/usr/bin/env python3
"""Devices of one account come and go at random while mail arrives, and each must hear of all of it once: inband or by UDP.

    $ proto-tests/live/away.py --steps 80 --seed 105
    seed 105, watch linger
    80 steps, 36 messages for 3 devices: 49 read inband, 41 notices; told both ways at most 0.00 s behind one another
    3 passed, 0 failed

A step: mail comes, time passes, or a device does something: signs in, asks, idles, says DONE or LOGOUT, closes the connection or resets it,
says nothing for longer than it counts as there, or does not read what it is told. What it was told it has read when it has read it; that
this is *proven* to the proxy is less: it spoke again a second later, or twice.

Never silent: no message is older than all times of patience together, that a device has not read and that no notice covers; nor, once it
has gone, one that it has not proven to have read. Never both: no notice comes to a device that is in IDLE for two seconds, nor one
that covers only what it has proven two seconds ago.
"""
import contextlib
import imaplib
import random
import re
import select
import shlex
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True

from handover import KEY, MASTER, Device, watched
from stage import Stage, Tally, ended_early, options, say

DEVICES = 3
USER = "u1"

OUTBAND = """
[outband]
udp = true
allow = ["127.0.0.0/8"]
every = "500ms"
spread = "0s"
quota = {{ notices = 1000000 }}
{watch}

[outband.patience]
debounce = "100ms"
gather = "250ms"
pause = "250ms"
longest_pause = "250ms"
attempts = 1000000
unreacted = "365d"

[outband.presence]
silence = "4s"
unacknowledged = "2s"
grace_closed = "500ms"
grace_broken = "1s"
"""
# Silence and the longest grace, what is gathered, a pause, and a machine with much to do.
MOST_SILENT = 4 + 1 + 0.25 + 0.3 + 4
OVERLAP = 2.0
# Longer than the proxy needs to take what a client says for said behind what it was told.
LATER = 1.2


def main():
    parser = options(__doc__.splitlines()[0], chance=True)
    parser.set_defaults(servers="dovecot")
    parser.add_argument("--steps", type=int, default=100)
    chosen = parser.parse_args()
    pick, tally = random.Random(chosen.seed), Tally()
    mode = pick.choice(["master", "linger"])
    say(f"seed {chosen.seed}, watch {mode}")
    with Stage() as stage, stage.part() as part, tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/secret", "w") as file:
            file.write("master-pw\n")
        server = part.server(chosen.servers.split(",")[0])
        watch = MASTER.format(f"{folder}/secret") if mode == "master" else ""
        proxy = part.proxy(server, "imap", chosen.proxy, OUTBAND.format(watch=watch))
        world = World(pick, server, proxy, chosen.proxy, folder)
        with contextlib.closing(world):
            world.begin()
            for _ in range(chosen.steps):
                world.step()
            world.lull(1)
        fault = proxy.fault()
    read, notices = (sum(getattr(phone, what) for phone in world.phones) for what in ("reads", "notices"))
    say(f"{chosen.steps} steps, {len(world.arrived)} messages for {DEVICES} devices: {read} read inband, {notices} notices; "
        f"told both ways at most {max(phone.overlap for phone in world.phones):.2f} s behind one another")
    for line in world.wrong[:5]:
        say(line)
    if world.wrong:
        say("\n  ".join(["the end of what happened:", *world.log[-60:]]))
    tally.check("silent, or both", world.wrong, [])
    tally.check("both ways were walked", read > 0 and notices > 0, True)
    tally.check("the proxy runs", fault, None)
    say(f"{tally.passed} passed, {tally.failed} failed")
    sys.exit(1 if tally.failed else 0)


class World:
    """One account, its mail and its devices."""

    def __init__(self, pick, server, proxy, program, folder):
        self.pick, self.server, self.proxy, self.program = pick, server, proxy, program
        self.arrived, self.log, self.wrong = {}, [], []
        self.phones = [Phone(self, f"phone{number}", program, folder) for number in range(DEVICES)]

    def begin(self):
        """Each device has a route, and somebody looks after the mailbox before the first mail comes."""
        for phone in self.phones:
            order = ["devices", "set", USER, phone.name, "--channel", "UDP=EXTENDED", "--address", f"127.0.0.1:{phone.device.port}|{KEY}"]
            subprocess.run([self.program, *order, "--state", str(self.proxy.state)], check=True, stdout=subprocess.DEVNULL)
            phone.sign_in()
        watched(self.proxy, "walk")

    def close(self):
        for phone in self.phones:
            phone.close()

    def note(self, line):
        self.log.append(f"{time.monotonic() % 10000:.3f} {line}")

    def step(self):
        match self.pick.randrange(24):
            case 0:
                self.lull(self.pick.random())
            case 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8:
                self.mail(self.pick.choice([1, 1, 1, 3]))
            case 9 | 10 | 11:
                self.listen(self.pick.random() * self.pick.choice([0.3, 1, 1, 6]))
            case _:
                self.pick.choice(self.phones).move(self.pick)
        self.listen(self.pick.random() * 0.2)
        self.look()

    def lull(self, share):
        """Of the last mail some devices are told, some do not read that, this share of them leaves: and no later mail tells them of it."""
        for phone in self.phones:
            if phone.idles_since and self.pick.random() < 0.5:
                phone.deaf = True
        self.mail(1)
        self.listen(self.pick.random())
        for phone in self.phones:
            if phone.deaf or self.pick.random() < share:
                phone.leave(self.pick)
        self.listen(MOST_SILENT + 0.5, until=lambda: all(phone.knows() >= len(self.arrived) for phone in self.phones))
        self.look()

    def mail(self, count):
        """As another server would: past the proxy."""
        with imaplib.IMAP4("127.0.0.1", self.server.port) as direct:
            direct.login(USER, "pw")
            for _ in range(count):
                message = f"From: Juliet <juliet@example.org>\r\nSubject: m{len(self.arrived) + 1}\r\n\r\nRomeo, where are you?\r\n"
                status, words = direct.append("INBOX", None, None, message.encode())
                assert status == "OK", words
                uid = int(re.search(rb"APPENDUID \d+ (\d+)", words[0])[1])
                self.arrived[uid] = time.monotonic()
                self.note(f"mail {uid}")

    def listen(self, seconds, until=lambda: False):
        """Hears what devices are told, for so long or until something is so."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not until():
            links = {phone.link: phone for phone in self.phones if phone.link and not phone.deaf}
            for link in select.select(list(links), [], [], min(left, 0.05))[0]:
                links[link].hear()
            for phone in self.phones:
                phone.take_notices()

    def look(self):
        now = time.monotonic()
        for phone in self.phones:
            for uid, at in self.arrived.items():
                # What a device has that does not read, nobody can say, until it has gone.
                late = not phone.deaf and now - max(at, phone.went) > MOST_SILENT
                if late and uid > phone.knows():
                    where = "there" if phone.link else "away"
                    self.wrong.append(f"{now % 10000:.3f} {phone.name}, {where}, was not told of {uid}: it knows up to {phone.knows()}")


class Phone:
    """A device: its session, if it has one, and what it was told in which way."""

    def __init__(self, world, name, program, folder):
        self.world, self.name, self.device = world, name, Device(program, folder)
        self.link, self.held, self.number, self.ended = None, b"", 0, set()
        self.deaf, self.idles_since, self.went = False, None, 0.0
        # Up to which UID it was told in this session, when, and how often it has spoken since.
        self.told, self.told_at, self.answers = 0, 0.0, 0
        # Up to which UID it has read, has perhaps proven that, was told by a notice; and what was proven, for that was answered, and when.
        self.read, self.said, self.noticed, self.proofs = 0, 0, 0, []
        self.reads, self.notices, self.overlap, self.heard = 0, 0, 0.0, []
        threading.Thread(target=self.receive, daemon=True).start()

    def close(self):
        self.cut(False)
        self.device.close()

    def knows(self):
        """Up to which UID it was told; what it has only read before it went it may not have."""
        return max(self.read if self.link else self.said, self.noticed)

    def receive(self):
        for line in self.device.process.stdout:
            word, *rest = shlex.split(line.decode())
            if word == "notice":
                self.heard.append((time.monotonic(), dict(part.split("=", 1) for part in rest if "=" in part)))

    def take_notices(self):
        while self.heard:
            at, words = self.heard.pop(0)
            uid = int(words.get("uid", 0))
            self.world.note(f"{self.name} has notice {words.get('seq')} of {uid}")
            self.notices += 1
            self.noticed = max(self.noticed, uid)
            idles = at - self.idles_since if self.idles_since else 0.0
            proven = [at - since for least, since in self.proofs if least >= uid]
            self.overlap = max([self.overlap, *proven])
            if idles > OVERLAP or any(ago > OVERLAP for ago in proven):
                state = f"in IDLE for {idles:.2f} s, proven before {proven}"
                self.world.wrong.append(f"{at % 10000:.3f} {self.name} was told of {uid} by a notice: {state}")

    def move(self, pick):
        """Does something that it can do now."""
        if not self.link:
            self.sign_in()
            if pick.random() < 0.6:
                self.idle()
        elif self.deaf:
            # It never does, or it reads again.
            if pick.random() < 0.5:
                self.cut(True)
            else:
                self.deaf, self.went = False, time.monotonic()
                self.world.note(f"{self.name} reads again")
        elif pick.random() < 0.35:
            self.leave(pick)
        elif self.idles_since:
            if pick.random() < 0.3:
                self.deaf = True
                self.world.note(f"{self.name} does not read")
            else:
                self.done()
                if pick.random() < 0.5:
                    self.idle()
        else:
            self.idle() if pick.random() < 0.6 else self.ask("NOOP")

    def leave(self, pick):
        if not self.link:
            return
        how = pick.choice(["LOGOUT", "close", "reset"])
        if how == "LOGOUT" and not self.deaf:
            if self.idles_since:
                self.done()
            self.ask("LOGOUT")
        self.cut(how == "reset" or self.deaf)

    def sign_in(self):
        self.link = socket.create_connection(("127.0.0.1", self.world.proxy.port), timeout=20)
        self.held, self.told = b"", 0
        self.world.note(f"{self.name} connects")
        for command in [f"LOGIN {USER} pw", f'ID ("device-id" "{self.name}")', "SELECT INBOX"]:
            self.ask(command)

    def ask(self, command):
        """Says it, and listens until it is answered."""
        self.number += 1
        tag = b"w%d" % self.number
        self.speak(tag + b" " + command.encode() + b"\r\n")
        self.world.listen(20, until=lambda: tag in self.ended or not self.link)
        assert tag in self.ended, f"{self.name}: no answer to {command}; {self.world.log[-20:]}"

    def idle(self):
        self.number += 1
        self.speak(b"w%d IDLE\r\n" % self.number)
        self.world.listen(20, until=lambda: self.idles_since or not self.link)
        assert self.idles_since, f"{self.name}: no IDLE"

    def done(self):
        tag, self.idles_since = b"w%d" % self.number, None
        self.speak(b"DONE\r\n")
        self.world.listen(20, until=lambda: tag in self.ended or not self.link)

    def speak(self, octets):
        self.world.note(f"{self.name} C: {octets.decode().strip()}")
        self.answers += 1
        if self.answers >= 2 or time.monotonic() - self.told_at >= LATER:
            self.said = max(self.said, self.told)
        self.link.sendall(octets)

    def hear(self):
        try:
            octets = self.link.recv(1 << 16)
        except ConnectionResetError:
            octets = b""
        if not octets:
            return self.cut(False)
        *lines, self.held = (self.held + octets).split(b"\r\n")
        for line in lines:
            if found := re.match(rb"\* (\d+) EXISTS", line):
                # Nothing is ever removed: UIDs are numbers.
                count = int(found[1])
                self.world.note(f"{self.name} S: {line.decode()}")
                if count > self.told:
                    self.reads += max(0, count - max(self.read, self.noticed))
                    self.read, self.told, self.told_at, self.answers = max(self.read, count), count, time.monotonic(), 0
            elif line.startswith(b"+ "):
                self.idles_since = time.monotonic()
            elif line.startswith(b"w"):
                self.ended.add(line.split()[0])
                if self.said > max([0, *(least for least, _ in self.proofs)]):
                    self.proofs.append((self.said, time.monotonic()))

    def cut(self, resets):
        if self.link is None:
            return
        self.world.note(f"{self.name} {'resets' if resets else 'closes'}")
        if resets:
            self.link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.link.close()
        self.link, self.deaf, self.idles_since, self.went = None, False, None, time.monotonic()


if __name__ == "__main__":
    ended_early(main)
