package webhooks_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

func TestCustomerID(t *testing.T) {
	t.Parallel()
	for object, want := range map[string]string{
		`{"id":"in_1","object":"invoice","customer":"cus_1"}`:                                     "cus_1",
		`{"id":"in_1","object":"invoice","customer":{"id":"cus_2","object":"customer"}}`:          "cus_2",
		`{"id":"cus_3","object":"customer"}`:                                                      "cus_3",
		`{"id":"cus_3","object":"customer","deleted":true}`:                                       "cus_3",
		`{"id":"in_1","object":"invoice","customer":null}`:                                        "",
		`{"id":"in_1","object":"invoice"}`:                                                        "",
		`{"id":"in_1","object":"invoice","customer":7}`:                                           "",
		`{"id":"in_1","object":"invoice","customer":{"object":"customer"}}`:                       "",
		`{"id":"in_1","object":"invoice","lines":{"customer":"cus_9"},"metadata":{"customer":1}}`: "",
		`{"id":"cus_4","object":"customer","customer":"cus_5"}`:                                   "cus_4",
	} {
		ev, err := webhooks.ParseEvent(hooktest.Event("evt_1", "a.type", 1, object))
		if err != nil {
			t.Fatal(err)
		}
		if got := ev.CustomerID(); got != want {
			t.Errorf("%s: the customer is %q, want %q", object, got, want)
		}
	}
	for name, ev := range map[string]*webhooks.Event{
		"no object": {ID: "evt_1", Type: "a.type"}, "not JSON": {ID: "evt_1", Type: "a.type", Object: []byte(`{"customer":`)},
		"not an object": {ID: "evt_1", Type: "a.type", Object: []byte(`["cus_1"]`)},
	} {
		if got := ev.CustomerID(); got != "" {
			t.Errorf("%s: the customer is %q", name, got)
		}
	}
}

// readingAndWriting registers a handler that reads a customer's balance, waits a moment, and writes what it has read plus one. It
// returns how often two handlers of a customer were in between at once.
func readingAndWriting(h *webhooks.Handlers) (overlaps *atomic.Int64) {
	overlaps = &atomic.Int64{}
	var between sync.Map
	webhooks.On(h, "*", func(ctx context.Context, tx pgx.Tx, ev *webhooks.Event, _ *anyObject) error {
		customer := ev.CustomerID()
		count, _ := between.LoadOrStore(customer, &atomic.Int64{})
		if count.(*atomic.Int64).Add(1) > 1 {
			overlaps.Add(1)
		}
		defer count.(*atomic.Int64).Add(-1)
		var balance int
		if err := tx.QueryRow(ctx, `SELECT balance FROM balances WHERE customer = $1`, customer).Scan(&balance); err != nil {
			return err
		}
		time.Sleep(time.Duration(rand.IntN(3)) * time.Millisecond) // others have the time to read it, too
		_, err := tx.Exec(ctx, `UPDATE balances SET balance = $2 WHERE customer = $1`, customer, balance+1)
		return err
	})
	return overlaps
}

// With ByCustomer the events of one customer run one after the other, in two receivers on one database, whatever their
// objects are, and events without a customer in between. Nothing deadlocks, and nothing is lost that handlers read and
// write.
func TestSerializeByCustomer(t *testing.T) {
	t.Parallel()
	const customers, events = 3, 40
	url := pgtest.NewURL(t)
	var hosts []*hooktest.Host
	var overlaps []*atomic.Int64
	for range 2 {
		h := webhooks.NewHandlers()
		overlaps = append(overlaps, readingAndWriting(h))
		hosts = append(hosts, hooktest.On(t, pgtest.Connect(t, url+"&pool_max_conns=6"), h, func(c *webhooks.Config) {
			c.SerializeBy = webhooks.ByCustomer
			c.Timeout, c.LockTimeout, c.AcquireTimeout = pgtest.WaitLimit, pgtest.WaitLimit, pgtest.WaitLimit
		}))
		isReady(t, hosts[len(hosts)-1])
	}
	pgtest.Exec(t, hosts[0].Pool, `CREATE TABLE balances (customer text PRIMARY KEY, balance int NOT NULL);
		INSERT INTO balances VALUES ('', 0), ('cus_0', 0), ('cus_1', 0), ('cus_2', 0)`)
	var wg sync.WaitGroup
	for i := range customers * events {
		customer, host := fmt.Sprintf("cus_%d", i%customers), hosts[rand.IntN(2)]
		object := fmt.Sprintf(`{"id":"in_%d","object":"invoice","customer":%q}`, i%7, customer) // shared by customers
		if i%5 == 0 {
			object = fmt.Sprintf(`{"id":%q,"object":"customer"}`, customer)
		}
		wg.Go(func() {
			host.Expect(t, hooktest.Event(fmt.Sprintf("evt_%d", i), "an.event", 1, object), 200, webhooks.OutcomeProcessed)
		})
	}
	wg.Wait()
	for i := range customers {
		if n := pgtest.Scan[int](t, hosts[0].Pool, `SELECT balance FROM balances WHERE customer = $1`, fmt.Sprintf("cus_%d", i)); n != events {
			t.Errorf("the balance of customer %d is %d, want %d", i, n, events)
		}
	}
	for i, overlaps := range overlaps {
		if n := overlaps.Load(); n > 0 {
			t.Errorf("receiver %d: handlers of one customer ran at the same time %d times", i, n)
		}
	}
}

