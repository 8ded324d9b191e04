package operations_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/bulkapi"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/webhooks"
)

// imported is a receiver that mirrors invoices, and an account that has some.
type imported struct {
	*hooktest.Host
	api     *bulkapi.API
	config  mirror.VerifyConfig
	options operations.BackfillOptions
	changes []mirror.Change
	found   []string // differences
}

func newImported(t *testing.T, invoices int) *imported {
	t.Helper()
	i := &imported{api: &bulkapi.API{Invoices: invoices, Newest: time.Now().Add(-time.Hour).Truncate(time.Second), PerSecond: 7, Customers: 10}}
	server := httptest.NewServer(i.api)
	t.Cleanup(server.Close)
	h := webhooks.NewHandlers()
	projection := mirror.Register(h, &mirror.Config{Types: []string{"invoice"}, Logger: hooktest.NoLog(), OnChange: func(_ context.Context, _ pgx.Tx, c mirror.Change) error {
		i.changes = append(i.changes, c)
		return nil
	}})
	i.Host = hooktest.New(t, h, func(c *webhooks.Config) { c.APIKey, c.APIBase = "sk_test_1", server.URL })
	i.config = mirror.VerifyConfig{
		Types: []string{"invoice"}, APIKey: "sk_test_1", APIBase: server.URL, Fix: i.Receiver, Projection: projection, NoHooks: true, Rate: 1e6,
		Logger: hooktest.NoLog(), Each: func(d mirror.Difference) { i.found = append(i.found, fmt.Sprint(d)) },
	}
	return i
}

// backfill calls Backfill, and returns whether it resumed a run.
func (i *imported) backfill(ctx context.Context, t *testing.T) (sum operations.ComparisonCounts, resumed bool, err error) {
	t.Helper()
	i.found = nil
	if i.options.Jobs, err = mirror.Jobs(i.Pool, &i.config); err != nil {
		t.Fatal(err)
	}
	options := i.options
	options.Resumed = func(operations.Run, operations.ComparisonCounts) { resumed = true }
	sum, err = i.operator().Backfill(ctx, options)
	return sum, resumed, err
}

func (i *imported) operator() *operations.Operator {
	return operations.New(i.Pool, &operations.Config{APIKey: i.config.APIKey, Operator: "ada", Reason: "the first import", Logger: hooktest.NoLog()})
}

func (i *imported) expect(t *testing.T, want operations.ComparisonCounts) {
	t.Helper()
	if sum, resumed, err := i.backfill(t.Context(), t); err != nil || sum != want || resumed {
		t.Errorf("the backfill is %+v, resumed %v, %v; want %+v", sum, resumed, err, want)
	}
}

// runs describes the rows of runs, the newest first.
func (i *imported) runs(t *testing.T) string {
	t.Helper()
	list, err := i.operator().Runs(t.Context(), operations.RunFilter{})
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, run := range list {
		texts = append(texts, fmt.Sprintf("%s by %s: %s %s finished %v %s", run.Kind, run.Operator, run.Arguments, run.Counts, run.FinishedAt != nil, run.Error))
	}
	return strings.Join(texts, "\n")
}

// expectTruth checks that the table has each invoice as Stripe has it.
func (i *imported) expectTruth(t *testing.T, invoices int) {
	t.Helper()
	if n := i.Count(t, "stripe_invoices"); n != invoices {
		t.Errorf("%d invoices are stored, want %d", n, invoices)
	}
	sum, err := mirror.Verify(t.Context(), i.Pool, &i.config)
	if err != nil || sum.Drifted != 0 {
		t.Errorf("afterwards verify finds %+v, %v, %v", sum, err, i.found)
	}
}

