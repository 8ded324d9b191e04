-- name: ObjectGet :one
-- An object by its key: for each event, where a handler is called with the row. No row if the event unless_applied ('': none)
-- has been applied.
SELECT o.* FROM stripe_objects AS o
WHERE o.account_id = @account_id AND o.livemode = @livemode AND o.object_type = @object_type AND o.id = @id
    AND NOT EXISTS (SELECT FROM stripe_webhook_events WHERE event_id = @unless_applied::text AND outcome NOT IN ('ignored', 'parked'));

-- name: ObjectOrdering :one
-- The columns that order an event against the row, and the digest of the row's state: see SubscriptionOrdering.
SELECT
    deleted, last_event_id, last_event_created_at, revision, as_of, api_version, digest, updated_at,
    COALESCE((CASE WHEN last_event_created_at IS NOT DISTINCT FROM sqlc.narg('event_created_at')::timestamptz THEN object END)::text, '')::text AS object,
    COALESCE((CASE WHEN last_event_created_at IS NOT DISTINCT FROM sqlc.narg('event_created_at')::timestamptz THEN newest_events END)::text, '')::text AS newest_events
FROM stripe_objects AS o
WHERE o.account_id = @account_id AND o.livemode = @livemode AND o.object_type = @object_type AND o.id = @id
    AND NOT EXISTS (SELECT FROM stripe_webhook_events WHERE event_id = @unless_applied::text AND outcome NOT IN ('ignored', 'parked'));

-- name: ObjectUpsert :execrows
-- written_at becomes created_at or updated_at. Null: the time of the write.
INSERT INTO stripe_objects (
    account_id, livemode, object_type, id, customer_id, subscription_id, status, deleted, lists_complete, stripe_created_at,
    object, last_event_id, last_event_created_at, as_of, newest_events, api_version, digest, created_at, updated_at
) VALUES (
    @account_id, @livemode, @object_type, @id, @customer_id, @subscription_id, @status, @deleted, @lists_complete, @stripe_created_at,
    @object, @last_event_id, @last_event_created_at, @as_of, @newest_events, @api_version, @digest,
    COALESCE(sqlc.narg('written_at')::timestamptz, clock_timestamp()), COALESCE(sqlc.narg('written_at')::timestamptz, clock_timestamp())
)
ON CONFLICT (account_id, livemode, object_type, id) DO UPDATE SET
    customer_id = excluded.customer_id,
    subscription_id = excluded.subscription_id,
    status = excluded.status,
    deleted = excluded.deleted,
    lists_complete = excluded.lists_complete,
    stripe_created_at = excluded.stripe_created_at,
    object = excluded.object,
    last_event_id = excluded.last_event_id,
    last_event_created_at = excluded.last_event_created_at,
    as_of = excluded.as_of,
    newest_events = excluded.newest_events,
    api_version = excluded.api_version,
    digest = excluded.digest,
    revision = stripe_objects.revision + 1,
    updated_at = excluded.updated_at;

-- name: ObjectListByKey :many
-- Objects of one type by their keys, given as arrays of the same length, in no order. LATERAL makes PostgreSQL look each key up
-- in the index, even if the table had few rows when the query was planned.
SELECT object.*
FROM (
    SELECT
        unnest((SELECT @account_ids::text [])) AS account_id,
        unnest((SELECT @livemodes::boolean [])) AS livemode,
        unnest((SELECT @ids::text [])) AS id
) AS wanted
CROSS JOIN LATERAL (
    SELECT o.* FROM stripe_objects AS o
    WHERE o.account_id = wanted.account_id AND o.livemode = wanted.livemode AND o.object_type = @object_type AND o.id = wanted.id
    LIMIT 1
) AS object;

-- name: ObjectList :many
-- Objects of one type and account, the newest first. Those of each mode are found by the index stripe_objects_stripe_created_at_idx.
-- before and before_id continue a listing.
SELECT object.*
FROM (SELECT unnest((SELECT @livemodes::boolean [])) AS livemode) AS mode
CROSS JOIN LATERAL (
    SELECT o.* FROM stripe_objects AS o
    WHERE o.account_id = @account_id AND o.livemode = mode.livemode AND o.object_type = @object_type
        AND o.stripe_created_at >= @created_from AND o.stripe_created_at < @created_before
        AND (o.stripe_created_at, o.id) < (COALESCE(sqlc.narg('before')::timestamptz, 'infinity'), @before_id::text)
        AND (sqlc.narg('status')::text IS NULL OR o.status = sqlc.narg('status')::text)
        AND o.deleted = @deleted
    ORDER BY o.stripe_created_at DESC, o.id DESC
    LIMIT @max_rows::int
) AS object
ORDER BY object.stripe_created_at DESC, object.id DESC
LIMIT @max_rows::int;

-- name: ObjectListByCustomer :many
-- A customer's objects of one type, the newest first, by the index stripe_objects_customer_id_idx.
SELECT * FROM stripe_objects
WHERE customer_id = @customer_id::text AND object_type = @object_type
    AND account_id = @account_id AND livemode = ANY(@livemodes::boolean [])
    AND stripe_created_at >= @created_from AND stripe_created_at < @created_before
    AND (stripe_created_at, id) < (COALESCE(sqlc.narg('before')::timestamptz, 'infinity'), @before_id::text)
    AND (sqlc.narg('subscription_id')::text IS NULL OR subscription_id = sqlc.narg('subscription_id')::text)
    AND (sqlc.narg('status')::text IS NULL OR status = sqlc.narg('status')::text)
    AND deleted = @deleted
