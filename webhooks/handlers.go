package webhooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/eventtypes"
	"github.com/pook/stripeonce/internal/projection"
)

// Handlers holds the handlers for each event type. Fill it with On and Project, then give it to New,
// after which it takes no more.
type Handlers struct {
	list        []handler
	projections []projection.Projection // those of stripeonce's own packages
	frozen      atomic.Bool             // several receivers may share them
}

// handler is one registered handler.
type handler struct {
	name          string
	pattern       string
	projection    bool
	run           run
	plan          func(ev *Event) projection.Plan // in place of run
	hook          run                             // of a projection with a plan: its OnChange, for Reprocess; nil: it has none
	honorsContext bool                            // it returns promptly when its context is canceled
	batchable     bool                            // it is the host's, and may be in a batch all the same
	matches       func(ev *Event) bool            // whether it handles an event of its pattern; nil: all
}

// HandlerOption is an option of On.
type HandlerOption func(*handler)

// Batchable declares that the handler's events may share a transaction with other events, each under a savepoint, when
// several are in progress: a batch takes one commit, and fewer round trips. It is for handlers that run a few quick
// statements. What changes for them:
//
//	                           in its own transaction         in a batch
//	the handler fails          its event fails                it is undone up to its savepoint, and retried alone; all are, if
//	                                                          it ended the transaction, closed the connection or left
//	                                                          rows open. After a raw COMMIT the events before it stay
//	                                                          committed, and it commits again when it is retried
//	COMMIT fails               its event fails                all are undone, and retried alone
//	  (a deferred constraint)
//	a lock is contended        it waits, up to LockTimeout    it waits up to 50ms, and is then retried alone
//	locks are held             until its event commits        until the batch commits
//	now()                      is its event's                 is the same for all events of the batch
//	SET LOCAL app.tenant       ends with its event            lasts until the batch commits, but for the settings that the
//	                                                          receiver restores (docs/how-it-works.md)
//	the handler is slow        its event is                   all events of the batch are
//	it never returns           its event fails (500)          its event fails, the others are answered 503
//
// So a handler may run more often. What it does through tx still takes effect exactly once, together with its event.
// Transactions of yours that lock the rows of several customers may deadlock with a batch more easily than with single
// events; the batch's events are then retried alone.
//
// An event is batched if all of its handlers are Batchable (a projection without an OnChange of yours is), its object has
// an id, it is not thin, no replay, has more than a second left of Config.Timeout, and the pool's default_query_exec_mode is
// cache_statement or exec. See also subscriptions.Config.BatchOnChange.
func Batchable() HandlerOption { return func(h *handler) { h.batchable = true } }

// Name names the handler: [Receiver.Reprocess] can run it alone. Names are unique among the handlers of a set. Defaults to the event
// type that the handler is registered for, and for a second one of the same type to that with "-2", and so on.
func Name(name string) HandlerOption { return func(h *handler) { h.name = name } }

type run func(ctx context.Context, tx pgx.Tx, ev *Event) (changed bool, err error)

// NewHandlers returns an empty set.
func NewHandlers() *Handlers { return &Handlers{} }

// On registers a handler for an event type: "invoice.paid", a stripe.EventType, "invoice.*" for every type that
// begins with "invoice.", or "*" for all. data.object is decoded into T with encoding/json: a struct of
// any major version of stripe-go, one of your own, or json.RawMessage. Handlers that match the same event
// run in the order of their registration.
//
// fn runs inside the delivery's transaction. If it returns an error or panics, or does not return within
// [Config].Timeout, everything that it did through tx is undone, the response is 500, and Stripe retries.
// It may run more than once (after a serialization failure, a deadlock, a lost race), so only
// what it does through tx is exactly once. ctx ends with [Config].Timeout, not with the client.
//
// Options: [Batchable], [Name].
//
// fn may return [Fetch] to run again with Stripe's current object, then also in obj, and [Park] where no retry helps.
//
// On panics on a malformed type, a nil fn, a name that another handler has, or a set that New has been given already.
func On[E ~string, T any](h *Handlers, eventType E, fn func(ctx context.Context, tx pgx.Tx, ev *Event, obj *T) error, options ...HandlerOption) {
	if fn == nil {
		panic("webhooks.On: the handler for " + string(eventType) + " is nil")
	}
	added := handler{pattern: string(eventType), run: func(ctx context.Context, tx pgx.Tx, ev *Event) (bool, error) {
		object := ev.Object
		if ev.Current != nil && ev.Current.Object != nil {
			object = ev.Current.Object
		}
		if object == nil {
			return false, errors.New("data.object is missing, or is not a JSON object of at most 512 levels")
		}
		obj := new(T)
		if err := json.Unmarshal(object, obj); err != nil {
			return false, fmt.Errorf("decode data.object into %T: %w", obj, err)
		}
		return true, fn(ctx, tx, ev, obj)
	}}
	for _, option := range options {
		option(&added)
	}
	h.add(added)
}

