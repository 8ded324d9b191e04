package webhooks_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgpipe"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/internal/projection"
	"github.com/pook/stripeonce/webhooks"
)

// A person's replay of a parked event applies it, also while a delivery of the event is in progress, which is a duplicate:
// neither takes the other's outcome.
func TestReplayDuringADelivery(t *testing.T) {
	t.Parallel()
	host := newCounter(t, counting(func(context.Context, pgx.Tx) error {
		return webhooks.Park(errors.New("on purpose"))
	}), func(c *webhooks.Config) { c.Timeout, c.AcquireTimeout = pgtest.WaitLimit, pgtest.WaitLimit })
	host.Expect(t, testEvent, 200, webhooks.OutcomeParked)
	other := hooktest.On(t, host.Pool, counting(succeed), func(c *webhooks.Config) { // which has not seen the event
		c.Timeout, c.AcquireTimeout = pgtest.WaitLimit, pgtest.WaitLimit
	})
	isReady(t, other)
	letGo := holdConnections(t, other)
	delivered := send(t, other, testEvent)
	awaitInFlight(t, other, 1)
	replayed := make(chan webhooks.Outcome, 1)
	go func() {
		ev, err := webhooks.ParseEvent(testEvent)
		if err != nil {
			t.Error(err)
		}
		result, err := other.Receiver.Replay(context.Background(), ev)
		if err != nil {
			t.Error(err)
		}
		replayed <- result.Outcome
	}()
	awaitInFlight(t, other, 2)
	letGo()
	wantReplies(t, delivered(), webhooks.OutcomeDuplicate)
	if outcome := pgtest.Receive(t, "the replay returns", replayed); outcome != webhooks.OutcomeProcessed {
		t.Errorf("the outcome of the replay is %s", outcome)
	}
	expectCounter(t, other, 1)
}

// holdConnections acquires every connection of the pool until letGo.
func holdConnections(t *testing.T, host *hooktest.Host) (letGo func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), pgtest.WaitLimit)
	defer cancel()
	var release []func()
	for range host.Pool.Config().MaxConns {
		conn, err := host.Pool.Acquire(ctx)
		if err != nil {
			t.Fatalf("a connection of the pool: %v", err)
		}
		release = append(release, conn.Release)
	}
	return func() {
		for _, fn := range release {
			fn()
		}
	}
}

// A duplicate is answered at once while another event of its object is in progress.
func TestDuplicateDoesNotQueue(t *testing.T) {
	t.Parallel()
	first := newCounter(t, counting(succeed), nil)
	first.Expect(t, testEvent, 200, webhooks.OutcomeProcessed)
	g := newBlockingHandler()
	host := hooktest.On(t, first.Pool, g.handlers(), func(c *webhooks.Config) { // which has not seen the event
		c.Timeout, c.LockTimeout = pgtest.WaitLimit, pgtest.WaitLimit
	})
	inProgress := send(t, host, hooktest.Event("evt_2", "test.event", 1, `{"id":"obj_1"}`))
	g.awaitStart(t)
	host.Expect(t, testEvent, 200, webhooks.OutcomeDuplicate)
	g.release(t, nil)
	wantReplies(t, inProgress(), webhooks.OutcomeProcessed)
}

// An event of a projection whose lock is another object's than the event's is in no batch: two events of a batch could want
// the same lock.
func TestLockOfAnotherObjectInNoBatch(t *testing.T) {
	t.Parallel()
	h := webhooks.NewHandlers()
	project(h, "test.event", true, func(*webhooks.Event) projection.Plan {
		return projection.Plan{Lock: "another", Batchable: true, Apply: func(context.Context, pgx.Tx, *pgpipe.Writes) (bool, error) { return true, nil }}
	})
	host := hooktest.New(t, h, func(c *webhooks.Config) { c.Timeout, c.LockTimeout = pgtest.WaitLimit, pgtest.WaitLimit })
	isReady(t, host)
	other := lockObject(t, host, "another")
	replies := send(t, host, testEvent)
	pgtest.Await(t, "the event waits for the lock", func() bool { return waitsForObject(t, host) })
	if err := other.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantReplies(t, replies(), webhooks.OutcomeProcessed)
}

