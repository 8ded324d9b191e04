package pgpipe

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/fault"
	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/pgtest"
)

// inserting is a write, whose table the test has.
func inserting(n any) Query {
	return executing("insert", `INSERT INTO deferred (n) VALUES ($1)`, n)
}

// seen is a handler's statement: it returns the rows that precede it.
const seen = `SELECT n FROM deferred WHERE n >= $1 ORDER BY n`

// statements are the ways in which a handler looks at the rows. Each returns their count.
var looks = map[string]func(ctx context.Context, tx pgx.Tx) (int, error){
	"Exec": func(ctx context.Context, tx pgx.Tx) (int, error) {
		tag, err := tx.Exec(ctx, seen, 0)
		return int(tag.RowsAffected()), err
	},
	"Exec without arguments": func(ctx context.Context, tx pgx.Tx) (int, error) {
		tag, err := tx.Exec(ctx, `SET LOCAL statement_timeout = 0; SELECT n FROM deferred`)
		return int(tag.RowsAffected()), err
	},
	"Exec with an option": func(ctx context.Context, tx pgx.Tx) (int, error) {
		tag, err := tx.Exec(ctx, seen, pgx.QueryExecModeExec, 0)
		return int(tag.RowsAffected()), err
	},
	"Exec with named arguments": func(ctx context.Context, tx pgx.Tx) (int, error) {
		tag, err := tx.Exec(ctx, `SELECT n FROM deferred WHERE n >= @least`, pgx.NamedArgs{"least": 0})
		return int(tag.RowsAffected()), err
	},
	"Query": func(ctx context.Context, tx pgx.Tx) (int, error) {
		rows, _ := tx.Query(ctx, seen, 0)
		list, err := pgx.CollectRows(rows, pgx.RowTo[int])
		return len(list), err
	},
	"Query without arguments": func(ctx context.Context, tx pgx.Tx) (int, error) {
		rows, _ := tx.Query(ctx, `SELECT n FROM deferred`)
		list, err := pgx.CollectRows(rows, pgx.RowTo[int])
		return len(list), err
	},
	"Query, closed at once": func(ctx context.Context, tx pgx.Tx) (int, error) {
		rows, err := tx.Query(ctx, seen, 0)
		if err != nil {
			return 0, err
		}
		rows.Close()
		return int(rows.CommandTag().RowsAffected()), rows.Err()
	},
	"QueryRow": func(ctx context.Context, tx pgx.Tx) (n int, err error) {
		err = tx.QueryRow(ctx, `SELECT count(*) FROM deferred WHERE n >= $1`, 0).Scan(&n)
		return n, err
	},
	"a savepoint": func(ctx context.Context, tx pgx.Tx) (n int, err error) {
		savepoint, err := tx.Begin(ctx)
		if err != nil {
			return 0, err
		}
		err = savepoint.QueryRow(ctx, `SELECT count(*) FROM deferred`).Scan(&n)
		return n, errors.Join(err, savepoint.Rollback(ctx)) // which leaves what precedes it
	},
	"SendBatch": func(ctx context.Context, tx pgx.Tx) (n int, err error) {
		batch := &pgx.Batch{}
		batch.Queue(`SELECT count(*) FROM deferred`)
		results := tx.SendBatch(ctx, batch)
		err = results.QueryRow().Scan(&n)
		return n, errors.Join(err, results.Close())
	},
	"Conn": func(ctx context.Context, tx pgx.Tx) (n int, err error) {
		err = tx.Conn().QueryRow(ctx, `SELECT count(*) FROM deferred`).Scan(&n)
		return n, err
	},
}

// However a handler uses the transaction, it sees the writes that were deferred, also in its second statement, and they
// are sent once. In the modes that can, its first statement shares their round trip.
func TestDeferredWritesPrecede(t *testing.T) {
	t.Parallel()
	for _, mode := range execModes {
		for name, look := range looks {
			t.Run(mode+"/"+name, func(t *testing.T) {
				t.Parallel()
				conn := connect(t, pgtest.NewEmptyURL(t)+"&default_query_exec_mode="+mode, nil)
				exec(t, conn, `CREATE TABLE deferred (n int)`)
				for range 2 { // the first one prepares the statements
					tx := begun(t, conn)
					var writes Writes
					writes.Add(inserting(1), inserting(2))
					used, err := tx.Run(t.Context(), false, &writes, func(ctx context.Context, tx pgx.Tx) error {
						for which := range 2 {
							if n, err := look(ctx, tx); n != 2 || err != nil {
								return fmt.Errorf("look %d sees %d rows, %w", which, n, err)
							}
						}
						return nil
					})
					if err != nil || !used || len(writes.Queries()) > 0 {
						t.Errorf("used: %t, %d writes are left, and the error is %v", used, len(writes.Queries()), err)
					}
					tx.Rollback(t.Context(), pgtest.WaitLimit)
				}
			})
		}
	}
}

