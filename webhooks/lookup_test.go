package webhooks_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"

	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/webhooks"
)

// Duplicates that arrive at the same time are looked up with one query. A new event beside them is applied, and one that is in
// the ledger as ignored, too.
func TestSharedLookup(t *testing.T) {
	t.Parallel()
	c := newMirrorHost(t)
	var bodies [][]byte
	for i := range 6 {
		bodies = append(bodies, ofInvoice(fmt.Sprintf("evt_%02d", i), fmt.Sprintf("in_%d", i), "open", 0))
		c.Expect(t, bodies[i], http.StatusOK, webhooks.OutcomeProcessed)
	}
	pgtest.AwaitEqual(t, "the number of connections in use", 0, func() int32 { return c.Pool.Stat().AcquiredConns() })
	pgtest.Exec(t, c.Pool, `DELETE FROM stripe_webhook_events WHERE event_id = 'evt_04'`) // seen, and then forgotten: by an erasure or a restore
	pgtest.Exec(t, c.Pool, `UPDATE stripe_webhook_events SET outcome = 'ignored' WHERE event_id = 'evt_05'`)
	held, err := c.Pool.Acquire(t.Context()) // the only one
	if err != nil {
		t.Fatal(err)
	}
	before := c.roundTrips.Count()
	replies := send(t, c.Host, bodies...)
	pgtest.AwaitEqual(t, "deliveries that wait for a lookup", 5, c.Receiver.WaitingForLookup)
	held.Release()
	list := replies()
	for i, want := range []webhooks.Outcome{"duplicate", "duplicate", "duplicate", "duplicate", "stale", "stale"} {
		if list[i].Outcome() != want {
			t.Errorf("event %d is answered %s, want %s", i, list[i], want)
		}
	}
	if n := c.roundTrips.Count() - before; n > 2+1+3+3 { // two lookups, one of them prepared, and two transactions, one of which waits for its UPDATE
		t.Errorf("6 deliveries took %d round trips", n)
	}
}

// A lookup whose delivery has given up does not keep the others from being looked up.
func TestSharedLookupGivenUp(t *testing.T) {
	t.Parallel()
	c := newMirrorHost(t)
	var bodies [][]byte
	for i := range 3 {
		bodies = append(bodies, ofInvoice(fmt.Sprintf("evt_%02d", i), fmt.Sprintf("in_%d", i), "open", 0))
		c.Expect(t, bodies[i], http.StatusOK, webhooks.OutcomeProcessed)
	}
	pgtest.AwaitEqual(t, "the number of connections in use", 0, func() int32 { return c.Pool.Stat().AcquiredConns() })
	held, err := c.Pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	first := send(t, c.Host, bodies[0])
	pgtest.AwaitEqual(t, "deliveries in flight", 1, func() int { return c.Receiver.Stats().InFlight })
	ctx, giveUp := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() { gone <- c.apply(ctx, bodies[1]) }()
	pgtest.AwaitEqual(t, "deliveries that wait for a lookup", 1, c.Receiver.WaitingForLookup)
	last := send(t, c.Host, bodies[2])
	pgtest.AwaitEqual(t, "deliveries that wait for a lookup", 2, c.Receiver.WaitingForLookup)
	giveUp()
	held.Release()
	wantReplies(t, append(first(), last()...), webhooks.OutcomeDuplicate)
	pgtest.Receive(t, "the delivery that gave up returns", gone)
}
