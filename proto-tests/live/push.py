#!/usr/bin/env python3
"""Notices by HTTP: http_ece (npm) opens what we send by Web Push, and Kannel brings our short messages to a telephone.

    $ proto-tests/live/push.py --proxy target/tests/lemonade-proxy
    51 passed, 0 failed, 0 skipped

Ours come from the program live-push, which is built beside the proxy. Whoever is not installed is skipped, aloud.
"""
import argparse
import json
import pathlib
import re
import shutil
import subprocess
import sys
import time
import urllib.parse

sys.dont_write_bytecode = True

from run import install_npm
from stage import HERE, Stage, Tally, end, ended_early, say

LATER = "Later { after: Some(7s) }"
OUTCOMES = {
    200: "Accepted", 201: "Accepted", 202: "Accepted", 204: "Accepted", 307: "Failed", 400: "Failed", 401: "Failed", 403: "Failed",
    404: "Dead", 410: "Dead", 413: "TooLarge", 429: LATER, 500: LATER, 503: LATER,
}
THIN = {"folder": "Entwürfe", "uidvalidity": 385759045, "account": "joe@foo.com", "seq": 7, "event": "MessageNew",
        "timestamp": "2004-02-20T06:40:00Z", "messages": 1503, "unseen": 299, "uidnext": 19, "modseq": "7"}
WHOLE = THIN | {"from-email": "juliet@example.org", "from-name": 'Juliet "J"', "subject": "Grüße", "date": "2004-02-20T06:39:57Z",
                "msg-id": "<a@b>", "uid": 18, "snippet": "Romeo, where are you?"}

