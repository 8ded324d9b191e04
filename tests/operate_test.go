package tests

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/webhooks"
)

// station is a running receiver, a simulated account with its API, and the environment of the commands.
type station struct {
	*server
	account     *stripesim.Account
	api         *stripesim.API
	databaseURL string
	env         []string
}

// newStation simulates an account's last two days and delivers none of its events.
func newStation(t *testing.T, subscribers int, args ...string) *station {
	t.Helper()
	st := &station{account: stripesim.New(6, time.Now().Add(-48*time.Hour)), databaseURL: pgtest.NewURL(t)}
	for range subscribers {
		sub := st.account.Subscribe(stripesim.VersionBasil)
		st.account.Wait(time.Second)
		sub.Activate()
		st.account.Wait(time.Minute)
	}
	st.api = stripesim.NewAPI(st.account)
	api := httptest.NewServer(st.api)
	t.Cleanup(api.Close)
	st.env = environ("DATABASE_URL="+st.databaseURL, "STRIPE_API_KEY=sk_test_of_a_test", "STRIPE_API_BASE="+api.URL, "STRIPE_WEBHOOK_SECRET="+hooktest.Secret)
	st.server = serve(t, st.env, args...)
	return st
}

func (st *station) to() string { return st.url + "/webhooks/stripe" }

// expect runs a command, and checks its exit code and texts in its output.
func (st *station) expect(t *testing.T, code int, command string, texts ...string) result {
	t.Helper()
	r := run(t, st.env, "", strings.Fields(strings.ReplaceAll(command, "URL", st.to()))...)
	for _, text := range texts {
		if !strings.Contains(r.stdout+r.stderr, text) {
			t.Errorf("%s does not say %q: %s", command, text, r)
		}
	}
	if r.code != code {
		t.Errorf("%s: want exit %d, got %s", command, code, r)
	}
	if strings.Contains(r.stdout+r.stderr, hooktest.Secret) || strings.Contains(r.stdout+r.stderr, "sk_test_of_a_test") {
		t.Errorf("%s shows a secret: %s", command, r)
	}
	return r
}

// lines returns the objects of an output in JSON.
func lines(t *testing.T, r result) []map[string]any {
	t.Helper()
	var all []map[string]any
	for line := range strings.Lines(r.stdout) {
		var one map[string]any
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			t.Errorf("%q is no JSON: %v", line, err)
		}
		all = append(all, one)
	}
	return all
}

func keys(t *testing.T, object map[string]any, want ...string) {
	t.Helper()
	for _, key := range want {
		if _, ok := object[key]; !ok {
			t.Errorf("there is no %s in %v", key, object)
		}
	}
}

// A parked event is listed as parked. The program refuses to apply it with --here, since it does not contain the handler
// that parked it.
func TestParkedEvent(t *testing.T) {
	t.Parallel()
	st := newStation(t, 1)
	pool := pgtest.Connect(t, st.databaseURL)
	st.expect(t, 0, "failures --state parked", "No parked events.")
	ev := st.account.Events[0]
	pgtest.Exec(t, pool, `INSERT INTO stripe_webhook_events (event_id, event_type, outcome, livemode) VALUES ($1, $2, 'parked', false)`, ev.ID, ev.Type)
	pgtest.Exec(t, pool, `INSERT INTO stripe_webhook_failures (event_id, event_type, last_error, payload, state)
		VALUES ($1, $2, 'handler of x: parked: nobody knows the customer', $3, 'parked')`, ev.ID, ev.Type, json.RawMessage(ev.Body))
	for _, command := range []string{"failures", "failures --state parked", "events --outcome parked", "events " + ev.ID} {
		st.expect(t, 0, command, "parked", ev.ID)
	}
	st.expect(t, 0, "failures --state failing", "No failing events.")
	st.expect(t, 2, "failures --state lost", "use failing, parked or dismissed")
	st.expect(t, 0, "replay --all-failed --to URL", "No failing events.")
	st.expect(t, 2, "replay --here "+ev.ID, "was parked by a handler of the application", "--to URL")
	st.expect(t, 0, "replay --to URL "+ev.ID, "processed")
	st.expect(t, 0, "failures", "No failing events.")
}

