-- name: StripeWebhookRunInsert :exec
-- Records a run, which is in progress unless it has an end. It may be repeated where the answer was lost: its id is the run's.
INSERT INTO stripe_webhook_runs (id, kind, arguments, operator, reason, host, started_at, finished_at, counts, share, position, error)
VALUES (
    @id, @kind, @arguments, sqlc.narg('operator'), sqlc.narg('reason'), sqlc.narg('host'), @started_at, sqlc.narg('finished_at'), @counts,
    sqlc.narg('share'), sqlc.narg('position'), sqlc.narg('error')
)
ON CONFLICT (id) DO UPDATE SET
    finished_at = excluded.finished_at, counts = excluded.counts, share = excluded.share, position = excluded.position,
    error = excluded.error, updated_at = clock_timestamp();

-- name: StripeWebhookRunRecovered :exec
-- Notes in the records of failures from an id on that a later run of the kind, and of the receiver if the kind has one, has completed.
UPDATE stripe_webhook_runs SET counts = counts || '{"recovered": true}', updated_at = clock_timestamp()
WHERE id >= @since_id AND kind = @kind AND counts ->> 'recovered' = 'false' AND COALESCE(arguments ->> 'receiver', '') = @receiver::text;

-- name: StripeWebhookRunProgress :execrows
-- Records how far a run is. A share that is not given stays. A run that another machine resumes is from then on that machine's.
UPDATE stripe_webhook_runs
SET
    counts = @counts, share = coalesce(sqlc.narg('share'), share), position = sqlc.narg('position'), host = sqlc.narg('host'), error = NULL,
    updated_at = clock_timestamp()
WHERE id = @id AND finished_at IS NULL;

-- name: StripeWebhookRunInterrupt :exec
-- Records why a run stopped that can be resumed.
UPDATE stripe_webhook_runs SET error = @error, updated_at = clock_timestamp()
WHERE id = @id AND finished_at IS NULL;

-- name: StripeWebhookRunFinish :exec
-- Records the end of a run.
UPDATE stripe_webhook_runs
SET counts = @counts, position = NULL, error = sqlc.narg('error'), finished_at = clock_timestamp(), updated_at = clock_timestamp()
WHERE id = @id;

-- name: StripeWebhookRunAbandon :exec
-- Ends the unfinished runs of a kind with these arguments, which are not to be resumed.
UPDATE stripe_webhook_runs SET error = @error, finished_at = clock_timestamp(), updated_at = clock_timestamp()
WHERE kind = @kind AND finished_at IS NULL AND arguments = @arguments;

-- name: StripeWebhookRunRemove :exec
-- Removes a run that had nothing to do.
DELETE FROM stripe_webhook_runs WHERE id = @id;

-- name: StripeWebhookRunPrune :execrows
-- Deletes runs whose last progress was before a time, the oldest first, at most so many. It reads the whole table, which has few rows.
DELETE FROM stripe_webhook_runs WHERE id IN (
    SELECT run.id FROM stripe_webhook_runs AS run WHERE run.updated_at < @before ORDER BY run.id LIMIT @max_rows
);

-- name: StripeWebhookRunUnfinished :one
-- The newest unfinished run of a kind, of these arguments (null: of any), by the index stripe_webhook_runs_unfinished_idx.
SELECT * FROM stripe_webhook_runs
WHERE kind = @kind AND finished_at IS NULL AND (sqlc.narg('arguments')::jsonb IS NULL OR arguments = sqlc.narg('arguments')::jsonb)
ORDER BY id DESC
LIMIT 1;

-- name: StripeWebhookRunList :many
-- Lists runs of a kind (empty: of any), the newest first, from before a run on (null: from the newest). It walks the primary key.
SELECT * FROM stripe_webhook_runs
WHERE id < coalesce(sqlc.narg('before')::varchar, '~') AND (@kind::varchar = '' OR kind = @kind::varchar)
ORDER BY id DESC
LIMIT @max_rows;

-- name: StripeWebhookRunGet :one
SELECT * FROM stripe_webhook_runs WHERE id = @id;
