package webhookstest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/pook/stripeonce/internal/stripeobject"
)

// versioned is an object that an event renders in its API version.
type versioned interface {
	render(version string) map[string]any
}

// Subscription is a subscription for an event's Object, in the shape of the event's API version. Update makes the events of its
// updates.
type Subscription struct {
	ID         string // empty: a new one
	CustomerID string // empty: a new one
	Status     string // empty: active
	// PriceID and Quantity are those of the only item. Defaults to price_test and 1. To set one of them beside Items panics.
	PriceID  string
	Quantity int64
	Items    []Item // more than 20 are cut, as in Stripe's events, with has_more
	// Created defaults to now, the period to a month since then.
	Created                                 time.Time
	CurrentPeriodStart, CurrentPeriodEnd    time.Time
	TrialStart, TrialEnd                    time.Time // zero: null
	CancelAtPeriodEnd                       bool
	CancelAt, CanceledAt, EndedAt           time.Time // zero: null
	LatestInvoiceID, DefaultPaymentMethodID string    // empty: null
	ScheduleID                              string    // empty: null
	PauseCollectionBehavior                 string    // empty: pause_collection is null
	Metadata                                map[string]string
}

// Item is one item of a subscription.
type Item struct {
	ID         string // empty: made of the item's place and the subscription's ID
	PriceID    string // empty: price_test
	ProductID  string // empty: prod_test
	Quantity   int64  // 0: 1
	UnitAmount int64  // of the price, in cents
}

// filled returns a copy of the subscription with its defaults, except for the only item's.
func (s Subscription) filled() Subscription {
	if s.ID == "" {
		s.ID = NewID("sub")
	}
	if s.CustomerID == "" {
		s.CustomerID = NewID("cus")
	}
	s.Status = cmp.Or(s.Status, "active")
	if s.Created.IsZero() {
		s.Created = time.Now()
	}
	if s.CurrentPeriodStart.IsZero() {
		s.CurrentPeriodStart = s.Created
	}
	if s.CurrentPeriodEnd.IsZero() {
		s.CurrentPeriodEnd = s.CurrentPeriodStart.AddDate(0, 1, 0)
	}
	if len(s.Items) > 0 && (s.PriceID != "" || s.Quantity != 0) {
		panic(fmt.Sprintf("webhookstest: the subscription %s has Items, and also the PriceID or the Quantity of its only item", s.ID))
	}
	s.Items = slices.Clone(s.Items)
	for i := range s.Items {
		s.nameItem(i)
	}
	if s.Metadata = maps.Clone(s.Metadata); s.Metadata == nil {
		s.Metadata = map[string]string{}
	}
	return s
}

// nameItem gives an item without an ID the first one that no other item has.
func (s *Subscription) nameItem(i int) {
	for n := i; s.Items[i].ID == ""; n++ {
		id := fmt.Sprintf("si_%d_of_%s", n, s.ID)
		if !slices.ContainsFunc(s.Items, func(it Item) bool { return it.ID == id }) {
			s.Items[i].ID = id
		}
	}
}

// Update changes the subscription, and returns the event that Stripe sends of it: customer.subscription.updated, with the
// previous attributes of what differs. Set the event's Created and APIVersion.
//
//	sub := webhookstest.Subscription{ID: "sub_1", CustomerID: "cus_1"}
//	created := webhookstest.Event{Type: "customer.subscription.created", Object: sub}
//	failed := sub.Update(func(s *webhookstest.Subscription) { s.Status = "past_due" })
//
// Whatever change leaves alone stays as it is. Update gives a subscription without an ID a new one, and sets every other field
// that has a default, except for PriceID and Quantity.
func (s *Subscription) Update(change func(*Subscription)) Event {
	before := s.filled()
	*s = before.filled()
	change(s)
	*s = s.filled()
	return Event{Type: "customer.subscription.updated", Object: *s, Previous: previous{before, *s}}
}

func (s Subscription) render(version string) map[string]any {
	s = s.filled()
	object := stripeobject.Subscription{
		ID: s.ID, Customer: s.CustomerID, Status: s.Status, Created: s.Created.Unix(), PeriodStart: unix(s.CurrentPeriodStart),
		PeriodEnd: unix(s.CurrentPeriodEnd), TrialStart: unix(s.TrialStart), TrialEnd: unix(s.TrialEnd),
		CancelAtPeriodEnd: s.CancelAtPeriodEnd, CancelAt: unix(s.CancelAt), CanceledAt: unix(s.CanceledAt), EndedAt: unix(s.EndedAt),
		LatestInvoice: s.LatestInvoiceID, PaymentMethod: s.DefaultPaymentMethodID, Schedule: s.ScheduleID,
		PauseBehavior: s.PauseCollectionBehavior, Metadata: s.Metadata,
	}
	items := s.Items
	if len(items) == 0 {
		items = []Item{{ID: "si_of_" + s.ID, PriceID: s.PriceID, Quantity: s.Quantity}}
	}
	for i, it := range items {
		object.Items = append(object.Items, stripeobject.Item{
			ID: it.ID, Price: cmp.Or(it.PriceID, "price_test"), Product: cmp.Or(it.ProductID, "prod_test"),
			Quantity: cmp.Or(it.Quantity, 1), Amount: it.UnitAmount, Created: s.Created.Unix() + int64(i),
		})
	}
	return object.Render(version)
}

