package stripesim

import (
	"fmt"
	"math/rand/v2"

	"github.com/pook/stripeonce/internal/stripeobject"
)

// Invoice is an invoice of the account. Its methods change it and create the events of the change. They do nothing where Stripe
// would refuse the change: https://docs.stripe.com/invoicing/integration/workflow-transitions.
type Invoice struct {
	invoiceResource

	customer     *Customer
	intent       *PaymentIntent // nil: nothing is due
	newestCredit *CreditNote
	credit       int64 // what the finalization took from the customer's credit; negative: what it added
}

type invoiceResource struct {
	resource[stripeobject.BilledInvoice, *stripeobject.BilledInvoice]
}

// maxAttempts is the number of automatic payment attempts.
const maxAttempts = 4

// newInvoice adds a draft without lines. Its event is the caller's. A nil subscription: of none.
func (a *Account) newInvoice(c *Customer, id string, s *Subscription) *Invoice {
	about := Object{AccountID: c.about.AccountID, Type: "invoice", ID: id, CustomerID: c.about.ID, Created: a.Now}
	st := stripeobject.BilledInvoice{AutoAdvance: true, CustomerName: c.state.Name, CustomerEmail: c.state.Email}
	st.Invoice = stripeobject.Invoice{
		ID: id, Customer: c.about.ID, Status: "draft", Currency: "usd", Created: a.Now, PeriodStart: a.Now, PeriodEnd: a.Now, Metadata: map[string]string{},
	}
	version := c.version
	if s != nil {
		about.SubscriptionID, st.Subscription, st.SubscriptionMetadata, version = s.state.ID, s.state.ID, s.state.Clone().Metadata, s.version
		st.PeriodStart, st.PeriodEnd = s.state.PeriodStart, s.state.PeriodEnd
	}
	i := &Invoice{invoiceResource: invoiceResource{newResource(a, about, version, st)}, customer: c}
	a.Invoices = append(a.Invoices, i)
	a.keep(i)
	return i
}

// oneOff returns a line of no subscription.
func (i *Invoice) oneOff() stripeobject.Line {
	a := i.account
	addOn := catalog[2+a.billing.IntN(2)]
	return stripeobject.Line{
		ID: newID(a.billing, "il_1", 23), InvoiceItem: newID(a.billing, "ii_1", 23), Description: fmt.Sprintf("Extra %d", len(i.state.Lines)+1),
		Price: addOn.Price, Product: addOn.Product, UnitAmount: addOn.Amount, Quantity: 1 + a.billing.Int64N(5), PeriodStart: a.Now, PeriodEnd: a.Now,
	}
}

// Customer returns the invoice's customer.
func (i *Invoice) Customer() *Customer { return i.customer }

// PaymentIntent returns the payment intent of a finalized invoice, or nil if nothing is due.
func (i *Invoice) PaymentIntent() *PaymentIntent { return i.intent }

// Status returns the current status: draft, open, paid, uncollectible or void.
func (i *Invoice) Status() string { return i.state.Status }

func (i *Invoice) update(change func(*stripeobject.BilledInvoice)) {
	i.change("invoice.updated", change)
}

// hasStatus reports whether the invoice has one of these statuses and still exists.
func (i *Invoice) hasStatus(statuses ...string) bool {
	for _, status := range statuses {
		if i.state.Status == status && !i.about.Deleted {
			return true
		}
	}
	return false
}

// SetMetadata sets a key. An empty value removes it.
func (i *Invoice) SetMetadata(key, value string) {
	i.update(func(st *stripeobject.BilledInvoice) { setText(st.Metadata, key, value) })
}

// AddLine adds a line to a draft.
func (i *Invoice) AddLine() {
	if !i.hasStatus("draft") {
		return
	}
	line := i.oneOff()
	i.update(func(st *stripeobject.BilledInvoice) {
		st.Lines = append(st.Lines, line)
		st.AmountDue = max(0, st.Total())
	})
}

// Finalize makes a draft an open invoice with a number: invoice.updated and invoice.finalized. The customer's balance is applied:
// a credit reduces the amount due, a negative total becomes a credit.
func (i *Invoice) Finalize() {
	if i.hasStatus("draft") {
		i.update(i.finalized())
		i.event(i.account.billing, "invoice.finalized")
		i.applyBalance()
	}
}

// finalizeAtOnce finalizes an invoice in the request that created it, which makes no invoice.updated.
func (i *Invoice) finalizeAtOnce() {
	i.change("invoice.finalized", i.finalized())
	i.applyBalance()
}

