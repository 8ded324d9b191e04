package webhooks_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/webhooks"
)

// A waiting duplicate takes the outcome of its own event only. Here it waits for the thin twin of its event. Stripe does not
// have the object, so the twin is ignored under its own id, and the event must still be applied.
func TestDuplicateOfAnotherID(t *testing.T) {
	t.Parallel()
	fetching, resume := make(chan struct{}), make(chan struct{})
	var first sync.Once
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		first.Do(func() {
			close(fetching)
			<-resume
		})
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(`{"error":{"type":"invalid_request_error","message":"No such subscription"}}`))
	}))
	t.Cleanup(api.Close)
	h := webhooks.NewHandlers()
	webhooks.On(h, "customer.subscription.updated", func(ctx context.Context, tx pgx.Tx, _ *webhooks.Event, _ *anyObject) error {
		return exec(addOne)(ctx, tx)
	})
	host := newCounter(t, h, func(c *webhooks.Config) {
		c.APIKey, c.APIBase = "sk_test_1", api.URL
		c.Timeout, c.FetchTimeout = pgtest.WaitLimit, pgtest.WaitLimit
	})
	isReady(t, host)
	thin := send(t, host, []byte(`{"id":"evt_thin","object":"v2.core.event","type":"v1.customer.subscription.updated","created":"2024-10-01T10:00:00Z",
		"related_object":{"id":"sub_1","type":"subscription","url":"/v1/subscriptions/sub_1"},"snapshot_event":"evt_snapshot"}`))
	pgtest.Receive(t, "the object is fetched from Stripe", fetching)
	snapshot := hooktest.Event("evt_snapshot", "customer.subscription.updated", 1_700_000_000, `{"id":"sub_1"}`)
	const deliveries = 3
	waiting := send(t, host, snapshot, snapshot, snapshot)
	awaitInFlight(t, host, 1+deliveries)
	close(resume)
	wantReplies(t, thin(), webhooks.OutcomeIgnored)
	outcomes := map[webhooks.Outcome]int{}
	for _, reply := range waiting() {
		outcomes[reply.Outcome()]++
	}
	if outcomes[webhooks.OutcomeProcessed] != 1 || outcomes[webhooks.OutcomeDuplicate] != deliveries-1 {
		t.Errorf("the outcomes of the snapshot event are %v", outcomes)
	}
	expectCounter(t, host, 1)
	const ledger = `SELECT string_agg(event_id || ' ' || outcome, ', ' ORDER BY event_id) FROM stripe_webhook_events`
	if got, want := pgtest.Scan[string](t, host.Pool, ledger), "evt_snapshot processed, evt_thin ignored"; got != want {
		t.Errorf("the ledger has %s, want %s", got, want)
	}
}

// An ignored event that is redelivered while another event of its object is in progress waits for its turn and is then
// applied: only a final outcome makes it a duplicate.
func TestIgnoredEventWaitsForItsTurn(t *testing.T) {
	t.Parallel()
	g := newBlockingHandler()
	host := newCounter(t, g.handlers(), func(c *webhooks.Config) { c.Timeout, c.LockTimeout = pgtest.WaitLimit, pgtest.WaitLimit })
	ignored := hooktest.Event("evt_ignored", "test.event", 1, `{"id":"obj_1"}`)
	hooktest.On(t, host.Pool, webhooks.NewHandlers(), nil).Expect(t, ignored, 200, webhooks.OutcomeIgnored)
	first := send(t, host, testEvent)
	g.awaitStart(t)
	second := send(t, host, ignored)
	awaitInFlight(t, host, 2)
	g.release(t, nil)
	wantReplies(t, first(), webhooks.OutcomeProcessed)
	replied := make(chan struct{})
	go func() {
		second()
		close(replied)
	}()
	select {
	case <-g.begun:
		g.release(t, nil)
	case <-replied:
	}
	wantReplies(t, second(), webhooks.OutcomeProcessed)
	expectCounter(t, host, 2)
	if got := pgtest.Scan[string](t, host.Pool, `SELECT outcome FROM stripe_webhook_events WHERE event_id = 'evt_ignored'`); got != "processed" {
		t.Errorf("the ledger has %s, want processed", got)
	}
}

// Waiting duplicates no longer count for MaxInFlight once they are answered.
func TestDuplicatesLeave(t *testing.T) {
	t.Parallel()
	const limit = 5
	g := newBlockingHandler()
	host := newCounter(t, g.handlers(), func(c *webhooks.Config) { c.MaxInFlight, c.Timeout = limit, pgtest.WaitLimit })
	isReady(t, host)
	for _, failure := range []error{errOfATest, nil} {
		replies := send(t, host, testEvent, testEvent, testEvent, testEvent, testEvent)
		await(t, "that follow the first", limit-1, func() int { return host.Receiver.Followers("evt_1") })
		g.awaitStart(t)
		g.release(t, failure)
		replies()
		awaitInFlight(t, host, 0)
	}
	expectCounter(t, host, 1)
}

// Also without prepared statements, the loser of a race is a duplicate and leaves nothing behind.
func TestLoserOfTheRaceWithoutPreparedStatements(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"exec", "simple_protocol", "cache_describe"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			const deliveries = 3
			meet := barrier(deliveries)
			h := counting(func(context.Context, pgx.Tx) error { return nil })
			webhooks.On(h, "race.event", func(ctx context.Context, tx pgx.Tx, _ *webhooks.Event, _ *anyObject) error {
				meet()
				return exec(`INSERT INTO tries VALUES (1)`)(ctx, tx)
			})
			pool := pgtest.Connect(t, pgtest.NewURL(t)+"&default_query_exec_mode="+mode)
			pgtest.Exec(t, pool, `CREATE TABLE tries (n int)`)
			// Without an object, so that the handlers run at once.
			got := outcomes(t, replicas(t, pool, h, deliveries), hooktest.Event("evt_1", "race.event", 1, `{}`), deliveries)
			if got[webhooks.OutcomeProcessed] != 1 || got[webhooks.OutcomeDuplicate] != deliveries-1 {
				t.Errorf("the outcomes are %v", got)
			}
			if n := pgtest.Scan[int](t, pool, `SELECT count(*)::int FROM tries`); n != 1 {
				t.Errorf("the effect is there %d times", n)
			}
		})
	}
}
