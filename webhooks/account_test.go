package webhooks_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pook/stripeonce/internal/delivery"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// tenants is a receiver whose accounts are found by the last part of the URL's path.
type tenants struct {
	*hooktest.Host
	accounts map[string]*webhooks.Account
}

const (
	secretOfA = "whsec_of_tenant_a"
	secretOfB = "whsec_of_tenant_b"
)

func newTenants(t *testing.T, h *webhooks.Handlers, apiBase string) *tenants {
	t.Helper()
	ts := &tenants{accounts: map[string]*webhooks.Account{
		"a": {ID: "acct_a", Secrets: []string{secretOfA}, APIKey: "sk_test_a"},
		"b": {ID: "acct_b", Secrets: []string{secretOfB}},
	}}
	ts.Host = hooktest.New(t, h, func(c *webhooks.Config) {
		c.Secrets, c.APIBase = nil, apiBase
		c.AccountFor = func(req *http.Request) (*webhooks.Account, error) {
			name := req.URL.Path[strings.LastIndexByte(req.URL.Path, '/')+1:]
			if name == "broken" {
				return nil, errOfATest
			}
			return ts.accounts[name], nil
		}
	})
	return ts
}

// send delivers a body to a tenant's address, signed with a secret.
func (ts *tenants) send(t *testing.T, tenant, secret string, body []byte) delivery.Reply {
	t.Helper()
	sender := delivery.NewSender(ts.URL+"/"+tenant, secret, 1)
	t.Cleanup(sender.Close)
	reply, err := sender.Send(t.Context(), body)
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

func (ts *tenants) expect(t *testing.T, tenant, secret string, body []byte, status int, outcome webhooks.Outcome) {
	t.Helper()
	if reply := ts.send(t, tenant, secret, body); reply.Status != status || reply.Outcome() != outcome {
		t.Errorf("the reply to %s is %s, want %d %s", tenant, reply, status, outcome)
	}
}

// Each tenant has its own secret, and its events have its account, whatever their bodies say.
func TestAccountFor(t *testing.T) {
	t.Parallel()
	seen := &seenBy{}
	ts := newTenants(t, seen.handlers("customer.created"), "")
	body := hooktest.Event("evt_1", "customer.created", 1, aCustomer)
	ts.expect(t, "a", secretOfA, body, 200, webhooks.OutcomeProcessed)
	ts.expect(t, "b", secretOfA, body, 400, "")
	ts.expect(t, "nobody", secretOfA, body, 404, "")
	ts.expect(t, "broken", secretOfA, body, 503, "")
	ts.accounts["unready"] = &webhooks.Account{ID: "acct_c"}
	ts.expect(t, "unready", secretOfA, body, 503, "")
	ts.accounts["unready"] = &webhooks.Account{Secrets: []string{secretOfA}}
	ts.expect(t, "unready", secretOfA, body, 503, "")
	lying := strings.Replace(string(hooktest.Event("evt_2", "customer.created", 1, aCustomer)), `"livemode"`, `"account":"acct_a","context":"org_1/acct_a","livemode"`, 1)
	ts.expect(t, "b", secretOfB, []byte(lying), 200, webhooks.OutcomeProcessed)
	seen.expect(t, "evt_1 customer.created acct_a "+aCustomer+" ", "evt_2 customer.created acct_b "+aCustomer+" ")
	if secrets := ts.Receiver.Stats().Secrets; len(secrets) != 1 || secrets[0].Label != "accounts" || secrets[0].Matched != 2 || time.Since(secrets[0].LastMatch) > time.Minute {
		t.Errorf("the secrets have verified %+v", secrets)
	}
	accounts := pgtest.Scan[string](t, ts.Pool, `SELECT string_agg(event_id || ' ' || account_id, ' ' ORDER BY event_id) FROM stripe_webhook_events`)
	if accounts != "evt_1 acct_a evt_2 acct_b" {
		t.Errorf("the ledger has %s", accounts)
	}
	if reply := ts.send(t, "broken", secretOfA, body); strings.Contains(reply.String(), errOfATest.Error()) {
		t.Errorf("the reply shows the lookup's error: %s", reply)
	}
}

// A tenant who signs an event that names another tenant's object or event changes nothing of the other's.
func TestTenantNamesAnother(t *testing.T) {
	t.Parallel()
	h := webhooks.NewHandlers()
	subscriptions.Register(h, nil)
	webhooks.On(h, "customer.*", nothing)
	ts := newTenants(t, h, "")
	all := func() string {
		return pgtest.Scan[string](t, ts.Pool, `SELECT concat_ws(E'\n', (SELECT string_agg(s::text, E'\n') FROM subscriptions s),
			(SELECT string_agg(e::text, E'\n') FROM stripe_webhook_events e), (SELECT string_agg(f::text, E'\n') FROM stripe_webhook_failures f WHERE account_id = 'acct_a'))`)
	}
	ts.expect(t, "a", secretOfA, about("evt_a", "sub_a", "active"), 200, webhooks.OutcomeProcessed)
	ts.expect(t, "a", secretOfA, []byte(`{"id":"evt_failing","type":"customer.subscription.updated","data":{}}`), 500, "")
	before := all()
	for name, body := range map[string][]byte{
		"the object":        about("evt_b", "sub_a", "canceled"),
		"a later object":    []byte(strings.Replace(string(about("evt_b2", "sub_a", "canceled")), `"created":1`, `"created":9`, 1)),
		"the event":         about("evt_a", "sub_a", "canceled"),
		"the event alone":   hooktest.Event("evt_a", "customer.created", 1, aCustomer),
		"the failing event": []byte(`{"id":"evt_failing","type":"customer.subscription.updated","data":{"object":{}}}`),
	} {
		ts.expect(t, "b", secretOfB, body, 500, "")
		if after := all(); after != before {
			t.Errorf("%s: the other tenant's rows were\n%s\nand are\n%s", name, before, after)
		}
	}
	if n := pgtest.Scan[int](t, ts.Pool, `SELECT count(*)::int FROM stripe_webhook_failures WHERE account_id = 'acct_b'`); n < 3 {
		t.Errorf("%d of the tenant's own failures are recorded", n)
	}
	ts.expect(t, "a", secretOfA, about("evt_a", "sub_a", "active"), 200, webhooks.OutcomeDuplicate)
}

// What is fetched for a tenant is fetched with its key, without naming the account.
func TestTenantsKey(t *testing.T) {
	t.Parallel()
	seen := &seenBy{}
	api := newStripeAPI(t, map[string]string{customerPath: aCustomer})
	ts := newTenants(t, seen.handlers("customer.updated"), api.server.URL)
	body := thinEvent("evt_1", "v1.customer.updated", time.Now(), noTwin+`,"context":"acct_elsewhere"`)
	ts.expect(t, "b", secretOfB, body, 200, webhooks.OutcomeIgnored) // it has no key
	body = thinEvent("evt_2", "v1.customer.updated", time.Now(), noTwin+`,"context":"acct_elsewhere"`)
	ts.expect(t, "a", secretOfA, body, 200, webhooks.OutcomeProcessed)
	if got := api.requests[0].Header.Get("Authorization"); got != "Bearer sk_test_a" {
		t.Errorf("the request's key is %q", got)
	}
	expectAsked(t, api, customerPath+"||||event=evt_2")
	seen.expect(t, "evt_2 customer.updated acct_a "+aCustomer+" ")
}

// Receivers of two accounts share the tables: their events that name no account get the receiver's, which is never sent.
func TestAccountID(t *testing.T) {
	t.Parallel()
	h := func() *webhooks.Handlers {
		h := webhooks.NewHandlers()
		subscriptions.Register(h, nil)
		return h
	}
	api := newStripeAPI(t, map[string]string{"/v1/subscriptions/sub_1": `{"id":"sub_1","object":"subscription","customer":"cus_1","status":"past_due"}`})
	before := hooktest.New(t, h(), nil)
	before.Expect(t, about("evt_0", "sub_0", "active"), 200, webhooks.OutcomeProcessed)
	hosts := map[string]*hooktest.Host{}
	for _, id := range []string{"acct_1", "acct_2"} {
		hosts[id] = hooktest.On(t, before.Pool, h(), func(c *webhooks.Config) { api.config(c); c.AccountID = id })
	}
	hosts["acct_1"].Expect(t, about("evt_1", "sub_1", "active"), 200, webhooks.OutcomeProcessed)
	hosts["acct_2"].Expect(t, about("evt_2", "sub_2", "active"), 200, webhooks.OutcomeProcessed)
	hosts["acct_2"].Expect(t, about("evt_3", "sub_1", "canceled"), 500, "")
	hosts["acct_1"].Expect(t, []byte(strings.Replace(string(about("evt_0b", "sub_0", "past_due")), `"created":1`, `"created":2`, 1)), 200, webhooks.OutcomeProcessed)
	thin := func(id, context string) []byte {
		return thinEvent(id, "v1.customer.subscription.updated", time.Now(),
			fmt.Sprintf(`%s,"context":%s,"related_object":{"id":"sub_1","type":"subscription","url":"/v1/subscriptions/sub_1"}`, noTwin, context))
	}
	hosts["acct_1"].Expect(t, thin("evt_4", `null`), 200, webhooks.OutcomeProcessed)
	hosts["acct_1"].Expect(t, thin("evt_5", `"acct_1"`), 200, webhooks.OutcomeStale)
	expectAsked(t, api, "/v1/subscriptions/sub_1||||event=evt_4", "/v1/subscriptions/sub_1||||event=evt_5")
	accounts := pgtest.Scan[string](t, before.Pool, `SELECT string_agg(id || ' ' || COALESCE(account_id, 'none') || ' ' || status, ', ' ORDER BY id) FROM subscriptions`)
	if want := "sub_0 acct_1 past_due, sub_1 acct_1 past_due, sub_2 acct_2 active"; accounts != want {
		t.Errorf("the subscriptions are %s, want %s", accounts, want)
	}
}

func TestAccountConfig(t *testing.T) {
	t.Parallel()
	found := func(*http.Request) (*webhooks.Account, error) { return nil, errors.ErrUnsupported }
	pool := pgtest.NewPool(t)
	for name, config := range map[string]webhooks.Config{
		"Secrets: no secret is set": {},
		"takes the place":           {AccountFor: found, Secrets: []string{hooktest.Secret}},
		"leave them empty":          {AccountFor: found, APIKey: "sk_test_1"},
		"AccountID is longer":       {Secrets: []string{hooktest.Secret}, AccountID: strings.Repeat("a", 256)},
	} {
		if _, err := webhooks.New(pool, webhooks.NewHandlers(), &config); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("the error is %v, want %q in it", err, name)
		}
	}
	if _, err := webhooks.New(pool, webhooks.NewHandlers(), &webhooks.Config{AccountFor: found}); err != nil {
		t.Error(err)
	}
}

// The dashboard's test events have one id for all accounts: the second tenant's is a duplicate.
func TestTestEventOfTwoTenants(t *testing.T) {
	t.Parallel()
	ts := newTenants(t, webhooks.NewHandlers(), "")
	body := hooktest.Event("evt_00000000000000", "customer.created", 1, aCustomer)
	ts.expect(t, "a", secretOfA, body, 200, webhooks.OutcomeIgnored)
	ts.expect(t, "b", secretOfB, body, 200, webhooks.OutcomeDuplicate)
}
