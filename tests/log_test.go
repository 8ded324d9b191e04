package tests

import (
	"encoding/json"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/webhooks"
)

// entry is a line of the log.
type entry struct {
	Msg      string
	Level    string
	EventID  string `json:"event_id"`
	Type     string `json:"event_type"`
	Outcome  string
	Status   int
	Attempt  int
	Error    string
	Took     float64
	For      float64
	TraceID  string `json:"trace_id"`
	Original string `json:"-"`
}

// entries returns the lines of the log.
func (s *server) entries(t *testing.T) (list []entry) {
	t.Helper()
	for line := range strings.Lines(s.text()) {
		one := entry{Original: line}
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			t.Errorf("the log has %q: %v", line, err)
		}
		list = append(list, one)
	}
	return list
}

// Each delivery has one line. Durations are numbers of seconds, and "stopped" is the last line.
func TestServeLogs(t *testing.T) {
	t.Parallel()
	databaseURL := pgtest.NewURL(t)
	pool := pgtest.Connect(t, databaseURL)
	pgtest.Exec(t, pool, failing)
	s := serve(t, environ("DATABASE_URL="+databaseURL, "LOG_FORMAT=json"), "--drain", "1500ms")
	s.expect(t, subscriptionEvent("evt_1", 1, "active"), 200, webhooks.OutcomeProcessed)
	s.expect(t, subscriptionEvent("evt_1", 1, "active"), 200, webhooks.OutcomeDuplicate)
	s.expect(t, subscriptionEvent("evt_2", 2, "past_due"), 500, "")
	s.expect(t, subscriptionEvent("evt_2", 2, "past_due"), 500, "")
	if response, err := http.Post(s.url+"/webhooks/stripe", "application/json", strings.NewReader("{}")); err != nil || response.StatusCode != 400 {
		t.Fatalf("an unsigned delivery is answered %v, %v", response, err)
	}
	if code := s.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit %d:\n%s", code, s.text())
	}
	var deliveries []entry
	drains := false
	entries := s.entries(t)
	for _, e := range entries {
		if e.Msg == "stripe delivery" {
			deliveries = append(deliveries, e)
		}
		drains = drains || e.For == 1.5
		for _, id := range []string{"evt_1", "evt_2"} {
			if strings.Contains(e.Original, id) && e.Msg != "stripe delivery" {
				t.Errorf("another line is about %s: %s", id, e.Original)
			}
		}
	}
	want := []entry{
		{Level: "INFO", Status: 200, EventID: "evt_1", Outcome: "processed"},
		{Level: "INFO", Status: 200, EventID: "evt_1", Outcome: "duplicate"},
		{Level: "ERROR", Status: 500, EventID: "evt_2", Attempt: 1, Error: "no such organization"},
		{Level: "ERROR", Status: 500, EventID: "evt_2", Attempt: 2, Error: "no such organization"},
		{Level: "WARN", Status: 400, Error: "signature"},
	}
	if len(deliveries) != len(want) {
		t.Fatalf("%d deliveries have %d lines:\n%s", len(want), len(deliveries), s.text())
	}
	for i, got := range deliveries {
		w := want[i]
		wantType := ""
		if w.EventID != "" {
			wantType = "customer.subscription.updated"
		}
		if got.Level != w.Level || got.Status != w.Status || got.EventID != w.EventID || got.Type != wantType || got.Outcome != w.Outcome || got.Attempt != w.Attempt ||
			!strings.Contains(got.Error, w.Error) || (w.Error == "") != (got.Error == "") || got.Took <= 0 || got.Took > waitLimit.Seconds() {
			t.Errorf("the line is %s, want %+v", got.Original, w)
		}
	}
	if !drains {
		t.Errorf("no line has the duration of --drain in seconds:\n%s", s.text())
	}
	if last := entries[len(entries)-1]; last.Msg != "stopped" || last.Level != "INFO" {
		t.Errorf("the last line is %s", last.Original)
	}
}

// Once the program is ready after it was not, it says so, once: a probe finds out, or a delivery does.
func TestServeReadyAgain(t *testing.T) {
	t.Parallel()
	for _, by := range []string{"a probe", "a delivery"} {
		t.Run(by, func(t *testing.T) {
			t.Parallel()
			databaseURL := pgtest.NewURL(t)
			pool := pgtest.Connect(t, databaseURL)
			s := serve(t, environ("DATABASE_URL="+databaseURL, "LOG_FORMAT=json"))
			count := func(text string) (n int) {
				for _, e := range s.entries(t) {
					if e.Msg == text {
						n++
					}
				}
				return n
			}
			if status, body := s.get(t, "/readyz"); status != 200 || count("ready again") != 0 {
				t.Fatalf("/readyz is answered %d %s:\n%s", status, body, s.text())
			}
			pgtest.Exec(t, pool, `ALTER TABLE stripe_webhook_events RENAME TO elsewhere`)
			if status, _ := s.get(t, "/readyz"); status != 503 {
				t.Errorf("without the ledger /readyz is answered %d:\n%s", status, s.text())
			}
			pgtest.Await(t, "it is logged that it is not ready", func() bool { return count("not ready") == 1 })
			s.expect(t, subscriptionEvent("evt_1", 1, "active"), 503, "")
			pgtest.Exec(t, pool, `ALTER TABLE elsewhere RENAME TO stripe_webhook_events`)
			if by == "a delivery" {
				s.expect(t, subscriptionEvent("evt_1", 1, "active"), 200, webhooks.OutcomeProcessed)
			}
			for range 2 {
				if status, body := s.get(t, "/readyz"); status != 200 {
					t.Errorf("/readyz is answered %d %s", status, body)
				}
			}
			pgtest.Await(t, "it is logged once that it is ready again", func() bool { return count("ready again") == 1 })
		})
	}
}
