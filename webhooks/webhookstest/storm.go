package webhookstest

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/pook/stripeonce/internal/reason"
	"github.com/pook/stripeonce/stripesim"
)

const (
	// stormConcurrency is the number of a storm's deliveries in flight.
	stormConcurrency = 8
	// A delivery that is not answered with a 2xx is attempted again so often, after such a pause. Stripe retries for three days.
	retries    = 19
	retryPause = 5 * time.Millisecond
)

// Storm delivers events as Stripe does on its worst day: each two or three times, out of order, with duplicates at the same
// instant, and with retries until each delivery is answered with a 2xx. If a delivery is never answered with a 2xx, the
// test fails. Afterwards check that each event took effect once. The order differs from run to run, unless there is a Seed.
func (s *Stripe) Storm(events ...Event) {
	s.tb.Helper()
	storm := stripesim.Storm{Disorder: 1, Window: len(events), Duplicates: 1, MaxDuplicates: 3, Concurrent: 0.5}
	list := make([]*stripesim.Event, len(events))
	for i, ev := range events {
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
	s.insist(seed, func(d *stripesim.Deliverer) error { return d.Deliver(s.tb.Context(), storm.Plan(seed, list)) })
}

// Simulate plays life cycles in the API's account and delivers their events, as the command stripeonce simulate does. If a
// delivery is never answered with a 2xx, the test fails. Afterwards compare your tables with the account's Subscriptions.
func (s *Stripe) Simulate(api *API, simulation stripesim.Simulation) {
	s.tb.Helper()
	s.insist(simulation.Seed, func(d *stripesim.Deliverer) error { return simulation.Run(s.tb.Context(), api.API, d) })
}

// insist delivers, and fails the test if a delivery is never accepted.
func (s *Stripe) insist(seed uint64, deliver func(*stripesim.Deliverer) error) {
	s.tb.Helper()
	refused := make(chan stripesim.Attempt)
	failures := make(chan map[string]int) // most deliveries fail for the same reason
	go func() {
		counts := map[string]int{}
		for a := range refused {
			counts[replyOf(a).String()]++
		}
		failures <- counts
	}()
	d := &stripesim.Deliverer{
		URL: s.url, Secret: s.secret, Concurrency: stormConcurrency, Pauses: slices.Repeat([]time.Duration{retryPause}, retries),
		Observe: func(a stripesim.Attempt) {
			if a.Last && !a.OK() {
				refused <- a
			}
		},
	}
	if err := deliver(d); err != nil {
		s.tb.Errorf("the storm was not delivered: %v", err)
	}
	close(refused)
	for failure, times := range <-failures {
		s.tb.Errorf("%d of %d deliveries (seed %d): after %d attempts the response is still %s", times, d.Report().Deliveries, seed, retries+1, failure)
	}
}

func replyOf(a stripesim.Attempt) Reply {
	if a.Err != nil {
		return Reply{Body: a.Err.Error()}
	}
	return Reply{Status: a.Status, Body: string(a.Body), Reason: reason.In(a.Header)}
}
