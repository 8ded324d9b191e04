-- migrate:up

-- One row for each event that failed, also after it has been applied: the ledger tells whether it has.
CREATE TABLE stripe_webhook_failures (
    event_id VARCHAR(255) COLLATE "C" NOT NULL,
    event_type VARCHAR(255) NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 1,
    first_failed_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    last_failed_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    last_error VARCHAR NOT NULL,
    payload JSONB,
    CONSTRAINT stripe_webhook_failures_pkey PRIMARY KEY (event_id)
);

-- migrate:down

DROP TABLE stripe_webhook_failures;
