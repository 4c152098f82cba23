-- The circuit breaker of each bot.
ALTER TABLE credentials ADD COLUMN failures INTEGER NOT NULL DEFAULT 0;  -- in a row
ALTER TABLE credentials ADD COLUMN refused TEXT;                         -- the fingerprint of a refused secret
ALTER TABLE credentials ADD COLUMN pause TEXT;                           -- JSON: why the bot waits
