-- name: CustomerSubscriptionIDList :many
-- The ids of a customer's subscriptions, the newest first, in one account and mode (null: in all).
SELECT s.id FROM subscriptions AS s
WHERE s.customer_id = @customer_id::text
    AND (sqlc.narg('account_id')::text IS NULL OR COALESCE(s.account_id, '') = sqlc.narg('account_id')::text)
    AND (sqlc.narg('livemode')::boolean IS NULL OR s.livemode = sqlc.narg('livemode')::boolean)
ORDER BY s.stripe_created_at DESC NULLS LAST, s.id DESC
LIMIT @max_rows;

-- name: CustomerObjectIDList :many
-- The ids of a customer's mirrored objects, the newest max_each of each type, in one account and mode (null: in all), by the index
-- stripe_objects_customer_id_idx.
WITH RECURSIVE kind AS (
    (SELECT o.object_type FROM stripe_objects AS o WHERE o.customer_id = @customer_id::text ORDER BY o.object_type LIMIT 1)
    UNION ALL
    SELECT following.object_type
    FROM kind CROSS JOIN LATERAL (
        SELECT o.object_type FROM stripe_objects AS o
        WHERE o.customer_id = @customer_id::text AND o.object_type > kind.object_type
        ORDER BY o.object_type LIMIT 1
    ) AS following
)

SELECT object.object_type, object.id
FROM kind CROSS JOIN LATERAL (
    SELECT o.object_type, o.id FROM stripe_objects AS o
    WHERE o.customer_id = @customer_id::text AND o.object_type = kind.object_type
        AND (sqlc.narg('account_id')::text IS NULL OR o.account_id = sqlc.narg('account_id')::text)
        AND (sqlc.narg('livemode')::boolean IS NULL OR o.livemode = sqlc.narg('livemode')::boolean)
    ORDER BY o.stripe_created_at DESC, o.id DESC
    LIMIT @max_each
) AS object;
