package tests

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/stripesim"
)

// The simulated clock begins when --start says.
func TestSimulateStart(t *testing.T) {
	t.Parallel()
	databaseURL := pgtest.NewURL(t)
	s := serve(t, environ("DATABASE_URL="+databaseURL))
	if r := run(t, environ(simulateSecret), "", "simulate", "--to", s.url+"/webhooks/stripe", "--storm", "none", "--subscriptions", "1", "--start", "25d"); r.code != 0 {
		t.Fatal(r)
	}
	first := pgtest.Scan[time.Time](t, pgtest.Connect(t, databaseURL), `SELECT min(event_created_at) FROM stripe_webhook_events`)
	if ago := time.Since(first); ago < 0 || ago > 25*24*time.Hour+time.Minute {
		t.Errorf("its first event was %s ago, want 25 days at most", ago)
	}
}

const simulateSecret = "STRIPE_WEBHOOK_SECRET=" + hooktest.Secret

// Each scenario, in a storm, ends with the truth in the receiver's tables.
func TestSimulate(t *testing.T) {
	t.Parallel()
	databaseURL := pgtest.NewURL(t)
	s := serve(t, environ("DATABASE_URL="+databaseURL))
	truth := filepath.Join(t.TempDir(), "truth.jsonl")
	r := run(t, environ(simulateSecret), "", "simulate", "--to", s.url+"/webhooks/stripe", "--storm", "wild", "--subscriptions", "24", "--truth", truth,
		"--scenario", "cancel-at-period-end,downgrade,dunning,many-items,pause-collection,resume,trial-to-paid,upgrade")
	if r.code != 0 || !strings.Contains(r.stdout, "answered 200: ") || strings.Contains(r.stdout, "never accepted") {
		t.Fatal(r)
	}
	text, err := os.ReadFile(truth)
	if err != nil {
		t.Fatal(err)
	}
	pool := pgtest.Connect(t, databaseURL)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	subscriptions, most := 0, 0
	for _, line := range lines {
		var want struct {
			ID, Status, Object string
			AtPeriodEnd        bool   `json:"cancel_at_period_end"`
			Period             int64  `json:"current_period_end"`
			Invoice            string `json:"latest_invoice"`
			Items              struct {
				Data []struct {
					Quantity int64
					Period   int64 `json:"current_period_end"`
				}
			}
		}
		if err := json.Unmarshal([]byte(line), &want); err != nil {
			t.Fatal(err)
		}
		if want.Object != "subscription" {
			continue
		}
		quantity := int64(0)
		for _, item := range want.Items.Data {
			quantity += item.Quantity
			want.Period = max(want.Period, item.Period)
		}
		subscriptions, most = subscriptions+1, max(most, len(want.Items.Data))
		items := fmt.Sprint(len(want.Items.Data), " ", quantity)
		if len(want.Items.Data) > 20 { // events hold 20, and without an API key there are no others
			items = "incomplete"
		}
		got := pgtest.Scan[string](t, pool, `SELECT concat_ws(' ', s.status, s.cancel_at_period_end, extract(epoch FROM s.current_period_end)::bigint, s.latest_invoice_id,
			CASE WHEN s.items_complete THEN (SELECT count(*) || ' ' || sum(quantity) FROM subscription_items i WHERE i.subscription_id = s.id) ELSE 'incomplete' END) FROM subscriptions s WHERE s.id = $1`, want.ID)
		if wanted := fmt.Sprint(want.Status, " ", map[bool]string{true: "t", false: "f"}[want.AtPeriodEnd], " ", want.Period, " ", want.Invoice, " ", items); got != wanted {
			t.Errorf("%s is %s, want %s", want.ID, got, wanted)
		}
	}
	if subscriptions != 24 || most != 45 || len(lines) < 48 {
		t.Errorf("the truth has %d subscriptions with up to %d items, and %d objects", subscriptions, most, len(lines))
	}
}

