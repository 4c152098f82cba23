-- What a client submitted lately: how much it may is limited.
CREATE INDEX deliveries_client ON deliveries (client, created_at, lane);
