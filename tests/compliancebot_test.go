package tests

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/stripesim"
)

// bot is a running compliancebot.
type bot struct {
	url, databaseURL string
	binary           string
	env              []string
	stop             func()
}

// startCompliancebot migrates a database according to the README and starts the program.
func startCompliancebot(t *testing.T, apiBase string, settings ...string) *bot {
	t.Helper()
	databaseURL := pgtest.NewEmptyURL(t) + "&sslmode=disable"
	up := func(dir, url string) {
		t.Helper()
		cmd := exec.Command(dbmate(t), "up")
		cmd.Dir = dir
		cmd.Env = environ("DATABASE_URL=" + url)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("dbmate up in %s: %v\n%s", dir, err, out)
		}
	}
	up("../cmd/compliancebot", databaseURL)
	up("..", databaseURL+"&search_path=stripe")
	binary := filepath.Join(t.TempDir(), "compliancebot")
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", binary, "../cmd/compliancebot").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b := &bot{databaseURL: databaseURL, binary: binary, env: append(environ("DATABASE_URL="+databaseURL, "STRIPE_WEBHOOK_SECRET="+hooktest.Secret,
		"ADDR=127.0.0.1:0", "STRIPE_API_KEY=sk_test_1", "STRIPE_API_BASE="+apiBase), settings...)}
	b.start(t)
	return b
}

// start starts the program, and sets its URL and stop.
func (b *bot) start(t *testing.T) {
	t.Helper()
	cmd := exec.Command(b.binary)
	cmd.Env = b.env
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	addr, ended := lineAfter(stdout, "http server started on ")
	b.stop = sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-ended
		if err := cmd.Wait(); err != nil {
			t.Errorf("compliancebot ended with %v", err)
		}
	})
	t.Cleanup(b.stop)
	b.url = "http://" + awaitAddr(t, "compliancebot", addr, ended)
}

