-- What the link at the end of a notice names: whoever holds it may end the notices of this user, and nothing else.
ALTER TABLE users ADD COLUMN unsubscribe_token uuid NOT NULL DEFAULT gen_random_uuid();
CREATE UNIQUE INDEX users_unsubscribe_token_key ON users (unsubscribe_token);
