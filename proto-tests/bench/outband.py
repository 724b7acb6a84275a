#!/usr/bin/python3
"""What watched accounts cost, and how soon their devices are told: before a backend that idles, and before one that has to be asked.

    proto-tests/bench/outband.py                     everything (ten minutes); writes the table into README.md
    proto-tests/bench/outband.py --quick --print     a look whether all of it works; the figures mean little

The backend is bench-backend, which lets the master user in for everybody; the devices are a socket here, which acknowledges (MEM1). README.md
says what is measured. The Python is Debian's own, for it has python3-cryptography.
"""
import argparse
import concurrent.futures
import http.client
import json
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

sys.dont_write_bytecode = True

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
README = HERE / "README.md"
BEGIN, END = "<!-- results: written by outband.py -->", "<!-- end of results of outband.py -->"
sys.path[:0] = [str(HERE), str(HERE.parent / "live"), str(HERE.parent / "live" / "clients")]

from emn import KEY_LINE
from idle import BACKENDS, party, resident, table
from lost import acknowledgement
from metadata import quantiles
from stage import Stage, ended_early, say

ACCOUNTS = 5_000
RATE = 100  # messages a second, each to another account: one half of them; the other half has its messages at once
SAVERS = (1, 100, 5_000)  # accounts that save at the same time
PATIENCE = 180  # seconds until something is given up
MESSAGE = b"The quick brown fox jumps over the lazy dog, a hundred times..\r\n"  # so begins what bench-backend compares
RUNS = [("idles", "3s"), ("idles", "0s"), ("has to be asked", "3s")]

