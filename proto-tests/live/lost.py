#!/usr/bin/python3
"""Kills the proxy, and now and then the server, while mail comes for devices that are away, and looks whether any of it was lost.

    $ proto-tests/live/lost.py --rounds 50 --messages 20000 --seed 17
    seed 17
    50 rounds, 20143 messages for 20 devices, 61 kills of the proxy and 9 of the server
    notices heard 2201, sent again under their number 14 (0.64%); lost 0, found twice 0
    4 passed, 0 failed

    $ proto-tests/live/lost.py --watch linger --rounds 50 --seed 17
    seed 17
    50 rounds, 50 kills of the proxy, each while nobody of 20 was there; wake-ups heard 1000
    2 passed, 0 failed

`watch = "master"`: the devices never sign in. A device is a socket here: it opens what comes (MEM1), acknowledges it, and remembers
which it has. Pauses are short, so that what comes behind a notice is told by the next one at once. A message is lost if, when all is quiet,
the journal does not say that it was seen, or no notice behind that was acknowledged. It was found twice if the journal says so twice.
`--servers synthetic` is the backend of the bench, which keeps what has come in a file.

`watch = "linger"`: the devices sign in and go, and the proxy keeps their connections until it is killed. Then it can look no more, and asks each
of them to sign in, once.
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

from emn import KEY_LINE, cipher, unsealed
from handover import sign_in
from stage import Stage, Tally, end, ended_early, options, say, wait_for

USERS = 20
LONGEST = 8.0  # seconds until something is killed
SECONDS = 90  # until the last notice is given up
MESSAGE = b"The quick brown fox jumps over the lazy dog, a hundred times..\r\n"  # so begins what bench-backend compares

OUTBAND = """
[outband]
udp = true
allow = ["127.0.0.0/8"]
every = "1s"
spread = "500ms"
"""
# By `--watch`. What `master` has is told behind a short pause; what is told twice by `linger` shall not be told so by right.
WATCH = {
    "master": """
watch = "master"
master = {{ user = "master", password_file = "{secret}" }}
quota = {{ notices = 1000000 }}

[outband.patience]
debounce = "100ms"
gather = "250ms"
pause = "250ms"
longest_pause = "250ms"
attempts = 1000000
unreacted = "365d"
""",
    "linger": """
