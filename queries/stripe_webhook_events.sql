-- name: StripeWebhookEventOutcome :one
-- The outcome of an event; no row if it was never recorded. Takes no transaction id.
SELECT outcome, event_type, account_id FROM stripe_webhook_events WHERE event_id = @event_id;

-- name: StripeWebhookEventOutcomes :many
-- The outcomes of several events. Takes no transaction id. LATERAL makes PostgreSQL look each event up in the index, even if
-- the table had few rows when the query was planned. The subquery hides the number of ids from the planner, so that one
-- plan serves every number.
SELECT asked.id::text AS event_id, event.outcome, event.event_type, event.account_id
FROM unnest((SELECT @event_ids::text [])) AS asked (id)
CROSS JOIN LATERAL (SELECT e.outcome, e.event_type, e.account_id FROM stripe_webhook_events AS e WHERE e.event_id = asked.id LIMIT 1) AS event;

-- name: StripeWebhookEventStates :many
-- For a list of Stripe's: the outcomes of several events (empty: the ledger lacks it), and the states of their failures (empty:
-- it never failed). waiting: it is left to the retry that is due later. Like StripeWebhookEventOutcomes it looks each event up.
SELECT
    asked.id::text AS event_id, COALESCE(event.outcome, '')::text AS outcome, COALESCE(failure.state, '')::text AS state,
    COALESCE(failure.waiting, FALSE)::boolean AS waiting
FROM unnest((SELECT @event_ids::text [])) AS asked (id)
LEFT JOIN LATERAL (SELECT e.outcome FROM stripe_webhook_events AS e WHERE e.event_id = asked.id LIMIT 1) AS event ON TRUE
LEFT JOIN LATERAL (
    SELECT f.state, f.state = 'failing' AND f.next_retry_at > now() AS waiting
    FROM stripe_webhook_failures AS f WHERE f.event_id = asked.id LIMIT 1
) AS failure ON TRUE
WHERE event.outcome IS NOT NULL OR failure.state IS NOT NULL;

-- name: StripeWebhookEventInsert :exec
-- Records an event. If a concurrent duplicate was recorded first, it violates stripe_webhook_events_event_id_key, or the index of
-- a partition.
INSERT INTO stripe_webhook_events (
    event_id, event_type, outcome, event_created_at, livemode, account_id, api_version, object_id, receiver
) VALUES (
    @event_id, @event_type, @outcome, @event_created_at, @livemode, @account_id, @api_version, @object_id, @receiver
);

-- name: StripeWebhookEventIndex :one
-- Whether an index of a schema keeps event ids unique in the ledger or in one of its partitions, whatever either is called. No row: there
-- is no such index.
SELECT (
    index.indisunique AND index.indpred IS NULL AND index.indnkeyatts = 1
    AND EXISTS (
        SELECT FROM pg_catalog.pg_attribute AS attribute
        WHERE attribute.attrelid = index.indrelid AND attribute.attnum = index.indkey[0] AND attribute.attname = 'event_id'
    )
    AND (
        index.indrelid = to_regclass('stripe_webhook_events')
        OR to_regclass('stripe_webhook_events') IN (SELECT ancestor.relid FROM pg_partition_ancestors(index.indrelid) AS ancestor (relid))
    )
)::boolean AS of_ledger
FROM pg_catalog.pg_index AS index
JOIN pg_catalog.pg_class AS class ON class.oid = index.indexrelid
WHERE class.relname = @index_name::text AND class.relnamespace::regnamespace::text = quote_ident(@schema_name::text);

-- name: StripeWebhookEventInsertParked :execrows
-- Records an event as parked. No row: the ledger has it.
INSERT INTO stripe_webhook_events (
    event_id, event_type, outcome, event_created_at, livemode, account_id, api_version, object_id, receiver
) VALUES (
    @event_id, @event_type, 'parked', @event_created_at, @livemode, @account_id, @api_version, @object_id, @receiver
)
ON CONFLICT DO NOTHING;

-- name: StripeWebhookEventInsertAll :exec
-- StripeWebhookEventInsert for several events. '' and the year 1 mean null.
INSERT INTO stripe_webhook_events (
    event_id, event_type, outcome, event_created_at, livemode, account_id, api_version, object_id, receiver
)
SELECT
    event.event_id, event.event_type, event.outcome, NULLIF(event.created_at, '0001-01-01 00:00:00+00'), event.livemode,
    NULLIF(event.account_id, ''), NULLIF(event.api_version, ''), NULLIF(event.object_id, ''), @receiver
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
-- Records the outcome of an event that was ignored on its first delivery, or that was parked and is replayed. No row: a
-- concurrent duplicate was recorded first.
UPDATE stripe_webhook_events
SET outcome = @outcome, event_type = @event_type, receiver = @receiver, processed_at = clock_timestamp()
WHERE event_id = @event_id AND (outcome = 'ignored' OR outcome = 'parked' AND @replays_parked::boolean);

