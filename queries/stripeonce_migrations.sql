-- name: MigrationList :many
-- The versions of the migrations that are applied.
SELECT version FROM stripeonce_migrations ORDER BY version;

-- name: MigrationLockTry :one
-- Takes the session lock under which migrations run. One for the whole database: the schema that
-- search_path names may not exist yet.
SELECT pg_try_advisory_lock(hashtextextended('stripeonce_migrations', 0));
