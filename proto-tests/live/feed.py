#!/usr/bin/env python3
"""The feed: a receiver of Python's own verifies what the proxy tells it of events, while answers are lost and the proxy is killed.

    $ proto-tests/live/feed.py --rounds 6 --seed 17
    seed 17
    6 rounds, 911 mailboxes created, 933 events, 190 of them again, 5 kills; 2 untold, the oldest of 12 ms before a kill
    17 passed, 0 failed

Clients create mailboxes. The receiver takes numbers without a gap, checks each signature by itself, and answers late, in part, or not at all.
After SIGKILL and a new start each mailbox that was answered OK must have been told once, but for the moment before the kill in which an
event is on its way to the disk. What comes again must be the same under the same number. An event that the receiver refuses, and those
that it has forgotten with its own memory, are declared lost.
"""
import base64
import hashlib
import hmac
import http.server
import json
import pathlib
import random
import signal
import socket
import sys
import tempfile
import threading
import time
import types
import urllib.request

sys.dont_write_bytecode = True

from handover import deliver, sign_in, watched
from stage import HERE, Stage, Tally, ended_early, options, say

sys.path.insert(0, str(HERE / "clients"))
from account import Wire

SECRET = b"0123456789abcdef0123456789abcdef"
USERS = 3
WINDOW = 1.0  # seconds before a kill in which an event may not be on the disk yet; it is milliseconds, on a machine that does nothing else
SECONDS = 30  # until something is given up
LOST = "vnd.lemonade.Lost"

CONFIG = """
[feed]
url = "http://127.0.0.1:{port}/v1/notifications"
secret_file = "{folder}/feed.secret"
source = "imap1.example.org"
batch = {{ events = 40 }}

[outband]
udp = true
watch = "master"
master = {{ user = "master", password_file = "{folder}/master" }}
allow = ["127.0.0.0/8"]
every = "1s"
spread = "0s"

[drain]
spread = "500ms"
"""


class Receiver:
    """What was told, number by number, and what is answered."""

    def __init__(self, pick):
        self.pick, self.is_calm, self.refuses = pick, False, None
        self.told, self.stream, self.again, self.wrong = {}, None, 0, []
        self.lock = threading.Lock()

    def hear(self, headers, body):
        """Status and answer; None: the connection is to be closed."""
        with self.lock:
            if not signed(headers, body):
                self.wrong.append("a signature that is none")
                return 401, {}
            batch = json.loads(body)
            self.stream = self.stream or batch["stream"]
            self.look(headers, batch)
            chance = 1 if self.is_calm else self.pick.random()
            if chance < 0.1:
                return 503, {}
            expected = max(self.told, default=0) + 1
            if batch["first"] > expected:
                return 409, {"expected": expected}
            errors, events = [], batch["events"]
            for event in events[: len(events) // 2 + 1] if chance < 0.2 else events:
                if event.get("mailbox") and event["mailbox"] == self.refuses:
                    errors = [{"seq": event["seq"], "class": "request", "code": "unknown-user", "retry": False}]
                    break
                self.take(event)
            return None if 0.2 < chance < 0.3 else (200, {"stream": batch["stream"], "acked": max(self.told, default=0), "errors": errors})

    def look(self, headers, batch):
        """What must hold of every batch."""
        events = batch["events"]
        for name, found, good in [
            ("type", headers["Content-Type"], headers["Content-Type"] == "application/vnd.lemonade.events+json"),
            ("key", headers["Idempotency-Key"], headers["Idempotency-Key"] == headers["webhook-id"]),
            ("source", batch["source"], batch["source"] == "imap1.example.org"),
            ("stream", batch["stream"], batch["stream"] == self.stream),
            ("first", batch["first"], bool(events) and batch["first"] == events[0]["seq"]),
            ("size", len(events), 1 <= len(events) <= 40),
            ("order", [event["seq"] for event in events], all(b["seq"] == a.get("to", a["seq"]) + 1 for a, b in zip(events, events[1:]))),
            ("action", events, all("action" in event and event["inform"] == [event["user"]] for event in events if event["event"] != LOST)),
        ]:
            if not good:
                self.wrong.append(f"{name}: {found}")

    def take(self, event):
        for number in range(event["seq"], event.get("to", event["seq"]) + 1):
            known = self.told.setdefault(number, event)
            if known is not event:
                self.again += 1
            # One number, one content; but that it may have been forgotten since.
            if known != event and event["event"] != LOST:
                self.wrong.append(f"{number} was {known}, and is {event}")

    def forget(self, count):
        """Begins again with an older copy of its memory."""
        with self.lock:
            for number in sorted(self.told)[-count:]:
                del self.told[number]

    def events(self, what):
        with self.lock:
            return [event for _, event in sorted(self.told.items()) if event["event"] == what]

    def names(self):
        return {event["mailbox"] for event in self.events("MailboxCreate")}

    def until(self, found):
        """Until this is so; whether it is."""
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            if found():
                return True
            time.sleep(0.05)
        return False

    def serve(self):
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                answer = receiver.hear(self.headers, self.rfile.read(int(self.headers["Content-Length"])))
                if answer is None:
                    self.close_connection = True
                    return self.connection.shutdown(socket.SHUT_RDWR)
                status, words = answer
                octets = json.dumps(words).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(octets)))
                self.end_headers()
                self.wfile.write(octets)

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        # A proxy that is killed says no good-bye.
        server.handle_error = lambda *_: None
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server.server_port


