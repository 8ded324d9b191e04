// Package subscriptions keeps one row for each Stripe subscription, equal to Stripe's own state, as a
// projection of the customer.subscription.* events that package webhooks makes take effect.
package subscriptions

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Status is a subscription's status in Stripe's words. Statuses that Stripe adds later are kept as they
// come. See https://docs.stripe.com/api/subscriptions/object#subscription_object-status.
type Status string

// The statuses that Stripe documents.
const (
	StatusIncomplete        Status = "incomplete"
	StatusIncompleteExpired Status = "incomplete_expired"
	StatusTrialing          Status = "trialing"
	StatusActive            Status = "active"
	StatusPastDue           Status = "past_due"
	StatusCanceled          Status = "canceled"
	StatusUnpaid            Status = "unpaid"
	StatusPaused            Status = "paused"
)

// Terminal is true for the statuses that a subscription never leaves: canceled and incomplete_expired.
func (s Status) Terminal() bool { return s == StatusCanceled || s == StatusIncompleteExpired }

// Entitled is true for the statuses in which a customer should have what the subscription is for: active
// and trialing, and those given, such as StatusPastDue where a customer keeps access while a payment is
// tried again.
func (s Status) Entitled(also ...Status) bool {
	return s == StatusActive || s == StatusTrialing || slices.Contains(also, s)
}

// Subscription is one row with its items. Texts that Stripe leaves out or sets to null are empty, times
// and quantities nil. Times are UTC, in whole seconds as Stripe gives them.
type Subscription struct {
	ID         string // sub_…
	CustomerID string // cus_…
	Status     Status
	// PriceID, Quantity and the current period are those of the oldest item: the one that Stripe created
	// first, and of several created in one second the one with the smallest id. Where it has none, they are
	// those that older API versions put on the subscription itself (plan.id, quantity, current_period_*).
	PriceID            string
	Quantity           *int64
	Currency           string // ISO code in lower case
	CancelAtPeriodEnd  bool
	CancelAt           *time.Time
	CanceledAt         *time.Time
	EndedAt            *time.Time
	CurrentPeriodStart *time.Time
	CurrentPeriodEnd   *time.Time
	TrialStart         *time.Time
	TrialEnd           *time.Time
	CollectionMethod   string
	LatestInvoiceID    string
	// PauseCollection is nil unless the collection of payments is paused, which no status tells.
	PauseCollection        *PauseCollection
	CustomerAccountID      string // acct_…, of a customer that is an account (Stripe's customer_account)
	ScheduleID             string // sub_sched_…
	DefaultPaymentMethodID string // pm_…
	BillingMode            string // the type of Stripe's billing_mode: classic or flexible
	// DiscountIDs are the ids of the discounts (di_…), in Stripe's order, which counts: another order is a
	// change. A discount of an API version that gave it no id is not among them. Nil if there are none.
	DiscountIDs []string
	// ItemsComplete is false while Stripe's list of the items goes on beyond what the event holds (has_more).
	// Items then are those of the list, and of the items stored before those that the list lacks: they may be
	// on its further pages, or gone. Price, quantity and period are of the oldest item that the event holds.
	ItemsComplete bool
	Metadata      map[string]string // never nil
	Livemode      bool
	AccountID     string     // the connected account; empty for the platform's own
	Created       *time.Time // when Stripe created the subscription
	// Items are in the order of Stripe's list when one of them last changed. Their order alone says nothing:
	// Stripe may list the same items in another order, and that is no change.
	Items []Item

	Object             json.RawMessage // Stripe's whole object
	LastEventID        string          // the event that it is as of; empty after an import
	LastEventCreatedAt *time.Time
	CreatedAt          time.Time // the row's own times
	UpdatedAt          time.Time
}

// Item is one item of a subscription. The JSON names are the columns'.
type Item struct {
	ID                 string            `json:"id"` // si_…
	PriceID            string            `json:"price_id"`
	ProductID          string            `json:"product_id"`
	Quantity           *int64            `json:"quantity"`             // nil for metered prices
	CurrentPeriodStart *time.Time        `json:"current_period_start"` // the subscription's where the item has none
	CurrentPeriodEnd   *time.Time        `json:"current_period_end"`
	Metadata           map[string]string `json:"metadata"` // never nil
}

// sameState compares what Stripe says of a subscription as it is decoded here. A mere difference in
// Object, such as another API version's shape, is none, nor is another order of the items.
func sameState(a, b *Subscription) bool {
	return reflect.DeepEqual(a.state(), b.state())
}

func (s *Subscription) state() Subscription {
	state := *s
	state.Object, state.LastEventID, state.LastEventCreatedAt = nil, "", nil
	state.CreatedAt, state.UpdatedAt = time.Time{}, time.Time{}
	state.Items, state.PauseCollection = sortedItems(s.Items), s.PauseCollection.comparable()
	return state
}

// sortedItems are the items by id: what they are but for their order.
func sortedItems(items []Item) []Item {
	byID := func(a, b Item) int { return strings.Compare(a.ID, b.ID) }
	if slices.IsSortedFunc(items, byID) {
		return items
	}
	return slices.SortedFunc(slices.Values(items), byID)
}

func sameItems(a, b []Item) bool { return reflect.DeepEqual(sortedItems(a), sortedItems(b)) }
