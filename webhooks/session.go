package webhooks

import (
	"context"
	"errors"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/fault"
	"github.com/pook/stripeonce/internal/pgpipe"
)

// session holds the settings at the beginning of a transaction that runs handlers. A handler may change settings that the
// receiver's own queries depend on (SET LOCAL search_path, SET ROLE), or end the transaction and begin another (COMMIT AND
// CHAIN). So after a handler the receiver's next queries are preceded by restoreSession, which restores the settings, or
// fails if the transaction is another.
type session struct {
	began  db.ServerTransactionOpenRow
	opened bool
}

// writable refuses a transaction that cannot write before any handler runs in it. From here on, one that has become
// read-only was made so by a handler.
func (s *session) writable() error {
	if s.opened && s.began.ReadOnly {
		return fault.Unavailable(ErrReadOnly)
	}
	return nil
}

// openSession is the first query of a transaction in which handlers run. It takes the lock of the event's object if that
// is free.
func (t *transaction) openSession(ctx context.Context, dbtx pgpipe.DBTX) (err error) {
	d := t.deliveries[0]
	object := d.lock
	if d.customer != "" || t.batch {
		object = "" // lockBoth or lockAll follows
	}
	t.session.began, err = t.receiver.queries.ServerTransactionOpen(ctx, dbtx, db.ServerTransactionOpenParams{
		LockTimeout: milliseconds(t.lockTimeout(ctx)), ObjectID: object, LockSeed: objectLockSeed,
	})
	t.session.opened, d.locked = err == nil, t.session.began.Locked
	return pgpipe.Wrap("open the transaction", err)
}

// restoreSession precedes the receiver's own queries when a handler has run.
func (t *transaction) restoreSession(ctx context.Context, dbtx pgpipe.DBTX) error {
	began := &t.session.began
	err := t.receiver.queries.ServerTransactionRestore(ctx, dbtx, db.ServerTransactionRestoreParams{
		Began: began.Began, LockTimeout: milliseconds(t.lockTimeout(ctx)), SessionLockTimeout: began.SessionLockTimeout,
		Settings: began.Settings,
	})
	if !errors.Is(err, pgpipe.ErrRecording) && fault.Code(err) == fault.InvalidText {
		return fault.InHandler(t.deliveries[0].effective.Type, pgpipe.ErrChained)
	}
	return pgpipe.Wrap("restore the settings that a handler changed", err)
}