OUTBAND = """
[outband]
udp = true
allow = ["127.0.0.0/8"]
spread = "10s"
watch = "master"
master = {{ user = "master", password_file = "{secret}" }}

[outband.patience]
debounce = "{debounce}"
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--proxy", default=str(ROOT / "target/release/lemonade-proxy"), help="the program")
    parser.add_argument("--backend", default=str(ROOT / "target/tests/bench-backend"), help="bench-backend; bench-store stands beside it")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    parser.add_argument("--print", action="store_true", help="leave README.md alone")
    chosen = parser.parse_args()
    share = 10 if chosen.quick else 1
    rows = store(Path(chosen.backend).with_name("bench-store"), share)
    with Stage() as stage, tempfile.TemporaryDirectory() as folder:
        secret = Path(folder, "secret")
        secret.write_text("master-pw\n")
        for index, (kind, debounce) in enumerate(RUNS):
            with stage.part(index) as part:
                more = OUTBAND.format(secret=secret, debounce=debounce)
                proxy, port = party(stage, part, chosen, BACKENDS[kind], more)
                rows += watched(proxy, port, ACCOUNTS // share, f"backend {kind}, debounce {debounce}")
                proxy.stop()
    text = table(rows, chosen.proxy)
    say(text)
    if not chosen.print:
        before, _, rest = README.read_text().partition(BEGIN)
        README.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}")


def store(program, share):
    """What the store takes, while so many save at the same time."""
    rows = []
    for savers in SAVERS:
        with tempfile.TemporaryDirectory(dir=program.parent) as state:
            command = [program, "--accounts", str(savers), "--seconds", str(max(2, 10 // share)), "--state", state]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        done = json.loads(said.removeprefix("done "))
        rate = done["turns"] / done["seconds"]
        figure = f"{rate:.0f} a second, p50 {done['p50_ms']} ms, p99 {done['p99_ms']} ms; {done['refused']} refused"
        rows.append(("turns on the disk", f"{savers} accounts", figure))
    return rows


def watched(proxy, port, count, label):
    """All figures of one backend and one debounce."""
    empty = resident(proxy)
    devices = Devices()
    devices.start()
    began = time.monotonic()
    provision(proxy, devices, count)
    until(lambda: connected(proxy) == count, "all are looked after")
    provisioned = time.monotonic() - began
    # Memory as it is behind a start, without what provisioning has left.
    proxy.stop()
    began = time.monotonic()
    proxy.start(fresh=False)
    until(lambda: connected(proxy) == count, "all are looked after again")
    resumed = time.monotonic() - began
    time.sleep(2)
    grown = (resident(proxy) - empty) / count
    auxiliary = counted(proxy, "lemonade_backend_auxiliary_connections{") / count
    order = random.Random(count).sample(range(count), count)
    steady, burst = order[: count // 2], order[count // 2 :]
    times = devices.told(steady, deliver(port, steady, 1 / RATE))
    before, stored = time.monotonic(), counted(proxy, 'lemonade_store_requests_total{outcome="ok"')
    seen = histogram(proxy)
    sent = deliver(port, burst, 0)
    devices.told(burst, sent)
    spent = time.monotonic() - before
    stored = counted(proxy, 'lemonade_store_requests_total{outcome="ok"') - stored
    of = f"{count} accounts"
    return [
        (f"{what}, {label}", of, figure)
        for what, figure in [
            ("delivered to received", f"p50 {quantiles(times)[0]} ms, p99 {quantiles(times)[1]} ms"),
            ("seen to acknowledged", f"p50 at most {seen[0]} s, p99 at most {seen[1]} s"),
            (f"{len(burst)} messages at once, until all were told", f"{spent:.1f} s; the store was asked {stored / spent:.0f} times a second"),
            ("RSS of a watched account", f"{grown:.1f} KiB"),
            ("connections to the backend of a watched account", f"{auxiliary:.2f}"),
            ("provisioned and looked after; looked after behind a start (spread over 10 s)", f"{provisioned:.0f} s; {resumed:.0f} s"),
        ]
    ]


class Devices(threading.Thread):
    """The devices of all accounts, at one port, each with a key of its own name: they acknowledge what comes, and note when it came first."""

    def __init__(self):
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE: who comes at once shall find room
        self.socket.bind(("127.0.0.1", 0))
        self.first = {}

    def address(self, number):
        return f"127.0.0.1:{self.socket.getsockname()[1]}|{number:08x}:{KEY_LINE.strip().partition(':')[2]}"

    def run(self):
        while True:
            datagram, sender = self.socket.recvfrom(2048)
            now = time.monotonic()
            self.first.setdefault(int.from_bytes(datagram[8:12]), now)
            self.socket.sendto(acknowledgement(datagram[:24]), sender)

    def told(self, numbers, sent):
        """Seconds from each message to its notice, when all have come."""
        until(lambda: all(number in self.first for number in numbers), "all are told")
        return [self.first[number] - sent[number] for number in numbers]


def provision(proxy, devices, count):
    """As `lemonade-proxy devices set` does, without a process for each."""
    threads = 8
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda first: provision_some(proxy, devices, range(first, count, threads)), range(threads)))


def provision_some(proxy, devices, numbers):
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(proxy.state / "admin.sock"))
    for number in numbers:
        wish = {"channel": "UDP=EXTENDED", "address": devices.address(number)}
        connection.request("PUT", f"/devices/user{number}/phone", json.dumps(wish))
        answer = connection.getresponse()
        said = answer.read()
        if answer.status != 200:
            sys.exit(f"user{number}: {answer.status} {said.decode()}")


def deliver(port, numbers, pause):
    """A message to each of these, so many seconds apart, past the proxy; when each was sent."""
    sent, began = {}, time.monotonic()
    with socket.create_connection(("127.0.0.1", port)) as link, link.makefile("rb") as answers:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at, number in enumerate(numbers):
            time.sleep(max(0, began + at * pause - time.monotonic()))
            sent[number] = time.monotonic()
            link.sendall(b"a LOGIN user%d pw\r\nb APPEND INBOX {%d+}\r\n%s\r\n" % (number, len(MESSAGE), MESSAGE))
            while not (line := answers.readline()).startswith(b"b "):
                pass
            if not line.startswith(b"b OK"):
                sys.exit(f"the backend says {line}")
    return sent


def metrics(proxy):
    with urllib.request.urlopen(f"http://127.0.0.1:{proxy.admin_port}/metrics") as answer:
        return answer.read().decode().splitlines()


def counted(proxy, series):
    return sum(float(line.rpartition(" ")[2]) for line in metrics(proxy) if line.startswith(series))


def connected(proxy):
    return sum(float(line.rpartition(" ")[2]) for line in metrics(proxy) if line.startswith("lemonade_watches{") and '"connected"' in line)


def histogram(proxy):
    """Upper bounds of half and of 99 of 100 of the seconds from seen to acknowledged."""
    series = [line for line in metrics(proxy) if line.startswith("lemonade_notify_latency_seconds_bucket{") and '"udp"' in line]
    buckets = [(line.partition('le="')[2].partition('"')[0], float(line.rpartition(" ")[2])) for line in series]
    return [next(bound for bound, below in buckets if below >= share * buckets[-1][1]) for share in (0.5, 0.99)]


def until(reached, what):
    limit = time.monotonic() + PATIENCE
    while not reached():
        if time.monotonic() > limit:
            sys.exit(f"not within {PATIENCE} s: {what}")
        time.sleep(0.1)


if __name__ == "__main__":
    ended_early(main)
