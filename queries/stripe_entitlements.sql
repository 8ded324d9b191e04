-- name: EntitlementFind :one
-- Whether a customer has an active entitlement with a lookup key, and whether all of the customer's are stored. No row if nothing is
-- known of the customer's. Of several rows, from before and after the receiver's own account got a name, the newest counts.
SELECT
    lists_complete,
    (object @> jsonb_build_object('entitlements', jsonb_build_object('data', jsonb_build_array(jsonb_build_object('lookup_key', @lookup_key::text)))))::boolean AS has
FROM stripe_objects
WHERE customer_id = @customer_id::text AND object_type = 'entitlements.active_entitlement_summary' AND NOT deleted
ORDER BY GREATEST(as_of, last_event_created_at) DESC NULLS LAST
LIMIT 1;

-- name: EntitlementSummaryGet :one
-- The summary of a customer's active entitlements, as EntitlementFind finds it.
SELECT * FROM stripe_objects
WHERE customer_id = @customer_id::text AND object_type = 'entitlements.active_entitlement_summary' AND NOT deleted
ORDER BY GREATEST(as_of, last_event_created_at) DESC NULLS LAST
LIMIT 1;
