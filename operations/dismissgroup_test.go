package operations_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/operations"
)

// group returns the group of an event type.
func group(t *testing.T, o *operations.Operator, eventType string) operations.FailureGroup {
	t.Helper()
	list, err := o.FailureGroups(t.Context(), operations.FailureFilter{Type: eventType})
	if err != nil || len(list.Groups) == 0 {
		t.Fatalf("the groups of %s are %+v, %v", eventType, list, err)
	}
	return list.Groups[0]
}

// states are how many failure records there are in each state, and in how many rows the ledger has a failed event as parked.
func states(t *testing.T, d *dismissal) string {
	t.Helper()
	return pgtest.Scan[string](t, d.Pool, `SELECT concat_ws(' ', (SELECT string_agg(state || ' ' || n, ' ' ORDER BY state) FROM (
			SELECT state, count(*) AS n FROM stripe_webhook_failures GROUP BY state) AS counted),
		'ledger', (SELECT count(*) FROM stripe_webhook_events WHERE outcome = 'parked'))`)
}

// A group has the ids of its events, the newest first, up to a bound, and the last error as it was.
func TestGroupNamesItsEvents(t *testing.T) {
	t.Parallel()
	pool := pgtest.NewPool(t)
	pgtest.Exec(t, pool, `INSERT INTO stripe_webhook_failures (event_id, event_type, first_failed_at, last_failed_at, last_error)
		SELECT 'evt_' || n, 'invoice.paid', now() - n * interval '1 hour', now() - n * interval '1 minute', 'handler of invoice.paid: no plan for cus_' || n FROM generate_series(1, 60) AS n`)
	got := group(t, operations.New(pool, nil), "invoice.paid")
	if len(got.EventIDs) != operations.MaxGroupEvents || got.EventIDs[0] != "evt_1" || got.EventIDs[49] != "evt_50" || got.Count != 60 {
		t.Errorf("of %d events it names %q", got.Count, got.EventIDs)
	}
	if got.EventID != "evt_1" || got.LastError != "handler of invoice.paid: no plan for cus_1" {
		t.Errorf("the last error is %q, of %s", got.LastError, got.EventID)
	}
}

// A group is dismissed event by event, and nothing of another group. Running it again finds nothing.
func TestDismissGroup(t *testing.T) {
	t.Parallel()
	d := newDismissal(t, nil)
	ctx := t.Context()
	for n := range 5 {
		d.Expect(t, paid(fmt.Sprint("evt_", n)), 500, "")
	}
	d.mode.Store("park")
	d.Expect(t, paid("evt_parked"), 200, "parked")
	list, err := d.FailureGroups(ctx, operations.FailureFilter{State: operations.StateFailing})
	if err != nil || len(list.Groups) != 1 {
		t.Fatalf("the groups are %+v, %v", list, err)
	}
	failing := list.Groups[0]
	var seen []string
	options := operations.DismissGroupOptions{Reason: " refunded\x00 by hand ", Total: 5, Each: func(id string, err error) { seen = append(seen, fmt.Sprint(id, err)) }}
	sum, err := d.DismissGroup(ctx, operations.FailureFilter{Group: failing.Key}, options)
	if want := "evt_4<nil> evt_3<nil> evt_2<nil> evt_1<nil> evt_0<nil>"; err != nil || sum != (operations.DismissGroupResult{Dismissed: 5}) || strings.Join(seen, " ") != want {
		t.Errorf("it dismisses %+v, %v: %q", sum, err, seen)
	}
	if got, want := states(t, d), "dismissed 5 parked 1 ledger 6"; got != want {
		t.Errorf("afterwards there are %s, want %s", got, want)
	}
	if got, want := d.record(t, "evt_3"), "dismissed 1 refunded by hand no retry"; got != want {
		t.Errorf("the record is %q, want %q", got, want)
	}
	runs, err := d.Runs(ctx, operations.RunFilter{Kind: operations.RunDismiss})
	if err != nil || len(runs) != 1 || runs[0].CountsText() != "dismissed 5, failed 0, skipped 0" || runs[0].Reason != "refunded by hand" ||
		runs[0].ArgumentsText() != "group "+failing.Key || runs[0].State() != operations.RunFinished {
		t.Errorf("the runs are %+v, %v", runs, err)
	}
	if sum, err = d.DismissGroup(ctx, operations.FailureFilter{Group: failing.Key}, options); err != nil || sum != (operations.DismissGroupResult{}) || d.Count(t, "stripe_webhook_runs") != 1 {
		t.Errorf("again it dismisses %+v, %v, and there are %d runs", sum, err, d.Count(t, "stripe_webhook_runs"))
	}
}

