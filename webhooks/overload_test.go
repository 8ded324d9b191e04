package webhooks_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/delivery"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/webhooks"
)

// blocking registers a handler for "slow.event", which says that it runs, and then waits for release.
func blocking(h *webhooks.Handlers, runs chan<- string, release <-chan struct{}) {
	webhooks.On(h, "slow.event", func(ctx context.Context, _ pgx.Tx, ev *webhooks.Event, _ *anyObject) error {
		runs <- ev.ID
		select {
		case <-release:
		case <-ctx.Done():
		}
		return ctx.Err()
	})
}

// sendAll sends events concurrently, and returns their replies when it is called.
func sendAll(t *testing.T, host *hooktest.Host, bodies ...[]byte) (replies func() []delivery.Reply) {
	t.Helper()
	list := make([]delivery.Reply, len(bodies))
	var wg sync.WaitGroup
	for i, body := range bodies {
		wg.Go(func() { list[i] = host.Send(t, body) })
	}
	return func() []delivery.Reply { wg.Wait(); return list }
}

func slowEvents(n int) (bodies [][]byte) {
	for i := range n {
		bodies = append(bodies, hooktest.Event(fmt.Sprintf("evt_slow_%d", i), "slow.event", 1, fmt.Sprintf(`{"id":"obj_%d"}`, i)))
	}
	return bodies
}

// A slow type holds all connections of the pool but the last quarter, which other types keep using. If no other type has
// arrived, or with a pool of one, it holds all.
func TestBulkheadOfAType(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		connections, reserved int
		others                bool
		want                  int
	}{
		"a pool of four":           {4, 0, true, 3},
		"a pool of eight":          {8, 0, true, 6},
		"two reserved":             {4, 2, true, 2},
		"none reserved":            {4, -1, true, 4},
		"no other type":            {4, 0, false, 4},
		"a pool of one":            {1, 0, true, 1},
		"a pool of two":            {2, 0, true, 1},
		"more than all are spared": {2, 7, true, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runs, release := make(chan string, 20), make(chan struct{})
			h := webhooks.NewHandlers()
			blocking(h, runs, release)
			webhooks.On(h, "fast.event", func(ctx context.Context, tx pgx.Tx, _ *webhooks.Event, _ *anyObject) error {
				return exec(`SELECT 1`)(ctx, tx)
			})
			pool := pgtest.Connect(t, fmt.Sprintf("%s&pool_max_conns=%d", pgtest.NewURL(t), c.connections))
			host := hooktest.On(t, pool, h, func(config *webhooks.Config) {
				config.ReservedConnections, config.Timeout, config.AcquireTimeout = c.reserved, pgtest.WaitLimit, pgtest.WaitLimit
			})
			isReady(t, host)
			fast := func(i int) {
				t.Helper()
				host.Expect(t, hooktest.Event(fmt.Sprintf("evt_fast_%d", i), "fast.event", 1, `{"id":"obj_fast"}`), 200, webhooks.OutcomeProcessed)
			}
			if c.others {
				fast(0)
			}
			replies := sendAll(t, host, slowEvents(c.connections+3)...)
			for i := range c.want {
				pgtest.Receive(t, fmt.Sprintf("slow handler %d runs", i+1), runs)
			}
			pgtest.AwaitEqual(t, "the number of deliveries in flight", c.connections+3, func() int { return host.Receiver.Stats().InFlight })
			if c.want < c.connections {
				for i := range 10 {
					fast(i + 1)
				}
			}
			if len(runs) > 0 || int(pool.Stat().AcquiredConns()) != c.want {
				t.Errorf("%d more slow handlers run, and %d connections are in use", len(runs), pool.Stat().AcquiredConns())
			}
			close(release)
			for _, reply := range replies() {
				if !reply.OK() {
					t.Error(reply)
				}
			}
		})
	}
}

