package subscriptions_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pook/stripeonce/internal/delivery"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

func newAccount() *stripesim.Account { return stripesim.New(1, stripesim.Epoch) }

func ledger(t *testing.T, w *world) string {
	t.Helper()
	return pgtest.Scan[string](t, w.host.Pool, `SELECT coalesce(string_agg(event_id || ' ' || event_type || ' ' || outcome, ', ' ORDER BY event_id), '') FROM stripe_webhook_events`)
}

// A snapshot event and its thin twin take effect once, in either order and at the same instant.
func TestThinAndSnapshot(t *testing.T) {
	t.Parallel()
	account := newAccount()
	account.Subscribe(stripesim.VersionBasil)
	e := account.Events[0]
	once := e.ID + " customer.subscription.created processed"
	for name, deliver := range map[string]func(w *world){
		"thin first": func(w *world) {
			w.host.Expect(t, e.Thin(true), 200, webhooks.OutcomeProcessed)
			w.host.Expect(t, e.Body, 200, webhooks.OutcomeDuplicate)
			w.host.Expect(t, e.Thin(true), 200, webhooks.OutcomeDuplicate)
		},
		"snapshot first": func(w *world) {
			w.host.Expect(t, e.Body, 200, webhooks.OutcomeProcessed)
			w.host.Expect(t, e.Thin(true), 200, webhooks.OutcomeDuplicate)
			if n := len(w.api.Requests()); n != 0 {
				t.Errorf("there were %d requests to Stripe for a known event", n)
			}
		},
		"at the same instant": func(w *world) {
			var wg sync.WaitGroup
			for range 4 {
				for _, body := range [][]byte{e.Body, e.Thin(true)} {
					wg.Go(func() {
						if reply := w.host.Send(t, body); !reply.OK() {
							t.Errorf("the reply is %s", reply)
						}
					})
				}
			}
			wg.Wait()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, account, true, "")
			w.failed[e.ID] = true
			deliver(w)
			if got := ledger(t, w); got != once {
				t.Errorf("the ledger has %s, want %s", got, once)
			}
			if faults, err := w.faults(account); err != nil || len(faults) > 0 {
				t.Errorf("%v, %v", faults, err)
			}
		})
	}
}

// A thin event that arrived first without a key, or a snapshot event that arrived first without a handler, leaves a
// provisional row. A later delivery of the event or of its twin replaces it.
func TestThinAfterTheKeyIsGiven(t *testing.T) {
	t.Parallel()
	account := newAccount()
	account.Subscribe(stripesim.VersionBasil)
	e := account.Events[0]
	thinID := e.ThinID()
	for _, c := range []struct {
		name     string
		withTwin bool
		second   func(w *world)
		want     string
	}{
		{"itself", true, func(w *world) { w.host.Expect(t, e.Thin(true), 200, webhooks.OutcomeProcessed) },
			e.ID + " customer.subscription.created processed"},
		{"itself, without a twin", false, func(w *world) { w.host.Expect(t, e.Thin(false), 200, webhooks.OutcomeProcessed) },
			thinID + " customer.subscription.created processed"},
		{"its twin, then itself", true, func(w *world) {
			w.host.Expect(t, e.Body, 200, webhooks.OutcomeProcessed)
			w.host.Expect(t, e.Thin(true), 200, webhooks.OutcomeDuplicate)
		}, e.ID + " customer.subscription.created processed, " + thinID + " v1.customer.subscription.created ignored"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			keyless := newWorld(t, account, false, "")
			keyless.host.Expect(t, e.Thin(c.withTwin), 200, webhooks.OutcomeIgnored)
			keyless.host.Expect(t, e.Thin(c.withTwin), 200, webhooks.OutcomeDuplicate)
			keyed := newWorld(t, account, true, "")
			keyed.failed[e.ID], keyed.failed[thinID], keyed.api.Unnamed = true, true, !c.withTwin
			pgtest.Exec(t, keyed.host.Pool, `INSERT INTO stripe_webhook_events (event_id, event_type, outcome, livemode)
				VALUES ($1, 'v1.customer.subscription.created', 'ignored', false)`, thinID)
			c.second(keyed)
			if got := ledger(t, keyed); got != c.want {
				t.Errorf("the ledger has %s, want %s", got, c.want)
			}
		})
	}
	t.Run("a snapshot without a handler, then the thin event", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, account, true, "")
		w.failed[e.ID] = true
		pgtest.Exec(t, w.host.Pool, `INSERT INTO stripe_webhook_events (event_id, event_type, outcome, livemode)
			VALUES ($1, 'customer.subscription.created', 'ignored', false)`, e.ID)
		w.host.Expect(t, e.Thin(true), 200, webhooks.OutcomeProcessed)
		if got, want := ledger(t, w), e.ID+" customer.subscription.created processed"; got != want {
			t.Errorf("the ledger has %s, want %s", got, want)
		}
	})
}