// A backfill stores each object with one request for a page, and records the run. Where there is nothing to do, it leaves no row.
func TestBackfill(t *testing.T) {
	t.Parallel()
	i := newImported(t, 1050)
	var progress []operations.BackfillProgress
	i.options.Progress = func(p operations.BackfillProgress) { progress = append(progress, p) }
	i.expect(t, operations.ComparisonCounts{Checked: 1050, Drifted: 1050, Fixed: 1050})
	if lists, gets := i.api.Lists(), i.api.Gets(); lists != 11 || gets != 0 {
		t.Errorf("it takes %d requests for lists and %d for single invoices", lists, gets)
	}
	if len(progress) != 11 || progress[3].Checked != 400 || progress[3].Fixed != 400 || progress[3].Type != "invoice" || progress[3].Created.IsZero() {
		t.Errorf("the progress is %+v", progress)
	}
	if len(i.changes) != 0 {
		t.Errorf("without --hooks OnChange was called %d times", len(i.changes))
	}
	const first = `backfill by ada: {"types": ["invoice"], "livemode": false, "account_id": ""} {"fixed": 1050, "checked": 1050, "drifted": 1050} finished true `
	if runs := i.runs(t); runs != first {
		t.Errorf("the runs are %s", runs)
	}
	i.expectTruth(t, 1050)
	i.expect(t, operations.ComparisonCounts{Checked: 1050})
	if runs := i.runs(t); runs != first {
		t.Errorf("after a run without anything to do the runs are %s", runs)
	}
	for id, differs := range map[string]map[string]any{bulkapi.ID("", 5): {"status": "void"}, bulkapi.ID("", 1000): {"number": "B-1"}} {
		i.api.Do(func() { i.api.Changed = map[string]map[string]any{id: differs} })
		i.expect(t, operations.ComparisonCounts{Checked: 1050, Drifted: 1, Fixed: 1})
		i.api.Do(func() { i.api.Changed = nil })
		i.expect(t, operations.ComparisonCounts{Checked: 1050, Drifted: 1, Fixed: 1})
	}
	i.expectTruth(t, 1050)
}

// A backfill whose process ends continues behind the last page that it has stored, and fetches no object more than twice. --restart
// begins anew.
func TestBackfillResumes(t *testing.T) {
	t.Parallel()
	i := newImported(t, 1000)
	i.options.Arguments = map[string]any{"accounts": nil}
	for n := range 3 {
		ctx, stop := context.WithCancel(t.Context())
		pages := 0
		i.options.Progress = func(operations.BackfillProgress) {
			if pages++; pages == 3 {
				stop()
			}
		}
		sum, resumed, err := i.backfill(ctx, t)
		if want := 300 * (n + 1); !errors.Is(err, context.Canceled) || sum.Fixed != want || resumed != (n > 0) {
			t.Fatalf("interrupted it is %+v, resumed %v, %v", sum, resumed, err)
		}
		if runs := i.runs(t); strings.Contains(runs, "\n") || !strings.HasSuffix(runs, "finished false interrupted") {
			t.Errorf("the runs are %s", runs)
		}
	}
	i.api.Do(func() { i.api.Gone = map[string]bool{bulkapi.ID("", 100): true} }) // the last one that it stored, behind which it continues
	i.options.Progress = nil
	sum, resumed, err := i.backfill(t.Context(), t)
	if err != nil || !resumed || sum.Fixed != 1000 {
		t.Errorf("the rest is %+v, resumed %v, %v", sum, resumed, err)
	}
	if times, invoices := i.api.Most(); times > 2 || invoices != 1000 {
		t.Errorf("of %d invoices one was fetched %d times", invoices, times)
	}

	ctx, stop := context.WithCancel(t.Context())
	i.options.Progress = func(operations.BackfillProgress) { stop() }
	if _, resumed, err := i.backfill(ctx, t); resumed || !errors.Is(err, context.Canceled) {
		t.Errorf("a run after a finished one: resumed %v, %v", resumed, err)
	}
	i.options.Progress, i.options.Restart = nil, true
	i.expect(t, operations.ComparisonCounts{Checked: 1000, Drifted: 1, Unknown: 1})
	if runs := i.runs(t); !strings.Contains(runs, "finished true it was interrupted, and begun anew") {
		t.Errorf("the runs are %s", runs)
	}
}

// While a backfill runs, another one is refused, and names it.
func TestBackfillIsAlone(t *testing.T) {
	t.Parallel()
	i := newImported(t, 300)
	other := *i
	var refusal error
	i.options.Progress = func(p operations.BackfillProgress) {
		if p.Checked == 200 {
			_, _, refusal = other.backfill(t.Context(), t)
		}
	}
	i.expect(t, operations.ComparisonCounts{Checked: 300, Drifted: 300, Fixed: 300})
	if !errors.Is(refusal, operations.ErrRefused) || !strings.Contains(refusal.Error(), "already running on this database: run run_") || !strings.Contains(refusal.Error(), "of ada on ") {
		t.Errorf("the second one says %v", refusal)
	}
}

