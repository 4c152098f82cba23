-- Times are milliseconds since the Unix epoch.

-- The ordered queue of one channel. Claiming it takes the lease and a new epoch.
CREATE TABLE lanes (
    lane        TEXT COLLATE "C" PRIMARY KEY,  -- the channel, e.g. slack:C0ALERTS
    platform    TEXT   NOT NULL,
    pending     BIGINT NOT NULL DEFAULT 0,     -- deliveries that are queued or sending
    epoch       BIGINT NOT NULL DEFAULT 0,
    owner       TEXT,
    lease_until BIGINT NOT NULL DEFAULT 0,
    not_before  BIGINT NOT NULL DEFAULT 0,     -- Retry-After, backoff and pace
    tat         BIGINT NOT NULL DEFAULT 0,     -- GCRA: the theoretical arrival time
    interval_ms BIGINT NOT NULL,
    burst       BIGINT NOT NULL
);
CREATE INDEX lanes_due ON lanes (platform, not_before) WHERE pending > 0;

-- What one bot may do over all its channels.
CREATE TABLE credentials (
    platform   TEXT PRIMARY KEY,
    not_before BIGINT NOT NULL DEFAULT 0,
    tat        BIGINT NOT NULL DEFAULT 0,
    failures   BIGINT NOT NULL DEFAULT 0,      -- in a row
    refused    TEXT,                           -- the fingerprints of refused secrets
    pause      TEXT,                           -- JSON: why the bot waits
    held       BIGINT NOT NULL DEFAULT 0       -- not_before without the breaker: pace, Retry-After
);

CREATE TABLE deliveries (
    seq             BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- the order within a lane
    id              TEXT COLLATE "C" NOT NULL UNIQUE,
    client          TEXT    NOT NULL,
    submitter       TEXT    NOT NULL,
    lane            TEXT COLLATE "C" NOT NULL REFERENCES lanes,
    placement       TEXT    NOT NULL,  -- JSON
    invitation      TEXT,              -- JSON: whom it answers, where the bot may speak because somebody spoke to it
    thread_key      TEXT,
    edits           TEXT,
    steps           TEXT    NOT NULL,  -- JSON
    cursor          BIGINT  NOT NULL DEFAULT 0,
    state           TEXT    NOT NULL,
    attempts        BIGINT  NOT NULL DEFAULT 0,
    doubtful_since  BIGINT,
    resent          BOOLEAN NOT NULL DEFAULT FALSE,
    messages        TEXT    NOT NULL DEFAULT '[]',  -- JSON
    permalink       TEXT,
    reason          TEXT,
    hint            TEXT,
    warnings        TEXT    NOT NULL DEFAULT '[]',  -- JSON
    idempotency_key TEXT,
    content_hash    TEXT    NOT NULL,
    deadline        BIGINT  NOT NULL,
    created_at      BIGINT  NOT NULL,
    finished_at     BIGINT,
    expunged_at     BIGINT,            -- when what it said was taken out of it
    traceparent     TEXT,
    UNIQUE (client, idempotency_key)
);
CREATE INDEX deliveries_pending ON deliveries (lane, seq) WHERE finished_at IS NULL;
CREATE INDEX deliveries_content ON deliveries (client, content_hash, created_at);
CREATE INDEX deliveries_edits ON deliveries (edits, seq) WHERE edits IS NOT NULL;
-- What an operator looks through, without the rows, which are large.
CREATE INDEX deliveries_ended ON deliveries (state, seq, created_at, lane)
    WHERE state IN ('delivered', 'failed', 'unknown');
-- What has had its time.
CREATE INDEX deliveries_to_expunge ON deliveries (finished_at)
    WHERE expunged_at IS NULL AND state IN ('delivered', 'failed', 'unknown');
CREATE INDEX deliveries_to_remove ON deliveries (finished_at) WHERE expunged_at IS NOT NULL;
CREATE INDEX deliveries_thread ON deliveries (thread_key, lane, client) WHERE thread_key IS NOT NULL;

-- The thread that an agent's own word opened in a channel.
CREATE TABLE threads (
    client     TEXT NOT NULL,
    lane       TEXT NOT NULL,
    thread_key TEXT NOT NULL,
    placement  TEXT NOT NULL,  -- JSON
    PRIMARY KEY (client, lane, thread_key)
);

-- What the platforms told, once each, in the order of arrival.
CREATE TABLE events (
    seq          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    platform     TEXT   NOT NULL,
    id           TEXT   NOT NULL,
    conversation TEXT COLLATE "C" NOT NULL,
    event        TEXT,              -- JSON; NULL once it is handled: the row stays so that it is known
    at           BIGINT NOT NULL,
    UNIQUE (platform, id)
);
CREATE INDEX events_waiting ON events (conversation, seq) WHERE event IS NOT NULL;
CREATE INDEX events_handled ON events (at) WHERE event IS NULL;

-- One row per conversation; it is held by one process at a time.
CREATE TABLE conversations (
    conversation TEXT COLLATE "C" PRIMARY KEY,
    state        TEXT,              -- JSON: what the bot knows about it; NULL before it was first handled
    waiting      BIGINT,            -- its oldest event that waits (events.seq)
    due          BIGINT,            -- when it wants to be looked at although nothing happened
    epoch        BIGINT NOT NULL DEFAULT 0,
    owner        TEXT,              -- who holds it, or vanished while holding it; NULL once it was let go
    lease_until  BIGINT NOT NULL DEFAULT 0,
    changed_at   BIGINT NOT NULL
);
CREATE INDEX conversations_waiting ON conversations (waiting) WHERE waiting IS NOT NULL;
CREATE INDEX conversations_due ON conversations (due) WHERE due IS NOT NULL;
CREATE INDEX conversations_held ON conversations (lease_until) WHERE owner IS NOT NULL;
CREATE INDEX conversations_idle ON conversations (changed_at)
    WHERE waiting IS NULL AND due IS NULL AND owner IS NULL;

-- What the buttons under the bot's messages stand for.
CREATE TABLE buttons (
    key          TEXT PRIMARY KEY,
    conversation TEXT   NOT NULL,
    expires_at   BIGINT NOT NULL
);
CREATE INDEX buttons_expired ON buttons (expires_at);

-- Who may do what only one process may do.
CREATE TABLE leases (
    name        TEXT PRIMARY KEY,
    owner       TEXT,               -- NULL once it was given back
    lease_until BIGINT NOT NULL
);

-- How far a listener has come.
CREATE TABLE cursors (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
);
