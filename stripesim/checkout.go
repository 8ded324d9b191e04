package stripesim

import "github.com/pook/stripeonce/internal/stripeobject"

// CheckoutSession is a Checkout session of a customer. There is no event of its creation. Its methods change it and create the events
// of the change, also those of the payment. They do nothing where Stripe would refuse the change:
// https://docs.stripe.com/payments/checkout/how-checkout-works.
type CheckoutSession struct {
	checkoutSessionResource

	customer     *Customer
	intent       *PaymentIntent
	subscription *Subscription
}

type checkoutSessionResource struct {
	resource[stripeobject.BilledSession, *stripeobject.BilledSession]
}

// AddCheckoutSession creates a session of a mode: payment, setup or subscription. Status open.
func (c *Customer) AddCheckoutSession(mode string) *CheckoutSession {
	a := c.account
	id := newID(a.others, "cs_test_a1", 56)
	st := stripeobject.BilledSession{CheckoutSession: stripeobject.CheckoutSession{
		ID: id, Customer: c.about.ID, Mode: mode, Status: "open", PaymentStatus: "unpaid", Currency: "usd", Created: a.Now,
		ExpiresAt: a.Now + 24*hour, Metadata: map[string]string{},
	}}
	switch mode {
	case "payment":
		st.AmountTotal = 100 * (5 + a.others.Int64N(95))
	case "setup":
		st.PaymentStatus, st.Currency = "no_payment_required", "usd"
	default:
		st.AmountTotal = catalog[0].Amount
	}
	s := &CheckoutSession{customer: c, checkoutSessionResource: checkoutSessionResource{newResource(a, c.owns("checkout.session", id), c.version, st)}}
	a.CheckoutSessions = append(a.CheckoutSessions, s)
	a.keep(s)
	return s
}

// Status returns the current status: open, complete or expired.
func (s *CheckoutSession) Status() string { return s.state.Status }

// PaymentStatus returns paid, unpaid or no_payment_required.
func (s *CheckoutSession) PaymentStatus() string { return s.state.PaymentStatus }

// Subscription returns the subscription that a session of that mode has created, or nil.
func (s *CheckoutSession) Subscription() *Subscription { return s.subscription }

// Complete completes the session: its payment succeeds, its card is attached, or its subscription is created and paid. Then
// checkout.session.completed.
func (s *CheckoutSession) Complete() {
	if s.state.Status != "open" {
		return
	}
	st := s.state.Clone()
	switch st.Mode {
	case "payment":
		s.intent = s.customer.AddPaymentIntent(st.AmountTotal, false)
		s.intent.Succeed()
		st.PaymentIntent, st.PaymentStatus = s.intent.about.ID, "paid"
	case "setup":
		setup := s.customer.AddSetupIntent()
		setup.Succeed()
		st.SetupIntent = setup.about.ID
	default:
		s.subscription = s.customer.Subscribe()
		s.subscription.Activate()
		st.Subscription, st.Invoice, st.PaymentStatus = s.subscription.ID(), s.subscription.state.LatestInvoice, "paid"
	}
	s.complete(&st)
}

// CompleteUnpaid completes a session of the mode payment whose payment takes days: checkout.session.completed, not paid.
func (s *CheckoutSession) CompleteUnpaid() {
	if s.state.Status != "open" || s.state.Mode != "payment" {
		return
	}
	s.intent = s.customer.AddPaymentIntent(s.state.AmountTotal, false)
	s.intent.Process()
	st := s.state.Clone()
	st.PaymentIntent = s.intent.about.ID
	s.complete(&st)
}

func (s *CheckoutSession) complete(st *stripeobject.BilledSession) {
	st.Status, st.Name, st.Email = "complete", s.customer.state.Name, s.customer.state.Email
	s.happen("checkout.session.completed", func(now *stripeobject.BilledSession) { *now = *st })
}

// isProcessing reports whether the session's payment is to succeed or fail yet.
func (s *CheckoutSession) isProcessing() bool {
	return s.intent != nil && s.intent.state.Status == "processing"
}

// PaySucceeded has the payment of a session that was completed unpaid succeed: checkout.session.async_payment_succeeded.
func (s *CheckoutSession) PaySucceeded() {
	if s.isProcessing() {
		s.intent.Succeed()
		s.happen("checkout.session.async_payment_succeeded", func(st *stripeobject.BilledSession) { st.PaymentStatus = "paid" })
	}
}

// PayFailed has the payment of a session that was completed unpaid fail: checkout.session.async_payment_failed.
func (s *CheckoutSession) PayFailed() {
	if s.isProcessing() {
		s.intent.Fail()
		s.event(s.account.others, "checkout.session.async_payment_failed")
	}
}

// Expire expires an open session: checkout.session.expired.
func (s *CheckoutSession) Expire() {
	if s.state.Status == "open" {
		s.happen("checkout.session.expired", func(st *stripeobject.BilledSession) { st.Status = "expired" })
	}
}
