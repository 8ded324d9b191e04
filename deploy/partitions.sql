-- Moves a table into hash partitions while receivers work: the ledger (stripe_webhook_events, by event_id) or the mirror
-- (stripe_objects, by id). docs/scaling.md says when that is worth it. Nothing else needs to know: names, columns, views,
-- privileges and policies stay as they are.
--
-- Run it with psql as the tables' owner, or as a superuser, on a connection to PostgreSQL itself and not through a pooler. Each
-- line is a step, and can be run again if it was interrupted:
--
--   psql "$ADMIN_URL" -f deploy/partitions.sql -c "CALL pg_temp.stripeonce_prepare('stripe_webhook_events', 16)"
--   psql "$ADMIN_URL" -f deploy/partitions.sql -c "CALL pg_temp.stripeonce_copy('stripe_webhook_events')"
--   psql "$ADMIN_URL" -f deploy/partitions.sql -c "SELECT pg_temp.stripeonce_differences('stripe_webhook_events')"
--   psql "$ADMIN_URL" -f deploy/partitions.sql -c "CALL pg_temp.stripeonce_swap('stripe_webhook_events')"
--   psql "$ADMIN_URL" -f deploy/partitions.sql -c "CALL pg_temp.stripeonce_finish('stripe_webhook_events')"
--
-- prepare creates the partitioned table beside the plain one, …_partitioned, and a trigger that notes the keys of changed rows in
-- …_changes. copy copies the rows in batches by key, and then what changed meanwhile. differences counts rows that differ, in one
-- snapshot: 0 is right. swap locks the table, copies the last changes and renames both, in one transaction; the old table is then
-- …_plain, and changes are noted for the way back. finish drops it.
--
-- The way back is one call, after prepare, copy or swap, which undoes everything up to there and loses nothing:
--
--   psql "$ADMIN_URL" -f deploy/partitions.sql -c "CALL pg_temp.stripeonce_back('stripe_webhook_events')"
--
-- Deliveries wait only for a lock of prepare, swap, back and finish, each time at most for lock_timeout (the last argument, 500 ms),
-- after which the step tries again. Everything here is of the session (pg_temp) but for the tables and the trigger.

RESET ROLE;
SET client_min_messages = notice;
SET statement_timeout = 0;
SET idle_in_transaction_session_timeout = 0;

-- What is known of a table: its own name and its companion's, by the kind of each.
CREATE OR REPLACE FUNCTION pg_temp.stripeonce_pair(
    named TEXT, OUT name TEXT, OUT schema_name TEXT, OUT live REGCLASS, OUT kind TEXT, OUT companion REGCLASS, OUT companion_kind TEXT,
    OUT live_name TEXT, OUT companion_name TEXT, OUT changes TEXT, OUT progress TEXT, OUT key_columns TEXT [], OUT part_column TEXT
) LANGUAGE plpgsql AS $$
DECLARE
    role_name NAME;
BEGIN
    SELECT c.oid, c.relname, n.nspname, CASE c.relkind WHEN 'p' THEN 'partitioned' ELSE 'plain' END, pg_get_userbyid(c.relowner)
    INTO live, name, schema_name, kind, role_name
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid = to_regclass(named) AND c.relkind IN ('r', 'p');
    IF live IS NULL OR name NOT IN ('stripe_webhook_events', 'stripe_objects') THEN
        RAISE EXCEPTION 'search_path (%) leads to no table %: name stripe_webhook_events or stripe_objects, and SET search_path to their schema',
            current_setting('search_path'), named;
    END IF;
    IF NOT pg_has_role(role_name, 'USAGE') THEN
        RAISE EXCEPTION 'the table % belongs to the role %: connect as that role', name, role_name;
    END IF;
    PERFORM set_config('role', role_name, FALSE); -- what is created has the table's owner
    companion_kind := CASE kind WHEN 'plain' THEN 'partitioned' ELSE 'plain' END;
    live_name := format('%I.%I', schema_name, name);
    companion_name := format('%I.%I', schema_name, name || '_' || companion_kind);
    companion := to_regclass(companion_name);
    changes := format('%I.%I', schema_name, name || '_changes');
    progress := format('%I.%I', schema_name, name || '_copy');
    key_columns := CASE name WHEN 'stripe_objects' THEN ARRAY['account_id', 'livemode', 'object_type', 'id'] ELSE ARRAY['event_id'] END;
    part_column := key_columns[cardinality(key_columns)];
