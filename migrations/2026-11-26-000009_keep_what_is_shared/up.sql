-- Of one address there is one open invitation at a time. One that has expired makes way for the next, and says so.
ALTER TABLE invitations DROP CONSTRAINT invitations_status_check;
ALTER TABLE invitations ADD CONSTRAINT invitations_status_check
    CHECK (status IN ('pending', 'accepted', 'revoked', 'expired'));
CREATE UNIQUE INDEX invitations_pending_key ON invitations (organization_id, email) WHERE status = 'pending';

-- What an organization has used outlives the accounts of those who used it. (Its pipelines, schedules and runs do, too:
-- they are handed over to an admin before the account goes.)
ALTER TABLE usage_records DROP CONSTRAINT usage_records_user_id_fkey;
ALTER TABLE usage_records ALTER COLUMN user_id DROP NOT NULL;
ALTER TABLE usage_records ADD CONSTRAINT usage_records_user_id_fkey
    FOREIGN KEY (user_id) REFERENCES users ON DELETE SET NULL;