// A thin event is ignored if Stripe does not have its object, and answered 503 if Stripe does not respond. No request is
// made if the related object's URL is not a path of the API.
func TestThinWithoutAResponse(t *testing.T) {
	t.Parallel()
	account := newAccount()
	sub := account.Subscribe(stripesim.VersionBasil)
	e := account.Events[0]
	w := newWorld(t, account, true, "")
	w.failed[e.ID] = true
	for _, status := range []int{429, 500, 503, 401} {
		w.api.Fail(stripesim.Fault{Status: status})
		w.host.Expect(t, e.Thin(true), 503, "")
	}
	gone := *e
	gone.ID, gone.ObjectID = "evt_gone", "sub_gone"
	w.host.Expect(t, gone.Thin(true), 200, webhooks.OutcomeIgnored)
	w.host.Expect(t, gone.Thin(true), 200, webhooks.OutcomeDuplicate)
	sly := *e
	sly.ID, sly.ObjectID = "evt_sly", "../../elsewhere"
	w.host.Expect(t, sly.Thin(true), 500, "")
	w.host.Expect(t, e.Thin(true), 200, webhooks.OutcomeProcessed)
	if got := get(t, w.host, sub.ID()); string(got.Status) != sub.Status() || got.LastEventID != e.ID {
		t.Errorf("the row is %s of %s", got.Status, got.LastEventID)
	}
}

// RefetchAlways stores Stripe's current object for every event.
func TestRefetchAlways(t *testing.T) {
	t.Parallel()
	account := newAccount()
	sub := account.Subscribe(stripesim.VersionBeforeBasil)
	account.Wait(time.Hour)
	sub.Activate()
	account.Wait(time.Hour)
	sub.SetQuantity(9)
	account.Wait(time.Hour)
	w := newWorld(t, account, true, subscriptions.RefetchAlways)
	if err := w.apply(account.Events[0]); err != nil {
		t.Fatal(err)
	}
	if got := get(t, w.host, sub.ID()); *got.Quantity != 9 || got.Status != "active" {
		t.Errorf("after the first event the row is %s, %d", got.Status, *got.Quantity)
	}
	for _, e := range account.Events {
		if err := w.apply(e); err != nil {
			t.Fatal(err)
		}
	}
	if n := pgtest.Scan[int](t, w.host.Pool, `SELECT count(*)::int FROM changes`); n != 1 {
		t.Errorf("OnChange received %d changes, want 1", n)
	}
	for _, req := range w.api.Requests() {
		if got := req.Header.Get("Stripe-Version"); got != stripesim.VersionBeforeBasil {
			t.Errorf("the request to Stripe has version %s", got)
		}
	}
	if faults, err := w.faults(account); err != nil || len(faults) > 0 {
		t.Errorf("%v, %v", faults, err)
	}
}

