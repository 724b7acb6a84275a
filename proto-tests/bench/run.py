#!/usr/bin/env python3
"""Measures lemonade-proxy beside nginx's mail proxy, HAProxy in TCP mode and Dovecot as proxy, in one run on loopback.

    proto-tests/bench/run.py                  everything, three rounds; writes the table into README.md
    proto-tests/bench/run.py --quick          a look whether all of it works; the figures mean little
    proto-tests/bench/run.py --only fetch1m   one scenario
    proto-tests/bench/run.py --profile DIR    `perf record` of lemonade-proxy, one file a scenario

The proxy under test has one CPU to itself, load generator and backend have another. All of it runs in a network namespace of
its own, where that is allowed. Rounds are interleaved: in each, every party does a scenario before the next scenario begins.
The proxy is built as operators build it, what drives it as the tests are.
README.md says what is measured and how.
"""

import argparse
import json
import os
import platform
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import namedtuple
from pathlib import Path

sys.dont_write_bytecode = True

from parties import FILES, HERE, Party, free_ports, install, pin

ROOT = HERE.parent.parent
README = HERE / "README.md"
BEGIN, END = "<!-- results: written by run.py -->", "<!-- end of results -->"
OURS = "lemonade-proxy"

# What is done, in what amount; `quick` divides the amount. A value is CPU time over count, in this unit. What lasts less than a
# few seconds is done in slices, with the other parties between two of them: a neighbour on the host shall not hit one alone.
Scenario = namedtuple("Scenario", "title arguments sessions count slices quick unit ns")
SCENARIOS = {
    "login": Scenario("connect, LOGIN, SELECT, LOGOUT", ["login"], 4, 5_000, 5, 5, "us a cycle", 1e3),
    "noop": Scenario("NOOP round trip, 8 sessions", ["noop"], 8, 100_000, 5, 20, "us", 1e3),
    "fetch1m": Scenario("1 GB fetched as 1 MiB messages", ["fetch", "--size", "1m"], 4, 1_024, 1, 8, "ms a GB", 1e6 / 1024),
    "fetch16m": Scenario("1 GB fetched as 16 MiB messages", ["fetch", "--size", "16m"], 4, 64, 1, 8, "ms a GB", 1e6 / 64),
    "small": Scenario("1 M small FETCH responses", ["small"], 4, 1_000_000, 5, 10, "ns a response", 1),
    "append1m": Scenario("1 GB appended as 1 MiB messages", ["append", "--size", "1m"], 4, 1_024, 1, 8, "ms a GB", 1e6 / 1024),
    "mixed": Scenario("mixed commands, 8 sessions", ["mixed"], 8, 24_000, 5, 10, "us a command", 1e3),
}
IDLE = (1_000, 9_800)
STALLED = {"fetch-stalled": "one 64 MiB literal to a client that stalls", "append-stalled": "one 64 MiB literal to a backend that stalls"}
PEAK_ALLOWED = 1 << 20

# (scenario, front): the ratios to reach against nginx and against HAProxy.
TARGETS = {
    ("login", "plain"): (0.75, 1.0), ("login", "tls"): (0.5, 0.65),
    ("noop", "plain"): (1.05, 0.85),
    ("fetch1m", "plain"): (0.4, 0.75), ("fetch1m", "tls"): (0.36, 0.65),
    ("fetch16m", "plain"): (0.55, 0.85), ("fetch16m", "tls"): (0.5, 0.7),
    ("small", "plain"): (0.5, 0.85),
    ("append1m", "plain"): (0.45, 0.8),
    ("mixed", "plain"): (0.7, 1.0),
    ("idle", "plain"): (0.6, 1.8), ("idle", "tls"): (0.75, 1.0),
}
TOLERANCE = 1.1  # within 10 % of a figure counts as reached

# How each party is started; the template in peers/ is its configuration. Another port than these two is asked for by name.
Kind = namedtuple("Kind", "command template ports version")
KINDS = {
    OURS: Kind(["@PROXY@", "serve", "--config", "@CONFIG@"], "lemonade-proxy.toml", ["admin"], ["@PROXY@", "--version"]),
    "nginx": Kind(["nginx", "-c", "@CONFIG@"], "nginx.conf", [], ["nginx", "-v"]),
    "haproxy": Kind(["haproxy", "-db", "-f", "@CONFIG@"], "haproxy.cfg", [], ["haproxy", "-v"]),
    "dovecot": Kind(["dovecot", "-F", "-c", "@CONFIG@"], "dovecot.conf", [], ["dovecot", "--version"]),
}
PACKAGES = {
    "nginx": "nginx-light", "/usr/lib/nginx/modules/ngx_mail_module.so": "libnginx-mod-mail",
    "haproxy": "haproxy", "dovecot": "dovecot-imapd", "openssl": "openssl", "ip": "iproute2",
}
CONGESTION_CONTROL = Path("/proc/sys/net/ipv4/tcp_congestion_control")


