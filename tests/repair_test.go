package tests

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/schema"
	"github.com/pook/stripeonce/webhooks"
)

// breakSubscriptions makes every event of a subscription fail until repair is called.
func (st *station) breakSubscriptions(t *testing.T) (repair func()) {
	t.Helper()
	pool := pgtest.Connect(t, st.databaseURL)
	pgtest.Exec(t, pool, `ALTER TABLE subscriptions ADD CONSTRAINT wrong CHECK (customer_id = 'nobody') NOT VALID`)
	return func() {
		t.Helper()
		pgtest.Exec(t, pool, `ALTER TABLE subscriptions DROP CONSTRAINT wrong`)
	}
}

// failing delivers the events of subscriptions, which fail, and returns their ids.
func (st *station) failing(t *testing.T) (ids []string) {
	t.Helper()
	for _, ev := range st.account.Events {
		if strings.HasPrefix(ev.Type, "customer.subscription.") {
			st.server.expect(t, ev.Body, 500, "")
			ids = append(ids, ev.ID)
		}
	}
	return ids
}

// Events that need not be applied are dismissed, and no longer fail. replay applies one by its id.
func TestDismissCommand(t *testing.T) {
	t.Parallel()
	st := newStation(t, 3)
	repair := st.breakSubscriptions(t)
	ids := st.failing(t)
	applied := st.account.Events[1].ID // an invoice: ignored, and not failed
	st.server.expect(t, st.account.Events[1].Body, 200, webhooks.OutcomeIgnored)
	st.expect(t, 2, "failures dismiss "+ids[0], "--reason is missing")
	st.expect(t, 2, "failures dismiss --reason x", "name the events to dismiss, or a group with --group")
	st.expect(t, 2, "failures dismiss --reason x "+applied, "refused: "+applied+" has no failure record: only an event that failed can be dismissed")
	st.expect(t, 2, "failures dismiss --reason x evt_nobody_has", "is not in the ledger")
	st.expect(t, 0, "failures dismiss --reason by-hand "+ids[0], ids[0]+"  dismissed")
	r := st.expect(t, 2, "failures dismiss --reason by-hand --json "+ids[1]+" "+applied+" "+ids[2], "1 of 3 events not dismissed, the first: refused: "+applied)
	list := lines(t, r)
	if text, _ := list[1]["error"].(string); len(list) != 3 || fmt.Sprint(list[0]) != fmt.Sprintf("map[event_id:%s state:dismissed]", ids[1]) || !strings.Contains(text, "no failure record") {
		t.Errorf("the lines are %v", list)
	}
	st.expect(t, 0, "failures --state dismissed", ids[0], "(dismissed: by-hand)", "violates check constraint")
	st.expect(t, 0, "events "+ids[0], "parked", "dismissed: by-hand; 'replay EVENT' applies it")
	if left := lines(t, st.expect(t, 0, "failures --json")); len(left) != len(ids)-3 {
		t.Errorf("%d failures are left of %d", len(left), len(ids))
	}
	repair()
	st.expect(t, 0, "replay --all-failed --to URL", "processed")
	st.expect(t, 0, "reconcile --since 72h --here", " 0 missing, 0 applied, 0 failed\n")
	st.expect(t, 1, "verify", "is missing here")
	st.expect(t, 0, "replay --here "+ids[0], ids[0]+"  processed")
	if r := st.expect(t, 0, "failures --state dismissed"); strings.Contains(r.stdout, ids[0]) || !strings.Contains(r.stdout, ids[1]) {
		t.Errorf("after a replay the dismissed events are %s", r)
	}
	st.expect(t, 2, "failures dismiss --reason x "+ids[0], "has taken effect (processed): there is nothing to dismiss")
	// It failed in a handler of an application, which the program does not contain.
	pgtest.Exec(t, pgtest.Connect(t, st.databaseURL), `UPDATE stripe_webhook_failures SET receiver = 'host' WHERE event_id = $1`, ids[1])
	st.expect(t, 2, "replay --here "+ids[1], "is dismissed, after it failed in a handler of the application", "--to URL")
	st.expect(t, 0, "replay --to URL "+ids[1], "processed")
}

