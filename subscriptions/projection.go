package subscriptions

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/webhooks"
)

// Refetch says when the projection asks Stripe for a subscription's current object. It needs
// webhooks.Config.APIKey.
type Refetch string

const (
	// RefetchAmbiguous asks only where the events cannot tell their order. The default.
	RefetchAmbiguous Refetch = "ambiguous"
	// RefetchAlways takes every event as a hint only and stores what Stripe answers.
	RefetchAlways Refetch = "always"
	// RefetchNever never asks.
	RefetchNever Refetch = "never"
)

// Config configures the projection. The zero value is fine.
type Config struct {
	// OnChange is called for each real change of a subscription's state, in the transaction that writes
	// it and under a lock of that subscription; never for a duplicate, a stale event, or an event that
	// says nothing new: whose columns, items and metadata are those that are stored. For each
	// subscription, Before has those that After had in the last call. An error undoes the whole event,
	// which Stripe then sends again. Nil: none.
	OnChange func(ctx context.Context, tx pgx.Tx, c Change) error
	// Refetch says when Stripe is asked for the current object. "": RefetchAmbiguous.
	Refetch Refetch
	// Logger is told where a rule had to settle an order. Nil: slog.Default().
	Logger *slog.Logger
}

// Change is one change of a subscription.
type Change struct {
	Before *Subscription   // nil on the first
	After  *Subscription   // never nil
	Event  *webhooks.Event // the event that brought it; nil on an import (Verify with Fix)
}

// Activated is true if the customer has become entitled by this change: After's status is active or
// trialing, and Before's was not, or there was none.
func (c Change) Activated() bool {
	return c.After.Status.Entitled() && (c.Before == nil || !c.Before.Status.Entitled())
}

// Canceled is true if the subscription has been canceled by this change: After's status is canceled, and
// Before's was not, or there was none. A cancellation at the period's end counts when the period ends.
func (c Change) Canceled() bool {
	return c.After.Status == StatusCanceled && (c.Before == nil || c.Before.Status != StatusCanceled)
}

// Projection keeps the tables. It is made by Register.
type Projection struct {
	queries *db.Queries
	config  Config

	chain, asked, rule, incomplete atomic.Uint64
}

// Stats counts how events were put in order where their second alone did not tell, and what was stored in part.
type Stats struct {
	Chain uint64 // by the chain of their previous attributes
	Asked uint64 // by asking Stripe
	Rule  uint64 // by a rule that gives the same in every order, and may be wrong
	// Incomplete counts the events, and the answers of an import, that were stored although their list of
	// items goes on (has_more): the row's items_complete is false.
	Incomplete uint64
}

// Stats returns the counts since Register. A delivery that is tried again counts again.
func (p *Projection) Stats() Stats {
	return Stats{Chain: p.chain.Load(), Asked: p.asked.Load(), Rule: p.rule.Load(), Incomplete: p.incomplete.Load()}
}

// Register adds the projection of every customer.subscription.* event to h. A nil config is the zero
// one. It panics on a Refetch that is none.
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
	if p.config.Logger == nil {
		p.config.Logger = slog.Default()
	}
	webhooks.Needs(h, "subscriptions", "SELECT", "INSERT", "UPDATE")
	webhooks.Needs(h, "subscription_items", "SELECT", "INSERT", "UPDATE", "DELETE")
	webhooks.Trial(h, p.try, "subscriptions", "subscription_items")
	webhooks.ProjectInTrips(h, "customer.subscription.*", p.config.OnChange == nil, p.begin)
	return p
}

// application is the projection's work on one event.
type application struct {
	*Projection
	ev     *webhooks.Event
	id     string // the subscription's
	stored *storedRow
	// Once it is decoded, which prepare may do beforehand.
	incoming *Subscription
	err      error
}

// begin has the subscription's lock and its row asked for together with the ledger.
func (p *Projection) begin(ev *webhooks.Event) webhooks.Trips {
	a := &application{Projection: p, ev: ev, id: ev.ObjectID()}
	if ev.Thin() && ev.Object == nil {
		return webhooks.Trips{Apply: a.askAboutThin}
	}
	if a.id == "" { // it has none that the ledger's column holds
		return webhooks.Trips{Apply: a.apply}
	}
	return webhooks.Trips{Lock: a.id, Shareable: a.config.OnChange == nil, Prepare: a.prepare, Read: []webhooks.Statement{a.read}, Apply: a.apply}
}

// read reads of the row what is needed: all of it for OnChange, and where Stripe has been asked.
func (a *application) read(ctx context.Context, dbtx db.DBTX) (err error) {
	if a.config.OnChange != nil || a.ev.Current != nil {
		a.stored, err = a.load(ctx, dbtx, a.id, a.ev.ID)
		return err
	}
	row, err := a.queries.SubscriptionPlace(ctx, dbtx, db.SubscriptionPlaceParams{EventCreatedAt: createdAt(a.ev), ID: a.id, UnlessApplied: a.ev.ID})
	if errors.Is(err, pgx.ErrNoRows) {
		a.stored = nil
		return nil
	}
	if err != nil {
		return wrap(err, "get subscription %s", a.id)
	}
	a.stored = storedPlace(a.id, &row)
	return nil
}

