package console_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/console"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/webhooks"
)

// statements is a tracer that keeps the console's queries.
type statements struct {
	mu   sync.Mutex
	list []pgx.TraceQueryStartData
}

func (s *statements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	if strings.HasPrefix(data.SQL, "-- name: ") {
		s.list = append(s.list, data)
	}
	return ctx
}

func (s *statements) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// take returns the queries since the last call.
func (s *statements) take() []pgx.TraceQueryStartData {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.list
	s.list = nil
	return list
}

// newFull returns a console on a database with many objects and events, and its queries.
func newFull(t *testing.T) (*pgxpool.Pool, *console.Console, *statements) {
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
	rows := 300_000
	if pgtest.Quick() {
		rows = 60_000
	}
	pgtest.Exec(t, pool, fmt.Sprintf(`INSERT INTO stripe_objects (account_id, livemode, object_type, id, customer_id, status, stripe_created_at, object)
		SELECT CASE WHEN n %% 5 = 0 THEN 'acct_' || n %% 1000 ELSE '' END, n %% 2 = 0, kind, kind || n, CASE WHEN kind <> 'refund' THEN 'cus_' || n %% 2000 END,
			CASE WHEN n %% 50000 = 7 THEN 'rare' ELSE 'open' END, now() - n * interval '1 minute', jsonb_build_object('id', kind || n, 'charge', 'charge' || n)
		FROM (SELECT n, CASE WHEN n %% 3 = 0 THEN 'charge' WHEN n %% 11 = 0 THEN 'refund' ELSE 'invoice' END AS kind FROM generate_series(1, %d) AS n) AS made`, rows))
	pgtest.Exec(t, pool, `INSERT INTO stripe_webhook_events (event_id, event_type, processed_at, outcome, livemode, object_id)
		SELECT 'evt_' || id, object_type || '.updated', stripe_created_at, 'processed', livemode, id FROM stripe_objects`)
	pgtest.Exec(t, pool, `INSERT INTO subscriptions (id, customer_id, status, cancel_at_period_end, metadata, livemode, object)
		SELECT 'sub_' || n, 'cus_' || n % 2000, 'active', FALSE, '{}', FALSE, '{}' FROM generate_series(1, 20000) AS n`)
	pgtest.Exec(t, pool, `INSERT INTO stripe_webhook_runs (id, kind, arguments, started_at, counts)
		SELECT 'run_' || n, CASE WHEN n % 100 = 0 THEN 'verify' ELSE 'retry' END, '{}', now(), '{}' FROM generate_series(1, 20000) AS n`)
	for _, name := range []string{"stripe_objects", "stripe_webhook_events", "subscriptions", "stripe_webhook_runs"} {
		pgtest.Exec(t, pool, "ANALYZE "+name)
	}
	receiver, err := webhooks.New(pool, webhooks.NewHandlers(), &webhooks.Config{Secrets: []string{hooktest.Secret}, Logger: hooktest.NoLog()})
	if err != nil {
		t.Fatal(err)
	}
	return pool, console.New(pool, receiver, &console.Config{APIKey: "sk_test_1"}), trace
}

// The pages about objects and runs read what they show, by indexes, however many objects and events there are.
func TestPlansOfObjects(t *testing.T) {
	t.Parallel()
	pool, pages, trace := newFull(t)
	for path, most := range map[string]float64{
		"/objects":                                   20_000, // the accounts, and the bounded counts
		"/objects?type=invoice":                      100,
		"/objects?type=invoice&status=rare":          20_100,
		"/objects?type=invoice&customer=cus_8":       200,
		"/objects?type=invoice&account=acct_10&id=x": 100,
		"/objects/invoice/invoice8":                  100,
		"/customers/cus_8":                           2000,
		"/customers/cus_8?livemode=false":            2000,
		"/search?find=invoice8":                      5000, // accounts, modes and types
		"/search?find=nothing":                       5000,
		"/search?find=sub_8":                         100,
		"/search?find=run_8":                         100,
		"/runs":                                      100,
		"/runs?before=run_5000":                      100,
		"/runs?kind=verify":                          6000, // one in a hundred
		"/runs/run_8":                                100,
		"/runs/new?do=compare&customer=cus_8":        2000,
	} {
		trace.take()
		answer := httptest.NewRecorder()
		pages.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
		if answer.Code != http.StatusOK && answer.Code != http.StatusSeeOther {
			t.Errorf("%s is %d:\n%s", path, answer.Code, answer.Body)
		}
		for _, query := range trace.take() {
			name := regexp.MustCompile(`-- name: (\w+)`).FindStringSubmatch(query.SQL)[1]
			if name == "StripeWebhookFailureListByObject" { // here without failures, which it reads whole
				continue
			}
			nodes, read := planOf(t, pool, query)
			if plan := strings.Join(nodes, "\n"); strings.Contains(plan, "Seq Scan") || read > most+pgtest.ReadAhead() {
				t.Errorf("%s: %s reads %.0f rows, want %.0f at most, by\n%s", path, name, read, most, plan)
			}
		}
	}
}

// planOf returns the nodes of a query's plan that read tables, and how many rows they read.
func planOf(t *testing.T, pool *pgxpool.Pool, query pgx.TraceQueryStartData) (nodes []string, read float64) {
	t.Helper()
	var text []byte
	if err := pool.QueryRow(t.Context(), "EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) "+query.SQL, query.Args...).Scan(&text); err != nil {
		t.Fatalf("explain %s: %v", query.SQL, err)
	}
	var plans []struct{ Plan map[string]any }
	if err := json.Unmarshal(text, &plans); err != nil {
		t.Fatal(err)
	}
	var walk func(node map[string]any)
	walk = func(node map[string]any) {
		if table, ok := node["Relation Name"]; ok && node["Actual Loops"].(float64) > 0 {
			removed, _ := node["Rows Removed by Filter"].(float64)
			rows := (node["Actual Rows"].(float64) + removed) * node["Actual Loops"].(float64)
			nodes = append(nodes, fmt.Sprintf("%v %v on %v: %.0f rows", node["Node Type"], node["Index Name"], table, rows))
			read += rows
		}
		children, _ := node["Plans"].([]any)
		for _, child := range children {
			walk(child.(map[string]any))
		}
	}
	walk(plans[0].Plan)
	return nodes, read
}