func TestDeferredWritesShareARoundTrip(t *testing.T) {
	t.Parallel()
	url := pgtest.NewEmptyURL(t)
	trips := &pglocal.RoundTrips{}
	conn := connect(t, url, func(config *pgx.ConnConfig) { config.DialFunc = trips.Dial })
	exec(t, conn, `CREATE TABLE deferred (n int)`)
	for name, want := range map[string]int64{
		"Exec": 1, "Query": 1, "QueryRow": 1, "Query, closed at once": 1, "Query without arguments": 1, "Exec with named arguments": 1, "Exec without arguments": 2,
	} {
		var took int64
		for range 2 {
			tx := begun(t, conn)
			var writes Writes
			writes.Add(inserting(1))
			before := trips.Count()
			_, err := tx.Run(t.Context(), false, &writes, func(ctx context.Context, tx pgx.Tx) error {
				_, err := looks[name](ctx, tx)
				return err
			})
			if took = trips.Count() - before; err != nil {
				t.Fatal(name, err)
			}
			tx.Rollback(t.Context(), pgtest.WaitLimit)
		}
		if took != want {
			t.Errorf("%s takes %d round trips, want %d", name, took, want)
		}
	}
}

// A handler that does not use the transaction leaves the writes for COMMIT, and is reported not to have used it.
func TestDeferredWritesStay(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.NewEmptyURL(t), nil)
	tx := begun(t, conn)
	var writes Writes
	writes.Add(inserting(1))
	used, err := tx.Run(t.Context(), false, &writes, func(context.Context, pgx.Tx) error { return nil })
	if used || err != nil || len(writes.Queries()) != 1 {
		t.Errorf("used: %t, %d writes are left, and the error is %v", used, len(writes.Queries()), err)
	}
}

// The error of a deferred write is the receiver's own, whatever the handler makes of it. The error of the handler's own
// statement is the handler's, also where pgx finds it before anything is sent.
func TestDeferredWriteFails(t *testing.T) {
	t.Parallel()
	one := func(sql string, args ...any) func(ctx context.Context, tx pgx.Tx) error {
		return func(ctx context.Context, tx pgx.Tx) error { _, err := tx.Exec(ctx, sql, args...); return err }
	}
	ignoring := func(fn func(ctx context.Context, tx pgx.Tx) error) func(ctx context.Context, tx pgx.Tx) error {
		return func(ctx context.Context, tx pgx.Tx) error { _ = fn(ctx, tx); return nil }
	}
	for _, mode := range []string{"cache_statement", "exec"} {
		for name, c := range map[string]struct {
			write Query
			fn    func(ctx context.Context, tx pgx.Tx) error
			own   bool
			want  string
		}{
			"the write":                        {executing("write", `SELECT 1 / $1::int`, 0), one(seen, 0), true, "22012"},
			"the write, swallowed":             {executing("write", `SELECT 1 / $1::int`, 0), ignoring(one(seen, 0)), true, "22012"},
			"the write, before a savepoint":    {executing("write", `SELECT 1 / $1::int`, 0), calls["Begin"], true, "22012"},
			"the write, before Query":          {executing("write", `SELECT 1 / $1::int`, 0), calls["Query"], true, "22012"},
			"the write, before QueryRow":       {executing("write", `SELECT 1 / $1::int`, 0), calls["QueryRow"], true, "22012"},
			"the write's table is missing":     {executing("write", `SELECT n + $1 FROM gone`, 0), one(seen, 0), true, "42P01"},
			"the statement":                    {inserting(1), one(`SELECT 1 / $1::int`, 0), false, "22012"},
			"the statement's table is missing": {inserting(1), one(`SELECT n + $1 FROM missing`, 0), false, "42P01"},
			"the statement's argument":         {inserting(1), one(seen, struct{}{}), false, "struct {}"},
			"a rewriter":                       {inserting(1), one(`SELECT @n`, pgx.StrictNamedArgs{"other": 1}), false, "n"},
		} {
			t.Run(mode+"/"+name, func(t *testing.T) {
				t.Parallel()
				conn := connect(t, pgtest.NewEmptyURL(t)+"&default_query_exec_mode="+mode, nil)
				exec(t, conn, `CREATE TABLE deferred (n int)`)
				for range 2 {
					if conn.IsClosed() { // pgx gives up a connection where it fails to encode an argument of a batch
						conn = connect(t, conn.Config().ConnString(), nil)
					}
					tx := begun(t, conn)
					var writes Writes
					writes.Add(c.write)
					_, err := tx.Run(t.Context(), false, &writes, c.fn)
					if own := errors.As(err, new(*OwnError)); own != c.own {
						t.Errorf("the error %v is the receiver's own: %t", err, own)
					}
					if err == nil || fault.Code(err) != c.want && !strings.Contains(err.Error(), c.want) {
						t.Errorf("the error is %v, want %s", err, c.want)
					}
					tx.Rollback(t.Context(), pgtest.WaitLimit)
				}
			})
		}
	}
}

