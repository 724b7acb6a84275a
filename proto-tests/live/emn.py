#!/usr/bin/python3
"""Notices to devices: libwbxml, tshark, expat and python3-cryptography read ours, and `lemonade-proxy receive` reads theirs.

    $ proto-tests/live/emn.py --proxy target/tests/lemonade-proxy
    91 passed, 0 failed

Ours come from the program live-notices, which is built beside the proxy. tshark knows the number of no type of EMN: it is told WBXML.
The Python is Debian's own, for it has Debian's packages.
"""
import argparse
import contextlib
import pathlib
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as xml

sys.dont_write_bytecode = True

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from stage import Tally, ended_early, say

PSK = bytes(range(32))
ID = bytes.fromhex("a1b2c3d4")
KEY_LINE = "a1b2c3d4:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8\n"
PUSH = bytes.fromhex("010603a9af89")  # transaction 1, Push, headers: WBXML, for emn.ua
DOCTYPE = '<?xml version="1.0"?><!DOCTYPE emn PUBLIC "-//WAPFORUM//DTD EMN 1.0//EN" "http://www.wapforum.org/DTD/emn.dtd">'

# What libwbxml is asked to write, with tokens that we never write.
FOREIGN = [
    ("mailat:joe@foo.com", "2004-02-20T06:40:00Z"),
    ("imap://joe@mail.foo.com/INBOX", "2026-11-22T00:00:00Z"),
    ("pop://joe@pop.example.com", "2026-11-22T18:05:59Z"),
    ("http://www.foo.com/mail", "2026-11-22T18:05:00Z"),
    ("https://foo.net/mail", "2026-11-22T18:00:00Z"),
    ("mailat:jürgen@x.org", "2026-11-22T18:05:59Z"),
    ("tel:555", "2026-11-22T18:05:59Z"),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--proxy", default="target/release/lemonade-proxy", help="the program; live-notices stands beside it")
    chosen = parser.parse_args()
    ours = run(pathlib.Path(chosen.proxy).with_name("live-notices")).decode()
    notices = [(form, bytes.fromhex(octets), read) for form, octets, *read in (line.split("\t") for line in ours.splitlines())]
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        read_by_libwbxml(notices, folder, tally)
        read_by_tshark(notices, folder, tally)
        read_by_expat(notices, tally)
        opened(notices, tally)
        received_in_clear(chosen.proxy, notices, folder, tally)
        received_sealed(chosen.proxy, notices, folder, tally)
    say(f"{tally.passed} passed, {tally.failed} failed")
    sys.exit(1 if tally.failed or not tally.passed else 0)


def run(*command):
    """What it says; tshark and libwbxml chat on the other channel."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout


def of(form, notices):
    return [(octets, read) for name, octets, read in notices if name == form]


def read_by_libwbxml(notices, folder, tally):
    for octets, read in of("emn-wbxml", notices):
        (folder / "emn.wbxml").write_bytes(octets)
        found = xml.fromstring(run("wbxml2xml", "-o", "-", folder / "emn.wbxml"))
        tally.check(f"wbxml2xml {read}", [found.get("mailbox"), found.get("timestamp")], read)


def read_by_tshark(notices, folder, tally):
    """Each as a push to the port of WAP, in a file of packets."""
    emns = of("emn-wbxml", notices)
    dump = "".join(f"0000 {(PUSH + octets).hex(' ')}\n" for octets, _ in emns)
    (folder / "emn.txt").write_text(dump)
    run("text2pcap", "-q", "-u", "9200,2948", folder / "emn.txt", folder / "emn.pcap")
    shown = run("tshark", "-r", folder / "emn.pcap", "-O", "wbxml", "-S", "=packet=").decode()
    packets = [packet for packet in shown.split("=packet=") if "WAP Binary XML" in packet]
    tally.check("tshark: packets", len(packets), len(emns))
    for packet, (_, read) in zip(packets, emns):
        found = re.search(r"mailbox='(.*)'\n.*STR_I.*?\| +'(.*)'\n(?s:.*)%DateTime: (\S+)", packet)
        tally.check(f"tshark {read}", found and [found.group(1) + found.group(2), found.group(3)], read)


def read_by_expat(notices, tally):
    for octets, read in of("emn", notices):
        found = xml.fromstring(octets)
        tally.check(f"expat {read}", [found.tag, found.get("mailbox"), found.get("timestamp")], ["emn", *read])
    for octets, read in of("xemn", notices):
        found = xml.fromstring(octets)
        attributes = [found.get(name) for name in ("mailbox", "timestamp", "sequence-id", "uid", "view", "subject")]
        tally.check(f"expat {read}", [found.tag, *attributes, found.text], ["xemn", *read])


def cipher(of_device):
    """The key of one direction."""
    return ChaCha20Poly1305(HKDF(SHA256(), 32, None, b"mem-udp-wakeup v1 c2s=%d" % of_device).derive(PSK))


def unsealed(datagram):
    """Header and payload; none where the tag is wrong."""
    header, sealed = datagram[:24], datagram[24:]
    try:
        return header, cipher(header[4] >> 7).decrypt(header[8:20], sealed, header)
    except InvalidTag:
        return header, None


def opened(notices, tally):
    for octets, read in of("mem1", notices):
        header, payload = unsealed(octets)
        tally.check(f"MEM1 {header.hex()}", payload and payload.hex(), *read)


@contextlib.contextmanager
def receiver(program, *arguments):
    """`lemonade-proxy receive`, a socket that speaks to it, and a way to end it that says all its lines."""
    process = subprocess.Popen([program, "receive", "--udp", "127.0.0.1:0", *arguments], stdout=subprocess.PIPE, text=True)
    try:
        port = int(process.stdout.readline().split("port=")[1])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
            server.settimeout(5)
            server.connect(("127.0.0.1", port))
            yield server, process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def value(line, name):
    """The value of a word in a line of the receiver's."""
    return next((word.split("=", 1)[1] for word in shlex.split(line) if word.startswith(f"{name}=")), None)


def received_in_clear(program, notices, folder, tally):
    sent = [(octets, read[:2]) for form in ("emn-wbxml", "emn", "xemn") for octets, read in of(form, notices)]
    for mailbox, timestamp in FOREIGN:
        (folder / "emn.xml").write_text(f'{DOCTYPE}<emn mailbox="{mailbox}" timestamp="{timestamp}"/>')
        run("xml2wbxml", "-o", folder / "emn.wbxml", folder / "emn.xml")
        sent.append(((folder / "emn.wbxml").read_bytes(), [mailbox, timestamp]))
    with receiver(program, "--count", str(len(sent))) as (server, process):
        server.send(b"hello")
        tally.check("receive: garbage", process.stdout.readline().split()[0], "dropped")
        for octets, read in sent:
            server.send(octets)
            line = process.stdout.readline()
            tally.check(f"receive {octets.hex()}", [value(line, "mailbox"), value(line, "timestamp")], read)
        tally.check("receive: ends after so many", process.wait(5), 0)


def received_sealed(program, notices, folder, tally):
    (folder / "keys").write_text(KEY_LINE)
    payload = of("emn-wbxml", notices)[0][0]

    def seal(what, kind, sequence, text, now):
        header = b"MEM1" + bytes([what, kind, 0, 0]) + ID + sequence.to_bytes(8, "big") + int(now).to_bytes(4, "big")
        return header + cipher(0).encrypt(header[8:20], text, header)

    with receiver(program, "--key-file", folder / "keys") as (server, process):
        for what, kind, sequence, text, word, answer in [
            (0x01, 2, 7, payload, "notice", 0x81),
            (0x02, 0, 8, b"", "probe", 0x82),
            (0x01, 2, 7, payload, "repeated", 0x81),
        ]:
            server.send(seal(what, kind, sequence, text, time.time()))
            header, said = unsealed(server.recv(512))
            tally.check(f"receive: {word}", process.stdout.readline().split()[0], word)
            tally.check(f"answer to {word}", [header[4], header[12:20], said], [answer, sequence.to_bytes(8, "big"), b""])
        for datagram in (payload, seal(0x01, 2, 9, payload, time.time() - 400), seal(0x01, 2, 9, payload, time.time())[:-1] + b"x"):
            server.send(datagram)
            tally.check("receive: not to be believed", process.stdout.readline().split()[0], "dropped")
        # The next answer is that to the probe: what was dropped had none.
        server.send(seal(0x02, 0, 10, b"", time.time()))
        tally.check("receive: no answer to what is dropped", unsealed(server.recv(512))[0][4], 0x82)
        process.send_signal(signal.SIGTERM)
        tally.check("receive: ends by SIGTERM", process.wait(5), 0)


if __name__ == "__main__":
    ended_early(main)
