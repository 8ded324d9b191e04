package console_test

import (
	"errors"
	"strings"
	"testing"
	"time"

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
	operator.RecordRun(t.Context(), &operations.RunRecord{Kind: operations.RunVerify, Arguments: arguments, Counts: operations.Counts{Checked: 12, Drifted: 3, Fixed: 3}, Started: time.Now()})
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
