-- name: StripeWebhookEventOutcome :one
-- What came of an event; no row if it was never recorded. Takes no transaction id.
SELECT outcome FROM stripe_webhook_events WHERE event_id = @event_id;

-- name: StripeWebhookEventOutcomes :many
-- What came of several events. Takes no transaction id.
SELECT event_id, outcome FROM stripe_webhook_events WHERE event_id = ANY(@event_ids::text []);

-- name: StripeWebhookEventInsert :exec
-- Records an event. A copy that won the race shows as a violation of stripe_webhook_events_event_id_key.
INSERT INTO stripe_webhook_events (
    event_id, event_type, outcome, event_created_at, livemode, account_id, api_version, object_id
) VALUES (
    @event_id, @event_type, @outcome, @event_created_at, @livemode, @account_id, @api_version, @object_id
);

-- name: StripeWebhookEventUpdateIgnored :execrows
-- Settles an event that was ignored when it came first. No row: a copy won the race.
UPDATE stripe_webhook_events
SET outcome = @outcome, event_type = @event_type, processed_at = clock_timestamp()
WHERE event_id = @event_id AND outcome = 'ignored';

-- name: StripeWebhookEventDeleteIgnored :exec
-- Removes the provisional row of a thin event that took effect under its snapshot's id.
DELETE FROM stripe_webhook_events WHERE event_id = @event_id AND outcome = 'ignored';
