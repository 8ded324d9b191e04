-- migrate:up

-- The items of a subscription, always written together with their parent's row.
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

-- migrate:down

DROP TABLE subscription_items;
