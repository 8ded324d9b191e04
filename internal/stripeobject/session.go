package stripeobject

import "maps"

// BilledSession is a Checkout session with all that its life cycle changes. See https://docs.stripe.com/api/checkout/sessions/object.
type BilledSession struct {
	CheckoutSession
	Invoice, SetupIntent string
	Name, Email          string // of customer_details, once it is complete
}

// Clone returns a deep copy.
func (s *BilledSession) Clone() BilledSession {
	copied := *s
	copied.Metadata = maps.Clone(s.Metadata)
	return copied
}

// Of returns the customer and the subscription.
func (s *BilledSession) Of() (customer, subscription string) { return s.Customer, s.Subscription }

// Render renders the session in a version. Since basil, collected_information replaces shipping_details.
func (s *BilledSession) Render(version string) Object {
	o := s.CheckoutSession.Render()
	maps.Copy(o, Object{
		"after_expiration": nil, "allow_promotion_codes": nil, "automatic_tax": Object{"enabled": false, "liability": nil, "status": nil},
		"billing_address_collection": nil, "consent": nil, "consent_collection": nil, "currency_conversion": nil, "custom_fields": []any{},
		"custom_text":       Object{"after_submit": nil, "shipping_address": nil, "submit": nil, "terms_of_service_acceptance": nil},
		"customer_creation": nil, "invoice": OrNull(s.Invoice), "invoice_creation": nil, "locale": nil, "payment_link": nil,
		"payment_method_collection": "if_required", "payment_method_configuration_details": nil, "payment_method_options": Object{},
		"phone_number_collection": Object{"enabled": false}, "recovered_from": nil, "saved_payment_method_options": nil, "setup_intent": OrNull(s.SetupIntent),
		"shipping_address_collection": nil, "shipping_cost": nil, "shipping_options": []any{}, "submit_type": nil,
		"success_url": "https://example.com/success", "cancel_url": "https://example.com/cancel",
		"total_details": Object{"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
	})
	if s.Mode == "setup" {
		o["amount_total"], o["amount_subtotal"], o["total_details"] = nil, nil, nil
	}
	switch s.Status {
	case "open":
		o["url"] = "https://checkout.stripe.com/c/pay/" + s.ID
	case "complete":
		o["customer_details"] = Object{
			"address": Object{"city": nil, "country": "US", "line1": nil, "line2": nil, "postal_code": "94105", "state": nil},
			"email":   s.Email, "name": s.Name, "phone": nil, "tax_exempt": "none", "tax_ids": []any{},
		}
	}
	if beforeBasil(version) {
		o["shipping_details"] = nil
	} else {
		o["collected_information"] = nil
	}
	return o
}
