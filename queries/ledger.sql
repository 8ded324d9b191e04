-- name: LedgerActivity :many
-- How many of the newest events, at most so many, took effect in each span of some seconds, by outcome; and how many
-- of the newest that have ever failed, at most as many, did so for the first time, as "failed". Reads backwards along
-- the indexes on their times.
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
-- Of the newest events, at most so many: how many they are, from when on, and in seconds the median and the 95th
-- percentile of the time from Stripe's creation to their effect.
SELECT
    count(*) AS events,
    COALESCE(min(newest.processed_at), 'epoch')::timestamptz AS oldest,
    COALESCE(percentile_cont(0.5) WITHIN GROUP (ORDER BY newest.lag), 0)::float8 AS median,
    COALESCE(percentile_cont(0.95) WITHIN GROUP (ORDER BY newest.lag), 0)::float8 AS high
FROM (
    SELECT e.processed_at, extract(EPOCH FROM e.processed_at - e.event_created_at)::float8 AS lag
    FROM stripe_webhook_events AS e
    WHERE e.processed_at > @since ORDER BY e.processed_at DESC LIMIT @max_rows
) AS newest;

-- name: LedgerFailing :one
-- How many events fail, counted up to a number, of the newest that have ever failed, at most so many: those that
-- were applied since stay until they are pruned, and are passed over one by one.
SELECT count(*) FROM (
    SELECT FROM (
        SELECT f.event_id FROM stripe_webhook_failures AS f ORDER BY f.first_failed_at DESC, f.event_id DESC LIMIT @max_looked_at
    ) AS newest
    WHERE COALESCE((SELECT e.outcome FROM stripe_webhook_events AS e WHERE e.event_id = newest.event_id), 'ignored') = 'ignored'
    LIMIT @max_rows
) AS failing;

-- name: LedgerNewest :one
SELECT event_id, event_type, processed_at FROM stripe_webhook_events ORDER BY processed_at DESC LIMIT 1;
