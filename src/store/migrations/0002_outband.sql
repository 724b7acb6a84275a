-- How devices that are away are told, and how far their mailboxes have been looked at. A row is JSON: what is in it is read whole,
-- and only by who wrote it.

CREATE TABLE route (
    account INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    device TEXT NOT NULL,
    way TEXT NOT NULL,
    state TEXT NOT NULL,
    PRIMARY KEY (account, device, way)
);

CREATE TABLE looked (
    account INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    mailbox BLOB NOT NULL,
    state TEXT NOT NULL,
    PRIMARY KEY (account, mailbox)
);

-- What has become of a message, for those who ask. An empty device is all of them, no UIDs no message, number 0 no notice.
CREATE TABLE journal (
    id INTEGER PRIMARY KEY,
    account INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    at BIGINT NOT NULL,
    device TEXT NOT NULL,
    mailbox BLOB NOT NULL,
    uids TEXT NOT NULL,
    seq BIGINT NOT NULL,
    what TEXT NOT NULL
);

CREATE INDEX journal_account ON journal (account, id);
