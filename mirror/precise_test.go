package mirror_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pook/stripeonce/internal/bulkapi"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/webhooks"
)

// One customer's invoices, or one invoice, are compared both ways, with requests for these alone.
func TestVerifyPrecisely(t *testing.T) {
	t.Parallel()
	api := &bulkapi.API{Invoices: 60, Connected: map[string]int{"acct_1": 3}, Newest: time.Now().Add(-time.Hour), Customers: 20}
	server := httptest.NewServer(api)
	t.Cleanup(server.Close)
	h := webhooks.NewHandlers()
	mirror.Register(h, &mirror.Config{Types: []string{"invoice"}, Logger: hooktest.NoLog()})
	host := hooktest.New(t, h, nil)
	config := mirror.VerifyConfig{Types: []string{"invoice"}, APIKey: "sk_test_1", APIBase: server.URL, Rate: 1e6, Fix: host.Receiver, Accounts: []string{"acct_1"}, Logger: hooktest.NoLog()}
	jobs, err := mirror.Jobs(host.Pool, &config)
	if err != nil {
		t.Fatal(err)
	}
	if sum, err := operations.New(host.Pool, nil).Backfill(t.Context(), operations.BackfillOptions{Jobs: jobs}); err != nil || sum.Fixed != 63 {
		t.Fatalf("%+v, %v", sum, err)
	}
	config.Accounts = nil
	pgtest.Exec(t, host.Pool, `UPDATE stripe_objects SET object = object || '{"number": "wrong"}', digest = NULL WHERE id IN ($1, $2, $3)`,
		bulkapi.ID("", 3), bulkapi.ID("", 4), bulkapi.ID("acct_1", 1))
	pgtest.Exec(t, host.Pool, `DELETE FROM stripe_objects WHERE id = $1`, bulkapi.ID("", 23))
	pgtest.Exec(t, host.Pool, `INSERT INTO stripe_objects (livemode, object_type, id, customer_id, object, stripe_created_at)
		SELECT livemode, object_type, 'in_unknown', customer_id, object, stripe_created_at FROM stripe_objects WHERE id = $1`, bulkapi.ID("", 3))
	for name, c := range map[string]struct {
		only, customer string
		checked        int
		want           string
	}{
		"a customer":                 {customer: "cus_3", checked: 4, want: "in_00000003 number, in_00000023 id, in_unknown id"},
		"a customer without drift":   {customer: "cus_7", checked: 3},
		"a customer without objects": {customer: "cus_99"},
		"an object":                  {only: bulkapi.ID("", 4), checked: 1, want: "in_00000004 number"},
		"an object without drift":    {only: bulkapi.ID("", 5), checked: 1},
		"a missing object":           {only: bulkapi.ID("", 23), checked: 1, want: "in_00000023 id"},
		"an unknown object":          {only: "in_unknown", checked: 1, want: "in_unknown id"},
		"an object of an account":    {only: bulkapi.ID("acct_1", 1), checked: 1, want: "in_100000001 number"},
	} {
		of := config
		of.Only, of.Customer, of.Fix = c.only, c.customer, nil
		var found []string
		of.Each = func(d mirror.Difference) { found = append(found, d.ID+" "+d.Field) }
		progress := 0
		of.Progress = func(sum mirror.VerifyResult) { progress = sum.Checked }
		lists, gets := api.Lists(), api.Gets()
		sum, err := mirror.Verify(t.Context(), host.Pool, &of)
		slices.Sort(found)
		if got := strings.Join(found, ", "); err != nil || sum.Checked != c.checked || got != c.want || progress != c.checked {
			t.Errorf("%s: it is %+v, %v: %s", name, sum, err, got)
		}
		if n := api.Lists() - lists + api.Gets() - gets; n > 5 {
			t.Errorf("%s: it takes %d requests", name, n)
		}
	}
	config.Only = "in_nowhere"
	if _, err := mirror.Verify(t.Context(), host.Pool, &config); !errors.Is(err, mirror.ErrNotFound) || !strings.Contains(err.Error(), "neither the table nor Stripe has the invoice in_nowhere") {
		t.Errorf("an object that neither side has: %v", err)
	}
	config.Only, config.Customer = "", "cus_3"
	if sum, err := mirror.Verify(t.Context(), host.Pool, &config); err != nil || sum.Fixed != 2 || sum.Drifted != 3 {
		t.Errorf("the fix is %+v, %v", sum, err)
	}
	config.Customer, config.Only = "", bulkapi.ID("acct_1", 1)
	if sum, err := mirror.Verify(t.Context(), host.Pool, &config); err != nil || sum.Fixed != 1 {
		t.Errorf("the fix of an account's object is %+v, %v", sum, err)
	}
	own, connected := "", "acct_1"
	config.Account = &own
	if _, err := mirror.Verify(t.Context(), host.Pool, &config); !errors.Is(err, mirror.ErrNotFound) {
		t.Errorf("in another account than its own an object is %v", err)
	}
	config.Only, config.Customer, config.Account = "", "cus_1", &connected
	lists := api.Lists()
	if sum, err := mirror.Verify(t.Context(), host.Pool, &config); err != nil || sum.Checked != 1 || api.Lists() != lists+1 {
		t.Errorf("a customer in one account is %+v, %v, with %d lists", sum, err, api.Lists()-lists)
	}
	config.Customer, config.Account, config.Accounts = "", nil, []string{"acct_1"}
	if sum, err := mirror.Verify(t.Context(), host.Pool, &config); err != nil || sum.Drifted != 2 { // in_00000004 and in_unknown
		t.Errorf("what is left is %+v, %v", sum, err)
	}
}

