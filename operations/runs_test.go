package operations_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pook/stripeonce/internal/engine"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgproxy"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/webhooks"
)

// only returns the one run of a database.
func only(t *testing.T, o *operations.Operator) operations.Run {
	t.Helper()
	runs, err := o.Runs(t.Context(), operations.RunFilter{})
	if err != nil || len(runs) != 1 {
		t.Fatalf("there are %d runs, %v: %+v", len(runs), err, runs)
	}
	return runs[0]
}

// noRuns checks that nothing was recorded.
func noRuns(t *testing.T, o *operations.Operator) {
	t.Helper()
	if runs, err := o.Runs(t.Context(), operations.RunFilter{}); err != nil || len(runs) > 0 {
		t.Errorf("there are runs: %v, %+v", err, runs)
	}
}

// observed is an Applier that calls before each event.
type observed struct {
	operations.Applier
	before func()
}

func (o *observed) Apply(ctx context.Context, ev *webhooks.Event) (webhooks.Result, error) {
	o.before()
	return o.Applier.Apply(ctx, ev)
}

// A reconcile has its row before it applies the first missing event. Without one it leaves none, and a dry run leaves none.
func TestReconcileIsRecordedWhileItRuns(t *testing.T) {
	t.Parallel()
	b := newBench(t, 3)
	b.reconcile(t, operations.ReconcileOptions{DryRun: true})
	noRuns(t, b.Operator)
	var first *operations.Run
	o := operations.New(b.Pool, &operations.Config{
		APIKey: "sk_test_1", APIBase: b.apiURL, Operator: "ada", Reason: "ticket \x007", Logger: hooktest.NoLog(),
		Applier: &observed{b.Receiver, func() {
			if first == nil {
				run := only(t, b.Operator)
				first = &run
			}
		}},
	})
	sum, err := o.Reconcile(t.Context(), operations.ReconcileOptions{Since: 72 * time.Hour})
	if err != nil || sum.Applied != len(b.account.Events) {
		t.Fatalf("it applies %+v, %v, want %d", sum, err, len(b.account.Events))
	}
	if first == nil || first.State() != operations.RunRunning || first.Operator != "ada" || first.Reason != "ticket 7" || first.Kind != operations.RunReconcile {
		t.Errorf("before the first event the run is %+v", first)
	}
	run := only(t, b.Operator)
	want := fmt.Sprintf("applied %d, failed 0, listed %d, missing %d", sum.Applied, sum.Listed, sum.Missing)
	if run.ID != first.ID || run.State() != operations.RunFinished || run.CountsText() != want || run.Error != "" {
		t.Errorf("in the end it is %+v, %s, want %s", run, run.CountsText(), want)
	}
	b.reconcile(t, operations.ReconcileOptions{}) // nothing is missing
	if again := only(t, b.Operator); again.ID != run.ID {
		t.Errorf("a reconcile that finds nothing leaves %+v", again)
	}
}

// Missing events that arrive before they are applied leave no record: the row is removed.
func TestReconcileOfNothingRemovesItsRow(t *testing.T) {
	t.Parallel()
	b := newBench(t, 2)
	seen := false
	o := operations.New(b.Pool, &operations.Config{
		APIKey: "sk_test_1", APIBase: b.apiURL, Logger: hooktest.NoLog(),
		Applier: &observed{b.Receiver, func() {
			if !seen {
				seen = true
				only(t, b.Operator)
				b.deliver(t, b.account.Events...)
			}
		}},
	})
	if sum, err := o.Reconcile(t.Context(), operations.ReconcileOptions{Since: 72 * time.Hour}); err != nil || sum.Missing != 0 || !seen {
		t.Fatalf("it is %+v, %v", sum, err)
	}
	noRuns(t, b.Operator)
}

// A reconcile that is interrupted says so in its row.
func TestInterruptedReconcile(t *testing.T) {
	t.Parallel()
	b := newBench(t, 2)
	ctx, stop := context.WithCancelCause(t.Context())
	o := operations.New(b.Pool, &operations.Config{
		APIKey: "sk_test_1", APIBase: b.apiURL, Logger: hooktest.NoLog(), Applier: &observed{b.Receiver, func() { stop(errors.New("the time is over")) }},
	})
	if _, err := o.Reconcile(ctx, operations.ReconcileOptions{Since: 72 * time.Hour, Run: o.StartRun(operations.RunReconcile, nil)}); !errors.Is(err, context.Canceled) {
		t.Fatalf("the error is %v", err)
	}
	if run := only(t, b.Operator); run.State() != operations.RunFailed || run.Error != "the time is over" {
		t.Errorf("the run is %+v", run)
	}
}

