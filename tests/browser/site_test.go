package browser

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pook/stripeonce/console"
	"github.com/pook/stripeonce/internal/delivery"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
	"github.com/pook/stripeonce/mirror"
	"github.com/pook/stripeonce/operations"
	"github.com/pook/stripeonce/stripesim"
	"github.com/pook/stripeonce/subscriptions"
	"github.com/pook/stripeonce/webhooks"
)

// site is a receiver with a simulated account behind it, and its consoles: for a user who may act, for one who may only look, and with
// hidden payloads; that of an empty database; and one without a database.
type site struct {
	*hooktest.Host
	account *stripesim.Account
	stripe  string // the URL of Stripe's API
	url     string
}

const (
	full   = "/full"
	looks  = "/looks" // may only look
	hidden = "/hidden"
	empty  = "/empty"
	broken = "/broken"
)

// newSite returns a site on a good day. goWrong makes it a bad one: a release has broken handlers, signatures fail, and events were lost
// on their way.
func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{account: stripesim.New(7, time.Now().Add(-400*24*time.Hour))}
	s.account.Billing = true
	s.account.Live(stripesim.Life{Subscriptions: 12})
	api := stripesim.NewAPI(s.account)
	api.AddEndpoint(stripesim.Endpoint{URL: "https://example.com/webhooks/stripe", EnabledEvents: []string{"customer.subscription.updated", "payout.paid"}, APIVersion: stripesim.VersionBasil})
	server := httptest.NewServer(api)
	t.Cleanup(server.Close)
	s.stripe = server.URL
	h := webhooks.NewHandlers()
	config := console.Config{APIKey: "sk_test_1", APIBase: s.stripe, Logger: hooktest.NoLog(), User: func(*http.Request) string { return "ada" }}
	config.Subscriptions = subscriptions.Register(h, &subscriptions.Config{Logger: hooktest.NoLog()})
	config.Mirror = mirror.Register(h, &mirror.Config{Types: append(stripesim.BillingTypes(), mirror.Entitlements...), Logger: hooktest.NoLog()})
	for eventType, failure := range map[string]error{"customer.discount.created": errors.New("no campaign for promo_1QWeRtYuIoPaSdFg"), "charge.refunded": webhooks.Park(errors.New("the refund of re_1QWeRtYuIoPaSdFg exceeds the charge"))} {
		webhooks.On(h, eventType, func(_ context.Context, _ pgx.Tx, ev *webhooks.Event, _ *struct{}) error {
			if slices.Contains([]string{failing, parked, dismissed}, ev.ID) {
				return failure
			}
			return nil
		})
	}
	s.Host = hooktest.New(t, h, func(c *webhooks.Config) { c.APIKey, c.APIBase = "sk_test_1", s.stripe })
	s.fill(t)
	only := config
	only.ReadOnly = func(*http.Request) bool { return true }
	secret := config
	secret.HidePayloads = true
	none := hooktest.New(t, webhooks.NewHandlers(), nil)
	closed := pgtest.NewPool(t)
	closed.Close()
	mux := http.NewServeMux()
	for path, pages := range map[string]*console.Console{
		full: console.New(s.Pool, s.Receiver, &config), looks: console.New(s.Pool, s.Receiver, &only), hidden: console.New(s.Pool, s.Receiver, &secret),
		empty: console.New(none.Pool, none.Receiver, nil), broken: console.New(closed, none.Receiver, &console.Config{Logger: hooktest.NoLog()}),
	} {
		t.Cleanup(pages.Close)
		mux.Handle(path, http.StripPrefix(path, pages))
		mux.Handle(path+"/", http.StripPrefix(path, pages))
	}
	front := httptest.NewServer(mux)
	t.Cleanup(front.Close)
	s.url = front.URL
	return s
}