// Since lists only what was created since, as of the start of the run.
func TestBackfillSince(t *testing.T) {
	t.Parallel()
	i := newImported(t, 3000) // 7 a second
	i.options.Since = time.Since(i.api.Newest) + 100*time.Second
	sum, _, err := i.backfill(t.Context(), t)
	if err != nil || sum.Fixed < 500 || sum.Fixed > 800 || sum.Fixed != sum.Checked {
		t.Fatalf("it is %+v, %v", sum, err)
	}
	runs, err := i.operator().Runs(t.Context(), operations.RunFilter{})
	if err != nil || len(runs) != 1 || !strings.Contains(string(runs[0].Arguments), `"since": "`+i.options.Since.String()) {
		t.Fatalf("the runs are %+v, %v", runs, err)
	}
	from, want := runs[0].StartedAt.Add(-i.options.Since).Truncate(time.Second), 0
	for n := range 3000 {
		if i.api.Invoice("", n)["created"].(int64) >= from.Unix() {
			want++
		}
	}
	if oldest := pgtest.Scan[time.Time](t, i.Pool, `SELECT min(created) FROM stripe_invoices`); oldest.Before(from) || sum.Fixed != want {
		t.Errorf("it stored %d invoices since %s, want %d since %s", sum.Fixed, oldest, want, from)
	}
	if n := i.api.Lists(); n > 9 {
		t.Errorf("it took %d requests", n)
	}
}

// The connected accounts are imported as such. What Stripe refuses is an error at the end.
func TestBackfillAccounts(t *testing.T) {
	t.Parallel()
	i := newImported(t, 120)
	i.api.Connected = map[string]int{"acct_1": 230, "acct_2": 10}
	i.config.Accounts = []string{"acct_2", "acct_1"}
	ctx, stop := context.WithCancel(t.Context())
	i.options.Progress = func(p operations.BackfillProgress) {
		if p.Checked == 320 { // in the second page of acct_1
			stop()
		}
	}
	if sum, _, err := i.backfill(ctx, t); !errors.Is(err, context.Canceled) || sum.Fixed != 320 {
		t.Fatalf("interrupted it is %+v, %v", sum, err)
	}
	i.options.Progress = nil
	if sum, resumed, err := i.backfill(t.Context(), t); err != nil || !resumed || sum != (operations.ComparisonCounts{Checked: 360, Drifted: 360, Fixed: 360}) {
		t.Errorf("the rest is %+v, resumed %v, %v", sum, resumed, err)
	}
	if times, invoices := i.api.Most(); times != 1 || invoices != 360 || i.api.Gets() != 0 {
		t.Errorf("of %d invoices one was fetched %d times, %d alone", invoices, times, i.api.Gets())
	}
	if n := pgtest.Scan[int](t, i.Pool, `SELECT count(*)::int FROM stripe_invoices WHERE account_id = 'acct_1'`); n != 230 {
		t.Errorf("%d invoices of acct_1 are stored", n)
	}
	i.config.Accounts = []string{"acct_3"}
	sum, _, err := i.backfill(t.Context(), t)
	if err == nil || !strings.Contains(err.Error(), "account acct_3: Stripe answers 403") || sum.Checked != 360 {
		t.Errorf("with an account that is not connected it is %+v, %v", sum, err)
	}
	if runs := i.runs(t); !strings.Contains(strings.Split(runs, "\n")[0], "finished true invoice: account acct_3") {
		t.Errorf("the runs are %s", runs)
	}
}

// With hooks, OnChange is called for each object, and told that it is an import.
func TestBackfillWithHooks(t *testing.T) {
	t.Parallel()
	i := newImported(t, 30)
	i.config.NoHooks = false
	i.expect(t, operations.ComparisonCounts{Checked: 30, Drifted: 30, Fixed: 30})
	if len(i.changes) != 30 || i.api.Gets() != 0 {
		t.Fatalf("OnChange was called %d times, with %d requests for single invoices", len(i.changes), i.api.Gets())
	}
	for _, c := range i.changes {
		if !c.Imported || c.Event != nil || c.Before != nil {
			t.Errorf("a change is %+v", c)
		}
	}
}

