#!/usr/bin/python3
"""Messages of XMPP: Prosody is the server, for a component and for a client, and slixmpp the telephones that get them.

    $ proto-tests/live/xmpp.py --proxy target/tests/lemonade-proxy
    38 passed, 0 failed, 0 skipped

Ours come from the program live-xmpp, which is built beside the proxy. Whoever is not installed is skipped, aloud. The Python is Debian's own,
for it has Debian's packages.
"""
import argparse
import asyncio
import logging
import pathlib
import shutil
import subprocess
import sys
import time

sys.dont_write_bytecode = True

from smpp import certified, settings
from stage import Stage, Tally, end, ended_early, is_free, say

LATER = "Later { after: None }"
PROSODY = """
run_as_root = true
pidfile = "{folder}/prosody.pid"
data_path = "{folder}/data"
log = {{ debug = "{folder}/prosody.log" }}
modules_enabled = {{ "saslauth", "tls", "disco", "ping" }}
modules_disabled = {{ "s2s", "offline" }}
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {c2s} }}
c2s_direct_tls_ports = {{ {direct} }}
component_ports = {{ {component} }}
component_interfaces = {{ "127.0.0.1" }}
authentication = "internal_plain"
ssl = {{ key = "{key}", certificate = "{certificate}" }}
VirtualHost "localhost"
Component "notify.localhost"
    component_secret = "secret"
Component "rooms.localhost" "muc"
    restrict_room_creation = true
"""
# Who gets it: at once with a receipt, without one, with one that is late, and behind a message of more than 1 MiB; nobody, in two ways.
OUTCOMES = {
    "romeo@localhost": "Delivered nothing",
    "juliet@localhost": "Accepted nothing",
    "nurse@localhost": "Accepted Delivered",
    "tybalt@localhost": "Accepted Delivered",
    "nobody@localhost": "Failed nothing",
    "nobody@rooms.localhost": "Dead nothing",
    "romeo@elsewhere.invalid": "Failed nothing",
}
# What Prosody lets a client send; it writes six octets for each quote.
LONG = "'" * 200_000
BODY = 'Juliet "J" <&> <juliet@example.org> wrote: 1 < 2 ]]> </body></message>: Grüße\nRomeo, where are you?'
URL = "imap://joe@foo.com/Entw%C3%BCrfe;UIDVALIDITY=385759045/;UID=18"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--proxy", default="target/release/lemonade-proxy", help="the program; live-xmpp stands beside it")
    chosen = parser.parse_args()
    program, tally = pathlib.Path(chosen.proxy).with_name("live-xmpp"), Tally()
    with Stage() as stage, stage.part() as part:
        folder = stage.folder / "xmpp"
        folder.mkdir(exist_ok=True)
        try:
            import slixmpp  # noqa: F401
        except ImportError:
            tally.skip("XMPP", "slixmpp is not installed")
        else:
            if shutil.which("prosody"):
                served(program, folder, [*part.ports(), *part.ports()], tally)
            else:
                tally.skip("XMPP", "Prosody is not installed")
    say(f"{tally.passed} passed, {tally.failed} failed, {tally.skipped} skipped")
    sys.exit(1 if tally.failed or not tally.passed else 0)


def served(program, folder, ports, tally):
    key, certificate = certified(folder)
    accounts = folder / "data" / "localhost" / "accounts"
    accounts.mkdir(parents=True, exist_ok=True)
    for name in ("mem", "romeo", "juliet", "nurse", "tybalt"):
        (accounts / f"{name}.dat").write_text('return { ["password"] = "secret"; };\n')
    c2s, direct, component = ports[:3]
    config = folder / "prosody.cfg.lua"
    config.write_text(PROSODY.format(folder=folder, c2s=c2s, direct=direct, component=component, key=key, certificate=certificate))
    with (folder / "prosody.out").open("w") as out:
        server = subprocess.Popen(["prosody", "--config", config, "-F"], stdout=out, stderr=out, start_new_session=True)
        try:
            limit = time.monotonic() + 20
            while any(is_free(port) for port in ports[:3]):
                if server.poll() is not None or time.monotonic() > limit:
                    sys.exit(f"Prosody does not begin:\n{(folder / 'prosody.out').read_text()[-2000:]}")
                time.sleep(0.05)
            asyncio.run(told(program, folder, ports, certificate, tally))
        finally:
            end(server)


def telephone(name, receipt, came):
    """A client that says so many seconds later that it has a message; none: it does not."""
    import slixmpp

    client = slixmpp.ClientXMPP(f"{name}@localhost/phone", "secret")
    client.register_plugin("xep_0184", {"auto_ack": receipt == 0, "auto_request": False})

    async def heard(message):
        came.append(message)
        if name == "tybalt":
            client.send_raw(f"<message to='{message['from']}'><body>{LONG}</body></message>")
        if receipt:
            await asyncio.sleep(receipt)
            client["xep_0184"].ack(message)

    client.add_event_handler("message", heard)
    client.add_event_handler("session_start", lambda _: client.send_presence())
    return client


