-- migrate:up

-- Who gets which report by mail. It has nothing to do with Stripe's subscriptions.
CREATE TABLE subscriptions (
    organization_id BIGINT NOT NULL REFERENCES organizations (id),
    report TEXT NOT NULL,
    email TEXT NOT NULL,
    PRIMARY KEY (organization_id, report, email)
);

-- migrate:down

DROP TABLE subscriptions;
