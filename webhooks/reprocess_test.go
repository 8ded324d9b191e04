package webhooks_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// repairing is a host with a handler "credit", which adds 1 to a counter, its neighbor "mail", which adds 100, and OnChange, which
// adds 10000. While buggy is set, credit returns nil without an effect, and fails returns fails' error after it.
type repairing struct {
	*hooktest.Host
	buggy   bool
	fails   error
	credits atomic.Int64
	changes []subscriptions.Change
}

func newRepairing(t *testing.T) *repairing {
	t.Helper()
	p := &repairing{}
	p.Host = newCounter(t, p.handlers(), nil)
	return p
}

func (p *repairing) handlers() *webhooks.Handlers {
	h := webhooks.NewHandlers()
	webhooks.On(h, "customer.subscription.*", func(ctx context.Context, tx pgx.Tx, _ *webhooks.Event, _ *anyObject) error {
		p.credits.Add(1)
		if p.buggy {
			return nil
		}
		return errors.Join(exec(`UPDATE counter SET n = n + 1`)(ctx, tx), p.fails)
	}, webhooks.Name("credit"))
	subscriptions.Register(h, &subscriptions.Config{OnChange: func(ctx context.Context, tx pgx.Tx, c subscriptions.Change) error {
		p.changes = append(p.changes, c)
		return exec(`UPDATE counter SET n = n + 10000`)(ctx, tx)
	}})
	webhooks.On(h, "customer.subscription.*", func(ctx context.Context, tx pgx.Tx, _ *webhooks.Event, _ *anyObject) error {
		return exec(`UPDATE counter SET n = n + 100`)(ctx, tx)
	}, webhooks.Name("mail"))
	return h
}

func (p *repairing) reprocess(t *testing.T, body []byte, options webhooks.ReprocessOptions) error {
	t.Helper()
	ev, err := webhooks.ParseEvent(body)
	if err != nil {
		t.Fatal(err)
	}
	result, err := p.Receiver.Reprocess(t.Context(), ev, options)
	if err == nil && (result.Outcome != webhooks.OutcomeProcessed || result.EventID != ev.ID) {
		t.Errorf("the result is %v", result)
	}
	return err
}

// want checks the counter, the ledger and the failures.
func (p *repairing) want(t *testing.T, want string) {
	t.Helper()
	got := pgtest.Scan[string](t, p.Pool, `SELECT concat_ws(' ', (SELECT n FROM counter),
		(SELECT string_agg(concat_ws('/', outcome, reprocess_count, reprocess_reason, reprocessed_at > processed_at), ',' ORDER BY event_id) FROM stripe_webhook_events),
		(SELECT count(*) FROM stripe_webhook_failures))`)
	if got != want {
		t.Errorf("stored is %q, want %q", got, want)
	}
}

// A handler with a bug that returned nil is repaired without its neighbor running, once for each count that was read.
func TestReprocess(t *testing.T) {
	t.Parallel()
	p := newRepairing(t)
	p.buggy = true
	body := about("evt_1", "sub_1", "active")
	p.Expect(t, body, 200, webhooks.OutcomeProcessed)
	p.want(t, "10100 processed/0 0")
	p.buggy = false
	credit := webhooks.ReprocessOptions{Handler: "credit", Reason: "it credited nothing"}
	if err := p.reprocess(t, body, credit); err != nil {
		t.Fatal(err)
	}
	p.want(t, "10101 processed/1/it credited nothing/t 0")
	p.Expect(t, body, 200, webhooks.OutcomeDuplicate)
	if err := p.reprocess(t, body, credit); !errors.Is(err, webhooks.ErrReprocessed) {
		t.Errorf("the second one of the same count gives %v", err)
	}
	if n := p.credits.Load(); n != 2 {
		t.Errorf("the handler was called %d times, want 2", n)
	}
	p.want(t, "10101 processed/1/it credited nothing/t 0")
	if err := p.reprocess(t, body, webhooks.ReprocessOptions{Count: 1, Reason: "all"}); err != nil {
		t.Fatal(err)
	}
	p.want(t, "10202 processed/2/all/t 0")
	if len(p.changes) != 1 {
		t.Errorf("OnChange was called %d times, want once", len(p.changes))
	}
}

