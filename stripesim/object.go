package stripesim

import (
	"math/rand/v2"
	"strings"

	"github.com/pook/stripeonce/internal/stripeobject"
)

// Object is an object of the account, to compare a receiver's tables with. In and Whole return its state at the time of the call.
type Object struct {
	AccountID      string // empty: the platform's own
	Type           string // subscription, customer, product, price or invoice: its member object
	ID             string
	CustomerID     string // of a subscription or an invoice
	SubscriptionID string // of an invoice; empty: of no subscription
	Created        int64  // in Unix seconds
	Deleted        bool

	render func(version string, whole bool) object
}

// In returns the object as the API renders it in a version: VersionBeforeBasil or VersionBasil. Lists have up to 20 items or 10
// lines. A deleted object is {"id", "object", "deleted": true}.
func (o Object) In(version string) []byte { return marshal(o.render(version, false)) }

// Whole returns the object in a version, with all items or lines.
func (o Object) Whole(version string) []byte { return marshal(o.render(version, true)) }

// Objects returns the account's objects of which there are events: the subscriptions, then the others, each in the order of their
// creation. Deleted objects are among them. Without Billing, the others are invoices.
func (a *Account) Objects() []Object {
	var all []Object
	for _, s := range a.Subscriptions {
		all = append(all, Object{
			AccountID: s.AccountID, Type: "subscription", ID: s.state.ID, CustomerID: s.state.Customer, Created: s.state.Created,
			render: func(version string, whole bool) object {
				if whole {
					return s.state.Whole(version)
				}
				return s.state.Render(version)
			},
		})
	}
	for _, st := range a.told() {
		o := *st.is()
		o.render = st.final
		all = append(all, o)
	}
	return all
}

// told returns the objects beside subscriptions of which there are events.
func (a *Account) told() []stored {
	var told []stored
	for _, st := range a.stored {
		if st.hasEvents() {
			told = append(told, st)
		}
	}
	return told
}

// stored is an object that is not a subscription.
type stored interface {
	is() *Object
	eventVersion() string
	hasEvents() bool
	final(version string, whole bool) object
	// at renders the state of a second, or the one that lag changes before it.
	at(now int64, lag int, version string) object
	exists(now int64) bool
	deletedBy(now int64) bool
	replace()
}

// former is a state that an object had until a second.
type former[T any] struct {
	state T
	until int64
}

// asOf returns the state of a second, or the one that lag changes before it.
func asOf[T any](past []former[T], current *T, now int64, lag int) *T {
	n := 0
	for n < len(past) && past[n].until <= now {
		n++
	}
	if n = max(0, n-lag); n < len(past) {
		return &past[n].state
	}
	return current
}

// state is the state of an object, by pointer.
type state[T any] interface {
	*T
	Clone() T
	Render(version string) object
}

// resource is an object's state now and before, and whose it is.
type resource[T any, P state[T]] struct {
	account *Account
	about   Object
	version string // of its events
	state   T
	past    []former[T]
	told    bool // there are events of it
	// When it was deleted, and when another object took its id. 0: not yet.
	deletedAt, replacedAt int64
}

func newResource[T any, P state[T]](a *Account, about Object, version string, st T) resource[T, P] {
	return resource[T, P]{account: a, about: about, version: version, state: st}
}

func (r *resource[T, P]) is() *Object { return &r.about }

func (r *resource[T, P]) eventVersion() string { return r.version }

func (r *resource[T, P]) hasEvents() bool { return r.told }

func (r *resource[T, P]) exists(now int64) bool {
	return r.about.Created <= now && (r.replacedAt == 0 || r.replacedAt > now)
}

func (r *resource[T, P]) deletedBy(now int64) bool { return r.about.Deleted && r.deletedAt <= now }

func (r *resource[T, P]) replace() { r.replacedAt = r.account.Now }

// change changes the state and creates an event, with previous_attributes if it is an update. An update that changes nothing
// creates none.
func (r *resource[T, P]) change(eventType string, change func(*T)) {
	r.changeBy(r.account.billing, eventType, change)
}

// changeBy is change with the source of the event's id.
func (r *resource[T, P]) changeBy(random *rand.Rand, eventType string, change func(*T)) {
	before, update := P(&r.state).Clone(), strings.HasSuffix(eventType, ".updated") && eventType != summaryUpdated
	now := P(&r.state).Clone()
	change(&now)
	if update && len(stripeobject.Difference(P(&before).Render(r.version), P(&now).Render(r.version))) == 0 {
		return
	}
	if !strings.HasSuffix(eventType, ".created") {
		r.past = append(r.past, former[T]{before, r.account.Now})
	}
	r.state = now
	after := P(&now).Clone()
	added := r.account.add(&Event{
		AccountID: r.about.AccountID, Type: eventType, SubscriptionID: r.about.SubscriptionID, customer: r.about.CustomerID,
		render: func(version string) (about, previous object) {
			about = P(&after).Render(version)
			if update {
				previous = stripeobject.Difference(P(&before).Render(version), about)
			}
			return about, previous
		},
	}, r.version, random)
	r.told = r.told || added
}

// set changes the state without an event.
func (r *resource[T, P]) set(change func(*T)) {
	before, now := P(&r.state).Clone(), P(&r.state).Clone()
	change(&now)
	r.past, r.state = append(r.past, former[T]{before, r.account.Now}), now
}

// event creates an event that changes nothing.
func (r *resource[T, P]) event(random *rand.Rand, eventType string) {
	r.changeBy(random, eventType, func(*T) {})
}

// delete creates the event of the deletion, which has the last state.
func (r *resource[T, P]) delete() {
	r.event(r.account.billing, r.about.Type+".deleted")
	r.about.Deleted, r.deletedAt = true, r.account.Now
}

// final renders the object as it is now.
func (r *resource[T, P]) final(version string, whole bool) object {
	version = stripeobject.Shape(version)
	if r.about.Deleted {
		return object{"id": r.about.ID, "object": r.about.Type, "deleted": true}
	}
	if all, ok := any(P(&r.state)).(interface{ Whole(version string) object }); ok && whole {
		return all.Whole(version)
	}
	return P(&r.state).Render(version)
}

func (r *resource[T, P]) at(now int64, lag int, version string) object {
	version = stripeobject.Shape(version)
	if lag == 0 && r.deletedBy(now) {
		return r.final(version, false)
	}
	return P(asOf(r.past, &r.state, now, lag)).Render(version)
}

// setText changes metadata. An empty value removes the key.
func setText(metadata map[string]string, key, value string) {
	metadata[key] = value
	if value == "" {
		delete(metadata, key)
	}
}
