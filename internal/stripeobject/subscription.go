package stripeobject

import (
	"maps"
	"slices"
)

// Subscription is a subscription, independent of the API version. Times are Unix seconds, 0 for null.
type Subscription struct {
	ID, Customer, Status string
	Created              int64
	PeriodStart          int64
	PeriodEnd            int64
	TrialStart, TrialEnd int64
	CancelAtPeriodEnd    bool
	CancelAt, CanceledAt int64
	EndedAt              int64
	CancelReason         string
	LatestInvoice        string
	PauseBehavior        string // of pause_collection; empty: not paused
	ResumesAt            int64
	Schedule             string
	PaymentMethod        string
	Discounts            []string
	Metadata             map[string]string
	Items                []Item
	TestClock            string // clock_…
	// Turn is how many places the list of items is rotated: Stripe does not promise its order.
	Turn int
}

// Item is one item of a subscription.
type Item struct {
	ID, Price, Product string
	Amount             int64 // in cents a month
	Quantity           int64
	Created            int64
}

// Clone returns a deep copy.
func (s *Subscription) Clone() Subscription {
	copied := *s
	copied.Metadata = maps.Clone(s.Metadata)
	copied.Discounts = slices.Clone(s.Discounts)
	copied.Items = slices.Clone(s.Items)
	return copied
}

// ItemsListed is the maximum number of items in a subscription's list. has_more is true if there are more.
const ItemsListed = 20

// Render renders the subscription as its events and the API have it in a version: a list of up to ItemsListed items.
func (s *Subscription) Render(version string) Object {
	items := make([]any, min(len(s.Items), ItemsListed))
	for i := range items {
		items[(i+s.Turn)%len(items)] = s.RenderItem(&s.Items[i], version)
	}
	o := Object{
		"id":                                s.ID,
		"object":                            "subscription",
		"application":                       nil,
		"application_fee_percent":           nil,
		"automatic_tax":                     Object{"enabled": false, "liability": nil},
		"billing_cycle_anchor":              s.Created,
		"billing_mode":                      Object{"type": BillingMode, "updated_at": s.Created},
		"cancel_at":                         OrNull(s.CancelAt),
		"cancel_at_period_end":              s.CancelAtPeriodEnd,
		"canceled_at":                       OrNull(s.CanceledAt),
		"cancellation_details":              Object{"comment": nil, "feedback": nil, "reason": OrNull(s.CancelReason)},
		"collection_method":                 "charge_automatically",
		"created":                           s.Created,
		"currency":                          "usd",
		"customer":                          s.Customer,
		"days_until_due":                    nil,
		"default_payment_method":            OrNull(s.PaymentMethod),
		"default_source":                    nil,
		"default_tax_rates":                 []any{},
		"description":                       nil,
		"discounts":                         s.discountIDs(),
		"ended_at":                          OrNull(s.EndedAt),
		"invoice_settings":                  Object{"account_tax_ids": nil, "issuer": Object{"type": "self"}},
		"items":                             Object{"object": "list", "data": items, "has_more": len(s.Items) > len(items), "total_count": len(s.Items), "url": "/v1/subscription_items?subscription=" + s.ID},
		"latest_invoice":                    OrNull(s.LatestInvoice),
		"livemode":                          false,
		"metadata":                          texts(s.Metadata),
		"next_pending_invoice_item_invoice": nil,
		"on_behalf_of":                      nil,
		"pause_collection":                  s.PauseCollection(),
		"payment_settings":                  Object{"payment_method_options": nil, "payment_method_types": nil, "save_default_payment_method": "off"},
		"pending_invoice_item_interval":     nil,
		"pending_setup_intent":              nil,
		"pending_update":                    nil,
		"schedule":                          OrNull(s.Schedule),
		"start_date":                        s.Created,
		"status":                            s.Status,
		"test_clock":                        OrNull(s.TestClock),
		"transfer_data":                     nil,
		"trial_end":                         OrNull(s.TrialEnd),
		"trial_settings":                    Object{"end_behavior": Object{"missing_payment_method": "create_invoice"}},
		"trial_start":                       OrNull(s.TrialStart),
	}
	if beforeBasil(version) {
		s.renderOld(o)
	}
	return o
}

// Whole renders the subscription with all items, as the API's pages have them.
func (s *Subscription) Whole(version string) Object {
	o := s.Render(version)
	items := make([]any, len(s.Items))
	for i := range s.Items {
		items[i] = s.RenderItem(&s.Items[i], version)
	}
	list := o["items"].(Object)
	list["data"], list["has_more"] = items, false
	return o
}

// BillingMode is billing_mode.type.
const BillingMode = "flexible"

func (s *Subscription) discountIDs() []any {
	ids := make([]any, len(s.Discounts))
	for i, id := range s.Discounts {
		ids[i] = id
	}
	return ids
}

// PauseCollection renders pause_collection.
func (s *Subscription) PauseCollection() any {
	if s.PauseBehavior == "" {
		return nil
	}
	return Object{"behavior": s.PauseBehavior, "resumes_at": OrNull(s.ResumesAt)}
}

// renderOld adds the members that basil removed.
func (s *Subscription) renderOld(o Object) {
	o["current_period_start"] = s.PeriodStart
	o["current_period_end"] = s.PeriodEnd
	o["billing_thresholds"] = nil
	o["discount"] = nil
	if len(s.Discounts) > 0 {
		o["discount"] = Object{"id": s.Discounts[len(s.Discounts)-1], "object": "discount", "subscription": s.ID}
	}
	o["plan"], o["quantity"] = nil, nil
	if len(s.Items) == 1 {
		only := &s.Items[0]
		o["plan"], o["quantity"] = renderPlan(only), only.Quantity
	}
}

// RenderItem renders one item in a version.
func (s *Subscription) RenderItem(it *Item, version string) Object {
	o := Object{
		"id":           it.ID,
		"object":       "subscription_item",
		"created":      it.Created,
		"discounts":    []any{},
		"metadata":     Object{},
		"plan":         renderPlan(it),
		"price":        renderPrice(it),
		"quantity":     it.Quantity,
		"subscription": s.ID,
		"tax_rates":    []any{},
	}
	if !beforeBasil(version) {
		o["current_period_start"] = s.PeriodStart
		o["current_period_end"] = s.PeriodEnd
	}
	return o
}

func renderPlan(it *Item) Object {
	return Object{
		"id": it.Price, "object": "plan", "active": true, "amount": it.Amount, "billing_scheme": "per_unit",
		"currency": "usd", "interval": "month", "interval_count": 1, "livemode": false, "metadata": Object{},
		"nickname": nil, "product": it.Product, "tiers_mode": nil, "transform_usage": nil,
		"trial_period_days": nil, "usage_type": "licensed",
	}
}

func renderPrice(it *Item) Object {
	return Object{
		"id": it.Price, "object": "price", "active": true, "billing_scheme": "per_unit", "currency": "usd",
		"custom_unit_amount": nil, "livemode": false, "lookup_key": nil, "metadata": Object{}, "nickname": nil,
		"product": it.Product, "recurring": Object{"interval": "month", "interval_count": 1, "usage_type": "licensed"},
		"tax_behavior": "unspecified", "tiers_mode": nil, "transform_quantity": nil, "type": "recurring",
		"unit_amount": it.Amount,
	}
}
