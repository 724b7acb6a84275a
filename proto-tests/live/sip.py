#!/usr/bin/env python3
"""Notices by SIP: SIPp is the telephone, and Kamailio the proxy before it or the store that takes messages in.

    $ proto-tests/live/sip.py --proxy target/tests/lemonade-proxy
    56 passed, 0 failed, 0 skipped

Ours come from the program live-sip, which is built beside the proxy. Whoever is not installed is skipped, aloud.
"""
import argparse
import contextlib
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import time

sys.dont_write_bytecode = True

from stage import Stage, Tally, end, ended_early, say

EXTENDED = '<juliet@example.org> wrote: Grüße, "sofort"!'
WAKEUP = "Mail for joe@foo.com"
LATER = "Later { after: Some(7s) }"
# What a telephone may say, and what becomes of a notice.
OUTCOMES = {
    "200 OK": "Delivered", "202 Accepted": "Accepted", "404 Not Found": "Dead", "410 Gone": "Dead", "604 Nowhere": "Dead",
    "480 Unavailable": LATER, "486 Busy Here": LATER, "503 Busy": LATER, "600 Busy Everywhere": LATER,
    "413 Too Large": "TooLarge", "415 Not This Type": "TooLarge", "405 Not This": "Failed", "603 Decline": "Failed",
}

RESPONSE = """<send{next}><![CDATA[
SIP/2.0 {status}
[last_Via:]
[last_From:]
[last_To:];tag=phone[call_number]
[last_Call-ID:]
[last_CSeq:]
{fields}Content-Length: 0

]]></send>
"""
CHALLENGE = 'WWW-Authenticate: Digest realm="example.com", nonce="47364c23432d2e131a5fb210812c", {}, opaque="a, b=c", qop="auth,auth-int"\n'
# SIPp verifies MD5 alone; in the challenge a better algorithm that nobody knows stands first.
KNOWN = """<recv request="MESSAGE"><action><verifyauth assign_to="known" username="notifier" password="s3cret"/></action></recv>
<nop next="good" test="known"/>
"""
KAMAILIO = """#!KAMAILIO
debug=1
log_stderror=yes
fork=yes
children=1
tcp_children=1
auto_aliases=no
listen=udp:127.0.0.1:{port}
listen=tcp:127.0.0.1:{port}
loadmodule "tm.so"
loadmodule "sl.so"
{tls}
loadmodule "tmx.so"
loadmodule "pv.so"
loadmodule "auth.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "xlog.so"
modparam("auth", "algorithm", "{algorithm}")
modparam("auth", "nonce_count", 1)
modparam("auth", "qop", "auth")
modparam("auth", "nid_pool_no", 1)
request_route {{
    if (!mf_process_maxfwd_header("10") || !is_method("MESSAGE")) {{ sl_send_reply("483", "No"); exit; }}
    if ($rU == "moved") {{ $ru = "sip:store@127.0.0.1:{port}"; sl_send_reply("302", "Moved"); exit; }}
    if ($rU == "lossy") {{
        $shv(heard) = $shv(heard) + 1;
        if ($(shv(heard){{s.int}}) < 3) {{ exit; }}
    }}
    if (!pv_proxy_authenticate("proxy", "s3cret", "0")) {{ proxy_challenge("proxy", "1"); exit; }}
    if ($rU == "romeo") {{ $du = "sip:127.0.0.1:{telephone}"; t_relay(); exit; }}
    xlog("L_ALERT", "stored [$rU] [$rb]\\n");
    sl_send_reply("202", "Accepted");
}}
"""

