package webhooks_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/delivery"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/webhooks"
)

// barrier blocks callers until n have arrived. Later callers pass immediately.
func barrier(n int) func() {
	var mu sync.Mutex
	open := make(chan struct{})
	return func() {
		mu.Lock()
		if n--; n == 0 {
			close(open)
		}
		mu.Unlock()
		<-open
	}
}

// replicas returns n receivers on one database, each with its own queues, like separate processes.
func replicas(t *testing.T, pool *pgxpool.Pool, h *webhooks.Handlers, n int) []*hooktest.Host {
	hosts := make([]*hooktest.Host, n)
	for i := range hosts {
		hosts[i] = hooktest.On(t, pool, h, nil)
	}
	return hosts
}

// outcomes delivers one event many times at the same instant, to the hosts in turn, and counts the outcomes.
func outcomes(t *testing.T, hosts []*hooktest.Host, body []byte, deliveries int) map[webhooks.Outcome]int {
	t.Helper()
	replies := make([]delivery.Reply, deliveries)
	var wg sync.WaitGroup
	for i := range replies {
		wg.Go(func() { replies[i] = hosts[i%len(hosts)].Send(t, body) })
	}
	wg.Wait()
	count := map[webhooks.Outcome]int{}
	for _, reply := range replies {
		if reply.Status != http.StatusOK {
			t.Errorf("the reply is %s", reply)
		}
		count[reply.Outcome()]++
	}
	return count
}

// noObject is an event whose object has no id, such as an upcoming invoice. Without a lock of an object, its duplicates
// run concurrently.
var noObject = hooktest.Event("evt_1", "test.event", 1700000000, `{}`)

// All duplicates find the event unknown before one of them acts. Only the index decides, and the losers are rolled back.
func TestLosersOfTheRaceAreRolledBack(t *testing.T) {
	t.Parallel()
	const deliveries = 5 // fewer than the pool's connections, all of which are in use at once
	meet := barrier(deliveries)
	h := webhooks.NewHandlers()
	webhooks.On(h, "test.event", func(ctx context.Context, tx pgx.Tx, _ *webhooks.Event, _ *anyObject) error {
		meet()
		_, err := tx.Exec(ctx, addOne)
		return err
	})
	host := newCounter(t, h, nil)
	got := outcomes(t, replicas(t, host.Pool, h, deliveries), noObject, deliveries)
	if got[webhooks.OutcomeProcessed] != 1 || got[webhooks.OutcomeDuplicate] != deliveries-1 {
		t.Errorf("the outcomes are %v", got)
	}
	expectCounter(t, host, 1)
	if n := host.Count(t, "stripe_webhook_events"); n != 1 {
		t.Errorf("the ledger has %d rows", n)
	}
}

// Fifty concurrent deliveries of one event, in many rounds, on a pool of eight.
func TestFiftyDeliveriesAtOnce(t *testing.T) {
	t.Parallel()
	const deliveries, rounds = 50, 20
	host := newCounter(t, counting(func(context.Context, pgx.Tx) error { return nil }), nil)
	for round := range rounds {
		body := hooktest.Event("evt_"+string(rune('a'+round)), "test.event", 1, `{}`)
		if got := outcomes(t, []*hooktest.Host{host}, body, deliveries); got[webhooks.OutcomeProcessed] != 1 || got[webhooks.OutcomeDuplicate] != deliveries-1 {
			t.Fatalf("round %d: the outcomes are %v", round, got)
		}
		expectCounter(t, host, round+1)
	}
}

// An ignored event is applied once if it is redelivered and then has a handler.
func TestIgnoredIsProvisional(t *testing.T) {
	t.Parallel()
	before := hooktest.New(t, webhooks.NewHandlers(), nil)
	before.Expect(t, noObject, 200, webhooks.OutcomeIgnored)
	before.Expect(t, noObject, 200, webhooks.OutcomeDuplicate)
	const deliveries = 5
	meet := barrier(deliveries)
	h := webhooks.NewHandlers()
	webhooks.On(h, "test.event", func(ctx context.Context, tx pgx.Tx, _ *webhooks.Event, _ *anyObject) error {
		meet()
		_, err := tx.Exec(ctx, addOne)
		return err
	})
	pgtest.Exec(t, before.Pool, `CREATE TABLE counter (n int); INSERT INTO counter VALUES (0)`)
	after := replicas(t, before.Pool, h, deliveries)
	if got := outcomes(t, after, noObject, deliveries); got[webhooks.OutcomeProcessed] != 1 || got[webhooks.OutcomeDuplicate] != deliveries-1 {
		t.Errorf("the outcomes are %v", got)
	}
	expectCounter(t, after[0], 1)
	after[0].Expect(t, noObject, 200, webhooks.OutcomeDuplicate)
	before.Expect(t, noObject, 200, webhooks.OutcomeDuplicate)
	if got := pgtest.Scan[string](t, before.Pool, `SELECT string_agg(outcome, ' ') FROM stripe_webhook_events`); got != "processed" {
		t.Errorf("the ledger says %q", got)
	}
}

