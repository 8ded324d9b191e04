package webhooks_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// An event that was ignored and comes again in a batch is applied, and its row is updated. The others of the batch still
// share their transaction. By itself it is applied, too.
func TestIgnoredEventInBatch(t *testing.T) {
	t.Parallel()
	c := newBatchHost(t)
	before := hooktest.On(t, c.Pool, webhooks.NewHandlers(), nil)
	bodies := several(5)
	for _, body := range [][]byte{bodies[2], about("evt_alone", "sub_alone", "active")} {
		before.Expect(t, body, http.StatusOK, webhooks.OutcomeIgnored)
	}
	wantReplies(t, c.deliverBatch(t, bodies...)(), webhooks.OutcomeProcessed)
	if n := pgtest.Scan[int](t, c.Pool, `SELECT count(DISTINCT xmin::text)::int FROM stripe_webhook_events WHERE event_id LIKE 'evt_0_' AND event_id <> 'evt_02'`); n != 1 {
		t.Errorf("the 4 others took %d transactions, want 1", n)
	}
	c.Expect(t, about("evt_alone", "sub_alone", "active"), http.StatusOK, webhooks.OutcomeProcessed)
	const state = `SELECT string_agg(concat_ws(' ', e.event_id, e.outcome, s.status), ', ' ORDER BY e.event_id) FROM stripe_webhook_events AS e
		LEFT JOIN subscriptions AS s ON s.id = e.object_id WHERE event_id IN ('evt_02', 'evt_alone')`
	if got, want := pgtest.Scan[string](t, c.Pool, state), "evt_02 processed active, evt_alone processed active"; got != want {
		t.Errorf("the ledger and the mirror have %s, want %s", got, want)
	}
}

// A batch whose way to PostgreSQL hangs ends when the time of one of its events does, whoever leads it. That event is
// answered, and the others, which have time left, are applied.
func TestBatchEndsWithItsShortestTime(t *testing.T) {
	t.Parallel()
	proxy, url := pgtest.NewProxy(t, pgtest.NewURL(t))
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	c := newBatchHostOn(t, config)
	h := webhooks.NewHandlers()
	subscriptions.Register(h, nil)
	c.Host = hooktest.On(t, c.Pool, h, func(c *webhooks.Config) {
		c.ConcurrentBatches = 1
		c.Timeout, c.AcquireTimeout = 2*pgtest.WaitLimit, pgtest.WaitLimit // longer than the test waits for an answer
	})
	c.Receiver.WaitForBatch(pgtest.WaitLimit)
	isReady(t, c.Host)
	resume := c.hold(t, func() {
		hang := func() { proxy.BlackHole(true) }
		c.first.Store(&hang) // when the batch has its connection
	})
	apply := func(ctx context.Context, body []byte) <-chan error {
		done := make(chan error, 1)
		go func() { done <- c.apply(ctx, body) }()
		return done
	}
	leader := apply(t.Context(), about("evt_leader", "sub_leader", "active"))
	c.awaitWaiting(t, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	hurried := apply(ctx, about("evt_hurried", "sub_hurried", "active"))
	c.awaitWaiting(t, 2)
	resume()
	if err := pgtest.Receive(t, "the event whose time ends is answered", hurried); !errors.Is(err, webhooks.ErrUnavailable) {
		t.Errorf("the event whose time ends is answered %v", err)
	}
	proxy.BlackHole(false)
	if err := pgtest.Receive(t, "the event that has time left is answered", leader); err != nil {
		t.Errorf("the event that has time left is answered %v", err)
	}
	const ids = `SELECT string_agg(event_id, ' ') FROM stripe_webhook_events WHERE event_id IN ('evt_leader', 'evt_hurried')`
	if got := pgtest.Scan[string](t, c.Pool, ids); got != "evt_leader" {
		t.Errorf("the ledger has %s, want evt_leader", got)
	}
	c.Expect(t, about("evt_hurried", "sub_hurried", "active"), http.StatusOK, webhooks.OutcomeProcessed)
}
