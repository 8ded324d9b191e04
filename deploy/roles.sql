-- Roles with the least privileges. Run this script with psql as a superuser, or as a role with CREATEROLE that owns the
-- database, before the first migration and again after each migration. It may run any number of times.
--
--   psql "$ADMIN_URL" -f deploy/roles.sql
--   psql "$ADMIN_URL" -c '\password stripeonce_owner'     and so on, or another authentication method
--   DATABASE_URL=postgres://stripeonce_owner@… stripeonce migrate
--   psql "$ADMIN_URL" -f deploy/roles.sql
--   DATABASE_URL=postgres://stripeonce_app@… stripeonce serve
--
-- Other names: -v owner=… -v app=… -v operator=… -v schema=… (with -v schema, also set search_path in the URLs).
-- Before PostgreSQL 15 every role may create tables in the schema public. If none of your applications relies on it:
-- REVOKE CREATE ON SCHEMA public FROM PUBLIC.

\set ON_ERROR_STOP on
SET client_min_messages = warning;
\if :{?owner}
\else
\set owner stripeonce_owner
\endif
\if :{?app}
\else
\set app stripeonce_app
\endif
\if :{?operator}
\else
\set operator stripeonce_operator
\endif
\if :{?schema}
\else
\set schema public
\endif

-- owner: migrations. app: serve, replay, reconcile, verify, backfill. operator: the privileges of app, and prune, erase and reprocess.
SELECT format('CREATE ROLE %I LOGIN', name)
FROM unnest(ARRAY[:'owner', :'app', :'operator']) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
\gexec

SELECT format('CREATE SCHEMA %I', :'schema') WHERE NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = :'schema')
\gexec
SELECT format('GRANT %s ON SCHEMA %I TO %I', needed.privilege, :'schema', needed.role)
FROM (VALUES ('USAGE', :'owner'), ('CREATE', :'owner'), ('USAGE', :'app'), ('USAGE', :'operator')) AS needed (privilege, role)
WHERE NOT has_schema_privilege(needed.role, :'schema', needed.privilege)
\gexec

SET search_path = :"schema";
SELECT to_regclass('stripe_webhook_events') IS NOT NULL AS migrated
\gset
\if :migrated
SELECT tableowner AS table_owner FROM pg_tables WHERE schemaname = :'schema' AND tablename = 'stripe_webhook_events'
\gset
SELECT set_config('stripeonce.owners', :'table_owner' || ' ' || :'owner', FALSE) \g (format=unaligned) /dev/null
DO $$
BEGIN
    IF split_part(current_setting('stripeonce.owners'), ' ', 1) <> split_part(current_setting('stripeonce.owners'), ' ', 2) THEN
        RAISE EXCEPTION 'the tables belong to the role %: name it with -v owner=…, or give the tables to that of this script with ALTER TABLE … OWNER TO',
            split_part(current_setting('stripeonce.owners'), ' ', 1);
    END IF;
END
$$;

-- The tables' owner runs the rest.
SELECT format('GRANT %I TO CURRENT_USER', :'owner') FROM pg_roles WHERE rolname = current_user AND NOT rolsuper AND rolname <> :'owner'
\gexec
SET ROLE :"owner";
GRANT SELECT ON stripeonce_migrations TO :"app", :"operator";

-- The ledger. Column privileges, and row level security for what privileges cannot restrict: app reads and adds rows,
-- changes a row only while its event has not taken effect (ignored, parked), and deletes a row only while it is ignored,
-- which removes the row of a thin event whose twin is recorded. Other roles that read the ledger need a policy, too.
GRANT SELECT, INSERT, DELETE ON stripe_webhook_events TO :"app", :"operator";
GRANT UPDATE (outcome, event_type, processed_at, receiver) ON stripe_webhook_events TO :"app", :"operator";
GRANT UPDATE (reprocessed_at, reprocess_count, reprocess_reason, object_id) ON stripe_webhook_events TO :"operator";
ALTER TABLE stripe_webhook_events ENABLE ROW LEVEL SECURITY;
SELECT format('CREATE POLICY %I ON stripe_webhook_events FOR %s TO %I %s', policy.name, policy.command, policy.role, policy.condition)
FROM (
    VALUES
    ('stripeonce_read_' || :'app', 'SELECT', :'app', 'USING (TRUE)'),
    ('stripeonce_record_' || :'app', 'INSERT', :'app', 'WITH CHECK (TRUE)'),
    ('stripeonce_settle_' || :'app', 'UPDATE', :'app', 'USING (outcome IN (''ignored'', ''parked'')) WITH CHECK (outcome <> ''ignored'')'),
    ('stripeonce_remove_' || :'app', 'DELETE', :'app', 'USING (outcome = ''ignored'')'),
    ('stripeonce_operate_' || :'operator', 'ALL', :'operator', 'USING (TRUE) WITH CHECK (TRUE)')
) AS policy (name, command, role, condition)
WHERE NOT EXISTS (
    SELECT FROM pg_policies AS there
    WHERE there.schemaname = :'schema' AND there.tablename = 'stripe_webhook_events' AND there.policyname = policy.name
)
\gexec

GRANT SELECT, INSERT, UPDATE ON stripe_webhook_failures TO :"app", :"operator";
GRANT DELETE ON stripe_webhook_failures TO :"operator";

-- The payloads of recorded events, with webhooks.Config.KeepPayloads.
GRANT SELECT, INSERT, DELETE ON stripe_webhook_payloads TO :"app", :"operator";

-- A run that had nothing to do removes its row, if it has one.
GRANT SELECT, INSERT, UPDATE, DELETE ON stripe_webhook_runs TO :"app", :"operator";

-- Subscriptions are deleted only with a customer's data (erase); their items are, otherwise, too.
GRANT SELECT, INSERT, UPDATE ON subscriptions TO :"app", :"operator";
GRANT DELETE ON subscriptions TO :"operator";
GRANT SELECT, INSERT, UPDATE, DELETE ON subscription_items TO :"app", :"operator";

-- Mirrored objects are deleted only with a customer's data. The views show what the reader may read.
GRANT SELECT, INSERT, UPDATE ON stripe_objects TO :"app", :"operator";
GRANT DELETE ON stripe_objects TO :"operator";

-- The erased customers, as hashes: receivers and imports look for them, and note further objects of theirs.
GRANT SELECT, INSERT ON stripe_erasures TO :"app", :"operator";

GRANT SELECT ON
    stripe_customers, stripe_products, stripe_prices, stripe_invoices, stripe_invoice_lines, stripe_charges, stripe_payment_intents,
    stripe_refunds, stripe_disputes, stripe_payment_methods, stripe_checkout_sessions, stripe_credit_notes,
    stripe_subscription_schedules, stripe_coupons, stripe_promotion_codes, stripe_entitlements
TO :"app", :"operator";
RESET ROLE;
\else
\echo 'the roles are there, and the schema' :schema 'has no tables of stripeonce''s: migrate as' :owner 'and run this again, to grant what the others need'
\endif
