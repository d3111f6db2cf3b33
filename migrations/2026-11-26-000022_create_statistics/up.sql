-- Sums that views of a whole year read: they are kept as things happen, so that nobody reads ten million rows.

-- Requests and tokens of an organization in one hour.
CREATE TABLE usage_hours (
    organization_id uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
    -- its beginning
    hour            timestamptz NOT NULL,
    requests        bigint NOT NULL DEFAULT 0,
    -- of all requests together
    response_ms     double precision NOT NULL DEFAULT 0,
    tokens          bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (organization_id, hour)
);
-- prune
CREATE INDEX usage_hours_hour_idx ON usage_hours (hour);
-- what was used before anybody kept the sums
INSERT INTO usage_hours (organization_id, hour, tokens)
    SELECT organization_id, date_trunc('hour', created_at, 'UTC'), sum(total_tokens) FROM usage_records GROUP BY 1, 2;

-- How one replica of the API answered an organization in one minute.
CREATE TABLE request_minutes (
    organization_id uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
    -- its beginning
    minute          timestamptz NOT NULL,
    replica         uuid NOT NULL,
    requests        bigint NOT NULL,
    -- of all requests together
    response_ms     double precision NOT NULL,
    errors_4xx      bigint NOT NULL,
    errors_5xx      bigint NOT NULL,
    -- requests of each of its seconds
    seconds         integer[] NOT NULL CHECK (cardinality(seconds) = 60),
    -- how long they took: a histogram in a form that can be added up
    histogram       bytea NOT NULL,
    PRIMARY KEY (organization_id, minute, replica)
);
-- prune
CREATE INDEX request_minutes_minute_idx ON request_minutes (minute);

-- Orchestrations of a project that were started, or that ended, on one day.
CREATE TABLE orchestration_days (
    organization_id  uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
    -- the project may be gone
    project_id       uuid NOT NULL,
    day              date NOT NULL,
    started          bigint NOT NULL DEFAULT 0,
    completed        bigint NOT NULL DEFAULT 0,
    failed           bigint NOT NULL DEFAULT 0,
    cancelled        bigint NOT NULL DEFAULT 0,
    -- of those that completed or failed
    execution_ms     bigint NOT NULL DEFAULT 0,
    -- operations that were done
    file_system      bigint NOT NULL DEFAULT 0,
    git_operations   bigint NOT NULL DEFAULT 0,
    deployment       bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (organization_id, project_id, day)
);
CREATE INDEX orchestration_days_organization_idx ON orchestration_days (organization_id, day);
-- prune
CREATE INDEX orchestration_days_day_idx ON orchestration_days (day);