END
$$;

-- Waits until neither the table nor its companion is vacuumed, and keeps it so until the transaction ends. Deliveries do not wait for this
-- lock, and PostgreSQL cancels an autovacuum that it waits for, after deadlock_timeout.
CREATE OR REPLACE FUNCTION pg_temp.stripeonce_quiet(named TEXT) RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
    pair RECORD;
BEGIN
    SELECT * INTO pair FROM pg_temp.stripeonce_pair(named);
    EXECUTE format('LOCK TABLE %s IN SHARE UPDATE EXCLUSIVE MODE', pair.live);
    IF pair.companion IS NOT NULL THEN
        EXECUTE format('LOCK TABLE %s IN SHARE UPDATE EXCLUSIVE MODE', pair.companion);
    END IF;
END
$$;

-- Runs a statement in a transaction of its own, again and again until it acquires its locks.
CREATE OR REPLACE PROCEDURE pg_temp.stripeonce_locking(named TEXT, statement TEXT, lock_timeout TEXT, before TEXT DEFAULT NULL) LANGUAGE plpgsql AS $$
DECLARE
    done BOOLEAN := FALSE;
    began TIMESTAMPTZ;
BEGIN
    FOR try IN 1 .. 1000 LOOP
        IF before IS NOT NULL THEN
            EXECUTE before;
            COMMIT;
        END IF;
        BEGIN
            PERFORM set_config('lock_timeout', '0', TRUE);
            PERFORM pg_temp.stripeonce_quiet(named);
            PERFORM set_config('lock_timeout', lock_timeout, TRUE);
            began := clock_timestamp();
            EXECUTE statement;
            done := TRUE;
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            RAISE NOTICE 'the lock was not acquired within %: try % of 1000 follows', lock_timeout, try + 1;
        END;
        COMMIT;
        IF done THEN
            RAISE NOTICE 'done, in % ms from the wait for the lock to COMMIT', round(extract(EPOCH FROM clock_timestamp() - began) * 1000);
            RETURN;
        END IF;
        PERFORM pg_sleep(0.5 + random());
        COMMIT;
    END LOOP;
    RAISE EXCEPTION 'the lock was never acquired: look into pg_locks for a transaction that holds the table, and run the step again';
END
$$;

-- What a table has that is not carried over.
CREATE OR REPLACE FUNCTION pg_temp.stripeonce_refuse(named TEXT) RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
    pair RECORD;
    found TEXT;
BEGIN
    SELECT * INTO pair FROM pg_temp.stripeonce_pair(named);
    SELECT string_agg(what, '; ') INTO found FROM (
        SELECT 'the trigger ' || tgname AS what FROM pg_trigger
        WHERE tgrelid = pair.live AND NOT tgisinternal AND tgname <> 'stripeonce_note_change'
        UNION ALL
        SELECT 'the foreign key ' || conname || ' of ' || conrelid::regclass FROM pg_constraint WHERE contype = 'f' AND pair.live IN (confrelid, conrelid)
        UNION ALL
        SELECT 'the rule ' || rulename FROM pg_rewrite WHERE ev_class = pair.live
        UNION ALL
        SELECT DISTINCT 'what depends on it in ' || r.ev_class::regclass || ', which is no view' FROM pg_depend AS d
        JOIN pg_rewrite AS r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
        JOIN pg_class AS c ON c.oid = r.ev_class
        WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = pair.live AND c.relkind <> 'v'
        UNION ALL
        SELECT 'the function ' || d.objid::regprocedure || ', which depends on it' FROM pg_depend AS d
        WHERE d.classid = 'pg_proc'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = pair.live
        UNION ALL
        SELECT 'the generated or identity column ' || attname FROM pg_attribute
        WHERE attrelid = pair.live AND attnum > 0 AND NOT attisdropped AND (attidentity <> '' OR attgenerated <> '')
        UNION ALL
        SELECT 'a replica identity other than the default' FROM pg_class WHERE oid = pair.live AND relreplident <> 'd'
        UNION ALL
        SELECT 'the long name of the index ' || indexrelid::regclass FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
        WHERE i.indrelid = pair.live AND length(c.relname) > 50
        UNION ALL
        SELECT 'the publication ' || p.pubname || ', which would have both tables' FROM pg_publication AS p
        WHERE p.puballtables OR to_jsonb(p) ->> 'pubviaroot' = 'true' AND EXISTS (
            SELECT FROM pg_publication_tables AS t WHERE t.pubname = p.pubname AND t.schemaname = pair.schema_name AND t.tablename = pair.name
        ) AND NOT EXISTS (SELECT FROM pg_publication_rel AS r WHERE r.prpubid = p.oid AND r.prrelid = pair.live)
        UNION ALL
        SELECT 'the publication ' || p.pubname || ' without publish_via_partition_root, or with a filter' FROM pg_publication AS p
        JOIN pg_publication_rel AS r ON r.prpubid = p.oid AND r.prrelid = pair.live
        WHERE NOT p.pubviaroot OR to_jsonb(r) ->> 'prqual' IS NOT NULL OR to_jsonb(r) ->> 'prattrs' IS NOT NULL
    ) AS listed;
    IF found IS NOT NULL THEN
        RAISE EXCEPTION '% has what this script does not carry over: %. Remove or change it first; what you still need, add after finish', pair.name, found;
    END IF;
