package tests

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pook/stripeonce/internal/bulkapi"
	"github.com/pook/stripeonce/internal/pgtest"
)

var invoices = flag.Int("invoices", 0, "the `number` of invoices that TestBackfillKilled imports; default: 10,000, or 3,000 with -short")

// A backfill that is killed ten times, and then asked to stop, ends complete, and fetches no object more than twice.
func TestBackfillKilled(t *testing.T) {
	t.Parallel()
	n := *invoices
	switch {
	case n > 0:
	case pgtest.Quick():
		n = 3_000
	default:
		n = 10_000
	}
	const kills = 10
	databaseURL := pgtest.NewURL(t)
	api := &bulkapi.API{Invoices: n, Newest: time.Now().Add(-time.Hour), PerSecond: 3, Customers: 1000}
	stripe := httptest.NewServer(api)
	t.Cleanup(stripe.Close)
	env := environ("DATABASE_URL="+databaseURL, "STRIPE_API_KEY=sk_test_1", "STRIPE_API_BASE="+stripe.URL)
	args := []string{"backfill", "--type", "invoice", "--here", "--rate", "1000000"}

	var killAt atomic.Int64 // the number of lists
	reached := make(chan struct{}, 1)
	api.OnList = func(lists int) int {
		if int64(lists) == killAt.Load() {
			reached <- struct{}{}
		}
		return 0
	}
	random, start := rand.New(rand.NewPCG(1, 2)), time.Now()
	for kill := range kills + 1 {
		// Each process completes a page: a request for the second one says so.
		killAt.Store(int64(api.Lists() + 2 + random.IntN(n/100/(kills+2))))
		cmd := exec.Command(program, args...)
		cmd.Env = env
		var out strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		select {
		case <-reached:
		case err := <-ended:
			t.Fatalf("it ended before it was killed: %v\n%s", err, out.String())
		case <-time.After(waitLimit):
			t.Errorf("it makes no progress:\n%s", out.String())
		}
		time.Sleep(time.Duration(random.IntN(20)) * time.Millisecond) // anywhere in the page
		signal := syscall.SIGKILL
		if kill == kills {
			signal = syscall.SIGTERM // stops after the page
		}
		_ = cmd.Process.Signal(signal)
		<-ended
		if code := cmd.ProcessState.ExitCode(); signal == syscall.SIGTERM && (code != 1 || !strings.Contains(out.String(), "interrupted: completed work is kept; run the command again to continue")) {
			t.Errorf("after SIGTERM: exit %d\n%s", code, out.String())
		}
	}
	killAt.Store(0)
	r := run(t, env, "", args...)
	if r.code != 0 || !strings.Contains(r.stderr, "resuming the backfill") || !strings.Contains(r.stdout, fmt.Sprintf("%d checked", n)) {
		t.Errorf("the last one: %s", r)
	}
	took := time.Since(start)
	times, fetched := api.Most()
	pool := pgtest.Connect(t, databaseURL)
	stored := pgtest.Scan[int](t, pool, `SELECT count(*)::int FROM stripe_invoices WHERE total > 0 AND customer_id <> '' AND created IS NOT NULL`)
	if times > 2 || fetched != n || stored != n {
		t.Errorf("of %d invoices %d were fetched, one of them %d times, and %d are stored", n, fetched, times, stored)
	}
	t.Logf("%d invoices, killed %d times: %s, %d requests, %d of them for single invoices", n, kills, took.Round(time.Millisecond), api.Lists()+api.Gets(), api.Gets())
	if runs := pgtest.Scan[string](t, pool, `SELECT string_agg(kind || ' ' || (counts ->> 'checked') || ' ' || (finished_at IS NOT NULL), ',') FROM stripe_webhook_runs`); runs != fmt.Sprintf("backfill %d true", n) {
		t.Errorf("the runs are %s", runs)
	}
	if n > 10_000 {
		return // it would take as long again
	}
	if r := run(t, env, "", "verify", "--type", "invoice", "--rate", "1000000"); r.code != 0 || !strings.Contains(r.stdout, fmt.Sprintf("%d checked, 0 drifted", n)) {
		t.Errorf("verify: %s", r)
	}
}
