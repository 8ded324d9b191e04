package pgpipe

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

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
			"the write":                                             {executing("write", `SELECT 1 / $1::int`, 0), one(seen, 0), true, "22012"},
			"the write, swallowed":                                  {executing("write", `SELECT 1 / $1::int`, 0), ignoring(one(seen, 0)), true, "22012"},
			"the write, before a savepoint":                         {executing("write", `SELECT 1 / $1::int`, 0), calls["Begin"], true, "22012"},
			"the write, before Query":                               {executing("write", `SELECT 1 / $1::int`, 0), calls["Query"], true, "22012"},
			"the write, before QueryRow":                            {executing("write", `SELECT 1 / $1::int`, 0), calls["QueryRow"], true, "22012"},
			"the write's table is missing":                          {executing("write", `SELECT n + $1 FROM gone`, 0), one(seen, 0), true, "42P01"},
			"the statement":                                         {inserting(1), one(`SELECT 1 / $1::int`, 0), false, "22012"},
			"the statement's table is missing":                      {inserting(1), one(`SELECT n + $1 FROM missing`, 0), false, "42P01"},
			"the statement's argument":                              {inserting(1), one(seen, struct{}{}), false, "struct {}"},
			"a rewriter":                                            {inserting(1), one(`SELECT @n`, pgx.StrictNamedArgs{"other": 1}), false, "n"},
			"the argument of a rewriter":                            {inserting(1), one(seen, stringRewriter("")), false, "struct {}"},
			"an argument of a statement that the host has prepared": {inserting(1), one("named", "abc"), false, "abc"},
			"too many arguments":                                    {inserting(1), one(seen, make([]any, 1<<17)...), false, ""},
		} {
			t.Run(mode+"/"+name, func(t *testing.T) {
				t.Parallel()
				conn := connect(t, pgtest.NewEmptyURL(t)+"&default_query_exec_mode="+mode, nil)
				exec(t, conn, `CREATE TABLE deferred (n int)`)
				for range 2 {
					if conn.IsClosed() { // pgx gives up a connection where it fails to encode an argument of a batch
						conn = connect(t, conn.Config().ConnString(), nil)
					}
					if _, err := conn.Prepare(t.Context(), "named", `SELECT $1::int`); err != nil {
						t.Fatal(err)
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

// stringRewriter is a rewriter that could itself be encoded.
type stringRewriter string

func (stringRewriter) RewriteQuery(_ context.Context, _ *pgx.Conn, sql string, _ []any) (string, []any, error) {
	return sql, []any{struct{}{}}, nil
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

// queryTracer is a tracer that knows no batches.
type queryTracer struct{ seen []string }

func (t *queryTracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	t.seen = append(t.seen, data.SQL)
	return ctx
}

func (t *queryTracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// Where the host's tracer knows no batches, a handler's first statement has a round trip of its own, so that the tracer sees
// it.
func TestDeferredWritesWithAQueryTracer(t *testing.T) {
	t.Parallel()
	tracer := &queryTracer{}
	conn := connect(t, pgtest.NewEmptyURL(t), func(config *pgx.ConnConfig) { config.Tracer = tracer })
	exec(t, conn, `CREATE TABLE deferred (n int)`)
	tx := begun(t, conn)
	var writes Writes
	writes.Add(inserting(1))
	if _, err := tx.Run(t.Context(), false, &writes, func(ctx context.Context, tx pgx.Tx) error {
		n, err := looks["Exec"](ctx, tx)
		if n != 1 {
			t.Errorf("it sees %d rows", n)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(tracer.seen, seen) {
		t.Errorf("the tracer has seen %q", tracer.seen)
	}
}
