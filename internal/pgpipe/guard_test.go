package pgpipe

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/fault"
	"github.com/pook/stripeonce/internal/pgtest"
)

// execModes are pgx's ways to run a statement: https://pkg.go.dev/github.com/jackc/pgx/v5#QueryExecMode.
var execModes = []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"}

// connect opens a connection that is closed when the test ends.
func connect(tb testing.TB, url string, change func(config *pgx.ConnConfig)) *pgx.Conn {
	tb.Helper()
	config, err := pgx.ParseConfig(url)
	if err != nil {
		tb.Fatal(err)
	}
	if change != nil {
		change(config)
	}
	ctx, cancel := context.WithTimeout(context.Background(), pgtest.WaitLimit)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// exec runs a statement.
func exec(tb testing.TB, conn *pgx.Conn, sql string, args ...any) {
	tb.Helper()
	if _, err := conn.Exec(context.Background(), sql, args...); err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
}

// scan1 runs a query of one row with one column.
func scan1[T any](tb testing.TB, conn *pgx.Conn, sql string, args ...any) (value T) {
	tb.Helper()
	if err := conn.QueryRow(context.Background(), sql, args...).Scan(&value); err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
	return value
}

// begun begins a transaction that is rolled back when the test ends, if it still can be.
func begun(tb testing.TB, conn *pgx.Conn, queries ...Query) *Tx {
	tb.Helper()
	tx, err := Begin(tb.Context(), conn, queries)
	if err != nil {
		tb.Fatal(err)
	}
	return tx
}

// statement is a handler of one statement, with its error returned or swallowed.
func statement(sql string, result func(err error) error) func(ctx context.Context, tx pgx.Tx) error {
	return func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, sql)
		return result(err)
	}
}

func returned(err error) error { return err }

func swallowed(error) error { return nil }

func replaced(error) error { return errOnPurpose }

// Run returns what a handler did to its transaction. The error wraps every wanted one.
func TestRun(t *testing.T) {
	t.Parallel()
	const fails = `SELECT 1 / 0`
	url := pgtest.NewEmptyURL(t)
	divisionByZero := errors.New("SQLSTATE 22012")
	for name, c := range map[string]struct {
		fn        func(ctx context.Context, tx pgx.Tx) error
		want      []error
		violation bool
	}{
		"nothing":                      {func(context.Context, pgx.Tx) error { return nil }, nil, false},
		"a statement":                  {statement(`SELECT 1`, returned), nil, false},
		"an error":                     {func(context.Context, pgx.Tx) error { return errOnPurpose }, []error{errOnPurpose}, false},
		"a failed statement":           {statement(fails, returned), []error{divisionByZero}, false},
		"its error replaced":           {statement(fails, replaced), []error{errOnPurpose}, false},
		"its error swallowed":          {statement(fails, swallowed), []error{errSwallowed}, true},
		"COMMIT":                       {statement(`COMMIT`, returned), []error{ErrRawCommit}, true},
		"ROLLBACK":                     {statement(`ROLLBACK`, returned), []error{ErrRawCommit}, true},
		"COMMIT and an error":          {statement(`COMMIT`, replaced), []error{ErrRawCommit, errOnPurpose}, true},
		"tx.Commit":                    {calls["Commit"], []error{fault.ErrTxControl}, true},
		"tx.Rollback":                  {calls["Rollback"], []error{fault.ErrTxControl}, true},
		"tx.Commit, swallowed":         {func(ctx context.Context, tx pgx.Tx) error { return swallowed(tx.Commit(ctx)) }, []error{fault.ErrTxControl}, true},
		"tx.Rollback, swallowed":       {func(ctx context.Context, tx pgx.Tx) error { return swallowed(tx.Rollback(ctx)) }, []error{fault.ErrTxControl}, true},
		"tx.Commit, error replaced":    {func(ctx context.Context, tx pgx.Tx) error { return replaced(tx.Commit(ctx)) }, []error{fault.ErrTxControl, errOnPurpose}, true},
		"deferred tx.Rollback":         {func(ctx context.Context, tx pgx.Tx) error { defer tx.Rollback(ctx); return nil }, []error{fault.ErrTxControl}, true},
		"rows left open":               {leavesRows(returned), []error{errRowsLeftOpen}, true},
		"rows left open, and an error": {leavesRows(replaced), []error{errOnPurpose}, false},
		"the connection closed":        {func(ctx context.Context, tx pgx.Tx) error { return tx.Conn().Close(ctx) }, []error{errConnClosed}, true},
		"closed, and an error":         {func(ctx context.Context, tx pgx.Tx) error { return replaced(tx.Conn().Close(ctx)) }, []error{errOnPurpose}, false},
		"a panic":                      {func(context.Context, pgx.Tx) error { panic("on purpose") }, []error{errors.New("panic: on purpose")}, false},
		"a panic with an error":        {func(context.Context, pgx.Tx) error { panic(errOnPurpose) }, []error{errOnPurpose}, false},
		"a panic after COMMIT":         {statement(`COMMIT`, func(error) error { panic(errOnPurpose) }), []error{ErrRawCommit, errOnPurpose}, true},
		"a savepoint":                  {inSavepoint(`SELECT 1`, calls["Commit"]), nil, false},
		"a savepoint undone":           {inSavepoint(fails, calls["Rollback"]), nil, false},
		"a savepoint that failed":      {inSavepoint(fails, func(context.Context, pgx.Tx) error { return nil }), []error{errSwallowed}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := connect(t, url, nil)
			_, err := begun(t, conn).Run(t.Context(), false, nil, c.fn)
			if len(c.want) == 0 && err != nil {
				t.Fatalf("Run returns %v", err)
			}
			for _, want := range c.want {
				if !errors.Is(err, want) && (err == nil || !strings.Contains(err.Error(), want.Error())) {
					t.Errorf("Run returns %v, want %v", err, want)
				}
			}
			if IsViolation(err) != c.violation {
				t.Errorf("the error %v is a violation: %t", err, !c.violation)
			}
			if err != nil && strings.Count(err.Error(), fault.ErrTxControl.Error()) > 1 {
				t.Errorf("the error has the violation twice: %v", err)
			}
		})
	}
}

