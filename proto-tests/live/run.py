#!/usr/bin/env python3
"""The client matrix: every real client against every real server, directly and through the proxy.

    $ proto-tests/live/run.py --servers courier --clients mbsync,curl
    courier             curl              direct ok (1.5 s)  proxied ok (1.6 s)

What passes directly must pass through the proxy. What fails directly is not held against the proxy: it counts as skipped, with its reason.
Each run of a client has an account of its own. The programs are those of servers/install.sh.
"""
import concurrent.futures
import os
import shutil
import subprocess
import sys
import threading
import time

from stage import HERE, SERVERS, Stage, end, ended_early, options, say

CLIENTS = {
    "aioimaplib-idle": ["idlers.py", "aioimaplib"],
    "curl": ["curl.py"],
    "imaplib": ["imaplib_session.py", "none"],
    "imaplib-starttls": ["imaplib_session.py", "starttls"],
    "imaplib-tls": ["imaplib_session.py", "tls"],
    "imaplib-deflate": ["imaplib_session.py", "deflate"],
    "imapclient-idle": ["idlers.py", "imapclient"],
    "imapflow": ["imapflow.mjs"],
    "imapflow-idle": ["imapflow.mjs", "idle"],
    "listing": ["listing.py"],
    "listing-native": ["listing.py", "native"],
    "mbsync": ["mbsync.py"],
    "mutt": ["mutt.py"],
    "news-idle": ["news.py", "idle"],
    "news-noop": ["news.py", "noop"],
    "news-notify": ["news.py", "notify"],
    "offlineimap": ["offlineimap.py"],
    "provision": ["provision.py"],
    "deltachat": ["deltachat.py"],
}
OF_THE_PROXY = {"aioimaplib-idle", "imapclient-idle", "imaplib-deflate", "listing", "provision", "deltachat", "news-idle", "news-notify", "imapflow-idle"}  # what they speak of the server behind may not have at all
FEW = ["curl", "imaplib", "news-idle"]  # enough to show that TLS towards the backend makes no difference
WAYS = {name: {"imap": list(CLIENTS)} for name in SERVERS}  # how the proxy reaches each server, and with which clients that is tried
WAYS["dovecot"].update({"imaps": FEW, "imap+starttls": FEW})
UNSTEADY = {("mailutils", "news-noop"): "it looks for news now and then, whoever asks"}  # where passing directly is luck
SECONDS = 120  # for one run of one client
SERVERS_AT_ONCE, CLIENTS_AT_ONCE = 2, 3  # clients wait more than they compute
SKIPPED = 77  # what a client script exits with when its program is not installed
RUNNING = set()  # the clients under way
STOP = threading.Event()  # set when the run is to end early


def main():
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--clients", default=",".join(CLIENTS), help="which clients, comma-separated")
    chosen = parser.parse_args()
    servers = [name for name in WAYS if name in chosen.servers.split(",")]
    with Stage() as stage:
        install_npm(stage.folder)
        install_pip(stage.folder)
        run = lambda index_name: rows(stage, *index_name, chosen)  # noqa: E731
        results = [result for row in at_once(SERVERS_AT_ONCE, run, enumerate(servers)) for result in row]
    count = {kind: sum(result == kind for result in results) for kind in ("passed", "failed", "skipped")}
    say(f"{count['passed']} passed, {count['failed']} failed, {count['skipped']} skipped")
    sys.exit(1 if count["failed"] or not count["passed"] else 0)


def rows(stage, index, name, chosen):
    """All clients against one server, in each way that the proxy can reach it; the server is fresh each time and gone afterwards."""
    results = []
    for scheme, clients in WAYS[name].items():
        if STOP.is_set():
            break
        clients = [client for client in clients if client in chosen.clients.split(",")]
        with stage.part(index) as part:
            server = part.server(name)
            proxy = part.proxy(server, scheme, chosen.proxy)
            run = lambda index_client: cell(server, proxy, index_client[1], 2 * index_client[0] + 1)  # noqa: B023, E731
            results += at_once(CLIENTS_AT_ONCE, run, enumerate(clients))
            if fault := proxy.fault():
                say(f"{server.name}: {fault}")
                results.append("failed")
    return results


