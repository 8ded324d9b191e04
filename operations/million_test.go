package operations_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/db"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/webhooks"
)

// statements is a tracer that keeps the last query.
type statements struct {
	mu   sync.Mutex
	last pgx.TraceQueryStartData
}

func (s *statements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	if strings.HasPrefix(data.SQL, "-- name: ") {
		s.last = data
	}
	return ctx
}

func (s *statements) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// plan returns the nodes of the last query's plan, and how many rows it read.
func (s *statements) plan(t *testing.T, pool *pgxpool.Pool) (nodes []string, read float64) {
	t.Helper()
	s.mu.Lock()
	data := s.last
	s.mu.Unlock()
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	var text []byte
	if err := tx.QueryRow(t.Context(), "EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) "+data.SQL, data.Args...).Scan(&text); err != nil {
		t.Fatalf("explain %s: %v", data.SQL, err)
	}
	var plans []struct{ Plan map[string]any }
	if err := json.Unmarshal(text, &plans); err != nil {
		t.Fatal(err)
	}
	var walk func(node map[string]any)
	walk = func(node map[string]any) {
		line := fmt.Sprint(node["Node Type"])
		if index, ok := node["Index Name"]; ok {
			line += " " + fmt.Sprint(index)
		} else if table, ok := node["Relation Name"]; ok && node["Node Type"] != "ModifyTable" {
			line += " " + fmt.Sprint(table)
		}
		nodes = append(nodes, line)
		if rows, ok := node["Actual Rows"].(float64); ok && strings.Contains(line, "Scan") && node["Node Type"] != "CTE Scan" && node["Node Type"] != "Subquery Scan" {
			removed, _ := node["Rows Removed by Filter"].(float64)
			read += (rows + removed) * node["Actual Loops"].(float64)
		}
		children, _ := node["Plans"].([]any)
		for _, child := range children {
			walk(child.(map[string]any))
		}
	}
	walk(plans[0].Plan)
	for i := range nodes {
		nodes[i] = pgtest.OfWhole(nodes[i])
	}
	return nodes, read
}

// newTraced returns a database of its own, and the statements that the pool runs.
func newTraced(t *testing.T) (*pgxpool.Pool, *statements) {
	t.Helper()
	trace := &statements{}
	config, err := pgxpool.ParseConfig(pgtest.NewURL(t))
	if err != nil {
		t.Fatal(err)
	}
	config.ConnConfig.Tracer = trace
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool, trace
}

// newMillion returns a ledger of a million events over the last 100 days. About one event in ten has a failure record, and
// one event still fails.
func newMillion(t *testing.T) (*pgxpool.Pool, *statements) {
	t.Helper()
	pool, trace := newTraced(t)
	pgtest.Exec(t, pool, `INSERT INTO stripe_webhook_events (event_id, event_type, processed_at, outcome, livemode, object_id)
		SELECT 'evt_' || md5(n::text), CASE n % 5 WHEN 0 THEN 'invoice.paid' ELSE 'customer.subscription.updated' END,
			now() - interval '100 days' * (n / 1e6), 'processed', false, 'sub_' || n % 50000 FROM generate_series(1, 1000000) AS n`)
	pgtest.Exec(t, pool, `INSERT INTO stripe_webhook_failures (event_id, event_type, last_error, first_failed_at)
		SELECT event_id, event_type, 'x', processed_at - interval '1 hour' FROM stripe_webhook_events WHERE event_id LIKE 'evt_0%' OR event_id LIKE 'evt_1%'`)
	pgtest.Exec(t, pool, `INSERT INTO stripe_webhook_failures (event_id, event_type, last_error) VALUES ('evt_failing', 'a.b', 'x')`)
	pgtest.Exec(t, pool, "VACUUM ANALYZE stripe_webhook_events")
	pgtest.Exec(t, pool, "VACUUM ANALYZE stripe_webhook_failures")
	return pool, trace
}

