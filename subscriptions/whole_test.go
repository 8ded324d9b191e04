package subscriptions_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// manyItems is an account with one subscription of 45 items, of which events have 20.
type manyItems struct {
	*hooktest.Host
	account    *stripesim.Account
	sub        *stripesim.Subscription
	api        *stripesim.API
	projection *subscriptions.Projection
	config     subscriptions.VerifyConfig
}

func newManyItems(t *testing.T, configure func(*webhooks.Config)) *manyItems {
	t.Helper()
	m := &manyItems{account: newAccount()}
	m.sub = m.account.Subscribe(stripesim.VersionBasil)
	for range 44 {
		m.account.Wait(time.Minute)
		m.sub.AddItem()
	}
	m.api = stripesim.NewAPI(m.account)
	server := httptest.NewServer(m.api)
	t.Cleanup(server.Close)
	h := webhooks.NewHandlers()
	m.projection = subscriptions.Register(h, &subscriptions.Config{Logger: hooktest.NoLog()})
	m.Host = hooktest.New(t, h, func(c *webhooks.Config) {
		c.APIKey, c.APIBase = "sk_test_1", server.URL
		if configure != nil {
			configure(c)
		}
	})
	m.config = subscriptions.VerifyConfig{
		APIKey: "sk_test_1", APIBase: server.URL, Fix: m.Receiver, Projection: m.projection, Logger: hooktest.NoLog(), Rate: 1000,
	}
	return m
}

func (m *manyItems) last() *stripesim.Event { return m.account.Events[len(m.account.Events)-1] }

// expect checks the number of items that are stored, whether they are all, and the number of requests so far.
func (m *manyItems) expect(t *testing.T, items int, complete bool, requests int) {
	t.Helper()
	sub := get(t, m.Host, m.sub.ID())
	if len(sub.Items) != items || sub.ItemsComplete != complete {
		t.Errorf("%d items are stored, complete: %t, want %d, %t", len(sub.Items), sub.ItemsComplete, items, complete)
	}
	if n := len(m.api.Requests()); n != requests {
		t.Errorf("there were %d requests to Stripe, want %d", n, requests)
	}
}

// An event that holds a part of the items is completed by three requests: the object, a page of items, the object once more.
// A thin event's object takes the same three.
func TestItemsBeyondTheEvent(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]func(*stripesim.Event) []byte{
		"snapshot": func(e *stripesim.Event) []byte { return e.Body },
		"thin":     func(e *stripesim.Event) []byte { return e.Thin(true) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newManyItems(t, nil)
			m.Expect(t, body(m.last()), 200, webhooks.OutcomeProcessed)
			m.expect(t, 45, true, 3)
			m.Expect(t, body(m.last()), 200, webhooks.OutcomeDuplicate)
			m.expect(t, 45, true, 3)
			config := m.config
			config.Fix, config.Projection = nil, nil
			if sum, err := subscriptions.Verify(t.Context(), m.Pool, &config); err != nil || sum.Checked != 1 || sum.Drifted != 0 {
				t.Errorf("verify: %+v, %v", sum, err)
			}
			// A late event of the past needs no request.
			m.Expect(t, m.account.Events[30].Body, 200, webhooks.OutcomeStale)
		})
	}
}

// The items of one state are stored together with the rest of that state: the object is read again if it has changed.
func TestItemsChangeWhileTheyAreRead(t *testing.T) {
	t.Parallel()
	m := newManyItems(t, nil)
	changes := 0
	m.api.OnRequest = func(req *http.Request) {
		if req.URL.Path == "/v1/subscription_items" && changes < 2 {
			changes++
			m.sub.AddItem() // after the object was read
		}
	}
	m.Expect(t, m.last().Body, 200, webhooks.OutcomeProcessed)
	m.expect(t, 47, true, 7)
}