async def told(program, folder, ports, certificate, tally):
    logging.getLogger("slixmpp").setLevel(logging.CRITICAL)
    c2s, direct, component, relayed, nobody = ports[:5]
    came = {name: [] for name in ("romeo", "juliet", "nurse", "tybalt")}
    telephones = [telephone(name, receipt, came[name]) for name, receipt in (("romeo", 0), ("juliet", None), ("nurse", 3), ("tybalt", 3))]
    for one in telephones:
        one.ca_certs = str(certificate)
        is_there = one.wait_until("session_start", 15)
        one.connect(address=("127.0.0.1", c2s))
        await is_there
    ways = {
        "component": {"server": f"localhost:{component}", "jid": "notify.localhost"},
        "client": {"server": f"localhost:{c2s}", "jid": "mem@localhost", "ca": str(certificate)},
        "client, TLS first": {"server": f"127.0.0.1:{direct}", "jid": "mem@localhost", "ca": str(certificate), "tls": "implicit"},
    }
    for way, ours in ways.items():
        file = settings(folder, password="secret", **ours)
        for address, outcome in OUTCOMES.items() if way != "client, TLS first" else [("romeo@localhost", OUTCOMES["romeo@localhost"])]:
            tally.check(f"{way}: {address}", await sent(program, file, address), [f"wakeup {outcome}", f"extended {outcome}"])
        arrived(way, ours["jid"], came["romeo"], tally)
        came["romeo"].clear()
        file = settings(folder, password="wrong", **ours)
        tally.check(f"{way}: password", await sent(program, file, "romeo@localhost"), [f"wakeup {LATER} nothing", f"extended {LATER} nothing"])
    file = settings(folder, password="secret", **{**ways["client"], "ca": None})
    tally.check("certificate", await sent(program, file, "romeo@localhost"), [f"wakeup {LATER} nothing", f"extended {LATER} nothing"])
    file = settings(folder, password="secret", **{**ways["component"], "server": f"localhost:{nobody}"})
    tally.check("nobody there", await sent(program, file, "romeo@localhost"), [f"wakeup {LATER} nothing", f"extended {LATER} nothing"])
    tally.check("nothing more", came["romeo"], [])
    await cut(program, folder, component, relayed, tally)
    tally.check("cut: came", len(came["romeo"]), 3)
    for one in telephones:
        one.disconnect()
        await asyncio.sleep(0)


async def sent(program, *arguments):
    """What became of each, in the order in which they were sent."""
    process = await asyncio.create_subprocess_exec(program, *arguments, stdout=subprocess.PIPE)
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    return out.decode().splitlines()


def arrived(way, jid, came, tally):
    """What came to a telephone: a wakeup, and what there is."""
    tally.check(f"{way}: messages", [[one["type"], one["from"].bare, one["subject"]] for one in came], [["normal", jid, "New mail"]] * 2)
    tally.check(f"{way}: bodies", [one["body"] for one in came], ["Mail for joe@foo.com", BODY])
    text = lambda one, path: [found.text for found in one.xml.findall(path)]
    tally.check(f"{way}: places", [text(one, "{jabber:x:oob}x/{jabber:x:oob}url") for one in came], [[], [URL]])
    shim = "{http://jabber.org/protocol/shim}"
    tally.check(f"{way}: urgency", [text(one, f"{shim}headers/{shim}header") for one in came], [["high"]] * 2)
    tally.check(f"{way}: ids", len({one["id"] for one in came}), 2)


async def cut(program, folder, component, relayed, tally):
    """A relay stands between, and cuts the stream behind the second message."""
    writers = []

    async def pass_on(reader, writer):
        while octets := await reader.read(4096):
            writer.write(octets)
        writer.close()

    async def connected(reader, writer):
        inner, outer = await asyncio.open_connection("127.0.0.1", component)
        writers.extend([writer, outer])
        await asyncio.gather(pass_on(reader, outer), pass_on(inner, writer), return_exceptions=True)

    relay = await asyncio.start_server(connected, "127.0.0.1", relayed)
    signal = folder / "cut"
    signal.unlink(missing_ok=True)
    file = settings(folder, password="secret", server=f"localhost:{relayed}", jid="notify.localhost")
    process = await asyncio.create_subprocess_exec(program, file, "romeo@localhost", signal, stdout=subprocess.PIPE)
    lines = [(await asyncio.wait_for(process.stdout.readline(), 30)).decode().strip() for _ in range(2)]
    signal.touch()
    for writer in writers:
        writer.transport.abort()
    lines.append((await asyncio.wait_for(process.stdout.readline(), 30)).decode().strip())
    await process.wait()
    relay.close()
    tally.check("cut", lines, [f"{name} Delivered nothing" for name in ("wakeup", "extended", "again")])


if __name__ == "__main__":
    ended_early(main)
