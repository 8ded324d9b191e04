package webhookstest_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/webhooks/webhookstest"
)

// twenty are the life cycles of twenty subscriptions.
var twenty = stripesim.Simulation{Seed: 3, Subscriptions: 20, Storm: stripesim.Mild}

// A receiver that is down for a second gets every delivery afterwards.
func TestOutage(t *testing.T) {
	t.Parallel()
	begin := sync.OnceValue(time.Now)
	var refused atomic.Int64
	sender := webhookstest.New(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if time.Since(begin()) < time.Second {
			refused.Add(1)
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}), "/", webhookstest.Secret)
	sender.Simulate(webhookstest.NewAPI(t, twenty.NewAccount()), twenty)
	sender.Storm(webhookstest.Event{Type: "invoice.paid"})
	if refused.Load() == 0 {
		t.Error("there was no outage")
	}
}

// Concurrency and Pauses are those of the deliveries.
func TestDelivererSettings(t *testing.T) {
	t.Parallel()
	var inFlight, most, requests atomic.Int64
	f := &failing{TB: t}
	sender := webhookstest.New(f, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		most.Store(max(most.Load(), inFlight.Add(1)))
		defer inFlight.Add(-1)
		requests.Add(1)
		w.WriteHeader(http.StatusInternalServerError)
	}), "/", webhookstest.Secret)
	sender.Concurrency, sender.Pauses = 1, []time.Duration{time.Millisecond, time.Millisecond}
	canceled, err := stripesim.NamedScenario("cancel-at-period-end")
	if err != nil {
		t.Fatal(err)
	}
	inTurn := stripesim.Simulation{Subscriptions: 1, Storm: stripesim.Storm{Name: "in turn", Disorder: 0.1, Window: 1}, Scenarios: []stripesim.Scenario{canceled}}
	f.run(func(testing.TB) { sender.Simulate(webhookstest.NewAPI(t, inTurn.NewAccount()), inTurn) })
	if most.Load() != 1 || requests.Load()%3 != 0 || len(f.errors) == 0 || !strings.Contains(f.errors[0], "3 attempts") {
		t.Errorf("%d requests, at most %d at once, fail with %q", requests.Load(), most.Load(), f.errors)
	}
}

// A handler that always fails gives one line for each type and error, whatever ids the errors have, and stops the storm soon.
func TestGroupedFailures(t *testing.T) {
	t.Parallel()
	var requests atomic.Int64
	f := &failing{TB: t}
	sender := webhookstest.New(f, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, fmt.Sprintf("no row for cus_%d and %s, table_of_rows 7", requests.Add(1), webhookstest.NewID("sub")), http.StatusInternalServerError)
	}), "/", webhookstest.Secret)
	sender.Pauses = []time.Duration{time.Millisecond}
	f.run(func(testing.TB) { sender.Simulate(webhookstest.NewAPI(t, twenty.NewAccount()), twenty) })
	types := map[string]bool{}
	for _, text := range f.errors[:max(0, len(f.errors)-1)] {
		eventType, _, _ := strings.Cut(text, ":")
		if types[eventType] || !strings.Contains(text, "in 2 attempts (seed 3); the last for evt_") || !strings.Contains(text, ": 500 no row for cus_") {
			t.Errorf("an error is %q", text)
		}
		types[eventType] = true
	}
	if last := f.errors[len(f.errors)-1]; len(types) == 0 || !strings.Contains(last, "stopped after 10 deliveries") || requests.Load() > 100 {
		t.Errorf("after %d requests, the test fails with %q", requests.Load(), f.errors)
	}
}
