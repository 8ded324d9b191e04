package stripeobject

import "maps"

// PaymentMethod is a card as a payment method. Its shape is the same in both versions. See
// https://docs.stripe.com/api/payment_methods/object.
type PaymentMethod struct {
	ID       string
	Customer string // empty: not attached any more
	Card     Card
	Name     string // of billing_details
	Created  int64
	Metadata map[string]string
}

// Clone returns a deep copy.
func (p *PaymentMethod) Clone() PaymentMethod {
	copied := *p
	copied.Metadata = maps.Clone(p.Metadata)
	return copied
}

// Of returns the customer.
func (p *PaymentMethod) Of() (customer, subscription string) { return p.Customer, "" }

// Render renders the payment method.
func (p *PaymentMethod) Render(string) Object {
	card := p.Card.render()
	delete(card, "three_d_secure")
	card["display_brand"], card["generated_from"], card["networks"] = p.Card.Brand, nil, Object{"available": []any{p.Card.Brand}, "preferred": nil}
	card["three_d_secure_usage"] = Object{"supported": true}
	return Object{
		"id": p.ID, "object": "payment_method", "allow_redisplay": "unspecified", "billing_details": billingDetails(p.Name), "card": card,
		"created": p.Created, "customer": OrNull(p.Customer), "livemode": false, "metadata": texts(p.Metadata), "type": "card",
	}
}

// SetupIntent is a setup intent. Its shape is the same in both versions. See https://docs.stripe.com/api/setup_intents/object.
type SetupIntent struct {
	ID, Customer       string
	Status             string
	PaymentMethod      string
	FailureCode        string // of the last attempt
	ActionRequired     bool
	CancellationReason string
	Created            int64
	Metadata           map[string]string
}

// Clone returns a deep copy.
func (s *SetupIntent) Clone() SetupIntent {
	copied := *s
	copied.Metadata = maps.Clone(s.Metadata)
	return copied
}

// Of returns the customer.
func (s *SetupIntent) Of() (customer, subscription string) { return s.Customer, "" }

// Render renders the setup intent.
func (s *SetupIntent) Render(string) Object {
	o := Object{
		"id": s.ID, "object": "setup_intent", "application": nil, "automatic_payment_methods": nil,
		"cancellation_reason": OrNull(s.CancellationReason), "client_secret": s.ID + "_secret_simulated", "created": s.Created,
		"customer": OrNull(s.Customer), "description": nil, "flow_directions": nil, "last_setup_error": nil, "latest_attempt": nil, "livemode": false,
		"mandate": nil, "metadata": texts(s.Metadata), "next_action": nil, "on_behalf_of": nil, "payment_method": OrNull(s.PaymentMethod),
		"payment_method_configuration_details": nil, "payment_method_options": Object{"card": Object{"request_three_d_secure": "automatic"}},
		"payment_method_types": []any{"card"}, "single_use_mandate": nil, "status": s.Status, "usage": "off_session",
	}
	if s.FailureCode != "" {
		o["last_setup_error"] = Object{"code": "card_declined", "decline_code": s.FailureCode, "message": "Your card was declined.", "type": "card_error"}
	}
	if s.ActionRequired {
		o["next_action"] = Object{"type": "use_stripe_sdk", "use_stripe_sdk": Object{"type": "three_d_secure_redirect"}}
	}
	return o
}