// causes are those of the bad day: a type, an error with %s for an id, how many events, and the state.
var causes = []struct {
	eventType, text string
	events          int
	state           string
}{
	{"invoice.paid", `no plan "gold" for cus_N%s`, 87, "failing"},
	{"customer.subscription.updated", `store subscription sub_1N%s: ERROR: new row for relation "credits" violates check constraint "credits_not_negative" (SQLSTATE 23514)`, 41, "failing"},
	{"invoice.payment_failed", `Post "https://crm.example.com/v2/contacts/%s": dial tcp: lookup crm.example.com: no such host`, 23, "failing"},
	{"charge.refunded", "parked: the refund of re_3N%s exceeds the charge", 6, "parked"},
	{"checkout.session.completed", "no account has the reference of cs_live_a1%s", 1, "failing"},
}

// fill delivers the account's events, and adds a good day of others.
func (s *site) fill(t *testing.T) {
	t.Helper()
	for _, ev := range s.account.Events {
		if reply := s.Send(t, ev.Body); !reply.OK() {
			t.Fatalf("%s: %s", ev.Type, reply)
		}
	}
	pgtest.Exec(t, s.Pool, `UPDATE stripe_webhook_events SET processed_at = event_created_at + interval '700 milliseconds'`)
	// Traffic of a day, less in the first hours, about stored objects.
	pgtest.Exec(t, s.Pool, `INSERT INTO stripe_webhook_events (event_id, event_type, outcome, livemode, object_id, event_created_at, processed_at)
		SELECT 'evt_1R' || substr(md5(at::text || n), 1, 22), known.event_type, CASE WHEN n % 17 = 0 THEN 'stale' WHEN n % 11 = 0 THEN 'ignored' ELSE 'processed' END, false,
			known.object_id, at + n * interval '1.3 seconds' - interval '800 milliseconds' * (1 + n % 5), at + n * interval '1.3 seconds'
		FROM generate_series(now() - interval '1441 minutes', now(), interval '10 minutes') AS at
		CROSS JOIN LATERAL generate_series(1, (26 + 20 * sin(extract(EPOCH FROM at - now()) / 13750) + 4 * sin(extract(EPOCH FROM at) / 1700))::int) AS n
		CROSS JOIN LATERAL (
			SELECT e.event_type, e.object_id FROM stripe_webhook_events AS e WHERE e.event_created_at < now() - interval '1 day' AND e.object_id IS NOT NULL AND at IS NOT NULL
			ORDER BY md5(e.event_id || n || at::text) LIMIT 1
		) AS known WHERE at + n * interval '1.3 seconds' < now()`)
}

// goWrong adds the failures, runs and rejected signatures of the bad day.
func (s *site) goWrong(t *testing.T) {
	t.Helper()
	for i, cause := range causes {
		pgtest.Exec(t, s.Pool, `INSERT INTO stripe_webhook_failures (event_id, event_type, attempts, first_failed_at, last_failed_at, last_error, state, history, payload)
			SELECT 'evt_1S' || substr(md5($1 || n::text), 1, 22), $1, 1 + n % 4, at, at + interval '5 minutes' * (n % 4), 'handler of ' || $1 || ': ' || format($2, substr(md5(n::text), 1, 13)), $4,
				jsonb_build_array(jsonb_build_object('at', at, 'error', 'handler of ' || $1)), '{"id": "evt_1", "object": "event", "type": "x", "data": {"object": {"id": "in_1", "customer": "cus_1"}}}'
			FROM generate_series(1, $3::int) AS n CROSS JOIN LATERAL (SELECT now() - interval '20 minutes' - interval '90 minutes' * (n::float / $3) - interval '1 minute' * $5::int AS at) AS x`,
			cause.eventType, cause.text, cause.events, cause.state, i)
	}
	pgtest.Exec(t, s.Pool, `INSERT INTO stripe_webhook_events (event_id, event_type, outcome, livemode, processed_at)
		SELECT event_id, event_type, 'parked', false, first_failed_at FROM stripe_webhook_failures WHERE state = 'parked'`)
	s.Expect(t, hooktest.Event(failing, "customer.discount.created", time.Now().Unix(), `{"id":"in_1","object":"invoice","customer":"cus_1"}`), 500, "")
	s.Expect(t, hooktest.Event(parked, "charge.refunded", time.Now().Unix(), `{"id":"in_2"}`), 200, webhooks.OutcomeParked)
	s.Expect(t, hooktest.Event(dismissed, "customer.discount.created", time.Now().Unix(), `{"id":"in_3"}`), 500, "")
	if err := operations.New(s.Pool, nil).Dismiss(t.Context(), dismissed, "refunded by hand, ticket 4711"); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"events SET processed_at = processed_at", "failures SET last_failed_at = last_failed_at"} {
		pgtest.Exec(t, s.Pool, "UPDATE stripe_webhook_"+table+" - interval '95 minutes' WHERE event_id = ANY($1)", []string{failing, parked, dismissed})
	}
	s.runs(t)
	wrong := delivery.NewSender(s.URL, "whsec_of_another_endpoint", 1)
	t.Cleanup(wrong.Close)
	for n := range 14 {
		if reply, err := wrong.Send(t.Context(), hooktest.Event(fmt.Sprint("evt_wrong", n), "invoice.paid", 1, `{}`)); err != nil || reply.Status != http.StatusBadRequest {
			t.Fatalf("a wrong signature gets %s, %v", reply, err)
		}
	}
}

