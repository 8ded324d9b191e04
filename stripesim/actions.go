package stripesim

import (
	"reflect"
	"slices"
	"time"

	"github.com/pook/stripeonce/internal/stripeobject"
)

const month = 30 * 24 * time.Hour

// catalog has the account's prices.
var catalog = []stripeobject.Item{
	{Price: "price_1PBasicMonthlyStripeonce", Product: "prod_QBasicStripeonce", Amount: 900},
	{Price: "price_1PTeamMonthlyStripeonce0", Product: "prod_QTeamStripeonce0", Amount: 2900},
	{Price: "price_1PAuditAddOnStripeonce00", Product: "prod_QAuditStripeonce", Amount: 500},
	{Price: "price_1PSeatsAddOnStripeonce00", Product: "prod_QSeatsStripeonce", Amount: 700},
}

// Subscribe creates a subscription that waits for its first payment: status incomplete.
func (a *Account) Subscribe(version string) *Subscription {
	return a.subscribe(version, "incomplete", 0)
}

// SubscribeTrial creates a subscription that begins with a trial.
func (a *Account) SubscribeTrial(version string, trial time.Duration) *Subscription {
	return a.subscribe(version, "trialing", int64(trial/time.Second))
}

func (a *Account) subscribe(version, status string, trial int64) *Subscription {
	s := &Subscription{AccountID: a.owner(), account: a, version: version}
	s.state.ID, s.state.Customer = a.id("sub_1", 23), a.id("cus_", 14)
	return s.begin(status, trial)
}

func (s *Subscription) begin(status string, trial int64) *Subscription {
	a := s.account
	s.state = stripeobject.Subscription{
		ID: s.state.ID, Customer: s.state.Customer, Status: status, Created: a.Now,
		PeriodStart: a.Now, PeriodEnd: a.Now + int64(month/time.Second), Metadata: map[string]string{},
	}
	c := s.payer()
	c.subscriptions = append(c.subscriptions, s)
	if trial > 0 {
		s.state.TrialStart, s.state.TrialEnd = a.Now, a.Now+trial
		s.state.PeriodEnd = s.state.TrialEnd
	}
	s.addItem(0, 1)
	s.state.LatestInvoice = a.id("in_1", 23)
	a.Subscriptions = append(a.Subscriptions, s)
	s.update(created, func(*stripeobject.Subscription) {})
	s.billFirst()
	return s
}

// update changes the state and creates an event, with previous_attributes if it is an update. An update that changes nothing
// creates none. Each event lists the items in another order, which previous_attributes do not show.
func (s *Subscription) update(eventType string, change func(*stripeobject.Subscription)) {
	before := s.state.Clone()
	s.state = s.state.Clone()
	change(&s.state)
	if s.next != "" {
		s.state.LatestInvoice, s.next = s.next, ""
	}
	after := s.state.Clone()
	if eventType == updated && reflect.DeepEqual(before, after) {
		return
	}
	if eventType != created {
		s.past = append(s.past, former[stripeobject.Subscription]{before, s.account.Now})
	}
	turn := len(s.account.Events) - s.account.added
	before.Turn, after.Turn = turn, turn
	s.account.emit(s, eventType, func(version string) (about, previous object) {
		about = after.Render(version)
		if eventType == updated {
			previous = stripeobject.Difference(before.Render(version), about)
		}
		return about, previous
	})
	s.customer.entitle()
}

const (
	created = "customer.subscription.created"
	updated = "customer.subscription.updated"
)

// Activate completes a payment: the first one, or one that failed. It also ends a trial, and begins the first paid period.
func (s *Subscription) Activate() {
	if s.state.Status == "trialing" {
		s.billAtOnce(func() {
			s.update(updated, func(st *stripeobject.Subscription) {
				st.Status, st.TrialEnd = "active", min(st.TrialEnd, s.account.Now)
				s.beginPeriod(st)
			})
		}, "subscription_cycle", s.periodLines)
		return
	}
	s.pay()
	s.update(updated, func(st *stripeobject.Subscription) { st.Status = "active" })
}

