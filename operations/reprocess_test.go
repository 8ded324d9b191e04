package operations_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/webhooks"
)

// shop is a receiver that keeps payloads, with a handler "credit", which adds a row to the table credits for each call unless it is
// told otherwise, and a neighbor.
type shop struct {
	*hooktest.Host
	credit    atomic.Pointer[func(ctx context.Context, tx pgx.Tx, ev *webhooks.Event) error]
	neighbors atomic.Int64
}

func newShop(t *testing.T) *shop {
	t.Helper()
	s := &shop{}
	h := webhooks.NewHandlers()
	webhooks.On(h, "invoice.paid", func(ctx context.Context, tx pgx.Tx, ev *webhooks.Event, _ *map[string]any) error {
		return (*s.credit.Load())(ctx, tx, ev)
	}, webhooks.Name("credit"))
	webhooks.On(h, "*", func(context.Context, pgx.Tx, *webhooks.Event, *map[string]any) error {
		s.neighbors.Add(1)
		return nil
	}, webhooks.Name("mail"))
	s.Host = hooktest.New(t, h, func(c *webhooks.Config) { c.KeepPayloads = true })
	pgtest.Exec(t, s.Pool, `CREATE TABLE credits (event_id text NOT NULL)`)
	return s
}

func addCredit(ctx context.Context, tx pgx.Tx, ev *webhooks.Event) error {
	_, err := tx.Exec(ctx, `INSERT INTO credits VALUES ($1)`, ev.ID)
	return err
}

func (s *shop) handle(credit func(ctx context.Context, tx pgx.Tx, ev *webhooks.Event) error) {
	s.credit.Store(&credit)
}

// deliver delivers events of a type with a handler that does nothing, and returns their ids in order.
func (s *shop) deliver(t *testing.T, eventType string, n int) (ids []string) {
	t.Helper()
	s.handle(func(context.Context, pgx.Tx, *webhooks.Event) error { return nil })
	for i := range n {
		id := fmt.Sprintf("evt_%s_%02d", eventType, i)
		s.Expect(t, hooktest.Event(id, eventType, 1700000000, fmt.Sprintf(`{"id":"in_%d","object":"invoice"}`, i)), 200, webhooks.OutcomeProcessed)
		ids = append(ids, id)
	}
	return ids
}

func (s *shop) operator(reason string) *operations.Operator {
	return operations.New(s.Pool, &operations.Config{Applier: s.Receiver, Operator: "ann", Reason: reason, Logger: hooktest.NoLog()})
}

