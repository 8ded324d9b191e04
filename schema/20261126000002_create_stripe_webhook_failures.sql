-- migrate:up

-- One row for each event that failed, also after it has been applied: the ledger tells whether it has.
-- state is 'failing' while Stripe or a person retries, 'parked' once a handler returned webhooks.Park, and 'dismissed'
-- when a person decided that the event need not be applied; reason is what that person said.
-- history has the failed attempts, the newest last: when each was, and the beginning of its error.
CREATE TABLE stripe_webhook_failures (
    event_id VARCHAR(255) COLLATE "C" NOT NULL,
    event_type VARCHAR(255) NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 1,
    first_failed_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    last_failed_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    last_error VARCHAR NOT NULL,
    payload JSONB,
    history JSONB NOT NULL DEFAULT '[]',
    state VARCHAR(16) NOT NULL DEFAULT 'failing',
    reason VARCHAR,
    CONSTRAINT stripe_webhook_failures_pkey PRIMARY KEY (event_id),
    CONSTRAINT stripe_webhook_failures_state_check CHECK (state::TEXT IN ('failing', 'parked', 'dismissed'))
);

-- For the listing of what still fails (StripeWebhookFailureList).
CREATE INDEX stripe_webhook_failures_first_failed_at_idx ON stripe_webhook_failures (first_failed_at, event_id);

-- Supabase grants these roles, which anybody may use by REST, all rights on new tables of the schema public. See
-- https://supabase.com/docs/guides/api/securing-your-api.
DO $$
DECLARE
    role_name NAME;
BEGIN
    FOR role_name IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
        EXECUTE format('REVOKE ALL ON stripe_webhook_failures FROM %I', role_name);
    END LOOP;
END
$$;

-- migrate:down

DROP TABLE stripe_webhook_failures;
