#!/usr/bin/env python3
"""A random walk: clients of one account through the proxy, one more at the server itself, and what each believes has to be true.

    $ proto-tests/live/walk.py --servers courier --steps 2000 --seed 7

Each client keeps the list of messages that it believes in, from EXISTS, EXPUNGE and FETCH as RFC 3501 has it, and names messages by these
numbers; the one at the server changes the mailboxes behind the proxy's back, also while commands are under way. Every message carries a
number of its own, `X-Walk`. What has to hold:

- A number means the message that the client believes in, until the client is told of a removal, which FETCH, STORE and SEARCH do not do.
- Who has asked for news, or idles, or has said NOTIFY, comes to believe what is there: which messages, in which order, with which flags.
- Nothing is in a mailbox that was not put there, and nothing has gone that was not marked as deleted.

`--against direct` sends all clients to the server itself: what fails then is the server's own, and is left out by its row in quirks.py. The
same seed makes the same choices, as far as the answers are the same.
"""
import collections
import dataclasses
import multiprocessing
import random
import re
import sys
import time
import types

sys.dont_write_bytecode = True

from generate import FLAGS
from quirks import QUIRKS
from stage import HERE, SERVERS, Stage, ended_early, options, say, shown

sys.path.insert(0, str(HERE / "clients"))
from account import Wire

ROUND = 500  # steps between login and logout
CLIENTS = "ABC"  # the first two begin in the same mailbox
FEW, MANY = 5, 20  # messages, between which a mailbox is kept
RACES = 0.25  # the share of commands during which somebody else changes something
PATIENCE = 120  # seconds until news have come: twenty times what a look of mailutils takes when all walk at once, and some
SHOWN = 200  # lines of the end of a session
FAULTS = 3  # after so many a walk ends
ITEMS = "(UID FLAGS BODY.PEEK[HEADER.FIELDS (X-WALK)])"
WISH = 'NOTIFY SET (selected (MessageNew (UID FLAGS) MessageExpunge FlagChange)) (mailboxes "{}" (MessageNew MessageExpunge))'


def main():
    parser = options(__doc__.splitlines()[0], chance=True)
    parser.add_argument("--steps", type=int, default=2000, help="how many for each server")
    chosen = parser.parse_args()
    servers = [name for name in SERVERS if name in chosen.servers.split(",")]
    say(f"walk: seed {chosen.seed}, {chosen.steps} steps for each server, against {chosen.against}")
    with Stage() as stage:
        totals = run(stage, servers, chosen)
    say(f"walk: {totals['steps']} steps, seed {chosen.seed}, {totals['fetched']} messages were what they were believed to be")
    say(f"{totals['passed']} passed, {totals['failed']} failed, {totals['skipped']} skipped")
    sys.exit(1 if totals["failed"] or not totals["passed"] else 0)


def run(stage, servers, chosen):
    """All servers at once; what the walks count, by name."""
    totals = collections.Counter()
    with stage.part() as parts:
        walks, proxies = [], []
        for index, name in enumerate(servers):
            part = parts.enter_context(stage.part(index))
            server = part.server(name)
            proxies += [part.proxy(server, "imap", chosen.proxy)] if chosen.against == "proxy" else []
            walks.append((name, stage.folder / name, server.port, proxies[-1].port if proxies else server.port, chosen.seed, chosen.steps))
        with multiprocessing.Pool(len(walks)) as pool:
            for counted in pool.imap_unordered(walk, walks):
                totals += counted
        for fault in filter(None, (proxy.fault() for proxy in proxies)):
            say(fault)
            totals["failed"] += 1
    return totals