func TestFailuresAndReplay(t *testing.T) {
	t.Parallel()
	st := newStation(t, 4)
	pool := pgtest.Connect(t, st.databaseURL)
	events := st.account.Events
	st.expect(t, 0, "events", "No events.")
	st.expect(t, 0, "failures", "No failing events.")
	st.expect(t, 0, "replay --all-failed --to URL", "No failing events.")
	sub := st.account.Subscriptions[0].ID()
	pgtest.Exec(t, pool, `ALTER TABLE subscriptions ADD CONSTRAINT wrong CHECK (id <> '`+sub+`')`)
	st.server.expect(t, events[0].Body, 500, "")
	st.server.expect(t, events[0].Body, 500, "")
	st.server.expect(t, events[1].Body, 200, webhooks.OutcomeIgnored) // an invoice
	st.server.expect(t, events[3].Body, 200, webhooks.OutcomeProcessed)

	st.expect(t, 0, "failures", events[0].ID, "customer.subscription.created", "2", "violates check constraint")
	failures := lines(t, st.expect(t, 0, "failures --json"))
	if len(failures) != 1 || failures[0]["event_id"] != events[0].ID || failures[0]["attempts"] != 2.0 {
		t.Errorf("the failures are %v", failures)
	}
	keys(t, failures[0], "event_type", "first_failed_at", "last_failed_at", "last_error", "payload")
	st.expect(t, 0, "events "+events[0].ID, "failing: the event has not taken effect", "2 times", "created", "violates check constraint")
	list := lines(t, st.expect(t, 0, "events --json"))
	if len(list) != 2 || list[0]["event_id"] != events[3].ID || list[1]["outcome"] != "ignored" {
		t.Errorf("the events are %v", list)
	}
	keys(t, list[0], "event_type", "processed_at", "event_created_at", "livemode", "account_id", "api_version", "object_id")
	for filter, n := range map[string]int{
		"--type invoice.*": 1, "--type customer.subscription.created": 1, "--outcome processed": 1, "--object " + events[3].ObjectID: 1,
		"--since 1h": 2, "--since 30d --limit 1": 1, "--before " + events[3].ID: 1, "--outcome stale": 0,
	} {
		if got := len(lines(t, st.expect(t, 0, "events --json "+filter))); got != n {
			t.Errorf("events %s lists %d, want %d", filter, got, n)
		}
	}

	st.expect(t, 2, "replay "+events[0].ID, "--to URL", "--here")
	st.expect(t, 1, "replay --here --mode live "+events[0].ID, "no handler ran", "not applied, 1 of 1")
	st.expect(t, 0, "replay --here --api-base http://127.0.0.1:1/ "+events[3].ID, "duplicate") // without a request to Stripe
	st.expect(t, 1, "replay "+events[0].ID+" --to URL", "not applied, 1 of 1: "+events[0].ID)
	// Replay reports that an ignored event has no handler, with --to and with --here.
	st.expect(t, 1, "replay "+events[1].ID+" --to URL", "not applied, 1 of 1: "+events[1].ID, "none is registered for "+events[1].Type+" in the receiver at "+st.to())
	st.expect(t, 1, "replay "+events[1].ID+" --here", "none is registered for "+events[1].Type+" in this process")
	for _, where := range []string{"--to URL", "--here"} {
		ignored := lines(t, st.expect(t, 1, "replay --json "+events[1].ID+" "+where))
		if text, _ := ignored[0]["error"].(string); len(ignored) != 1 || ignored[0]["outcome"] != nil || !strings.Contains(text, "none is registered for ") {
			t.Errorf("an ignored event without a handler is %v", ignored)
		}
	}
	pgtest.Exec(t, pool, `ALTER TABLE subscriptions DROP CONSTRAINT wrong`)
	st.expect(t, 0, "replay --all-failed --to URL", events[0].ID+"  processed")
	again := lines(t, st.expect(t, 0, "replay --json --here "+events[0].ID+" "+events[6].ID))
	if len(again) != 2 || again[0]["outcome"] != "duplicate" || again[1]["outcome"] != "processed" {
		t.Errorf("replayed again they are %v", again)
	}
	bad := lines(t, st.expect(t, 1, "replay --json --here evt_nobody_has", "No such event"))
	if len(bad) != 1 || bad[0]["event_id"] != "evt_nobody_has" || bad[0]["error"] == nil {
		t.Errorf("an unknown event is %v", bad)
	}
	st.expect(t, 0, "failures", "No failing events.")
	st.expect(t, 0, "events "+events[0].ID, "took effect", "processed", "3 times", "applied since", "after it was created", sub)
	detail := lines(t, st.expect(t, 0, "events --json "+events[0].ID))
	if detail[0]["outcome"] != "processed" || detail[0]["failure"] == nil {
		t.Errorf("the event's detail is %v", detail)
	}
	st.expect(t, 1, "events evt_nobody_has", "neither in the ledger nor among the failures")
}

