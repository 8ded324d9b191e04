package tests

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pook/stripeonce/internal/delivery"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/stripesim"
)

// night is compliancebot, a simulated Stripe, and what went wrong between the two.
type night struct {
	*bot
	pool      *pgxpool.Pool
	account   *stripesim.Account
	sender    *delivery.Sender
	delivered int            // of the account's events
	excepted  map[string]int // cents that a customer paid and that are not booked, on purpose
}

func newNight(t *testing.T) *night {
	t.Helper()
	n := &night{account: stripesim.New(11, time.Now().Add(-4*24*time.Hour)), excepted: map[string]int{}}
	n.account.Billing = true
	api := httptest.NewServer(stripesim.NewAPI(n.account))
	t.Cleanup(api.Close)
	n.bot = startCompliancebot(t, api.URL)
	n.pool = pgtest.Connect(t, n.databaseURL+"&search_path=stripe,public")
	n.redirect(t, n.url)
	for range 8 {
		sub := n.account.Subscribe(stripesim.VersionBasil)
		pgtest.Exec(t, n.pool, `INSERT INTO organizations (name, stripe_customer_id) VALUES ($1, $1)`, sub.Customer())
		n.account.Wait(time.Minute)
		sub.Activate()
	}
	n.deliver(t, 200)
	return n
}

// redirect has Stripe deliver to another receiver.
func (n *night) redirect(t *testing.T, url string) {
	t.Helper()
	n.sender = delivery.NewSender(url+"/webhooks/stripe", hooktest.Secret, 4)
	t.Cleanup(n.sender.Close)
}

// renew renews all subscriptions, a day later.
func (n *night) renew() {
	n.account.Wait(24 * time.Hour)
	for _, sub := range n.account.Subscriptions {
		sub.Renew()
	}
}

// due returns the events since the last call that compliancebot's endpoint is subscribed to.
func (n *night) due() (events []*stripesim.Event) {
	for _, ev := range n.account.Events[n.delivered:] {
		if ev.Type == "invoice.paid" || strings.HasPrefix(ev.Type, "customer.subscription.") {
			events = append(events, ev)
		}
	}
	n.delivered = len(n.account.Events)
	return events
}

// deliver delivers what is due. Each invoice.paid must be answered with a status, and other events with 200. It returns the ids of the
// invoice.paid.
func (n *night) deliver(t *testing.T, paid int) (ids []string) {
	t.Helper()
	for _, ev := range n.due() {
		want := 200
		if ev.Type == "invoice.paid" {
			want = paid
			ids = append(ids, ev.ID)
		}
		reply, err := n.sender.Send(t.Context(), ev.Body)
		if err != nil || reply.Status != want {
			t.Fatalf("%s is answered %s, %v, want %d", ev.Type, reply, err, want)
		}
	}
	return ids
}

// repair runs one command, and logs it for the transcript.
func (n *night) repair(t *testing.T, code int, texts []string, args ...string) string {
	t.Helper()
	r := n.stripe(t, args...)
	t.Logf("$ compliancebot stripe %s\n%s%s", strings.Join(args, " "), r.stderr, r.stdout)
	if r.code != code {
		t.Errorf("%v: %s", args, r)
	}
	for _, text := range texts {
		if !strings.Contains(r.stdout+r.stderr, text) {
			t.Errorf("%v does not say %q: %s", args, text, r)
		}
	}
	return r.stdout
}

// check finds each payment booked exactly once but for the excepted ones, each plan as Stripe has it, and nothing failing.
func (n *night) check(t *testing.T) {
	t.Helper()
	paid := map[string]int{}
	for _, ev := range n.account.Events {
		if ev.Type == "invoice.paid" {
			customer, cents := invoice(t, ev)
			paid[customer] += int(cents)
		}
	}
	for _, sub := range n.account.Subscriptions {
		truth := sub.Truth()
		plan := "free"
		if truth.Status == "active" || truth.Status == "trialing" {
			plan = truth.PriceID
		}
		want := fmt.Sprintf("%s %d", plan, paid[sub.Customer()]-n.excepted[sub.Customer()])
		got := pgtest.Scan[string](t, n.pool, `SELECT plan || ' ' || paid_cents FROM organizations WHERE stripe_customer_id = $1`, sub.Customer())
		if got != want {
			t.Errorf("the organization of %s has %s, want %s", sub.Customer(), got, want)
		}
	}
	expectAuditLog(t, pgtest.Scan[string](t, n.pool, auditFaults))
	n.repair(t, 0, []string{"No failing events."}, "failures")
}

