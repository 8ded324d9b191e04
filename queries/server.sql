-- name: ServerState :one
-- read_only is true on a standby, and where default_transaction_read_only is on. forgetful is true where a crash can lose
-- an acknowledged commit. The others are the text formats of times and bytes.
SELECT
    (current_setting('transaction_read_only') = 'on')::boolean AS read_only,
    (current_setting('synchronous_commit') = 'off' OR current_setting('fsync') = 'off')::boolean AS forgetful,
    current_setting('DateStyle')::text AS date_style,
    current_setting('bytea_output')::text AS bytea_output;

-- name: ServerClock :one
-- The server's time, which goes on during a transaction.
SELECT clock_timestamp()::timestamptz;

-- name: ServerBackend :one
-- The process that serves this connection. Behind a pooler it differs from the process that PostgreSQL reported when the
-- connection started.
SELECT pg_backend_pid()::integer;

-- name: ServerHasPrepared :one
-- Reports whether the session has a prepared statement of this name.
SELECT EXISTS (SELECT FROM pg_prepared_statement() AS p WHERE p.name = @name::text);

-- name: ServerLockTimeout :exec
-- Caps each wait for a lock in the transaction, in milliseconds.
SELECT set_config('lock_timeout', @lock_timeout::text, TRUE);

-- name: ServerTransactionOpen :one
-- The first statement of a transaction in which handlers run. It caps each wait for a lock, in milliseconds, and takes the
-- lock of the event's object (empty: none) if the lock is free, without waiting. It reads no table, so the later
-- statements of the round trip see what the last holder of the lock committed. It returns when the transaction began, which
-- is its identity, and the settings that the receiver's own statements depend on.
SELECT
    current_setting('lock_timeout')::text AS session_lock_timeout,
    ARRAY[
        current_setting('session_authorization'), current_setting('role'), current_setting('search_path'),
        current_setting('row_security'), current_setting('client_encoding'), current_setting('DateStyle'),
        current_setting('statement_timeout'), current_setting('synchronous_commit')
    ]::text [] AS settings,
    set_config('lock_timeout', @lock_timeout::text, TRUE)::text AS lock_timeout,
    COALESCE(pg_try_advisory_xact_lock(hashtextextended(NULLIF(@object_id::text, ''), @lock_seed::bigint)), TRUE)::boolean AS locked,
    (current_setting('transaction_read_only') = 'on')::boolean AS read_only,
    now()::timestamptz AS began;

-- name: ServerTransactionRestore :exec
-- Precedes the receiver's own statements after a handler has run. It fails if the transaction is no longer the one that
-- ServerTransactionOpen saw (a handler ran COMMIT AND CHAIN or ROLLBACK AND CHAIN). It restores the settings that a
-- handler changed, with SET LOCAL or for the session. The role comes after the session's user, which determines it.
SELECT
    (CASE WHEN now() <> @began::timestamptz
        THEN ('a handler ended the transaction, and the next one began at ' || now())::boolean END) IS NULL AS same_transaction,
    CASE WHEN current_setting('session_authorization') <> (@settings::text [])[1]
        THEN set_config('session_authorization', (@settings::text [])[1], FALSE) END AS session_authorization,
    CASE WHEN current_setting('role') <> (@settings::text [])[2]
        THEN set_config('role', (@settings::text [])[2], FALSE) END AS role,
    CASE WHEN current_setting('search_path') <> (@settings::text [])[3]
        THEN set_config('search_path', (@settings::text [])[3], FALSE) END AS search_path,
    CASE WHEN current_setting('row_security') <> (@settings::text [])[4]
        THEN set_config('row_security', (@settings::text [])[4], FALSE) END AS row_security,
    CASE WHEN current_setting('client_encoding') <> (@settings::text [])[5]
        THEN set_config('client_encoding', (@settings::text [])[5], FALSE) END AS client_encoding,
    CASE WHEN current_setting('DateStyle') <> (@settings::text [])[6]
        THEN set_config('DateStyle', (@settings::text [])[6], FALSE) END AS date_style,
    CASE WHEN current_setting('statement_timeout') <> (@settings::text [])[7]
        THEN set_config('statement_timeout', (@settings::text [])[7], FALSE) END AS statement_timeout,
    CASE WHEN current_setting('synchronous_commit') <> (@settings::text [])[8]
        THEN set_config('synchronous_commit', (@settings::text [])[8], FALSE) END AS synchronous_commit,
    set_config('lock_timeout', @session_lock_timeout::text, FALSE) AS session_lock_timeout,
    set_config('lock_timeout', @lock_timeout::text, TRUE) AS lock_timeout;

