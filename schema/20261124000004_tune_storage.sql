-- migrate:up

-- Stripe's object is most of a row, and is compressed with each write, which with lz4 takes a third less than
-- with pglz. A server that was built without it, or that is older than PostgreSQL 14, keeps what it has.
-- https://www.postgresql.org/docs/current/storage-toast.html
DO $$
BEGIN
    EXECUTE 'ALTER TABLE subscriptions ALTER COLUMN object SET COMPRESSION lz4';
EXCEPTION WHEN feature_not_supported OR syntax_error THEN
    NULL;
END
$$;

-- No column that changes is indexed, so a new version of a row needs no index entry if it finds room on its
-- page (HOT): some is left. Of a page's 8 kB a row may have half before its object goes to the TOAST table, which costs an entry in its
-- index for each write.
ALTER TABLE subscriptions SET (fillfactor = 75, toast_tuple_target = 4080);
ALTER TABLE subscription_items SET (fillfactor = 90);

-- What tells whether a state differs from the stored one, without reading it, and the revision that it is of.
-- Null: not known.
ALTER TABLE subscriptions ADD COLUMN digest BYTEA;

-- migrate:down

ALTER TABLE subscriptions DROP COLUMN digest;
ALTER TABLE subscription_items RESET (fillfactor);
ALTER TABLE subscriptions RESET (fillfactor, toast_tuple_target);
DO $$
BEGIN
    EXECUTE 'ALTER TABLE subscriptions ALTER COLUMN object SET COMPRESSION default';
EXCEPTION WHEN feature_not_supported OR syntax_error THEN
    NULL;
END
$$;