// Listings, reconciliation and pruning read only the rows that they return or delete, and not the whole ledger.
func TestAMillionEvents(t *testing.T) {
	t.Parallel()
	pool, trace := newMillion(t)
	o := operations.New(pool, nil)
	ctx := t.Context()
	expect := func(name string, most float64, err error, want ...string) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		nodes, read := trace.plan(t, pool)
		plan := strings.Join(nodes, "\n")
		if strings.Contains(plan, "Seq Scan") || read > most+pgtest.ReadAhead() {
			t.Errorf("%s reads %.0f rows, want %.0f at most, by\n%s", name, read, most, plan)
		}
		for _, node := range want {
			if !strings.Contains(plan, node) {
				t.Errorf("%s does without %s, by\n%s", name, node, plan)
			}
		}
	}
	const byTime, byObject, byID = "stripe_webhook_events_processed_at_idx", "stripe_webhook_events_object_id_idx", "stripe_webhook_events_event_id_key"
	events, err := o.Events(ctx, operations.EventFilter{})
	expect("the newest events", 100, err, "Index Scan "+byTime)
	for page := range 3 { // the pages follow each other without a gap, at the beginning and in the middle
		next, err := o.Events(ctx, operations.EventFilter{Before: events[len(events)-1].EventID, Limit: 500})
		expect(fmt.Sprint("page ", page), 1000, err, "Index Scan "+byTime)
		last, first := events[len(events)-1].ProcessedAt, next[0].ProcessedAt
		between := pgtest.Scan[int](t, pool, `SELECT count(*)::int FROM stripe_webhook_events WHERE processed_at < $1 AND processed_at > $2`, last, first)
		if between != 0 || !first.Before(last) {
			t.Errorf("there are %d events between two pages", between)
		}
		events = next
	}
	_, err = o.Events(ctx, operations.EventFilter{Type: "invoice.*"})
	expect("events of a type", 1000, err, "Index Scan "+byTime)
	list, err := o.Events(ctx, operations.EventFilter{ObjectID: "sub_77", Outcome: webhooks.OutcomeProcessed})
	expect("events of an object", 100, err, byObject)
	if len(list) != 20 {
		t.Errorf("the object has %d events, want 20", len(list))
	}
	_, err = o.Events(ctx, operations.EventFilter{Since: time.Now().Add(-time.Minute)})
	expect("events of the last minute", 100, err, byTime)
	queries := db.New()
	const counted, everything = 20_000, 200 * 24 * time.Hour
	_, err = queries.LedgerActivity(ctx, pool, db.LedgerActivityParams{Width: 3600, Since: time.Now().Add(-everything), MaxRows: counted})
	expect("the console's chart", 4*counted, err, byTime, "stripe_webhook_failures_first_failed_at_idx")
	_, err = queries.LedgerLag(ctx, pool, time.Now().Add(-everything), counted)
	expect("the console's lag", 2*counted, err, byTime)
	_, err = queries.ConsoleChangedList(ctx, pool, db.ConsoleChangedListParams{Since: time.Now().Add(-everything), MaxLookedAt: counted, MaxEach: 5})
	expect("what changed, of more events than it looks at", 8*counted, err, "Index Scan "+byTime)
	_, err = queries.ConsoleChangedList(ctx, pool, db.ConsoleChangedListParams{Since: time.Now().Add(-time.Hour), MaxLookedAt: counted, MaxEach: 5})
	expect("what changed in the last hour", 4000, err, "Index Scan "+byTime)
	_, err = queries.ConsoleNewestFailure(ctx, pool)
	expect("the newest first failure", 1, err, "stripe_webhook_failures_first_failed_at_idx")
	pgtest.Exec(t, pool, `INSERT INTO stripe_webhook_runs (id, kind, arguments, started_at, counts) SELECT 'run_' || lpad(n::text, 12, '0'), 'reconcile', '{}', now(), '{"missing": 1}' FROM generate_series(1, 20000) AS n`)
	pgtest.Exec(t, pool, "VACUUM ANALYZE stripe_webhook_runs")
	_, err = queries.ConsoleRunProblemList(ctx, pool, db.ConsoleRunProblemListParams{SinceID: "run_000000019900", MaxLookedAt: 5000, MaxRows: 3})
	expect("the runs with problems", 110, err, "stripe_webhook_runs_pkey")
	_, err = queries.LedgerFailing(ctx, pool, counted, operations.MaxFailureCount)
	expect("the count of failures", 3*counted, err, "stripe_webhook_failures_first_failed_at_idx", byID)
	if n, err := o.CountFailing(ctx); err != nil || n != 1 {
		t.Errorf("%d events fail, %v", n, err)
	}
	_, err = queries.LedgerNewest(ctx, pool)
	expect("the console's last event", 1, err, byTime)
	_, err = o.EventDetail(ctx, events[0].EventID)
	expect("an event's detail", 1, err)
	// The listing of failures also reads resolved records, each with one look-up in the ledger.
	failures, err := o.Failures(ctx, operations.FailureFilter{Before: "evt_failing", MaxScanned: 5})
	expect("failures, among few records", 20, err, "stripe_webhook_failures_first_failed_at_idx", byID)
	if len(failures) != 0 {
		t.Errorf("the failures are %+v", failures)
	}
	failures, err = o.Failures(ctx, operations.FailureFilter{Limit: 1})
	expect("a failure", 10, err, "Index Scan stripe_webhook_failures_first_failed_at_idx", "Index Scan "+byID)
	if len(failures) != 1 || failures[0].EventID != "evt_failing" {
		t.Errorf("the failures are %+v", failures)
	}
	ids := make([]string, 100) // as reconcile looks up a page, half of it missing
	for i := range ids {
		ids[i] = events[i].EventID
		if i%2 == 0 {
			ids[i] += "x"
		}
	}
	outcomes, err := db.New().StripeWebhookEventOutcomes(ctx, pool, ids)
	expect("a page of Stripe's list", 150, err, "Index Scan "+byID)
	if len(outcomes) != 50 {
		t.Errorf("of a page %d are known, want 50", len(outcomes))
	}
	for i := range 20 { // of these, some failed before they were applied
		ids[i] = pgtest.Scan[string](t, pool, `SELECT event_id FROM stripe_webhook_failures ORDER BY event_id OFFSET $1 LIMIT 1`, i)
	}
	states, err := queries.StripeWebhookEventStates(ctx, pool, ids)
	expect("a page of Stripe's list, with the failures", 300, err, "Index Scan "+byID, "stripe_webhook_failures_pkey")
	if len(states) != 60 || states[0].State != "failing" {
		t.Errorf("of a page %d are known, want 60", len(states))
	}
	expectPrune(t, pool, o, func(err error) {
		t.Helper()
		expect("a batch of prune", 5_000, err, "Index Scan "+byTime, byID)
	})
}