def at_once(number, function, items):
    """The results in order, computed by so many threads; the first failure or Ctrl-C ends the clients under way."""
    with concurrent.futures.ThreadPoolExecutor(number) as pool:
        jobs = [pool.submit(function, item) for item in items]
        try:
            return [job.result() for job in jobs]
        except BaseException:
            STOP.set()
            pool.shutdown(cancel_futures=True, wait=False)
            for process in list(RUNNING):
                end(process)
            raise


def cell(server, proxy, client, account):
    """One client twice: on one account directly, on the next through the proxy."""
    label = f"{server.name if proxy.scheme == 'imap' else server.name + ' ' + proxy.scheme:<22} {client:<17}"
    if reason := UNSTEADY.get((server.name, client)):
        say(f"{label} not judged: {reason}")
        return "skipped"
    code, words, spent = (0, "", 0) if client in OF_THE_PROXY else attempt(server, server, client, account)
    if code == SKIPPED:
        say(f"{label} {words}")
        return "skipped"
    if code:
        say(f"{label} direct fails, so not judged: {words}")
        return "skipped"
    direct = "proxy only " if client in OF_THE_PROXY else f"direct ok ({spent:.1f} s)"
    code, words, spent = attempt(server, proxy, client, account + 1)
    if code:
        say(f"{label} {direct}  proxied FAILED ({spent:.1f} s): {words}")
        return "failed"
    say(f"{label} {direct}  proxied ok ({spent:.1f} s)")
    return "passed"


def attempt(server, way, client, account):
    """Runs a client script; its exit code, its last words, and the seconds it took."""
    if STOP.is_set():
        raise InterruptedError("the run was ended")
    script, *more = CLIENTS[client]
    command = [str(HERE / "clients" / script), "127.0.0.1", str(way.port), str(way.tls_port), f"u{account}", *more]
    began = time.monotonic()
    process = subprocess.Popen(
        command, env=server.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    RUNNING.add(process)
    try:
        output = process.communicate(timeout=SECONDS)[0]
    except subprocess.TimeoutExpired:
        end(process)
        output = f"no end within {SECONDS} s".encode()
    finally:
        end(process)
        RUNNING.discard(process)
    words = output.decode(errors="replace").strip()
    return process.returncode, words if os.environ.get("LIVE_VERBOSE") else last_words(words), time.monotonic() - began


def last_words(words):
    """The sentence that says what failed, cut to a line."""
    lines = words.splitlines() or ["(said nothing)"]
    telling = [line for line in lines if line.startswith(("failed:", "skipped:"))] or lines[-1:]
    return telling[0][:300]


def install_npm(folder):
    """The locked npm packages, into $LIVE_DIR/npm; without npm or its registry the client is skipped aloud."""
    target = folder / "npm"
    target.mkdir(exist_ok=True)
    lock = HERE / "clients" / "package-lock.json"
    installed = target / "installed"
    if shutil.which("npm") and not (installed.exists() and installed.read_bytes() == lock.read_bytes()):
        say("installing the npm clients")
        for file in ("package.json", "package-lock.json"):
            shutil.copy(HERE / "clients" / file, target)
        quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
        if subprocess.run(["npm", "ci", *quiet], cwd=target, timeout=300).returncode == 0:
            shutil.copy(lock, installed)


def install_pip(folder):
    """The Python clients that Debian does not have, into $LIVE_DIR/pip; without pip or its index they are skipped aloud."""
    target = folder / "pip"
    wanted = HERE / "clients" / "requirements.txt"
    installed = target / "installed"
    if not (installed.exists() and installed.read_bytes() == wanted.read_bytes()):
        say("installing the Python clients")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check", "--target", target]
        if subprocess.run([*pip, "--upgrade", "--require-hashes", "-r", wanted], timeout=300).returncode == 0:
            shutil.copy(wanted, installed)


if __name__ == "__main__":
    ended_early(main)