// A group of failures is dismissed by its key, and recorded as a run. What is left of another group still fails.
func TestDismissGroupCommand(t *testing.T) {
	t.Parallel()
	st := newStation(t, 3)
	st.breakSubscriptions(t)
	all := len(st.failing(t))
	groups := lines(t, st.expect(t, 0, "failures --group --json"))
	key, size := groups[0]["key"].(string), int(groups[0]["count"].(float64))
	dismiss := "failures dismiss --reason by-hand --group " + key
	st.expect(t, 2, dismiss+" evt_1", "events and --group are mutually exclusive: name events, or a group")
	st.expect(t, 2, "failures dismiss --reason x --state parked evt_1", "--state and --account require --group")
	st.expect(t, 2, dismiss+" --state dismissed", "use failing or parked")
	st.expect(t, 0, dismiss+" --state parked", "No parked events match.")
	r := st.expect(t, 0, dismiss, groups[0]["event_id"].(string)+"  dismissed\n", fmt.Sprintf("\n%d events dismissed\n", size))
	if n := strings.Count(r.stdout, "  dismissed\n"); n != size {
		t.Errorf("%d events are dismissed, want %d: %s", n, size, r)
	}
	if left := lines(t, st.expect(t, 0, "failures --json")); len(left) != all-size {
		t.Errorf("%d failures are left of %d", len(left), all)
	}
	st.expect(t, 0, dismiss, "No failing events match.")
	st.expect(t, 0, "runs --kind dismiss", fmt.Sprintf("dismissed %d, failed 0, skipped 0", size))
	other := lines(t, st.expect(t, 0, "failures dismiss --reason x --json --group "+groups[1]["key"].(string)))
	if len(other) != all-size || other[0]["state"] != "dismissed" {
		t.Errorf("the lines are %v", other)
	}
}

// Failures are filtered, grouped by their cause, and replayed by filter. A dry run applies nothing.
func TestFailuresByCause(t *testing.T) {
	t.Parallel()
	st := newStation(t, 3)
	repair := st.breakSubscriptions(t)
	ids := st.failing(t)
	all := len(ids)
	st.expect(t, 0, "failures --type customer.*", ids[0])
	st.expect(t, 0, "failures --type invoice.*", "No failing events match.")
	st.expect(t, 0, "failures --since 1h", ids[0])
	st.expect(t, 0, "failures --limit 1", ids[all-1])
	st.expect(t, 0, "failures "+ids[0], "failing: the event has not taken effect", "1 time", "violates check constraint")
	detail := lines(t, st.expect(t, 0, "failures --json "+ids[0]))
	if failure, _ := detail[0]["failure"].(map[string]any); failure["event_id"] != ids[0] || failure["receiver"] != "stripeonce" || failure["next_retry_at"] == nil {
		t.Errorf("the failure is %v", detail)
	}
	st.expect(t, 1, "failures evt_nobody_has", "neither in the ledger nor among the failures")
	groups := lines(t, st.expect(t, 0, "failures --group --json"))
	if len(groups) != 2 || groups[0]["event_type"] == groups[1]["event_type"] || groups[0]["count"].(float64)+groups[1]["count"].(float64) != float64(all) {
		t.Fatalf("the groups are %v", groups)
	}
	keys(t, groups[0], "key", "event_type", "error", "count", "parked", "first_failed_at", "last_failed_at", "event_id")
	if text := groups[0]["error"].(string); !strings.Contains(text, `store subscription sub_…: ERROR: new row for relation "subscriptions" violates check constraint "wrong" (SQLSTATE 23514)`) {
		t.Errorf("the group's error is %s", text)
	}
	key := groups[1]["key"].(string)
	st.expect(t, 0, "failures --group", "GROUP", "COUNT", key, "sub_…", groups[1]["event_id"].(string))
	st.expect(t, 0, "failures --group --limit 1", "1 group more; use a higher --limit")
	if list := lines(t, st.expect(t, 0, "failures --json --group "+key)); float64(len(list)) != groups[1]["count"].(float64) {
		t.Errorf("in the group are %d events, want %v", len(list), groups[1]["count"])
	}
	customer := customerOf(t, st.account.Events[0].Body)
	ofCustomer := lines(t, st.expect(t, 0, "failures --json --customer "+customer))
	if len(ofCustomer) != all/3 {
		t.Errorf("of %s there are %d of %d failures", customer, len(ofCustomer), all)
	}

	dry := st.expect(t, 0, "replay --group "+key+" --dry-run", fmt.Sprintf("%v events would be replayed", groups[1]["count"]), "failing for")
	if strings.Contains(dry.stdout, "processed") {
		t.Errorf("the dry run is %s", dry)
	}
	st.expect(t, 0, "replay --dry-run "+ids[0]+" "+st.account.Events[1].ID, "failing for", "it would be fetched from Stripe")
	candidates := lines(t, st.expect(t, 0, "replay --all-failed --dry-run --json"))
	if len(candidates) != all || candidates[0]["event_id"] != ids[0] {
		t.Errorf("the dry run has %v", candidates)
	}
	keys(t, candidates[0], "event_id", "event_type", "state", "first_failed_at", "last_error")
	st.expect(t, 0, "replay --type invoice.* --to URL", "No failing events match.")
	st.expect(t, 2, "replay --type invoice.*", "--to URL", "--here")
	// Not all ids are named where many fail again.
	r := st.expect(t, 1, "replay --all-failed --to URL", fmt.Sprintf("not applied, %d of %d: %s, %s, %s and %d more: 'failures' lists those that failed; the first: ", all, all, ids[0], ids[1], ids[2], all-3))
	if n := strings.Count(r.stderr, "evt_"); n != 3 {
		t.Errorf("the last line names %d events: %s", n, r.stderr)
	}
	repair()
	st.expect(t, 0, "replay --customer "+customer+" --to URL", "processed")
	if left := lines(t, st.expect(t, 0, "failures --json")); len(left) != all-all/3 {
		t.Errorf("%d failures are left of %d", len(left), all)
	}
	st.expect(t, 0, "replay --since 1h --here", "processed")
	st.expect(t, 0, "failures --group", "No failing events.")
}

