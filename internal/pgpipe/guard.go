package pgpipe

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pook/stripeonce/internal/fault"
)

// ViolationError reports what a handler did to its transaction that it must not do.
type ViolationError struct{ text string }

func (e *ViolationError) Error() string { return e.text }

// The violations that Run notices when a handler has returned.
var (
	ErrRawCommit    = &ViolationError{"it ended the transaction with a statement of its own: if that was a COMMIT, what it did up to there cannot be undone"}
	ErrChained      = &ViolationError{"it ended the transaction with a statement of its own (COMMIT or ROLLBACK AND CHAIN): what it committed cannot be undone"}
	errSwallowed    = &ViolationError{"a statement failed and its error was not returned: use a savepoint (tx.Begin) for statements that may fail"}
	errRowsLeftOpen = &ViolationError{"it left a query's rows open: close them before returning"}
	errConnClosed   = &ViolationError{"it closed the connection"}
	errLate         = &ViolationError{"it returned without an error after its context had ended"}
)

// TxStatus of a PostgreSQL connection: https://www.postgresql.org/docs/current/protocol-message-formats.html
const (
	txIdle   = 'I'
	txOpen   = 'T'
	txFailed = 'E'
)

// Run calls fn with a guarded transaction, and checks that fn left the transaction as it must be. A panic in fn is
// returned as a fault.PanicError.
//
// Writes, which may be nil, precede fn's first statement: in its round trip where they can, and not at all if fn has no
// statement. An error of theirs is an OwnError, whatever fn makes of it. Own says that fn's queries are the receiver's
// own: a prepended query then precedes them, too. Used reports whether fn used the transaction.
func (t *Tx) Run(ctx context.Context, own bool, writes *Writes, fn func(ctx context.Context, tx pgx.Tx) error) (used bool, err error) {
	g := &guard{deferred: &deferred{tx: t, ctx: ctx, own: own, writes: writes}}
	err = g.run(ctx, t.tx, t.conn, fn)
	return g.used.Load(), err
}

// OwnError is an error of the receiver's own queries that preceded a handler's statement.
type OwnError struct{ Err error }

func (e *OwnError) Error() string { return e.Err.Error() }

func (e *OwnError) Unwrap() error { return e.Err }

func (g *guard) run(ctx context.Context, tx pgx.Tx, conn *pgx.Conn, fn func(ctx context.Context, tx pgx.Tx) error) error {
	err := recovered(ctx, &guardedTx{guard: g, tx: tx}, fn)
	g.closed.Store(true)
	err = g.check(ctx, conn.PgConn(), err)
	if g.deferred != nil && g.deferred.failed != nil && !errors.Is(err, ErrRawCommit) {
		return &OwnError{g.deferred.failed}
	}
	return err
}

// check returns what fn violated, or its error.
func (g *guard) check(ctx context.Context, conn *pgconn.PgConn, err error) error {
	switch status := conn.TxStatus(); {
	case conn.IsClosed():
		if err == nil {
			return errConnClosed
		}
	case status == txIdle:
		return errors.Join(ErrRawCommit, err)
	case g.violated.Load() && !errors.Is(err, fault.ErrTxControl):
		return errors.Join(fault.ErrTxControl, err)
	case err != nil:
	case conn.IsBusy():
		return errRowsLeftOpen
	case status == txFailed:
		return errSwallowed
	case ctx.Err() != nil:
		return errLate
	}
	return err
}

func recovered(ctx context.Context, tx pgx.Tx, fn func(ctx context.Context, tx pgx.Tx) error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &fault.PanicError{Value: value, Stack: debug.Stack()}
		}
	}()
	return fn(ctx, tx)
}

// IsViolation reports whether err is what a handler did to its transaction.
func IsViolation(err error) bool {
	return errors.As(err, new(*ViolationError)) || errors.Is(err, fault.ErrTxControl)
}

// guard watches over the transaction that a handler receives. Commit and Rollback are refused, and remembered even if
// the handler swallows the error. When the handler has returned everything is refused, in its savepoints too: the
// connection will soon be another event's.
type guard struct {
	violated atomic.Bool
	closed   atomic.Bool
	used     atomic.Bool
	deferred *deferred // nil: nothing precedes the handler's statements
}

// guardedTx is the transaction, or a savepoint in it, as a handler sees it: all of pgx.Tx.
type guardedTx struct {
	*guard
	tx        pgx.Tx
	savepoint bool
}

