#!/usr/bin/env python3
"""Kills the proxy while it writes annotations and names of mailboxes change, and looks whether all that it answered OK is there.

    $ proto-tests/live/kill.py --rounds 12 --seed 17
    seed 17
    12 rounds, 8123 commands answered, 43 under way when the proxy was killed, of which 9 were kept
    1 passed, 0 failed

Each writer has two entries of its own and sets both in one command, or removes both. After SIGKILL and a new start each has the
value of its last command that was answered OK, or of the one behind it that was not answered; and both have the same.

Each mover creates, annotates, renames and deletes mailboxes of its own, some with another one below. Afterwards every mailbox has
the annotation that was answered OK, under whatever name the server has it now, and one that gets the name of a deleted one has none.
"""
import random
import sys
import threading
import time
import types

sys.dont_write_bytecode = True

from stage import HERE, Stage, ended_early, options, say

sys.path.insert(0, str(HERE / "clients"))
from account import Wire

WRITERS = 6
MOVERS = 6
NAMES = 5  # of each mover: few, so that they are used again
USERS = 3
LONGEST = 0.6  # seconds until the proxy is killed


class Writer:
    """One connection after the other, and what it has been promised."""

    def __init__(self, number, pick):
        self.user, self.pick = f"u{number % USERS + 1}", pick
        self.names = [f"/private/vendor/kill/w{number}/{side}" for side in ("left", "right")]
        self.promised, self.sent, self.answered, self.wrong = None, None, 0, []

    def connect(self, port):
        return Wire(types.SimpleNamespace(host="127.0.0.1", port=port, user=self.user, password="pw"))

    def write(self, port):
        """Until the connection is gone."""
        try:
            wire = self.connect(port)
            while not self.wrong:
                value = None if self.pick.random() < 0.15 else f"{self.answered}-" + "x" * self.pick.choice([0, 10, 900])
                quoted = f'"{value}"' if value else "NIL"
                self.sent = value
                end = wire.say(f"SETMETADATA INBOX ({self.names[0]} {quoted} {self.names[1]} {quoted})")[1]
                if not end.startswith(b"OK"):
                    self.wrong.append(f"{self.names[0]} refused: {end}")
                    return
                self.promised, self.answered = value, self.answered + 1
        except (OSError, SystemExit):
            return

    def check(self, port):
        """Whether what is there is what was promised; and whether it is more than that."""
        told = b" ".join(self.connect(port).ok(f"GETMETADATA INBOX ({' '.join(self.names)})")).decode()
        found = []
        for name in self.names:
            behind = told.partition(f'{name} "')[2]
            found.append(behind.partition('"')[0] if behind else None)
        if found[0] != found[1]:
            self.wrong.append(f"{self.names[0]}: half of a command: {found}")
        elif found[0] not in (self.promised, self.sent):
            self.wrong.append(f"{self.names[0]}: found {found[0]}, promised {self.promised}, sent {self.sent}")
        more = self.sent != self.promised
        kept = more and found[0] == self.sent
        self.promised = self.sent = found[0]
        return more, kept


