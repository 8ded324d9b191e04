-- Row level security on every table of stripeonce's, for databases that serve tables to the public, such as Supabase's.
-- Opt-in, plain SQL, for psql or a SQL editor: run it as the tables' owner after each migration; it may run again.
--
-- Roles that own the tables, superusers and roles with BYPASSRLS (Supabase's postgres and service_role) see every row as
-- before. Nobody else sees any, whatever was granted, except the role that you name here if your application connects as
-- one that does not own them; it needs the rights of deploy/roles.sql, too:
--
--   SET stripeonce.role = 'my_app';
--
-- Where the tables are in a schema of their own: SET search_path = stripeonce;

DO $$
DECLARE
    table_name NAME;
    role_name NAME;
    app NAME := NULLIF(current_setting('stripeonce.role', TRUE), '');
BEGIN
    FOREACH table_name IN ARRAY ARRAY[
        'stripe_webhook_events', 'stripe_webhook_failures', 'subscriptions', 'subscription_items', 'stripeonce_migrations'
    ] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', table_name);
        FOR role_name IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
            EXECUTE format('REVOKE ALL ON %I FROM %I', table_name, role_name);
        END LOOP;
        IF app IS NOT NULL THEN
            EXECUTE format('DROP POLICY IF EXISTS stripeonce ON %I', table_name);
            EXECUTE format('CREATE POLICY stripeonce ON %I TO %I USING (TRUE) WITH CHECK (TRUE)', table_name, app);
        END IF;
    END LOOP;
END
$$;