func TestMode(t *testing.T) {
	t.Parallel()
	live := []byte(strings.Replace(string(testEvent), `"livemode":false`, `"livemode":true`, 1))
	for mode, want := range map[webhooks.Mode][2]webhooks.Outcome{
		webhooks.ModeAny:  {webhooks.OutcomeProcessed, webhooks.OutcomeProcessed},
		webhooks.ModeLive: {webhooks.OutcomeIgnored, webhooks.OutcomeProcessed},
		webhooks.ModeTest: {webhooks.OutcomeProcessed, webhooks.OutcomeIgnored},
	} {
		for i, body := range [][]byte{testEvent, live} {
			host := newCounter(t, counting(func(context.Context, pgx.Tx) error { return nil }), func(c *webhooks.Config) { c.Mode = mode })
			host.Expect(t, body, 200, want[i])
			host.Expect(t, body, 200, webhooks.OutcomeDuplicate)
		}
	}
}

// Thin events are acknowledged, and claim nothing.
func TestThinEventsAreIgnored(t *testing.T) {
	t.Parallel()
	h := webhooks.NewHandlers()
	webhooks.On(h, "*", func(context.Context, pgx.Tx, *webhooks.Event, *anyObject) error {
		t.Error("a handler ran without an object")
		return nil
	})
	host := hooktest.New(t, h, nil)
	thin := []byte(`{"id":"evt_thin","object":"v2.core.event","type":"v1.customer.subscription.updated","created":"2026-10-01T10:00:00Z",
		"related_object":{"id":"sub_1","type":"subscription","url":"/v1/subscriptions/sub_1"},"snapshot_event":"evt_1"}`)
	host.Expect(t, thin, 200, webhooks.OutcomeIgnored)
	host.Expect(t, thin, 200, webhooks.OutcomeDuplicate)
}

// Once accepted, the work goes on when the client hangs up.
func TestClientHangsUp(t *testing.T) {
	t.Parallel()
	ctx, hangUp := context.WithCancel(t.Context())
	defer hangUp()
	begun, resume := make(chan struct{}), make(chan struct{})
	host := newCounter(t, counting(func(context.Context, pgx.Tx) error {
		close(begun)
		<-resume
		return nil
	}), nil)
	gone := make(chan error)
	go func() {
		_, err := host.Sender.Send(ctx, testEvent)
		gone <- err
	}()
	pgtest.Receive(t, "the handler begins", begun)
	hangUp()
	if err := pgtest.Receive(t, "the client hangs up", gone); err == nil {
		t.Error("the client got an answer")
	}
	close(resume)
	if err := host.Shutdown(); err != nil {
		t.Fatal(err)
	}
	expectCounter(t, host, 1)
	if n := host.Count(t, "stripe_webhook_events"); n != 1 {
		t.Errorf("the ledger has %d rows", n)
	}
}

// Two events that lock two rows crosswise deadlock in PostgreSQL; both take effect.
func TestDeadlock(t *testing.T) {
	t.Parallel()
	meet := barrier(2)
	h := webhooks.NewHandlers()
	webhooks.On(h, "test.event", func(ctx context.Context, tx pgx.Tx, ev *webhooks.Event, _ *anyObject) error {
		rows := []string{"a", "b"}
		if ev.ID == "evt_2" {
			rows = []string{"b", "a"}
		}
		for i, row := range rows {
			if _, err := tx.Exec(ctx, `UPDATE crossed SET n = n + 1 WHERE id = $1`, row); err != nil {
				return err
			}
			if i == 0 {
				meet()
			}
		}
		return nil
	})
	host := hooktest.New(t, h, nil)
	pgtest.Exec(t, host.Pool, `CREATE TABLE crossed (id text, n int); INSERT INTO crossed VALUES ('a', 0), ('b', 0)`)
	pgtest.Exec(t, host.Pool, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET deadlock_timeout = ''20ms''', current_database()); END $$`)
	host.Pool.Reset()
	var wg sync.WaitGroup
	for _, id := range []string{"evt_1", "evt_2"} {
		wg.Go(func() { host.Expect(t, hooktest.Event(id, "test.event", 1, `{}`), 200, webhooks.OutcomeProcessed) })
	}
	wg.Wait()
	if sum := pgtest.Scan[int](t, host.Pool, `SELECT sum(n)::int FROM crossed`); sum != 4 {
		t.Errorf("the effects add up to %d, want 4", sum)
	}
}

// The receiver serves on READ COMMITTED whatever the database's default is.
func TestIsolationLevel(t *testing.T) {
	t.Parallel()
	seen := make(chan string, 1)
	h := webhooks.NewHandlers()
	webhooks.On(h, "test.event", func(ctx context.Context, tx pgx.Tx, _ *webhooks.Event, _ *anyObject) error {
		var level string
		err := tx.QueryRow(ctx, `SHOW transaction_isolation`).Scan(&level)
		seen <- level
		return err
	})
	pool := pgtest.Connect(t, pgtest.NewURL(t)+"&default_transaction_isolation=serializable")
	hooktest.On(t, pool, h, nil).Expect(t, testEvent, 200, webhooks.OutcomeProcessed)
	if level := pgtest.Receive(t, "the handler runs", seen); level != "read committed" {
		t.Errorf("the level is %s", level)
	}
}