END
$$;

-- Gives the companion the privileges, the row level security and the policies of the table, and takes all others from it and from its
-- partitions: default privileges, such as Supabase's, may have granted some.
CREATE OR REPLACE FUNCTION pg_temp.stripeonce_grant(named TEXT) RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
    pair RECORD;
    statement TEXT;
    statements TEXT [];
BEGIN
    SELECT * INTO pair FROM pg_temp.stripeonce_pair(named);
    SELECT array_agg(s) INTO statements FROM (
        SELECT format('REVOKE ALL ON %s FROM %s', c.oid::regclass, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END)
        FROM pg_class AS c CROSS JOIN LATERAL aclexplode(c.relacl) AS a
        WHERE a.grantee <> c.relowner
            AND (c.oid IN (SELECT relid FROM pg_partition_tree(pair.companion)) OR c.oid IN (pair.changes::regclass, pair.progress::regclass))
        UNION ALL
        SELECT format(
            'GRANT %s%s ON %s TO %s%s', a.privilege_type, a.column_name, pair.companion,
            CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END, CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
        )
        FROM (
            SELECT e.*, '' AS column_name FROM pg_class AS c CROSS JOIN LATERAL aclexplode(c.relacl) AS e WHERE c.oid = pair.live AND e.grantee <> c.relowner
            UNION ALL
            SELECT e.*, format(' (%I)', t.attname) FROM pg_attribute AS t CROSS JOIN LATERAL aclexplode(t.attacl) AS e WHERE t.attrelid = pair.live
        ) AS a
        UNION ALL
        SELECT format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', part.relid) -- which is about those who name a partition
        FROM pg_class AS c CROSS JOIN pg_partition_tree(pair.companion) AS part WHERE c.oid = pair.live AND c.relrowsecurity
        UNION ALL
        SELECT format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', pair.companion) FROM pg_class AS c WHERE c.oid = pair.live AND c.relforcerowsecurity
        UNION ALL
        SELECT format(
            'CREATE POLICY %I ON %s AS %s FOR %s TO %s%s%s', p.policyname, pair.companion, p.permissive, p.cmd,
            (SELECT string_agg(CASE r WHEN 'public' THEN 'PUBLIC' ELSE quote_ident(r) END, ', ') FROM unnest(p.roles) AS r),
            ' USING (' || p.qual || ')', ' WITH CHECK (' || p.with_check || ')'
        )
        FROM pg_policies AS p WHERE p.schemaname = pair.schema_name AND p.tablename = pair.name
    ) AS listed (s);
    FOREACH statement IN ARRAY COALESCE(statements, '{}') LOOP
        EXECUTE statement;
    END LOOP;
END
$$;