// A function of InTx that returns Park fails: there is no event that could wait for a person.
func TestParkWithoutAnEvent(t *testing.T) {
	t.Parallel()
	host := newCounter(t, webhooks.NewHandlers(), nil)
	err := host.Receiver.InTx(t.Context(), "import", func(ctx context.Context, tx pgx.Tx) error {
		return errors.Join(exec(addOne)(ctx, tx), webhooks.Park(errors.New("on purpose")))
	})
	if err == nil || !strings.Contains(err.Error(), "on purpose") {
		t.Errorf("InTx says %v", err)
	}
	expectCounter(t, host, 0)
	if n := host.Count(t, "stripe_webhook_failures"); n != 0 {
		t.Errorf("there are %d failures", n)
	}
}

// releasePanics is a tracer of the pool whose hook panics when the countdown ends.
type releasePanics struct {
	panickyTracer
	countdown atomic.Int32
}

func (p *releasePanics) TraceRelease(*pgxpool.Pool, pgxpool.TraceReleaseData) {
	if p.countdown.Add(-1) == 0 {
		panic("a hook of the pool")
	}
}

// Where a hook of the pool panics while a batch gives back its connection, the batch has ended all the same: a duplicate that
// it has answered early keeps neither its slot in flight nor its place in the queue.
func TestReleaseOfABatchPanics(t *testing.T) {
	t.Parallel()
	tracer := &releasePanics{}
	config, err := pgxpool.ParseConfig(pgtest.NewURL(t))
	if err != nil {
		t.Fatal(err)
	}
	config.ConnConfig.Tracer = tracer
	c := newBatchHostOn(t, config)
	c.leaks = true // the pool counts the connection as in use for good
	c.Expect(t, about("evt_dup", "sub_dup", "active"), 200, webhooks.OutcomeProcessed)
	other := newBatchHostOn(t, config.Copy()) // which has not seen it
	other.leaks = true
	other.Expect(t, about("evt_warm", "sub_warm", "active"), 200, webhooks.OutcomeProcessed)
	goOn := other.hold(t, func() {})
	replies := send(t, other.Host, about("evt_new", "sub_new", "active"), about("evt_dup", "sub_dup", "active"))
	other.awaitWaiting(t, 2)
	tracer.countdown.Store(2) // the first connection is that of the event that goes first
	goOn()
	for _, reply := range replies() {
		if reply.Status != 200 {
			t.Errorf("the reply is %s", reply)
		}
	}
	awaitInFlight(t, other.Host, 0)
}

// Where a hook of the pool panics after the reply to a duplicate, when its connection is released, the process goes on, and the
// delivery keeps neither its slot in flight nor its place in the queue.
func TestReleaseOfADuplicatePanics(t *testing.T) {
	t.Parallel()
	tracer, log := &releasePanics{}, &lockedBuffer{}
	config, err := pgxpool.ParseConfig(pgtest.NewURL(t))
	if err != nil {
		t.Fatal(err)
	}
	config.ConnConfig.Tracer = tracer
	first := newBatchHostOn(t, config)
	first.Expect(t, about("evt_dup", "sub_dup", "active"), 200, webhooks.OutcomeProcessed)
	pool, err := pgxpool.NewWithConfig(t.Context(), config.Copy()) // never closed: it counts the connection as in use for good
	if err != nil {
		t.Fatal(err)
	}
	host := hooktest.On(t, pool, counting(succeed), func(c *webhooks.Config) { // which has not seen the event
		c.Logger = slog.New(slog.NewTextHandler(log, nil))
	})
	isReady(t, host)
	tracer.countdown.Store(1)
	host.Expect(t, hooktest.Event("evt_dup", "test.event", 1, `{"id":"sub_dup"}`), 200, webhooks.OutcomeDuplicate)
	awaitInFlight(t, host, 0)
	if !strings.Contains(log.String(), "panic after the response of a delivery") {
		t.Errorf("the log has no word of the panic:\n%s", log.String())
	}
	host.Expect(t, hooktest.Event("evt_dup", "test.event", 1, `{"id":"sub_dup"}`), 200, webhooks.OutcomeDuplicate)
}
