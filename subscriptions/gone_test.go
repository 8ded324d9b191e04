package subscriptions_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// A thin event of a deletion whose object Stripe does not have any more cancels the row. Without a row it leaves one, so that a
// late event does not make the subscription active.
func TestDeletedAndForgotten(t *testing.T) {
	t.Parallel()
	for _, first := range []bool{true, false} {
		t.Run(fmt.Sprint("there is a row: ", first), func(t *testing.T) {
			t.Parallel()
			account := newAccount()
			w := newWorld(t, account, true, "")
			sub := account.Subscribe(stripesim.VersionBasil)
			account.Wait(time.Hour)
			sub.Activate()
			account.Wait(time.Hour)
			sub.Delete()
			account.Wait(time.Hour)
			account.Events = subscriptionEvents(account)
			account.Forget(sub)
			created, active, deleted := account.Events[0], account.Events[1], account.Events[2]
			for _, e := range account.Events {
				w.failed[e.ID] = true
			}
			if first {
				w.host.Expect(t, created.Body, 200, webhooks.OutcomeProcessed)
				w.host.Expect(t, active.Body, 200, webhooks.OutcomeProcessed)
			}
			w.host.Expect(t, deleted.Thin(true), 200, webhooks.OutcomeProcessed)
			w.host.Expect(t, deleted.Body, 200, webhooks.OutcomeDuplicate)
			if !first {
				w.host.Expect(t, created.Body, 200, webhooks.OutcomeStale)
				w.host.Expect(t, active.Body, 200, webhooks.OutcomeStale)
			}
			stored := get(t, w.host, sub.ID())
			if stored.Status != subscriptions.StatusCanceled || stored.EndedAt == nil || stored.LastEventID != deleted.ID || first && stored.CustomerID != sub.Customer() {
				t.Errorf("the row is %+v", stored)
			}
		})
	}
}

// Events that Stripe failed to generate, of the platform's own and of connected accounts, with data and without.
func TestUnheardEvents(t *testing.T) {
	t.Parallel()
	account := newAccount()
	account.Connected = []string{"acct_1"}
	w := newWorld(t, account, true, "")
	for len(account.Subscriptions) < 20 {
		account.Subscribe(stripesim.VersionBasil).Activate()
		account.Wait(time.Hour)
	}
	account.Events = subscriptionEvents(account)
	for _, e := range account.Events {
		w.failed[e.ID] = true
		w.host.Expect(t, e.Body, 200, webhooks.OutcomeProcessed)
	}
	connected := 0
	for i, sub := range account.Subscriptions {
		lost, body := sub.FailPaymentUnheard(i%2 == 0)
		w.failed[lost.ThinID()] = true
		w.host.Expect(t, body, 200, webhooks.OutcomeProcessed)
		if got := get(t, w.host, sub.ID()); got.Status != subscriptions.StatusPastDue || got.AccountID != sub.AccountID {
			t.Errorf("subscription %d of account %q is %s of account %q", i, sub.AccountID, got.Status, got.AccountID)
		}
		if sub.AccountID != "" {
			connected++
		}
		account.Wait(time.Hour)
	}
	if connected == 0 || connected == len(account.Subscriptions) {
		t.Errorf("%d of %d are of a connected account", connected, len(account.Subscriptions))
	}
}

// With an organization's key each request names the account, by its context; with the account's own key it does not.
func TestAccountOfRequests(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]string{"sk_org_test_1": "acct_own acct_other", "sk_test_1": " acct_other"} {
		t.Run(key, func(t *testing.T) {
			t.Parallel()
			var asked []string
			api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				asked = append(asked, req.Header.Get("Stripe-Context")+req.Header.Get("Stripe-Account"))
				w.WriteHeader(http.StatusNotFound)
				_, _ = io.WriteString(w, `{"error":{"type":"invalid_request_error","code":"resource_missing","message":"No such subscription"}}`)
			}))
			t.Cleanup(api.Close)
			h := webhooks.NewHandlers()
			projection := subscriptions.Register(h, &subscriptions.Config{Logger: hooktest.NoLog(), OnChange: func(context.Context, pgx.Tx, subscriptions.Change) error { return nil }})
			host := hooktest.New(t, h, func(c *webhooks.Config) { c.AccountID = "acct_own" })
			for i, account := range []string{"", `"account":"acct_other",`} {
				body := hooktest.Event(fmt.Sprint("evt_", i), updatedType, 1, fmt.Sprintf(`{"id":"sub_%d","object":"subscription","status":"active","items":{"has_more":true,"data":[]}}`, i))
				host.Expect(t, []byte(strings.Replace(string(body), `"livemode"`, account+`"livemode"`, 1)), 200, webhooks.OutcomeProcessed)
			}
			config := &subscriptions.VerifyConfig{APIKey: key, APIBase: api.URL, Fix: host.Receiver, Projection: projection, AccountID: "acct_own", Logger: hooktest.NoLog()}
			if n, err := subscriptions.CompleteItems(t.Context(), host.Pool, config); n != 0 || err != nil {
				t.Errorf("%d are completed, %v", n, err)
			}
			if got := strings.Join(asked, " "); got != want {
				t.Errorf("the requests are for %q, want %q", got, want)
			}
			if n := pgtest.Scan[int](t, host.Pool, `SELECT count(*)::int FROM subscriptions WHERE NOT items_complete`); n != 2 {
				t.Errorf("%d are incomplete", n)
			}
		})
	}
}

// Where nothing but its deletion is known of a subscription, OnChange was not called: its first call has no Before.
func TestForgottenAndFoundAgain(t *testing.T) {
	t.Parallel()
	account := newAccount()
	w := newWorld(t, account, true, "")
	sub := account.Subscribe(stripesim.VersionBasil)
	account.Wait(time.Hour)
	sub.Delete()
	deleted := account.Events[len(account.Events)-1]
	for _, e := range account.Events {
		w.failed[e.ID] = true
	}
	w.api.Lag = func() int { return -1 }
	w.host.Expect(t, deleted.Thin(true), 200, webhooks.OutcomeProcessed)
	if n := pgtest.Scan[int](t, w.host.Pool, `SELECT count(*)::int FROM changes`); n != 0 {
		t.Errorf("OnChange was called %d times", n)
	}
	w.api.Do(func(*stripesim.Account) { w.api.Lag = nil })
	config := &subscriptions.VerifyConfig{APIKey: "sk_test_1", APIBase: w.apiBase, Fix: w.host.Receiver, Projection: w.projection, Rate: 10_000}
	if sum, err := subscriptions.Verify(t.Context(), w.host.Pool, config); err != nil || sum.Fixed != 1 {
		t.Fatalf("verify fixes %+v, %v", sum, err)
	}
	if before := pgtest.Scan[string](t, w.host.Pool, `SELECT string_agg(before, ', ') FROM changes`); before != "nothing" {
		t.Errorf("OnChange had before: %s", before)
	}
	if stored := get(t, w.host, sub.ID()); stored.CustomerID != sub.Customer() {
		t.Errorf("the row is %+v", stored)
	}
}
