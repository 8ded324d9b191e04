// Package engine keeps rows equal to Stripe's objects, whatever the order, the number and the interleaving of their events.
//
// It knows no object type. A projection gives it the rules of a type, as data, and a Store that reads, compares and writes
// states. The engine decides which state a row becomes (decide.go), carries that through a delivery (apply.go), and compares
// rows with Stripe (verify.go). Package ordering has the order of events by itself.
package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/ordering"
	"github.com/pook/stripeonce/internal/pgpipe"
	"github.com/pook/stripeonce/internal/projection"
	"github.com/pook/stripeonce/webhooks"
)

// Rules are what the engine knows of an object type.
type Rules struct {
	ordering.Rules
	// Object is the type as in Stripe's member object: "subscription".
	Object string
	// Path is where Stripe's API lists the objects, and with an id has one: "/v1/subscriptions". Empty: the API has neither, or
	// it is not known.
	Path string
	// Listing are further parameters of a request for the list, such as status=all.
	Listing url.Values
	// ByVersion reports that states differ by API version, so that a row is compared with an object of its own version.
	ByVersion bool
	// Replaces reports that the queries of Store.Write write the whole row, whatever it has, so that of the events of one
	// batch only the last one's need be sent.
	Replaces bool
	// Unlisted reports that the API has the objects at Path, but no list of all of them.
	Unlisted bool
	// Collect makes the object of a customer of the list that the API has at Path with the parameter customer. Such an object has
	// no id, and its key is the customer's. Nothing orders its events within a second, so the list is fetched for each event where
	// that is possible. Nil: objects have ids.
	Collect func(customer string, livemode bool, list []byte) ([]byte, error)
	// Unfiltered reports that the list does not take created.
	Unfiltered bool
	// OfCustomer are the parameters by which the list takes a customer, whose id is the value of those that are empty here. Nil: it
	// takes none.
	OfCustomer url.Values
	// TestClocks reports that the list leaves out the objects of test clocks unless it is requested with test_clock.
	TestClocks bool
	// NotFound and Refused are wrapped by the errors of Verify: neither side has the object of Only; Gone would mark too many rows.
	NotFound, Refused error
}

// noun is the type in errors and logs.
func (r *Rules) noun() string { return strings.ReplaceAll(r.Object, "_", " ") }

// idOf returns the id that is the key of an event's object; "": none.
func (r *Rules) idOf(ev *webhooks.Event) string {
	if r.Collect != nil {
		return ev.CustomerID()
	}
	return ev.ObjectID()
}

// location returns where the API has the object of an id.
func (r *Rules) location(id string) string {
	if r.Collect != nil {
		return r.Path + "?customer=" + url.QueryEscape(id)
	}
	return r.Path + "/" + url.PathEscape(id)
}

// Refetch says when the current object is fetched from Stripe.
type Refetch string

// The values of Refetch.
const (
	RefetchAmbiguous Refetch = "ambiguous" // only if the events do not settle their order
	RefetchAlways    Refetch = "always"
	RefetchNever     Refetch = "never"
)

// Key identifies a row of a type. A Store for a table whose rows have the id alone leaves out the rest.
type Key struct {
	Account  string
	Livemode bool
	ID       string
}

// Store reads, compares and writes the states of one object type. T is such a state, in the form that a handler receives.
// Its queries are recorded before they are sent (pgpipe), so their methods pass on pgpipe.ErrRecording.
type Store[T any] interface {
	// Decode reads the state of an event's object.
	Decode(ev *webhooks.Event) (*T, error)
	Head(state *T) Head
	Key(account string, livemode bool, id string) Key
	// Digest returns a digest of what Same compares.
	Digest(state *T) []byte
	// Same reports whether two states are the same but for what the object's shape, the event and the row say.
	Same(a, b *T) bool
	Clone(state *T) *T
	// Gone returns the version of a row whose object Stripe does not have any more, as of a time. Ev is nil where no event
	// says so.
	Gone(stored *Row[T], ev *webhooks.Event, asOf time.Time) (*T, error)
	// Tombstone returns the state of an object of which nothing is known but that it was deleted.
	Tombstone(key Key, ev *webhooks.Event, asOf time.Time) *T
	// Stub reports whether an object only says that Stripe does not have it any more.
	Stub(object []byte) bool

	// Ordering reads of a row what orders an event of a time against it. Load reads the whole row. Both return nil if there is
	// none, or if the ledger has the event unlessApplied.
	Ordering(ctx context.Context, db pgpipe.DBTX, key Key, created *time.Time, unlessApplied string) (*Row[T], error)
	Load(ctx context.Context, db pgpipe.DBTX, key Key, unlessApplied string) (*Row[T], error)
	// Write returns the queries that write the next version, at a time by PostgreSQL's clock (nil: when they run), and sets
	// the version's Digest and Revision.
	Write(stored *Row[T], next *Version[T], at *time.Time) ([]pgpipe.Query, error)
	// Clock returns PostgreSQL's time.
	Clock(ctx context.Context, db pgpipe.DBTX) (*time.Time, error)

	Listing[T]
}

