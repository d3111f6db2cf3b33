-- Deliveries of an ordered webhook go one at a time. Which is next is found without looking at all that went before.
ALTER TABLE webhooks
    -- every delivery with a lower number has ended; it lags behind, and is kept only while `ordered`
    ADD COLUMN first_open bigint NOT NULL DEFAULT 0;
