package operations_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/webhooks"
)

// newCustomers makes a ledger with two customers: cus_1, with a subscription and an invoice here and an invoice in acct_1, and cus_2.
func newCustomers(t *testing.T) *operations.Operator {
	t.Helper()
	pool := pgtest.NewPool(t)
	pgtest.Exec(t, pool, `INSERT INTO subscriptions (id, customer_id, status, cancel_at_period_end, metadata, livemode, object) VALUES
		('sub_1', 'cus_1', 'active', FALSE, '{}', TRUE, '{}'), ('sub_2', 'cus_2', 'active', FALSE, '{}', TRUE, '{}')`)
	pgtest.Exec(t, pool, `INSERT INTO stripe_objects (account_id, livemode, object_type, id, customer_id, stripe_created_at, object) VALUES
		('', TRUE, 'customer', 'cus_1', 'cus_1', now(), '{}'), ('', TRUE, 'invoice', 'in_1', 'cus_1', now(), '{}'),
		('', TRUE, 'refund', 're_1', NULL, now(), '{}'), ('acct_1', TRUE, 'invoice', 'in_3', 'cus_1', now(), '{}'), ('', FALSE, 'invoice', 'in_4', 'cus_1', now(), '{}')`)
	pgtest.Exec(t, pool, `INSERT INTO stripe_webhook_events (event_id, event_type, processed_at, outcome, livemode, object_id, account_id)
		SELECT 'evt_' || id, type, now() - n * interval '1 hour', outcome, id <> 'in_4', id, CASE WHEN id = 'in_3' THEN 'acct_1' END
		FROM (VALUES (1, 'sub_1', 'customer.subscription.updated', 'processed'), (2, 'in_1', 'invoice.paid', 'ignored'), (3, 'cus_1', 'invoice.upcoming', 'processed'),
			(4, 'in_3', 'invoice.paid', 'processed'), (5, 'in_4', 'invoice.paid', 'processed'), (6, 're_1', 'refund.created', 'processed'),
			(7, 'sub_2', 'customer.subscription.updated', 'processed'), (8, 'in_9', 'invoice.paid', 'processed')) AS made (n, id, type, outcome)`)
	pgtest.Exec(t, pool, `INSERT INTO stripe_webhook_failures (event_id, event_type, first_failed_at, last_error, payload)
		SELECT 'evt_f' || n, 'invoice.paid', now() - n * interval '1 hour', 'cause ' || chr(64 + n), payload::jsonb
		FROM (VALUES (1, '{"data":{"object":{"id":"in_unknown","customer":"cus_1"}}}'), (2, '{"data":{"object":{"id":"sub_1"}}}'),
			(3, '{"data":{"object":{"id":"x","customer":{"id":"cus_1"}}}}'), (4, '{"related_object":{"id":"in_1"}}'), (5, '{"data":{"object":{"id":"cus_1"}}}'),
			(6, '{"data":{"object":{"id":"in_5","customer":"cus_2"}}}'), (7, NULL), (8, '{"data":{"object":{"id":"in_6","customer":"cus_1"}}}')) AS made (n, payload)`)
	pgtest.Exec(t, pool, `INSERT INTO stripe_webhook_events (event_id, event_type, processed_at, outcome, livemode) VALUES ('evt_f8', 'invoice.paid', now() - interval '9 hours', 'processed', true)`)
	return operations.New(pool, nil)
}