// expectPrune deletes events older than 90 days, which are a tenth.
func expectPrune(t *testing.T, pool *pgxpool.Pool, o *operations.Operator, plan func(error)) {
	t.Helper()
	batches := 0
	pruned, err := o.Prune(t.Context(), operations.PruneOptions{OlderThan: 90 * 24 * time.Hour, Progress: func(operations.PruneResult) {
		if batches++; batches == 2 {
			plan(nil)
		}
	}})
	if err != nil || pruned.Deleted < 99_000 || pruned.Deleted > 101_000 || pruned.Failures < 12_000 || batches != int(pruned.Deleted/operations.DefaultPruneBatchSize)+1 {
		t.Errorf("it deletes %+v in %d batches, %v", pruned, batches, err)
	}
	left := pgtest.Scan[string](t, pool, `SELECT concat_ws(' ',
		(SELECT count(*) FROM stripe_webhook_events WHERE processed_at < now() - interval '90 days 1 minute'),
		(SELECT count(*) FROM stripe_webhook_failures AS f WHERE NOT EXISTS (SELECT FROM stripe_webhook_events AS e WHERE e.event_id = f.event_id)))`)
	if left != "0 1" {
		t.Errorf("left are old events, and failures without their event: %s, want 0 and the 1 that still fails", left)
	}
}