func leavesRows(result func(err error) error) func(ctx context.Context, tx pgx.Tx) error {
	return func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Query(ctx, `SELECT 1`) //nolint:sqlclosecheck // on purpose
		return result(err)
	}
}

// inSavepoint runs a statement in a savepoint, swallows its error, and ends the savepoint.
func inSavepoint(sql string, end func(ctx context.Context, tx pgx.Tx) error) func(ctx context.Context, tx pgx.Tx) error {
	return func(ctx context.Context, tx pgx.Tx) error {
		savepoint, err := tx.Begin(ctx)
		if err != nil {
			return err
		}
		_, _ = savepoint.Exec(ctx, sql)
		return end(ctx, savepoint)
	}
}

// A panic keeps its value and its stack.
func TestRunPanics(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	conn, _, _ := b.connect(t, "cache_statement", nil)
	_, err := begun(t, conn).Run(t.Context(), false, nil, func(context.Context, pgx.Tx) error { panic(7) })
	var panicked *fault.PanicError
	if !errors.As(err, &panicked) || panicked.Value != 7 || !strings.Contains(string(panicked.Stack), "TestRunPanics") {
		t.Errorf("the error is %#v", err)
	}
}

// A handler that returns nil after the end of its context is late. A handler that returns an error is not.
func TestRunIsLate(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	for name, c := range map[string]struct {
		result func(error) error
		want   error
	}{"nil": {swallowed, errLate}, "an error": {replaced, errOnPurpose}} {
		conn, _, _ := b.connect(t, "cache_statement", nil)
		ctx, cancel := context.WithCancel(t.Context())
		_, err := begun(t, conn).Run(ctx, false, nil, func(context.Context, pgx.Tx) error { cancel(); return c.result(nil) })
		if !errors.Is(err, c.want) {
			t.Errorf("%s: Run returns %v, want %v", name, err, c.want)
		}
	}
}

