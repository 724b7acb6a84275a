#!/usr/bin/env python3
"""Whose number is it? A device names a number, the SMSC gets a code, the code is written back, and the number is told of what has come.

    $ proto-tests/live/enrol.py --servers dovecot
    dovecot: code 49001731, wrong: NO [NOPERM], right: OK; told of what had come; confirmed behind a kill
    11 passed, 0 failed, 0 skipped

The SMSC is node-smpp (npm), as for `smpp.py`. That nothing came in between shows in what comes next.
"""
import json
import re
import select
import subprocess
import sys
import time

sys.dont_write_bytecode = True

from handover import DEFAULT, SECONDS, deliver, sign_in, watched
from run import install_npm
from smpp import PORTS
from stage import HERE, Stage, Tally, end, ended_early, options, say

NUMBER = "+447700900101"
CONFIRM = "/private/vendor/lemonade/notify/outband/confirm"
OUTBAND = """
[outband]
every = "1s"
spread = "0s"
patience = {{ debounce = "200ms", pause = "1h" }}
presence = {{ grace_closed = "200ms", grace_broken = "200ms" }}

[outband.sms.smpp]
server = "localhost:{port}"
system_id = "mem"
password_file = "{secret}"
"""


def main():
    parser = options(__doc__.splitlines()[0])
    parser.set_defaults(servers="dovecot")
    chosen = parser.parse_args()
    tally = Tally()
    with Stage() as stage:
        install_npm(stage.folder)
        npm = stage.folder / "npm"
        if (npm / "node_modules" / "smpp").exists():
            for name in chosen.servers.split(","):
                with stage.part() as part:
                    walk(part, name, npm, chosen.proxy, tally)
        else:
            tally.skip("SMPP", "node-smpp is not installed")
    say(f"{tally.passed} passed, {tally.failed} failed, {tally.skipped} skipped")
    sys.exit(1 if tally.failed or not tally.passed else 0)


class Smsc:
    """What the telephone gets."""

    def __init__(self, npm):
        self.process = subprocess.Popen(["node", HERE / "smpp.mjs", npm], stdout=subprocess.PIPE, start_new_session=True)
        self.held = b""
        self.port = self.next()["port"]

    def next(self):
        """The next message; an empty one, if none comes for too long."""
        until = time.monotonic() + SECONDS
        while b"\n" not in self.held:
            if not select.select([self.process.stdout], [], [], max(0, until - time.monotonic()))[0]:
                return {}
            self.held += self.process.stdout.read1()
        line, self.held = self.held.split(b"\n", 1)
        return json.loads(line)


def walk(part, name, npm, program, tally):
    server, smsc = part.server(name), Smsc(npm)
    part.callback(end, smsc.process)
    secret = part.folder / "smpp-secret"
    secret.write_text("secret\n")
    proxy = part.proxy(server, "imap", program, OUTBAND.format(port=smsc.port, secret=secret))

    wire = sign_in(proxy, "u1")
    wire.ok("SELECT INBOX")
    wire.ok(f'SETMETADATA "" ({DEFAULT}/channel "SMS=WAKEUP" {DEFAULT}/address "{NUMBER}")')
    asked = smsc.next()
    code, text = str(asked.get("message"))[:8], str(asked.get("message"))[8:]
    tally.check(f"{name}: to", asked.get("to"), NUMBER[1:])
    tally.check(f"{name}: code", bool(re.fullmatch(r"\d{8}", code)), True)
    tally.check(f"{name}: text", text, " confirms this address for u1. Not yours? Do nothing.")
    tally.check(f"{name}: waits", stands(wire), b"waiting")
    watched(proxy, name)
    wire.ok("LOGOUT")
    deliver(server, "u1", "one")
    until = time.monotonic() + SECONDS
    while not told(proxy, "fresh") and time.monotonic() < until:
        time.sleep(0.05)
    tally.check(f"{name}: barred", told(proxy, "barred"), ["the address is not confirmed"])

    wire = sign_in(proxy, "u1")
    wrong = "0" * 8 if code != "0" * 8 else "1" * 8
    answers = [wire.say(f'SETMETADATA "" ({CONFIRM} "{what}")')[1] for what in (wrong, code)]
    tally.check(f"{name}: wrong", answers[0].startswith(b"NO [NOPERM] "), True)
    tally.check(f"{name}: right", answers[1].startswith(b"OK "), True)
    tally.check(f"{name}: confirmed", stands(wire), b"confirmed")
    wire.ok("LOGOUT")
    push = smsc.next()
    tally.check(f"{name}: told of what had come", [push.get("to"), push.get("udh")], [NUMBER[1:], [PORTS]])

    # Who has been told and does not react is told again after a minute.
    sign_in(proxy, "u1").ok("LOGOUT")
    until = time.monotonic() + SECONDS
    while told(proxy, "state") == ["SENT"] and time.monotonic() < until:
        time.sleep(0.02)
    proxy.kill()
    proxy.start(fresh=False)
    push = smsc.next()
    tally.check(f"{name}: behind a kill", [push.get("to"), push.get("udh")], [NUMBER[1:], [PORTS]])
    wire = sign_in(proxy, "u1")
    tally.check(f"{name}: still confirmed", stands(wire), b"confirmed")
    wire.ok("LOGOUT")
    say(f"{name}: code {code}, wrong: NO [NOPERM], right: OK; told of what had come; confirmed behind a kill")


def stands(wire):
    """How it stands with the address, as the device reads it."""
    said = b"".join(wire.ok(f'GETMETADATA "" {CONFIRM}'))
    found = re.search(rb'confirm "?(\w+)', said)
    return found and found[1]


def told(proxy, field):
    """What the routes say of themselves, where it is something."""
    command = [proxy.program, "queue", "list", "--state", str(proxy.state)]
    said = subprocess.run(command, capture_output=True, text=True).stdout
    return [json.loads(value) for value in re.findall(rf'"{field}": ?("[^"]*"|[1-9]\d*)', said)]


if __name__ == "__main__":
    ended_early(main)