func (i *Invoice) finalized() func(*stripeobject.BilledInvoice) {
	a, balance := i.account, i.customer.state.Balance
	a.numbered++
	i.credit = min(-balance, i.state.Total())
	intent := newID(a.billing, "pi_3", 23)
	return func(st *stripeobject.BilledInvoice) {
		st.Status, st.FinalizedAt, st.Number, st.AutoAdvance = "open", a.Now, fmt.Sprintf("SIM-%04d", a.numbered), true
		st.StartingBalance, st.EndingBalance, st.AmountDue = balance, balance+i.credit, st.Total()-i.credit
		if st.AmountDue > 0 {
			st.PaymentIntent = intent
		}
	}
}

// applyBalance changes the customer's balance by what the invoice took from it, and creates the payment intent of what is left.
func (i *Invoice) applyBalance() {
	i.customer.SetBalance(i.customer.state.Balance + i.credit)
	if id := i.state.PaymentIntent; id != "" {
		i.intent = i.customer.newIntent(id, i.version, i.state.AmountDue, i.about.ID)
		i.intent.event(i.account.others, "payment_intent.created")
	}
}

// Pay pays an invoice, after its finalization if it is a draft: invoice.updated, invoice.paid and invoice.payment_succeeded. An
// uncollectible invoice can still be paid.
func (i *Invoice) Pay() { i.pay(i.account.billing) }

// pay draws the id of invoice.paid.
func (i *Invoice) pay(random *rand.Rand) {
	i.Finalize()
	if !i.hasStatus("open", "uncollectible") {
		return
	}
	a := i.account
	charge := newID(a.billing, "ch_3", 23)
	if i.state.AmountDue > 0 {
		i.collect().succeed(charge)
	}
	i.update(func(st *stripeobject.BilledInvoice) {
		st.Status, st.AmountPaid, st.PaidAt, st.NextPaymentAttempt, st.AutoAdvance = "paid", st.AmountDue, a.Now, 0, false
		if st.AmountDue > 0 {
			st.Charge = charge
			st.AttemptCount++
		}
	})
	i.event(random, "invoice.paid")
	i.event(a.billing, "invoice.payment_succeeded")
	i.customer.setDelinquent(false)
}

// FailPayment fails an attempt to pay an invoice, after its finalization if it is a draft: invoice.updated and
// invoice.payment_failed. After four attempts there is no next one.
func (i *Invoice) FailPayment() { i.failPayment(i.account.billing) }

// failPayment draws the id of invoice.payment_failed.
func (i *Invoice) failPayment(random *rand.Rand) {
	i.Finalize()
	if !i.hasStatus("open") {
		return
	}
	a := i.account
	charge := newID(a.billing, "ch_3", 23)
	if i.state.AmountDue > 0 {
		i.collect().fail(charge)
	}
	i.update(func(st *stripeobject.BilledInvoice) {
		st.AttemptCount++
		st.Charge, st.NextPaymentAttempt = charge, a.Now+3*24*hour
		if st.AttemptCount >= maxAttempts {
			st.NextPaymentAttempt = 0
		}
	})
	i.event(random, "invoice.payment_failed")
	i.customer.setDelinquent(true)
}

// collect returns the payment intent, which is for what is due now: credit notes have reduced it without an event.
func (i *Invoice) collect() *PaymentIntent {
	due := i.state.AmountDue
	i.intent.set(func(st *stripeobject.PaymentIntent) { st.Amount = due })
	return i.intent
}

// Void voids an open or uncollectible invoice: invoice.updated and invoice.voided. The customer's balance is restored.
func (i *Invoice) Void() { i.void(i.account.billing) }

// void draws the id of invoice.voided.
func (i *Invoice) void(random *rand.Rand) {
	if !i.hasStatus("open", "uncollectible") {
		return
	}
	if i.intent != nil {
		i.intent.cancel("void_invoice")
	}
	i.update(func(st *stripeobject.BilledInvoice) {
		st.Status, st.VoidedAt, st.NextPaymentAttempt, st.AutoAdvance = "void", i.account.Now, 0, false
	})
	i.event(random, "invoice.voided")
	i.customer.SetBalance(i.customer.state.Balance - i.credit)
}

// MarkUncollectible writes an open invoice off: invoice.updated and invoice.marked_uncollectible.
func (i *Invoice) MarkUncollectible() {
	if !i.hasStatus("open") {
		return
	}
	i.update(func(st *stripeobject.BilledInvoice) {
		st.Status, st.UncollectibleAt, st.NextPaymentAttempt, st.AutoAdvance = "uncollectible", i.account.Now, 0, false
	})
	i.event(i.account.billing, "invoice.marked_uncollectible")
	i.customer.setDelinquent(false)
}

// Delete deletes a draft that is of no subscription.
func (i *Invoice) Delete() {
	if i.hasStatus("draft") && i.about.SubscriptionID == "" {
		i.delete()
	}
}
