package operations_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/operations"
)

// failAll makes a ledger with failures of three causes, one of them parked, one that has been applied since, and one that is dismissed.
func failAll(t *testing.T) *operations.Operator {
	t.Helper()
	pool := pgtest.NewPool(t)
	pgtest.Exec(t, pool, `INSERT INTO stripe_webhook_failures (event_id, event_type, first_failed_at, last_failed_at, last_error)
		SELECT 'evt_plan' || n, 'invoice.paid', now() - n * interval '1 hour', now() - n * interval '1 minute',
			'handler of invoice.paid: no plan "' || md5(n::text) || '" for cus_' || n || ' after ' || n || 'ms' FROM generate_series(1, 30) AS n`)
	pgtest.Exec(t, pool, `INSERT INTO stripe_webhook_failures (event_id, event_type, first_failed_at, last_failed_at, last_error)
		SELECT 'evt_voided' || n, 'invoice.voided', now() - n * interval '1 day', now() - n * interval '1 day', 'handler of invoice.voided: no plan "x" for cus_1 after 2s' FROM generate_series(1, 4) AS n`)
	pgtest.Exec(t, pool, `INSERT INTO stripe_webhook_failures (event_id, event_type, last_failed_at, last_error, state) VALUES
		('evt_parked', 'charge.refunded', now(), 'handler of charge.refunded: parked: who?', 'parked'), ('evt_gone', 'invoice.paid', now(), 'other', 'failing'),
		('evt_dismissed', 'invoice.paid', now(), 'other', 'dismissed')`)
	pgtest.Exec(t, pool, `INSERT INTO stripe_webhook_events (event_id, event_type, outcome, livemode) VALUES
		('evt_parked', 'charge.refunded', 'parked', false), ('evt_gone', 'invoice.paid', 'processed', false), ('evt_dismissed', 'invoice.paid', 'parked', false)`)
	return operations.New(pool, nil)
}

// shown returns what the test compares of groups.
func shown(groups []operations.FailureGroup) (list []string) {
	for _, g := range groups {
		list = append(list, fmt.Sprintf("%s: %s (%d, %d parked, of %s)", g.EventType, g.Error, g.Count, g.Parked, g.EventID))
	}
	return list
}

const (
	ofPlans  = `invoice.paid: no plan "…" for cus_… after <time> (30, 0 parked, of evt_plan1)`
	ofVoided = `invoice.voided: no plan "…" for cus_… after <time> (4, 0 parked, of evt_voided1)`
	ofParked = "charge.refunded: parked: who? (1, 1 parked, of evt_parked)"
)

// Failures are grouped by type and cause. What was applied or dismissed is in no group, and a filter selects among them.
func TestFailureGroups(t *testing.T) {
	t.Parallel()
	o := failAll(t)
	now := time.Now()
	for name, c := range map[string]struct {
		filter operations.FailureFilter
		want   []string
		more   int
		cut    bool
	}{
		"all":               {operations.FailureFilter{}, []string{ofParked, ofPlans, ofVoided}, 0, false},
		"of one state":      {operations.FailureFilter{State: operations.StateParked}, []string{ofParked}, 0, false},
		"of a type":         {operations.FailureFilter{Type: "invoice.voided"}, []string{ofVoided}, 0, false},
		"of a pattern":      {operations.FailureFilter{Type: "invoice.*"}, []string{ofPlans, ofVoided}, 0, false},
		"of the last hours": {operations.FailureFilter{Type: "invoice.*", Since: now.Add(-150 * time.Minute)}, []string{strings.Replace(ofPlans, "30", "2", 1)}, 0, false},
		"at most one":       {operations.FailureFilter{Limit: 1}, []string{ofParked}, 2, false},
		"none":              {operations.FailureFilter{Account: "acct_1"}, nil, 0, false},
		"dismissed ones":    {operations.FailureFilter{State: operations.StateDismissed}, []string{"invoice.paid: other (1, 0 parked, of evt_dismissed)"}, 0, false},
		// Of the five newest records two are not listed.
		"among few": {operations.FailureFilter{MaxScanned: 5}, []string{ofParked, strings.Replace(ofPlans, "30", "2", 1)}, 0, true},
	} {
		list, err := o.FailureGroups(t.Context(), c.filter)
		if got := shown(list.Groups); err != nil || !slices.Equal(got, c.want) || list.More != c.more || list.Truncated != c.cut {
			t.Errorf("%s: the groups are %q, %d more, cut %t, %v, want %q", name, got, list.More, list.Truncated, err, c.want)
		}
	}
	list, err := o.FailureGroups(t.Context(), operations.FailureFilter{})
	if err != nil {
		t.Fatal(err)
	}
	plans := list.Groups[1]
	if first := now.Add(-30 * time.Hour); plans.FirstFailedAt.Sub(first).Abs() > time.Minute || now.Add(-time.Minute).Sub(plans.LastFailedAt).Abs() > time.Minute {
		t.Errorf("it failed from %s to %s", plans.FirstFailedAt, plans.LastFailedAt)
	}
	if plans.Key == list.Groups[2].Key || len(plans.Key) != 12 {
		t.Errorf("the keys are %q and %q", plans.Key, list.Groups[2].Key)
	}
	if again, _ := failAll(t).FailureGroups(t.Context(), operations.FailureFilter{}); again.Groups[1].Key != plans.Key {
		t.Errorf("in another database the key is %q, not %q", again.Groups[1].Key, plans.Key)
	}
}

