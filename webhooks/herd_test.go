package webhooks_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/delivery"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/webhooks"
)

// blockingHandler is a handler that reports when it begins, and then waits for its result.
type blockingHandler struct {
	begun  chan string
	resume chan error
}

func newBlockingHandler() *blockingHandler {
	return &blockingHandler{make(chan string, 100), make(chan error)}
}

func (g *blockingHandler) handlers() *webhooks.Handlers { return g.handlersRunning(exec(addOne)) }

// handlersRunning returns handlers that call do when they are released.
func (g *blockingHandler) handlersRunning(do func(context.Context, pgx.Tx) error) *webhooks.Handlers {
	h := webhooks.NewHandlers()
	webhooks.On(h, "test.event", func(ctx context.Context, tx pgx.Tx, ev *webhooks.Event, _ *anyObject) error {
		g.begun <- ev.ID
		select {
		case err := <-g.resume:
			if err != nil {
				return err
			}
		case <-time.After(pgtest.WaitLimit): // the test has failed
			return errors.New("the handler was not released")
		}
		return do(ctx, tx)
	})
	return h
}

// awaitStart returns the id of the next event whose handler has begun.
func (g *blockingHandler) awaitStart(t *testing.T) string {
	t.Helper()
	return pgtest.Receive(t, "a handler begins", g.begun)
}

// release makes one handler return.
func (g *blockingHandler) release(t *testing.T, err error) {
	t.Helper()
	pgtest.Send(t, "a handler waits to be released", g.resume, err)
}

// send delivers bodies at the same instant. replies waits for all responses.
func send(t *testing.T, host *hooktest.Host, bodies ...[]byte) (replies func() []delivery.Reply) {
	t.Helper()
	all := make([]delivery.Reply, len(bodies))
	var wg sync.WaitGroup
	for i, body := range bodies {
		wg.Go(func() { all[i] = host.Send(t, body) })
	}
	return func() []delivery.Reply {
		wg.Wait()
		return all
	}
}

// await waits until count returns n.
func await(t *testing.T, what string, n int, count func() int) {
	t.Helper()
	pgtest.AwaitEqual(t, "the number of events "+what, n, count)
}

func awaitInFlight(t *testing.T, host *hooktest.Host, n int) {
	t.Helper()
	await(t, "in flight", n, func() int { return host.Receiver.Stats().InFlight })
}

// Duplicates of an event in progress wait for it without a connection, and take its outcome.
func TestCopiesWaitWithoutAConnection(t *testing.T) {
	t.Parallel()
	const deliveries = 40
	for _, failure := range []error{nil, errOfATest} {
		g := newBlockingHandler()
		host := newCounter(t, g.handlers(), func(c *webhooks.Config) { c.Timeout = time.Minute }) // whatever else the machine has to do
		isReady(t, host)
		bodies := make([][]byte, deliveries)
		for i := range bodies {
			bodies[i] = testEvent
		}
		replies := send(t, host, bodies...)
		g.awaitStart(t)
		await(t, "that follow the first", deliveries-1, func() int { return host.Receiver.Followers("evt_1") })
		if n := host.Pool.Stat().AcquiredConns(); n != 1 {
			t.Errorf("%d deliveries hold %d connections", deliveries, n)
		}
		g.release(t, failure)
		count := map[string]int{}
		for _, reply := range replies() {
			count[fmt.Sprint(reply.Status, " ", reply.Outcome())]++
		}
		want := map[string]int{"200 processed": 1, "200 duplicate": deliveries - 1}
		if failure != nil {
			want = map[string]int{"500 ": deliveries}
		}
		if fmt.Sprint(count) != fmt.Sprint(want) {
			t.Errorf("the replies are %v, want %v", count, want)
		}
		if failure == nil {
			expectCounter(t, host, 1)
		} else if n := pgtest.Scan[int](t, host.Pool, `SELECT attempts FROM stripe_webhook_failures`); n != 1 {
			t.Errorf("one application counts as %d attempts", n)
		}
	}
}

var errOfATest = fmt.Errorf("this handler fails on purpose")

// Events of one object are applied one after the other, in the order of arrival. Waiting events hold no connection, and an
// event in the ledger does not wait.
func TestEventsOfOneObjectQueue(t *testing.T) {
	t.Parallel()
	g := newBlockingHandler()
	host := newCounter(t, g.handlers(), nil)
	body := func(id string) []byte { return hooktest.Event(id, "test.event", 1, `{"id":"obj_1"}`) }
	known := send(t, host, body("evt_known"))
	g.awaitStart(t)
	g.release(t, nil)
	known()
	first := send(t, host, body("evt_1"))
	g.awaitStart(t)
	others := send(t, host, body("evt_2"), body("evt_3"), body("evt_4"))
	awaitInFlight(t, host, 4)
	host.Expect(t, body("evt_known"), 200, webhooks.OutcomeDuplicate)
	// The others have looked into the ledger.
	pgtest.AwaitEqual(t, "the number of connections in use", 1, func() int32 { return host.Pool.Stat().AcquiredConns() })
	elsewhere := send(t, host, hooktest.Event("evt_elsewhere", "test.event", 1, `{"id":"obj_2"}`))
	if id := g.awaitStart(t); id != "evt_elsewhere" {
		t.Errorf("%s did not wait for its turn", id)
	}
	for range 2 {
		g.release(t, nil)
	}
	for range 3 {
		g.awaitStart(t)
		g.release(t, nil)
	}
	for _, reply := range append(append(first(), others()...), elsewhere()...) {
		if reply.Outcome() != webhooks.OutcomeProcessed {
			t.Errorf("the reply is %s", reply)
		}
	}
	expectCounter(t, host, 6)
}

