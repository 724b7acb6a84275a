-- What is kept of accounts. The text is the same for PostgreSQL but for the types of keys and octets.

CREATE TABLE account (
    id INTEGER PRIMARY KEY,
    backend TEXT NOT NULL,
    name TEXT NOT NULL,
    UNIQUE (backend, name)
);

CREATE TABLE device (
    account INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    source TEXT NOT NULL,
    first_seen BIGINT NOT NULL,
    last_seen BIGINT NOT NULL,
    PRIMARY KEY (account, name)
);

-- An empty mailbox is the server, an empty device the user.
CREATE TABLE entry (
    account INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    mailbox BLOB NOT NULL,
    device TEXT NOT NULL,
    name TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (account, mailbox, device, name)
);
