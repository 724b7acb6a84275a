"""What may differ between the direct and the proxied transcript, and what the generators do not say to which server.

REWRITES is the whole list of declared differences: each is removed from both transcripts before they are compared, octet for octet.
QUIRKS has a row per server. A thing is left out where even two direct sessions differ, where the proxy has something that the server has
not (then the two must differ), or where the server does not survive it. Measured with `differential.py --against direct`, and with
`walk.py --against direct`, where a thing is left out too if a client cannot know by it what is true.
"""
import dataclasses
import re
import time

REWRITES = [
    # name, pattern, what takes its place, why
    ("capability", rb"(?m)^\* CAPABILITY [^\r]*", b"* CAPABILITY", "capability rewriting is what the proxy is for"),
    ("capability code", rb"\[CAPABILITY [^\]]*\]", b"[CAPABILITY]", "the same"),
    ("id", rb"(?m)^\* ID [^\r]*\r\n", b"", "the proxy answers ID itself; mailutils says nothing of itself"),
    ("continuation", rb"(?m)^\+[^\r]*\r\n", b"", "who takes a small literal, and with which words, is the proxy's choice (RFC 3501 7.5)"),
    ("duration", rb"\d+\.\d+(?: \+ \d+\.\d+)* secs?", b"t secs", "Dovecot and Cyrus say how long a command took"),
    ("validity", rb"(UIDVALIDITY|APPENDUID|COPYUID) \d+", rb"\1", "each server makes it from the time"),
    ("mailbox id", rb"MAILBOXID \([^)]*\)", b"MAILBOXID", "the server makes it from the time and chance (RFC 8474)"),
    ("marked", rb" \\(?:Un)?[Mm]arked(?=[ )])|(?<=\()\\(?:Un)?[Mm]arked ?", b"", "Dovecot says so when it happened to look into the mailbox"),
    ("children", rb" \\Has(?:No)?Children(?=[ )])|(?<=\()\\Has(?:No)?Children ?", b"", "the proxy says so in front of a server that does not (RFC 3348)"),
    ("now", rb'INTERNALDATE "[^"]*-%d [^"]*"' % time.gmtime().tm_year, b'INTERNALDATE "now"', "when an APPEND without a date came"),
    ("unopened", rb"(?<= NO SELECT )(?:Couldn't open mailbox|Could not open [^\r]*: No such file or directory)", b"none", "mailutils, by whether a LIST like ours came before"),
    ("user", rb"\bu\d\d?\b", b"user", "the two ways use two accounts"),
]
REWRITES = [(re.compile(pattern), words) for _, pattern, words, _ in REWRITES]
OURS = {"CAPABILITY", "ID", "IDLE"}  # the proxy answers these itself: the words of their tagged OK may differ


@dataclasses.dataclass
class Quirks:
    """How to speak to one server."""

    names: list  # of mailboxes to make
    prefix: str = ""  # what the names begin with
    connections: int = 1  # sessions on the same account at the same time
    pipeline: int = 12  # how many commands go out together at most
    floating: bool = False  # the tagged lines of a pipelined group move about, depending on where the segments end
    fleeting: bool = False  # what another session has done to flags comes at once or in pieces, and not of what goes in the same answer
    malformed: float = 0.1  # the share of malformed and unknown commands
    beyond: bool = True  # numbers past the end
    odd_sets: bool = True  # sets with several parts, reversed, or with `*`
    inward: bool = True  # APPEND and COPY to the mailbox that is open
    items: dict = dataclasses.field(default_factory=dict)  # FETCH items by the capability that brings them
    left_out: list = dataclasses.field(default_factory=list)  # patterns of items, keys, flags and malformed commands
    without: list = dataclasses.field(default_factory=list)  # commands by the name of their function in generate.py
    shuffles: bool = False  # messages stored within a second stand in any order
    scatters: bool = False  # messages stored across a second have any UIDs
    impatient: bool = False  # ends a session at a malformed command, by a count of its own that two equal sessions reach at different ones
    keywords: bool = True  # flags may have any name
    tells: bool = True  # NOOP tells of what others have done; otherwise the mailbox has to be selected again
    mute: bool = False  # its own IDLE tells late or nothing
    hushes: bool = False  # who copies a message, or changes its flags in silence, is not told any more what others have done to them
    loses_content: bool = False  # a message whose flags others have changed may be shown without its header
    fresh: list = dataclasses.field(default_factory=list)  # commands that must not name messages that others have removed
    alone: list = dataclasses.field(default_factory=list)  # commands during which nobody may change anything
    confession: list = dataclasses.field(default_factory=list)  # logs of its, and words there that say that it was itself at fault
    unwalked: dict = dataclasses.field(default_factory=dict)  # what walk.py leaves out, by the name of its function there, and why
    unkept: dict = dataclasses.field(default_factory=dict)  # and what it leaves out before the server itself: the proxy does it there
    unsteady: bytes = b""  # responses that come now or later in two direct sessions too

    def unwalked_at(self, directly):
        return {**self.unwalked, **(self.unkept if directly else {})}

    def confessions(self, folder, user):
        """How often the server's own log says that it was at fault with this account."""
        return sum(len(re.findall(rf"\({user}\).*{words}", (folder / log).read_text(errors="replace"))) for log, words in self.confession)

    def rewritten(self, response, ours):
        """A response without its declared differences; `ours` are the tags of commands that the proxy answers itself."""
        if ours and (tag := response.split(b" ", 1)[0]) in ours and response.startswith(tag + b" OK "):
            return tag + b" OK\r\n"
        if self.unsteady and re.fullmatch(self.unsteady, response):
            return b""
        if self.scatters:
            response = UIDNEXT.sub(rb"\1", response)
        for pattern, words in REWRITES:
            response = pattern.sub(words, response)
        return response


