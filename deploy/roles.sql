-- Roles with no more than each needs. Run it with psql as a superuser, or as a role that may create roles and owns the database, before the
-- first migration and again after each: what there is already stays as it is.
--
--   psql "$ADMIN_URL" -f deploy/roles.sql
--   psql "$ADMIN_URL" -c '\password stripeonce_owner'     and so on, or your own way to log in
--   DATABASE_URL=postgres://stripeonce_owner@… stripeonce migrate
--   psql "$ADMIN_URL" -f deploy/roles.sql
--   DATABASE_URL=postgres://stripeonce_app@… stripeonce serve
--
-- Other names: -v owner=… -v app=… -v operator=… -v schema=… (then put search_path into the URLs, too).

\set ON_ERROR_STOP on
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

-- owner: migrations. app: serve, replay, reconcile, verify. operator: what app may, and prune.
SELECT format('CREATE ROLE %I LOGIN', name)
FROM unnest(ARRAY[:'owner', :'app', :'operator']) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
\gexec

CREATE SCHEMA IF NOT EXISTS :"schema";
REVOKE CREATE ON SCHEMA :"schema" FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA :"schema" TO :"owner";
GRANT USAGE ON SCHEMA :"schema" TO :"app", :"operator";

SET search_path = :"schema";
SELECT to_regclass('stripe_webhook_events') IS NOT NULL AS migrated
\gset
\if :migrated
GRANT SELECT ON stripeonce_migrations TO :"app", :"operator";

-- The ledger. Rights on columns, and row level security for what rights cannot say: app reads and adds rows, changes one
-- only while its event has not taken effect (ignored, parked), and deletes one only while it is ignored, which removes the row of
-- a thin event whose twin is recorded.
GRANT SELECT, INSERT, DELETE ON stripe_webhook_events TO :"app", :"operator";
GRANT UPDATE (outcome, event_type, processed_at) ON stripe_webhook_events TO :"app", :"operator";
ALTER TABLE stripe_webhook_events ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS stripeonce_read ON stripe_webhook_events;
DROP POLICY IF EXISTS stripeonce_record ON stripe_webhook_events;
DROP POLICY IF EXISTS stripeonce_settle ON stripe_webhook_events;
DROP POLICY IF EXISTS stripeonce_remove_ignored ON stripe_webhook_events;
DROP POLICY IF EXISTS stripeonce_operate ON stripe_webhook_events;
CREATE POLICY stripeonce_read ON stripe_webhook_events FOR SELECT TO :"app" USING (TRUE);
CREATE POLICY stripeonce_record ON stripe_webhook_events FOR INSERT TO :"app" WITH CHECK (TRUE);
CREATE POLICY stripeonce_settle ON stripe_webhook_events FOR UPDATE TO :"app"
USING (outcome IN ('ignored', 'parked')) WITH CHECK (outcome <> 'ignored');
CREATE POLICY stripeonce_remove_ignored ON stripe_webhook_events FOR DELETE TO :"app" USING (outcome = 'ignored');
CREATE POLICY stripeonce_operate ON stripe_webhook_events TO :"operator" USING (TRUE) WITH CHECK (TRUE);

GRANT SELECT, INSERT, UPDATE ON stripe_webhook_failures TO :"app", :"operator";
GRANT DELETE ON stripe_webhook_failures TO :"operator";

-- A subscription is never deleted, its items are replaced.
GRANT SELECT, INSERT, UPDATE ON subscriptions TO :"app", :"operator";
GRANT SELECT, INSERT, UPDATE, DELETE ON subscription_items TO :"app", :"operator";
\else
\echo 'roles are made; migrate as the owner, then run this again to grant what the others need'
\endif
