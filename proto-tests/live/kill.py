#!/usr/bin/env python3
"""Kills the proxy while it writes annotations, and looks whether all that it answered OK is there.

    $ proto-tests/live/kill.py --rounds 12 --seed 17
    seed 17
    12 rounds, 8123 commands answered, 43 under way when the proxy was killed, of which 9 were kept
    1 passed, 0 failed

Each writer has two entries of its own and sets both in one command, or removes both. After SIGKILL and a new start each has the
value of its last command that was answered OK, or of the one behind it that was not answered; and both have the same.
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
            while True:
                value = None if self.pick.random() < 0.15 else f"{self.answered}-" + "x" * self.pick.choice([0, 10, 900])
                quoted = f'"{value}"' if value else "NIL"
                self.sent = value
                end = wire.say(f"SETMETADATA INBOX ({self.names[0]} {quoted} {self.names[1]} {quoted})")[1]
                if not end.startswith(b"OK"):
                    self.wrong.append(f"refused: {end}")
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
            self.wrong.append(f"half of a command: {found}")
        elif found[0] not in (self.promised, self.sent):
            self.wrong.append(f"found {found[0]}, promised {self.promised}, sent {self.sent}")
        more = self.sent != self.promised
        kept = more and found[0] == self.sent
        self.promised = self.sent = found[0]
        return more, kept


def main():
    parser = options(__doc__.splitlines()[0])
    parser.set_defaults(servers="dovecot-legacy")
    parser.add_argument("--rounds", type=int, default=12, help="how often the proxy is killed")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32), help="repeats the choices of a run")
    chosen = parser.parse_args()
    say(f"seed {chosen.seed}")
    pick = random.Random(chosen.seed)
    writers = [Writer(number, random.Random(pick.random())) for number in range(WRITERS)]
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
        wrong = [f"{writer.user} {writer.names[0]}: {what}" for writer in writers for what in writer.wrong]
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
