package webhooks_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/delivery"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pglocal"
	"github.com/pook/stripeonce/internal/pgpipe"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/internal/projection"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// batchHost is a receiver with the projection and one batch at a time. Its pool's next connection can be held back, so that
// events that arrive meanwhile wait and then form a batch.
type batchHost struct {
	*hooktest.Host
	roundTrips *pglocal.RoundTrips
	first      atomic.Pointer[func()] // called when the next connection is acquired
	held       int                    // number of calls of hold
	leaks      bool                   // a connection is not released, so the pool cannot be closed
	probe      func(ctx context.Context, tx pgx.Tx, writes *pgpipe.Writes, object string) (bool, error)
}

func newBatchHost(t *testing.T, configure ...func(*webhooks.Config)) *batchHost {
	t.Helper()
	return newBatchHostIn(t, "cache_statement", configure...)
}

// newBatchHostIn is newBatchHost in a query exec mode of pgx's.
func newBatchHostIn(t *testing.T, mode string, configure ...func(*webhooks.Config)) *batchHost {
	t.Helper()
	roundTrips := &pglocal.RoundTrips{}
	config, err := pgxpool.ParseConfig(inMode(pgtest.NewURL(t), mode))
	if err != nil {
		t.Fatal(err)
	}
	config.ConnConfig.DialFunc = roundTrips.Dial
	c := newBatchHostOn(t, config, configure...)
	c.roundTrips = roundTrips
	c.Expect(t, about("evt_warm", "sub_warm", "active"), http.StatusOK, webhooks.OutcomeProcessed)
	return c
}

func newBatchHostOn(t *testing.T, config *pgxpool.Config, configure ...func(*webhooks.Config)) *batchHost {
	t.Helper()
	c := &batchHost{}
	config.PrepareConn = func(context.Context, *pgx.Conn) (bool, error) {
		if do := c.first.Swap(nil); do != nil {
			(*do)()
		}
		return true, nil
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !c.leaks {
			pgtest.Close(t, pool)
		}
	})
	h := webhooks.NewHandlers()
	subscriptions.Register(h, nil)
	c.registerProbe(h)
	c.Host = hooktest.On(t, pool, h, func(c *webhooks.Config) {
		c.ConcurrentBatches, c.LockTimeout = 1, time.Hour
		for _, configure := range configure {
			configure(c)
		}
	})
	c.Receiver.WaitForBatch(time.Minute)
	return c
}

// registerProbe registers c.probe for events of the type probe.sent.
func (c *batchHost) registerProbe(h *webhooks.Handlers) {
	project(h, "probe.sent", true, func(ev *webhooks.Event) projection.Plan {
		return projection.Plan{Lock: ev.ObjectID(), Batchable: true, Apply: func(ctx context.Context, tx pgx.Tx, writes *pgpipe.Writes) (bool, error) {
			return c.probe(ctx, tx, writes, ev.ObjectID())
		}}
	})
}

// about returns an event of a subscription.
func about(id, sub, status string) []byte {
	return hooktest.Event(id, "customer.subscription.updated", 1_700_000_000, fmt.Sprintf(
		`{"id":%q,"object":"subscription","customer":"cus_1","status":%q,"items":{"data":[{"id":"si_%[1]s","price":{"id":"price_1"}}]}}`, sub, status))
}

// deliverBatch delivers events so that they form one batch, after a first event, and returns their replies.
func (c *batchHost) deliverBatch(t *testing.T, bodies ...[]byte) func() []delivery.Reply {
	t.Helper()
	resume := c.hold(t, func() {})
	replies := send(t, c.Host, bodies...)
	c.awaitWaiting(t, len(bodies))
	resume()
	return replies
}

// hold begins an event, and keeps others waiting until resume is called. The event's goroutine then calls do, with its
// connection.
func (c *batchHost) hold(t *testing.T, do func()) (resume func()) {
	t.Helper()
	begun, letGo := make(chan struct{}), make(chan struct{})
	hold := func() {
		close(begun)
		<-letGo
		do()
	}
	c.first.Store(&hold)
	c.held++
	first := fmt.Sprintf("evt_first_%d_%p", c.held, c)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := c.Sender.Send(context.Background(), about(first, "sub_of_"+first, "active")); err != nil {
			t.Error(err)
		}
	})
	pgtest.Receive(t, "the first event has its connection", begun)
	resume = sync.OnceFunc(func() {
		close(letGo)
		wg.Wait()
	})
	t.Cleanup(resume) // if the test fails before
	return resume
}

// apply applies an event.
func (c *batchHost) apply(ctx context.Context, body []byte) error {
	ev, err := webhooks.ParseEvent(body)
	if err == nil {
		_, err = c.Receiver.Apply(ctx, ev)
	}
	return err
}

func (c *batchHost) awaitWaiting(t *testing.T, n int) {
	t.Helper()
	await(t, "waiting for a batch", n, c.Receiver.Waiting)
}

// transactions returns the number of transactions that wrote the matching events.
func (c *batchHost) transactions(t *testing.T, like string) int {
	t.Helper()
	return pgtest.Scan[int](t, c.Pool, "SELECT count(DISTINCT xmin::text)::int FROM stripe_webhook_events WHERE event_id LIKE $1", like)
}

// warm has two events, whose batch prepares the statements of a batch.
var warm = [][]byte{about("evt_warm_1", "sub_warm_1", "active"), about("evt_warm_2", "sub_warm_2", "active")}

// several returns events of different subscriptions: evt_00 of sub_00 and so on.
func several(n int) [][]byte { return numbered("0", n) }

// numbered returns evt_…0 of sub_…0 and so on.
func numbered(prefix string, n int) (bodies [][]byte) {
	for i := range n {
		bodies = append(bodies, about(fmt.Sprintf("evt_%s%d", prefix, i), fmt.Sprintf("sub_%s%d", prefix, i), "active"))
	}
	return bodies
}

func wantReplies(t *testing.T, replies []delivery.Reply, want ...webhooks.Outcome) {
	t.Helper()
	for i, reply := range replies {
		if reply.Outcome() != want[min(i, len(want)-1)] {
			t.Errorf("reply %d is %s, want %s", i, reply, want[min(i, len(want)-1)])
		}
	}
}
