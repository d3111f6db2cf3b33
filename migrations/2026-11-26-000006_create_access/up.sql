-- Who may do what: keys for scripts, invitations, second factors, and the log of what changed access.

-- What organizations may use where the operator set other figures than those of the tier: {requests_per_minute,
-- requests_per_hour, daily, weekly, monthly, api_quota_limit}, each optional, null for no limit.
ALTER TABLE organizations ADD COLUMN custom_limits jsonb;

ALTER TABLE users
    -- base32; without `mfa_enabled` it was set up and not confirmed yet
    ADD COLUMN mfa_secret text,
    -- the time step of the last code that was taken: a code counts once
    ADD COLUMN mfa_last_step bigint;

-- Keys for scripts. The key itself is nowhere: it is found by its SHA-256.
CREATE TABLE api_keys (
    id              uuid PRIMARY KEY,
    user_id         uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    -- the key acts here, whichever organization its owner works in
    organization_id uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
    name            text NOT NULL,
    -- the beginning of the key, to recognise it by
    prefix          text NOT NULL,
    hash            bytea NOT NULL CONSTRAINT api_keys_hash_key UNIQUE,
    permissions     text[] NOT NULL CHECK (cardinality(permissions) > 0),
    expires_at      timestamptz NOT NULL,
    last_used_at    timestamptz,
    usage_count     bigint NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX api_keys_user_idx ON api_keys (user_id, created_at DESC, id DESC);
CREATE INDEX api_keys_organization_idx ON api_keys (organization_id);

-- One use each, by SHA-256, in place of a code of the second factor.
CREATE TABLE recovery_codes (
    user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    hash    bytea NOT NULL,
    used_at timestamptz,
    PRIMARY KEY (user_id, hash)
);

-- One use each, by SHA-256.
CREATE TABLE password_resets (
    hash       bytea PRIMARY KEY,
    user_id    uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    expires_at timestamptz NOT NULL,
    used_at    timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX password_resets_user_idx ON password_resets (user_id);
-- prune
CREATE INDEX password_resets_expires_idx ON password_resets (expires_at);

CREATE TABLE invitations (
    id              uuid PRIMARY KEY,
    organization_id uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
    -- in lower case
    email           text NOT NULL CHECK (email = lower(email)),
    role            text NOT NULL CHECK (role IN ('admin', 'manager', 'member', 'viewer')),
    -- SHA-256 of the token
    hash            bytea NOT NULL CONSTRAINT invitations_hash_key UNIQUE,
    -- `expired` is no status here: it follows from expires_at
    status          text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'accepted', 'revoked')),
    invited_by      uuid REFERENCES users ON DELETE SET NULL,
    expires_at      timestamptz NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX invitations_organization_idx ON invitations (organization_id, created_at DESC, id DESC);
CREATE INDEX invitations_invited_by_idx ON invitations (invited_by);

-- What changed access, by whom, from where. Written in the transaction of the change.
CREATE TABLE audit_entries (
    id              uuid PRIMARY KEY,
    organization_id uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
    -- none: the system, or somebody who has gone
    actor_id        uuid REFERENCES users ON DELETE SET NULL,
    -- `member.role_changed` for example
    action          text NOT NULL,
    -- what it was done to: `user`, `invitation`, `api_key`, `organization`, …
    target_type     text NOT NULL,
    target_id       uuid,
    -- what changed; never a secret
    data            jsonb NOT NULL DEFAULT '{}',
    ip              text,
    request_id      text,
    created_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX audit_entries_organization_idx ON audit_entries (organization_id, created_at DESC, id DESC);
CREATE INDEX audit_entries_actor_idx ON audit_entries (actor_id) WHERE actor_id IS NOT NULL;
-- prune
CREATE INDEX audit_entries_created_idx ON audit_entries (created_at);
