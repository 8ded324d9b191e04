package operations_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/judge"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/webhooks"
)

// dismissal is a host whose handler fails, parks or works, and records each effect.
type dismissal struct {
	*hooktest.Host
	*operations.Operator
	mode atomic.Value // what the handler does: "fail", "park" or "work"
}

func newDismissal(t *testing.T, configure func(*webhooks.Config)) *dismissal {
	t.Helper()
	d := &dismissal{}
	d.mode.Store("fail")
	h := webhooks.NewHandlers()
	webhooks.On(h, "invoice.paid", func(ctx context.Context, tx pgx.Tx, ev *webhooks.Event, _ *struct{}) error {
		switch d.mode.Load() {
		case "fail":
			return errors.New("no account for the customer")
		case "park":
			return webhooks.Park(errors.New("nobody knows the customer"))
		}
		_, err := tx.Exec(ctx, judge.Effect, ev.ID)
		return err
	})
	d.Host = hooktest.New(t, h, configure)
	pgtest.Exec(t, d.Pool, judge.EffectsTable)
	d.Operator = operations.New(d.Pool, &operations.Config{Applier: d.Receiver})
	return d
}

// paid is the body of an event that the handler gets.
func paid(id string) []byte {
	return fmt.Appendf(nil, `{"id":%q,"object":"event","type":"invoice.paid","created":1700000000,"livemode":true,"account":"acct_1","api_version":"2024-06-20",
		"data":{"object":{"id":"in_1","object":"invoice","customer":"cus_1"}}}`, id)
}

// row is what the ledger has of an event, but for the time of its record.
func (d *dismissal) row(t *testing.T, id string) string {
	t.Helper()
	return pgtest.Scan[string](t, d.Pool, `SELECT COALESCE((SELECT concat_ws(' ', event_type, outcome, COALESCE(extract(EPOCH FROM event_created_at)::int::text, '-'), livemode,
		COALESCE(account_id, '-'), COALESCE(api_version, '-'), COALESCE(object_id, '-'), receiver) FROM stripe_webhook_events WHERE event_id = $1), 'none')`, id)
}

// record is what the failure's record has of an event.
func (d *dismissal) record(t *testing.T, id string) string {
	t.Helper()
	return pgtest.Scan[string](t, d.Pool, `SELECT concat_ws(' ', state, attempts, COALESCE(reason, '-'), CASE WHEN next_retry_at IS NULL THEN 'no retry' ELSE 'a retry' END)
		FROM stripe_webhook_failures WHERE event_id = $1`, id)
}

// A dismissed event is left by deliveries, ReplayAll and the counts. Replay applies it. Its row in the ledger is that of a delivery.
func TestDismiss(t *testing.T) {
	t.Parallel()
	d := newDismissal(t, func(c *webhooks.Config) { c.Name = "billing" })
	ctx := t.Context()
	d.Expect(t, paid("evt_1"), 500, "")
	if got := d.record(t, "evt_1"); got != "failing 1 - a retry" {
		t.Errorf("before, the record is %s", got)
	}
	if err := d.Dismiss(ctx, "evt_1", " refunded\x00 by hand "); err != nil {
		t.Fatal(err)
	}
	if got, want := d.row(t, "evt_1"), "invoice.paid parked 1700000000 t acct_1 2024-06-20 in_1 billing"; got != want {
		t.Errorf("the ledger's row is %q, want %q", got, want)
	}
	if got, want := d.record(t, "evt_1"), "dismissed 1 refunded by hand no retry"; got != want {
		t.Errorf("the record is %q, want %q", got, want)
	}
	d.mode.Store("work")
	d.Expect(t, paid("evt_1"), 200, webhooks.OutcomeDuplicate)
	if err := d.ReplayFailed(ctx, "", func(a operations.EventResult) { t.Errorf("ReplayFailed applies %+v", a) }); err != nil {
		t.Error(err)
	}
	if n, err := d.CountFailing(ctx); err != nil || n != 0 {
		t.Errorf("%d events count as failing, %v", n, err)
	}
	if lag, err := db.New().LedgerLag(ctx, d.Pool, time.Now().Add(-time.Hour), 100); err != nil || lag.Events != 1 || lag.High != 0 {
		t.Errorf("it has a lag: %+v, %v", lag, err)
	}
	for state, want := range map[operations.FailureState]int{"": 0, operations.StateFailing: 0, operations.StateParked: 0, operations.StateDismissed: 1} {
		if list, err := d.Failures(ctx, operations.FailureFilter{State: state}); err != nil || len(list) != want {
			t.Errorf("in the state %q there are %d, %v", state, len(list), err)
		}
	}
	if detail, err := d.EventDetail(ctx, "evt_1"); err != nil || !detail.Dismissed() || !detail.Parked() || detail.Failing() {
		t.Errorf("its detail is %+v, %v", detail, err)
	}
	for _, want := range []webhooks.Outcome{webhooks.OutcomeProcessed, webhooks.OutcomeDuplicate} {
		if a := d.Replay(ctx, "evt_1", ""); a.Err != nil || a.Outcome != want {
			t.Errorf("the replay is %+v, want %s", a, want)
		}
	}
	if list, err := d.Failures(ctx, operations.FailureFilter{State: operations.StateDismissed}); err != nil || len(list) != 0 {
		t.Errorf("after its replay there are %d dismissed, %v", len(list), err)
	}
	if detail, err := d.EventDetail(ctx, "evt_1"); err != nil || detail.Dismissed() || detail.Parked() || detail.Failing() {
		t.Errorf("after its replay the detail is %+v, %v", detail, err)
	}
	if n := d.Count(t, "effects"); n != 1 {
		t.Errorf("there are %d effects", n)
	}
}