NUMBER = "+447700900123"
WAP = "0605040b8423f0"
PUSH = "010606" "03" "02030aaf89" "030d6a008507036a6f6540666f6f2e636f6d0005c30620040220064001"
KANNEL = """group = core
admin-port = {0}
admin-password = x
smsbox-port = {1}
box-allow-ip = "127.0.0.1"

group = smsc
smsc = fake
smsc-id = fake
port = {2}
connect-allow-ip = 127.0.0.1

group = smsbox
bearerbox-host = 127.0.0.1
sendsms-port = {3}

group = sendsms-user
username = mem
password = secret
concatenation = true
max-messages = 4
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--proxy", default="target/release/lemonade-proxy", help="the program; live-push stands beside it")
    parser.add_argument("--kannel", default="/", type=pathlib.Path, help="the root below which Kannel is installed")
    chosen = parser.parse_args()
    program, tally = pathlib.Path(chosen.proxy).with_name("live-push"), Tally()
    with Stage() as stage, stage.part() as part:
        install_npm(stage.folder)
        webpush(program, stage.folder, tally)
        kannel(program, chosen.kannel, part, tally)
    say(f"{tally.passed} passed, {tally.failed} failed, {tally.skipped} skipped")
    sys.exit(1 if tally.failed or not tally.passed else 0)


def sent(program, *arguments):
    """What the program sent, and what became of it."""
    out = subprocess.run([program, *arguments], check=True, stdout=subprocess.PIPE, text=True, timeout=60).stdout
    return dict(line.split(" ", 1) for line in out.splitlines())


def webpush(program, folder, tally):
    if not (folder / "npm" / "node_modules" / "http_ece").exists():
        return tally.skip("Web Push", "http_ece is not installed")
    state = folder / "push"
    shutil.rmtree(state, ignore_errors=True)
    state.mkdir()
    command = ["node", HERE / "push.mjs", folder / "npm"]
    receiver = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        at = json.loads(receiver.stdout.readline())
        for status, outcome in OUTCOMES.items():
            origin = f"https://127.0.0.1:{at['port']}"
            outcomes = sent(program, "webpush", state, f"{origin}/{status}|{at['key']}|{at['secret']}")
            tally.check(f"Web Push {status}", outcomes, dict.fromkeys(("extended", "wakeup", "question"), outcome))
            heard = [json.loads(receiver.stdout.readline()) for _ in outcomes]
            if status == 201:
                arrived(heard, origin, tally)
            # A redirection that is followed would have been heard here.
            tally.check(f"Web Push {status}: where to", [one["path"] for one in heard], [f"/{status}"] * 3)
        tally.check("Web Push: one key", len(list(state.iterdir())), 1)
    finally:
        end(receiver)


def arrived(heard, origin, tally):
    """What the device read, and what the service saw."""
    texts = [json.loads(one["text"]) for one in heard]
    tally.check("Web Push: text", texts, [WHOLE, THIN, {"validation": "Grüße"}])
    topics = [one["headers"].get("topic") for one in heard]
    tally.check("Web Push: topic", [topics[0] == topics[1], len(topics[0] or ""), topics[2]], [True, 32, None])
    for one in heard:
        headers, claims = one["headers"], one["claims"]
        tally.check("Web Push: signed", one["signed"], True)
        tally.check("Web Push: claims", [claims["aud"], claims["sub"]], [origin, "mailto:push@example.org"])
        tally.check("Web Push: expires", 0 < claims["exp"] - time.time() < 24 * 3600, True)
        tally.check("Web Push: headers", [headers["urgency"], headers["content-encoding"]], ["high", "aes128gcm"])
    tally.check("Web Push: lives for", [one["headers"]["ttl"] for one in heard], ["600", "600", "300"])
    tally.check("Web Push: question", ["webpush-validation" in one["headers"] for one in heard], [False, False, True])


def kannel(program, root, part, tally):
    boxes = [root / "usr/sbin/bearerbox", root / "usr/sbin/smsbox", root / "usr/lib/kannel/test/fakesmsc"]
    if not all(box.exists() for box in boxes):
        return tally.skip("Kannel", "it is not installed")
    ports = [*part.ports(), *part.ports()][:4]
    folder = part.folder / "kannel"
    folder.mkdir(exist_ok=True)
    (folder / "kannel.conf").write_text(KANNEL.format(*ports))
    began = []

    def begin(name, *command):
        log = folder / f"{name}.log"
        began.append(subprocess.Popen(command, cwd=folder, stdout=log.open("w"), stderr=subprocess.STDOUT, start_new_session=True))
        return log

    def until(log, pattern, count=1):
        """What the log says, at the end of which it has this so many times."""
        limit = time.monotonic() + 20
        while time.monotonic() < limit and len(re.findall(pattern, log.read_text(errors="replace"))) < count:
            time.sleep(0.1)
        return re.findall(pattern, log.read_text(errors="replace"))

    try:
        bearer = begin("bearerbox", boxes[0], "kannel.conf")
        until(bearer, "MAIN: Start-up done")
        begin("smsbox", boxes[1], "kannel.conf")
        until(bearer, "Client connected from|Started thread .*boxc_sender")
        telephone = begin("telephone", boxes[2], "-r", str(ports[2]), "-m", "0", "1 2 text x")
        until(bearer, "Fakesmsc client connected")
        url = f"http://127.0.0.1:{ports[3]}/cgi-bin/sendsms"
        tally.check("Kannel", sent(program, "kannel", url, "mem", "secret", NUMBER), {"wakeup": "Accepted", "long": "Accepted"})
        tally.check("Kannel: password", sent(program, "kannel", url, "mem", "wrong", NUMBER), {"wakeup": "Failed", "long": "Failed"})
        came = until(telephone, r"Got message \d+: <Mail (\S+) udh (\S+) data (\S+)>", 3)
        octets = [(number, *(urllib.parse.unquote_to_bytes(text.replace("+", " ")).hex() for text in parts)) for number, *parts in came]
        tally.check("Kannel: messages", [number for number, *_ in octets], [NUMBER] * 3)
        tally.check("Kannel: wakeup", octets[0][1:] if octets else None, (WAP, PUSH))
        # Kannel cuts the long one: its header says 11 octets, the port, and a part of two.
        parts = [header[:14] + header[20:] for _, header, _ in octets[1:]]
        tally.check("Kannel: parts", parts, ["0b" + WAP[2:] + "0201", "0b" + WAP[2:] + "0202"])
        whole = "".join(data for _, _, data in octets[1:])
        tally.check("Kannel: long", bytes.fromhex(whole).count(b"x"), 200)
    finally:
        for process in reversed(began):
            end(process)


if __name__ == "__main__":
    ended_early(main)
