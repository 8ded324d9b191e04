package tests

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
)

const simulateSecret = "STRIPE_WEBHOOK_SECRET=" + hooktest.Secret

// Each scenario, in a storm, ends with the truth in the receiver's tables.
func TestSimulate(t *testing.T) {
	t.Parallel()
	databaseURL := pgtest.NewURL(t)
	s := serve(t, environ("DATABASE_URL="+databaseURL))
	truth := filepath.Join(t.TempDir(), "truth.jsonl")
	r := run(t, environ("STRIPE_WEBHOOK_SECRET="+hooktest.Secret), "", "simulate", "--to", s.url+"/webhooks/stripe", "--storm", "wild", "--subscriptions", "24", "--truth", truth,
		"--scenario", "cancel-at-period-end,downgrade,dunning,pause-collection,resume,trial-to-paid,upgrade")
	if r.code != 0 || !strings.Contains(r.stdout, "answered 200: ") || strings.Contains(r.stdout, "never accepted") {
		t.Fatal(r)
	}
	text, err := os.ReadFile(truth)
	if err != nil {
		t.Fatal(err)
	}
	pool := pgtest.Connect(t, databaseURL)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	for _, line := range lines {
		var want struct {
			ID, Status string
			Items      struct{ Data []struct{ ID string } }
		}
		if err := json.Unmarshal([]byte(line), &want); err != nil {
			t.Fatal(err)
		}
		got := pgtest.Scan[string](t, pool, `SELECT s.status || ' ' || (SELECT count(*) FROM subscription_items i WHERE i.subscription_id = s.id) FROM subscriptions s WHERE s.id = $1`, want.ID)
		if got != fmt.Sprint(want.Status, " ", len(want.Items.Data)) {
			t.Errorf("%s is %s, want %s with %d items", want.ID, got, want.Status, len(want.Items.Data))
		}
	}
	if len(lines) != 24 {
		t.Errorf("the truth has %d subscriptions", len(lines))
	}
}

// The same seed gives the same deliveries, in any order of their arrival, to any receiver. One that never accepts an event is
// reported, with the exit code 1.
func TestSimulateAnotherReceiver(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	count := map[string]int{}
	refuse := ""
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		mu.Lock()
		defer mu.Unlock()
		count[string(body)]++
		if refuse != "" && strings.Contains(string(body), refuse) {
			w.WriteHeader(http.StatusTeapot)
		}
	}))
	t.Cleanup(receiver.Close)
	set := func(refused string) {
		mu.Lock()
		defer mu.Unlock()
		count = map[string]int{}
		if refused != "" {
			refuse = refused
		}
	}
	simulate := func(code int, args ...string) (map[string]int, result) {
		t.Helper()
		set("")
		r := run(t, environ(simulateSecret), "", append([]string{"simulate", "--to", receiver.URL, "--subscriptions", "10"}, args...)...)
		if r.code != code {
			t.Errorf("simulate %v: want exit %d, got %s", args, code, r)
		}
		mu.Lock()
		defer mu.Unlock()
		return count, r
	}
	first, _ := simulate(0)
	second, _ := simulate(0)
	if fmt.Sprint(first) != fmt.Sprint(second) || len(first) < 20 {
		t.Errorf("the same seed gives %d and %d events", len(first), len(second))
	}
	if other, _ := simulate(0, "--seed", "2"); fmt.Sprint(first) == fmt.Sprint(other) {
		t.Error("another seed gives the same deliveries")
	}
	set("customer.subscription.created")
	_, r := simulate(1, "--retry-scale", "100000000")
	if !strings.Contains(r.stdout, "never accepted: evt_") || !strings.Contains(r.stdout, "418") {
		t.Error(r)
	}
	_, r = simulate(1, "--retry-scale", "100000000", "--json")
	list := lines(t, r)
	if last := list[len(list)-1]; last["never_accepted"] != float64(len(list)-1) || last["events"] != float64(len(first)) {
		t.Errorf("as JSON it is %s", r)
	}
}
