package commands_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/pook/stripeonce/commands"
	"github.com/pook/stripeonce/internal/bulkapi"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/webhooks"
)

// desk is an application with the commands, a handler, and an account with invoices.
type desk struct {
	*hooktest.Host
	api     *bulkapi.API
	open    func(context.Context, bool) (*commands.Host, error)
	handle  func() error // of test.event
	operate *operations.Operator
}

func newDesk(t *testing.T, invoices int) *desk {
	t.Helper()
	d := &desk{api: &bulkapi.API{Invoices: invoices, Newest: time.Now().Add(-time.Hour), PerSecond: 7, Customers: 10}}
	server := httptest.NewServer(d.api)
	t.Cleanup(server.Close)
	h := webhooks.NewHandlers()
	projection := mirror.Register(h, &mirror.Config{Types: []string{"invoice"}, Logger: hooktest.NoLog()})
	webhooks.On(h, "test.event", func(context.Context, pgx.Tx, *webhooks.Event, *struct{}) error { return d.handle() })
	d.Host = hooktest.New(t, h, nil)
	d.operate = operations.New(d.Pool, nil)
	d.open = func(context.Context, bool) (*commands.Host, error) {
		return &commands.Host{Pool: d.Pool, Receiver: d.Receiver, Mirror: projection, APIKey: "sk_test_1", APIBase: server.URL}, nil
	}
	return d
}

// run runs a command, and returns its exit code and output.
func (d *desk) run(t *testing.T, line string) (code int, out string) {
	t.Helper()
	root := &cobra.Command{Use: "myapp"}
	root.AddCommand(commands.List(&commands.Config{Open: d.open, Logger: hooktest.NoLog()})...)
	var text bytes.Buffer
	root.SetArgs(strings.Fields(line))
	root.SetOut(&text)
	root.SetErr(&text)
	code = commands.Execute(t.Context(), root)
	return code, text.String()
}

func (d *desk) expect(t *testing.T, code int, line string, texts ...string) string {
	t.Helper()
	got, out := d.run(t, line)
	if got != code {
		t.Errorf("%s: exit %d, want %d\n%s", line, got, code, out)
	}
	for _, text := range texts {
		if !strings.Contains(out, text) {
			t.Errorf("%s does not say %q:\n%s", line, text, out)
		}
	}
	return out
}

// recorded returns the newest run.
func (d *desk) recorded(t *testing.T) operations.Run {
	t.Helper()
	runs, err := d.operate.Runs(t.Context(), operations.RunFilter{Limit: 1})
	if err != nil || len(runs) != 1 {
		t.Fatalf("the runs are %+v, %v", runs, err)
	}
	return runs[0]
}

// A replay has its row after the first event that it has applied, with how much is done and why it was run. runs shows it meanwhile.
func TestReplayIsRecordedWhileItRuns(t *testing.T) {
	t.Parallel()
	d := newDesk(t, 0)
	d.handle = func() error { return errors.New("broken") }
	for _, id := range []string{"evt_1", "evt_2"} {
		d.Expect(t, hooktest.Event(id, "test.event", 1, `{"id":"obj_`+id+`"}`), 500, "")
	}
	d.expect(t, 0, "runs", "No runs.")
	calls, meanwhile := 0, ""
	d.handle = func() error {
		if calls++; calls == 2 {
			meanwhile = d.expect(t, 0, "runs", "replay", "running 50%", "failed 0, tried 1")
			return errors.New("still broken")
		}
		return nil
	}
	d.expect(t, 1, "replay evt_1 evt_2 --reason ticket-42", "evt_2  failed: ")
	if meanwhile == "" {
		t.Fatal("the second event was not applied")
	}
	run := d.recorded(t)
	if run.State() != operations.RunFailed || run.Reason != "ticket-42" || run.CountsText() != "failed 1, tried 2" || run.ArgumentsText() != "all_failed false, events evt_1 evt_2" {
		t.Errorf("in the end it is %+v: %s, %s", run, run.ArgumentsText(), run.CountsText())
	}
	d.handle = func() error { return nil }
	d.expect(t, 0, "replay --all-failed --reason ticket-43", "evt_2  processed")
	d.expect(t, 0, "replay evt_1", "duplicate") // not recorded
	if run = d.recorded(t); run.Reason != "ticket-43" {
		t.Errorf("replay --all-failed leaves %+v", run)
	}
}