// A handler's transaction and its savepoints refuse everything when it has returned.
func TestUseAfterReturn(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	conn, near, _ := b.connect(t, "cache_statement", nil)
	tx := begun(t, conn)
	kept := map[string]pgx.Tx{}
	_, err := tx.Run(t.Context(), true, nil, func(ctx context.Context, tx pgx.Tx) error {
		savepoint, err := tx.Begin(ctx)
		if err != nil {
			return err
		}
		inner, err := savepoint.Begin(ctx)
		maps.Copy(kept, map[string]pgx.Tx{"the transaction": tx, "its savepoint": savepoint, "the savepoint's savepoint": inner})
		if tx.Conn() != conn || inner.Conn() != conn {
			t.Error("Conn is another one")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	near.take()
	for which, kept := range kept {
		for name, call := range calls {
			want := pgx.ErrTxClosed
			if which == "the transaction" && (name == "Commit" || name == "Rollback") {
				want = fault.ErrTxControl
			}
			if err := call(t.Context(), kept); !errors.Is(err, want) {
				t.Errorf("%s of %s returns %v", name, which, err)
			}
		}
		if kept.Conn() != nil {
			t.Errorf("%s still has its connection", which)
		}
		_ = kept.LargeObjects()
	}
	if sent := near.take(); len(sent) > 0 {
		t.Errorf("%q was sent", sent)
	}
}

// A prepended query runs before a projection's own statements, and not before a handler's.
func TestRunSendsThePrepended(t *testing.T) {
	t.Parallel()
	uses := maps.Clone(calls)
	delete(uses, "CopyFrom") // which the backend does not implement
	delete(uses, "Commit")
	delete(uses, "Rollback")
	uses["LargeObjects"] = func(_ context.Context, tx pgx.Tx) error { _ = tx.LargeObjects(); return nil }
	uses["in a savepoint"] = func(ctx context.Context, tx pgx.Tx) error {
		savepoint, err := tx.Begin(ctx)
		return errors.Join(err, savepoint.Commit(ctx))
	}
	for name, use := range uses {
		for _, own := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				var all []string
				b := newBackend(t)
				b.script = func(executed []string, answers []any) []any {
					all = append(all, executed...)
					return answers
				}
				conn, _, _ := b.connect(t, "exec", nil)
				tx := begun(t, conn)
				tx.Prepend(selecting("prepended", new(string)))
				_, _ = tx.Run(t.Context(), own, nil, use)
				if err := tx.Commit(t.Context(), nil, pgtest.WaitLimit); err != nil {
					t.Fatal(err)
				}
				at := slices.Index(all, selectText) // the first one after BEGIN, or the last one before COMMIT
				if want := len(all) - 2; own && at != 1 || !own && at != want {
					t.Errorf("own: %t, and the statements are %q", own, all)
				}
			})
		}
	}
}

// If the prepended query fails, the projection's statement returns its error.
func TestRunWithAPrependedFailure(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	conn, _, _ := b.connect(t, "exec", nil)
	for name, call := range calls {
		if name == "Commit" || name == "Rollback" {
			continue
		}
		tx := begun(t, conn)
		tx.Prepend(func(ctx context.Context, db DBTX) error {
			if _, err := db.Exec(ctx, "SELECT 2"); err != nil {
				return err
			}
			return errOnPurpose
		})
		_, err := tx.Run(t.Context(), true, nil, func(ctx context.Context, tx pgx.Tx) error {
			err := call(ctx, tx)
			if tx.Conn() != conn {
				t.Errorf("after %s Conn is another one", name)
			}
			return err
		})
		if !errors.Is(err, errOnPurpose) {
			t.Errorf("%s returns %v", name, err)
		}
		tx.Rollback(t.Context(), pgtest.WaitLimit)
	}
}

func TestIsViolation(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]bool{
		ErrRawCommit: true, ErrChained: true, errSwallowed: true, errRowsLeftOpen: true, errConnClosed: true, errLate: true,
		fault.ErrTxControl: true, errOnPurpose: false, fault.ErrUnavailable: false,
	} {
		if IsViolation(errors.Join(context.Canceled, err)) != want || IsViolation(err) != want {
			t.Errorf("%v is a violation: %t", err, !want)
		}
	}
	if IsViolation(nil) {
		t.Error("nil is a violation")
	}
}
