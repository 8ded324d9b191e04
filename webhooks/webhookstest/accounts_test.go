package webhookstest_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/judge"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
	"github.com/pook/stripeonce/webhooks/webhookstest"
)

// A parked event is a duplicate when it is delivered, and takes effect when it is replayed.
func TestReplay(t *testing.T) {
	t.Parallel()
	known := false
	sender := webhookstest.New(t, newReceiver(t, func(context.Context, pgx.Tx) error {
		if !known {
			return webhooks.Park(errors.New("nobody knows the customer"))
		}
		return nil
	}), "/", webhookstest.Secret)
	paid := webhookstest.Event{Type: "invoice.paid", Object: webhookstest.Invoice{ID: "in_1"}}
	paid.ID = sender.Expect(paid, webhooks.OutcomeParked)
	sender.Expect(paid, webhooks.OutcomeDuplicate)
	for _, want := range []webhooks.Outcome{webhooks.OutcomeParked, webhooks.OutcomeProcessed, webhooks.OutcomeDuplicate} {
		if reply := sender.Replay(paid.Body()); reply.Outcome != want || (reply.Reason != "") != (want == webhooks.OutcomeParked) {
			t.Errorf("the replay is answered %s, want %s", reply, want)
		}
		known = true
	}
}

// Events of a connected account name it, in a storm, too. An event that names an account keeps it.
func TestConnected(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var seen []string
	h := webhooks.NewHandlers()
	webhooks.On(h, "x.y", func(_ context.Context, _ pgx.Tx, ev *webhooks.Event, _ *map[string]any) error {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, ev.Account)
		return nil
	})
	platform := newStripe(t, pgtest.NewPool(t), h, nil)
	connected := platform.Connected("acct_1")
	platform.Expect(webhookstest.Event{Type: "x.y"}, webhooks.OutcomeProcessed)
	connected.Expect(webhookstest.Event{Type: "x.y"}, webhooks.OutcomeProcessed)
	connected.Expect(webhookstest.Event{Type: "x.y", Account: "acct_2"}, webhooks.OutcomeProcessed)
	connected.Storm(webhookstest.Event{Type: "x.y"})
	if got := fmt.Sprint(seen); got != "[ acct_1 acct_2 acct_1]" {
		t.Errorf("the accounts are %s", got)
	}
}

// A tenant's events go to its own route with its own secret, also those of a simulation, which end as its account's.
func TestTenants(t *testing.T) {
	t.Parallel()
	const secretOfA, secretOfB = "whsec_of_tenant_a", "whsec_of_tenant_b"
	simulation := stripesim.Simulation{Seed: 4, Subscriptions: 5, Storm: stripesim.Default}
	account := simulation.NewAccount()
	account.ID = "acct_a"
	api := webhookstest.NewAPI(t, account)
	accounts := map[string]*webhooks.Account{
		"/a": {ID: "acct_a", Secrets: []string{secretOfA}, APIKey: webhookstest.APIKey}, "/b": {ID: "acct_b", Secrets: []string{secretOfB}},
	}
	pool, h := pgtest.NewPool(t), webhooks.NewHandlers()
	subscriptions.Register(h, nil)
	r, err := webhooks.New(pool, h, &webhooks.Config{APIBase: api.URL, Logger: hooktest.NoLog(),
		AccountFor: func(req *http.Request) (*webhooks.Account, error) { return accounts[req.URL.Path], nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	a := webhookstest.New(t, r, "/a", secretOfA)
	b := a.At("/b", secretOfB)
	a.Simulate(api, simulation)
	findings, err := judge.Subscriptions(t.Context(), pool, account)
	if err != nil || len(findings) > 0 || len(account.Subscriptions) != 5 {
		t.Errorf("%d subscriptions end with %v, %v", len(account.Subscriptions), findings, err)
	}
	b.Expect(webhookstest.Event{Type: "customer.subscription.created", Object: webhookstest.Subscription{ID: "sub_b"}}, webhooks.OutcomeProcessed)
	if reply := b.Deliver(webhookstest.Event{Type: "customer.subscription.deleted", Object: webhookstest.Subscription{ID: account.Subscriptions[0].ID()}}.Body()); reply.OK() {
		t.Errorf("a tenant's event about another's subscription is answered %s", reply)
	}
	if reply := b.At("/a", secretOfB).Deliver([]byte("{}")); reply.Status != http.StatusBadRequest || !strings.Contains(reply.Body, "signature") {
		t.Errorf("a wrong secret is answered %s", reply)
	}
	owners := pgtest.Scan[string](t, pool, `SELECT string_agg(DISTINCT account_id, ' ' ORDER BY account_id) FROM subscriptions`)
	if owners != "acct_a acct_b" {
		t.Errorf("the accounts are %s", owners)
	}
}
