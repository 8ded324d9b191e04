package subscriptions

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/fault"
	"github.com/pook/stripeonce/internal/pgpipe"
	"github.com/pook/stripeonce/internal/projection"
	"github.com/pook/stripeonce/webhooks"
)

// Refetch configures when the projection fetches a subscription's current object from Stripe, which needs
// webhooks.Config.APIKey.
type Refetch string

const (
	// RefetchAmbiguous fetches only if the events do not settle their order. It is the default.
	RefetchAmbiguous Refetch = "ambiguous"
	// RefetchAlways fetches for every event and stores the fetched object.
	RefetchAlways Refetch = "always"
	// RefetchNever never fetches.
	RefetchNever Refetch = "never"
)

// Config configures the projection. The zero value is fine.
type Config struct {
	// OnChange is called for each change of a subscription's state, in the transaction that writes it and under the
	// subscription's lock. It is not called for a duplicate, a stale event, or an event with the same state, which is
	// one whose columns, items and metadata equal the stored ones. For each subscription, Before is the After of the
	// previous call. An error rolls back the whole event, and Stripe retries. Optional.
	OnChange func(ctx context.Context, tx pgx.Tx, c Change) error
	// BatchOnChange declares that OnChange may run in a transaction with other events, under a savepoint: see
	// webhooks.Batchable for what that changes. It is faster where several events are in progress. Defaults to false.
	BatchOnChange bool
	// KeepRecent is the number of subscriptions whose newest version is kept in memory, so that PostgreSQL need not read the
	// whole row for the next Before: those that this process wrote last, each of its object's size and about 2 kB. An object
	// of more than 32 KiB is not kept. Without OnChange, none are. SQL of yours that changes rows of these
	// tables is then not seen in Before. Defaults to DefaultKeepRecent, 1024; negative: none.
	KeepRecent int
	// Refetch configures when the current object is fetched from Stripe. Defaults to RefetchAmbiguous.
	Refetch Refetch
	// Logger receives a warning whenever a tie-break settles an order. Defaults to slog.Default().
	Logger *slog.Logger
}

// Change is one change of a subscription.
type Change struct {
	Before *Subscription   // nil on the first
	After  *Subscription   // never nil
	Event  *webhooks.Event // the event that caused it; nil on an import (Verify with Fix)
}

// Activated reports whether the customer became entitled by this change: the status of After is active or trialing, and
// Before is nil or its status was neither.
func (c Change) Activated() bool {
	return c.After.Status.Entitled() && (c.Before == nil || !c.Before.Status.Entitled())
}

// Canceled reports whether the subscription was canceled by this change: the status of After is canceled, and Before is
// nil or its status was another. A cancellation at the period's end counts when the period ends.
func (c Change) Canceled() bool {
	return c.After.Status == StatusCanceled && (c.Before == nil || c.Before.Status != StatusCanceled)
}

// Projection keeps the tables up to date. Register creates it.
type Projection struct {
	queries *db.Queries
	config  Config
	recent  *recent

	chain, refetched, tieBreak, incomplete atomic.Uint64
}

// Stats counts how events of one second were ordered, and how many subscriptions were stored without all items.
type Stats struct {
	Chain     uint64 // by the chain of their previous attributes
	Refetched uint64 // by fetching the subscription from Stripe
	TieBreak  uint64 // by a tie-break: the same result for every order of arrival, but possibly a wrong one
	// Incomplete counts the events and imports that were stored with a truncated list of items (has_more). The row's
	// items_complete is false.
	Incomplete uint64
}

// Stats returns the counts since Register. A delivery that is retried counts again.
func (p *Projection) Stats() Stats {
	return Stats{Chain: p.chain.Load(), Refetched: p.refetched.Load(), TieBreak: p.tieBreak.Load(), Incomplete: p.incomplete.Load()}
}

// Register registers the projection for customer.subscription.* events. A nil config is the zero Config. Register panics
// on an unknown Refetch.
func Register(h *webhooks.Handlers, config *Config) *Projection {
	p := &Projection{queries: db.New()}
	if config != nil {
		p.config = *config
	}
	switch p.config.Refetch {
	case "":
		p.config.Refetch = RefetchAmbiguous
	case RefetchAmbiguous, RefetchAlways, RefetchNever:
	default:
		panic(fmt.Sprintf("subscriptions.Config.Refetch is %q: use %q, %q or %q", p.config.Refetch, RefetchAmbiguous, RefetchAlways, RefetchNever))
	}
	if p.config.OnChange != nil {
		p.recent = newRecent(cmp.Or(p.config.KeepRecent, DefaultKeepRecent))
	}
	if p.config.Logger == nil {
		p.config.Logger = slog.Default()
	}
	projection.Register(h, projection.Projection{
		Events:        "customer.subscription.*",
		HonorsContext: p.config.OnChange == nil,
		BatchesHost:   p.config.BatchOnChange,
		Plan:          func(ev any) projection.Plan { return p.plan(ev.(*webhooks.Event)) },
		Tables: []projection.Table{
			{Name: "subscriptions", Privileges: []string{"SELECT", "INSERT", "UPDATE"}},
			{Name: "subscription_items", Privileges: []string{"SELECT", "INSERT", "UPDATE", "DELETE"}},
		},
		Trial: p.try,
	})
	return p
}