TLS = """enable_tls=yes
listen=tls:127.0.0.1:{port}
loadmodule "tls.so"
modparam("tls", "tls_method", "TLSv1.2+")
modparam("tls", "certificate", "{folder}/server.pem")
modparam("tls", "private_key", "{folder}/server.key")
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--proxy", default="target/release/lemonade-proxy", help="the program; live-sip stands beside it")
    program, tally = pathlib.Path(parser.parse_args().proxy).with_name("live-sip"), Tally()
    with Stage() as stage, stage.part() as part:
        folder = stage.folder / "sip"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        sender = Sender(program, folder)
        ports = [*part.ports(), *part.ports()]
        if shutil.which("sipp"):
            telephone(sender, folder, ports[0], tally)
        else:
            tally.skip("SIPp", "it is not installed")
        if shutil.which("kamailio"):
            for algorithm in ("MD5", "SHA-256"):
                kamailio(sender, folder, ports[1:4], algorithm, tally)
        else:
            tally.skip("Kamailio", "it is not installed")
    say(f"{tally.passed} passed, {tally.failed} failed, {tally.skipped} skipped")
    sys.exit(1 if tally.failed or not tally.passed else 0)


class Sender:
    """The program, and the section that it reads."""

    def __init__(self, program, folder):
        self.program, self.folder = program, folder
        (folder / "password").write_text("s3cret\n")

    def send(self, address, **settings):
        """What was sent, and what became of it."""
        known = {"from": "sip:notifier@example.com", "user": "notifier", "password_file": str(self.folder / "password")}
        lines = [f'{key} = "{value}"' for key, value in (known | settings).items() if value]
        (self.folder / "sip.toml").write_text("\n".join([*lines, 'realms = ["example.com", "proxy"]']))
        command = [self.program, self.folder / "sip.toml", address]
        out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=120).stdout
        return dict(line.split(" ", 1) for line in out.splitlines())


class Telephone:
    """SIPp, which answers each message by a scenario."""

    def __init__(self, folder, port, transport, scenario, messages=2):
        self.log = folder / "telephone.log"
        self.log.unlink(missing_ok=True)
        (folder / "telephone.xml").write_text(f'<?xml version="1.0" encoding="UTF-8"?>\n<scenario name="telephone">\n{scenario}</scenario>\n')
        command = ["sipp", "-sf", "telephone.xml", "-i", "127.0.0.1", "-p", str(port), "-t", transport, "-m", str(messages), "-nostdin"]
        command += ["-trace_msg", "-message_file", str(self.log), "-trace_err", "-error_file", str(folder / "telephone.err")]
        self.process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        until(lambda: bound(port, transport) or self.process.poll() is not None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # It ends by itself behind the last message, and then its log is whole.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        end(self.process)

    def heard(self):
        """The requests, as it has written them down."""
        text = self.log.read_text(errors="replace").replace("\r\n", "\n") if self.log.exists() else ""
        return re.findall(r"message received \[\d+\] bytes :\n\n(MESSAGE .*?\n\n[^\n]*)", text, re.S)


def telephone(sender, folder, port, tally):
    """A telephone that answers at once, and one that asks first who we are."""
    for transport in ("udp", "tcp"):
        place = {"address": f"sip:romeo@127.0.0.1:{port};transport={transport}"}
        for status, outcome in OUTCOMES.items():
            fields = "Retry-After: 7 (later)\n" if outcome == LATER else ""
            scenario = '<recv request="MESSAGE"/>\n' + RESPONSE.format(next="", status=status, fields=fields)
            with Telephone(folder, port, transport[0] + "1", scenario) as phone:
                found = sender.send(**place)
            tally.check(f"SIPp {transport} {status}", found, dict.fromkeys(("extended", "wakeup"), outcome))
        read(phone.heard(), transport, tally)
        challenge = CHALLENGE.format("algorithm=SHA-3") + CHALLENGE.format("algorithm=MD5")
        scenario = (
            '<recv request="MESSAGE"/>\n' + RESPONSE.format(next="", status="401 Who", fields=challenge) + KNOWN
            + RESPONSE.format(next=' next="end"', status="403 Wrong", fields="") + '<label id="good"/>\n'
            + RESPONSE.format(next="", status="200 OK", fields="") + '<label id="end"/>\n'
        )
        proxy = f"sip:127.0.0.1:{port};transport={transport}"
        (folder / "wrong").write_text("guessed")
        for password, outcome in (("password", "Delivered"), ("wrong", "Failed")):
            with Telephone(folder, port, transport[0] + "1", scenario) as phone:
                found = sender.send("sip:romeo@example.com", proxy=proxy, password_file=folder / password)
            tally.check(f"SIPp {transport}: {password}", found, dict.fromkeys(("extended", "wakeup"), outcome))


def read(requests, transport, tally):
    """What the telephone shows."""
    bodies = [request.split("\n\n")[-1] for request in requests]
    tally.check(f"SIPp {transport}: text", bodies, [EXTENDED, WAKEUP])
    for request, body in zip(requests, (EXTENDED, WAKEUP)):
        fields = dict(line.split(": ", 1) for line in request.split("\n\n")[0].split("\n")[1:])
        found = [fields.get(name) for name in ("Priority", "Expires", "Content-Type", "Content-Length", "CSeq", "Contact")]
        expected = ["urgent", "3600", "text/plain;charset=UTF-8", str(len(body.encode())), "1 MESSAGE", None]
        tally.check(f"SIPp {transport}: fields", found, expected)


def kamailio(sender, folder, ports, algorithm, tally):
    """A proxy that asks who we are, stores messages, sends us elsewhere, loses some, and stands before a telephone that asks, too."""
    config, log = folder / "kamailio.cfg", folder / f"kamailio-{algorithm}.log"
    port, tls_port, telephone = ports
    has_tls = any(pathlib.Path("/usr/lib").glob("*/kamailio/modules/tls.so"))
    tls = TLS.format(port=tls_port, folder=certify(folder)) if has_tls else ""
    config.write_text(KAMAILIO.format(port=port, telephone=telephone, algorithm=algorithm, tls=tls))
    command = ["kamailio", "-DD", "-E", "-f", config, "-Y", folder, "-P", folder / "kamailio.pid", "-m", "32", "-M", "4"]
    process = subprocess.Popen(command, cwd=folder, stdout=log.open("w"), stderr=subprocess.STDOUT, start_new_session=True)

    def stored():
        return re.findall(r"stored \[(\w+)\] \[(.*)\]", log.read_text(errors="replace"))

    def check(what, address, outcome, **settings):
        settings = {"proxy": f"sip:127.0.0.1:{port}"} | settings
        tally.check(f"Kamailio {algorithm}: {what}", sender.send(address, **settings), dict.fromkeys(("extended", "wakeup"), outcome))

    try:
        if not until(lambda: bound(port, "u1") and bound(port, "t1")):
            tally.check(f"Kamailio {algorithm}", log.read_text(errors="replace")[-2000:], "it listens")
            return
        for transport in ("udp", "tcp"):
            check(transport, "sip:store@example.com", "Accepted", proxy=f"sip:127.0.0.1:{port};transport={transport}")
        if has_tls:
            check("tls", "sips:store@example.com", "Accepted", proxy=f"sip:127.0.0.1:{tls_port};transport=tls")
        else:
            tally.skip(f"Kamailio {algorithm} by TLS", "kamailio-tls-modules is not installed")
        check("redirection", "sip:moved@example.com", "Accepted")
        check("lossy", "sip:lossy@example.com", "Accepted")
        check("password", "sip:store@example.com", "Failed", password_file=folder / "wrong")
        check("nobody", "sip:store@example.com", "Failed", user=None)
        users = ["store"] * (8 if has_tls else 6) + ["lossy"] * 2
        tally.check(f"Kamailio {algorithm}: stored", stored(), [*zip(users, [EXTENDED, WAKEUP] * 5)])
        if not shutil.which("sipp"):
            return tally.skip("Kamailio before SIPp", "SIPp is not installed")
        scenario = (
            '<recv request="MESSAGE"/>\n' + RESPONSE.format(next="", status="401 Who", fields=CHALLENGE.format("algorithm=MD5")) + KNOWN
            + RESPONSE.format(next=' next="end"', status="403 Wrong", fields="") + '<label id="good"/>\n'
            + RESPONSE.format(next="", status="200 OK", fields="") + '<label id="end"/>\n'
        )
        with Telephone(folder, telephone, "u1", scenario) as phone:
            check("before SIPp", "sip:romeo@example.com", "Delivered")
        # Kamailio hands on what answered its own challenge; the telephone hears both.
        both = [(re.findall(r'^(\S*uthorization): .* realm="(\w[\w.]*)".* nc=(\d+)', request, re.M)) for request in phone.heard()]
        again = [("Proxy-Authorization", "proxy", "00000002"), ("Authorization", "example.com", "00000001")]
        tally.check(f"Kamailio {algorithm}: both ask", both, [[("Proxy-Authorization", "proxy", "00000001")], again] * 2)
    finally:
        end(process)


def certify(folder):
    """The folder, with a certificate for loopback in it, and in ca.pem who has signed it."""
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    (folder / "extensions").write_text("subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
    for command in (
        ["req", "-x509", *new, "-days", "2", "-subj", "/CN=Live tests", "-keyout", "ca.key", "-out", "ca.pem"],
        ["req", *new, "-subj", "/CN=telephone", "-keyout", "server.key", "-out", "server.csr"],
        ["x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
         "-extfile", "extensions", "-out", "server.pem"],
    ):
        subprocess.run(["openssl", *command], cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return folder


def bound(port, transport):
    """Whether somebody has the port."""
    kind = socket.SOCK_STREAM if transport.startswith("t") else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as probe:
        if kind == socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what was closed a moment ago does not count
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def until(done, seconds=10):
    limit = time.monotonic() + seconds
    while not done():
        if time.monotonic() > limit:
            return False
        time.sleep(0.05)
    return True


if __name__ == "__main__":
    ended_early(main)
