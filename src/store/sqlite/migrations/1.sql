-- Times are milliseconds since the Unix epoch.

-- The ordered queue of one channel. Claiming it takes the lease and a new epoch.
CREATE TABLE lanes (
    lane        TEXT PRIMARY KEY,            -- the channel, e.g. slack:C0ALERTS
    platform    TEXT    NOT NULL,
    pending     INTEGER NOT NULL DEFAULT 0,  -- deliveries that are queued or sending
    epoch       INTEGER NOT NULL DEFAULT 0,
    owner       TEXT,
    lease_until INTEGER NOT NULL DEFAULT 0,
    not_before  INTEGER NOT NULL DEFAULT 0,  -- Retry-After, backoff and pace
    tat         INTEGER NOT NULL DEFAULT 0,  -- GCRA: the theoretical arrival time
    interval_ms INTEGER NOT NULL,
    burst       INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX lanes_due ON lanes (platform, not_before) WHERE pending > 0;

-- What one bot may do over all its channels.
CREATE TABLE credentials (
    platform   TEXT PRIMARY KEY,
    not_before INTEGER NOT NULL DEFAULT 0,
    tat        INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE TABLE deliveries (
    seq             INTEGER PRIMARY KEY AUTOINCREMENT,  -- the order within a lane
    id              TEXT    NOT NULL UNIQUE,
    client          TEXT    NOT NULL,
    submitter       TEXT    NOT NULL,
    lane            TEXT    NOT NULL REFERENCES lanes,
    placement       TEXT    NOT NULL,  -- JSON
    thread_key      TEXT,
    edits           TEXT,
    steps           TEXT    NOT NULL,  -- JSON
    cursor          INTEGER NOT NULL DEFAULT 0,
    state           TEXT    NOT NULL,
    attempts        INTEGER NOT NULL DEFAULT 0,
    doubtful_since        INTEGER,
    resent          INTEGER NOT NULL DEFAULT 0,
    messages        TEXT    NOT NULL DEFAULT '[]',  -- JSON
    permalink       TEXT,
    reason          TEXT,
    hint            TEXT,
    warnings        TEXT    NOT NULL DEFAULT '[]',  -- JSON
    idempotency_key TEXT,
    content_hash    TEXT    NOT NULL,
    deadline        INTEGER NOT NULL,
    created_at      INTEGER NOT NULL,
    finished_at     INTEGER,
    UNIQUE (client, idempotency_key)
);
CREATE INDEX deliveries_pending ON deliveries (lane, seq) WHERE state IN ('queued', 'sending');
CREATE INDEX deliveries_content ON deliveries (client, content_hash, created_at);
CREATE INDEX deliveries_edits ON deliveries (edits, seq) WHERE edits IS NOT NULL;

-- The thread that an agent's own word opened in a channel.
CREATE TABLE threads (
    client     TEXT NOT NULL,
    lane       TEXT NOT NULL,
    thread_key TEXT NOT NULL,
    placement  TEXT NOT NULL,  -- JSON
    PRIMARY KEY (client, lane, thread_key)
) WITHOUT ROWID;
