package webhooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Handlers holds the functions for each event type. Fill it with On and Project, then give it to New,
// after which it takes no more.
type Handlers struct {
	list   []handler
	needs  []tablePrivilege
	trials []trial
	frozen bool
}

// handler is one registered function.
type handler struct {
	pattern    string
	projection bool
	run        run
	trips      func(ev *Event) Trips // in place of run
	heeds      bool                  // it ends when its context does
}

type run func(ctx context.Context, tx pgx.Tx, ev *Event) (changed bool, err error)

// NewHandlers returns an empty set.
func NewHandlers() *Handlers { return &Handlers{} }

// On registers fn for an event type: "invoice.paid", a stripe.EventType, "invoice.*" for every type that
// begins with "invoice.", or "*" for all. data.object is decoded into T with encoding/json: a struct of
// any major version of stripe-go, one of your own, or json.RawMessage. Functions that fit the same event
// run in the order of their registration.
//
// fn runs inside the delivery's transaction. If it returns an error or panics, or does not return within
// Config.Timeout, all that it did through tx is undone, the reply is a 5xx, and Stripe sends the event
// again. It may run more than once (after a serialization failure, a deadlock, a lost race), so only
// what it does through tx is exactly once. ctx ends with Config.Timeout, not with the client.
//
// fn may return Ask to be run again with Stripe's current object, then also in obj.
//
// On panics on a malformed type, a nil fn, or a set that New has been given already.
func On[E ~string, T any](h *Handlers, eventType E, fn func(ctx context.Context, tx pgx.Tx, ev *Event, obj *T) error) {
	if fn == nil {
		panic("webhooks.On: the function for " + string(eventType) + " is nil")
	}
	h.add(handler{pattern: string(eventType), run: func(ctx context.Context, tx pgx.Tx, ev *Event) (bool, error) {
		object := ev.Object
		if ev.Current != nil && ev.Current.Object != nil {
			object = ev.Current.Object
		}
		if object == nil {
			return false, errors.New("the event has no data.object, or none that is a JSON object of at most 512 levels")
		}
		obj := new(T)
		if err := json.Unmarshal(object, obj); err != nil {
			return false, fmt.Errorf("decode data.object into %T: %w", obj, err)
		}
		return true, fn(ctx, tx, ev, obj)
	}})
}

// Project registers a projection: a function that keeps rows of its own equal to Stripe's state. It
// differs from On in what it says of its work: when only projections ran for an event and none changed
// anything, since the event is older than what is stored or equal to it, the outcome is OutcomeStale.
func Project(h *Handlers, eventType string, fn func(ctx context.Context, tx pgx.Tx, ev *Event) (changed bool, err error)) {
	if fn == nil {
		panic("webhooks.Project: the function for " + eventType + " is nil")
	}
	h.add(handler{pattern: eventType, projection: true, run: fn})
}

// ProjectInTrips is Project for a projection that says beforehand what it asks PostgreSQL for, which saves the
// time on the way there and back. begin is called for each try, outside the transaction. heedsContext says that
// nothing in it outlasts its context, as a function that somebody else wrote may: where this goes for all that an
// event runs, no goroutine is needed that could be left behind. If it is not true, the reply, and whoever waits for it,
// hangs as long as the function.
func ProjectInTrips(h *Handlers, eventType string, heedsContext bool, begin func(ev *Event) Trips) {
	if begin == nil {
		panic("webhooks.ProjectInTrips: the function for " + eventType + " is nil")
	}
	h.add(handler{pattern: eventType, projection: true, trips: begin, heeds: heedsContext})
}

// Needs registers privileges that a projection needs on a table, such as "SELECT" and "INSERT", beside those that the
// receiver needs by itself. Ready names those that are missing.
func Needs(h *Handlers, table string, privileges ...string) {
	for _, privilege := range privileges {
		h.needs = append(h.needs, tablePrivilege{table, privilege})
	}
}

// Trial registers a trial of what a projection writes to its tables: Ready calls it in a transaction that is rolled back.
// It writes rows with random ids, reads them back, and returns ErrNotReadBack where they are not as it wrote them.
func Trial(h *Handlers, run func(ctx context.Context, tx pgx.Tx) error, tables ...string) {
	h.trials = append(h.trials, trial{tables, run})
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

func (h *Handlers) add(handler handler) {
	if h.frozen {
		panic("webhooks: " + handler.pattern + " was registered after New: register every function before")
	}
	stem := strings.TrimSuffix(handler.pattern, ".*")
	if handler.pattern != "*" && (stem == "" || strings.ContainsAny(stem, "* ")) {
		panic(fmt.Sprintf("webhooks: %q is not an event type: use one such as \"invoice.paid\", \"invoice.*\" or \"*\"", handler.pattern))
	}
	h.list = append(h.list, handler)
}

// match returns the functions that fit an event's type.
func (h *Handlers) match(eventType string) []handler {
	var fit []handler
	for _, handler := range h.list {
		if TypeMatches(handler.pattern, eventType) {
			fit = append(fit, handler)
		}
	}
	return fit
}

// TypeMatches is true if a registered type fits an event's: the same, "*", or one that ends in ".*" and has
// the event's begin. A pattern also fits a narrower pattern.
func TypeMatches(pattern, eventType string) bool {
	if prefix, wild := strings.CutSuffix(pattern, "*"); wild {
		return strings.HasPrefix(eventType, prefix)
	}
	return pattern == eventType
}