// Everything that goes wrong in one night is repaired with one documented command each (docs/operations.md), and then each effect has
// happened exactly as often as it was asked for.
func TestNight(t *testing.T) {
	t.Parallel()
	n := newNight(t)
	subs := n.account.Subscriptions
	n.check(t)

	t.Log("A deploy has broken a handler: it fails.")
	pgtest.Exec(t, n.pool, `ALTER TABLE organizations ADD CONSTRAINT deploy CHECK (paid_cents < 0) NOT VALID`)
	n.renew()
	broken := n.deliver(t, 500)
	n.repair(t, 0, []string{fmt.Sprint(len(broken)), "violates check constraint"}, "failures", "--group")
	pgtest.Exec(t, n.pool, `ALTER TABLE organizations DROP CONSTRAINT deploy`)
	n.repair(t, 0, []string{"would be replayed"}, "replay", "--all-failed", "--type", "invoice.*", "--dry-run")
	n.repair(t, 0, []string{broken[0] + "  processed"}, "replay", "--all-failed")
	n.check(t)

	t.Log("A handler has a bug and returns nil: it does not find the customers. Two operators repair it at once.")
	pgtest.Exec(t, n.pool, `UPDATE organizations SET stripe_customer_id = 'lost ' || stripe_customer_id`)
	n.renew()
	lost := n.deliver(t, 200)
	pgtest.Exec(t, n.pool, `UPDATE organizations SET stripe_customer_id = substr(stripe_customer_id, 6)`)
	reprocess := append([]string{"reprocess", "--handler", "invoice.paid", "--reason", "payments of unknown customers, #7"}, lost...)
	var operators sync.WaitGroup
	for range 2 {
		operators.Go(func() { n.repair(t, 0, nil, reprocess...) })
	}
	operators.Wait()
	n.check(t)

	t.Log("The receiver is down for a day.")
	n.stop()
	n.renew()
	n.due() // Stripe gives up
	n.start(t)
	n.redirect(t, n.url)
	n.repair(t, 0, []string{"0 failed"}, "reconcile", "--since", "5d")
	n.check(t)

	t.Log("The product catalog changes, of which there is no event.")
	n.repair(t, 0, nil, "backfill", "--type", "entitlements")
	n.account.AttachFeature(n.account.Products[0], n.account.AddFeature("night-shift", "Night shift"))
	n.repair(t, 1, []string{"entitlements"}, "verify", "--type", "entitlements")
	n.repair(t, 0, nil, "verify", "--type", "entitlements", "--fix", "--reason", "catalog change")
	n.repair(t, 0, []string{"0 drifted"}, "verify", "--type", "entitlements")

	t.Log("One failure will never be applied.")
	never := subs[3].Customer()
	pgtest.Exec(t, n.pool, `ALTER TABLE organizations ADD CONSTRAINT never CHECK (stripe_customer_id <> '`+never+`' OR plan = '') NOT VALID`)
	n.account.Wait(time.Minute)
	subs[3].Renew()
	for _, id := range n.deliver(t, 500) {
		_, cents := invoice(t, n.event(id))
		n.excepted[never] += int(cents)
		n.repair(t, 0, []string{id}, "failures", "dismiss", id, "--reason", "the customer has paid by bank transfer")
	}
	pgtest.Exec(t, n.pool, `ALTER TABLE organizations DROP CONSTRAINT never`)
	n.repair(t, 0, nil, "replay", "--all-failed")
	n.check(t)

	t.Log("A second replica does not have the handlers: stripeonce serve on the same tables.")
	replica := serve(t, environ("DATABASE_URL="+n.databaseURL+"&search_path=stripe"))
	n.redirect(t, replica.url)
	n.renew()
	subs[5].Delete()
	ignored := n.deliver(t, 200)
	n.repair(t, 0, []string{ignored[0] + "  processed"}, "replay", "--outcome", "ignored", "--type", "invoice.paid", "--since", "1d")
	n.repair(t, 0, []string{"reprocessed"}, "reprocess", "--receiver", "stripeonce", "--since", "1d", "--handler", "subscription.OnChange",
		"--reason", "the wrong program was deployed")
	n.check(t)
	n.counts(t, lost)
}

// event returns an event of the account.
func (n *night) event(id string) *stripesim.Event {
	for _, ev := range n.account.Events {
		if ev.ID == id {
			return ev
		}
	}
	return nil
}

// counts checks what the ledger and the runs say: of invoice.paid only the lost ones were reprocessed, once; the runs have operators and
// reasons.
func (n *night) counts(t *testing.T, lost []string) {
	t.Helper()
	got := pgtest.Scan[string](t, n.pool, `SELECT concat_ws(' ', count(*) FILTER (WHERE reprocess_count = 1 AND event_id = ANY($1)),
		count(*) FILTER (WHERE reprocess_count <> 0 AND event_id <> ALL($1))) FROM stripe_webhook_events WHERE event_type = 'invoice.paid'`, lost)
	if want := fmt.Sprintf("%d 0", len(lost)); got != want {
		t.Errorf("reprocessed once, and others: %s, want %s", got, want)
	}
	runs := pgtest.Scan[string](t, n.pool, `SELECT string_agg(kind || ' ' || coalesce(reason, ''), ', ' ORDER BY id) FILTER (WHERE finished_at IS NOT NULL AND operator <> '') FROM stripe_webhook_runs`)
	t.Logf("runs: %s", runs)
	for _, run := range []string{"replay ", "reprocess payments of unknown customers, #7", "reconcile ", "backfill ", "verify catalog change", "reprocess the wrong program was deployed"} {
		if !strings.Contains(runs, run) {
			t.Errorf("there is no run %q among %s", run, runs)
		}
	}
}
