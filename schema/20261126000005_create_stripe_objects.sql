-- migrate:up

-- One row for each mirrored Stripe object that has no table of its own. A deletion sets deleted and never removes the row:
-- only operations.Erase does.
-- account_id is '' for the receiver's own account, since a key cannot be null. The ids of coupons, products and plans are the
-- caller's choice, so the id alone is no key.
--
-- customer_id, subscription_id and status are those of the object, in any API version; a customer's customer_id is its own id.
-- lists_complete is false while the object has a list of which only a part is stored. Columns for the order of events are as in
-- subscriptions: revision, as_of, newest_events, api_version, digest.
--
-- No column that changes is indexed, except where a payment method is attached to a customer, so a new version of a row needs
-- no index entry if it fits on the same page (HOT).
CREATE TABLE stripe_objects (
    account_id VARCHAR(255) COLLATE "C" NOT NULL DEFAULT '',
    livemode BOOLEAN NOT NULL,
    object_type VARCHAR(255) COLLATE "C" NOT NULL,
    id VARCHAR(255) COLLATE "C" NOT NULL,
    customer_id VARCHAR(255) COLLATE "C",
    subscription_id VARCHAR(255) COLLATE "C",
    status VARCHAR,
    deleted BOOLEAN NOT NULL DEFAULT FALSE,
    lists_complete BOOLEAN NOT NULL DEFAULT TRUE,
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
    CONSTRAINT stripe_objects_pkey PRIMARY KEY (account_id, livemode, object_type, id)
) WITH (fillfactor = 75, toast_tuple_target = 4080);

-- For ObjectListByCustomer: a customer's objects of one type, the newest first.
CREATE INDEX stripe_objects_customer_id_idx ON stripe_objects (customer_id, object_type, stripe_created_at, id)
WHERE customer_id IS NOT NULL;

-- For ObjectListBySubscription: a subscription's objects of one type, the newest first.
CREATE INDEX stripe_objects_subscription_id_idx ON stripe_objects (subscription_id, object_type, stripe_created_at, id)
WHERE subscription_id IS NOT NULL;

-- For ObjectList and ObjectKeyList: the objects of one type in the order of Stripe's lists. None of these columns ever changes.
-- Its condition keeps PostgreSQL from looking a key up in it, which reads all entries of a type. While the table is empty, it
-- takes this index for as good as the primary key, and keeps that plan until the table is analyzed.
CREATE INDEX stripe_objects_stripe_created_at_idx ON stripe_objects (account_id, livemode, object_type, stripe_created_at, id)
WHERE stripe_created_at IS NOT NULL;

-- For ObjectKeyListUndated. It has few entries.
CREATE INDEX stripe_objects_undated_idx ON stripe_objects (account_id, livemode, object_type, id) WHERE stripe_created_at IS NULL;

-- For completing rows of whose lists only a part is stored (ObjectIncompleteList). It has few entries.
CREATE INDEX stripe_objects_incomplete_idx ON stripe_objects (account_id, livemode, object_type, id) WHERE NOT lists_complete;

-- As in subscriptions: lz4 takes a third less time than pglz.
DO $$
BEGIN
    EXECUTE 'ALTER TABLE stripe_objects ALTER COLUMN object SET COMPRESSION lz4';
EXCEPTION WHEN feature_not_supported OR syntax_error THEN
    NULL;
END
$$;

-- As for the other tables: Supabase's public REST API uses these roles.
DO $$
DECLARE
    role_name NAME;
BEGIN
    FOR role_name IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
        EXECUTE format('REVOKE ALL ON stripe_objects FROM %I', role_name);
    END LOOP;
END
$$;

-- migrate:down

DROP TABLE stripe_objects;