// Change is one change of a state.
type Change[T any] struct {
	Before      *T              // nil on the first
	After       *T              // never nil
	Event       *webhooks.Event // nil on an import
	Reprocessed bool            // the event took effect before: Before and After are the same
}

// Config configures an Engine.
type Config[T any] struct {
	// OnChange is called for each change of a state, in the transaction that writes it. Optional.
	OnChange func(ctx context.Context, tx pgx.Tx, c Change[T]) error
	// BatchOnChange declares that OnChange may run in a transaction with other events, under a savepoint.
	BatchOnChange bool
	// KeepRecent is the number of states that are kept in memory for the next call's before. Without OnChange, none are.
	// Defaults to DefaultKeepRecent; negative: none.
	KeepRecent int
	// Refetch defaults to RefetchAmbiguous.
	Refetch Refetch
	// Logger defaults to slog.Default().
	Logger *slog.Logger
}

// Engine applies events to the rows of one object type.
type Engine[T any] struct {
	rules  Rules
	store  Store[T]
	config Config[T]
	recent *recent[T]

	chain, refetched, tieBreak, incomplete atomic.Uint64
}

// New returns an Engine. It panics on an unknown Refetch.
func New[T any](rules *Rules, store Store[T], config Config[T]) *Engine[T] {
	e := &Engine[T]{rules: *rules, store: store, config: config}
	switch e.config.Refetch {
	case "":
		e.config.Refetch = RefetchAmbiguous
	case RefetchAmbiguous, RefetchAlways, RefetchNever:
	default:
		panic(fmt.Sprintf("Config.Refetch is %q: use %q, %q or %q", e.config.Refetch, RefetchAmbiguous, RefetchAlways, RefetchNever))
	}
	if e.config.OnChange != nil {
		e.recent = newRecent[T](cmp.Or(e.config.KeepRecent, DefaultKeepRecent))
	}
	if e.config.Logger == nil {
		e.config.Logger = slog.Default()
	}
	return e
}

// Stats counts how events of one second were ordered, and how many states were stored without all elements of their lists.
type Stats struct{ Chain, Refetched, TieBreak, Incomplete uint64 }

// Stats returns the counts so far. A delivery that is retried counts again.
func (e *Engine[T]) Stats() Stats {
	return Stats{Chain: e.chain.Load(), Refetched: e.refetched.Load(), TieBreak: e.tieBreak.Load(), Incomplete: e.incomplete.Load()}
}

// warnOfMore logs and counts a state that was stored without all elements of its lists.
func (e *Engine[T]) warnOfMore(ctx context.Context, state *T, attrs ...any) {
	head := e.store.Head(state)
	if head.Complete {
		return
	}
	e.incomplete.Add(1)
	e.config.Logger.WarnContext(ctx, "an object's lists are longer than those in Stripe's event or response: it is marked as incomplete",
		append(attrs, "object_type", e.rules.Object, "object_id", head.ID)...)
}

// isTombstone reports whether a row is that of an object of which nothing was ever known but its deletion.
func (e *Engine[T]) isTombstone(stored *Row[T]) bool {
	return stored.AsOf != nil && e.store.Stub(e.store.Head(stored.State).Object)
}

func (e *Engine[T]) notify(ctx context.Context, tx pgx.Tx, stored *Row[T], next *Version[T], ev *webhooks.Event) error {
	if e.config.OnChange == nil {
		return nil
	}
	var before *T
	if stored != nil && !e.isTombstone(stored) { // OnChange was not called for it
		before = stored.State
	}
	return e.call(ctx, tx, Change[T]{Before: before, After: next.State, Event: ev})
}

// Reprocess calls OnChange once more for an event that took effect before, with the row as it is stored.
func (e *Engine[T]) Reprocess(ctx context.Context, tx pgx.Tx, ev *webhooks.Event) error {
	key := e.store.Key(ev.Account, ev.Livemode, e.rules.idOf(ev))
	stored, err := e.lockAndLoad(ctx, tx, key)
	if err != nil {
		return err
	}
	if stored == nil || e.isTombstone(stored) {
		return e.whyNoRow(ctx, tx, ev, key)
	}
	if err := stored.mayBecome(ev, e.rules.noun()); err != nil {
		return err
	}
	return e.call(ctx, tx, Change[T]{Before: e.store.Clone(stored.State), After: stored.State, Event: ev, Reprocessed: true})
}

func (e *Engine[T]) call(ctx context.Context, tx pgx.Tx, c Change[T]) error {
	if err := e.onChange(ctx, tx, c); err != nil {
		kind := "an import"
		if c.Event != nil {
			kind = c.Event.Type
		}
		return &webhooks.HandlerError{EventType: kind, Err: err} // not an error of the statements around it
	}
	return nil
}

func (e *Engine[T]) onChange(ctx context.Context, tx pgx.Tx, c Change[T]) error {
	ctx, end := projection.StartHook(ctx)
	err := errNotReturned
	defer func() { end(err) }()
	err = e.config.OnChange(ctx, tx, c)
	return err
}

// errNotReturned is traced for an OnChange that panics, or ends its goroutine.
var errNotReturned = errors.New("OnChange did not return: it panicked, or ended its goroutine")