watch = "linger"
patience = {{ debounce = "100ms", pause = "1h" }}
""",
}


class Synthetic:
    """The backend of the bench in place of a server: it may be killed like one."""

    def __init__(self, program, folder, port):
        self.name, self.folder, self.port = "synthetic", folder, port
        self.kept, self.log = folder / "synthetic.kept", folder / "synthetic.log"
        self.kept.unlink(missing_ok=True)
        self.command = [program, "--listen", f"127.0.0.1:{port}", "--keep", self.kept]
        self.serve("start")

    def serve(self, _):
        self.process = subprocess.Popen(self.command, stdout=self.log.open("ab"), stderr=subprocess.STDOUT, start_new_session=True)
        wait_for(self.port, self.process, self.log)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        end(self.process)

    def url(self, scheme):
        return f"{scheme}://localhost:{self.port}"


class Devices(threading.Thread):
    """The devices of all users, at one port: they open what comes, and acknowledge it."""

    def __init__(self):
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        # By number of the device.
        self.sequences = collections.defaultdict(set)

    def run(self):
        while True:
            datagram, sender = self.socket.recvfrom(2048)
            header, payload = unsealed(datagram)
            if payload is not None:
                self.socket.sendto(acknowledgement(header), sender)
                # One datagram may be sent several times, until it is acknowledged: those are one notice.
                self.sequences[int.from_bytes(header[8:12])].add(header[12:20])

    def heard(self):
        """How many notices each has."""
        return [len(self.sequences[number]) for number in range(1, USERS + 1)]


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
                    # imaplib sends a message in two pieces, and the second is not to wait for an ACK of the first.
                    links[user].socket().setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    links[user].login(user, "pw")
                for _ in range(self.pick.choice([1, 1, 1, 5, 20])):
                    self.deliver(links[user], user)
            except (OSError, imaplib.IMAP4.abort, imaplib.IMAP4.error):
                # The server was killed. What it has not said OK to may be there or not.
                links.pop(user, None)
                time.sleep(0.1)
        self.quiet.set()

    def deliver(self, link, user):
        status, words = link.append("INBOX", None, None, MESSAGE)
        if status != "OK":
            raise imaplib.IMAP4.abort(words)
        self.last[user] = max(self.last[user], int(re.search(rb"APPENDUID \d+ (\d+)", words[0])[1]))
        self.count[user] += 1
        time.sleep(self.pause)


def main():
    parser = options(__doc__.splitlines()[0], chance=True)
    parser.set_defaults(servers="dovecot")
    parser.add_argument("--watch", choices=WATCH, default="master")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--messages", type=int, default=20_000)
    chosen = parser.parse_args()
    say(f"seed {chosen.seed}")
    pick, tally = random.Random(chosen.seed), Tally()
    with Stage() as stage, stage.part() as part, tempfile.TemporaryDirectory() as folder:
        secret = pathlib.Path(folder, "secret")
        secret.write_text("master-pw\n")
        server = backend(part, chosen)
        proxy = part.proxy(server, "imap", chosen.proxy, (OUTBAND + WATCH[chosen.watch]).format(secret=secret))
        devices = Devices()
        devices.start()
        subscribe(proxy, devices)
        {"master": away, "linger": lingering}[chosen.watch](chosen, pick, tally, server, proxy, devices)
    say(f"{tally.passed} passed, {tally.failed} failed")
    sys.exit(1 if tally.failed else 0)


def backend(part, chosen):
    name = chosen.servers.split(",")[0]
    if name != "synthetic":
        return part.server(name)
    server = Synthetic(pathlib.Path(chosen.proxy).with_name("bench-backend"), part.folder, part.ports()[0])
    part.callback(server.stop)
    return server


def away(chosen, pick, tally, server, proxy, devices):
    """Mail comes for devices that never sign in."""
    # Until it is known what is old.
    looked_after(proxy)
    mail = Mail(server, random.Random(pick.random()), chosen.messages, chosen.rounds)
    mail.start()
    kills = rounds(chosen.rounds, pick, server, proxy)
    mail.quiet.wait()
    wait_until(lambda: not any(judge(proxy, mail, lambda _: None)[:2]))
    proxy.stop()
    say(f"{chosen.rounds} rounds, {sum(mail.count.values())} messages for {USERS} devices, {kills[0]} kills of the proxy and {kills[1]} of the server")
    lost, twice, again = judge(proxy, mail, say)
    heard = sum(devices.heard())
    share = again / max(1, heard)
    say(f"notices heard {heard}, sent again under their number {again} ({share:.2%}); lost {lost}, found twice {twice}")
    tally.check("lost", lost, 0)
    tally.check("found twice", twice, 0)
    tally.check("told again, at most 1 %", share <= 0.01, True)
    tally.check("somebody was told", heard >= USERS, True)


def lingering(chosen, pick, tally, server, proxy, devices):
    """The devices sign in and go, and the proxy is killed."""
    # Two sessions that make a user's first INBOX at the same time may deadlock in Dovecot, which then ends one of them.
    for user in range(1, USERS + 1):
        with imaplib.IMAP4("127.0.0.1", server.port) as direct:
            direct.login(f"u{user}", "pw")
            direct.select()
    # Nobody has signed in so far.
    wait_until(lambda: devices.heard() == [1] * USERS)
    wrong, before = [], devices.heard()
    for number in range(chosen.rounds):
        for user in range(1, USERS + 1):
            wire = sign_in(proxy, f"u{user}")
            wire.ok("SELECT INBOX")
            wire.ok("LOGOUT")
        looked_after(proxy)
        time.sleep(pick.random())
        proxy.kill()
        time.sleep(pick.random() * 0.3)
        proxy.start(fresh=False)
        wait_until(lambda: all(now > then for now, then in zip(devices.heard(), before)))
        # Time for one too many.
        time.sleep(pick.random())
        woken = [now - then for now, then in zip(devices.heard(), before)]
        wrong += [f"round {number}, u{user}: {times}" for user, times in enumerate(woken, 1) if times != 1]
        before = devices.heard()
    say(f"{chosen.rounds} rounds, {chosen.rounds} kills of the proxy, each while nobody of {USERS} was there; wake-ups heard {sum(before) - USERS}")
    tally.check("one wake-up of each device behind each kill", wrong, [])
    tally.check("wake-ups", sum(before) - USERS, chosen.rounds * USERS)


def subscribe(proxy, devices):
    """As an operator does."""
    for number in range(1, USERS + 1):
        address = f"127.0.0.1:{devices.port}|{number:08x}:{KEY_LINE.strip().partition(':')[2]}"
        order = ["devices", "set", f"u{number}", "phone", "--channel", "UDP=EXTENDED", "--address", address]
        subprocess.run([proxy.program, *order, "--state", str(proxy.state)], check=True, stdout=subprocess.DEVNULL)


def looked_after(proxy):
    """Until somebody looks after the mailboxes of all."""
    command = [proxy.program, "queue", "list", "--state", str(proxy.state)]
    if not wait_until(lambda: subprocess.run(command, capture_output=True, text=True).stdout.count('"connected"') == USERS):
        sys.exit("nobody looks after the mailboxes")


def wait_until(reached):
    """Whether it was, in time."""
    until = time.monotonic() + SECONDS
    while not reached():
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


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