// Where a handler gives its statement a shorter context, which ends while a deferred write waits, that is the handler's
// doing.
func TestDeferredWriteWithAShorterContext(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.NewEmptyURL(t), nil)
	exec(t, conn, `CREATE TABLE deferred (n int)`)
	tx := begun(t, conn)
	var writes Writes
	writes.Add(executing("write", `SELECT pg_sleep($1)`, 60))
	_, err := tx.Run(t.Context(), false, &writes, func(ctx context.Context, tx pgx.Tx) error {
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		_, err := tx.Exec(ctx, seen, 0)
		return err
	})
	if errors.As(err, new(*OwnError)) || !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
}

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

// Rows of a shared round trip behave as pgx's: an error in the middle of them, a failed Scan, and rows that are left open.
func TestDeferredRows(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.NewEmptyURL(t), nil)
	exec(t, conn, `CREATE TABLE deferred (n int)`)
	for name, c := range map[string]struct {
		fn   func(ctx context.Context, tx pgx.Tx) error
		want string
	}{
		"an error in the middle": {func(ctx context.Context, tx pgx.Tx) error {
			rows, err := tx.Query(ctx, `SELECT 1 / (3 - n) FROM generate_series(1, $1::int) AS n`, 5)
			if err != nil {
				return err
			}
			list, err := pgx.CollectRows(rows, pgx.RowTo[int])
			if len(list) > 0 {
				return fmt.Errorf("%d rows were read: %w", len(list), err)
			}
			return err
		}, "22012"},
		"a failed Scan": {func(ctx context.Context, tx pgx.Tx) error {
			rows, err := tx.Query(ctx, seen, 0)
			if err != nil {
				return err
			}
			for rows.Next() {
				_ = rows.Scan(new(bool))
			}
			return rows.Err()
		}, "can't scan into dest[0]"},
		"no row": {func(ctx context.Context, tx pgx.Tx) error {
			return tx.QueryRow(ctx, `SELECT n FROM deferred WHERE n > $1`, 10).Scan(new(int))
		}, pgx.ErrNoRows.Error()},
		"rows left open": {func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Query(ctx, seen, 0) //nolint:sqlclosecheck // on purpose
			return err
		}, errRowsLeftOpen.Error()},
		"a row left unread": {func(ctx context.Context, tx pgx.Tx) error {
			tx.QueryRow(ctx, seen, 0)
			return nil
		}, errRowsLeftOpen.Error()},
	} {
		tx := begun(t, conn)
		var writes Writes
		writes.Add(inserting(1), inserting(2))
		_, err := tx.Run(t.Context(), false, &writes, c.fn)
		if err == nil || fault.Code(err) != c.want && !strings.Contains(err.Error(), c.want) || errors.As(err, new(*OwnError)) {
			t.Errorf("%s: the error is %v, want %s", name, err, c.want)
		}
		tx.Rollback(t.Context(), pgtest.WaitLimit)
		if conn.IsClosed() { // rows left open: pgx gives up the connection
			conn = connect(t, conn.Config().ConnString(), nil)
		}
	}
}

// A prepended query precedes the writes, and no statement is parsed before it.
func TestDeferredWritesAfterAPrepended(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	var all []string
	b.script = func(executed []string, answers []any) []any {
		all = append(all, executed...)
		return answers
	}
	conn, _, _ := b.connect(t, "cache_statement", nil)
	tx := begun(t, conn)
	var writes Writes
	writes.Add(executing("write", `SELECT 2`))
	tx.Prepend(executing("prepended", `SELECT 1`))
	if _, err := tx.Run(t.Context(), false, &writes, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT 3`)
		rows.Close()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if want := []string{`SELECT 1`, `SELECT 2`, `SELECT 3`}; !slices.Equal(all[1:], want) {
		t.Errorf("the statements are %q, want %q", all[1:], want)
	}
}
