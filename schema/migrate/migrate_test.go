package migrate_test

import (
	"context"
	"errors"
	"io"
	"net/url"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/schema"
	"github.com/pook/stripeonce/schema/migrate"
)

// catalog describes every column, constraint and index of the current schema.
const catalog = `
SELECT coalesce(string_agg(line, E'\n' ORDER BY line), '') FROM (
	SELECT format('%s.%s %s %s %s %s', table_name, column_name, data_type, character_maximum_length,
		collation_name, is_nullable || coalesce(column_default, '')) AS line
	FROM information_schema.columns WHERE table_schema = current_schema()
	UNION ALL
	SELECT format('%s %s', conrelid::regclass, pg_get_constraintdef(oid))
	FROM pg_constraint WHERE connamespace = current_schema()::regnamespace
	UNION ALL
	SELECT indexdef FROM pg_indexes WHERE schemaname = current_schema()
) AS lines`

func up(t *testing.T, databaseURL string) {
	t.Helper()
	if err := migrate.Up(t.Context(), databaseURL, io.Discard); err != nil {
		t.Fatal(err)
	}
}

func TestUpDownUp(t *testing.T) {
	t.Parallel()
	databaseURL := pgtest.NewEmptyURL(t)
	pool := pgtest.Connect(t, databaseURL)
	up(t, databaseURL)
	first := pgtest.Scan[string](t, pool, catalog)
	for range schema.Migrations() {
		if err := migrate.Rollback(t.Context(), databaseURL, false, io.Discard); err != nil {
			t.Fatal(err)
		}
	}
	if err := migrate.Rollback(t.Context(), databaseURL, false, io.Discard); !errors.Is(err, migrate.ErrNothingApplied) {
		t.Errorf("rolling back nothing gave %v", err)
	}
	left := pgtest.Scan[int](t, pool, `SELECT count(*)::int FROM pg_tables WHERE schemaname = 'public'`)
	if left != 1 {
		t.Errorf("%d tables are left besides stripeonce_migrations", left-1)
	}
	up(t, databaseURL)
	if again := pgtest.Scan[string](t, pool, catalog); again != first {
		t.Errorf("up, down and up again differs from up:\n%s\nfirst it was:\n%s", again, first)
	}
}