func customerOf(t *testing.T, body []byte) string {
	t.Helper()
	ev, err := webhooks.ParseEvent(body)
	if err != nil {
		t.Fatal(err)
	}
	return ev.CustomerID()
}

// Ignored events are replayed by filter, and a customer's events are found by its objects.
func TestIgnoredAndCustomerCommands(t *testing.T) {
	t.Parallel()
	st := newStation(t, 2)
	for _, ev := range st.account.Events {
		if strings.HasPrefix(ev.Type, "invoice.") {
			st.server.expect(t, ev.Body, 200, webhooks.OutcomeIgnored)
		} else {
			st.server.expect(t, ev.Body, 200, webhooks.OutcomeProcessed)
		}
	}
	customer := customerOf(t, st.account.Events[0].Body)
	sub := st.account.Subscriptions[0].ID()
	events := lines(t, st.expect(t, 0, "events --json --customer "+customer))
	if len(events) != 2 || events[0]["object_id"] != sub || events[1]["object_id"] != sub {
		t.Errorf("its events are %v", events)
	}
	st.expect(t, 0, "events --customer cus_nobody", "No events.", "no subscription and no mirrored object of cus_nobody is known")
	st.expect(t, 0, "replay --outcome ignored --type invoice.* --dry-run", "2 events would be replayed", "ignored")
	st.expect(t, 0, "replay --outcome ignored --type charge.* --here", "No ignored events match.")
	asked := len(st.api.Requests())
	st.expect(t, 1, "replay --outcome ignored --since 1h --here", "not applied, 2 of 2", "none is registered for invoice.")
	if n := len(st.api.Requests()) - asked; n != 0 {
		t.Errorf("events that have no handler are fetched with %d requests", n)
	}
	r := st.expect(t, 0, "replay --outcome ignored --type invoice.paid --here --mirror invoice", "processed")
	if strings.Count(r.stdout, "processed") != 2 {
		t.Errorf("with a handler the replay is %s", r)
	}
	if events := lines(t, st.expect(t, 0, "events --json --customer "+customer)); len(events) != 3 {
		t.Errorf("with a mirrored invoice its events are %v", events)
	}
}

// reconcile and replay stop at a receiver that is down or has another secret, at once, and say how many events are left.
func TestReceiverIsDown(t *testing.T) {
	t.Parallel()
	st := newStation(t, 4)
	repair := st.breakSubscriptions(t)
	n := len(st.failing(t))
	repair()
	to := st.to()
	other := append(st.env, "STRIPE_WEBHOOK_SECRET=whsec_of_another")
	for _, command := range []string{"replay --all-failed", "reconcile --since 72h --include-waiting --type customer.*"} {
		began := time.Now()
		r := run(t, other, "", append(strings.Fields(command), "--to", to)...)
		if want := fmt.Sprintf("(stopped: %d events are left)", n); r.code != 1 || !strings.Contains(r.stderr, "rejects the signature: it answers 400") ||
			!strings.Contains(r.stderr, "STRIPE_WEBHOOK_SECRET") || !strings.Contains(r.stderr, want) {
			t.Errorf("%s with another secret: %s", command, r)
		}
		r = run(t, st.env, "", append(strings.Fields(command), "--to", "http://127.0.0.1:1/webhooks/stripe")...)
		if want := fmt.Sprintf("(stopped: %d events are left)", n); r.code != 1 || !strings.Contains(r.stderr, "no receiver answers at http://127.0.0.1:1/webhooks/stripe: connection refused: start it") ||
			!strings.Contains(r.stderr, want) {
			t.Errorf("%s where nothing listens: %s", command, r)
		}
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("%s takes %s", command, took)
		}
	}
	r := st.expect(t, 0, "reconcile --since 72h --type customer.* --to URL", fmt.Sprintf("%d listed, 0 missing, 0 applied, 0 failed\n%d failing events left to retries", n, n))
	if strings.Contains(r.stdout, "processed") {
		t.Errorf("events that wait are applied: %s", r)
	}
	st.expect(t, 0, "reconcile --since 72h --type customer.* --to URL --json", "failing events left to retries")
	st.expect(t, 0, "reconcile --since 72h --type customer.* --to URL --include-waiting", fmt.Sprintf("%d listed, %d missing, %d applied, 0 failed", n, n, n))
}

