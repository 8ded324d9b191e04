-- migrate:up

-- The ledger: one row for each event that took effect, was stale, had no handler, or waits for a person.
-- Collation "C": an upgrade of the operating system's collations must not be able to
-- corrupt the index that exactly-once rests on.
CREATE TABLE stripe_webhook_events (
    event_id VARCHAR(255) COLLATE "C" NOT NULL,
    event_type VARCHAR(255) NOT NULL,
    processed_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    outcome VARCHAR(16) NOT NULL,
    event_created_at TIMESTAMPTZ,
    livemode BOOLEAN NOT NULL,
    account_id VARCHAR(255),
    api_version VARCHAR,
    object_id VARCHAR(255),
    CONSTRAINT stripe_webhook_events_event_id_key PRIMARY KEY (event_id),
    CONSTRAINT stripe_webhook_events_outcome_check CHECK (outcome IN ('processed', 'ignored', 'stale', 'parked'))
);

-- For the listing of the ledger by time (StripeWebhookEventList) and for pruning (StripeWebhookEventPrune).
CREATE INDEX stripe_webhook_events_processed_at_idx ON stripe_webhook_events (processed_at);

-- For the listing of one object's events (StripeWebhookEventListByObject).
CREATE INDEX stripe_webhook_events_object_id_idx ON stripe_webhook_events (object_id) WHERE object_id IS NOT NULL;

-- migrate:down

DROP TABLE stripe_webhook_events;