// stripe runs one of the operator's commands in the host's own program.
func (b *bot) stripe(t *testing.T, args ...string) result {
	t.Helper()
	cmd := exec.Command(b.binary, append([]string{"stripe"}, args...)...)
	cmd.Env = b.env
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if _, exited := err.(*exec.ExitError); err != nil && !exited {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// A storm of deliveries to the host: its own tables are correct, with each change and each payment once.
func TestCompliancebotInTheStorm(t *testing.T) {
	t.Parallel()
	account := stripesim.New(9, stripesim.Epoch)
	events := account.Live(stripesim.Life{Subscriptions: 60, Bursts: true})
	api := httptest.NewServer(stripesim.NewAPI(account))
	t.Cleanup(api.Close)
	host := startCompliancebot(t, api.URL)
	url, pool := host.url, pgtest.Connect(t, host.databaseURL)
	for _, sub := range account.Subscriptions {
		pgtest.Exec(t, pool, `INSERT INTO organizations (name, stripe_customer_id) VALUES ($1, $1)`, sub.Customer())
	}
	storm := stripesim.Wild
	deliverer := &stripesim.Deliverer{URL: url + "/webhooks/stripe", Secret: hooktest.Secret, Concurrency: 12}
	if err := deliverer.Deliver(context.Background(), storm.Plan(9, events)); err != nil {
		t.Fatal(err)
	}
	paid := map[string]int64{}
	for _, ev := range events {
		if ev.Type == "invoice.paid" {
			customer, cents := invoice(t, ev)
			paid[customer] += cents
		}
	}
	for _, sub := range account.Subscriptions {
		truth := sub.Truth()
		plan := "free"
		if truth.Status == "active" || truth.Status == "trialing" {
			plan = truth.PriceID
		}
		want := fmt.Sprintf("%s %d", plan, paid[sub.Customer()])
		got := pgtest.Scan[string](t, pool, `SELECT plan || ' ' || paid_cents FROM organizations WHERE stripe_customer_id = $1`, sub.Customer())
		if got != want {
			t.Errorf("the organization of %s has %s, want %s", sub.Customer(), got, want)
		}
		expectAnswer(t, url, &truth, plan)
	}
	expectAuditLog(t, pgtest.Scan[string](t, pool, auditFaults))
	if resp, err := http.Get(url + "/customers/cus_nobody/subscription"); err != nil || resp.StatusCode != http.StatusNotFound {
		t.Errorf("a customer without a subscription is answered %v, %v", resp, err)
	}
	own := pgtest.Scan[string](t, pool, `SELECT concat_ws(' ', (SELECT count(*) FROM public.subscriptions), (SELECT count(*) FROM stripe.subscriptions))`)
	if own != "0 60" {
		t.Errorf("compliancebot's subscriptions and Stripe's are %s", own)
	}
}

// auditFaults counts changes that are recorded twice, and changes that do not begin with the previous change's plan. The
// number of changes depends on the order of arrival, but a plan that is not free needs at least one.
const auditFaults = `SELECT concat_ws(' ',
	(SELECT count(*) - count(DISTINCT (stripe_event_id, stripe_subscription_id)) FROM audit_log),
	(SELECT count(*) FROM (SELECT before, lag(after, 1, 'free') OVER (PARTITION BY stripe_subscription_id ORDER BY id) AS last
		FROM audit_log) AS l WHERE before <> last),
	(SELECT count(*) FROM audit_log) >= greatest(1, (SELECT count(*) FROM organizations WHERE plan <> 'free')))`

func expectAuditLog(t *testing.T, faults string) {
	t.Helper()
	if faults != "0 0 t" {
		t.Errorf("changes recorded twice, changes out of sequence, enough changes: %s, want 0 0 t", faults)
	}
}

func invoice(t *testing.T, ev *stripesim.Event) (customer string, paid int64) {
	t.Helper()
	var body struct {
		Data struct {
			Object struct {
				Customer   string `json:"customer"`
				AmountPaid int64  `json:"amount_paid"`
			} `json:"object"`
		} `json:"data"`
	}
	if err := json.Unmarshal(ev.Body, &body); err != nil {
		t.Fatal(err)
	}
	return body.Data.Object.Customer, body.Data.Object.AmountPaid
}

// expectAnswer checks the subscription at the host's own route.
func expectAnswer(t *testing.T, url string, truth *stripesim.Truth, plan string) {
	t.Helper()
	resp, err := http.Get(url + "/customers/" + truth.CustomerID + "/subscription")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var got struct {
		ID, Status, Plan string
		Quantity         int64
		PeriodEnd        time.Time `json:"current_period_end"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	if got.ID != truth.ID || got.Status != truth.Status || got.Plan != plan || got.Quantity != truth.Quantity || got.PeriodEnd.Unix() != truth.CurrentPeriodEnd {
		t.Errorf("the route answers %+v, the truth is %+v", got, truth)
	}
}

// The operator's commands in the host's own program run the host's own handlers.
func TestCompliancebotCommands(t *testing.T) {
	t.Parallel()
	account := stripesim.New(3, time.Now().Add(-24*time.Hour))
	sub := account.Subscribe(stripesim.VersionBasil)
	account.Wait(time.Minute)
	sub.Activate()
	account.Wait(time.Minute)
	sub.Renew()
	api := httptest.NewServer(stripesim.NewAPI(account))
	t.Cleanup(api.Close)
	host := startCompliancebot(t, api.URL)
	pool := pgtest.Connect(t, host.databaseURL)
	pgtest.Exec(t, pool, `INSERT INTO organizations (name, stripe_customer_id) VALUES ('ACME', $1)`, sub.Customer())
	truth := sub.Truth()
	organization := func(want string) {
		t.Helper()
		if got := pgtest.Scan[string](t, pool, `SELECT plan || ' ' || paid_cents FROM organizations`); got != want {
			t.Errorf("the organization has %s, want %s", got, want)
		}
	}
	expect := func(code int, text string, args ...string) {
		t.Helper()
		if r := host.stripe(t, args...); r.code != code || !strings.Contains(r.stdout+r.stderr, text) {
			t.Errorf("%s: want exit %d and %q, got %s", args, code, text, r)
		}
	}
	expect(0, "1 checked, 1 drifted, 1 fixed", "verify", "--fix")
	organization(truth.PriceID + " 0")
	expect(0, "5 listed, 5 missing, 5 applied, 0 failed", "reconcile", "--since", "3d")
	organization(truth.PriceID + " 1800")
	expect(0, "0 missing", "reconcile", "--since", "3d")
	expect(0, "duplicate", "replay", account.Events[1].ID)
	expect(0, "invoice.paid", "events")
	expect(2, "unknown flag: --here", "replay", "--here", account.Events[1].ID)
	expect(2, "unknown command", "replai")
	expect(1, "no webhook endpoint exists at Stripe", "endpoint")
	organization(truth.PriceID + " 1800")
}

// compliancebot has the console behind a login of its own. What it fetches from Stripe calls OnChange.
func TestConsoleOfCompliancebot(t *testing.T) {
	t.Parallel()
	account := stripesim.New(9, time.Now().Add(-time.Hour))
	sub := account.Subscribe(stripesim.VersionBasil)
	sub.Activate()
	api := httptest.NewServer(stripesim.NewAPI(account))
	t.Cleanup(api.Close)
	host := startCompliancebot(t, api.URL, "CONSOLE_PASSWORD=act")
	pool := pgtest.Connect(t, host.databaseURL)
	pgtest.Exec(t, pool, `INSERT INTO organizations (name, stripe_customer_id) VALUES ($1, $1)`, sub.Customer())
	pages := &server{url: host.url}
	if status, _ := pages.visit(t, http.MethodGet, "/admin/stripe/runs", "ada", "guess"); status != 401 {
		t.Errorf("with a wrong password the console is %d", status)
	}
	if status, page := pages.visit(t, http.MethodGet, "/admin/stripe/runs", "ada", "act"); status != 200 || !strings.Contains(page, "No runs") {
		t.Errorf("the page of runs is %d:\n%s", status, page)
	}
	form := url.Values{"do": {"fetch"}, "type": {"subscription"}, "id": {sub.ID()}, "reason": {"ticket 7"}}
	if status, page := pages.visit(t, http.MethodGet, "/admin/stripe/runs/new?"+form.Encode(), "ada", "act"); status != 200 || !strings.Contains(page, "<code>OnChange</code> of the receiver <code>host</code>") {
		t.Errorf("before it fetches it is %d:\n%s", status, page)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, host.url+"/admin/stripe/runs", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth("ada", "act")
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusSeeOther || !strings.HasPrefix(resp.Header.Get("Location"), "/admin/stripe/runs/run_") {
		t.Errorf("the button leads to %d %s", resp.StatusCode, resp.Header.Get("Location"))
	}
	const ended = `SELECT count(*) = 1 FROM stripe.stripe_webhook_runs WHERE finished_at IS NOT NULL`
	pgtest.AwaitSQL(t, pool, "the run ends", ended)
	if run := host.stripe(t, "runs"); run.code != 0 || !strings.Contains(run.stdout, "console (ada)") || !strings.Contains(run.stdout, "checked 1, drifted 1, fixed 1") {
		t.Errorf("the run is %s", run)
	}
	plan := pgtest.Scan[string](t, pool, `SELECT plan FROM organizations WHERE stripe_customer_id = $1`, sub.Customer())
	if want := sub.Truth().PriceID; plan != want {
		t.Errorf("the organization's plan is %q, want %q", plan, want)
	}
}