// What took effect, what has not failed, and a dismissal without a reason are refused, and nothing changes.
func TestDismissRefuses(t *testing.T) {
	t.Parallel()
	d := newDismissal(t, nil)
	d.Expect(t, paid("evt_applied"), 500, "")
	d.Expect(t, paid("evt_failing"), 500, "")
	d.mode.Store("work")
	d.Expect(t, paid("evt_applied"), 200, webhooks.OutcomeProcessed)
	d.Expect(t, paid("evt_well"), 200, webhooks.OutcomeProcessed)
	d.Expect(t, hooktest.Event("evt_ignored", "a.b", 1, `{"id":"x"}`), 200, webhooks.OutcomeIgnored)
	for _, c := range []struct{ id, reason, want string }{
		{"evt_applied", "x", "evt_applied has taken effect (processed)"},
		{"evt_well", "x", "evt_well has no failure record: only an event that failed can be dismissed, and the ledger has it as processed"},
		{"evt_ignored", "x", "the ledger has it as ignored"},
		{"evt_unknown", "x", "evt_unknown has no failure record, and is not in the ledger"},
		{"evt_failing", " \x00", "the reason is empty"},
		{"evt_failing", strings.Repeat("ä", 1001), "the reason has 1001 characters"},
	} {
		if err := d.Dismiss(t.Context(), c.id, c.reason); !errors.Is(err, operations.ErrRefused) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.id, err, c.want)
		}
	}
	got := pgtest.Scan[string](t, d.Pool, `SELECT concat_ws(' ', (SELECT count(*) FROM stripe_webhook_events WHERE outcome = 'parked'), (SELECT count(*) FROM stripe_webhook_failures WHERE state <> 'failing'))`)
	if got != "0 0" {
		t.Errorf("parked events, and records that changed: %s", got)
	}
}

