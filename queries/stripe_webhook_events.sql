-- name: StripeWebhookEventOutcome :one
-- The outcome of an event; no row if it was never recorded. Takes no transaction id.
SELECT outcome, event_type FROM stripe_webhook_events WHERE event_id = @event_id;

-- name: StripeWebhookEventOutcomes :many
-- The outcomes of several events. Takes no transaction id. It looks for each in the index, however few rows there were when
-- it was planned; and it is planned once, since how many are asked for shows only when it runs.
SELECT asked.id::text AS event_id, event.outcome, event.event_type
FROM unnest((SELECT @event_ids::text [])) AS asked (id)
CROSS JOIN LATERAL (SELECT e.outcome, e.event_type FROM stripe_webhook_events AS e WHERE e.event_id = asked.id LIMIT 1) AS event;

-- name: StripeWebhookEventInsert :exec
-- Records an event. A copy that won the race shows as a violation of stripe_webhook_events_event_id_key.
INSERT INTO stripe_webhook_events (
    event_id, event_type, outcome, event_created_at, livemode, account_id, api_version, object_id
) VALUES (
    @event_id, @event_type, @outcome, @event_created_at, @livemode, @account_id, @api_version, @object_id
);

-- name: StripeWebhookEventInsertAll :exec
-- StripeWebhookEventInsert for several events: '' and the year 1 stand for null.
INSERT INTO stripe_webhook_events (
    event_id, event_type, outcome, event_created_at, livemode, account_id, api_version, object_id
)
SELECT
    event.event_id, event.event_type, event.outcome, NULLIF(event.created_at, '0001-01-01 00:00:00+00'), event.livemode,
    NULLIF(event.account_id, ''), NULLIF(event.api_version, ''), NULLIF(event.object_id, '')
FROM (
    SELECT
        unnest(@event_ids::text []) AS event_id,
        unnest(@event_types::text []) AS event_type,
        unnest(@outcomes::text []) AS outcome,
        unnest(@event_created_ats::timestamptz []) AS created_at,
        unnest(@livemodes::boolean []) AS livemode,
        unnest(@account_ids::text []) AS account_id,
        unnest(@api_versions::text []) AS api_version,
        unnest(@object_ids::text []) AS object_id
) AS event;

-- name: StripeWebhookEventUpdateProvisional :execrows
-- Settles an event that was ignored when it came first, or that was parked and is replayed. No row: a duplicate won
-- the race.
UPDATE stripe_webhook_events
SET outcome = @outcome, event_type = @event_type, processed_at = clock_timestamp()
WHERE event_id = @event_id AND (outcome = 'ignored' OR outcome = 'parked' AND @replays_parked::boolean);

-- name: StripeWebhookEventDeleteIgnored :exec
-- Removes the provisional row of a thin event that took effect under its snapshot's id.
DELETE FROM stripe_webhook_events WHERE event_id = @event_id AND outcome = 'ignored';

-- name: StripeWebhookEventGet :one
SELECT * FROM stripe_webhook_events WHERE event_id = @event_id;

-- name: StripeWebhookEventList :many
-- The ledger, newest first, of what was processed at a time or before; empty filters fit everything. Reads
-- backwards along the index on processed_at.
SELECT * FROM stripe_webhook_events
WHERE (processed_at, event_id) < (COALESCE(sqlc.narg('before')::timestamptz, 'infinity'), @before_event_id::text)
    AND processed_at >= @since
    AND (@event_type::text = '' OR event_type = @event_type::text)
    AND starts_with(event_type, @type_prefix::text)
    AND (@outcome::text = '' OR outcome = @outcome::text)
ORDER BY processed_at DESC, event_id DESC
LIMIT @max_rows;

-- name: StripeWebhookEventListByObject :many
-- The events of one object, newest first, with the filters of StripeWebhookEventList.
SELECT * FROM stripe_webhook_events
WHERE object_id = @object_id::text
    AND (processed_at, event_id) < (COALESCE(sqlc.narg('before')::timestamptz, 'infinity'), @before_event_id::text)
    AND processed_at >= @since
    AND (@event_type::text = '' OR event_type = @event_type::text)
    AND starts_with(event_type, @type_prefix::text)
    AND (@outcome::text = '' OR outcome = @outcome::text)
