-- Row level security on each of stripeonce's tables, for databases that serve tables to the public, such as Supabase's.
-- It is opt-in and plain SQL, for psql (with -v ON_ERROR_STOP=1) or a SQL editor. Run it as the tables' owner after each
-- migration; it may run any number of times.
--
-- Roles that own the tables, superusers and roles with BYPASSRLS (Supabase's postgres and service_role) see every row as
-- before. No other role sees any row, whatever was granted, except the roles that you name here, separated by commas. Name
-- roles that do not own the tables and as which your application or its operators connect. They need the privileges of
-- deploy/roles.sql, whose narrower policies on the ledger remain:
--
--   SET stripeonce.role = 'stripeonce_app,stripeonce_operator';
--
-- Where the tables are in a schema of their own: SET search_path = stripeonce;

DO $$
DECLARE
    ours NAME[] := ARRAY['stripe_webhook_events', 'stripe_webhook_failures', 'stripe_webhook_runs', 'stripe_webhook_payloads', 'stripe_erasures', 'subscriptions', 'subscription_items', 'stripe_objects', 'stripeonce_migrations'];
    views NAME[] := ARRAY[
        'stripe_customers', 'stripe_products', 'stripe_prices', 'stripe_invoices', 'stripe_invoice_lines', 'stripe_charges',
        'stripe_payment_intents', 'stripe_refunds', 'stripe_disputes', 'stripe_payment_methods', 'stripe_checkout_sessions',
        'stripe_credit_notes', 'stripe_subscription_schedules', 'stripe_coupons', 'stripe_promotion_codes', 'stripe_entitlements'
    ];
    table_name NAME;
    role_name NAME;
    partition REGCLASS;
BEGIN
    IF to_regclass('stripe_webhook_events') IS NULL THEN
        RAISE EXCEPTION 'search_path (%) leads to none of stripeonce''s tables: migrate first, or SET search_path to their schema', current_setting('search_path');
    END IF;
    FOREACH table_name IN ARRAY views LOOP -- until PostgreSQL 14, a view shows what its owner may see
        FOR role_name IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
            EXECUTE format('REVOKE ALL ON %I FROM %I', table_name, role_name);
        END LOOP;
    END LOOP;
    FOREACH table_name IN ARRAY ours LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', table_name);
        FOR partition IN SELECT relid FROM pg_partition_tree(quote_ident(table_name)::regclass) WHERE isleaf AND level > 0 LOOP
            EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', partition); -- no policy: who reads the table needs none here
            FOR role_name IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
                EXECUTE format('REVOKE ALL ON %s FROM %I', partition, role_name);
            END LOOP;
        END LOOP;
        FOR role_name IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
            EXECUTE format('REVOKE ALL ON %I FROM %I', table_name, role_name);
        END LOOP;
        FOR role_name IN SELECT trim(named) FROM regexp_split_to_table(COALESCE(current_setting('stripeonce.role', TRUE), ''), ',') AS named WHERE trim(named) <> '' LOOP
            IF NOT EXISTS (
                SELECT FROM pg_policy
                WHERE polrelid = to_regclass(quote_ident(table_name)) AND polname LIKE 'stripeonce\_%'
                    AND (SELECT oid FROM pg_roles WHERE rolname = role_name) = ANY(polroles)
            ) THEN
                EXECUTE format('CREATE POLICY %I ON %I TO %I USING (TRUE) WITH CHECK (TRUE)', 'stripeonce_' || role_name, table_name, role_name);
            END IF;
        END LOOP;
    END LOOP;
END
$$;
