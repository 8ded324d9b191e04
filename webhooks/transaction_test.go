package webhooks_test

import (
	"context"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgpipe"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/webhooks"
)

// An event that waited for its object's lock is looked up again: where the lock's last holder applied a duplicate, no handler
// runs.
func TestDuplicateWhileWaitingForTheLock(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	h := counting(func(context.Context, pgx.Tx) error {
		calls.Add(1)
		return nil
	})
	host := newCounter(t, h, func(c *webhooks.Config) { c.Timeout, c.LockTimeout = pgtest.WaitLimit, pgtest.WaitLimit })
	isReady(t, host)
	other := lockObject(t, host, "obj_1")
	replies := send(t, host, testEvent)
	pgtest.Await(t, "the event waits for the lock", func() bool { return waitsForObject(t, host) })
	if _, err := other.Exec(t.Context(), `INSERT INTO stripe_webhook_events (event_id, event_type, outcome, livemode) VALUES ('evt_1', 'test.event', 'processed', false)`); err != nil {
		t.Fatal(err)
	}
	if err := other.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantReplies(t, replies(), webhooks.OutcomeDuplicate)
	if n := calls.Load(); n != 0 {
		t.Errorf("the handler was called %d times", n)
	}
}

// An event whose caller gives up while its batch is processed is not recorded with it.
func TestCallerGivesUpDuringTheBatch(t *testing.T) {
	t.Parallel()
	c := newBatchHost(t)
	ctx, cancel := context.WithCancel(t.Context())
	c.probe = func(_ context.Context, _ pgx.Tx, _ *pgpipe.Writes, object string) (bool, error) {
		if object == "probe_1" {
			cancel()
		}
		return true, nil
	}
	goOn := c.hold(t, func() {})
	gaveUp := make(chan error, 1)
	go func() { gaveUp <- c.apply(ctx, hooktest.Event("evt_0", "probe.sent", 1, `{"id":"probe_0"}`)) }()
	c.awaitWaiting(t, 1)
	replies := send(t, c.Host, hooktest.Event("evt_1", "probe.sent", 1, `{"id":"probe_1"}`))
	c.awaitWaiting(t, 2)
	goOn()
	wantReplies(t, replies(), webhooks.OutcomeProcessed)
	if err := pgtest.Receive(t, "the caller that gave up returns", gaveUp); err == nil {
		t.Error("the event of the caller that gave up took effect")
	}
	if n := c.Count(t, "stripe_webhook_events WHERE event_id = 'evt_0'"); n != 0 {
		t.Error("the event of the caller that gave up is recorded")
	}
}

// Whether a batch was committed is unknown when no answer comes. That is so for the events that it has written, not for
// one that has left it.
func TestUnknownCommitOfABatch(t *testing.T) {
	t.Parallel()
	var breaks atomic.Bool
	config, err := pgxpool.ParseConfig(pgtest.NewURL(t))
	if err != nil {
		t.Fatal(err)
	}
	config.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		return commitBreaker{conn, &breaks}, err
	}
	c := newBatchHostOn(t, config)
	c.Expect(t, about("evt_warm", "sub_warm", "active"), http.StatusOK, webhooks.OutcomeProcessed)
	other := lockObject(t, c.Host, "sub_00")
	goOn := c.hold(t, func() {})
	left := send(t, c.Host, about("evt_00", "sub_00", "active"))
	c.awaitWaiting(t, 1)
	written := send(t, c.Host, about("evt_01", "sub_01", "active"))
	c.awaitWaiting(t, 2)
	breaks.Store(true) // also for the event that goes first, whose COMMIT is its own
	goOn()
	if reply := written()[0]; reply.Status != http.StatusServiceUnavailable {
		t.Errorf("the event whose COMMIT is unknown is answered %s", reply)
	}
	breaks.Store(false)
	pgtest.Await(t, "the event that left waits for the lock by itself", func() bool { return waitsForObject(t, c.Host) })
	if err := other.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantReplies(t, left(), webhooks.OutcomeProcessed)
}

// commitBreaker closes the connection in place of sending COMMIT.
type commitBreaker struct {
	net.Conn
	breaks *atomic.Bool
}

func (c commitBreaker) Write(message []byte) (int, error) {
	var callers [1]uintptr
	runtime.Callers(2, callers[:])
	frame, _ := runtime.CallersFrames(callers[:]).Next()
	if c.breaks.Load() && strings.Contains(frame.Function, "pgpipe.send") {
		_ = c.Close()
		return 0, net.ErrClosed
	}
	return c.Conn.Write(message)
}