// application is the application of one event to its row.
type application struct {
	*Projection
	ev       *webhooks.Event
	id       string // the subscription's
	stored   *storedRow
	readAt   *time.Time    // by PostgreSQL's clock; nil: OnChange does not need it
	hasKept  bool          // the row's newest version was kept when the event came, and may still be the row's
	incoming *Subscription // nil until prepare has decoded it
	err      error         // of decoding
}

// plan returns the plan of an event: the subscription's lock and row are requested together with the ledger.
func (p *Projection) plan(ev *webhooks.Event) projection.Plan {
	a := &application{Projection: p, ev: ev, id: ev.ObjectID()}
	if ev.Thin() && ev.Object == nil {
		return projection.Plan{Apply: a.fetchThin}
	}
	if a.id == "" { // it has no id that fits the ledger's column
		return projection.Plan{Apply: a.apply}
	}
	plan := projection.Plan{Lock: a.id, Batchable: a.config.OnChange == nil || a.config.BatchOnChange, Prepare: a.prepare, Read: []pgpipe.Query{a.read}, Apply: a.apply}
	if a.config.OnChange != nil {
		a.hasKept = a.recent.has(a.id)
		plan.Read = append(plan.Read, a.readClock)
	}
	return plan
}

// read reads the row: all of it for a fetched object, and for OnChange unless its version is kept; otherwise only the
// columns that order events.
func (a *application) read(ctx context.Context, dbtx pgpipe.DBTX) (err error) {
	if a.config.OnChange != nil && !a.hasKept || a.ev.Current != nil {
		a.stored, err = a.load(ctx, dbtx, a.id, a.ev.ID)
		return err
	}
	row, err := a.queries.SubscriptionOrdering(ctx, dbtx, db.SubscriptionOrderingParams{EventCreatedAt: createdAt(a.ev), ID: a.id, UnlessApplied: a.ev.ID})
	if errors.Is(err, pgx.ErrNoRows) {
		a.stored = nil
		return nil
	}
	if err != nil {
		return wrap(err, "get subscription %s", a.id)
	}
	a.stored = storedOrdering(a.id, &row)
	return nil
}

// readClock reads the time that the row is written with, so that OnChange receives it before the row is sent.
func (a *application) readClock(ctx context.Context, dbtx pgpipe.DBTX) (err error) {
	a.readAt, err = a.clock(ctx, dbtx)
	return err
}

// clock returns PostgreSQL's time.
func (p *Projection) clock(ctx context.Context, dbtx pgpipe.DBTX) (*time.Time, error) {
	at, err := p.queries.ServerClock(ctx, dbtx)
	return utc(&at), wrap(err, "read the server's clock")
}

// createdAt returns when Stripe created an event, or nil if the event does not have the time.
func createdAt(ev *webhooks.Event) *time.Time {
	if ev.Created.IsZero() {
		return nil
	}
	return &ev.Created
}

// prepare decodes the event's subscription.
func (a *application) prepare() {
	if a.incoming == nil && a.err == nil {
		a.incoming, a.err = decode(a.ev)
	}
}

// apply stores the event's subscription unless the stored one is newer.
func (a *application) apply(ctx context.Context, tx pgx.Tx, writes *pgpipe.Writes) (changed bool, err error) {
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
	queries, err := a.store(a.stored, next, a.readAt)
	if err != nil {
		return false, err
	}
	writes.Add(queries...)
	a.recent.keep(next)
	defer func() {
		if err == nil {
			a.warnOfMoreItems(ctx, next.sub, "event_id", a.ev.ID)
		}
	}()
	// An event with the same state has only changed the columns that order later events.
	if a.stored != nil && a.stored.hasState(next) {
		return false, nil
	}
	if a.config.OnChange == nil || next.tombstone {
		return true, nil
	}
	return true, a.notify(ctx, tx, a.stored, next, a.ev)
}

// nextVersion returns the version that the row becomes, or nil if it stays as it is.
func (a *application) nextVersion(ctx context.Context, tx pgx.Tx) (next *version, err error) {
	if isStub(a.ev.Object) {
		return a.nextGone()
	}
	a.prepare()
	if a.err != nil {
		return nil, a.err
	}
	if a.incoming.ID != a.id { // such as an id from which a NUL was removed
		if a.stored, err = a.lockAndLoad(ctx, tx, a.incoming.ID); err != nil {
			return nil, err
		}
	}
	return a.next(ctx, a.ev, a.incoming, a.stored)
}

// complete makes the stored row a whole one, for OnChange: by the version that is kept, or by reading it.
func (a *application) complete(ctx context.Context, tx pgx.Tx) (err error) {
	if a.config.OnChange == nil || a.stored == nil || a.stored.whole {
		return nil
	}
	if kept := a.recent.find(a.stored); kept != nil {
		a.stored.Subscription, a.stored.whole = kept, true
		return nil
	}
	a.stored, err = a.load(ctx, tx, a.stored.ID, anyEvent)
	return err
}