// createdAt is when Stripe made an event, nil if it does not say.
func createdAt(ev *webhooks.Event) *time.Time {
	if ev.Created.IsZero() {
		return nil
	}
	return &ev.Created
}

// prepare reads what the event says.
func (a *application) prepare() {
	if a.incoming == nil && a.err == nil {
		a.incoming, a.err = decode(a.ev)
	}
}

// apply makes the stored subscription that of the event, unless it is newer already.
func (a *application) apply(ctx context.Context, tx pgx.Tx, later *webhooks.Later) (changed bool, err error) {
	a.prepare()
	incoming := a.incoming
	if a.err != nil {
		return false, a.err
	}
	if incoming.ID != a.id { // such as one from which a NUL was cleaned
		if a.stored, err = a.lockAndLoad(ctx, tx, incoming.ID); err != nil {
			return false, err
		}
	}
	next, err := a.next(ctx, a.ev, incoming, a.stored)
	if err != nil || next == nil {
		return false, err
	}
	statements, err := a.store(a.stored, next)
	if err != nil {
		return false, err
	}
	later.Add(statements...)
	defer func() {
		if err == nil {
			a.warnOfMoreItems(ctx, next.sub, "event_id", a.ev.ID)
		}
	}()
	// An event that says nothing new has moved the row's place in the order, which later ones need.
	if a.stored != nil && a.stored.says(next) {
		return false, nil
	}
	if a.config.OnChange == nil {
		return true, nil
	}
	if err := later.Flush(ctx); err != nil {
		return false, err
	}
	return true, a.tell(ctx, tx, a.stored, next, a.ev)
}

func (a *application) askAboutThin(ctx context.Context, tx pgx.Tx, _ *webhooks.Later) (bool, error) {
	stored, err := a.load(ctx, tx, a.ev.ObjectID(), anyEvent)
	if err != nil {
		return false, err
	}
	return false, askAgain(a.ev, stored)
}

// lockAndLoad returns the row of a subscription, nil if there is none, when its other writers are done.
func (p *Projection) lockAndLoad(ctx context.Context, tx pgx.Tx, id string) (*storedRow, error) {
	if err := webhooks.LockObject(ctx, tx, id); err != nil {
		return nil, err
	}
	return p.load(ctx, tx, id, anyEvent)
}

// anyEvent is no event's id.
const anyEvent = ""

// load returns the row of a subscription, nil if there is none, or if an event has been applied.
func (p *Projection) load(ctx context.Context, tx db.DBTX, id, unlessApplied string) (*storedRow, error) {
	row, err := p.queries.SubscriptionGet(ctx, tx, id, unlessApplied)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, wrap(err, "get subscription %s", id)
	}
	return storedFrom(&row)
}

// store returns the statements that make a row the next version.
func (p *Projection) store(stored *storedRow, next *version) ([]webhooks.Statement, error) {
	next.digest, next.revision = digestOf(next.sub), revisionOf(stored)+1
	next.keepItems(stored)
	params, err := next.upsertParams()
	if err != nil {
		return nil, err
	}
	upsert := func(ctx context.Context, db db.DBTX) error {
		times, err := p.queries.SubscriptionUpsert(ctx, db, params)
		if err != nil {
			return wrap(err, "store subscription %s", next.sub.ID)
		}
		next.sub.CreatedAt, next.sub.UpdatedAt = times.CreatedAt.UTC(), times.UpdatedAt.UTC()
		return nil
	}
	items, err := p.storeItems(stored, next)
	return append([]webhooks.Statement{upsert}, items...), err
}

// storeItems returns the statements for the items that differ from the stored ones, or may.
func (p *Projection) storeItems(stored *storedRow, next *version) (statements []webhooks.Statement, err error) {
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
		statements = append(statements, func(ctx context.Context, db db.DBTX) error {
			return wrap(p.queries.SubscriptionItemUpsert(ctx, db, params), "store item %s of subscription %s", params.ID, sub.ID)
		})
	}
	if keepsAll {
		return statements, nil
	}
	ids := itemIDs(sub.Items)
	return append(statements, func(ctx context.Context, db db.DBTX) error {
		return wrap(p.queries.SubscriptionItemDeleteOthers(ctx, db, sub.ID, ids), "remove items of subscription %s", sub.ID)
	}), nil
}

// warnOfMoreItems makes visible that a subscription was stored with a part of its items.
func (p *Projection) warnOfMoreItems(ctx context.Context, sub *Subscription, attrs ...any) {
	if sub.ItemsComplete {
		return
	}
	p.incomplete.Add(1)
	p.config.Logger.WarnContext(ctx, "a subscription has more items than Stripe's list holds: items_complete is false",
		append(attrs, "subscription", sub.ID, "items", len(sub.Items))...)
}

// wrap says what a statement was about.
func wrap(err error, doing string, args ...any) error {
	if err == nil || errors.Is(err, webhooks.ErrNoted) {
		return err
	}
	return fmt.Errorf(doing+": %w", append(args, err)...)
}

func (p *Projection) tell(ctx context.Context, tx pgx.Tx, stored *storedRow, next *version, ev *webhooks.Event) error {
	if p.config.OnChange == nil {
		return nil
	}
	change := Change{After: next.sub, Event: ev}
	if stored != nil {
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
