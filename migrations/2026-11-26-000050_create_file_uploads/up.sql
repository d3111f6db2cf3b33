-- Files on their way into the object store. A row goes in the transaction that makes the row of the file; one that stays
-- belongs to an upload that never came to its end, and what it left is cleared away.
CREATE TABLE file_uploads (
    -- of the object
    key        text PRIMARY KEY,
    -- the store's name of an upload in parts; none: the object is stored as a whole
    upload_id  text,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX file_uploads_created_at_idx ON file_uploads (created_at);
