-- migrate:up

-- One row for each Stripe subscription. A deletion is a status, never a row removed.
-- Statuses and currencies are plain text: Stripe adds values without asking.
CREATE TABLE subscriptions (
    id VARCHAR(255) COLLATE "C" NOT NULL,
    customer_id VARCHAR(255) COLLATE "C",
    status VARCHAR NOT NULL,
    price_id VARCHAR,
    quantity BIGINT,
    currency VARCHAR,
    cancel_at_period_end BOOLEAN NOT NULL,
    cancel_at TIMESTAMPTZ,
    canceled_at TIMESTAMPTZ,
    ended_at TIMESTAMPTZ,
    current_period_start TIMESTAMPTZ,
    current_period_end TIMESTAMPTZ,
    trial_start TIMESTAMPTZ,
    trial_end TIMESTAMPTZ,
    collection_method VARCHAR,
    latest_invoice_id VARCHAR,
    metadata JSONB NOT NULL,
    livemode BOOLEAN NOT NULL,
    account_id VARCHAR(255),
    stripe_created_at TIMESTAMPTZ,
    object JSONB NOT NULL,
    last_event_id VARCHAR(255) COLLATE "C",
    last_event_created_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT subscriptions_pkey PRIMARY KEY (id)
);

CREATE INDEX subscriptions_customer_id_idx ON subscriptions (customer_id);

-- migrate:down

DROP TABLE subscriptions;
