package operations_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/webhooks"
)

// retried is a receiver whose handler fails while it is broken, and its retrier.
type retried struct {
	*hooktest.Host
	operator *operations.Operator
	mu       sync.Mutex
	err      error
	onCall   func(eventID string)
}

func newRetried(t *testing.T) *retried {
	t.Helper()
	r := &retried{}
	h := webhooks.NewHandlers()
	webhooks.On(h, "test.event", func(_ context.Context, _ pgx.Tx, ev *webhooks.Event, _ *map[string]any) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.onCall != nil {
			r.onCall(ev.ID)
		}
		return r.err
	})
	r.Host = hooktest.New(t, h, func(c *webhooks.Config) { c.Name = "billing" })
	r.operator = r.newOperator(r.Receiver)
	return r
}

func (r *retried) newOperator(applier operations.Applier) *operations.Operator {
	return operations.New(r.Pool, &operations.Config{Applier: applier, Logger: hooktest.NoLog()})
}

// breaks sets the error that the handler returns, and what it does before.
func (r *retried) breaks(err error, onCall func(string)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err, r.onCall = err, onCall
}

func (r *retried) fail(t *testing.T, ids ...string) {
	t.Helper()
	r.breaks(fmt.Errorf("broken by a deploy"), nil)
	for _, id := range ids {
		r.Expect(t, hooktest.Event(id, "test.event", 1, `{"id":"obj_1"}`), 500, "")
	}
}

// due has the failing events be due.
func (r *retried) due(t *testing.T) {
	t.Helper()
	pgtest.Exec(t, r.Pool, `UPDATE stripe_webhook_failures SET next_retry_at = now() - interval '1 second'`)
}

