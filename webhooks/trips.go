package webhooks

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pook/stripeonce/db"
)

// Statement is one statement to PostgreSQL: it makes one call on the db.DBTX that it is given, as sqlc's
// accessors do, and keeps the answer where it wants it. It is called twice, to note the statement and to read
// its answer, so that several statements can travel together: the first time its own error means nothing.
// It may be called again, for a later trip.
type Statement func(ctx context.Context, db db.DBTX) error

// Trips are a projection's work on one event, cut where it needs answers from PostgreSQL.
type Trips struct {
	// Lock is the id of the Stripe object whose writers are to come one after the other. That of the event's own object
	// is taken in the first trip if it is free. Any other, and one that is not free, is waited for where the event is
	// new, before any handler runs, and Read is sent again: all processes take their locks in the same order. "": none.
	Lock string
	// Shareable says that an event may be worked on in one transaction with others, which are about other objects: what
	// Read brings is guarded by Lock alone, and not by locks that it takes itself; all of the events' Reads come before
	// anything is written; and Apply asks nothing of its tx, but gives all it writes to later. One that asks all the
	// same is called again, in a transaction of its event's own.
	Shareable bool
	// Prepare does what needs no answer of PostgreSQL's, before an event waits to share a transaction; where it has one
	// of its own, it is not called. Nil: there is nothing.
	Prepare func()
	// Read is sent in the first trip, after the event has been looked up.
	Read []Statement
	// Apply does the work, with what Read has brought. What it gives to later is sent when a
	// function needs the transaction, and otherwise together with the event's record and COMMIT.
	Apply func(ctx context.Context, tx pgx.Tx, later *Later) (changed bool, err error)
}

// LockObject waits until no other transaction holds the lock of a Stripe object, and takes it until the transaction
// ends. The receiver holds that of the event's own object for every handler. The error wraps ErrUnavailable: if the lock
// is not acquired within Config.LockTimeout, that is no failure of the event, unless a handler called LockObject.
func LockObject(ctx context.Context, tx db.DBTX, id string) error {
	return lockError(id, db.New().ObjectLock(ctx, tx, id))
}

func lockError(id string, err error) error {
	if err == nil || errors.Is(err, ErrNoted) {
		return err
	}
	return fmt.Errorf("%w: lock %s: %w", ErrUnavailable, id, err)
}

// Later holds statements whose answers nobody waits for.
type Later struct {
	send func(ctx context.Context, statements []Statement) error // in one round trip
	list []Statement
}

// Add adds statements. Of those that are sent with COMMIT no answer is read, but an error undoes all.
func (l *Later) Add(statements ...Statement) { l.list = append(l.list, statements...) }

// Flush sends what there is in one trip, and has the answers read.
func (l *Later) Flush(ctx context.Context) error {
	if len(l.list) == 0 {
		return nil
	}
	statements := l.list
	l.list = nil
	return l.send(ctx, statements)
}

// note has each statement say what it will ask.
func note(ctx context.Context, into db.DBTX, statements []Statement) {
	for _, s := range statements {
		_ = s(ctx, into)
	}
}

// read has each statement read its answer.
func read(ctx context.Context, results pgx.BatchResults, statements []Statement) error {
	for _, s := range statements {
		if err := s(ctx, answers{results}); err != nil {
			_ = results.Close()
			return err
		}
	}
	return results.Close()
}

// ErrNoted is what a Statement gets when it is only noted. To wrap it would cost more than to note it.
var ErrNoted = errors.New("the statement is only noted")

// noted is a db.DBTX that only notes what it is asked.
type noted pgx.Batch

func (n *noted) Exec(_ context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	(*pgx.Batch)(n).Queue(sql, args...)
	return pgconn.CommandTag{}, ErrNoted
}

func (n *noted) Query(_ context.Context, sql string, args ...any) (pgx.Rows, error) {
	(*pgx.Batch)(n).Queue(sql, args...)
	return nil, ErrNoted
}

func (n *noted) QueryRow(_ context.Context, sql string, args ...any) pgx.Row {
	(*pgx.Batch)(n).Queue(sql, args...)
	return failed{ErrNoted}
}

// answers is a db.DBTX that gives the answers to what was noted, in the same order.
type answers struct{ results pgx.BatchResults }

func (a answers) Exec(context.Context, string, ...any) (pgconn.CommandTag, error) {
	return a.results.Exec()
}

func (a answers) Query(context.Context, string, ...any) (pgx.Rows, error) { return a.results.Query() }

func (a answers) QueryRow(context.Context, string, ...any) pgx.Row { return a.results.QueryRow() }

// failed is a db.DBTX that answers everything with one error, for a statement to wrap.
type failed struct{ err error }

func (f failed) Exec(context.Context, string, ...any) (pgconn.CommandTag, error) {
	return pgconn.CommandTag{}, f.err
}

func (f failed) Query(context.Context, string, ...any) (pgx.Rows, error) { return nil, f.err }

func (f failed) QueryRow(context.Context, string, ...any) pgx.Row { return f }

func (f failed) Scan(...any) error { return f.err }
