package mirror

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/engine"
	"github.com/pook/stripeonce/internal/projection"
	"github.com/pook/stripeonce/internal/rawjson"
	"github.com/pook/stripeonce/internal/redact"
	"github.com/pook/stripeonce/webhooks"
)

// Refetch configures when the mirror fetches an object from Stripe, which needs webhooks.Config.APIKey.
type Refetch string

const (
	// RefetchAmbiguous fetches only if the events do not settle their order. It is the default.
	RefetchAmbiguous Refetch = "ambiguous"
	// RefetchAlways fetches for every event and stores the fetched object.
	RefetchAlways Refetch = "always"
	// RefetchNever never fetches.
	RefetchNever Refetch = "never"
)

// Config configures Register.
type Config struct {
	// Types are the types of objects to mirror, as in Stripe's member object: "customer", "invoice", "checkout.session". Billing
	// and All are groups. A type that Stripe adds later works by its name; since it is not known which events carry its objects, it
	// is looked for in every event. Required.
	Types []string
	// OnChange is called for each change of an object, in the transaction that writes it and under the object's lock. It is not
	// called for a duplicate, a stale event, or an event with the same object. For each object, Before is the After of the previous
	// call. An error rolls back the whole event, and Stripe retries. To give types an OnChange of their own, call Register once for
	// each. Types without one are faster. Optional.
	OnChange func(ctx context.Context, tx pgx.Tx, c Change) error
	// BatchOnChange declares that OnChange may run in a transaction with other events, under a savepoint: see
	// webhooks.Batchable for what that changes. Defaults to false.
	BatchOnChange bool
	// KeepRecent is the number of objects of each type whose newest version is kept in memory for the next Before. Objects of more
	// than 32 KiB are not kept. Without OnChange, none are. Defaults to 1024; negative: none.
	KeepRecent int
	// Refetch configures when the current object is fetched from Stripe. Defaults to RefetchAmbiguous.
	Refetch Refetch
	// Logger receives a warning whenever a tie-break settles an order. Defaults to slog.Default().
	Logger *slog.Logger
}

// Change is one change of an object.
type Change struct {
	Before *Object         // nil on the first
	After  *Object         // never nil; After.Type is its type
	Event  *webhooks.Event // the event that caused it; nil on an import
	// Imported reports that no event caused the change: an import (Verify with Fix) found Stripe's state.
	Imported bool
	// Reprocessed reports that an operator reprocesses Event, which took effect before (webhooks.Receiver.Reprocess). Before and After
	// are both the stored row, which does not change.
	Reprocessed bool
}

// Projection keeps the table up to date. Register creates it.
type Projection struct {
	engines map[string]*engine.Engine[Object] // by type
}

// Types returns the types that are mirrored, sorted. A nil Projection mirrors none.
func (p *Projection) Types() []string {
	if p == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(p.engines))
}

// Stats counts how events of one second were ordered, and how many objects were stored without whole lists.
type Stats struct {
	Chain      uint64 // by the chain of their previous attributes
	Refetched  uint64 // by fetching the object from Stripe
	TieBreak   uint64 // by a tie-break: the same result for every order of arrival, but possibly a wrong one
	Incomplete uint64 // events and imports that were stored with a part of a list
}

// Stats returns the counts of all types since Register. A delivery that is retried counts again.
func (p *Projection) Stats() (sum Stats) {
	for _, e := range p.engines {
		s := e.Stats()
		sum.Chain += s.Chain
		sum.Refetched += s.Refetched
		sum.TieBreak += s.TieBreak
		sum.Incomplete += s.Incomplete
	}
	return sum
}

// Register registers the mirror for the events of Config.Types. It may be called several times for different types. It panics if
// there are no types, on a type that is registered already, on the type "subscription", which subscriptions.Register mirrors, and
// on an unknown Refetch.
func Register(h *webhooks.Handlers, config *Config) *Projection {
	if config == nil || len(config.Types) == 0 {
		panic("mirror.Config.Types is empty: name types, or use mirror.Billing")
	}
	p := &Projection{engines: map[string]*engine.Engine[Object]{}}
	types := slices.Compact(slices.Sorted(slices.Values(config.Types)))
	for i, object := range types {
		switch {
		case object == "subscription", object == "subscription_item":
			panic(fmt.Sprintf("mirror.Config.Types has %q: subscriptions have tables of their own, use subscriptions.Register", object))
		case !typeName.MatchString(object), groups[object] != nil:
			panic(fmt.Sprintf("mirror.Config.Types has %q, which is no type of object: use one such as \"invoice\", or the variables Billing, Entitlements and All", object))
		}
		rule := ruleOf(object)
		p.engines[object] = newEngine(rule, config)
		for j, events := range rule.Events {
			added := projection.Projection{
				Name:          object,
				Events:        events,
				Matches:       func(ev any) bool { return rule.carries(ev.(*webhooks.Event)) },
				HonorsContext: config.OnChange == nil,
				BatchesHost:   config.BatchOnChange,
				Plan:          func(ev any) projection.Plan { return p.engines[object].Plan(rule.clean(ev.(*webhooks.Event))) },
			}
			if config.OnChange != nil {
				added.Reprocess = func(ctx context.Context, tx pgx.Tx, ev any) error {
					return p.engines[object].Reprocess(ctx, tx, rule.clean(ev.(*webhooks.Event)))
				}
			}
			if i == 0 && j == 0 { // once for all types
				added.Tables = []projection.Table{{Name: "stripe_objects", Privileges: []string{"SELECT", "INSERT", "UPDATE"}}}
				added.Trial = try
			}
			projection.Register(h, added)
		}
	}
	return p
}

// carries reports whether an event carries an object of the type that has an id, whether or not the id can be stored, or may do so.
// invoice.upcoming, for example, has none.
func (r *rule) carries(ev *webhooks.Event) bool {
	if ev.ObjectInSnapshot() {
		return true // until its snapshot event is fetched
	}
	id, member := ev.ObjectID(), "id"
	if r.Collects != "" {
		id, member = ev.CustomerID(), "customer"
	}
	if ev.ObjectType() != r.Object {
		return false
	}
	return id != "" || !ev.Thin() && !rawjson.IsNull(rawjson.Get(bytes.TrimSpace(ev.Object), member))
}

func newEngine(rule *rule, config *Config) *engine.Engine[Object] {
	c := engine.Config[Object]{
		BatchOnChange: config.BatchOnChange, KeepRecent: config.KeepRecent, Refetch: engine.Refetch(config.Refetch), Logger: config.Logger,
	}
	if config.OnChange != nil {
		c.OnChange = func(ctx context.Context, tx pgx.Tx, c engine.Change[Object]) error {
			return config.OnChange(ctx, tx, Change{Before: c.Before, After: c.After, Event: c.Event, Imported: c.Event == nil, Reprocessed: c.Reprocessed})
		}
	}
	return engine.New(rule.engineRules(), store{rule, db.New()}, c)
}

// clean returns an event without its secrets, which are not passed on.
func (r *rule) clean(ev *webhooks.Event) *webhooks.Event {
	clean := *ev
	clean.Object, clean.Previous = redact.Secrets(ev.Object), redact.Secrets(ev.Previous)
	if ev.Current != nil {
		current := *ev.Current
		current.Object = redact.Secrets(current.Object)
		clean.Current = &current
	}
	if r.Collects != "" {
		r.collectEvent(&clean)
	}
	return &clean
}
