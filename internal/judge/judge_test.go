package judge_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/judge"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/internal/wrong"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// storm simulates subscriptions, delivers their events to url in a storm, and returns the judge's findings.
func storm(t *testing.T, url string, pool *pgxpool.Pool) []judge.Finding {
	t.Helper()
	account := stripesim.New(42, stripesim.Epoch)
	named := stripesim.Wild
	plan := named.Plan(42, account.Live(stripesim.Life{Subscriptions: 30}))
	failed := &answered500{}
	deliverer := &stripesim.Deliverer{URL: url, Secret: hooktest.Secret, Concurrency: 12, Observe: failed.note}
	if err := deliverer.Deliver(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	if n := len(deliverer.Report().Refused); n > 0 {
		t.Errorf("%d deliveries were given up", n)
	}
	findings, err := judge.Judge(t.Context(), pool, account)
	if err != nil {
		t.Fatal(err)
	}
	hidden, err := judge.Failures(t.Context(), pool, failed.list())
	if err != nil {
		t.Fatal(err)
	}
	return append(findings, hidden...)
}

// answered500 records the deliveries that were answered 500.
type answered500 struct {
	mu     sync.Mutex
	events []judge.Failed
}

func (a *answered500) note(attempt stripesim.Attempt) {
	ev := attempt.Event
	if attempt.Status != http.StatusInternalServerError {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if i := slices.IndexFunc(a.events, func(f judge.Failed) bool { return f.EventID == ev.ID }); i >= 0 {
		a.events[i].AtMost++
		return
	}
	a.events = append(a.events, judge.Failed{EventID: ev.ID, AtLeast: 1, AtMost: 1, Payload: ev.Body})
}

func (a *answered500) list() []judge.Failed {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.events
}

// The judge finds the mistake of each receiver of package wrong, by the matching check.
func TestFindsWrongReceivers(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][]string{
		"check-then-act":    {judge.CheckEffects, judge.CheckRecorded},
		"record-first":      {judge.CheckEffects, judge.CheckRecorded},
		"last-writer-wins":  {judge.CheckSubscriptions},
		"forgets-the-items": {judge.CheckSubscriptions},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := pgtest.NewPool(t)
			pgtest.Exec(t, pool, wrong.Tables)
			handler, err := wrong.Handler(name, pool)
			if err != nil {
				t.Fatal(err)
			}
			server := httptest.NewServer(handler)
			t.Cleanup(server.Close)
			caught := map[string]int{}
			found := storm(t, server.URL, pool)
			for _, f := range found {
				caught[f.Check]++
				if text := f.String(); !strings.Contains(text, ": want ") || !strings.Contains(text, ", got ") {
					t.Errorf("a finding reads %q", text)
				}
			}
			for _, check := range want {
				if caught[check] == 0 {
					t.Errorf("the judge finds nothing against %q", check)
				}
			}
			// The receiver has no other mistakes, which could hide this one.
			for _, column := range []string{"billing_mode", "currency", "livemode", "items_complete"} {
				if i := slices.IndexFunc(found, func(f judge.Finding) bool { return strings.HasSuffix(f.What, ", "+column) }); i >= 0 {
					t.Errorf("it has another mistake: %s", found[i])
				}
			}
		})
	}
	if len(wrong.Names()) != 4 {
		t.Errorf("not every wrong receiver is judged here: %v", wrong.Names())
	}
	if _, err := wrong.Handler("right", nil); err == nil {
		t.Error("there is a wrong receiver called correct")
	}
}

// effect is not idempotent: it inserts a row without a unique key.
func effect(ctx context.Context, tx pgx.Tx, ev *webhooks.Event, _ *map[string]any) error {
	_, err := tx.Exec(ctx, judge.Effect, ev.ID)
	return err
}

// flaky is effect, but the first attempt of about every fourth event fails.
func flaky() func(context.Context, pgx.Tx, *webhooks.Event, *map[string]any) error {
	var failed sync.Map
	return func(ctx context.Context, tx pgx.Tx, ev *webhooks.Event, object *map[string]any) error {
		if err := effect(ctx, tx, ev, object); err != nil {
			return err
		}
		if _, before := failed.LoadOrStore(ev.ID, true); !before && ev.ID[len(ev.ID)-1]%4 == 0 {
			return errors.New("the first attempt fails")
		}
		return nil
	}
}

