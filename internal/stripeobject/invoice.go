package stripeobject

// Invoice is an invoice, independent of the API version. Times are Unix seconds, amounts the currency's smallest unit.
type Invoice struct {
	ID, Customer           string
	Subscription           string // empty: of no subscription
	SubscriptionMetadata   map[string]string
	Status                 string // draft, open, paid, uncollectible or void
	BillingReason          string
	Currency               string
	AmountDue, AmountPaid  int64
	Created                int64
	PeriodStart, PeriodEnd int64
	Metadata               map[string]string
}

// Render renders the invoice as its events and the API have it in a version.
func (i *Invoice) Render(version string) Object {
	o := Object{
		"id": i.ID, "object": "invoice", "amount_due": i.AmountDue, "amount_paid": i.AmountPaid,
		"amount_remaining": i.AmountDue - i.AmountPaid, "attempt_count": 1, "attempted": i.Status != "draft",
		"billing_reason": i.BillingReason, "created": i.Created, "currency": i.Currency, "customer": i.Customer, "livemode": false,
		"metadata": texts(i.Metadata), "period_start": i.PeriodStart, "period_end": i.PeriodEnd, "status": i.Status,
		"subtotal": i.AmountDue, "total": i.AmountDue,
	}
	if beforeBasil(version) {
		o["paid"], o["subscription"] = i.Status == "paid", OrNull(i.Subscription)
		return o
	}
	o["parent"] = nil
	if i.Subscription != "" {
		o["parent"] = Object{"type": "subscription_details", "quote_details": nil,
			"subscription_details": Object{"metadata": texts(i.SubscriptionMetadata), "subscription": i.Subscription}}
	}
	return o
}
