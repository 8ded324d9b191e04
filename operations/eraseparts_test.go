package operations_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// noWait stands for an erasure of long ago, so that no erasure waits for receivers.
const noWait = `INSERT INTO stripe_erasures (id_hash, livemode, customer_hash, erased_at) VALUES ('', FALSE, '', now() - INTERVAL '1 hour')`

// Without a mirror, the kept payloads and the failures show what is the customer's: also what only belongs to a payment of the
// customer's, or names the customer and nobody else. What others have is left alone.
func TestEraseWithoutAMirror(t *testing.T) {
	t.Parallel()
	h := webhooks.NewHandlers()
	webhooks.On(h, "*", func(_ context.Context, _ pgx.Tx, ev *webhooks.Event, _ *map[string]any) error {
		if strings.HasPrefix(ev.Type, "broken.") {
			return errors.New("no account for Minna (" + ev.CustomerID() + ")")
		}
		return nil
	})
	keeping := func(c *webhooks.Config) { c.KeepPayloads = true }
	host := hooktest.On(t, pgtest.NewPool(t), h, keeping)
	pgtest.Exec(t, host.Pool, noWait)
	events := []struct{ id, kind, object string }{
		{"evt_1_charge", "charge.succeeded", `{"id":"ch_1","object":"charge","customer":"cus_1","name":"Minna"}`},
		{"evt_1_expanded", "invoice.paid", `{"id":"in_1","object":"invoice","customer":{"id":"cus_1","name":"Minna"}}`},
		{"evt_1_refund", "refund.created", `{"id":"re_1","object":"refund","charge":"ch_1","metadata":{"for":"Minna"}}`},
		{"evt_1_updated", "refund.updated", `{"id":"re_1","object":"refund","metadata":{"for":"Minna"}}`},
		{"evt_1_product", "product.updated", `{"id":"prod_1","object":"product","metadata":{"for":"cus_1"}}`},
		{"evt_1_failed", "broken.charge", `{"id":"ch_2","object":"charge","customer":"cus_1","name":"Minna"}`},
		{"evt_2", "product.updated", `{"id":"prod_1","object":"product","name":"Mill"}`},
		{"evt_2_charge", "charge.succeeded", `{"id":"ch_3","object":"charge","customer":"cus_12","name":"Jan"}`},
		{"evt_2_names", "charge.succeeded", `{"id":"ch_4","object":"charge","customer":"cus_2","metadata":{"paid_for":"cus_1"}}`},
		{"evt_2_failed", "broken.charge", `{"id":"ch_5","object":"charge","customer":"cus_2","name":"Jan"}`},
	}
	for _, ev := range events {
		host.Send(t, hooktest.Event(ev.id, ev.kind, 1_700_000_000, ev.object))
	}
	dropping := hooktest.On(t, host.Pool, h, func(c *webhooks.Config) { c.DropPayloads = true })
	dropping.Send(t, hooktest.Event("evt_1_dropped", "broken.charge", 1_700_000_000, `{"id":"ch_6","object":"charge","customer":"cus_1"}`))
	pgtest.Exec(t, host.Pool, `UPDATE stripe_webhook_events SET reprocess_reason = 'credits for cus_1' WHERE event_id = 'evt_1_charge'`)
	pgtest.Exec(t, host.Pool, `UPDATE stripe_webhook_failures SET reason = 'it was Minna' WHERE event_id = 'evt_1_failed'`)
	o := operations.New(host.Pool, &operations.Config{Reason: "request 4711"})
	o.RecordRun(t.Context(), &operations.RunRecord{Kind: operations.RunReplay, Arguments: map[string]string{"customer": "cus_1"}, Err: errors.New("cus_1 is odd")})
	erased, err := o.Erase(t.Context(), operations.EraseOptions{Customer: "cus_1"})
	if want := (operations.EraseResult{Events: 5, Payloads: 5, Failures: 2, Runs: 1}); err != nil || fmt.Sprintf("%+v", erased) != fmt.Sprintf("%+v", want) {
		t.Errorf("it removes %+v, %v", erased, err)
	}
	host.Send(t, hooktest.Event("evt_3", "product.updated", 1_700_000_001, `{"id":"prod_1","object":"product","name":"Mill"}`))
	host.Send(t, hooktest.Event("evt_1_late", "refund.updated", 1_700_000_001, `{"id":"re_1","object":"refund","metadata":{"for":"Minna"}}`))
	const all = `SELECT concat_ws(E'\n', (SELECT string_agg(concat_ws(' ', e.event_id, e.object_id, e.reprocess_reason), E'\n' ORDER BY event_id) FROM stripe_webhook_events AS e),
		(SELECT 'payloads ' || string_agg(event_id, ' ' ORDER BY event_id) FROM stripe_webhook_payloads),
		(SELECT string_agg(concat_ws(' ', f.event_id, f.last_error, f.reason, f.history -> 0 ->> 'error', f.payload IS NULL), E'\n' ORDER BY f.event_id) FROM stripe_webhook_failures AS f),
		(SELECT string_agg(concat_ws(' ', r.arguments ->> 'customer', r.error), E'\n') FROM stripe_webhook_runs AS r WHERE kind = 'replay'))`
	hash := "sha256:" + pgtest.Scan[string](t, host.Pool, `SELECT encode(sha256('cus_1'), 'hex')`)
	const removed = "removed: it concerns a customer whose data was erased (stripeonce erase)"
	want := strings.Join([]string{
		"evt_1_charge credits for " + hash, "evt_1_expanded", "evt_1_late", "evt_1_product", "evt_1_refund", "evt_1_updated",
		"evt_2 prod_1", "evt_2_charge ch_3", "evt_2_names ch_4", "evt_3 prod_1", "payloads evt_2 evt_2_charge evt_2_names evt_3",
		"evt_1_dropped " + removed + " " + removed + " t", "evt_1_failed " + removed + " " + removed + " " + removed + " t",
		"evt_2_failed handler of broken.charge: no account for Minna (cus_2) handler of broken.charge: no account for Minna (cus_2) f",
		hash + " " + hash + " is odd",
	}, "\n")
	if got := pgtest.Scan[string](t, host.Pool, all); got != want {
		t.Errorf("the tables have\n%s\nwant\n%s", got, want)
	}
}

