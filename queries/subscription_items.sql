-- name: SubscriptionItemUpsert :exec
INSERT INTO subscription_items (
    subscription_id, id, position, price_id, product_id, quantity,
    current_period_start, current_period_end, metadata
) VALUES (
    @subscription_id, @id, @position, @price_id, @product_id, @quantity,
    @current_period_start, @current_period_end, @metadata
)
ON CONFLICT (subscription_id, id) DO UPDATE SET
    position = excluded.position,
    price_id = excluded.price_id,
    product_id = excluded.product_id,
    quantity = excluded.quantity,
    current_period_start = excluded.current_period_start,
    current_period_end = excluded.current_period_end,
    metadata = excluded.metadata;

-- name: SubscriptionItemDeleteOthers :exec
-- Deletes the items of a subscription whose ids are not given.
DELETE FROM subscription_items WHERE subscription_id = @subscription_id AND id <> ALL(@ids::text []);
