package stripeobject

import (
	"maps"
	"slices"
)

// CreditNote is a credit note. See https://docs.stripe.com/api/credit_notes/object.
type CreditNote struct {
	ID, Invoice, Customer, Number string
	Status                        string // issued or void
	Memo, Reason                  string
	AfterPayment                  bool // the invoice was paid
	Lines                         []CreditNoteLine
	Created, VoidedAt             int64
	Metadata                      map[string]string
}

// CreditNoteLine is one line of a credit note.
type CreditNoteLine struct {
	ID, InvoiceLine, Description string
	Amount                       int64
}

// Clone returns a deep copy.
func (c *CreditNote) Clone() CreditNote {
	copied := *c
	copied.Metadata, copied.Lines = maps.Clone(c.Metadata), slices.Clone(c.Lines)
	return copied
}

// Of returns the customer.
func (c *CreditNote) Of() (customer, subscription string) { return c.Customer, "" }

// Total returns the sum of the lines in cents.
func (c *CreditNote) Total() (total int64) {
	for _, line := range c.Lines {
		total += line.Amount
	}
	return total
}

// Render renders the credit note as its events have it in a version: a list of up to LinesListed lines.
func (c *CreditNote) Render(version string) Object {
	return c.render(version, min(len(c.Lines), LinesListed))
}

// Whole renders the credit note with all lines.
func (c *CreditNote) Whole(version string) Object { return c.render(version, len(c.Lines)) }

func (c *CreditNote) render(version string, n int) Object {
	data, total, kind := make([]any, n), c.Total(), "pre_payment"
	for at := range data {
		data[at] = c.Lines[at].Render(version)
	}
	if c.AfterPayment {
		kind = "post_payment"
	}
	o := Object{
		"id": c.ID, "object": "credit_note", "amount": total, "amount_shipping": 0, "created": c.Created, "currency": "usd", "customer": c.Customer,
		"customer_balance_transaction": nil, "discount_amount": 0, "discount_amounts": []any{}, "effective_at": c.Created, "invoice": c.Invoice,
		"lines":    Object{"object": "list", "data": data, "has_more": n < len(c.Lines), "url": "/v1/credit_notes/" + c.ID + "/lines"},
		"livemode": false, "memo": OrNull(c.Memo), "metadata": texts(c.Metadata), "number": c.Number, "out_of_band_amount": nil,
		"pdf": "https://pay.stripe.com/credit_notes/acct_simulated/" + c.ID + "/pdf", "reason": OrNull(c.Reason), "shipping_cost": nil,
		"status": c.Status, "subtotal": total, "subtotal_excluding_tax": total, "total": total, "total_excluding_tax": total, "type": kind,
		"voided_at": OrNull(c.VoidedAt),
	}
	if c.AfterPayment {
		o["out_of_band_amount"] = total
	}
	if beforeBasil(version) {
		o["refund"], o["tax_amounts"] = nil, []any{}
	} else {
		o["refunds"], o["total_taxes"], o["pretax_credit_amounts"] = []any{}, []any{}, []any{}
	}
	return o
}

// Render renders one line in a version.
func (l CreditNoteLine) Render(version string) Object {
	o := Object{
		"id": l.ID, "object": "credit_note_line_item", "amount": l.Amount, "description": OrNull(l.Description), "discount_amount": 0,
		"discount_amounts": []any{}, "invoice_line_item": l.InvoiceLine, "livemode": false, "quantity": nil, "tax_rates": []any{},
		"type": "invoice_line_item", "unit_amount": nil, "unit_amount_decimal": nil,
	}
	if beforeBasil(version) {
		o["amount_excluding_tax"], o["tax_amounts"], o["unit_amount_excluding_tax"] = l.Amount, []any{}, nil
	} else {
		o["taxes"], o["pretax_credit_amounts"] = []any{}, []any{}
	}
	return o
}
