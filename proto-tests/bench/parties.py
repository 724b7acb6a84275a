"""The parties of the bench: how each is started, watched and ended.

A party runs in a control group of its own (cpuacct, or cgroup 2), pinned to one CPU. Where groups cannot be made, its CPU time
is the sum over its processes and threads in /proc.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
FILES = 20_000
FIRST_PORT = 21_430  # below the ports that outgoing connections are given


class Party:
    """A program with a configuration made from a template, and everything it starts."""

    def __init__(self, name, command, ports, cpu, directory, template=None, words=None):
        self.name, self.ports, self.cpu = name, ports, cpu
        self.directory = Path(directory) / f"{name}-{ports['plain']}"
        self.directory.mkdir(mode=0o755)
        words = {**(words or {}), **{key.upper(): value for key, value in ports.items()}, "DIR": self.directory}
        if template:
            self.fill(template, words)
        self.group = make_group(f"lemonade-bench-{os.getpid()}-{self.directory.name}")
        self.log = open(self.directory / "output", "w+")
        command = [replace(word, {**words, "CONFIG": self.directory / (template or "")}) for word in command]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                        start_new_session=True, preexec_fn=self.enter)

    def fill(self, template, words):
        """Writes the configuration with this run's ports and files in it."""
        text = replace((HERE / "peers" / template).read_text(), words)
        (self.directory / template).write_text(text)

    def enter(self):
        """Runs in the child: its CPU, its group."""
        pin(self.cpu)
        if self.group:
            (self.group / "cgroup.procs").write_text(str(os.getpid()))

    def wait(self):
        """Until all its ports answer."""
        for port in self.ports.values():
            for _ in range(200):
                if self.process.poll() is not None:
                    raise SystemExit(f"{self.name} ended at once:\n{self.output()}")
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    time.sleep(0.05)
            else:
                raise SystemExit(f"{self.name} does not listen at {port}:\n{self.output()}")
        time.sleep(0.2)
        return self

    def output(self):
        """What it has said, with the log it writes itself."""
        logs = [self.directory / "output", *self.directory.glob("*.log")]
        return "".join(path.read_text(errors="replace") for path in logs)[-4000:]

    def pids(self):
        """Its processes: the first one and all that came of it."""
        parents = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
        found = [self.process.pid]
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return found

    def cpu_ns(self):
        """CPU time since the start, user and system."""
        if self.group and (self.group / "cpuacct.usage").exists():
            return int((self.group / "cpuacct.usage").read_text())
        if self.group:
            return 1000 * int((self.group / "cpu.stat").read_text().split()[1])
        tasks = [task for pid in self.pids() for task in Path(f"/proc/{pid}/task").glob("*/schedstat")]
        return sum(int(task.read_text().split()[0]) for task in tasks)

    def resident(self):
        """Memory in use in octets: what it has alone, and its share of what is shared (PSS)."""
        return sum(field(pid, "smaps_rollup", "Pss") for pid in self.pids())

    def forget_peak(self):
        """Lets `peak` begin at what is in use now; returns that."""
        pids = self.pids()
        for pid in pids:
            Path(f"/proc/{pid}/clear_refs").write_text("5")
        return sum(field(pid, "status", "VmHWM") for pid in pids)

    def peak(self):
        """The highest RSS since `forget_peak`."""
        return sum(field(pid, "status", "VmHWM") for pid in self.pids())

    def end(self):
        """Ends it and all it has started."""
        pids = self.pids()
        self.process.terminate()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pid in pids[1:]:
            end_child(pid)
        self.log.close()
        if self.group:
            remove_group(self.group)


def end_child(pid):
    """Sees a child process off that should have left with its parent."""
    for _ in range(40):
        if not Path(f"/proc/{pid}").exists():
            return
        time.sleep(0.05)
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def field(pid, file, name):
    """One line of a file in /proc that counts in kB, in octets; nothing for a process that is gone."""
    try:
        lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    except OSError:
        return 0
    return 1024 * next((int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), 0)


def replace(text, words):
    """`@WORD@` becomes its value."""
    for key, value in words.items():
        text = text.replace(f"@{key}@", str(value))
    return text


def pin(cpu):
    """Keeps the calling process on one CPU, where there is more than one, and before others that want it, where we may."""
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})
    try:
        os.nice(-15)
    except PermissionError:
        pass


def make_group(name):
    """A control group that counts CPU time, or nothing where we may not make one."""
    for root in (Path("/sys/fs/cgroup/cpuacct"), Path("/sys/fs/cgroup")):
        counts = (root / "cpuacct.usage").exists() or (root / "cgroup.controllers").exists()
        try:
            if counts:
                (root / name).mkdir()
                return root / name
        except OSError:
            continue
    return None


def remove_group(group):
    """A group can go when the last of its processes is reaped."""
    for _ in range(40):
        try:
            return group.rmdir()
        except OSError:
            time.sleep(0.05)


def free_ports(names, taken=set()):
    """Ports nobody listens at, none of them given out before."""
    ports = {}
    for name in names:
        port = FIRST_PORT
        while port in taken or not is_free(port):
            port += 1
        taken.add(port)
        ports[name] = port
    return ports


def is_free(port):
    """Whether one could listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            return True
        except OSError:
            return False


def install(packages):
    """What is missing of {command: package}, from the distribution; no daemon is started by it."""
    missing = sorted({package for command, package in packages.items() if not shutil.which(command) and not Path(command).exists()})
    if not missing:
        return
    print("installing", *missing)
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], check=True, env=environment)
    subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], check=True, env=environment)
    if ours:
        policy.unlink()
