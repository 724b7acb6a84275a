#!/usr/bin/env python3
"""The RFCs' examples at real servers: the files of ../transcripts, at the servers that have the extensions, and through the proxy before others.

    $ proto-tests/live/transcripts.py --proxy target/tests/lemonade-proxy --servers cyrus --only rfc6851/

The player is the program live-transcripts, which is built beside the proxy. What a server says otherwise stands in the transcript.
"""
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys

from stage import Stage, ended_early, options, say

NATIVE = ["dovecot", "cyrus"]  # asked themselves
POOR = ["dovecot-legacy", "courier"]  # asked through the proxy, which has to add what they lack
os.environ["LIVE_USERS"] = "120"  # one for each transcript


def main():
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="transcripts whose name has this in it")
    chosen = parser.parse_args()
    servers = [name for name in NATIVE + POOR if name in chosen.servers.split(",")]
    with Stage() as stage, concurrent.futures.ThreadPoolExecutor(len(servers)) as pool:
        results = list(pool.map(lambda index_name: played(stage, *index_name, chosen), enumerate(servers)))
    passed, failed, skipped = (sum(counts) for counts in zip(*results))
    say(f"{passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(1 if failed or not passed else 0)


def played(stage, index, name, chosen):
    """All transcripts at one server; how many passed, failed and were skipped."""
    with stage.part(index) as part:
        server = part.server(name)
        proxy = part.proxy(server, "imap", chosen.proxy) if name in POOR else None
        player = pathlib.Path(chosen.proxy).with_name("live-transcripts")
        command = [player, "--server", name, "--port", str(server.port), "--only", chosen.only]
        command += ["--proxy", str(proxy.port)] if proxy else []
        ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        counts = re.search(r"^(\d+) passed, (\d+) failed, (\d+) skipped$", ended.stdout, re.MULTILINE)
        # Our own closing line is the one that is added up.
        say(re.sub(r"(?m)^(?=\d+ passed)", f"{name}: ", ended.stdout.rstrip()))
        passed, failed, skipped = map(int, counts.groups()) if counts else (0, 1, 0)
        if proxy and (fault := proxy.fault()):
            say(f"{name}: {fault}")
            failed += 1
        return passed, failed, skipped


if __name__ == "__main__":
    ended_early(main)