-- Creates the partitioned table, with the columns, defaults, checks, storage settings and indexes of the plain one. An index of a
-- partition has the name of the whole, and the number.
CREATE OR REPLACE FUNCTION pg_temp.stripeonce_create(named TEXT, partitions INTEGER) RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
    pair RECORD;
    index RECORD;
    settings TEXT;
    part TEXT;
BEGIN
    SELECT * INTO pair FROM pg_temp.stripeonce_pair(named);
    EXECUTE format('CREATE TABLE %s (LIKE %s INCLUDING ALL EXCLUDING INDEXES) PARTITION BY HASH (%I)', pair.companion_name, pair.live, pair.part_column);
    SELECT COALESCE('WITH (' || array_to_string(reloptions, ', ') || ')', '') INTO settings FROM pg_class WHERE oid = pair.live;
    FOR i IN 0 .. partitions - 1 LOOP
        EXECUTE format(
            'CREATE TABLE %I.%I PARTITION OF %s FOR VALUES WITH (MODULUS %s, REMAINDER %s) %s',
            pair.schema_name, pair.name || '_p' || lpad(i::TEXT, 2, '0'), pair.companion_name, partitions, i, settings
        );
    END LOOP;
    FOR index IN
        SELECT
            c.relname AS name, i.indisunique, con.contype, pg_get_constraintdef(con.oid) AS constraint_text,
            substr(pg_get_indexdef(i.indexrelid), strpos(pg_get_indexdef(i.indexrelid), ' USING ')) AS text
        FROM pg_index AS i
        JOIN pg_class AS c ON c.oid = i.indexrelid
        LEFT JOIN pg_constraint AS con ON con.conindid = i.indexrelid AND con.conrelid = i.indrelid
        WHERE i.indrelid = pair.live AND i.indisvalid
    LOOP
        FOR i IN 0 .. partitions LOOP -- the last is the whole, to which those of the partitions are then attached
            part := CASE WHEN i < partitions THEN '_p' || lpad(i::TEXT, 2, '0') END;
            IF index.contype IS NOT NULL THEN
                EXECUTE format(
                    'ALTER TABLE %I.%I ADD CONSTRAINT %I %s', pair.schema_name, pair.name || COALESCE(part, '_partitioned'),
                    index.name || COALESCE(part, '_partitioned'), index.constraint_text
                );
            ELSE
                EXECUTE format(
                    'CREATE %s INDEX %I ON %I.%I%s', CASE WHEN index.indisunique THEN 'UNIQUE' END, index.name || COALESCE(part, '_partitioned'),
                    pair.schema_name, pair.name || COALESCE(part, '_partitioned'), index.text
                );
            END IF;
        END LOOP;
    END LOOP;
    EXECUTE format(
        'CREATE TABLE %s AS SELECT %s FROM %s WHERE FALSE', pair.changes, (SELECT string_agg(quote_ident(k), ', ') FROM unnest(pair.key_columns) AS k), pair.live
    );
    EXECUTE format('CREATE TABLE %s AS SELECT NULL::JSONB AS position, 0::BIGINT AS copied, FALSE AS complete', pair.progress);
    PERFORM pg_temp.stripeonce_grant(named);
END
$$;

-- Has the changes of a table noted: the keys of the rows that a transaction inserts, updates or deletes. As its owner, since the roles
-- that write the table have no business with the notes.
CREATE OR REPLACE FUNCTION pg_temp.stripeonce_note(table_name TEXT, name TEXT, schema_name TEXT, changes TEXT, key_columns TEXT []) RETURNS VOID
LANGUAGE plpgsql AS $$
DECLARE
    new_key TEXT := (SELECT string_agg(format('NEW.%I', k), ', ') FROM unnest(key_columns) AS k);
    old_key TEXT := replace(new_key, 'NEW.', 'OLD.');
