-- migrate:up

-- The items of a subscription. They are always written in the transaction that writes the subscription's row.
CREATE TABLE subscription_items (
    subscription_id VARCHAR(255) COLLATE "C" NOT NULL,
    id VARCHAR(255) COLLATE "C" NOT NULL,
    position INTEGER NOT NULL,
    price_id VARCHAR,
    product_id VARCHAR,
    quantity BIGINT,
    current_period_start TIMESTAMPTZ,
    current_period_end TIMESTAMPTZ,
    metadata JSONB NOT NULL,
    CONSTRAINT subscription_items_pkey PRIMARY KEY (subscription_id, id),
    CONSTRAINT subscription_items_subscription_id_fkey FOREIGN KEY (subscription_id)
    REFERENCES subscriptions (id) ON DELETE CASCADE
) WITH (fillfactor = 90);

-- Supabase grants these roles, which its public REST API uses, all privileges on new tables of the schema public. See
-- https://supabase.com/docs/guides/api/securing-your-api.
DO $$
DECLARE
    role_name NAME;
BEGIN
    FOR role_name IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
        EXECUTE format('REVOKE ALL ON subscription_items FROM %I', role_name);
    END LOOP;
END
$$;

-- migrate:down

DROP TABLE subscription_items;