// A prune has its row after its first batch.
func TestPruneIsRecordedWhileItRuns(t *testing.T) {
	t.Parallel()
	b := newBench(t, 0)
	pgtest.Exec(t, b.Pool, `INSERT INTO stripe_webhook_events (event_id, event_type, processed_at, outcome, livemode)
		SELECT 'evt_' || n, 'test', now() - interval '100 days', 'processed', false FROM generate_series(1, 25) AS n`)
	states := map[operations.RunState]int{}
	pruned, err := b.Prune(t.Context(), operations.PruneOptions{OlderThan: 90 * 24 * time.Hour, BatchSize: 10, Progress: func(operations.PruneResult) {
		run := only(t, b.Operator)
		states[run.State()]++
	}})
	if err != nil || pruned.Deleted != 25 || states[operations.RunRunning] != 3 {
		t.Errorf("it prunes %+v, %v, and its run is %v", pruned, err, states)
	}
	if run := only(t, b.Operator); run.State() != operations.RunFinished || run.CountsText() != "deleted 25" || run.ArgumentsText() != "force false, older_than 2160h0m0s" {
		t.Errorf("in the end it is %+v: %s %s", run, run.ArgumentsText(), run.CountsText())
	}
	if _, err := b.Prune(t.Context(), operations.PruneOptions{OlderThan: 90 * 24 * time.Hour}); err != nil {
		t.Fatal(err)
	}
	only(t, b.Operator)
}

// A comparison in the background has its row as soon as it has found a difference.
func TestVerifyEveryIsRecordedWhileItRuns(t *testing.T) {
	t.Parallel()
	b := newBench(t, 0)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var while []operations.RunState
	job := operations.Job{Type: "invoice", Verify: func(ctx context.Context, page func(context.Context, engine.Verified) error) (engine.Verified, error) {
		for _, sum := range []engine.Verified{{Checked: 100}, {Checked: 200, Drifted: 1, Fixed: 1}} {
			if err := page(ctx, sum); err != nil {
				return sum, err
			}
			if sum.Drifted == 0 {
				noRuns(t, b.Operator)
				continue
			}
			run := only(t, b.Operator)
			while = append(while, run.State())
		}
		stop()
		return engine.Verified{Checked: 300, Drifted: 2, Fixed: 2}, nil
	}}
	if err := b.VerifyEvery(ctx, time.Millisecond, job); err != nil {
		t.Fatal(err)
	}
	if len(while) != 1 || while[0] != operations.RunRunning {
		t.Errorf("while it runs, it is %v", while)
	}
	if run := only(t, b.Operator); run.CountsText() != "checked 300, drifted 2, fixed 2" || run.ArgumentsText() != "types invoice" {
		t.Errorf("in the end it is %s %s", run.ArgumentsText(), run.CountsText())
	}
}

// Progress is written at most once in ProgressInterval. Its failure is logged once, and does not fail the run.
func TestProgressInterval(t *testing.T) {
	t.Parallel()
	b := newBench(t, 0)
	count := func(n int) map[string]int { return map[string]int{"n": n} }
	started := time.Now()
	run := b.StartRun(operations.RunRetry, map[string]string{"a": "b"})
	if id := run.ID(); id != "" {
		t.Errorf("before any progress it has the id %s", id)
	}
	n := 0
	for ; time.Since(started) < operations.ProgressInterval/2; n++ {
		run.Progress(t.Context(), count(n+1), 2)
	}
	if first := only(t, b.Operator); n < 2 || first.CountsText() != "n 1" || first.ID != run.ID() || first.Share == nil || *first.Share != 1 || first.ArgumentsText() != "a b" {
		t.Errorf("after %d times it is %+v: %s", n, first, first.CountsText())
	}
	pgtest.Await(t, "a later progress is written", func() bool {
		run.Progress(t.Context(), count(1_000_000), 0)
		now := only(t, b.Operator)
		return now.CountsText() == "n 1000000" && now.Share != nil && now.UpdatedAt.After(now.StartedAt)
	})
	if took := time.Since(started); took < operations.ProgressInterval {
		t.Errorf("it is written again after %s", took)
	}
	run.Discard(t.Context())
	noRuns(t, b.Operator)
}

