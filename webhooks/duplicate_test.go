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

// A duplicate that waits takes the outcome of its own event only. Here it waits for the thin twin of its event, whose
// object Stripe does not have: the twin is ignored, under its own id, and the event is still to be applied.
func TestDuplicateOfAnotherID(t *testing.T) {
	t.Parallel()
	asked, goOn := make(chan struct{}), make(chan struct{})
	var first sync.Once
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		first.Do(func() {
			close(asked)
			<-goOn
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
		c.Timeout, c.AskTimeout = pgtest.Patience, pgtest.Patience
	})
	isReady(t, host)
	thin := send(t, host, []byte(`{"id":"evt_thin","object":"v2.core.event","type":"v1.customer.subscription.updated","created":"2024-10-01T10:00:00Z",
		"related_object":{"id":"sub_1","type":"subscription","url":"/v1/subscriptions/sub_1"},"snapshot_event":"evt_snapshot"}`))
	pgtest.Receive(t, "Stripe is asked for the object", asked)
	snapshot := hooktest.Event("evt_snapshot", "customer.subscription.updated", 1_700_000_000, `{"id":"sub_1"}`)
	const copies = 3
	waiting := send(t, host, snapshot, snapshot, snapshot)
	awaitInFlight(t, host, 1+copies)
	close(goOn)
	wantReplies(t, thin(), webhooks.OutcomeIgnored)
	outcomes := map[webhooks.Outcome]int{}
	for _, reply := range waiting() {
		outcomes[reply.Outcome()]++
	}
	if outcomes[webhooks.OutcomeProcessed] != 1 || outcomes[webhooks.OutcomeDuplicate] != copies-1 {
		t.Errorf("the outcomes of the snapshot event are %v", outcomes)
	}
	expectCounter(t, host, 1)
	const ledger = `SELECT string_agg(event_id || ' ' || outcome, ', ' ORDER BY event_id) FROM stripe_webhook_events`
	if got, want := pgtest.Scan[string](t, host.Pool, ledger), "evt_snapshot processed, evt_thin ignored"; got != want {
		t.Errorf("the ledger has %s, want %s", got, want)
	}
}
