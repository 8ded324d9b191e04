package operations_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/webhooks"
)

// After the erasure, no text of the customer's is in any column of any table, and every row of another customer's is as it was. A
// redelivery of all events and an import leave it that way.
func TestErase(t *testing.T) {
	t.Parallel()
	e := newErasable(t, subscribers())
	events, others, texts := e.belongings(t)
	if len(events) < 30 || len(others) < 100 || len(texts) < 50 {
		t.Fatalf("of the customer there are %d events and %d texts, of others %d events", len(events), len(texts), len(others))
	}
	e.broken.Store(true)
	e.deliver(t, e.account.Events)
	e.importAll(t)
	before := e.dump(t)
	for _, table := range []string{"stripe_objects", "subscriptions", "stripe_webhook_payloads", "stripe_webhook_failures"} {
		if !slices.ContainsFunc(before, func(row string) bool {
			return strings.HasPrefix(row, table+" ") && strings.Contains(row, e.customer.ID())
		}) {
			t.Fatalf("%s has nothing of the customer's: the test shows nothing", table)
		}
	}
	would, err := e.operator("").Erase(t.Context(), operations.EraseOptions{Customer: e.customer.ID(), DryRun: true})
	if err != nil || !slices.Equal(before, e.dump(t)) {
		t.Errorf("a dry run changes the tables, or fails: %v", err)
	}
	erased := e.erase(t)
	after := e.dump(t)
	e.expectNothing(t, texts)
	expectOthersUntouched(t, before, after, texts, events)
	expectSame(t, &would, &erased)
	if again := e.erase(t); !again.Empty() {
		t.Errorf("a second erasure removes %+v", again)
	}
	e.expectNothingComesBack(t)
	pgtest.Exec(t, e.Pool, `DELETE FROM stripe_erasures WHERE customer_hash = sha256(convert_to($1, 'UTF8'))`, e.customer.ID()) // it was the wrong one
	if drifted := e.importAll(t); drifted < 20 || e.Count(t, "stripe_customers WHERE id = '"+e.customer.ID()+"'") != 1 {
		t.Errorf("an import restores %d objects of a customer who is not erased any more", drifted)
	}
}

// subscribers is the number of other customers.
func subscribers() int {
	if pgtest.Quick() {
		return 3
	}
	return 6
}

// expectSame expects that a dry run and the erasure have the same numbers and objects.
func expectSame(t *testing.T, would, erased *operations.EraseResult) {
	t.Helper()
	ids := func(e *operations.EraseResult) (ids []string) {
		for _, o := range e.List {
			ids = append(ids, o.Table+" "+o.Type+" "+o.ID)
		}
		slices.Sort(ids)
		return ids
	}
	if a, b := ids(would), ids(erased); !slices.Equal(a, b) || len(a) < 20 {
		t.Errorf("a dry run lists\n%s\nand the erasure\n%s", strings.Join(a, "\n"), strings.Join(b, "\n"))
	}
	a, b := *would, *erased
	a.List, b.List = nil, nil
	if a.Subscriptions != b.Subscriptions || a.Items != b.Items || a.Objects != b.Objects || a.Events != b.Events || a.Payloads != b.Payloads || a.Failures != b.Failures || a.Runs != b.Runs {
		t.Errorf("a dry run counts %+v, and the erasure %+v", a, b)
	}
}

// expectNothingComesBack redelivers, replays, imports and goes on with the life of the customer.
func (e *erasable) expectNothingComesBack(t *testing.T) {
	t.Helper()
	calls, after := e.changes.Load(), e.dump(t)
	_, _, texts := e.belongings(t)
	e.deliver(t, e.account.Events)
	for _, row := range e.dump(t) { // a failure has another attempt
		if !slices.Contains(after, row) && !strings.HasPrefix(row, "stripe_webhook_failures ") {
			t.Errorf("after a redelivery of all events there is %.400s", row)
		}
	}
	e.expectNothing(t, texts)
	if drifted := e.importAll(t); drifted != 0 {
		t.Errorf("an import finds %d differences", drifted)
	}
	known := len(e.account.Events)
	e.api.Do(func(*stripesim.Account) { e.live() })
	for i, ev := range e.account.Events[known:] { // half of them in both forms
		if i%2 == 0 {
			e.Send(t, ev.Thin(i%4 == 0))
		}
	}
	e.deliver(t, e.account.Events[known:])
	e.broken.Store(false)
	if drifted := e.importAll(t); drifted != 0 {
		t.Errorf("after further events an import finds %d differences", drifted)
	}
	var events []*stripesim.Event
	events, _, texts = e.belongings(t)
	if again := e.erase(t); again.Objects > 5 {
		t.Errorf("of what came before the payment that it is about, another erasure removes %+v", again)
	}
	e.expectNothing(t, texts)
	if n := e.changes.Load(); n != calls {
		t.Errorf("OnChange was called %d times with the customer's data", n-calls)
	}
	for _, ev := range events {
		if outcome := e.outcome(t, ev.ID); outcome != "processed" && outcome != "stale" && !strings.HasPrefix(ev.Type, "charge.") {
			t.Errorf("the outcome of %s %s is %q", ev.Type, ev.ID, outcome)
		}
	}
	e.expectNoRepair(t)
	e.expectNothing(t, texts)
}