// A table that cannot be written is an error, as any output is.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("there is no /dev/full")
	}
	defer full.Close()
	databaseURL := pgtest.NewURL(t)
	pgtest.Exec(t, pgtest.Connect(t, databaseURL), `INSERT INTO stripe_webhook_events (event_id, event_type, outcome, livemode) VALUES ('evt_1', 'a.b', 'processed', false)`)
	for _, args := range []string{"events", "events --json", "events evt_1", "failures", "replay --all-failed --here", "migrate status", "version", "events --help"} {
		ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
		defer cancel()
		cmd := exec.CommandContext(ctx, program, strings.Fields(args)...)
		cmd.Env, cmd.Stdout = environ("DATABASE_URL="+databaseURL), full
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Run(); err == nil || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(stderr.String(), "no space left") {
			t.Errorf("%s: %v, %s", args, err, stderr.String())
		}
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	migrations := schema.Migrations()
	newest := migrations[len(migrations)-1].Version
	text := run(t, environ(), "", "version")
	if flag := run(t, environ(), "", "--version"); text.code != 0 || !strings.HasPrefix(text.stdout, "stripeonce devel (commit ") || !strings.Contains(text.stdout, ", go1.") ||
		!strings.HasSuffix(text.stdout, ", schema "+newest+")\n") || flag.stdout != text.stdout {
		t.Errorf("version: %s\n--version: %s", text, flag)
	}
	keys(t, lines(t, run(t, environ(), "", "version", "--json"))[0], "version", "commit", "go_version", "schema_version")
}

// Times are printed with their zone.
func TestTimesHaveAZone(t *testing.T) {
	t.Parallel()
	databaseURL := pgtest.NewURL(t)
	pgtest.Exec(t, pgtest.Connect(t, databaseURL), `INSERT INTO stripe_webhook_events (event_id, event_type, processed_at, outcome, livemode) VALUES ('evt_1', 'a.b', '2026-01-02 03:04:05+00', 'processed', false)`)
	for zone, want := range map[string]string{"UTC": "2026-01-02 03:04:05Z", "Asia/Kolkata": "2026-01-02 08:34:05+05:30"} {
		for _, command := range []string{"events", "events evt_1"} {
			if r := run(t, environ("DATABASE_URL="+databaseURL, "TZ="+zone), "", strings.Fields(command)...); !strings.Contains(r.stdout, want+" ") {
				t.Errorf("%s in %s: %s", command, zone, r)
			}
		}
	}
}

// In JSON, the log has durations in seconds. /metrics says which build it is.
func TestServeLogsSeconds(t *testing.T) {
	t.Parallel()
	began := time.Now()
	s := serve(t, environ("DATABASE_URL="+pgtest.NewURL(t), "LOG_FORMAT=json"))
	s.expect(t, subscriptionEvent("evt_1", 1, "active"), 200, webhooks.OutcomeProcessed)
	pgtest.Await(t, "the delivery is logged", func() bool { return strings.Contains(s.text(), `"event_id":"evt_1"`) })
	found := false
	for line := range strings.Lines(s.text()) {
		var entry struct {
			Msg  string
			Took any
		}
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Errorf("%q is no JSON: %v", line, err)
		}
		if took, number := entry.Took.(float64); entry.Msg == "stripe delivery" {
			found = true
			if !number || took <= 0 || took > time.Since(began).Seconds() {
				t.Errorf("it took %v: %s", entry.Took, line)
			}
		}
	}
	if _, metrics := s.get(t, "/metrics"); !found || !strings.Contains(metrics, `stripeonce_build_info{commit="`) {
		t.Errorf("the log is %s\nand /metrics %s", s.text(), metrics)
	}
}

// A second signal ends the process at once.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	s := serve(t, environ("DATABASE_URL="+pgtest.NewURL(t), "STRIPE_WEBHOOK_SECRET="+hooktest.Secret), "--drain", "1h")
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	pgtest.Await(t, "it drains", func() bool {
		status, _ := s.get(t, "/readyz")
		return status == 503
	})
	pgtest.Await(t, "the second signal ends it", func() bool {
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-s.ended:
			return true
		default:
			return false
		}
	})
	if status, ok := s.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGTERM {
		t.Errorf("it ends with %s:\n%s", s.cmd.ProcessState, s.text())
	}
}
