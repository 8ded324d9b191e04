-- name: ServerState :one
-- read_only is true on a standby, and where default_transaction_read_only is on. forgetful is true where a
-- commit that was answered can be lost in a crash.
SELECT
    (current_setting('transaction_read_only') = 'on')::boolean AS read_only,
    (current_setting('synchronous_commit') = 'off' OR current_setting('fsync') = 'off')::boolean AS forgetful;

-- name: ServerBackend :one
-- The process that serves this connection. It is not the one that PostgreSQL named at the connection's
-- start if a pooler stands between.
SELECT pg_backend_pid()::integer;

-- name: ServerHasPrepared :one
-- True if a prepared statement goes by the name that the client gave it.
SELECT EXISTS (SELECT FROM pg_prepared_statement() AS p WHERE p.name = @name::text);

-- name: ServerLockTimeout :exec
-- Bounds each wait for a lock in the transaction, in milliseconds.
SELECT set_config('lock_timeout', @lock_timeout::text, TRUE);
