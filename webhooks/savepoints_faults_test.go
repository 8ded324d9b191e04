package webhooks_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/webhooks"
)

// A caller that gives up while its event is in a batch does not disturb the others.
func TestCallerGivesUpInABatch(t *testing.T) {
	t.Parallel()
	ctx, giveUp := context.WithCancel(t.Context())
	s := newSavepointHost(t, inBatch{"evt_2": func(ctx context.Context, tx pgx.Tx) error {
		giveUp()
		_, err := tx.Exec(ctx, addNoteOf, "evt_2")
		return err
	}})
	ev, err := webhooks.ParseEvent(noted("evt_2"))
	if err != nil {
		t.Fatal(err)
	}
	s.Expect(t, noted("evt_warm"), 200, webhooks.OutcomeProcessed)
	g := &gate{make(chan struct{}), make(chan struct{})}
	s.gates.Store(g)
	var wg sync.WaitGroup
	wg.Go(func() {
		s.Expect(t, hooktest.Event("evt_gate", "gate.event", 1, `{"id":"obj_gate"}`), 200, webhooks.OutcomeProcessed)
	})
	pgtest.Receive(t, "the first event is in progress", g.reached)
	wg.Go(func() { s.Expect(t, noted("evt_1"), 200, webhooks.OutcomeProcessed) })
	pgtest.AwaitEqual(t, "the number of events that wait for a batch", 1, s.Receiver.WaitingForSavepoint)
	wg.Go(func() {
		if result, err := s.Receiver.Apply(ctx, ev); err == nil && result.Outcome != webhooks.OutcomeProcessed {
			t.Errorf("the result is %v", result)
		}
	})
	pgtest.AwaitEqual(t, "the number of events that wait for a batch", 2, s.Receiver.WaitingForSavepoint)
	wg.Go(func() { s.Expect(t, noted("evt_3"), 200, webhooks.OutcomeProcessed) })
	pgtest.AwaitEqual(t, "the number of events that wait for a batch", 3, s.Receiver.WaitingForSavepoint)
	close(g.open)
	wg.Wait()
	if n := s.ran("evt_3"); n != 1 {
		t.Errorf("the handler of another event ran %d times", n)
	}
	s.Expect(t, noted("evt_2"), 200, webhooks.OutcomeDuplicate) // it could no longer be left out
	if notes := s.notes(t); len(notes) != 4 {
		t.Errorf("the notes are %v", notes)
	}
}

// A handler of a batch that does not return loses the connection. The other events of the batch are not to blame.
func TestStuckHandlerInABatch(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	s := newSavepointHost(t, inBatch{"evt_stuck": func(ctx context.Context, tx pgx.Tx) error {
		_, _ = tx.Exec(ctx, addNoteOf, "evt_stuck")
		<-release
		return nil
	}})
	config := func(c *webhooks.Config) {
		c.ConcurrentBatches, c.Timeout, c.LockTimeout = 1, 3*time.Second, pgtest.WaitLimit
	}
	h := webhooks.NewHandlers()
	for _, eventType := range []string{"gate.event", "noted.event"} {
		webhooks.On(h, eventType, func(ctx context.Context, tx pgx.Tx, ev *webhooks.Event, _ *anyObject) error {
			if eventType == "gate.event" {
				g := s.gates.Load()
				close(g.reached)
				<-g.open
				return nil
			}
			if do := s.do[ev.ID]; do != nil {
				return do(ctx, tx)
			}
			_, err := tx.Exec(ctx, addNoteOf, ev.ID)
			return err
		}, webhooks.Batchable())
	}
	s.Host = hooktest.On(t, s.Pool, h, config)
	s.Receiver.WaitForBatch(time.Minute)
	replies, _ := s.batch(t, noted("evt_1"), noted("evt_stuck"), noted("evt_2"))
	for i, want := range []int{503, 500, 503} {
		if replies[i].Status != want {
			t.Errorf("the reply is %s, want %d", replies[i], want)
		}
	}
	if n := pgtest.Scan[int](t, s.Pool, `SELECT count(*) FROM stripe_webhook_failures WHERE event_id = 'evt_stuck'`); n != 1 || s.Count(t, "stripe_webhook_failures") != 1 {
		t.Errorf("%d failures of it are recorded, of %d", n, s.Count(t, "stripe_webhook_failures"))
	}
	for _, id := range []string{"evt_1", "evt_2"} { // as Stripe retries them, while the handler still does not return
		s.Expect(t, noted(id), 200, webhooks.OutcomeProcessed)
	}
	close(release)
	pgtest.AwaitEqual(t, "the number of deliveries in flight", 0, func() int { return s.Receiver.Stats().InFlight })
	delete(s.do, "evt_stuck")
	s.Expect(t, noted("evt_stuck"), 200, webhooks.OutcomeProcessed)
	if notes := s.notes(t); len(notes) != 3 {
		t.Errorf("the notes are %v", notes)
	}
}

// A handler that ends its goroutine fails its own event, and not the one that leads the batch.
func TestGoexitInABatch(t *testing.T) {
	t.Parallel()
	s := newSavepointHost(t, inBatch{"evt_2": func(context.Context, pgx.Tx) error { runtime.Goexit(); return nil }})
	replies, _ := s.batch(t, noted("evt_1"), noted("evt_2"), noted("evt_3"))
	for i, want := range []int{503, 500, 200} {
		if replies[i].Status != want {
			t.Errorf("the reply is %s, want %d", replies[i], want)
		}
	}
	if n := pgtest.Scan[string](t, s.Pool, `SELECT string_agg(event_id, ' ') FROM stripe_webhook_failures`); n != "evt_2" {
		t.Errorf("failures of %s are recorded", n)
	}
	s.Expect(t, noted("evt_1"), 200, webhooks.OutcomeProcessed)
}

