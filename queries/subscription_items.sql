-- name: SubscriptionItemReplace :exec
-- Makes the items of a subscription those of a JSON array, whose objects have the columns' names.
WITH item AS (
    SELECT
        (given.value ->> 'id')::VARCHAR AS id,
        (given.value ->> 'position')::INTEGER AS position,
        (given.value ->> 'price_id')::VARCHAR AS price_id,
        (given.value ->> 'product_id')::VARCHAR AS product_id,
        (given.value ->> 'quantity')::BIGINT AS quantity,
        (given.value ->> 'current_period_start')::TIMESTAMPTZ AS current_period_start,
        (given.value ->> 'current_period_end')::TIMESTAMPTZ AS current_period_end,
        given.value -> 'metadata' AS metadata
    FROM jsonb_array_elements(@items::jsonb) AS given (value)
),

removed AS (
    DELETE FROM subscription_items AS old
    WHERE old.subscription_id = @subscription_id
        AND NOT EXISTS (SELECT FROM item WHERE item.id = old.id)
)

INSERT INTO subscription_items (
    subscription_id, id, position, price_id, product_id, quantity,
    current_period_start, current_period_end, metadata
)
SELECT
    @subscription_id, item.id, item.position, item.price_id, item.product_id, item.quantity,
    item.current_period_start, item.current_period_end, item.metadata
FROM item
ON CONFLICT (subscription_id, id) DO UPDATE SET
    position = excluded.position,
    price_id = excluded.price_id,
    product_id = excluded.product_id,
    quantity = excluded.quantity,
    current_period_start = excluded.current_period_start,
    current_period_end = excluded.current_period_end,
    metadata = excluded.metadata;