BEGIN
    EXECUTE format(
        'CREATE OR REPLACE FUNCTION %I.%I() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $f$ BEGIN '
        'IF TG_OP = ''DELETE'' OR TG_OP = ''UPDATE'' AND (%s) IS DISTINCT FROM (%s) THEN INSERT INTO %s VALUES (%s); END IF; '
        'IF TG_OP <> ''DELETE'' THEN INSERT INTO %s VALUES (%s); END IF; '
        'RETURN NULL; END $f$',
        schema_name, name || '_note_change', 'ROW(' || old_key || ')', 'ROW(' || new_key || ')', changes, old_key, changes, new_key
    );
    EXECUTE format('REVOKE ALL ON FUNCTION %I.%I() FROM PUBLIC', schema_name, name || '_note_change');
    EXECUTE format(
        'CREATE TRIGGER stripeonce_note_change AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION %I.%I()',
        table_name, schema_name, name || '_note_change'
    );
END
$$;

-- Copies up to a number of noted changes to the companion, and returns how many notes it took. It reads the rows after the notes, so that
-- it never copies an older row than noted; what changes later is noted again.
CREATE OR REPLACE FUNCTION pg_temp.stripeonce_apply(named TEXT, max_notes INTEGER) RETURNS BIGINT LANGUAGE plpgsql AS $$
DECLARE
    pair RECORD;
    notes JSONB;
    taken BIGINT;
    same_key TEXT;
    all_columns TEXT;
    assignments TEXT;
BEGIN
    SELECT * INTO pair FROM pg_temp.stripeonce_pair(named);
    EXECUTE format(
        'WITH taken AS (DELETE FROM %s WHERE ctid = ANY(ARRAY(SELECT ctid FROM %s LIMIT $1)) RETURNING *), keys AS (SELECT DISTINCT * FROM taken) '
        'SELECT (SELECT count(*) FROM taken), (SELECT jsonb_agg(to_jsonb(keys)) FROM keys)', pair.changes, pair.changes
    ) USING max_notes INTO taken, notes;
    IF taken = 0 THEN
        RETURN 0;
    END IF;
    SELECT string_agg(format('k.%1$I = r.%1$I', k), ' AND ') INTO same_key FROM unnest(pair.key_columns) AS k;
    SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum), string_agg(format('%1$I = excluded.%1$I', attname), ', ' ORDER BY attnum)
    INTO all_columns, assignments
    FROM pg_attribute WHERE attrelid = pair.live AND attnum > 0 AND NOT attisdropped;
    EXECUTE format(
        'INSERT INTO %1$s AS there (%2$s) SELECT %3$s FROM jsonb_populate_recordset(NULL::%4$s, $1) AS k '
        'CROSS JOIN LATERAL (SELECT r.* FROM %5$s AS r WHERE %6$s LIMIT 1) AS row_of '
        'ON CONFLICT (%7$s) DO UPDATE SET %8$s WHERE ROW(there.*) IS DISTINCT FROM ROW(excluded.*)',
        pair.companion, all_columns, (SELECT string_agg('row_of.' || c, ', ') FROM unnest(string_to_array(all_columns, ', ')) AS c), pair.changes,
        pair.live, same_key, array_to_string(pair.key_columns, ', '), assignments
    ) USING notes;
    EXECUTE format(
        'DELETE FROM %1$s AS r USING jsonb_populate_recordset(NULL::%2$s, $1) AS k WHERE %3$s '
        'AND NOT EXISTS (SELECT FROM %4$s AS l WHERE %5$s)',
        pair.companion, pair.changes, same_key, pair.live, replace(same_key, 'r.', 'l.')
    ) USING notes;
    RETURN taken;
END
$$;

-- Copies the next rows by key, and returns how many there were.
CREATE OR REPLACE FUNCTION pg_temp.stripeonce_copy_batch(named TEXT, max_rows INTEGER) RETURNS BIGINT LANGUAGE plpgsql AS $$
DECLARE
    pair RECORD;
    position JSONB;
    copied BIGINT;
    keys TEXT;
    all_columns TEXT;
    after TEXT;
