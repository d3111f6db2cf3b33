DROP TABLE audit_entries;
DROP TABLE invitations;
DROP TABLE password_resets;
DROP TABLE recovery_codes;
DROP TABLE api_keys;
ALTER TABLE users DROP COLUMN mfa_last_step, DROP COLUMN mfa_secret;
ALTER TABLE organizations DROP COLUMN custom_limits;
