-- name: SubscriptionList :many
-- Subscriptions by id, and those of a customer (null: none), in no order, each with its items as a JSON array of their rows
-- in Stripe's order. Item times are in UTC: to_jsonb would use the session's time zone, whose years and offsets Go may not
-- parse. It returns no row if the event unless_applied ('': none) has been applied, so that a duplicate does not even make
-- PostgreSQL prune the row's page, which would be logged. LATERAL makes PostgreSQL look each id up in the index, even if
-- the table had few rows when the query was planned; and it is planned once, not for each execution, since the parameters
-- are in subqueries.
SELECT
    subscription.*,
    (
        SELECT COALESCE(jsonb_agg(jsonb_build_object(
            'id', item.id, 'price_id', item.price_id, 'product_id', item.product_id,
            'quantity', item.quantity, 'metadata', item.metadata,
            'current_period_start', to_char(item.current_period_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
            'current_period_end', to_char(item.current_period_end AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
        ) ORDER BY item.position, item.id), '[]')
        FROM subscription_items AS item WHERE item.subscription_id = subscription.id
    )::jsonb AS items
FROM (
    SELECT unnest((SELECT @ids::text [])) AS id
    UNION ALL
    SELECT customers.id FROM subscriptions AS customers WHERE customers.customer_id = (SELECT sqlc.narg('customer_id')::text)
) AS wanted
CROSS JOIN LATERAL (SELECT s.* FROM subscriptions AS s WHERE s.id = wanted.id LIMIT 1) AS subscription
WHERE NOT EXISTS (SELECT FROM stripe_webhook_events WHERE event_id = @unless_applied::text AND outcome NOT IN ('ignored', 'parked'));

-- name: SubscriptionGet :one
-- SubscriptionList for one id: for each event, where a handler is called with the row. It takes two thirds of the time.
SELECT
    subscription.*,
    (
        SELECT COALESCE(jsonb_agg(jsonb_build_object(
            'id', item.id, 'price_id', item.price_id, 'product_id', item.product_id,
            'quantity', item.quantity, 'metadata', item.metadata,
            'current_period_start', to_char(item.current_period_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
            'current_period_end', to_char(item.current_period_end AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
        ) ORDER BY item.position, item.id), '[]')
        FROM subscription_items AS item WHERE item.subscription_id = subscription.id
    )::jsonb AS items
FROM subscriptions AS subscription
WHERE subscription.id = @id
    AND NOT EXISTS (SELECT FROM stripe_webhook_events WHERE event_id = @unless_applied::text AND outcome NOT IN ('ignored', 'parked'));

-- name: SubscriptionOrdering :one
-- The columns that order an event against the row, and the digest of the row's state. object and newest_events, the bulk
-- of the row, are read only if the event may be of the row's own second. No row if the event has been applied.
SELECT
    status, livemode, account_id, last_event_id, last_event_created_at, revision, as_of, api_version, digest, updated_at,
    COALESCE((CASE WHEN last_event_created_at IS NOT DISTINCT FROM sqlc.narg('event_created_at')::timestamptz THEN object END)::text, '')::text AS object,
    COALESCE((CASE WHEN last_event_created_at IS NOT DISTINCT FROM sqlc.narg('event_created_at')::timestamptz THEN newest_events END)::text, '')::text AS newest_events
FROM subscriptions
WHERE id = @id
    AND NOT EXISTS (SELECT FROM stripe_webhook_events WHERE event_id = @unless_applied::text AND outcome NOT IN ('ignored', 'parked'));

-- name: SubscriptionUpsert :execrows
-- written_at becomes created_at or updated_at. Null: the time of the write.
INSERT INTO subscriptions (
    id, customer_id, status, price_id, quantity, currency, cancel_at_period_end, cancel_at,
    canceled_at, ended_at, current_period_start, current_period_end, trial_start, trial_end,
    collection_method, latest_invoice_id, metadata, livemode, account_id, stripe_created_at,
    pause_collection, customer_account_id, schedule_id, default_payment_method_id, billing_mode, discount_ids, items_complete,
    object, last_event_id, last_event_created_at, as_of, newest_events, api_version, digest, created_at, updated_at
) VALUES (
    @id, @customer_id, @status, @price_id, @quantity, @currency, @cancel_at_period_end, @cancel_at,
    @canceled_at, @ended_at, @current_period_start, @current_period_end, @trial_start, @trial_end,
    @collection_method, @latest_invoice_id, @metadata, @livemode, @account_id, @stripe_created_at,
    @pause_collection, @customer_account_id, @schedule_id, @default_payment_method_id, @billing_mode, @discount_ids, @items_complete,
    @object, @last_event_id, @last_event_created_at, @as_of, @newest_events, @api_version, @digest,
    COALESCE(sqlc.narg('written_at')::timestamptz, clock_timestamp()), COALESCE(sqlc.narg('written_at')::timestamptz, clock_timestamp())
)
ON CONFLICT (id) DO UPDATE SET
    customer_id = excluded.customer_id,
    status = excluded.status,
    price_id = excluded.price_id,
    quantity = excluded.quantity,
    currency = excluded.currency,
    cancel_at_period_end = excluded.cancel_at_period_end,
    cancel_at = excluded.cancel_at,
    canceled_at = excluded.canceled_at,
    ended_at = excluded.ended_at,
    current_period_start = excluded.current_period_start,
    current_period_end = excluded.current_period_end,
    trial_start = excluded.trial_start,
    trial_end = excluded.trial_end,
    collection_method = excluded.collection_method,
    latest_invoice_id = excluded.latest_invoice_id,
    metadata = excluded.metadata,
    livemode = excluded.livemode,
    account_id = excluded.account_id,
    stripe_created_at = excluded.stripe_created_at,
    pause_collection = excluded.pause_collection,
    customer_account_id = excluded.customer_account_id,
    schedule_id = excluded.schedule_id,
    default_payment_method_id = excluded.default_payment_method_id,
    billing_mode = excluded.billing_mode,
    discount_ids = excluded.discount_ids,
    items_complete = excluded.items_complete,
    object = excluded.object,
    last_event_id = excluded.last_event_id,
    last_event_created_at = excluded.last_event_created_at,
    as_of = excluded.as_of,
    newest_events = excluded.newest_events,
    api_version = excluded.api_version,
    digest = excluded.digest,
    revision = subscriptions.revision + 1,
    updated_at = excluded.updated_at;

-- name: SubscriptionKeyList :many
-- Lists the subscriptions of one account ('': the platform's own) and mode (null: any) that Stripe created after a time,
-- the newest first. before and before_id continue a listing.
SELECT id, stripe_created_at FROM subscriptions
WHERE COALESCE(account_id, '') = @account_id::text
    AND stripe_created_at > @created_after
    AND (stripe_created_at, id) < (COALESCE(sqlc.narg('before')::timestamptz, 'infinity'), @before_id::text)
    AND (sqlc.narg('livemode')::boolean IS NULL OR livemode = sqlc.narg('livemode')::boolean)
ORDER BY stripe_created_at DESC, id DESC
LIMIT @max_rows;

-- name: SubscriptionKeyListByCustomer :many
-- Lists the subscriptions of one customer in an account ('': the platform's own) and mode (null: any).
SELECT id FROM subscriptions
WHERE customer_id = @customer_id::text
    AND COALESCE(account_id, '') = @account_id::text
    AND id > @after_id::text
    AND (sqlc.narg('livemode')::boolean IS NULL OR livemode = sqlc.narg('livemode')::boolean)
ORDER BY id
LIMIT @max_rows;

-- name: SubscriptionKeyListUndated :many
-- Lists the subscriptions without a creation time of Stripe's.
SELECT id FROM subscriptions
WHERE COALESCE(account_id, '') = @account_id::text
    AND stripe_created_at IS NULL
    AND id > @after_id::text
    AND (sqlc.narg('livemode')::boolean IS NULL OR livemode = sqlc.narg('livemode')::boolean)
ORDER BY id
LIMIT @max_rows;

-- name: SubscriptionIncompleteList :many
-- Lists the subscriptions of a mode (null: any) of which only a part of the items is stored.
SELECT id, COALESCE(account_id, '')::text AS account_id FROM subscriptions
WHERE NOT items_complete AND id > @after_id::text
    AND (sqlc.narg('livemode')::boolean IS NULL OR livemode = sqlc.narg('livemode')::boolean)
ORDER BY id
LIMIT @max_rows;

-- name: SubscriptionAccountList :many
-- Lists the accounts that have subscriptions here ('': the platform's own), with one index lookup for each.
WITH RECURSIVE account AS (
    (SELECT COALESCE(account_id, '') AS id FROM subscriptions ORDER BY COALESCE(account_id, '') LIMIT 1)
    UNION ALL
    SELECT (
        SELECT COALESCE(s.account_id, '') FROM subscriptions AS s
        WHERE COALESCE(s.account_id, '') > account.id
        ORDER BY COALESCE(s.account_id, '') LIMIT 1
    )
    FROM account WHERE account.id IS NOT NULL
)

SELECT id::text AS id FROM account WHERE id IS NOT NULL;
