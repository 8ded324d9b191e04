package engine

import (
	"bytes"
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/pgpipe"
	"github.com/pook/stripeonce/internal/projection"
	"github.com/pook/stripeonce/webhooks"
)

// AnyEvent is an empty unlessApplied, which matches no event.
const AnyEvent = ""

// application is the application of one event to its row.
type application[T any] struct {
	*Engine[T]
	ev       *webhooks.Event
	key      Key
	stored   *Row[T]
	version  *Version[T] // that Apply has written; nil: the row stays as it is
	follows  bool        // stored is what an earlier event of the batch has left, and base what the table has
	base     *Row[T]
	readAt   *time.Time // by PostgreSQL's clock; nil: OnChange does not need it
	hasKept  bool       // the row's newest version was kept when the event came, and may still be the row's
	incoming *T         // nil until prepare has decoded it
	err      error      // of decoding
}

// Plan returns the plan of an event: the object's lock and row are requested together with the ledger.
func (e *Engine[T]) Plan(ev *webhooks.Event) projection.Plan {
	a := &application[T]{Engine: e, ev: ev, key: e.store.Key(ev.Account, ev.Livemode, e.rules.idOf(ev))}
	if ev.Thin() && ev.Object == nil {
		return projection.Plan{Apply: func(ctx context.Context, tx pgx.Tx, _ *pgpipe.Writes) (bool, error) {
			return false, a.fetchThin(ctx, tx)
		}}
	}
	if a.key.ID == "" { // it has no id that fits the ledger's column
		return projection.Plan{Apply: a.apply}
	}
	plan := projection.Plan{
		Lock: a.key.ID, Batchable: e.config.OnChange == nil || e.config.BatchOnChange, Prepare: a.prepare,
		Read: []pgpipe.Query{a.read}, Apply: a.apply,
	}
	if e.config.OnChange == nil {
		plan.Row, plan.State, plan.Follow, plan.Replaces = rowID[T]{e, a.key}, a, a.follow, e.rules.Replaces
		return plan
	}
	a.hasKept = e.recent.has(a.key)
	plan.Read = append(plan.Read, a.readClock)
	return plan
}

// rowID is the identity of a row.
type rowID[T any] struct {
	engine *Engine[T]
	key    Key
}

// follow stands for read: the row is as an earlier event of the batch has left it. It returns false if that has left a row of
// another second, whose events it did not read, and this event is of the row's second.
func (a *application[T]) follow(earlier any) bool {
	b := earlier.(*application[T])
	a.follows, a.base, a.stored = true, b.written(), b.stored
	if b.version != nil {
		a.stored = b.version.row(b.store.Head(b.version.State))
	}
	return a.stored == nil || a.stored.Events != nil || a.stored.set != nil || !equal(a.stored.EventCreated, CreatedAt(a.ev))
}

func equal(a, b *time.Time) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Equal(*b)
}

// written returns the row that the table has when the event's queries are sent.
func (a *application[T]) written() *Row[T] {
	if a.follows && a.rules.Replaces {
		return a.base
	}
	return a.stored
}

// read reads the row: all of it for a fetched object, for one that is collected by customer, and for OnChange unless its version is
// kept; otherwise only what orders events.
func (a *application[T]) read(ctx context.Context, db pgpipe.DBTX) (err error) {
	if a.config.OnChange != nil && !a.hasKept || a.ev.Current != nil || a.rules.Collect != nil {
		a.stored, err = a.store.Load(ctx, db, a.key, a.ev.ID)
		return err
	}
	a.stored, err = a.store.Ordering(ctx, db, a.key, CreatedAt(a.ev), a.ev.ID)
	return err
}

// readClock reads the time that the row is written with, so that OnChange receives it before the row is sent.
func (a *application[T]) readClock(ctx context.Context, db pgpipe.DBTX) (err error) {
	a.readAt, err = a.store.Clock(ctx, db)
	return err
}

