package pgpipe

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/fault"
	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/pgtest"
)

// A prepended query shares the round trip of the next queries if PostgreSQL is sure to have parsed them, or parses them
// after it. Otherwise it has a round trip of its own. Either way it runs first.
func TestPrepend(t *testing.T) {
	t.Parallel()
	const count = `SELECT count(*) FROM kept`
	inEachMode(t, func(t *testing.T, mode string, conn *pgx.Conn, trips *pglocal.RoundTrips) {
		exec(t, conn, `CREATE TABLE kept (n bigint)`)
		exec(t, conn, `CREATE SEQUENCE restored`)
		restored := func() int64 { return scan1[int64](t, conn, `SELECT last_value FROM `+mode+`.restored`) }
		restore := executing("restore", `SELECT set_config('search_path', $1::text, true), nextval($2::text::regclass)`, mode, mode+`.restored`)
		_ = begun(t, conn, restore).Commit(t.Context(), nil, pgtest.WaitLimit) // so that last_value counts
		runs := map[string]func(tx *Tx) error{
			"Send":         func(tx *Tx) error { return tx.Send(t.Context(), []Query{executing("count", count)}) },
			"Send nothing": func(tx *Tx) error { return tx.Send(t.Context(), nil) },
			"Run": func(tx *Tx) error {
				_, err := tx.Run(t.Context(), true, nil, func(ctx context.Context, tx pgx.Tx) error {
					return tx.QueryRow(ctx, `SELECT n FROM kept UNION ALL SELECT 1 LIMIT 1`).Scan(new(int))
				})
				return err
			},
			"Commit": func(tx *Tx) error {
				return tx.Commit(t.Context(), []Query{executing("write", `DELETE FROM kept`)}, pgtest.WaitLimit)
			},
			"Commit nothing": func(tx *Tx) error { return tx.Commit(t.Context(), nil, pgtest.WaitLimit) },
		}
		// The round trips when the connection knows nothing, when it knows the prepended query, and when it knows both.
		want := map[string]map[string][3]int64{
			"cache_statement": {
				"Send": {4, 3, 2}, "Send nothing": {2, 1, 1}, "Run": {4, 3, 2}, "Commit": {5, 3, 1}, "Commit nothing": {3, 1, 1},
			},
			"cache_describe": {
				"Send": {4, 3, 2}, "Send nothing": {2, 1, 1}, "Run": {4, 3, 2}, "Commit": {5, 4, 3}, "Commit nothing": {3, 2, 2},
			},
			"describe_exec": {
				"Send": {4, 4, 4}, "Send nothing": {2, 2, 2}, "Run": {4, 4, 4}, "Commit": {5, 5, 5}, "Commit nothing": {3, 3, 3},
			},
			"exec": {
				"Send": {1, 1, 1}, "Send nothing": {1, 1, 1}, "Run": {2, 2, 2}, "Commit": {1, 1, 1}, "Commit nothing": {1, 1, 1},
			},
			"simple_protocol": {
				"Send": {1, 1, 1}, "Send nothing": {1, 1, 1}, "Run": {2, 2, 2}, "Commit": {2, 2, 2}, "Commit nothing": {2, 2, 2},
			},
		}[mode]
		for _, name := range []string{"Send", "Send nothing", "Run", "Commit", "Commit nothing"} {
			var got [3]int64
			_ = conn.DeallocateAll(t.Context())
			for i := range got {
				before := restored()
				tx := begun(t, conn)
				if i == 1 && name != "Send nothing" && name != "Commit nothing" { // it knows the prepended query alone
					_ = conn.DeallocateAll(t.Context())
					if err := tx.Send(t.Context(), []Query{restore}); err != nil {
						t.Fatal(err)
					}
					if mode == "cache_statement" && name == "Commit" {
						if _, err := encoded(t.Context(), conn, []Query{restore}); err != nil {
							t.Fatal(err)
						}
					}
					before++
				}
				exec(t, conn, `SET LOCAL search_path = other`)
				tx.Prepend(restore)
				sent := trips.Count()
				if err := runs[name](tx); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				got[i] = trips.Count() - sent
				if !strings.HasPrefix(name, "Commit") {
					if err := tx.Send(t.Context(), nil); err != nil {
						t.Fatalf("%s: %v", name, err)
					}
					tx.Rollback(t.Context(), pgtest.WaitLimit)
				}
				if n := restored() - before; n != 1 {
					t.Errorf("%s: the prepended query ran %d times", name, n)
				}
			}
			if got != want[name] {
				t.Errorf("%s: the round trips are %v, want %v", name, got, want[name])
			}
		}
	})
}

// Commit parses a statement again that pgx has in its cache alone. The prepended query then runs before.
func TestPrependBeforeCommitParses(t *testing.T) {
	t.Parallel()
	const mode = "cache_statement"
	conn := inSchema(t, pgtest.NewEmptyURL(t), mode, nil)
	exec(t, conn, `CREATE TABLE kept (n bigint)`)
	write := executing("write", `INSERT INTO kept VALUES (1)`)
	tx := begun(t, conn)
	if err := tx.Send(t.Context(), []Query{write}); err != nil {
		t.Fatal(err)
	}
	exec(t, conn, `SET LOCAL search_path = other`)
	tx.Prepend(executing("restore", `SELECT set_config('search_path', $1::text, true)`, mode))
	if err := tx.Commit(t.Context(), []Query{write}, pgtest.WaitLimit); err != nil {
		t.Fatal(err)
	}
	if n := scan1[int](t, conn, `SELECT count(*) FROM kept`); n != 2 {
		t.Errorf("%d rows are kept", n)
	}
}