// A group's events are listed, page by page, as those of any filter.
func TestFailuresOfAGroup(t *testing.T) {
	t.Parallel()
	o := failAll(t)
	list, err := o.FailureGroups(t.Context(), operations.FailureFilter{})
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	filter := operations.FailureFilter{Group: list.Groups[1].Key, Limit: 12}
	for {
		failures, err := o.Failures(t.Context(), filter)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range failures {
			ids = append(ids, f.EventID)
			if !strings.Contains(f.LastError, "no plan") || f.Receiver != "host" {
				t.Errorf("in the group is %+v", f)
			}
		}
		if len(failures) < filter.Limit {
			break
		}
		filter.Before = ids[len(ids)-1]
	}
	if len(ids) != 30 || ids[0] != "evt_plan1" || ids[29] != "evt_plan30" {
		t.Errorf("its events are %q", ids)
	}
	if failures, err := o.Failures(t.Context(), operations.FailureFilter{Group: "none"}); err != nil || len(failures) != 0 {
		t.Errorf("of no group there are %d, %v", len(failures), err)
	}
	if failures, err := o.Failures(t.Context(), operations.FailureFilter{Group: filter.Group, Type: "invoice.voided"}); err != nil || len(failures) != 0 {
		t.Errorf("of the group and of another type there are %d, %v", len(failures), err)
	}
}

// The groups of MaxFailuresScanned records are found by index, a page at a time, and soon enough for a page of the console.
func TestFailureGroupsOfMany(t *testing.T) {
	t.Parallel()
	pool, trace := newTraced(t)
	records := operations.MaxFailuresScanned + 20_000
	if pgtest.Quick() {
		records = 20_000
	}
	pgtest.Exec(t, pool, fmt.Sprintf(`INSERT INTO stripe_webhook_failures (event_id, event_type, first_failed_at, last_error)
		SELECT 'evt_' || md5(n::text), 'invoice.paid', now() - n * interval '1 second', 'handler of invoice.paid: cause ' || chr(65 + n %% 20) || ' of cus_' || n || repeat(' and so on', 20)
		FROM generate_series(1, %d) AS n`, records))
	pgtest.Exec(t, pool, `INSERT INTO stripe_webhook_events (event_id, event_type, outcome, livemode) SELECT event_id, event_type, 'processed', false FROM stripe_webhook_failures WHERE event_id LIKE 'evt_0%'`)
	pgtest.Exec(t, pool, "VACUUM ANALYZE stripe_webhook_failures")
	pgtest.Exec(t, pool, "VACUUM ANALYZE stripe_webhook_events")
	began := time.Now()
	list, err := operations.New(pool, nil).FailureGroups(t.Context(), operations.FailureFilter{})
	if err != nil || len(list.Groups) != 20 || list.Truncated != (records > operations.MaxFailuresScanned) {
		t.Errorf("there are %d groups, cut %t, %v", len(list.Groups), list.Truncated, err)
	}
	count := 0
	for _, g := range list.Groups {
		count += g.Count
	}
	looked := min(records, operations.MaxFailuresScanned)
	if count < looked*14/16 || count >= looked {
		t.Errorf("%d failures of %d are counted", count, looked)
	}
	t.Logf("%d records take %s", looked, time.Since(began).Round(time.Millisecond))
	nodes, read := trace.plan(t, pool)
	if plan := strings.Join(nodes, "\n"); strings.Contains(plan, "Seq Scan") || read > 25_000 ||
		!strings.Contains(plan, "stripe_webhook_failures_first_failed_at_idx") || !strings.Contains(plan, "stripe_webhook_events_event_id_key") {
		t.Errorf("a page reads %.0f rows by\n%s", read, plan)
	}
}
