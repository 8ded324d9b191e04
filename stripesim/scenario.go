package stripesim

import (
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Scenario is a life cycle as a value: how a subscription begins, and what happens to it when.
type Scenario struct {
	Name  string
	About string
	Begin func(a *Account) *Subscription
	Steps []Step
	// Billing is for steps that change other objects than subscriptions. Account.Play then sets Account.Billing.
	Billing bool
}

// Step is one change, so long after the one before. Steps after 0 are of the same second.
type Step struct {
	After time.Duration
	Do    func(s *Subscription)
}

const day = 24 * time.Hour

// The usual beginnings of a life cycle.
var (
	subscribed = func(a *Account) *Subscription { return a.Subscribe(a.version()) }
	onTrial    = func(a *Account) *Subscription { return a.SubscribeTrial(a.version(), 14*day) }
	byCheckout = func(a *Account) *Subscription {
		session := a.addCustomer(a.owner(), a.version(), newID(a.billing, "cus_", 14)).AddCheckoutSession("subscription")
		session.Complete()
		return session.Subscription()
	}
)

// scenarios are those that a name selects, sorted by name. To add one, add it here.
var scenarios = []Scenario{
	{Name: "cancel-at-period-end", About: "paid, canceled for the end of the period, and ended then", Begin: subscribed, Steps: []Step{
		{time.Second, (*Subscription).Activate}, {10 * day, func(s *Subscription) { s.CancelAtPeriodEnd(true) }}, {20 * day, (*Subscription).Delete},
	}},
	{Name: "checkout", About: "a subscription by Checkout; then sessions that are paid, paid days later, never paid, and expired", Begin: byCheckout, Billing: true, Steps: []Step{
		{day, func(s *Subscription) { s.CustomerObject().AddCheckoutSession("payment").Complete() }},
		{0, func(s *Subscription) { s.CustomerObject().AddCheckoutSession("setup").Complete() }},
		{day, func(s *Subscription) { s.CustomerObject().AddCheckoutSession("payment").CompleteUnpaid() }}, {3 * day, func(s *Subscription) { s.newestSession().PaySucceeded() }},
		{day, func(s *Subscription) { s.CustomerObject().AddCheckoutSession("payment").CompleteUnpaid() }}, {0, func(s *Subscription) { s.newestSession().PayFailed() }},
		{day, func(s *Subscription) { s.CustomerObject().AddCheckoutSession("payment").Expire() }}, {20 * day, (*Subscription).Renew},
	}},
	{Name: "customer-deleted", About: "two subscriptions of a customer, whose deletion ends both", Begin: subscribed, Billing: true, Steps: []Step{
		{time.Second, (*Subscription).Activate}, {day, func(s *Subscription) { s.CustomerObject().Subscribe() }},
		{day, func(s *Subscription) { s.CustomerObject().SetBalance(-1500) }}, {0, func(s *Subscription) { s.CustomerObject().SetAddress(cities[0]) }},
		{28 * day, (*Subscription).Renew}, {9 * day, func(s *Subscription) { s.CustomerObject().Delete() }},
	}},
	{Name: "dispute", About: "a payment that is disputed and won, and one that is disputed and lost", Begin: subscribed, Billing: true, Steps: []Step{
		{time.Second, (*Subscription).Activate}, {3 * day, func(s *Subscription) { s.charge().Dispute("fraudulent") }},
		{day, func(s *Subscription) { s.newestDispute().SaveEvidence("Delivered") }}, {0, func(s *Subscription) { s.newestDispute().Submit() }},
		{20 * day, func(s *Subscription) { s.newestDispute().Win() }}, {6 * day, (*Subscription).Renew},
		{day, func(s *Subscription) { s.charge().Dispute("product_not_received") }}, {0, func(s *Subscription) { s.newestDispute().Lose() }},
	}},
	{Name: "downgrade", About: "paid, with a second item that is removed, and fewer seats", Begin: subscribed, Steps: []Step{
		{time.Second, (*Subscription).Activate}, {day, (*Subscription).AddItem}, {0, func(s *Subscription) { s.SetQuantity(9) }},
		{9 * day, (*Subscription).RemoveItem}, {0, func(s *Subscription) { s.SetQuantity(1) }}, {20 * day, (*Subscription).Renew},
	}},
	{Name: "dunning", About: "paid, then payments fail until the subscription is unpaid and ends", Begin: subscribed, Steps: []Step{
		{time.Second, (*Subscription).Activate}, {30 * day, (*Subscription).Renew}, {30 * day, (*Subscription).FailPayment},
		{3 * day, (*Subscription).FailPayment}, {4 * day, (*Subscription).MarkUnpaid}, {30 * day, (*Subscription).Delete},
	}},
	{Name: "entitlement-change", About: "features that come and go: a trial, an upgrade to more than ten, within a second back, unpaid, ended", Begin: onTrial, Billing: true, Steps: []Step{
		{14 * day, (*Subscription).Activate}, {day, (*Subscription).AddItem}, {0, func(s *Subscription) { s.Upgrade(2) }}, {0, (*Subscription).RemoveItem},
		{0, (*Subscription).AddItem}, {29 * day, (*Subscription).FailPayment}, {3 * day, (*Subscription).MarkUnpaid}, {day, (*Subscription).Activate},
		{day, func(s *Subscription) { s.CustomerObject().Subscribe().Activate() }}, {day, (*Subscription).Delete},
	}},
	{Name: "invoice-voided", About: "a voided, an uncollectible, a deleted and a paid invoice, the last with 25 lines", Begin: subscribed, Billing: true, Steps: []Step{
		{time.Second, (*Subscription).Activate}, {30 * day, (*Subscription).FailPayment},
		{day, func(s *Subscription) { s.LatestInvoice().MarkUncollectible() }}, {9 * day, (*Subscription).Activate},
		{20 * day, (*Subscription).FailPayment}, {day, func(s *Subscription) { s.LatestInvoice().Void() }}, {0, (*Subscription).Activate},
		{day, func(s *Subscription) { s.CustomerObject().AddInvoice(2).Delete() }},
		{day, func(s *Subscription) { s.CustomerObject().AddInvoice(25).Finalize() }}, {time.Minute, payLast},
	}},
	{Name: "many-items", About: "paid, with 45 items, of which events hold 20", Begin: subscribed, Steps: append([]Step{{time.Second, (*Subscription).Activate}}, repeat(44, Step{time.Minute, (*Subscription).AddItem})...)},
	{Name: "pause-collection", About: "paid, and the collection of payments is paused: the status stays active", Begin: subscribed, Steps: []Step{
		{time.Second, (*Subscription).Activate}, {5 * day, func(s *Subscription) { s.PauseCollection("void", 0) }}, {25 * day, (*Subscription).Renew},
	}},
	{Name: "refund", About: "payments that are refunded in part, in full, and by a refund that fails after it succeeded, and a credit note", Begin: subscribed, Billing: true, Steps: []Step{
		{time.Second, (*Subscription).Activate}, {day, func(s *Subscription) { s.charge().Refund(200) }}, {0, func(s *Subscription) { s.newestRefund().SetMetadata("ticket", "1") }},
		{2 * day, func(s *Subscription) { s.charge().RefundLater(300) }}, {day, func(s *Subscription) { s.newestRefund().Succeed() }}, {9 * day, func(s *Subscription) { s.newestRefund().Fail() }},
		{18 * day, (*Subscription).Renew}, {day, func(s *Subscription) { s.LatestInvoice().AddCreditNote(12) }}, {0, func(s *Subscription) { s.charge().Refund(s.charge().Refundable()) }},
	}},
	{Name: "resume", About: "a trial that pauses without a payment method, and is resumed", Begin: onTrial, Steps: []Step{
		{11 * day, (*Subscription).RemindOfTrialEnd}, {3 * day, (*Subscription).Pause}, {5 * day, (*Subscription).SetPaymentMethod},
		{0, (*Subscription).Resume}, {30 * day, (*Subscription).Renew},
	}},
	{Name: "trial-to-paid", About: "a trial that becomes a paid subscription, and is renewed", Begin: onTrial, Steps: []Step{
		{11 * day, (*Subscription).RemindOfTrialEnd}, {day, (*Subscription).SetPaymentMethod}, {2 * day, (*Subscription).Activate}, {30 * day, (*Subscription).Renew},
	}},
	{Name: "upgrade", About: "paid, then upgraded and renewed within one second", Begin: subscribed, Steps: []Step{
		{time.Second, (*Subscription).Activate}, {30 * day, (*Subscription).Renew}, {0, func(s *Subscription) { s.Upgrade(5) }}, {30 * day, (*Subscription).Renew},
	}},
}

// payLast pays the customer's newest invoice.
func payLast(s *Subscription) {
	invoices := s.CustomerObject().Invoices()
	invoices[len(invoices)-1].Pay()
}

// charge returns the charge of the latest invoice.
func (s *Subscription) charge() *Charge { return s.LatestInvoice().PaymentIntent().Charge() }

func (s *Subscription) newestRefund() *Refund {
	return newestOf(s.account.Refunds, func(r *Refund) bool { return r.charge.state.Customer == s.state.Customer })
}

func (s *Subscription) newestDispute() *Dispute {
	return newestOf(s.account.Disputes, func(d *Dispute) bool { return d.charge.state.Customer == s.state.Customer })
}

func (s *Subscription) newestSession() *CheckoutSession {
	return newestOf(s.account.CheckoutSessions, func(c *CheckoutSession) bool { return c.customer == s.customer })
}

// newestOf returns the last one that fits, of which there must be one.
func newestOf[T any](all []T, fits func(T) bool) (newest T) {
	for _, one := range slices.Backward(all) {
		if fits(one) {
			return one
		}
	}
	return newest
}

func repeat(n int, one Step) []Step { return slices.Repeat([]Step{one}, n) }

// Scenarios returns the life cycles that have names.
func Scenarios() []Scenario { return slices.Clone(scenarios) }

// NamedScenario returns a life cycle by its name.
func NamedScenario(name string) (Scenario, error) {
	var names []string
	for _, s := range scenarios {
		if s.Name == name {
			return s, nil
		}
		names = append(names, s.Name)
	}
	return Scenario{}, fmt.Errorf("scenario %q: use one of %s", name, strings.Join(names, ", "))
}

// Play plays life cycles, one after the other in turn, for so many subscriptions, which begin within 30 days and are
// interleaved. It returns the events in the order in which they were created. No life cycles: none.
func (a *Account) Play(list []Scenario, subscriptions int) []*Event {
	return a.play(context.Background(), list, subscriptions)
}

// play is Play until ctx ends.
func (a *Account) play(ctx context.Context, list []Scenario, subscriptions int) []*Event {
	if len(list) == 0 {
		return nil
	}
	from := len(a.Events)
	for i := range list[:min(subscriptions, len(list))] {
		a.Billing = a.Billing || list[i].Billing
	}
	var due cues
	for i := range subscriptions {
		due = append(due, &cue{at: a.Now + a.random.Int64N(int64(beginning/time.Second)), nth: i, of: &list[i%len(list)], next: -1})
	}
	heap.Init(&due)
	for len(due) > 0 && ctx.Err() == nil {
		c := due[0]
		a.Now = max(a.Now, c.at)
		if c.next < 0 {
			c.sub = c.of.Begin(a)
		} else {
			c.of.Steps[c.next].Do(c.sub)
		}
		if c.next++; c.next == len(c.of.Steps) {
			heap.Pop(&due)
			continue
		}
		c.at = a.Now + int64(c.of.Steps[c.next].After/time.Second)
		heap.Fix(&due, 0)
	}
	return a.Events[from:]
}

// cue is the next step of one subscription.
type cue struct {
	at   int64
	nth  int // of the subscriptions
	of   *Scenario
	next int // of the steps; -1: it begins
	sub  *Subscription
}

// cues is a heap of cues by time.
type cues []*cue

func (c cues) Len() int { return len(c) }
func (c cues) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(c[i].at, c[j].at), cmp.Compare(c[i].nth, c[j].nth)) < 0
}
func (c cues) Swap(i, j int) { c[i], c[j] = c[j], c[i] }

// Push appends an element, for package heap.
func (c *cues) Push(x any) { *c = append(*c, x.(*cue)) }

// Pop removes the last element, for package heap.
func (c *cues) Pop() any {
	last := (*c)[len(*c)-1]
	*c = (*c)[:len(*c)-1]
	return last
}
