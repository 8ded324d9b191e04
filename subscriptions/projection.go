package subscriptions

import (
	"context"
	"log/slog"
	"net/url"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/engine"
	"github.com/pook/stripeonce/internal/ordering"
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

// Config configures Register. The zero value is fine.
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
	Event  *webhooks.Event // the event that caused it; nil on an import
	// Imported reports that no event caused the change: an import (Verify with Fix) found Stripe's state. It may have become so
	// years ago, so make your own state equal to After, and send no e-mail.
	Imported bool
	// Reprocessed reports that an operator reprocesses Event, which took effect before (webhooks.Receiver.Reprocess). Before and After
	// are both the stored row, which does not change.
	Reprocessed bool
}

// Activated reports whether the customer became entitled by this change: the status of After is active or trialing, and
// Before is nil or its status was neither. It is false on an import, which does not say when that was.
func (c Change) Activated() bool {
	return !c.Imported && c.After.Status.Entitled() && (c.Before == nil || !c.Before.Status.Entitled())
}

// Canceled reports whether the subscription was canceled by this change: the status of After is canceled, and Before is
// nil or its status was another. A cancellation at the period's end counts when the period ends. It is false for a
// subscription that had been canceled before its first import.
func (c Change) Canceled() bool {
	if c.Before == nil {
		return c.After.Status == StatusCanceled && !c.Imported
	}
	return c.After.Status == StatusCanceled && c.Before.Status != StatusCanceled
}

// Projection keeps the tables up to date. Register creates it.
type Projection struct{ engine *engine.Engine[Subscription] }

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
func (p *Projection) Stats() Stats { return Stats(p.engine.Stats()) }

// rules are what the engine knows of subscriptions.
var rules = engine.Rules{
	Rules:  ordering.Rules{Created: "customer.subscription.created", Lists: []string{"items"}},
	Object: "subscription", Path: "/v1/subscriptions",
	OfCustomer: url.Values{"customer": {""}},
	Listing:    url.Values{"status": {"all"}}, TestClocks: true, // the list has those that have ended only with status=all
	NotFound: ErrNotFound, Refused: ErrRefused,
}

// Register registers the projection for customer.subscription.* events. A nil config is the zero Config. Register panics
// on an unknown Refetch.
func Register(h *webhooks.Handlers, config *Config) *Projection {
	if config == nil {
		config = &Config{}
	}
	p := &Projection{newEngine(config)}
	added := projection.Projection{
		Name:          "subscription",
		Events:        "customer.subscription.*",
		HonorsContext: config.OnChange == nil,
		BatchesHost:   config.BatchOnChange,
		Plan:          func(ev any) projection.Plan { return p.engine.Plan(ev.(*webhooks.Event)) },
		Tables: []projection.Table{
			{Name: "subscriptions", Privileges: []string{"SELECT", "INSERT", "UPDATE"}},
			{Name: "subscription_items", Privileges: []string{"SELECT", "INSERT", "UPDATE", "DELETE"}},
		},
		Trial: store{db.New()}.try,
	}
	if config.OnChange != nil {
		added.Reprocess = func(ctx context.Context, tx pgx.Tx, ev any) error {
			return p.engine.Reprocess(ctx, tx, ev.(*webhooks.Event))
		}
	}
	projection.Register(h, added)
	return p
}

func newEngine(config *Config) *engine.Engine[Subscription] {
	c := engine.Config[Subscription]{
		BatchOnChange: config.BatchOnChange, KeepRecent: config.KeepRecent, Refetch: engine.Refetch(config.Refetch), Logger: config.Logger,
	}
	if config.OnChange != nil {
		c.OnChange = func(ctx context.Context, tx pgx.Tx, c engine.Change[Subscription]) error {
			return config.OnChange(ctx, tx, Change{Before: c.Before, After: c.After, Event: c.Event, Imported: c.Event == nil, Reprocessed: c.Reprocessed})
		}
	}
	return engine.New(&rules, store{db.New()}, c)
}
