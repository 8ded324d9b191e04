package stripesim

import (
	"slices"

	"github.com/pook/stripeonce/internal/stripeobject"
)

// nothing leaves an invoice as it is.
func nothing(*Invoice) {}

// CustomerObject returns the subscription's customer.
func (s *Subscription) CustomerObject() *Customer { return s.customer }

// payer returns the customer. The customer and the account's products and prices are created if they do not exist yet.
func (s *Subscription) payer() *Customer {
	s.account.addCatalog(s.AccountID, s.version)
	if s.customer == nil {
		s.customer = s.account.addCustomer(s.AccountID, s.version, s.state.Customer)
	}
	return s.customer
}

// Invoices returns the subscription's invoices, oldest first.
func (s *Subscription) Invoices() []*Invoice { return slices.Clone(s.invoices) }

// LatestInvoice returns the subscription's latest invoice.
func (s *Subscription) LatestInvoice() *Invoice {
	for _, i := range slices.Backward(s.invoices) {
		if i.about.ID == s.state.LatestInvoice {
			return i
		}
	}
	return nil
}

func (s *Subscription) ended() bool {
	return s.state.Status == "canceled" || s.state.Status == "incomplete_expired"
}

// draft adds an invoice of the subscription. Its event is the caller's.
func (s *Subscription) draft(id, reason string, lines []stripeobject.Line) *Invoice {
	i := s.account.newInvoice(s.payer(), id, s)
	s.invoices = append(s.invoices, i)
	i.state.BillingReason, i.state.Lines = reason, lines
	if reason == "subscription_cycle" {
		i.state.NextPaymentAttempt = s.account.Now + hour // until then it is a draft
	}
	i.state.AmountDue = max(0, i.state.Total())
	if c := i.customer; c.state.Currency == "" {
		c.update(func(st *stripeobject.Customer) { st.Currency = "usd" })
	}
	return i
}

// periodLines are the lines of a period: one for each item, free during a trial.
func (s *Subscription) periodLines() []stripeobject.Line {
	lines := make([]stripeobject.Line, len(s.state.Items))
	for n, it := range s.state.Items {
		lines[n] = stripeobject.Line{
			ID: newID(s.account.billing, "il_1", 23), Price: it.Price, Product: it.Product, UnitAmount: it.Amount, Quantity: it.Quantity,
			SubscriptionItem: it.ID, PeriodStart: s.state.PeriodStart, PeriodEnd: s.state.PeriodEnd,
		}
		if s.state.Status == "trialing" {
			lines[n].UnitAmount, lines[n].Description = 0, "Free trial"
		}
	}
	return lines
}

// prorations are the lines of an upgrade: half of the old item is credited, half of the new items charged.
func (s *Subscription) prorations(old stripeobject.Item) []stripeobject.Line {
	lines := s.periodLines()
	for n := range lines {
		lines[n].UnitAmount /= 2
		lines[n].Proration, lines[n].Description, lines[n].PeriodStart = true, "Remaining time", s.account.Now
	}
	unused := lines[0]
	unused.ID, unused.Description = newID(s.account.billing, "il_1", 23), "Unused time"
	unused.Price, unused.Product, unused.UnitAmount, unused.Quantity = old.Price, old.Product, -old.Amount/2, old.Quantity
	return append([]stripeobject.Line{unused}, lines...)
}

// billFirst creates the invoice of a new subscription. That of a trial is paid at once, as its total is 0.
func (s *Subscription) billFirst() {
	i := s.draft(s.state.LatestInvoice, "subscription_create", s.periodLines())
	i.event(s.account.billing, "invoice.created")
	i.finalizeAtOnce()
	if s.state.Status == "trialing" {
		i.Pay()
	}
}

// billAtOnce makes a change whose invoice is created, finalized and paid within the second: it becomes the latest one with the
// change's first event.
func (s *Subscription) billAtOnce(change func(), reason string, lines func() []stripeobject.Line) {
	id := newID(s.account.billing, "in_1", 23)
	s.next = id
	change()
	i := s.draft(id, reason, lines())
	i.event(s.account.billing, "invoice.created")
	i.finalizeAtOnce()
	i.Pay()
}

// pay pays the latest invoice, or a new one in its place if it is void: that becomes the latest with the next update. While
// collection is paused, the invoice is voided or remains a draft.
func (s *Subscription) pay() {
	random, i := s.account.random, s.LatestInvoice()
	if i == nil || !i.hasStatus("draft", "open", "uncollectible") {
		s.next = newID(s.account.billing, "in_1", 23)
		i = s.draft(s.next, "subscription_cycle", s.periodLines())
		i.event(s.account.billing, "invoice.created")
	}
	switch {
	case i.hasStatus("draft") && s.state.PauseBehavior == "void":
		i.Finalize()
		i.void(random)
	case i.hasStatus("draft") && s.state.PauseBehavior == "keep_as_draft":
	default:
		i.pay(random)
	}
}

// giveUp draws what happens to the latest invoice if it is still open.
func (s *Subscription) giveUp(ways ...func(*Invoice)) {
	if i := s.LatestInvoice(); i != nil && i.hasStatus("open") {
		ways[s.account.billing.IntN(len(ways))](i)
	}
}