BEGIN
    SELECT * INTO pair FROM pg_temp.stripeonce_pair(named);
    EXECUTE format('SELECT position FROM %s', pair.progress) INTO position;
    SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) INTO all_columns
    FROM pg_attribute WHERE attrelid = pair.live AND attnum > 0 AND NOT attisdropped;
    SELECT string_agg(quote_ident(k), ', '), format('(%s) > (%s)', string_agg(quote_ident(k), ', '), string_agg(
        format('($1 ->> %L)::%s', k, (SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = pair.live AND attname = k)), ', '
    )) INTO keys, after FROM unnest(pair.key_columns) WITH ORDINALITY AS listed (k, place);
    EXECUTE format(
        'WITH batch AS (SELECT %1$s FROM %2$s WHERE $1 IS NULL OR %3$s ORDER BY %4$s LIMIT $2), '
        'copied AS (INSERT INTO %5$s (%1$s) SELECT %1$s FROM batch ON CONFLICT DO NOTHING) '
        'SELECT (SELECT count(*) FROM batch), (SELECT to_jsonb(last) FROM (SELECT %4$s FROM batch ORDER BY %6$s LIMIT 1) AS last)',
        all_columns, pair.live, CASE WHEN position IS NULL THEN 'TRUE' ELSE after END, keys, pair.companion,
        (SELECT string_agg(quote_ident(k) || ' DESC', ', ') FROM unnest(pair.key_columns) AS k)
    ) USING position, max_rows INTO copied, position;
    EXECUTE format('UPDATE %1$s SET copied = copied + $2, position = COALESCE($1, position), complete = $2 < $3', pair.progress) USING position, copied, max_rows;
    RETURN copied;
END
$$;

-- Renames the table and its companion, with their indexes, has the views read the other one, and changes of it noted. The caller has the
-- lock.
CREATE OR REPLACE FUNCTION pg_temp.stripeonce_swap_now(named TEXT) RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
    pair RECORD;
    statement TEXT;
    statements TEXT [];
    views TEXT [];
    publications TEXT [];
BEGIN
    SELECT * INTO pair FROM pg_temp.stripeonce_pair(named);
    EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', pair.live);
    WHILE pg_temp.stripeonce_apply(named, 10000) > 0 LOOP
    END LOOP;
    SELECT array_agg(format(
        'CREATE OR REPLACE VIEW %s %s AS %s', c.oid::regclass, 'WITH (' || array_to_string(c.reloptions, ', ') || ')', pg_get_viewdef(c.oid)
    )) INTO views
    FROM pg_class AS c
    WHERE c.relkind = 'v' AND c.oid IN (
        SELECT r.ev_class FROM pg_depend AS d JOIN pg_rewrite AS r ON r.oid = d.objid
        WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = pair.live
    );
    SELECT
        array_agg(format('ALTER PUBLICATION %I ADD TABLE %s', p.pubname, pair.live_name))
        || array_agg(format('ALTER PUBLICATION %I DROP TABLE %I.%I', p.pubname, pair.schema_name, pair.name || '_' || pair.kind)) INTO publications
    FROM pg_publication AS p JOIN pg_publication_rel AS r ON r.prpubid = p.oid WHERE r.prrelid = pair.live;
    SELECT array_agg(s) INTO statements FROM (
        SELECT format('DROP TRIGGER stripeonce_note_change ON %s', pair.live)
        UNION ALL
        SELECT format('ALTER INDEX %I.%I RENAME TO %I', pair.schema_name, c.relname, c.relname || '_' || pair.kind)
        FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid WHERE i.indrelid = pair.live
        UNION ALL
        SELECT format('ALTER INDEX %I.%I RENAME TO %I', pair.schema_name, c.relname, regexp_replace(c.relname, '_' || pair.companion_kind || '$', ''))
        FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid WHERE i.indrelid = pair.companion AND c.relname LIKE '%\_' || pair.companion_kind
        UNION ALL
        SELECT format('ALTER TABLE %s RENAME TO %I', pair.live_name, pair.name || '_' || pair.kind)
        UNION ALL
        SELECT format('ALTER TABLE %s RENAME TO %I', pair.companion_name, pair.name)
    ) AS listed (s);
    FOREACH statement IN ARRAY statements || COALESCE(views, '{}') || COALESCE(publications, '{}') LOOP
        EXECUTE statement;
    END LOOP;
    PERFORM pg_temp.stripeonce_note(pair.live_name, pair.name, pair.schema_name, pair.changes, pair.key_columns);
END
$$;

-- Removes the companion and the notes.
CREATE OR REPLACE FUNCTION pg_temp.stripeonce_drop(named TEXT) RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
    pair RECORD;
