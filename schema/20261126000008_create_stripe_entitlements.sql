-- migrate:up

-- One row for each active entitlement of a customer, from the summaries in stripe_objects, whose id is the customer's. For the
-- lookup by customer: index stripe_objects_customer_id_idx. list_complete is false if the customer may have further ones.
CREATE VIEW stripe_entitlements AS
SELECT
    e.id::TEXT AS id,
    s.account_id,
    s.livemode,
    s.customer_id,
    (CASE jsonb_typeof(e.feature) WHEN 'string' THEN e.feature #>> '{}' WHEN 'object' THEN e.feature ->> 'id' END)::TEXT AS feature_id,
    e.lookup_key::TEXT AS lookup_key,
    s.lists_complete AS list_complete,
    s.updated_at
FROM stripe_objects AS s
CROSS JOIN LATERAL jsonb_to_recordset(
    jsonb_path_query_array(s.object, 'lax $.entitlements.data[*] ? (@.type() == "object")')
) AS e (id TEXT, feature JSONB, lookup_key TEXT)
WHERE s.object_type = 'entitlements.active_entitlement_summary' AND NOT s.deleted;

-- As for the other views.
DO $$
DECLARE
    role_name NAME;
BEGIN
    IF current_setting('server_version_num')::int >= 150000 THEN
        ALTER VIEW stripe_entitlements SET (security_invoker = true);
    END IF;
    FOR role_name IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
        EXECUTE format('REVOKE ALL ON stripe_entitlements FROM %I', role_name);
    END LOOP;
END
$$;

-- migrate:down

DROP VIEW stripe_entitlements;