// beginPeriod begins a period now.
func (s *Subscription) beginPeriod(st *stripeobject.Subscription) {
	st.PeriodStart, st.PeriodEnd = s.account.Now, s.account.Now+int64(month/time.Second)
}

// Renew begins the next period with an invoice, and pays it.
func (s *Subscription) Renew() {
	s.nextPeriod()
	s.pay()
}

func (s *Subscription) nextPeriod() {
	s.update(updated, func(st *stripeobject.Subscription) {
		st.PeriodStart = st.PeriodEnd
		st.PeriodEnd += int64(month / time.Second)
		st.LatestInvoice = s.account.id("in_1", 23)
	})
	s.draft(s.state.LatestInvoice, "subscription_cycle", s.periodLines()).event(s.account.random, "invoice.created")
}

// FailPaymentUnheard fails a payment, of which Stripe fails to generate the events. It returns the thin event that says so.
// bare leaves out its data, as notifications do. The events of its invoice and its customer are lost, too.
func (s *Subscription) FailPaymentUnheard(bare bool) (ev *Event, body []byte) {
	n, added := len(s.account.Events), s.account.added
	s.FailPayment()
	lost := s.account.Events[len(s.account.Events)-1]
	for _, ev := range slices.Backward(s.account.Events) {
		if ev.ObjectID == s.state.ID {
			lost = ev
			break
		}
	}
	s.account.Events, s.account.added = s.account.Events[:n], added
	return lost, lost.unheard(bare)
}

// FailPayment fails a payment: status past_due. It is that of the latest invoice, or if that is not to be paid, of the next period.
func (s *Subscription) FailPayment() {
	if i := s.LatestInvoice(); i == nil || !i.hasStatus("draft", "open") {
		s.nextPeriod()
	}
	s.LatestInvoice().failPayment(s.account.random)
	s.update(updated, func(st *stripeobject.Subscription) { st.Status = "past_due" })
}

// Upgrade changes the first item's price and adds an item.
func (s *Subscription) Upgrade(quantity int64) {
	before := s.state.Items[0]
	upgrade := func() {
		s.update(updated, func(st *stripeobject.Subscription) {
			first := &st.Items[0]
			first.Price, first.Product, first.Amount = catalog[1].Price, catalog[1].Product, catalog[1].Amount
			first.Quantity = quantity
			s.addItem(2, 1)
		})
	}
	s.billAtOnce(upgrade, "subscription_update", func() []stripeobject.Line { return s.prorations(before) })
}

func (s *Subscription) addItem(price int, quantity int64) {
	it := catalog[price]
	it.ID, it.Quantity, it.Created = s.account.id("si_", 14), quantity, s.account.Now
	s.state.Items = append(s.state.Items, it)
}

// SetQuantity sets the quantity of the first item. It may be 0.
func (s *Subscription) SetQuantity(quantity int64) {
	s.update(updated, func(st *stripeobject.Subscription) { st.Items[0].Quantity = quantity })
}

// AddItem adds an item with the last price.
func (s *Subscription) AddItem() {
	s.update(updated, func(*stripeobject.Subscription) { s.addItem(3, 2) })
}

// RemoveItem removes the last item, unless it is the only one.
func (s *Subscription) RemoveItem() {
	if len(s.state.Items) == 1 {
		return
	}
	s.update(updated, func(st *stripeobject.Subscription) { st.Items = st.Items[:len(st.Items)-1] })
}

// Expire ends a subscription without its first payment: status incomplete_expired.
func (s *Subscription) Expire() {
	s.giveUp((*Invoice).Void)
	s.update(updated, func(st *stripeobject.Subscription) { st.Status, st.EndedAt = "incomplete_expired", s.account.Now })
}

