-- The circuit breaker of each bot.
ALTER TABLE credentials ADD COLUMN failures INTEGER NOT NULL DEFAULT 0;  -- in a row
ALTER TABLE credentials ADD COLUMN refused TEXT;                         -- the fingerprints of refused secrets
ALTER TABLE credentials ADD COLUMN pause TEXT;                           -- JSON: why the bot waits
ALTER TABLE credentials ADD COLUMN held INTEGER NOT NULL DEFAULT 0;      -- not_before without the breaker: pace, Retry-After
