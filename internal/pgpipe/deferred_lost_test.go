package pgpipe

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/fault"
	"github.com/pook/stripeonce/internal/pgtest"
)

// A handler may go on after an error of its first statement that kept it from being sent. What was deferred is then sent
// later, and the prepended query, too: nothing is lost.
func TestDeferredWritesAreNotLost(t *testing.T) {
	t.Parallel()
	ended := func(ctx context.Context) context.Context {
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		return ctx
	}
	for name, fails := range map[string]func(ctx context.Context, tx pgx.Tx) error{
		"Exec with an ended context":  func(ctx context.Context, tx pgx.Tx) error { _, err := tx.Exec(ended(ctx), seen, 0); return err },
		"Query with an ended context": func(ctx context.Context, tx pgx.Tx) error { _, err := tx.Query(ended(ctx), seen, 0); return err }, //nolint:sqlclosecheck // on purpose
		"QueryRow with an ended context": func(ctx context.Context, tx pgx.Tx) error {
			return tx.QueryRow(ended(ctx), seen, 0).Scan(new(int))
		},
		"no arguments and an ended context": func(ctx context.Context, tx pgx.Tx) error { _, err := tx.Exec(ended(ctx), `SELECT 1`); return err },
		"a savepoint with an ended context": func(ctx context.Context, tx pgx.Tx) error { _, err := tx.Begin(ended(ctx)); return err },
		"SendBatch with an ended context":   func(ctx context.Context, tx pgx.Tx) error { return calls["SendBatch"](ended(ctx), tx) },
		"a rewriter that fails": func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `SELECT @n`, pgx.StrictNamedArgs{"other": 1})
			return err
		},
	} {
		for _, mode := range []string{"cache_statement", "exec"} {
			for _, again := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/%t", mode, name, again), func(t *testing.T) {
					t.Parallel()
					conn := connect(t, pgtest.NewEmptyURL(t)+"&default_query_exec_mode="+mode, nil)
					exec(t, conn, `CREATE TABLE deferred (n int)`)
					tx := begun(t, conn)
					var writes Writes
					writes.Add(inserting(1), inserting(2))
					tx.Prepend(inserting(0))
					used, err := tx.Run(t.Context(), false, &writes, func(ctx context.Context, tx pgx.Tx) error {
						if err := fails(ctx, tx); err == nil {
							t.Error("it succeeds")
						}
						if again {
							if n, err := looks["Exec"](ctx, tx); n != 3 || err != nil {
								t.Errorf("the next statement sees %d rows, %v", n, err)
							}
						}
						return nil
					})
					if err != nil || !used {
						t.Fatalf("used: %t, and the error is %v", used, err)
					}
					if err := tx.Commit(t.Context(), writes.Queries(), pgtest.WaitLimit); err != nil {
						t.Fatal(err)
					}
					if n := scan1[int](t, conn, `SELECT count(*)::int FROM deferred`); n != 3 {
						t.Errorf("%d rows are written, want 3", n)
					}
				})
			}
		}
	}
}

// Where something was sent, an error that the handler swallows still ends the event.
func TestDeferredWritesFailLoudly(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		write Query
		first func(ctx context.Context, tx pgx.Tx) error
		own   bool
	}{
		"a statement that cannot be parsed": {inserting(1), func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `SELECT nonsense + $1::int`, 1)
			return err
		}, false},
		"an argument that cannot be sent": {inserting(1), func(ctx context.Context, tx pgx.Tx) error { _, err := tx.Exec(ctx, seen, struct{}{}); return err }, false},
		"a write whose result is refused": {func(ctx context.Context, db DBTX) error {
			if _, err := db.Exec(ctx, `INSERT INTO deferred VALUES (1)`); err != nil {
				return err
			}
			return errOnPurpose
		}, func(ctx context.Context, tx pgx.Tx) error { _, err := tx.Exec(ctx, seen, 0); return err }, true},
		"a context that ends while a write waits": {executing("write", `SELECT pg_sleep($1)`, 60), func(ctx context.Context, tx pgx.Tx) error {
			ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
			defer cancel()
			_, err := tx.Exec(ctx, seen, 0)
			return err
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := connect(t, pgtest.NewEmptyURL(t), nil)
			exec(t, conn, `CREATE TABLE deferred (n int)`)
			tx := begun(t, conn)
			var writes Writes
			writes.Add(c.write)
			_, err := tx.Run(t.Context(), false, &writes, func(ctx context.Context, tx pgx.Tx) error { _ = c.first(ctx, tx); return nil })
			if err == nil || errors.As(err, new(*OwnError)) != c.own {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

// A handler that ends the transaction after an own write has failed is reported for that.
func TestDeferredWriteFailsAndRollback(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.NewEmptyURL(t), nil)
	tx := begun(t, conn)
	var writes Writes
	writes.Add(executing("write", `SELECT 1 / $1::int`, 0))
	_, err := tx.Run(t.Context(), false, &writes, func(ctx context.Context, tx pgx.Tx) error {
		_, _ = tx.Exec(ctx, `SELECT $1::int`, 1)
		_, err := tx.Exec(ctx, `ROLLBACK`)
		return err
	})
	if !errors.Is(err, ErrRawCommit) {
		t.Errorf("the error is %v", err)
	}
}

// The rows of a query that failed can be used, as pgx's can.
func TestFailedRows(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.NewEmptyURL(t), nil)
	for name, sql := range map[string]string{"parse": `SELECT nonsense + $1::int`, "own": `SELECT $1::int`} {
		tx := begun(t, conn)
		var writes Writes
		writes.Add(executing("write", `SELECT 1 / $1::int`, map[string]int{"parse": 1, "own": 0}[name]))
		_, err := tx.Run(t.Context(), false, &writes, func(ctx context.Context, tx pgx.Tx) error {
			rows, _ := tx.Query(ctx, sql, 1)
			_, err := pgx.CollectRows(rows, pgx.RowTo[int])
			return err
		})
		if code := fault.Code(err); code != map[string]string{"parse": "42703", "own": "22012"}[name] {
			t.Errorf("%s: the error is %v", name, err)
		}
		tx.Rollback(t.Context(), pgtest.WaitLimit)
	}
}