// The states in which an event may be when it is dismissed: parked, ignored before it failed, dismissed already, without a payload, and
// with the id of another account's event.
func TestDismissFromEveryState(t *testing.T) {
	t.Parallel()
	d := newDismissal(t, nil)
	ctx := t.Context()
	dismiss := func(id, reason, row, record string) {
		t.Helper()
		if err := d.Dismiss(ctx, id, reason); err != nil {
			t.Errorf("%s: %v", id, err)
		}
		if got := d.row(t, id); got != row {
			t.Errorf("%s: the row is %q, want %q", id, got, row)
		}
		if got := d.record(t, id); got != record {
			t.Errorf("%s: the record is %q, want %q", id, got, record)
		}
	}
	const whole = "invoice.paid parked 1700000000 t acct_1 2024-06-20 in_1 host"
	d.mode.Store("park")
	d.Expect(t, paid("evt_parked"), 200, webhooks.OutcomeParked)
	parkedAt := pgtest.Scan[time.Time](t, d.Pool, `SELECT processed_at FROM stripe_webhook_events`)
	dismiss("evt_parked", "one", whole, "dismissed 1 one no retry")
	dismiss("evt_parked", "two", whole, "dismissed 1 two no retry")
	if at := pgtest.Scan[time.Time](t, d.Pool, `SELECT processed_at FROM stripe_webhook_events`); !at.Equal(parkedAt) {
		t.Errorf("the row of a parked event was written again at %s", at)
	}
	// If its replay parks again, it is parked as before. If it fails, it stays dismissed, and nothing retries it.
	if a := d.Replay(ctx, "evt_parked", ""); a.Err == nil || d.record(t, "evt_parked") != "parked 2 - no retry" {
		t.Errorf("a replay that parks is %+v, and the record %s", a, d.record(t, "evt_parked"))
	}
	dismiss("evt_parked", "three", whole, "dismissed 2 three no retry")
	d.mode.Store("fail")
	if a := d.Replay(ctx, "evt_parked", ""); a.Err == nil || d.record(t, "evt_parked") != "dismissed 3 three no retry" {
		t.Errorf("a replay that fails is %+v, and the record %s", a, d.record(t, "evt_parked"))
	}
	// It was ignored by an older build.
	hooktest.On(t, d.Pool, webhooks.NewHandlers(), nil).Expect(t, paid("evt_ignored"), 200, webhooks.OutcomeIgnored)
	d.Expect(t, paid("evt_ignored"), 500, "")
	dismiss("evt_ignored", "x", whole, "dismissed 1 x no retry")
	// No payload is kept.
	dropping := hooktest.On(t, d.Pool, failing(), func(c *webhooks.Config) { c.DropPayloads = true })
	dropping.Expect(t, paid("evt_dropped"), 500, "")
	dismiss("evt_dropped", "x", "invoice.paid parked - f acct_1 - - host", "dismissed 1 x no retry")
	// A thin event is recorded under its snapshot event's id.
	pgtest.Exec(t, d.Pool, `INSERT INTO stripe_webhook_failures (event_id, event_type, last_error, payload) VALUES ('evt_snapshot', 'invoice.paid', 'x',
		'{"id":"evt_thin","object":"v2.core.event","type":"v1.invoice.paid","created":"2023-11-14T22:13:20Z","livemode":true,"context":"acct_1",
			"snapshot_event":"evt_snapshot","related_object":{"id":"in_1","type":"invoice","url":"/v1/invoices/in_1"}}')`)
	dismiss("evt_snapshot", "x", "invoice.paid parked 1700000000 t acct_1 - in_1 host", "dismissed 1 x no retry")
	// The ledger has another account's event of the same id, which has taken effect.
	pgtest.Exec(t, d.Pool, `INSERT INTO stripe_webhook_events (event_id, event_type, outcome, livemode, account_id) VALUES ('evt_forged', 'a.b', 'processed', false, 'acct_other')`)
	d.Expect(t, paid("evt_forged"), 500, "")
	dismiss("evt_forged", "x", "a.b processed - f acct_other - - host", "dismissed 1 x no retry")
	if n, err := d.CountFailing(ctx); err != nil || n != 0 {
		t.Errorf("%d count as failing, %v", n, err)
	}
	if list, err := d.Failures(ctx, operations.FailureFilter{}); err != nil || len(list) != 0 {
		t.Errorf("%d are listed, %v", len(list), err)
	}
}

// failing has a handler that fails.
func failing() *webhooks.Handlers {
	h := webhooks.NewHandlers()
	webhooks.On(h, "*", func(context.Context, pgx.Tx, *webhooks.Event, *struct{}) error { return errors.New("broken") })
	return h
}