// MarkUnpaid gives up on a payment without ending the subscription: status unpaid.
func (s *Subscription) MarkUnpaid() {
	s.giveUp((*Invoice).MarkUncollectible, nothing)
	s.update(updated, func(st *stripeobject.Subscription) { st.Status = "unpaid" })
}

// Pause ends a trial without a payment method: status paused. Stripe sends two events.
func (s *Subscription) Pause() {
	s.update(updated, func(st *stripeobject.Subscription) { st.Status = "paused" })
	s.update("customer.subscription.paused", func(*stripeobject.Subscription) {})
}

// Resume resumes a paused subscription, and begins a period. Stripe sends two events.
func (s *Subscription) Resume() {
	resume := func() {
		s.update(updated, func(st *stripeobject.Subscription) {
			st.Status = "active"
			s.beginPeriod(st)
		})
		s.update("customer.subscription.resumed", func(*stripeobject.Subscription) {})
	}
	s.billAtOnce(resume, "subscription_cycle", s.periodLines)
}

// RemindOfTrialEnd creates the reminder three days before the trial's end. Nothing changes.
func (s *Subscription) RemindOfTrialEnd() {
	s.update("customer.subscription.trial_will_end", func(*stripeobject.Subscription) {})
}

// SetMetadata sets a key. An empty value removes it.
func (s *Subscription) SetMetadata(key, value string) {
	s.update(updated, func(st *stripeobject.Subscription) {
		st.Metadata[key] = value
		if value == "" {
			delete(st.Metadata, key)
		}
	})
}

// CancelAtPeriodEnd schedules the cancellation at the period's end, or revokes it.
func (s *Subscription) CancelAtPeriodEnd(cancel bool) {
	s.update(updated, func(st *stripeobject.Subscription) {
		st.CancelAtPeriodEnd, st.CancelAt, st.CanceledAt, st.CancelReason = cancel, 0, 0, ""
		if cancel {
			st.CancelAt, st.CanceledAt, st.CancelReason = st.PeriodEnd, s.account.Now, "cancellation_requested"
		}
	})
}

// PauseCollection pauses payment collection, as the customer portal does, or resumes it if the behavior is empty. The
// status does not change.
func (s *Subscription) PauseCollection(behavior string, resumesAt int64) {
	s.update(updated, func(st *stripeobject.Subscription) { st.PauseBehavior, st.ResumesAt = behavior, resumesAt })
}

// SetPaymentMethod attaches a new payment method to the customer and makes it the subscription's default.
func (s *Subscription) SetPaymentMethod() {
	id := s.account.id("pm_1", 23)
	s.customer.attach(id, s.version)
	s.update(updated, func(st *stripeobject.Subscription) { st.PaymentMethod = id })
}

// AddDiscount adds a discount before the others.
func (s *Subscription) AddDiscount() {
	s.update(updated, func(st *stripeobject.Subscription) {
		st.Discounts = slices.Insert(st.Discounts, 0, s.account.id("di_1", 23))
	})
}

// RemoveDiscounts removes the discounts.
func (s *Subscription) RemoveDiscounts() {
	s.update(updated, func(st *stripeobject.Subscription) { st.Discounts = nil })
}

// Schedule attaches a schedule, or releases the attached one, which may also be completed.
func (s *Subscription) Schedule() {
	id := ""
	if s.state.Schedule != "" {
		s.schedule.release()
	} else {
		id = s.account.id("sub_sched_1", 23)
		s.schedule = s.customer.schedule(id, s.version, s)
	}
	s.update(updated, func(st *stripeobject.Subscription) { st.Schedule = id })
}

// Delete ends the subscription immediately: status canceled.
func (s *Subscription) Delete() {
	s.giveUp((*Invoice).Void, (*Invoice).MarkUncollectible, nothing)
	s.endSchedule()
	s.update("customer.subscription.deleted", func(st *stripeobject.Subscription) {
		st.Status, st.EndedAt = "canceled", s.account.Now
		if st.CanceledAt == 0 {
			st.CanceledAt = s.account.Now
		}
	})
}
