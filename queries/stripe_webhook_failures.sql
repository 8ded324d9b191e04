-- name: StripeWebhookFailureUpsert :exec
-- Notes that an event failed, for the first time or again.
INSERT INTO stripe_webhook_failures (event_id, event_type, last_error, payload)
VALUES (@event_id, @event_type, @last_error, @payload)
ON CONFLICT (event_id) DO UPDATE SET
    attempts = stripe_webhook_failures.attempts + 1,
    last_failed_at = excluded.last_failed_at,
    last_error = excluded.last_error,
    payload = COALESCE(excluded.payload, stripe_webhook_failures.payload);