// The filter's state and time select among the events of a group.
func TestDismissPartOfGroup(t *testing.T) {
	t.Parallel()
	d := newDismissal(t, nil)
	insert := `INSERT INTO stripe_webhook_failures (event_id, event_type, first_failed_at, last_error, state)
		SELECT 'evt_' || n, 'invoice.paid', now() - n * interval '1 hour', 'no plan', CASE WHEN n > 6 THEN 'parked' ELSE 'failing' END FROM generate_series(1, 9) AS n`
	pgtest.Exec(t, d.Pool, insert)
	key := group(t, d.Operator, "invoice.paid").Key
	options := operations.DismissGroupOptions{Reason: "x"}
	for _, step := range []struct {
		filter operations.FailureFilter
		want   string
	}{
		{operations.FailureFilter{Group: key, State: operations.StateParked}, "dismissed 3 failing 6 ledger 3"},
		{operations.FailureFilter{Group: key, Until: time.Now().Add(-150 * time.Minute)}, "dismissed 7 failing 2 ledger 7"},
		{operations.FailureFilter{Group: key, Account: "acct_1"}, "dismissed 7 failing 2 ledger 7"},
		{operations.FailureFilter{Group: "000000000000"}, "dismissed 7 failing 2 ledger 7"},
	} {
		if _, err := d.DismissGroup(t.Context(), step.filter, options); err != nil {
			t.Fatal(err)
		}
		if got := states(t, d); got != step.want {
			t.Errorf("after %+v there are %s, want %s", step.filter, got, step.want)
		}
	}
	for want, c := range map[string]struct {
		filter operations.FailureFilter
		reason string
	}{
		"refused: the reason is empty: say why the events of the group need not be applied": {operations.FailureFilter{Group: key}, " "},
		"refused: FailureFilter.Group is empty: name the key of a group":                    {operations.FailureFilter{}, "x"},
		"refused: events of the state dismissed are dismissed already":                      {operations.FailureFilter{Group: key, State: operations.StateDismissed}, "x"},
	} {
		_, err := d.DismissGroup(t.Context(), c.filter, operations.DismissGroupOptions{Reason: c.reason})
		if !errors.Is(err, operations.ErrRefused) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("it returns %v, want %s", err, want)
		}
	}
	if got := states(t, d); got != "dismissed 7 failing 2 ledger 7" {
		t.Errorf("a refusal changes it to %s", got)
	}
}

