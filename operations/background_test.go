package operations_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/internal/stripesim"
	"github.com/pook/stripeonce/metrics"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/webhooks"
)

// run runs ReconcileEvery until the test's end, or stop.
func run(t *testing.T, o *operations.Operator, every time.Duration) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- o.ReconcileEvery(ctx, every) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := pgtest.Receive(t, "ReconcileEvery ends", done); err != nil {
			t.Errorf("ReconcileEvery ends with %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// In the background, what is missing is applied at once and then at each interval, and counted.
func TestReconcileEvery(t *testing.T) {
	t.Parallel()
	b := newBench(t, 5)
	run(t, b.Operator, 50*time.Millisecond)
	first := uint64(len(b.account.Events))
	pgtest.Await(t, "everything that was missing is applied", func() bool { return b.Stats().Applied == first })
	b.api.Do(func(*stripesim.Account) {
		b.account.Now = time.Now().Add(-time.Hour).Unix()
		b.account.Subscriptions[0].SetQuantity(9)
	})
	pgtest.Await(t, "what came later is applied", func() bool { return b.Stats().Applied == first+1 })
	pgtest.Await(t, "a run comes to its end", func() bool { return b.Stats().Runs >= 2 })
	if s := b.Stats(); s.Missing != first+1 || s.FailedEvents != 0 || s.LastCompleted.IsZero() {
		t.Errorf("the figures are %+v", s)
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(metrics.NewReconcile(b.Operator))
	if families, err := registry.Gather(); err != nil || len(families) != 4 {
		t.Errorf("%d metrics, %v", len(families), err)
	}
	b.expectTruth(t)
}

// Of several processes one reconciles at a time: while it waits for Stripe, others pass.
func TestReconcileOneAtATime(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	asked, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	b.api.OnRequest = func(req *http.Request) {
		if strings.HasPrefix(req.URL.Path, "/v1/events") {
			once.Do(func() {
				close(asked)
				<-goOn
			})
		}
	}
	run(t, b.Operator, time.Hour)
	pgtest.Receive(t, "Stripe is asked for events", asked)
	other := b.operator(b.Receiver, time.Minute)
	run(t, other, 20*time.Millisecond)
	pgtest.Await(t, "the other one passes", func() bool { return other.Stats().Skipped >= 2 })
	close(goOn)
	pgtest.Await(t, "the first comes to its end", func() bool { return b.Stats().Runs == 1 })
	pgtest.Await(t, "then it is the other's turn", func() bool { return other.Stats().Runs >= 1 })
	if n := b.Stats().Applied + other.Stats().Applied; int(n) != len(b.account.Events) {
		t.Errorf("%d applied", n)
	}
	b.expectTruth(t)
}

// A run that fails is made again, and says so.
func TestReconcileEveryFails(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	pgtest.Exec(t, b.Pool, "ALTER TABLE stripe_webhook_events RENAME TO elsewhere")
	run(t, b.Operator, 20*time.Millisecond)
	pgtest.Await(t, "it fails", func() bool { return b.Stats().Failed >= 1 })
	pgtest.Exec(t, b.Pool, "ALTER TABLE elsewhere RENAME TO stripe_webhook_events")
	pgtest.Await(t, "it recovers", func() bool { return b.Stats().Runs >= 1 })
	b.expectTruth(t)
}

// unavailable applies nothing until it is told to.
type unavailable struct {
	operations.Applier
	tried atomic.Int32
	over  atomic.Bool
}

func (u *unavailable) Apply(ctx context.Context, ev *webhooks.Event) (webhooks.Result, error) {
	u.tried.Add(1)
	if u.over.Load() {
		return u.Applier.Apply(ctx, ev)
	}
	return webhooks.Result{}, webhooks.ErrUnavailable
}

// What could not be applied since something was unavailable is looked for again, from as far back.
func TestReconcileEveryWhileUnavailable(t *testing.T) {
	t.Parallel()
	b := newBench(t, 0)
	b.account.Subscribe(stripesim.VersionBasil) // one event, two days old
	u := &unavailable{Applier: b.Receiver}
	o := b.operator(u, time.Minute)
	run(t, o, 20*time.Millisecond)
	pgtest.Await(t, "a run fails", func() bool { return o.Stats().Failed >= 1 })
	u.over.Store(true)
	pgtest.Await(t, "the event is applied", func() bool { return o.Stats().Applied == 1 })
	b.expectTruth(t)
}