def signed(headers, body):
    """Standard Webhooks, by the text of it."""
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = "v1," + base64.b64encode(hmac.new(SECRET, content, hashlib.sha256).digest()).decode()
    fresh = abs(time.time() - int(headers["webhook-timestamp"])) < 300
    return fresh and any(hmac.compare_digest(expected, one) for one in headers["webhook-signature"].split(" "))


class Writer:
    """One connection after the other, and the mailboxes that it was told are there, with the moment."""

    def __init__(self, number):
        self.user, self.number, self.count, self.created = f"u{number + 1}", number, 0, []

    def write(self, port):
        """Until the connection is gone."""
        try:
            wire = Wire(types.SimpleNamespace(host="127.0.0.1", port=port, user=self.user, password="pw"))
            while True:
                self.create(wire, f"feed-{self.number}-{self.count}")
        except (OSError, SystemExit):
            return

    def create(self, wire, name):
        self.count += 1
        if wire.say(f'CREATE "{name}"')[1].startswith(b"OK"):
            self.created.append((name, time.monotonic()))
        time.sleep(0.02)


def main():
    parser = options(__doc__.splitlines()[0], chance=True)
    parser.set_defaults(servers="dovecot")
    parser.add_argument("--rounds", type=int, default=6, help="between them the proxy is killed")
    chosen = parser.parse_args()
    say(f"seed {chosen.seed}")
    pick, tally = random.Random(chosen.seed), Tally()
    receiver, writers, kills = Receiver(random.Random(pick.random())), [Writer(number) for number in range(USERS)], []
    with Stage() as stage, stage.part() as part, tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "feed.secret").write_text("whsec_" + base64.b64encode(SECRET).decode() + "\n")
        pathlib.Path(folder, "master").write_text("master-pw\n")
        server = part.server(chosen.servers.split(",")[0])
        proxy = part.proxy(server, "imap", chosen.proxy, CONFIG.format(port=receiver.serve(), folder=folder))
        for left in reversed(range(chosen.rounds)):
            threads = [threading.Thread(target=writer.write, args=[proxy.port], daemon=True) for writer in writers]
            for thread in threads:
                thread.start()
            time.sleep(0.5 + pick.random())
            # The configuration is read again, and nothing changes.
            proxy.process.send_signal(signal.SIGHUP)
            time.sleep(0.5 + pick.random())
            if left:
                proxy.kill()
            else:
                # The last end is one that lets everybody say good-bye: nothing is on its way then.
                proxy.stop()
            for thread in threads:
                thread.join(20)
            # Behind the last OK that a client has read.
            kills += [time.monotonic()] * bool(left)
            proxy.start(fresh=False)
        receiver.is_calm = True
        # What is told behind all the others.
        sign_in(proxy, "u4").ok('CREATE "last"')
        tally.check("told in the end", receiver.until(lambda: "last" in receiver.names()), True)
        judge(receiver, writers, kills, chosen.rounds, tally)
        refused(proxy, receiver, tally)
        forgotten(proxy, receiver, tally)
        away(server, proxy, receiver, tally)
        tally.check("wrong", receiver.wrong, [])
        tally.check("the proxy", proxy.fault(), None)
    say(f"{tally.passed} passed, {tally.failed} failed")
    sys.exit(1 if tally.failed or not tally.passed else 0)


