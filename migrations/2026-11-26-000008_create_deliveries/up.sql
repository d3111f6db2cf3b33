-- What goes out: webhooks and mails. Both are jobs; their rows are written in the transaction of what they tell of.

CREATE TABLE webhooks (
    id                    uuid PRIMARY KEY,
    user_id               uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    -- whose events it hears of, beside those of its owner
    organization_id       uuid NOT NULL REFERENCES organizations ON DELETE CASCADE,
    name                  text NOT NULL,
    url                   text NOT NULL,
    events                text[] NOT NULL CHECK (cardinality(events) > 0),
    -- as the receiver knows it: signatures are made with it
    secret                text NOT NULL,
    -- the one before, used beside it until then
    previous_secret       text,
    previous_secret_until timestamptz,
    is_active             boolean NOT NULL DEFAULT true,
    -- one delivery at a time, in the order of their creation
    ordered               boolean NOT NULL DEFAULT false,
    -- why the system switched it off: `gone`, `failing`
    disabled_reason       text CHECK (disabled_reason IN ('gone', 'failing')),
    -- deliveries in a row that failed for good
    failures              integer NOT NULL DEFAULT 0,
    last_delivery_at      timestamptz,
    created_at            timestamptz NOT NULL DEFAULT now(),
    updated_at            timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX webhooks_user_idx ON webhooks (user_id, created_at DESC, id DESC);
CREATE INDEX webhooks_organization_idx ON webhooks (organization_id);

-- One event on its way to one receiver: a job of kind `webhook_delivery` with the same id, whose status, attempts and next
-- time are those of the delivery.
CREATE TABLE webhook_deliveries (
    id           uuid PRIMARY KEY REFERENCES jobs ON DELETE CASCADE,
    -- none: the call back of a run, whose address and secret its execution has
    webhook_id   uuid REFERENCES webhooks ON DELETE CASCADE,
    execution_id uuid REFERENCES executions ON DELETE CASCADE,
    event        text NOT NULL,
    -- the bytes that are sent and signed
    body         text NOT NULL,
    -- the order of creation
    number       bigint GENERATED ALWAYS AS IDENTITY,
    created_at   timestamptz NOT NULL DEFAULT now(),
    CHECK ((webhook_id IS NULL) <> (execution_id IS NULL))
);
CREATE INDEX webhook_deliveries_webhook_idx ON webhook_deliveries (webhook_id, number DESC);
-- the list of a webhook, newest first, and what is sent again
CREATE INDEX webhook_deliveries_list_idx ON webhook_deliveries (webhook_id, created_at DESC, id DESC);
-- prune
CREATE INDEX webhook_deliveries_created_idx ON webhook_deliveries (created_at);
CREATE INDEX webhook_deliveries_execution_idx ON webhook_deliveries (execution_id) WHERE execution_id IS NOT NULL;

-- One HTTP request of a delivery.
CREATE TABLE webhook_attempts (
    delivery_id uuid NOT NULL REFERENCES webhook_deliveries ON DELETE CASCADE,
    -- the attempt of the job
    attempt     integer NOT NULL,
    sent_at     timestamptz NOT NULL,
    -- until the answer was there, in milliseconds
    latency_ms  integer NOT NULL,
    -- of the answer, if there was one
    status      smallint,
    -- why there was none, or why it does not count
    error       text,
    -- its first 4 KiB
    answer      text,
    PRIMARY KEY (delivery_id, attempt)
);

-- One mail: a job of kind `mail` with the same id. What it says is in the payload of the job, until it is sent.
CREATE TABLE mails (
    id         uuid PRIMARY KEY REFERENCES jobs ON DELETE CASCADE,
    -- whom it is about or from
    user_id    uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    recipient  text NOT NULL,
    template   text NOT NULL,
    -- a notice can be unsubscribed from
    notice     boolean NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX mails_user_idx ON mails (user_id, created_at DESC);
-- prune
CREATE INDEX mails_created_idx ON mails (created_at);
