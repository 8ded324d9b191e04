package subscriptions

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Status is Stripe's status of a subscription. Statuses that Stripe adds later are kept unchanged.
// See https://docs.stripe.com/api/subscriptions/object#subscription_object-status.
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

// Terminal reports whether the status is final: canceled or incomplete_expired.
func (s Status) Terminal() bool { return s == StatusCanceled || s == StatusIncompleteExpired }

// Entitled reports whether a customer with the status should have access: the status is active, trialing, or one of
// also. Pass StatusPastDue if customers keep access while Stripe retries a payment.
func (s Status) Entitled(also ...Status) bool {
	return s == StatusActive || s == StatusTrialing || slices.Contains(also, s)
}

// Subscription is one row with its items. A value that Stripe leaves out or sets to null is "" for a text and nil for a
// time or a quantity. Times are in UTC and whole seconds, as at Stripe.
type Subscription struct {
	ID         string // sub_…
	CustomerID string // cus_…
	Status     Status
	// PriceID, Quantity and the current period come from the oldest item: the item that Stripe created first, and among
	// items of the same second the one with the smallest id. If the item lacks a value, it comes from the subscription
	// itself, where older API versions have it (plan.id, quantity, current_period_*).
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
	// PauseCollection is nil unless payment collection is paused. Status does not show a pause.
	PauseCollection        *PauseCollection
	CustomerAccountID      string // acct_…: Stripe's customer_account, for a customer that is an account
	ScheduleID             string // sub_sched_…
	DefaultPaymentMethodID string // pm_…
	BillingMode            string // billing_mode.type: classic or flexible
	// DiscountIDs are the ids of the discounts (di_…) in Stripe's order. Another order is a change. Discounts of old API
	// versions, which have no id, are left out. Nil if there are none.
	DiscountIDs []string
	// ItemsComplete is false if the event holds only a part of the items (has_more). Items are then the items of the
	// event and those stored before, which may be on a further page of Stripe's list or gone. Price, quantity and
	// period come from the oldest item of the event.
	ItemsComplete bool
	Metadata      map[string]string // never nil
	Livemode      bool
	AccountID     string     // the connected account; empty for the platform's own
	Created       *time.Time // when Stripe created the subscription
	// Items are in the order of Stripe's list when one of them last changed. Stripe may list the same items in another
	// order, which is no change.
	Items []Item

	Object             json.RawMessage // Stripe's whole object
	LastEventID        string          // the event of this state; empty after an import
	LastEventCreatedAt *time.Time
	CreatedAt          time.Time // of the row
	UpdatedAt          time.Time // of the row
}

// Item is one item of a subscription. The JSON names are the columns'.
type Item struct {
	ID                 string            `json:"id"` // si_…
	PriceID            string            `json:"price_id"`
	ProductID          string            `json:"product_id"`
	Quantity           *int64            `json:"quantity"`             // nil for metered prices
	CurrentPeriodStart *time.Time        `json:"current_period_start"` // the subscription's if the item has none
	CurrentPeriodEnd   *time.Time        `json:"current_period_end"`
	Metadata           map[string]string `json:"metadata"` // never nil
}

// sameState reports whether two subscriptions have the same decoded state. Differences in Object alone, such as another
// API version's shape, do not count, and neither does another order of the items.
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

// sortedItems returns the items sorted by id.
func sortedItems(items []Item) []Item {
	byID := func(a, b Item) int { return strings.Compare(a.ID, b.ID) }
	if slices.IsSortedFunc(items, byID) {
		return items
	}
	return slices.SortedFunc(slices.Values(items), byID)
}

func sameItems(a, b []Item) bool { return reflect.DeepEqual(sortedItems(a), sortedItems(b)) }
