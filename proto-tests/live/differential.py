#!/usr/bin/env python3
"""Differential: generated and recorded sessions, once directly and once through the proxy, must read the same octet for octet.

    $ proto-tests/live/differential.py --servers dovecot --commands 20000 --seed 7

Each of several workers owns two equal accounts on one server and says the same commands to both: directly to one, through the proxy to
the other. Several commands go out in one write where RFC 3501 5.5 allows it. After every group the two answers are compared, but for the
differences declared in quirks.py. `--against direct` compares the server with itself, the second way cut at random into small writes: what
differs then is the server's own. The seed is printed; the same seed and number of commands say the same.
"""
import collections
import contextlib
import imaplib
import multiprocessing
import queue
import random
import re
import socket
import sys
import time

from generate import Account, Command, Generator
from quirks import OURS, QUIRKS
from stage import HERE, SERVERS, Stage, ended_early, options, say, shown

SHARES = {"dovecot": 56, "dovecot-legacy": 30, "courier": 5, "cyrus": 7, "mailutils": 2}  # of the commands, in percent: the fast bear more
WORKERS = {"dovecot": 3, "dovecot-legacy": 2, "courier": 2, "cyrus": 2, "mailutils": 1}
SESSION = 400  # commands between login and logout
SECONDS = 30  # without an answer
FAULTS = 3  # after so many a worker gives up
RECORDINGS = sorted((HERE / "sessions").glob("*.imap"))  # made with relay.py, of clients before Dovecot with few capabilities
RECORDED = 29  # the accounts that the recordings use, this and the next


def main():
    parser = options(__doc__.splitlines()[0], chance=True)
    parser.add_argument("--commands", type=int, default=100_000, help="how many at least, over all servers")
    chosen = parser.parse_args()
    servers = [name for name in SERVERS if name in chosen.servers.split(",")]
    say(f"differential: seed {chosen.seed}, {chosen.commands} commands, against {chosen.against}")
    with Stage() as stage:
        totals = run(stage, servers, chosen)
    if totals["commands"] < chosen.commands and not totals["failed"]:
        say(f"only {totals['commands']} of {chosen.commands} commands were said")
        totals["failed"] += 1
    say(f"differential: {totals['commands']} commands, seed {chosen.seed}, {totals['ended']} sessions ended by the server, alike")
    say(f"{totals['passed']} passed, {totals['failed']} failed, 0 skipped")
    sys.exit(1 if totals["failed"] or not totals["passed"] else 0)


def run(stage, servers, chosen):
    """All workers of all servers at once; what they count, by name."""
    with contextlib.ExitStack() as stack:
        news, workers, proxies = multiprocessing.Queue(), [], []
        whole = sum(SHARES[name] for name in servers)
        for index, name in enumerate(servers):
            part = stack.enter_context(stage.part(index))
            server = part.server(name)
            way = server if chosen.against == "direct" else part.proxy(server, "imap", chosen.proxy)
            proxies += [way] if way is not server else []
            quota = -(-chosen.commands * SHARES[name] // whole // WORKERS[name])
            for number in range(WORKERS[name]):
                worker = Worker(name, number, server.port, way.port, way is server, chosen.seed, quota, server.folder / name, news)
                workers.append(multiprocessing.Process(target=worker.run, daemon=True))
        stack.callback(lambda: [worker.kill() for worker in workers])
        for worker in workers:
            worker.start()
        totals = collect(news, workers)
        for proxy in proxies:
            if fault := proxy.fault():
                say(f"{proxy.server.name}: {fault}")
                totals["failed"] += 1
            else:
                say(f"{proxy.server.name}: the proxy used {proxy.processor_time():.1f} s of CPU")
    return totals


def collect(news, workers):
    """Adds up what the workers report, and says every ten seconds how far they are."""
    totals, began, spoken = collections.Counter(), time.monotonic(), 0
    while True:
        alive = any(worker.is_alive() for worker in workers)
        with contextlib.suppress(queue.Empty):
            what, words = news.get(timeout=1)
            if what == "say":
                say(words)
            else:
                totals[what] += words
            continue
        if not alive:
            break
        spent = time.monotonic() - began
        if spent - spoken > 10:
            spoken = spent
            say(f"  {spent:4.0f} s  {totals['commands']} commands, {totals['passed']} sessions alike, {totals['failed']} not")
    totals["failed"] += sum(worker.exitcode != 0 for worker in workers)
    return totals


class Worker:
    """Two equal accounts on one server, and what is said to both."""

    def __init__(self, server, number, direct, other, cut, seed, quota, logs, news):
        self.server, self.number, self.ports, self.cut, self.quota, self.news = server, number, (direct, other), cut, quota, news
        self.logs = logs
        self.random = random.Random(f"{seed}/{server}/{number}")
        self.quirks = QUIRKS[server]
        self.account, self.users, self.confessed, self.worn = Account(), (), 0, collections.Counter()
        self.history = collections.deque(maxlen=12)

    def run(self):
        said = faults = 0
        for file in RECORDINGS if self.number == 0 else []:
            self.attempt(self.recorded, file)
        while said < self.quota and faults < FAULTS:
            count = self.attempt(self.session, min(SESSION, self.quota - said))
            said, faults = said + (count or 0), faults + (count is None)

    def attempt(self, session, argument):
        """One session; how many commands were said, or None if the answers differed."""
        self.history.clear()
        try:
            count = session(argument)
            self.news.put(("passed", 1))
            return count
        except (Different, OSError, ValueError) as fault:
            if self.is_chance() or self.is_confessed():
                self.make_equal()
                self.news.put(("ended", 1))
                return 0
            self.news.put(("failed", 1))
            self.news.put(("say", self.report(fault)))
            return None

    def recorded(self, file):
        """A recording of a real client, connection by connection."""
        talk, said = None, 0
        self.take_users(RECORDED)
        for command in commands_of(file.read_bytes()):
            talk = talk or Talk(self.ports, self.users, self.cut and self.random, self.quirks)
            if command.verb == "LOGOUT":
                talk = talk.close()
                continue
            self.history.append((file.stem, [command]))
            with contextlib.suppress(Ended):
                talk.exchange([command])
            said += 1
        self.news.put(("commands", said))

    def session(self, length):
        """Login, some hundred commands in two connections each way, logout."""
        self.take_users(2 * self.number + 1)
        talks = [Talk(self.ports, self.users, self.cut and self.random, self.quirks) for _ in range(self.quirks.connections)]
        self.account.generators.clear()
        try:
            capabilities = talks[0].capabilities()
            generators = [Generator(self.random, self.quirks, capabilities, self.account) for _ in talks]
            said = 0
            while said < length:
                which = self.random.randrange(len(talks))
                group = generators[which].group()
                said += len(group)
                self.history.append((which, group))
                lines = talks[which].exchange(group)
                generators[which].observe(group, lines)
                self.news.put(("commands", len(group)))
                if group[0].verb == "IDLE":  # the proxy answers DONE before its server has; what comes in between would be told earlier
                    talks[which].exchange([generators[which].noop()])
            for talk in talks:
                talk.exchange([Command(b"z1", [b"z1 NOOP\r\n"], "NOOP")])
        except Ended:
            self.news.put(("ended", 1))
        finally:
            for talk in talks:
                talk.close()
        return said

    def take_users(self, first):
        """Chooses the two accounts of a session: these, or others where they have become unequal for good."""
        self.first, first = first, first + 2 * WORKERS[self.server] * self.worn[first]
        self.users = f"u{first}", f"u{first + 1}"
        self.confessed = self.confessions()

    def confessions(self):
        """How often the server has logged that it was at fault with these accounts."""
        return sum(self.quirks.confessions(self.logs, user) for user in self.users)

    def is_confessed(self):
        """Whether the server has logged so in this session: when it says what it has done wrong is up to how the commands arrive."""
        return self.confessions() > self.confessed

    def is_chance(self):
        """Whether the server, asked without anybody in between, has the same messages in both accounts, but in another order or with other UIDs."""
        if not (self.quirks.shuffles or self.quirks.scatters):
            return False
        first, second = (self.contents(user) for user in self.users)
        sizes = [[(name, [size for size, _ in messages]) for name, messages in one] for one in (first, second)]
        if self.quirks.scatters:
            return first != second and sizes[0] == sizes[1]
        ordered = [[(name, sorted(those)) for name, those in one] for one in sizes]
        return sizes[0] != sizes[1] and ordered[0] == ordered[1]

    def mailboxes(self, user):
        """Selects each mailbox of an account that has messages in it, directly."""
        with imaplib.IMAP4("127.0.0.1", self.ports[0]) as talk:
            talk.login(user, "pw")
            for name in ["INBOX", *(self.quirks.prefix + name for name in self.quirks.names)]:
                status, counts = talk.select(f'"{name}"')
                if status == "OK" and int(counts[0]) > 0:
                    yield name, talk

    def contents(self, user):
        """Size and UID of the messages of each mailbox of an account."""
        found = ((name, talk.fetch("1:*", "(UID RFC822.SIZE)")[1]) for name, talk in self.mailboxes(user))
        return [(name, [tuple(re.search(rb"%s (\d+)" % item, line)[1] for item in (b"SIZE", b"UID")) for line in lines]) for name, lines in found]

    def make_equal(self):
        """Empties both accounts, which have given as many UIDs away; or takes others."""
        if self.quirks.scatters or self.is_confessed():
            self.worn[self.first] += 1
            self.account = Account()
            return
        for user in self.users:
            for _, talk in self.mailboxes(user):
                talk.store("1:*", "+FLAGS.SILENT", r"(\Deleted)")
                talk.expunge()

    def report(self, fault):
        """What was said last, and how the answers differ."""
        said = [f"  {which}: {shown(command.octets())}" for which, group in self.history for command in group][-25:]
        return "\n".join([f"{self.server}, worker {self.number}: NOT ALIKE. Said last:", *said, str(fault)])


class Ended(Exception):
    """The server ended the session, and the proxy passed that on: alike, up to the proxy's BYE."""


class Different(Exception):
    """The two ways answered differently."""


class Talk:
    """One connection each way, to which the same is said."""

    def __init__(self, ports, users, cut, quirks):
        self.quirks = quirks
        self.ways = []
        for port, user, shaken in zip(ports, users, (None, cut)):
            self.ways.append(Way(port, user, shaken))

    def capabilities(self):
        """What both ways offer after login."""
        offers = []
        for way in self.ways:
            way.write(b"z0 CAPABILITY\r\n")
            answer = b"".join(way.read({b"z0"}))
            offers.append(set(re.search(rb"\* CAPABILITY ([^\r]*)", answer)[1].decode().split()))
        return offers[0] & offers[1]

    def exchange(self, group):
        """Says a group to both, compares the answers, returns the lines of the direct one."""
        for way in self.ways:
            way.begin(group)
        answers = [way.finish(group) for way in self.ways]
        if answers[0][-1:] == [CLOSED] or answers[1][-1:] == [CLOSED]:
            if answers[0][-1:] == answers[1][-1:] or (self.quirks.impatient and group[-1].verb == "malformed"):
                raise Ended
            raise Different(difference(b"".join(answers[0]), b"".join(answers[1])))
        if answers[0] != answers[1]:
            ours = {command.tag for command in group if command.verb in OURS}
            first, second = ([self.quirks.rewritten(line, ours) for line in lines] for lines in answers)
            if self.quirks.floating and len(group) > 1:
                first, second = settled(first), settled(second)
            if self.quirks.fleeting and not any(ASKS_FLAGS.search(command.octets()) for command in group):
                first, second = lasting(first), lasting(second)
            if (first := b"".join(first)) != (second := b"".join(second)):
                raise Different(difference(first, second))
        return answers[0]

    def close(self):
        for way in self.ways:
            way.close()


class Way:
    """A connection that reads responses whole, and answers continuations."""

    def __init__(self, port, user, cut):
        self.port, self.cut, self.held = port, cut, b""
        self.socket = socket.create_connection(("127.0.0.1", port), SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.response()
        self.write(b"l LOGIN %s pw\r\n" % user.encode())
        if not self.read({b"l"})[-1].startswith(b"l OK"):
            raise ValueError("login refused")

    def begin(self, group):
        """Writes what needs no answer in between."""
        if len(group) > 1 or not group[0].waits():
            self.write(b"".join(command.octets() for command in group))

    def finish(self, group):
        """Writes the rest, and reads to the last tagged answer."""
        if len(group) > 1 or not group[0].waits():
            return self.read({command.tag for command in group})
        lines, command = [], group[0]
        for part in command.steps():
            self.write(part)
            lines += self.read({command.tag}, stop=b"+")
            if lines[-1] is CLOSED or lines[-1].startswith(command.tag + b" "):
                break
        return lines

    def write(self, octets):
        if not self.cut:
            self.socket.sendall(octets)
            return
        while octets:
            size = self.cut.choice([1, 7, 50, 4000, len(octets)])
            self.socket.sendall(octets[:size])
            octets = octets[size:]

    def read(self, tags, stop=None):
        """Responses until each of these tags is answered, or a line begins with `stop`."""
        tags, lines = set(tags), []
        while tags:
            line = self.response()
            lines.append(line)
            if line[:1] == stop or line is CLOSED:
                break
            if line[:1] not in b"*+":
                tags.discard(line.split(b" ", 1)[0])
        return lines

    def response(self):
        """One line with the literals in it, or CLOSED."""
        end = 0
        while True:
            found = self.held.find(b"\r\n", end)
            if found < 0:
                if not self.more():
                    return CLOSED
                continue
            end = found + 2
            literal = LITERAL.search(self.held, max(0, found - 24), end) if not TEXT.match(self.held) else None
            if not literal:
                break
            end += int(literal[1])
            while len(self.held) < end:
                if not self.more():
                    return CLOSED
        line, self.held = self.held[:end], self.held[end:]
        return line

    def more(self):
        """Octets from the server; False at the end of the connection."""
        try:
            octets = self.socket.recv(1 << 16)
        except TimeoutError:
            raise Different(f"no answer on port {self.port} within {SECONDS} s; held: {self.held[-200:]!r}") from None
        except ConnectionError:
            octets = b""
        self.held += octets
        return bool(octets)

    def close(self):
        with contextlib.suppress(OSError):
            self.socket.sendall(b"z9 LOGOUT\r\n")
            while self.socket.recv(1 << 16):
                pass
        self.socket.close()


def commands_of(octets):
    """The commands that a client wrote."""
    while octets:
        parts = []
        while True:
            line, _, octets = octets.partition(b"\r\n")
            parts.append(line + b"\r\n")
            if not (literal := ANNOUNCED.search(parts[-1])):
                break
            size = int(literal[1])
            parts.append(octets[:size])
            octets = octets[size:]
        tag, verb = parts[0].split(None, 2)[:2]
        yield Command(tag, parts, verb.decode().upper())


ANNOUNCED = re.compile(rb"\{(\d+)\+?\}\r\n$")
CLOSED = b"(the connection was closed)\r\n"
LITERAL = re.compile(rb"\{(\d+)\}\r\n$")
TEXT = re.compile(rb"\* (OK|NO|BAD|BYE) |\+|[^*]")  # human text: braces in it announce nothing


def settled(lines):
    """The untagged lines in their order, then the tagged ones in theirs by name: for servers that delay tagged lines in a group."""
    return [line for line in lines if line.startswith(b"*")] + sorted(line for line in lines if not line.startswith(b"*"))


# A command that is answered by flags itself: then what comes, and in which order, is its answer.
ASKS_FLAGS = re.compile(rb"(?i)^\S+ (?:UID )?(?:STORE|FETCH \S+ \(?(?:UID )?FLAGS(?: UID)?\)?\r)")
FLAGS = re.compile(rb"\* (\d+) FETCH \((?:UID \d+ )?FLAGS \([^)]*\)\)\r\n")


def lasting(lines):
    """The flags of each message as they are told last, behind all else; of messages of which a later line tells that they have gone, none.

    Numbers are those of the moment in which the flags are told, so where something goes, all stays in its place.
    """
    kept, last, gone_too = [], {}, False
    for line in lines:
        kept.append(line)
        if flags := FLAGS.fullmatch(line):
            last[int(flags[1])] = len(kept) - 1
        elif gone := re.fullmatch(rb"\* (\d+) EXPUNGE\r\n", line):
            number, gone_too = int(gone[1]), True
            if number in last:
                kept[last.pop(number)] = b""
            last = {at - (at > number): where for at, where in last.items()}
    if gone_too:
        return kept
    return [line for line in kept if not FLAGS.fullmatch(line)] + [kept[last[number]] for number in sorted(last)]


def difference(direct, proxied):
    """The first lines that differ."""
    one, other = direct.splitlines(), proxied.splitlines()
    same = next((index for index, pair in enumerate(zip(one, other)) if pair[0] != pair[1]), min(len(one), len(other)))
    pieces = [f"  {name}: {shown(line)}" for name, lines in (("direct ", one), ("proxied", other)) for line in lines[same : same + 4] or [b"(nothing)"]]
    return "\n".join([f"After {same} equal lines:", *pieces])


if __name__ == "__main__":
    ended_early(main)
