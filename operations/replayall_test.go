package operations_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/webhooks"
)

// selected returns the ids of the events that a filter selects, without "evt_".
func selected(t *testing.T, o *operations.Operator, f operations.ReplayFilter) string {
	t.Helper()
	var ids []string
	if err := o.ReplayCandidates(t.Context(), f, func(c operations.ReplayCandidate) error {
		ids = append(ids, strings.TrimPrefix(c.EventID, "evt_"))
		return nil
	}); err != nil {
		t.Fatalf("%+v: %v", f, err)
	}
	return strings.Join(ids, " ")
}

// A filter selects failing events, the oldest first, or ignored ones. Parked, dismissed and applied events are never selected.
func TestCandidates(t *testing.T) {
	t.Parallel()
	o := newCustomers(t)
	pool := pgtest.NewPool(t)
	pgtest.Exec(t, pool, `INSERT INTO stripe_webhook_failures (event_id, event_type, first_failed_at, last_error, state, account_id)
		SELECT 'evt_' || id, type, now() - n * interval '1 hour', 'handler of ' || type || ': ' || error, state, account
		FROM (VALUES (1, 'new', 'invoice.paid', 'no plan for cus_1', 'failing', NULL), (2, 'mid', 'invoice.voided', 'no plan for cus_2', 'failing', 'acct_1'),
			(3, 'old', 'invoice.paid', 'no plan for cus_3', 'failing', 'acct_1'), (4, 'parked', 'invoice.paid', 'x', 'parked', NULL), (5, 'dismissed', 'invoice.paid', 'x', 'dismissed', NULL),
			(6, 'applied', 'invoice.paid', 'x', 'failing', NULL), (7, 'charge', 'charge.refunded', 'x', 'failing', NULL),
			(8, 'settled', 'invoice.paid', 'it took effect under the id of its snapshot event', 'dismissed', NULL)) AS made (n, id, type, error, state, account)`)
	pgtest.Exec(t, pool, `INSERT INTO stripe_webhook_events (event_id, event_type, processed_at, outcome, livemode, account_id)
		SELECT 'evt_' || id, type, now() - n * interval '1 day', outcome, true, account
		FROM (VALUES (1, 'parked', 'invoice.paid', 'parked', NULL), (1, 'dismissed', 'invoice.paid', 'parked', NULL), (1, 'applied', 'invoice.paid', 'processed', NULL),
			(2, 'i2', 'invoice.paid', 'ignored', NULL), (3, 'i3', 'invoice.voided', 'ignored', 'acct_1'), (29, 'i29', 'invoice.paid', 'ignored', NULL), (31, 'i31', 'invoice.paid', 'ignored', NULL)) AS made (n, id, type, outcome, account)`)
	all := operations.New(pool, nil)
	if n, err := all.CountFailing(t.Context()); err != nil || n != 4 {
		t.Errorf("%d events count as failing, %v", n, err)
	}
	groups, err := all.FailureGroups(t.Context(), operations.FailureFilter{Type: "invoice.paid", State: operations.StateFailing})
	if err != nil || len(groups.Groups) != 1 {
		t.Fatalf("%+v, %v", groups, err)
	}
	ago := func(hours int) time.Time { return time.Now().Add(-time.Duration(hours) * time.Hour) }
	ignored := webhooks.OutcomeIgnored
	for _, c := range []struct {
		o      *operations.Operator
		filter operations.ReplayFilter
		want   string
	}{
		{all, operations.ReplayFilter{}, "charge old mid new"},
		{all, operations.ReplayFilter{Type: "invoice.*"}, "old mid new"},
		{all, operations.ReplayFilter{Type: "invoice.paid", Since: ago(2)}, "new"},
		{all, operations.ReplayFilter{Account: "acct_1"}, "old mid"},
		{all, operations.ReplayFilter{Group: groups.Groups[0].Key}, "old new"},
		{all, operations.ReplayFilter{Group: "none"}, ""},
		{all, operations.ReplayFilter{Outcome: ignored}, "i29 i3 i2"}, // as long as Stripe has them
		{all, operations.ReplayFilter{Outcome: ignored, Since: ago(24 * 40)}, "i31 i29 i3 i2"},
		{all, operations.ReplayFilter{Outcome: ignored, Type: "invoice.voided"}, "i3"},
		{all, operations.ReplayFilter{Outcome: ignored, Since: ago(24*2 + 1), Account: ""}, "i2"},
		{all, operations.ReplayFilter{Outcome: ignored, Account: "acct_1"}, "i3"},
		{o, operations.ReplayFilter{Customer: "cus_1"}, "f5 f4 f3 f2 f1"},
		{o, operations.ReplayFilter{Customer: "cus_1", Since: time.Now().Add(-150 * time.Minute)}, "f2 f1"},
		{o, operations.ReplayFilter{Customer: "cus_1", Outcome: ignored}, "in_1"},
		{o, operations.ReplayFilter{Customer: "cus_2", Outcome: ignored}, ""},
	} {
		if got := selected(t, c.o, c.filter); got != c.want {
			t.Errorf("%+v selects %q, want %q", c.filter, got, c.want)
		}
	}
	for _, wrong := range []operations.ReplayFilter{{Outcome: ignored, Group: "x"}, {Outcome: webhooks.OutcomeParked}} {
		if err := all.ReplayCandidates(t.Context(), wrong, nil); !errors.Is(err, operations.ErrRefused) {
			t.Errorf("%+v: %v", wrong, err)
		}
	}
	if n := pgtest.Scan[int](t, pool, `SELECT count(*)::int FROM stripe_webhook_failures WHERE attempts > 1`); n != 0 {
		t.Errorf("%d events were tried", n)
	}
}

