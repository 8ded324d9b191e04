package mirror_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stripe/stripe-go/v79"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/judge"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/webhooks"
)

// An invoice of 25 lines, of which its events have 10, is never taken for whole: without a key it is marked, a later event of it
// is too, verify never calls it equal, and the background completes it once there is a key.
func TestLinesThatGoOn(t *testing.T) {
	t.Parallel()
	account := stripesim.New(1, stripesim.Epoch)
	account.Billing = true
	inv := account.AddCustomer(stripesim.VersionBasil).AddInvoice(25)
	inv.Finalize()
	w := newWorld(t, func(_ *mirror.Config, hooks *webhooks.Config) { hooks.APIKey = "" })
	w.api.Store(stripesim.NewAPI(account))
	if err := w.deliver(stripesim.Storm{}.Plan(1, account.Events)); err != nil {
		t.Fatal(err)
	}
	const row = `SELECT lists_complete || ' ' || jsonb_array_length(object #> '{lines,data}') FROM stripe_objects WHERE object_type = 'invoice'`
	if got := pgtest.Scan[string](t, w.host.Pool, row); got != "false 10" {
		t.Errorf("without a key the row is %s", got)
	}
	if w.projection.Stats().Incomplete == 0 || pgtest.Scan[bool](t, w.host.Pool, `SELECT bool_or(lines_complete) FROM stripe_invoices`) {
		t.Error("the invoice is not counted, or the view does not mark it")
	}
	config := &mirror.VerifyConfig{Types: []string{"invoice"}, APIKey: "sk_test_1", APIBase: w.apiBase, Rate: 1e6, Logger: hooktest.NoLog()}
	if sum, err := mirror.Verify(t.Context(), w.host.Pool, config); err != nil || sum.Drifted != 1 {
		t.Errorf("verify: %+v, %v", sum, err)
	}
	config.Fix, config.Projection = w.host.Receiver, w.projection
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- mirror.CompleteListsEvery(ctx, w.host.Pool, time.Hour, config) }()
	pgtest.AwaitEqual(t, "the row is complete", "true 25", func() string { return pgtest.Scan[string](t, w.host.Pool, row) })
	stop()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(pgtest.WaitLimit):
		t.Error("CompleteListsEvery did not return when its context ended")
	}
	if findings, err := judge.Objects(t.Context(), w.host.Pool, account, billed...); err != nil || len(findings) > 0 {
		t.Errorf("%v, %v", findings, err)
	}
}

// List selects, sorts, and continues after an object.
func TestList(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.api.Store(stripesim.NewAPI(stripesim.New(1, stripesim.Epoch)))
	deliver := func(n int, account string, livemode bool, customer, subscription, status string) {
		body := fmt.Sprintf(`{"id":"evt_%[1]d","object":"event","type":"invoice.updated","created":%[2]d,"livemode":%[3]v,"account":%[4]q,"data":{"object":{"id":"in_%[1]d",`+
			`"object":"invoice","created":%[2]d,"status":%[5]q,"customer":%[6]q,"parent":{"subscription_details":{"subscription":%[7]q}}}}}`,
			n, 1767225600+n, livemode, account, status, customer, subscription)
		w.host.Expect(t, []byte(body), 200, webhooks.OutcomeProcessed)
	}
	for n := range 5 {
		deliver(n, "", false, "cus_1", "sub_1", []string{"open", "paid"}[n%2])
	}
	deliver(5, "", false, "cus_2", "sub_2", "open")
	deliver(6, "", true, "cus_1", "sub_1", "open")
	deliver(7, "acct_1", false, "cus_1", "sub_1", "open")
	w.host.Expect(t, event("evt_8", "invoice.deleted", 8, `{"id":"in_8","object":"invoice","created":1767225608,"status":"draft","customer":"cus_3"}`, ""), 200, webhooks.OutcomeProcessed)
	for _, id := range []string{"in_b", "in_a", "in_c"} { // without a time of creation
		w.host.Expect(t, event("evt_"+id, "invoice.updated", 9, fmt.Sprintf(`{"id":%q,"object":"invoice","status":"open","customer":"cus_4"}`, id), ""), 200, webhooks.OutcomeProcessed)
	}
	live := true
	at := func(n int64) time.Time { return time.Unix(1767225600+n, 0) }
	for name, c := range map[string]struct {
		filter mirror.Filter
		want   string
	}{
		"all":                      {mirror.Filter{}, "in_6 in_5 in_4 in_3 in_2 in_1 in_0 in_a in_b in_c"},
		"a page of both":           {mirror.Filter{Limit: 3, After: "in_1"}, "in_0 in_a in_b"},
		"the last page":            {mirror.Filter{Limit: 3, After: "in_b"}, "in_c"},
		"undated, of a customer":   {mirror.Filter{Customer: "cus_4", Limit: 2}, "in_a in_b"},
		"in a range of time":       {mirror.Filter{CreatedFrom: at(4)}, "in_6 in_5 in_4"},
		"a page":                   {mirror.Filter{Limit: 2}, "in_6 in_5"},
		"the next page":            {mirror.Filter{Limit: 2, After: "in_5"}, "in_4 in_3"},
		"a customer":               {mirror.Filter{Customer: "cus_1", Status: "paid"}, "in_3 in_1"},
		"a customer's next page":   {mirror.Filter{Customer: "cus_1", Limit: 2, After: "in_4"}, "in_3 in_2"},
		"a customer, subscription": {mirror.Filter{Customer: "cus_1", Subscription: "sub_2"}, ""},
		"a subscription":           {mirror.Filter{Subscription: "sub_1", CreatedFrom: at(1), CreatedBefore: at(3)}, "in_2 in_1"},
		"live mode":                {mirror.Filter{Livemode: &live}, "in_6"},
		"another account":          {mirror.Filter{Account: "acct_1"}, "in_7"},
		"deleted":                  {mirror.Filter{Deleted: true}, "in_8"},
	} {
		c.filter.Type = "invoice"
		list, err := mirror.List[mirror.Object](t.Context(), w.host.Pool, c.filter)
		var ids []string
		for _, o := range list {
			ids = append(ids, o.ID)
		}
		if got := strings.Join(ids, " "); err != nil || got != c.want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, c.want)
		}
	}
	if list, err := mirror.List[stripe.Invoice](t.Context(), w.host.Pool, mirror.Filter{Deleted: true}); err != nil || len(list) != 1 || !list[0].Deleted || list[0].Customer.ID != "cus_3" {
		t.Errorf("deleted invoices: %+v, %v", list, err)
	}
	if _, err := mirror.List[stripe.Invoice](t.Context(), w.host.Pool, mirror.Filter{Type: "customer"}); err == nil || !strings.Contains(err.Error(), `Filter.Type is "customer"`) {
		t.Errorf("another type than the struct's: %v", err)
	}
	if _, err := mirror.List[mirror.Object](t.Context(), w.host.Pool, mirror.Filter{Type: "invoice", After: "in_99"}); !errors.Is(err, mirror.ErrNotFound) {
		t.Errorf("after an unknown object: %v", err)
	}
	if _, err := mirror.List[mirror.Object](t.Context(), w.host.Pool, mirror.Filter{}); err == nil || !strings.Contains(err.Error(), "Filter.Type") {
		t.Errorf("without a type: %v", err)
	}
	if o, err := mirror.Get[mirror.Object](t.Context(), w.host.Pool, mirror.Key{Account: "acct_1", ID: "in_7"}); err != nil || o.Account != "acct_1" || o.SubscriptionID != "sub_1" {
		t.Errorf("%+v, %v", o, err)
	}
}