// A customer's events are those of its known objects.
func TestEventsOfACustomer(t *testing.T) {
	t.Parallel()
	o := newCustomers(t)
	live := true
	for name, c := range map[string]struct {
		filter operations.EventFilter
		want   string
	}{
		"all":                             {operations.EventFilter{}, "sub_1 in_1 cus_1 in_3 in_4"},
		"of a type":                       {operations.EventFilter{Type: "invoice.*"}, "in_1 cus_1 in_3 in_4"},
		"of an outcome":                   {operations.EventFilter{Outcome: webhooks.OutcomeIgnored}, "in_1"},
		"of an account":                   {operations.EventFilter{Account: "acct_1"}, "in_3"},
		"of no account":                   {operations.EventFilter{NoAccount: true}, "sub_1 in_1 cus_1 in_4"},
		"of live mode":                    {operations.EventFilter{Livemode: &live}, "sub_1 in_1 cus_1 in_3"},
		"since a time":                    {operations.EventFilter{Since: time.Now().Add(-150 * time.Minute)}, "sub_1 in_1"},
		"until a time":                    {operations.EventFilter{Until: time.Now().Add(-210 * time.Minute)}, "in_3 in_4"},
		"the next page":                   {operations.EventFilter{Before: "evt_in_1", Limit: 2}, "cus_1 in_3"},
		"of a customer who has no object": {operations.EventFilter{Customer: "cus_3"}, ""},
	} {
		if c.filter.Customer == "" {
			c.filter.Customer = "cus_1"
		}
		events, err := o.Events(t.Context(), c.filter)
		var ids []string
		for _, ev := range events {
			ids = append(ids, strings.TrimPrefix(ev.EventID, "evt_"))
		}
		if got := strings.Join(ids, " "); err != nil || got != c.want {
			t.Errorf("%s: the events are of %s, %v, want %s", name, got, err, c.want)
		}
	}
	if _, err := o.Events(t.Context(), operations.EventFilter{Customer: "cus_1", ObjectID: "sub_1"}); !errors.Is(err, operations.ErrRefused) {
		t.Errorf("of a customer and an object: %v", err)
	}
}

