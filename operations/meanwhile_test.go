package operations_test

import (
	"testing"

	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/webhooks"
)

// A person dismisses an event while a bulk replay, or the retrier, is about to apply it: it is left alone.
func TestDismissedMeanwhile(t *testing.T) {
	t.Parallel()
	r := newRetried(t)
	r.fail(t, "evt_1", "evt_2")
	applied := map[string]bool{}
	dismiss := func(id string) {
		applied[id] = true
		if id == "evt_1" { // its handler runs while the next one is dismissed
			if err := r.operator.Dismiss(t.Context(), "evt_2", "refunded by hand"); err != nil {
				t.Error(err)
			}
		}
	}
	r.breaks(nil, dismiss)
	var results []operations.EventResult
	if err := r.operator.ReplayAll(t.Context(), operations.ReplayFilter{}, func(a operations.EventResult) { results = append(results, a) }); err != nil {
		t.Fatal(err)
	}
	if len(results) != 2 || results[1].Err != nil || results[1].Outcome != webhooks.OutcomeDuplicate || applied["evt_2"] {
		t.Errorf("the results are %+v, applied are %v", results, applied)
	}
	const state = `SELECT string_agg(event_id || ' ' || outcome, ', ' ORDER BY event_id) FROM stripe_webhook_events`
	if got := pgtest.Scan[string](t, r.Pool, state); got != "evt_1 processed, evt_2 parked" {
		t.Errorf("the ledger has %s", got)
	}

	r.breaks(nil, nil)
	r.fail(t, "evt_3")
	r.breaks(nil, func(id string) { applied[id] = true })
	pgtest.Exec(t, r.Pool, `INSERT INTO stripe_webhook_events (event_id, event_type, outcome, livemode) VALUES ('evt_3', 'test.event', 'parked', FALSE)`)
	pgtest.Exec(t, r.Pool, `UPDATE stripe_webhook_failures SET next_retry_at = now() - interval '1 second' WHERE event_id = 'evt_3'`)
	r.start(t, r.operator, "build 1")
	pgtest.Await(t, "the retrier has run", func() bool { return r.operator.RetryStats().Runs > 0 })
	if applied["evt_3"] || r.operator.RetryStats().Applied != 0 {
		t.Error("the retrier has applied an event that is parked")
	}
	if applied := r.operator.Replay(t.Context(), "evt_2", ""); applied.Err != nil || applied.Outcome != webhooks.OutcomeProcessed {
		t.Errorf("by its id the dismissed one gives %+v", applied)
	}
}