// CreatedAt returns when Stripe created an event, or nil if the event does not have the time.
func CreatedAt(ev *webhooks.Event) *time.Time {
	if ev.Created.IsZero() {
		return nil
	}
	return &ev.Created
}

// prepare decodes the event's object.
func (a *application[T]) prepare() {
	if a.incoming == nil && a.err == nil {
		a.incoming, a.err = a.store.Decode(a.ev)
	}
}

// apply stores the event's object unless the stored one is newer.
func (a *application[T]) apply(ctx context.Context, tx pgx.Tx, writes *pgpipe.Writes) (changed bool, err error) {
	next, err := a.nextVersion(ctx, tx)
	if err != nil || next == nil {
		return false, err
	}
	if a.config.OnChange != nil && a.readAt == nil {
		if err := a.readClock(ctx, tx); err != nil {
			return false, err
		}
	}
	if err := a.complete(ctx, tx); err != nil {
		return false, err
	}
	queries, err := a.store.Write(a.written(), next, a.readAt)
	if err != nil {
		return false, err
	}
	writes.Add(queries...)
	a.version = next
	a.recent.keep(a.key, next, a.store)
	defer func() {
		if err == nil {
			a.warnOfMore(ctx, next.State, "event_id", a.ev.ID)
		}
	}()
	// An event with the same state has only changed the columns that order later events.
	if a.stored != nil && a.hasState(next) {
		return false, nil
	}
	if a.config.OnChange == nil || next.Tombstone {
		return true, nil
	}
	return true, a.notify(ctx, tx, a.stored, next, a.ev)
}

// hasState reports whether the row has the state of a version.
func (a *application[T]) hasState(next *Version[T]) bool {
	if a.stored.Whole {
		return a.store.Same(a.stored.State, next.State)
	}
	return bytes.Equal(next.Digest, a.stored.Digest)
}

// nextVersion returns the version that the row becomes, or nil if it stays as it is.
func (a *application[T]) nextVersion(ctx context.Context, tx pgx.Tx) (next *Version[T], err error) {
	if a.isGone() {
		return a.nextGone()
	}
	a.prepare()
	if a.err != nil {
		return nil, a.err
	}
	if id := a.store.Head(a.incoming).ID; id != a.key.ID { // such as an id from which a NUL was removed
		a.key.ID = id
		if a.stored, err = a.lockAndLoad(ctx, tx, a.key); err != nil {
			return nil, err
		}
	}
	return a.next(ctx, a.ev, a.incoming, a.stored)
}

// complete makes the stored row a whole one, for OnChange: by the version that is kept, or by reading it.
func (a *application[T]) complete(ctx context.Context, tx pgx.Tx) (err error) {
	if a.config.OnChange == nil || a.stored == nil || a.stored.Whole {
		return nil
	}
	if kept := a.recent.find(a.key, a.stored, a.store); kept != nil {
		a.stored.State, a.stored.Whole = kept, true
		return nil
	}
	a.stored, err = a.store.Load(ctx, tx, a.key, AnyEvent)
	return err
}

// fetchThin requests a thin event's object, unless the row is of a later response.
func (a *application[T]) fetchThin(ctx context.Context, tx pgx.Tx) error {
	stored, err := a.store.Load(ctx, tx, a.key, AnyEvent)
	if err == nil {
		err = stored.mayBecome(a.ev, a.rules.noun())
	}
	if err != nil || stored.covers(a.ev) {
		return err
	}
	return a.refetch(a.ev, stored)
}

// lockAndLoad waits for the object's lock and returns its row, or nil if there is none.
func (e *Engine[T]) lockAndLoad(ctx context.Context, tx pgx.Tx, key Key) (*Row[T], error) {
	if err := webhooks.LockObject(ctx, tx, key.ID); err != nil {
		return nil, err
	}
	return e.store.Load(ctx, tx, key, AnyEvent)
}
