-- What waits for the server that is told of all events. One row: which stream, up to which number that server has it, and the number
-- of the next event.

CREATE TABLE feed (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    stream TEXT NOT NULL,
    acked BIGINT NOT NULL,
    next BIGINT NOT NULL
);

-- The events, as JSON. `upto` adds up the octets of all up to this one: how many lie behind a row is one subtraction.
CREATE TABLE fed (
    seq INTEGER PRIMARY KEY,
    at BIGINT NOT NULL,
    upto BIGINT NOT NULL,
    line TEXT NOT NULL
);
