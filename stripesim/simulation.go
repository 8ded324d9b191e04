package stripesim

import (
	"cmp"
	"context"
	"time"
)

// DefaultSubscriptions is the default of Simulation.Subscriptions.
const DefaultSubscriptions = 400

// Simulation plays life cycles in an account and delivers their events. Equal simulations make equal deliveries.
type Simulation struct {
	Seed uint64
	// Subscriptions is the number of subscriptions in one wave. Defaults to DefaultSubscriptions.
	Subscriptions int
	// Scenarios are the life cycles, in turn. None: a mixture, see Account.Live.
	Scenarios []Scenario
	Storm     Storm
	// APIVersion is that of the events. Empty: see Account.APIVersion.
	APIVersion string
	// Connect gives a quarter of the subscriptions to connected accounts.
	Connect bool
	// Billing also simulates customers, products, prices and invoices: see Account.Billing.
	Billing bool
	// For is how long wave after wave is delivered, at least two. 0: one wave.
	For time.Duration
	// Planned is called with each wave's deliveries before they are made. Optional.
	Planned func(plan []Delivery)
}

// connected are the connected accounts of simulations.
var connected = []string{"acct_1SimulatedA", "acct_1SimulatedB"}

// NewAccount returns the account of the simulation, without subscriptions. Its clock begins at Epoch.
func (s *Simulation) NewAccount() *Account {
	account := New(s.Seed, Epoch)
	account.APIVersion, account.Billing = s.APIVersion, s.Billing
	if s.Connect {
		account.Connected = connected
	}
	return account
}

// Run plays waves in the API's account, and delivers each as it ends.
func (s *Simulation) Run(ctx context.Context, api *API, d *Deliverer) error {
	atLeast := uint64(1)
	if s.For > 0 {
		atLeast = 2
	}
	began := time.Now()
	for wave := uint64(0); wave < atLeast || time.Since(began) < s.For; wave++ {
		var plan []Delivery
		api.Do(func(account *Account) { plan = s.Storm.Plan(s.Seed+wave, s.play(account)) })
		if s.Planned != nil {
			s.Planned(plan)
		}
		if err := d.Deliver(ctx, plan); err != nil {
			return err
		}
	}
	return nil
}

func (s *Simulation) play(account *Account) []*Event {
	n := cmp.Or(s.Subscriptions, DefaultSubscriptions)
	if len(s.Scenarios) == 0 {
		return account.Live(Life{Subscriptions: n, Bursts: true})
	}
	return account.Play(s.Scenarios, n)
}