// Reconcile reads several pages while requests are refused or hang, and delivers to the running receiver.
func TestReconcileCommand(t *testing.T) {
	t.Parallel()
	st := newStation(t, 80) // 3 events each: three pages
	all := len(st.account.Events)
	st.server.expect(t, st.account.Events[0].Body, 200, webhooks.OutcomeProcessed)
	st.expect(t, 2, "reconcile --since 1h", "--to URL", "--here")
	st.expect(t, 2, "reconcile --here", "--since is missing")
	st.expect(t, 2, "reconcile --since 31d --here", "30 days")
	st.expect(t, 2, "reconcile --since soon --here", "72h, 30d")
	dry := lines(t, st.expect(t, 0, "reconcile --since 72h --dry-run --json"))
	if sum := fmt.Sprint(dry[len(dry)-1]); sum != fmt.Sprintf("map[applied:0 failed:0 listed:%d missing:%d]", all, all-1) || len(dry) != all {
		t.Errorf("the dry run is %s after %d lines", sum, len(dry))
	}
	st.api.Fail(stripesim.Fault{Status: 429, RetryAfter: time.Second, Path: "/v1/events", Pass: 1},
		stripesim.Fault{Hang: true, Path: "/v1/events"}, stripesim.Fault{Status: 500, Path: "/v1/events"})
	r := st.expect(t, 0, "reconcile --since 72h --json --api-timeout 1s --to URL", "retrying a request to Stripe")
	ran := lines(t, r)
	if sum := fmt.Sprint(ran[len(ran)-1]); sum != fmt.Sprintf("map[applied:%d failed:0 listed:%d missing:%d]", all-1, all, all-1) {
		t.Errorf("it is %s", sum)
	}
	keys(t, ran[0], "event_id", "outcome", "event_type")
	bad := st.account.Subscriptions[7].ID() // a subscription whose events fail permanently
	pgtest.Exec(t, pgtest.Connect(t, st.databaseURL), `DELETE FROM stripe_webhook_events`)
	pgtest.Exec(t, pgtest.Connect(t, st.databaseURL), `DELETE FROM subscriptions WHERE id = '`+bad+`'`)
	pgtest.Exec(t, pgtest.Connect(t, st.databaseURL), `ALTER TABLE subscriptions ADD CONSTRAINT wrong CHECK (id <> '`+bad+`')`)
	st.expect(t, 1, "reconcile --since 72h --here", "160 listed, 160 missing, 158 applied, 2 failed", "violates check constraint")
	pgtest.Exec(t, pgtest.Connect(t, st.databaseURL), `ALTER TABLE subscriptions DROP CONSTRAINT wrong`)
	st.expect(t, 0, "replay --all-failed --here", "processed")
	st.expect(t, 0, "reconcile --since 72h --here", fmt.Sprintf("%d listed, 0 missing, 0 applied, 0 failed", all-80)) // the invoices have no handler
	st.expect(t, 0, "verify", "80 checked, 0 drifted, 0 fixed")
}

// serve --reconcile-every applies missing events, and counts them in its metrics.
func TestServeReconciles(t *testing.T) {
	t.Parallel()
	st := newStation(t, 5, "--reconcile-every", "1h")
	pgtest.Await(t, "a reconciliation is completed", func() bool {
		_, body := st.get(t, "/metrics")
		return strings.Contains(body, `stripeonce_reconcile_runs_total{result="completed"} 1`)
	})
	_, body := st.get(t, "/metrics")
	for _, metric := range []string{"stripeonce_reconcile_missing_events_total 10", `stripeonce_reconcile_events_total{result="applied"} 10`} {
		if !strings.Contains(body, metric+"\n") {
			t.Errorf("/metrics does not say %s", metric)
		}
	}
	st.expect(t, 0, "verify", "5 checked, 0 drifted")
	if code := st.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("it stops with %d:\n%s", code, st.text())
	}
}

