package stripesim

import (
	"slices"

	"github.com/pook/stripeonce/internal/stripeobject"
)

// PaymentIntent is a payment intent of the account, also that of an invoice. Its methods change it and create the events of the
// change, also those of its charge. They do nothing where Stripe would refuse the change:
// https://docs.stripe.com/payments/paymentintents/lifecycle.
type PaymentIntent struct {
	paymentIntentResource

	customer *Customer
	charge   *Charge // of the latest attempt
}

type paymentIntentResource struct {
	resource[stripeobject.PaymentIntent, *stripeobject.PaymentIntent]
}

// AddPaymentIntent creates a payment intent of the customer, in cents: status requires_payment_method. A manual one is captured by a
// request of its own.
func (c *Customer) AddPaymentIntent(amount int64, manual bool) *PaymentIntent {
	p := c.newIntent(newID(c.account.others, "pi_3", 23), c.version, amount, "")
	p.state.Manual = manual
	p.event(c.account.others, "payment_intent.created")
	return p
}

// newIntent adds a payment intent. Its event is the caller's. An empty invoice: of none.
func (c *Customer) newIntent(id, version string, amount int64, invoice string) *PaymentIntent {
	a := c.account
	p := &PaymentIntent{customer: c, paymentIntentResource: paymentIntentResource{newResource(a, c.owns("payment_intent", id), version, stripeobject.PaymentIntent{
		ID: id, Customer: c.about.ID, Invoice: invoice, Status: "requires_payment_method", Amount: amount, Created: a.Now, Metadata: map[string]string{},
	})}}
	a.PaymentIntents = append(a.PaymentIntents, p)
	a.keep(p)
	return p
}

// owns describes a new object of the customer.
func (c *Customer) owns(kind, id string) Object {
	return Object{AccountID: c.about.AccountID, Type: kind, ID: id, CustomerID: c.about.ID, Created: c.account.Now}
}

// Status returns the current status.
func (p *PaymentIntent) Status() string { return p.state.Status }

// Charge returns the charge of the latest attempt, or nil if there was none.
func (p *PaymentIntent) Charge() *Charge { return p.charge }

// isOpen reports whether an attempt to pay can begin or end.
func (p *PaymentIntent) isOpen() bool {
	return slices.Contains([]string{"requires_payment_method", "requires_action", "processing"}, p.state.Status)
}

// RequireAction waits for the customer's authentication: status requires_action.
func (p *PaymentIntent) RequireAction() {
	if p.state.Status == "requires_payment_method" {
		method := p.method()
		p.happen("payment_intent.requires_action", func(st *stripeobject.PaymentIntent) {
			st.Status, st.PaymentMethod, st.ActionRequired, st.FailureCode = "requires_action", method, true, ""
		})
	}
}

// Process begins a payment that takes days, as bank debits do: charge.pending and payment_intent.processing.
func (p *PaymentIntent) Process() {
	if p.state.Status != "requires_payment_method" || p.state.Manual {
		return
	}
	p.charge = p.newCharge(newID(p.account.others, "py_3", 23), "pending")
	p.charge.event(p.account.others, "charge.pending")
	p.happen("payment_intent.processing", p.attempted("processing"))
}

// Succeed completes the payment: charge.succeeded and payment_intent.succeeded. A manual one is authorized:
// payment_intent.amount_capturable_updated, and status requires_capture.
func (p *PaymentIntent) Succeed() { p.succeed(newID(p.account.others, "ch_3", 23)) }

func (p *PaymentIntent) succeed(chargeID string) {
	if !p.isOpen() {
		return
	}
	p.settle(chargeID, "succeeded")
	if p.state.Manual {
		p.happen("payment_intent.amount_capturable_updated", func(st *stripeobject.PaymentIntent) {
			p.attempted("requires_capture")(st)
			st.Capturable = st.Amount
		})
		return
	}
	p.happen("payment_intent.succeeded", func(st *stripeobject.PaymentIntent) {
		p.attempted("succeeded")(st)
		st.Received = st.Amount
	})
}

// Capture captures an authorized payment: charge.captured and payment_intent.succeeded.
func (p *PaymentIntent) Capture() {
	if p.state.Status != "requires_capture" {
		return
	}
	transaction := newID(p.account.others, "txn_3", 23)
	p.charge.happen("charge.captured", func(st *stripeobject.Charge) { st.Captured, st.BalanceTransaction = st.Amount, transaction })
	p.happen("payment_intent.succeeded", func(st *stripeobject.PaymentIntent) {
		st.Status, st.Received, st.Capturable = "succeeded", st.Amount, 0
	})
}