// verify --fix has its row as soon as it has found a difference, and none without one. backfill has the reason, too.
func TestVerifyIsRecordedWhileItRuns(t *testing.T) {
	t.Parallel()
	d := newDesk(t, 250)
	d.expect(t, 0, "backfill --type invoice --reason first", "250 checked, 250 drifted, 250 fixed")
	if run := d.recorded(t); run.Kind != operations.RunBackfill || run.Reason != "first" {
		t.Errorf("the backfill leaves %+v", run)
	}
	d.expect(t, 0, "verify --type invoice --fix --rate 1000000", "250 checked, 0 drifted")
	if run := d.recorded(t); run.Kind != operations.RunBackfill {
		t.Errorf("a verify that finds nothing leaves %+v", run)
	}
	var meanwhile *operations.Run
	d.api.Do(func() {
		d.api.Changed = map[string]map[string]any{bulkapi.ID("", 200): {"status": "void"}}
		d.api.OnList = func(int) int {
			if run := d.recorded(t); run.Kind == operations.RunVerify && meanwhile == nil {
				meanwhile = &run
			}
			return 0
		}
	})
	d.expect(t, 1, "verify --type invoice", "1 drifted, 0 fixed") // not recorded
	if meanwhile != nil {
		t.Errorf("verify without --fix leaves %+v", meanwhile)
	}
	d.expect(t, 0, "verify --type invoice --fix --reason ticket-42 --rate 1000000", "250 checked, 1 drifted, 1 fixed")
	if meanwhile == nil || meanwhile.State() != operations.RunRunning || meanwhile.CountsText() != "checked 100, drifted 1, fixed 1" {
		t.Errorf("after the first page it is %+v", meanwhile)
	}
	run := d.recorded(t)
	if run.ID != meanwhile.ID || run.State() != operations.RunFinished || run.CountsText() != "checked 250, drifted 1, fixed 1" || run.ArgumentsText() != "fix true, hooks true, types invoice" {
		t.Errorf("in the end it is %+v: %s, %s", run, run.ArgumentsText(), run.CountsText())
	}
}

// runs lists runs by kind, a page at a time, and shows one, also as JSON.
func TestRunsCommand(t *testing.T) {
	t.Parallel()
	d := newDesk(t, 0)
	o := operations.New(d.Pool, &operations.Config{Operator: "ada", Reason: "ticket 7"})
	o.RecordRun(t.Context(), &operations.RunRecord{
		Kind: operations.RunReconcile, Arguments: map[string]string{"since": "72h0m0s"}, Counts: map[string]int{"missing": 4}, Started: time.Now().Add(-time.Hour),
		Err: errors.New("Stripe answers \x1b[31m500"),
	})
	failed := d.recorded(t)
	o.RecordRun(t.Context(), &operations.RunRecord{Kind: operations.RunPrune, Counts: map[string]int{"deleted": 1000000}, Started: time.Now()})
	d.expect(t, 0, "runs", "RUN", "reconcile", "failed", "missing 4", "ada", "Stripe answers", "prune", "finished", "deleted 1000000")
	if out := d.expect(t, 0, "runs --kind prune", "prune"); strings.Contains(out, "reconcile") {
		t.Errorf("it lists other kinds:\n%s", out)
	}
	if out := d.expect(t, 0, "runs --limit 1"); strings.Contains(out, "reconcile") {
		t.Errorf("it lists more:\n%s", out)
	}
	if out := d.expect(t, 0, "runs --before "+d.recorded(t).ID, "reconcile"); strings.Contains(out, "prune") {
		t.Errorf("before the newest one it lists\n%s", out)
	}
	out := d.expect(t, 0, "runs "+failed.ID, failed.ID+"  reconcile", "state         failed", "arguments     since 72h0m0s", "counts        missing 4", "operator      ada", "reason        ticket 7",
		"error         Stripe answers ", "after 60m")
	if strings.Contains(out, "\x1b") {
		t.Errorf("it writes control characters: %q", out)
	}
	pgtest.Exec(t, d.Pool, `INSERT INTO stripe_webhook_runs (id, kind, arguments, started_at, updated_at, counts, share)
		VALUES ('run_z', 'retry', '{}', now() - interval '2 hours', now() - interval '1 hour', '{}', 0.25)`)
	d.expect(t, 0, "runs run_z", "state         interrupted 25%", "last progress", "operator      -")
	var one struct {
		ID, Kind, Operator string
		FinishedAt         *time.Time `json:"finished_at"`
		Counts             struct{ Missing int }
	}
	if err := json.Unmarshal([]byte(d.expect(t, 0, "runs --json "+failed.ID)), &one); err != nil || one.ID != failed.ID || one.Kind != "reconcile" || one.FinishedAt == nil || one.Counts.Missing != 4 {
		t.Errorf("as JSON it is %+v, %v", one, err)
	}
	if lines := strings.Count(d.expect(t, 0, "runs --json"), "\n"); lines != 3 {
		t.Errorf("the list has %d lines of JSON", lines)
	}
	d.expect(t, 1, "runs run_unknown", "no such run")
	d.expect(t, 2, "runs --kind guess", `--kind "guess": use reconcile, verify,`)
	d.expect(t, 2, "runs --limit 0", "--limit must be at least 1")
	d.expect(t, 2, "runs --before evt_1", "use a run's id")
	d.expect(t, 2, "reconcile --since 1h --dry-run --reason x", "a dry run is not recorded")
}
