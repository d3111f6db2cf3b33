-- The durable core: a job is accepted when its row here is committed. Redis only repeats the ids.

CREATE TABLE jobs (
    id               uuid PRIMARY KEY,
    kind             text NOT NULL,
    queue            text NOT NULL,
    status           text NOT NULL DEFAULT 'queued'
        CHECK (status IN ('queued', 'running', 'completed', 'failed', 'cancelled')),
    priority         text NOT NULL DEFAULT 'default'
        CHECK (priority IN ('interactive', 'default', 'bulk')),
    -- the tenant that the queue shares its turns between, and how many turns it gets at once
    organization_id  uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
    weight           smallint NOT NULL DEFAULT 1 CHECK (weight >= 1),
    user_id          uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    payload          jsonb NOT NULL,
    result           jsonb,
    error_code       text,
    error_message    text,
    -- one entry for each attempt that did not complete: {attempt, at, code, message}
    errors           jsonb NOT NULL DEFAULT '[]',
    -- counted at the claim; the fencing token of every later write
    attempt          integer NOT NULL DEFAULT 0,
    -- attempts that are not held against max_attempts: hand-backs, provider cool-downs
    forgiven         integer NOT NULL DEFAULT 0,
    max_attempts     integer NOT NULL CHECK (max_attempts >= 1),
    -- attempts that ended with the death of their process; after two, or before its last attempt, the job runs alone
    crashes          integer NOT NULL DEFAULT 0,
    run_at           timestamptz NOT NULL DEFAULT now(),
    worker           text,
    heartbeat_at     timestamptz,
    cancel_requested boolean NOT NULL DEFAULT false,
    -- number of the newest event
    last_seq         integer NOT NULL DEFAULT 0,
    items_total      integer NOT NULL DEFAULT 0,
    items_done       integer NOT NULL DEFAULT 0,
    items_failed     integer NOT NULL DEFAULT 0,
    trace_context    text,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    started_at       timestamptz,
    finished_at      timestamptz
);
-- lists of one user, newest first
CREATE INDEX jobs_user_idx ON jobs (user_id, created_at DESC, id DESC);
-- deletion of an organization
CREATE INDEX jobs_organization_idx ON jobs (organization_id);
-- requeue: what is due; queue_position: what is ahead
CREATE INDEX jobs_queued_idx ON jobs (run_at, id) WHERE status = 'queued';
-- rescue: whose worker fell silent
CREATE INDEX jobs_running_idx ON jobs (heartbeat_at) WHERE status = 'running';
-- prune: what ended long ago
CREATE INDEX jobs_finished_idx ON jobs (finished_at) WHERE status IN ('completed', 'failed', 'cancelled');

-- A recorded part of a job. `item` is the image (or other unit) the step belongs to, the nil uuid where there is none.
CREATE TABLE job_steps (
    job_id        uuid NOT NULL REFERENCES jobs ON DELETE CASCADE,
    item          uuid NOT NULL,
    name          text NOT NULL,
    position      smallint NOT NULL,
    status        text NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'running', 'completed', 'failed')),
    attempt       integer NOT NULL DEFAULT 0,
    started_at    timestamptz,
    completed_at  timestamptz,
    duration_ms   bigint,
    error_message text,
    result        jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (job_id, item, name)
);

-- Ordered notices about a job, numbered without gaps.
CREATE TABLE job_events (
    job_id     uuid NOT NULL REFERENCES jobs ON DELETE CASCADE,
    seq        integer NOT NULL,
    body       jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (job_id, seq)
);