-- name: ServerMissingPrivileges :many
-- The privileges that the role lacks on the given tables that exist; no row if it lacks none. A privilege on some columns
-- is enough: deploy/roles.sql grants no more. by_policy: the role has the privilege, but row level security applies and no
-- policy allows it, so PostgreSQL would hide or refuse every row.
SELECT needed.table_name::text AS table_name, needed.privilege::text AS privilege, needed.granted::boolean AS by_policy
FROM (
    SELECT
        listed.privilege, listed.table_name, to_regclass(listed.table_name) AS relation,
        CASE
            WHEN listed.privilege = 'DELETE' THEN has_table_privilege(to_regclass(listed.table_name), listed.privilege)
            ELSE has_any_column_privilege(to_regclass(listed.table_name), listed.privilege)
        END AS granted
    FROM (SELECT unnest(@table_names::text []) AS table_name, unnest(@privileges::text []) AS privilege) AS listed
) AS needed
WHERE needed.relation IS NOT NULL
    AND (
        NOT needed.granted
        OR row_security_active(needed.relation) AND NOT EXISTS (
            SELECT FROM pg_catalog.pg_policies AS policy
            JOIN pg_catalog.pg_class AS class ON class.relname = policy.tablename AND class.relnamespace::regnamespace::text = quote_ident(policy.schemaname)
            WHERE class.oid = needed.relation
                AND policy.permissive = 'PERMISSIVE'
                AND policy.cmd IN ('ALL', needed.privilege)
                AND EXISTS (
                    SELECT FROM unnest(policy.roles) AS allowed (role)
                    WHERE allowed.role = 'public' OR pg_has_role(allowed.role, 'USAGE')
                )
        )
    )
ORDER BY needed.table_name, needed.privilege;

-- name: ServerRowSecurity :one
-- Reports whether row level security applies to the role on a table. The owner, a superuser and a role with BYPASSRLS see
-- every row.
SELECT row_security_active(@table_name::text)::boolean;

-- name: ServerExposed :one
-- The tables, and partitions of them, without row level security on which Supabase's public roles have privileges; empty if there are
-- none.
SELECT COALESCE(string_agg(DISTINCT class.relname::text, ', '), '')::text AS tables
FROM unnest(@table_names::text []) AS listed (name)
CROSS JOIN LATERAL (
    SELECT to_regclass(listed.name) AS relid
    UNION
    SELECT tree.relid FROM pg_partition_tree(to_regclass(listed.name)) AS tree
) AS part
JOIN pg_catalog.pg_class AS class ON class.oid = part.relid
JOIN pg_catalog.pg_roles AS roles ON roles.rolname IN ('anon', 'authenticated')
WHERE NOT class.relrowsecurity
    AND (
        has_any_column_privilege(roles.oid, class.oid, 'SELECT, INSERT, UPDATE')
        OR has_table_privilege(roles.oid, class.oid, 'DELETE, TRUNCATE')
    );

-- name: ServerSchemas :one
-- The schemas that have stripeonce's tables, for a receiver that does not find them. visible: search_path finds the tables.
-- elsewhere: schemas that search_path does not find, and that the role may use. closed: schemas that the role may not use.
SELECT
    (to_regclass('stripe_webhook_events') IS NOT NULL)::boolean AS visible,
    COALESCE(string_agg(class.relnamespace::regnamespace::text, ' or ')
        FILTER (WHERE NOT pg_table_is_visible(class.oid) AND has_schema_privilege(class.relnamespace, 'USAGE')), '')::text AS elsewhere,
    COALESCE(string_agg(class.relnamespace::regnamespace::text, ' or ')
        FILTER (WHERE NOT has_schema_privilege(class.relnamespace, 'USAGE')), '')::text AS closed,
    current_user::text AS role
FROM pg_catalog.pg_class AS class
WHERE class.relname = 'stripe_webhook_events' AND class.relkind IN ('r', 'p');

-- name: ServerStrayTables :one
-- gone: the given tables that search_path does not find. stray: those that it finds in another schema than
-- stripeonce_migrations. Empty if there are none.
SELECT
    COALESCE(string_agg(listed.name, ', ') FILTER (WHERE class.oid IS NULL), '')::text AS gone,
    COALESCE(string_agg(listed.name || ' of the schema ' || class.relnamespace::regnamespace::text, ', ') FILTER (
        WHERE class.relnamespace <> (SELECT ours.relnamespace FROM pg_catalog.pg_class AS ours WHERE ours.oid = to_regclass('stripeonce_migrations'))
    ), '')::text AS stray
FROM unnest(@table_names::text []) AS listed (name)
LEFT JOIN pg_catalog.pg_class AS class ON class.oid = to_regclass(listed.name);

-- name: ServerWorkLockTry :one
-- Lets one process on this schema do a kind of work (reconcile, complete, backfill, verify, retry of a receiver) at a time, until the transaction ends,
-- which may be idle for long. It is not a session lock, which would leak behind a pooler in transaction mode. The holder may call it
-- again, to find out whether the transaction still exists.
SELECT (
    set_config('idle_in_transaction_session_timeout', '0', TRUE) IS NOT NULL
    AND pg_try_advisory_xact_lock(hashtextextended('stripeonce_' || @work::text || ' ' || current_schema(), 0))
)::boolean AS locked;
