package webhooks

import (
	"context"
	"errors"
	"runtime/debug"

	"github.com/jackc/pgx/v5"
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
func call(ctx context.Context, tx pgx.Tx, h handler, ev *Event) (changed bool, err error) {
	guarded := &guardedTx{Tx: tx}
	changed, err = recovered(ctx, guarded, h, ev)
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

func recovered(ctx context.Context, tx pgx.Tx, h handler, ev *Event) (changed bool, err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &PanicError{Value: value, Stack: debug.Stack()}
		}
	}()
	return h.run(ctx, tx, ev)
}
