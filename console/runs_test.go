package console_test

import (
	"errors"
	"html"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pook/stripeonce/console"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/operations"
)

// The runs of the operator's commands are listed with who ran them and how they ended.
func TestRuns(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	s.shows(t, "/runs", "No runs")
	operator := operations.New(s.Pool, &operations.Config{Operator: "ada", Reason: "ticket <7>", Logger: hooktest.NoLog()})
	arguments := map[string]any{"types": []string{"invoice", "charge"}, "account_id": ""}
	operator.RecordRun(t.Context(), &operations.RunRecord{Kind: operations.RunVerify, Arguments: arguments, Counts: operations.ComparisonCounts{Checked: 12, Drifted: 3, Fixed: 3}, Started: time.Now()})
	operator.RecordRun(t.Context(), &operations.RunRecord{Kind: operations.RunReconcile, Started: time.Now(), Counts: map[string]int{"missing": 4}, Err: errors.New("Stripe answers <b>500</b>")})
	for state, ago := range map[string]string{"running": "1 second", "interrupted": "1 hour"} {
		pgtest.Exec(t, s.Pool, `INSERT INTO stripe_webhook_runs (id, kind, arguments, started_at, updated_at, counts)
			VALUES ('run_' || $1, 'backfill', '{}', now(), now() - $2::interval, '{"checked": 1}')`, state, ago)
	}
	page := s.get(t, "/runs", 200)
	for _, want := range []string{
		"verify", "types invoice charge", "checked 12, drifted 3, fixed 3", "ada on ", "ticket &lt;7&gt;", ">finished<", "Stripe answers &lt;b&gt;500&lt;/b&gt;", ">failed<",
		">running<", ">interrupted<",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("%q is missing in\n%s", want, page)
		}
	}
	if strings.Contains(page, "account_id") {
		t.Error("it shows empty arguments")
	}
}

// Runs are listed a page at a time, by kind. A run's page has everything that is known of it.
func TestRunPages(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	pgtest.Exec(t, s.Pool, `INSERT INTO stripe_webhook_runs (id, kind, arguments, started_at, finished_at, counts)
		SELECT 'run_' || to_char(n, 'FM0000'), CASE WHEN n % 2 = 0 THEN 'verify' ELSE 'retry' END, '{}', now(), now(), '{}' FROM generate_series(1, 120) AS n`)
	link, row := regexp.MustCompile(`rel="next" href="([^"]*)"`), regexp.MustCompile(`/runs/(run_\d+)"`)
	var seen []string
	for path := "/runs?kind=retry"; path != ""; {
		page := s.get(t, path, 200)
		for _, match := range row.FindAllStringSubmatch(page, -1) {
			seen = append(seen, match[1])
		}
		path = ""
		if next := link.FindStringSubmatch(page); next != nil {
			path = strings.TrimPrefix(html.UnescapeString(next[1]), mountedAt)
		}
	}
	if len(seen) != 60 || seen[0] != "run_0119" || seen[59] != "run_0001" || !slices.IsSortedFunc(seen, func(a, b string) int { return strings.Compare(b, a) }) {
		t.Errorf("the pages have %d runs: %v", len(seen), seen)
	}
	s.get(t, "/runs?kind=guess", 404)
	s.shows(t, "/runs?kind=erase", "No matching runs")
	if page := s.get(t, "/runs/run_unknown", 404); !strings.Contains(page, "There is no such run") {
		t.Errorf("an unknown run's page is\n%s", page)
	}
	pgtest.Exec(t, s.Pool, `INSERT INTO stripe_webhook_runs (id, kind, arguments, operator, reason, host, started_at, updated_at, counts, share)
		VALUES ('run_9', 'replay', '{"events": ["evt_1", "<b>"], "account": "", "all_failed": false}', 'ada', 'ticket <7>', 'db-1', now() - interval '90 seconds',
			now() - interval '1 second', '{"replayed": 1234567}', 0.42)`)
	s.shows(t, "/runs/run_9", `<progress max="100" value="42"`, ">running 42 %<", "<dt>Operator</dt><dd>ada</dd>", "<dt>Host</dt><dd>db-1</dd>", "ticket &lt;7&gt;",
		"<dt>replayed</dt><dd>1234567 </dd>", mountedAt+`/search?find=evt_1">evt_1</a>`, "&lt;b&gt;", "<dt>all failed</dt><dd>false </dd>", "1 minute ago", "Last progress")
	if page := s.get(t, "/runs/run_9", 200); strings.Contains(page, "<dt>account</dt>") || strings.Contains(page, "Took") {
		t.Errorf("it shows an empty argument, or an end:\n%s", page)
	}
	s.leads(t, "run_9", "/runs/run_9")
	pgtest.Exec(t, s.Pool, `UPDATE stripe_webhook_runs SET updated_at = now() - interval '1 hour', error = 'interrupted' WHERE id = 'run_9'`)
	s.shows(t, "/runs/run_9", ">interrupted 42 %<", `<p class="flash bad">interrupted</p>`)
}

// Replay is recorded, with its error, unless the event had taken effect. A user who may only look has no button.
func TestReplayIsRecorded(t *testing.T) {
	t.Parallel()
	looks := false
	s := newStage(t, &console.Config{User: func(*http.Request) string { return "ada" }, ReadOnly: func(*http.Request) bool { return looks }})
	s.Expect(t, hooktest.Event("evt_1", "test.flaky", 1, `{}`), 500, "")
	s.shows(t, "/failures", "Replay</button>")
	s.shows(t, "/events/evt_1", "Replay</button>")
	looks = true
	for _, path := range []string{"/failures", "/events/evt_1"} {
		if page := s.get(t, path, 200); !strings.Contains(page, "evt_1") || strings.Contains(page, "Replay</button>") || strings.Contains(page, "<form method=\"post\"") {
			t.Errorf("a user who may only look sees\n%s", page)
		}
	}
	if status, _ := s.replay(t, "evt_1", "same-origin"); status != http.StatusForbidden || s.Count(t, "stripe_webhook_runs") != 0 {
		t.Errorf("a user who may only look gets %d", status)
	}
	looks = false
	s.replay(t, "evt_1", "same-origin")
	s.broken.Store(false)
	s.replay(t, "evt_1", "same-origin")
	s.replay(t, "evt_1", "same-origin") // a duplicate
	runs, err := operations.New(s.Pool, nil).Runs(t.Context(), operations.RunFilter{})
	if err != nil || len(runs) != 2 {
		t.Fatalf("the runs are %+v, %v", runs, err)
	}
	for i, want := range []string{"failed 0, tried 1: ", `failed 1, tried 1: handler of test.flaky: no <b>credit</b> "left"`} {
		if got := runs[i].CountsText() + ": " + runs[i].Error; got != want || runs[i].Operator != "console (ada)" || runs[i].ArgumentsText() != "events evt_1" {
			t.Errorf("run %d is %s: %+v", i, got, runs[i])
		}
	}
}