// use returns what a statement runs on, when what precedes it has run.
func (tx *guardedTx) use(ctx context.Context) pgx.Tx {
	if tx.closed.Load() {
		return &refusingTx{err: pgx.ErrTxClosed}
	}
	tx.used.Store(true)
	if tx.deferred != nil {
		if err := tx.deferred.flush(ctx); err != nil {
			return &refusingTx{err: err, conn: tx.tx.Conn()}
		}
	}
	return tx.tx
}

// useWith sends a statement together with what precedes it, if it can. Then the statement's result is the next one.
func (tx *guardedTx) useWith(ctx context.Context, sql string, args []any) (results pgx.BatchResults, err error) {
	if tx.closed.Load() || tx.deferred == nil || !tx.deferred.pipelines(args) {
		return nil, nil
	}
	tx.used.Store(true)
	if len(args) > 0 {
		if rewriter, ok := args[0].(pgx.QueryRewriter); ok { // pgx would do it after the queries have been taken
			if sql, args, err = rewriter.RewriteQuery(ctx, tx.tx.Conn(), sql, args[1:]); err != nil {
				return nil, fmt.Errorf("rewrite query failed: %w", err)
			}
			if len(args) == 0 { // it may be several statements
				return nil, nil
			}
		}
	}
	return tx.deferred.sendWith(ctx, sql, args)
}

func (tx *guardedTx) Begin(ctx context.Context) (pgx.Tx, error) {
	savepoint, err := tx.use(ctx).Begin(ctx)
	if err != nil {
		return nil, err
	}
	return &guardedTx{guard: tx.guard, tx: savepoint, savepoint: true}, nil
}

func (tx *guardedTx) Commit(ctx context.Context) error {
	if tx.savepoint {
		return tx.use(ctx).Commit(ctx)
	}
	tx.violated.Store(true)
	return fault.ErrTxControl
}

func (tx *guardedTx) Rollback(ctx context.Context) error {
	if tx.savepoint {
		return tx.use(ctx).Rollback(ctx)
	}
	tx.violated.Store(true)
	return fault.ErrTxControl
}

func (tx *guardedTx) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (int64, error) {
	return tx.use(ctx).CopyFrom(ctx, table, columns, rows)
}

func (tx *guardedTx) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	return tx.use(ctx).SendBatch(ctx, b)
}

func (tx *guardedTx) LargeObjects() pgx.LargeObjects {
	return tx.use(tx.context()).LargeObjects()
}

func (tx *guardedTx) Prepare(ctx context.Context, name, sql string) (*pgconn.StatementDescription, error) {
	return tx.use(ctx).Prepare(ctx, name, sql)
}

func (tx *guardedTx) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if len(args) == 0 { // pgx sends it by the simple protocol, since it may be several statements
		return tx.use(ctx).Exec(ctx, sql)
	}
	results, err := tx.useWith(ctx, sql, args)
	switch {
	case err != nil:
		return pgconn.CommandTag{}, err
	case results == nil:
		return tx.use(ctx).Exec(ctx, sql, args...)
	}
	tag, err := results.Exec()
	return tag, closeResults(results, err)
}

func (tx *guardedTx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	results, err := tx.useWith(ctx, sql, args)
	switch {
	case err != nil:
		return (&refusingTx{err: err}).Query(ctx, sql)
	case results == nil:
		return tx.use(ctx).Query(ctx, sql, args...)
	}
	rows, err := results.Query()
	if err != nil {
		return rows, closeResults(results, err)
	}
	return &lastRows{Rows: rows, results: results}, nil
}

func (tx *guardedTx) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	results, err := tx.useWith(ctx, sql, args)
	switch {
	case err != nil:
		return failing{err}
	case results == nil:
		return tx.use(ctx).QueryRow(ctx, sql, args...)
	}
	return &lastRow{results}
}

// Conn returns the connection, on which a handler sees everything that precedes it.
func (tx *guardedTx) Conn() *pgx.Conn {
	if tx.closed.Load() {
		return nil
	}
	return tx.use(tx.context()).Conn()
}

// context is the handler's, for methods without one.
func (tx *guardedTx) context() context.Context {
	if tx.deferred == nil {
		return context.Background()
	}
	return tx.deferred.ctx
}
