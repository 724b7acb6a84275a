#!/usr/bin/python3
"""Short messages and mails: node-smpp (npm) is the SMSC, aiosmtpd the submission server, and Python's own email reads what came.

    $ proto-tests/live/smpp.py --proxy target/tests/lemonade-proxy
    66 passed, 0 failed, 0 skipped

Ours come from the program live-smpp, which is built beside the proxy. Whoever is not installed is skipped, aloud. The Python is Debian's own,
for it has Debian's packages.
"""
import argparse
import email
import email.policy
import json
import logging
import pathlib
import ssl
import subprocess
import sys
import warnings

sys.dont_write_bytecode = True

from run import install_npm
from stage import HERE, Stage, Tally, end, ended_early, say

NUMBER = "4477009001"
LATER = "Later { after: None }"
# What is said of a wakeup, of a long one in two parts, and of text, to a number that ends so.
OUTCOMES = {
    "01": ["Accepted Delivered"] * 3,
    "02": ["Accepted Failed"] * 3,
    "03": ["Accepted Delivered"] * 3,
    "10": ["Failed nothing"] * 3,
    "11": ["Dead nothing"] * 3,
    "58": [LATER + " nothing", "Accepted Delivered", "Accepted Delivered"],
    "77": [LATER + " nothing"] * 3,
}
# How many messages come: two parts of the long one, where the link is still there.
MESSAGES = {"01": 4, "02": 4, "03": 4, "10": 4, "11": 4, "58": 4, "77": 1}
PUSH = "010606" "03" "02030aaf89" "030d6a008507036a6f6540666f6f2e636f6d0005c30620040220064001"
PORTS = "05040b8423f0"
TEXT = 'Juliet "J": Grüße\nRomeo, where are you?'
OPENSSL = """[req]
distinguished_name = name
x509_extensions = extensions
prompt = no
[name]
CN = localhost
[extensions]
subjectAltName = DNS:localhost
basicConstraints = critical,CA:FALSE
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--proxy", default="target/release/lemonade-proxy", help="the program; live-smpp stands beside it")
    chosen = parser.parse_args()
    program, tally = pathlib.Path(chosen.proxy).with_name("live-smpp"), Tally()
    with Stage() as stage, stage.part() as part:
        install_npm(stage.folder)
        folder = stage.folder / "smpp"
        folder.mkdir(exist_ok=True)
        key, certificate = certified(folder)
        sms(program, stage.folder / "npm", folder, (key, certificate), tally)
        mail(program, folder, part, (key, certificate), tally)
    say(f"{tally.passed} passed, {tally.failed} failed, {tally.skipped} skipped")
    sys.exit(1 if tally.failed or not tally.passed else 0)


def certified(folder):
    """A key, and a certificate for localhost."""
    (folder / "openssl.cnf").write_text(OPENSSL)
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "7", "-config"]
    subprocess.run([*command, folder / "openssl.cnf", "-keyout", key, "-out", certificate], check=True, stderr=subprocess.DEVNULL)
    return key, certificate


def settings(folder, **values):
    """A file with these settings, and beside it their password."""
    (folder / "password").write_text(values.pop("password") + "\n")
    values["password_file"] = str(folder / "password")
    file = folder / "settings.toml"
    file.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items() if value is not None))
    return file


def sent(program, *arguments):
    """What became of each, in the order in which they were sent."""
    out = subprocess.run([program, *arguments], check=True, stdout=subprocess.PIPE, text=True, timeout=60).stdout
    return [line.split(" ", 1)[1] for line in out.splitlines()]


def sms(program, npm, folder, pair, tally):
    if not (npm / "node_modules" / "smpp").exists():
        return tally.skip("SMPP", "node-smpp is not installed")
    for name, over in (("SMPP", ()), ("SMPP over TLS", pair)):
        smsc = subprocess.Popen(["node", HERE / "smpp.mjs", npm, *over], stdout=subprocess.PIPE, text=True, start_new_session=True)
        try:
            at = json.loads(smsc.stdout.readline())["port"]
            ours = {"server": f"localhost:{at}", "system_id": "mem", "tls": bool(over), "ca": str(pair[1]) if over else None}
            for kind, outcomes in OUTCOMES.items() if not over else [("01", OUTCOMES["01"])]:
                file = settings(folder, password="secret", **ours)
                tally.check(f"{name} {kind}", sent(program, "sms", file, f"+{NUMBER}{kind}"), outcomes)
                came = [json.loads(smsc.stdout.readline()) for _ in range(MESSAGES[kind])]
                tally.check(f"{name} {kind}: to", {one["to"] for one in came}, {NUMBER + kind})
                if kind == "01":
                    arrived(name, came, tally)
            file = settings(folder, password="wrong", **ours)
            tally.check(f"{name}: password", sent(program, "sms", file, f"+{NUMBER}01"), [LATER + " nothing"] * 3)
        finally:
            end(smsc)


def arrived(name, came, tally):
    """What came to a telephone: a push, one in two parts, and text."""
    for one in came:
        tally.check(f"{name}: from", [one["from"], one["ton"], one["registered_delivery"]], ["MEM", 5, 1])
    push, *parts, text = came
    tally.check(f"{name}: push", [push["esm_class"], push["data_coding"], push["udh"], push["message"]], [0x40, 4, [PORTS], PUSH])
    tally.check(f"{name}: parts", [part["udh"] for part in parts], [[PORTS, f"00035c020{index}"] for index in (1, 2)])
    whole = bytes.fromhex("".join(part["message"] for part in parts))
    tally.check(f"{name}: long", [whole[:4].hex(), whole.count(b"x")], ["01060603", 200])
    tally.check(f"{name}: text", [text["esm_class"], text["data_coding"], text["message"]], [0, 8, TEXT])


def mail(program, folder, part, pair, tally):
    try:
        from aiosmtpd.controller import Controller
        from aiosmtpd.smtp import AuthResult
    except ImportError:
        return tally.skip("mail", "aiosmtpd is not installed")

    # That it is asked for passwords over TLS from the beginning, of which it knows nothing, is no news.
    warnings.simplefilter("ignore")
    logging.getLogger("mail").setLevel(logging.ERROR)
    came = []

    class Handler:
        async def handle_RCPT(self, server, session, envelope, address, options):
            if address.startswith("nobody"):
                return "550 5.1.1 No such user"
            envelope.rcpt_tos.append(address)
            return "250 2.1.5 Ok"

        async def handle_DATA(self, server, session, envelope):
            came.append((session.ssl is not None, envelope))
            return "250 2.0.0 Taken"

    def known(server, session, envelope, mechanism, data):
        # Not handled: the answer is aiosmtpd's own.
        return AuthResult(success=(data.login, data.password) == (b"mem", b"secret"), handled=False)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair[1], pair[0])
    ways = {
        "implicit": {"ssl_context": context, "authenticator": known, "auth_required": True, "auth_require_tls": False},
        "starttls": {"tls_context": context, "require_starttls": True, "authenticator": known, "auth_required": True},
    }
    for (way, options), port in zip(ways.items(), part.ports()):
        server = Controller(Handler(), hostname="127.0.0.1", port=port, **options)
        server.start()
        try:
            ours = {"server": f"localhost:{port}", "tls": way, "ca": str(pair[1]), "user": "mem", "from": "mem@foo.com"}
            file = settings(folder, password="secret", **ours)
            tally.check(f"mail {way}", sent(program, "mail", file, "joe@phone.example"), ["Accepted"] * 2)
            tally.check(f"mail {way}: came", len(came), 2)
            for _, envelope in came:
                tally.check(f"mail {way}: envelope", [envelope.mail_from, envelope.rcpt_tos], ["<>", ["joe@phone.example"]])
            read(way, [envelope.content for _, envelope in came], tally)
            came.clear()
            tally.check(f"mail {way}: nobody", sent(program, "mail", file, "nobody@phone.example"), ["Dead"] * 2)
            file = settings(folder, password="wrong", **ours)
            tally.check(f"mail {way}: password", sent(program, "mail", file, "joe@phone.example"), ["Failed"] * 2)
            tally.check(f"mail {way}: nothing more", came, [])
        finally:
            server.stop()


def read(way, contents, tally):
    """The mails, as Python's email reads them."""
    mails = [email.message_from_bytes(content, policy=email.policy.default) for content in contents]
    for one in mails:
        tally.check(f"mail {way}: loop", str(one["Auto-Submitted"]).split("=")[0], "auto-notified; owner-token")
        tally.check(f"mail {way}: defects", [*one.defects, *(defect for name in one for defect in one[name].defects)], [])
    tally.check(f"mail {way}: from", {(one["From"].addresses[0].addr_spec, one["To"].addresses[0].addr_spec) for one in mails}, {("mem@foo.com", "joe@phone.example")})
    tally.check(f"mail {way}: date", [one["Date"].datetime is not None for one in mails], [True, True])
    tally.check(f"mail {way}: one notice", len({one["Message-ID"] for one in mails}), 1)
    tally.check(f"mail {way}: subjects", [one["Subject"] for one in mails], ["New mail for joe@foo.com", "Grüße"])
    bodies = [one.get_content().splitlines() for one in mails]
    tally.check(f"mail {way}: bodies", bodies, [
        ["joe@foo.com: MessageNew in Entwürfe", "Unseen: 299"],
        ["joe@foo.com: MessageNew in Entwürfe", 'From: Juliet "J" <juliet@example.org>', "Subject: Grüße", "Romeo, where are you?", "Unseen: 299"],
    ])


if __name__ == "__main__":
    ended_early(main)
