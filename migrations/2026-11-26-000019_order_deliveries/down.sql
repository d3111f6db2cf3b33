ALTER TABLE webhooks DROP COLUMN first_open;