// An event that took effect, failed for another reason or is held by a delivery while the group is dismissed is left, and the others
// are dismissed. An interrupted run is continued by another one.
func TestDismissGroupInTheMeantime(t *testing.T) {
	t.Parallel()
	d := newDismissal(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	pgtest.Exec(t, d.Pool, `INSERT INTO stripe_webhook_failures (event_id, event_type, first_failed_at, last_error)
		SELECT 'evt_' || n, 'invoice.paid', now() - n * interval '1 hour', 'no plan' FROM generate_series(1, 7) AS n`)
	filter := operations.FailureFilter{Group: group(t, d.Operator, "invoice.paid").Key}
	lefts := map[string]string{}
	options := operations.DismissGroupOptions{Reason: "x", Each: func(id string, err error) {
		switch id {
		case "evt_1":
			pgtest.Exec(t, d.Pool, `INSERT INTO stripe_webhook_events (event_id, event_type, outcome, livemode) VALUES ('evt_2', 'invoice.paid', 'processed', false)`)
			pgtest.Exec(t, d.Pool, `UPDATE stripe_webhook_failures SET last_error = 'no connection' WHERE event_id = 'evt_3'`)
			if err := d.Dismiss(t.Context(), "evt_4", "earlier"); err != nil {
				t.Error(err)
			}
		case "evt_5":
			cancel()
		}
		if err != nil {
			lefts[id] = err.Error()
		}
	}}
	sum, err := d.DismissGroup(ctx, filter, options)
	if !errors.Is(err, context.Canceled) || sum != (operations.DismissGroupResult{Dismissed: 2, Skipped: 3}) {
		t.Errorf("it dismisses %+v, %v", sum, err)
	}
	for id, want := range map[string]string{
		"evt_2": "has taken effect (processed)", "evt_3": "failed for another reason in the meantime", "evt_4": "was dismissed in the meantime",
	} {
		if !strings.Contains(lefts[id], want) {
			t.Errorf("%s is left: %q, want %q", id, lefts[id], want)
		}
	}
	if got := d.record(t, "evt_4"); got != "dismissed 1 earlier no retry" {
		t.Errorf("the record of what was dismissed earlier is %q", got)
	}
	held, err := d.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer held.Rollback(t.Context())
	if _, err := held.Exec(t.Context(), `SELECT FROM stripe_webhook_failures WHERE event_id = 'evt_6' FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	options.Each = nil
	sum, err = d.DismissGroup(t.Context(), filter, options)
	if sum != (operations.DismissGroupResult{Dismissed: 1, Failed: 1}) || err == nil || err.Error() != "deliveries hold 1 of the events, which were not dismissed: run it again" {
		t.Errorf("while an event is held it dismisses %+v, %v", sum, err)
	}
	_ = held.Rollback(t.Context())
	if sum, err = d.DismissGroup(t.Context(), filter, options); err != nil || sum.Dismissed != 1 {
		t.Errorf("afterwards it dismisses %+v, %v", sum, err)
	}
	if got, want := pgtest.Scan[string](t, d.Pool, `SELECT string_agg(concat_ws(' ', counts ->> 'dismissed', counts ->> 'skipped', counts ->> 'failed', error), '; ' ORDER BY id) FROM stripe_webhook_runs WHERE arguments ? 'group'`),
		"2 3 0 interrupted; 1 0 1 deliveries hold 1 of the events, which were not dismissed: run it again; 1 0 0"; got != want {
		t.Errorf("the runs are %s, want %s", got, want)
	}
}

// The parked events of a group are replayed by it, and failing ones are not.
func TestReplayParkedGroup(t *testing.T) {
	t.Parallel()
	d := newDismissal(t, nil)
	d.Expect(t, paid("evt_failing"), 500, "")
	d.mode.Store("park")
	for n := range 3 {
		d.Expect(t, paid(fmt.Sprint("evt_", n)), 200, "parked")
	}
	d.mode.Store("work")
	key := ""
	list, err := d.FailureGroups(t.Context(), operations.FailureFilter{State: operations.StateParked})
	if err == nil && len(list.Groups) == 1 {
		key = list.Groups[0].Key
	}
	var replayed []string
	each := func(a operations.EventResult) {
		replayed = append(replayed, fmt.Sprint(a.EventID, " ", a.Outcome, " ", a.Err))
	}
	filter := operations.ReplayFilter{Group: key, State: operations.StateParked}
	if err := d.ReplayAll(t.Context(), filter, each); err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(replayed, ", "), "evt_0 processed <nil>, evt_1 processed <nil>, evt_2 processed <nil>"; got != want {
		t.Errorf("it replays %s, want %s", got, want)
	}
	if n := d.Count(t, "stripe_webhook_events"); n != 3 {
		t.Errorf("the ledger has %d events, want those of the group", n)
	}
	for want, f := range map[string]operations.ReplayFilter{
		"refused: parked events are replayed by their group, or one by one": {State: operations.StateParked},
		`refused: events of the state "dismissed" are not replayed`:         {Group: key, State: operations.StateDismissed},
		"refused: an ignored event has no error, and is in no group":        {Outcome: "ignored", State: operations.StateParked},
	} {
		if err := d.ReplayAll(t.Context(), f, each); !errors.Is(err, operations.ErrRefused) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%+v gives %v, want %s", f, err, want)
		}
	}
}
