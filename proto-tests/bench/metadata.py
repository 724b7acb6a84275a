#!/usr/bin/env python3
"""What annotations cost: SETMETADATA and GETMETADATA through the proxy on SQLite, and the memory of accounts that have been there.

    proto-tests/bench/metadata.py                     everything (some minutes); writes the table into README.md
    proto-tests/bench/metadata.py --quick --print     a look whether all of it works; the figures mean little

Latencies are before the private Dovecot that has no METADATA (`dovecot-legacy` of the live tests), seen by clients in Python, a
process a connection; memory is before bench-backend, which lets everybody in. README.md says what is measured and how.
"""
import argparse
import concurrent.futures
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import time
import types
from pathlib import Path

sys.dont_write_bytecode = True

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
README = HERE / "README.md"
BEGIN, END = "<!-- results: written by metadata.py -->", "<!-- end of results of metadata.py -->"
sys.path[:0] = [str(HERE.parent / "live"), str(HERE.parent / "live" / "clients")]

from account import Wire
from stage import Proxy, Stage, end, ended_early, say

VALUE = "x" * 100
NAME = "/private/vendor/kmail/bench"
COMMANDS = {
    "SETMETADATA of one entry": lambda number: f'SETMETADATA INBOX ({NAME} "{number} {VALUE}")',
    "GETMETADATA of one entry": lambda number: f"GETMETADATA INBOX {NAME}",
    "NOOP, for comparison": lambda number: "NOOP",
}
CONNECTIONS = (1, 16)
COUNT = 4_000  # commands of each kind, over all connections
ACCOUNTS = 10_000
WARM = 200  # accounts that have been there before memory is looked at
AT_ONCE = 16


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--proxy", default=str(ROOT / "target/release/lemonade-proxy"), help="the program")
    parser.add_argument("--backend", default=str(ROOT / "target/tests/bench-backend"), help="bench-backend")
    parser.add_argument("--quick", action="store_true", help="a twentieth of everything")
    parser.add_argument("--print", action="store_true", help="leave README.md alone")
    chosen = parser.parse_args()
    share = 20 if chosen.quick else 1
    with Stage() as stage:
        rows = latencies(stage, chosen.proxy, COUNT // share)
        memory = accounts(stage, chosen, ACCOUNTS // share)
    text = table(rows, memory, chosen.proxy)
    say(text)
    if not chosen.print:
        before, _, rest = README.read_text().partition(BEGIN)
        README.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}")


def latencies(stage, program, count):
    """For each kind of command and number of connections: p50 and p99 in ms, commands a second; and what the disk takes."""
    rows = []
    with stage.part() as part:
        proxy = part.proxy(part.server("dovecot-legacy"), "imap", program)
        for title in COMMANDS:
            for connections in CONNECTIONS:
                times, rate = spread(connections, one_connection, title, proxy.port, count // connections)
                rows.append((title, connections, *quantiles(times), f"{rate:.0f}"))
        rows.append(("a write of 4 KiB and fsync, for comparison", 1, *quantiles(disk(proxy.state, count // 8)), ""))
    return rows


def spread(processes, work, *arguments):
    """Runs it in so many processes: all times that were measured, and how many a second, from the first to the last."""
    context = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(processes, mp_context=context) as pool:
        results = list(pool.map(work, *([one] * processes for one in arguments), range(1, processes + 1)))
    times = [one for _, _, times in results for one in times]
    return times, len(times) / (max(done for _, done, _ in results) - min(began for began, _, _ in results))


def one_connection(title, port, count, number):
    """One connection of a user of its own, one command behind the other."""
    wire = Wire(types.SimpleNamespace(host="127.0.0.1", port=port, user=f"u{number}", password="pw"))
    command = COMMANDS[title]
    wire.ok(command(0))
    times, began = [], time.monotonic()
    for at in range(count):
        before = time.monotonic()
        wire.ok(command(at))
        times.append(time.monotonic() - before)
    return began, time.monotonic(), times


def disk(folder, count):
    """How long the disk takes to have 4 KiB for good."""
    times, path = [], folder / "probe"
    with path.open("wb", buffering=0) as file:
        for _ in range(count):
            before = time.monotonic()
            file.write(b"x" * 4096)
            os.fdatasync(file.fileno())
            times.append(time.monotonic() - before)
    path.unlink()
    return times


def quantiles(times):
    cuts = statistics.quantiles(times, n=100)
    return f"{1000 * cuts[49]:.2f}", f"{1000 * cuts[98]:.2f}"


def accounts(stage, chosen, count):
    """KiB by which the proxy has grown for each account that was there once; and the octets of its store for each."""
    with stage.part(1) as part:
        port = part.ports()[0]
        backend = subprocess.Popen([chosen.backend, "--listen", f"127.0.0.1:{port}"], start_new_session=True)
        part.callback(end, backend)
        time.sleep(0.5)
        server = types.SimpleNamespace(name="bench", folder=stage.folder, url=lambda scheme: f"{scheme}://localhost:{port}")
        proxy = part.proxy(server, "imap", chosen.proxy)
        visit(proxy.port, range(WARM))
        before = resident(proxy)
        began = time.monotonic()
        visit(proxy.port, range(WARM, WARM + count))
        spent = time.monotonic() - began
        grown = (resident(proxy) - before) / count
        proxy.stop()  # the log is put into the file
        kept = (proxy.state / "store.sqlite").stat().st_size / (WARM + count)
    return count, before / 1024, grown, kept, spent


def visit(port, numbers):
    """Each account logs in once as one device, leaves ten entries, and goes."""
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda number: one_account(port, number), numbers))


def one_account(port, number):
    wire = Wire(types.SimpleNamespace(host="127.0.0.1", port=port, user=f"user{number}", password="pw"))
    wire.ok('ID ("name" "bench" "device-id" "phone")')
    entries = " ".join(f'/private/vendor/kmail/entry{at} "{VALUE}"' for at in range(10))
    wire.ok(f'SETMETADATA "" ({entries})')
    wire.ok("LOGOUT")
    wire.file.close()
    wire.socket.close()


def resident(proxy):
    """RSS in KiB, when the last sessions are gone."""
    time.sleep(3)
    lines = Path(f"/proc/{proxy.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def table(rows, memory, program):
    count, before, grown, kept, spent = memory
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    model = next((line.partition(": ")[2].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "unknown")
    lines = [
        f"{version}; Linux {platform.release()}, {os.cpu_count()} CPUs ({model}); {time.strftime('%Y-%m-%d')}.",
        "",
        "| what | connections | p50, ms | p99, ms | a second |",
        "|---|---|---|---|---|",
        *("| " + " | ".join(map(str, row)) + " |" for row in rows),
        "",
        f"{count} accounts of ten entries and one device, each logged in once and out again: RSS grew by {1024 * grown:.0f} octets an account "
        f"(from {before:.1f} MiB, after {WARM} accounts), the store has {kept:.0f} octets for each; {count / spent:.0f} accounts a second.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    ended_early(main)
