package webhooks

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/fault"
	"github.com/pook/stripeonce/internal/pgpipe"
)

// session holds the settings at the beginning of a transaction that runs handlers. A handler may change settings that the
// receiver's own queries depend on (SET LOCAL search_path, SET ROLE), or end the transaction and begin another (COMMIT AND
// CHAIN). So after a handler the receiver's next queries are preceded by restoreSession, which restores the settings, or
// fails if the transaction is another.
//
// Most handlers change no setting. Where the ledger's insert is the receiver's next query, it compares the settings
// instead, and fails if one differs. The event is then retried, and from then on the settings are restored after its
// handlers.
type session struct {
	began       db.ServerTransactionOpenRow
	lockTimeout time.Duration // that the transaction was opened with
	opened      bool
}

// errSessionChanged reports that the ledger's insert found a session that a handler had changed.
var errSessionChanged = errors.New("a handler changed a setting of its session: the event is retried, and the setting restored")

// endedByHandler is in the error of the queries that find another transaction: they cast it to a boolean.
const endedByHandler = "a handler ended the transaction"

// checksSession reports whether the ledger's insert may compare the settings instead of restoring them.
func (t *transaction) checksSession(ctx context.Context, d *delivery) bool {
	return t.session.opened && t.pipe.PipelinesCommit() && !d.restoresSession() && t.lockTimeout(ctx) == t.session.lockTimeout
}

// restoresSession reports whether a handler of the event has changed its session once.
func (d *delivery) restoresSession() bool {
	return slices.ContainsFunc(d.handlers, func(h handler) bool { return h.restores != nil && h.restores.Load() })
}

// restoreSessionFromNow has the settings restored after the event's handlers.
func (d *delivery) restoreSessionFromNow() {
	for _, h := range d.handlers {
		if h.restores != nil && !h.honorsContext {
			h.restores.Store(true)
		}
	}
}

// prepareChecked prepares the insert that compares the settings, where the connection does not have it yet: after a handler
// it would be parsed with the handler's settings.
func (t *transaction) prepareChecked(ctx context.Context, conn *pgx.Conn) error {
	d := t.deliveries[0]
	if !t.receiver.pipelines || d.inTx || !d.runsHost() {
		return nil
	}
	return pgpipe.Prepare(ctx, conn, t.insertChecked(d, &db.StripeWebhookEventInsertParams{}))
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
	t.session.lockTimeout = t.lockTimeout(ctx)
	t.session.began, err = t.receiver.queries.ServerTransactionOpen(ctx, dbtx, db.ServerTransactionOpenParams{
		LockTimeout: milliseconds(t.session.lockTimeout), ObjectID: object, LockSeed: objectLockSeed,
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
	if fault.IsCastOf(err, endedByHandler) {
		return fault.InHandler(t.deliveries[0].effective.Type, pgpipe.ErrChained)
	}
	return pgpipe.Wrap("restore the settings that a handler changed", err)
}
