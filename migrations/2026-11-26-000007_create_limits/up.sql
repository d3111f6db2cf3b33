-- How much was used of what may be used in a window of time, and the answers that a repeated request gets again.

-- Metered requests of a user, or of an organization, in one window. Counted when a request is accepted, in its transaction;
-- taken back when it fails through our fault.
CREATE TABLE quota_windows (
    -- the user, or the organization
    scope  uuid NOT NULL,
    period text NOT NULL CHECK (period IN ('daily', 'weekly', 'monthly')),
    -- its first day, in UTC
    starts date NOT NULL,
    used   bigint NOT NULL DEFAULT 0 CHECK (used >= 0),
    -- the highest threshold, in per cent, that was warned of
    warned smallint NOT NULL DEFAULT 0,
    PRIMARY KEY (scope, period, starts)
);
-- prune
CREATE INDEX quota_windows_starts_idx ON quota_windows (starts);

-- A metered job that has not ended: which windows hold its request. Gone when the job ends, however it ends.
CREATE TABLE quota_reservations (
    -- looked for at the commit: a request may be counted before its job is written
    job_id          uuid PRIMARY KEY REFERENCES jobs ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    user_id         uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    organization_id uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
    -- the day, in UTC, that it was counted on
    reserved_on     date NOT NULL
);
CREATE INDEX quota_reservations_user_idx ON quota_reservations (user_id);
CREATE INDEX quota_reservations_organization_idx ON quota_reservations (organization_id);

-- What was answered to a request with an `Idempotency-Key`. Key and answer are of no use to who reads the table: the key is
-- there as a hash, the answer is sealed with the key.
CREATE TABLE idempotency_keys (
    -- who sent it; the nil uuid where nobody has to be known
    user_id    uuid NOT NULL,
    -- method and canonical path
    route      text NOT NULL,
    hash       bytea NOT NULL,
    -- the request that is being answered, or was: a fencing token
    owner      uuid NOT NULL,
    -- `claimed`: being answered. `committed`: its work is done. `answered`: the answer is here
    status     text NOT NULL DEFAULT 'claimed' CHECK (status IN ('claimed', 'committed', 'answered')),
    -- SHA-256 of the request's body
    body_hash  bytea,
    -- status, headers and body of the answer, sealed
    answer     bytea,
    claimed_at timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, route, hash)
);
-- prune
CREATE INDEX idempotency_keys_created_idx ON idempotency_keys (created_at);