// A customer's failures are those that name it, or one of its known objects.
func TestFailuresOfACustomer(t *testing.T) {
	t.Parallel()
	o := newCustomers(t)
	list := func(f operations.FailureFilter) string {
		t.Helper()
		failures, err := o.Failures(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, one := range failures {
			ids = append(ids, strings.TrimPrefix(one.EventID, "evt_"))
		}
		return strings.Join(ids, " ")
	}
	groups, err := o.FailureGroups(t.Context(), operations.FailureFilter{Customer: "cus_1"})
	if err != nil || len(groups.Groups) != 5 {
		t.Fatalf("the groups are %+v, %v", groups, err)
	}
	for want, filter := range map[string]operations.FailureFilter{
		"f1 f2 f3 f4 f5": {},
		"f1 f2":          {Limit: 2},
		"f4 f5":          {Before: "evt_f3"},
		"f1 f2 f3":       {Since: time.Now().Add(-210 * time.Minute)},
		"":               {Type: "charge.*"},
		"f6":             {Customer: "cus_2"},
		"f3":             {Group: groups.Groups[slices.IndexFunc(groups.Groups, func(g operations.FailureGroup) bool { return g.EventID == "evt_f3" })].Key},
	} {
		if filter.Customer == "" {
			filter.Customer = "cus_1"
		}
		if got := list(filter); got != want {
			t.Errorf("of %+v there are %q, want %q", filter, got, want)
		}
	}
}

// In a database that lacks the table of objects, a customer's objects are its subscriptions.
func TestCustomerWithoutMirror(t *testing.T) {
	t.Parallel()
	pool := pgtest.NewPool(t)
	pgtest.Exec(t, pool, `DROP TABLE stripe_objects CASCADE`)
	pgtest.Exec(t, pool, `INSERT INTO subscriptions (id, customer_id, status, cancel_at_period_end, metadata, livemode, object) VALUES ('sub_1', 'cus_1', 'active', FALSE, '{}', TRUE, '{}')`)
	objects, err := operations.New(pool, nil).CustomerObjects(t.Context(), operations.EventFilter{Customer: "cus_1"})
	if err != nil || fmt.Sprint(objects) != "{[cus_1 sub_1] false}" {
		t.Errorf("they are %v, %v", objects, err)
	}
}

// A customer's events and failures are found by indexes, however many there are of others. A customer with many objects is cut.
func TestPlansOfACustomer(t *testing.T) {
	t.Parallel()
	pool, trace := newTraced(t)
	rows := 300_000
	if pgtest.Quick() {
		rows = 60_000
	}
	pgtest.Exec(t, pool, fmt.Sprintf(`INSERT INTO stripe_objects (livemode, object_type, id, customer_id, stripe_created_at, object)
		SELECT true, CASE WHEN n %% 3 = 0 THEN 'charge' ELSE 'invoice' END, 'in_' || n, CASE WHEN n <= 2000 THEN 'cus_big' ELSE 'cus_' || n %% 2000 END, now() - n * interval '1 minute', '{}'
		FROM generate_series(1, %d) AS n`, rows))
	pgtest.Exec(t, pool, `INSERT INTO subscriptions (id, customer_id, status, cancel_at_period_end, metadata, livemode, object)
		SELECT 'sub_' || n, 'cus_' || n % 2000, 'active', FALSE, '{}', TRUE, '{}' FROM generate_series(1, 20000) AS n`)
	pgtest.Exec(t, pool, `INSERT INTO stripe_webhook_events (event_id, event_type, processed_at, outcome, livemode, object_id)
		SELECT 'evt_' || id, object_type || '.updated', stripe_created_at, 'processed', livemode, id FROM stripe_objects`)
	pgtest.Exec(t, pool, `INSERT INTO stripe_webhook_failures (event_id, event_type, first_failed_at, last_error, payload)
		SELECT 'evt_f' || n, 'invoice.paid', now() - n * interval '1 minute', 'x', jsonb_build_object('data', jsonb_build_object('object', jsonb_build_object('id', 'in_f' || n, 'customer', 'cus_' || n % 2000)))
		FROM generate_series(1, 50000) AS n`)
	for _, name := range []string{"stripe_objects", "stripe_webhook_events", "stripe_webhook_failures", "subscriptions"} {
		pgtest.Exec(t, pool, "ANALYZE "+name)
	}
	o, ctx := operations.New(pool, nil), t.Context()
	expect := func(name string, most float64, err error, indexes ...string) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		nodes, read := trace.plan(t, pool)
		plan := strings.Join(nodes, "\n")
		if strings.Contains(plan, "Seq Scan") || read > most {
			t.Errorf("%s reads %.0f rows, want %.0f at most, by\n%s", name, read, most, plan)
		}
		for _, index := range indexes {
			if !strings.Contains(plan, index) {
				t.Errorf("%s does without %s, by\n%s", name, index, plan)
			}
		}
	}
	ids, err := db.New().CustomerSubscriptionIDList(ctx, pool, db.CustomerSubscriptionIDListParams{CustomerID: "cus_8", MaxRows: 100})
	expect("its subscriptions", 50, err, "subscriptions_customer_id_idx")
	objects, err := o.CustomerObjects(ctx, operations.EventFilter{Customer: "cus_8"})
	expect("its objects", 1000, err, "stripe_objects_customer_id_idx")
	if len(ids) != 10 || objects.Truncated || len(objects.IDs) < 30 {
		t.Errorf("it has %d subscriptions, and %+v", len(ids), objects)
	}
	events, err := o.Events(ctx, operations.EventFilter{Customer: "cus_8"})
	expect("its events", 1000, err, "stripe_webhook_events_object_id_idx")
	if len(events) != min(len(objects.IDs)-11, operations.DefaultLimit) { // neither the customer nor the subscriptions have any
		t.Errorf("%d events of %d objects", len(events), len(objects.IDs))
	}
	failures, err := db.New().StripeWebhookFailureListByCustomer(ctx, pool, db.StripeWebhookFailureListByCustomerParams{ObjectIds: objects.IDs, CustomerID: "cus_8", MaxRows: 1000})
	expect("its failures", 1000, err, "stripe_webhook_failures_object_id_idx", "stripe_webhook_failures_customer_id_idx", "stripe_webhook_failures_pkey", "stripe_webhook_events_event_id_key")
	if len(failures) != 25 {
		t.Errorf("%d failures", len(failures))
	}
	_, err = o.Failures(ctx, operations.FailureFilter{Customer: "cus_8"})
	expect("these failures by id", 100, err, "stripe_webhook_failures_pkey")
	_, err = db.New().StripeWebhookFailureListByObject(ctx, pool, "in_f8")
	expect("an object's failures", 10, err, "stripe_webhook_failures_object_id_idx")
	big, err := o.CustomerObjects(ctx, operations.EventFilter{Customer: "cus_big"})
	expect("many objects", 3000, err, "stripe_objects_customer_id_idx")
	if !big.Truncated || len(big.IDs) != 2*operations.MaxCustomerObjects+1 || !slices.Contains(big.IDs, "in_1") || slices.Contains(big.IDs, "in_2000") {
		t.Errorf("of a customer with many objects there are %d, cut %t", len(big.IDs), big.Truncated)
	}
	_, err = o.EventsOf(ctx, big.IDs, operations.EventFilter{})
	expect("the events of many objects", 3000, err, "stripe_webhook_events_object_id_idx")
}