// Two operators reprocess the same events at once, each with a receiver of their own: each event runs once.
func TestReprocessAtOnce(t *testing.T) {
	t.Parallel()
	p := newRepairing(t)
	const events = 10
	for i := range events {
		p.Expect(t, about("evt_"+string(rune('a'+i)), "sub_1", "active"), 200, webhooks.OutcomeProcessed)
	}
	before := pgtest.Scan[int](t, p.Pool, `SELECT n FROM counter`)
	p.credits.Store(0)
	other := hooktest.On(t, p.Pool, p.handlers(), nil)
	var group sync.WaitGroup
	var done, lost atomic.Int64
	for i := range 4 * events {
		group.Go(func() {
			ev, err := webhooks.ParseEvent(about("evt_"+string(rune('a'+i%events)), "sub_1", "active"))
			if err != nil {
				t.Error(err)
				return
			}
			receiver := p.Receiver
			if i%2 == 0 {
				receiver = other.Receiver
			}
			switch _, err := receiver.Reprocess(t.Context(), ev, webhooks.ReprocessOptions{Handler: "credit", Reason: "again"}); {
			case err == nil:
				done.Add(1)
			case errors.Is(err, webhooks.ErrReprocessed):
				lost.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	group.Wait()
	if done.Load() != events || lost.Load() != 3*events || p.credits.Load() != events {
		t.Errorf("%d were reprocessed and %d refused with %d calls, want %d, %d and %d", done.Load(), lost.Load(), p.credits.Load(), events, 3*events, events)
	}
	if n := pgtest.Scan[int](t, p.Pool, `SELECT n FROM counter`); n != before+events {
		t.Errorf("the effect happened %d times, want %d", n-before, events)
	}
}

// What has not taken effect is not reprocessed, and no handler is called.
func TestReprocessNotApplied(t *testing.T) {
	t.Parallel()
	p := newRepairing(t)
	body := about("evt_1", "sub_1", "active")
	options := webhooks.ReprocessOptions{Reason: "a test"}
	refused := func(want error, text string) {
		t.Helper()
		if err := p.reprocess(t, body, options); !errors.Is(err, want) || !strings.Contains(err.Error(), text) {
			t.Errorf("the error is %v, want %v with %q", err, want, text)
		}
	}
	refused(webhooks.ErrNotApplied, "evt_1")
	for _, outcome := range []string{"ignored", "parked"} {
		pgtest.Exec(t, p.Pool, `INSERT INTO stripe_webhook_events (event_id, event_type, outcome, livemode) VALUES ('evt_1', 'x', '`+outcome+`', FALSE)
			ON CONFLICT (event_id) DO UPDATE SET outcome = excluded.outcome`)
		refused(webhooks.ErrNotApplied, "replay")
	}
	options.Handler = "credits"
	refused(webhooks.ErrNoHandler, "credit, subscription.OnChange, mail")
	options = webhooks.ReprocessOptions{Reason: " "}
	if err := p.reprocess(t, body, options); err == nil || !strings.Contains(err.Error(), "Reason is empty") {
		t.Errorf("without a reason the error is %v", err)
	}
	body = hooktest.Event("evt_1", "charge.refunded", 1700000000, `{"id":"ch_1"}`)
	options = webhooks.ReprocessOptions{Reason: "a test"}
	refused(webhooks.ErrNoHandler, "no handler runs for charge.refunded: none is registered")
	p.want(t, "0 parked/0 0")
	if n := p.credits.Load(); n != 0 {
		t.Errorf("the handler was called %d times", n)
	}
}

// A handler that fails again, or parks, leaves no effect, no note and no failure record: the event took effect once.
func TestReprocessFails(t *testing.T) {
	t.Parallel()
	p := newRepairing(t)
	body := about("evt_1", "sub_1", "active")
	p.Expect(t, body, 200, webhooks.OutcomeProcessed)
	wrong := errors.New("the credit is wrong")
	for _, fails := range []error{wrong, webhooks.Park(wrong)} {
		p.fails = fails
		if err := p.reprocess(t, body, webhooks.ReprocessOptions{Reason: "a test"}); !errors.Is(err, wrong) {
			t.Errorf("the error is %v, want %v", err, wrong)
		}
		p.want(t, "10101 processed/0 0")
	}
	p.fails = nil
	if err := p.reprocess(t, body, webhooks.ReprocessOptions{Reason: "a test"}); err != nil {
		t.Error(err)
	}
	p.want(t, "10202 processed/1/a test/t 0")
}

// With hooks OnChange is called with the stored row, whatever the event says, and the row stays as it is.
func TestReprocessHooks(t *testing.T) {
	t.Parallel()
	p := newRepairing(t)
	first, second := about("evt_1", "sub_1", "active"), about("evt_2", "sub_1", "canceled")
	p.Expect(t, first, 200, webhooks.OutcomeProcessed)
	p.Expect(t, second, 200, webhooks.OutcomeProcessed)
	row := pgtest.Scan[string](t, p.Pool, `SELECT subscriptions::text FROM subscriptions`)
	for _, options := range []webhooks.ReprocessOptions{
		{Hooks: true, Handler: "credit", Reason: "both"}, {Handler: "subscription.OnChange", Count: 1, Reason: "the hook alone"},
	} {
		p.changes = nil
		if err := p.reprocess(t, first, options); err != nil {
			t.Fatal(err)
		}
		if len(p.changes) != 1 {
			t.Fatalf("%v: OnChange was called %d times, want once", options, len(p.changes))
		}
		c := p.changes[0]
		stored := string(c.After.Status)
		if !c.Reprocessed || c.Imported || c.Event.ID != "evt_1" || c.Before == nil || c.Before == c.After || string(c.Before.Status) != stored || stored != "canceled" || c.Activated() || c.Canceled() {
			t.Errorf("%v: the change is %+v", options, c)
		}
	}
	p.want(t, "40203 processed/2/the hook alone/t,processed/0 0")
	if now := pgtest.Scan[string](t, p.Pool, `SELECT subscriptions::text FROM subscriptions`); now != row {
		t.Errorf("the row was %s, and is %s", row, now)
	}
	ev, err := webhooks.ParseEvent(first)
	if err != nil {
		t.Fatal(err)
	}
	names, err := p.Receiver.ReprocessHandlers(ev, webhooks.ReprocessOptions{Hooks: true})
	if got := strings.Join(names, " "); err != nil || got != "credit subscription.OnChange mail" {
		t.Errorf("it would run %q, %v", got, err)
	}
	pgtest.Exec(t, p.Pool, `DELETE FROM subscription_items; DELETE FROM subscriptions`)
	if err := p.reprocess(t, first, webhooks.ReprocessOptions{Hooks: true, Count: 2, Reason: "without a row"}); err == nil || !strings.Contains(err.Error(), "subscription sub_1 has no row") {
		t.Errorf("without a row the error is %v", err)
	}
}

func TestHandlerNames(t *testing.T) {
	t.Parallel()
	h := webhooks.NewHandlers()
	handle := func(context.Context, pgx.Tx, *webhooks.Event, *anyObject) error { return nil }
	webhooks.On(h, "invoice.paid", handle)
	webhooks.On(h, "invoice.paid", handle)
	webhooks.On(h, "invoice.*", handle, webhooks.Name("notify"))
	defer func() {
		if value, _ := recover().(string); !strings.Contains(value, `two handlers are named "notify"`) {
			t.Errorf("a second name panics with %q", value)
		}
	}()
	receiver := hooktest.New(t, h, nil).Receiver
	ev, err := webhooks.ParseEvent(hooktest.Event("evt_1", "invoice.paid", 1700000000, `{"id":"in_1"}`))
	if err != nil {
		t.Fatal(err)
	}
	names, err := receiver.ReprocessHandlers(ev, webhooks.ReprocessOptions{})
	if got := strings.Join(names, " "); err != nil || got != "invoice.paid invoice.paid-2 notify" {
		t.Errorf("the handlers are %q, %v", got, err)
	}
	other := webhooks.NewHandlers()
	webhooks.On(other, "a.b", handle, webhooks.Name("notify"))
	webhooks.On(other, "c.d", handle, webhooks.Name("notify"))
}

// A role that serves deliveries, but may not reprocess, is told so, and the receiver stays ready.
func TestReprocessNotPermitted(t *testing.T) {
	t.Parallel()
	p := newRepairing(t)
	body := about("evt_1", "sub_1", "active")
	p.Expect(t, body, 200, webhooks.OutcomeProcessed)
	role := pgtest.NewRole(t, p.Pool)
	pgtest.Exec(t, p.Pool, `GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO `+role)
	pgtest.Exec(t, p.Pool, `REVOKE UPDATE ON stripe_webhook_events FROM `+role+`; GRANT UPDATE (outcome, event_type, processed_at, receiver) ON stripe_webhook_events TO `+role)
	serving := hooktest.On(t, pgtest.ConnectAs(t, p.DatabaseURL, role), p.handlers(), nil)
	isReady(t, serving)
	ev, err := webhooks.ParseEvent(body)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := serving.Receiver.Reprocess(t.Context(), ev, webhooks.ReprocessOptions{Reason: "a test"}); !errors.Is(err, webhooks.ErrNotOperator) || errors.Is(err, webhooks.ErrUnavailable) {
		t.Errorf("the error is %v", err)
	}
	p.want(t, "10101 processed/0 0")
	serving.Expect(t, about("evt_2", "sub_2", "active"), 200, webhooks.OutcomeProcessed)
}
