// Package projection is how stripeonce's own packages, such as subscriptions, register projections whose queries join
// the receiver's round trips. A projection keeps rows of its own equal to Stripe's state.
//
// A host registers simpler projections with webhooks.Project. These types stay out of the public API, so that they can
// change with the receiver.
package projection

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/pgpipe"
)

// Projection is one registered projection.
type Projection struct {
	// Name is what it keeps, such as "subscription". It can be registered once for each pattern: two projections of the same rows
	// would overwrite each other's.
	Name string
	// Events is the pattern of the event types that it projects, such as "customer.subscription.*".
	Events string
	// Matches reports whether it projects an event, a *webhooks.Event, whose type matches Events. An event that it does not is
	// ignored if it has no other handler. Nil: it projects all of them.
	Matches func(event any) bool
	// HonorsContext reports whether everything in it returns promptly when its context is canceled, which a handler that
	// somebody else wrote may not. Where this holds for everything that an event runs, the receiver needs no goroutine
	// that it could leave behind. If it is not true, the reply hangs as long as the handler.
	HonorsContext bool
	// BatchesHost reports whether what somebody else wrote may run in a batch, under a savepoint.
	BatchesHost bool
	// Plan returns the work on an event, a *webhooks.Event. It is called for each attempt, outside the transaction.
	Plan func(event any) Plan
	// Reprocess calls the host's OnChange once more for an event, a *webhooks.Event, that took effect before: with the stored row as
	// it is, which does not change. The object's lock is held if the event has its id. Nil: there is no OnChange.
	Reprocess func(ctx context.Context, tx pgx.Tx, event any) error
	// Tables are the tables that it uses, beside the receiver's own. Ready names the privileges that are missing.
	Tables []Table
	// Trial writes rows with random ids to Tables, in a transaction that is rolled back, and reads them back. It returns
	// fault.ErrNotReadBack where they are not as it wrote them. Ready calls it.
	Trial func(ctx context.Context, tx pgx.Tx) error
}

// Table is a table and the privileges that serving needs on it, such as "SELECT" and "INSERT".
type Table struct {
	Name       string
	Privileges []string
}

// Plan is a projection's work on one event, cut where it needs results from PostgreSQL.
type Plan struct {
	// Lock is the id of the Stripe object whose writers are serialized; "": none. The lock of the event's own object is tried
	// in the first round trip. A contended lock, and the lock of another object, is waited for before any handler runs, and
	// Read is then sent again. All processes take locks in the same order.
	Lock string
	// Batchable reports whether the event may share a transaction with other events. It requires that Lock alone guards what
	// Read reads, that all Reads may precede all writes, and that Apply adds to writes and does not use tx, but for what
	// Projection.BatchesHost declares. If Apply uses tx all the same, the event is retried in its own transaction.
	Batchable bool
	// Prepare does what needs no result, before the event waits to join a batch. It is not called where the event has a
	// transaction of its own. Nil: there is nothing to prepare.
	Prepare func()
	// Read is sent in the first round trip, after the lookup of the event.
	Read []pgpipe.Query
	// Row identifies the one row that Read reads and Apply writes, and is comparable. Nil: the events of one object are never in
	// one batch. Otherwise they may be, if the event has no other handler, and Follow is called before Apply.
	Row any
	// State is what Follow gets for the row's next event.
	State any
	// Follow stands for Read where an earlier event of the same batch and row has been applied: the row is as that has left it,
	// whose State Follow gets. It returns false if that did not read enough of the row.
	Follow func(earlier any) bool
	// Replaces reports that what Apply adds to writes writes the whole row, so that what an earlier event of the batch added
	// need not be sent.
	Replaces bool
	// Apply does the work, with what Read has read. What it adds to writes is sent when a handler needs the transaction,
	// else together with the event's row and COMMIT.
	Apply func(ctx context.Context, tx pgx.Tx, writes *pgpipe.Writes) (changed bool, err error)
}

// Register adds a projection to handlers, a *webhooks.Handlers. Package webhooks sets it: it imports this package, so
// that its types cannot be named here.
var Register func(handlers any, p Projection)

type hookKey struct{}

// WithHook returns a context in which StartHook calls start.
func WithHook(ctx context.Context, start func(ctx context.Context) (context.Context, func(error))) context.Context {
	return context.WithValue(ctx, hookKey{}, start)
}

// StartHook is called before the host's OnChange. It returns the context for it, and what is to be called with its error when it
// has returned. Package webhooks traces the call; without a tracer, nothing happens.
func StartHook(ctx context.Context) (context.Context, func(error)) {
	if start, ok := ctx.Value(hookKey{}).(func(context.Context) (context.Context, func(error))); ok {
		return start(ctx)
	}
	return ctx, func(error) {}
}
