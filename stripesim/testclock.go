package stripesim

import (
	"net/http"
	"slices"
)

// TestClock is a test clock (https://docs.stripe.com/billing/testing/test-clocks): its subscriptions are in lists only if a
// request asks for the clock, and vanish with it, without an event.
type TestClock struct {
	ID      string
	Created int64
}

// AddTestClock adds a test clock.
func (a *Account) AddTestClock() *TestClock {
	clock := &TestClock{a.id("clock_1", 23), a.Now}
	a.clocks = append(a.clocks, clock)
	return clock
}

// Use puts a subscription on a test clock, as if it had been created there.
func (s *Subscription) Use(clock *TestClock) { s.state.TestClock = clock.ID }

// EndTestClock deletes a test clock and everything on it.
func (a *Account) EndTestClock(clock *TestClock) {
	a.clocks = slices.DeleteFunc(a.clocks, func(c *TestClock) bool { return c == clock })
	for _, s := range slices.Clone(a.Subscriptions) {
		if s.state.TestClock == clock.ID {
			a.Forget(s)
		}
	}
}

// Forget removes a subscription without an event, as the deletion of test data does. Its customer and its invoices stay.
func (a *Account) Forget(s *Subscription) {
	same := func(other *Subscription) bool { return other == s }
	a.Subscriptions = slices.DeleteFunc(a.Subscriptions, same)
	c := s.customer
	c.subscriptions = slices.DeleteFunc(c.subscriptions, same)
	c.summary.set(c.entitled())
}

func (api *API) routeTestClocks() {
	api.mux.HandleFunc("GET /v1/test_helpers/test_clocks", func(w http.ResponseWriter, req *http.Request) {
		newest := slices.Clone(api.of(req).clocks)
		slices.Reverse(newest)
		page(w, req, "/v1/test_helpers/test_clocks", "test_clock", newest, func(c *TestClock) entry {
			return entry{c.ID, c.Created, func() object {
				return object{"id": c.ID, "object": "test_helpers.test_clock", "created": c.Created, "deletes_after": c.Created + 30*24*3600,
					"frozen_time": c.Created, "livemode": false, "name": nil, "status": "ready"}
			}}
		}, func(*TestClock) bool { return true })
	})
}
