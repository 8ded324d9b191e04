package stripesim

import (
	"fmt"
	"strings"
)

// newest are a customer's newest objects that Account.Live created.
type newest struct {
	intent   *PaymentIntent
	method   *PaymentMethod
	setup    *SetupIntent
	session  *CheckoutSession
	taxID    *TaxID
	schedule *Schedule // of no subscription
}

// asideOthers changes other objects of billing between two steps of a subscription. They are drawn from a source of their own.
func (a *Account) asideOthers(s *Subscription) {
	c := s.payer()
	changes := []choice{
		{12, func() { a.changeIntent(c) }}, {14, func() { a.changeCharge(s.AccountID) }}, {12, func() { a.changeRefund(s.AccountID) }},
		{10, func() { a.changeDispute(s.AccountID) }}, {8, func() { a.changeMethod(c) }}, {6, func() { a.changeSetup(c) }},
		{9, func() { a.changeSession(c) }}, {9, func() { a.changeCreditNote(s) }}, {7, func() { a.changeSchedule(s) }},
		{5, func() { a.changeCoupon(s.AccountID, s.version) }}, {4, func() { a.changeTaxID(c) }}, {4, func() { a.changePayout(s.AccountID, s.version) }},
	}
	for range 1 + a.others.IntN(2) {
		n := a.others.IntN(100)
		for range 1 + a.others.IntN(3) { // of one object, in one second
			s.choose(n, changes...)
		}
	}
}

// draw makes one of some changes.
func (a *Account) draw(changes ...func()) { changes[a.others.IntN(len(changes))]() }

// otherLabel draws a metadata value, which may be empty.
func (a *Account) otherLabel() string {
	return []string{"", "a", newID(a.others, "", 4)}[a.others.IntN(3)]
}

// last draws one of the last objects of an account, or the zero value if there is none.
func last[T interface{ AccountID() string }](a *Account, accountID string, all []T) (one T) {
	skip := a.others.IntN(4)
	for i := len(all) - 1; i >= 0 && skip >= 0; i-- {
		if all[i].AccountID() == accountID {
			one = all[i]
			skip--
		}
	}
	return one
}

func (a *Account) changeIntent(c *Customer) {
	p := c.newest.intent
	if p == nil || p.state.Status == "succeeded" || p.state.Status == "canceled" {
		if !c.Deleted() {
			c.newest.intent = c.AddPaymentIntent(100*(1+a.others.Int64N(500)), a.others.IntN(3) == 0)
		}
		return
	}
	a.draw(p.RequireAction, p.Process, p.Succeed, p.Succeed, p.Capture, p.Capture, p.Fail, p.Cancel)
}

func (a *Account) changeCharge(accountID string) {
	c := last(a, accountID, a.Charges)
	if c == nil {
		return
	}
	a.draw(func() { c.SetDescription("Order " + newID(a.others, "", 4)) }, func() { c.SetMetadata("order", a.otherLabel()) },
		func() { c.Refund(c.Refundable()) }, func() { c.Refund(c.Refundable() / 3) }, func() { c.RefundLater(c.Refundable() / 2) },
		func() { c.Dispute([]string{"fraudulent", "duplicate", "product_not_received"}[a.others.IntN(3)]) })
}

func (a *Account) changeRefund(accountID string) {
	if r := last(a, accountID, a.Refunds); r != nil {
		a.draw(r.Succeed, r.Succeed, r.Fail, r.Cancel, func() { r.SetMetadata("ticket", a.otherLabel()) })
	}
}

func (a *Account) changeDispute(accountID string) {
	if d := last(a, accountID, a.Disputes); d != nil {
		a.draw(d.Submit, d.Win, d.Lose, func() { d.SaveEvidence("Delivered, " + newID(a.others, "", 4)) })
	}
}

func (a *Account) changeMethod(c *Customer) {
	p := c.newest.method
	if p == nil || !p.Attached() {
		if !c.Deleted() {
			c.AttachPaymentMethod()
		}
		return
	}
	a.draw(p.Replace, p.Replace, p.Detach, func() { p.SetName(newID(a.others, "", 6)) }, func() { p.SetMetadata("wallet", a.otherLabel()) })
}

