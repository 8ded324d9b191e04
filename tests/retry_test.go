package tests

import (
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/stripesim"
)

// serve --retry-failed applies an event that failed, once its cause is fixed, without a person; --keep-payloads stores its payload.
func TestServeRetries(t *testing.T) {
	t.Parallel()
	databaseURL := pgtest.NewURL(t)
	pool := pgtest.Connect(t, databaseURL)
	env := environ("DATABASE_URL=" + databaseURL)
	account := stripesim.New(1, stripesim.Epoch)
	account.Subscribe(stripesim.VersionBasil)
	pgtest.Exec(t, pool, `ALTER TABLE subscriptions ADD CONSTRAINT wrong CHECK (status = '') NOT VALID`)
	s := serve(t, env)
	if reply, err := s.sender.Send(t.Context(), account.Events[0].Body); err != nil || reply.Status != 500 {
		t.Fatalf("the reply is %s, %v", reply, err)
	}
	s.stop(t, syscall.SIGTERM)
	pgtest.Exec(t, pool, `ALTER TABLE subscriptions DROP CONSTRAINT wrong`)
	pgtest.Exec(t, pool, `UPDATE stripe_webhook_failures SET next_retry_at = now()`)
	s = serve(t, env, "--retry-failed", "--keep-payloads", "90d")
	pgtest.Await(t, "the retry is applied", func() bool {
		_, body := s.get(t, "/metrics")
		return strings.Contains(body, `stripeonce_retried_events_total{result="applied"} 1`)
	})
	if !strings.Contains(s.text(), `msg="retrying failed events" receiver=stripeonce interval=1m0s rate=5 max_delay=24h0m0s`) {
		t.Errorf("the log does not say that it retries:\n%s", s.text())
	}
	got := pgtest.Scan[string](t, pool, `SELECT concat_ws(' ', e.outcome, e.receiver, f.receiver, f.retries, p.payload ->> 'id' = e.event_id)
		FROM stripe_webhook_events AS e JOIN stripe_webhook_failures AS f USING (event_id) JOIN stripe_webhook_payloads AS p USING (event_id)`)
	if got != "processed stripeonce stripeonce 1 t" {
		t.Errorf("the event is %s", got)
	}
	r := run(t, append(env, "STRIPE_WEBHOOK_SECRET="+hooktest.Secret), "", "serve", "--keep-payloads", "90d", "--drop-payloads")
	if r.code != 2 || !strings.Contains(r.stderr, "mutually exclusive") {
		t.Errorf("with both settings of payloads: %s", r)
	}
}

// serve does not reconcile the events of an application, whose handlers it does not contain.
func TestServeRefusesToReconcileForOthers(t *testing.T) {
	t.Parallel()
	databaseURL := pgtest.NewURL(t)
	pool := pgtest.Connect(t, databaseURL)
	pgtest.Exec(t, pool, `INSERT INTO stripe_webhook_events (event_id, event_type, outcome, livemode, receiver) VALUES ('evt_1', 'invoice.paid', 'processed', FALSE, 'billing')`)
	api := httptest.NewServer(stripesim.NewAPI(stripesim.New(1, stripesim.Epoch)))
	t.Cleanup(api.Close)
	env := environ("DATABASE_URL="+databaseURL, "STRIPE_API_KEY=sk_test_1", "STRIPE_API_BASE="+api.URL, "STRIPE_WEBHOOK_SECRET="+hooktest.Secret)
	r := run(t, env, "", "serve", "--addr", "127.0.0.1:0", "--reconcile-every", "1h")
	if strings.Contains(r.stderr, "msg=listening") {
		t.Errorf("it listens before it refuses: %s", r)
	}
	for _, text := range []string{`the receiver "billing"`, "operations.ReconcileEvery", "reconcile --to URL"} {
		if r.code != 2 || !strings.Contains(r.stderr, text) {
			t.Errorf("serve does not say %q: %s", text, r)
		}
	}
}
