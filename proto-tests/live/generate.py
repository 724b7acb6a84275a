"""Generated sessions: commands as a client might send them, well-formed and not, from a seed.

The generator keeps a rough idea of the account (mailboxes, messages in the open one) from what was answered, so that most commands
mean something. What it may say to a server is narrowed by that server's row in quirks.py.
"""
import dataclasses
import re

FLAGS = [r"\Seen", r"\Answered", r"\Flagged", r"\Deleted", r"\Draft", "$Forwarded", "work"]
STATUS = ["MESSAGES", "RECENT", "UIDNEXT", "UIDVALIDITY", "UNSEEN"]
ITEMS = [
    *("FLAGS", "UID", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODYSTRUCTURE", "BODY", "BODY.PEEK[]", "BODY[]", "BODY.PEEK[HEADER]"),
    *("BODY.PEEK[TEXT]", "BODY.PEEK[1]", "BODY.PEEK[2]", "BODY.PEEK[1.MIME]", "BODY.PEEK[HEADER.FIELDS (SUBJECT DATE)]"),
    *("BODY.PEEK[HEADER.FIELDS.NOT (RECEIVED)]", "BODY.PEEK[]<10.200>", "BODY.PEEK[TEXT]<0.7>", "RFC822.HEADER", "RFC822.TEXT", "RFC822"),
]
LIGHT = ["FLAGS", "UID", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY.PEEK[HEADER.FIELDS (SUBJECT DATE)]", "BODY.PEEK[]<10.200>"]
MACROS = ["ALL", "FAST", "FULL"]
KEYS = [
    *("ALL", "ANSWERED", "DELETED", "DRAFT", "FLAGGED", "SEEN", "UNANSWERED", "UNDELETED", "UNSEEN", "KEYWORD work", "UNKEYWORD work"),
    *("LARGER 500", "SMALLER 500", "SUBJECT Probe", 'SUBJECT "a b"', "FROM joe", "TO nobody", "TEXT Zeile", "BODY Zeile", "HEADER Subject 3"),
    *('SENTSINCE 3-Nov-2025', "SENTBEFORE 3-Nov-2025", "SENTON 3-Nov-2025", "SINCE 1-Jan-2025", "BEFORE 1-Feb-2025", "ON 3-Nov-2024"),
]
MALFORMED = [
    *("FETCH", "FETCH 1", "FETCH 1 ", "FETCH a FLAGS", "FETCH 1 (FLAGS", "FETCH 1 FLAGS)", "FETCH 0 FLAGS", "FETCH 1 BODY[", "FETCH 1 NONSENSE"),
    *("STORE", "STORE 1 +FLAGS", "STORE 1 NONSENSE (a)", "STORE x FLAGS ()", "SEARCH NONSENSE", "SEARCH OR SEEN", "SEARCH SINCE yesterday"),
    *("COPY 1", "APPEND", "APPEND INBOX", "SELECT", 'SELECT "', "STATUS INBOX", "STATUS INBOX MESSAGES", "STATUS INBOX (NONSENSE)", 'LIST ""'),
    *("CREATE", "DELETE", "RENAME a", "UID", "UID NONSENSE", "UID FETCH", "NOOP 1", "CHECK 1", "SUBSCRIBE", "LSUB"),
]
UNKNOWN = ["XYZZY", "FROB 1 2", "X-LEMON (a b)", 'NONSENSE "quoted"', "FETCHX 1 FLAGS", "XATOM"]


@dataclasses.dataclass
class Command:
    """A tagged command: words, literal, words, ... A literal is sent without waiting where its words end in `+}`."""

    tag: bytes
    parts: list
    verb: str
    effect: object = None  # called with True or False when it is answered

    def octets(self):
        return b"".join(self.parts)

    def waits(self):
        """Must the client wait for a `+` somewhere?"""
        return self.verb == "IDLE" or any(words.endswith(b"}\r\n") and not words.endswith(b"+}\r\n") for words in self.parts[:-1:2])

    def steps(self):
        """What to write before the first `+`, then after each."""
        return [self.parts[0], *(b"".join(pair) for pair in zip(self.parts[1::2], self.parts[2::2]))]


class Account:
    """What the sessions of one account know together."""

    def __init__(self):
        self.mailboxes = {"INBOX"}
        self.generators = []

    def removable(self):
        """Mailboxes that nobody has open, nor a child of them: servers end such a session."""
        opened = [one.selected + "/" for one in self.generators if one.selected]
        return [name for name in sorted(self.mailboxes - {"INBOX"}) if not any(re.match(re.escape(name) + "[/.]", one) for one in opened)]


class Generator:
    """One session: what to say next, and what was answered."""

    def __init__(self, random, quirks, capabilities, account):
        self.random, self.quirks, self.capabilities = random, quirks, capabilities
        self.tags = 0
        self.account, self.mailboxes = account, account.mailboxes
        account.generators.append(self)
        self.stale = False  # another session said something that this one may be told of
        self.settled = False  # a NOOP was the last we said
        self.selected, self.count, self.uid, self.writable = None, 0, 1, False
        self.streak = 0  # malformed commands in a row: servers end the session after some

    # What is said next.

    def group(self):
        """Commands that may go out in one write."""
        for other in self.account.generators:
            other.stale = other.stale or other is not self
        group = self.next()
        self.settled = len(group) == 1 and group[0].verb == "NOOP"
        return group

    def next(self):
        if self.selected is None and self.chance(0.6):
            return [self.select()]
        if self.selected and self.count < 3 and self.writable and self.chance(0.7):
            return [self.append(self.selected) if self.quirks.inward else self.close()]
        if self.chance(0.55) and self.quirks.pipeline > 1:
            if self.stale:  # news would come anywhere in the group
                return [self.fresh()]
            # What takes long or says much comes last: Dovecot lets what stands behind it overtake, as it may (RFC 3501 5.5).
            return [self.reading(light=True) for _ in range(self.random.randint(1, self.quirks.pipeline - 1))] + [self.reading()]
        if self.chance(self.quirks.malformed) and self.streak < 5:
            self.streak += 1
            return [self.plain("malformed", self.pick(self.allowed(MALFORMED if self.chance(0.7) else UNKNOWN)))]
        self.streak = 0
        return [self.writing() if self.chance(0.6) else self.reading()]

    def reading(self, light=False):
        """A command that changes nothing that others could be told of; a light one says little and at once."""
        anywhere = [self.list, self.lsub, self.status, self.noop]
        if light:
            inside = [self.glance]
        else:
            inside = [self.fetch, self.fetch, self.fetch, self.search, self.search]
            inside += self.offered(**{"SORT": self.sort, "THREAD=REFERENCES": self.thread})
        inside = [command for command in inside if command.__name__ not in self.quirks.without]
        return self.pick(anywhere + inside * 2 if self.selected and self.count else anywhere)()

    def writing(self):
        """A command that is sent alone."""
        anywhere = [self.append, self.append, self.create, self.delete, self.rename, self.subscribe, self.select, self.select, self.others]
        inside = [self.store, self.store, self.store, self.store, self.copy, self.copy, self.expunge, self.close, self.check]
        inside += self.offered(MOVE=self.move, IDLE=self.idle)
        if self.selected and self.count > 40:
            inside += [self.shrink] * 10
        anywhere, inside = ([command for command in some if command.__name__ not in self.quirks.without] for some in (anywhere, inside))
        return self.pick(anywhere + inside * 2 if self.selected and self.count else anywhere)()

    # The commands.

    def select(self):
        verb, name = self.pick(["SELECT", "SELECT", "SELECT", "EXAMINE"]), self.mailbox()

        def effect(ok):
            self.selected, self.writable = (name, verb == "SELECT") if ok else (None, False)
            self.count = self.count if ok else 0

        self.count = 0
        return self.plain(verb, f"{verb} {self.quoted(name)}", effect)

    def close(self):
        def effect(ok):
            if ok:
                self.selected, self.count = None, 0

        return self.plain("CLOSE", "CLOSE" if "UNSELECT" not in self.capabilities or self.chance(0.7) else "UNSELECT", effect)

    def fetch(self):
        if self.chance(0.1):
            items = self.pick(self.allowed(MACROS))
        else:
            items = f"({' '.join(self.some(self.allowed(ITEMS + self.extra_items()), 4))})"
        return self.plain("FETCH", f"{self.numbered('FETCH')} {items}")

    def glance(self):
        return self.plain("FETCH", f"{self.numbered('FETCH')} ({' '.join(self.some(self.allowed(LIGHT), 4))})")

    def extra_items(self):
        return [item for name, items in self.quirks.items.items() if name in self.capabilities for item in items]

    def search(self):
        keys = self.some(self.allowed(KEYS), 3)
        if self.chance(0.3):
            keys.append(self.set(self.count))
        if self.chance(0.2):
            keys.append(f"UID {self.set(self.uid)}")
        if self.chance(0.2):
            keys = [f"OR {keys[0]} NOT SEEN", *keys[1:]]
        head = "UID SEARCH" if self.chance(0.4) else "SEARCH"
        if "ESEARCH" in self.capabilities and self.chance(0.3):
            head += f" RETURN ({' '.join(self.some(['MIN', 'MAX', 'COUNT', 'ALL'], 3))})"
        if self.chance(0.15) and "LITERAL+" in self.capabilities:  # others must wait, so cannot stand in a group
            return self.with_literals("SEARCH", [f"{head} CHARSET UTF-8 SUBJECT ", self.pick(["Probe", "Müller"]), ""])
        return self.plain("SEARCH", f"{head} {' '.join(keys)}")

    def sort(self):
        order = self.pick(["ARRIVAL", "SUBJECT", "REVERSE SIZE", "FROM", "DATE SUBJECT"])
        return self.plain("SORT", f"{self.pick(['SORT', 'UID SORT'])} ({order}) UTF-8 {self.pick(self.allowed(KEYS))}")

    def thread(self):
        return self.plain("THREAD", f"{self.pick(['THREAD', 'UID THREAD'])} REFERENCES UTF-8 {self.pick(self.allowed(KEYS))}")

    def store(self):
        item = self.pick(["+FLAGS", "+FLAGS", "-FLAGS", "FLAGS"]) + self.pick(["", "", ".SILENT"])
        return self.plain("STORE", f"{self.numbered('STORE')} {item} ({' '.join(self.some(self.allowed(FLAGS), 3))})")

    def copy(self):
        return self.plain("COPY", f"{self.numbered('COPY')} {self.quoted(self.target())}")

    def move(self):
        return self.plain("MOVE", f"{self.numbered('MOVE')} {self.quoted(self.mailbox())}")

    def shrink(self):
        return self.plain("STORE", f"STORE 1:{self.count // 2} +FLAGS.SILENT (\\Deleted)")

    def expunge(self):
        if "UIDPLUS" in self.capabilities and self.chance(0.4):
            return self.plain("EXPUNGE", f"UID EXPUNGE {self.set(self.uid)}")
        return self.plain("EXPUNGE", "EXPUNGE")

    def append(self, mailbox=None):
        name = mailbox or self.target()
        parts = [f"APPEND {self.quoted(name)} {self.pick(['', '', f'({chr(92)}Seen) ', f'({chr(92)}Flagged work) '])}{self.date()} "]
        for more in range(2 if "MULTIAPPEND" in self.capabilities and self.chance(0.2) else 1):
            parts += [self.message(), f" {self.date()} "]
        return self.with_literals("APPEND", [*parts[:-1], ""])

    def create(self):
        if len(self.mailboxes) > 14:
            return self.delete()
        name = self.pick(self.quirks.names)
        return self.plain("CREATE", f"CREATE {self.quoted(name)}", lambda ok: ok and self.mailboxes.add(name))

    def delete(self):
        name = self.pick(self.account.removable() or ["Nothing"])
        return self.plain("DELETE", f"DELETE {self.quoted(name)}", lambda ok: ok and self.mailboxes.discard(name))

    def rename(self):
        old = self.pick(self.account.removable() or ["Nothing"])
        new = self.pick(self.quirks.names)

        def effect(ok):
            if ok:
                self.mailboxes.discard(old)
                self.mailboxes.add(new)

        return self.plain("RENAME", f"RENAME {self.quoted(old)} {self.quoted(new)}", effect)

    def subscribe(self):
        return self.plain("SUBSCRIBE", f"{self.pick(['SUBSCRIBE', 'UNSUBSCRIBE'])} {self.quoted(self.mailbox())}")

    def list(self):
        pattern = self.pick(self.allowed(["*", "%", "INBOX", "Work*", "%/%", "nothing", ""]))
        return self.plain("LIST", f'LIST "" {self.quoted(pattern)}')

    def lsub(self):
        return self.plain("LSUB", f'LSUB "" {self.quoted(self.pick(["*", "%", "Work*"]))}')

    def status(self):
        return self.plain("STATUS", f"STATUS {self.quoted(self.mailbox())} ({' '.join(self.some(self.allowed(STATUS), 5))})")

    def others(self):
        if self.stale:  # what the proxy answers by itself brings no news
            return self.fresh()
        choice = [("NAMESPACE", "NAMESPACE"), ("QUOTA", "GETQUOTAROOT INBOX"), ("ACL", "MYRIGHTS INBOX"), ("ID", "ID NIL"), ("IMAP4rev1", "CAPABILITY")]
        words = self.pick([words for name, words in choice if name in self.capabilities])
        return self.plain(words.split()[0], words)

    def check(self):
        return self.plain("CHECK", "CHECK")

    def idle(self):
        """IDLE and DONE at once; news is told to the clients of the matrix, here its moment would differ."""
        if self.stale or not self.settled:
            return self.fresh()
        tag = self.tag()
        return Command(tag, [tag + b" IDLE\r\n", b"", b"DONE\r\n"], "IDLE")

    def fresh(self):
        """A NOOP that brings all news."""
        self.stale = False
        return self.noop()

    def noop(self):
        return self.plain("NOOP", "NOOP")

    # Their pieces.

    def plain(self, verb, words, effect=None):
        if self.chance(0.03) and verb not in ("malformed",):
            words = words.replace(verb, verb.lower(), 1)
        tag = self.tag()
        return Command(tag, [tag + b" " + words.encode() + b"\r\n"], verb, effect)

    def with_literals(self, verb, pieces):
        """Words and literals in turn; each literal is announced by the words before it."""
        tag = self.tag()
        plus = "+" if "LITERAL+" in self.capabilities and (verb == "SEARCH" or self.chance(0.5)) else ""
        parts = [tag + b" "]
        for index, piece in enumerate(pieces):
            if index % 2:
                octets = piece if isinstance(piece, bytes) else piece.encode()
                parts[-1] += b"{%d%s}\r\n" % (len(octets), plus.encode())
                parts += [octets, b""]
            else:
                parts[-1] += piece.encode()
        parts[-1] += b"\r\n"
        return Command(tag, parts, verb)

    def tag(self):
        self.tags += 1
        return b"%s%d" % (self.pick([b"a", b"B", b"x."]), self.tags)

    def offered(self, **commands):
        """Those commands whose capability both ways offer."""
        return [command for capability, command in commands.items() if capability in self.capabilities]

    def numbered(self, verb):
        """The verb with numbers, or with UIDs."""
        return f"UID {verb} {self.set(self.uid)}" if self.chance(0.4) else f"{verb} {self.set(self.count)}"

    def set(self, top):
        top = max(1, top)
        low, high = sorted(self.random.randint(1, top) for _ in range(2))
        beyond = self.quirks.beyond and self.chance(0.03)
        choices = [f"{low}", f"{low}:{high}", f"{high}:{low}", f"{low}:*", "*", f"{low},{high}", f"{low}:{high},{top}"]
        return f"{top + 3}" if beyond else self.pick(choices if self.quirks.odd_sets else choices[:2])

    def mailbox(self):
        return self.pick([*sorted(self.mailboxes), "INBOX", "INBOX"] + (["Nothing"] if self.chance(0.1) else []))

    def target(self):
        """A mailbox to add messages to."""
        name = self.mailbox()
        return name if self.quirks.inward or name != self.selected else "Nothing"

    def quoted(self, name):
        name = name if name.upper() == "INBOX" or not name else self.quirks.prefix + name
        return name if re.fullmatch(r"[A-Za-z0-9./&-]+", name) and self.chance(0.5) else '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'

    def date(self):
        """Before the present year: quirks.py leaves out an INTERNALDATE of this year."""
        return f'"{self.random.randint(1, 28):2}-{self.pick(["Jan", "Feb", "Nov"])}-{self.random.randint(2020, 2025)} 10:00:00 +0000"'

    def message(self):
        number = self.random.randint(0, 9)
        kind = self.random.random()
        lines = self.random.randint(1, 20) if kind < 0.8 else 300 if kind < 0.97 else 4000
        text = "".join(f"Zeile {self.random.randint(0, 99)} * 1 EXPUNGE {{7}}\r\n" for _ in range(min(lines, 20))) * max(1, lines // 20)
        head = f"From: Joe <joe@example.org>\r\nTo: mary@example.org\r\nSubject: Probe {number}\r\nDate: {number + 1} Nov 2025 10:00:00 +0000\r\n"
        head += f"Message-ID: <{self.random.getrandbits(40):x}@example.org>\r\n"
        if self.chance(0.3):
            edge = f"edge{number}"
            part = f"--{edge}\r\nContent-Type: text/plain\r\n\r\n{text}"
            return f'{head}MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="{edge}"\r\n\r\n{part}{part}--{edge}--\r\n'.encode()
        return f"{head}\r\n{text}".encode()

    def allowed(self, choices):
        return [one for one in choices if not any(re.search(pattern, one) for pattern in self.quirks.left_out)]

    def some(self, choices, most):
        return self.random.sample(choices, self.random.randint(1, min(most, len(choices))))

    def pick(self, choices):
        return self.random.choice(choices)

    def chance(self, share):
        return self.random.random() < share

    # What was answered.

    def observe(self, group, lines):
        for line in lines:
            if line.startswith(b"* "):
                self.observe_untagged(line)
            else:
                for command in group:
                    if command.effect and line.startswith(command.tag + b" "):
                        command.effect(line.startswith(command.tag + b" OK"))

    def observe_untagged(self, line):
        words = line.split(None, 3)
        if len(words) > 2 and words[2] == b"EXISTS":
            self.count = int(words[1])
        elif len(words) > 2 and words[2] == b"EXPUNGE":
            self.count -= 1
        elif found := re.match(rb"\* OK \[UIDNEXT (\d+)\]", line):
            self.uid = max(1, int(found[1]) - 1)
