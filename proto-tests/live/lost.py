#!/usr/bin/python3
"""Kills the proxy, and now and then the server, while mail comes for devices that are away, and looks whether any of it was lost.

    $ proto-tests/live/lost.py --rounds 50 --messages 20000 --seed 17
    seed 17
    50 rounds, 20143 messages for 20 devices, 61 kills of the proxy and 9 of the server
    notices heard 2201, sent again under their number 14 (0.64%); lost 0, found twice 0
    4 passed, 0 failed

`watch = "master"`: the devices never sign in. A device is a socket here: it opens what comes (MEM1), acknowledges it, and remembers
which it has. Pauses are short, so that what comes behind a notice is told by the next one at once. A message is lost if, when all is quiet,
the journal does not say that it was seen, or no notice behind that was acknowledged. It was found twice if the journal says so twice.
The Python is Debian's own, for it has python3-cryptography.
"""
import collections
import contextlib
import imaplib
import pathlib
import random
import re
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True

from emn import ID, KEY_LINE, cipher, unsealed
from stage import Stage, Tally, ended_early, options, say

USERS = 20
LONGEST = 2.5  # seconds until something is killed
SECONDS = 90  # until the last notice is given up

OUTBAND = """
[outband]
udp = true
allow = ["127.0.0.0/8"]
every = "1s"
spread = "500ms"
watch = "master"
master = {{ user = "master", password_file = "{secret}" }}

[outband.patience]
debounce = "100ms"
gather = "250ms"
pause = "250ms"
longest_pause = "250ms"
attempts = 1000000
unreacted = "365d"
"""


class Devices(threading.Thread):
    """The devices of all users, at one port: they open what comes, and acknowledge it."""

    def __init__(self):
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.sequences = set()

    def run(self):
        while True:
            datagram, sender = self.socket.recvfrom(2048)
            header, payload = unsealed(datagram)
            if payload is not None:
                self.socket.sendto(acknowledgement(header), sender)
                # One datagram may be sent several times, until it is acknowledged: those are one notice.
                self.sequences.add(header[12:20])


def acknowledgement(header):
    answer = header[:4] + bytes([0x81, 0]) + header[6:20] + int(time.time()).to_bytes(4, "big")
    return answer + cipher(1).encrypt(answer[8:20], b"", answer)


class Mail(threading.Thread):
    """Delivers until so many messages have come, as another server would: past the proxy."""

    def __init__(self, server, pick, messages, rounds):
        super().__init__(daemon=True)
        self.server, self.pick, self.messages, self.pause = server, pick, messages, rounds * LONGEST / 2 / messages
        self.last, self.count, self.quiet = collections.defaultdict(int), collections.defaultdict(int), threading.Event()

    def run(self):
        links = {}
        while sum(self.count.values()) < self.messages:
            user = f"u{self.pick.randint(1, USERS)}"
            try:
                if user not in links:
                    links[user] = imaplib.IMAP4("127.0.0.1", self.server.port, timeout=20)
                    links[user].login(user, "pw")
                for _ in range(self.pick.choice([1, 1, 1, 5, 20])):
                    self.deliver(links[user], user)
            except (OSError, imaplib.IMAP4.abort, imaplib.IMAP4.error):
                # The server was killed. What it has not said OK to may be there or not.
                links.pop(user, None)
                time.sleep(0.1)
        self.quiet.set()

    def deliver(self, link, user):
        status, words = link.append("INBOX", None, None, b"From: <juliet@example.org>\r\nSubject: one more\r\n\r\nRomeo\r\n")
        if status != "OK":
            raise imaplib.IMAP4.abort(words)
        self.last[user] = max(self.last[user], int(re.search(rb"APPENDUID \d+ (\d+)", words[0])[1]))
        self.count[user] += 1
        time.sleep(self.pause)