// With RefetchNever, or a key of the other mode, there are no requests to Stripe.
func TestRefetchNever(t *testing.T) {
	t.Parallel()
	account := newAccount()
	short["there and back in one second"](account)
	w := newWorld(t, account, true, subscriptions.RefetchNever)
	for _, e := range account.Events {
		if err := w.apply(e); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(w.api.Requests()); n != 0 || w.projection.Stats().TieBreak == 0 {
		t.Errorf("there were %d requests to Stripe, settled is %+v", n, w.projection.Stats())
	}
}

// No connection is held during a request to Stripe. A response is stored only if the row did not change since the request:
// otherwise the subscription is fetched again.
func TestRowChangesDuringRefetch(t *testing.T) {
	t.Parallel()
	account := newAccount()
	sub := account.Subscribe(stripesim.VersionBasil)
	account.Wait(time.Hour)
	sub.CancelAtPeriodEnd(true)
	sub.CancelAtPeriodEnd(false)
	account.Wait(time.Hour)
	w := newWorld(t, account, true, "")
	for _, e := range account.Events {
		w.failed[e.ID] = true
	}
	moved := false
	w.api.OnRequest = func(*http.Request) {
		if n := w.host.Pool.Stat().AcquiredConns(); n != 0 {
			t.Errorf("%d connections are held during the request to Stripe", n)
		}
		if !moved {
			moved = true
			pgtest.Exec(t, w.host.Pool, `UPDATE subscriptions SET revision = revision + 1`)
		}
	}
	for _, e := range account.Events {
		if reply := w.host.Send(t, e.Body); !reply.OK() {
			t.Errorf("the reply is %s", reply)
		}
	}
	if n := len(w.api.Requests()); n != 2 {
		t.Errorf("there were %d requests to Stripe, want 2", n)
	}
	if faults, err := w.faults(account); err != nil || len(faults) > 0 {
		t.Errorf("%v, %v", faults, err)
	}
	// A row that changes each time is not refetched forever.
	w.api.OnRequest = func(*http.Request) { pgtest.Exec(t, w.host.Pool, `UPDATE subscriptions SET revision = revision + 1`) }
	sub.SetMetadata("a", "1") // in the second of the response
	w.host.Expect(t, account.Events[len(account.Events)-1].Body, 503, "")
}

// After a refetch, events of its second and of the second before are refetched, older events are stale and newer events
// are applied.
func TestEventsAroundARefetch(t *testing.T) {
	t.Parallel()
	account := newAccount()
	sub := account.Subscribe(stripesim.VersionBasil)
	account.Wait(100 * time.Second)
	for i := range 4 {
		sub.SetQuantity(int64(i + 2))
		account.Wait(time.Second)
	}
	w := newWorld(t, account, true, "")
	for _, e := range account.Events {
		w.failed[e.ID] = true
	}
	// The changes are in the seconds 100 to 103. The row is as of second 102.
	asOf := account.Events[3].Created
	if err := w.apply(account.Events[3]); err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, w.host.Pool, `UPDATE subscriptions SET as_of = to_timestamp($1), newest_events = '[]'`, asOf)
	asked := func() int { return len(w.api.Requests()) }
	w.host.Expect(t, account.Events[1].Body, 200, webhooks.OutcomeStale)
	if asked() != 0 {
		t.Error("an event of two seconds before is refetched")
	}
	w.host.Expect(t, account.Events[4].Body, 200, webhooks.OutcomeProcessed)
	if asked() != 0 {
		t.Error("an event of the second after is refetched")
	}
	pgtest.Exec(t, w.host.Pool, `UPDATE subscriptions SET as_of = to_timestamp($1), newest_events = '[]'`, asOf)
	w.host.Expect(t, account.Events[2].Body, 200, webhooks.OutcomeStale)
	if asked() != 1 {
		t.Error("an event of the second before is not refetched")
	}
	if got := get(t, w.host, sub.ID()); *got.Quantity != 5 {
		t.Errorf("the quantity is %d", *got.Quantity)
	}
}