func (a *Account) changeSetup(c *Customer) {
	s := c.newest.setup
	if s == nil || s.hasEnded() {
		if !c.Deleted() {
			c.newest.setup = c.AddSetupIntent()
		}
		return
	}
	changes := []func(){s.RequireAction, s.RequireAction, s.Fail, s.Cancel}
	if !c.Deleted() {
		changes = append(changes, s.Succeed)
	}
	a.draw(changes...)
}

// changeSession moves the customer's newest session on. None creates a subscription: those are drawn from another source.
func (a *Account) changeSession(c *Customer) {
	s := c.newest.session
	switch {
	case s != nil && s.isProcessing():
		a.draw(s.PaySucceeded, s.PayFailed)
	case c.Deleted():
	default:
		s = c.AddCheckoutSession([]string{"payment", "payment", "setup"}[a.others.IntN(3)])
		c.newest.session = s
		a.draw(s.Complete, s.CompleteUnpaid, s.CompleteUnpaid, s.Expire)
		s.Expire() // so that no session is left of which there is no event
	}
}

// changeCreditNote credits an invoice of the subscription, or changes the newest credit note of it.
func (a *Account) changeCreditNote(s *Subscription) {
	i := s.LatestInvoice()
	if other := s.customer.oneOff; other != nil && other.hasStatus("open") {
		i = other
	}
	if i == nil {
		return
	}
	if n := i.newestCredit; n != nil {
		a.draw(n.Void, n.Void, func() { n.SetMemo("Sorry, " + newID(a.others, "", 3)) }, func() { n.SetMetadata("ticket", a.otherLabel()) },
			func() { i.AddCreditNote(1) })
		return
	}
	i.AddCreditNote([]int{1, 2, 12}[a.others.IntN(3)])
}

// changeSchedule changes the subscription's schedule, or one of its customer that has not started.
func (a *Account) changeSchedule(s *Subscription) {
	c := s.payer()
	sc := s.schedule
	if sc == nil || !sc.isOpen() {
		if sc = c.newest.schedule; sc == nil || !sc.isOpen() {
			if !c.Deleted() {
				c.newest.schedule = c.AddSchedule()
			}
			return
		}
	}
	a.draw(sc.AddPhase, sc.RemindOfEnd, sc.Cancel, func() { sc.SetQuantity(1 + a.others.Int64N(9)) }, func() { sc.SetMetadata("plan", a.otherLabel()) })
}

// changeCoupon changes a coupon or a promotion code of it. The coupon, whose id is chosen, is deleted and created again.
func (a *Account) changeCoupon(accountID, version string) {
	const chosen = "WELCOME"
	c := a.addCoupon(accountID, version, chosen, 10+float64(a.others.IntN(40)))
	p := last(a, accountID, a.PromotionCodes)
	if p == nil || p.coupon.Deleted() {
		p = c.AddPromotionCode(strings.ToUpper(newID(a.others, "", 8)))
	}
	a.draw(c.Delete, func() { c.SetName(fmt.Sprint("Welcome ", a.others.IntN(9))) }, func() { c.SetMetadata("campaign", a.otherLabel()) },
		p.Redeem, func() { p.SetActive(!p.state.Active) }, func() { p.SetMetadata("campaign", a.otherLabel()) },
		func() {
			c.Delete()
			a.addCoupon(accountID, version, chosen, 50)
		})
}

func (a *Account) changeTaxID(c *Customer) {
	t := c.newest.taxID
	if t == nil || t.Deleted() {
		if !c.Deleted() {
			c.newest.taxID = c.AddTaxID(fmt.Sprintf("DE%09d", a.others.IntN(1_000_000_000)))
		}
		return
	}
	a.draw(t.Delete, func() { t.Verify("verified", c.state.Name) }, func() { t.Verify("unverified", "") })
}

func (a *Account) changePayout(accountID, version string) {
	p := last(a, accountID, a.Payouts)
	if p == nil || p.state.Status == "failed" || p.state.Status == "canceled" || p.state.Reconciled && a.others.IntN(2) == 0 {
		a.addPayout(accountID, version, 1000*(1+a.others.Int64N(900)))
		return
	}
	a.draw(p.Send, p.Send, p.Pay, p.Pay, p.Reconcile, p.Reconcile, p.Fail, p.Cancel, func() { p.SetMetadata("batch", a.otherLabel()) })
}