ORDER BY stripe_created_at DESC, id DESC
LIMIT @max_rows;

-- name: ObjectListBySubscription :many
-- A subscription's objects of one type, the newest first, by the index stripe_objects_subscription_id_idx.
SELECT * FROM stripe_objects
WHERE subscription_id = @subscription_id::text AND object_type = @object_type
    AND account_id = @account_id AND livemode = ANY(@livemodes::boolean [])
    AND stripe_created_at >= @created_from AND stripe_created_at < @created_before
    AND (stripe_created_at, id) < (COALESCE(sqlc.narg('before')::timestamptz, 'infinity'), @before_id::text)
    AND (sqlc.narg('status')::text IS NULL OR status = sqlc.narg('status')::text)
    AND deleted = @deleted
ORDER BY stripe_created_at DESC, id DESC
LIMIT @max_rows;

-- name: ObjectListUndated :many
-- Objects of one type and account without a creation time of Stripe's, by id, as the index stripe_objects_undated_idx has them.
SELECT object.*
FROM (SELECT unnest((SELECT @livemodes::boolean [])) AS livemode) AS mode
CROSS JOIN LATERAL (
    SELECT o.* FROM stripe_objects AS o
    WHERE o.account_id = @account_id AND o.livemode = mode.livemode AND o.object_type = @object_type AND o.stripe_created_at IS NULL
        AND o.id > @after_id::text
        AND (sqlc.narg('customer_id')::text IS NULL OR o.customer_id = sqlc.narg('customer_id')::text)
        AND (sqlc.narg('subscription_id')::text IS NULL OR o.subscription_id = sqlc.narg('subscription_id')::text)
        AND (sqlc.narg('status')::text IS NULL OR o.status = sqlc.narg('status')::text)
        AND o.deleted = @deleted
    ORDER BY o.id
    LIMIT @max_rows::int
) AS object
ORDER BY object.id, object.livemode
LIMIT @max_rows::int;

-- name: ObjectKeyList :many
-- Lists the objects of a type, account and mode that Stripe created after a time, the newest first. before and before_id
-- continue a listing.
SELECT id, stripe_created_at FROM stripe_objects
WHERE account_id = @account_id AND livemode = @livemode AND object_type = @object_type
    AND stripe_created_at > @created_after
    AND (stripe_created_at, id) < (COALESCE(sqlc.narg('before')::timestamptz, 'infinity'), @before_id::text)
ORDER BY stripe_created_at DESC, id DESC
LIMIT @max_rows;

-- name: ObjectKeyListByCustomer :many
-- Lists the objects of a type, account and mode of one customer, by the index stripe_objects_customer_id_idx.
SELECT id FROM stripe_objects
WHERE customer_id = @customer_id::text AND object_type = @object_type
    AND account_id = @account_id AND livemode = @livemode AND id > @after_id::text
ORDER BY id
LIMIT @max_rows;

-- name: ObjectKeyListUndated :many
-- Lists the objects without a creation time of Stripe's.
SELECT id FROM stripe_objects
WHERE account_id = @account_id AND livemode = @livemode AND object_type = @object_type
    AND stripe_created_at IS NULL AND id > @after_id::text
ORDER BY id
LIMIT @max_rows;

-- name: ObjectIncompleteList :many
-- Lists the objects of a type and a mode (null: any) of whose lists only a part is stored.
SELECT account_id, livemode, id FROM stripe_objects
WHERE NOT lists_complete AND object_type = @object_type
    AND (account_id, livemode, id) > (@after_account_id::text, @after_livemode::boolean, @after_id::text)
    AND (sqlc.narg('livemode')::boolean IS NULL OR livemode = sqlc.narg('livemode')::boolean)
ORDER BY account_id, livemode, id
LIMIT @max_rows;

-- name: ObjectVersion :one
-- The API version of most of the newest objects of a type, account and mode.
SELECT COALESCE((
    SELECT api_version FROM (
        SELECT o.api_version FROM stripe_objects AS o
        WHERE o.account_id = @account_id AND o.livemode = @livemode AND o.object_type = @object_type AND o.stripe_created_at IS NOT NULL
        ORDER BY o.stripe_created_at DESC, o.id DESC
        LIMIT 100
    ) AS newest
    GROUP BY api_version
    ORDER BY count(*) DESC, api_version DESC
    LIMIT 1
), '')::text AS api_version;

-- name: ObjectAccountList :many
-- Lists the accounts that have objects here, with one index lookup for each.
WITH RECURSIVE account AS (
    (SELECT account_id AS id FROM stripe_objects ORDER BY account_id LIMIT 1)
    UNION ALL
    SELECT (SELECT o.account_id FROM stripe_objects AS o WHERE o.account_id > account.id ORDER BY o.account_id LIMIT 1)
    FROM account WHERE account.id IS NOT NULL
)

SELECT id::text AS id FROM account WHERE id IS NOT NULL;
