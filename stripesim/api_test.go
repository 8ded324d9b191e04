package stripesim_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/stripe/stripe-go/v79"
	"github.com/stripe/stripe-go/v79/client"

	"github.com/pook/stripeonce/stripesim"
)

const key = "sk_test_of_a_simulated_account"

// newClient returns Stripe's own Go client for a simulated API.
func newClient(t *testing.T, account *stripesim.Account) (*client.API, *stripesim.API) {
	t.Helper()
	api := stripesim.NewAPI(account)
	api.Key = key
	server := httptest.NewServer(api)
	t.Cleanup(server.Close)
	backend := stripe.GetBackendWithConfig(stripe.APIBackend, &stripe.BackendConfig{
		URL: stripe.String(server.URL), MaxNetworkRetries: stripe.Int64(0), LeveledLogger: &stripe.LeveledLogger{},
	})
	return client.New(key, &stripe.Backends{API: backend}), api
}

// Stripe's client reads all events page by page, newest first.
func TestListEvents(t *testing.T) {
	t.Parallel()
	account := grown(1, stripesim.Life{Subscriptions: 80})
	c, _ := newClient(t, account)
	oldest := account.Now - 30*24*3600
	var want []string
	for _, ev := range account.Events {
		if ev.Created > oldest {
			want = append(want, ev.ID)
		}
	}
	slices.Reverse(want)
	list := func(params *stripe.EventListParams) []string {
		t.Helper()
		var ids []string
		for events := c.Events.List(params); ; {
			if !events.Next() {
				if err := events.Err(); err != nil {
					t.Fatal(err)
				}
				return ids
			}
			ids = append(ids, events.Event().ID)
		}
	}
	params := &stripe.EventListParams{}
	params.Limit = stripe.Int64(7)
	if got := list(params); !slices.Equal(got, want) || len(want) < 20 {
		t.Errorf("7 by 7 there are %d events, want %d", len(got), len(want))
	}
	filtered := func(keep func(*stripesim.Event) bool) []string {
		var ids []string
		for _, ev := range account.Events {
			if ev.Created > oldest && keep(ev) {
				ids = append(ids, ev.ID)
			}
		}
		slices.Reverse(ids)
		return ids
	}
	since := account.Now - 10*24*3600
	for name, c := range map[string]struct {
		params *stripe.EventListParams
		keep   func(*stripesim.Event) bool
	}{
		"types": {&stripe.EventListParams{Types: stripe.StringSlice([]string{"invoice.paid", "customer.subscription.deleted"})},
			func(ev *stripesim.Event) bool {
				return ev.Type == "invoice.paid" || ev.Type == "customer.subscription.deleted"
			}},
		"a wildcard": {&stripe.EventListParams{Type: stripe.String("invoice.*")},
			func(ev *stripesim.Event) bool { return ev.ObjectID != ev.SubscriptionID }},
		"a time": {&stripe.EventListParams{CreatedRange: &stripe.RangeQueryParams{GreaterThanOrEqual: since}},
			func(ev *stripesim.Event) bool { return ev.Created >= since }},
	} {
		want := filtered(c.keep)
		if got := list(c.params); !slices.Equal(got, want) || len(want) == 0 {
			t.Errorf("by %s there are %d events, want %d", name, len(got), len(want))
		}
	}
}

// Both cursors work.
func TestCursors(t *testing.T) {
	t.Parallel()
	account := grown(1, stripesim.Life{Subscriptions: 12})
	c, _ := newClient(t, account)
	newest := func(i int) string { return account.Subscriptions[11-i].ID() }
	for _, x := range []struct {
		after, before string
		want          []string
		more          bool
	}{
		{"", "", []string{newest(0), newest(1), newest(2)}, true},
		{newest(2), "", []string{newest(3), newest(4), newest(5)}, true},
		{newest(8), "", []string{newest(9), newest(10), newest(11)}, false},
		{"", newest(5), []string{newest(2), newest(3), newest(4)}, true},
		{"", newest(2), []string{newest(0), newest(1)}, false},
	} {
		params := &stripe.SubscriptionListParams{Status: stripe.String("all")}
		params.Limit, params.Single = stripe.Int64(3), true
		if x.after != "" {
			params.StartingAfter = &x.after
		}
		if x.before != "" {
			params.EndingBefore = &x.before
		}
		iter := c.Subscriptions.List(params)
		var got []string
		for iter.Next() {
			got = append(got, iter.Subscription().ID)
		}
		// Backward, stripe-go returns a page in reverse order.
		if x.before != "" {
			slices.Reverse(got)
		}
		if err := iter.Err(); err != nil || !slices.Equal(got, x.want) || iter.SubscriptionList().HasMore != x.more {
			t.Errorf("after %q before %q: %v, %v, more is %v", x.after, x.before, got, err, iter.SubscriptionList().HasMore)
		}
	}
}