ORDER BY processed_at DESC, event_id DESC
LIMIT @max_rows;

-- name: StripeWebhookEventNewest :one
-- When the ledger was last written to; 1970 if it is empty.
SELECT COALESCE(
    (SELECT processed_at FROM stripe_webhook_events ORDER BY processed_at DESC LIMIT 1), 'epoch'
)::timestamptz AS processed_at;

-- name: StripeWebhookEventPrune :one
-- Deletes one batch of old rows, the oldest first, and the failures that they resolved. A row that was ignored or
-- parked and has a failure stays, since it resolved nothing, unless the failure is dismissed. Rows that a delivery
-- holds are passed over. A subquery and arrays, no joins: PostgreSQL 17 and 18 would read the whole tables for those.
WITH batch AS (
    SELECT old.event_id, old.processed_at, old.outcome
    FROM stripe_webhook_events AS old
    WHERE old.processed_at < @before
        AND (old.processed_at, old.event_id) > (@after, @after_event_id::text)
    ORDER BY old.processed_at, old.event_id
    LIMIT @max_rows
    FOR UPDATE SKIP LOCKED
),

resolved AS (
    SELECT batch.event_id FROM batch
    WHERE batch.outcome NOT IN ('ignored', 'parked')
        OR COALESCE((SELECT f.state FROM stripe_webhook_failures AS f WHERE f.event_id = batch.event_id), 'dismissed') = 'dismissed'
),

failures AS (
    DELETE FROM stripe_webhook_failures AS f WHERE f.event_id = ANY(ARRAY(SELECT resolved.event_id FROM resolved))
    RETURNING f.event_id
),

events AS (
    DELETE FROM stripe_webhook_events AS e WHERE e.event_id = ANY(ARRAY(SELECT resolved.event_id FROM resolved))
    RETURNING e.event_id
)

SELECT
    (SELECT count(*) FROM events) AS events,
    (SELECT count(*) FROM failures) AS failures,
    (SELECT count(*) FROM batch) AS seen,
    COALESCE((SELECT batch.processed_at FROM batch ORDER BY batch.processed_at DESC, batch.event_id DESC LIMIT 1), @after)::timestamptz AS last,
    COALESCE((SELECT batch.event_id FROM batch ORDER BY batch.processed_at DESC, batch.event_id DESC LIMIT 1), '')::text AS last_event_id;

-- name: ObjectLock :exec
-- Serializes the transactions about one Stripe object, also before it has a row, until the transaction ends. Takes
-- no transaction id. A collision of hashes costs a wait, never a result.
SELECT pg_advisory_xact_lock(hashtextextended(@object_id::text, @lock_seed::bigint));

-- name: ObjectLockTry :one
-- The same lock if nobody has it: it waits for nobody. First it bounds each wait for a lock in the transaction, in
-- milliseconds. It reads no table, so what follows it in a trip sees what the lock's last holder has committed.
SELECT
    set_config('lock_timeout', @lock_timeout::text, TRUE)::text AS lock_timeout,
    pg_try_advisory_xact_lock(hashtextextended(@object_id::text, @lock_seed::bigint)) AS locked;

-- name: ObjectLockTryAll :many
-- ObjectLockTry for several objects, without the limit: those whose lock it has taken.
SELECT object.id::text AS id
FROM unnest((SELECT @object_ids::text [])) AS object (id)
WHERE pg_try_advisory_xact_lock(hashtextextended(object.id, @lock_seed::bigint));

-- name: ReconcileLockTry :one
-- Lets one process of those on this schema reconcile at a time, until the transaction ends. Not a session's
-- lock, which a pooler in transaction mode would leave behind.
SELECT pg_try_advisory_xact_lock(hashtextextended('stripeonce_reconcile ' || current_schema(), 0));
