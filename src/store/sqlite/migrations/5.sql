-- What a delivery said is taken out of it some time after its end; what became of it stays a while longer.
ALTER TABLE deliveries ADD COLUMN expunged_at INTEGER;

-- What an operator looks through, without the rows, which are large.
CREATE INDEX deliveries_ended ON deliveries (state, seq, created_at, lane)
    WHERE state IN ('delivered', 'failed', 'unknown');

-- What has had its time.
CREATE INDEX deliveries_to_expunge ON deliveries (finished_at)
    WHERE expunged_at IS NULL AND state IN ('delivered', 'failed', 'unknown');
CREATE INDEX deliveries_to_remove ON deliveries (finished_at) WHERE expunged_at IS NOT NULL;
CREATE INDEX deliveries_thread ON deliveries (thread_key, lane, client) WHERE thread_key IS NOT NULL;
CREATE INDEX events_handled ON events (at) WHERE event IS NULL;
CREATE INDEX conversations_idle ON conversations (changed_at)
    WHERE waiting IS NULL AND due IS NULL AND owner IS NULL;
CREATE INDEX buttons_expired ON buttons (expires_at);