// That a run cannot be recorded is logged, and the run goes on.
func TestUnrecordedRun(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	pgtest.Exec(t, b.Pool, "DROP TABLE stripe_webhook_runs")
	var log strings.Builder
	o := operations.New(b.Pool, &operations.Config{Applier: b.Receiver, APIKey: "sk_test_1", APIBase: b.apiURL, Logger: logTo(&log)})
	if sum, err := o.Reconcile(t.Context(), operations.ReconcileOptions{Since: 72 * time.Hour}); err != nil || sum.Applied == 0 {
		t.Errorf("it is %+v, %v", sum, err)
	}
	if n := strings.Count(log.String(), "could not record a run"); n != 2 { // the first progress, and the end
		t.Errorf("the log is\n%s", &log)
	}
}

// Runs are listed by kind, a page at a time, and one is found by its id.
func TestRunFilter(t *testing.T) {
	t.Parallel()
	b := newBench(t, 0)
	for n := range 5 {
		kind := []operations.RunKind{operations.RunVerify, operations.RunPrune}[n%2]
		b.RecordRun(t.Context(), &operations.RunRecord{Kind: kind, Counts: map[string]int{"n": n}, Started: time.Now().Add(time.Duration(n) * time.Second)})
	}
	var seen []string
	f := operations.RunFilter{Kind: operations.RunVerify, Limit: 2}
	for {
		runs, err := b.Runs(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		for i := range runs {
			seen = append(seen, runs[i].CountsText())
		}
		if len(runs) < f.Limit {
			break
		}
		f.Before = runs[len(runs)-1].ID
	}
	if got := strings.Join(seen, ","); got != "n 4,n 2,n 0" {
		t.Errorf("the pages have %s", got)
	}
	if _, err := b.Runs(t.Context(), operations.RunFilter{Kind: "guess"}); !errors.Is(err, operations.ErrRefused) {
		t.Errorf("an unknown kind gives %v", err)
	}
	if run, err := b.Run(t.Context(), f.Before); err != nil || run.ID != f.Before {
		t.Errorf("the run is %+v, %v", run, err)
	}
	if _, err := b.Run(t.Context(), "run_x"); !errors.Is(err, operations.ErrNoRun) || !strings.Contains(err.Error(), "run_x: no such run") {
		t.Errorf("an unknown run gives %v", err)
	}
}

// A run without an end is interrupted if it has an error, or no progress for minutes.
func TestRunState(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for want, run := range map[operations.RunState][]operations.Run{
		operations.RunRunning:     {{UpdatedAt: now.Add(-time.Minute)}},
		operations.RunInterrupted: {{UpdatedAt: now, Error: "interrupted"}, {UpdatedAt: now.Add(-3 * time.Minute)}},
		operations.RunFailed:      {{FinishedAt: &now, Error: "x"}},
		operations.RunFinished:    {{FinishedAt: &now, UpdatedAt: now.Add(-time.Hour)}},
	} {
		for _, one := range run {
			if got := one.State(); got != want {
				t.Errorf("%+v is %s, want %s", one, got, want)
			}
		}
	}
}

// A run has one row also if the answer to its insertion is lost.
func TestRunIsRecordedOnce(t *testing.T) {
	t.Parallel()
	proxy, through := pgtest.NewProxy(t, pgtest.NewURL(t))
	var inserting, lost atomic.Bool
	proxy.Watch(func(m pgproxy.Message) pgproxy.Action {
		if m.ToServer && bytes.Contains(m.Body, []byte("INSERT INTO stripe_webhook_runs")) {
			inserting.Store(true)
		}
		// PostgreSQL sends CommandComplete once it has committed.
		if !m.ToServer && m.Type == 'C' && inserting.Load() && lost.CompareAndSwap(false, true) {
			return pgproxy.CutBefore
		}
		return pgproxy.Pass
	})
	o := operations.New(pgtest.Connect(t, through), &operations.Config{Logger: hooktest.NoLog()})
	run := o.StartRun(operations.RunRetry, nil)
	run.Progress(t.Context(), map[string]int{"retried": 1, "applied": 0, "failed": 0}, 0)
	if id := run.ID(); id != "" {
		t.Errorf("a run whose row nobody knows of has the id %s", id)
	}
	run.Finish(t.Context(), map[string]int{"retried": 2, "applied": 0, "failed": 0}, nil)
	if got := only(t, o); got.ID != run.ID() || got.State() != operations.RunFinished || got.CountsText() != "applied 0, failed 0, retried 2" {
		t.Errorf("the run %s is %+v", run.ID(), got)
	}
}

func logTo(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }
