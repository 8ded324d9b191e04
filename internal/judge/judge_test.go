package judge_test

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/delivery"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/judge"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/internal/stripesim"
	"github.com/pook/stripeonce/internal/wrong"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// storm lets subscriptions live, delivers their events to url, and returns what the judge finds.
func storm(t *testing.T, url string, pool *pgxpool.Pool) []judge.Finding {
	t.Helper()
	account := stripesim.New(42, stripesim.Epoch)
	named, err := stripesim.NamedStorm("wild")
	if err != nil {
		t.Fatal(err)
	}
	plan := named.Plan(42, account.Live(stripesim.Life{Subscriptions: 30}))
	sender := delivery.NewSender(url, hooktest.Secret, 64)
	defer sender.Close()
	deliverer := &stripesim.Deliverer{Sender: sender, Concurrency: 12}
	if err := deliverer.Deliver(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	if n := deliverer.Tally().GivenUp; n > 0 {
		t.Errorf("%d deliveries were given up", n)
	}
	findings, err := judge.Judge(t.Context(), pool, account)
	if err != nil {
		t.Fatal(err)
	}
	return findings
}

// Each receiver that is wrong on purpose is caught, by the check that its fault is about.
func TestCatchesTheWrong(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"check-then-act":    judge.CheckEffects,
		"record-first":      judge.CheckEffects,
		"last-writer-wins":  judge.CheckSubscriptions,
		"forgets-the-items": judge.CheckSubscriptions,
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
			caught := 0
			for _, f := range storm(t, server.URL, pool) {
				if f.Check == want {
					caught++
				}
				if text := f.String(); !strings.Contains(text, ": want ") || !strings.Contains(text, ", got ") {
					t.Errorf("a finding reads %q", text)
				}
			}
			if caught == 0 {
				t.Errorf("the judge finds nothing against %q", want)
			}
		})
	}
	if len(wrong.Names()) != 4 {
		t.Errorf("not every wrong receiver is judged here: %v", wrong.Names())
	}
	if _, err := wrong.Handler("right", nil); err == nil {
		t.Error("there is a wrong receiver called right")
	}
}

// An effect is anything but idempotent: a row without a unique key.
func effect(ctx context.Context, tx pgx.Tx, ev *webhooks.Event, _ *map[string]any) error {
	_, err := tx.Exec(ctx, judge.Effect, ev.ID)
	return err
}

// newRight is stripeonce under judgement.
func newRight(t *testing.T) *hooktest.Host {
	t.Helper()
	h := webhooks.NewHandlers()
	subscriptions.Register(h, nil)
	webhooks.On(h, "*", effect)
	host := hooktest.New(t, h, nil)
	pgtest.Exec(t, host.Pool, judge.EffectsTable)
	return host
}

// And stripeonce is let pass.
func TestPassesTheRight(t *testing.T) {
	t.Parallel()
	host := newRight(t)
	for _, f := range storm(t, host.URL, host.Pool) {
		t.Error(f)
	}
}

// One value that is off in one row, and one row too many, are found and named.
func TestNamesTheField(t *testing.T) {
	t.Parallel()
	host := newRight(t)
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

// An event that was acknowledged without effect, an effect that happened twice, a row without an effect and
// an effect without a row are each found, by their own check.
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