// Verify names each difference, and --fix also imports.
func TestVerifyCommand(t *testing.T) {
	t.Parallel()
	st := newStation(t, 6)
	st.expect(t, 1, "verify", "is missing here", "6 checked, 6 drifted, 0 fixed", "6 subscriptions different from Stripe's")
	st.api.Fail(stripesim.Fault{Status: 429, RetryAfter: time.Second, Path: "/v1/subscriptions", Pass: 1},
		stripesim.Fault{Hang: true, Path: "/v1/subscriptions"})
	st.expect(t, 1, "verify --api-timeout 1s", "6 checked, 6 drifted, 0 fixed", "retrying a request to Stripe")
	st.expect(t, 2, "verify --fix", "--here")
	st.expect(t, 2, "verify --fix --to URL", "unknown flag: --to")
	st.expect(t, 0, "verify --fix --here --no-hooks", "6 checked, 6 drifted, 6 fixed")
	id := st.account.Subscriptions[2].ID()
	pgtest.Exec(t, pgtest.Connect(t, st.databaseURL), `UPDATE subscriptions SET status = 'past_due' WHERE id = $1`, id)
	st.expect(t, 1, "verify", id+`  status: here "past_due", at Stripe "active"`)
	drift := lines(t, st.expect(t, 1, "verify --json"))
	if fmt.Sprint(drift) != fmt.Sprintf("[map[field:status id:%s local:past_due stripe:active type:subscription] map[checked:6 drifted:1 fixed:0]]", id) {
		t.Errorf("the drift is %v", drift)
	}
	fixed := lines(t, st.expect(t, 0, "verify --fix --here --json"))
	if fmt.Sprint(fixed[1]) != "map[checked:6 drifted:1 fixed:1]" {
		t.Errorf("after the fix it is %v", fixed)
	}
	st.api.Fail(stripesim.Fault{Status: 401})
	st.expect(t, 1, "verify", "Stripe answers 401")
}

func TestEndpointCommand(t *testing.T) {
	t.Parallel()
	st := newStation(t, 0)
	const url = "https://example.com/webhooks/stripe"
	endpoint := func(code int, command string, texts ...string) result {
		t.Helper()
		r := run(t, append(st.env, "DATABASE_URL="), "", strings.Fields("endpoint "+command)...) // it needs no database
		for _, text := range texts {
			if !strings.Contains(r.stdout+r.stderr, text) {
				t.Errorf("endpoint %s does not say %q: %s", command, text, r)
			}
		}
		if r.code != code {
			t.Errorf("endpoint %s: want exit %d, got %s", command, code, r)
		}
		return r
	}
	endpoint(1, "", "no webhook endpoint exists at Stripe: create one with --create URL")
	endpoint(0, "--dry-run --create "+url, "would be created", "customer.subscription.deleted")
	endpoint(2, "--dry-run", "requires --create or --update")
	created := endpoint(0, "--create "+url, "secret", "whsec_", "not shown again")
	if strings.Contains(created.stderr, "whsec_") {
		t.Error("the secret is on standard error")
	}
	endpoint(2, "--create "+url, "already", "--update")
	endpoint(0, "", url, "enabled", "customer.subscription.paused")
	st.api.AddEndpoint(stripesim.Endpoint{URL: "https://other.example.com/", EnabledEvents: []string{"customer.subscription.created", "charge.refunded"}, Disabled: true})
	endpoint(1, "--json")
	endpoint(1, "--url https://other.example.com/", "disabled", "missing", "unhandled    charge.refunded")
	endpoint(2, "--update", "choose one with --url, of we_", "(https://other.example.com/), we_", "("+url+")")
	endpoint(0, "--url https://other.example.com/ --update --dry-run", "would be updated")
	endpoint(1, "--url https://other.example.com/")
	endpoint(0, "--url https://other.example.com/ --update", "updated", "unhandled    charge.refunded")
	endpoint(0, "--url https://other.example.com/ --update --here", "updated")
	// Event destinations beside them.
	endpoint(0, "--dry-run --thin --create "+url, "would be created", "thin events of an event destination", "v1.customer.subscription.deleted")
	endpoint(0, "--thin --connect --create "+url, "created", "@self, @accounts", "whsec_")
	endpoint(2, "--thin --create "+url, "already")
	endpoint(0, "--url "+url, "ed_test_", "we_", "v1.customer.subscription.paused")
	endpoint(2, "--url "+url+" --update", "there are several endpoints")
	endpoint(0, "--url "+url+" --thin --update --here", "updated")
	st.api.AddDestination(stripesim.Destination{ID: "ed_old", URL: "https://thin.example.com/", Payload: "thin", Status: "disabled", Types: []string{"v1.charge.refunded"}})
	endpoint(1, "--url ed_old", "disabled", "missing", "v1.customer.subscription.created", "unhandled    v1.charge.refunded")
	endpoint(0, "--url ed_old --update", "updated", "unhandled    v1.charge.refunded")
	endpoint(0, "--url ed_old", "enabled")
	r := endpoint(0, "--url https://other.example.com/ --json")
	if list := lines(t, r); fmt.Sprintf("%v %v %v", list[0]["unhandled"], list[0]["missing"], list[0]["status"]) != "[] [] enabled" || strings.Contains(r.stdout, "whsec_") {
		t.Errorf("in the end it is %s", r)
	}
}