// A type that waits too long for its share is answered 503, and the error says why.
func TestBulkheadTimeout(t *testing.T) {
	t.Parallel()
	runs, release := make(chan string, 20), make(chan struct{})
	h := webhooks.NewHandlers()
	blocking(h, runs, release)
	host := hooktest.On(t, pgtest.Connect(t, pgtest.NewURL(t)+"&pool_max_conns=2"), h, func(config *webhooks.Config) {
		config.Timeout, config.AcquireTimeout = pgtest.WaitLimit, 2*time.Second
	})
	isReady(t, host)
	host.Expect(t, hooktest.Event("evt_other", "other.event", 1, `{"id":"obj"}`), 200, webhooks.OutcomeIgnored)
	replies := sendAll(t, host, slowEvents(1)[0])
	pgtest.Receive(t, "the slow handler runs", runs)
	ev, err := webhooks.ParseEvent(slowEvents(2)[1])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := host.Receiver.Apply(t.Context(), ev); err == nil || !strings.Contains(err.Error(), "webhooks.Config.ReservedConnections") {
		t.Errorf("the error is %v", err)
	}
	close(release)
	replies()
}

// A handler that ignores its context is left behind when its time is up: its connection is taken from it, so that PostgreSQL
// undoes what it did, the failure is recorded, and other events go on, those of its object, too.
func TestAbandonedHandlers(t *testing.T) {
	t.Parallel()
	const connections = 2
	const addNote = `INSERT INTO notes VALUES (1)`
	stuck := map[string]func(ctx context.Context, tx pgx.Tx, release <-chan struct{}) error{
		"stuck.go": func(ctx context.Context, tx pgx.Tx, release <-chan struct{}) error {
			if err := exec(addNote)(ctx, tx); err != nil {
				return err
			}
			<-release
			return exec(addNote)(context.WithoutCancel(ctx), tx)
		},
		"stuck.statement": func(ctx context.Context, tx pgx.Tx, release <-chan struct{}) error {
			_, err := tx.Exec(context.WithoutCancel(ctx), `SELECT pg_sleep($1)`, 3600)
			<-release
			return err
		},
		"stuck.swallows": func(ctx context.Context, tx pgx.Tx, release <-chan struct{}) error {
			_ = exec(addNote)(ctx, tx)
			<-release
			return nil
		},
	}
	stuck["stuck.parks"] = func(ctx context.Context, tx pgx.Tx, release <-chan struct{}) error {
		_ = exec(addNote)(ctx, tx)
		<-release
		return webhooks.Park(errOfATest)
	}
	for eventType, fn := range stuck {
		t.Run(eventType, func(t *testing.T) {
			t.Parallel()
			release := make(chan struct{})
			h := webhooks.NewHandlers()
			webhooks.On(h, eventType, func(ctx context.Context, tx pgx.Tx, _ *webhooks.Event, _ *anyObject) error {
				return fn(ctx, tx, release)
			})
			webhooks.On(h, "fine.event", func(ctx context.Context, tx pgx.Tx, _ *webhooks.Event, _ *anyObject) error {
				return exec(addNote)(ctx, tx)
			})
			pool := pgtest.Connect(t, fmt.Sprintf("%s&pool_max_conns=%d", pgtest.NewURL(t), connections))
			pgtest.Exec(t, pool, `CREATE TABLE notes (n int)`)
			host := hooktest.On(t, pool, h, func(config *webhooks.Config) {
				config.Timeout, config.OnFailure = time.Second, func(context.Context, webhooks.Notice) {} // it reads the event
			})
			isReady(t, host)
			var bodies [][]byte
			for i := range connections {
				bodies = append(bodies, hooktest.Event(fmt.Sprintf("evt_%d", i), eventType, 1, fmt.Sprintf(`{"id":"obj_%d"}`, i)))
			}
			for _, reply := range sendAll(t, host, bodies...)() {
				if reply.Status != 500 {
					t.Error(reply)
				}
			}
			if n := pgtest.Scan[int](t, pool, `SELECT count(*) FROM stripe_webhook_failures WHERE last_error LIKE '%does not return%'`); n != connections {
				t.Errorf("%d failures are recorded", n)
			}
			pgtest.AwaitSQL(t, pool, "PostgreSQL has ended the sessions",
				`SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'`)
			for i := range connections {
				host.Expect(t, hooktest.Event(fmt.Sprintf("evt_fine_%d", i), "fine.event", 1, fmt.Sprintf(`{"id":"obj_%d"}`, i)), 200, webhooks.OutcomeProcessed)
			}
			if stats := host.Receiver.Stats(); stats.AbandonedHandlers != connections || stats.InFlight != connections {
				t.Errorf("%d handlers are abandoned, and %d deliveries are in flight", stats.AbandonedHandlers, stats.InFlight)
			}
			close(release)
			pgtest.AwaitEqual(t, "the number of deliveries in flight", 0, func() int { return host.Receiver.Stats().InFlight })
			for _, table := range []string{"stripe_webhook_events", "notes"} {
				if n := host.Count(t, table); n != connections {
					t.Errorf("%d rows are in %s", n, table)
				}
			}
		})
	}
}

