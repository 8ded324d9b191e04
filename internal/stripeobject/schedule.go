package stripeobject

import (
	"maps"
	"slices"
)

// Schedule is a subscription schedule. See https://docs.stripe.com/api/subscription_schedules/object.
type Schedule struct {
	ID, Customer                        string
	Subscription, ReleasedSubscription  string
	Status                              string // not_started, active, completed, released or canceled
	EndBehavior                         string // release or cancel
	Phases                              []Phase
	Created                             int64
	CanceledAt, CompletedAt, ReleasedAt int64
	Metadata                            map[string]string
}

// Phase is one phase of a schedule, with one item.
type Phase struct {
	Start, End int64
	Price      string
	Quantity   int64
}

// Clone returns a deep copy.
func (s *Schedule) Clone() Schedule {
	copied := *s
	copied.Metadata, copied.Phases = maps.Clone(s.Metadata), slices.Clone(s.Phases)
	return copied
}

// Of returns the customer and the subscription.
func (s *Schedule) Of() (customer, subscription string) { return s.Customer, s.Subscription }

// Render renders the schedule in a version. Since basil there are no billing thresholds, and no single coupon.
func (s *Schedule) Render(version string) Object {
	phases := make([]any, len(s.Phases))
	for i, p := range s.Phases {
		phases[i] = p.render(version)
	}
	settings := Object{
		"application_fee_percent": nil, "automatic_tax": Object{"enabled": false, "liability": nil}, "billing_cycle_anchor": "automatic",
		"collection_method": "charge_automatically", "default_payment_method": nil, "description": nil,
		"invoice_settings": Object{"account_tax_ids": nil, "days_until_due": nil, "issuer": Object{"type": "self"}}, "on_behalf_of": nil, "transfer_data": nil,
	}
	if beforeBasil(version) {
		settings["billing_thresholds"] = nil
	}
	o := Object{
		"id": s.ID, "object": "subscription_schedule", "application": nil, "canceled_at": OrNull(s.CanceledAt), "completed_at": OrNull(s.CompletedAt),
		"created": s.Created, "current_phase": nil, "customer": s.Customer, "default_settings": settings, "end_behavior": s.EndBehavior,
		"livemode": false, "metadata": texts(s.Metadata), "phases": phases, "released_at": OrNull(s.ReleasedAt),
		"released_subscription": OrNull(s.ReleasedSubscription), "status": s.Status, "subscription": OrNull(s.Subscription), "test_clock": nil,
	}
	if s.Status == "active" {
		o["current_phase"] = Object{"start_date": s.Phases[0].Start, "end_date": s.Phases[0].End}
	}
	return o
}

func (p Phase) render(version string) Object {
	item := Object{"discounts": []any{}, "metadata": Object{}, "plan": p.Price, "price": p.Price, "quantity": p.Quantity, "tax_rates": []any{}}
	o := Object{
		"add_invoice_items": []any{}, "application_fee_percent": nil, "billing_cycle_anchor": nil, "collection_method": nil, "currency": "usd",
		"default_payment_method": nil, "default_tax_rates": []any{}, "description": nil, "discounts": []any{}, "end_date": p.End,
		"invoice_settings": nil, "items": []any{item}, "metadata": Object{}, "on_behalf_of": nil, "proration_behavior": "create_prorations",
		"start_date": p.Start, "transfer_data": nil, "trial_end": nil,
	}
	if beforeBasil(version) {
		item["billing_thresholds"], o["billing_thresholds"], o["coupon"] = nil, nil, nil
	}
	return o
}
