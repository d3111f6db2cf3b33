ALTER TABLE usage_records DROP CONSTRAINT usage_records_user_id_fkey;
DELETE FROM usage_records WHERE user_id IS NULL;
ALTER TABLE usage_records ALTER COLUMN user_id SET NOT NULL;
ALTER TABLE usage_records ADD CONSTRAINT usage_records_user_id_fkey
    FOREIGN KEY (user_id) REFERENCES users ON DELETE CASCADE;

DROP INDEX invitations_pending_key;
UPDATE invitations SET status = 'pending' WHERE status = 'expired';
ALTER TABLE invitations DROP CONSTRAINT invitations_status_check;
ALTER TABLE invitations ADD CONSTRAINT invitations_status_check CHECK (status IN ('pending', 'accepted', 'revoked'));
