package stripesim

import (
	"fmt"

	"github.com/pook/stripeonce/internal/stripeobject"
)

// PaymentMethod is a card of a customer. Its methods change it and create the events of the change. They do nothing once it is
// detached: it cannot be used again.
type PaymentMethod struct {
	paymentMethodResource
}

type paymentMethodResource struct {
	resource[stripeobject.PaymentMethod, *stripeobject.PaymentMethod]
}

// AttachPaymentMethod attaches a new card to the customer: payment_method.attached.
func (c *Customer) AttachPaymentMethod() *PaymentMethod {
	return c.attach(newID(c.account.others, "pm_1", 23), c.version)
}

func (c *Customer) attach(id, version string) *PaymentMethod {
	a := c.account
	p := &PaymentMethod{paymentMethodResource{newResource(a, c.owns("payment_method", id), version, stripeobject.PaymentMethod{
		ID: id, Customer: c.about.ID, Card: newCard(a), Name: c.state.Name, Created: a.Now, Metadata: map[string]string{},
	})}}
	a.PaymentMethods = append(a.PaymentMethods, p)
	a.keep(p)
	c.newest.method = p
	p.event(a.others, "payment_method.attached")
	return p
}

func newCard(a *Account) stripeobject.Card {
	brands := []string{"visa", "mastercard", "amex"}
	return stripeobject.Card{
		Brand: brands[a.others.IntN(len(brands))], Last4: fmt.Sprintf("%04d", a.others.IntN(10_000)), Country: "US",
		ExpMonth: 1 + a.others.Int64N(12), ExpYear: 2027 + a.others.Int64N(5),
	}
}

// Attached reports whether it is attached to a customer.
func (p *PaymentMethod) Attached() bool { return p.state.Customer != "" }

func (p *PaymentMethod) update(eventType string, change func(*stripeobject.PaymentMethod)) {
	if p.Attached() {
		p.happen(eventType, change)
	}
}

// SetName sets the name in billing_details.
func (p *PaymentMethod) SetName(name string) {
	p.update("payment_method.updated", func(st *stripeobject.PaymentMethod) { st.Name = name })
}

// SetMetadata sets a key. An empty value removes it.
func (p *PaymentMethod) SetMetadata(key, value string) {
	p.update("payment_method.updated", func(st *stripeobject.PaymentMethod) { setText(st.Metadata, key, value) })
}

// Replace has the bank replace the card by one that expires later: payment_method.automatically_updated.
func (p *PaymentMethod) Replace() {
	last4 := newCard(p.account).Last4
	p.update("payment_method.automatically_updated", func(st *stripeobject.PaymentMethod) {
		st.Card.Last4 = last4
		st.Card.ExpYear += 3
	})
}

// Detach detaches it from the customer, whose id it loses: payment_method.detached.
func (p *PaymentMethod) Detach() {
	p.update("payment_method.detached", func(st *stripeobject.PaymentMethod) { st.Customer = "" })
}

// SetupIntent is a setup intent of a customer. Its methods change it and create the events of the change. They do nothing where Stripe
// would refuse the change: https://docs.stripe.com/payments/paymentintents/lifecycle.
type SetupIntent struct {
	setupIntentResource

	customer *Customer
}

type setupIntentResource struct {
	resource[stripeobject.SetupIntent, *stripeobject.SetupIntent]
}

// AddSetupIntent creates a setup intent: status requires_payment_method.
func (c *Customer) AddSetupIntent() *SetupIntent {
	a := c.account
	id := newID(a.others, "seti_1", 23)
	s := &SetupIntent{customer: c, setupIntentResource: setupIntentResource{newResource(a, c.owns("setup_intent", id), c.version, stripeobject.SetupIntent{
		ID: id, Customer: c.about.ID, Status: "requires_payment_method", Created: a.Now, Metadata: map[string]string{},
	})}}
	a.SetupIntents = append(a.SetupIntents, s)
	a.keep(s)
	s.event(a.others, "setup_intent.created")
	return s
}

// Status returns the current status: requires_payment_method, requires_action, succeeded or canceled.
func (s *SetupIntent) Status() string { return s.state.Status }

func (s *SetupIntent) hasEnded() bool {
	return s.state.Status == "succeeded" || s.state.Status == "canceled"
}

// RequireAction waits for the customer's authentication: status requires_action.
func (s *SetupIntent) RequireAction() {
	if s.state.Status == "requires_payment_method" {
		method := newID(s.account.others, "pm_1", 23)
		s.happen("setup_intent.requires_action", func(st *stripeobject.SetupIntent) {
			st.Status, st.PaymentMethod, st.ActionRequired, st.FailureCode = "requires_action", method, true, ""
		})
	}
}

// Fail fails an attempt: setup_intent.setup_failed. The status is requires_payment_method again.
func (s *SetupIntent) Fail() {
	if !s.hasEnded() {
		s.happen("setup_intent.setup_failed", func(st *stripeobject.SetupIntent) {
			st.Status, st.PaymentMethod, st.ActionRequired, st.FailureCode = "requires_payment_method", "", false, "generic_decline"
		})
	}
}

// Succeed attaches the card to the customer: payment_method.attached and setup_intent.succeeded.
func (s *SetupIntent) Succeed() {
	if s.hasEnded() {
		return
	}
	id := s.state.PaymentMethod
	if id == "" {
		id = newID(s.account.others, "pm_1", 23)
	}
	s.customer.attach(id, s.version)
	s.happen("setup_intent.succeeded", func(st *stripeobject.SetupIntent) {
		st.Status, st.PaymentMethod, st.ActionRequired, st.FailureCode = "succeeded", id, false, ""
	})
}

// Cancel cancels it: setup_intent.canceled.
func (s *SetupIntent) Cancel() {
	if !s.hasEnded() {
		s.happen("setup_intent.canceled", func(st *stripeobject.SetupIntent) {
			st.Status, st.CancellationReason, st.ActionRequired = "canceled", "abandoned", false
		})
	}
}