// A handler that takes all the time of its batch is to blame, and the others are not, whose time it was.
func TestHandlerTakesTheTimeOfItsBatch(t *testing.T) {
	t.Parallel()
	s := newSavepointHost(t, inBatch{"evt_2": func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `SELECT pg_sleep($1)`, 3600)
		return err
	}})
	s.restart(t, func(c *webhooks.Config) {
		c.ConcurrentBatches, c.Timeout, c.LockTimeout = 1, 3*time.Second, pgtest.WaitLimit
	})
	replies, _ := s.batch(t, noted("evt_1"), noted("evt_2"), noted("evt_3"))
	for i, reply := range replies {
		if i != 1 && reply.Status == 500 {
			t.Errorf("the reply of event %d is %s", i+1, reply)
		}
	}
	delete(s.do, "evt_2")
	for _, id := range []string{"evt_1", "evt_2", "evt_3"} {
		if reply := s.Send(t, noted(id)); !reply.OK() {
			t.Error(reply)
		}
	}
	if n := pgtest.Scan[int](t, s.Pool, `SELECT count(*)::int FROM stripe_webhook_failures WHERE event_id <> 'evt_2'`); n != 0 {
		t.Errorf("%d failures of other events are recorded", n)
	}
	if notes := s.notes(t); len(notes) != 3 {
		t.Errorf("the notes are %v", notes)
	}
}

// Batches count against the share of a type, too.
func TestBulkheadOfBatches(t *testing.T) {
	t.Parallel()
	const connections = 4
	runs, release := make(chan string, 40), make(chan struct{})
	h := webhooks.NewHandlers()
	webhooks.On(h, "slow.event", func(ctx context.Context, _ pgx.Tx, ev *webhooks.Event, _ *anyObject) error {
		runs <- ev.ID
		select {
		case <-release:
		case <-ctx.Done():
		}
		return ctx.Err()
	}, webhooks.Batchable())
	webhooks.On(h, "fast.event", func(ctx context.Context, tx pgx.Tx, _ *webhooks.Event, _ *anyObject) error {
		return exec(`SELECT 1`)(ctx, tx)
	}, webhooks.Batchable())
	pool := pgtest.Connect(t, fmt.Sprintf("%s&pool_max_conns=%d", pgtest.NewURL(t), connections))
	host := hooktest.On(t, pool, h, func(c *webhooks.Config) { c.Timeout, c.AcquireTimeout = pgtest.WaitLimit, pgtest.WaitLimit })
	isReady(t, host)
	fast := func(i int) {
		t.Helper()
		host.Expect(t, hooktest.Event(fmt.Sprintf("evt_fast_%d", i), "fast.event", 1, `{"id":"obj_fast"}`), 200, webhooks.OutcomeProcessed)
	}
	fast(0)
	replies := sendAll(t, host, slowEvents(20)...)
	pgtest.AwaitEqual(t, "the number of connections in use", connections-1, func() int { return int(pool.Stat().AcquiredConns()) })
	for i := range 10 {
		fast(i + 1)
	}
	if n := pool.Stat().AcquiredConns(); n != connections-1 {
		t.Errorf("%d connections are in use", n)
	}
	close(release)
	for _, reply := range replies() {
		if !reply.OK() {
			t.Error(reply)
		}
	}
}

// A hook of the pool that panics, or ends the goroutine, takes no place of the type's with it.
func TestHooksLeakNoPlace(t *testing.T) {
	t.Parallel()
	for _, options := range [][]webhooks.HandlerOption{nil, {webhooks.Batchable()}} {
		config, err := pgxpool.ParseConfig(pgtest.NewURL(t) + "&pool_max_conns=2")
		if err != nil {
			t.Fatal(err)
		}
		var broken atomic.Int32
		config.PrepareConn = func(context.Context, *pgx.Conn) (bool, error) {
			switch broken.Load() {
			case 1:
				panic("on purpose")
			case 2:
				runtime.Goexit()
			}
			return true, nil
		}
		pool, err := pgxpool.NewWithConfig(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(pool.Reset) // connections in the hooks' hands are lost, so that it cannot be closed
		h := webhooks.NewHandlers()
		webhooks.On(h, "noted.event", func(ctx context.Context, tx pgx.Tx, _ *webhooks.Event, _ *anyObject) error {
			return exec(`SELECT 1`)(ctx, tx)
		}, options...)
		host := hooktest.On(t, pool, h, func(c *webhooks.Config) { c.AcquireTimeout, c.Timeout = time.Second, 3*time.Second })
		isReady(t, host)
		host.Expect(t, hooktest.Event("evt_other", "other.event", 1, `{"id":"obj"}`), 200, webhooks.OutcomeIgnored)
		for kind := range 2 {
			broken.Store(int32(kind + 1))
			if reply := host.Send(t, noted(fmt.Sprintf("evt_%d", kind))); reply.OK() {
				t.Error(reply)
			}
			broken.Store(0)
			if places := host.Receiver.Places("noted.event"); places != 0 {
				t.Errorf("%d places are held", places)
			}
		}
		if waiting := host.Receiver.WaitingForConnection(); waiting != 0 {
			t.Errorf("%d deliveries are taken to wait", waiting)
		}
	}
}