-- name: StripeWebhookEventReprocess :execrows
-- Notes that the handlers of an event that had taken effect ran once more. No row: it has been reprocessed since its count was
-- read, or has not taken effect.
UPDATE stripe_webhook_events
SET reprocessed_at = clock_timestamp(), reprocess_count = reprocess_count + 1, reprocess_reason = @reason::text
WHERE event_id = @event_id AND reprocess_count = @reprocess_count AND outcome IN ('processed', 'stale');

-- name: StripeWebhookEventDeleteIgnored :exec
-- Removes the provisional row of a thin event that took effect under its snapshot's id.
DELETE FROM stripe_webhook_events WHERE event_id = @event_id AND outcome = 'ignored';

-- name: StripeWebhookEventGet :one
SELECT * FROM stripe_webhook_events WHERE event_id = @event_id;

-- name: StripeWebhookEventList :many
-- Lists the ledger before a time, newest first. Empty filters match everything. Scans the index on processed_at backward.
SELECT * FROM stripe_webhook_events
WHERE (processed_at, event_id) < (COALESCE(sqlc.narg('before')::timestamptz, 'infinity'), @before_event_id::text)
    AND processed_at >= @since
    AND (@event_type::text = '' OR event_type = @event_type::text)
    AND starts_with(event_type, @type_prefix::text)
    AND (@outcome::text = '' OR outcome = @outcome::text)
    AND (@account_id::text = '' OR account_id = @account_id::text)
    AND (NOT @no_account::boolean OR account_id IS NULL)
    AND (sqlc.narg('livemode')::boolean IS NULL OR livemode = sqlc.narg('livemode')::boolean)
ORDER BY processed_at DESC, event_id DESC
LIMIT @max_rows;

-- name: StripeWebhookEventListByObjects :many
-- The events of several objects, newest first, with the filters of StripeWebhookEventList.
-- OFFSET 0 makes PostgreSQL look each object up in its index, rather than read the ledger by time in the hope of finding them.
SELECT event.*
FROM (SELECT unnest((SELECT @object_ids::text [])) AS id) AS wanted
CROSS JOIN LATERAL (
    SELECT e.* FROM stripe_webhook_events AS e
    WHERE e.object_id = wanted.id
        AND (e.processed_at, e.event_id) < (COALESCE(sqlc.narg('before')::timestamptz, 'infinity'), @before_event_id::text)
        AND e.processed_at >= @since
        AND (@event_type::text = '' OR e.event_type = @event_type::text)
        AND starts_with(e.event_type, @type_prefix::text)
        AND (@outcome::text = '' OR e.outcome = @outcome::text)
        AND (@account_id::text = '' OR e.account_id = @account_id::text)
        AND (NOT @no_account::boolean OR e.account_id IS NULL)
        AND (sqlc.narg('livemode')::boolean IS NULL OR e.livemode = sqlc.narg('livemode')::boolean)
    OFFSET 0
) AS event
ORDER BY event.processed_at DESC, event.event_id DESC
LIMIT @max_rows;

-- name: StripeWebhookEventListIgnored :many
-- The ignored events that were seen in a time, the oldest first.
SELECT event_id, event_type, processed_at FROM stripe_webhook_events
WHERE (processed_at, event_id) > (@after, @after_event_id::text)
    AND processed_at <= @until
    AND outcome = 'ignored'
    AND (@event_type::text = '' OR event_type = @event_type::text)
    AND starts_with(event_type, @type_prefix::text)
    AND (@account_id::text = '' OR account_id = @account_id::text)
ORDER BY processed_at, event_id
LIMIT @max_rows;

-- name: StripeWebhookEventNewest :one
-- The time of the newest ledger row; 1970 if the ledger is empty.
SELECT COALESCE(
    (SELECT processed_at FROM stripe_webhook_events ORDER BY processed_at DESC LIMIT 1), 'epoch'
)::timestamptz AS processed_at;