func (a *application) fetchThin(ctx context.Context, tx pgx.Tx, _ *pgpipe.Writes) (bool, error) {
	stored, err := a.load(ctx, tx, a.ev.ObjectID(), anyEvent)
	if err == nil {
		err = stored.mayBecome(a.ev)
	}
	if err != nil || stored.covers(a.ev) {
		return false, err
	}
	return false, refetch(a.ev, stored)
}

// lockAndLoad waits for the subscription's lock and returns its row, or nil if there is none.
func (p *Projection) lockAndLoad(ctx context.Context, tx pgx.Tx, id string) (*storedRow, error) {
	if err := webhooks.LockObject(ctx, tx, id); err != nil {
		return nil, err
	}
	return p.load(ctx, tx, id, anyEvent)
}

// anyEvent is an empty id for load, which matches no event.
const anyEvent = ""

// load returns the row of a subscription. It returns nil if there is none, or if the ledger has the event unlessApplied.
func (p *Projection) load(ctx context.Context, tx db.DBTX, id, unlessApplied string) (*storedRow, error) {
	row, err := p.queries.SubscriptionGet(ctx, tx, id, unlessApplied)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, wrap(err, "get subscription %s", id)
	}
	return storedFrom((*db.SubscriptionListRow)(&row))
}

// store returns the queries that write the next version, at a time by PostgreSQL's clock. Nil: when they run.
func (p *Projection) store(stored *storedRow, next *version, at *time.Time) ([]pgpipe.Query, error) {
	next.digest, next.revision = digestOf(next.sub), revisionOf(stored)+1
	next.keepItems(stored)
	next.keepOrder(stored)
	params, err := next.upsertParams()
	if err != nil {
		return nil, err
	}
	if params.WrittenAt = at; at != nil {
		next.sub.CreatedAt, next.sub.UpdatedAt = *at, *at
		if stored != nil {
			next.sub.CreatedAt = stored.CreatedAt
		}
	}
	upsert := func(ctx context.Context, db pgpipe.DBTX) error {
		rows, err := p.queries.SubscriptionUpsert(ctx, db, params)
		if err == nil && rows == 0 {
			err = fault.ErrNotReadBack
		}
		return wrap(err, "store subscription %s", next.sub.ID)
	}
	items, err := p.storeItems(stored, next)
	return append([]pgpipe.Query{upsert}, items...), err
}

// storeItems returns the queries that write the items that differ, or may differ, from the stored ones.
func (p *Projection) storeItems(stored *storedRow, next *version) (queries []pgpipe.Query, err error) {
	sub := next.sub
	before, keepsAll := stored.itemsBefore(next)
	for i := range sub.Items {
		if i < len(before) && reflect.DeepEqual(before[i], sub.Items[i]) {
			continue
		}
		params, err := itemParams(sub.ID, i, &sub.Items[i])
		if err != nil {
			return nil, err
		}
		queries = append(queries, func(ctx context.Context, db pgpipe.DBTX) error {
			return wrap(p.queries.SubscriptionItemUpsert(ctx, db, params), "store item %s of subscription %s", params.ID, sub.ID)
		})
	}
	if keepsAll {
		return queries, nil
	}
	ids := itemIDs(sub.Items)
	return append(queries, func(ctx context.Context, db pgpipe.DBTX) error {
		return wrap(p.queries.SubscriptionItemDeleteOthers(ctx, db, sub.ID, ids), "remove items of subscription %s", sub.ID)
	}), nil
}

// warnOfMoreItems logs and counts a subscription that was stored without all of its items.
func (p *Projection) warnOfMoreItems(ctx context.Context, sub *Subscription, attrs ...any) {
	if sub.ItemsComplete {
		return
	}
	p.incomplete.Add(1)
	p.config.Logger.WarnContext(ctx, "a subscription has more items than Stripe's list holds: items_complete is false",
		append(attrs, "subscription", sub.ID, "items", len(sub.Items))...)
}

// wrap adds what the query was doing to its error.
func wrap(err error, doing string, args ...any) error {
	if err == nil || errors.Is(err, pgpipe.ErrRecording) {
		return err
	}
	return fmt.Errorf(doing+": %w", append(args, err)...)
}

func (p *Projection) notify(ctx context.Context, tx pgx.Tx, stored *storedRow, next *version, ev *webhooks.Event) error {
	if p.config.OnChange == nil {
		return nil
	}
	change := Change{After: next.sub, Event: ev}
	if stored != nil && !isStub(stored.Object) { // OnChange was not called for a tombstone
		change.Before = stored.Subscription
	}
	if err := p.config.OnChange(ctx, tx, change); err != nil {
		return &webhooks.HandlerError{EventType: change.eventType(), Err: err} // not an error of the statements around it
	}
	return nil
}

func (c *Change) eventType() string {
	if c.Event == nil {
		return "an import"
	}
	return c.Event.Type
}