BEGIN
    SELECT * INTO pair FROM pg_temp.stripeonce_pair(named);
    EXECUTE format('DROP TABLE IF EXISTS %s, %s', pair.companion_name, pair.progress); -- first what no delivery waits for
    EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', pair.live); -- as deliveries do, before its partitions: DROP TRIGGER begins with those
    EXECUTE format('DROP TRIGGER IF EXISTS stripeonce_note_change ON %s', pair.live);
    EXECUTE format('DROP FUNCTION IF EXISTS %I.%I()', pair.schema_name, pair.name || '_note_change');
    EXECUTE format('DROP TABLE IF EXISTS %s', pair.changes);
END
$$;

-- Expects the table to be of a kind, with or without a companion.
CREATE OR REPLACE FUNCTION pg_temp.stripeonce_expect(named TEXT, kind TEXT, has_companion BOOLEAN, step TEXT, advice TEXT) RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
    pair RECORD;
BEGIN
    SELECT * INTO pair FROM pg_temp.stripeonce_pair(named);
    IF NOT pg_try_advisory_lock('pg_class'::regclass::INTEGER, hashtext(pair.live_name)) THEN -- until this session ends
        RAISE EXCEPTION 'another session is moving %: wait until it has ended', pair.name;
    END IF;
    IF pair.kind <> COALESCE(stripeonce_expect.kind, pair.kind) OR (pair.companion IS NOT NULL) <> has_companion THEN
        RAISE EXCEPTION '% is not the next step: % is %, and % %: %', step, pair.name, pair.kind, pair.companion_name,
            CASE WHEN pair.companion IS NULL THEN 'does not exist' ELSE 'exists' END, advice;
    END IF;
END
$$;

CREATE OR REPLACE PROCEDURE pg_temp.stripeonce_prepare(named TEXT, partitions INTEGER, lock_timeout TEXT DEFAULT '500ms') LANGUAGE plpgsql AS $$
BEGIN
    IF partitions NOT BETWEEN 2 AND 100 THEN
        RAISE EXCEPTION '% partitions: use 2 to 100; 16 or 32 are good numbers', partitions;
    END IF;
    PERFORM pg_temp.stripeonce_expect(named, 'plain', FALSE, 'prepare', 'copy and swap follow, or back');
    PERFORM pg_temp.stripeonce_refuse(named);
    COMMIT;
    CALL pg_temp.stripeonce_locking(named, format(
        'WITH created AS MATERIALIZED (SELECT pg_temp.stripeonce_create(%1$L, %2$s) AS done) '
        'SELECT pg_temp.stripeonce_note(p.live_name, p.name, p.schema_name, p.changes, p.key_columns) '
        'FROM created CROSS JOIN LATERAL pg_temp.stripeonce_pair(%1$L) AS p WHERE created.done IS NOT NULL', named, partitions
    ), lock_timeout);
END
$$;

CREATE OR REPLACE PROCEDURE pg_temp.stripeonce_copy(named TEXT, batch_rows INTEGER DEFAULT 10000, pause_seconds FLOAT8 DEFAULT 0) LANGUAGE plpgsql AS $$
DECLARE
    rows_of_batch BIGINT;
    copied BIGINT := 0;
    noted BIGINT;
    changed BIGINT := 0;
    said TIMESTAMPTZ := clock_timestamp();
BEGIN
    PERFORM pg_temp.stripeonce_expect(named, 'plain', TRUE, 'copy', 'begin with prepare');
    LOOP
        rows_of_batch := pg_temp.stripeonce_copy_batch(named, batch_rows);
        COMMIT;
        noted := pg_temp.stripeonce_apply(named, batch_rows);
        COMMIT;
        copied := copied + rows_of_batch;
        changed := changed + noted;
        EXIT WHEN rows_of_batch < batch_rows AND noted < batch_rows;
        IF clock_timestamp() > said + INTERVAL '10 seconds' THEN
            RAISE NOTICE '% rows and % changes are copied', copied, changed;
            said := clock_timestamp();
        END IF;
        PERFORM pg_sleep(pause_seconds);
        COMMIT;
    END LOOP;
    EXECUTE format('ANALYZE %s', (SELECT p.companion FROM pg_temp.stripeonce_pair(named) AS p));
    RAISE NOTICE 'all is copied: % rows and % changes. swap follows', copied, changed;