// Without it they may run at the same time.
func TestSerializeByObject(t *testing.T) {
	t.Parallel()
	meet := make(chan struct{})
	h := webhooks.NewHandlers()
	webhooks.On(h, "*", func(ctx context.Context, _ pgx.Tx, _ *webhooks.Event, _ *anyObject) error {
		select {
		case meet <- struct{}{}:
		case <-meet:
		case <-ctx.Done():
		}
		return ctx.Err()
	})
	host := hooktest.New(t, h, func(c *webhooks.Config) { c.Timeout = pgtest.WaitLimit })
	for _, reply := range sendAll(t, host,
		hooktest.Event("evt_1", "an.event", 1, `{"id":"in_1","customer":"cus_1"}`),
		hooktest.Event("evt_2", "an.event", 1, `{"id":"in_2","customer":"cus_1"}`))() {
		if !reply.OK() {
			t.Error(reply)
		}
	}
}

// The lock of a customer that another process holds is waited for before the object's is acquired: otherwise two processes
// could wait for one another.
func TestSerializeByCustomerWaitsInOrder(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]*webhooks.Handlers{"a handler": counting(succeed), "a projection": mirrored()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host := newCounter(t, h, func(c *webhooks.Config) {
				c.SerializeBy, c.Timeout, c.LockTimeout = webhooks.ByCustomer, pgtest.WaitLimit, pgtest.WaitLimit
			})
			isReady(t, host)
			other := lockObject(t, host, "cus_1")
			eventType := map[string]string{"a handler": "test.event", "a projection": "customer.subscription.updated"}[name]
			event := func(id, customer string) []byte {
				return hooktest.Event(id, eventType, 1, `{"id":"sub_1","object":"subscription","status":"active","customer":"`+customer+`","items":{"data":[{"id":"si_1","price":{"id":"price_1"}}]}}`)
			}
			replies := sendAll(t, host, event("evt_1", "cus_1"))
			pgtest.AwaitSQL(t, host.Pool, "the event waits for its customer's lock",
				`SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`)
			if _, err := other.Exec(t.Context(), `SET LOCAL lock_timeout = '1s'`); err != nil {
				t.Fatal(err)
			}
			if err := webhooks.LockObject(t.Context(), other, "sub_1"); err != nil {
				t.Errorf("the object's lock is not free: %v", err)
			}
			if err := other.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			if reply := replies()[0]; !reply.OK() {
				t.Error(reply)
			}
			host.Expect(t, event("evt_2", "cus_2"), 200, map[string]webhooks.Outcome{
				"a handler": webhooks.OutcomeProcessed, "a projection": webhooks.OutcomeProcessed,
			}[name])
		})
	}
}

func mirrored() *webhooks.Handlers {
	h := webhooks.NewHandlers()
	subscriptions.Register(h, &subscriptions.Config{Logger: hooktest.NoLog()})
	return h
}