// If Stripe does not have the subscription of an ambiguous event, or refuses the request, the tie-break decides.
func TestAmbiguousWithoutAResponse(t *testing.T) {
	t.Parallel()
	for _, status := range []int{404, 401, 403} {
		account := newAccount()
		short["there and back in one second"](account)
		w := newWorld(t, account, true, "")
		for _, e := range account.Events {
			w.failed[e.ID] = true
			w.api.Fail(stripesim.Fault{Status: status})
			if reply := w.host.Send(t, e.Body); !reply.OK() {
				t.Errorf("after Stripe's %d the reply is %s", status, reply)
			}
		}
		if s := w.projection.Stats(); s.TieBreak == 0 || s.Refetched != 0 {
			t.Errorf("after Stripe's %d settled is %+v", status, s)
		}
	}
	account := newAccount()
	short["there and back in one second"](account)
	w := newWorld(t, account, true, "")
	for i, e := range account.Events {
		w.failed[e.ID] = true
		if i == len(account.Events)-1 {
			w.api.Fail(stripesim.Fault{Status: 500})
			w.host.Expect(t, e.Body, 503, "")
		}
		w.host.Send(t, e.Body)
	}
	if faults, err := w.faults(account); err != nil || len(faults) > 0 {
		t.Errorf("%v, %v", faults, err)
	}
}

// A request to Stripe has the event's account, by its context. A thin event has no API version, and neither has the request.
func TestRefetchRequest(t *testing.T) {
	t.Parallel()
	account := newAccount()
	account.ID = "acct_7"
	sub := account.Subscribe(stripesim.VersionBeforeBasil)
	w := newWorld(t, stripesim.New(2, stripesim.Epoch), true, "")
	w.api.Connect(account.ID, account)
	e := account.Events[0]
	w.failed[e.ID] = true
	w.host.Expect(t, e.Body, 200, webhooks.OutcomeProcessed)
	if got := get(t, w.host, sub.ID()).AccountID; got != "acct_7" {
		t.Errorf("the row's account is %q", got)
	}
	account.Wait(time.Hour)
	sub.Activate()
	later := account.Events[len(account.Events)-1]
	w.failed[later.ID] = true
	w.host.Expect(t, later.Thin(true), 200, webhooks.OutcomeProcessed)
	requests := w.api.Requests()
	if len(requests) != 1 {
		t.Fatalf("there were %d requests to Stripe", len(requests))
	}
	if got := requests[0].Header.Get("Stripe-Context") + requests[0].Header.Get("Stripe-Account"); got != "acct_7" {
		t.Errorf("the request to Stripe is for the account %q", got)
	}
	if got, set := requests[0].Header["Stripe-Version"]; set {
		t.Errorf("the request to Stripe has the version %q", got)
	}
	if got := requests[0].Header.Get("Stripe-Request-Trigger"); got != "event="+later.ThinID() {
		t.Errorf("the request to Stripe is for %q", got)
	}
	row := pgtest.Scan[string](t, w.host.Pool, `SELECT concat_ws(' ', status, as_of IS NOT NULL, object ? 'current_period_end') FROM subscriptions`)
	if row != "active t f" { // in the account's own version
		t.Errorf("the row is %s", row)
	}
}

// Events of other subscriptions are applied while one subscription is locked.
func TestOtherSubscriptionsDoNotWait(t *testing.T) {
	t.Parallel()
	host := newHost(t, nil)
	tx, err := host.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := webhooks.LockObject(t.Context(), tx, "sub_1"); err != nil {
		t.Fatal(err)
	}
	answered := make(chan delivery.Reply)
	go func() { answered <- host.Send(t, hooktest.Event("evt_1", updatedType, 1, object("active", ""))) }()
	other := strings.Replace(object("active", ""), "sub_1", "sub_2", 1)
	host.Expect(t, hooktest.Event("evt_2", updatedType, 1, other), 200, webhooks.OutcomeProcessed)
	select {
	case reply := <-answered:
		t.Errorf("the locked one is answered %s", reply)
	default:
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if reply := pgtest.Receive(t, "the reply for the subscription that was locked", answered); reply.Outcome() != webhooks.OutcomeProcessed {
		t.Errorf("then it is answered %s", reply)
	}
}
