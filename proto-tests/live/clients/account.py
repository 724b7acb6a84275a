"""What every client script needs: the account it was given, messages to send, and ways to say ok, failed or skipped.

A client script is called NAME HOST PORT TLSPORT USER and exits 0 (all worked), 77 (the client is not installed) or anything else.
What it checks is what that client can see; the octets it compares it made itself.
"""
import imaplib
import io
import os
import pathlib
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import zlib

SKIPPED = 77
imaplib._MAXLINE = 10_000_000


class Account:
    """The mailbox of one user behind one address, as the command line named it."""

    def __init__(self):
        self.host, self.port, self.tls_port, self.user = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
        self.password = os.environ.get("LIVE_PASSWORD", "pw")

    def connect(self, security="none"):
        """A logged-in imaplib session: none, starttls, tls, or deflate above starttls. The certificate is self-signed and not verified."""
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        if security == "tls":
            session = imaplib.IMAP4_SSL(self.host, self.tls_port, ssl_context=trusting, timeout=60)
        else:
            session = imaplib.IMAP4(self.host, self.port, timeout=60)
            if security in ("starttls", "deflate"):
                session.starttls(trusting)
        session.login(self.user, self.password)
        # imaplib asks only before login, where many servers, and the proxy, say less.
        session.capabilities = tuple(session.capability()[1][-1].decode().upper().split())
        if security == "deflate":
            deflate(session)
        return session

    def prefix(self):
        """What the personal namespace begins with (RFC 2342): Courier keeps all mailboxes below INBOX."""
        with self.connect() as session:
            answer = session.namespace()[1][0] if "NAMESPACE" in session.capabilities else None
        return "INBOX." if answer and b'"INBOX."' in answer else ""

    def messages(self, mailbox="INBOX"):
        """Every message of a mailbox, octet for octet."""
        with self.connect() as session:
            check(session.select(f'"{mailbox}"', readonly=True)[0] == "OK", f"cannot open {mailbox}")
            found = session.search(None, "ALL")[1][0].split()
            return [session.fetch(number, "(BODY.PEEK[])")[1][0][1] for number in found]


class Inflated(io.RawIOBase):
    """What a socket under DEFLATE means (RFC 4978)."""

    def __init__(self, below):
        self.socket, self.coder = below, zlib.decompressobj(-zlib.MAX_WBITS)

    def readable(self):
        return True

    def readinto(self, into):
        octets = self.coder.decompress(self.coder.unconsumed_tail, len(into))
        while not octets and not self.coder.eof:
            if not (heard := self.socket.recv(1 << 16)):
                return 0
            octets = self.coder.decompress(heard, len(into))
        into[: len(octets)] = octets
        return len(octets)


def deflate(session):
    """Begins DEFLATE in an imaplib session, which knows nothing of it."""
    check("COMPRESS=DEFLATE" in session.capabilities, f"COMPRESS is not offered: {session.capabilities}")
    check(session.xatom("COMPRESS", "DEFLATE")[0] == "OK", "COMPRESS is refused")
    coder = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    session.file = io.BufferedReader(Inflated(session.sock))
    session.send = lambda octets: session.sock.sendall(coder.compress(octets) + coder.flush(zlib.Z_SYNC_FLUSH))
    check(b"COMPRESS=" not in session.capability()[1][-1].upper(), "COMPRESS is offered twice")


class Wire:
    """A session line by line, for words that no library knows. Literals in answers are read with their lines."""

    def __init__(self, account):
        self.socket = socket.create_connection((account.host, account.port), timeout=60)
        self.file = self.socket.makefile("rwb")
        self.number = 0
        check(self.line().startswith(b"* OK"), "no greeting")
        self.ok(f'LOGIN {account.user} "{account.password}"')

    def line(self):
        """The next response, whole."""
        line = self.file.readline()
        while match := re.search(rb"\{(\d+)\}\r\n$", line):
            line += self.file.read(int(match[1])) + self.file.readline()
        check(line.endswith(b"\r\n"), "the connection was closed")
        return line[:-2]

    def begin(self, *commands):
        """Commands in one write; their tags."""
        tags = [b"w%d" % (self.number + index) for index, _ in enumerate(commands, 1)]
        self.number += len(tags)
        self.write(b"".join(tag + b" " + (words if isinstance(words, bytes) else words.encode()) + b"\r\n" for tag, words in zip(tags, commands)))
        return tags

    def write(self, octets):
        self.file.write(octets)
        self.file.flush()

    def finish(self, tags):
        """The untagged answers until all of these are answered, and the words of each one's end."""
        lines, ends = [], {}
        while len(ends) < len(tags):
            tag, _, words = (line := self.line()).partition(b" ")
            if tag in tags:
                ends[tag] = words
            else:
                lines.append(line)
        return lines, [ends[tag] for tag in tags]

    def say(self, command):
        """A command; its untagged answers, and the words of its end."""
        lines, ends = self.finish(self.begin(command))
        return lines, ends[0]

    def ok(self, command):
        """The same, for one that must succeed."""
        lines, end = self.say(command)
        check(end.startswith(b"OK"), f"{command}: {end}")
        return lines


def message(subject, size=300):
    """A message of about this many octets, with CRLF, a folded header and 8-bit text."""
    head = (
        f"From: Joe <joe@example.org>\r\nTo: Mary <mary@example.org>\r\nSubject: {subject}\r\n"
        f"Message-ID: <{subject}@example.org>\r\nDate: Tue, 03 Nov 2026 10:00:00 +0000\r\nMIME-Version: 1.0\r\n"
        "Content-Type: text/plain;\r\n charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    )
    line = "Zur Probe, {5} * 3 EXPUNGE: äöü\r\n"
    return (head + line * max(1, (size - len(head)) // len(line.encode()))).encode()


def check(fact, otherwise):
    """Ends the script with a sentence unless the fact holds."""
    if not fact:
        sys.exit(f"failed: {otherwise}")


def need(program):
    """Skips, aloud, if the client is not installed."""
    if not shutil.which(program):
        print(f"skipped: {program} is not installed")
        sys.exit(SKIPPED)


def run(*command, stdin=None, timeout=120):
    """Runs the client; its output is shown only if it fails."""
    done = subprocess.run(command, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout)
    if done.returncode:
        sys.stdout.write(done.stdout.decode(errors="replace"))
        sys.exit(f"failed: {command[0]} ended with {done.returncode}")
    return done.stdout


def scratch():
    """An empty directory that goes away with the script."""
    folder = tempfile.TemporaryDirectory(prefix="live-client-")
    scratch.kept = getattr(scratch, "kept", []) + [folder]
    return pathlib.Path(folder.name)


def as_unix(octets):
    """How clients keep mail in maildirs: bare LF."""
    return octets.replace(b"\r\n", b"\n")