// With --billing, or a scenario that needs it, the other objects' events are delivered too, and their truth follows that of the
// subscriptions. demo has a check for their effects.
func TestSimulateBilling(t *testing.T) {
	t.Parallel()
	for _, flags := range [][]string{{"--billing"}, {"--scenario", "customer-deleted,invoice-voided"}} {
		receiver := newAnother(t, "")
		truth := filepath.Join(t.TempDir(), "truth.jsonl")
		args := append([]string{"simulate", "--to", receiver.URL, "--subscriptions", "6", "--truth", truth}, flags...)
		if r := run(t, environ(simulateSecret), "", args...); r.code != 0 || !strings.Contains(r.stdout, " invoices\n") {
			t.Fatal(r)
		}
		text, err := os.ReadFile(truth)
		if err != nil {
			t.Fatal(err)
		}
		kinds := map[string]int{}
		for i, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
			var o struct{ Object string }
			if err := json.Unmarshal([]byte(line), &o); err != nil {
				t.Fatal(err)
			}
			if kinds[o.Object]++; (o.Object == "subscription") != (i < kinds["subscription"]) {
				t.Errorf("line %d is of a %s", i+1, o.Object)
			}
		}
		if kinds["subscription"] < 6 || kinds["customer"] < 6 || kinds["invoice"] < 6 || kinds["product"] < 4 || kinds["price"] < 6 {
			t.Errorf("%v: the truth has %v", flags, kinds)
		}
	}
	if r := run(t, environ(), "", "demo", "--billing", "--thin=both", "--subscriptions", "20", "--storm", "wild"); r.code != 0 {
		t.Error(r)
	}
}

// another is a receiver that counts what it is sent, and refuses bodies with a text.
type another struct {
	URL string

	mu     sync.Mutex
	refuse string
	bodies map[string]int
}

func newAnother(t *testing.T, refuse string) *another {
	t.Helper()
	a := &another{refuse: refuse, bodies: map[string]int{}}
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	a.URL = server.URL
	return a
}

func (a *another) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.bodies[string(body)]++
	if a.refuse != "" && strings.Contains(string(body), a.refuse) {
		w.WriteHeader(http.StatusTeapot)
	}
}

// The same seed gives the same deliveries by simulate, by demo, and by the Go package.
func TestSimulateAsDemoAndGo(t *testing.T) {
	t.Parallel()
	flags := []string{"--subscriptions", "10", "--seed", "3", "--scenario", "upgrade,dunning", "--storm", "wild"}
	plan := regexp.MustCompile(`(?m)^A simulated Stripe .*\n.* events\n  to be delivered .*$`)
	byCommand := newAnother(t, "")
	simulated := run(t, environ(simulateSecret), "", append([]string{"simulate", "--to", byCommand.URL}, flags...)...)
	demonstrated := run(t, environ(), "", append([]string{"demo"}, flags...)...)
	if simulated.code != 0 || demonstrated.code != 0 {
		t.Fatalf("simulate: %s\ndemo: %s", simulated, demonstrated)
	}
	if want := plan.FindString(simulated.stdout); want == "" || plan.FindString(demonstrated.stdout) != want {
		t.Errorf("simulate delivers\n%s\nbut demo\n%s", want, plan.FindString(demonstrated.stdout))
	}
	byGo := newAnother(t, "")
	s := stripesim.Simulation{Seed: 3, Subscriptions: 10, Storm: stripesim.Wild}
	for _, name := range []string{"upgrade", "dunning"} {
		scenario, err := stripesim.NamedScenario(name)
		if err != nil {
			t.Fatal(err)
		}
		s.Scenarios = append(s.Scenarios, scenario)
	}
	if err := s.Run(t.Context(), stripesim.NewAPI(s.NewAccount()), &stripesim.Deliverer{URL: byGo.URL, Secret: hooktest.Secret}); err != nil {
		t.Fatal(err)
	}
	if len(byGo.bodies) < 20 || !maps.Equal(byCommand.bodies, byGo.bodies) {
		t.Errorf("simulate delivers %d events, and the package %d, or others", len(byCommand.bodies), len(byGo.bodies))
	}
	other := newAnother(t, "")
	run(t, environ(simulateSecret), "", append([]string{"simulate", "--to", other.URL}, append(flags, "--seed", "4")...)...)
	if maps.Equal(byCommand.bodies, other.bodies) {
		t.Error("another seed gives the same deliveries")
	}
}

// An event that is never accepted is reported, with the exit code 1. --for delivers at least two waves.
func TestSimulateNeverAccepted(t *testing.T) {
	t.Parallel()
	receiver := newAnother(t, "customer.subscription.created")
	flags := []string{"simulate", "--to", receiver.URL, "--subscriptions", "5", "--retry-scale", "100000000"}
	r := run(t, environ(simulateSecret), "", flags...)
	if r.code != 1 || !strings.Contains(r.stdout, "never accepted: evt_") || !strings.Contains(r.stdout, "418: ") {
		t.Error(r)
	}
	r = run(t, environ(simulateSecret), "", append(flags, "--json", "--for", "1ms")...)
	list := lines(t, r)
	last := list[len(list)-1]
	if r.code != 1 || last["never_accepted"] != float64(len(list)-1) || len(list)-1 < 10 || list[0]["answer"] != "418" || len(last["outcomes"].(map[string]any)) != 0 {
		t.Errorf("as JSON it is %s", r)
	}
}
