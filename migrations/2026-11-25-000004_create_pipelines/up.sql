-- Pipelines, their runs, and the time tables by which they run by themselves.

CREATE TABLE pipelines (
    id              uuid PRIMARY KEY,
    organization_id uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
    created_by      uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    name            text NOT NULL,
    description     text NOT NULL DEFAULT '',
    status          text NOT NULL DEFAULT 'draft' CHECK (status IN ('draft', 'published', 'archived')),
    metadata        jsonb NOT NULL,
    -- as the client spelled them, with defaults filled in
    nodes           jsonb NOT NULL DEFAULT '[]',
    connections     jsonb NOT NULL DEFAULT '[]',
    node_count      integer NOT NULL DEFAULT 0,
    -- counted at each change; what `ETag` and `If-Match` compare
    version         integer NOT NULL DEFAULT 1,
    last_executed   timestamptz,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX pipelines_organization_idx ON pipelines (organization_id, created_at DESC, id DESC);
CREATE INDEX pipelines_created_by_idx ON pipelines (created_by);

CREATE TABLE pipeline_schedules (
    id              uuid PRIMARY KEY,
    pipeline_id     uuid NOT NULL REFERENCES pipelines ON DELETE CASCADE,
    organization_id uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
    -- whose turns and quota the runs count for
    created_by      uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    cron            text NOT NULL,
    -- a name of the IANA time zone database
    timezone        text NOT NULL DEFAULT 'UTC',
    inputs          jsonb NOT NULL DEFAULT '{}',
    enabled         boolean NOT NULL DEFAULT true,
    -- what becomes of ticks that nobody was there for
    missed          text NOT NULL DEFAULT 'skip' CHECK (missed IN ('skip', 'run_once')),
    -- the next tick; none while disabled, or if the expression has no further one
    next_run_at     timestamptz,
    last_run_at     timestamptz,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX pipeline_schedules_pipeline_idx ON pipeline_schedules (pipeline_id, created_at, id);
CREATE INDEX pipeline_schedules_organization_idx ON pipeline_schedules (organization_id);
CREATE INDEX pipeline_schedules_created_by_idx ON pipeline_schedules (created_by);
-- cron: what is due
CREATE INDEX pipeline_schedules_due_idx ON pipeline_schedules (next_run_at) WHERE enabled;

-- One run of a pipeline: a job of kind `pipeline_run` (status and times are in its row, node results in its steps).
CREATE TABLE executions (
    id              uuid PRIMARY KEY REFERENCES jobs ON DELETE CASCADE,
    organization_id uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
    user_id         uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    -- the pipeline may be gone: what was run is kept here
    pipeline_id     uuid NOT NULL,
    pipeline_name   text NOT NULL,
    nodes           jsonb NOT NULL,
    connections     jsonb NOT NULL,
    inputs          jsonb NOT NULL DEFAULT '{}',
    webhook_url     text,
    webhook_secret  text,
    -- the execution whose finished nodes this one took over
    retry_of        uuid,
    schedule_id     uuid,
    scheduled_at    timestamptz,
    -- nodes that ran to their end here, taken-over ones not counted
    node_executions integer NOT NULL DEFAULT 0,
    tokens_used     bigint NOT NULL DEFAULT 0,
    -- 10^-9 US dollars
    cost_nanos      bigint NOT NULL DEFAULT 0,
    -- the node that failed it
    error_node_id   text,
    created_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX executions_organization_idx ON executions (organization_id, created_at DESC, id DESC);
CREATE INDEX executions_pipeline_idx ON executions (pipeline_id, created_at DESC, id DESC);
CREATE INDEX executions_user_idx ON executions (user_id, created_at DESC);
-- prune: what another one has taken results over from
CREATE INDEX executions_retry_of_idx ON executions (retry_of) WHERE retry_of IS NOT NULL;
-- a tick starts one run, whoever leads
CREATE UNIQUE INDEX executions_tick_key ON executions (schedule_id, scheduled_at) WHERE schedule_id IS NOT NULL;

-- a node behind a branch that was not taken
ALTER TABLE job_steps DROP CONSTRAINT job_steps_status_check;
ALTER TABLE job_steps ADD CONSTRAINT job_steps_status_check
    CHECK (status IN ('pending', 'running', 'completed', 'failed', 'skipped'));
