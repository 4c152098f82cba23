-- The audit trail: chains of rows, of which each holds the hash of the one before it.
CREATE TABLE audit_chains (
    chain     TEXT COLLATE "C" PRIMARY KEY,  -- UUID, version 7: they sort by when they began
    n         BIGINT NOT NULL,               -- the number of the last row
    hash      TEXT   NOT NULL,               -- and its hash
    seal      TEXT,                          -- HMAC of both, where there is a key
    key       TEXT,                          -- which key: a fingerprint
    at        BIGINT NOT NULL,               -- when the last row was written
    base_n    BIGINT NOT NULL,               -- the last row that retention took away, or 0
    base_hash TEXT   NOT NULL,
    base_seal TEXT
);

CREATE TABLE audit (
    chain TEXT COLLATE "C" NOT NULL,
    n     BIGINT NOT NULL,                   -- 1, 2, 3 …
    line  TEXT   NOT NULL,                   -- JSON, as it was written
    prev  TEXT   NOT NULL,                   -- the hash of the row before it
    hash  TEXT   NOT NULL,                   -- of prev and line
    PRIMARY KEY (chain, n)
);
