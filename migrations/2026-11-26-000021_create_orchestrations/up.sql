-- Orchestrations, and what they leave: files, and a repository for each project.

-- One orchestration: a job of kind `orchestration` (status and times are in its row, phases and operations are its steps).
CREATE TABLE orchestrations (
    id                  uuid PRIMARY KEY REFERENCES jobs ON DELETE CASCADE,
    organization_id     uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
    user_id             uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    project_id          uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
    -- the template it was made from; that may be gone
    template_id         uuid,
    topic               text NOT NULL,
    integration_enabled boolean NOT NULL,
    -- names of the phases, in title case, in order
    phases              text[] NOT NULL,
    -- words of the template: `git`, `docker` and so on
    integrations        text[] NOT NULL DEFAULT '{}',
    model               text NOT NULL,
    -- of each phase's answer
    max_tokens          integer NOT NULL,
    temperature         double precision NOT NULL,
    -- the orchestration whose finished steps this one took over
    retry_of            uuid,
    -- those taken over included
    completed_phases    integer NOT NULL DEFAULT 0,
    failed_phases       integer NOT NULL DEFAULT 0,
    tokens_used         bigint NOT NULL DEFAULT 0,
    -- 10^-9 US dollars
    cost_nanos          bigint NOT NULL DEFAULT 0,
    created_at          timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX orchestrations_organization_idx ON orchestrations (organization_id, created_at DESC, id DESC);
CREATE INDEX orchestrations_project_idx ON orchestrations (project_id, created_at DESC, id DESC);
CREATE INDEX orchestrations_user_idx ON orchestrations (user_id, created_at DESC);
-- prune: what another one has taken results over from
CREATE INDEX orchestrations_retry_of_idx ON orchestrations (retry_of) WHERE retry_of IS NOT NULL;

-- A file of a user: uploaded, or written by one of the user's orchestrations.
CREATE TABLE files (
    id               uuid PRIMARY KEY,
    organization_id  uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
    user_id          uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    -- the orchestration that wrote it; the file outlives its row
    orchestration_id uuid REFERENCES orchestrations ON DELETE SET NULL,
    filename         text NOT NULL,
    size             bigint NOT NULL,
    mime_type        text NOT NULL,
    s3_key           text NOT NULL,
    created_at       timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX files_user_idx ON files (user_id, created_at DESC, id DESC);
CREATE INDEX files_organization_idx ON files (organization_id);
CREATE INDEX files_orchestration_idx ON files (orchestration_id) WHERE orchestration_id IS NOT NULL;

-- The git repository of a project: one object in the store, a bundle, that is replaced with every commit.
CREATE TABLE project_repositories (
    project_id uuid PRIMARY KEY REFERENCES projects ON DELETE CASCADE,
    -- the newest commit of the branch `main`
    head       text NOT NULL,
    s3_key     text NOT NULL,
    size       bigint NOT NULL,
    commits    integer NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
