package commands_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/commands"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/webhooks"
)

// newShop is an application that keeps payloads and mirrors customers. Its invoices have the handlers credit, which returns what handle
// does, and mail.
func newShop(t *testing.T) *desk {
	t.Helper()
	d := &desk{handle: func() error { return nil }}
	h := webhooks.NewHandlers()
	projection := mirror.Register(h, &mirror.Config{
		Types: []string{"customer"}, Logger: hooktest.NoLog(), OnChange: func(context.Context, pgx.Tx, mirror.Change) error { return nil },
	})
	type invoice struct{}
	webhooks.On(h, "invoice.paid", func(context.Context, pgx.Tx, *webhooks.Event, *invoice) error { return d.handle() }, webhooks.Name("credit"))
	webhooks.On(h, "invoice.paid", func(context.Context, pgx.Tx, *webhooks.Event, *invoice) error { return nil }, webhooks.Name("mail"))
	d.Host = hooktest.New(t, h, func(c *webhooks.Config) { c.KeepPayloads = true })
	d.operate = operations.New(d.Pool, nil)
	d.open = func(context.Context, bool) (*commands.Host, error) {
		return &commands.Host{Pool: d.Pool, Receiver: d.Receiver, Mirror: projection}, nil
	}
	return d
}

// deliver delivers an event about an invoice or a customer.
func (d *desk) deliver(t *testing.T, id, eventType string, status int, outcome webhooks.Outcome) {
	t.Helper()
	object, _, _ := strings.Cut(eventType, ".")
	d.Expect(t, hooktest.Event(id, eventType, 1700000000, fmt.Sprintf(`{"id":%q,"object":%q}`, map[string]string{"customer": "cus_1"}[object]+id, object)), status, outcome)
}

// Skipped events are told apart, in a dry run as in a real one. A second handler is repaired with --again, and a failed run is resumed by
// the id that its error names, without another reason. What cannot be reprocessed is counted.
func TestReprocessCommand(t *testing.T) {
	t.Parallel()
	d := newShop(t)
	for _, id := range []string{"evt_1", "evt_2"} {
		d.deliver(t, id, "invoice.paid", 200, webhooks.OutcomeProcessed)
	}
	for _, id := range []string{"evt_3", "evt_4"} {
		d.deliver(t, id, "customer.created", 200, webhooks.OutcomeProcessed)
	}
	const paid = "reprocess --type invoice.paid --since 1h "
	d.expect(t, 0, paid+"--handler credit --dry-run", "evt_1  invoice.paid  would run credit\n", "2 events to reprocess, since ")
	d.expect(t, 0, paid+"--handler credit --reason lost", "evt_2  invoice.paid  reprocessed\n", "2 events reprocessed, since ")
	for _, flags := range []string{"--dry-run", "--reason x", "--handler mail --reason x"} {
		out := d.expect(t, 0, paid+flags, "evt_1  invoice.paid  skipped: reprocessed ", " ago (lost); --again runs it once more", "0 events ", ", 2 skipped (reprocessed before), since")
		if strings.Contains(out, "would run") {
			t.Errorf("%s: %s", flags, out)
		}
	}
	d.expect(t, 0, paid+"--handler mail --again --reason mailed", "2 events reprocessed, since")
	out := d.expect(t, 0, "reprocess --type customer.* --since 1h --dry-run", "evt_3  customer.created  skipped, as all of its type: no handler runs for customer.created: "+
		"its only handler, customer.OnChange, runs only with hooks (--hooks)\n", "0 events to reprocess, 2 skipped (no such handler)")
	if strings.Contains(out, "evt_4") {
		t.Errorf("it names each event of the type:\n%s", out)
	}
	d.expect(t, 0, "events evt_1", "reprocessed  2 times, the last ", " ago): mailed\n")

	runs := d.Count(t, "stripe_webhook_runs")
	d.expect(t, 1, "reprocess evt_nope --reason x", "evt_nope  failed: evt_nope is neither in the ledger nor among the failures: no such event\n", "events that were not reprocessed: 1 of 1\n")
	d.expect(t, 0, "reprocess --type invoice.paid --since 1h --reason x", "2 skipped")
	if n := d.Count(t, "stripe_webhook_runs"); n != runs {
		t.Errorf("with nothing to do, %d runs are recorded", n-runs)
	}
	d.handle = func() error { return errors.New("still broken") }
	d.deliver(t, "evt_5", "invoice.paid", 500, "")
	out = d.expect(t, 1, "reprocess evt_1 evt_5 --again --dry-run", "1 event to reprocess, 1 cannot be reprocessed", "events that cannot be reprocessed: 1 of 2\n")
	if strings.Contains(out, "--resume") {
		t.Errorf("a dry run names a run:\n%s", out)
	}
	out = d.expect(t, 1, paid+"--again --reason ticket-7", "evt_1  invoice.paid  failed: handler of invoice.paid: still broken", "0 events reprocessed, 2 failed", "; fix the cause, and continue with --resume run_")
	if run := d.recorded(t); run.State() != operations.RunFailed || run.CountsText() != "failed 2, reprocessed 0, skipped 0, unhandled 0" {
		t.Errorf("the run is %s, %s", run.State(), run.CountsText())
	}
	d.handle = func() error { return nil }
	d.expect(t, 0, "reprocess "+regexp.MustCompile(`--resume run_\w+`).FindString(out), "2 events reprocessed")
	if run := d.recorded(t); run.State() != operations.RunFinished || run.Reason != "ticket-7" {
		t.Errorf("the resumed run is %s, for %q", run.State(), run.Reason)
	}
}

