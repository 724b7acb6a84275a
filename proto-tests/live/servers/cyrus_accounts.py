"""Makes the accounts of Cyrus: cyrus_accounts.py PORT USER...

A first login creates INBOX; the owner then lets anyone post, so that LMTP reaches the subfolders too.
"""
import imaplib
import sys

port, users = int(sys.argv[1]), sys.argv[2:]
for user in users:
    owner = imaplib.IMAP4("127.0.0.1", port)
    owner.login(user, "pw")
    assert owner.select("INBOX")[0] == "OK", f"{user} has no INBOX"
    assert owner.setacl("INBOX", "anyone", "p")[0] == "OK", f"{user}: SETACL refused"
    owner.logout()
