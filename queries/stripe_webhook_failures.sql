-- name: StripeWebhookFailureUpsert :execrows
-- Records that an event failed, for the first time or again. Of the attempts, the last 20 are kept one by one. An event
-- that is parked stays so when its replay fails.
INSERT INTO stripe_webhook_failures (event_id, event_type, last_error, payload, history, state)
VALUES (
    @event_id, @event_type, @last_error::text, @payload,
    jsonb_build_array(jsonb_build_object('at', now(), 'error', left(@last_error::text, 200))), @state
)
ON CONFLICT (event_id) DO UPDATE SET
    state = CASE WHEN excluded.state = 'parked' THEN excluded.state ELSE stripe_webhook_failures.state END,
    attempts = stripe_webhook_failures.attempts + 1,
    last_failed_at = excluded.last_failed_at,
    last_error = excluded.last_error,
    payload = COALESCE(excluded.payload, stripe_webhook_failures.payload),
    history = jsonb_path_query_array(stripe_webhook_failures.history || excluded.history, '$[last - 19 to last]');

-- name: StripeWebhookFailureGet :one
SELECT * FROM stripe_webhook_failures WHERE event_id = @event_id;

-- name: StripeWebhookFailureList :many
-- The events that failed and have not been applied since, parked ones among them, in one state or (empty) in any but
-- dismissed, the newest failure first, of the next so many that have
-- ever failed (null: of all): those that were applied since stay until they are pruned, and are passed over one by one. A
-- subquery and no join: PostgreSQL would read the whole ledger for a join of which it expects few rows.
SELECT f.event_id, f.event_type, f.attempts, f.first_failed_at, f.last_failed_at, f.last_error, f.payload, f.history, f.state, f.reason
FROM (
    SELECT * FROM stripe_webhook_failures AS one
    WHERE (one.first_failed_at, one.event_id) < (COALESCE(sqlc.narg('before')::timestamptz, 'infinity'), @before_event_id::text)
    ORDER BY one.first_failed_at DESC, one.event_id DESC
    LIMIT sqlc.narg('max_looked_at')::bigint
) AS f
WHERE COALESCE((SELECT e.outcome FROM stripe_webhook_events AS e WHERE e.event_id = f.event_id), 'ignored') IN ('ignored', 'parked')
    AND (f.state = @state::text OR @state::text = '' AND f.state <> 'dismissed')
ORDER BY f.first_failed_at DESC, f.event_id DESC
LIMIT @max_rows;

-- name: StripeWebhookFailureListByObject :many
-- Of the newest thousand, those about an object that have not been applied since, at most twenty. Whose payload is not
-- kept is left out.
SELECT f.event_id, f.event_type, f.last_error
FROM (SELECT * FROM stripe_webhook_failures ORDER BY first_failed_at DESC, event_id DESC LIMIT 1000) AS f
WHERE COALESCE(f.payload #>> '{data,object,id}', f.payload #>> '{related_object,id}') = @object_id::text
    AND COALESCE((SELECT e.outcome FROM stripe_webhook_events AS e WHERE e.event_id = f.event_id), 'ignored') = 'ignored'
ORDER BY f.first_failed_at DESC, f.event_id DESC
LIMIT 20;

-- name: StripeWebhookFailureListOldest :many
-- The ids of those that fail and are not parked, the oldest first.
SELECT f.event_id, f.first_failed_at
FROM stripe_webhook_failures AS f
WHERE (f.first_failed_at, f.event_id) > (@after, @after_event_id::text)
    AND COALESCE((SELECT e.outcome FROM stripe_webhook_events AS e WHERE e.event_id = f.event_id), 'ignored') = 'ignored'
ORDER BY f.first_failed_at, f.event_id
LIMIT @max_rows;
