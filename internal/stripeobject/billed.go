package stripeobject

import (
	"maps"
	"slices"
	"strconv"
)

// BilledInvoice is an invoice with its lines and all that its life cycle changes. Times are 0 for null.
type BilledInvoice struct {
	Invoice
	Lines                          []Line
	Number                         string // empty: a draft
	CustomerName, CustomerEmail    string // as of the finalization
	AutoAdvance                    bool
	AttemptCount                   int
	NextPaymentAttempt             int64
	FinalizedAt, PaidAt            int64
	VoidedAt, UncollectibleAt      int64
	StartingBalance, EndingBalance int64 // the customer's
	Charge, PaymentIntent          string
	Credited, CreditedAfter        int64 // by credit notes before and after the payment
}

// Line is one line of an invoice.
type Line struct {
	ID, Description        string
	Price, Product         string
	UnitAmount, Quantity   int64 // their product is the line's amount
	SubscriptionItem       string
	InvoiceItem            string // of a line of no subscription item
	Proration              bool
	PeriodStart, PeriodEnd int64
}

// Amount returns the line's amount in cents.
func (l *Line) Amount() int64 { return l.UnitAmount * l.Quantity }

// LinesListed is the maximum number of lines in an invoice's list. has_more is true if there are more.
const LinesListed = 10

// Clone returns a deep copy.
func (i *BilledInvoice) Clone() BilledInvoice {
	copied := *i
	copied.Lines = slices.Clone(i.Lines)
	copied.Metadata, copied.SubscriptionMetadata = maps.Clone(i.Metadata), maps.Clone(i.SubscriptionMetadata)
	return copied
}

// Total returns the sum of the lines in cents.
func (i *BilledInvoice) Total() int64 {
	var total int64
	for n := range i.Lines {
		total += i.Lines[n].Amount()
	}
	return total
}

// Render renders the invoice as its events and the API have it in a version: a list of up to LinesListed lines.
func (i *BilledInvoice) Render(version string) Object {
	o := i.Invoice.Render(version)
	total := i.Total()
	maps.Copy(o, Object{
		"account_country": "US", "account_name": "Simulated", "account_tax_ids": nil, "amount_shipping": 0, "application": nil,
		"attempt_count": i.AttemptCount, "attempted": i.AttemptCount > 0 || i.PaidAt > 0, "auto_advance": i.AutoAdvance,
		"automatic_tax":              Object{"enabled": false, "liability": nil, "status": nil},
		"automatically_finalizes_at": nil, "collection_method": "charge_automatically", "custom_fields": nil,
		"customer_address": nil, "customer_email": OrNull(i.CustomerEmail), "customer_name": OrNull(i.CustomerName), "customer_phone": nil,
		"customer_shipping": nil, "customer_tax_exempt": "none", "customer_tax_ids": []any{}, "default_payment_method": nil,
		"default_source": nil, "default_tax_rates": []any{}, "description": nil, "discounts": []any{}, "due_date": nil,
		"effective_at": OrNull(i.FinalizedAt), "ending_balance": nil, "footer": nil, "from_invoice": nil, "hosted_invoice_url": nil,
		"invoice_pdf": nil, "issuer": Object{"type": "self"}, "last_finalization_error": nil, "latest_revision": nil,
		"lines": i.list(version, min(len(i.Lines), LinesListed)), "next_payment_attempt": OrNull(i.NextPaymentAttempt), "number": OrNull(i.Number), "on_behalf_of": nil,
		"payment_settings":                 Object{"default_mandate": nil, "payment_method_options": nil, "payment_method_types": nil},
		"post_payment_credit_notes_amount": i.CreditedAfter, "pre_payment_credit_notes_amount": i.Credited, "receipt_number": nil, "rendering": nil,
		"shipping_cost": nil, "shipping_details": nil, "starting_balance": i.StartingBalance, "statement_descriptor": nil,
		"status_transitions": Object{
			"finalized_at": OrNull(i.FinalizedAt), "marked_uncollectible_at": OrNull(i.UncollectibleAt), "paid_at": OrNull(i.PaidAt), "voided_at": OrNull(i.VoidedAt),
		},
		"subtotal": total, "subtotal_excluding_tax": total, "test_clock": nil, "total": total, "total_discount_amounts": []any{},
		"total_excluding_tax": total, "webhooks_delivered_at": i.Created,
	})
	if i.FinalizedAt > 0 {
		o["ending_balance"] = i.EndingBalance
		o["hosted_invoice_url"] = "https://invoice.stripe.com/i/acct_simulated/" + i.ID
		o["invoice_pdf"] = "https://pay.stripe.com/invoice/acct_simulated/" + i.ID + "/pdf"
	}
	if beforeBasil(version) {
		i.renderOld(o)
	} else {
		o["amount_overpaid"], o["total_taxes"], o["total_pretax_credit_amounts"] = 0, []any{}, []any{}
	}
	return o
}

