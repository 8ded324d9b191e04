package webhooks_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// holder is a way to PostgreSQL that holds a client's message back: the next one with a text in it.
type holder struct {
	text   atomic.Pointer[string]
	held   chan struct{} // gets a value when the message is there
	resume chan struct{} // lets it go when closed
}

func newHolder() *holder { return &holder{held: make(chan struct{}, 1), resume: make(chan struct{})} }

func (h *holder) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	return &holding{conn, h}, err
}

func (h *holder) hold(text string) { h.text.Store(&text) }

type holding struct {
	net.Conn
	holder *holder
}

func (c *holding) Write(message []byte) (int, error) {
	if text := c.holder.text.Load(); text != nil && strings.Contains(string(message), *text) && c.holder.text.CompareAndSwap(text, nil) {
		c.holder.held <- struct{}{}
		<-c.holder.resume
	}
	return c.Conn.Write(message)
}

// Shutdown waits until the failure of the last delivery is recorded: the host closes the pool then.
func TestShutdownWaitsForTheRecord(t *testing.T) {
	t.Parallel()
	way := newHolder()
	// There is no counter. Statements are sent as text each time, by which way tells them apart.
	host := hooktest.On(t, pgtest.ConnectBy(t, inMode(pgtest.NewURL(t), "cache_describe"), way.dial), counting(succeed), nil)
	isReady(t, host)
	way.hold("StripeWebhookFailureUpsert")
	ev, err := webhooks.ParseEvent(testEvent)
	if err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 1)
	go func() {
		_, err := host.Receiver.Apply(context.Background(), ev)
		failed <- err
	}()
	pgtest.Receive(t, "the record of the failure is on its way", way.held)
	down := make(chan error, 1)
	go func() { down <- host.Receiver.Shutdown(context.Background()) }()
	pgtest.Await(t, "the receiver refuses deliveries", func() bool { return errors.Is(host.Receiver.Ready(t.Context()), webhooks.ErrShutdown) })
	admin := pgtest.Connect(t, host.DatabaseURL)
	for range 200 { // time enough to return
		pgtest.Exec(t, admin, `SELECT 1`)
		select {
		case <-down:
			t.Fatal("Shutdown does not wait for the record of a failure")
		default:
		}
	}
	close(way.resume)
	if err := pgtest.Receive(t, "the end of Shutdown", down); err != nil {
		t.Error(err)
	}
	if n := host.Count(t, "stripe_webhook_failures"); n != 1 {
		t.Errorf("after Shutdown %d failures are recorded, want 1", n)
	}
	if err := pgtest.Receive(t, "the result of Apply", failed); !errors.As(err, new(*webhooks.HandlerError)) {
		t.Errorf("the error is %v", err)
	}
}

// The next event of an object begins when the rollback of the duplicate before it is done, which holds the lock of the
// object: until then it waits in the process, and holds no connection. Alone, and where duplicates share a batch.
func TestNextEventWaitsForTheRollback(t *testing.T) {
	t.Parallel()
	for name, onChange := range map[string]func(context.Context, pgx.Tx, subscriptions.Change) error{
		"with a handler": func(context.Context, pgx.Tx, subscriptions.Change) error { return nil }, "in a batch": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			way := newHolder()
			url := pgtest.NewURL(t)
			h := webhooks.NewHandlers()
			subscriptions.Register(h, &subscriptions.Config{OnChange: onChange})
			first := hooktest.On(t, pgtest.Connect(t, url), h, nil)
			first.Expect(t, about("evt_1", "sub_1", "active"), 200, webhooks.OutcomeProcessed)
			host := hooktest.On(t, pgtest.ConnectBy(t, url, way.dial), h, nil) // which has not seen the event
			isReady(t, host)
			way.hold("rollback")
			host.Expect(t, about("evt_1", "sub_1", "active"), 200, webhooks.OutcomeDuplicate)
			pgtest.Receive(t, "the rollback of the duplicate's transaction is on its way", way.held)
			next := send(t, host, hooktest.Event("evt_2", "customer.subscription.updated", 1_700_000_001, `{"id":"sub_1","object":"subscription","status":"past_due"}`))
			awaitInFlight(t, host, 2)
			for range 200 { // time enough to get there
				if n := pgtest.Scan[int](t, first.Pool, `SELECT count(*)::int FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
					AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`); n != 0 {
					t.Fatal("the next event waits in PostgreSQL")
				}
			}
			pgtest.AwaitEqual(t, "the number of connections in use", 1, func() int32 { return host.Pool.Stat().AcquiredConns() })
			close(way.resume)
			wantReplies(t, next(), webhooks.OutcomeProcessed)
		})
	}
}

