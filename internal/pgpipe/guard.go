package pgpipe

import (
	"context"
	"errors"
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
	ErrRawCommit    = &ViolationError{"it ended the transaction with a statement of its own: what it did up to there is COMMITTED and cannot be undone"}
	ErrChained      = &ViolationError{"it ended the transaction with a statement of its own (COMMIT or ROLLBACK AND CHAIN): what it committed cannot be undone"}
	errSwallowed    = &ViolationError{"a statement failed and its error was not returned: use a savepoint (tx.Begin) for statements that may fail"}
	errRowsLeftOpen = &ViolationError{"it left a query's rows open: close them before returning"}
	errConnClosed   = &ViolationError{"it closed the connection"}
	errLate         = &ViolationError{"it returned without an error after its context had ended"}
)

// TxStatus of a PostgreSQL connection: https://www.postgresql.org/docs/current/protocol-message-formats.html
const (
	txIdle   = 'I'
	txFailed = 'E'
)

// Run calls fn with a guarded transaction, and checks that fn left the transaction as it must be. A panic in fn is
// returned as a fault.PanicError. Own says that fn's queries are the receiver's own: a prepended query then comes before
// them.
func (t *Tx) Run(ctx context.Context, own bool, fn func(ctx context.Context, tx pgx.Tx) error) error {
	g := &guard{}
	if own {
		g.before = func(ctx context.Context) error { return t.Send(ctx, nil) }
	}
	return g.run(ctx, t.tx, t.conn, fn)
}

func (g *guard) run(ctx context.Context, tx pgx.Tx, conn *pgx.Conn, fn func(ctx context.Context, tx pgx.Tx) error) error {
	err := recovered(ctx, &guardedTx{guard: g, tx: tx}, fn)
	g.closed.Store(true)
	return g.check(ctx, conn.PgConn(), err)
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
	before   func(ctx context.Context) error // comes before each statement; nil: nothing does
}

// guardedTx is the transaction, or a savepoint in it, as a handler sees it: all of pgx.Tx.
type guardedTx struct {
	*guard
	tx        pgx.Tx
	savepoint bool
}

// use returns what a statement runs on.
func (tx *guardedTx) use(ctx context.Context) pgx.Tx {
	if tx.closed.Load() {
		return &refusingTx{err: pgx.ErrTxClosed}
	}
	if tx.before != nil {
		if err := tx.before(ctx); err != nil {
			return &refusingTx{err: err, conn: tx.tx.Conn()}
		}
	}
	return tx.tx
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
	return tx.use(context.Background()).LargeObjects()
}

func (tx *guardedTx) Prepare(ctx context.Context, name, sql string) (*pgconn.StatementDescription, error) {
	return tx.use(ctx).Prepare(ctx, name, sql)
}

func (tx *guardedTx) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	return tx.use(ctx).Exec(ctx, sql, args...)
}

func (tx *guardedTx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return tx.use(ctx).Query(ctx, sql, args...)
}

func (tx *guardedTx) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return tx.use(ctx).QueryRow(ctx, sql, args...)
}

func (tx *guardedTx) Conn() *pgx.Conn {
	if tx.closed.Load() {
		return nil
	}
	return tx.tx.Conn()
}
