-- name: LedgerActivity :many
-- Counts the newest events, at most max_rows, by outcome and by spans of width seconds. Events that ever failed count as
-- "failed" in the span of their first failure: the newest, at most max_rows. Scans the indexes on their times backward.
SELECT
    to_timestamp(floor(extract(EPOCH FROM newest.at) / @width::integer) * @width::integer)::timestamptz AS span,
    newest.outcome::text AS outcome,
    count(*) AS events
FROM (
    (
        SELECT e.processed_at AS at, e.outcome FROM stripe_webhook_events AS e
        WHERE e.processed_at > @since ORDER BY e.processed_at DESC LIMIT @max_rows
    )
    UNION ALL
    (
        SELECT f.first_failed_at AS at, 'failed' AS outcome FROM stripe_webhook_failures AS f
        WHERE f.first_failed_at > @since ORDER BY f.first_failed_at DESC LIMIT @max_rows
    )
) AS newest
GROUP BY 1, 2
ORDER BY 1, 2;

-- name: LedgerLag :one
-- The lag of the newest events, at most max_rows: their number, the oldest time, and the median and the 95th percentile
-- of the seconds from Stripe's creation of an event to its effect. Those are of the events that Stripe created since then, which
-- are timely; earlier ones, such as replayed ones, are counted alone. A parked event has taken no effect, so it has no lag.
SELECT
    count(*) AS events,
    COALESCE(min(newest.processed_at), 'epoch')::timestamptz AS oldest,
    count(newest.lag) FILTER (WHERE newest.timely) AS timely,
    count(newest.lag) FILTER (WHERE NOT newest.timely) AS late,
    COALESCE(percentile_cont(0.5) WITHIN GROUP (ORDER BY newest.lag) FILTER (WHERE newest.timely), 0)::float8 AS median,
    COALESCE(percentile_cont(0.95) WITHIN GROUP (ORDER BY newest.lag) FILTER (WHERE newest.timely), 0)::float8 AS high
FROM (
    SELECT
        e.processed_at, e.event_created_at >= @since::timestamptz AS timely,
        CASE WHEN e.outcome <> 'parked' THEN extract(EPOCH FROM e.processed_at - e.event_created_at)::float8 END AS lag
    FROM stripe_webhook_events AS e
    WHERE e.processed_at > @since ORDER BY e.processed_at DESC LIMIT @max_rows
) AS newest;

-- name: LedgerFailing :one
-- Counts the failing events up to max_rows, among the newest max_looked_at events that ever failed, without dismissed ones. The
-- record of an event that has been applied since stays until it is pruned, so the query skips those one by one.
SELECT count(*) FROM (
    SELECT FROM (
        SELECT f.event_id, f.account_id, f.state FROM stripe_webhook_failures AS f ORDER BY f.first_failed_at DESC, f.event_id DESC LIMIT @max_looked_at
    ) AS newest
    WHERE newest.state <> 'dismissed'
        AND COALESCE((SELECT e.outcome FROM stripe_webhook_events AS e WHERE e.event_id = newest.event_id AND COALESCE(e.account_id = newest.account_id, TRUE)), 'ignored') = 'ignored'
    LIMIT @max_rows
) AS failing;

-- name: LedgerParked :one
-- Counts the parked events up to max_rows, among the newest max_looked_at events that ever failed.
SELECT count(*) FROM (
    SELECT FROM (
        SELECT f.event_id, f.account_id, f.state FROM stripe_webhook_failures AS f ORDER BY f.first_failed_at DESC, f.event_id DESC LIMIT @max_looked_at
    ) AS newest
    WHERE newest.state = 'parked'
        AND EXISTS (
            SELECT FROM stripe_webhook_events AS e
            WHERE e.event_id = newest.event_id AND e.outcome = 'parked' AND COALESCE(e.account_id = newest.account_id, TRUE)
        )
    LIMIT @max_rows
) AS parked;

-- name: LedgerIncompleteSubscriptions :one
-- Counts the rows of which only a part of Stripe's list of items is stored, up to max_rows, by the index of those rows.
SELECT count(*) FROM (SELECT FROM subscriptions WHERE NOT items_complete LIMIT @max_rows) AS incomplete;

-- name: LedgerIncompleteObjects :one
-- Counts the rows of which only a part of Stripe's lists is stored, up to max_rows, by the index of those rows.
SELECT count(*) FROM (SELECT FROM stripe_objects WHERE NOT lists_complete LIMIT @max_rows) AS incomplete;

-- name: LedgerNewest :one
SELECT event_id, event_type, processed_at FROM stripe_webhook_events ORDER BY processed_at DESC LIMIT 1;