// renderOld adds the members that basil removed.
func (i *BilledInvoice) renderOld(o Object) {
	o["application_fee_amount"], o["discount"], o["quote"], o["tax"], o["transfer_data"] = nil, nil, nil, nil, nil
	o["charge"], o["payment_intent"], o["paid_out_of_band"] = OrNull(i.Charge), OrNull(i.PaymentIntent), false
	o["total_tax_amounts"] = []any{}
	o["subscription_details"] = Object{"metadata": nil}
	if i.Subscription != "" {
		o["subscription_details"] = Object{"metadata": texts(i.SubscriptionMetadata)}
	}
}

// Whole renders the invoice with all lines, as the API's pages have them.
func (i *BilledInvoice) Whole(version string) Object {
	o := i.Render(version)
	o["lines"] = i.list(version, len(i.Lines))
	return o
}

// list renders the first n lines.
func (i *BilledInvoice) list(version string, n int) Object {
	data := make([]any, n)
	for at := range data {
		data[at] = i.RenderLine(&i.Lines[at], version)
	}
	return Object{"object": "list", "data": data, "has_more": n < len(i.Lines), "total_count": len(i.Lines), "url": "/v1/invoices/" + i.ID + "/lines"}
}

// RenderLine renders one line in a version: https://docs.stripe.com/api/invoice-line-item/object. Since basil, pricing replaces
// price and plan, and parent what generated the line.
func (i *BilledInvoice) RenderLine(l *Line, version string) Object {
	o := Object{
		"id": l.ID, "object": "line_item", "amount": l.Amount(), "currency": i.Currency, "description": OrNull(l.Description),
		"discount_amounts": []any{}, "discountable": !l.Proration, "discounts": []any{}, "invoice": i.ID, "livemode": false,
		"metadata": Object{}, "period": Object{"start": l.PeriodStart, "end": l.PeriodEnd}, "quantity": l.Quantity,
	}
	unit := strconv.FormatInt(l.UnitAmount, 10)
	if beforeBasil(version) {
		item := &Item{Price: l.Price, Product: l.Product, Amount: max(l.UnitAmount, 0)}
		maps.Copy(o, Object{
			"amount_excluding_tax": l.Amount(), "plan": nil, "price": renderPrice(item), "proration": l.Proration,
			"proration_details": Object{"credited_items": nil}, "subscription": OrNull(i.Subscription), "tax_amounts": []any{},
			"tax_rates": []any{}, "type": "invoiceitem", "unit_amount_excluding_tax": unit,
		})
		if l.SubscriptionItem != "" {
			o["plan"], o["subscription_item"], o["type"] = renderPlan(item), l.SubscriptionItem, "subscription"
		} else {
			o["invoice_item"] = l.InvoiceItem
		}
		return o
	}
	o["parent"] = i.lineParent(l)
	o["pretax_credit_amounts"], o["taxes"] = []any{}, []any{}
	o["pricing"] = Object{"price_details": Object{"price": l.Price, "product": l.Product}, "type": "price_details", "unit_amount_decimal": unit}
	return o
}

func (i *BilledInvoice) lineParent(l *Line) Object {
	details := Object{"invoice_item": OrNull(l.InvoiceItem), "proration": l.Proration, "proration_details": nil, "subscription": OrNull(i.Subscription)}
	if l.SubscriptionItem == "" {
		return Object{"type": "invoice_item_details", "invoice_item_details": details, "subscription_item_details": nil}
	}
	details["subscription_item"] = l.SubscriptionItem
	return Object{"type": "subscription_item_details", "invoice_item_details": nil, "subscription_item_details": details}
}
