-- What orchestrations belong to, and what they are made from.

CREATE TABLE projects (
    id              uuid PRIMARY KEY,
    organization_id uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
    created_by      uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    name            text NOT NULL,
    description     text NOT NULL DEFAULT '',
    topic           text NOT NULL DEFAULT '',
    status          text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'completed', 'archived', 'failed')),
    priority        text NOT NULL DEFAULT 'medium' CHECK (priority IN ('low', 'medium', 'high', 'urgent')),
    metadata        jsonb NOT NULL DEFAULT '{}',
    -- counted at each change; what `ETag` and `If-Match` compare
    version         integer NOT NULL DEFAULT 1,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX projects_organization_idx ON projects (organization_id, created_at DESC, id DESC);
CREATE INDEX projects_created_by_idx ON projects (created_by);

CREATE TABLE templates (
    id              uuid PRIMARY KEY,
    -- none: it ships with the system
    organization_id uuid REFERENCES organizations ON DELETE CASCADE,
    created_by      uuid REFERENCES users ON DELETE CASCADE,
    name            text NOT NULL,
    description     text NOT NULL DEFAULT '',
    category        text NOT NULL DEFAULT 'custom',
    -- seen by everybody, not by its organization alone
    is_public       boolean NOT NULL DEFAULT false,
    -- orchestrations that were started from it
    usage_count     bigint NOT NULL DEFAULT 0,
    -- phases, integrations, settings, as the client spelled them
    template_data   jsonb NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    CHECK ((organization_id IS NULL) = (created_by IS NULL)),
    CHECK (organization_id IS NOT NULL OR is_public)
);
CREATE INDEX templates_organization_idx ON templates (organization_id, created_at DESC, id DESC);
CREATE INDEX templates_created_by_idx ON templates (created_by);
CREATE INDEX templates_public_idx ON templates (created_at DESC, id DESC) WHERE is_public;