// Many failing events are read page by page, and events that fail meanwhile are not waited for.
func TestCandidatesEnd(t *testing.T) {
	t.Parallel()
	pool := pgtest.NewPool(t)
	pgtest.Exec(t, pool, `INSERT INTO stripe_webhook_failures (event_id, event_type, first_failed_at, last_error)
		SELECT 'evt_' || n, 'a.b', now() - interval '1 hour' - n % 7 * interval '1 minute', 'x' FROM generate_series(1, 2500) AS n`)
	n := 0
	err := operations.New(pool, nil).ReplayCandidates(t.Context(), operations.ReplayFilter{}, func(operations.ReplayCandidate) error {
		if n++; n%500 == 0 {
			pgtest.Exec(t, pool, `INSERT INTO stripe_webhook_failures (event_id, event_type, last_error) SELECT 'evt_new' || n, 'a.b', 'x' FROM generate_series($1::int, $1::int + 499) AS n`, n)
		}
		return nil
	})
	if err != nil || n != 2500 {
		t.Errorf("%d events, %v", n, err)
	}
}

// ReplayAll applies what its filter selects, and continues after an event that fails again. Ignored events are applied once they have
// a handler; those that have none here are not fetched.
func TestReplayAll(t *testing.T) {
	t.Parallel()
	b := newBench(t, 3)
	b.account.Subscriptions[0].FailPayment() // invoice.payment_failed has no handler
	b.broken.Store(true)
	ignoring := hooktest.On(t, b.Pool, webhooks.NewHandlers(), nil)
	half := len(b.account.Events) / 2
	for i, ev := range b.account.Events {
		if i < half {
			b.Expect(t, ev.Body, 500, "")
		} else {
			ignoring.Expect(t, ev.Body, 200, webhooks.OutcomeIgnored)
		}
	}
	b.broken.Store(false)
	bad := b.account.Events[1]
	pgtest.Exec(t, b.Pool, `ALTER TABLE effects ADD CONSTRAINT wrong CHECK (event_id <> '`+bad.ID+`')`)
	replayed := func(f operations.ReplayFilter) (applied int, failed []string) {
		t.Helper()
		if err := b.ReplayAll(t.Context(), f, func(a operations.EventResult) {
			if a.Err != nil {
				failed = append(failed, a.EventID+" "+a.Err.Error())
			} else {
				applied++
			}
		}); err != nil {
			t.Fatal(err)
		}
		return applied, failed
	}
	if applied, failed := replayed(operations.ReplayFilter{}); applied != half-1 || len(failed) != 1 || !strings.Contains(failed[0], bad.ID+" handler of") {
		t.Errorf("of the failing events %d are applied, and fail again: %q", applied, failed)
	}
	pgtest.Exec(t, b.Pool, `ALTER TABLE effects DROP CONSTRAINT wrong`)
	if applied, failed := replayed(operations.ReplayFilter{Type: bad.Type}); applied != 1 || len(failed) != 0 {
		t.Errorf("of its type %d are applied, and fail: %q", applied, failed)
	}
	unhandled := 0
	for _, ev := range b.account.Events[half:] {
		if ev.Type == "invoice.created" || ev.Type == "invoice.payment_failed" {
			unhandled++
		}
	}
	asked := len(b.api.Requests())
	applied, failed := replayed(operations.ReplayFilter{Outcome: webhooks.OutcomeIgnored})
	if applied != len(b.account.Events)-half-unhandled || len(failed) != unhandled || unhandled == 0 || !strings.Contains(failed[0], "none is registered for invoice.") {
		t.Errorf("of the ignored events %d are applied, and %d of %d without a handler fail: %q", applied, len(failed), unhandled, failed)
	}
	for _, req := range b.api.Requests()[asked:] {
		for _, ev := range failed {
			if id, _, _ := strings.Cut(ev, " "); strings.HasSuffix(req.URL.Path, id) {
				t.Errorf("%s is fetched although it has no handler", id)
			}
		}
	}
	if applied, failed := replayed(operations.ReplayFilter{Outcome: webhooks.OutcomeIgnored, Type: "customer.*"}); applied != 0 || len(failed) != 0 {
		t.Errorf("again %d are applied, and fail: %q", applied, failed)
	}
	if n := b.Count(t, "effects"); n != len(b.account.Events)-unhandled {
		t.Errorf("there are %d effects of %d events, %d of which have no handler", n, len(b.account.Events), unhandled)
	}
	powerless := b.operator(nil, 0)
	if err := powerless.ReplayAll(t.Context(), operations.ReplayFilter{}, nil); !errors.Is(err, operations.ErrNoApplier) {
		t.Errorf("without an applier: %v", err)
	}
	if err := powerless.ReplayEvents(t.Context(), nil, "", nil); !errors.Is(err, operations.ErrNoApplier) {
		t.Errorf("of named events without an applier: %v", err)
	}
}