// Two events of one customer are never in one batch, where a lock would exclude nothing.
func TestSerializeByCustomerInBatches(t *testing.T) {
	t.Parallel()
	const subs = 30
	host := hooktest.New(t, mirrored(), func(c *webhooks.Config) {
		c.SerializeBy, c.Timeout, c.LockTimeout = webhooks.ByCustomer, pgtest.WaitLimit, pgtest.WaitLimit
	})
	isReady(t, host)
	var bodies [][]byte
	for i := range subs {
		bodies = append(bodies, hooktest.Event(fmt.Sprintf("evt_%d", i), "customer.subscription.created", 1,
			fmt.Sprintf(`{"id":"sub_%d","object":"subscription","status":"active","customer":"cus_%d","items":{"data":[{"id":"si_%d","price":{"id":"price_1"}}]}}`, i, i%3, i)))
	}
	for _, reply := range sendAll(t, host, bodies...)() {
		if !reply.OK() {
			t.Error(reply)
		}
	}
	if n := host.Count(t, "subscriptions"); n != subs {
		t.Errorf("there are %d subscriptions", n)
	}
	const together = `SELECT count(*)::int FROM (SELECT FROM stripe_webhook_events AS e JOIN subscriptions AS s ON s.id = e.object_id
		GROUP BY e.xmin::text, s.customer_id HAVING count(*) > 1) AS shared`
	if n := pgtest.Scan[int](t, host.Pool, together); n > 0 {
		t.Errorf("%d transactions have several events of one customer", n)
	}
}

// The customer of a thin event is known when its object has been fetched.
func TestSerializeThinEventsByCustomer(t *testing.T) {
	t.Parallel()
	account := stripesim.New(1, stripesim.Epoch)
	sub := account.Subscribe(stripesim.VersionBasil)
	api := httptest.NewServer(stripesim.NewAPI(account))
	t.Cleanup(api.Close)
	host := hooktest.New(t, mirrored(), func(c *webhooks.Config) {
		c.SerializeBy, c.Timeout, c.LockTimeout = webhooks.ByCustomer, pgtest.WaitLimit, pgtest.WaitLimit
		c.APIKey, c.APIBase = "sk_test_1", api.URL
	})
	isReady(t, host)
	other := lockObject(t, host, sub.Customer())
	replies := sendAll(t, host, account.Events[0].Thin(true))
	pgtest.AwaitSQL(t, host.Pool, "the event waits for its customer's lock",
		`SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`)
	if err := other.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if reply := replies()[0]; !reply.OK() {
		t.Error(reply)
	}
}

func TestSerializeByIsChecked(t *testing.T) {
	t.Parallel()
	_, err := webhooks.New(pgtest.NewPool(t), webhooks.NewHandlers(), &webhooks.Config{Secrets: []string{"whsec_1"}, SerializeBy: "account"})
	if err == nil || err.Error() != `webhooks.Config.SerializeBy is "account": use "object" or "customer"` {
		t.Errorf("the error is %v", err)
	}
}

// The events of an object without an id, such as an upcoming invoice, run one after the other by their customer.
func TestSerializeObjectsWithoutAnID(t *testing.T) {
	t.Parallel()
	const events = 20
	h := webhooks.NewHandlers()
	overlaps := readingAndWriting(h)
	host := hooktest.On(t, pgtest.Connect(t, pgtest.NewURL(t)+"&pool_max_conns=6"), h, func(c *webhooks.Config) {
		c.Timeout, c.LockTimeout, c.AcquireTimeout = pgtest.WaitLimit, pgtest.WaitLimit, pgtest.WaitLimit
	})
	pgtest.Exec(t, host.Pool, `CREATE TABLE balances (customer TEXT PRIMARY KEY, balance INT); INSERT INTO balances VALUES ('cus_1', 0)`)
	var wg sync.WaitGroup
	for i := range events {
		wg.Go(func() {
			host.Expect(t, hooktest.Event(fmt.Sprintf("evt_%d", i), "invoice.upcoming", 1, `{"object":"invoice","customer":"cus_1"}`), 200, webhooks.OutcomeProcessed)
		})
	}
	wg.Wait()
	if balance := pgtest.Scan[int](t, host.Pool, `SELECT balance FROM balances`); balance != events || overlaps.Load() != 0 {
		t.Errorf("the balance is %d after %d events, of which %d overlapped", balance, events, overlaps.Load())
	}
}
