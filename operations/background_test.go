package operations_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pook/stripeonce/internal/operationid"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/metrics"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/webhooks"
)

// run runs ReconcileEvery until stop is called or the test ends.
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

// Missing events are applied immediately, then at each interval, and counted.
func TestReconcileEvery(t *testing.T) {
	t.Parallel()
	b := newBench(t, 5)
	run(t, b.Operator, 50*time.Millisecond)
	first := uint64(len(b.account.Events))
	pgtest.Await(t, "every missing event is applied", func() bool { return b.ReconcileStats().Applied == first })
	b.api.Do(func(*stripesim.Account) {
		b.account.Now = time.Now().Add(-time.Hour).Unix()
		b.account.Subscriptions[0].SetQuantity(9)
	})
	pgtest.Await(t, "a later event is applied", func() bool { return b.ReconcileStats().Applied == first+1 })
	pgtest.Await(t, "another run completes", func() bool { return b.ReconcileStats().Runs >= 2 })
	if s := b.ReconcileStats(); s.Missing != first+1 || s.FailedEvents != 0 || s.LastCompleted.IsZero() {
		t.Errorf("the counts are %+v", s)
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(metrics.NewReconcile(b.Operator))
	if families, err := registry.Gather(); err != nil || len(families) != 4 {
		t.Errorf("%d metrics, %v", len(families), err)
	}
	b.expectTruth(t)
}

// Only one process reconciles at a time: while it waits for Stripe, others skip their runs.
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
	pgtest.Receive(t, "Stripe's events are listed", asked)
	other := b.operator(b.Receiver, time.Minute)
	run(t, other, 20*time.Millisecond)
	pgtest.Await(t, "the other process skips its runs", func() bool { return other.ReconcileStats().Skipped >= 2 })
	close(goOn)
	pgtest.Await(t, "the first process completes its run", func() bool { return b.ReconcileStats().Runs == 1 })
	pgtest.Await(t, "the other process then completes a run", func() bool { return other.ReconcileStats().Runs >= 1 })
	if n := b.ReconcileStats().Applied + other.ReconcileStats().Applied; int(n) != len(b.account.Events) {
		t.Errorf("%d applied", n)
	}
	b.expectTruth(t)
}

// A failed run is counted and repeated.
func TestReconcileEveryFails(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	pgtest.Exec(t, b.Pool, "ALTER TABLE stripe_webhook_events RENAME TO elsewhere")
	run(t, b.Operator, 20*time.Millisecond)
	pgtest.Await(t, "it fails", func() bool { return b.ReconcileStats().Failed >= 1 })
	pgtest.Exec(t, b.Pool, "ALTER TABLE elsewhere RENAME TO stripe_webhook_events")
	pgtest.Await(t, "it recovers", func() bool { return b.ReconcileStats().Runs >= 1 })
	b.expectTruth(t)
}

// unavailable is an applier that fails until it is made available.
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

// The next run goes back as far again if an event could not be applied because the receiver was unavailable.
func TestReconcileEveryWhileUnavailable(t *testing.T) {
	t.Parallel()
	b := newBench(t, 0)
	b.account.Subscribe(stripesim.VersionBasil) // one event, two days old
	u := &unavailable{Applier: b.Receiver}
	o := b.operator(u, time.Minute)
	run(t, o, 20*time.Millisecond)
	pgtest.Await(t, "a run fails", func() bool { return o.ReconcileStats().Failed >= 1 })
	u.over.Store(true)
	pgtest.Await(t, "the event is applied", func() bool { return o.ReconcileStats().Applied == 1 })
	b.expectTruth(t)
}

// Failed runs without a record of their own leave one, which counts them and says that a later run completed.
func TestFailedRunsAreRecorded(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	pgtest.Exec(t, b.Pool, "ALTER TABLE stripe_webhook_events RENAME TO elsewhere")
	run(t, b.Operator, 20*time.Millisecond)
	const count = `SELECT COALESCE(max((counts ->> 'failures')::int), 0) >= 2 FROM stripe_webhook_runs WHERE kind = 'reconcile' AND NOT (counts ->> 'recovered')::boolean AND error LIKE '%stripe_webhook_events%'`
	pgtest.AwaitSQL(t, b.Pool, "failures in a row are recorded", count)
	pgtest.Exec(t, b.Pool, "ALTER TABLE elsewhere RENAME TO stripe_webhook_events")
	pgtest.AwaitSQL(t, b.Pool, "the recovery is recorded", `SELECT EXISTS (SELECT FROM stripe_webhook_runs WHERE (counts ->> 'recovered')::boolean AND error LIKE '%stripe_webhook_events%')`)
	if n := pgtest.Scan[int](t, b.Pool, `SELECT count(*)::int FROM stripe_webhook_runs WHERE counts ? 'failures'`); n != 1 {
		t.Errorf("%d rows stand for the failures, want 1", n)
	}
}

// A completed run is the end of the failures of other processes, those before it and those beside it. Those of another kind stay.
func TestRecoveryAfterARestart(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	for i, kind := range []string{"reconcile", "reconcile", "retry"} {
		pgtest.Exec(t, b.Pool, `INSERT INTO stripe_webhook_runs (id, kind, arguments, started_at, finished_at, counts, error)
			VALUES ($1, $2, '{}', now(), now(), '{"failures": 3, "recovered": false}', 'the key is wrong')`, fmt.Sprintf("%s%d", operationid.FirstRun(time.Now().Add(-time.Hour)), i), kind)
	}
	run(t, b.Operator, 20*time.Millisecond)
	pgtest.AwaitSQL(t, b.Pool, "both failures have recovered", `SELECT count(*) = 2 FROM stripe_webhook_runs WHERE kind = 'reconcile' AND counts @> '{"failures": 3, "recovered": true}'`)
	pgtest.Exec(t, b.Pool, `UPDATE stripe_webhook_runs SET counts = '{"failures": 1, "recovered": false}' WHERE kind = 'reconcile'`)
	pgtest.AwaitSQL(t, b.Pool, "those of a process beside it have, too", `SELECT bool_and((counts ->> 'recovered')::boolean) FROM stripe_webhook_runs WHERE kind = 'reconcile'`)
	if pgtest.Scan[bool](t, b.Pool, `SELECT (counts ->> 'recovered')::boolean FROM stripe_webhook_runs WHERE kind = 'retry'`) {
		t.Error("a failure of the retrier has recovered by a reconcile run")
	}
}

// So do those of the retrier.
func TestFailedRetriesAreRecorded(t *testing.T) {
	t.Parallel()
	r := newRetried(t)
	r.fail(t, "evt_1")
	pgtest.Exec(t, r.Pool, "ALTER TABLE stripe_webhook_events RENAME TO elsewhere")
	r.start(t, r.operator, "1")
	pgtest.AwaitSQL(t, r.Pool, "a failure is recorded", `SELECT EXISTS (SELECT FROM stripe_webhook_runs
		WHERE kind = 'retry' AND arguments ->> 'receiver' = 'billing' AND counts ? 'failures' AND finished_at IS NOT NULL AND error LIKE '%stripe_webhook_events%')`)
	pgtest.Exec(t, r.Pool, "ALTER TABLE elsewhere RENAME TO stripe_webhook_events")
}