// An interrupted replay does not count its event as failed.
func TestReplayAllInterrupted(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.broken.Store(true)
	b.Expect(t, b.account.Events[0].Body, 500, "")
	ctx, cancel := context.WithCancel(t.Context())
	o := b.operator(canceling{cancel}, 0)
	err := o.ReplayAll(ctx, operations.ReplayFilter{}, func(a operations.EventResult) { t.Errorf("its result is %+v", a) })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("it returns %v", err)
	}
}

// canceling is an applier that is interrupted.
type canceling struct{ cancel func() }

func (c canceling) Apply(ctx context.Context, _ *webhooks.Event) (webhooks.Result, error) {
	c.cancel()
	return webhooks.Result{}, ctx.Err()
}

// Reconcile leaves events that wait for a retry, or for nobody, and counts those that wait. IncludeWaiting takes these, too.
func TestReconcileLeavesWaiting(t *testing.T) {
	t.Parallel()
	b := newBench(t, 60) // several pages
	all := len(b.account.Events)
	b.broken.Store(true)
	ids := func(events []*stripesim.Event) (list []string) {
		for _, ev := range events {
			list = append(list, ev.ID)
		}
		return list
	}
	// The newest fail and wait, as any that has just failed does. The others are due, dismissed, parked, or ignored and waiting.
	newest := b.account.Events[all-36:]
	due, dismissed, parked, ignored, waiting := newest[:4], newest[4:8], newest[8:12], newest[12:16], newest[16:]
	before := hooktest.On(t, b.Pool, webhooks.NewHandlers(), nil)
	for _, ev := range ignored {
		before.Expect(t, ev.Body, 200, webhooks.OutcomeIgnored)
	}
	for _, ev := range newest {
		if b.Receiver.Handles(parse(t, ev)) {
			b.Expect(t, ev.Body, 500, "")
		}
	}
	pgtest.Exec(t, b.Pool, `UPDATE stripe_webhook_failures SET next_retry_at = now() - interval '1 second' WHERE event_id = ANY($1)`, ids(due))
	pgtest.Exec(t, b.Pool, `UPDATE stripe_webhook_failures SET state = 'parked' WHERE event_id = ANY($1)`, ids(parked))
	pgtest.Exec(t, b.Pool, `UPDATE stripe_webhook_failures SET state = 'dismissed' WHERE event_id = ANY($1)`, ids(dismissed[:2])) // without a row in the ledger
	for _, ev := range dismissed[2:] {
		if err := b.Dismiss(t.Context(), ev.ID, "x"); err != nil && !errors.Is(err, operations.ErrRefused) {
			t.Fatal(err)
		}
	}
	b.broken.Store(false)
	handled := func(events []*stripesim.Event) (n int) {
		for _, ev := range events {
			if b.Receiver.Handles(parse(t, ev)) {
				n++
			}
		}
		return n
	}
	listed := handled(b.account.Events)
	left, never := handled(waiting)+handled(ignored), handled(dismissed)+handled(parked)
	want := operations.ReconcileResult{Listed: listed, Missing: listed - left - never, Waiting: left}
	if sum, _ := b.reconcile(t, operations.ReconcileOptions{DryRun: true}); sum != want {
		t.Errorf("the dry run is %+v, want %+v", sum, want)
	}
	want.Applied = want.Missing
	if sum, _ := b.reconcile(t, operations.ReconcileOptions{MaxBufferBytes: 20_000}); sum != want { // in parts, which are listed again
		t.Errorf("it is %+v, want %+v", sum, want)
	}
	if sum, _ := b.reconcile(t, operations.ReconcileOptions{IncludeWaiting: true}); sum != (operations.ReconcileResult{Listed: listed, Missing: left, Applied: left}) {
		t.Errorf("with those that wait it is %+v, want %d applied", sum, left)
	}
	if n := b.Count(t, "effects"); n != listed-never || never == 0 || left < 15 || all < 200 {
		t.Errorf("there are %d effects of %d events, %d of which nobody waits for", n, listed, never)
	}
}

func parse(t *testing.T, ev *stripesim.Event) *webhooks.Event {
	t.Helper()
	parsed, err := webhooks.ParseEvent(ev.Body)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// A thin event that failed under its snapshot event's id waits, too.
func TestReconcileLeavesAWaitingThinEvent(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.api.AddDestination(stripesim.Destination{ID: "ed_1", Payload: "thin", Status: "enabled", Types: []string{"v1.customer.subscription.updated"}})
	b.broken.Store(true)
	failed := b.account.Events[0]
	b.Expect(t, failed.Thin(true), 500, "")
	b.broken.Store(false)
	options := operations.ReconcileOptions{Types: []string{failed.Type}}
	if sum, _ := b.reconcile(t, options); sum != (operations.ReconcileResult{Listed: 1, Waiting: 1}) {
		t.Errorf("it is %+v", sum)
	}
	options.IncludeWaiting = true
	if sum, _ := b.reconcile(t, options); sum != (operations.ReconcileResult{Listed: 1, Missing: 1, Applied: 1}) {
		t.Errorf("with it, it is %+v: %s", sum, fmt.Sprint(failed.Type))
	}
}
