package stripesim

import (
	"cmp"
	"context"
	"fmt"
	"slices"
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
	// Storm is how the events are delivered. Without more than its Thin, it is Default. See also None.
	Storm Storm
	// APIVersion is that of the events. Empty: see Account.APIVersion.
	APIVersion string
	// Connect gives a quarter of the subscriptions to connected accounts.
	Connect bool
	// Billing also creates the events of customers, products, prices, all of invoices, and those of payments, entitlements and the other
	// objects of billing: see Account.Billing.
	Billing bool
	// Start is the time at which the account's clock begins. Defaults to Epoch. See EndingAt.
	Start time.Time
	// For delivers wave after wave until so much time has passed: at least two, each to its end. 0: one wave.
	For time.Duration
	// Planned is called with each wave's deliveries before they are made. Optional.
	Planned func(plan []Delivery)
}

// connected are the connected accounts of simulations.
var connected = []string{"acct_1SimulatedA", "acct_1SimulatedB"}

// NewAccount returns the account of the simulation, without subscriptions. Its clock begins at Start.
func (s *Simulation) NewAccount() *Account {
	start := s.Start
	if start.IsZero() {
		start = Epoch
	}
	account := New(s.Seed, start)
	account.APIVersion, account.Billing = s.APIVersion, s.Billing
	if s.Connect {
		account.Connected = connected
	}
	return account
}

// EndingAt returns the simulation with the Start from which its first wave ends in the second of a time. It plays the wave in an account
// of its own. The ids, the types and the order of the events do not depend on Start.
func (s *Simulation) EndingAt(end time.Time) Simulation {
	moved := *s
	moved.Start = end
	account := moved.NewAccount()
	moved.play(context.Background(), account)
	moved.Start = end.Add(-time.Duration(account.Now-end.Unix()) * time.Second)
	return moved
}

// check returns an error if an account is not one that NewAccount returned: the deliveries would not be the simulation's.
func (s *Simulation) check(account *Account) error {
	own := s.NewAccount()
	for _, member := range []struct {
		name      string
		got, want any
		same      bool
	}{
		{"Seed", account.Seed, own.Seed, account.Seed == own.Seed},
		{"APIVersion", account.APIVersion, own.APIVersion, account.APIVersion == own.APIVersion},
		{"Billing", account.Billing, own.Billing, account.Billing || !own.Billing}, // a scenario sets it
		{"Connected", account.Connected, own.Connected, slices.Equal(account.Connected, own.Connected)},
	} {
		if !member.same {
			return fmt.Errorf("stripesim: the API's account is not the simulation's, its %s is %v, not %v: create it with Simulation.NewAccount",
				member.name, member.got, member.want)
		}
	}
	if s.Subscriptions < 0 {
		return fmt.Errorf("stripesim: Simulation.Subscriptions is %d: use at least 1, or 0 for the default", s.Subscriptions)
	}
	return nil
}

// Run plays waves in the API's account, which is one of NewAccount, and delivers each as it ends. Meanwhile the API is as of the
// newest event whose delivery has begun.
func (s *Simulation) Run(ctx context.Context, api *API, d *Deliverer) error {
	if err := s.check(api.account); err != nil {
		return err
	}
	storm, atLeast := s.Storm, uint64(1)
	if storm == (Storm{Thin: storm.Thin}) {
		storm = Default
		storm.Thin = s.Storm.Thin
	}
	if s.For > 0 {
		atLeast = 2
	}
	began := time.Now()
	for wave := uint64(0); wave < atLeast || time.Since(began) < s.For; wave++ {
		var plan []Delivery
		api.Do(func(account *Account) {
			plan = storm.Plan(s.Seed+wave, s.play(ctx, account))
			api.hold(plan)
		})
		if ctx.Err() != nil {
			api.release(plan)
			return context.Cause(ctx)
		}
		if s.Planned != nil {
			s.Planned(plan)
		}
		if err := d.deliver(ctx, plan, api); err != nil {
			return err
		}
	}
	return nil
}

func (s *Simulation) play(ctx context.Context, account *Account) []*Event {
	n := cmp.Or(s.Subscriptions, DefaultSubscriptions)
	if len(s.Scenarios) == 0 {
		return account.live(ctx, Life{Subscriptions: n, Bursts: true})
	}
	return account.play(ctx, s.Scenarios, n)
}
