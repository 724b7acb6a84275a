"""The stage of the live tests: private servers, the proxy in front of one of them, ports that are free, and an end that leaves nothing.

    with Stage() as stage, stage.part() as part:
        server = part.server("courier")                   # started, with empty mailboxes
        proxy = part.proxy(server, "imap", program)       # lemonade-proxy serve --backend imap://localhost:...

Whatever was started is ended when the block is left, in the opposite order, also on Ctrl-C and SIGTERM.
"""
import argparse
import contextlib
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
SERVERS = ["dovecot", "dovecot-legacy", "courier", "cyrus", "mailutils"]


def options(description, chance=False):
    """The options that every live test understands; and those of tests that leave to chance what they say."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--proxy", default="target/release/lemonade-proxy", help="the program, or `relay` for a plain TCP relay (tries the tests themselves)")
    parser.add_argument("--servers", default=",".join(SERVERS), help="which servers, comma-separated")
    if chance:
        parser.add_argument("--seed", type=int, default=int(os.environ.get("SEED", random.SystemRandom().randrange(1 << 32))))
        parser.add_argument("--against", choices=["proxy", "direct"], default="proxy", help="`direct` tries the servers themselves")
    return parser


def ended_early(main):
    """Runs the program; Ctrl-C is an end like any other."""
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("ended early")


def say(*words):
    print(*words, flush=True)


def shown(octets):
    """An excerpt that fits a line."""
    text = octets.decode(errors="backslashreplace").replace("\r\n", "\\r\\n")
    return text if len(text) < 300 else f"{text[:200]} ... {text[-80:]}"


class Tally:
    """What was found as it should be, what was not, and what nobody could find out."""

    def __init__(self):
        self.passed, self.failed, self.skipped = 0, 0, 0

    def check(self, name, found, expected):
        if found == expected:
            self.passed += 1
        else:
            self.failed += 1
            say(f"{name}: expected {expected!r}, found {found!r}")

    def skip(self, name, reason):
        self.skipped += 1
        say(f"skipped: {name}: {reason}")


class Stage:
    """The folder and the ports of a run. SIGTERM and SIGHUP end it as Ctrl-C does."""

    def __enter__(self):
        self.folder = pathlib.Path(os.environ.setdefault("LIVE_DIR", os.path.join(tempfile.gettempdir(), "lemonade-live")))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.first_port = free_window(int(os.environ.get("LIVE_PORTS", 21000)))
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: sys.exit(143))
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it
        return self

    def __exit__(self, *_):
        pass

    def part(self, index=0):
        """A part of its own; parts that run at the same time have different indices."""
        return Part(self.folder, self.first_port + 10 * index)


class Part(contextlib.ExitStack):
    """What runs at the same time: servers and proxies, stopped in the opposite order."""

    def __init__(self, folder, first_port):
        super().__init__()
        self.folder, self.next_port = folder, first_port

    def ports(self):
        self.next_port += 3
        return range(self.next_port - 3, self.next_port)

    def server(self, name):
        server = Server(name, self.folder, *self.ports())
        self.callback(server.stop)
        server.start()
        return server

    def proxy(self, server, scheme, program, more=""):
        proxy = Proxy(server, scheme, program, self.folder, *self.ports())
        proxy.more = more
        self.callback(proxy.stop)
        proxy.start()
        return proxy


class Server:
    """One private server of servers/serve.sh."""

    def __init__(self, name, folder, port, tls_port, lmtp_port):
        self.name, self.folder, self.port, self.tls_port, self.lmtp_port = name, folder, port, tls_port, lmtp_port
        self.environment = {**os.environ, "LIVE_DIR": str(folder), "LIVE_SERVER": name}
        self.environment.update(IMAP_PORT=str(port), IMAPS_PORT=str(tls_port), LMTP_PORT=str(lmtp_port))

    def start(self):
        self.serve("stop")  # one that an earlier run was not able to end
        self.serve("start")

    def stop(self):
        self.serve("stop")

    def kill(self):
        """All its processes, without a chance to say or write anything more."""
        number = int((self.folder / f"{self.name}.pid").read_text())
        os.killpg(number, signal.SIGKILL)

    def serve(self, what):
        subprocess.run([HERE / "servers" / "serve.sh", what, self.name], env=self.environment, check=True, timeout=120)

    def url(self, scheme):
        return f"{scheme}://localhost:{self.tls_port if scheme == 'imaps' else self.port}"


# What no flag says: that clients may compress, the channels that devices may ask for, and that tests do not wait for long.
CONFIG = """
[[listeners]]
address = "127.0.0.1:{port}"
tls = "starttls"
compress = true

[[listeners]]
address = "127.0.0.1:{tls_port}"
tls = "implicit"
compress = true

[admission]
connections_per_address = 20000

[account.notify]
every = "1s"
names = "1s"

[account.outband]
sender = "55555"
deltachat_recipients = 50
channels = {{ SMS = ["WAKEUP"], MMS = ["EXTENDED"], UDP = ["WAKEUP", "EXTENDED"] }}
"""


class Proxy:
    """The program under test in front of one server; has the ports a client needs, like a server."""

    def __init__(self, server, scheme, program, folder, port, tls_port, admin_port):
        self.server, self.scheme, self.program = server, scheme, program
        self.port, self.tls_port, self.admin_port = port, tls_port, admin_port
        self.state = folder / f"proxy-state-{server.name}"
        self.log = folder / f"proxy-{server.name}-{scheme}.log"
        self.config = folder / f"proxy-{server.name}-{scheme}.toml"
        self.process, self.more = None, ""

    def start(self, fresh=True):
        """Starts it; with what an earlier process has kept, unless it is to be fresh."""
        if fresh:
            shutil.rmtree(self.state, ignore_errors=True)
        self.config.write_text(CONFIG.format(port=self.port, tls_port=self.tls_port) + self.more)
        self.process = subprocess.Popen(
            self.command(), stdout=self.log.open("wb" if fresh else "ab"), stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True
        )
        wait_for(self.port, self.process, self.log)

    def command(self):
        if self.program == "relay":
            ports = [f"{self.port}:{self.server.port}", f"{self.tls_port}:{self.server.tls_port}"]
            return [sys.executable, str(HERE / "relay.py"), *ports]
        return [
            *(str(self.program), "serve", "--config", str(self.config), "--state", str(self.state), "--backend", self.server.url(self.scheme)),
            *("--admin", f"127.0.0.1:{self.admin_port}"),
            *(["--backend-ca", str(self.server.folder / "tls" / "ca.pem")] if self.scheme != "imap" else []),
        ]

    def fault(self):
        """What is wrong with the program after a test, or None: it must still run."""
        code = self.process.poll()
        return None if code is None else f"the proxy ended with {code}; see {self.log}"

    def processor_time(self):
        """Seconds of CPU the program has used."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def kill(self):
        """Without a chance to say or write anything more."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self):
        end(self.process)


def end(process):
    """TERM, five seconds, KILL; to this process and what it started."""
    if process is None or process.poll() is not None:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
            return


def is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_window(first, size=60):
    """The first of some neighbouring ports that are all free, below the range that the system hands out by itself."""
    for start in range(first, 32000, 100):
        if all(is_free(port) for port in range(start, start + size)):
            return start
    sys.exit("no free ports below 32000")


def wait_for(port, process, log, seconds=20):
    """Until a greeting comes."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 2) as probe:
            if probe.recv(4) == b"* OK":
                return
        time.sleep(0.05)
    sys.exit(f"nothing answers on port {port}:\n{log.read_text(errors='replace')[-2000:]}")