// A delivery that arrives between Stripe's answer and its storing wins where it is newer, and is overwritten where it is older.
func TestBackfillDuringDeliveries(t *testing.T) {
	t.Parallel()
	i := newImported(t, 300)
	deliver := func(n int, created time.Time, status string) {
		invoice := i.api.Invoice("", n)
		i.Expect(t, hooktest.Event(fmt.Sprintf("evt_%d_%s", n, status), "invoice.updated", created.Unix(),
			fmt.Sprintf(`{"id":%q,"object":"invoice","created":%d,"livemode":false,"customer":%q,"status":%q}`, invoice["id"], invoice["created"], invoice["customer"], status)), 200, webhooks.OutcomeProcessed)
	}
	// Stripe's object of the events that are newer than its list's answer.
	i.api.OnList = func(lists int) int {
		switch lists {
		case 1: // before the first page: older than its answer
			deliver(299, time.Now().Add(-time.Hour), "open")
		case 2: // of an invoice of the first page that is stored already, and one that is not: newer
			deliver(298, time.Now().Add(time.Minute), "uncollectible")
			deliver(150, time.Now().Add(time.Minute), "uncollectible")
			i.api.Changed = map[string]map[string]any{bulkapi.ID("", 150): {"status": "uncollectible"}, bulkapi.ID("", 298): {"status": "uncollectible"}}
		}
		return 0
	}
	if sum, _, err := i.backfill(t.Context(), t); err != nil || sum.Fixed < 299 {
		t.Errorf("it is %+v, %v", sum, err)
	}
	for n, want := range map[int]string{299: "paid", 298: "uncollectible", 150: "uncollectible", 149: "paid"} {
		if status := pgtest.Scan[string](t, i.Pool, `SELECT status FROM stripe_objects WHERE id = $1`, bulkapi.ID("", n)); status != want {
			t.Errorf("invoice %d is %s, want %s", n, status, want)
		}
	}
	if times, _ := i.api.Most(); times > 2 {
		t.Errorf("an invoice was fetched %d times", times)
	}
}

// 429 is retried. After another error, such as of the connection that holds the lock, the run stops, and can be resumed.
func TestBackfillAfterErrors(t *testing.T) {
	t.Parallel()
	i := newImported(t, 500)
	i.api.OnList = func(lists int) int {
		if lists == 2 || lists == 3 {
			return http.StatusTooManyRequests
		}
		return 0
	}
	i.options.Progress = func(p operations.BackfillProgress) {
		if p.Checked == 200 {
			pgtest.Exec(t, i.Pool, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'`)
		}
	}
	if sum, _, err := i.backfill(t.Context(), t); err == nil || !strings.Contains(err.Error(), "invoice: the connection that holds the lock of backfills is lost") || sum.Fixed != 300 {
		t.Errorf("without the lock it is %+v, %v", sum, err)
	}
	if runs := i.runs(t); !strings.Contains(runs, "finished false invoice: the connection that holds") {
		t.Errorf("the runs are %s", runs)
	}
	i.options.Progress = nil
	if sum, resumed, err := i.backfill(t.Context(), t); err != nil || !resumed || sum != (operations.ComparisonCounts{Checked: 500, Drifted: 400, Fixed: 400}) {
		t.Errorf("the rest is %+v, resumed %v, %v", sum, resumed, err) // a page was stored, and not counted
	}
	i.expectTruth(t, 500)
	if n := i.api.Lists(); n != 2+5+1+5 {
		t.Errorf("it took %d requests", n)
	}
}

// A backfill of a limited time records how much of that time it has gone back.
func TestBackfillShare(t *testing.T) {
	t.Parallel()
	i := newImported(t, 300)
	i.options.Since = 2 * time.Hour // the newest invoice is an hour old
	var shares []float64
	i.options.Progress = func(operations.BackfillProgress) {
		runs, err := i.operator().Runs(t.Context(), operations.RunFilter{})
		if err != nil || len(runs) != 1 || runs[0].Share == nil {
			t.Fatalf("the runs are %+v, %v", runs, err)
		}
		shares = append(shares, *runs[0].Share)
	}
	i.expect(t, operations.ComparisonCounts{Checked: 300, Drifted: 300, Fixed: 300})
	if len(shares) != 3 || shares[0] < 0.49 || shares[2] <= shares[0] || shares[2] > 0.7 {
		t.Errorf("the shares are %v, want them to grow from a half", shares)
	}
}