// The events that were delivered, and that the pages of events show.
const (
	failing   = "evt_1SQm2kJvEtkwdCNYMSaVuRz6"
	parked    = "evt_1SQm3aJvEtkwdCNYxTfPz4Wt"
	dismissed = "evt_1SQm4bJvEtkwdCNYh7kLm9Qp"
)

// The ids of runs, for the paths of their pages.
var (
	runMissing  = runID(2*time.Hour, "missing0")
	runFailed   = runID(5*time.Hour, "failed00")
	runProgress = runID(time.Minute, "progress")
	runDiffers  = runID(30*time.Hour, "differs0")
)

func runID(ago time.Duration, name string) string {
	return fmt.Sprintf("run_%011x%s", time.Now().Add(-ago).UnixMilli(), name)
}

// runs records runs of each state.
func (s *site) runs(t *testing.T) {
	t.Helper()
	insert := `INSERT INTO stripe_webhook_runs (id, kind, arguments, operator, reason, host, started_at, updated_at, finished_at, counts, share, error)
		VALUES ($1, $2, $3, 'ada', 'ticket 4711', 'app-7d9f', now() - $4::interval, now(), CASE WHEN $7::float8 IS NULL THEN now() - $4::interval + interval '40 seconds' END, $5, $7, NULLIF($6, ''))`
	var half any = 0.42
	pgtest.Exec(t, s.Pool, insert, runMissing, "reconcile", `{"since": "72h0m0s"}`, "2 hours", `{"listed": 4180, "missing": 12, "applied": 12, "failed": 0}`, "", nil)
	pgtest.Exec(t, s.Pool, insert, runFailed, "verify", `{"types": ["invoice", "charge"], "only": "in_1"}`, "5 hours", `{"checked": 120}`, "Stripe answers 401: Invalid API Key provided", nil)
	pgtest.Exec(t, s.Pool, insert, runProgress, "replay", `{"group": "5c1f0b8a92de", "events": ["evt_1SQm2kJvEtkwdCNYMSaVuRz6"]}`, "1 minute", `{"replayed": 1234, "failed": 3}`, "", half)
	pgtest.Exec(t, s.Pool, insert, runDiffers, "verify", `{"fix": false}`, "30 hours", `{"checked": 3, "drifted": 2, "fixed": 0, "differs": ["subscription/sub_1.status", "invoice/in_1.number"]}`, "", nil)
}

// scan returns a value of the site's database.
func (s *site) scan(t *testing.T, query string) string {
	t.Helper()
	return pgtest.Scan[string](t, s.Pool, query)
}

// group returns the path of the page that asks whether to do something with the largest group of failures.
func (s *site) group(t *testing.T, do string) string {
	t.Helper()
	list, err := operations.New(s.Pool, nil).FailureGroups(t.Context(), operations.FailureFilter{Type: causes[0].eventType})
	if err != nil || len(list.Groups) == 0 {
		t.Fatalf("the groups are %+v, %v", list, err)
	}
	if do == "" {
		return "/failures?group=" + list.Groups[0].Key
	}
	return "/runs/new?do=" + do + "&group=" + strings.TrimSpace(list.Groups[0].Key)
}
