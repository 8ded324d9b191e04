package stripesim

import "github.com/pook/stripeonce/internal/stripeobject"

// Subscription is a subscription of the account. Its methods change it and create the events of the change.
type Subscription struct {
	// AccountID is the account that it belongs to; empty: the platform's own.
	AccountID string

	account *Account
	version string
	state   stripeobject.Subscription
	past    []former[stripeobject.Subscription]

	customer *Customer
	schedule *Schedule // the newest
	invoices []*Invoice
	next     string // the id of an invoice that the next update makes the latest
}

// ID returns the subscription's id, sub_….
func (s *Subscription) ID() string { return s.state.ID }

// Customer returns the customer's id, cus_….
func (s *Subscription) Customer() string { return s.state.Customer }

// Status returns the current status.
func (s *Subscription) Status() string { return s.state.Status }

// Object returns the current subscription as Stripe's API renders it, in the version of its events.
func (s *Subscription) Object() []byte { return marshal(s.state.Render(s.version)) }
