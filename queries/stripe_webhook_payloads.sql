-- name: StripeWebhookPayloadInsert :exec
-- Keeps the payload of an event that is recorded in the same transaction. An event that was ignored or parked has one already.
INSERT INTO stripe_webhook_payloads (event_id, payload) VALUES (@event_id, @payload) ON CONFLICT (event_id) DO NOTHING;

-- name: StripeWebhookPayloadInsertAll :exec
-- StripeWebhookPayloadInsert for several events.
INSERT INTO stripe_webhook_payloads (event_id, payload)
SELECT unnest(@event_ids::text []), unnest(@payloads::text [])::jsonb
ON CONFLICT (event_id) DO NOTHING;

-- name: StripeWebhookPayloadGet :one
SELECT payload FROM stripe_webhook_payloads WHERE event_id = @event_id;

-- name: StripeWebhookPayloadPrune :execrows
-- Deletes payloads that were stored before a time, the oldest first, at most so many. The array keeps PostgreSQL from reading the
-- whole table for a join.
DELETE FROM stripe_webhook_payloads AS p WHERE p.event_id = ANY(ARRAY(
    SELECT old.event_id FROM stripe_webhook_payloads AS old WHERE old.stored_at < @before ORDER BY old.stored_at LIMIT @max_rows
));
