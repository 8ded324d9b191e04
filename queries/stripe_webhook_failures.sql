-- name: StripeWebhookFailureUpsert :one
-- Records that an event failed, for the first time or again, and returns how often it has. The history keeps the last 20 attempts. A
-- parked event stays parked when its replay fails, and a dismissed one stays dismissed unless its replay parks it. The record of
-- another account's event, which has the same id, is left alone. A time at which the retrier tries the event is set with the first
-- failure, in seconds from now, and then by the retrier alone. Once the event is parked or dismissed, its next failure sets none.
-- Of a customer whose data was erased, given by the hashes of ErasureLookup, neither payload nor error is kept.
WITH recorded AS (
    SELECT
        erased.customer,
        (CASE WHEN erased.customer THEN @erased_text::text ELSE @last_error::text END) AS last_error
    FROM (SELECT EXISTS (
        SELECT FROM stripe_erasures AS e
        WHERE e.id_hash = ANY(ARRAY(SELECT decode(unnest(@id_hashes::text []), 'hex')))
            AND e.livemode = @livemode AND e.account_id = ANY(@erasure_accounts::text [])
    ) AS customer) AS erased
)

INSERT INTO stripe_webhook_failures (
    account_id, event_id, event_type, last_error, payload, history, state, receiver, next_retry_at, trace_id
)
VALUES (
    @account_id,
    @event_id, @event_type, (SELECT recorded.last_error FROM recorded),
    CASE WHEN NOT (SELECT recorded.customer FROM recorded) THEN sqlc.narg('payload')::jsonb END,
    (
        SELECT jsonb_build_array(jsonb_strip_nulls(jsonb_build_object(
            'at', now(), 'error', left(recorded.last_error, 200),
            'trace_id', sqlc.narg('trace_id')::text, 'span_id', sqlc.narg('span_id')::text
        )))
        FROM recorded
    ),
    @state, @receiver, now() + make_interval(secs => @retry_after_seconds::float8), sqlc.narg('trace_id')::text
)
ON CONFLICT (event_id) DO UPDATE SET
    state = CASE WHEN excluded.state = 'parked' THEN excluded.state ELSE stripe_webhook_failures.state END,
    attempts = stripe_webhook_failures.attempts + 1,
    last_failed_at = excluded.last_failed_at,
    last_error = excluded.last_error,
    payload = COALESCE(excluded.payload, stripe_webhook_failures.payload),
    receiver = excluded.receiver,
    trace_id = excluded.trace_id,
    reason = CASE WHEN excluded.state = 'parked' THEN NULL ELSE stripe_webhook_failures.reason END,
    next_retry_at = CASE
        WHEN stripe_webhook_failures.state = 'failing' THEN COALESCE(stripe_webhook_failures.next_retry_at, excluded.next_retry_at)
    END,
    history = jsonb_path_query_array(stripe_webhook_failures.history || excluded.history, '$[last - 19 to last]')
WHERE COALESCE(stripe_webhook_failures.account_id, excluded.account_id, '') = COALESCE(excluded.account_id, stripe_webhook_failures.account_id, '')
RETURNING attempts;

-- name: StripeWebhookFailureSettle :exec
-- Settles the record of a thin event that failed before its snapshot event was known, and took effect under that one's id.
UPDATE stripe_webhook_failures SET state = 'dismissed', reason = 'it took effect as ' || @recorded_as::text
WHERE event_id = @event_id AND state = 'failing';

-- name: StripeWebhookFailurePruneSettled :execrows
-- Deletes one batch of old dismissed records of which the ledger has no row: those that StripeWebhookFailureSettle has settled. Others
-- are deleted with their rows. Reads the index on first_failed_at.
DELETE FROM stripe_webhook_failures AS f WHERE f.event_id = ANY(ARRAY(
    SELECT old.event_id FROM stripe_webhook_failures AS old
    WHERE old.first_failed_at < @before AND old.last_failed_at < @before AND old.state = 'dismissed'
        AND NOT EXISTS (SELECT FROM stripe_webhook_events AS e WHERE e.event_id = old.event_id)
    ORDER BY old.first_failed_at, old.event_id
    LIMIT @max_rows
));