// Commit prepares no statement unless PipelinesCommit, since behind a pooler it could not.
func TestCommitPreparesNothing(t *testing.T) {
	t.Parallel()
	url := pgtest.NewEmptyURL(t)
	for _, mode := range execModes[1:] {
		conn := inSchema(t, url, mode, nil)
		tx := begun(t, conn)
		tx.Prepend(executing("prepended", `SELECT 1`))
		if err := tx.Commit(t.Context(), nil, pgtest.WaitLimit); err != nil {
			t.Fatal(err)
		}
		if n := scan1[int](t, conn, `SELECT count(*) FROM pg_prepared_statement()`); n != 0 {
			t.Errorf("%s: %d statements are prepared", mode, n)
		}
	}
}

// If the prepended query fails, its error is returned and the queries after it have no effect.
func TestPrependedFails(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, _ string, conn *pgx.Conn, _ *pglocal.RoundTrips) {
		exec(t, conn, `CREATE TABLE kept (n bigint)`)
		for name, run := range map[string]func(tx *Tx) error{
			"Send": func(tx *Tx) error {
				return tx.Send(t.Context(), []Query{executing("write", `INSERT INTO kept VALUES (1)`)})
			},
			"Commit": func(tx *Tx) error {
				return tx.Commit(t.Context(), []Query{executing("write", `INSERT INTO kept VALUES (1)`)}, pgtest.WaitLimit)
			},
		} {
			for range 2 {
				tx := begun(t, conn)
				tx.Prepend(executing("prepended", `SELECT 1 / $1::bigint`, 0))
				if err := run(tx); err == nil || !strings.HasPrefix(err.Error(), "prepended: ") {
					t.Errorf("%s: the error is %v", name, err)
				}
				tx.Rollback(t.Context(), pgtest.WaitLimit)
				if n := scan1[int](t, conn, `SELECT count(*) FROM kept`); n != 0 {
					t.Errorf("%s: %d rows are kept", name, n)
				}
			}
		}
	})
}

// After a failure pgx parses a statement again. A prepended query then needs a round trip of its own: PostgreSQL would
// parse the statement under the handler's settings.
func TestStatementsThatPgxForgets(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, mode string, conn *pgx.Conn, _ *pglocal.RoundTrips) {
		exec(t, conn, `CREATE TABLE kept (n bigint CHECK (n > 0))`)
		send := func(n int, result func(tx *Tx, err error)) {
			tx := begun(t, conn)
			exec(t, conn, `SET LOCAL search_path = other`)
			tx.Prepend(executing("restore", `SELECT set_config('search_path', $1::text, true)`, mode))
			result(tx, tx.Send(t.Context(), []Query{executing("write", `INSERT INTO kept VALUES ($1)`, n)}))
		}
		succeeds := func(tx *Tx, err error) {
			if err == nil {
				err = tx.Commit(t.Context(), nil, pgtest.WaitLimit)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		fails := func(tx *Tx, err error) {
			if fault.Code(err) != "23514" {
				t.Fatalf("the error is %v", err)
			}
			tx.Rollback(t.Context(), pgtest.WaitLimit)
		}
		for range 2 {
			send(1, succeeds)
			send(-1, fails)
			send(2, succeeds)
		}
		if n := scan1[int](t, conn, `SELECT sum(n) FROM kept`); n != 6 {
			t.Errorf("the sum is %d", n)
		}
	})
}

// A handler's statements may evict stripeonce's from pgx's cache. PostgreSQL then parses those again, and must find the
// tables by the settings that the prepended query restores.
func TestPrependAfterEviction(t *testing.T) {
	t.Parallel()
	const mode = "cache_statement"
	conn := inSchema(t, pgtest.NewEmptyURL(t)+"&statement_cache_capacity=4", mode, nil)
	exec(t, conn, `CREATE TABLE kept (n bigint)`)
	write := executing("write", `INSERT INTO kept VALUES (1)`)
	for i := range 3 {
		tx := begun(t, conn)
		exec(t, conn, `SET LOCAL search_path = other`)
		for n := range 5 * i {
			if err := conn.QueryRow(t.Context(), fmt.Sprintf(`SELECT $1::bigint + %d`, n), 1).Scan(new(int)); err != nil { // without arguments pgx does not cache
				t.Fatal(err)
			}
		}
		tx.Prepend(executing("restore", `SELECT set_config('search_path', $1::text, true)`, mode))
		if err := tx.Send(t.Context(), []Query{write}); err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(t.Context(), []Query{write}, pgtest.WaitLimit); err != nil {
			t.Fatal(err)
		}
	}
	if n := scan1[int](t, conn, `SELECT count(*) FROM kept`); n != 6 {
		t.Errorf("%d rows are kept, want 6", n)
	}
}
