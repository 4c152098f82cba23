-- The way in. Times are milliseconds since the Unix epoch.

-- Whom a delivery answers, where the bot may speak because somebody spoke to it. JSON.
ALTER TABLE deliveries ADD COLUMN invitation TEXT;

-- What the platforms told, once each, in the order of arrival.
CREATE TABLE events (
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,
    platform     TEXT    NOT NULL,
    id           TEXT    NOT NULL,
    conversation TEXT    NOT NULL,
    event        TEXT,              -- JSON; NULL once it is handled: the row stays so that it is known
    at           INTEGER NOT NULL,
    UNIQUE (platform, id)
);
CREATE INDEX events_waiting ON events (conversation, seq) WHERE event IS NOT NULL;

-- One row per conversation; it is held by one process at a time.
CREATE TABLE conversations (
    conversation TEXT PRIMARY KEY,
    state        TEXT,              -- JSON: what the bot knows about it; NULL before it was first handled
    waiting      INTEGER,           -- its oldest event that waits (events.seq)
    due          INTEGER,           -- when it wants to be looked at although nothing happened
    epoch        INTEGER NOT NULL DEFAULT 0,
    owner        TEXT,              -- who holds it, or vanished while holding it; NULL once it was let go
    lease_until  INTEGER NOT NULL DEFAULT 0,
    changed_at   INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX conversations_waiting ON conversations (waiting) WHERE waiting IS NOT NULL;
CREATE INDEX conversations_due ON conversations (due) WHERE due IS NOT NULL;
CREATE INDEX conversations_held ON conversations (lease_until) WHERE owner IS NOT NULL;

-- What the buttons under the bot's messages stand for.
CREATE TABLE buttons (
    key          TEXT PRIMARY KEY,
    conversation TEXT    NOT NULL,
    expires_at   INTEGER NOT NULL
) WITHOUT ROWID;

-- Who may do what only one process may do.
CREATE TABLE leases (
    name        TEXT PRIMARY KEY,
    owner       TEXT,               -- NULL once it was given back
    lease_until INTEGER NOT NULL
) WITHOUT ROWID;

-- How far a listener has come.
CREATE TABLE cursors (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