// What is mistyped in a selection is refused, or pointed out.
func TestMistypedSelections(t *testing.T) {
	t.Parallel()
	d := newShop(t)
	d.deliver(t, "evt_1", "invoice.paid", 200, webhooks.OutcomeProcessed)
	d.handle = func() error { return errors.New("broken") }
	d.deliver(t, "evt_2", "invoice.paid", 500, "")
	for _, c := range []struct {
		code int
		line string
		want string
	}{
		{0, "reprocess --type invoice.pad --since 1h --dry-run", "--type invoice.pad matches no known type of Stripe's events: did you mean invoice.paid?\n"},
		{0, "failures --type invoice.payment_faild", "did you mean invoice.payment_failed?"},
		{0, "failures --group --type invoice.pad", "did you mean invoice.paid?"},
		{0, "replay --type invoce.* --dry-run", "--type invoce.* matches no known type of Stripe's events: did you mean invoice.*?\n"},
		{0, "events --type invoice.pad", "did you mean invoice.paid?"},
		{0, "reprocess --receiver nope --since 1h --dry-run", "--receiver nope recorded none of the newest events: these are of host\n"},
		{2, "reprocess --since 1h --until 2h --dry-run", ") is not after --since ("},
		{2, "reprocess --type invoice.paid --reason x", "--since is missing: set since when the events took effect, or set --customer"},
		{2, "reprocess --since 1h --handler credits --reason x", `refused: no handler is named "credits": use one of`},
		{1, "replay --group deadbeef", "no failing event is in the group deadbeef: list the groups with 'failures --group'"},
		{1, "replay --group deadbeef --dry-run", "no failing event is in the group deadbeef"},
		{1, "failures --group=deadbeef", "no failing event is in the group deadbeef"},
		{1, "failures 5c1f0b8a92de", "no such event: to list the events of a group, use 'failures --group 5c1f0b8a92de'"},
		{2, "verify --customer sub_1", "--customer sub_1 is not the id of a customer (cus_…)"},
		{2, "events --customer in_1", "is not the id of a customer"},
		{2, "failures --customer evt_1", "is not the id of a customer"},
		{2, "replay --customer in_1 --dry-run", "is not the id of a customer"},
		{2, "reprocess --customer in_1 --dry-run", "is not the id of a customer"},
		{2, "verify --only evt_1", "--only evt_1 is an event, and only objects are compared"},
		{0, "reprocess --customer cus_1 --dry-run", "no subscription and no mirrored object of cus_1 is known: events about its other objects are not found\n"},
		{0, "replay --customer cus_1 --dry-run", "no subscription and no mirrored object of cus_1 is known"},
		{0, "events --since 2020-01-02", "evt_1"},
		{0, "failures --since 2020-01-02T03:04", "evt_2"},
		{0, "replay --since 2020-01-02T03:04:05Z --dry-run", "1 event would be replayed"},
		{0, "replay --since 1h --dry-run", "1 event would be replayed"},
	} {
		d.expect(t, c.code, c.line, c.want)
	}
	d.deliver(t, "evt_3", "customer.created", 200, webhooks.OutcomeProcessed)
	pgtest.Exec(t, d.Pool, `UPDATE stripe_objects SET customer_id = 'cus_1'`)
	d.expect(t, 0, "events --customer cus_1", "found are the events of cus_1 and of 1 object that are known: not those of objects that are not mirrored")
	key := strings.Fields(d.expect(t, 0, "failures --group", "invoice.paid"))[7]
	for _, flags := range []string{"--group " + key, "--group=" + key} {
		d.expect(t, 0, "failures "+flags, "evt_2", "broken")
	}
}

