package operations_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/webhooks"
)

// A parked event is listed and not pruned. ReplayFailed skips it, and Replay applies it, in this process and over HTTP.
func TestParked(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	var parks atomic.Bool
	h := webhooks.NewHandlers()
	webhooks.On(h, "*", func(context.Context, pgx.Tx, *webhooks.Event, *struct{}) error {
		if parks.Load() {
			return webhooks.Park(errors.New("nobody knows the customer"))
		}
		return nil
	})
	host := hooktest.New(t, h, nil)
	here := operations.New(host.Pool, &operations.Config{Applier: host.Receiver})
	there := operations.New(host.Pool, &operations.Config{Applier: operations.NewRemote(host.URL, hooktest.Secret)})
	parks.Store(true)
	for _, id := range []string{"evt_here", "evt_there", "evt_kept"} {
		host.Expect(t, hooktest.Event(id, "invoice.paid", 1700000000, `{"id":"in_1"}`), 200, webhooks.OutcomeParked)
	}
	parks.Store(false)
	for state, want := range map[operations.FailureState]int{"": 3, operations.StateParked: 3, operations.StateFailing: 0, operations.StateDismissed: 0} {
		if list, err := here.Failures(ctx, operations.FailureFilter{State: state}); err != nil || len(list) != want {
			t.Errorf("in the state %q there are %d, %v", state, len(list), err)
		}
	}
	if n, err := here.CountFailing(ctx); err != nil || n != 0 {
		t.Errorf("%d events count as failing, %v", n, err)
	}
	if err := here.ReplayFailed(ctx, "", func(a operations.EventResult) { t.Errorf("ReplayFailed applies %+v", a) }); err != nil {
		t.Error(err)
	}
	detail, err := here.EventDetail(ctx, "evt_here")
	if err != nil || !detail.Parked() || detail.Failing() || !strings.Contains(detail.Failure.LastError, "nobody knows the customer") {
		t.Errorf("its detail is %+v, %v", detail, err)
	}
	parks.Store(true)
	for name, o := range map[string]*operations.Operator{"here": here, "there": there} {
		if a := o.Replay(ctx, "evt_"+name, ""); a.Err == nil || !strings.Contains(a.Err.Error(), "parked: handler of invoice.paid: parked: nobody knows") {
			t.Errorf("%s: while it parks the replay is %+v", name, a)
		}
	}
	without := hooktest.On(t, host.Pool, webhooks.NewHandlers(), nil)
	for _, applier := range []operations.Applier{without.Receiver, operations.NewRemote(without.URL, hooktest.Secret)} {
		a := operations.New(host.Pool, &operations.Config{Applier: applier}).Replay(ctx, "evt_kept", "")
		if a.Err == nil || !strings.Contains(a.Err.Error(), "no handler ran: none is registered for invoice.paid in th") || !strings.HasSuffix(a.Err.Error(), ": it stays parked") {
			t.Errorf("without a handler the replay is %+v", a)
		}
	}
	parks.Store(false)
	for name, o := range map[string]*operations.Operator{"here": here, "there": there} {
		for _, want := range []webhooks.Outcome{webhooks.OutcomeProcessed, webhooks.OutcomeDuplicate} {
			if a := o.Replay(ctx, "evt_"+name, ""); a.Err != nil || a.Outcome != want {
				t.Errorf("%s: the replay is %+v, want %s", name, a, want)
			}
		}
	}
	pgtest.Exec(t, host.Pool, `UPDATE stripe_webhook_events SET processed_at = processed_at - interval '100 days'`)
	if pruned, err := here.Prune(ctx, operations.PruneOptions{OlderThan: operations.MinPruneAge}); err != nil || pruned.Deleted != 2 || pruned.Failures != 2 {
		t.Errorf("prune deletes %+v, %v, want the applied events", pruned, err)
	}
	if a := here.Replay(ctx, "evt_kept", ""); a.Err != nil || a.Outcome != webhooks.OutcomeProcessed {
		t.Errorf("after prune the replay is %+v", a)
	}
	for _, id := range []string{"evt_dismissed"} {
		parks.Store(true)
		host.Expect(t, hooktest.Event(id, "invoice.paid", 1700000000, `{"id":"in_1"}`), 200, webhooks.OutcomeParked)
	}
	pgtest.Exec(t, host.Pool, `UPDATE stripe_webhook_failures SET state = 'dismissed' WHERE event_id = 'evt_dismissed'`)
	pgtest.Exec(t, host.Pool, `UPDATE stripe_webhook_events SET processed_at = processed_at - interval '100 days'`)
	if pruned, err := here.Prune(ctx, operations.PruneOptions{OlderThan: operations.MinPruneAge}); err != nil || pruned.Deleted != 2 {
		t.Errorf("prune deletes %+v, %v, want the dismissed one too", pruned, err)
	}
}