END
$$;

-- How many rows differ between the table and its companion, without those whose change is noted, in one snapshot. It reads both tables.
CREATE OR REPLACE FUNCTION pg_temp.stripeonce_differences(named TEXT) RETURNS BIGINT LANGUAGE plpgsql AS $$
DECLARE
    pair RECORD;
    keys TEXT;
    both_columns TEXT;
    differences BIGINT;
BEGIN
    PERFORM pg_temp.stripeonce_expect(named, NULL, TRUE, 'differences', 'there is nothing to compare with');
    SELECT * INTO pair FROM pg_temp.stripeonce_pair(named);
    keys := array_to_string(pair.key_columns, ', ');
    SELECT string_agg('a.' || quote_ident(attname), ', ' ORDER BY attnum) INTO both_columns
    FROM pg_attribute WHERE attrelid = pair.live AND attnum > 0 AND NOT attisdropped;
    EXECUTE format(
        'SELECT count(*) FROM %1$s AS a FULL JOIN %2$s AS b USING (%3$s) WHERE ROW(%4$s) IS DISTINCT FROM ROW(%5$s) AND ROW(%3$s) NOT IN (SELECT %3$s FROM %6$s)',
        pair.live, pair.companion, keys, both_columns, regexp_replace(both_columns, '\ma\.', 'b.', 'g'), pair.changes
    ) INTO differences;
    RETURN differences;
END
$$;

-- Catches up until few changes are left, so that the lock is held for milliseconds.
CREATE OR REPLACE FUNCTION pg_temp.stripeonce_catch_up(named TEXT) RETURNS VOID LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. 100 LOOP
        EXIT WHEN pg_temp.stripeonce_apply(named, 10000) < 100;
    END LOOP;
END
$$;

CREATE OR REPLACE PROCEDURE pg_temp.stripeonce_swap(named TEXT, lock_timeout TEXT DEFAULT '500ms') LANGUAGE plpgsql AS $$
DECLARE
    complete BOOLEAN;
BEGIN
    PERFORM pg_temp.stripeonce_expect(named, 'plain', TRUE, 'swap', 'prepare and copy come before it');
    PERFORM pg_temp.stripeonce_refuse(named);
    EXECUTE format('SELECT complete FROM %s', (SELECT p.progress FROM pg_temp.stripeonce_pair(named) AS p)) INTO complete;
    IF NOT complete THEN
        RAISE EXCEPTION 'copy has not ended: run it again, it goes on where it was';
    END IF;
    COMMIT;
    CALL pg_temp.stripeonce_locking(
        named, format('SELECT pg_temp.stripeonce_swap_now(%L)', named), lock_timeout, format('SELECT pg_temp.stripeonce_catch_up(%L)', named)
    );
END
$$;

CREATE OR REPLACE PROCEDURE pg_temp.stripeonce_back(named TEXT, lock_timeout TEXT DEFAULT '500ms') LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_temp.stripeonce_expect(named, NULL, TRUE, 'back', 'there is no way back after finish, and none before prepare');
    IF (SELECT p.kind FROM pg_temp.stripeonce_pair(named) AS p) = 'partitioned' THEN
        PERFORM pg_temp.stripeonce_refuse(named);
        COMMIT;
        CALL pg_temp.stripeonce_locking(
            named, format('SELECT pg_temp.stripeonce_swap_now(%L)', named), lock_timeout, format('SELECT pg_temp.stripeonce_catch_up(%L)', named)
        );
    END IF;
    COMMIT;
    CALL pg_temp.stripeonce_locking(named, format('SELECT pg_temp.stripeonce_drop(%L)', named), lock_timeout);
END
$$;

CREATE OR REPLACE PROCEDURE pg_temp.stripeonce_finish(named TEXT, lock_timeout TEXT DEFAULT '500ms') LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_temp.stripeonce_expect(named, 'partitioned', TRUE, 'finish', 'it follows swap');
    COMMIT;
    CALL pg_temp.stripeonce_locking(named, format('SELECT pg_temp.stripeonce_drop(%L)', named), lock_timeout);
END
$$;