// Where deliveries wait too long for too long, new ones are refused at once, while those that are accepted take effect. It
// ends with the overload.
func TestOverload(t *testing.T) {
	t.Parallel()
	var handled atomic.Int64
	h := webhooks.NewHandlers()
	webhooks.On(h, "slow.event", func(ctx context.Context, tx pgx.Tx, _ *webhooks.Event, _ *anyObject) error {
		handled.Add(1)
		return exec(`SELECT pg_sleep(0.02)`)(ctx, tx)
	})
	host := hooktest.On(t, pgtest.Connect(t, pgtest.NewURL(t)+"&pool_max_conns=1"), h, func(config *webhooks.Config) {
		config.TargetWait, config.ShedAfter = 50*time.Millisecond, 300*time.Millisecond
		config.Timeout, config.AcquireTimeout = pgtest.WaitLimit, pgtest.WaitLimit
	})
	isReady(t, host)
	if host.Receiver.Stats().Overloaded {
		t.Error("overloaded from the start")
	}
	var next, accepted, refused atomic.Int64
	send := func() delivery.Reply {
		n := next.Add(1)
		reply := host.Send(t, hooktest.Event(fmt.Sprintf("evt_%d", n), "slow.event", 1, fmt.Sprintf(`{"id":"obj_%d"}`, n)))
		switch {
		case reply.OK():
			accepted.Add(1)
		case reply.Status == 503:
			refused.Add(1)
		default:
			t.Error(reply)
		}
		return reply
	}
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 60 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if !send().OK() {
						time.Sleep(5 * time.Millisecond) // a sender that is refused does not spin
					}
				}
			}
		})
	}
	pgtest.Await(t, "the receiver is overloaded", func() bool { return host.Receiver.Stats().Overloaded })
	pgtest.Await(t, "deliveries are refused", func() bool { return refused.Load() > 100 })
	ev, err := webhooks.ParseEvent(hooktest.Event("evt_apply", "slow.event", 1, `{"id":"obj"}`))
	if err != nil {
		t.Fatal(err)
	}
	pgtest.Await(t, "Apply is refused, too, and says why", func() bool {
		ev.ID += "_"
		_, err := host.Receiver.Apply(t.Context(), ev)
		if err == nil {
			accepted.Add(1)
		}
		return err != nil && strings.Contains(err.Error(), "webhooks.Config.TargetWait")
	})
	close(stop)
	wg.Wait()
	pgtest.Await(t, "the overload ends", func() bool { send(); return !host.Receiver.Stats().Overloaded })
	if n := host.Count(t, "stripe_webhook_events"); int64(n) != accepted.Load() || n != int(handled.Load()) {
		t.Errorf("%d events are in the ledger, %d were accepted, %d handled", n, accepted.Load(), handled.Load())
	}
}