func TestUpTenAtOnce(t *testing.T) {
	t.Parallel()
	databaseURL := pgtest.NewEmptyURL(t)
	var wg sync.WaitGroup
	errs := make([]error, 10)
	for i := range errs {
		wg.Go(func() { errs[i] = migrate.Up(context.Background(), databaseURL, io.Discard) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	list, err := migrate.List(t.Context(), databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range list {
		if !m.Applied {
			t.Errorf("%s is not applied", m.Name)
		}
	}
}

func TestUpWaitsNoLongerThanItsContext(t *testing.T) {
	t.Parallel()
	databaseURL := pgtest.NewEmptyURL(t)
	pool := pgtest.Connect(t, databaseURL)
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	if _, err := conn.Exec(t.Context(), `SELECT pg_advisory_lock(hashtextextended('stripeonce_migrations', 0))`); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- migrate.Up(ctx, databaseURL, io.Discard) }()
	pgtest.AwaitSQL(t, pool, "Up asks for the lock of the migrations", `SELECT EXISTS (SELECT FROM pg_stat_activity
		WHERE datname = current_database() AND query LIKE '%pg_try_advisory_lock%' AND pid <> pg_backend_pid())`)
	cancel()
	if err := pgtest.Receive(t, "Up returns", done); !errors.Is(err, context.Canceled) {
		t.Errorf("Up gave %v", err)
	}
}

func TestRollbackRefusesRows(t *testing.T) {
	t.Parallel()
	databaseURL := pgtest.NewURL(t)
	pool := pgtest.Connect(t, databaseURL)
	pgtest.Exec(t, pool, `INSERT INTO stripe_webhook_events (event_id, event_type, outcome, livemode)
		VALUES ('evt_1', 'a.b', 'processed', false)`)
	var err error
	for err == nil {
		err = migrate.Rollback(t.Context(), databaseURL, false, io.Discard)
	}
	if !errors.Is(err, migrate.ErrHasRows) {
		t.Fatalf("Rollback gave %v", err)
	}
	if n := pgtest.Scan[int](t, pool, `SELECT count(*)::int FROM stripe_webhook_events`); n != 1 {
		t.Errorf("the ledger has %d rows", n)
	}
	if err := migrate.Rollback(t.Context(), databaseURL, true, io.Discard); err != nil {
		t.Errorf("forced: %v", err)
	}
}

// A host that has its own table subscriptions can put stripeonce's tables into another schema with search_path.
func TestUpInAnotherSchema(t *testing.T) {
	t.Parallel()
	databaseURL := pgtest.NewEmptyURL(t)
	host := pgtest.Connect(t, databaseURL)
	pgtest.Exec(t, host, `CREATE TABLE subscriptions (mine text)`)
	ours := databaseURL + "&search_path=stripe&pool_max_conns=3"
	up(t, ours)
	inStripe := pgtest.Scan[int](t, host, `SELECT count(*)::int FROM pg_tables WHERE schemaname = 'stripe'`)
	if want := 4; inStripe < want {
		t.Errorf("the schema stripe has %d tables, want at least %d", inStripe, want)
	}
	if n := pgtest.Scan[int](t, host, `SELECT count(*)::int FROM pg_tables WHERE schemaname = 'public'`); n != 1 {
		t.Errorf("public has %d tables, want the host's own", n)
	}
}

// Up accepts the URL of a pool: pgxpool's parameters, and several hosts, one of which is down.
func TestUpReadsPoolURL(t *testing.T) {
	t.Parallel()
	databaseURL := pgtest.NewEmptyURL(t)
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	query.Set("host", "/nonexistent,"+query.Get("host"))
	query.Set("pool_max_conns", "4")
	query.Set("target_session_attrs", "read-write")
	query.Set("statement_cache_capacity", "0")
	u.RawQuery = query.Encode()
	if _, err := pgxpool.ParseConfig(u.String()); err != nil {
		t.Fatal(err)
	}
	up(t, u.String())
}

// Stripe's objects are compressed with lz4 if the server supports it: from PostgreSQL 14 on, if it was built with lz4.
func TestCompression(t *testing.T) {
	t.Parallel()
	pool := pgtest.Connect(t, pgtest.NewURL(t))
	version := pgtest.Scan[int](t, pool, `SELECT current_setting('server_version_num')::int`)
	can := pgtest.Scan[bool](t, pool, `SELECT coalesce((SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'), false)`)
	if version < 140000 {
		if can {
			t.Errorf("PostgreSQL %d has lz4", version)
		}
		return
	}
	want := ""
	if can {
		want = "l"
	}
	got := pgtest.Scan[string](t, pool, `SELECT attcompression::text FROM pg_attribute WHERE attrelid = 'subscriptions'::regclass AND attname = 'object'`)
	if got != want {
		t.Errorf("on PostgreSQL %d, which has lz4: %t, the object is compressed with %q, want %q", version, can, got, want)
	}
}

// Migrations of a newer version are listed, Up leaves them, and Rollback refuses to undo an older one in their place.
func TestNewerVersion(t *testing.T) {
	t.Parallel()
	const version = "20990101000001"
	databaseURL := pgtest.NewURL(t)
	pool := pgtest.Connect(t, databaseURL)
	pgtest.Exec(t, pool, `INSERT INTO stripeonce_migrations (version) VALUES ('`+version+`')`)
	up(t, databaseURL)
	list, err := migrate.List(t.Context(), databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	want := migrate.Status{Migration: schema.Migration{Version: version}, Applied: true, Unknown: true}
	if newest := list[len(list)-1]; newest != want || len(list) != len(schema.Migrations())+1 || list[0].Unknown {
		t.Errorf("the newest of %d migrations is %+v", len(list), newest)
	}
	before := pgtest.Scan[string](t, pool, catalog)
	for _, force := range []bool{false, true} {
		if err := migrate.Rollback(t.Context(), databaseURL, force, io.Discard); !errors.Is(err, migrate.ErrNewer) {
			t.Errorf("Rollback gave %v", err)
		}
	}
	if after := pgtest.Scan[string](t, pool, catalog); after != before {
		t.Error("Rollback changed the schema")
	}
}
