package simulation_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pook/stripeonce/internal/simulation"
	"github.com/pook/stripeonce/stripesim"
)

func newRun(t *testing.T, handler http.HandlerFunc, storm stripesim.Storm, out *strings.Builder) *simulation.Run {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	s := stripesim.Simulation{Seed: 1, Subscriptions: 3, Storm: storm}
	return &simulation.Run{
		Simulation: s, API: stripesim.NewAPI(s.NewAccount()), Out: out,
		Deliverer: &stripesim.Deliverer{URL: server.URL, Secret: "whsec_test", Pauses: []time.Duration{}},
	}
}

// The plan says what is going to happen, and the report what was answered, with the totals.
func TestReport(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	var mu sync.Mutex
	refused := false
	r := newRun(t, func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if !refused {
			refused = true
			w.WriteHeader(http.StatusTeapot)
		}
	}, stripesim.None, &out)
	r.Simulation.For = time.Nanosecond
	if err := r.Deliver(t.Context()); err != nil {
		t.Fatal(err)
	}
	plan := out.String()
	r.PrintReport()
	for _, want := range []string{
		"A simulated Stripe (seed 1, storm none)\n  3 subscriptions, ", " events in the first wave\n", "  to be delivered ", ": 0% duplicates, 0% out of order",
	} {
		if strings.Count(plan, want) != 1 {
			t.Errorf("%q is not once in the plan\n%s", want, plan)
		}
	}
	for _, want := range []string{" deliveries, ", "418: once; retried 0 times", "given up once, after the last of 1 attempts", "never accepted: evt_1"} {
		if !strings.Contains(out.String()[len(plan):], want) {
			t.Errorf("%q is not in the report\n%s", want, out.String()[len(plan):])
		}
	}
}

// An interruption is reported as such, without response times where there was no response.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	release := make(chan struct{})
	var out strings.Builder
	r := newRun(t, func(http.ResponseWriter, *http.Request) {
		cancel()
		<-release
	}, stripesim.Default, &out)
	defer close(release) // before the server closes
	if err := r.Deliver(ctx); !errors.Is(err, simulation.ErrInterrupted) || simulation.Hint(err) != "" {
		t.Errorf("it ends with %v", err)
	}
	r.PrintReport()
	if text := out.String(); !strings.Contains(text, "Result: interrupted after 0 of ") || strings.Contains(text, "a response took") || strings.Contains(text, "answered") {
		t.Errorf("the report is\n%s", text)
	}
}

// Each way to fail from the beginning has its hint.
func TestHint(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]string{301: "redirect", 400: "raw body", 401: "STRIPE_WEBHOOK_SECRET", 404: "path", 405: "route"} {
		var out strings.Builder
		r := newRun(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }, stripesim.Wild, &out)
		r.Deliverer.StopAfter = 3
		if hint := simulation.Hint(r.Deliver(t.Context())); !strings.Contains(hint, want) {
			t.Errorf("the hint for %d is %q", status, hint)
		}
	}
}