// newStripeonce starts stripeonce as the receiver under test.
func newStripeonce(t *testing.T, handler func(context.Context, pgx.Tx, *webhooks.Event, *map[string]any) error) *hooktest.Host {
	t.Helper()
	h := webhooks.NewHandlers()
	subscriptions.Register(h, nil)
	webhooks.On(h, "*", handler)
	host := hooktest.New(t, h, nil)
	pgtest.Exec(t, host.Pool, judge.EffectsTable)
	return host
}

// The judge finds nothing wrong with stripeonce, although its handlers fail.
func TestPassesStripeonce(t *testing.T) {
	t.Parallel()
	host := newStripeonce(t, flaky())
	for _, f := range storm(t, host.URL, host.Pool) {
		t.Error(f)
	}
	if host.Count(t, "stripe_webhook_failures") == 0 {
		t.Error("no handler failed")
	}
}

// A wrong value and an extra row are found, and the finding names the field.
func TestNamesTheField(t *testing.T) {
	t.Parallel()
	host := newStripeonce(t, effect)
	account := stripesim.New(1, stripesim.Epoch)
	sub := account.Subscribe(stripesim.VersionBasil)
	for _, ev := range account.Events {
		host.Expect(t, ev.Body, 200, webhooks.OutcomeProcessed)
	}
	pgtest.Exec(t, host.Pool, `UPDATE subscriptions SET quantity = 7; UPDATE subscription_items SET quantity = 8`)
	pgtest.Exec(t, host.Pool, `INSERT INTO effects SELECT event_id FROM effects`)
	pgtest.Exec(t, host.Pool, `INSERT INTO stripe_webhook_events (event_id, event_type, outcome, livemode) VALUES ('evt_nobody', 'x', 'stale', false)`)
	findings, err := judge.Judge(t.Context(), host.Pool, account)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, f := range findings {
		text.WriteString(f.String() + "\n")
	}
	for _, want := range []string{
		"subscription " + sub.ID() + ", quantity: want 1, got 7\n",
		"subscription " + sub.ID() + ", items[0].quantity: want 1, got 8\n",
		"effects of event " + account.Events[0].ID + " (customer.subscription.created): want 1, got 2\n",
		"rows of event evt_nobody, which Stripe never made: want 0, got 1\n",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("not found: %s in:\n%s", want, text.String())
		}
	}
	if len(findings) != 4 {
		t.Errorf("the findings are\n%s", text.String())
	}
}

// An acknowledged event without effect, a repeated effect, a row without an effect and an effect without a row are each
// found by their own check.
func TestAcknowledged(t *testing.T) {
	t.Parallel()
	pool := pgtest.NewPool(t)
	pgtest.Exec(t, pool, judge.EffectsTable)
	pgtest.Exec(t, pool, `INSERT INTO effects VALUES ('evt_fine'), ('evt_twice'), ('evt_twice'), ('evt_without_row'), ('evt_unanswered')`)
	pgtest.Exec(t, pool, `INSERT INTO stripe_webhook_events (event_id, event_type, outcome, livemode) SELECT id, 'x', 'processed', false
		FROM unnest(ARRAY['evt_fine', 'evt_twice', 'evt_without_effect', 'evt_unanswered']) AS id`)
	pgtest.Exec(t, pool, `INSERT INTO stripe_webhook_events (event_id, event_type, outcome, livemode) VALUES ('evt_ignored', 'x', 'ignored', false)`)
	findings, err := judge.Acknowledged(t.Context(), pool, []string{"evt_fine", "evt_twice", "evt_lost"})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, f := range findings {
		got[f.Check] += f.What[strings.LastIndex(f.What, " ")+1:] + " "
	}
	want := map[string]string{
		judge.CheckAcknowledged: "evt_lost evt_twice ",
		judge.CheckAtMostOnce:   "evt_twice ",
		judge.CheckOneToOne:     "evt_without_effect evt_without_row ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the findings (-want +got):\n%s", diff)
	}
}