// MarshalJSON renders the subscription in the shape of 2025-03-31.
func (s Subscription) MarshalJSON() ([]byte, error) {
	return json.Marshal(s.render(stripeobject.VersionBasil))
}

// previous are the previous attributes of a change.
type previous struct{ before, after versioned }

func (p previous) render(version string) map[string]any {
	return stripeobject.Difference(p.before.render(version), p.after.render(version))
}

// Invoice is an invoice for an event's Object, in the shape of the event's API version.
type Invoice struct {
	ID             string    // empty: a new one
	CustomerID     string    // empty: a new one
	SubscriptionID string    // empty: of no subscription
	Status         string    // draft, open, paid, uncollectible or void. Empty: paid
	BillingReason  string    // empty: subscription_cycle, or manual without a subscription
	Currency       string    // empty: usd
	AmountDue      int64     // in the currency's smallest unit
	AmountPaid     int64     // 0 of a paid invoice: AmountDue
	Created        time.Time // zero: now
	// The period defaults to the month before Created.
	PeriodStart, PeriodEnd time.Time
	Metadata               map[string]string
	SubscriptionMetadata   map[string]string
}

func (i Invoice) render(version string) map[string]any {
	if i.ID == "" {
		i.ID = NewID("in")
	}
	if i.CustomerID == "" {
		i.CustomerID = NewID("cus")
	}
	if i.Created.IsZero() {
		i.Created = time.Now()
	}
	if i.PeriodEnd.IsZero() {
		i.PeriodEnd = i.Created
	}
	if i.PeriodStart.IsZero() {
		i.PeriodStart = i.PeriodEnd.AddDate(0, -1, 0)
	}
	reason := "manual"
	if i.SubscriptionID != "" {
		reason = "subscription_cycle"
	}
	object := stripeobject.Invoice{
		ID: i.ID, Customer: i.CustomerID, Subscription: i.SubscriptionID, SubscriptionMetadata: i.SubscriptionMetadata,
		Status: cmp.Or(i.Status, "paid"), BillingReason: cmp.Or(i.BillingReason, reason), Currency: cmp.Or(i.Currency, "usd"),
		AmountDue: i.AmountDue, AmountPaid: i.AmountPaid, Created: i.Created.Unix(), PeriodStart: i.PeriodStart.Unix(), PeriodEnd: i.PeriodEnd.Unix(),
		Metadata: i.Metadata,
	}
	if object.Status == "paid" {
		object.AmountPaid = cmp.Or(i.AmountPaid, i.AmountDue)
	}
	return object.Render(version)
}

// MarshalJSON renders the invoice in the shape of 2025-03-31.
func (i Invoice) MarshalJSON() ([]byte, error) {
	return json.Marshal(i.render(stripeobject.VersionBasil))
}

// CheckoutSession is a Checkout session for an event's Object.
type CheckoutSession struct {
	ID                string // empty: a new one
	CustomerID        string // empty: null, as of a guest
	Mode              string // empty: subscription with a SubscriptionID, otherwise payment
	Status            string // open, complete or expired. Empty: complete
	PaymentStatus     string // empty: paid
	SubscriptionID    string
	PaymentIntentID   string
	ClientReferenceID string    // your own id of the customer
	Currency          string    // empty: usd
	AmountTotal       int64     // in the currency's smallest unit
	Created           time.Time // zero: now
	Metadata          map[string]string
}

func (c CheckoutSession) render(string) map[string]any {
	if c.ID == "" {
		c.ID = NewID("cs_test")
	}
	if c.Created.IsZero() {
		c.Created = time.Now()
	}
	mode := "payment"
	if c.SubscriptionID != "" {
		mode = "subscription"
	}
	object := stripeobject.CheckoutSession{
		ID: c.ID, Customer: c.CustomerID, Mode: cmp.Or(c.Mode, mode), Status: cmp.Or(c.Status, "complete"),
		PaymentStatus: cmp.Or(c.PaymentStatus, "paid"), Subscription: c.SubscriptionID, PaymentIntent: c.PaymentIntentID,
		ClientReferenceID: c.ClientReferenceID, Currency: cmp.Or(c.Currency, "usd"), AmountTotal: c.AmountTotal, Metadata: c.Metadata,
		Created: c.Created.Unix(), ExpiresAt: c.Created.AddDate(0, 0, 1).Unix(),
	}
	return object.Render()
}

// MarshalJSON renders the session.
func (c CheckoutSession) MarshalJSON() ([]byte, error) { return json.Marshal(c.render("")) }

// unix returns Unix seconds, 0 for the zero time.
func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// inEvent renders an event's object or previous attributes.
func inEvent(value any, ev *Event) any {
	v, ok := value.(versioned)
	if !ok {
		return value
	}
	object := maps.Clone(v.render(cmp.Or(ev.APIVersion, DefaultAPIVersion)))
	if _, has := object["livemode"]; has {
		object["livemode"] = ev.Livemode
	}
	return object
}