// A delivery that is about to commit decides: if it does, the event cannot be dismissed any more.
func TestDismissWaitsForADelivery(t *testing.T) {
	t.Parallel()
	for commits, want := range map[bool]string{true: "processed failing 1 - a retry", false: "parked dismissed 1 x no retry"} {
		t.Run(fmt.Sprint("it commits: ", commits), func(t *testing.T) {
			t.Parallel()
			d := newDismissal(t, nil)
			d.Expect(t, paid("evt_1"), 500, "")
			delivery, err := d.Pool.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer delivery.Rollback(context.WithoutCancel(t.Context()))
			if _, err := delivery.Exec(t.Context(), `INSERT INTO stripe_webhook_events (event_id, event_type, outcome, livemode) VALUES ('evt_1', 'invoice.paid', 'processed', true)`); err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- d.Dismiss(t.Context(), "evt_1", "x") }()
			pgtest.Await(t, "Dismiss waits for the delivery", func() bool {
				return pgtest.Scan[bool](t, d.Pool, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')`)
			})
			if commits {
				err = delivery.Commit(t.Context())
			} else {
				err = delivery.Rollback(t.Context())
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := pgtest.Receive(t, "Dismiss ends", done); errors.Is(err, operations.ErrRefused) != commits || err != nil && !strings.Contains(err.Error(), "has taken effect (processed)") {
				t.Errorf("it returns %v", err)
			}
			if got := strings.Fields(d.row(t, "evt_1"))[1] + " " + d.record(t, "evt_1"); got != want {
				t.Errorf("it is %s, want %s", got, want)
			}
		})
	}
}

// A handler that is still running when its event is dismissed has no effect. However deliveries and dismissals race, an event
// either takes effect once, or is dismissed.
func TestDismissRaces(t *testing.T) {
	t.Parallel()
	d := newDismissal(t, nil)
	dismissed := 0
	for round := range 40 {
		id := fmt.Sprint("evt_", round)
		d.mode.Store("fail")
		d.Expect(t, paid(id), 500, "")
		d.mode.Store("work")
		var wg sync.WaitGroup
		errs := make([]error, 2)
		for i := range errs {
			wg.Go(func() { errs[i] = d.Dismiss(t.Context(), id, "x") })
			wg.Go(func() { d.Send(t, paid(id)) })
		}
		wg.Wait()
		outcome := strings.Fields(d.row(t, id))[1]
		state := strings.Fields(d.record(t, id))[0]
		effects := pgtest.Scan[int](t, d.Pool, `SELECT count(*)::int FROM effects WHERE event_id = $1`, id)
		for _, err := range errs {
			if (err == nil) != (outcome == "parked") || err != nil && !errors.Is(err, operations.ErrRefused) {
				t.Errorf("%s: Dismiss returns %v, and the ledger has %s", id, err, outcome)
			}
		}
		switch fmt.Sprint(outcome, " ", state, " ", effects) {
		case "parked dismissed 0":
			dismissed++
		case "processed failing 1":
		default:
			t.Errorf("%s is %s and %s, with %d effects", id, outcome, state, effects)
		}
	}
	t.Logf("%d of 40 were dismissed first", dismissed)
}

// A thin event that failed before its snapshot event was known is dismissed under its own id. Its replay takes effect under that of the
// snapshot event, and the thin event is dismissed no longer.
func TestDismissThin(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	ev := b.account.Events[0]
	pgtest.Exec(t, b.Pool, `INSERT INTO stripe_webhook_failures (event_id, event_type, last_error, payload) VALUES ($1, 'v1.' || $2, 'forbidden', $3)`,
		ev.ThinID(), ev.Type, json.RawMessage(ev.Thin(false)))
	if err := b.Dismiss(t.Context(), ev.ThinID(), "x"); err != nil {
		t.Fatal(err)
	}
	b.Expect(t, ev.Thin(false), 200, webhooks.OutcomeDuplicate)
	if a := b.Replay(t.Context(), ev.ThinID(), ""); a.Err != nil || a.EventID != ev.ID || a.Outcome != webhooks.OutcomeProcessed {
		t.Errorf("the replay is %+v", a)
	}
	if list, err := b.Failures(t.Context(), operations.FailureFilter{State: operations.StateDismissed}); err != nil || len(list) != 0 {
		t.Errorf("after its replay %d are dismissed, %v", len(list), err)
	}
	if a := b.Replay(t.Context(), ev.ThinID(), ""); a.Err != nil || a.Outcome != webhooks.OutcomeDuplicate {
		t.Errorf("a second replay is %+v", a)
	}
	if n := b.Count(t, "effects"); n != 1 {
		t.Errorf("%d effects", n)
	}
}
