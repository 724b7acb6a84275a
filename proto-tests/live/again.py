#!/usr/bin/env python3
"""Cuts the line to the server under clients that idle: what has changed meanwhile they hear on the same connection, or they hear BYE.

    $ proto-tests/live/again.py --servers dovecot,courier
    dovecot             a mail came: told, told  all was quiet: told, told  a mail went: BYE, BYE
    courier             a mail came: BYE, told  all was quiet: BYE, told  a mail went: BYE, told
    6 passed, 0 failed

First of each pair: the proxy knows no UIDs. Second: the client has searched with ESEARCH before, so where the server lacks that the proxy
knows them, and tells the mail that went too.
"""
import contextlib
import imaplib
import socket
import sys
import threading
import time
import types

sys.dont_write_bytecode = True

from stage import HERE, Part, Stage, ended_early, options, say

sys.path.insert(0, str(HERE / "clients"))
sys.path.insert(0, str(HERE / "servers"))
from account import Wire, message
from deliver import deliver

SILENT = {"courier"}  # without UIDNEXT nobody can tell whether a mail went: BYE is the honest answer
SECONDS = 90  # that a client waits for news: a server that is not there is asked for with growing pauses


class Line:
    """The way to a server, in the place of the server: it can be cut, and is shut until it is mended; or what stands on it is frozen."""

    def __init__(self, server, port):
        self.server, self.name, self.folder, self.port = server, server.name, server.folder, port
        self.ends, self.frozen, self.whole = [], [], True
        self.listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self.serve, daemon=True).start()

    def url(self, scheme):
        return f"{scheme}://127.0.0.1:{self.port}"

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                near = self.listener.accept()[0]
                if not self.whole:
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self.server.port))
                self.ends += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=pump, args=(source, sink, self.frozen), daemon=True).start()

    def cut(self):
        self.whole = False
        while self.ends:
            hang_up(self.ends.pop())

    def mend(self):
        self.whole = True

    def freeze(self):
        """Connections that stand carry nothing any more, and nobody is told; new ones do."""
        self.frozen += self.ends
        self.ends = []


def pump(source, sink, frozen):
    with contextlib.suppress(OSError):
        while octets := source.recv(65536):
            if source in frozen:
                return
            sink.sendall(octets)
    hang_up(source)
    hang_up(sink)


def hang_up(end):
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


class Idler:
    """A client in IDLE with one message in its INBOX."""

    def __init__(self, server, port, user, searches):
        self.server, self.user = server, user
        self.drop("first")
        self.wire = Wire(types.SimpleNamespace(host="127.0.0.1", port=port, user=user, password="pw"))
        self.wire.ok("SELECT INBOX")
        if searches:
            self.wire.ok("SEARCH RETURN (COUNT) ALL")
        self.wire.socket.settimeout(SECONDS)
        self.wire.socket.sendall(b"i IDLE\r\n")
        self.until(b"+")

    def drop(self, subject):
        server = self.server
        deliver(server.name, self.user, [message(subject)], str(server.folder), server.port, server.lmtp_port)

    def remove(self):
        with imaplib.IMAP4("127.0.0.1", self.server.port) as other:
            other.login(self.user, "pw")
            other.select()
            other.store("1", "+FLAGS", "\\Deleted")
            other.expunge()

    def until(self, *words):
        """The first line with one of these words; nothing if the connection ends without."""
        while line := self.wire.file.readline():
            if any(word in line for word in words):
                return line
        return b""

    def hears(self):
        """Whether it is told of the second mail, and the session goes on."""
        line = self.until(b"EXISTS", b"BYE")
        if b"BYE" in line:
            return "BYE"
        self.wire.socket.sendall(b"DONE\r\n")
        return "told" if line == b"* 2 EXISTS\r\n" and b"OK" in self.until(b"i ") else "lost"


def came(idler, line):
    line.cut()
    idler.drop("second")
    time.sleep(1)
    line.mend()
    return idler.hears()


def quiet(idler, line):
    line.cut()
    line.mend()
    time.sleep(1)
    idler.drop("second")
    return idler.hears()


def went(idler, line):
    line.cut()
    idler.remove()
    idler.drop("second")
    line.mend()
    line = idler.until(b"EXPUNGE", b"BYE")
    return "BYE" if b"BYE" in line else "told" if line == b"* 1 EXPUNGE\r\n" else "lost"


def main():
    parser = options(__doc__.splitlines()[0])
    chosen = parser.parse_args()
    passed = failed = 0
    with Stage() as stage:
        for name in chosen.servers.split(","):
            with stage.part() as part:
                row = try_server(part, name, chosen.proxy)
            say(f"{name:19} " + "  ".join(f"{what}: {', '.join(ends)}" for what, ends, _ in row))
            passed += sum(good for _, _, good in row)
            failed += sum(not good for _, _, good in row)
    say(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


def try_server(part: Part, name, program):
    server = part.server(name)
    line = Line(server, part.ports()[0])
    part.callback(hang_up, line.listener)
    proxy = part.proxy(line, "imap", program)
    row = []
    for number, (what, trial) in enumerate({"a mail came": came, "all was quiet": quiet, "a mail went": went}.items()):
        first, second = (trial(Idler(server, proxy.port, f"u{1 + 2 * number + searches}", searches), line) for searches in (0, 1))
        wanted = {"told", "BYE"} if trial is went or name in SILENT else {"told"}
        good = first in wanted and second in ({"told", "BYE"} if trial is went else {"told"})
        row.append((what, (first, second), good and not proxy.fault()))
    return row


if __name__ == "__main__":
    ended_early(main)
