#!/usr/bin/env python3
"""What idling clients cost, and how soon they hear: before a backend that idles, and before one that has to be asked.

    proto-tests/bench/idle.py                     everything (half an hour); writes the table into README.md
    proto-tests/bench/idle.py --quick --print     a look whether all of it works; the figures mean little

Both backends are bench-backend, whose mailbox `news` tells each APPEND to all who have it open. README.md says what is measured.
"""
import argparse
import asyncio
import os
import platform
import random
import subprocess
import sys
import time
import types
import urllib.request
from pathlib import Path

sys.dont_write_bytecode = True

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
README = HERE / "README.md"
BEGIN, END = "<!-- results: written by idle.py -->", "<!-- end of results of idle.py -->"
sys.path[:0] = [str(HERE), str(HERE.parent / "live"), str(HERE.parent / "live" / "clients")]

from metadata import quantiles
from stage import Stage, end, ended_early, say

BACKENDS = {"idles": "IMAP4rev1 LITERAL+ SASL-IR IDLE", "has to be asked": "IMAP4rev1 LITERAL+ SASL-IR"}
CLIENTS = (1_000, 9_800)  # a process has 20 000 descriptors at most, and each client takes two of the proxy's
SILENCE = 120  # seconds in which CPU time and questions are counted, behind as many for the pace to become slow
WATCHERS, NEWS, EVERY = 100, 60, (2, 8)  # clients that wait for so many messages, so many seconds apart


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--proxy", default=str(ROOT / "target/release/lemonade-proxy"), help="the program")
    parser.add_argument("--backend", default=str(ROOT / "target/tests/bench-backend"), help="bench-backend")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    parser.add_argument("--print", action="store_true", help="leave README.md alone")
    chosen = parser.parse_args()
    share = 10 if chosen.quick else 1
    rows = []
    with Stage() as stage:
        for index, (kind, capability) in enumerate(BACKENDS.items()):
            with stage.part(index) as part:
                times = asyncio.run(latency(*party(stage, part, chosen, capability), NEWS // share))
                rows.append((f"news heard, backend {kind}", f"{WATCHERS} clients", f"p50 {quantiles(times)[0]} ms, p99 {quantiles(times)[1]} ms"))
            for clients in CLIENTS:
                with stage.part(index) as part:
                    proxy, port = party(stage, part, chosen, capability)
                    rows += [(f"{what}, backend {kind}", f"{clients // share} clients", value) for what, value in asyncio.run(cost(proxy, port, clients // share, SILENCE // share))]
    text = table(rows, chosen.proxy)
    say(text)
    if not chosen.print:
        before, _, rest = README.read_text().partition(BEGIN)
        README.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}")


def party(stage, part, chosen, capability, more=""):
    """A proxy before a backend of this kind, and the backend's port."""
    port = part.ports()[0]
    backend = subprocess.Popen([chosen.backend, "--listen", f"127.0.0.1:{port}", "--capability", capability], start_new_session=True)
    part.callback(end, backend)
    time.sleep(0.5)
    server = types.SimpleNamespace(name="bench", folder=stage.folder, url=lambda scheme: f"{scheme}://localhost:{port}")
    return part.proxy(server, "imap", chosen.proxy, more), port


async def connected(port, user):
    """A client that has `news` open, and idles."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b'a LOGIN %s pw\r\nb SELECT news\r\n' % user.encode())
    while not (await line_of(reader)).startswith(b"b OK"):
        pass
    writer.write(b"c IDLE\r\n")
    while not (await line_of(reader)).startswith(b"+"):
        pass
    return reader, writer


async def line_of(reader):
    line = await reader.readline()
    if not line:
        raise ConnectionError("the connection was closed")
    return line


async def latency(proxy, backend, count):
    """Seconds from the backend's OK to an APPEND until each idling client hears of it."""
    clients = [await connected(proxy.port, f"user{number}") for number in range(WATCHERS)]
    reader, writer = await asyncio.open_connection("127.0.0.1", backend)
    await line_of(reader)
    writer.write(b"a LOGIN joe pw\r\n")
    await line_of(reader)
    times = []
    for number in range(1, count + 1):
        await asyncio.sleep(random.uniform(*EVERY))
        writer.write(b"b APPEND news {0+}\r\n\r\n")
        await line_of(reader)
        began = time.monotonic()
        wanted = b"* %d EXISTS\r\n" % number
        times += await asyncio.wait_for(asyncio.gather(*(heard(client[0], wanted, began) for client in clients)), 60)
    return times


async def heard(reader, wanted, began):
    while await line_of(reader) != wanted:
        pass
    return time.monotonic() - began


async def cost(proxy, _backend, count, silence):
    """Memory, CPU time and questions to the backend for each client that idles in silence."""
    before = resident(proxy)
    clients = []
    for first in range(0, count, 50):
        clients += await asyncio.gather(*(connected(proxy.port, f"user{number}") for number in range(first, min(first + 50, count))))
    await asyncio.sleep(silence)  # the pace becomes slow
    grown = (resident(proxy) - before) / count
    spent, asked = proxy.processor_time(), looks(proxy)
    await asyncio.sleep(silence)
    spent, asked = proxy.processor_time() - spent, looks(proxy) - asked
    hour = 3600 / silence / count
    for _, writer in clients:
        writer.close()
    return [
        ("RSS of an idling client", f"{grown:.1f} KiB"),
        ("CPU time of an idling client, an hour", f"{1000 * spent * hour:.1f} ms"),
        ("commands to the backend for an idling client, an hour", f"{asked * hour:.0f}"),
    ]


def resident(proxy):
    lines = Path(f"/proc/{proxy.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def looks(proxy):
    with urllib.request.urlopen(f"http://127.0.0.1:{proxy.admin_port}/metrics") as metrics:
        lines = metrics.read().decode().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("lemonade_listening_commands_total{"))


def table(rows, program):
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    model = next((line.partition(": ")[2].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "unknown")
    lines = [
        f"{version}; Linux {platform.release()}, {os.cpu_count()} CPUs ({model}); {time.strftime('%Y-%m-%d')}.",
        "",
        "| what | of | figure |",
        "|---|---|---|",
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    ended_early(main)