// Prune keeps an ignored event whose failure is not resolved, and a row that a delivery has locked.
func TestPruneKeeps(t *testing.T) {
	t.Parallel()
	pool := pgtest.NewPool(t)
	pgtest.Exec(t, pool, `INSERT INTO stripe_webhook_events (event_id, event_type, processed_at, outcome, livemode)
		SELECT 'evt_' || n, 'a.b', now() - interval '40 days', CASE WHEN n <= 2 THEN 'ignored' ELSE 'processed' END, false FROM generate_series(1, 5) AS n`)
	pgtest.Exec(t, pool, `INSERT INTO stripe_webhook_failures (event_id, event_type, last_error) VALUES ('evt_1', 'a.b', 'x'), ('evt_3', 'a.b', 'x'), ('evt_9', 'a.b', 'x')`)
	held, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer held.Rollback(t.Context())
	if _, err := held.Exec(t.Context(), `UPDATE stripe_webhook_events SET processed_at = now() WHERE event_id = 'evt_2'`); err != nil {
		t.Fatal(err)
	}
	o := operations.New(pool, nil)
	pruned, err := o.Prune(t.Context(), operations.PruneOptions{OlderThan: operations.MinPruneAge, BatchSize: 1})
	if err != nil || pruned.Deleted != 3 || pruned.Failures != 1 {
		t.Errorf("it deletes %+v, %v", pruned, err)
	}
	left := pgtest.Scan[string](t, pool, `SELECT concat_ws(' ',
		(SELECT string_agg(event_id, ',' ORDER BY event_id) FROM stripe_webhook_events), (SELECT string_agg(event_id, ',' ORDER BY event_id) FROM stripe_webhook_failures))`)
	if left != "evt_1,evt_2 evt_1,evt_9" {
		t.Errorf("left is %s", left)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := o.Prune(ctx, operations.PruneOptions{OlderThan: operations.MinPruneAge}); err == nil {
		t.Error("Prune continues after it is interrupted")
	}
}

// The history has each attempt of an event, but at most 20.
func TestHistoryIsBounded(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1)
	b.broken.Store(true)
	for range 25 {
		b.Expect(t, b.account.Events[0].Body, 500, "")
	}
	detail, err := b.EventDetail(t.Context(), b.account.Events[0].ID)
	if err != nil || detail.Failure.Attempts != 25 || len(detail.Failure.History) != 20 {
		t.Fatalf("it is %+v, %v", detail, err)
	}
	if last := detail.Failure.History[19]; !last.At.Equal(detail.Failure.LastFailedAt) {
		t.Errorf("the last attempt is of %s, not %s", last.At, detail.Failure.LastFailedAt)
	}
}

// Comparing the table of subscriptions with Stripe's list uses its index, account by account.
func TestManySubscriptions(t *testing.T) {
	t.Parallel()
	pool, trace := newTraced(t)
	pgtest.Exec(t, pool, `INSERT INTO subscriptions (id, status, cancel_at_period_end, metadata, livemode, object, stripe_created_at, account_id)
		SELECT 'sub_' || n, 'active', false, '{}', false, '{}', now() - interval '1 minute' * n, CASE WHEN n % 100 = 0 THEN 'acct_' || n % 1000 END
		FROM generate_series(1, 100000) AS n`)
	pgtest.Exec(t, pool, "VACUUM ANALYZE subscriptions")
	queries, livemode := db.New(), false
	expect := func(name string, rows int, most float64, err error) {
		t.Helper()
		nodes, read := trace.plan(t, pool)
		if plan := strings.Join(nodes, "\n"); err != nil || rows == 0 || read > most || !strings.Contains(plan, "subscriptions_stripe_created_at_idx") {
			t.Errorf("%s: %d rows, %v; it reads %.0f, want %.0f at most, by\n%s", name, rows, err, read, most, plan)
		}
	}
	after, before := time.Now().Add(-40*24*time.Hour), time.Now().Add(-39*24*time.Hour)
	for _, account := range []string{"", "acct_300"} {
		keys, err := queries.SubscriptionKeyList(t.Context(), pool, db.SubscriptionKeyListParams{
			AccountID: account, CreatedAfter: &after, Before: &before, Livemode: &livemode, MaxRows: 1000,
		})
		expect("the span of a page in "+account, len(keys), 3000, err)
	}
	accounts, err := queries.SubscriptionAccountList(t.Context(), pool)
	expect("the accounts", len(accounts), 100, err)
	if len(accounts) != 11 || accounts[0] != "" {
		t.Errorf("the accounts are %q", accounts)
	}
}
