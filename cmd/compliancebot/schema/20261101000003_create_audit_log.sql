-- migrate:up

-- Every change of a plan. Nothing is unique here: what is written twice is there twice.
CREATE TABLE audit_log (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stripe_event_id TEXT NOT NULL,
    stripe_subscription_id TEXT NOT NULL,
    before TEXT NOT NULL,
    after TEXT NOT NULL,
    at TIMESTAMPTZ NOT NULL DEFAULT now()
);

-- migrate:down

DROP TABLE audit_log;