// Fail fails an attempt: charge.failed and payment_intent.payment_failed. The status is requires_payment_method again.
func (p *PaymentIntent) Fail() { p.fail(newID(p.account.others, "ch_3", 23)) }

func (p *PaymentIntent) fail(chargeID string) {
	if !p.isOpen() {
		return
	}
	p.settle(chargeID, "failed")
	p.happen("payment_intent.payment_failed", func(st *stripeobject.PaymentIntent) {
		p.attempted("requires_payment_method")(st)
		st.PaymentMethod, st.FailureCode = "", "insufficient_funds"
	})
}

// Cancel cancels a payment that has not succeeded and is not processing. The authorization of a manual one is refunded.
func (p *PaymentIntent) Cancel() { p.cancel("requested_by_customer") }

func (p *PaymentIntent) cancel(reason string) {
	authorized := p.state.Status == "requires_capture"
	if !authorized && (!p.isOpen() || p.state.Status == "processing") {
		return
	}
	if authorized {
		p.charge.happen("charge.refunded", func(st *stripeobject.Charge) { st.Refunded = st.Amount })
	}
	p.happen("payment_intent.canceled", func(st *stripeobject.PaymentIntent) {
		st.Status, st.CancellationReason, st.CanceledAt, st.Capturable, st.ActionRequired = "canceled", reason, p.account.Now, 0, false
	})
}

// method returns the id of the customer's payment method, or of a new one that is not attached.
func (p *PaymentIntent) method() string {
	if id := p.customer.state.PaymentMethod; id != "" {
		return id
	}
	return newID(p.account.others, "pm_1", 23)
}

// attempted is the change by an attempt to pay.
func (p *PaymentIntent) attempted(status string) func(*stripeobject.PaymentIntent) {
	return func(st *stripeobject.PaymentIntent) {
		st.Status, st.PaymentMethod, st.LatestCharge = status, p.charge.state.PaymentMethod, p.charge.about.ID
		st.ActionRequired, st.FailureCode = false, ""
	}
}

// settle ends the pending charge, or creates a charge that has ended.
func (p *PaymentIntent) settle(chargeID, status string) {
	transaction := newID(p.account.others, "txn_3", 23)
	end := func(st *stripeobject.Charge) {
		st.Status = status
		switch {
		case status == "failed":
			st.FailureCode = "insufficient_funds"
		case !p.state.Manual:
			st.Captured, st.BalanceTransaction = st.Amount, transaction
		}
	}
	if p.state.Status != "processing" {
		p.charge = p.newCharge(chargeID, status)
		end(&p.charge.state)
	}
	p.charge.happen("charge."+status, end)
}

// Charge is a charge of the account. Its methods change it and create the events of the change.
type Charge struct {
	chargeResource
}

type chargeResource struct {
	resource[stripeobject.Charge, *stripeobject.Charge]
}

// newCharge adds a charge. Its event is the caller's.
func (p *PaymentIntent) newCharge(id, status string) *Charge {
	a, c := p.account, p.customer
	ch := &Charge{chargeResource{newResource(a, c.owns("charge", id), p.version, stripeobject.Charge{
		ID: id, Customer: c.about.ID, Invoice: p.state.Invoice, PaymentIntent: p.about.ID, Status: status, Amount: p.state.Amount,
		Card: newCard(a), PaymentMethod: p.method(), Name: c.state.Name, Created: a.Now, Metadata: map[string]string{},
	})}}
	a.Charges = append(a.Charges, ch)
	a.keep(ch)
	return ch
}

// Status returns the current status: pending, succeeded or failed.
func (c *Charge) Status() string { return c.state.Status }

// Refundable returns the amount that is captured and not refunded, in cents.
func (c *Charge) Refundable() int64 { return max(0, c.state.Captured-c.state.Refunded) }

// SetDescription sets the description.
func (c *Charge) SetDescription(text string) {
	c.happen("charge.updated", func(st *stripeobject.Charge) { st.Description = text })
}

// SetMetadata sets a key. An empty value removes it.
func (c *Charge) SetMetadata(key, value string) {
	c.happen("charge.updated", func(st *stripeobject.Charge) { setText(st.Metadata, key, value) })
}
