-- What the outband side keeps of an account as a whole, by name: JSON that only who wrote it reads.

CREATE TABLE memo (
    account INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    PRIMARY KEY (account, name)
);