class Bench:
    """One run: the backend, the certificate, the parties under test, and what was measured so far."""

    def __init__(self, options, directory):
        self.options, self.directory = options, Path(directory)
        self.directory.chmod(0o755)  # the workers of some peers run as somebody else
        cpus = sorted(os.sched_getaffinity(0))
        self.proxy_cpu, self.load_cpu = (cpus[0], cpus[-1]) if len(cpus) > 1 else (None, None)
        self.programs = Path(options.programs)
        self.values = {}
        self.running = []
        self.certificate()
        self.backend = self.start("backend", [str(self.programs / "bench-backend"), "--listen", "127.0.0.1:@PLAIN@",
                                              "--auth-http", "127.0.0.1:@AUTH@"], ["plain", "auth"], self.load_cpu)

    def certificate(self):
        """One ECDSA P-256 key and certificate for all."""
        chain, key = self.directory / "chain.pem", self.directory / "key.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                        "-days", "30", "-subj", "/CN=localhost", "-keyout", key, "-out", chain,
                        "-addext", "basicConstraints=critical,CA:FALSE",
                        "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"], check=True, stderr=subprocess.DEVNULL)
        both = self.directory / "both.pem"
        both.write_text(chain.read_text() + key.read_text())
        key.chmod(0o644)
        self.files = {"CHAIN": chain, "KEY": key, "PEM": both, "PROXY": self.options.proxy_bin}

    def start(self, name, command, ports, cpu, template=None, words=None):
        """Starts a program and waits until it listens."""
        party = Party(name, command, free_ports(ports), cpu, self.directory, template, {**self.files, **(words or {})})
        self.running.append(party)
        return party.wait()

    def start_proxy(self, name):
        """Starts one of the parties under test."""
        kind = KINDS[name]
        words = {"BACKEND": self.backend.ports["plain"], "AUTH": self.backend.ports["auth"]}
        return self.start(name, kind.command, ["plain", "tls", *kind.ports], self.proxy_cpu, kind.template, words)

    def end(self, party):
        """Ends a party before the run does."""
        self.running.remove(party)
        party.end()

    def load(self, party, front, arguments):
        """Starts the load generator against a party; it waits at each `ready` for `step`."""
        command = [str(self.programs / "bench-load"), *arguments, "--steps", "--connect", f"127.0.0.1:{party.ports[front]}"]
        if front == "tls":
            command += ["--tls", str(self.files["CHAIN"])]
        load = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                preexec_fn=lambda: pin(self.load_cpu))
        return Load(load, party)

    def cpu(self, name, scenario, front, party):
        """CPU time of one slice of a scenario, and how long it took."""
        what = SCENARIOS[scenario]
        count = what.count // what.slices // (what.quick if self.options.quick else 1)
        load = self.load(party, front, [*what.arguments, "--sessions", str(what.sessions), "--count", str(count)])
        load.ready()
        before = party.cpu_ns()
        profile = self.profile(name, scenario, front, party)
        load.step()
        done = load.done()
        time.sleep(0.1)  # the last connections are still being closed
        spent = party.cpu_ns() - before
        if profile:
            profile.send_signal(signal.SIGINT)
            profile.wait()
        return spent / count / what.ns, done["seconds"]

    def round(self, scenario, front, parties):
        """One round of a scenario: all its slices, the parties in turn, one time in this order and one time in that."""
        what = SCENARIOS[scenario]
        slices = {name: [] for name in parties}
        for number in range(what.slices):
            for name in sorted(parties, reverse=number % 2):
                slices[name].append(self.cpu(name, scenario, front, parties[name]))
        for name, found in slices.items():
            values, seconds = zip(*found)
            self.note(name, scenario, front, statistics.mean(values), f"{what.unit} ({sum(seconds):.1f} s)")

    def profile(self, name, scenario, front, party):
        """`perf record` beside our own run, where it is asked for."""
        if not self.options.profile or name != OURS:
            return None
        directory = Path(self.options.profile)
        directory.mkdir(parents=True, exist_ok=True)
        perf = subprocess.Popen(["perf", "record", "-q", "-e", "cpu-clock", "-F", "1999", "-g", "-o",
                                 directory / f"{scenario}-{front}.perf", "-p", ",".join(map(str, party.pids()))])
        time.sleep(0.5)
        return perf

    def idle(self, name, front):
        """Memory of a session that does nothing, in a party just started; twenty sessions have been there before."""
        party = self.start_proxy(name)
        self.load(party, front, ["login", "--count", "20"]).through()
        time.sleep(0.5)
        before = party.resident()
        levels = [level // 10 if self.options.quick else level for level in IDLE]
        load = self.load(party, front, ["idle", "--sessions", ",".join(map(str, levels)), "--deadline", "600"])
        for level, title in zip(levels, IDLE):
            load.ready()
            time.sleep(1)
            self.note(name, f"idle {title}", front, (party.resident() - before) / level / 1024, "KiB a session")
            load.step()
        load.done()
        self.end(party)

    def stalled(self, name, scenario, front):
        """The highest RSS above idle while one literal of 64 MiB passes to somebody who does not read at first."""
        party = self.start_proxy(name)
        self.load(party, front, ["login", "--count", "20"]).through()
        load = self.load(party, front, [scenario, "--size", "64m"])
        load.ready()
        time.sleep(0.5)
        before = party.forget_peak()
        load.step()
        load.done()
        self.note(name, scenario, front, (party.peak() - before) / 1024, "KiB")
        self.end(party)

    def note(self, name, scenario, front, value, unit):
        """Keeps a value and shows it."""
        self.values.setdefault((scenario, front, name), []).append(value)
        print(f"{scenario:14} {front:5} {name:14} {value:10.1f} {unit}", flush=True)

    def median(self, scenario, front, name):
        """The middle of the rounds; nothing where none was run."""
        values = self.values.get((scenario, front, name))
        return statistics.median(values) if values else None


class Load:
    """A running load generator."""

    def __init__(self, process, party):
        self.process, self.party = process, party

    def line(self):
        """The next line it says; an early end is the end of the bench."""
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the load generator failed against {self.party.name}\n{self.party.output()}")
        return line

    def ready(self):
        """Waits until it stands at its gate."""
        assert self.line() == "ready\n"

    def step(self):
        """Opens the gate."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def done(self):
        """Waits for the end; what it counted."""
        tally = json.loads(self.line().removeprefix("done "))
        self.process.wait()
        return tally

    def through(self):
        """The whole run at once."""
        self.ready()
        self.step()
        return self.done()


def measure(bench, names, wanted, fronts):
    """All rounds of CPU time, then memory."""
    scenarios = [scenario for scenario in SCENARIOS if scenario in wanted]
    parties = {name: bench.start_proxy(name) for name in names} if scenarios else {}
    for _ in range(bench.options.rounds):
        for scenario in scenarios:
            for front in fronts:
                bench.round(scenario, front, parties)
    for party in parties.values():
        bench.end(party)
    for front in fronts:
        for name in names:
            if "idle" in wanted:
                bench.idle(name, front)
            for scenario in STALLED:
                if "literal64m" in wanted:
                    bench.stalled(name, scenario, front)


def table(bench):
    """The results as a table in Markdown, one line a figure."""
    lines = ["| figure | front | lemonade-proxy | nginx | HAProxy | Dovecot | to nginx (target) | to HAProxy (target) | |",
             "|---|---|---|---|---|---|---|---|---|"]
    rows = [(scenario, scenario, f"{what.title}, {what.unit}") for scenario, what in SCENARIOS.items()]
    rows += [(f"idle {level}", "idle", f"RSS of an idle session, {level} of them, KiB") for level in IDLE]
    rows += [(scenario, None, f"peak RSS above idle, {title}, KiB") for scenario, title in STALLED.items()]
    for scenario, target, title in rows:
        for front in ("plain", "tls"):
            values = [bench.median(scenario, front, name) for name in KINDS]
            if any(value is not None for value in values):
                lines.append(row(title, front, values, TARGETS.get((target, front)), target is None))
    return "\n".join(lines)


def row(title, front, values, targets, absolute):
    """One figure: the values of all parties, our ratio to two of them, and the verdict."""
    ours, *others = values
    shown = " | ".join("-" if value is None else f"{value:.1f}" for value in values)
    if absolute:
        verdict = "" if ours is None else verdict_of(ours * 1024 <= PEAK_ALLOWED * TOLERANCE)
        return f"| {title} (at most {PEAK_ALLOWED >> 10}) | {front} | {shown} | | | {verdict} |"
    ratios, reached = [], []
    for other, target in zip(others, targets or (None, None)):
        if ours is None or not other:
            ratios.append("-")
            continue
        ratio = ours / other
        ratios.append(f"{ratio:.2f} ({target})" if target else f"{ratio:.2f}")
        if target:
            reached.append(ratio <= target * TOLERANCE)
    verdict = verdict_of(all(reached)) if reached else ""
    return f"| {title} | {front} | {shown} | {ratios[0]} | {ratios[1]} | {verdict} |"


def verdict_of(reached):
    """The word at the end of a line."""
    return "reached" if reached else "**missed**"


def versions(names, words):
    """Who took part, and on what."""
    parts = []
    for name in names:
        command = [word.replace("@PROXY@", str(words["PROXY"])) for word in KINDS[name].version]
        said = subprocess.run(command, capture_output=True, text=True)
        first = (said.stdout + said.stderr).strip().splitlines()[0]
        parts.append(next((word for word in first.replace("nginx/", "").split() if word[0].isdigit()), first))
    cpu = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "?")
    parties = ", ".join(f"{name} {part}" for name, part in zip(names, parts))
    machine = f"Linux {platform.release().split('-')[0]}, {os.cpu_count()} CPUs ({cpu})"
    return f"{parties}; {machine}, {CONGESTION_CONTROL.read_text().strip()}; {time.strftime('%Y-%m-%d')}."


def write_readme(text):
    """Puts the results between the marks."""
    before, _, rest = README.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


def build(options):
    """Builds what was not given: the load generator and the backend as the tests are built, the proxy as operators build it."""
    found = subprocess.run(["cargo", "metadata", "--format-version", "1", "--no-deps"], cwd=ROOT, check=True, capture_output=True)
    target = Path(json.loads(found.stdout)["target_directory"])
    if not options.programs:
        subprocess.run(["cargo", "build", "--profile", "tests", "--package", "proto-tests", "--bins"], cwd=ROOT, check=True)
    if not options.proxy_bin:
        subprocess.run(["cargo", "build", "--release", "--bin", OURS], cwd=ROOT, check=True)
    options.programs = options.programs or target / "tests"
    options.proxy_bin = Path(options.proxy_bin or target / "release" / OURS).resolve()


def isolate(options):
    """Goes on in a network of its own: no other traffic on its loopback, and no timer for every segment.

    BBR paces what it sends, and on loopback the timers of that cost more than the proxies. Reno is always allowed.
    """
    if not options.isolated:
        if subprocess.run(["unshare", "--net", "true"], stderr=subprocess.DEVNULL).returncode == 0:
            built = ["--isolated", "--programs", str(options.programs), "--proxy-bin", str(options.proxy_bin)]
            os.execvp("unshare", ["unshare", "--net", sys.executable, *sys.argv, *built])
        return print("no network namespace may be made here: the host's loopback is used")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    CONGESTION_CONTROL.write_text("reno")


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round of small amounts")
    parser.add_argument("--only", action="append", metavar="SCENARIO", choices=[*SCENARIOS, "idle", "literal64m"])
    parser.add_argument("--front", action="append", choices=["plain", "tls"])
    parser.add_argument("--party", action="append", choices=list(KINDS))
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--proxy-bin", metavar="PATH", help="another lemonade-proxy than the one built here")
    parser.add_argument("--programs", metavar="DIR", help="where bench-load and bench-backend are; nothing is built then")
    parser.add_argument("--profile", metavar="DIR", help="`perf record` lemonade-proxy during each scenario")
    parser.add_argument("--isolated", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 3)
    return options


def main():
    """Everything in turn; whatever was started is ended on every way out."""
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES, most), most))
    install(PACKAGES)
    build(options)
    isolate(options)
    if options.profile:
        SCENARIOS.update({name: what._replace(slices=1) for name, what in SCENARIOS.items()})
    names = options.party or list(KINDS)
    wanted = options.only or [*SCENARIOS, "idle", "literal64m"]
    with tempfile.TemporaryDirectory(prefix="lemonade-bench-") as directory:
        bench = None
        try:
            bench = Bench(options, directory)
            measure(bench, names, wanted, options.front or ["plain", "tls"])
        finally:
            for party in reversed(bench.running if bench else []):
                party.end()
        result = f"{versions(names, bench.files)}\n\n{table(bench)}"
    print(f"\n{result}")
    if not (options.quick or options.only or options.front or options.party):
        write_readme(result)


if __name__ == "__main__":
    main()