NAMES = ["Work", "Work/2025", "Work/2026", "Sent", "Entw&APw-rfe", "with space", "a-b", "Play", "Play/chess", "x"]

# mailutils looks at the clock before it looks for news; and its EXPUNGED stands behind numbers of messages that are still there, where
# the proxy finds out which are gone.
NEWS = rb"\* \d+ (EXISTS|RECENT|EXPUNGED?|FETCH FLAGS \([^)]*\))\r\n"

# Each time mailutils looks at a mailbox in another second than before, it counts what is new once more: UIDNEXT runs ahead of the UIDs, and
# UIDs leave gaps. Two accounts to which the same was said then have the same messages under other UIDs.
UIDNEXT = re.compile(rb"(UIDNEXT) \d+")

MUTE_NOTIFY = {"notify": "its NOTIFY tells nothing of the selected mailbox"}
NO_SEARCH = {"search": "`SEARCH UID 4` finds number 4; HEADER does not find the file of a message whose flags others have changed"}

# Maildirs are read while files in them are renamed: some seem to have gone, and come again.
LOST_FILE = "(Expunged message reappeared|Duplicate file entry)"

# `* BYE Fatal error: Internal error: assertion failed: imap/msgrecord.c: 193: record->recno`. And of messages that come while it
# searches, Cyrus may tell no EXISTS, then or later.
CYRUS = {"fresh": ["STORE", "COPY", "EXPUNGE"], "alone": ["SEARCH"]}

# What others remove or add moves numbers and UIDs of an open session without a word, until it selects the mailbox again; IDLE is as silent.
MAILUTILS = {"fresh": ["FETCH", "STORE", "COPY", "EXPUNGE"], "tells": False, "mute": True, "loses_content": True, "keywords": False}

QUIRKS = {
    "dovecot": Quirks(NAMES, connections=2, floating=True, fleeting=True, items={"BINARY": ["BINARY.PEEK[1]", "BINARY.SIZE[1]"]}, unkept=MUTE_NOTIFY),
    "dovecot-legacy": Quirks(NAMES, connections=2, floating=True, fleeting=True, confession=[("dovecot.log", LOST_FILE)]),
    "courier": Quirks(
        [name.replace("/", ".") for name in NAMES], prefix="INBOX.", without=["thread"], impatient=True, shuffles=True, hushes=True, loses_content=True,
    ),
    "cyrus": Quirks(NAMES, connections=2, fleeting=True, items={"BINARY": ["BINARY.PEEK[1]", "BINARY.SIZE[1]"]}, **CYRUS),
    "mailutils": Quirks(
        NAMES[4:6], without=["idle"], pipeline=1, odd_sets=False, beyond=False, inward=False, left_out=["KEYWORD"], unsteady=NEWS, scatters=True,
        unwalked=NO_SEARCH, **MAILUTILS,
    ),
}
