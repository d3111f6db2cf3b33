-- Products, their images, and what the models said about each image.

CREATE TABLE products (
    id             uuid PRIMARY KEY,
    user_id        uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    title          text NOT NULL,
    description    text,
    category       text,
    subcategory    text,
    ai_description text,
    status         text NOT NULL DEFAULT 'draft'
        CHECK (status IN ('draft', 'processing', 'active', 'archived')),
    metadata       jsonb NOT NULL DEFAULT '{}',
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX products_user_idx ON products (user_id, created_at DESC, id DESC);

CREATE TABLE product_images (
    id                uuid PRIMARY KEY,
    product_id        uuid NOT NULL REFERENCES products ON DELETE CASCADE,
    user_id           uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    s3_key            text NOT NULL UNIQUE,
    thumbnail_key     text,
    original_filename text NOT NULL,
    content_type      text NOT NULL,
    file_size_bytes   bigint NOT NULL,
    width             integer,
    height            integer,
    is_primary        boolean NOT NULL DEFAULT false,
    upload_status     text NOT NULL DEFAULT 'pending'
        CHECK (upload_status IN ('pending', 'uploaded', 'failed')),
    -- the job that the first confirmation started
    job_id            uuid REFERENCES jobs ON DELETE SET NULL,
    created_at        timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX product_images_product_idx ON product_images (product_id, created_at, id);
CREATE INDEX product_images_user_idx ON product_images (user_id);
CREATE INDEX product_images_job_idx ON product_images (job_id) WHERE job_id IS NOT NULL;
CREATE UNIQUE INDEX product_images_primary_key ON product_images (product_id) WHERE is_primary;
-- prune: uploads that were announced and never came
CREATE INDEX product_images_pending_idx ON product_images (created_at) WHERE upload_status = 'pending';

-- The images of an analysis job, in the order they were given.
CREATE TABLE job_images (
    job_id        uuid NOT NULL REFERENCES jobs ON DELETE CASCADE,
    image_id      uuid NOT NULL,
    position      integer NOT NULL,
    status        text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'completed', 'failed')),
    error_message text,
    PRIMARY KEY (job_id, image_id)
);
CREATE INDEX job_images_image_idx ON job_images (image_id);

CREATE TABLE analyses (
    id                        uuid PRIMARY KEY,
    product_image_id          uuid NOT NULL UNIQUE REFERENCES product_images ON DELETE CASCADE,
    -- the job that last wrote here; a write of any other job is stale
    job_id                    uuid REFERENCES jobs ON DELETE SET NULL,
    model_version             text NOT NULL DEFAULT '',
    classification_label      text,
    classification_confidence double precision,
    classification_scores     jsonb NOT NULL DEFAULT '{}',
    description_text          text,
    description_model         text,
    processing_time_ms        bigint,
    status                    text NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'processing', 'completed', 'failed')),
    error_message             text,
    created_at                timestamptz NOT NULL DEFAULT now(),
    updated_at                timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX analyses_job_idx ON analyses (job_id) WHERE job_id IS NOT NULL;

CREATE TABLE analysis_attributes (
    id              uuid PRIMARY KEY,
    analysis_id     uuid NOT NULL REFERENCES analyses ON DELETE CASCADE,
    attribute_name  text NOT NULL,
    attribute_value text NOT NULL,
    confidence      double precision NOT NULL
);
CREATE INDEX analysis_attributes_analysis_idx ON analysis_attributes (analysis_id);

CREATE TABLE analysis_defects (
    id          uuid PRIMARY KEY,
    analysis_id uuid NOT NULL REFERENCES analyses ON DELETE CASCADE,
    defect_type text NOT NULL,
    severity    text NOT NULL CHECK (severity IN ('low', 'medium', 'high')),
    confidence  double precision NOT NULL,
    -- in pixels of the upright image
    x           double precision NOT NULL,
    y           double precision NOT NULL,
    width       double precision NOT NULL,
    height      double precision NOT NULL,
    description text NOT NULL
);
CREATE INDEX analysis_defects_analysis_idx ON analysis_defects (analysis_id);

-- Objects whose rows are gone: written in the transaction that deletes the row, worked off by the scheduler.
CREATE TABLE object_deletions (
    key        text PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT now()
);
