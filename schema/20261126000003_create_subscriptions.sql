-- migrate:up

-- One row for each Stripe subscription. A deletion sets a status and never removes the row: only operations.Erase does.
-- Statuses and currencies are plain text, since Stripe may add values at any time.
--
-- Columns for the order of events: revision counts the writes of the row. as_of is set while the row holds an object that
-- was fetched from Stripe at that time, instead of an event's object. newest_events are the events of the row's second,
-- which determine the last of them. api_version is that of object. digest is a digest of the row's state, with the
-- revision that it belongs to, so that a state can be compared without reading the row (null: not known).
--
-- No column that changes is indexed, so a new version of a row needs no index entry if it fits on the same page (HOT);
-- fillfactor leaves room for it. toast_tuple_target lets a row use half of an 8 kB page before its object moves to the
-- TOAST table, which costs an index entry for each write.
CREATE TABLE subscriptions (
    id VARCHAR(255) COLLATE "C" NOT NULL,
    customer_id VARCHAR(255) COLLATE "C",
    customer_account_id VARCHAR,
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
    pause_collection JSONB,
    latest_invoice_id VARCHAR,
    schedule_id VARCHAR,
    default_payment_method_id VARCHAR,
    billing_mode VARCHAR,
    discount_ids TEXT [] NOT NULL DEFAULT '{}',
    items_complete BOOLEAN NOT NULL DEFAULT TRUE,
    metadata JSONB NOT NULL,
    livemode BOOLEAN NOT NULL,
    account_id VARCHAR(255),
    stripe_created_at TIMESTAMPTZ,
    object JSONB NOT NULL,
    last_event_id VARCHAR(255) COLLATE "C",
    last_event_created_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    revision BIGINT NOT NULL DEFAULT 1,
    as_of TIMESTAMPTZ,
    newest_events JSONB NOT NULL DEFAULT '[]',
    api_version VARCHAR,
    digest BYTEA,
    CONSTRAINT subscriptions_pkey PRIMARY KEY (id)
) WITH (fillfactor = 75, toast_tuple_target = 4080);

CREATE INDEX subscriptions_customer_id_idx ON subscriptions (customer_id);

-- For comparing the table with Stripe's list (SubscriptionKeyList), which is sorted by creation within an account. None of
-- these columns ever changes.
CREATE INDEX subscriptions_stripe_created_at_idx ON subscriptions ((COALESCE(account_id, '')), stripe_created_at, id);

-- For completing the items of rows that have only a part (SubscriptionIncompleteList). It has few entries, and an update that
-- does not change items_complete stays HOT.
CREATE INDEX subscriptions_incomplete_idx ON subscriptions (id) WHERE NOT items_complete;

-- Stripe's object is most of a row and is compressed on each write, which takes a third less time with lz4 than with pglz.
-- A server that was built without lz4, or that is older than PostgreSQL 14, keeps pglz.
-- https://www.postgresql.org/docs/current/storage-toast.html
DO $$
BEGIN
    EXECUTE 'ALTER TABLE subscriptions ALTER COLUMN object SET COMPRESSION lz4';
EXCEPTION WHEN feature_not_supported OR syntax_error THEN
    NULL;
END
$$;

-- Supabase grants these roles, which its public REST API uses, all privileges on new tables of the schema public. See
-- https://supabase.com/docs/guides/api/securing-your-api.
DO $$
DECLARE
    role_name NAME;
BEGIN
    FOR role_name IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
        EXECUTE format('REVOKE ALL ON subscriptions FROM %I', role_name);
    END LOOP;
END
$$;

-- migrate:down

DROP TABLE subscriptions;
