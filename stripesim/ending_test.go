package stripesim_test

import (
	"testing"
	"time"

	"github.com/pook/stripeonce/stripesim"
)

// A simulation that is to end at a time makes the same events, of other times, and its clock then shows that time.
func TestSimulationEndingAt(t *testing.T) {
	t.Parallel()
	end := time.Date(2026, 11, 27, 14, 0, 0, 0, time.UTC)
	for _, simulation := range []stripesim.Simulation{{Seed: 3, Subscriptions: 20}, {Seed: 4, Subscriptions: 20, Billing: true, Connect: true}} {
		moved := simulation.EndingAt(end)
		usual, later := simulation.NewAccount(), moved.NewAccount()
		events := usual.Live(stripesim.Life{Subscriptions: simulation.Subscriptions, Bursts: true})
		shift := moved.Start.Unix() - stripesim.Epoch.Unix()
		for i, ev := range later.Live(stripesim.Life{Subscriptions: simulation.Subscriptions, Bursts: true}) {
			if want := events[i]; ev.ID != want.ID || ev.Type != want.Type || ev.Created != want.Created+shift {
				t.Fatalf("seed %d: event %d is %s %s of %d, want %s %s of %d", simulation.Seed, i, ev.Type, ev.ID, ev.Created, want.Type, want.ID, want.Created+shift)
			}
		}
		if later.Now != end.Unix() || len(events) < 100 {
			t.Errorf("seed %d: after %d events the clock shows %s, want %s", simulation.Seed, len(events), time.Unix(later.Now, 0).UTC(), end)
		}
	}
}