// What is imported or compared has no secrets, and one object is fetched for the rest of its lists.
func TestImportOfSecretsAndLists(t *testing.T) {
	t.Parallel()
	const intent = `{"id":"pi_1","object":"payment_intent","created":1767225600,"livemode":false,"client_secret":"pi_1_secret_x","amount":5,"charges":{"object":"list","has_more":true,"url":"/v1/charges?payment_intent=pi_1","data":[{"id":"ch_1","object":"charge"}]}}`
	requests := map[string]int{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		requests[req.URL.Path]++
		switch req.URL.Path {
		case "/v1/payment_intents":
			fmt.Fprintf(w, `{"object":"list","has_more":false,"data":[%s]}`, intent)
		case "/v1/payment_intents/pi_1":
			fmt.Fprint(w, intent)
		case "/v1/charges":
			fmt.Fprint(w, `{"object":"list","has_more":false,"data":[{"id":"ch_1","object":"charge"},{"id":"ch_2","object":"charge"}]}`)
		default:
			t.Errorf("unexpected request for %s", req.URL)
		}
	}))
	t.Cleanup(server.Close)
	host := hooktest.New(t, webhooks.NewHandlers(), nil)
	config := &mirror.VerifyConfig{Types: []string{"payment_intent"}, APIKey: "sk_test_1", APIBase: server.URL, Fix: host.Receiver, Logger: hooktest.NoLog()}
	jobs, err := mirror.Jobs(host.Pool, config)
	if err != nil {
		t.Fatal(err)
	}
	if sum, err := operations.New(host.Pool, nil).Backfill(t.Context(), operations.BackfillOptions{Jobs: jobs}); err != nil || sum.Fixed != 1 {
		t.Fatalf("%+v, %v", sum, err)
	}
	if requests["/v1/payment_intents"] != 1 || requests["/v1/payment_intents/pi_1"] != 1 || requests["/v1/charges"] != 1 {
		t.Errorf("the requests are %v", requests)
	}
	if row := pgtest.Scan[string](t, host.Pool, `SELECT (object ? 'client_secret') || ' ' || lists_complete || ' ' || jsonb_array_length(object #> '{charges,data}') FROM stripe_objects`); row != "false true 2" {
		t.Errorf("it is stored as %s", row)
	}
	if sum, err := mirror.Verify(t.Context(), host.Pool, config); err != nil || sum.Drifted != 0 {
		t.Errorf("afterwards verify finds %+v, %v", sum, err)
	}
}
