package console_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pook/stripeonce/console"
	"github.com/pook/stripeonce/internal/buildinfo"
	"github.com/pook/stripeonce/internal/delivery"
	"github.com/pook/stripeonce/internal/hooktest"
	"github.com/pook/stripeonce/internal/pgtest"
)

// banners are the texts of the overview's banners.
func (s *stage) banners(t *testing.T) string {
	t.Helper()
	page := s.get(t, "", 200)
	var list []string
	for _, part := range strings.Split(page, `<p class="what">`)[1:] {
		text, _, _ := strings.Cut(part, "</p>")
		text, _, _ = strings.Cut(text, `, <span class="when">`)
		list = append(list, text)
	}
	return strings.Join(list, "; ")
}

// The overview warns of failing and parked events, each with what to do.
func TestBannersOfFailures(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	if got := s.banners(t); got != "" {
		t.Errorf("at first it warns: %s", got)
	}
	s.seedFailures(t)
	if got, want := s.banners(t), "62 events are failing and have not taken effect; 1 event is parked by a handler"; got != want {
		t.Errorf("it warns %q, want %q", got, want)
	}
	s.shows(t, "", `role="alert"`, `role="status"`, "Fix the cause, then replay them.", mountedAt+`/failures?state=failing"`, "replay or dismiss them", mountedAt+`/failures?state=parked"`)
}

// It warns of signatures that no secret made, for an hour.
func TestBannerOfSignatures(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	wrong := delivery.NewSender(s.URL, "whsec_another", 1)
	t.Cleanup(wrong.Close)
	for n := range 2 {
		if reply, err := wrong.Send(t.Context(), hooktest.Event(fmt.Sprint("evt_", n), "a.b", 1, `{}`)); err != nil || reply.Status != http.StatusBadRequest {
			t.Fatalf("a wrong signature gets %s, %v", reply, err)
		}
	}
	if got, want := s.banners(t), "Signatures fail: no signing secret matches 2 deliveries to this process"; got != want {
		t.Errorf("it warns %q, want %q", got, want)
	}
	s.shows(t, "", "Compare the signing secret", `href="https://dashboard.stripe.com/webhooks" rel="noreferrer"`)
}

// It warns of another reason only while no delivery is verified, since anybody can post without a signature.
func TestBannerOfRejections(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	response, err := http.Post(s.URL, "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if got, want := s.banners(t), "Signatures fail: there is no Stripe-Signature header in 1 delivery to this process"; got != want {
		t.Errorf("it warns %q, want %q", got, want)
	}
	s.Send(t, hooktest.Event("evt_1", "a.b", 1, `{}`))
	if got := s.banners(t); got != "" {
		t.Errorf("after a delivery of Stripe's it warns %q", got)
	}
}