// One caller of Apply that gives up ends its own event: the batch, its connection and the others go on.
func TestOneCallerGivesUp(t *testing.T) {
	t.Parallel()
	way := newHolder()
	config, err := pgxpool.ParseConfig(pgtest.NewURL(t))
	if err != nil {
		t.Fatal(err)
	}
	config.ConnConfig.DialFunc = way.dial
	c := newBatchHostOn(t, config)
	c.Expect(t, about("evt_warm", "sub_warm", "active"), 200, webhooks.OutcomeProcessed)
	wantReplies(t, c.deliverBatch(t, warm...)(), webhooks.OutcomeProcessed)
	bodies := several(4)
	ctx, giveUp := context.WithCancel(t.Context())
	given := make(chan error, 1)
	resume := c.hold(t, func() {})
	go func() { given <- c.apply(ctx, bodies[2]) }()
	c.awaitWaiting(t, 1)
	replies := send(t, c.Host, bodies[0], bodies[1], bodies[3])
	c.awaitWaiting(t, 4)
	way.hold("evt_02") // the batch's first round trip
	resume()
	pgtest.Receive(t, "the first round trip of the batch is on its way", way.held)
	before := c.Pool.Stat().NewConnsCount()
	giveUp()
	close(way.resume)
	wantReplies(t, replies(), webhooks.OutcomeProcessed)
	if err := pgtest.Receive(t, "the result of who gave up", given); !errors.Is(err, webhooks.ErrUnavailable) {
		t.Errorf("who gave up gets %v", err)
	}
	if n := c.Count(t, "stripe_webhook_events WHERE event_id = 'evt_02'"); n != 0 {
		t.Error("the event whose caller gave up has taken effect")
	}
	if n := c.transactions(t, "evt_0%"); n != 1 {
		t.Errorf("the 3 others took %d transactions, want 1", n)
	}
	if n := c.Pool.Stat().NewConnsCount() - before; n != 0 {
		t.Errorf("%d connections were opened in place of the batch's", n)
	}
}

// All idle connections have died within the second in which pgxpool does not look at them: what has sent nothing that
// matters goes on with a new one.
func TestIdleConnectionsDied(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]func(i int) []byte{
		"with a handler":  func(i int) []byte { return hooktest.Event("evt_"+string(rune('a'+i)), "test.event", 1, `{}`) },
		"in batches":      func(i int) []byte { return about("evt_"+string(rune('a'+i)), "sub_"+string(rune('a'+i)), "active") },
		"duplicates":      func(int) []byte { return testEvent },
		"a failing event": func(i int) []byte { return hooktest.Event("evt_"+string(rune('a'+i)), "failing.event", 1, `{}`) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const conns = 8
			h := counting(succeed)
			subscriptions.Register(h, nil)
			webhooks.On(h, "failing.event", func(context.Context, pgx.Tx, *webhooks.Event, *anyObject) error { return errOfATest })
			host := newCounter(t, h, func(c *webhooks.Config) { c.Timeout = time.Minute })
			host.Expect(t, testEvent, 200, webhooks.OutcomeProcessed)
			admin := pgtest.Connect(t, host.DatabaseURL)
			for range 3 {
				var all []interface{ Release() }
				for range conns {
					conn, err := host.Pool.Acquire(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					all = append(all, conn)
				}
				pgtest.EndOthers(t, admin)
				for _, conn := range all {
					conn.Release()
				}
				bodies := make([][]byte, 20)
				for i := range bodies {
					bodies[i] = body(i)
				}
				for _, reply := range send(t, host, bodies...)() {
					if want := map[bool]int{true: 500, false: 200}[name == "a failing event"]; reply.Status != want {
						t.Errorf("the reply is %s, want %d", reply, want)
					}
				}
			}
			if n := host.Count(t, "stripe_webhook_failures"); n != map[bool]int{true: 20, false: 0}[name == "a failing event"] {
				t.Errorf("%d failures are recorded", n)
			}
		})
	}
}
