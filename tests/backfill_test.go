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
	"github.com/pook/stripeonce/stripesim"
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

// Backfill imports, also what serve mirrors, and records the run. Verify then compares one customer's objects, or one.
func TestBackfillCommand(t *testing.T) {
	t.Parallel()
	st := newStation(t, 0)
	st.api.Do(func(account *stripesim.Account) {
		account.Billing = true
		for range 6 {
			account.Subscribe(stripesim.VersionBasil).Activate()
		}
	})
	st.env = append(st.env, "STRIPEONCE_MIRROR=customer,invoice")
	pool := pgtest.Connect(t, st.databaseURL)
	found := lines(t, st.expect(t, 0, "backfill --type subscription --here --json --reason why"))
	if n := len(found); n != 7 || found[0]["type"] != "subscription" || found[0]["field"] != "id" || fmt.Sprint(found[6]) != "map[checked:6 drifted:6 fixed:6]" {
		t.Errorf("the output is %v", found)
	}
	run := pgtest.Scan[string](t, pool, `SELECT kind || ' ' || reason || ' ' || arguments || ' ' || (operator <> '') || (host <> '') FROM stripe_webhook_runs`)
	if want := `backfill why {"hooks": false, "types": ["subscription"], "accounts": null, "livemode": false, "account_id": ""} truetrue`; run != want {
		t.Errorf("the run is %s", run)
	}
	st.expect(t, 0, "backfill --here", "18 checked, 12 drifted, 12 fixed") // and 6 customers and invoices
	st.expect(t, 0, "backfill --here", "18 checked, 0 drifted, 0 fixed")
	st.expect(t, 0, "verify", "18 checked, 0 drifted")
	sub := st.account.Subscriptions[2]
	pgtest.Exec(t, pool, `UPDATE subscriptions SET status = 'past_due' WHERE id = $1`, sub.ID())
	pgtest.Exec(t, pool, `UPDATE stripe_objects SET object = object || '{"number": "wrong"}', digest = NULL WHERE object_type = 'invoice' AND customer_id = $1`, sub.Customer())
	st.expect(t, 1, "verify --customer "+sub.Customer(), "3 checked, 2 drifted", "subscription  "+sub.ID()+`  status: here "past_due", at Stripe "active"`, "number: here \"wrong\"")
	st.expect(t, 0, "verify --customer "+st.account.Subscriptions[3].Customer(), "3 checked, 0 drifted")
	st.expect(t, 1, "verify --only "+sub.ID(), "1 checked, 1 drifted, 0 fixed")
	st.expect(t, 0, "verify --only "+sub.ID()+" --fix --here", "1 checked, 1 drifted, 1 fixed")
	st.expect(t, 0, "backfill --here --type invoice", "6 checked, 1 drifted, 1 fixed")
	st.expect(t, 1, "verify --only sub_nowhere", "neither the table nor Stripe has the subscription sub_nowhere")
	st.expect(t, 0, "verify", "18 checked, 0 drifted")
	if kinds := pgtest.Scan[string](t, pool, `SELECT string_agg(kind, ' ' ORDER BY id) FROM stripe_webhook_runs WHERE finished_at IS NOT NULL`); kinds != "backfill backfill verify backfill" {
		t.Errorf("the runs are %s", kinds)
	}
}

// serve finds what no event says: entitlements at their own interval, or everything with --verify-every.
func TestServeCompares(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args    []string
		objects int // that it finds
		rows    string
	}{
		"entitlements": {[]string{"--mirror", "entitlements", "--entitlements-every", "1s"}, 1, "0 1"},
		"everything":   {[]string{"--mirror", "entitlements,invoice", "--verify-every", "1s"}, 3, "1 2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			st := newStation(t, 0, c.args...)
			st.api.Do(func(account *stripesim.Account) {
				account.Billing = true
				account.Subscribe(stripesim.VersionBasil).Activate()
			})
			pgtest.Await(t, "the comparison has stored the objects", func() bool {
				_, body := st.get(t, "/metrics")
				return strings.Contains(body, fmt.Sprintf("stripeonce_verify_fixed_objects_total %d\n", c.objects))
			})
			rows := pgtest.Scan[string](t, pgtest.Connect(t, st.databaseURL), `SELECT (SELECT count(*) FROM subscriptions) || ' ' || (SELECT count(*) FROM stripe_objects)`)
			if rows != c.rows {
				t.Errorf("there are %s subscriptions and objects, want %s", rows, c.rows)
			}
			if code := st.stop(t, syscall.SIGTERM); code != 0 {
				t.Errorf("it stops with %d:\n%s", code, st.text())
			}
		})
	}
	without := environ("DATABASE_URL="+pgtest.NewURL(t), "STRIPE_WEBHOOK_SECRET=whsec_test")
	if r := run(t, without, "", "serve", "--verify-every", "1h"); r.code != 2 || !strings.Contains(r.stderr, "--verify-every requires STRIPE_API_KEY") {
		t.Errorf("without a key: %s", r)
	}
}
