-- migrate:up

-- One row for each event that failed. It stays after the event has been applied: the ledger says whether it has.
-- state is 'failing' after a failure, 'parked' once a handler returned webhooks.Park, and 'dismissed' if a person decided
-- that the event need not be applied. It does not change when the event is applied. reason is that person's reason.
-- account_id is the event's account, and receiver the name of the receiver in which it failed last, as in the ledger.
-- next_retry_at is when the retrier (operations.RetryFailed) tries the event next: null if it need not. retries is how often it has,
-- and retried_build the build of the receiver that retried it last, or for which it was scheduled: a new build retries it soon.
-- history has the last failed attempts, the newest last, each with its time and the beginning of its error, and the ids of its trace
-- (trace_id and span_id) if it was traced. trace_id is that of the last attempt.
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
    account_id VARCHAR(255),
    receiver VARCHAR(255) NOT NULL DEFAULT 'host',
    next_retry_at TIMESTAMPTZ,
    retries INTEGER NOT NULL DEFAULT 0,
    retried_build VARCHAR(255),
    trace_id VARCHAR(32),
    CONSTRAINT stripe_webhook_failures_pkey PRIMARY KEY (event_id),
    CONSTRAINT stripe_webhook_failures_state_check CHECK (state::TEXT IN ('failing', 'parked', 'dismissed'))
);

-- For listing the failing events (StripeWebhookFailureList).
CREATE INDEX stripe_webhook_failures_first_failed_at_idx ON stripe_webhook_failures (first_failed_at, event_id);

-- For finding the events that are to be retried (StripeWebhookFailureClaim).
CREATE INDEX stripe_webhook_failures_next_retry_at_idx ON stripe_webhook_failures (receiver, next_retry_at)
WHERE next_retry_at IS NOT NULL AND state = 'failing';

-- For finding the failures of one object, and of a customer's objects (StripeWebhookFailureListByObject and -ByCustomer). A longer id
-- than Stripe has is cut, since an index could not hold any text.
CREATE INDEX stripe_webhook_failures_object_id_idx ON stripe_webhook_failures (
    left(COALESCE(payload #>> '{data,object,id}', payload #>> '{related_object,id}'), 255)
);
CREATE INDEX stripe_webhook_failures_customer_id_idx ON stripe_webhook_failures (
    left(COALESCE(payload #>> '{data,object,customer,id}', payload #>> '{data,object,customer}'), 255)
);

-- Supabase grants these roles, which its public REST API uses, all privileges on new tables of the schema public. See
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
