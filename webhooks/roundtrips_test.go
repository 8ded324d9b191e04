package webhooks_test

import (
	"testing"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/webhooks"
)

// A handler costs one round trip for its statement, between the two of the transaction: the lock of the object, and what
// undoes a handler's settings, travel with what there is.
func TestRoundTripsWithAHandler(t *testing.T) {
	t.Parallel()
	for mode, want := range map[string][2]int64{"cache_statement": {3, 1}, "exec": {3, 1}} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			roundTrips := &pglocal.RoundTrips{}
			host := hooktest.On(t, pgtest.ConnectBy(t, pgtest.NewURL(t)+"&pool_max_conns=1&default_query_exec_mode="+mode, roundTrips.Dial), counting(succeed), nil)
			pgtest.Exec(t, host.Pool, `CREATE TABLE counter (n int)`)
			count := func(id string, outcome webhooks.Outcome) int64 {
				before := roundTrips.Count()
				host.Expect(t, hooktest.Event(id, "test.event", 1, `{"id":"obj_1"}`), 200, outcome)
				pgtest.AwaitEqual(t, "the number of deliveries in flight", 0, func() int { return host.Receiver.Stats().InFlight })
				return roundTrips.Count() - before
			}
			for _, id := range []string{"evt_1", "evt_2"} { // which prepare the statements
				count(id, webhooks.OutcomeProcessed)
			}
			got := [2]int64{count("evt_3", webhooks.OutcomeProcessed), count("evt_3", webhooks.OutcomeDuplicate)}
			if got != want {
				t.Errorf("a new event and a duplicate take %d round trips, want %d", got, want)
			}
		})
	}
}