// Where the rest cannot be had, the part is stored and marked; the background completes it.
func TestItemsAreCompletedLater(t *testing.T) {
	t.Parallel()
	items := func(status int) []stripesim.Fault {
		return []stripesim.Fault{{Path: "/v1/subscription_items", Status: status}}
	}
	for name, c := range map[string]struct {
		faults    []stripesim.Fault
		configure func(*webhooks.Config)
		requests  int
	}{
		"the rate is used up":             {nil, func(c *webhooks.Config) { c.ListRate = -1 }, 0},
		"there is no key":                 {nil, func(c *webhooks.Config) { c.APIKey = "" }, 0},
		"the key may not read items":      {items(403), nil, 2},
		"Stripe's own rate is used up":    {items(429), nil, 2},
		"and for the object":              {[]stripesim.Fault{{Status: 429}}, nil, 1},
		"the key may not read the object": {[]stripesim.Fault{{Status: 403}}, nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newManyItems(t, c.configure)
			m.api.Fail(c.faults...)
			m.Expect(t, m.last().Body, 200, webhooks.OutcomeProcessed)
			m.expect(t, 20, false, c.requests)
			if n := m.projection.Stats().Incomplete; n != 1 {
				t.Errorf("%d incomplete subscriptions are counted", n)
			}
			if sum, err := subscriptions.Verify(t.Context(), m.Pool, &subscriptions.VerifyConfig{APIKey: "sk_test_1", APIBase: m.config.APIBase}); err != nil || sum.Drifted != 1 {
				t.Errorf("verify: %+v, %v", sum, err)
			}
			before := len(m.api.Requests())
			for round, want := range []int{1, 0} {
				if n, err := subscriptions.CompleteItems(t.Context(), m.Pool, &m.config); n != want || err != nil {
					t.Errorf("round %d: %d were completed, %v, want %d", round, n, err, want)
				}
			}
			m.expect(t, 45, true, before+3)
		})
	}
	t.Run("no answer", func(t *testing.T) {
		t.Parallel()
		m := newManyItems(t, nil)
		m.api.Fail(items(500)...)
		m.Expect(t, m.last().Body, 503, "")
		m.Expect(t, m.last().Body, 200, webhooks.OutcomeProcessed)
		m.expect(t, 45, true, 5)
	})
}

// Subscriptions of test clocks are imported and compared. Those that Stripe does not have any more can be marked as canceled.
func TestVerifyTestClocks(t *testing.T) {
	t.Parallel()
	v := newVerified(t, 150, true)
	clock := v.account.AddTestClock()
	onClock := []*stripesim.Subscription{v.account.Subscribe(stripesim.VersionBasil), v.account.Subscribe(stripesim.VersionBasil)}
	for _, s := range onClock {
		s.Use(clock)
	}
	id := func(i int) string { return onClock[i].ID() }
	v.config.Fix = v.Receiver
	v.config.Rate = 1000
	if sum, _ := v.verify(t); sum != (subscriptions.VerifyResult{Checked: 152, Drifted: 2, Fixed: 2}) {
		t.Errorf("the import gives %+v", sum)
	}
	if sum, found := v.verify(t); sum != (subscriptions.VerifyResult{Checked: 152}) || found != "" {
		t.Errorf("then it gives %+v\n%s", sum, found)
	}
	onClock[0].Delete()
	v.Send(t, v.account.Events[len(v.account.Events)-1].Body)
	v.account.EndTestClock(clock)
	v.changes = nil
	want := id(1) + " id " + id(1) + " <nil>"
	if sum, found := v.verify(t); sum != (subscriptions.VerifyResult{Checked: 152, Drifted: 1}) || found != want {
		t.Errorf("after the clock's end it gives %+v\n%s", sum, found)
	}
	v.config.Gone = true
	if sum, _ := v.verify(t); sum != (subscriptions.VerifyResult{Checked: 152, Drifted: 1, Fixed: 1}) {
		t.Errorf("with Gone it gives %+v", sum)
	}
	if len(v.changes) != 1 || !v.changes[0].Canceled() || v.changes[0].Event != nil {
		t.Errorf("the changes are %+v", v.changes)
	}
	row := pgtest.Scan[string](t, v.Pool, `SELECT concat_ws(' ', status, ended_at IS NOT NULL, canceled_at IS NOT NULL, object ->> 'status', items_complete,
		(SELECT count(*) FROM subscription_items i WHERE i.subscription_id = s.id)) FROM subscriptions s WHERE id = $1`, id(1))
	if row != "canceled t t canceled t 1" {
		t.Errorf("the row is %s", row)
	}
	if sum, found := v.verify(t); sum != (subscriptions.VerifyResult{Checked: 152}) || found != "" {
		t.Errorf("then it gives %+v\n%s", sum, found)
	}
	// A key of another sandbox knows none of them.
	for _, s := range v.account.Subscriptions[:3] {
		v.account.Forget(s)
	}
	if sum, err := subscriptions.Verify(t.Context(), v.Pool, &v.config); !errors.Is(err, subscriptions.ErrRefused) || sum.Fixed != 0 {
		t.Errorf("for more than 1 %% it gives %+v, %v", sum, err)
	}
	v.config.Force = true
	if sum, _ := v.verify(t); sum.Fixed != 3 {
		t.Errorf("with Force it gives %+v", sum)
	}
}