-- name: StripeWebhookFailureGet :one
SELECT * FROM stripe_webhook_failures WHERE event_id = @event_id;

-- name: StripeWebhookFailureLock :one
-- StripeWebhookFailureGet, and keeps the record from changing until the transaction ends.
SELECT * FROM stripe_webhook_failures WHERE event_id = @event_id FOR UPDATE;

-- name: StripeWebhookFailureDismiss :exec
-- Records that a person decided that the event need not be applied, and why.
UPDATE stripe_webhook_failures SET state = 'dismissed', reason = @reason::text, next_retry_at = NULL WHERE event_id = @event_id;

-- name: StripeWebhookFailureList :many
-- Lists the events that failed and have not been applied since, including parked events, the newest first failure first.
-- state selects one state; empty selects every state but dismissed. It looks at the next max_looked_at events that ever
-- failed (null: at all). The record of an event that has been applied since stays until it is pruned, so the query skips
-- those one by one. It uses a subquery, since PostgreSQL would read the whole ledger for a join that it expects to return
-- few rows.
SELECT
    f.event_id, f.event_type, f.attempts, f.first_failed_at, f.last_failed_at, f.last_error, f.payload, f.history, f.state, f.reason,
    f.account_id, f.receiver, f.next_retry_at, f.retries, f.retried_build, f.trace_id
FROM (
    SELECT * FROM stripe_webhook_failures AS one
    WHERE (one.first_failed_at, one.event_id) < (COALESCE(sqlc.narg('before')::timestamptz, 'infinity'), @before_event_id::text)
        AND one.first_failed_at >= @since
    ORDER BY one.first_failed_at DESC, one.event_id DESC
    LIMIT sqlc.narg('max_looked_at')::bigint
) AS f
WHERE COALESCE((SELECT e.outcome FROM stripe_webhook_events AS e WHERE e.event_id = f.event_id AND COALESCE(e.account_id = f.account_id, TRUE)), 'ignored') IN ('ignored', 'parked')
    AND (f.state = @state::text OR @state::text = '' AND f.state <> 'dismissed')
    AND (@account_id::text = '' OR f.account_id = @account_id::text)
    AND (@event_type::text = '' OR f.event_type = @event_type::text)
    AND starts_with(f.event_type, @type_prefix::text)
ORDER BY f.first_failed_at DESC, f.event_id DESC
LIMIT @max_rows;

-- name: StripeWebhookFailureWalk :many
-- The next max_rows events that ever failed, the newest first failure first. listed: StripeWebhookFailureList has the event;
-- only then it comes with its error.
SELECT
    walked.event_id, walked.event_type, walked.state, walked.first_failed_at, walked.last_failed_at, walked.listed::boolean AS listed,
    (CASE WHEN walked.listed THEN walked.last_error ELSE '' END)::text AS last_error, walked.receiver
FROM (
    SELECT
        f.event_id, f.event_type, f.state, f.first_failed_at, f.last_failed_at, f.last_error, f.receiver,
        (f.state = @state::text OR @state::text = '' AND f.state <> 'dismissed')
        AND (@account_id::text = '' OR COALESCE(f.account_id, '') = @account_id::text)
        AND (@event_type::text = '' OR f.event_type = @event_type::text)
        AND starts_with(f.event_type, @type_prefix::text)
        AND COALESCE((SELECT e.outcome FROM stripe_webhook_events AS e WHERE e.event_id = f.event_id AND COALESCE(e.account_id = f.account_id, TRUE)), 'ignored') IN ('ignored', 'parked') AS listed
    FROM stripe_webhook_failures AS f
    WHERE (f.first_failed_at, f.event_id) < (COALESCE(sqlc.narg('before')::timestamptz, 'infinity'), @before_event_id::text)
        AND f.first_failed_at >= @since
    ORDER BY f.first_failed_at DESC, f.event_id DESC
    LIMIT @max_rows
) AS walked
ORDER BY walked.first_failed_at DESC, walked.event_id DESC;

