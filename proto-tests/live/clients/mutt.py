#!/usr/bin/env python3
"""mutt on a terminal of its own: opens a mailbox, saves all to a local one, copies on the backend, deletes, leaves."""
import os
import pty
import select
import time

from account import Account, as_unix, check, message, need, scratch

need("mutt")
account, folder = Account(), scratch()
url = f"imap://{account.user}@{account.host}:{account.port}"
(folder / "rc").write_text(
    f"""
set imap_user="{account.user}" imap_pass="{account.password}" folder="{url}/" spoolfile="{url}/INBOX"
set ssl_starttls=no ssl_force_tls=no mail_check=60 timeout=1 sleep_time=0 mbox_type=Maildir copy=no confirmappend=no confirmcreate=no
set header_cache="" message_cachedir="" record="" postponed="" delete=yes quit=yes move=no auto_tag=no wait_key=no
"""
)


def drive(keys, timeout=60):
    """Runs mutt with these keys pushed; they end with <quit>."""
    rc = str(folder / "rc")
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update(TERM="vt100", LC_ALL="C.UTF-8", HOME=str(folder))
        os.execvp("mutt", ["mutt", "-n", "-F", rc, "-f", f"{url}/INBOX", "-e", f'push "{keys}"'])
    screen, end = b"", time.monotonic() + timeout
    while time.monotonic() < end:
        if not select.select([terminal], [], [], 0.2)[0]:
            continue
        try:
            screen += os.read(terminal, 65536)
        except OSError:  # the terminal closes with mutt
            break
    else:
        os.kill(child, 9)
        os.waitpid(child, 0)
        check(False, f"mutt did not end; it showed {screen[-2000:]!r}")
    check(os.waitpid(child, 0)[1] == 0, f"mutt failed; it showed {screen[-2000:]!r}")


sent = [message(f"mutt{number}", 3000 * number) for number in range(1, 6)]
archive = account.prefix() + "Archive"
with account.connect() as session:
    for one in sent:
        check(session.append("INBOX", None, None, one)[0] == "OK", "append refused")
    session.create(archive)
drive(f"<tag-pattern>~A<enter><tag-prefix><copy-message>{folder}/saved<enter><quit>")
saved = [path.read_bytes() for part in ("cur", "new") for path in (folder / "saved" / part).iterdir()]
bodies = sorted(as_unix(one).split(b"\n\n", 1)[1] for one in sent)
check(sorted(one.split(b"\n\n", 1)[1] for one in saved) == bodies, "saved octets differ")

drive(f"<tag-pattern>~s mutt[12]<enter><tag-prefix><copy-message>{url}/{archive}<enter><quit>")
check(len(account.messages(archive)) == 2, "not two copies")
drive("<delete-pattern>~s mutt5<enter><sync-mailbox><quit>")
check(len(account.messages()) == 4, "the deletion did not arrive")