// An event that the ledger lacks is shown with what its payload says, and with its next retry. If another receiver ignored it after it
// had failed, that is the order in which it is shown.
func TestFailureIsShown(t *testing.T) {
	t.Parallel()
	d := newShop(t)
	d.handle = func() error { return errors.New("broken") }
	d.Expect(t, []byte(`{"id":"evt_1","object":"event","type":"invoice.paid","created":1,"livemode":true,"account":"acct_1","data":{"object":{"id":"in_1"}}}`), 500, "")
	d.expect(t, 0, "failures evt_1", "object       in_1\n", "account      acct_1\n", "mode         live\n", "next retry   ", ", where a retrier runs; 0 so far\n", "failing: the event has not taken effect")
	pgtest.Exec(t, d.Pool, `INSERT INTO stripe_webhook_events (event_id, event_type, outcome, livemode, receiver) VALUES ('evt_1', 'invoice.paid', 'ignored', true, 'other')`)
	d.expect(t, 0, "events evt_1", "failing, then ignored by the receiver other: the event has not taken effect")
	pgtest.Exec(t, d.Pool, `UPDATE stripe_webhook_events SET processed_at = now() - interval '1 hour'`)
	d.expect(t, 0, "events evt_1", "ignored, then failing: the event has not taken effect")
}

// A dry run marks the ignored events that no handler of this program handles.
func TestDryRunMarksUnhandledEvents(t *testing.T) {
	t.Parallel()
	d := newShop(t)
	pgtest.Exec(t, d.Pool, `INSERT INTO stripe_webhook_events (event_id, event_type, outcome, livemode)
		VALUES ('evt_1', 'invoice.paid', 'ignored', false), ('evt_2', 'charge.refunded', 'ignored', false)`)
	d.expect(t, 0, "replay --outcome ignored --dry-run", "evt_2  charge.refunded  ignored ", "; no handler is registered for its type in this process\n",
		"1 event would be replayed, and 1 event would fail: no handler is registered in this process\n")
	d.expect(t, 0, "replay --outcome ignored --dry-run --json", `"unhandled":true`)
	d.expect(t, 0, "replay --dry-run evt_nope", "evt_nope  it would be fetched from Stripe\n")
}

// A run in which all or some events failed is failed, whatever its kind. A dismissal is recorded with each reason.
func TestRunsWithFailures(t *testing.T) {
	t.Parallel()
	d := newShop(t)
	d.handle = func() error { return errors.New("broken") }
	d.deliver(t, "evt_1", "invoice.paid", 500, "")
	d.expect(t, 1, "replay evt_1", "not applied, 1 of 1: evt_1")
	d.expect(t, 0, "runs", "replay", "failed  ", "failed 1, tried 1")
	d.expect(t, 0, "failures dismiss evt_1 --reason first")
	d.expect(t, 0, "failures dismiss evt_1 --reason second")
	for _, reason := range []string{"second", "first"} {
		run := d.recorded(t)
		if run.Kind != operations.RunDismiss || run.Reason != reason || run.Operator == "" || run.ArgumentsText() != "events evt_1" || run.CountsText() != "dismissed 1" || run.State() != operations.RunFinished {
			t.Errorf("the run is %+v: %s, %s", run, run.ArgumentsText(), run.CountsText())
		}
		pgtest.Exec(t, d.Pool, `DELETE FROM stripe_webhook_runs WHERE id = '`+run.ID+`'`)
	}
	d.expect(t, 0, "failures evt_1", "dismissed: second; 'replay EVENT' applies it")
	if run := d.recorded(t); run.Kind != operations.RunReplay || time.Since(run.StartedAt) > time.Hour {
		t.Errorf("before the dismissals there is %+v", run)
	}
}