// Only the customer of one account is erased: a connected one, or the receiver's own, which some rows do not name.
func TestEraseOfOneAccount(t *testing.T) {
	t.Parallel()
	handlers := func() *webhooks.Handlers {
		h := webhooks.NewHandlers()
		subscriptions.Register(h, &subscriptions.Config{Logger: hooktest.NoLog()})
		return h
	}
	before := hooktest.On(t, pgtest.NewPool(t), handlers(), nil) // of the time before the receiver's own account had a name
	pgtest.Exec(t, before.Pool, noWait)
	host := hooktest.On(t, before.Pool, handlers(), func(c *webhooks.Config) { c.AccountID = "acct_own" })
	event := func(n int, account string) []byte {
		return fmt.Appendf(nil, `{"id":"evt_%d","object":"event","type":"customer.subscription.created","created":1,"livemode":false%s,
			"data":{"object":{"id":"sub_%[1]d","object":"subscription","customer":"cus_1","status":"active"}}}`, n, account)
	}
	before.Expect(t, event(1, ""), 200, webhooks.OutcomeProcessed)
	host.Expect(t, event(2, ""), 200, webhooks.OutcomeProcessed)
	for i, account := range []string{"acct_1", "acct_2"} {
		host.Expect(t, event(3+i, `,"account":"`+account+`"`), 200, webhooks.OutcomeProcessed)
	}
	expect := func(account, want string) {
		t.Helper()
		o := operations.New(host.Pool, &operations.Config{AccountID: "acct_own", Reason: "request 4711"})
		if _, err := o.Erase(t.Context(), operations.EraseOptions{Customer: "cus_1", Account: account}); err != nil {
			t.Error(err)
		}
		const left = `SELECT concat_ws(' ', (SELECT string_agg(id, ' ' ORDER BY id) FROM subscriptions), (SELECT string_agg(object_id, ' ' ORDER BY object_id) FROM stripe_webhook_events))`
		if got := pgtest.Scan[string](t, host.Pool, left); got != want {
			t.Errorf("after the erasure of account %q there are %s, want %s", account, got, want)
		}
	}
	expect("acct_2", "sub_1 sub_2 sub_3 sub_1 sub_2 sub_3")
	expect("", "sub_3 sub_3")
	host.Expect(t, event(5, ""), 200, webhooks.OutcomeStale)
	host.Expect(t, event(6, `,"account":"acct_2"`), 200, webhooks.OutcomeStale)
	host.Expect(t, event(7, `,"account":"acct_1"`), 200, webhooks.OutcomeProcessed)
	expect("acct_1", "")
}