// Failures finds a missing record, a record with too few or too many attempts, with another payload or without one, and a
// record of an event that was never answered 500. It accepts correct records.
func TestFailures(t *testing.T) {
	t.Parallel()
	pool := pgtest.NewPool(t)
	body := []byte(`{"name": "Zo\u00eb 山田 💳", "amount": 1.50, "a": [1, 2]}`)
	same := `{"a": [1, 2], "amount": 1.50, "name": "Zoë 山田 💳"}`
	pgtest.Exec(t, pool, `INSERT INTO stripe_webhook_failures (event_id, event_type, attempts, last_error, payload) VALUES
		('evt_fine', 'x', 1, 'e', $1), ('evt_shared', 'x', 2, 'e', $1), ('evt_too_few', 'x', 1, 'e', $1), ('evt_too_many', 'x', 4, 'e', $1),
		('evt_no_payload', 'x', 1, 'e', NULL), ('evt_other_payload', 'x', 1, 'e', '{"name": "Zo?"}'), ('evt_payload_may_lack', 'x', 1, 'e', NULL),
		('evt_no_answer', 'x', 1, 'e', $1), ('evt_never', 'x', 1, 'e', $1)`, same)
	findings, err := judge.Failures(t.Context(), pool, []judge.Failed{
		{EventID: "evt_fine", AtLeast: 1, AtMost: 1, Payload: body},
		{EventID: "evt_shared", AtLeast: 1, AtMost: 3, Payload: body},
		{EventID: "evt_missing", AtLeast: 1, AtMost: 2, Payload: body},
		{EventID: "evt_too_few", AtLeast: 2, AtMost: 2, Payload: body},
		{EventID: "evt_too_many", AtLeast: 1, AtMost: 3, Payload: body},
		{EventID: "evt_no_payload", AtLeast: 1, AtMost: 1, Payload: body},
		{EventID: "evt_other_payload", AtLeast: 1, AtMost: 1, Payload: body},
		{EventID: "evt_payload_may_lack", AtLeast: 1, AtMost: 1},
		{EventID: "evt_no_answer", AtLeast: 0, AtMost: 1, Payload: body},
		{EventID: "evt_no_answer_no_record", AtLeast: 0, AtMost: 1, Payload: body},
	})
	if err != nil {
		t.Fatal(err)
	}
	expectFindings(t, findings, []string{
		judge.CheckRecorded + `: failed attempts in the record of event evt_missing: want "1 to 2", got 0`,
		judge.CheckOnlyRecorded + `: failed attempts in the record of event evt_never, which was never answered 500: want 0, got 1`,
		judge.CheckRecorded + `: payload in the record of event evt_no_payload: want "as delivered", got "none, or another"`,
		judge.CheckRecorded + `: payload in the record of event evt_other_payload: want "as delivered", got "none, or another"`,
		judge.CheckRecorded + `: failed attempts in the record of event evt_too_few: want 2, got 1`,
		judge.CheckRecorded + `: failed attempts in the record of event evt_too_many: want "1 to 3", got 4`,
	})
	if findings, err := judge.Failures(t.Context(), pgtest.NewPool(t), nil); err != nil || len(findings) != 0 {
		t.Errorf("where nothing failed, the judge finds %v, %v", findings, err)
	}
}

// StillIgnored finds events that are not recorded as ignored, or have an effect.
func TestStillIgnored(t *testing.T) {
	t.Parallel()
	pool := pgtest.NewPool(t)
	pgtest.Exec(t, pool, judge.EffectsTable)
	pgtest.Exec(t, pool, `INSERT INTO effects VALUES ('evt_processed'), ('evt_effect')`)
	pgtest.Exec(t, pool, `INSERT INTO stripe_webhook_events (event_id, event_type, outcome, livemode) VALUES
		('evt_ignored', 'x', 'ignored', false), ('evt_effect', 'x', 'ignored', false), ('evt_processed', 'x', 'processed', false)`)
	findings, err := judge.StillIgnored(t.Context(), pool, []string{"evt_ignored", "evt_effect", "evt_processed", "evt_lost"})
	if err != nil {
		t.Fatal(err)
	}
	expectFindings(t, findings, []string{
		judge.CheckStillIgnored + `: effects of event evt_effect: want 0, got 1`,
		judge.CheckStillIgnored + `: outcome of event evt_lost: want "ignored", got "no row"`,
		judge.CheckStillIgnored + `: outcome of event evt_processed: want "ignored", got "processed"`,
		judge.CheckStillIgnored + `: effects of event evt_processed: want 0, got 1`,
	})
}

func expectFindings(t *testing.T, findings []judge.Finding, want []string) {
	t.Helper()
	var got []string
	for _, f := range findings {
		got = append(got, f.Check+": "+f.String())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the findings (-want +got):\n%s", diff)
	}
}