-- name: StripeWebhookFailureListByCustomer :many
-- What StripeWebhookFailureWalk has of the events of a customer that StripeWebhookFailureList lists: those whose payload names
-- the customer, or one of object_ids as its object. Both are looked up in an index. OFFSET 0 keeps PostgreSQL from reading all
-- failures by time in the hope of finding them.
SELECT f.event_id, f.event_type, f.state, f.first_failed_at, f.last_failed_at, f.last_error, f.receiver
FROM (
    SELECT about.event_id
    FROM (SELECT unnest((SELECT @object_ids::text [])) AS id) AS wanted
    CROSS JOIN LATERAL (
        SELECT one.event_id FROM stripe_webhook_failures AS one
        WHERE left(COALESCE(one.payload #>> '{data,object,id}', one.payload #>> '{related_object,id}'), 255) = wanted.id
        OFFSET 0
    ) AS about
    UNION
    SELECT one.event_id FROM stripe_webhook_failures AS one
    WHERE left(COALESCE(one.payload #>> '{data,object,customer,id}', one.payload #>> '{data,object,customer}'), 255) = @customer_id::text
) AS found
CROSS JOIN LATERAL (
    SELECT one.* FROM stripe_webhook_failures AS one
    WHERE one.event_id = found.event_id
        AND COALESCE((SELECT e.outcome FROM stripe_webhook_events AS e WHERE e.event_id = one.event_id AND COALESCE(e.account_id = one.account_id, TRUE)), 'ignored') IN ('ignored', 'parked')
        AND (one.first_failed_at, one.event_id) < (COALESCE(sqlc.narg('before')::timestamptz, 'infinity'), @before_event_id::text)
        AND one.first_failed_at >= @since
        AND (one.state = @state::text OR @state::text = '' AND one.state <> 'dismissed')
        AND (@account_id::text = '' OR one.account_id = @account_id::text)
        AND (@event_type::text = '' OR one.event_type = @event_type::text)
        AND starts_with(one.event_type, @type_prefix::text)
    LIMIT 1
) AS f
ORDER BY f.first_failed_at DESC, f.event_id DESC
LIMIT @max_rows;

-- name: StripeWebhookFailureListByID :many
-- The records of several events, the newest first failure first.
SELECT f.*
FROM (SELECT unnest((SELECT @event_ids::text [])) AS id) AS wanted
CROSS JOIN LATERAL (SELECT one.* FROM stripe_webhook_failures AS one WHERE one.event_id = wanted.id LIMIT 1) AS f
ORDER BY f.first_failed_at DESC, f.event_id DESC;

-- name: StripeWebhookFailureListByObject :many
-- Lists the failing events about one object, without parked and dismissed ones, at most 20. A failure without a payload is left
-- out.
SELECT f.event_id, f.event_type, f.last_error
FROM stripe_webhook_failures AS f
WHERE left(COALESCE(f.payload #>> '{data,object,id}', f.payload #>> '{related_object,id}'), 255) = @object_id::text
    AND f.state <> 'dismissed'
    AND COALESCE((SELECT e.outcome FROM stripe_webhook_events AS e WHERE e.event_id = f.event_id AND COALESCE(e.account_id = f.account_id, TRUE)), 'ignored') = 'ignored'
ORDER BY f.first_failed_at DESC, f.event_id DESC
LIMIT 20;

-- name: StripeWebhookFailureListOldest :many
-- Lists the failing events, without parked and dismissed ones, that first failed before a time, the oldest first failure first.
SELECT f.event_id, f.event_type, f.state, f.first_failed_at, f.last_failed_at, f.last_error, f.receiver
FROM stripe_webhook_failures AS f
WHERE (f.first_failed_at, f.event_id) > (@after, @after_event_id::text)
    AND f.first_failed_at <= @until
    AND f.state <> 'dismissed'
    AND COALESCE((SELECT e.outcome FROM stripe_webhook_events AS e WHERE e.event_id = f.event_id AND COALESCE(e.account_id = f.account_id, TRUE)), 'ignored') = 'ignored'
    AND (@account_id::text = '' OR f.account_id = @account_id::text)
    AND (@event_type::text = '' OR f.event_type = @event_type::text)
    AND starts_with(f.event_type, @type_prefix::text)
ORDER BY f.first_failed_at, f.event_id
LIMIT @max_rows;

-- name: StripeWebhookFailureRetryOnce :execrows
-- Notes for the failing events of a receiver which build they were scheduled for last, since a new build tries each of them soon: within a
-- time, in seconds, at random. Those that first failed since the process started, which is so many seconds ago, keep their times: they
-- failed in this build, or in one that a rolling deploy replaces, and their first retry is due in minutes. settling: another build's
-- events are taken, too; otherwise only the events that no build has.
UPDATE stripe_webhook_failures
SET
    next_retry_at = CASE WHEN @settling::boolean AND first_failed_at < now() - make_interval(secs => @age_seconds::float8)
        THEN LEAST(next_retry_at, now() + random() * (@within_seconds::float8) * INTERVAL '1 second')
        ELSE next_retry_at END,
    retried_build = @build::text
WHERE receiver = @receiver AND state = 'failing' AND next_retry_at IS NOT NULL
    AND (retried_build IS NULL OR @settling::boolean AND retried_build <> @build::text);

-- name: StripeWebhookFailureSettleDue :exec
-- Leaves out of retries what has been applied since it failed.
UPDATE stripe_webhook_failures AS f SET next_retry_at = NULL
WHERE f.receiver = @receiver AND f.state = 'failing' AND f.next_retry_at <= now()
    AND COALESCE((SELECT e.outcome FROM stripe_webhook_events AS e WHERE e.event_id = f.event_id AND COALESCE(e.account_id = f.account_id, TRUE)), 'ignored') <> 'ignored';

-- name: StripeWebhookFailureClaim :one
-- Takes the failing event that has been due longest, and moves its next retry first: twice as far as the one before, in seconds, up to
-- a limit, and by up to a fifth more or less. If the retry ends the process, the event is not retried before that.
UPDATE stripe_webhook_failures AS f
SET
    next_retry_at = now()
        + LEAST((@first_seconds::float8) * power(2, LEAST(f.retries, 30) + 1), @most_seconds::float8)
        * (0.8 + 0.4 * random()) * INTERVAL '1 second',
    retries = f.retries + 1,
    retried_build = @build::text
WHERE f.event_id = (
    SELECT due.event_id FROM stripe_webhook_failures AS due
    WHERE due.receiver = @receiver AND due.state = 'failing' AND due.next_retry_at <= now()
    ORDER BY due.next_retry_at
    LIMIT 1
    FOR UPDATE SKIP LOCKED
)
RETURNING f.event_id, f.event_type, f.retries, f.next_retry_at;

-- name: StripeWebhookFailureRetried :exec
-- Ends the retries of an event that has been applied.
UPDATE stripe_webhook_failures SET next_retry_at = NULL WHERE event_id = @event_id;

-- name: StripeWebhookFailurePostpone :exec
-- Undoes a claim whose retry did not take place: it does not count, and is due after a time, in seconds.
UPDATE stripe_webhook_failures
SET next_retry_at = now() + (@after_seconds::float8) * INTERVAL '1 second', retries = GREATEST(retries - 1, 0)
WHERE event_id = @event_id;