// Project registers a projection: a handler that keeps rows of its own equal to Stripe's state. It
// differs from On in what it reports: when only projections ran for an event and none changed
// anything, since the event is older than what is stored or equal to it, the outcome is OutcomeStale.
func Project(h *Handlers, eventType string, fn func(ctx context.Context, tx pgx.Tx, ev *Event) (changed bool, err error)) {
	if fn == nil {
		panic("webhooks.Project: the handler for " + eventType + " is nil")
	}
	h.add(handler{pattern: eventType, projection: true, run: fn})
}

func init() {
	projection.Register = func(handlers any, p projection.Projection) {
		h := handlers.(*Handlers)
		for _, other := range h.projections {
			if p.Name != "" && other.Name == p.Name && other.Events == p.Events {
				panic(fmt.Sprintf("webhooks: objects of the type %q are registered already: register each type once", p.Name))
			}
		}
		var matches func(ev *Event) bool
		if p.Matches != nil {
			matches = func(ev *Event) bool { return p.Matches(ev) }
		}
		h.add(handler{
			pattern: p.Events, projection: true, matches: matches, honorsContext: p.HonorsContext, batchable: !p.HonorsContext && p.BatchesHost,
			plan: func(ev *Event) projection.Plan { return p.Plan(ev) }, name: p.Name, hook: hookOf(p),
		})
		h.projections = append(h.projections, p)
	}
}

// hookOf returns the call of a projection's OnChange for an event that is reprocessed; nil: it has none.
func hookOf(p projection.Projection) run {
	if p.Reprocess == nil {
		return nil
	}
	return func(ctx context.Context, tx pgx.Tx, ev *Event) (bool, error) { return true, p.Reprocess(ctx, tx, ev) }
}

// Types lists the registered types, sorted, each once.
func (h *Handlers) Types() []string {
	seen := map[string]bool{}
	var types []string
	for _, handler := range h.list {
		if !seen[handler.pattern] {
			seen[handler.pattern] = true
			types = append(types, handler.pattern)
		}
	}
	sort.Strings(types)
	return types
}

// exactly returns the handlers that are registered for exactly an event's type.
func (h *Handlers) exactly(eventType string) []handler {
	var list []handler
	for _, handler := range h.list {
		if handler.pattern == eventType {
			list = append(list, handler)
		}
	}
	return list
}

func (h *Handlers) add(handler handler) {
	if h.frozen.Load() {
		panic("webhooks: " + handler.pattern + " was registered after New: register every handler before")
	}
	stem := strings.TrimSuffix(handler.pattern, ".*")
	if handler.pattern != "*" && (stem == "" || strings.ContainsAny(stem, "* ")) {
		panic(fmt.Sprintf("webhooks: %q is not an event type: use one such as \"invoice.paid\", \"invoice.*\" or \"*\"", handler.pattern))
	}
	handler.name = h.nameFor(handler)
	h.list = append(h.list, handler)
}

// nameFor returns the name of a handler that is added.
func (h *Handlers) nameFor(added handler) string {
	taken := func(name string) bool {
		return slices.ContainsFunc(h.list, func(other handler) bool { return other.name == name })
	}
	switch {
	case added.plan != nil: // of all patterns of one type
		return added.name + ".OnChange"
	case added.name != "" && taken(added.name):
		panic(fmt.Sprintf("webhooks: two handlers are named %q: give each a name of its own with webhooks.Name", added.name))
	case added.name != "":
		return added.name
	}
	name := added.pattern
	for i := 2; taken(name); i++ {
		name = fmt.Sprintf("%s-%d", added.pattern, i)
	}
	return name
}

// match returns the handlers of an event, as which a type is matched.
func (h *Handlers) match(eventType string, ev *Event) []handler {
	var matching []handler
	for _, handler := range h.list {
		if eventtypes.PatternMatches(handler.pattern, eventType) && (handler.matches == nil || handler.matches(ev)) {
			matching = append(matching, handler)
		}
	}
	return matching
}