def main():
    parser = options(__doc__.splitlines()[0], chance=True)
    parser.set_defaults(servers="dovecot")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--messages", type=int, default=20_000)
    chosen = parser.parse_args()
    say(f"seed {chosen.seed}")
    pick, tally = random.Random(chosen.seed), Tally()
    with Stage() as stage, stage.part() as part, tempfile.TemporaryDirectory() as folder:
        secret = pathlib.Path(folder, "secret")
        secret.write_text("master-pw\n")
        server = part.server(chosen.servers.split(",")[0])
        proxy = part.proxy(server, "imap", chosen.proxy, OUTBAND.format(secret=secret))
        devices = Devices()
        devices.start()
        subscribe(proxy, devices)
        mail = Mail(server, random.Random(pick.random()), chosen.messages, chosen.rounds)
        mail.start()
        kills = rounds(chosen.rounds, pick, server, proxy)
        mail.quiet.wait()
        until = time.monotonic() + SECONDS
        while time.monotonic() < until and any(judge(proxy, mail, lambda _: None)[:2]):
            time.sleep(1)
        proxy.stop()
        say(f"{chosen.rounds} rounds, {sum(mail.count.values())} messages for {USERS} devices, {kills[0]} kills of the proxy and {kills[1]} of the server")
        lost, twice, again = judge(proxy, mail, say)
    heard = len(devices.sequences)
    share = again / max(1, heard)
    say(f"notices heard {heard}, sent again under their number {again} ({share:.2%}); lost {lost}, found twice {twice}")
    tally.check("lost", lost, 0)
    tally.check("found twice", twice, 0)
    tally.check("told again, at most 1 %", share <= 0.01, True)
    tally.check("somebody was told", heard >= USERS, True)
    say(f"{tally.passed} passed, {tally.failed} failed")
    sys.exit(1 if tally.failed else 0)


def subscribe(proxy, devices):
    """As an operator does; and until it is known what is old."""
    for number in range(1, USERS + 1):
        address = f"127.0.0.1:{devices.port}|{KEY_LINE.strip()}"
        order = ["devices", "set", f"u{number}", "phone", "--channel", "UDP=EXTENDED", "--address", address]
        subprocess.run([proxy.program, *order, "--state", str(proxy.state)], check=True, stdout=subprocess.DEVNULL)
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        said = subprocess.run([proxy.program, "queue", "list", "--state", str(proxy.state)], capture_output=True, text=True).stdout
        if said.count('"connected"') == USERS:
            return
        time.sleep(0.1)
    sys.exit("nobody looks after the mailboxes")


def rounds(count, pick, server, proxy):
    """Kills the proxy each time, and every fifth time or so the server first; how often each."""
    servers = 0
    for _ in range(count):
        time.sleep(pick.random() * LONGEST)
        if pick.random() < 0.2:
            server.kill()
            time.sleep(pick.random())
            server.serve("again")
            servers += 1
        proxy.kill()
        time.sleep(pick.random() * 0.3)
        proxy.start(fresh=False)
    return count, servers


def judge(proxy, mail, tell):
    """Messages that were not seen, or that no notice covers which its device has said to have; those that were found twice; and how
    many notices were sent once more because nobody knew what had become of them."""
    with contextlib.closing(sqlite3.connect(f"file:{proxy.state / 'store.sqlite'}?mode=ro", uri=True)) as store:
        rows = store.execute(
            "SELECT account.name, uids, seq, what FROM journal JOIN account ON account.id = journal.account ORDER BY journal.id"
        ).fetchall()
    seen, waits, sent, told, again = collections.Counter(), collections.defaultdict(set), {}, collections.defaultdict(set), 0
    for user, uids, seq, what in rows:
        if what == "new":
            new = set(numbers(uids))
            seen.update((user, uid) for uid in new)
            waits[user] |= new
        elif what.startswith("sent"):
            # It covers what was seen before it; so does the same again.
            again += (user, seq) in sent
            sent[user, seq] = sent.get((user, seq), set()) | waits[user]
        elif what == "delivered":
            told[user] |= sent.get((user, seq), set())
            waits[user] -= told[user]
    lost = 0
    for user, last in mail.last.items():
        missing = [uid for uid in range(1, last + 1) if not seen[user, uid] or uid not in told[user]]
        if missing:
            tell(f"{user}: lost {missing[:10]}, last {last}")
        lost += len(missing)
    return lost, sum(count > 1 for count in seen.values()), again


def numbers(uids):
    for part in uids.split(",") if uids else []:
        first, _, last = part.partition(":")
        yield from range(int(first), int(last or first) + 1)


if __name__ == "__main__":
    ended_early(main)
