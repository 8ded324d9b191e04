package stripesim

import (
	"math/rand/v2"
	"strings"

	"github.com/pook/stripeonce/internal/stripeobject"
)

// Object is an object of the account, to compare a receiver's tables with. In and Whole return its state at the time of the call.
type Object struct {
	AccountID      string // empty: the platform's own
	Type           string // its member object, such as subscription, invoice or checkout.session
	ID             string // of an entitlements.active_entitlement_summary, which has none, that of its customer
	CustomerID     string // the member customer
	SubscriptionID string // the member subscription, of an invoice in any version
	Created        int64  // in Unix seconds
	Deleted        bool

	render func(version string, whole bool) object
}

// In returns the object as the API renders it in a version: VersionBeforeBasil or VersionBasil. Lists have up to 20 items, 10 lines
// or 10 entitlements. A deleted object is {"id", "object", "deleted": true}.
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

// BillingTypes returns the types of Account.Objects that Account.Billing adds and that have ids: all but subscription and
// entitlements.active_entitlement_summary.
func BillingTypes() []string {
	return []string{
		"charge", "checkout.session", "coupon", "credit_note", "customer", "dispute", "invoice", "payment_intent", "payment_method", "payout",
		"price", "product", "promotion_code", "refund", "setup_intent", "subscription_schedule", "tax_id",
	}
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

// keep adds an object.
func (a *Account) keep(st stored) {
	if a.byID == nil {
		a.byID = map[string][]stored{}
	}
	key := st.is().Type + " " + st.is().ID
	a.stored, a.byID[key] = append(a.stored, st), append(a.byID[key], st)
}

// stored is an object that is not a subscription.
type stored interface {
	is() *Object
	owner(now int64) (customer, subscription string)
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

// resource is an object's state now and before, and whose it is. Each type of objects embeds it through a struct of its own, so that
// its documentation has the methods and not the internal type of the state.
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

// ID returns the object's id.
func (r *resource[T, P]) ID() string { return r.about.ID }

// AccountID returns the account that the object belongs to; empty: the platform's own.
func (r *resource[T, P]) AccountID() string { return r.about.AccountID }

// Deleted reports whether the object was deleted.
func (r *resource[T, P]) Deleted() bool { return r.about.Deleted }

// Object returns the current object as Stripe's API renders it, in the version of its events.
func (r *resource[T, P]) Object() []byte { return marshal(r.final(r.version, false)) }

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
	r.changeAs(random, change, eventType)
}

// changeAs changes the state and creates an event of each type.
func (r *resource[T, P]) changeAs(random *rand.Rand, change func(*T), eventTypes ...string) {
	before, now := P(&r.state).Clone(), P(&r.state).Clone()
	change(&now)
	same := len(stripeobject.Difference(P(&before).Render(r.version), P(&now).Render(r.version))) == 0
	if same && hasPrevious(eventTypes[0]) {
		return
	}
	if !strings.HasSuffix(eventTypes[0], ".created") {
		r.past = append(r.past, former[T]{before, r.account.Now})
	}
	r.become(now)
	for _, eventType := range eventTypes {
		r.emit(random, eventType, &before)
	}
}

// happen is change for the objects whose events have their ids from others.
func (r *resource[T, P]) happen(eventType string, change func(*T)) {
	r.changeAs(r.account.others, change, eventType)
}

// become sets the state.
func (r *resource[T, P]) become(now T) {
	r.state = now
	if o, ok := any(P(&r.state)).(owned); ok {
		r.about.CustomerID, r.about.SubscriptionID = o.Of()
	}
}

// owned is a state with the ids of its customer and its subscription.
type owned interface {
	Of() (customer, subscription string)
}

// owner returns the ids of the customer and the subscription as of a second.
func (r *resource[T, P]) owner(now int64) (customer, subscription string) {
	if o, ok := any(P(asOf(r.past, &r.state, now, 0))).(owned); ok {
		return o.Of()
	}
	return r.about.CustomerID, r.about.SubscriptionID
}

// hasPrevious reports whether events of a type have previous attributes. The event of entitlements has none, and some types that do
// not end in updated have them, too.
func hasPrevious(eventType string) bool {
	switch eventType {
	case summaryUpdated:
		return false
	case "charge.refunded", "payment_method.detached", "payment_method.automatically_updated":
		return true
	}
	return strings.HasSuffix(eventType, ".updated")
}

// emit creates an event with the current state, after a change from before.
func (r *resource[T, P]) emit(random *rand.Rand, eventType string, before *T) {
	was, after := P(before).Clone(), P(&r.state).Clone()
	added := r.account.add(&Event{
		AccountID: r.about.AccountID, Type: eventType, SubscriptionID: r.about.SubscriptionID, customer: r.about.CustomerID,
		render: func(version string) (about, previous object) {
			about = P(&after).Render(version)
			if hasPrevious(eventType) {
				previous = stripeobject.Difference(P(&was).Render(version), about)
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
	r.past = append(r.past, former[T]{before, r.account.Now})
	r.become(now)
}

// event creates an event that changes nothing.
func (r *resource[T, P]) event(random *rand.Rand, eventType string) {
	r.changeBy(random, eventType, func(*T) {})
}

// delete creates the event of the deletion, which has the last state.
func (r *resource[T, P]) delete() { r.deleteBy(r.account.billing, r.about.Type+".deleted") }

// deleteBy is delete with the source of the event's id, and its type.
func (r *resource[T, P]) deleteBy(random *rand.Rand, eventType string) {
	r.event(random, eventType)
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