// start runs the retrier until the test ends or stop is called.
func (r *retried) start(t *testing.T, o *operations.Operator, build string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- o.RetryFailed(ctx, operations.RetryOptions{Every: 50 * time.Millisecond, Rate: 1000, Build: build})
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := pgtest.Receive(t, "RetryFailed ends", done); err != nil {
			t.Errorf("RetryFailed ends with %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// records describes the failures: the event, attempts, retries, and the minutes until the next retry, rounded to their power of two.
func (r *retried) records(t *testing.T) string {
	t.Helper()
	return pgtest.Scan[string](t, r.Pool, `SELECT coalesce(string_agg(concat_ws(' ', event_id, attempts, retries,
		(round(log(2.0, greatest(extract(epoch FROM next_retry_at - now()) / 900, 0.001)::numeric)))::text), ', ' ORDER BY event_id), '') FROM stripe_webhook_failures`)
}

// The first retry is due 15 minutes after the failure. Each further one is twice as far, and the event is applied when the handler
// is repaired. What another receiver failed, what is parked and what is dismissed is left alone.
func TestRetryFailed(t *testing.T) {
	t.Parallel()
	r := newRetried(t)
	r.fail(t, "evt_1")
	if got, want := r.records(t), "evt_1 1 0 0"; got != want {
		t.Errorf("after the failure the record is %q, want %q", got, want)
	}
	for _, row := range []string{"'evt_other', 'failing', 'host'", "'evt_parked', 'parked', 'billing'", "'evt_dismissed', 'dismissed', 'billing'"} {
		pgtest.Exec(t, r.Pool, `INSERT INTO stripe_webhook_failures (event_id, state, receiver, event_type, last_error, payload)
			VALUES (`+row+`, 'test.event', 'x', '{"id": "evt_x", "type": "test.event", "data": {"object": {}}}')`)
	}
	r.due(t)
	stop := r.start(t, r.operator, "build 1")
	failed := func() uint64 { return r.operator.RetryStats().FailedAgain }
	pgtest.AwaitEqual(t, "the number of failed retries", 1, failed)
	const others = "evt_dismissed 1 0 -10, evt_other 1 0 -10, evt_parked 1 0 -10"
	if got, want := r.records(t), "evt_1 2 1 1, "+others; got != want {
		t.Errorf("after a retry the records are %q, want %q", got, want)
	}
	r.due(t)
	pgtest.AwaitEqual(t, "the number of failed retries", 2, failed)
	if got, want := r.records(t), "evt_1 3 2 2, "+others; got != want {
		t.Errorf("after two retries the records are %q, want %q", got, want)
	}
	r.breaks(nil, nil)
	r.due(t)
	pgtest.AwaitEqual(t, "the number of applied events", 1, func() uint64 { return r.operator.RetryStats().Applied })
	pgtest.AwaitEqual(t, "the number of events without a next retry", 1, func() int {
		return pgtest.Scan[int](t, r.Pool, `SELECT count(*)::int FROM stripe_webhook_failures WHERE next_retry_at IS NULL AND event_id = 'evt_1'`)
	})
	if got := pgtest.Scan[string](t, r.Pool, `SELECT string_agg(event_id || ' ' || outcome || ' ' || receiver, ',') FROM stripe_webhook_events`); got != "evt_1 processed billing" {
		t.Errorf("the ledger has %s", got)
	}
	stop()
	if got := pgtest.Scan[string](t, r.Pool, `SELECT concat_ws(' ', min(kind), max(kind), sum((counts ->> 'retried')::int), sum((counts ->> 'applied')::int),
		sum((counts ->> 'failed')::int), bool_and(finished_at IS NOT NULL)) FROM stripe_webhook_runs`); got != "retry retry 3 1 2 t" {
		t.Errorf("the runs are %s", got)
	}
}

// After a deploy each event that failed before is scheduled once, within five minutes, and not again when the same build starts once more:
// neither what the build before failed, nor what this one failed meanwhile. What fails after the start keeps its first retry, whichever
// replica of a rolling deploy it fails in, and another build's retry of an older event does not count.
func TestRetryAfterADeploy(t *testing.T) {
	t.Parallel()
	r := newRetried(t)
	r.fail(t, "evt_1", "evt_2", "evt_3")
	soon := func() string {
		return pgtest.Scan[string](t, r.Pool, `SELECT coalesce(string_agg(event_id, ' ' ORDER BY event_id), '') FROM stripe_webhook_failures WHERE next_retry_at < now() + interval '5 minutes'`)
	}
	runs := func(o *operations.Operator, n uint64) {
		t.Helper()
		n += o.RetryStats().Runs
		pgtest.Await(t, "the retrier has run", func() bool { return o.RetryStats().Runs >= n })
	}
	for _, step := range []struct{ build, meanwhile, want, retriedByOther string }{
		{"build 1", "evt_4", "evt_1 evt_2 evt_3", ""},
		{"build 1", "evt_5", "", ""},
		{"build 2", "evt_6", "evt_1 evt_2 evt_3 evt_4 evt_5", "evt_2 evt_6"},
		{"build 2", "evt_7", "", ""},
	} {
		pgtest.Exec(t, r.Pool, `UPDATE stripe_webhook_failures SET next_retry_at = now() + interval '8 hours'`)
		o := r.newOperator(r.Receiver)
		stop := r.start(t, o, step.build)
		runs(o, 1)
		r.fail(t, step.meanwhile)
		runs(o, 2)
		if got := soon(); got != step.want {
			t.Errorf("with %s are to be retried soon %q, want %q", step.build, got, step.want)
		}
		if step.retriedByOther != "" { // by the retrier of a replica that a rolling deploy has not stopped yet
			pgtest.Exec(t, r.Pool, `UPDATE stripe_webhook_failures SET next_retry_at = now() + interval '8 hours', retried_build = 'build 1' WHERE event_id = ANY(string_to_array($1, ' '))`, step.retriedByOther)
			runs(o, 2)
			if got := soon(); got != step.want {
				t.Errorf("after the retries of %s are to be retried soon %q, want %q", step.retriedByOther, got, step.want)
			}
		}
		stop()
	}
}

// When the handler of a retry is called, its next retry has been moved already: a handler that ends the process does not do so again
// at the next start.
func TestRetryIsMovedFirst(t *testing.T) {
	t.Parallel()
	r := newRetried(t)
	r.fail(t, "evt_1")
	r.due(t)
	seen := make(chan float64, 10)
	r.breaks(nil, func(id string) {
		seen <- pgtest.Scan[float64](t, r.Pool, `SELECT extract(epoch FROM next_retry_at - now())::float8 FROM stripe_webhook_failures WHERE event_id = '`+id+`'`)
	})
	r.start(t, r.operator, "build 1")
	if wait := pgtest.Receive(t, "the handler is called", seen); wait < 20*60 || wait > 40*60 {
		t.Errorf("while the handler runs, the next retry is due in %.0f s, want about 30 minutes", wait)
	}
}

// away is an Applier that is unavailable.
type away struct{ *webhooks.Receiver }

func (away) Apply(context.Context, *webhooks.Event) (webhooks.Result, error) {
	return webhooks.Result{}, fmt.Errorf("%w: of a test", webhooks.ErrUnavailable)
}

// A retry that did not take place does not count, and is due again soon. What was applied meanwhile is left out.
func TestRetryWhileUnavailable(t *testing.T) {
	t.Parallel()
	r := newRetried(t)
	r.fail(t, "evt_1", "evt_2")
	r.breaks(nil, nil)
	r.Expect(t, hooktest.Event("evt_2", "test.event", 1, `{"id":"obj_1"}`), 200, webhooks.OutcomeProcessed)
	r.due(t)
	o := r.newOperator(away{r.Receiver})
	stop := r.start(t, o, "build 1")
	pgtest.Await(t, "a run fails", func() bool { return o.RetryStats().Failed > 0 })
	stop()
	if got := pgtest.Scan[string](t, r.Pool, `SELECT string_agg(concat_ws(' ', event_id, attempts, retries, next_retry_at IS NULL), ', ' ORDER BY event_id) FROM stripe_webhook_failures`); got != "evt_1 1 0 f, evt_2 1 0 t" {
		t.Errorf("the records are %s", got)
	}
	r.start(t, r.operator, "build 1")
	pgtest.AwaitEqual(t, "the number of applied events", 1, func() uint64 { return r.operator.RetryStats().Applied })
}

func TestRetryRefuses(t *testing.T) {
	t.Parallel()
	r := newRetried(t)
	remote := operations.NewRemote("http://127.0.0.1:1/webhooks/stripe", "whsec_1")
	if err := r.newOperator(remote).RetryFailed(t.Context(), operations.RetryOptions{}); err == nil || err.Error() != "refused: retries run handlers in this process: set Config.Applier to a Receiver" {
		t.Errorf("with a Remote the error is %v", err)
	}
	if err := r.operator.RetryFailed(t.Context(), operations.RetryOptions{Rate: -1}); err == nil {
		t.Error("a negative rate is taken")
	}
}

// Retriers of two receivers on one database do not wait for each other: the one is in the middle of a slow handler.
func TestRetriersOfTwoReceivers(t *testing.T) {
	t.Parallel()
	r := newRetried(t)
	r.fail(t, "evt_1")
	r.due(t)
	called, release := make(chan struct{}), make(chan struct{})
	r.breaks(nil, func(string) {
		close(called)
		<-release
	})
	r.start(t, r.operator, "build 1")
	pgtest.Receive(t, "the first retrier calls its handler", called)
	other := hooktest.On(t, r.Pool, webhooks.NewHandlers(), func(c *webhooks.Config) { c.Name = "other" })
	o := r.newOperator(other.Receiver)
	r.start(t, o, "build 1")
	pgtest.Await(t, "the second retrier has run", func() bool { return o.RetryStats().Runs > 0 })
	if skipped := o.RetryStats().Skipped; skipped != 0 {
		t.Errorf("the second retrier skipped %d runs", skipped)
	}
	close(release)
	pgtest.AwaitEqual(t, "the number of applied events", 1, func() uint64 { return r.operator.RetryStats().Applied })
}

// Dismissed records of which the ledger has no row are pruned when they are old; those of failing events are not.
func TestPruneSettledFailures(t *testing.T) {
	t.Parallel()
	r := newRetried(t)
	for _, row := range []string{"'evt_settled', 'dismissed', 100", "'evt_young', 'dismissed', 10", "'evt_failing', 'failing', 100"} {
		pgtest.Exec(t, r.Pool, `INSERT INTO stripe_webhook_failures (event_id, state, event_type, last_error, first_failed_at, last_failed_at)
			SELECT id, state, 'test.event', 'x', at, at FROM (SELECT id, state, now() - days * interval '1 day' AS at FROM (VALUES (`+row+`)) AS v (id, state, days)) AS w`)
	}
	pruned, err := r.operator.Prune(t.Context(), operations.PruneOptions{OlderThan: 90 * 24 * time.Hour})
	if err != nil || pruned.Failures != 1 {
		t.Errorf("Prune gives %+v, %v", pruned, err)
	}
	if left := pgtest.Scan[string](t, r.Pool, `SELECT string_agg(event_id, ' ' ORDER BY event_id) FROM stripe_webhook_failures`); left != "evt_failing evt_young" {
		t.Errorf("left are %s", left)
	}
}
