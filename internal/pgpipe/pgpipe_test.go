package pgpipe

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pook/stripeonce/internal/fault"
	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/pgtest"
)

// executing runs a statement, and wraps its error in a name.
func executing(name, sql string, args ...any) Query {
	return func(ctx context.Context, db DBTX) error {
		_, err := db.Exec(ctx, sql, args...)
		return Wrap(name, err)
	}
}

// inMode adds an exec mode to a database's URL.
func inMode(url, mode string) string { return url + "&default_query_exec_mode=" + mode }

// inSchema opens a connection in an exec mode to a schema of that name, which it creates.
func inSchema(tb testing.TB, url, mode string, change func(config *pgx.ConnConfig)) *pgx.Conn {
	tb.Helper()
	conn := connect(tb, inMode(url, mode)+"&search_path="+mode, change)
	exec(tb, conn, "CREATE SCHEMA "+mode)
	return conn
}

// inEachMode runs a test in each exec mode, on a connection whose round trips are counted, to a schema of the mode's name.
func inEachMode(t *testing.T, run func(t *testing.T, mode string, conn *pgx.Conn, trips *pglocal.RoundTrips)) {
	t.Helper()
	url := pgtest.NewEmptyURL(t)
	for _, mode := range execModes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			trips := &pglocal.RoundTrips{}
			conn := inSchema(t, url, mode, func(config *pgx.ConnConfig) { config.DialFunc = trips.Dial })
			run(t, mode, conn, trips)
		})
	}
}

// A transaction takes three round trips, and one more where COMMIT is sent alone. Each query
// scans its own result.
func TestTransaction(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, mode string, conn *pgx.Conn, trips *pglocal.RoundTrips) {
		exec(t, conn, `CREATE TABLE kept (n bigint)`)
		var rounds []int64
		for n := range 3 {
			before := trips.Count()
			round := func() {
				rounds = append(rounds, trips.Count()-before)
				before = trips.Count()
			}
			rounds = nil
			got := make([]string, 4)
			tx := begun(t, conn, selecting("a", &got[0]), selecting("b", &got[1]))
			round()
			if err := tx.Send(t.Context(), []Query{selecting("c", &got[2]), selecting("d", &got[3])}); err != nil {
				t.Fatal(err)
			}
			round()
			if text := strings.Join(got, ""); text != "abcd" {
				t.Errorf("the results are %q", text)
			}
			writes := []Query{executing("first", `INSERT INTO kept VALUES ($1)`, n), executing("second", `UPDATE kept SET n = n + 1`)}
			if err := tx.Commit(t.Context(), writes, pgtest.WaitLimit); err != nil {
				t.Fatal(err)
			}
			round()
			if tx.PipelinesCommit() != (mode == "cache_statement" || mode == "exec") {
				t.Errorf("PipelinesCommit is %t", tx.PipelinesCommit())
			}
			if conn.PgConn().TxStatus() != txIdle || tx.Conn() != conn {
				t.Error("the transaction is open, or on another connection")
			}
		}
		if got, want := scan1[string](t, conn, `SELECT string_agg(n::text, ' ') FROM kept`), "3 3 3"; got != want {
			t.Errorf("kept is %s, want %s", got, want)
		}
		want := map[string][]int64{
			"cache_statement": {1, 1, 1}, "cache_describe": {1, 1, 2}, "describe_exec": {2, 2, 3}, "exec": {1, 1, 1}, "simple_protocol": {1, 1, 2},
		}[mode]
		if !slices.Equal(rounds, want) {
			t.Errorf("the round trips of Begin, Send and Commit are %v, want %v", rounds, want)
		}
	})
}

// A transaction is READ COMMITTED, whatever the database's default is.
func TestIsolation(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.NewEmptyURL(t)+"&default_transaction_isolation=serializable", nil)
	var got string
	begun(t, conn, func(ctx context.Context, db DBTX) error {
		return db.QueryRow(ctx, `SELECT current_setting('transaction_isolation')`).Scan(&got)
	})
	if got != "read committed" {
		t.Errorf("the isolation is %s", got)
	}
}

// An error of Begin comes with a transaction that can be rolled back.
func TestBeginFails(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, mode string, conn *pgx.Conn, _ *pglocal.RoundTrips) {
		for name, queries := range map[string][]Query{
			"a query fails":     {executing("first", `SELECT 1`), executing("second", `SELECT 1 / $1::bigint`, 0), executing("third", `SELECT 1`)},
			"a query is no SQL": {executing("first", `SELECT 1`), executing("second", `nonsense`)},
		} {
			tx, err := Begin(t.Context(), conn, queries)
			if err == nil || fault.Code(err) == "" || mode != "simple_protocol" && name == "a query fails" && !strings.HasPrefix(err.Error(), "second: ") {
				t.Errorf("%s: the error is %v", name, err)
			}
			tx.Rollback(t.Context(), pgtest.WaitLimit)
			if conn.IsClosed() || conn.PgConn().TxStatus() != txIdle {
				t.Fatalf("%s: after the rollback the connection is closed, or its transaction open", name)
			}
			if got := scan1[string](t, conn, selectText, name); got != name {
				t.Errorf("%s: the next query returns %s", name, got)
			}
		}
		_ = conn.Close(t.Context())
		tx, err := Begin(t.Context(), conn, nil)
		if err == nil || !strings.HasPrefix(err.Error(), "begin: ") {
			t.Errorf("on a closed connection the error is %v", err)
		}
		tx.Rollback(t.Context(), pgtest.WaitLimit)
	})
}

// If BEGIN itself fails, the connection is in step, and its transaction can be rolled back.
func TestBeginIsRefused(t *testing.T) {
	t.Parallel()
	for _, mode := range execModes[:4] { // the backend's simple queries have no rows
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			b := newBackend(t)
			b.script = func(executed []string, answers []any) []any {
				if strings.HasPrefix(executed[0], "BEGIN") {
					return []any{failure("ERROR", "53000"), ready}
				}
				return answers
			}
			conn, _, _ := b.connect(t, mode, nil)
			tx, err := Begin(t.Context(), conn, []Query{selecting("a", new(string))})
			if err == nil || !strings.HasPrefix(err.Error(), "begin: ") || fault.Code(err) != "53000" || conn.PgConn().IsBusy() {
				t.Errorf("the error is %v; the connection is busy: %t", err, conn.PgConn().IsBusy())
			}
			tx.Rollback(t.Context(), pgtest.WaitLimit)
			inStep(t, conn)
		})
	}
}

// The error of a write or of COMMIT undoes everything, and the write that failed wraps it.
func TestCommitFails(t *testing.T) {
	t.Parallel()
	inEachMode(t, func(t *testing.T, mode string, conn *pgx.Conn, _ *pglocal.RoundTrips) {
		exec(t, conn, `CREATE TABLE kept (n bigint PRIMARY KEY, same bigint UNIQUE DEFERRABLE INITIALLY DEFERRED)`)
		keep := func(name string, n, same any) Query {
			return executing(name, `INSERT INTO kept VALUES ($1, $2)`, n, same)
		}
		swallows := func(ctx context.Context, db DBTX) error {
			_, err := db.Exec(ctx, `SELECT 1 / $1::bigint`, 0)
			if errors.Is(err, ErrRecording) {
				return err
			}
			return nil
		}
		for name, c := range map[string]struct {
			writes []Query
			prefix string
			code   string
		}{
			"the first write":   {[]Query{executing("first", `SELECT 1 / $1::bigint`, 0), keep("second", 1, 1)}, "first: ", "22012"},
			"the last write":    {[]Query{keep("first", 1, 1), keep("second", 1, 2)}, "second: ", "23505"},
			"the middle write":  {[]Query{keep("first", 1, 1), keep("second", 1, 2), keep("third", 3, 3)}, "second: ", "23505"},
			"COMMIT":            {[]Query{keep("first", 1, 1), keep("second", 2, 1)}, "commit: ", "23505"},
			"no SQL":            {[]Query{keep("first", 1, 1), executing("second", `nonsense`), keep("third", 3, 3)}, "second: ", "42601"},
			"an argument":       {[]Query{keep("first", 1, 1), keep("second", struct{}{}, 2), keep("third", 3, 3)}, "second: ", ""},
			"too few arguments": {[]Query{keep("first", 1, 1), executing("second", `INSERT INTO kept VALUES ($1, $2)`, 1)}, "second: ", ""},
			"a swallowed error": {[]Query{keep("first", 1, 1), swallows}, "", "22012"},
		} {
			pipelines := mode == "cache_statement" || mode == "exec"
			if !pipelines && (name == "a swallowed error" || mode == "simple_protocol") {
				continue // the error is the query's own, or that of the whole message
			}
			tx := begun(t, conn)
			err := tx.Commit(t.Context(), c.writes, pgtest.WaitLimit)
			if err == nil || (pipelines || name == "COMMIT") && !strings.HasPrefix(err.Error(), c.prefix) {
				t.Errorf("%s: the error is %v, want one of %q", name, err, c.prefix)
			}
			refusedByServer := mode == "exec" && name == "too few arguments"
			if pipelines && fault.Code(err) != c.code && !refusedByServer {
				t.Errorf("%s: the SQLSTATE is %q, want %q", name, fault.Code(err), c.code)
			}
			if errors.Is(err, fault.ErrUnavailable) {
				t.Errorf("%s: the error %v wraps ErrUnavailable", name, err)
			}
			tx.Rollback(t.Context(), pgtest.WaitLimit)
			if conn.IsClosed() && (mode == "cache_describe" || mode == "describe_exec") && strings.Contains(name, "argument") {
				conn = connect(t, conn.Config().ConnString(), nil) // pgx closes the connection
			}
			if conn.IsClosed() || conn.PgConn().TxStatus() != txIdle {
				t.Fatalf("%s: the connection is closed, or its transaction open", name)
			}
			if n := scan1[int](t, conn, `SELECT count(*) FROM kept`); n != 0 {
				t.Errorf("%s: %d rows are kept", name, n)
			}
		}
	})
}

// A transaction that has failed is rolled back by COMMIT, which is an error.
func TestCommitOfAFailedTransaction(t *testing.T) {
	t.Parallel()
	url := pgtest.NewEmptyURL(t)
	for _, mode := range execModes {
		conn := inSchema(t, url, mode, nil)
		tx := begun(t, conn)
		_ = tx.Send(t.Context(), []Query{executing("fails", `SELECT 1 / 0`)})
		err := tx.Commit(t.Context(), nil, pgtest.WaitLimit)
		if !errors.Is(err, errRolledBack) || conn.IsClosed() || conn.PgConn().TxStatus() != txIdle {
			t.Errorf("%s: the error is %v", mode, err)
		}
	}
}

// endless is a transaction whose rollback ends with its context; it panics if that has no deadline.
type endless struct {
	pgx.Tx
	panics bool
}

func (tx endless) Rollback(ctx context.Context) error {
	if _, ok := ctx.Deadline(); !ok || tx.panics {
		panic("no deadline")
	}
	<-ctx.Done()
	return ctx.Err()
}

// Rollback is bounded, runs on a context that has ended, and survives the panic of a hook.
func TestRollback(t *testing.T) {
	t.Parallel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		Rollback(t.Context(), endless{}, time.Millisecond)
		Rollback(t.Context(), endless{panics: true}, time.Millisecond)
	}()
	pgtest.Receive(t, "both rollbacks return", done)
	conn := connect(t, pgtest.NewEmptyURL(t), nil)
	tx := begun(t, conn)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	tx.Rollback(ctx, pgtest.WaitLimit)
	if conn.IsClosed() || conn.PgConn().TxStatus() != txIdle {
		t.Error("the connection is closed, or its transaction open")
	}
}

// Writes keep their order, also where they are taken and put back.
func TestWrites(t *testing.T) {
	t.Parallel()
	var w Writes
	order := ""
	note := func(name string) Query {
		return func(context.Context, DBTX) error { order += name; return nil }
	}
	if len(w.take()) > 0 || w.Sent() {
		t.Error("nothing counts as sent")
	}
	w.Add(note("a"), note("b"))
	taken := w.take()
	if !w.Sent() || len(w.Queries()) > 0 {
		t.Errorf("sent: %t, and %d queries are left", w.Sent(), len(w.Queries()))
	}
	w.Add(note("c"))
	w.putBack(taken, false)
	for _, query := range w.Queries() {
		_ = query(t.Context(), failing{})
	}
	if order != "abc" || w.Sent() {
		t.Errorf("the order is %s, sent: %t", order, w.Sent())
	}
	w.Drop()
	if len(w.Queries()) > 0 || w.Sent() {
		t.Errorf("%d queries are left, sent: %t", len(w.Queries()), w.Sent())
	}
}

// After a COMMIT that PostgreSQL refused there is no transaction to roll back: a ROLLBACK would be a warning in its log.
func TestRollbackAfterCommitFailed(t *testing.T) {
	t.Parallel()
	url := pgtest.NewEmptyURL(t)
	var notices []string
	conn, trips := connectCounted(t, url, func(config *pgx.ConnConfig) {
		config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { notices = append(notices, n.Message) }
	})
	exec(t, conn, `CREATE TABLE kept (n bigint UNIQUE DEFERRABLE INITIALLY DEFERRED)`)
	tx, err := Begin(t.Context(), conn, []Query{executing("insert", `INSERT INTO kept VALUES (1)`)})
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context(), []Query{executing("insert", `INSERT INTO kept VALUES (1)`)}, pgtest.WaitLimit); fault.Code(err) != fault.UniqueViolation {
		t.Fatalf("COMMIT says %v", err)
	}
	before := trips.Count()
	tx.Rollback(t.Context(), pgtest.WaitLimit)
	if sent := trips.Count() - before; sent != 0 || len(notices) > 0 {
		t.Errorf("%d messages were sent, and PostgreSQL says %q", sent, notices)
	}
}

func connectCounted(tb testing.TB, url string, change func(config *pgx.ConnConfig)) (*pgx.Conn, *pglocal.RoundTrips) {
	tb.Helper()
	trips := &pglocal.RoundTrips{}
	return connect(tb, url, func(config *pgx.ConnConfig) {
		config.DialFunc = trips.Dial
		change(config)
	}), trips
}