func (e *erasable) outcome(t *testing.T, id string) string {
	t.Helper()
	return pgtest.Scan[string](t, e.Pool, `SELECT COALESCE((SELECT outcome FROM stripe_webhook_events WHERE event_id = $1), '')`, id)
}

// expectNoRepair expects that no command of the operator brings the data back.
func (e *erasable) expectNoRepair(t *testing.T) {
	t.Helper()
	o := e.operator("a repair")
	if err := o.ReplayFailed(t.Context(), "", func(a operations.EventResult) {
		if a.Err != nil {
			t.Errorf("replay of %s: %v", a.EventID, a.Err)
		}
	}); err != nil {
		t.Error(err)
	}
	if _, err := o.Reconcile(t.Context(), operations.ReconcileOptions{Since: 30 * 24 * time.Hour}); err != nil {
		t.Error(err)
	}
	invoice := e.customer.Invoices()[0]
	sum, err := mirror.Verify(t.Context(), e.Pool, &mirror.VerifyConfig{
		Types: []string{"invoice"}, Only: invoice.ID(), APIKey: "sk_test_1", APIBase: e.apiURL, Fix: e.Receiver, Projection: e.mirror,
	})
	if err == nil || !strings.Contains(err.Error(), "the data of its customer was erased") || sum.Checked != 0 {
		t.Errorf("verify --only of an erased invoice finds %+v, %v", sum, err)
	}
	for _, ev := range e.account.Events {
		if ev.ObjectID != invoice.ID() || e.outcome(t, ev.ID) != "stale" {
			continue
		}
		parsed, err := webhooks.ParseEvent(ev.Body)
		if err != nil {
			t.Fatal(err)
		}
		_, err = e.Receiver.Reprocess(t.Context(), parsed, webhooks.ReprocessOptions{Handler: "invoice.OnChange", Hooks: true, Reason: "a test"})
		if err == nil || !strings.Contains(err.Error(), "the data of its customer was erased") {
			t.Errorf("reprocessing %s: %v", ev.Type, err)
		}
		return
	}
	t.Error("no event of the invoice is stale: the test shows nothing")
}

// An erasure that is interrupted after any of its batches is completed when it is repeated.
func TestEraseIsInterrupted(t *testing.T) {
	t.Parallel()
	e := newErasable(t, 1)
	e.deliver(t, e.account.Events)
	e.importAll(t)
	events, _, texts := e.belongings(t)
	before, interruptions := e.dump(t), 0
	for {
		ctx, stop := context.WithCancel(t.Context())
		_, err := e.operator("request 4711").Erase(ctx, operations.EraseOptions{Customer: e.customer.ID(), BatchSize: 5, Progress: func(operations.EraseResult) { stop() }})
		stop()
		if err == nil {
			break
		}
		if interruptions++; interruptions > 1000 {
			t.Fatal(err)
		}
	}
	if interruptions < 5 {
		t.Errorf("it was interrupted %d times", interruptions)
	}
	e.expectNothing(t, texts)
	expectOthersUntouched(t, before, e.dump(t), texts, events)
}

// What is not stored of a customer cannot be erased, and options that are not valid are refused.
func TestEraseRefuses(t *testing.T) {
	t.Parallel()
	e := newErasable(t, 1)
	e.deliver(t, e.account.Events[:20])
	before := e.dump(t)
	for name, c := range map[string]struct {
		options operations.EraseOptions
		reason  string
		want    error
		text    string
	}{
		"an unknown customer":  {operations.EraseOptions{Customer: "cus_unknown"}, "a request", operations.ErrNoCustomer, "no data is stored of the customer cus_unknown of the receiver's own account"},
		"of another account":   {operations.EraseOptions{Customer: e.account.Customers[0].ID(), Account: "acct_1"}, "a request", operations.ErrNoCustomer, "of account acct_1"},
		"an object's id":       {operations.EraseOptions{Customer: e.account.Subscriptions[0].ID()}, "a request", operations.ErrNoCustomer, "check the id"},
		"no reason":            {operations.EraseOptions{Customer: e.customer.ID()}, " ", operations.ErrRefused, "Config.Reason is empty"},
		"a reason with the id": {operations.EraseOptions{Customer: e.customer.ID()}, "erase " + e.customer.ID(), operations.ErrRefused, "the reason contains the customer's id"},
		"no customer":          {operations.EraseOptions{}, "a request", operations.ErrRefused, `EraseOptions.Customer is ""`},
	} {
		if _, err := e.operator(c.reason).Erase(t.Context(), c.options); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !slices.Equal(before, e.dump(t)) {
		t.Error("the tables have changed")
	}
}
