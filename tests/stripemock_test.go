package tests

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/webhooks"
)

// startStripeMock runs Stripe's own mock of its API, which validates every request and keeps no state.
func startStripeMock(t *testing.T) (url string) {
	t.Helper()
	cmd := exec.Command(tool(t, "stripe-mock", "github.com/stripe/stripe-mock"), "-http-addr", "127.0.0.1:0", "-https-addr", "127.0.0.1:0")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	addr, ended := lineAfter(stdout, "Listening for HTTP at address: ")
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		_ = cmd.Wait()
	})
	return "http://" + awaitAddr(t, "stripe-mock", addr, ended)
}

// stripe-mock accepts the refetch requests for an event of the platform, an event of a connected account, and a thin event.
func TestRefetchFromStripeMock(t *testing.T) {
	t.Parallel()
	databaseURL := pgtest.NewURL(t)
	s := serve(t, environ("DATABASE_URL="+databaseURL, "STRIPE_API_KEY=sk_test_123", "STRIPE_API_BASE="+startStripeMock(t), "STRIPE_REFETCH=always"))
	own := subscriptionEvent("evt_own", 1, "active")
	connected := []byte(strings.Replace(strings.ReplaceAll(string(subscriptionEvent("evt_connected", 1, "active")), "sub_1", "sub_2"),
		`{"id"`, `{"account":"acct_1","id"`, 1))
	thin := []byte(`{"id":"evt_thin","object":"v2.core.event","type":"v1.customer.subscription.updated","created":"2026-10-01T10:00:00Z",
		"livemode":false,"related_object":{"id":"sub_3","type":"subscription","url":"/v1/subscriptions/sub_3"},"snapshot_event":"evt_snapshot"}`)
	for _, body := range [][]byte{own, connected, thin} {
		s.expect(t, body, 200, webhooks.OutcomeProcessed)
	}
	pool := pgtest.Connect(t, databaseURL)
	// The mock responds with a made-up subscription that has the requested id.
	got := pgtest.Scan[string](t, pool, `SELECT string_agg(id || ' ' || (as_of IS NOT NULL) || ' ' || (object ->> 'object'), ', ' ORDER BY id) FROM subscriptions`)
	if want := "sub_1 true subscription, sub_2 true subscription, sub_3 true subscription"; got != want {
		t.Errorf("stored is %s, want %s", got, want)
	}
	if _, body := s.get(t, "/metrics"); !strings.Contains(body, `stripeonce_order_settled_total{by="refetch"} 3`) {
		t.Error("/metrics does not count three refetches")
	}
}

// stripe-mock accepts the requests of the operator's commands. It does not have /v2.
func TestCommandsWithStripeMock(t *testing.T) {
	t.Parallel()
	env := environ("DATABASE_URL="+pgtest.NewURL(t), "STRIPE_API_KEY=sk_test_123", "STRIPE_API_BASE="+startStripeMock(t))
	for command, text := range map[string]string{
		"reconcile --since 30d --dry-run":                                     "listed",
		"reconcile --since 30d --here":                                        "listed",
		"reconcile --since 30d --dry-run --type invoice.paid,charge.refunded": "listed",
		"reconcile --since 1h --dry-run --account acct_1 --type charge.*":     "listed",
		"replay evt_123 --here":                                               "evt_",
		"verify --after sub_123":                                              "checked",
		"verify --fix --here":                                                 "checked",
		"endpoint":                                                            "we_",
		"endpoint --create https://example.org/x":                             "created",
		"endpoint --create https://example.org/y --connect --api-version 2025-03-31.basil": "created",
		"backfill --type subscription,all --since 10d --here":                              "checked",
		"verify --type subscription,all --customer cus_123":                                "checked",
		"verify --fix --gone --force --rate 50 --here":                                     "checked",
		"endpoint --update --here":                                                         "updated",
	} {
		r := run(t, env, "", strings.Fields(command)...)
		refused := strings.Contains(r.stderr, "Stripe answers 4") && !strings.Contains(r.stderr, "could not list event destinations")
		if !strings.Contains(r.stdout, text) || refused {
			t.Errorf("%s: %s", command, r)
		}
	}
}