// What the database keeps is an error, and not taken for erased.
func TestEraseKeptRows(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ statement, want string }{
		"a foreign key": {`CREATE TABLE orders (subscription VARCHAR(255) COLLATE "C" CONSTRAINT of_orders REFERENCES subscriptions (id)); INSERT INTO orders VALUES ('sub_1')`,
			"another table references the customer's objects (constraint of_orders): delete its rows of the customer first"},
		"a trigger on objects": {`CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; CREATE TRIGGER keep BEFORE DELETE ON subscriptions FOR EACH ROW EXECUTE FUNCTION keep()`,
			"erase objects: rows were not deleted"},
		"a trigger on events": {`CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; CREATE TRIGGER keep BEFORE UPDATE ON stripe_webhook_events FOR EACH ROW EXECUTE FUNCTION keep()`,
			"erase events: rows were not deleted"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := webhooks.NewHandlers()
			subscriptions.Register(h, &subscriptions.Config{Logger: hooktest.NoLog()})
			host := hooktest.New(t, h, nil)
			pgtest.Exec(t, host.Pool, noWait)
			host.Expect(t, hooktest.Event("evt_1", "customer.subscription.created", 1, `{"id":"sub_1","object":"subscription","customer":"cus_1","status":"active"}`), 200, webhooks.OutcomeProcessed)
			pgtest.Exec(t, host.Pool, c.statement)
			o := operations.New(host.Pool, &operations.Config{Reason: "request 4711"})
			if _, err := o.Erase(t.Context(), operations.EraseOptions{Customer: "cus_1"}); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the error is %v", err)
			}
			if n := host.Count(t, "stripe_webhook_runs WHERE kind = 'erase' AND error IS NOT NULL"); n != 1 {
				t.Errorf("%d runs have the error", n)
			}
		})
	}
}

// The record of an unfinished backfill does not name an erased customer.
func TestBackfillDoesNotRecordTheErased(t *testing.T) {
	t.Parallel()
	e := newErasable(t, 3)
	pgtest.Exec(t, e.Pool, noWait)
	first := e.account.Customers[0].ID()
	for _, ev := range e.account.Events[:100] {
		e.Send(t, ev.Body)
	}
	if _, err := e.operator("request 4711").Erase(t.Context(), operations.EraseOptions{Customer: first}); err != nil {
		t.Fatal(err)
	}
	for _, object := range []string{"customer", "payment_method"} { // a list of objects, and one of their customers
		jobs, err := mirror.Jobs(e.Pool, &mirror.VerifyConfig{
			Types: []string{object}, APIKey: "sk_test_1", APIBase: e.apiURL, Fix: e.Receiver, Projection: e.mirror, Rate: 1e6, Logger: hooktest.NoLog(),
		})
		if err != nil {
			t.Fatal(err)
		}
		pages := 0
		_, err = e.operator("import").Backfill(t.Context(), operations.BackfillOptions{Jobs: jobs, Progress: func(operations.BackfillProgress) {
			pages++
			position := pgtest.Scan[string](t, e.Pool, `SELECT position::text FROM stripe_webhook_runs WHERE finished_at IS NULL AND kind = 'backfill'`)
			if strings.Contains(position, first) || object == "customer" && !strings.Contains(position, "cus_") {
				t.Errorf("the position in %ss is %s", object, position)
			}
		}})
		if err != nil || pages == 0 {
			t.Errorf("%d pages of %ss, %v", pages, object, err)
		}
	}
}
