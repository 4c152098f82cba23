-- The W3C trace context of whoever asked for a delivery, so that the trace goes on when it is sent.
ALTER TABLE deliveries ADD COLUMN traceparent TEXT;
