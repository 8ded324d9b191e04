package subscriptions_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// Deliveries and refetches alternate with further changes, also within one second. The row converges to the truth.
func TestRefetchWhileSubscriptionsChange(t *testing.T) {
	t.Parallel()
	for _, refetch := range []subscriptions.Refetch{subscriptions.RefetchAmbiguous, subscriptions.RefetchAlways} {
		t.Run(string(refetch), func(t *testing.T) {
			t.Parallel()
			account := &stripesim.Account{}
			w := newWorld(t, account, true, refetch)
			rapid.Check(t, func(rt *rapid.T) {
				*account = *stripesim.New(rapid.Uint64().Draw(rt, "seed"), stripesim.Epoch)
				sub := account.Subscribe(stripesim.VersionBasil)
				var arrived []*stripesim.Event
				deliver := func(e *stripesim.Event) {
					arrived = append(arrived, e)
					if err := w.apply(e); err != nil {
						rt.Fatal(err)
					}
				}
				for range rapid.IntRange(1, 12).Draw(rt, "moments") {
					switch rapid.IntRange(0, 3).Draw(rt, "moment") {
					case 0:
						account.Wait(time.Second)
					case 1:
						sub.Step(rapid.IntRange(0, 99).Draw(rt, "step"))
					default:
						deliver(rapid.SampledFrom(account.Events).Draw(rt, "delivered"))
					}
				}
				for _, e := range rapid.Permutation(slices.Clone(account.Events)).Draw(rt, "the rest") {
					deliver(e)
				}
				faults, err := w.faults(account)
				if err != nil {
					rt.Fatal(err)
				}
				if len(faults) > 0 {
					rt.Errorf("%s\narriving in the order%s\nends with\n%v", describe(account.Events), describe(arrived), faults)
				}
				w.reset(t)
			})
		})
	}
}

// If Stripe refuses the event's API version, the request is retried with stripe-go's own. If that is refused too, the
// tie-break decides.
func TestStripeRefusesTheVersion(t *testing.T) {
	t.Parallel()
	account := newAccount()
	sub := account.Subscribe(stripesim.VersionBasil)
	e := account.Events[0]
	w := newWorld(t, account, true, subscriptions.RefetchAlways)
	w.failed[e.ID] = true
	w.api.Fail(stripesim.Fault{Status: 400})
	w.host.Expect(t, e.Body, 200, webhooks.OutcomeProcessed)
	requests := w.api.Requests()
	if len(requests) != 2 || requests[0].Header.Get("Stripe-Version") != stripesim.VersionBasil || requests[1].Header.Get("Stripe-Version") == stripesim.VersionBasil {
		t.Errorf("there were %d requests to Stripe", len(requests))
	}
	account.Wait(time.Hour)
	sub.Activate()
	w.api.Fail(stripesim.Fault{Status: 400}, stripesim.Fault{Status: 400})
	later := account.Events[len(account.Events)-1]
	w.failed[later.ID] = true
	w.host.Expect(t, later.Body, 200, webhooks.OutcomeProcessed)
	if got := get(t, w.host, sub.ID()).Status; got != "active" {
		t.Errorf("the status is %s", got)
	}
}

// A subscription without an object member, or with an odd id, is refetched like any other.
func TestRefetchOddSubscriptions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newAccount(), true, subscriptions.RefetchAlways)
	for _, id := range []string{"sub_1", "sub/../x?y#z%"} {
		w.host.Expect(t, hooktest.Event("evt_a"+id, updatedType, 1, `{"id":"`+id+`","status":"active","current_period_end":5}`), 200, webhooks.OutcomeProcessed)
	}
	paths := make([]string, 0, 2)
	for _, req := range w.api.Requests() {
		paths = append(paths, req.URL.EscapedPath())
	}
	if got, want := strings.Join(paths, " "), "/v1/subscriptions/sub_1 /v1/subscriptions/sub%2F..%2Fx%3Fy%23z%25"; got != want {
		t.Errorf("requests to Stripe are for %s, want %s", got, want)
	}
}

// A response from a part of Stripe that lags behind does not bring back an ended subscription.
func TestLaggingResponse(t *testing.T) {
	t.Parallel()
	account := newAccount()
	sub := account.Subscribe(stripesim.VersionBasil)
	w := newWorld(t, account, true, subscriptions.RefetchAlways)
	pgtest.Exec(t, w.host.Pool, `INSERT INTO subscriptions (id, status, cancel_at_period_end, metadata, livemode, object, last_event_id)
		VALUES ($1, 'canceled', false, '{}', false, '{}', 'evt_0')`, sub.ID())
	w.failed[account.Events[0].ID] = true
	w.host.Expect(t, account.Events[0].Body, 200, webhooks.OutcomeStale)
	if got := get(t, w.host, sub.ID()).Status; got != "canceled" {
		t.Errorf("the status is %s", got)
	}
}

// A row that an earlier version wrote without the set of newest events counts as a state of its second.
func TestRowWithoutItsSet(t *testing.T) {
	t.Parallel()
	host := newHost(t, nil)
	at5 := func(id, before, after string) []byte {
		body := string(hooktest.Event(id, updatedType, 5, object("active", `,"metadata":{"s":"`+after+`"}`)))
		return []byte(strings.Replace(body, `"data":{`, `"data":{"previous_attributes":{"metadata":{"s":"`+before+`"}},`, 1))
	}
	host.Expect(t, at5("evt_2", "b", "c"), 200, webhooks.OutcomeProcessed)
	pgtest.Exec(t, host.Pool, `UPDATE subscriptions SET newest_events = '[]'`)
	host.Expect(t, at5("evt_1", "a", "b"), 200, webhooks.OutcomeStale)
	if got := get(t, host, "sub_1").Metadata["s"]; got != "c" {
		t.Errorf("the row is %s", got)
	}
}