-- name: StripeWebhookEventPrune :one
-- Deletes one batch of old rows, the oldest first, and the failures that they resolved. An ignored or parked row with a
-- failure stays, since it resolved nothing, unless the failure is dismissed. Rows that a delivery has locked are skipped.
-- The query uses a subquery and arrays, since PostgreSQL 17 and 18 would read the whole tables for joins. The join with an array, of
-- which PostgreSQL expects few elements, looks each event up in its own partition, where = ANY would look in all of them.
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
    DELETE FROM stripe_webhook_events AS e
    USING (SELECT unnest(ARRAY(SELECT resolved.event_id FROM resolved)) AS event_id) AS gone
    WHERE e.event_id = gone.event_id
    RETURNING e.event_id
)

SELECT
    (SELECT count(*) FROM events) AS events,
    (SELECT count(*) FROM failures) AS failures,
    (SELECT count(*) FROM batch) AS seen,
    COALESCE((SELECT batch.processed_at FROM batch ORDER BY batch.processed_at DESC, batch.event_id DESC LIMIT 1), @after)::timestamptz AS last,
    COALESCE((SELECT batch.event_id FROM batch ORDER BY batch.processed_at DESC, batch.event_id DESC LIMIT 1), '')::text AS last_event_id;

-- name: ObjectLock :exec
-- Serializes the transactions about one Stripe object until the transaction ends, even before the object has a row. Takes
-- no transaction id. A hash collision can cost a wait, but never changes a result.
SELECT pg_advisory_xact_lock(hashtextextended(@object_id::text, @lock_seed::bigint));

-- name: ObjectLockTry :one
-- Takes the lock of ObjectLock if it is free, without waiting. First it caps each wait for a lock in the transaction, in
-- milliseconds. It reads no table, so the later statements of the round trip see what the last holder of the lock
-- committed.
SELECT
    set_config('lock_timeout', @lock_timeout::text, TRUE)::text AS lock_timeout,
    pg_try_advisory_xact_lock(hashtextextended(@object_id::text, @lock_seed::bigint)) AS locked;

-- name: ObjectLockTryBoth :one
-- ObjectLockTry for a customer and an object ('': none), without the cap: whether it acquired both. Without the customer's
-- lock it leaves the object's: all transactions acquire them in this order, so that they cannot deadlock.
SELECT (CASE WHEN pg_try_advisory_xact_lock(hashtextextended(@customer_id::text, @lock_seed::bigint))
    THEN COALESCE(pg_try_advisory_xact_lock(hashtextextended(NULLIF(@object_id::text, ''), @lock_seed::bigint)), TRUE)
    ELSE FALSE END)::boolean AS locked;

-- name: ObjectLockTryAll :many
-- ObjectLockTryBoth for several objects, each with its customer ('': none). It returns the objects of which it acquired
-- both locks.
SELECT object.id::text AS id
FROM (SELECT unnest((SELECT @customer_ids::text [])) AS customer_id, unnest((SELECT @object_ids::text [])) AS id) AS object
WHERE CASE WHEN COALESCE(pg_try_advisory_xact_lock(hashtextextended(NULLIF(object.customer_id, ''), @lock_seed::bigint)), TRUE)
    THEN pg_try_advisory_xact_lock(hashtextextended(object.id, @lock_seed::bigint)) END;

-- name: StripeWebhookEventListApplied :many
-- Lists the events that took effect in a time, the oldest first, of one of these objects (null: of any). Empty filters match
-- everything. Scans the index on processed_at forward, or reads the events of the objects by theirs.
SELECT event_id, processed_at FROM stripe_webhook_events
WHERE (processed_at, event_id) > (@after, @after_event_id::text)
    AND processed_at < @until
    AND outcome IN ('processed', 'stale')
    AND (@event_type::text = '' OR event_type = @event_type::text)
    AND starts_with(event_type, @type_prefix::text)
    AND (@account_id::text = '' OR account_id = @account_id::text)
    AND (@receiver::text = '' OR receiver = @receiver::text)
    AND (sqlc.narg('object_ids')::text [] IS NULL OR object_id = ANY(sqlc.narg('object_ids')::text []))
ORDER BY processed_at, event_id
LIMIT @max_rows;

-- name: StripeWebhookEventReceivers :many
-- The names of the receivers that recorded the newest events, at most max_looked_at.
SELECT DISTINCT newest.receiver
FROM (SELECT e.receiver FROM stripe_webhook_events AS e ORDER BY e.processed_at DESC LIMIT @max_looked_at) AS newest
ORDER BY newest.receiver;
