-- name: StripeWebhookFailureUpsert :one
-- Records that an event failed, for the first time or again, and returns how often it has. The history keeps the last 20 attempts. A parked event stays
-- parked when its replay fails. The record of another account's event, which has the same id, is left alone. A time at which the
-- retrier tries the event is set with the first failure, in seconds from now, and then by the retrier alone.
INSERT INTO stripe_webhook_failures (account_id, event_id, event_type, last_error, payload, history, state, receiver, next_retry_at)
VALUES (
    @account_id,
    @event_id, @event_type, @last_error::text, @payload,
    jsonb_build_array(jsonb_build_object('at', now(), 'error', left(@last_error::text, 200))), @state, @receiver,
    now() + make_interval(secs => @retry_after_seconds::float8)
)
ON CONFLICT (event_id) DO UPDATE SET
    state = CASE WHEN excluded.state = 'parked' THEN excluded.state ELSE stripe_webhook_failures.state END,
    attempts = stripe_webhook_failures.attempts + 1,
    last_failed_at = excluded.last_failed_at,
    last_error = excluded.last_error,
    payload = COALESCE(excluded.payload, stripe_webhook_failures.payload),
    receiver = excluded.receiver,
    next_retry_at = COALESCE(stripe_webhook_failures.next_retry_at, excluded.next_retry_at),
    history = jsonb_path_query_array(stripe_webhook_failures.history || excluded.history, '$[last - 19 to last]')
WHERE COALESCE(stripe_webhook_failures.account_id, excluded.account_id, '') = COALESCE(excluded.account_id, stripe_webhook_failures.account_id, '')
RETURNING attempts;

-- name: StripeWebhookFailureSettle :exec
-- Settles the record of a thin event that failed before its snapshot event was known, and took effect under that one's id.
UPDATE stripe_webhook_failures SET state = 'dismissed', reason = 'it took effect as ' || @recorded_as::text
WHERE event_id = @event_id AND state = 'failing';

-- name: StripeWebhookFailureGet :one
SELECT * FROM stripe_webhook_failures WHERE event_id = @event_id;

-- name: StripeWebhookFailureList :many
-- Lists the events that failed and have not been applied since, including parked events, the newest first failure first.
-- state selects one state; empty selects every state but dismissed. It looks at the next max_looked_at events that ever
-- failed (null: at all). The record of an event that has been applied since stays until it is pruned, so the query skips
-- those one by one. It uses a subquery, since PostgreSQL would read the whole ledger for a join that it expects to return
-- few rows.
SELECT
    f.event_id, f.event_type, f.attempts, f.first_failed_at, f.last_failed_at, f.last_error, f.payload, f.history, f.state, f.reason,
    f.account_id, f.receiver, f.next_retry_at, f.retries, f.retried_build
FROM (
    SELECT * FROM stripe_webhook_failures AS one
    WHERE (one.first_failed_at, one.event_id) < (COALESCE(sqlc.narg('before')::timestamptz, 'infinity'), @before_event_id::text)
    ORDER BY one.first_failed_at DESC, one.event_id DESC
    LIMIT sqlc.narg('max_looked_at')::bigint
) AS f
WHERE COALESCE((SELECT e.outcome FROM stripe_webhook_events AS e WHERE e.event_id = f.event_id AND COALESCE(e.account_id = f.account_id, TRUE)), 'ignored') IN ('ignored', 'parked')
    AND (f.state = @state::text OR @state::text = '' AND f.state <> 'dismissed')
    AND (@account_id::text = '' OR f.account_id = @account_id::text)
ORDER BY f.first_failed_at DESC, f.event_id DESC
LIMIT @max_rows;

-- name: StripeWebhookFailureListByObject :many
-- Lists the failing events about one object, without parked ones, at most 20, among the newest 1,000 failures. A failure
-- without a payload is left out.
SELECT f.event_id, f.event_type, f.last_error
FROM (SELECT * FROM stripe_webhook_failures ORDER BY first_failed_at DESC, event_id DESC LIMIT 1000) AS f
WHERE COALESCE(f.payload #>> '{data,object,id}', f.payload #>> '{related_object,id}') = @object_id::text
    AND COALESCE((SELECT e.outcome FROM stripe_webhook_events AS e WHERE e.event_id = f.event_id AND COALESCE(e.account_id = f.account_id, TRUE)), 'ignored') = 'ignored'
ORDER BY f.first_failed_at DESC, f.event_id DESC
LIMIT 20;

-- name: StripeWebhookFailureListOldest :many
-- Lists the ids of the failing events, without parked ones, the oldest first failure first.
SELECT f.event_id, f.first_failed_at
FROM stripe_webhook_failures AS f
WHERE (f.first_failed_at, f.event_id) > (@after, @after_event_id::text)
    AND COALESCE((SELECT e.outcome FROM stripe_webhook_events AS e WHERE e.event_id = f.event_id AND COALESCE(e.account_id = f.account_id, TRUE)), 'ignored') = 'ignored'
    AND (@account_id::text = '' OR f.account_id = @account_id::text)
ORDER BY f.first_failed_at, f.event_id
LIMIT @max_rows;
