"""A plain TCP relay: relay.py LISTEN:BACKEND... [--record FOLDER]. Stands in for the proxy to try the tests, and records sessions.

A recording is what one client wrote, octet for octet, from its first command after login; differential.py plays it back.
"""
import asyncio
import pathlib
import sys


def main():
    arguments = sys.argv[1:]
    folder = pathlib.Path(arguments.pop()) if "--record" in arguments else None
    pairs = [tuple(map(int, pair.split(":"))) for pair in arguments if ":" in pair]
    asyncio.run(serve(pairs, folder))


async def serve(pairs, folder):
    servers = [await asyncio.start_server(lambda r, w, to=to: connect(r, w, to, folder), "127.0.0.1", port) for port, to in pairs]
    await asyncio.gather(*(server.serve_forever() for server in servers))


async def connect(client, to_client, port, folder):
    backend, to_backend = await asyncio.open_connection("127.0.0.1", port)
    written = bytearray()
    await asyncio.gather(pump(client, to_backend, written), pump(backend, to_client, None))
    if folder and (commands := after_login(bytes(written))):
        number = len(list(folder.glob("*.imap")))
        (folder / f"{number:02}.imap").write_bytes(commands)


async def pump(source, sink, copy):
    try:
        while octets := await source.read(65536):
            if copy is not None:
                copy += octets
            sink.write(octets)
            await sink.drain()
    except ConnectionError:
        pass
    sink.close()


def after_login(written):
    """What follows the LOGIN or AUTHENTICATE exchange."""
    lines = written.splitlines(True)
    for index, line in enumerate(lines):
        words = line.upper().split()
        if len(words) > 1 and words[1] in (b"LOGIN", b"AUTHENTICATE"):
            rest = lines[index + 1 :]
            while rest and len(rest[0].split()) < 2:  # SASL responses: one word, or none
                rest.pop(0)
            return b"".join(rest)
    return b""


main()