class Mover:
    """One connection after the other, mailboxes of its own, and what it has been promised of them."""

    ENTRY = "/private/vendor/kill/value"

    def __init__(self, number, pick):
        self.user, self.prefix, self.pick = f"u{number % USERS + 1}", f"m{number}n", pick
        self.kept, self.open, self.answered, self.wrong = {}, None, 0, []

    connect = Writer.connect

    def write(self, port):
        """Until the connection is gone."""
        try:
            wire = self.connect(port)
            self.delimiter = self.ask_delimiter(wire)
            while not self.wrong:
                self.step(wire)
        except (OSError, SystemExit):
            return

    def ask_delimiter(self, wire):
        return wire.ok('LIST "" ""')[-1].decode().split('"')[1]

    def step(self, wire):
        tops = sorted(name for name in self.kept if self.delimiter not in name)
        free = [name for name in (f"{self.prefix}{at}" for at in range(NAMES)) if name not in tops]
        if not tops or (len(tops) < 3 and self.pick.random() < 0.3):
            name = self.pick.choice(free)
            for name in [name, f"{name}{self.delimiter}below"][: self.pick.choice([1, 2])]:
                self.do(wire, "CREATE", name)
                self.expect(name, self.value(wire, name))
                self.do(wire, "SETMETADATA", name, f"{self.answered}")
        elif self.pick.random() < 0.75:
            self.do(wire, "RENAME", self.pick.choice(tops), self.pick.choice(free))
        else:
            top = self.pick.choice(tops)
            for name in sorted((name for name in self.kept if name == top or name.startswith(top + self.delimiter)), reverse=True):
                self.do(wire, "DELETE", name)

    def do(self, wire, verb, name, what=None):
        self.open = verb, name, what
        end = self.say(wire)
        # Of maildirs Dovecot says so now and then, and has created it all the same (README.md).
        if not end.startswith(b"OK") and not (verb == "CREATE" and b"[ALREADYEXISTS]" in end):
            self.wrong.append(f"{verb} {name} {what} refused: {end}")
            raise SystemExit
        self.take()
        self.answered += 1

    def say(self, wire):
        verb, name, what = self.open
        behind = {"SETMETADATA": f' ({self.ENTRY} "{what}")', "RENAME": f' "{what}"'}.get(verb, "")
        return wire.say(f'{verb} "{name}"{behind}')[1]

    def take(self):
        """What was open has happened."""
        verb, name, what = self.open
        self.open = None
        if verb == "RENAME":
            moved = lambda own: what + own[len(name) :] if own == name or own.startswith(name + self.delimiter) else own
            self.kept = {moved(own): value for own, value in self.kept.items()}
        elif verb == "DELETE":
            del self.kept[name]
        else:
            self.kept[name] = what

    def value(self, wire, name):
        behind = b" ".join(wire.ok(f'GETMETADATA "{name}" {self.ENTRY}')).decode().partition(f'{self.ENTRY} "')[2]
        return behind.partition('"')[0] if behind else None

    def listed(self, wire):
        lines = wire.ok(f'LIST "" "{self.prefix}*"')
        return {line.decode().split(" ")[-1].strip('"') for line in lines}

    def expect(self, name, found):
        if found != self.kept[name]:
            self.wrong.append(f"{name}: found {found}, promised {self.kept[name]}, open {self.open}")

    def check(self, port):
        """Whether each mailbox has what was promised; and whether more was done than was answered."""
        if self.wrong:
            return False, False
        wire = self.connect(port)
        more, happened, deleted = self.open is not None, False, None
        if more:
            verb, name, what = self.open
            listed = self.listed(wire)
            happened = {
                "CREATE": lambda: name in listed,
                "DELETE": lambda: name not in listed,
                "RENAME": lambda: what in listed,
                "SETMETADATA": lambda: self.value(wire, name) == what,
            }[verb]()
            if not happened and verb != "SETMETADATA":
                # The server may still do what it has read: said again it has happened, by the first word or the second.
                self.say(wire)
            if happened or verb != "SETMETADATA":
                self.take()
            deleted = name if verb == "DELETE" else None
            self.open = None
        if self.listed(wire) != set(self.kept):
            self.wrong.append(f"listed {sorted(self.listed(wire))}, promised {sorted(self.kept)}")
            return more, happened
        if deleted:
            self.do(wire, "CREATE", deleted)
        for name in self.kept:
            self.expect(name, self.value(wire, name))
        return more, happened


def main():
    parser = options(__doc__.splitlines()[0])
    parser.set_defaults(servers="dovecot-legacy")
    parser.add_argument("--rounds", type=int, default=12, help="how often the proxy is killed")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32), help="repeats the choices of a run")
    chosen = parser.parse_args()
    say(f"seed {chosen.seed}")
    pick = random.Random(chosen.seed)
    writers = [Writer(number, random.Random(pick.random())) for number in range(WRITERS)]
    writers += [Mover(number, random.Random(pick.random())) for number in range(MOVERS)]
    open_ends = kept_ends = 0
    with Stage() as stage, stage.part() as part:
        proxy = part.proxy(part.server(chosen.servers.split(",")[0]), "imap", chosen.proxy)
        for _ in range(chosen.rounds):
            threads = [threading.Thread(target=writer.write, args=[proxy.port], daemon=True) for writer in writers]
            for thread in threads:
                thread.start()
            time.sleep(0.1 + pick.random() * LONGEST)
            proxy.kill()
            for thread in threads:
                thread.join(20)
            proxy.start(fresh=False)
            for more, kept in [writer.check(proxy.port) for writer in writers]:
                open_ends, kept_ends = open_ends + more, kept_ends + kept
        wrong = [f"{writer.user} {what}" for writer in writers for what in writer.wrong]
        if fault := proxy.fault():
            wrong.append(fault)
    for line in wrong:
        say(line)
    answered = sum(writer.answered for writer in writers)
    say(f"{chosen.rounds} rounds, {answered} commands answered, {open_ends} under way when the proxy was killed, of which {kept_ends} were kept")
    if not answered:
        wrong.append("nothing was written")
    say(f"{int(not wrong)} passed, {int(bool(wrong))} failed")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    ended_early(main)
