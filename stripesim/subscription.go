package stripesim

import (
	"maps"
	"slices"
)

// Subscription is a subscription of the account. Its methods change it and create the events of the change.
type Subscription struct {
	// AccountID is the account that it belongs to; empty: the platform's own.
	AccountID string

	account *Account
	version string
	state   state
	past    []state
}

// behind returns a past state, as a part of Stripe would that lags behind.
func (s *Subscription) behind(lag func() int) (st *state, found bool) {
	if lag == nil {
		return &s.state, true
	}
	switch n := lag(); {
	case n < 0:
		return nil, false
	case n == 0 || len(s.past) == 0:
		return &s.state, true
	default:
		return &s.past[max(0, len(s.past)-n)], true
	}
}

// state is a subscription, independent of the API version. Times are Unix seconds, 0 for null.
type state struct {
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
	Items                []item
	TestClock            string // clock_…
	// Turn is how many places the list of items is rotated: Stripe does not promise its order.
	Turn int
}

type item struct {
	ID, Price, Product string
	Amount             int64 // in cents a month
	Quantity           int64
	Created            int64
}

func (st *state) clone() state {
	copied := *st
	copied.Metadata = maps.Clone(st.Metadata)
	copied.Discounts = slices.Clone(st.Discounts)
	copied.Items = slices.Clone(st.Items)
	return copied
}

// ID returns the subscription's id, sub_….
func (s *Subscription) ID() string { return s.state.ID }

// Customer returns the customer's id, cus_….
func (s *Subscription) Customer() string { return s.state.Customer }

// Status returns the current status.
func (s *Subscription) Status() string { return s.state.Status }

// Object returns the current subscription as Stripe's API renders it, in the version of its events.
func (s *Subscription) Object() []byte { return marshal(s.state.render(s.version)) }

// itemsListed is the maximum number of items in a subscription's list. has_more is true if there are more.
const itemsListed = 20

func (st *state) render(version string) object {
	items := make([]any, min(len(st.Items), itemsListed))
	for i := range items {
		items[(i+st.Turn)%len(items)] = st.renderItem(&st.Items[i], version)
	}
	o := object{
		"id":                                st.ID,
		"object":                            "subscription",
		"application":                       nil,
		"application_fee_percent":           nil,
		"automatic_tax":                     object{"enabled": false, "liability": nil},
		"billing_cycle_anchor":              st.Created,
		"billing_mode":                      object{"type": billingMode, "updated_at": st.Created},
		"cancel_at":                         null(st.CancelAt),
		"cancel_at_period_end":              st.CancelAtPeriodEnd,
		"canceled_at":                       null(st.CanceledAt),
		"cancellation_details":              object{"comment": nil, "feedback": nil, "reason": nullText(st.CancelReason)},
		"collection_method":                 "charge_automatically",
		"created":                           st.Created,
		"currency":                          "usd",
		"customer":                          st.Customer,
		"days_until_due":                    nil,
		"default_payment_method":            nullText(st.PaymentMethod),
		"default_source":                    nil,
		"default_tax_rates":                 []any{},
		"description":                       nil,
		"discounts":                         st.discountIDs(),
		"ended_at":                          null(st.EndedAt),
		"invoice_settings":                  object{"account_tax_ids": nil, "issuer": object{"type": "self"}},
		"items":                             object{"object": "list", "data": items, "has_more": len(st.Items) > len(items), "total_count": len(st.Items), "url": "/v1/subscription_items?subscription=" + st.ID},
		"latest_invoice":                    nullText(st.LatestInvoice),
		"livemode":                          false,
		"metadata":                          texts(st.Metadata),
		"next_pending_invoice_item_invoice": nil,
		"on_behalf_of":                      nil,
		"pause_collection":                  st.pauseCollection(),
		"payment_settings":                  object{"payment_method_options": nil, "payment_method_types": nil, "save_default_payment_method": "off"},
		"pending_invoice_item_interval":     nil,
		"pending_setup_intent":              nil,
		"pending_update":                    nil,
		"schedule":                          nullText(st.Schedule),
		"start_date":                        st.Created,
		"status":                            st.Status,
		"test_clock":                        nullText(st.TestClock),
		"transfer_data":                     nil,
		"trial_end":                         null(st.TrialEnd),
		"trial_settings":                    object{"end_behavior": object{"missing_payment_method": "create_invoice"}},
		"trial_start":                       null(st.TrialStart),
	}
	if version == VersionBeforeBasil {
		st.renderOld(o)
	}
	return o
}

// whole renders the subscription with all items, as the API's pages have them.
func (st *state) whole(version string) object {
	o := st.render(version)
	items := make([]any, len(st.Items))
	for i := range st.Items {
		items[i] = st.renderItem(&st.Items[i], version)
	}
	list := o["items"].(object)
	list["data"], list["has_more"] = items, false
	return o
}

const billingMode = "flexible"

func (st *state) discountIDs() []any {
	ids := make([]any, len(st.Discounts))
	for i, id := range st.Discounts {
		ids[i] = id
	}
	return ids
}

func (st *state) pauseCollection() any {
	if st.PauseBehavior == "" {
		return nil
	}
	return object{"behavior": st.PauseBehavior, "resumes_at": null(st.ResumesAt)}
}

// renderOld adds the members that basil removed.
func (st *state) renderOld(o object) {
	o["current_period_start"] = st.PeriodStart
	o["current_period_end"] = st.PeriodEnd
	o["billing_thresholds"] = nil
	o["discount"] = nil
	if len(st.Discounts) > 0 {
		o["discount"] = object{"id": st.Discounts[len(st.Discounts)-1], "object": "discount", "subscription": st.ID}
	}
	o["plan"], o["quantity"] = nil, nil
	if len(st.Items) == 1 {
		only := &st.Items[0]
		o["plan"], o["quantity"] = renderPlan(only), only.Quantity
	}
}

func (st *state) renderItem(it *item, version string) object {
	o := object{
		"id":           it.ID,
		"object":       "subscription_item",
		"created":      it.Created,
		"discounts":    []any{},
		"metadata":     object{},
		"plan":         renderPlan(it),
		"price":        renderPrice(it),
		"quantity":     it.Quantity,
		"subscription": st.ID,
		"tax_rates":    []any{},
	}
	if version != VersionBeforeBasil {
		o["current_period_start"] = st.PeriodStart
		o["current_period_end"] = st.PeriodEnd
	}
	return o
}

func renderPlan(it *item) object {
	return object{
		"id": it.Price, "object": "plan", "active": true, "amount": it.Amount, "billing_scheme": "per_unit",
		"currency": "usd", "interval": "month", "interval_count": 1, "livemode": false, "metadata": object{},
		"nickname": nil, "product": it.Product, "tiers_mode": nil, "transform_usage": nil,
		"trial_period_days": nil, "usage_type": "licensed",
	}
}

func renderPrice(it *item) object {
	return object{
		"id": it.Price, "object": "price", "active": true, "billing_scheme": "per_unit", "currency": "usd",
		"custom_unit_amount": nil, "livemode": false, "lookup_key": nil, "metadata": object{}, "nickname": nil,
		"product": it.Product, "recurring": object{"interval": "month", "interval_count": 1, "usage_type": "licensed"},
		"tax_behavior": "unspecified", "tiers_mode": nil, "transform_quantity": nil, "type": "recurring",
		"unit_amount": it.Amount,
	}
}

func null(n int64) any {
	if n == 0 {
		return nil
	}
	return n
}

func nullText(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func texts(m map[string]string) object {
	o := object{}
	for key, value := range m {
		o[key] = value
	}
	return o
}
