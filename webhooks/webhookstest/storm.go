package webhookstest

import (
	"cmp"
	"context"
	"math/rand/v2"
	"time"

	"github.com/pook/stripeonce/stripesim"
)

// DefaultConcurrency is the default of Stripe.Concurrency.
const DefaultConcurrency = 8

// defaultPauses outlast a restart of PostgreSQL.
func defaultPauses() (pauses []time.Duration) {
	for n := range 10 {
		pauses = append(pauses, 5*time.Millisecond<<n)
	}
	return pauses
}

// Storm delivers events as Stripe does on its worst day: each two or three times, out of order, with duplicates at the same
// instant, and with retries until each delivery is answered with a 2xx. Afterwards check that each event took effect once.
//
// Deliveries that are never answered with a 2xx fail the test: one error for each event type and response, which has the
// handler's error (Reply.Reason). After ten of them the rest is not delivered. The order differs from run to run, unless there is a
// Seed.
func (s *Stripe) Storm(events ...Event) {
	s.tb.Helper()
	storm := stripesim.Storm{Disorder: 1, Window: len(events), Duplicates: 1, MaxDuplicates: 3, Concurrent: 0.5}
	list := make([]*stripesim.Event, len(events))
	for i, ev := range events {
		ev = s.of(ev)
		if ev.ID == "" {
			ev.ID = NewID("evt")
		}
		if ev.Created.IsZero() {
			ev.Created = time.Now()
		}
		list[i] = &stripesim.Event{ID: ev.ID, Type: ev.Type, Created: ev.Created.Unix(), Body: ev.Body()}
	}
	seed := s.Seed
	if seed == 0 {
		seed = rand.Uint64()
	}
	s.insist(seed, func(ctx context.Context, d *stripesim.Deliverer) error { return d.Deliver(ctx, storm.Plan(seed, list)) })
}

// Simulate plays life cycles in the API's account, which is the simulation's NewAccount, and delivers their events. Afterwards
// compare your tables with the Truth of each of the account's Subscriptions. Deliveries fail the test as those of Storm do.
//
// The life cycles and the plan of deliveries are those of the command stripeonce simulate with the same seed and settings, but
// Concurrency and Pauses are those of the Stripe: fewer deliveries in flight, and faster retries.
func (s *Stripe) Simulate(api *API, simulation stripesim.Simulation) {
	s.tb.Helper()
	s.insist(simulation.Seed, func(ctx context.Context, d *stripesim.Deliverer) error { return simulation.Run(ctx, api.API, d) })
}

// insist delivers, and fails the test if a delivery is never accepted.
func (s *Stripe) insist(seed uint64, deliver func(context.Context, *stripesim.Deliverer) error) {
	s.tb.Helper()
	ctx, stop := context.WithCancel(s.tb.Context())
	defer stop()
	failed := failures{stop: stop}
	d := &stripesim.Deliverer{
		URL: s.server + s.path, Secret: s.secret, Concurrency: cmp.Or(s.Concurrency, DefaultConcurrency), Pauses: s.Pauses,
		Observe: failed.observe,
	}
	if d.Pauses == nil {
		d.Pauses = defaultPauses()
	}
	err := deliver(ctx, d)
	for _, f := range failed.kinds {
		s.tb.Errorf("%s: %d of %d deliveries had no 2xx in %d attempts (seed %d); the last for %s: %s",
			f.event.Type, f.deliveries, d.Report().Deliveries, len(d.Pauses)+1, seed, f.event.ID, f.reply)
	}
	switch {
	case failed.deliveries >= maxFailures:
		s.tb.Errorf("stopped after %d deliveries without a 2xx; the others are not delivered", maxFailures)
	case err != nil:
		s.tb.Errorf("not everything was delivered (seed %d): %v", seed, err)
	}
}
