package stripeobject

// CheckoutSession is a Checkout session. Times are Unix seconds, amounts the currency's smallest unit.
type CheckoutSession struct {
	ID, Customer       string
	Mode               string // payment, setup or subscription
	Status             string // open, complete or expired
	PaymentStatus      string // paid, unpaid or no_payment_required
	Subscription       string // of the mode subscription
	PaymentIntent      string // of the mode payment
	ClientReferenceID  string
	Currency           string
	AmountTotal        int64
	Created, ExpiresAt int64
	Metadata           map[string]string
}

// Render renders the session, which has the same shape in all versions.
func (c *CheckoutSession) Render() Object {
	return Object{
		"id": c.ID, "object": "checkout.session", "amount_subtotal": c.AmountTotal, "amount_total": c.AmountTotal,
		"cancel_url": nil, "client_reference_id": OrNull(c.ClientReferenceID), "created": c.Created, "currency": c.Currency,
		"customer": OrNull(c.Customer), "customer_details": nil, "customer_email": nil, "expires_at": c.ExpiresAt, "invoice": nil,
		"livemode": false, "metadata": texts(c.Metadata), "mode": c.Mode, "payment_intent": OrNull(c.PaymentIntent),
		"payment_method_types": []any{"card"}, "payment_status": c.PaymentStatus, "status": c.Status,
		"subscription": OrNull(c.Subscription), "success_url": nil, "ui_mode": "hosted", "url": nil,
	}
}