def waiting(proxy):
    """How many events the proxy has that nobody took, by its own word."""
    with urllib.request.urlopen(f"http://127.0.0.1:{proxy.admin_port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return next(int(float(line.split(" ")[1])) for line in lines if line.startswith("lemonade_feed_waiting "))


def judge(receiver, writers, kills, rounds, tally):
    """Whether all has come, in its order, each once."""
    told = receiver.events("MailboxCreate")
    tally.check("numbers", sorted(receiver.told), list(range(1, len(receiver.told) + 1)))
    tally.check("declared lost", receiver.events(LOST), [])
    tally.check("logins", len(receiver.events("Login")) >= rounds * USERS, True)
    tally.check("logouts", len(receiver.events("Logout")) >= USERS, True)
    untold = []
    for writer in writers:
        names = [event["mailbox"] for event in told if event["user"] == writer.user]
        created = {name: moment for name, moment in writer.created}
        tally.check(f"{writer.user}: once, in order", names, sorted(set(names), key=lambda name: int(name.split("-")[2])))
        untold += [(name, moment) for name, moment in created.items() if name not in set(names)]
    ages = [min((kill - moment for kill in kills if kill > moment), default=SECONDS) for _, moment in untold]
    late = {name: age for (name, _), age in zip(untold, ages)}
    tally.check("untold", {name: age for name, age in late.items() if age > WINDOW}, {})
    say(f"{rounds} rounds, {sum(len(writer.created) for writer in writers)} mailboxes created, {len(receiver.told)} events, {receiver.again} of them again, "
        f"{len(kills)} kills; {len(untold)} untold, the oldest of {1000 * max(ages, default=0):.0f} ms before a kill")


def refused(proxy, receiver, tally):
    """One that the receiver does not want is not sent again; another stands for it, and what is behind it goes on."""
    receiver.refuses = "refused"
    wire = sign_in(proxy, "u1")
    for name in ("refused", "behind"):
        wire.ok(f'CREATE "{name}"')
    tally.check("behind a refusal", receiver.until(lambda: "behind" in receiver.names()), True)
    tally.check("for the refused", [event["to"] - event["from"] for event in receiver.events(LOST)], [0])
    wire.ok("LOGOUT")


def forgotten(proxy, receiver, tally):
    """A receiver that has lost its last five is told that nobody has them any more."""
    receiver.until(lambda: waiting(proxy) == 0)
    last = max(receiver.told)
    receiver.forget(5)
    wire = sign_in(proxy, "u2")
    wire.ok("LOGOUT")
    gone = lambda: [(event["from"], event["to"]) for event in receiver.events(LOST)]
    tally.check("for the forgotten", receiver.until(lambda: (last - 4, last) in gone()), True)
    tally.check("behind the forgotten", receiver.until(lambda: max(receiver.told) >= last + 2), True)


def away(server, proxy, receiver, tally):
    """What comes while nobody is there is told too, where somebody looks after the mailbox."""
    wire = sign_in(proxy, "u9")
    default = "/private/vendor/lemonade/notify/default"
    wire.ok(f'SETMETADATA "" ({default}/channel "UDP=WAKEUP" {default}/address "127.0.0.1:9")')
    watched(proxy, "feed")
    wire.ok("LOGOUT")
    deliver(server, "u9", "one")
    found = lambda: [event for event in receiver.events("MessageNew") if event["user"] == "u9"]
    tally.check("while away", receiver.until(found), True)
    tally.check("while away: what", [(event["mailbox"], event["action"], "uidset" in event) for event in found()][:1], [("INBOX", "alert", True)])


if __name__ == "__main__":
    ended_early(main)
