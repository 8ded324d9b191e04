-- migrate:up

CREATE TABLE organizations (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name TEXT NOT NULL,
    stripe_customer_id TEXT UNIQUE,
    plan TEXT NOT NULL DEFAULT 'free',
    paid_cents BIGINT NOT NULL DEFAULT 0
);

-- migrate:down

DROP TABLE organizations;
