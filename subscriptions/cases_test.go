package subscriptions_test

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// rowSQL selects a row as one line of text.
const rowSQL = `SELECT concat_ws(' ', id, status, price_id, quantity, extract(epoch FROM current_period_start)::bigint,
	extract(epoch FROM current_period_end)::bigint, default_payment_method_id, pause_collection::text, metadata::text) FROM subscriptions`

// cases are events from bug reports, in testdata/cases, with their outcomes, the events that OnChange is called for, and
// the final row.
var cases = []struct{ file, outcomes, changes, row string }{
	{"pause-collection", "processed processed", "evt_p1 evt_p2",
		`sub_p active price_1 1 1760000000 1762592000 {"behavior": "void", "resumes_at": null} {}`},
	{"items-order", "processed processed", "evt_io1 evt_io2", `sub_io active price_plan_yearly 1 1760000000 1791536000 pm_1 {}`},
	{"metadata-array", "processed", "evt_meta_array", `sub_meta_array active premium_1 1 1427556293 1430234693 {}`},
}

func TestCases(t *testing.T) {
	t.Parallel()
	for _, c := range cases {
		t.Run(c.file, func(t *testing.T) {
			t.Parallel()
			var changes []string
			host := newHost(t, &subscriptions.Config{OnChange: func(_ context.Context, _ pgx.Tx, c subscriptions.Change) error {
				changes = append(changes, c.Event.ID)
				return nil
			}})
			bare := newHost(t, nil) // compares by the digest
			for i, body := range caseEvents(t, c.file) {
				want := webhooks.Outcome(strings.Fields(c.outcomes)[i])
				host.Expect(t, body, 200, want)
				bare.Expect(t, body, 200, want)
			}
			if diff := cmp.Diff(c.changes, strings.Join(changes, " ")); diff != "" {
				t.Errorf("OnChange was called for (-want +got):\n%s", diff)
			}
			for name, row := range map[string]string{"with OnChange": pgtest.Scan[string](t, host.Pool, rowSQL), "without": pgtest.Scan[string](t, bare.Pool, rowSQL)} {
				if diff := cmp.Diff(c.row, row); diff != "" {
					t.Errorf("the row %s (-want +got):\n%s", name, diff)
				}
			}
		})
	}
}

// caseEvents returns the events of a file, which holds one event or an array.
func caseEvents(t *testing.T, file string) []json.RawMessage {
	t.Helper()
	text, err := os.ReadFile("testdata/cases/" + file + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var events []json.RawMessage
	if json.Unmarshal(text, &events) != nil {
		events = []json.RawMessage{text}
	}
	return events
}
