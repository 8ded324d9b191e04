CREATE TABLE accounts (
    customer_id TEXT PRIMARY KEY,
    paid_cents BIGINT NOT NULL
);
