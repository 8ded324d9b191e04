-- migrate:up

-- The payloads of recorded events, as they were delivered, without client_secret and secret. It has rows only where
-- webhooks.Config.KeepPayloads is set: each is written in its event's transaction. stored_at is for pruning.
CREATE TABLE stripe_webhook_payloads (
    event_id VARCHAR(255) COLLATE "C" NOT NULL,
    payload JSONB NOT NULL,
    stored_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT stripe_webhook_payloads_pkey PRIMARY KEY (event_id)
);

-- For pruning the oldest payloads (StripeWebhookPayloadPrune).
CREATE INDEX stripe_webhook_payloads_stored_at_idx ON stripe_webhook_payloads (stored_at);

-- Supabase grants these roles, which its public REST API uses, all privileges on new tables of the schema public. See
-- https://supabase.com/docs/guides/api/securing-your-api.
DO $$
DECLARE
    role_name NAME;
BEGIN
    FOR role_name IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
        EXECUTE format('REVOKE ALL ON stripe_webhook_payloads FROM %I', role_name);
    END LOOP;
END
$$;

-- migrate:down

DROP TABLE stripe_webhook_payloads;
