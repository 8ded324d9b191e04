package webhooks

import (
	"context"
	"errors"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pook/stripeonce/internal/fault"
)

// guard watches over the transaction that a handler is given. Commit and Rollback are refused, and remembered even if
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

// use returns what a statement is to be done on.
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
	return ErrTxControl
}

func (tx *guardedTx) Rollback(ctx context.Context) error {
	if tx.savepoint {
		return tx.use(ctx).Rollback(ctx)
	}
	tx.violated.Store(true)
	return ErrTxControl
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

// TxStatus of a PostgreSQL connection: https://www.postgresql.org/docs/current/protocol-message-formats.html
const (
	txIdle   = 'I'
	txFailed = 'E'
)

var (
	errRawCommit      = errors.New("it ended the transaction with a statement of its own: what it did up to there is COMMITTED and cannot be undone")
	errSwallowed      = errors.New("a statement failed and its error was not returned: use a savepoint (tx.Begin) for statements that may fail")
	errRowsLeftOpen   = errors.New("it left a query's rows open: close them before returning")
	errConnClosed     = errors.New("it closed the connection")
	errLate           = errors.New("it returned without an error after its context had ended")
	errHandlerGoexits = errors.New("it ended its goroutine with runtime.Goexit")
)

// call runs one of the work's handlers.
func (t *transaction) call(ctx context.Context, i int, h handler, ev *Event) (changed bool, err error) {
	if h.trips != nil {
		return t.callProjection(ctx, t.trips[i], h, ev)
	}
	if err := t.later.Flush(ctx); err != nil { // a handler may look at what those before it have written
		return false, err
	}
	return t.callHost(ctx, h.run, ev)
}

// callHost runs a handler of the host's.
func (t *transaction) callHost(ctx context.Context, fn run, ev *Event) (changed bool, err error) {
	t.handling, t.handlerRan, t.session.foreign = true, true, true
	defer t.clock(time.Now())
	if changed, err = t.guarded(ctx, &guard{}, fn, ev); err != nil {
		return false, handlerError(err, ev)
	}
	return changed, nil
}

func handlerError(err error, ev *Event) error {
	if fault.IsHandler(err) {
		return err
	}
	return &HandlerError{EventType: ev.Type, Err: err}
}

// callProjection runs a projection, whose statements are the receiver's own. It may call a function of the host's.
func (t *transaction) callProjection(ctx context.Context, trips Trips, h handler, ev *Event) (changed bool, err error) {
	restore := func(ctx context.Context) error { return t.sendOwn(ctx, nil) }
	if !h.heeds {
		defer t.clock(time.Now())
	}
	changed, err = t.guarded(ctx, &guard{before: restore}, func(ctx context.Context, tx pgx.Tx, _ *Event) (bool, error) {
		return trips.Apply(ctx, tx, &t.later)
	}, ev)
	if err != nil {
		return false, t.projectionError(ctx, err, ev)
	}
	if !h.heeds {
		t.handlerRan, t.session.foreign = true, true
	}
	return changed, nil
}

// clock adds up how long handlers of the host's take.
func (t *transaction) clock(began time.Time) { t.handlersTook += time.Since(began) }

// projectionError tells an error of the projection itself, which is the event's failure (it cannot read the object, it
// panics, the host's function in it failed), from that of a statement, which classify looks at.
func (t *transaction) projectionError(ctx context.Context, err error, ev *Event) error {
	switch {
	case fault.IsHandler(err), errors.As(err, new(*PanicError)), errors.Is(err, errConnClosed), errors.Is(err, errLate),
		errors.Is(err, errRawCommit), errors.Is(err, errSwallowed), errors.Is(err, errRowsLeftOpen), errors.Is(err, ErrTxControl):
	case errors.Is(err, ErrUnavailable), fault.Code(err) != "", ctx.Err() != nil, t.conn.IsClosed():
		return err
	}
	return handlerError(err, ev)
}

// guarded runs fn and checks that it left the transaction as it must be.
func (t *transaction) guarded(ctx context.Context, g *guard, fn run, ev *Event) (changed bool, err error) {
	changed, err = recovered(ctx, &guardedTx{guard: g, tx: t.tx}, fn, ev)
	g.closed.Store(true)
	conn := t.tx.Conn().PgConn()
	switch status := conn.TxStatus(); {
	case conn.IsClosed():
		if err == nil {
			err = errConnClosed
		}
	case status == txIdle:
		err = errors.Join(errRawCommit, err)
	case g.violated.Load() && !errors.Is(err, ErrTxControl):
		err = errors.Join(ErrTxControl, err)
	case err != nil:
	case conn.IsBusy():
		err = errRowsLeftOpen
	case status == txFailed:
		err = errSwallowed
	case ctx.Err() != nil:
		err = errLate
	}
	return changed && err == nil, err
}

func recovered(ctx context.Context, tx pgx.Tx, fn run, ev *Event) (changed bool, err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &PanicError{Value: value, Stack: debug.Stack()}
		}
	}()
	return fn(ctx, tx, ev)
}
