package stripeobject

import (
	"cmp"
	"maps"
)

// PaymentIntent is a payment intent. Times are Unix seconds, 0 for null, amounts the currency's smallest unit. See
// https://docs.stripe.com/api/payment_intents/object.
type PaymentIntent struct {
	ID, Customer, Invoice           string
	Status                          string
	Amount, Received, Capturable    int64
	Manual                          bool // it is captured by a request of its own
	PaymentMethod, LatestCharge     string
	Description, CancellationReason string
	FailureCode                     string // of the last attempt
	ActionRequired                  bool
	Created, CanceledAt             int64
	Metadata                        map[string]string
}

// Clone returns a deep copy.
func (p *PaymentIntent) Clone() PaymentIntent {
	copied := *p
	copied.Metadata = maps.Clone(p.Metadata)
	return copied
}

// Of returns the customer.
func (p *PaymentIntent) Of() (customer, subscription string) { return p.Customer, "" }

// Render renders the payment intent in a version. Since basil it does not name its invoice.
func (p *PaymentIntent) Render(version string) Object {
	o := Object{
		"id": p.ID, "object": "payment_intent", "amount": p.Amount, "amount_capturable": p.Capturable, "amount_details": Object{"tip": Object{}},
		"amount_received": p.Received, "application": nil, "application_fee_amount": nil, "automatic_payment_methods": nil,
		"canceled_at": OrNull(p.CanceledAt), "cancellation_reason": OrNull(p.CancellationReason), "capture_method": "automatic",
		"client_secret": p.ID + "_secret_simulated", "confirmation_method": "automatic", "created": p.Created, "currency": "usd",
		"customer": OrNull(p.Customer), "description": OrNull(p.Description), "last_payment_error": nil, "latest_charge": OrNull(p.LatestCharge),
		"livemode": false, "metadata": texts(p.Metadata), "next_action": nil, "on_behalf_of": nil, "payment_method": OrNull(p.PaymentMethod),
		"payment_method_configuration_details": nil, "payment_method_options": Object{}, "payment_method_types": []any{"card", "us_bank_account"},
		"processing": nil, "receipt_email": nil, "review": nil, "setup_future_usage": nil, "shipping": nil, "source": nil,
		"statement_descriptor": nil, "statement_descriptor_suffix": nil, "status": p.Status, "transfer_data": nil, "transfer_group": nil,
	}
	if p.Manual {
		o["capture_method"] = "manual"
	}
	if p.FailureCode != "" {
		o["last_payment_error"] = Object{
			"charge": OrNull(p.LatestCharge), "code": "card_declined", "decline_code": p.FailureCode, "message": "Your card was declined.", "type": "card_error",
		}
	}
	if p.ActionRequired {
		o["next_action"] = Object{"type": "use_stripe_sdk", "use_stripe_sdk": Object{"type": "three_d_secure_redirect"}}
	}
	if beforeBasil(version) {
		o["invoice"] = OrNull(p.Invoice)
	}
	return o
}

// Charge is a charge. See https://docs.stripe.com/api/charges/object.
type Charge struct {
	ID, Customer, Invoice, PaymentIntent string
	Status                               string // pending, succeeded or failed
	Amount, Captured, Refunded           int64
	Disputed                             bool
	FailureCode                          string
	BalanceTransaction                   string
	Description                          string
	Card                                 Card
	PaymentMethod, Name                  string
	Created                              int64
	Metadata                             map[string]string
}

// Clone returns a deep copy.
func (c *Charge) Clone() Charge {
	copied := *c
	copied.Metadata = maps.Clone(c.Metadata)
	return copied
}

// Of returns the customer.
func (c *Charge) Of() (customer, subscription string) { return c.Customer, "" }

// Render renders the charge in a version. Since basil it does not name its invoice.
func (c *Charge) Render(version string) Object {
	o := Object{
		"id": c.ID, "object": "charge", "amount": c.Amount, "amount_captured": c.Captured, "amount_refunded": c.Refunded, "application": nil,
		"application_fee": nil, "application_fee_amount": nil, "balance_transaction": OrNull(c.BalanceTransaction),
		"billing_details": billingDetails(c.Name), "calculated_statement_descriptor": "SIMULATED", "captured": c.Captured > 0,
		"created": c.Created, "currency": "usd", "customer": OrNull(c.Customer), "description": OrNull(c.Description), "disputed": c.Disputed,
		"failure_balance_transaction": nil, "failure_code": nil, "failure_message": nil, "fraud_details": Object{}, "livemode": false,
		"metadata": texts(c.Metadata), "on_behalf_of": nil, "outcome": nil, "paid": c.Status == "succeeded", "payment_intent": OrNull(c.PaymentIntent),
		"payment_method": OrNull(c.PaymentMethod), "payment_method_details": Object{"card": c.Card.render(), "type": "card"}, "receipt_email": nil,
		"receipt_number": nil, "receipt_url": nil, "refunded": c.Refunded > 0 && c.Refunded == cmp.Or(c.Captured, c.Amount), "review": nil, "shipping": nil,
		"source": nil, "source_transfer": nil, "statement_descriptor": nil, "statement_descriptor_suffix": nil, "status": c.Status,
		"transfer_data": nil, "transfer_group": nil,
	}
	switch c.Status {
	case "failed":
		o["failure_code"], o["failure_message"] = "card_declined", "Your card was declined."
		o["outcome"] = Object{"network_status": "declined_by_network", "reason": c.FailureCode, "risk_level": "normal", "seller_message": "The bank declined it.", "type": "issuer_declined"}
	case "succeeded":
		o["receipt_url"] = "https://pay.stripe.com/receipts/" + c.ID
		o["outcome"] = Object{"network_status": "approved_by_network", "reason": nil, "risk_level": "normal", "seller_message": "Payment complete.", "type": "authorized"}
	}
	if beforeBasil(version) {
		o["invoice"] = OrNull(c.Invoice)
	}
	return o
}

func billingDetails(name string) Object {
	return Object{
		"address": Object{"city": nil, "country": nil, "line1": nil, "line2": nil, "postal_code": nil, "state": nil},
		"email":   nil, "name": OrNull(name), "phone": nil,
	}
}

// Card is what is shown of a card.
type Card struct {
	Brand, Last4, Country string
	ExpMonth, ExpYear     int64
}

func (c Card) render() Object {
	return Object{
		"brand": c.Brand, "checks": Object{"address_line1_check": nil, "address_postal_code_check": nil, "cvc_check": "pass"},
		"country": c.Country, "exp_month": c.ExpMonth, "exp_year": c.ExpYear, "fingerprint": "fp" + c.Last4, "funding": "credit", "last4": c.Last4,
		"three_d_secure": nil, "wallet": nil,
	}
}