func TestPruneCommand(t *testing.T) {
	t.Parallel()
	st := newStation(t, 0)
	pgtest.Exec(t, pgtest.Connect(t, st.databaseURL), `INSERT INTO stripe_webhook_events (event_id, event_type, processed_at, outcome, livemode)
		SELECT 'evt_' || n, 'a.b', now() - interval '1 day' * n, 'processed', false FROM generate_series(1, 100) AS n`)
	st.expect(t, 2, "prune --older-than 34d", "30", "--force")
	st.expect(t, 2, "prune", "--older-than is missing")
	if r := st.expect(t, 0, "prune --older-than 90d --json --batch 3"); strings.TrimSpace(r.stdout) != `{"deleted":11}` {
		t.Error(r)
	}
	st.expect(t, 0, "prune --older-than 35d", "55 rows of the ledger deleted")
	st.expect(t, 0, "prune --older-than 1h --force", "34 rows")
}

// An interrupted command says so, and how to continue.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	st := newStation(t, 3)
	st.api.Fail(stripesim.Fault{Hang: true, Path: "/v1/events"})
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "reconcile", "--since", "72h", "--here")
	cmd.Env = st.env
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pgtest.Await(t, "the command has requested events", func() bool {
		for _, req := range st.api.Requests() {
			if req.URL.Path == "/v1/events" {
				return true
			}
		}
		return false
	})
	_ = cmd.Process.Signal(syscall.SIGINT)
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(stderr.String(), "interrupted") {
		t.Errorf("it ends with %v: %s", err, stderr.String())
	}
}

// Without payloads a failure still has its error, and replay fetches the event from Stripe.
func TestDropPayloads(t *testing.T) {
	t.Parallel()
	st := newStation(t, 1, "--drop-payloads")
	pool := pgtest.Connect(t, st.databaseURL)
	pgtest.Exec(t, pool, `ALTER TABLE subscriptions ADD CONSTRAINT wrong CHECK (status <> 'incomplete')`)
	st.server.expect(t, st.account.Events[0].Body, 500, "")
	failures := lines(t, st.expect(t, 0, "failures --json"))
	if len(failures) != 1 || failures[0]["payload"] != nil {
		t.Errorf("the failures are %v", failures)
	}
	pgtest.Exec(t, pool, `ALTER TABLE subscriptions DROP CONSTRAINT wrong`)
	st.expect(t, 0, "events "+st.account.Events[0].ID, "payload", "not stored")
	st.expect(t, 0, "replay --all-failed --to URL", "processed")
}

// On a database that lacks a migration, the commands name it.
func TestCommandsWithoutMigration(t *testing.T) {
	t.Parallel()
	env := environ("DATABASE_URL=" + pgtest.NewEmptyURL(t))
	for _, command := range []string{"events", "failures", "prune --older-than 90d", "replay --here evt_1"} {
		r := run(t, env, "", strings.Fields(command)...)
		if all := r.stdout + r.stderr; r.code != 1 || !strings.Contains(all, "20261126000001_create_stripe_webhook_events") && !strings.Contains(all, "does not exist") {
			t.Errorf("%s: %s", command, r)
		}
	}
	if r := run(t, env, "", "events"); !strings.Contains(r.stderr, "run 'stripeonce migrate'") || strings.Contains(r.stdout, "rows") {
		t.Errorf("events: %s", r)
	}
}