// The wait for other events of an object has a limit, in the process and in PostgreSQL; then it is nobody's
// failure.
func TestWaitsAreBounded(t *testing.T) {
	t.Parallel()
	g := newBlockingHandler()
	here := newCounter(t, g.handlers(), func(c *webhooks.Config) { c.LockTimeout = 50 * time.Millisecond })
	// Its handler writes nothing, since a lock that a handler waits for in vain would be its own failure.
	there := hooktest.On(t, here.Pool, g.handlersRunning(exec(`SELECT 1`)), func(c *webhooks.Config) { c.LockTimeout = 50 * time.Millisecond })
	held := send(t, here, testEvent)
	g.awaitStart(t)
	another := hooktest.Event("evt_2", "test.event", 1, `{"id":"obj_1"}`)
	here.Expect(t, another, 503, "")  // which waits for its turn
	there.Expect(t, another, 503, "") // and this one in PostgreSQL, for the lock of the object
	g.release(t, nil)
	held()
	// Without a lock of an object, the duplicate in the other process does all its work and then waits for the index.
	free := hooktest.Event("evt_3", "test.event", 1, `{}`)
	first := send(t, here, free)
	g.awaitStart(t)
	copied := send(t, there, free)
	g.awaitStart(t)
	g.release(t, nil)
	g.release(t, nil)
	statuses := []int{first()[0].Status, copied()[0].Status}
	if statuses[0] != 200 && statuses[1] != 200 {
		t.Errorf("the statuses are %d", statuses)
	}
	if n := here.Count(t, "stripe_webhook_failures"); n != 0 {
		t.Errorf("there are %d failures", n)
	}
}

// A lock that a handler waits for in vain is the handler's failure; one that the receiver waits for is not.
func TestLockOfAnotherProcess(t *testing.T) {
	t.Parallel()
	host := newCounter(t, counting(func(context.Context, pgx.Tx) error { return nil }), func(c *webhooks.Config) {
		c.LockTimeout = 50 * time.Millisecond
	})
	tx, err := host.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(t.Context()))
	if _, err := tx.Exec(t.Context(), `LOCK TABLE counter`); err != nil {
		t.Fatal(err)
	}
	host.Expect(t, testEvent, 500, "")
	if n := host.Count(t, "stripe_webhook_failures WHERE last_error LIKE '%lock timeout%'"); n != 1 {
		t.Error("the handler's wait has no record")
	}
	if _, err := tx.Exec(t.Context(), `LOCK TABLE stripe_webhook_events`); err != nil {
		t.Fatal(err)
	}
	reply := host.Send(t, hooktest.Event("evt_2", "test.event", 1, `{}`))
	if reply.Status != http.StatusServiceUnavailable || reply.Header.Get("Retry-After") == "" {
		t.Errorf("the reply is %s", reply)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := host.Count(t, "stripe_webhook_failures"); n != 1 {
		t.Error("the receiver's wait counts as a failure of the event")
	}
	host.Expect(t, testEvent, 200, webhooks.OutcomeProcessed)
}

// A database that has become read-only is not ready, and its connections are given up, so that the pool
// can find the new primary.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	host := newCounter(t, counting(func(context.Context, pgx.Tx) error { return nil }), nil)
	isReady(t, host)
	admin := pgtest.Connect(t, host.DatabaseURL)
	setReadOnly := func(value string) {
		pgtest.Exec(t, admin, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = `+value+`', current_database()); END $$`)
	}
	setReadOnly("on")
	host.Pool.Reset()
	host.Expect(t, testEvent, 503, "")
	if err := host.Receiver.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("ready: %v", err)
	}
	setReadOnly("off")
	// Each connection that is found to be read-only is replaced.
	for tries := 0; host.Send(t, testEvent).Status != http.StatusOK; tries++ {
		if tries == 8 {
			t.Fatal("the pool keeps its read-only connections")
		}
	}
	if err := host.Receiver.Ready(t.Context()); err != nil {
		t.Errorf("ready: %v", err)
	}
	expectCounter(t, host, 1)
}

// Bodies that together are larger than the limit are refused for now, not for good.
func TestBodiesTakeBoundedMemory(t *testing.T) {
	t.Parallel()
	host := hooktest.New(t, webhooks.NewHandlers(), func(c *webhooks.Config) { c.MaxBufferBytes = 1000 })
	large := hooktest.Event("evt_large", "test.event", 1, `{"id":"`+strings.Repeat("x", 2000)+`"}`)
	host.Expect(t, large, 503, "")
	for range 3 {
		host.Expect(t, testEvent[:0:0], 400, "")
	}
	host.Expect(t, testEvent, 200, webhooks.OutcomeIgnored)
}
