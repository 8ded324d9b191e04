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

// barrier lets nobody pass until n have come. Later ones pass at once.
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

// replicas are as many processes on one database as far as the receivers know: each queues for itself.
func replicas(t *testing.T, pool *pgxpool.Pool, h *webhooks.Handlers, n int) []*hooktest.Host {
	hosts := make([]*hooktest.Host, n)
	for i := range hosts {
		hosts[i] = hooktest.On(t, pool, h, nil)
	}
	return hosts
}

// outcomes delivers copies of one event at the same instant, to one host after the other.
func outcomes(t *testing.T, hosts []*hooktest.Host, body []byte, copies int) map[webhooks.Outcome]int {
	t.Helper()
	replies := make([]delivery.Reply, copies)
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

// noObject is an event about an object without an id, as an upcoming invoice: no lock of an object keeps its duplicates
// from running at once.
var noObject = hooktest.Event("evt_1", "test.event", 1700000000, `{}`)

// All copies have found the event unknown before one of them acts: the index alone decides, and what
// the losers did is rolled back.
func TestLosersOfTheRaceAreRolledBack(t *testing.T) {
	t.Parallel()
	const copies = 5 // fewer than the pool's connections, all of which are in use at once
	meet := barrier(copies)
	h := webhooks.NewHandlers()
	webhooks.On(h, "test.event", func(ctx context.Context, tx pgx.Tx, _ *webhooks.Event, _ *anyObject) error {
		meet()
		_, err := tx.Exec(ctx, addOne)
		return err
	})
	host := newCounter(t, h, nil)
	got := outcomes(t, replicas(t, host.Pool, h, copies), noObject, copies)
	if got[webhooks.OutcomeProcessed] != 1 || got[webhooks.OutcomeDuplicate] != copies-1 {
		t.Errorf("the outcomes are %v", got)
	}
	expectCounter(t, host, 1)
	if n := host.Count(t, "stripe_webhook_events"); n != 1 {
		t.Errorf("the ledger has %d rows", n)
	}
}

// Fifty copies at once, in many rounds, on a pool of eight.
func TestFiftyCopiesAtOnce(t *testing.T) {
	t.Parallel()
	const copies, rounds = 50, 20
	host := newCounter(t, counting(func(context.Context, pgx.Tx) error { return nil }), nil)
	for round := range rounds {
		body := hooktest.Event("evt_"+string(rune('a'+round)), "test.event", 1, `{}`)
		if got := outcomes(t, []*hooktest.Host{host}, body, copies); got[webhooks.OutcomeProcessed] != 1 || got[webhooks.OutcomeDuplicate] != copies-1 {
			t.Fatalf("round %d: the outcomes are %v", round, got)
		}
		expectCounter(t, host, round+1)
	}
}

// An event that nothing handled is applied when it comes again and something does, once.
func TestIgnoredIsProvisional(t *testing.T) {
	t.Parallel()
	before := hooktest.New(t, webhooks.NewHandlers(), nil)
	before.Expect(t, noObject, 200, webhooks.OutcomeIgnored)
	before.Expect(t, noObject, 200, webhooks.OutcomeDuplicate)
	const copies = 5
	meet := barrier(copies)
	h := webhooks.NewHandlers()
	webhooks.On(h, "test.event", func(ctx context.Context, tx pgx.Tx, _ *webhooks.Event, _ *anyObject) error {
		meet()
		_, err := tx.Exec(ctx, addOne)
		return err
	})
	pgtest.Exec(t, before.Pool, `CREATE TABLE counter (n int); INSERT INTO counter VALUES (0)`)
	after := replicas(t, before.Pool, h, copies)
	if got := outcomes(t, after, noObject, copies); got[webhooks.OutcomeProcessed] != 1 || got[webhooks.OutcomeDuplicate] != copies-1 {
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
		t.Error("a function ran without an object")
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
	begun, goOn := make(chan struct{}), make(chan struct{})
	host := newCounter(t, counting(func(context.Context, pgx.Tx) error {
		close(begun)
		<-goOn
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
	close(goOn)
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