// A subscription is rendered in the requested version, and Date is the account's time.
func TestGetSubscription(t *testing.T) {
	t.Parallel()
	account := stripesim.New(1, start)
	sub := account.Subscribe(stripesim.VersionBasil)
	account.Wait(time.Hour)
	sub.Activate()
	c, api := newClient(t, account)
	params := &stripe.SubscriptionParams{}
	got, err := c.Subscriptions.Get(sub.ID(), params)
	if err != nil || got.Status != "active" || got.CurrentPeriodEnd == 0 {
		t.Errorf("in stripe-go's own version it is %+v, %v", got, err)
	}
	if date := got.LastResponse.Header.Get("Date"); date != "Mon, 01 Jan 2024 10:00:00 GMT" {
		t.Errorf("the date is %s", date)
	}
	params = &stripe.SubscriptionParams{}
	params.Headers = http.Header{"Stripe-Version": {stripesim.VersionBasil}}
	got, err = c.Subscriptions.Get(sub.ID(), params)
	if err != nil || got.CurrentPeriodEnd != 0 {
		t.Errorf("in basil it is %+v, %v", got, err)
	}
	var raw, truth map[string]any
	if json.Unmarshal(got.LastResponse.RawJSON, &raw) != nil || json.Unmarshal(sub.Object(), &truth) != nil || raw["status"] != truth["status"] {
		t.Errorf("the raw answer is %s", got.LastResponse.RawJSON)
	}
	if n := len(api.Requests()); n != 2 {
		t.Errorf("%d requests were seen", n)
	}
}

// The filters of lists work, and single events are returned.
func TestFilters(t *testing.T) {
	t.Parallel()
	account := stripesim.New(1, start)
	active, gone := account.Subscribe(stripesim.VersionBasil), account.Subscribe(stripesim.VersionBeforeBasil)
	active.Activate()
	gone.Delete()
	c, api := newClient(t, account)
	for status, want := range map[string]int{"": 1, "all": 2, "canceled": 1, "ended": 1, "trialing": 0} {
		params := &stripe.SubscriptionListParams{}
		if status != "" {
			params.Status = &status
		}
		n := 0
		for iter := c.Subscriptions.List(params); iter.Next(); n++ {
			continue
		}
		if n != want {
			t.Errorf("status %q lists %d, want %d", status, n, want)
		}
	}
	first := account.Events[0]
	if ev, err := c.Events.Get(first.ID, nil); err != nil || string(ev.Type) != first.Type || ev.APIVersion != stripesim.VersionBasil {
		t.Errorf("the event is %+v, %v", ev, err)
	}
	api.MarkDelivered(first.ID)
	n := 0
	for iter := c.Events.List(&stripe.EventListParams{DeliverySuccess: stripe.Bool(false)}); iter.Next(); n++ {
		continue
	}
	if n != len(account.Events)-1 {
		t.Errorf("%d events are not delivered", n)
	}
	api.Do(func(a *stripesim.Account) { a.Wait(31 * 24 * time.Hour) })
	if _, err := c.Events.Get(first.ID, nil); err == nil {
		t.Error("an event is kept for more than 30 days")
	}
}

// Errors have Stripe's form, so that Stripe's client parses them.
func TestErrors(t *testing.T) {
	t.Parallel()
	c, api := newClient(t, stripesim.New(1, start))
	expect := func(status int, code string, err error) {
		t.Helper()
		var e *stripe.Error
		if !errors.As(err, &e) || e.HTTPStatusCode != status || string(e.Code) != code || e.Msg == "" {
			t.Errorf("the error is %v, want %d %s", err, status, code)
		}
	}
	_, err := c.Subscriptions.Get("sub_nobody", nil)
	expect(404, "resource_missing", err)
	_, err = c.Events.Get("evt_nobody", nil)
	expect(404, "resource_missing", err)
	params := &stripe.EventListParams{}
	params.Limit = stripe.Int64(101)
	expect(400, "parameter_invalid_integer", c.Events.List(params).Err())
	params = &stripe.EventListParams{}
	params.StartingAfter = stripe.String("evt_nobody")
	expect(400, "resource_missing", c.Events.List(params).Err())
	params = &stripe.EventListParams{Type: stripe.String("a"), Types: stripe.StringSlice([]string{"b"})}
	expect(400, "", c.Events.List(params).Err())
	api.Fail(stripesim.Fault{Status: 429, RetryAfter: 2 * time.Second}, stripesim.Fault{Status: 500})
	_, err = c.Events.Get("evt_1", nil)
	expect(429, "rate_limit", err)
	_, err = c.Events.Get("evt_1", nil)
	expect(500, "", err)
	_, err = c.ApplePayDomains.Get("apwc_1", nil)
	expect(404, "", err)
	api.Key = "sk_test_another"
	_, err = c.Events.Get("evt_1", nil)
	expect(401, "", err)
}
