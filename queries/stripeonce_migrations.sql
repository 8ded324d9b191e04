-- name: MigrationList :many
-- The versions of the migrations that are applied.
SELECT version FROM stripeonce_migrations ORDER BY version;

-- name: MigrationLockTry :one
-- Takes the session lock under which migrations run. There is one for the whole database, since the schema that
-- search_path names may not exist yet.
SELECT pg_try_advisory_lock(hashtextextended('stripeonce_migrations', 0));

-- name: MigrationSession :one
-- The search_path of this session, whether it is set in the URL, for the role or for the database.
SELECT current_setting('search_path')::text AS search_path, current_user::text AS role;

-- name: MigrationSchemaList :many
-- The given schemas that exist, with whether the role may use each, and whether each has stripeonce's ledger or migrations.
SELECT
    namespace.nspname::text AS name,
    has_schema_privilege(namespace.oid, 'USAGE')::boolean AS usable,
    EXISTS (
        SELECT FROM pg_catalog.pg_class AS class
        WHERE class.relnamespace = namespace.oid AND class.relname IN ('stripe_webhook_events', 'stripeonce_migrations') AND class.relkind IN ('r', 'p')
    )::boolean AS has_tables
FROM pg_catalog.pg_namespace AS namespace
WHERE namespace.nspname = ANY(@names::text []);

-- name: MigrationTableState :one
-- Whether a schema has stripeonce_migrations, whether it is that table, and whether the role may read it; and its owner.
SELECT
    class.relkind::text AS kind,
    pg_get_userbyid(class.relowner)::text AS owner,
    EXISTS (SELECT FROM pg_catalog.pg_attribute AS attribute WHERE attribute.attrelid = class.oid AND attribute.attname = 'version')::boolean AS has_version,
    (has_table_privilege(class.oid, 'SELECT') AND NOT row_security_active(class.oid))::boolean AS readable
FROM pg_catalog.pg_class AS class
WHERE class.relnamespace::regnamespace::text = quote_ident(@schema_name::text) AND class.relname = 'stripeonce_migrations';

-- name: MigrationRoleList :many
-- Supabase's public roles, where they exist.
SELECT roles.rolname::text AS role FROM pg_catalog.pg_roles AS roles WHERE roles.rolname IN ('anon', 'authenticated');

-- name: MigrationObjectList :many
-- The objects of a schema with the given names: relations of every kind, and types that are not the row type of a relation.
SELECT
    class.relname::text AS name,
    (CASE class.relkind
        WHEN 'r' THEN 'table' WHEN 'p' THEN 'table' WHEN 'f' THEN 'foreign table' WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view'
        WHEN 'i' THEN 'index' WHEN 'I' THEN 'index' WHEN 'S' THEN 'sequence' ELSE 'type' END)::text AS kind
FROM pg_catalog.pg_class AS class
WHERE class.relnamespace::regnamespace::text = quote_ident(@schema_name::text) AND class.relname = ANY(@names::text [])
UNION ALL
SELECT type.typname::text AS name, 'type'::text AS kind
FROM pg_catalog.pg_type AS type
WHERE type.typnamespace::regnamespace::text = quote_ident(@schema_name::text) AND type.typname = ANY(@names::text []) AND type.typrelid = 0
ORDER BY name;

-- name: MigrationTableLines :many
-- Describes tables independently of their schema, and of whether they are partitioned: columns, constraints and indexes, one line each.
WITH tables AS (
    SELECT
        class.oid, class.relname::text AS name, class.relnamespace::regnamespace::text || '.' AS prefix,
        class.relkind AS kind, class.relpersistence AS persistence
    FROM pg_catalog.pg_class AS class
    WHERE class.relnamespace::regnamespace::text = quote_ident(@schema_name::text) AND class.relname = ANY(@names::text [])
)

SELECT line::text FROM (
    SELECT
        'table ' || tables.name || CASE WHEN tables.kind IN ('r', 'p') THEN '' ELSE ' of another kind' END
        || CASE tables.persistence WHEN 'u' THEN ' unlogged' ELSE '' END AS line
    FROM tables
    UNION ALL
    SELECT
        'column ' || tables.name || '.' || attribute.attname || ' ' || format_type(attribute.atttypid, attribute.atttypmod)
        || COALESCE(' collate ' || NULLIF(attribute.attcollation, 0)::regcollation::text, '') || CASE WHEN attribute.attnotnull THEN ' not null' ELSE '' END
        || COALESCE(' default ' || pg_get_expr(definition.adbin, definition.adrelid), '') AS line
    FROM tables
    JOIN pg_catalog.pg_attribute AS attribute ON attribute.attrelid = tables.oid AND attribute.attnum > 0 AND NOT attribute.attisdropped
    LEFT JOIN pg_catalog.pg_attrdef AS definition ON definition.adrelid = tables.oid AND definition.adnum = attribute.attnum
    UNION ALL
    SELECT 'constraint ' || tables.name || ' ' || conname || ' ' || replace(replace(pg_get_constraintdef(contained.oid), tables.prefix, ''), 'pg_temp.', '')
    FROM tables
    JOIN pg_catalog.pg_constraint AS contained ON contained.conrelid = tables.oid AND contained.contype IN ('p', 'u', 'f', 'c', 'x')
    UNION ALL
    SELECT replace(replace(replace(pg_get_indexdef(index.indexrelid), tables.prefix, ''), 'pg_temp.', ''), ' ON ONLY ', ' ON ')
    FROM tables
    JOIN pg_catalog.pg_index AS index ON index.indrelid = tables.oid
) AS described
ORDER BY line;

-- name: MigrationTemporarySchema :one
-- The schema of this session's temporary tables.
SELECT pg_my_temp_schema()::regnamespace::text;
