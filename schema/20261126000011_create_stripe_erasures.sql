-- migrate:up

-- The customers whose data was erased on request (operations.Erase), and their objects: of an id that is here, no event and no import
-- stores anything. id_hash is the SHA-256 of the customer's id, or of that of an object of the customer's, and customer_hash that of
-- the customer's, so that the table holds no id. account_id is '' for the receiver's own account. operator is who erased the data, and
-- reason what that person said: null in the rows of the objects. Rows are never pruned: as long as Stripe has the objects, an import
-- would bring them back.
CREATE TABLE stripe_erasures (
    id_hash BYTEA NOT NULL,
    account_id VARCHAR(255) COLLATE "C" NOT NULL DEFAULT '',
    livemode BOOLEAN NOT NULL,
    customer_hash BYTEA NOT NULL,
    erased_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    operator VARCHAR,
    reason VARCHAR,
    CONSTRAINT stripe_erasures_pkey PRIMARY KEY (id_hash, account_id, livemode)
);

-- Supabase grants these roles, which its public REST API uses, all privileges on new tables of the schema public. See
-- https://supabase.com/docs/guides/api/securing-your-api.
DO $$
DECLARE
    role_name NAME;
BEGIN
    FOR role_name IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
        EXECUTE format('REVOKE ALL ON stripe_erasures FROM %I', role_name);
    END LOOP;
END
$$;

-- migrate:down

DROP TABLE stripe_erasures;