// It warns while deliveries cannot take effect, as on a database that became read-only.
func TestBannerOfReadiness(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	pgtest.Exec(t, s.Pool, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database()); END $$`)
	s.Pool.Reset()
	if got, want := s.banners(t), "Not ready: deliveries cannot take effect, and are answered 503"; got != want {
		t.Errorf("it warns %q, want %q", got, want)
	}
}

// It warns when nothing has arrived for a time, if anything ever did.
func TestBannerOfSilence(t *testing.T) {
	t.Parallel()
	s := newStage(t, &console.Config{QuietAfter: 2 * time.Hour})
	s.Expect(t, hooktest.Event("evt_1", "a.b", 1, `{}`), 200, "ignored")
	for hours, want := range map[string]string{"1 hour": "", "3 hours": "No event has arrived for 3 hours"} {
		pgtest.Exec(t, s.Pool, `UPDATE stripe_webhook_events SET processed_at = now() - $1::interval`, hours)
		if got := s.banners(t); got != want {
			t.Errorf("after %s it warns %q, want %q", hours, got, want)
		}
	}
	never := console.New(s.Pool, s.Receiver, &console.Config{QuietAfter: -1})
	answer := httptest.NewRecorder()
	never.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/", nil))
	if strings.Contains(answer.Body.String(), "No event has arrived") {
		t.Error("it warns although it is not to")
	}
	s.Expect(t, hooktest.Event("evt_2", "test.flaky", 1, `{}`), 500, "") // a failing event has arrived, too
	if got := s.banners(t); strings.Contains(got, "No event has arrived") {
		t.Errorf("after a failing event it warns %q", got)
	}
}

// It warns of runs of the last day that found missing events, and of failed ones of the background that no run has completed since.
func TestBannersOfRuns(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	id := func(ago time.Duration) string {
		return fmt.Sprintf("run_%011xabcdefgh", time.Now().Add(-ago).UnixMilli())
	}
	text := func(s string) *string { return &s }
	for _, row := range []struct {
		id, kind, counts string
		err              *string
	}{
		{id(time.Hour), "reconcile", `{"missing": 3, "applied": 2, "failed": 1}`, nil},
		{id(2 * time.Hour), "reconcile", `{"missing": 0}`, nil},
		{id(3 * time.Hour), "reconcile", `{"failures": 4, "recovered": false}`, text("Stripe answers <401>")},
		{id(4 * time.Hour), "reconcile", `{"failures": 5, "recovered": true}`, text("Stripe answers 500")},
		{id(5 * time.Hour), "retry", `{"failures": 1, "recovered": false}`, text("no connection")},
		{id(5*time.Hour) + "x", "retry", `{"retried": 1}`, text("interrupted: the process is stopping")},
		{id(5*time.Hour) + "y", "reconcile", `{"missing": 0}`, text("canceled by a person")},
		{id(6 * time.Hour), "verify", `{}`, text("no matter here")},
		{id(25 * time.Hour), "reconcile", `{"missing": 9}`, nil},
	} {
		pgtest.Exec(t, s.Pool, `INSERT INTO stripe_webhook_runs (id, kind, arguments, started_at, finished_at, counts, error) VALUES ($1, $2, '{}', now() - interval '1 hour', now(), $3, $4)`, row.id, row.kind, row.counts, row.err)
	}
	want := "A reconcile run found 3 missing events: 2 applied, 1 failed; A reconcile run failed, and missing events are not found; The retrier failed, and failing events are not retried"
	if got := s.banners(t); got != want {
		t.Errorf("it warns %q, want %q", got, want)
	}
	s.shows(t, "", "Deliveries are lost on their way", "Stripe answers &lt;401&gt;", mountedAt+"/runs/run_")
	pgtest.Exec(t, s.Pool, "DROP TABLE stripe_webhook_runs")
	if got := s.banners(t); got != "" {
		t.Errorf("without the table it warns %q", got)
	}
}

// The overview shows what changed in the last hour, by the kind of object.
func TestChanged(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	s.shows(t, "", "No event has changed an object in the last hour")
	pgtest.Exec(t, s.Pool, `INSERT INTO stripe_webhook_events (event_id, event_type, outcome, livemode, object_id)
		SELECT 'evt_in' || n, 'invoice.' || CASE WHEN n % 2 = 0 THEN 'paid' ELSE 'created' END, 'processed', false, 'in_' || n % 8 FROM generate_series(1, 20) AS n`)
	pgtest.Exec(t, s.Pool, `INSERT INTO stripe_webhook_events (event_id, event_type, outcome, livemode, object_id, processed_at) VALUES
		('evt_s1', 'customer.subscription.updated', 'processed', false, 'sub_1', now()), ('evt_s2', 'customer.subscription.updated', 'stale', false, 'sub_2', now()),
		('evt_c', 'customer.updated', 'processed', false, 'cus_1', now()), ('evt_none', 'balance.available', 'processed', false, NULL, now()),
		('evt_old', 'charge.updated', 'processed', false, 'ch_1', now() - interval '61 minutes')`)
	page := s.get(t, "", 200)
	_, section, _ := strings.Cut(page, `id="changed"`)
	section, _, _ = strings.Cut(section, "</section>")
	for _, want := range []string{
		`href="` + mountedAt + `/events?outcome=processed&amp;span=1h&amp;type=invoice.%2A">invoice.*</a>`, `data-label="Events">20</td><td data-label="Objects">8</td>`,
		mountedAt + `/search?find=in_4">in_4</a> <span class="note">× 3</span>`, "and 3 more", mountedAt + `/subscriptions/sub_1">sub_1</a></span>`,
		mountedAt + `/customers/cus_1?livemode=false">cus_1</a>`, "without an id",
	} {
		if !strings.Contains(section, want) {
			t.Errorf("it does not show %q:\n%s", want, section)
		}
	}
	if strings.Contains(section, "sub_2") || strings.Contains(section, "ch_1") || strings.Index(section, "invoice.*") > strings.Index(section, "customer.*") {
		t.Errorf("it shows a stale event, one of an earlier time, or has another order:\n%s", section)
	}
}

// The time to effect is that of the events that Stripe created in the span. The others are counted.
func TestTimeToEffect(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	pgtest.Exec(t, s.Pool, `INSERT INTO stripe_webhook_events (event_id, event_type, outcome, livemode, event_created_at, processed_at)
		SELECT 'evt_' || n, 'a.b', 'processed', false, now() - CASE WHEN n <= 3 THEN interval '10 seconds' ELSE interval '2 years' END, now() FROM generate_series(1, 1003) AS n`)
	s.shows(t, "", `<p class="value">10.0 s</p>`, "without 1,000 events of an earlier time")
}

// The footer has the version, and the zone.
func TestFooter(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	s.shows(t, "/search", "stripeonce "+buildinfo.Read().Version, " UTC</time>. Times are UTC.")
}