func (s *shop) credits(t *testing.T) []string {
	t.Helper()
	rows, _ := s.Pool.Query(t.Context(), `SELECT event_id FROM credits ORDER BY ctid`)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// A bug is repaired for the events of its time alone, oldest first, and for its handler alone. The dry run runs nothing.
func TestReprocess(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	ids := s.deliver(t, "invoice.paid", 5)
	s.deliver(t, "invoice.voided", 3)
	s.handle(addCredit)
	before := s.neighbors.Load()
	options := operations.ReprocessOptions{Type: "invoice.*", Since: time.Now().Add(-time.Hour), Handler: "credit", DryRun: true}
	var listed []operations.ReprocessedEvent
	options.Each = func(e operations.ReprocessedEvent) { listed = append(listed, e) }
	o := s.operator("credits were lost")
	if sum, err := o.Reprocess(t.Context(), options); err != nil || sum != (operations.ReprocessResult{Reprocessed: 5, Unhandled: 3}) || len(listed) != 8 {
		t.Errorf("the dry run gives %+v, %v, and lists %d", sum, err, len(listed))
	}
	if e := listed[0]; e.EventID != ids[0] || e.EventType != "invoice.paid" || !slices.Equal(e.Handlers, []string{"credit"}) || e.Outcome != "" {
		t.Errorf("the first of the dry run is %+v", e)
	}
	if n := s.Count(t, "credits") + s.Count(t, "stripe_webhook_runs"); n != 0 {
		t.Errorf("the dry run left %d rows", n)
	}
	options.DryRun = false
	if sum, err := o.Reprocess(t.Context(), options); err != nil || sum != (operations.ReprocessResult{Reprocessed: 5, Unhandled: 3}) {
		t.Errorf("it gives %+v, %v", sum, err)
	}
	if got := s.credits(t); !slices.Equal(got, ids) {
		t.Errorf("credited are %v, want %v", got, ids)
	}
	if n := s.neighbors.Load(); n != before {
		t.Errorf("the neighbor ran %d times", n-before)
	}
	if got := pgtest.Scan[string](t, s.Pool, `SELECT concat_ws(' ', kind, operator, reason, counts ->> 'reprocessed', arguments ->> 'handler', finished_at IS NOT NULL, error) FROM stripe_webhook_runs`); got != "reprocess ann credits were lost 5 credit t" {
		t.Errorf("the run is %s", got)
	}
	event, err := o.EventDetail(t.Context(), ids[0])
	if err != nil || event.Event.ReprocessCount != 1 || event.Event.ReprocessedAt == nil || *event.Event.ReprocessReason != "credits were lost" || event.Event.Receiver != "host" {
		t.Errorf("the event is %+v, %v", event.Event, err)
	}
}

// A run that is interrupted, and in which events fail, is resumed: each event is credited once, also by two operators who resume
// it at the same time.
func TestReprocessResumes(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	ids := s.deliver(t, "invoice.paid", 12)
	o := s.operator("credits were lost")
	ctx, cancel := context.WithCancel(t.Context())
	s.handle(func(ctx context.Context, tx pgx.Tx, ev *webhooks.Event) error {
		switch ev.ID {
		case ids[2]:
			return errors.New("still broken")
		case ids[6]:
			cancel() // in the middle of it
		}
		return addCredit(ctx, tx, ev)
	})
	id := ""
	options := operations.ReprocessOptions{Since: time.Now().Add(-time.Hour), Handler: "credit", Started: func(run string) { id = run }}
	sum, err := o.Reprocess(ctx, options)
	if !errors.Is(err, context.Canceled) || sum.Failed != 1 || sum.Reprocessed < 5 || sum.Reprocessed > 6 || id == "" {
		t.Fatalf("the interrupted run %s gives %+v, %v", id, sum, err)
	}
	s.handle(addCredit)
	var group sync.WaitGroup
	var reprocessed atomic.Int64
	for range 2 {
		group.Go(func() {
			sum, err := s.operator("again").Reprocess(t.Context(), operations.ReprocessOptions{Resume: id})
			reprocessed.Add(int64(sum.Reprocessed))
			if err != nil || sum.Failed != 0 {
				t.Errorf("the resumed run gives %+v, %v", sum, err)
			}
		})
	}
	group.Wait()
	got := s.credits(t)
	slices.Sort(got)
	if !slices.Equal(got, ids) || int(reprocessed.Load())+sum.Reprocessed < len(ids) {
		t.Errorf("credited are %v, want each of %v once", got, ids)
	}
	if sum, err := o.Reprocess(t.Context(), operations.ReprocessOptions{Resume: id}); err != nil || sum != (operations.ReprocessResult{}) {
		t.Errorf("resumed once more it gives %+v, %v", sum, err)
	}
	named := operations.ReprocessOptions{Events: ids[:2], Handler: "credit"}
	var skipped []operations.ReprocessedEvent
	named.Each = func(e operations.ReprocessedEvent) { skipped = append(skipped, e) }
	if sum, err := o.Reprocess(t.Context(), named); err != nil || sum != (operations.ReprocessResult{Skipped: 2}) || skipped[0].Earlier == nil || skipped[0].EarlierReason == "" {
		t.Errorf("named they give %+v, %v: %+v", sum, err, skipped)
	}
	named.Again = true
	if sum, err := o.Reprocess(t.Context(), named); err != nil || sum.Reprocessed != 2 || len(s.credits(t)) != len(ids)+2 {
		t.Errorf("named again they give %+v, %v", sum, err)
	}
}

func TestReprocessRefuses(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	ids := s.deliver(t, "invoice.paid", 1)
	since := time.Now().Add(-time.Hour)
	for _, c := range []struct {
		reason  string
		options operations.ReprocessOptions
		want    string
	}{
		{"", operations.ReprocessOptions{Events: ids}, "the reason is empty"},
		{"x", operations.ReprocessOptions{}, "name events, or select them"},
		{"x", operations.ReprocessOptions{Events: ids, Since: since}, "name events, or select them"},
		{"x", operations.ReprocessOptions{Type: "invoice.paid"}, "set Since or Customer"},
		{"x", operations.ReprocessOptions{Resume: "run_1", Since: since}, "a resumed run uses the events"},
		{"x", operations.ReprocessOptions{Since: since, Handler: "credti"}, `no handler is named "credti": use one of credit, mail`},
		{"x", operations.ReprocessOptions{Since: since, Count: new(int)}, "Count requires exactly one event"},
		{"x", operations.ReprocessOptions{Since: since, Until: since}, "is not after Since"},
	} {
		if _, err := s.operator(c.reason).Reprocess(t.Context(), c.options); !errors.Is(err, operations.ErrRefused) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v gives %v, want %q", c.options, err, c.want)
		}
	}
	remote := operations.New(s.Pool, &operations.Config{Applier: operations.NewRemote("http://127.0.0.1:1/", "whsec_1"), Reason: "x"})
	if _, err := remote.Reprocess(t.Context(), operations.ReprocessOptions{Events: ids}); !errors.Is(err, operations.ErrRefused) {
		t.Errorf("with a Remote it gives %v", err)
	}
	var failed []operations.ReprocessedEvent
	s.deliver(t, "invoice.voided", 1)
	pgtest.Exec(t, s.Pool, `UPDATE stripe_webhook_events SET outcome = 'parked' WHERE event_id = $1`, ids[0])
	for _, dry := range []bool{true, false} {
		failed = nil
		sum, err := s.operator("x").Reprocess(t.Context(), operations.ReprocessOptions{
			Events: []string{"evt_unknown", ids[0], "evt_invoice.voided_00"}, Handler: "credit", DryRun: dry,
			Each: func(e operations.ReprocessedEvent) { failed = append(failed, e) },
		})
		if err != nil || sum.Failed != 3 || !errors.Is(failed[0].Err, operations.ErrNotFound) || !errors.Is(failed[1].Err, webhooks.ErrNotApplied) || !errors.Is(failed[2].Err, webhooks.ErrNoHandler) {
			t.Errorf("events that cannot be reprocessed give %+v, %v: %v", sum, err, failed)
		}
	}
	count := 1
	if sum, err := s.operator("x").Reprocess(t.Context(), operations.ReprocessOptions{Events: []string{"evt_invoice.voided_00"}, Count: &count}); err != nil || sum.Skipped != 1 {
		t.Errorf("with another count than it has: %+v, %v", sum, err)
	}
}