def walk(plan):
    """Rounds before one server, each with an account that is empty at first."""
    name, folder, direct, proxied, seed, steps = plan
    totals, began = collections.Counter(), time.monotonic()
    for number in range(-(-steps // ROUND)):
        one = Round(name, direct, proxied, f"u{number % 40 + 1}", random.Random(f"{seed}/{name}/{number}"))
        try:
            one.walk(min(ROUND, steps - totals["steps"]))
            totals["passed"] += 1
        except (Wrong, OSError, SystemExit) as fault:
            if one.is_confessed(folder):
                totals["ended"] += 1
                say(f"{name}, round {number}: given up, its log says why. {str(fault).splitlines()[0]}")
                continue
            totals["failed"] += 1
            said = "\n".join(f"  {line}" for line in one.said)
            say(f"{name}, round {number}: FAILED with seed {seed}. Said last:\n{said}\n{fault}")
        totals += one.counted
        if totals["failed"] == FAULTS:
            break
    for what, reason in QUIRKS[name].unwalked_at(direct == proxied).items():
        say(f"{name}: without {what}: {reason}")
        totals["skipped"] += 1
    tried = ", ".join(f"{totals[what]} {what}" for what in ("IDLE", "ESEARCH", "NOTIFY"))
    say(f"{name}: {totals['steps']} steps, {totals['compared']} lists compared, {tried}, {totals['ended']} rounds given up, {time.monotonic() - began:.0f} s")
    return totals


# What a message can be searched by, and what it is in our list.
KEYS = {"HEADER X-WALK": "mark", "UID": "uid"}


class Wrong(Exception):
    """Something is not as it has to be."""


@dataclasses.dataclass
class Message:
    """What is known of a message; none: nothing was said yet."""

    uid: int = None
    mark: str = None  # its X-Walk
    flags: frozenset = None

    def differs(self, other):
        """Whether what is known of both is not the same."""
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other))
        return any(None not in pair and pair[0] != pair[1] for pair in pairs)


class Client(Wire):
    """A session, and the list of messages that it believes in (RFC 3501 7.3 and 7.4)."""

    def __init__(self, name, port, user, said, quirks):
        self.name, self.said, self.mailbox, self.quirks = name, said, None, quirks
        self.validities = set()  # each UIDVALIDITY that was told: a client at the server selects one mailbox only
        self.messages, self.answered = [], set()
        self.opening = False  # a mailbox: what is told before it is open may be of the one before
        self.by_uid = False  # it names no numbers, so that removals may be told at any time (RFC 5465 5.3)
        self.removals = True  # may they be told now?
        self.watched = None  # how many messages another mailbox has, by STATUS
        super().__init__(types.SimpleNamespace(host="127.0.0.1", port=port, user=user, password="pw"))
        self.offers = set(self.ok("CAPABILITY")[0].decode().upper().split())

    # What it says.

    def begin(self, *commands):
        for words in commands:
            self.said.append(f"{self.name} C: {words}")
        self.removals, self.answered = not any(re.match("(FETCH|STORE|SEARCH) ", words) for words in commands), set()
        return super().begin(*commands)

    def finish(self, tags):
        answer = super().finish(tags)
        self.removals = self.by_uid
        return answer

    def select(self, mailbox):
        self.mailbox, self.messages, self.opening = mailbox, [], True
        self.ok(f'SELECT "{mailbox}"')
        self.opening = False

    def go_on(self):
        """To the `+`."""
        while not (line := self.line()).startswith(b"+"):
            if not line.startswith(b"*"):
                raise Wrong(f"{self.name}: expected `+`")

    def append(self, mailbox, flags, mark):
        message = f"From: joe@example.org\r\nSubject: walk\r\nX-Walk: {mark}\r\n\r\nText {mark}\r\n".encode()
        tags = self.begin(f'APPEND "{mailbox}" ({flags}) {{{len(message)}}}')
        self.go_on()
        self.write(message + b"\r\n")
        self.expect(self.finish(tags)[1][0])

    def idle(self):
        self.tags = self.begin("IDLE")
        self.go_on()

    def done(self):
        self.said.append(f"{self.name} C: DONE")
        self.write(b"DONE\r\n")
        self.expect(self.finish(self.tags)[1][0])

    def expect(self, end):
        if not end.startswith(b"OK"):
            raise Wrong(f"{self.name}: expected OK")

    # What it hears.

    def line(self):
        line = super().line()
        self.said.append(f"{self.name} S: {shown(line)}")
        if found := re.match(rb"\* (\d+) (EXISTS|EXPUNGE|FETCH)(.*)", line, re.DOTALL):
            self.HEARD[found[2]](self, int(found[1]), found[3])
        elif found := re.match(rb"\* OK \[UIDVALIDITY (\d+)\]", line):
            self.validities.add(found[1])
        elif line.startswith(b"* BYE"):
            raise Wrong(f"{self.name}: the session was ended")
        elif found := re.match(rb"\* STATUS .*\bMESSAGES (\d+)", line):
            self.watched = int(found[1])
        return line

    def exists(self, count, _):
        if self.opening:
            self.messages.clear()
        if count < len(self.messages):
            raise Wrong(f"{self.name}: {count} messages, where {len(self.messages)} are known and none was removed")
        self.messages += [Message() for _ in range(count - len(self.messages))]

    def expunge(self, number, _):
        if not self.removals:
            raise Wrong(f"{self.name}: a removal is told while it must not")
        self.known(number)
        del self.messages[number - 1]

    def fetch(self, number, items):
        if self.opening and items.startswith(b" FLAGS "):
            return  # without its parenthesis, and of the mailbox before: mailutils, behind SELECT
        message, told = self.known(number), Message()
        if found := re.search(rb"\bUID (\d+)", items):
            told.uid = int(found[1])
        if found := re.search(rb"(?i)X-Walk: (\d+)", items):
            told.mark = found[1].decode()
        if dataclasses.replace(told, flags=None).differs(message):
            raise Wrong(f"{self.name}: number {number} was believed to be {message}, and is {told}")
        if found := re.search(rb"FLAGS \(([^)]*)\)", items):
            told.flags = frozenset(found[1].decode().split()) - {r"\Recent"}
        if told.mark or (told.uid and self.quirks.loses_content):
            self.answered.add(number)
        for name, value in vars(told).items():
            if value is not None:
                setattr(message, name, value)

    HEARD = {b"EXISTS": exists, b"EXPUNGE": expunge, b"FETCH": fetch}

    def known(self, number):
        """The message of this number."""
        if not 1 <= number <= len(self.messages):
            raise Wrong(f"{self.name}: number {number} is said, and {len(self.messages)} messages are known")
        return self.messages[number - 1]

    # What it believes.

    def agrees(self, truth):
        return len(self.messages) == len(truth) and not any(one.differs(other) for one, other in zip(self.messages, truth))

    def check(self, truth):
        """Compares the list with what is there. What nobody has told, the client could have asked for now."""
        if not self.agrees(truth):
            lists = [f"  {name}: {', '.join(map(listed, messages))}" for name, messages in (("believed", self.messages), ("found", truth))]
            raise Wrong("\n".join([f"{self.name} in {self.mailbox}: the list is not true", *lists]))
        self.messages = [dataclasses.replace(message) for message in truth]

    def await_news(self, truth):
        """Until it believes what is there."""
        if not self.hears(lambda: self.agrees(truth)):
            self.check(truth)

    def await_count(self, count):
        """Until the mailbox that it has not selected has so many messages."""
        if not self.hears(lambda: self.watched == count):
            raise Wrong(f"{self.name}: the other mailbox was said to have {self.watched} messages, and has {count}")

    def hears(self, enough):
        """Reads what is told until it is enough; false if that takes too long."""
        limit = time.monotonic() + PATIENCE
        try:
            while not enough():
                self.socket.settimeout(max(0.01, limit - time.monotonic()))
                self.line()
        except TimeoutError:
            return False
        self.socket.settimeout(PATIENCE)
        return True


class Round:
    """The clients of one account, and what may be said in it."""

    STEPS = {"look_at": 30, "search": 14, "change": 28, "change_behind": 20, "compare": 18, "reopen": 2, "idle": 1}  # how often

    def __init__(self, name, direct, proxied, user, random):
        self.direct, self.proxied, self.user, self.random, self.quirks = direct, proxied, user, random, QUIRKS[name]
        self.unwalked = self.quirks.unwalked_at(direct == proxied)
        self.said, self.counted = collections.deque(maxlen=SHOWN), collections.Counter()
        self.mailboxes = ["INBOX", self.quirks.prefix + self.quirks.names[0]]
        self.marks = 0
        self.truth = {mailbox: [] for mailbox in self.mailboxes}  # as it was seen last
        self.put = {mailbox: collections.Counter() for mailbox in self.mailboxes}  # what may have come since, by X-Walk
        self.doomed = {mailbox: set() for mailbox in self.mailboxes}  # the UIDs that may have been marked as deleted
        self.racing = False  # a command is under way
        self.clients, self.keepers, self.listener = [], {}, None

    # The frame.

    def walk(self, steps):
        try:
            self.begin()
            names = [name for name in self.STEPS if name not in self.unwalked]
            for name in self.random.choices(names, [self.STEPS[name] for name in names], k=steps):
                getattr(self, name)()
                self.counted["steps"] += 1
            for client in self.clients:
                self.compare(client)
        finally:
            for client in [*self.clients, *self.keepers.values(), *filter(None, [self.listener])]:
                client.socket.close()

    def begin(self):
        for mailbox in self.mailboxes:
            keeper = self.keepers[mailbox] = Client(f"direct {mailbox}", self.direct, self.user, self.said, self.quirks)
        keeper.say(f'CREATE "{mailbox}"')
        for mailbox, keeper in self.keepers.items():
            keeper.select(mailbox)
            if keeper.messages:  # of an earlier round
                keeper.ok(r"STORE 1:* +FLAGS.SILENT (\Deleted)")
                keeper.ok("EXPUNGE")
                keeper.select(mailbox)
        for keeper in self.keepers.values():
            for _ in range(FEW):
                self.append(keeper)
        for mailbox in self.mailboxes:
            self.look(mailbox)
        for name in CLIENTS:
            client = Client(name, self.proxied, self.user, self.said, self.quirks)
            client.select(self.mailboxes[name == CLIENTS[-1]])
            self.clients.append(client)
        if "NOTIFY" in client.offers and "notify" not in self.unwalked:
            self.listener = Client("L", self.proxied, self.user, self.said, self.quirks)
            self.listener.select("INBOX")
            self.listener.by_uid = True
            self.listener.watched = len(self.truth[self.mailboxes[1]])
            self.listener.ok(WISH.format(self.mailboxes[1]))

    def is_confessed(self, folder):
        """Whether the server's own log says that it was at fault, with this account; or it gives UIDs by chance, and has told
        the client at the server that they mean something else now (RFC 3501 2.3.1.1)."""
        if self.quirks.scatters and any(len(keeper.validities) > 1 for keeper in self.keepers.values()):
            return True
        return self.quirks.confessions(folder, self.user) > 0

    def look(self, mailbox):
        """What is in a mailbox, as the server tells a client of its own. What has come or gone must have had a reason."""
        keeper, before = self.keepers[mailbox], self.truth[mailbox]
        self.settle(keeper)
        if keeper.messages:
            keeper.ok(f"FETCH 1:* {ITEMS}")
        truth = self.truth[mailbox] = [dataclasses.replace(message) for message in keeper.messages]
        known, there = {message.uid for message in before}, {message.uid for message in truth}
        for message in truth:
            if message.uid not in known and not self.put[mailbox][message.mark]:
                raise Wrong(f"{message} is in {mailbox}, and nobody has put it there")
        for message in before:
            # A copy is marked as deleted where the original is.
            if message.uid not in there | self.doomed[mailbox] and "\\Deleted" not in message.flags:
                raise Wrong(f"{message} has gone from {mailbox}, and was not marked as deleted")
        if not self.racing:
            self.doomed[mailbox] = {message.uid for message in truth if r"\Deleted" in message.flags}
            self.put[mailbox].clear()
        return truth

    def settle(self, client):
        """The client asks for news."""
        if self.quirks.tells:
            client.ok("NOOP")
        else:
            client.select(client.mailbox)

    # The steps.

    def look_at(self):
        """FETCH, which has to bring what the client believes in."""
        client = self.prepared(self.pick(self.clients), "FETCH")
        if not client.messages:
            return self.settle(client)
        if self.chance(0.2):
            wanted = self.some(self.learnt(client), 3)
            return wanted and self.say(client, f"UID FETCH {','.join(str(message.uid) for message in wanted)} {ITEMS}")
        sets = [self.numbers(client, self.some(client.messages, 3)) for _ in range(self.random.randint(1, 3))]
        self.say(client, *(f"FETCH {','.join(map(str, numbers))} {ITEMS}" for numbers in sets))
        self.counted["fetched"] += len(client.answered)
        missing = {number for numbers in sets for number in numbers} - client.answered
        self.has_gone(client, [client.known(number) for number in missing], "was asked for, and not shown")

    def search(self):
        """SEARCH by number, or UID; the client tells by its list which message was found."""
        client = self.prepared(self.pick(self.clients), "SEARCH")
        learnt = self.learnt(client)
        if not learnt:
            return self.settle(client)
        target, uid = self.pick(learnt), "UID " if self.chance(0.3) else ""
        returns = "RETURN (ALL) " if "ESEARCH" in client.offers and self.chance(0.5) else ""
        key, known_by = self.pick(list(KEYS.items()))
        wanted = getattr(target, known_by)
        found = found_in(self.say(client, f"{uid}SEARCH {returns}{key} {wanted}"))
        self.counted["ESEARCH"] += bool(returns)
        found = [message for message in client.messages if message.uid in found] if uid else [client.known(number) for number in found]
        if wrong := [message for message in found if getattr(message, known_by) not in (None, wanted)]:
            raise Wrong(f"{client.name}: {key} {wanted} was searched for, and found {wrong}")
        if target not in found:
            self.has_gone(client, [target], "was not found")

    def change(self):
        """A client does something."""
        self.alter(self.pick(self.clients))

    def change_behind(self):
        """So does the one at the server."""
        self.alter(self.keepers[self.pick(self.mailboxes)])

    def compare(self, client=None):
        """News are asked for, and then everything is known."""
        client = client or self.pick(self.clients)
        self.settle(client)
        client.check(self.look(client.mailbox))
        self.counted["compared"] += 1

    def reopen(self):
        client = self.pick(self.clients)
        client.select(self.pick(self.mailboxes))
        client.check(self.look(client.mailbox))

    def idle(self):
        """Some idle, others do something; without being asked, all is told to those who listen."""
        if "IDLE" not in self.clients[0].offers or (self.quirks.mute and self.direct == self.proxied):
            return self.compare()
        idlers = self.random.sample(self.clients, self.random.randint(1, len(self.clients)))
        others = [client for client in self.clients if client not in idlers] + list(self.keepers.values())
        for client in idlers:
            client.idle()
        for _ in range(self.random.randint(1, 4)):
            self.alter(self.pick(others))
        for mailbox in self.mailboxes:
            self.look(mailbox)
        for client in idlers:
            client.await_news(self.truth[client.mailbox])
            client.done()
            self.counted["IDLE"] += 1
        if self.listener:
            self.listener.await_news(self.truth["INBOX"])
            self.listener.await_count(len(self.truth[self.mailboxes[1]]))
            self.counted["NOTIFY"] += 1

    # What is done.

    def alter(self, client):
        """Something that others have to hear of."""
        few, many = len(self.truth[client.mailbox]) < FEW, len(self.truth[client.mailbox]) > MANY
        ways = {"append": 1 + 4 * few, "store": 3, "copy": 2 * (not many), "doom": 1 + many, "expunge": 1 + many}
        ways = {name: weight for name, weight in ways.items() if name not in self.unwalked}
        getattr(self, *self.random.choices(list(ways), list(ways.values())))(client)

    def append(self, client):
        mailbox = self.pick(self.targets(client))
        self.marks += 1
        mark = f"{self.marks:06}"
        self.put[mailbox][mark] += 1
        client.append(mailbox, " ".join(self.some(self.flags(), 2)), mark)

    def store(self, client, flags=None):
        chosen = self.some(self.learnt(self.prepared(client, "STORE")), 3)
        if not chosen:
            return self.settle(client)
        sign, flags = (self.pick("+-"), self.some(self.flags(), 2)) if not flags else ("+", flags)
        silent = self.chance(0.3)
        if r"\Deleted" in flags:
            self.doomed[client.mailbox].update(message.uid for message in chosen)
        before = [message.flags for message in chosen]
        verb, names = self.named("STORE", client, chosen)
        ok = self.do(client, f"{verb} {names} {sign}FLAGS{'.SILENT' * silent} ({' '.join(flags)})", chosen)
        if silent and self.quirks.hushes:
            self.forget(chosen)
        elif silent and ok:
            # Nobody tells what the client can know by itself.
            for message, known in zip(chosen, before):
                now = known | set(flags) if sign == "+" else known - set(flags)
                message.flags = now if message.flags == known else None

    def forget(self, messages):
        """Their flags are not known any more."""
        for message in messages:
            message.flags = None

    def doom(self, client):
        self.store(client, [r"\Deleted"])

    def copy(self, client):
        chosen = self.some(self.learnt(self.prepared(client, "COPY")), 3)
        if not chosen:
            return self.settle(client)
        mailbox = self.pick(self.targets(client))
        self.put[mailbox].update(message.mark for message in chosen)
        verb, names = self.named("COPY", client, chosen)
        self.do(client, f'{verb} {names} "{mailbox}"', chosen)
        if self.quirks.hushes:
            self.forget(chosen)

    def expunge(self, client):
        deleted = [message for message in self.learnt(client) if r"\Deleted" in message.flags]
        if "UIDPLUS" in client.offers and deleted and self.chance(0.4):
            chosen = self.some(deleted, 3)
            end = self.exchange(client, f"UID EXPUNGE {','.join(str(message.uid) for message in chosen)}")[1][0]
            if not end.startswith((b"OK", b"NO [CANNOT]")):  # others are marked too, and the server removes all or none
                raise Wrong(f"{client.name}: expected OK")
        else:
            self.do(self.prepared(client, "EXPUNGE"), "EXPUNGE", [])

    # How it is said.

    def prepared(self, client, verb):
        """The client; having asked for news, where the server needs that."""
        if verb in self.quirks.fresh:
            self.settle(client)
        return client

    def named(self, verb, client, chosen):
        """The verb and the messages: by number, or by UID."""
        if self.chance(0.3):
            return f"UID {verb}", ",".join(str(message.uid) for message in chosen)
        return verb, ",".join(map(str, self.numbers(client, chosen)))

    def numbers(self, client, chosen):
        return [number for number, message in enumerate(client.messages, 1) if any(message is one for one in chosen)]

    def do(self, client, command, chosen):
        """A command that has to succeed unless some of its messages are gone."""
        end = self.exchange(client, command)[1][0]
        if not end.startswith(b"OK"):
            there = {message.uid for message in self.look(client.mailbox)}
            if all(message.uid in there for message in chosen):
                raise Wrong(f"{client.name}: {command} failed, and all its messages are there")
        return end.startswith(b"OK")

    def say(self, client, *commands):
        return self.exchange(client, *commands)[0]

    def exchange(self, client, *commands):
        """Commands in one write; the answers. Somebody else may be quicker than these are read."""
        tags = client.begin(*commands)
        keeper = self.keepers[client.mailbox]
        alone = any(verb in commands[0] for verb in self.quirks.fresh + self.quirks.alone)
        if client is not keeper and not alone and self.chance(RACES):
            self.racing = True
            self.alter(keeper)
            self.racing = False
        return client.finish(tags)

    def has_gone(self, client, messages, otherwise):
        """What was not answered must not be there."""
        if messages:
            there = {message.uid for message in self.look(client.mailbox)}
            for message in messages:
                if message.uid in there:
                    raise Wrong(f"{client.name}: {message} {otherwise}, and is there")

    def learnt(self, client):
        return [message for message in client.messages if None not in dataclasses.astuple(message)]

    def targets(self, client):
        return [mailbox for mailbox in self.mailboxes if self.quirks.inward or mailbox != client.mailbox]

    def flags(self):
        return [flag for flag in FLAGS if self.quirks.keywords or flag.startswith("\\")]

    def some(self, choices, most):
        """Some of them, in their order."""
        chosen = set(self.random.sample(range(len(choices)), self.random.randint(min(1, len(choices)), min(most, len(choices)))))
        return [choice for index, choice in enumerate(choices) if index in chosen]

    def pick(self, choices):
        return self.random.choice(choices)

    def chance(self, share):
        return self.random.random() < share


def found_in(lines):
    """The numbers that a search has found: `* SEARCH 2 3 4`, or `* ESEARCH (TAG "w1") ALL 2:4`."""
    found = [found[1] for line in lines if (found := re.match(rb"\* (?:SEARCH|ESEARCH .*\bALL)\b([ \d:,]*)", line))]
    ranges = [part.split(b":") for part in re.findall(rb"[\d:]+", b" ".join(found))]
    return {number for ends in ranges for number in range(int(ends[0]), int(ends[-1]) + 1)}


def listed(message):
    """A message in a word."""
    return f"{message.uid}={message.mark}({' '.join(sorted(message.flags)) if message.flags is not None else '?'})"


if __name__ == "__main__":
    ended_early(main)
