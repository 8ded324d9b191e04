package stripeobject

import (
	"maps"
	"slices"
)

// Customer is a customer. Its shape is the same in both versions. See https://docs.stripe.com/api/customers/object.
type Customer struct {
	ID, Name, Email, Phone, Description string
	Created                             int64
	Balance                             int64 // in cents; negative: a credit for the next invoice
	Currency                            string
	Delinquent                          bool
	Address                             Address // zero: null
	InvoicePrefix                       string
	PaymentMethod                       string // invoice_settings.default_payment_method
	Footer                              string // of invoice_settings
	Locales                             []string
	TaxExempt                           string // empty: none
	Metadata                            map[string]string
}

// Address is the address of a customer.
type Address struct {
	Line1, Line2, City, PostalCode, State, Country string
}

// Clone returns a deep copy.
func (c *Customer) Clone() Customer {
	copied := *c
	copied.Metadata = maps.Clone(c.Metadata)
	copied.Locales = slices.Clone(c.Locales)
	return copied
}

// Render renders the customer. It has no next_invoice_sequence, as of an account that numbers all its invoices in one sequence.
func (c *Customer) Render(string) Object {
	exempt := c.TaxExempt
	if exempt == "" {
		exempt = "none"
	}
	return Object{
		"id": c.ID, "object": "customer", "address": c.Address.render(), "balance": c.Balance, "created": c.Created,
		"currency": OrNull(c.Currency), "default_source": nil, "delinquent": c.Delinquent, "description": OrNull(c.Description),
		"discount": nil, "email": OrNull(c.Email), "invoice_prefix": c.InvoicePrefix,
		"invoice_settings": Object{
			"custom_fields": nil, "default_payment_method": OrNull(c.PaymentMethod), "footer": OrNull(c.Footer), "rendering_options": nil,
		},
		"livemode": false, "metadata": texts(c.Metadata), "name": OrNull(c.Name), "phone": OrNull(c.Phone), "preferred_locales": list(c.Locales),
		"shipping": nil, "tax_exempt": exempt, "test_clock": nil,
	}
}

func (a Address) render() any {
	if a == (Address{}) {
		return nil
	}
	return Object{
		"city": OrNull(a.City), "country": OrNull(a.Country), "line1": OrNull(a.Line1), "line2": OrNull(a.Line2),
		"postal_code": OrNull(a.PostalCode), "state": OrNull(a.State),
	}
}

// list renders texts as an array, never null.
func list(texts []string) []any {
	all := make([]any, len(texts))
	for i, text := range texts {
		all[i] = text
	}
	return all
}
