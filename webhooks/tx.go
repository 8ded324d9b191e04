package webhooks

import (
	"context"
	"errors"
	"runtime/debug"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// guardedTx is the transaction as a function sees it: all of pgx.Tx, but Commit and Rollback are
// refused, and remembered even if the function swallows the error. Begin makes a savepoint as usual.
type guardedTx struct {
	pgx.Tx
	violated bool
}

func (tx *guardedTx) Commit(context.Context) error {
	tx.violated = true
	return ErrTxControl
}

func (tx *guardedTx) Rollback(context.Context) error {
	tx.violated = true
	return ErrTxControl
}

// TxStatus of a PostgreSQL connection: https://www.postgresql.org/docs/current/protocol-message-formats.html
const (
	txIdle   = 'I'
	txFailed = 'E'
)

var (
	errRawCommit      = errors.New("it ended the transaction with a statement of its own: what it did up to there is COMMITTED and cannot be undone")
	errSwallowed      = errors.New("a statement failed and its error was not returned: use a savepoint (tx.Begin) for statements that may fail")
	errRowsLeftOpen   = errors.New("it left a query's rows open: close them before returning")
	errHandlerGoexits = errors.New("it ended its goroutine with runtime.Goexit")
)

// call runs one function and checks that it left the transaction as it must be.
func call(ctx context.Context, tx pgx.Tx, fn run, ev *Event) (changed bool, err error) {
	guarded := &guardedTx{Tx: tx}
	changed, err = recovered(ctx, guarded, fn, ev)
	guarded.Tx = &refusingTx{err: pgx.ErrTxClosed} // its connection will soon be another's
	conn := tx.Conn().PgConn()
	switch status := conn.TxStatus(); {
	case conn.IsClosed():
		if err == nil {
			err = errors.New("the connection was closed")
		}
	case status == txIdle:
		err = errors.Join(errRawCommit, err)
	case err != nil:
	case guarded.violated:
		err = ErrTxControl
	case conn.IsBusy():
		err = errRowsLeftOpen
	case status == txFailed:
		err = errSwallowed
	case ctx.Err() != nil:
		err = ctx.Err()
	}
	if err != nil {
		return false, &HandlerError{EventType: ev.Type, Err: err}
	}
	return changed, nil
}

func recovered(ctx context.Context, tx pgx.Tx, fn run, ev *Event) (changed bool, err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &PanicError{Value: value, Stack: debug.Stack()}
		}
	}()
	return fn(ctx, tx, ev)
}

// refusingTx is a transaction in which nothing can be done.
type refusingTx struct {
	err   error
	conn  *pgx.Conn
	asked bool // something was tried all the same
}

func (tx *refusingTx) refuse() error {
	tx.asked = true
	return tx.err
}

func (tx *refusingTx) Begin(context.Context) (pgx.Tx, error) { return nil, tx.refuse() }

func (tx *refusingTx) Commit(context.Context) error { return tx.refuse() }

func (tx *refusingTx) Rollback(context.Context) error { return tx.refuse() }

func (tx *refusingTx) CopyFrom(context.Context, pgx.Identifier, []string, pgx.CopyFromSource) (int64, error) {
	return 0, tx.refuse()
}

func (tx *refusingTx) SendBatch(context.Context, *pgx.Batch) pgx.BatchResults {
	return refusedResults{tx.refuse()}
}

func (tx *refusingTx) LargeObjects() pgx.LargeObjects {
	_ = tx.refuse()
	return pgx.LargeObjects{}
}

func (tx *refusingTx) Prepare(context.Context, string, string) (*pgconn.StatementDescription, error) {
	return nil, tx.refuse()
}

func (tx *refusingTx) Exec(context.Context, string, ...any) (pgconn.CommandTag, error) {
	return pgconn.CommandTag{}, tx.refuse()
}

func (tx *refusingTx) Query(context.Context, string, ...any) (pgx.Rows, error) {
	return nil, tx.refuse()
}

func (tx *refusingTx) QueryRow(context.Context, string, ...any) pgx.Row { return failed{tx.refuse()} }

func (tx *refusingTx) Conn() *pgx.Conn { return tx.conn }

type refusedResults struct{ err error }

func (r refusedResults) Exec() (pgconn.CommandTag, error) { return pgconn.CommandTag{}, r.err }

func (r refusedResults) Query() (pgx.Rows, error) { return nil, r.err }

func (r refusedResults) QueryRow() pgx.Row { return failed(r) }

func (r refusedResults) Close() error { return r.err }

func (r refusedResults) Tx() pgx.Tx { return nil }
