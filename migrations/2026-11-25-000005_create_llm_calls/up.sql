-- Calls of language models: each recorded before it is sent, paid for out of budgets, and summed up as usage.

-- One call of a job. A job that is taken over finds here what it has paid for already.
CREATE TABLE llm_calls (
    id                  uuid PRIMARY KEY,
    job_id              uuid NOT NULL REFERENCES jobs ON DELETE CASCADE,
    organization_id     uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
    user_id             uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    -- which call of the job: a node, a choice
    call                text NOT NULL,
    -- SHA-256 of everything that is sent; the record counts only for the same request
    request_hash        bytea NOT NULL,
    -- the attempt of the job that wrote last
    attempt             integer NOT NULL,
    -- how often it went out; more than once after a crash or an answer that broke off
    sends               integer NOT NULL DEFAULT 1,
    status              text NOT NULL DEFAULT 'sent' CHECK (status IN ('sent', 'completed', 'failed')),
    endpoint            text NOT NULL,
    -- as it was asked for; as it was answered
    model               text NOT NULL,
    provider            text,
    answered_by         text,
    answer              jsonb,
    error_code          text,
    error_message       text,
    prompt_tokens       integer NOT NULL DEFAULT 0,
    completion_tokens   integer NOT NULL DEFAULT 0,
    -- 10^-9 US dollars
    cost_nanos          bigint NOT NULL DEFAULT 0,
    -- held in the budgets while it is `sent`
    reserved_tokens     bigint NOT NULL DEFAULT 0,
    reserved_cost_nanos bigint NOT NULL DEFAULT 0,
    latency_ms          bigint,
    created_at          timestamptz NOT NULL DEFAULT now(),
    finished_at         timestamptz
);
CREATE UNIQUE INDEX llm_calls_call_key ON llm_calls (job_id, call);
CREATE INDEX llm_calls_organization_idx ON llm_calls (organization_id);
CREATE INDEX llm_calls_user_idx ON llm_calls (user_id);

-- What may be spent in a month (UTC); set by the operator. None: no limit.
ALTER TABLE organizations
    ADD COLUMN monthly_token_budget bigint CHECK (monthly_token_budget >= 0),
    ADD COLUMN monthly_cost_budget_nanos bigint CHECK (monthly_cost_budget_nanos >= 0);

-- What was spent and what is held for calls under way, of an organization in a month, or of one job.
CREATE TABLE budgets (
    -- the organization, or the job
    scope               uuid NOT NULL,
    -- first day of the month; 1970-01-01 for a job
    period              date NOT NULL,
    organization_id     uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
    job_id              uuid REFERENCES jobs ON DELETE CASCADE,
    token_limit         bigint,
    cost_limit_nanos    bigint,
    tokens_used         bigint NOT NULL DEFAULT 0,
    tokens_reserved     bigint NOT NULL DEFAULT 0 CHECK (tokens_reserved >= 0),
    cost_used_nanos     bigint NOT NULL DEFAULT 0,
    cost_reserved_nanos bigint NOT NULL DEFAULT 0 CHECK (cost_reserved_nanos >= 0),
    PRIMARY KEY (scope, period)
);
CREATE INDEX budgets_organization_idx ON budgets (organization_id);
CREATE INDEX budgets_job_idx ON budgets (job_id) WHERE job_id IS NOT NULL;
-- prune
CREATE INDEX budgets_period_idx ON budgets (period) WHERE job_id IS NULL;

-- What every view of usage reads: one row a request, or a model call of a run. Outlives the job.
CREATE TABLE usage_records (
    id                uuid PRIMARY KEY,
    organization_id   uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
    user_id           uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    job_id            uuid NOT NULL,
    endpoint          text NOT NULL,
    model             text NOT NULL,
    prompt_tokens     integer NOT NULL DEFAULT 0,
    completion_tokens integer NOT NULL DEFAULT 0,
    total_tokens      integer NOT NULL DEFAULT 0,
    -- 10^-9 US dollars
    cost_nanos        bigint NOT NULL DEFAULT 0,
    status            text NOT NULL CHECK (status IN ('completed', 'failed')),
    response_time_ms  bigint NOT NULL DEFAULT 0,
    created_at        timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX usage_records_user_idx ON usage_records (user_id, created_at DESC, id DESC);
CREATE INDEX usage_records_organization_idx ON usage_records (organization_id, created_at DESC);
-- prune
CREATE INDEX usage_records_created_idx ON usage_records (created_at);

-- The kept history of `/chat` and `/ws`; the id is that of the job that answered.
CREATE TABLE chat_entries (
    id         uuid PRIMARY KEY,
    user_id    uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    message    text NOT NULL,
    response   text NOT NULL,
    model      text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX chat_entries_user_idx ON chat_entries (user_id, created_at DESC, id DESC);
