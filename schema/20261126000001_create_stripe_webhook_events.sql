-- migrate:up

-- The ledger: one row for each event that took effect, was stale, was ignored, or is parked. The id has collation "C", so
-- that an upgrade of the operating system's collations cannot corrupt the index that exactly-once relies on.
--
-- receiver is the name of the receiver that recorded the event last (webhooks.Config.Name). The reprocess columns say when an
-- operator last ran handlers again for an event that had taken effect, how often, and why.
--
-- The CHECK casts to TEXT: with VARCHAR it would read differently after a dump is loaded, and 'migrate --adopt' compares it.
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
    receiver VARCHAR(255) NOT NULL DEFAULT 'host',
    reprocessed_at TIMESTAMPTZ,
    reprocess_count INTEGER NOT NULL DEFAULT 0,
    reprocess_reason VARCHAR,
    CONSTRAINT stripe_webhook_events_event_id_key PRIMARY KEY (event_id),
    CONSTRAINT stripe_webhook_events_outcome_check CHECK (outcome::TEXT IN ('processed', 'ignored', 'stale', 'parked'))
);

-- For listing the ledger by time (StripeWebhookEventList) and for pruning it (StripeWebhookEventPrune).
CREATE INDEX stripe_webhook_events_processed_at_idx ON stripe_webhook_events (processed_at);

-- For listing the events of one object (StripeWebhookEventListByObject).
CREATE INDEX stripe_webhook_events_object_id_idx ON stripe_webhook_events (object_id) WHERE object_id IS NOT NULL;

-- Supabase grants these roles, which its public REST API uses, all privileges on new tables of the schema public. See
-- https://supabase.com/docs/guides/api/securing-your-api.
DO $$
DECLARE
    role_name NAME;
BEGIN
    FOR role_name IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
        EXECUTE format('REVOKE ALL ON stripe_webhook_events FROM %I', role_name);
        IF to_regclass('stripeonce_migrations') IS NOT NULL THEN
            EXECUTE format('REVOKE ALL ON stripeonce_migrations FROM %I', role_name);
        END IF;
    END LOOP;
END
$$;

-- migrate:down

DROP TABLE stripe_webhook_events;
